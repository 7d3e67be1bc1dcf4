"""What every model of the zoo must do, on whichever backend Keras runs; new models are found by the registry."""

import keras
import numpy as np
import pytest

import serzoo
from serzoo.errors import ConfigError, DataError, UnknownNameError
from serzoo.features.spec import MFCCSpec
from serzoo.models import MODELS

SMALL = {
    "timnet": {"n_features": 6, "n_blocks": 3, "filters": 5},
    "tbdm": {"n_features": 4, "n_blocks": 3, "filters": 5},
}
"""Arguments that make a model quick to build; a model without an entry is tested as it is."""

ABLATIONS = {
    "timnet": {
        "TCN": {"block": "tcn"},
        "w/o BD": {"backward": False},
        "w/o MS": {"multi_scale": False},
        "w/o DF": {"dynamic_fusion": False},
        "GELU": {"activation": "gelu"},
        "2 blocks": {"n_blocks": 2},
        "kernel 3": {"kernel_size": 3},
        "logits": {"classifier_activation": None},
        "20 frames": {"n_frames": 20},
        "no dropout": {"dropout": 0.0},
    },
    "tbdm": {
        "ReLU": {"activation": "relu"},
        "w/o BD": {"backward": False},
        "w/o MS": {"multi_scale": False},
        "w/o DF": {"dynamic_fusion": False},
        "2 TABs": {"n_blocks": 2},
        "kernel 3": {"kernel_size": 3},
        "channel dropout": {"dropout_axis": "channels"},
        "logits": {"classifier_activation": None},
        "20 frames": {"n_frames": 20},
        "no dropout": {"dropout": 0.0},
    },
}
"""The papers' ablations and the other options of each model, by the names of the papers' tables."""

EVERY_MODEL = pytest.mark.parametrize("name", MODELS.names())
EVERY_OPTION = pytest.mark.parametrize(
    ("name", "option"),
    [(name, {}) for name in MODELS.names()]
    + [(name, option) for name in ABLATIONS for option in ABLATIONS[name].values()],
    ids=[f"{name}-default" for name in MODELS.names()]
    + [f"{name}-{title}" for name in ABLATIONS for title in ABLATIONS[name]],
)
CLASS_NAMES = ("angry", "happy", "neutral", "sad")


def small_model(name, *, seed=0, **arguments):
    """Build a small model of four classes whose every weight, moving statistics too, is random."""
    model = MODELS.get(name).load()(**{"n_classes": 4, **SMALL.get(name, {}), **arguments})
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        positive = weight.path.endswith("variance")
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) if positive else rng.normal(0, 0.5, weight.shape))
    return model


def clips(model, n_clips=3, n_frames=20, seed=1):
    return np.random.default_rng(seed).normal(size=(n_clips, n_frames, model.n_features)).astype("float32")


def run(model, inputs):
    return keras.ops.convert_to_numpy(model(inputs, training=False))


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def copy_weights(source, target):
    """Give every weight of ``target`` the value of the weight of ``source`` at the same path."""
    values = {weight.path: weight for weight in source.weights}
    for weight in target.weights:
        weight.assign(values[weight.path])


@EVERY_MODEL
def test_number_of_classes_is_all_a_model_needs(name):
    model = MODELS.get(name).load()(n_classes=7)
    probabilities = run(model, clips(model, 2, 9) * 100)
    assert model.input_shape[:2] == (None, None)
    assert probabilities.shape == (2, 7)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-6)
    assert model.class_names is None
    assert model.feature_spec is None


@EVERY_MODEL
def test_number_of_classes_must_be_given(name):
    with pytest.raises(TypeError, match="n_classes"):
        MODELS.get(name).load()()


@EVERY_MODEL
@pytest.mark.parametrize("n_frames", [1, 2, 20, 33])
def test_any_number_of_frames(name, n_frames):
    free, fixed = small_model(name), small_model(name, n_frames=n_frames)
    inputs = clips(free, n_frames=n_frames)
    assert fixed.input_shape[1] == n_frames
    np.testing.assert_allclose(run(free, inputs).sum(axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(run(free, inputs), run(fixed, inputs), atol=1e-6)


@EVERY_MODEL
def test_logits_are_what_the_probabilities_come_from(name):
    probabilities, logits = small_model(name), small_model(name, classifier_activation=None)
    inputs = clips(logits)
    assert np.abs(run(logits, inputs).sum(axis=-1) - 1).max() > 0.01
    np.testing.assert_allclose(softmax(run(logits, inputs)), run(probabilities, inputs), atol=1e-6)


@EVERY_MODEL
def test_embedding_is_what_the_classifier_takes(name):
    model = small_model(name)
    inputs = clips(model)
    embedding = run(model.embedding_model(), inputs)
    kernel, bias = (weight.numpy() for weight in model.layers[-1].weights)
    assert embedding.shape == (3, kernel.shape[0])
    np.testing.assert_allclose(softmax(embedding @ kernel + bias), run(model, inputs), atol=1e-6)


@pytest.mark.parametrize("name", ["timnet", "tbdm"])
def test_published_embeddings_have_39_values(name):
    assert MODELS.get(name).load()(n_classes=8).embedding_model().output_shape == (None, 39)


@EVERY_MODEL
def test_clip_does_not_depend_on_its_neighbours(name):
    model = small_model(name)
    batch = clips(model, 5) * np.array([1, 100, 0, 1e4, 1], "float32")[:, None, None]
    alone = np.concatenate([run(model, batch[index : index + 1]) for index in range(5)])
    np.testing.assert_allclose(run(model, batch), alone, atol=1e-6)


@EVERY_MODEL
def test_seed_decides_the_first_weights(name):
    def first_weights(seed):
        keras.utils.set_random_seed(seed)
        return MODELS.get(name).load()(n_classes=4, **SMALL.get(name, {})).get_weights()

    first, again, other = first_weights(5), first_weights(5), first_weights(6)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@EVERY_MODEL
def test_no_two_kernels_start_alike(name):
    model = MODELS.get(name).load()(n_classes=4, **SMALL.get(name, {}))
    kernels = [weight.numpy().ravel() for weight in model.trainable_weights if weight.path.endswith("kernel")]
    for index, kernel in enumerate(kernels):
        assert all(not np.array_equal(kernel, other) for other in kernels[index + 1 :])


@EVERY_OPTION
def test_model_survives_its_config_and_its_file(name, option, tmp_path):
    model = small_model(name, class_names=CLASS_NAMES, feature_spec=MFCCSpec(n_samples=11_000), **option)
    rebuilt = type(model).from_config(model.get_config())
    rebuilt.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = clips(model)
    for copy in (rebuilt, loaded):
        assert type(copy) is type(model)
        assert copy.get_config() == model.get_config()
        assert copy.class_names == CLASS_NAMES
        assert copy.feature_spec == MFCCSpec(n_samples=11_000)
        np.testing.assert_array_equal(run(copy, inputs), run(model, inputs))


@EVERY_OPTION
def test_gradient_reaches_every_trained_weight(name, option):
    model = small_model(name, **option)
    gradients = gradients_of_the_first_class(model, clips(model))
    flat = [
        weight.path for weight, gradient in zip(model.trainable_weights, gradients, strict=True) if not gradient.any()
    ]
    assert flat == []


def gradients_of_the_first_class(model, inputs):
    """Return the gradients of the first class's mean output, in inference: the statistics are constants there."""
    if keras.backend.backend() == "jax":
        import jax

        def mean_output(trained):
            outputs, _ = model.stateless_call(trained, constants, inputs, training=False)
            return outputs[:, 0].mean()

        constants = [variable.value for variable in model.non_trainable_variables]
        gradients = jax.grad(mean_output)([variable.value for variable in model.trainable_variables])
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            output = tf.reduce_mean(model(inputs, training=False)[:, 0])
        gradients = tape.gradient(output, [weight.value for weight in model.trainable_weights])
    return [np.asarray(gradient) for gradient in gradients]


@EVERY_MODEL
def test_compiled_training_lowers_the_loss(name):
    keras.utils.set_random_seed(0)
    smallest = {**SMALL[name], "n_blocks": 1} if name in SMALL else {}  # XLA takes seconds for every block
    model = MODELS.get(name).load()(n_classes=2, n_frames=20, dropout=0.0, **smallest)
    model.compile(optimizer=keras.optimizers.Adam(0.02), loss="categorical_crossentropy", jit_compile=True)
    targets = np.eye(2, dtype="float32")[[0, 1] * 4]
    inputs = clips(model, 8) + 2 * targets[:, None, :1]
    losses = [float(model.train_on_batch(inputs, targets)) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]


@EVERY_MODEL
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("n_classes", 1),
        ("n_classes", "8"),
        ("n_classes", True),
        ("n_features", 0),
        ("n_frames", 0),
        ("classifier_activation", "sigmoid"),
    ],
)
def test_bad_argument_is_named(name, argument, value):
    with pytest.raises(ConfigError, match=f"^{argument} is {value!r}"):
        MODELS.get(name).load()(**{"n_classes": 4, argument: value})


@pytest.mark.parametrize("name", ["timnet", "tbdm"])
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("n_blocks", 0),
        ("filters", 3.5),
        ("kernel_size", -1),
        ("dropout", 1.0),
        ("dropout", "0.1"),
        ("activation", "swish"),
        ("backward", "no"),
        ("multi_scale", None),
        ("dynamic_fusion", 1),
    ],
)
def test_bad_temporal_argument_is_named(name, argument, value):
    with pytest.raises(ConfigError, match=f"^{argument} is {value!r}"):
        MODELS.get(name).load()(**{"n_classes": 4, argument: value})


@pytest.mark.parametrize(("name", "argument"), [("timnet", "block"), ("tbdm", "dropout_axis")])
def test_bad_choice_is_named(name, argument):
    with pytest.raises(ConfigError, match=f"^{argument} is 'gru'; choose one of "):
        MODELS.get(name).load()(**{"n_classes": 4, argument: "gru"})


@EVERY_MODEL
def test_class_names_must_fit_the_classes(name):
    with pytest.raises(DataError, match="4 class names were given for 5 classes"):
        small_model(name, n_classes=5, class_names=CLASS_NAMES)


@pytest.mark.parametrize(
    ("name", "option", "count"),
    [
        ("timnet", {"block": "tcn"}, 107_032),
        ("timnet", {"activation": "gelu"}, 107_032),
        ("timnet", {"multi_scale": False}, 107_024),
        ("timnet", {"dynamic_fusion": False}, 107_024),
        ("timnet", {"backward": False}, 53_680),
        ("tbdm", {"activation": "relu"}, 16_821_416),
        ("tbdm", {"dynamic_fusion": False}, 16_821_410),
        ("tbdm", {"multi_scale": False}, 16_726_718),
        ("tbdm", {"backward": False}, 8_506_928),
        ("tbdm", {"n_blocks": 5}, 4_253_977),
    ],
)
def test_ablation_leaves_out_what_it_says(name, option, count):
    """Counted as the papers count: with moving statistics for TIM-Net, trained weights only for TBDM-Net."""
    model = MODELS.get(name).load()(n_classes=8, **option)
    counted = model.weights if name == "timnet" else model.trainable_weights
    assert sum(int(np.prod(weight.shape)) for weight in counted) == count


@pytest.mark.parametrize(
    ("name", "option"),
    [("timnet", {"block": "tcn"}), ("timnet", {"activation": "gelu"}), ("tbdm", {"activation": "relu"})],
)
def test_ablation_without_other_weights_computes_something_else(name, option):
    full, ablated = small_model(name), small_model(name, **option)
    copy_weights(full, ablated)
    assert np.abs(run(full, clips(full)) - run(ablated, clips(full))).max() > 1e-3


@pytest.mark.parametrize("name", ["timnet", "tbdm"])
@pytest.mark.parametrize(
    ("option", "fusion"), [({"dynamic_fusion": False}, [1 / 3] * 3), ({"multi_scale": False}, [0, 0, 1])]
)
def test_fusion_ablations_are_special_fusion_weights(name, option, fusion):
    full, ablated = small_model(name), small_model(name, **option)
    copy_weights(full, ablated)
    full.get_layer("embedding").kernel.assign(np.reshape(fusion, (3, 1)))
    np.testing.assert_allclose(run(ablated, clips(full)), run(full, clips(full)), atol=1e-6)


@pytest.mark.parametrize("name", ["timnet", "tbdm"])
def test_directions_see_the_frames_in_opposite_order(name):
    """With the same weights in both directions, a model cannot tell a clip from its reversal; without, it can."""
    model = small_model(name)
    inputs = clips(model)
    difference = np.abs(run(model, inputs) - run(model, inputs[:, ::-1]))
    assert difference.max() > 1e-3
    values = {weight.path: weight for weight in model.weights}
    for path, weight in values.items():
        if path.startswith("backward"):
            weight.assign(values[path.replace("backward", "forward", 1)])
    np.testing.assert_allclose(run(model, inputs[:, ::-1]), run(model, inputs), atol=1e-6)


def test_timnet_without_backward_is_the_forward_direction():
    """A backward direction that starts from zeros stays zero, whatever its gates say."""
    full, ablated = small_model("timnet"), small_model("timnet", backward=False)
    copy_weights(full, ablated)
    for weight in full.get_layer("backward_entry").weights:
        weight.assign(np.zeros(weight.shape))
    np.testing.assert_allclose(run(ablated, clips(full)), run(full, clips(full)), atol=1e-6)


@pytest.mark.parametrize("name", ["timnet", "tbdm"])
def test_dilation_doubles_with_every_block(name):
    model = small_model(name, n_blocks=4)
    rates = [
        model.get_layer(f"{direction}_block_{block}").dilation_rate
        for direction in ("forward", "backward")
        for block in range(1, 5)
    ]
    assert rates == [1, 2, 4, 8] * 2


def test_counts_from_numpy_serve_and_names_are_explained():
    assert serzoo.build("timnet", n_classes=np.int64(3), n_blocks=1, filters=2).n_classes == 3
    with pytest.raises(UnknownNameError, match="Did you mean 'n_classes'"):
        serzoo.build("timnet", n_clases=7)
    with pytest.raises(UnknownNameError, match="Unknown argument of timnet 'name'"):
        serzoo.build("timnet", n_classes=3, name="mine")
    with pytest.raises(DataError, match="give a list of names"):
        serzoo.build("timnet", class_names="ab")
