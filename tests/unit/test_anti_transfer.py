"""Anti-transfer: the loss by hand, its gradients, a training with it and its errors, on any Keras backend."""

import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import serzoo
from serzoo.data.examples import Examples
from serzoo.errors import ConfigError, WeightsError
from serzoo.features.spec import MFCCSpec, STFTSpec
from serzoo.settings import OptimizerConfig, TrainingConfig
from serzoo.training.anti_transfer import SIMILARITY, AntiTransfer, MapSimilarity, check_same_structure
from serzoo.training.evaluate import predict_probabilities
from serzoo.training.fit import fit
from serzoo.training.objectives import PREDICTION, TrainingNetwork

TRAINED = np.array([[1, 2, 3, 4], [0, 1, 1, 0]], "float32").T[None]
PRETRAINED = np.array([[1, 0, 0, 1], [2, 2, 0, 0]], "float32").T[None]
"""The facts' maps of two channels, as (1, positions, channels)."""

NETWORKS = {
    "vgg16": {"n_features": 32, "n_frames_padded": 32, "width": 1 / 16, "normalization": None, "dropout": 0.0},
    "qvgg16": {
        "n_features": 32, "n_frames_padded": 32, "width": 1 / 16, "normalization": None, "dropout": 0.0,
        "embedding": None, "n_channels": 4,
    },
    "timnet": {"n_features": 4, "n_blocks": 2, "filters": 5, "dropout": 0.0},
    "tbdm": {"n_features": 4, "n_blocks": 2, "filters": 5, "dropout": 0.0},
    "acrnn": {
        "n_features": 8, "n_channels": 1, "n_convs": 2, "filters": [3, 4], "projection": 5, "lstm_units": 3,
        "attention_width": 3, "dense_units": 4, "normalization": None,
    },
}  # fmt: skip
"""Small networks with feature layers."""

TRAINING = TrainingConfig(OptimizerConfig(learning_rate=5e-3), 4, 6, label_smoothing=0.0, seed=1, jit_compile=False)
MFCC = MFCCSpec(n_samples=16_000, n_mfcc=4)
LAST = {"vgg16": 13, "qvgg16": 13, "timnet": 4, "tbdm": 4, "acrnn": 2}


def network(name="vgg16", *, seed=0, **arguments):
    keras.utils.set_random_seed(seed)
    return serzoo.build(name, **{"n_classes": 2, **NETWORKS[name], **arguments})


def clips(model, n_clips=4, seed=0):
    """Return random inputs of the model: features and genders."""
    shape = (n_clips, 20, *model.frame_shape)
    features = np.random.default_rng(seed).uniform(0.1, 1.0, shape).astype("float32")
    if not model.takes_gender:
        return features
    return {"features": features, "gender": np.linspace(0, 1, n_clips, dtype="float32")[:, None]}


def one_hot(n_clips=4):
    return np.eye(2, dtype="float32")[np.arange(n_clips) % 2]


def similarity(first, second):
    return keras.ops.convert_to_numpy(MapSimilarity()([first, second]))


def gradients(objective, model, inputs, targets):
    """Return the gradient of the anti-transfer term for each trained weight, by path."""
    trained = TrainingNetwork(model, objective)
    weights = trained.trainable_weights
    if keras.backend.backend() == "jax":
        import jax

        constants = [variable.value for variable in trained.non_trainable_variables]

        def value(values):
            outputs, _ = trained.stateless_call(values, constants, inputs, training=False)
            return objective.terms(targets, outputs, None)[1]

        found = jax.grad(value)([weight.value for weight in weights])
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            term = objective.terms(targets, trained(inputs, training=False), None)[1]
        found = tape.gradient(term, [weight.value for weight in weights], unconnected_gradients="zero")
    return {weight.path: np.asarray(gradient) for weight, gradient in zip(weights, found, strict=True)}


def terms(model, objective, inputs, targets):
    outputs = TrainingNetwork(model, objective)(inputs, training=False)
    return [float(keras.ops.convert_to_numpy(term)) for term in objective.terms(targets, outputs, None)]


# The loss -------------------------------------------------------------------------------------------------------------


@pytest.mark.jax
def test_vector_of_the_facts():
    """Gram matrices [[30, 5], [5, 2]] and [[2, 2], [2, 8]]: cosine 0.356525, squared 0.127110."""
    assert similarity(TRAINED, PRETRAINED)[0] == pytest.approx(0.127110, abs=1e-6)
    assert similarity(PRETRAINED, TRAINED)[0] == pytest.approx(0.127110, abs=1e-6)
    as_pictures = [maps.reshape(1, 2, 2, 2) for maps in (TRAINED, PRETRAINED)]
    assert similarity(*as_pictures)[0] == pytest.approx(0.127110, abs=1e-6)


@given(scale=st.floats(1e-4, 1e4), seed=st.integers(0, 100))
def test_scale_and_order_of_positions_do_not_matter(scale, seed):
    rng = np.random.default_rng(seed)
    maps = rng.uniform(size=(3, 10, 4)).astype("float32")
    other = rng.uniform(size=(3, 10, 4)).astype("float32")
    expected = similarity(maps, other)
    assert ((expected >= 0) & (expected <= 1 + 1e-5)).all()
    np.testing.assert_allclose(similarity(np.float32(scale) * maps, other), expected, rtol=1e-4)
    np.testing.assert_allclose(similarity(maps[:, rng.permutation(10)], other), expected, rtol=1e-4)
    np.testing.assert_allclose(similarity(maps, maps), 1, rtol=1e-4)


def test_order_of_channels_matters():
    assert abs(similarity(TRAINED[..., ::-1], PRETRAINED) - similarity(TRAINED, PRETRAINED))[0] > 0.1


def test_maps_of_zeros_have_similarity_0():
    zeros = np.zeros_like(TRAINED)
    for pair in ((zeros, PRETRAINED), (TRAINED, zeros), (zeros, zeros)):
        np.testing.assert_array_equal(similarity(*pair), 0)


def test_each_clip_is_compared_by_itself():
    rng = np.random.default_rng(0)
    maps, other = rng.uniform(size=(2, 5, 6, 7, 3)).astype("float32")
    together = similarity(maps, other)
    singles = [similarity(maps[[clip]], other[[clip]])[0] for clip in range(5)]
    np.testing.assert_allclose(together, singles, rtol=1e-5)
    assert together.shape == (5,)


def test_numbers_beyond_half_precision():
    halves = [(100 * maps).astype("float16") for maps in (TRAINED, PRETRAINED)]
    assert similarity(*halves)[0] == pytest.approx(0.127110, abs=1e-5)


# In a network ---------------------------------------------------------------------------------------------------------


@pytest.mark.jax
@pytest.mark.parametrize("beta", [1.0, 0.5, 3.0])
def test_identical_networks_give_beta(beta):
    """Once, not squared."""
    model = network()
    inputs, targets = clips(model), one_hot()
    classes, against = terms(model, AntiTransfer(model, layer=2, beta=beta), inputs, targets)
    assert against == pytest.approx(beta, rel=1e-5)
    outputs = keras.ops.convert_to_numpy(model(inputs))
    assert classes == pytest.approx(-np.log(outputs[targets == 1]).mean(), rel=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_tap_is_the_feature_layer_of_that_number(name):
    """For VGG16 the convolution after its ReLU; the paper's program uses the layer before."""
    model, other = network(name), network(name, seed=1)
    inputs = clips(model)
    for layer in {1, 2, LAST[name]}:
        maps = [
            keras.ops.convert_to_numpy(keras.Model(one.input, one.feature_map(layer))(inputs)) for one in (model, other)
        ]
        found = TrainingNetwork(model, AntiTransfer(other, layer))(inputs, training=False)[SIMILARITY]
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), similarity(*maps), rtol=1e-4, atol=1e-6)
        if "vgg" in name:
            assert all((one >= 0).all() and (one == 0).any() for one in maps)


@pytest.mark.jax
@pytest.mark.parametrize(("name", "layer"), [("vgg16", 1), ("vgg16", 5), ("qvgg16", 1), ("timnet", 1), ("acrnn", 1)])
def test_gradient_reaches_the_trained_network_up_to_the_layer_and_nothing_else(name, layer):
    model, other = network(name), network(name, seed=1)
    found = gradients(AntiTransfer(other, layer), model, clips(model), one_hot())
    own = {weight.path for weight in model.trainable_weights}
    assert set(found) == own
    reached = {weight.path for weight in keras.Model(model.input, model.feature_map(layer)).trainable_weights}
    for path, gradient in found.items():
        assert np.isfinite(gradient).all()
        assert path in reached or not gradient.any(), path
    assert any(np.abs(found[path]).max() > 1e-8 for path in reached)


@pytest.mark.parametrize("name", ["timnet", "tbdm", "acrnn"])
def test_the_pretrained_network_runs_in_inference_mode(name):
    """Its dropout is off and its batch normalisation uses its statistics."""
    model, other = network(name), network(name, seed=1, dropout=0.5)
    trained = TrainingNetwork(model, AntiTransfer(other, LAST[name]))
    maps = keras.Model(trained.input, trained.get_layer(SIMILARITY).input[1])
    inputs = clips(model)
    expected = keras.Model(other.features_input, other.feature_map(LAST[name]))(
        inputs["features"] if model.takes_gender else inputs
    )
    np.testing.assert_allclose(maps(inputs, training=True), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.jax
def test_zeros_have_no_gradient():
    model = network()
    for weight in model.get_layer("conv_1").weights:
        weight.assign(np.zeros(weight.shape))
    found = gradients(AntiTransfer(network(seed=1), 1), model, clips(model), one_hot())
    assert not any(map(np.any, found.values()))


@pytest.mark.jax
def test_no_gradient_through_the_pretrained_network():
    """Both maps depend on one input; only the trained network passes a gradient to it."""
    maps = keras.random.uniform((2, 6, 3), seed=0)

    def value(own, others):
        return keras.ops.sum(MapSimilarity()([own, 2 * others + 1]))

    if keras.backend.backend() == "jax":
        import jax

        alone, both = jax.grad(value)(maps, maps), jax.grad(lambda shared: value(shared, shared))(maps)
    else:
        import tensorflow as tf

        with tf.GradientTape(persistent=True) as tape:
            tape.watch(maps)
            values = value(maps, tf.constant(maps.numpy())), value(maps, maps)
        alone, both = (tape.gradient(one, maps) for one in values)
    assert np.abs(np.asarray(alone)).max() > 1e-4
    np.testing.assert_allclose(both, alone, rtol=1e-5)


# In a training --------------------------------------------------------------------------------------------------------


def examples(model, n_clips=8):
    inputs = clips(model, n_clips)
    features, genders = (inputs["features"], inputs["gender"][:, 0]) if model.takes_gender else (inputs, None)
    targets = np.arange(n_clips) % 2
    features[targets == 1, :10] *= 0.2
    return Examples(features, targets, ("class 0", "class 1"), genders)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_training_reduces_the_similarity(name):
    """The losses are logged separately; the pretrained network does not change."""
    model, other = network(name), network(name)
    before = other.get_weights()
    data = examples(model)
    history = fit(
        model, data, validation_data=data, training=TRAINING, objective=AntiTransfer(other, 2, 0.7), progress=False
    )
    record = history.records[0]
    assert {"loss", "cross_entropy", "anti_transfer", "war", "validation_loss"} <= set(record)
    for record in history.records:
        assert record["loss"] == pytest.approx(record["cross_entropy"] + record["anti_transfer"], rel=1e-4)
    away = history.column("anti_transfer")
    assert away[-1] < away[0] <= 0.7 + 1e-5
    for weights, old in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, old)
    assert all(weight.trainable for weight in other.trainable_weights)


def test_the_validation_loss_is_of_the_classes_alone():
    model, other = network(), network(seed=1)
    data = examples(model)
    history = fit(
        model, data, validation_data=data, training=TRAINING, objective=AntiTransfer(other, 2, 100.0), progress=False
    )
    probabilities = predict_probabilities(model, data)[np.arange(len(data)), data.targets]
    assert history.records[-1]["validation_loss"] == pytest.approx(-np.log(probabilities).mean(), rel=1e-4)


@pytest.mark.slow
def test_logits_train_as_probabilities_do():
    histories = [
        fit(
            network(classifier_activation=activation),
            examples(network()),
            training=dataclasses.replace(TRAINING, epochs=2),
            objective=AntiTransfer(network(seed=1), 2),
            progress=False,
        )
        for activation in ("softmax", None)
    ]
    for name in ("cross_entropy", "anti_transfer"):
        np.testing.assert_allclose(histories[0].column(name), histories[1].column(name), rtol=1e-3)


@pytest.mark.slow
def test_class_weights_weigh_the_classes_alone():
    model = network()
    data = examples(model).select([0, 2, 4, 6, 1])
    training = dataclasses.replace(TRAINING, batch_size=5, epochs=1)
    plain, weighted = (
        fit(
            network(),
            data,
            training=dataclasses.replace(training, class_weights=weights),
            objective=AntiTransfer(network(seed=1), 2),
            progress=False,
        ).records[0]
        for weights in (False, True)
    )
    losses = -np.log(predict_probabilities(network(), data)[np.arange(5), data.targets])
    assert plain["cross_entropy"] == pytest.approx(losses.mean(), rel=1e-4)
    weights = np.where(data.targets == 0, 5 / 8, 5 / 2)
    assert weighted["cross_entropy"] == pytest.approx((weights * losses).mean(), rel=1e-4)
    assert weighted["anti_transfer"] == pytest.approx(plain["anti_transfer"], rel=1e-5)


def test_only_one_network_needs_a_gender_input():
    model, other = network("acrnn"), network("acrnn", gender=False)
    fit(
        model,
        examples(model),
        training=dataclasses.replace(TRAINING, epochs=1),
        objective=AntiTransfer(other, 2),
        progress=False,
    )


def test_a_loaded_classifier_is_accepted():
    other = network(seed=1)
    assert AntiTransfer(serzoo.Classifier(network("timnet", class_names=["a", "b"], feature_spec=MFCC)), 1)
    assert AntiTransfer(other).pretrained is other


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, other = network("timnet"), network("timnet", seed=1)
        history = fit(
            model,
            examples(model),
            training=dataclasses.replace(TRAINING, epochs=2),
            objective=AntiTransfer(other, 2),
            progress=False,
        )
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(history.column("loss")).all()


def test_the_training_network_predicts_as_the_model_does():
    model = network()
    outputs = TrainingNetwork(model, AntiTransfer(network(seed=1), 2))(clips(model), training=False)
    np.testing.assert_array_equal(outputs[PREDICTION], model(clips(model)))


# Errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "other", "message"),
    [
        (("vgg16", {}), ("qvgg16", {}), r"^Anti-transfer between VGG16 and QVGG16; .*give a pretrained VGG16\.$"),
        (
            ("vgg16", {}),
            ("vgg16", {"width": 1 / 8}),
            r"of different structure up to feature layer 2 \(width 0.0625 and ",
        ),
        (("timnet", {}), ("timnet", {"n_features": 5}), r"^Anti-transfer between two timnet of different structure"),
        (
            ("timnet", {}),
            ("timnet", {"kernel_size": 3}),
            r"\(kernel_size 2 and 3\); build both with the same arguments",
        ),
    ],
)
def test_networks_of_different_structure_are_refused(model, other, message):
    with pytest.raises(ConfigError, match=message):
        check_same_structure(network(model[0], **model[1]), network(other[0], **other[1]), 2)


def test_layers_after_the_compared_one_may_differ():
    check_same_structure(network(n_classes=3), network(n_classes=5, dropout=0.5), 13)
    check_same_structure(network("timnet", n_blocks=2), network("timnet", n_blocks=3), 2)


def test_other_features_are_refused():
    narrow, wide = (MFCCSpec(n_samples=16_000, n_mfcc=4, hop_length=hop) for hop in (256, 512))
    longer = MFCCSpec(n_samples=32_000, n_mfcc=4, hop_length=256)
    model = network("timnet", feature_spec=narrow)
    check_same_structure(model, network("timnet", feature_spec=longer), 1)
    check_same_structure(model, network("timnet"), 1)
    with pytest.raises(ConfigError, match=r"^Anti-transfer between networks with different features \(MFCCSpec"):
        check_same_structure(model, network("timnet", feature_spec=wide), 1)


def test_an_objective_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match=r"^objective is 'at'; give an Objective, such as AntiTransfer"):
        fit(network(), examples(network()), training=TRAINING, objective="at", progress=False)


@pytest.mark.parametrize("layer", [0, 14, -1, True, "2"])
def test_unknown_layers_are_refused(layer):
    objective = AntiTransfer(network(), layer)
    with pytest.raises(ConfigError, match=rf"^feature layer {layer!r} was asked for; vgg16 has 13, numbered from 1\.$"):
        fit(network(), examples(network()), training=TRAINING, objective=objective, progress=False)


def test_maps_that_depend_on_the_gender_input_are_refused():
    with pytest.raises(ConfigError, match=r"^timnet's feature layer 1 depends on the gender.*columns to 0\.$"):
        check_same_structure(network("timnet", gender_columns=1), network("timnet"), 1)


def test_a_model_without_feature_layers_is_refused():
    models = [serzoo.build("rh_emo", n_classes=2, n_features=8, n_frames_padded=40, head_width=4) for _ in range(2)]
    with pytest.raises(ConfigError, match=r"^rh_emo names no feature layers.*; choose another model\.$"):
        check_same_structure(*models, 1)


@pytest.mark.parametrize("beta", [0, -1.0, float("nan"), float("inf"), True, "1"])
def test_beta_out_of_range_is_refused(beta):
    with pytest.raises(ConfigError, match=r"^beta is .*; it must be a number above 0\.$"):
        AntiTransfer(network(), 2, beta)


def test_a_network_without_statistics_is_refused():
    model, other = network(normalization="global"), network(normalization="global")
    with pytest.raises(WeightsError, match=r"^vgg16 has no statistics"):
        fit(model, examples(model), training=TRAINING, objective=AntiTransfer(other, 2), progress=False)
    assert not model.normalization.is_adapted


def test_features_of_the_zoo_reach_both_networks_normalised_by_their_own_statistics():
    spec = STFTSpec(segment_frames=20)
    models = [
        serzoo.build("vgg16", n_classes=2, feature_spec=spec, n_frames_padded=32, width=1 / 16, normalization="maximum")
        for _ in range(2)
    ]
    features = np.random.default_rng(0).uniform(size=(4, 20, 128, 1)).astype("float32")
    for model, scale in zip(models, (1.0, 50.0), strict=True):
        model.set_weights(models[0].get_weights())
        model.normalization.adapt(features * scale)
    maps = [keras.ops.convert_to_numpy(keras.Model(one.input, one.feature_map(1))(features)) for one in models]
    found = TrainingNetwork(models[0], AntiTransfer(models[1], 1))(features, training=False)[SIMILARITY]
    np.testing.assert_allclose(found, similarity(*maps), rtol=1e-4)
    assert maps[0].max() > 10 * maps[1].max()
