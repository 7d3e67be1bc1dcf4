"""ACRNN's published numbers: shapes, weights per layer and in all; and the library's attention in its place."""

import keras
import numpy as np
import pytest

from serzoo.errors import ConfigError
from serzoo.models.acrnn import ACRNN

pytestmark = pytest.mark.jax

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
PLAIN = {"attention": "pooling", "gender": False}


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.mark.parametrize(
    ("arguments", "trained"),
    [
        ({}, 9_340_957),
        ({"pool_freq": 4}, 7_374_877),
        ({**PLAIN, "pool_freq": 4}, 7_334_726),
        (PLAIN, 9_300_806),
        ({"attention": "dot_product"}, 9_340_957 - 16_449 + 3 * 256**2),
        ({"batch_norm": None}, 9_340_957 - 2 * 768),
        ({"batch_norm": "dense"}, 9_340_957 - 2 * 768 + 2 * 64),
        pytest.param(
            {"attention_impl": "library"},
            9_340_957,
            marks=pytest.mark.skipif(not ON_TENSORFLOW, reason="TensorFlow only"),
        ),
    ],
)
def test_number_of_trained_weights(arguments, trained):
    assert count(ACRNN(n_classes=4, **arguments).trainable_weights) == trained


def test_weights_that_are_not_trained_are_statistics():
    """Of the batch normalisation, and of 40 x 3 values with the number of frames they are of."""
    assert count(ACRNN(n_classes=4).non_trainable_weights) == 2 * 768 + 2 * 40 * 3 + 1


@pytest.mark.parametrize(
    ("arguments", "layers"),
    [
        (
            {**PLAIN, "pool_freq": 4},
            {
                "conv_1": (5_888, (300, 40, 128)),
                "pool": (0, (150, 10, 128)),
                "conv_2": (491_776, (150, 10, 256)),
                **{f"conv_{number}": (983_296, (150, 10, 256)) for number in (3, 4, 5, 6)},
                "frames": (0, (150, 2560)),
                "projection": (1_966_848, (150, 768)),
                "projection_norm": (1_536, (150, 768)),
                "bilstm": (918_528, (150, 256)),
                "attention": (258, (256,)),
                "dense": (16_448, (64,)),
                "classifier": (260, (4,)),
            },
        ),
        (
            {},
            {
                "conv_1": (5_888, (300, 40, 128)),
                "pool": (0, (150, 20, 128)),
                "conv_2": (491_776, (150, 20, 256)),
                "frames": (0, (150, 5120)),
                "projection": (5120 * 768 + 768, (150, 768)),
                "bilstm": (918_528, (150, 256)),
                "attention": (16_449, (150, 256)),
                "mean": (0, (256,)),
                "gender_embedding": (600, (1, 300)),
                "gender_dense": (19_264, (1, 64)),
                "gender_vector": (0, (64,)),
                "utterance_and_gender": (0, (320,)),
                "dense": (320 * 64 + 64, (64,)),
                "embedding": (0, (64,)),
                "classifier": (260, (4,)),
            },
        ),
    ],
    ids=["program", "paper"],
)
def test_layers_are_the_published_ones(arguments, layers):
    model = ACRNN(n_classes=4, n_frames=300, **arguments)
    built = {name: model.get_layer(name) for name in layers}
    assert {name: (count(layer.trainable_weights), layer.output.shape[1:]) for name, layer in built.items()} == layers
    trained = [layer.name for layer in model.layers if layer.trainable_weights]
    assert arguments == {} or trained == [name for name, (weights, _) in layers.items() if weights]


def test_inputs_are_named():
    model = ACRNN(n_classes=4)
    assert {name: tensor.shape for name, tensor in model.input.items()} == {
        "features": (None, None, 40, 3),
        "gender": (None, 1),
    }
    assert ACRNN(n_classes=4, gender=False, n_frames=300).input_shape == (None, 300, 40, 3)


def test_frames_hold_bands_before_channels():
    """The order of the program's reshape, and so of the projection's published weights."""
    model = ACRNN(n_classes=4, n_frames=2, n_features=4, n_convs=1, filters=(3, 3), normalization=None, gender=False)
    before, after = model.get_layer("conv_1_dropout").output, model.get_layer("frames").output
    model = keras.Model(model.input, [before, after])
    hidden, frames = (
        keras.ops.convert_to_numpy(output)
        for output in model(np.random.default_rng(0).normal(size=(1, 2, 4, 3)).astype("float32"))
    )
    np.testing.assert_array_equal(
        frames[0, 0], [hidden[0, 0, band, channel] for band in (0, 1) for channel in (0, 1, 2)]
    )


def test_leaky_relu_has_the_programs_slope():
    layers = [layer for layer in ACRNN(n_classes=4).layers if isinstance(layer, keras.layers.LeakyReLU)]
    assert len(layers) == 6 + 1 + 1
    assert all(layer.negative_slope == 0.01 for layer in layers)


def test_signal_neither_grows_nor_fades_through_the_convolutions():
    """With the program's initial deviation of 0.1 it would grow 850-fold over the last five."""
    keras.utils.set_random_seed(0)
    model = ACRNN(n_classes=4, gender=False)
    outputs = [model.get_layer(f"conv_{number}_activation").output for number in (1, 6)]
    features = np.random.default_rng(0).normal(size=(1, 30, 40, 3)).astype("float32")
    first, last = keras.Model(model.input, outputs)(features)
    assert 0.3 < float(keras.ops.std(last) / keras.ops.std(first)) < 3


SMALL = {"n_features": 6, "n_convs": 2, "filters": (3, 4), "projection": 5, "lstm_units": 3, "dense_units": 4}


@pytest.mark.slow
@pytest.mark.skipif(not ON_TENSORFLOW, reason="keras-self-attention runs on TensorFlow only")
@pytest.mark.parametrize("width", [15, 4, None])
def test_weights_go_from_the_librarys_attention_to_ours_and_back(width, tmp_path):
    ours, library = (
        ACRNN(n_classes=4, attention_width=width, attention_impl=implementation, **SMALL)
        for implementation in ("native", "library")
    )
    rng = np.random.default_rng(0)
    inputs = {
        "features": rng.normal(size=(3, 80, 6, 3)).astype("float32"),
        "gender": rng.uniform(size=(3, 1)).astype("float32"),
    }
    for source, target in ((library, ours), (ours, library)):
        for weight in source.trainable_weights:
            weight.assign(rng.uniform(-1, 1, weight.shape))
        assert np.abs(source.predict(inputs, verbose=0) - target.predict(inputs, verbose=0)).max() > 1e-3
        target.set_weights(source.get_weights())
        np.testing.assert_allclose(
            target.predict(inputs, verbose=0), source.predict(inputs, verbose=0), rtol=0, atol=1e-6
        )
    library.save(tmp_path / "library.keras")
    loaded = keras.saving.load_model(tmp_path / "library.keras")
    np.testing.assert_array_equal(loaded.predict(inputs, verbose=0), library.predict(inputs, verbose=0))


@pytest.mark.skipif(ON_TENSORFLOW, reason="the library's attention runs on TensorFlow")
def test_library_is_refused_on_other_backends():
    with pytest.raises(ConfigError, match="needs TensorFlow, but Keras runs on jax; choose 'native'"):
        ACRNN(n_classes=4, attention_impl="library")
