"""The contract of every model in the registry, on any backend of Keras."""

import functools
import json
import re

import keras
import numpy as np
import pytest
from scipy.special import softmax

import serzoo
from serzoo.errors import ConfigError, DataError, UnknownNameError, WeightsError
from serzoo.features.spec import MFCCSpec
from serzoo.models import MODELS
from serzoo.weights.arrays import read_weights, write_weights

pytestmark = pytest.mark.jax

SMALL = {
    "timnet": {"n_features": 6, "n_blocks": 3, "filters": 5},
    "tbdm": {"n_features": 4, "n_blocks": 3, "filters": 5},
    "acrnn": {
        "n_features": 8,
        "n_channels": 2,
        "n_convs": 2,
        "filters": [3, 4],
        "projection": 5,
        "lstm_units": 3,
        "attention_width": 3,
        "dense_units": 4,
    },
    "dense_tcn": {"n_features": 8, "n_blocks": 3, "filters": 5, "stem_filters": 2},
    "vgg16": {"n_features": 32, "n_frames_padded": 64, "width": 1 / 16},
    "qvgg16": {"n_features": 64, "n_frames_padded": 256, "width": 1 / 16},
    "rh_emo": {"n_features": 6, "n_frames_padded": 40, "head_width": 8},
}
"""Arguments that make a model quick to build; a model without an entry is tested as it is."""

LIGHT = {"vgg16": {"width": 1 / 16}, "qvgg16": {"width": 1 / 16}, "rh_emo": {"head_width": 16}}
"""Arguments of a model that takes a gigabyte or many seconds at full size."""

SMALLEST = {
    "timnet": {"n_blocks": 1},
    "tbdm": {"n_blocks": 1},
    "acrnn": {"n_convs": 1},
    "vgg16": {"n_frames_padded": 32},
    "qvgg16": {"embedding": None, "n_channels": 4, "n_features": 32, "n_frames_padded": 32},
}
"""Arguments that make the small model quick to compile with XLA: each block takes seconds."""

LIVE_SEEDS = {"rh_emo": 1}
"""Seeds of random weights that leave every ReLU of the small model on for some clip; 0 for other models."""

LEARNING_RATES = {"vgg16": 1e-3, "qvgg16": 1e-3}
"""Of models too deep, without normalisation between their layers, for the 0.02 of the others."""

ABLATIONS = {
    "timnet": {
        "TCN": {"block": "tcn"},
        "w/o BD": {"backward": False},
        "w/o MS": {"multi_scale": False},
        "w/o DF": {"dynamic_fusion": False},
        "GELU": {"activation": "gelu"},
        "2 blocks": {"n_blocks": 2},
        "gender": {"gender_columns": 1},
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
        "gender": {"gender_columns": 2},
        "kernel 3": {"kernel_size": 3},
        "channel dropout": {"dropout_axis": "channels"},
        "logits": {"classifier_activation": None},
        "20 frames": {"n_frames": 20},
        "no dropout": {"dropout": 0.0},
    },
    "acrnn": {
        "model 1": {"attention": "pooling"},
        "equations 4-7": {"attention": "dot_product"},
        "unlimited window": {"attention_width": None},
        "w/o gender": {"gender": False},
        "plain ACRNN": {"attention": "pooling", "gender": False, "pool_freq": 4},
        "2x4 pooling": {"pool_freq": 4},
        "norm of the dense layer": {"batch_norm": "dense"},
        "w/o batch norm": {"batch_norm": None},
        "padding normalised": {"normalization": "all-frames"},
        "w/o normalisation": {"normalization": None},
        "logits": {"classifier_activation": None},
        "20 frames": {"n_frames": 20},
        "dropout": {"dropout": 0.3},
    },
    "dense_tcn": {
        "three members": {"members": 3, "filters": 16},
        "members' logits": {"members": 2, "filters": 16, "classifier_activation": None},
        "one block": {"n_blocks": 1},
        "20 frames": {"n_frames": 20},
        "w/o augmentation": {"augment": 0, "dropout": 0.0},
    },
    "vgg16": {
        "three channels": {"n_channels": 3},
        "input in 0..1": {"normalization": "maximum"},
        "w/o normalisation": {"normalization": None},
        "logits": {"classifier_activation": None},
        "20 frames": {"n_frames": 20},
        "no dropout": {"dropout": 0.0},
    },
    "qvgg16": {
        "frozen embedding": {"train_embedding": False},
        "w/o embedding": {"embedding": None, "n_channels": 8, "n_features": 32, "n_frames_padded": 64},
        "standardised input": {"normalization": "global"},
        "w/o normalisation": {"normalization": None},
    },
    "rh_emo": {
        "logits": {"classifier_activation": None},
        "20 frames": {"n_frames": 20},
        "no dropout": {"dropout": 0.0},
    },
    "embedding_dnn": {
        "gender": {"gender_columns": 2},
        "standardised input": {"normalization": "real-frames"},
        "39 features": {"n_features": 39},
        "logits": {"classifier_activation": None},
        "20 frames": {"n_frames": 20},
        "no dropout": {"dropout": 0.0},
    },
}
"""The papers' ablations and the other options of each model, by the names of the papers' tables."""

if keras.backend.backend() == "tensorflow":
    ABLATIONS["acrnn"]["the library's attention"] = {"attention_impl": "library"}

EVERY_MODEL = pytest.mark.parametrize("name", MODELS.names())
EVERY_OPTION = pytest.mark.parametrize(
    ("name", "option"),
    [(name, {}) for name in MODELS.names()]
    + [(name, option) for name in ABLATIONS for option in ABLATIONS[name].values()],
    ids=[f"{name}-default" for name in MODELS.names()]
    + [f"{name}-{title}" for name in ABLATIONS for title in ABLATIONS[name]],
)
CLASS_NAMES = ("angry", "happy", "neutral", "sad")
SPEC = MFCCSpec(n_samples=11_000)


def small_model(name, *, seed=0, **arguments):
    """Build a small model of four classes whose every weight, moving statistics too, is random."""
    model = MODELS.get(name).load()(**{"n_classes": 4, **SMALL.get(name, {}), **arguments})
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(random_values(weight, rng))
    return model


def shared_model(name, **option):
    """Return the small model with these options, built once for all tests that leave its weights alone."""
    return _shared_model(name, json.dumps(option))


@functools.cache
def _shared_model(name, option):
    return small_model(
        name, seed=LIVE_SEEDS.get(name, 0), class_names=CLASS_NAMES, feature_spec=SPEC, **json.loads(option)
    )


def random_values(weight, rng):
    if weight.path.endswith("n_frames"):  # of the statistics' frames
        return rng.integers(1, 1000, weight.shape)
    if weight.path.endswith(("variance", "std", "maximum")):
        return rng.uniform(0.5, 1.5, weight.shape)
    fan_in = np.prod(weight.shape[:-1])
    return rng.normal(0, min(0.5, np.sqrt(2 / fan_in)), weight.shape)  # deep networks must not saturate the softmax


def clips(model, n_clips=3, n_frames=20, seed=1):
    """Return random inputs, as the model takes them: features, or features and gender."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_clips, n_frames, *model.frame_shape)).astype("float32")
    if not model.takes_gender:
        return features
    return {"features": features, "gender": rng.uniform(size=(n_clips, 1)).astype("float32")}


def change_features(inputs, change):
    """Return the inputs with ``change(features)`` in place of the features."""
    return {**inputs, "features": change(inputs["features"])} if isinstance(inputs, dict) else change(inputs)


def per_clip(values, model):
    """Return one value per clip in a shape that broadcasts against the model's features."""
    return np.reshape(np.asarray(values, "float32"), (-1, 1, *[1] * len(model.frame_shape)))


def run(model, inputs):
    return keras.ops.convert_to_numpy(model(inputs, training=False))


def copy_weights(source, target):
    """Give every weight of ``target`` the value of the weight of ``source`` at the same path."""
    values = {weight.path: weight for weight in source.weights}
    for weight in target.weights:
        weight.assign(values[weight.path])


@EVERY_MODEL
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX compiles networks of full size for minutes")
def test_number_of_classes_is_all_a_model_needs(name):
    model = MODELS.get(name).load()(n_classes=7, **LIGHT.get(name, {}))
    probabilities = run(model, change_features(clips(model, 2, 9), lambda features: 100 * features))
    assert all(tensor.shape[0] is None for tensor in model.inputs)
    assert model.features_shape == (None, *model.frame_shape)
    assert probabilities.shape == (2, 7)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-6)
    assert model.class_names is None
    assert model.feature_spec is None


@EVERY_MODEL
def test_number_of_classes_must_be_given(name):
    with pytest.raises(TypeError, match="n_classes"):
        MODELS.get(name).load()()


@EVERY_MODEL
@pytest.mark.parametrize("n_frames", ["fewest", "one more", 20, 33])
def test_any_number_of_frames(name, n_frames):
    free = shared_model(name)
    n_frames = {"fewest": free.min_frames, "one more": free.min_frames + 1}.get(n_frames, n_frames)
    fixed = shared_model(name, n_frames=n_frames)
    inputs = clips(free, n_frames=n_frames)
    assert fixed.features_shape == (n_frames, *free.frame_shape)
    np.testing.assert_allclose(run(free, inputs).sum(axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(run(free, inputs), run(fixed, inputs), atol=1e-6)


@EVERY_MODEL
def test_too_few_frames_are_refused(name):
    too_few = MODELS.get(name).load().min_frames - 1
    with pytest.raises(ConfigError, match=f"^n_frames is {too_few}"):
        small_model(name, n_frames=too_few)


@EVERY_MODEL
def test_softmax_of_the_logits_is_the_probabilities(name):
    probabilities, logits = shared_model(name), shared_model(name, classifier_activation=None)
    inputs = clips(logits)
    assert np.abs(run(logits, inputs) - run(probabilities, inputs)).max() > 0.01
    np.testing.assert_allclose(softmax(run(logits, inputs), axis=-1), run(probabilities, inputs), atol=1e-6)


@EVERY_MODEL
def test_embedding_is_the_classifiers_input(name):
    model = shared_model(name)
    inputs = clips(model)
    embedding = run(model.embedding_model(), inputs)
    kernel, bias = (weight.numpy() for weight in model.layers[-1].weights)
    assert embedding.shape == (3, kernel.shape[0])
    np.testing.assert_allclose(softmax(embedding @ kernel + bias, axis=-1), run(model, inputs), atol=1e-6)


@pytest.mark.parametrize(("name", "width"), [("timnet", 39), ("tbdm", 39), ("acrnn", 64)])
def test_width_of_the_published_embedding(name, width):
    assert MODELS.get(name).load()(n_classes=8).embedding_model().output_shape == (None, width)


@EVERY_OPTION
def test_feature_layers_give_maps(name, option):
    model = shared_model(name, **option)
    for number, layer in enumerate(model.feature_layers, 1):
        assert model.feature_map(number) is model.get_layer(layer).output
        assert model.feature_map(number).shape[0] is None
        assert len(model.feature_map(number).shape) > 2
    for number in (0, len(model.feature_layers) + 1, True, "1"):
        with pytest.raises(ConfigError, match=f"^feature layer {number!r} was asked for; {name} has "):
            model.feature_map(number)


def test_number_of_feature_layers():
    counts = {"timnet": 6, "tbdm": 6, "acrnn": 2, "vgg16": 13, "qvgg16": 13, "rh_emo": 0, "embedding_dnn": 0}
    assert {name: len(shared_model(name).feature_layers) for name in counts} == counts
    assert shared_model("timnet", backward=False).feature_layers == tuple(f"forward_block_{n}" for n in (1, 2, 3))


@EVERY_MODEL
def test_clip_does_not_depend_on_its_neighbours(name):
    model = shared_model(name)
    batch = change_features(clips(model, 5), lambda features: features * per_clip([1, 100, 0, 1e4, 1], model))
    clip = [
        keras.tree.map_structure(lambda values, index=index: values[index : index + 1], batch) for index in range(5)
    ]
    alone = np.concatenate([run(model, inputs) for inputs in clip])
    np.testing.assert_allclose(run(model, batch), alone, atol=1e-6)


@EVERY_MODEL
def test_seed_determines_the_initial_weights(name):
    def first_weights(seed):
        keras.utils.set_random_seed(seed)
        return MODELS.get(name).load()(n_classes=4, **SMALL.get(name, {})).get_weights()

    first, again, other = first_weights(5), first_weights(5), first_weights(6)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@EVERY_MODEL
def test_no_two_kernels_start_equal(name):
    model = MODELS.get(name).load()(n_classes=4, **SMALL.get(name, {}))
    kernels = [weight.numpy().ravel() for weight in model.trainable_weights if len(weight.shape) > 1]
    for index, kernel in enumerate(kernels):
        assert all(not np.array_equal(kernel, other) for other in kernels[index + 1 :])


@EVERY_OPTION
def test_config_rebuilds_the_model(name, option):
    model = shared_model(name, **option)
    rebuilt = type(model).from_config(json.loads(json.dumps(model.get_config())))
    assert rebuilt.get_config() == model.get_config()
    rebuilt.set_weights(model.get_weights())
    np.testing.assert_array_equal(run(rebuilt, clips(model)), run(model, clips(model)))


@EVERY_MODEL
def test_file_rebuilds_the_model(name, tmp_path):
    model = shared_model(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = clips(model)
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    assert loaded.class_names == CLASS_NAMES
    assert loaded.feature_spec == SPEC
    np.testing.assert_array_equal(run(loaded, inputs), run(model, inputs))


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_read_as_they_were_written(name, tmp_path):
    """Pretrained weights are arrays alone; their card builds the model."""
    model, other = small_model(name), small_model(name, seed=1)
    write_weights(model, tmp_path / "a.weights.h5")
    read_weights(other, tmp_path / "a.weights.h5")
    for found, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@EVERY_OPTION
def test_gradient_reaches_every_trained_weight(name, option):
    model = shared_model(name, **option)
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


@pytest.mark.slow
@EVERY_MODEL
def test_compiled_training_lowers_the_loss(name):
    keras.utils.set_random_seed(0)
    smallest = {**SMALL.get(name, {}), **SMALLEST.get(name, {})}
    model = MODELS.get(name).load()(n_classes=2, n_frames=20, dropout=0.0, **smallest)
    model.compile(
        optimizer=keras.optimizers.Adam(LEARNING_RATES.get(name, 0.02)),
        loss="categorical_crossentropy",
        jit_compile=True,
    )
    targets = np.eye(2, dtype="float32")[[0, 1] * 4]
    inputs = change_features(clips(model, 8), lambda features: features + 2 * per_clip(targets[:, 0], model))
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


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("n_features", 1),  # fewer than the pooling makes one of
        ("n_channels", 0),
        ("n_convs", 0),
        ("filters", 128),
        ("filters", [128]),
        ("filters", "ab"),
        ("pool_freq", 1.5),
        ("projection", 0),
        ("lstm_units", None),
        ("attention_width", 0),
        ("dense_units", "64"),
        ("gender", "male"),
        ("dropout", 1.0),
    ],
)
def test_bad_argument_of_acrnn_is_named(argument, value):
    with pytest.raises(ConfigError, match=f"^{argument} is {re.escape(repr(value))}"):
        MODELS.get("acrnn").load()(**{"n_classes": 4, argument: value})


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("vgg16", "n_features", 100),
        ("vgg16", "n_channels", 0),
        ("vgg16", "n_frames", 513),
        ("vgg16", "n_frames_padded", 500),
        ("vgg16", "n_frames_padded", True),
        ("vgg16", "width", 0.3),
        ("vgg16", "width", 1 / 32),
        ("vgg16", "width", 0),
        ("vgg16", "width", -0.25),
        ("vgg16", "width", "1"),
        ("vgg16", "width", True),
        ("vgg16", "width", float("inf")),
        ("vgg16", "dropout", 1),
        ("qvgg16", "n_features", 96),
        ("qvgg16", "n_channels", 4),
        ("qvgg16", "n_frames_padded", 128),
        ("qvgg16", "width", 0.1),
        ("qvgg16", "train_embedding", 1),
        ("qvgg16", "dropout", None),
        ("rh_emo", "n_features", 3),
        ("rh_emo", "n_channels", 4),
        ("rh_emo", "n_frames", 513),
        ("rh_emo", "n_frames_padded", 500),
        ("rh_emo", "head_width", 0),
        ("rh_emo", "dropout", -0.1),
        ("dense_tcn", "augment", -0.1),
        ("dense_tcn", "augment", "yes"),
        ("dense_tcn", "augment", float("inf")),
        ("dense_tcn", "members", 0),
        ("dense_tcn", "members", 1.5),
    ],
)
def test_bad_argument_of_a_picture_network_is_named(name, argument, value):
    with pytest.raises(ConfigError, match=f"^{argument} is {re.escape(repr(value))}"):
        MODELS.get(name).load()(**{"n_classes": 4, argument: value})


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("timnet", "block"),
        ("tbdm", "dropout_axis"),
        ("acrnn", "attention"),
        ("acrnn", "attention_impl"),
        ("acrnn", "batch_norm"),
        ("acrnn", "normalization"),
        ("vgg16", "normalization"),
        ("qvgg16", "embedding"),
        ("qvgg16", "normalization"),
        ("rh_emo", "normalization"),
        ("embedding_dnn", "normalization"),
    ],
)
def test_bad_choice_is_named(name, argument):
    with pytest.raises(ConfigError, match=f"^{argument} is 'gru'; it must be one of "):
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
def test_ablation_has_its_number_of_parameters(name, option, count):
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
def test_directions_take_the_frames_in_opposite_order(name):
    """With equal weights in both directions, a clip and its reversal have equal outputs; otherwise they differ."""
    model = small_model(name)
    inputs = clips(model)
    difference = np.abs(run(model, inputs) - run(model, inputs[:, ::-1]))
    assert difference.max() > 1e-4
    values = {weight.path: weight for weight in model.weights}
    for path, weight in values.items():
        if path.startswith("backward"):
            weight.assign(values[path.replace("backward", "forward", 1)])
    np.testing.assert_allclose(run(model, inputs[:, ::-1]), run(model, inputs), atol=1e-6)


def test_timnet_without_backward_is_the_forward_direction():
    """A backward direction that starts from zeros stays zero, whatever its gates."""
    full, ablated = small_model("timnet"), small_model("timnet", backward=False)
    copy_weights(full, ablated)
    for weight in full.get_layer("backward_entry").weights:
        weight.assign(np.zeros(weight.shape))
    np.testing.assert_allclose(run(ablated, clips(full)), run(full, clips(full)), atol=1e-6)


@pytest.mark.parametrize("name", ["timnet", "tbdm"])
def test_dilation_doubles_with_every_block(name):
    model = shared_model(name, n_blocks=4)
    rates = [
        model.get_layer(f"{direction}_block_{block}").dilation_rate
        for direction in ("forward", "backward")
        for block in range(1, 5)
    ]
    assert rates == [1, 2, 4, 8] * 2


@EVERY_MODEL
def test_model_that_normalises_needs_statistics(name):
    model = MODELS.get(name).load()(n_classes=4, **SMALL.get(name, {}))
    if model.normalization is not None:
        with pytest.raises(WeightsError, match=f"^{name} has no statistics .* train it"):
            model.check_statistics()
        model.normalization.adapt(np.ones((1, 2, *model.frame_shape)))
    model.check_statistics()


@EVERY_MODEL
def test_copy_without_training_state_has_equal_outputs(name):
    model = shared_model(name)
    copy = model.without_training_state()
    np.testing.assert_array_equal(run(copy, clips(model)), run(model, clips(model)))
    copy.check_statistics()


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("acrnn", {}),
        ("acrnn", {"attention": "pooling"}),
        ("acrnn", {"attention": "dot_product"}),
        ("timnet", {"gender_columns": 1}),
        ("timnet", {"gender_columns": 2}),
        ("tbdm", {"gender_columns": 1}),
    ],
)
def test_gender_changes_the_output(name, option):
    model = shared_model(name, **option)
    inputs = clips(model)
    outputs = [run(model, {**inputs, "gender": np.full((3, 1), male, "float32")}) for male in (0.0, 0.5, 1.0)]
    assert all(np.abs(a - b).max() > 1e-4 for a, b in ((outputs[0], outputs[1]), (outputs[1], outputs[2])))


def test_padding_is_normalised_only_on_request():
    """Without padding, both normalisations are equal."""
    kept, normalised = shared_model("acrnn"), shared_model("acrnn", normalization="all-frames")
    inputs = clips(kept)
    np.testing.assert_array_equal(run(kept, inputs), run(normalised, inputs))
    inputs["features"][:, 12:] = 0
    assert np.abs(run(kept, inputs) - run(normalised, inputs)).max() > 1e-4


def test_dropout_is_after_each_convolution_and_the_dense_layer():
    model = small_model("acrnn", n_convs=3, dropout=0.4)
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    assert rates == {"conv_1_dropout": 0.4, "conv_2_dropout": 0.4, "conv_3_dropout": 0.4, "dense_dropout": 0.4}


def test_counts_from_numpy_serve_and_names_are_explained():
    assert serzoo.build("timnet", n_classes=np.int64(3), n_blocks=1, filters=2).n_classes == 3
    with pytest.raises(UnknownNameError, match="Did you mean 'n_classes'"):
        serzoo.build("timnet", n_clases=7)
    with pytest.raises(UnknownNameError, match="Unknown argument of timnet 'name'"):
        serzoo.build("timnet", n_classes=3, name="mine")
    with pytest.raises(DataError, match="give a list of names"):
        serzoo.build("timnet", class_names="ab")
