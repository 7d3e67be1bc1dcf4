"""RH-Emo: the encoder's arithmetic, the training network and its loss, and the encoder in front of another network."""

import keras
import numpy as np
import pytest

from serzoo.data.examples import Examples
from serzoo.errors import ConfigError
from serzoo.labels import DIMENSIONS
from serzoo.models.qvgg16 import QVGG16
from serzoo.models.rh_emo import RHEmo, RHEmoEncoder
from serzoo.settings import TrainingConfig
from serzoo.training.fit import fit
from serzoo.training.rh_emo_stages import EmotionalReconstruction

ROWS, COLUMNS = 40, 6
SMALL = {"n_classes": 3, "n_frames_padded": ROWS, "n_features": COLUMNS, "head_width": 16}


def pictures(n_clips=4, rows=ROWS, columns=COLUMNS):
    return np.random.default_rng(0).uniform(size=(n_clips, rows, columns, 1)).astype("float32")


def run(model, inputs, training=False):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(inputs, training=training))


def randomise(model):
    """Give every weight, moving statistics too, a value that lets some signal pass and saturates nothing."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.path.endswith(("variance", "maximum", "n_frames")):
            weight.assign(rng.uniform(1, 3, weight.shape))
        elif len(weight.shape) == 2:
            weight.assign(rng.normal(0, 1 / np.sqrt(weight.shape[0]), weight.shape))
        else:
            weight.assign(rng.normal(0.2, 0.3, weight.shape))


def convolved(maps, kernel, bias):
    """Return the correlation with 3x3 kernels and zeros around, then ReLU."""
    rows, columns = maps.shape[1:3]
    padded = np.pad(maps, [(0, 0), (1, 1), (1, 1), (0, 0)])
    taps = [(row, column) for row in range(3) for column in range(3)]
    return np.maximum(sum(padded[:, r : r + rows, c : c + columns] @ kernel[r, c] for r, c in taps) + bias, 0)


def pooled(maps, rows, columns):
    n, height, width, channels = maps.shape
    return maps.reshape(n, height // rows, rows, width // columns, columns, channels).max(axis=(2, 4))


@pytest.mark.jax
def test_encoder_by_hand():
    """Convolution, ReLU, pooling and then normalisation, three times but for the last normalisation."""
    encoder = RHEmoEncoder()
    encoder.build((None, ROWS, COLUMNS, 1))
    randomise(encoder)
    weights = {weight.path.partition("encoder/")[2]: weight.numpy() for weight in encoder.weights}
    maps = inputs = pictures()
    for number, window in ((1, (2, 2)), (2, (2, 1)), (3, (2, 1))):
        maps = pooled(convolved(maps, weights[f"conv_{number}/kernel"], weights[f"conv_{number}/bias"]), *window)
        if number < 3:
            gamma, beta, mean, variance = (
                weights[f"norm_{number}/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            maps = gamma * (maps - mean) / np.sqrt(variance + 1e-5) + beta
    assert maps.shape == (4, ROWS // 8, COLUMNS // 2, 4)
    assert maps.min() >= 0
    assert maps.any(axis=(0, 1, 2)).all()
    np.testing.assert_allclose(run(encoder, inputs), maps, rtol=1e-5, atol=1e-5)


@pytest.mark.jax
def test_classes_depend_on_the_first_channel_of_the_embedding_alone():
    model = RHEmo(**SMALL)
    network = model.training_network()
    randomise(network)
    names = ("emotion", *DIMENSIONS)
    before = run(network, pictures())
    for channel, name in enumerate(names):
        bias = next(weight for weight in model.weights if weight.path == "encoder/conv_3/bias")
        kept = bias.numpy()
        bias.assign(kept + 5 * (np.arange(4) == channel))
        after = run(network, pictures())
        changed = [other for other in names if not np.array_equal(before[other], after[other])]
        assert changed == [name]
        bias.assign(kept)


@pytest.mark.jax
def test_training_network_shares_the_weights():
    model = RHEmo(**SMALL)
    network = model.training_network()
    randomise(network)
    outputs = run(network, pictures())
    np.testing.assert_array_equal(outputs["emotion"], run(model, pictures()))
    np.testing.assert_allclose(outputs["spectrogram"], pictures() / model.normalization.maximum.numpy(), rtol=1e-6)
    assert {id(weight) for weight in model.weights} < {id(weight) for weight in network.weights}
    for name in DIMENSIONS:
        assert outputs[name].shape == (4, 1)
        assert ((outputs[name] > 0) & (outputs[name] < 1)).all()


@pytest.mark.jax
def test_reconstruction_is_the_mean_of_four_channels():
    network = RHEmo(**SMALL).training_network()
    randomise(network)
    last = keras.Model(network.input, network.get_layer("decoder_conv_3").output)
    channels = run(last, pictures())
    assert channels.shape == (4, ROWS, COLUMNS, 4)
    reconstruction = run(network, pictures())["reconstruction"]
    np.testing.assert_allclose(reconstruction, channels.mean(axis=-1, keepdims=True), rtol=1e-5)


@pytest.mark.jax
def test_training_moves_the_statistics_once_a_step():
    """Towards those of the batch, by a tenth: the encoder runs once, whatever follows it."""
    network = RHEmo(**SMALL).training_network()
    statistics = {weight.path: weight for weight in network.weights if "norm_1/moving" in weight.path}
    randomise(network)
    before = {path: weight.numpy() for path, weight in statistics.items()}
    first = keras.Model(network.input, network.get_layer("spectrogram").output)
    weights = {weight.path: weight.numpy() for weight in network.get_layer("encoder").weights}
    maps = convolved(run(first, pictures()), weights["encoder/conv_1/kernel"], weights["encoder/conv_1/bias"])
    expected = pooled(maps, 2, 2).mean(axis=(0, 1, 2))
    network(pictures(), training=True)
    path = "encoder/norm_1/moving_mean"
    np.testing.assert_allclose(statistics[path].numpy(), 0.9 * before[path] + 0.1 * expected, rtol=1e-4)


@pytest.mark.jax
def test_short_clips_are_reconstructed_with_their_padding():
    network = RHEmo(**SMALL).training_network()
    outputs = run(network, pictures(rows=17))
    np.testing.assert_array_equal(outputs["spectrogram"][:, 17:], 0)
    assert outputs["reconstruction"].shape == (4, ROWS, COLUMNS, 1)


def crossentropy(targets, outputs):
    return -(targets * np.log(outputs) + (1 - targets) * np.log(1 - outputs))


def batch(seed=0, n_clips=4):
    """Return made-up targets and outputs, all targets known."""
    rng = np.random.default_rng(seed)
    classes = rng.uniform(size=(n_clips, 3))
    outputs = {
        "spectrogram": rng.uniform(size=(n_clips, 8, 6, 1)),
        "reconstruction": rng.uniform(0.1, 0.9, size=(n_clips, 8, 6, 1)),
        "emotion": classes / classes.sum(axis=1, keepdims=True),
        **{name: rng.uniform(0.1, 0.9, size=(n_clips, 1)) for name in DIMENSIONS},
    }
    targets = {
        "emotion": np.eye(3)[rng.integers(0, 3, n_clips)],
        **{name: rng.integers(0, 2, (n_clips, 1)).astype(float) for name in DIMENSIONS},
    }
    return single(targets), single(outputs)


def single(values):
    return {name: value.astype("float32") for name, value in values.items()}


def rh_emo_loss(targets, outputs, **weights):
    return sum(EmotionalReconstruction(None, **weights).terms(targets, outputs, None))


def loss(targets, outputs, **weights):
    return float(keras.ops.convert_to_numpy(rh_emo_loss(targets, outputs, **weights)))


@pytest.mark.jax
def test_loss_by_hand():
    targets, outputs = batch()
    reconstruction = crossentropy(outputs["spectrogram"], outputs["reconstruction"]).mean()
    classes = -np.log(outputs["emotion"][targets["emotion"] == 1]).mean()
    dimensions = sum(crossentropy(targets[name], outputs[name]).mean() for name in DIMENSIONS)
    assert loss(targets, outputs) == pytest.approx(reconstruction + 0.01 * classes + dimensions, rel=1e-5)
    weights = {"alpha": 2.0, "beta": 3.0, "beta_class": 5.0, "beta_vad": 7.0}
    expected = 2 * reconstruction + 3 * (5 * classes + 7 * dimensions)
    assert loss(targets, outputs, **weights) == pytest.approx(expected, rel=1e-5)
    assert loss(targets, outputs, beta=0.0) == pytest.approx(reconstruction, rel=1e-5)


@pytest.mark.jax
def test_unknown_dimensions_are_left_out():
    targets, outputs = batch()
    known = np.array([True, False, True, False])
    targets["arousal"][~known] = np.nan
    only = loss({**targets, "arousal": np.full((4, 1), np.nan, "float32")}, outputs)
    arousal = crossentropy(targets["arousal"][known], outputs["arousal"][known]).mean()
    assert loss(targets, outputs) == pytest.approx(only + arousal, rel=1e-5)
    nothing = {**targets, **{name: np.full((4, 1), np.nan, "float32") for name in DIMENSIONS}}
    assert loss(nothing, outputs, alpha=0.0, beta=1.0, beta_class=0.0) == 0
    assert loss(nothing, outputs) == pytest.approx(loss(targets, outputs, beta_vad=0.0), rel=1e-6)


@pytest.mark.jax
def test_spectrogram_above_the_training_maximum_counts_as_1():
    """Otherwise the loss would fall without bound as the reconstruction comes near 1."""
    targets, outputs = batch()
    outputs["spectrogram"][0, 0, 0] = 3
    cut = {**outputs, "spectrogram": np.minimum(outputs["spectrogram"], 1)}
    assert loss(targets, outputs) == loss(targets, cut)


def gradients_of_the_loss(network, inputs, targets):
    """Return the loss's gradient for every trained weight, dropout off."""
    if keras.backend.backend() == "jax":
        import jax

        def stateless_loss(trained):
            outputs, _ = network.stateless_call(trained, constants, inputs, training=False)
            return rh_emo_loss(targets, outputs)

        constants = [variable.value for variable in network.non_trainable_variables]
        gradients = jax.grad(stateless_loss)([variable.value for variable in network.trainable_variables])
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = rh_emo_loss(targets, network(inputs, training=False))
        gradients = tape.gradient(value, [weight.value for weight in network.trainable_weights])
    return {
        weight.path: np.asarray(gradient) for weight, gradient in zip(network.trainable_weights, gradients, strict=True)
    }


@pytest.mark.jax
@pytest.mark.parametrize("known", [True, False])
def test_gradient_of_the_loss(known):
    """It is finite, reaches every part, and leaves the heads alone whose targets are unknown."""
    network = RHEmo(**SMALL).training_network()
    randomise(network)
    targets, _ = batch()
    if not known:
        targets["arousal"] = np.full((4, 1), np.nan, "float32")
    gradients = gradients_of_the_loss(network, pictures(), targets)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    untouched = {path.partition("_")[0].partition("/")[0] for path, gradient in gradients.items() if not gradient.any()}
    assert untouched == (set() if known else {"arousal"})


EMBEDDED = {"n_classes": 2, "n_frames_padded": 256, "n_features": 64, "width": 1 / 16, "dropout": 0.0}


@pytest.mark.jax
def test_encoder_goes_in_front_of_another_network():
    trained = RHEmo(n_classes=3, n_frames_padded=256, n_features=64, head_width=4)
    randomise(trained)
    network = QVGG16(**EMBEDDED)
    network.get_layer("encoder").set_weights(trained.get_layer("encoder").get_weights())
    network.normalization.set_weights(trained.normalization.get_weights())
    inputs = pictures(2, 100, 64)
    embeddings = [
        run(keras.Model(model.input, model.get_layer("encoder").output), inputs) for model in (trained, network)
    ]
    assert embeddings[0].shape == (2, 32, 32, 4)
    np.testing.assert_array_equal(*embeddings)


@pytest.mark.slow
@pytest.mark.jax
@pytest.mark.parametrize("train_embedding", [True, False])
def test_frozen_encoder_stays_as_it_is(train_embedding):
    """Its weights, and the moving statistics of its batch normalisation."""
    keras.utils.set_random_seed(0)
    network = QVGG16(**EMBEDDED, train_embedding=train_embedding)
    network.compile(optimizer=keras.optimizers.Adam(1e-3), loss="categorical_crossentropy")
    before = [weight.numpy() for weight in network.get_layer("encoder").weights]
    for _ in range(3):
        network.train_on_batch(pictures(2, 200, 64), np.eye(2, dtype="float32"))
    changed = [
        not np.array_equal(weight.numpy(), old)
        for weight, old in zip(network.get_layer("encoder").weights, before, strict=True)
    ]
    assert all(changed) if train_embedding else not any(changed)
    assert [weight.path for weight in network.trainable_weights if "encoder" in weight.path] == (
        [weight.path for weight in network.get_layer("encoder").trainable_weights] if train_embedding else []
    )


@pytest.mark.jax
def test_frozen_encoder_normalises_each_clip_separately_in_training():
    """With the batch's statistics a clip's embedding would depend on its neighbours."""
    network = QVGG16(**EMBEDDED, train_embedding=False)
    inputs = pictures(3, 200, 64) * np.array([1, 10, 0.1], "float32").reshape(3, 1, 1, 1)
    together = run(network, inputs, training=True)
    np.testing.assert_allclose(run(network, inputs[:1], training=True), together[:1], rtol=1e-5)


@pytest.mark.jax
def test_training_network_survives_a_file(tmp_path):
    network = RHEmo(**SMALL).training_network()
    randomise(network)
    network.save(tmp_path / "training.keras")
    loaded = keras.saving.load_model(tmp_path / "training.keras")
    keras.tree.map_structure(np.testing.assert_array_equal, run(loaded, pictures()), run(network, pictures()))


# Training it ----------------------------------------------------------------------------------------------------------


def pieces(n_clips=4, dimensions=None):
    return Examples(pictures(n_clips), np.arange(n_clips) % 3, ("a", "b", "c"), dimensions=dimensions)


def train(model, data, **weights):
    training = TrainingConfig(batch_size=4, epochs=1, label_smoothing=0.0, jit_compile=False)
    objective = EmotionalReconstruction(model.training_network(), **weights)
    return fit(model, data, training=training, objective=objective, progress=False).records[0]


def untrained(**arguments):
    keras.utils.set_random_seed(0)
    return RHEmo(**{**SMALL, "normalization": None, "dropout": 0.0, **arguments})


@pytest.mark.slow
def test_logits_have_the_loss_of_probabilities():
    losses = [
        train(untrained(classifier_activation=activation), pieces())["classes"] for activation in ("softmax", None)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_ratings_may_be_of_numpys_usual_precision():
    ratings = np.array([[1, 0, np.nan], [0, 1, np.nan], [1, 1, np.nan], [np.nan] * 3])
    record = train(untrained(), pieces(dimensions=ratings))
    assert record["dimensions"] > 0.1
    assert train(untrained(), pieces(dimensions=ratings.astype("float32"))) == record
    assert train(untrained(), pieces())["dimensions"] == 0


@pytest.mark.slow
def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for beta in (0.0, 0.01):
            assert np.isfinite(train(untrained(), pieces(), beta=beta)["loss"])
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.jax
def test_the_network_of_another_model_is_refused():
    objective = EmotionalReconstruction(untrained().training_network())
    with pytest.raises(ConfigError, match=r"^The reconstruction network is not rh_emo.s; give "):
        fit(untrained(), pieces(), objective=objective, progress=False)
