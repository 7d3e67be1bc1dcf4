"""The network for frozen representations, held to the paper's description of it."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from serzoo.errors import ConfigError
from serzoo.features.spec import EmbeddingSpec
from serzoo.layers.normalization import FrameNormalization
from serzoo.models.embedding_dnn import EmbeddingDNN
from serzoo.recipes import load_recipe
from serzoo.zoo import build


def widths(model):
    return [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def run(model, features):
    return keras.ops.convert_to_numpy(model(features, training=False))


@pytest.mark.parametrize(
    ("n_features", "expected"),
    [
        (768, [384, 192, 96, 8]),
        (192, [96, 48, 24, 8]),
        (80, [40, 20, 10, 8]),
        (39, [19, 9, 4, 8]),
        (7, [3, 1, 1, 8]),
        (1, [1, 1, 1, 8]),
    ],
)
def test_each_layer_is_half_as_wide(n_features, expected):
    model = EmbeddingDNN(n_classes=8, n_features=n_features)
    assert widths(model) == expected
    assert model.embedding_model().output_shape == (None, expected[2])
    assert run(model, np.ones((2, 1, n_features), np.float32)).shape == (2, 8)


def test_number_of_parameters():
    """Of each hidden layer kernel, bias, scale, offset and two moving statistics; of the last kernel and bias."""
    model = EmbeddingDNN(n_classes=8, n_features=192)
    hidden = [(192 + 1) * 96 + 4 * 96, (96 + 1) * 48 + 4 * 48, (48 + 1) * 24 + 4 * 24]
    assert model.count_params() == sum(hidden) + (24 + 1) * 8 == 25_232


def test_layers_follow_each_other_as_in_the_paper():
    model = EmbeddingDNN(n_classes=8, dropout=0.4)
    names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Layer)]
    first, second, third = (
        [f"dense_{number}", f"norm_{number}", activation, f"dropout_{number}"]
        for number, activation in enumerate(("activation_1", "activation_2", "embedding"), start=1)
    )
    assert names[names.index("dense_1") :] == [*first, *second, *third, "classifier"]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.4] * 3
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert [(norm.momentum, norm.epsilon) for norm in norms] == [(0.9, 1e-5)] * 3


def test_outputs_equal_numpys():
    """The same in NumPy, with random weights and statistics."""
    rng = np.random.default_rng(0)
    model = EmbeddingDNN(n_classes=4, n_features=16)
    for weight in model.weights:
        weight.assign(rng.uniform(0.2, 1.5, weight.shape) * rng.choice([-1, 1] if "kernel" in weight.path else [1]))
    features = rng.normal(size=(5, 3, 16)).astype(np.float32)
    hidden = features.mean(axis=1)
    for number in (1, 2, 3):
        kernel, bias = (value.numpy() for value in model.get_layer(f"dense_{number}").weights)
        scale, offset, mean, variance = (value.numpy() for value in model.get_layer(f"norm_{number}").weights)
        hidden = (hidden @ kernel + bias - mean) / np.sqrt(variance + 1e-5) * scale + offset
        hidden = np.maximum(hidden, 0)
    kernel, bias = (value.numpy() for value in model.get_layer("classifier").weights)
    logits = hidden @ kernel + bias
    np.testing.assert_allclose(run(model, features), softmax(logits, axis=1), rtol=0, atol=1e-5)


def test_frames_are_averaged():
    model = EmbeddingDNN(n_classes=4, n_features=12)
    features = np.random.default_rng(0).normal(size=(3, 20, 12)).astype(np.float32)
    mean = features.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(run(model, features), run(model, mean), rtol=0, atol=1e-6)
    np.testing.assert_allclose(run(model, features[:, ::-1]), run(model, mean), rtol=0, atol=1e-6)


def test_standardised_input():
    rng = np.random.default_rng(0)
    features = rng.normal(5, 3, size=(40, 1, 12)).astype(np.float32)
    scaled, plain = (EmbeddingDNN(n_classes=4, n_features=12, normalization=kind) for kind in ("real-frames", None))
    assert plain.normalization is None
    assert isinstance(scaled.normalization, FrameNormalization)
    scaled.normalization.adapt(features)
    for name in ("dense_1", "dense_2", "dense_3", "classifier"):
        scaled.get_layer(name).set_weights(plain.get_layer(name).get_weights())
    by_hand = (features - features.mean(axis=0)) / features.std(axis=0)
    np.testing.assert_allclose(run(scaled, features), run(plain, by_hand), rtol=0, atol=1e-4)


@pytest.mark.parametrize("value", [1, -0.1, None, "0.2"])
def test_dropout_is_a_share(value):
    with pytest.raises(ConfigError, match=f"^dropout is {value!r}; it must be a number of at least 0 and below 1"):
        EmbeddingDNN(n_classes=4, dropout=value)


@pytest.mark.parametrize(("source", "width", "expected"), [("mel", 80, [40, 20, 10, 8]), ("mfcc", 39, [19, 9, 4, 8])])
def test_recipes(source, width, expected):
    recipe = load_recipe(f"embedding_dnn-ravdess-{source}")
    assert recipe.features == EmbeddingSpec(source=source, width=width, sample_rate=22_050)
    assert recipe.protocol == "random5-seed0-v1"
    model = build("embedding_dnn", n_classes=8, feature_spec=recipe.features, **recipe.model.arguments)
    assert widths(model) == expected
    assert model.features_shape == (None, width)
