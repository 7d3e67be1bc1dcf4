"""Sizes of the real and quaternion VGG16 and of RH-Emo against those of the published programs."""

import functools

import keras
import numpy as np
import pytest
from shapes import weights_without_values

from serzoo.errors import ConfigError, FeatureError
from serzoo.layers.quaternion import QuaternionConv2D, QuaternionDense
from serzoo.models.base import EMBEDDING, check_features_shape
from serzoo.models.qvgg16 import QVGG16
from serzoo.models.rh_emo import RHEmo
from serzoo.models.vgg16 import VGG16

QUATERNIONS = {"embedding": None, "n_channels": 4, "n_features": 64, "n_frames_padded": 64}
"""The quaternion network alone, on pictures of the size of RH-Emo's embedding."""

TINY = {"n_features": 32, "n_frames_padded": 64, "width": 1 / 16}


@functools.cache
def shapes_of(build, **arguments):
    """Build models once."""
    with weights_without_values():
        return build(**arguments)


def count(model):
    """Return the number of trained weights, as PyTorch counts parameters."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    ("network", "arguments", "expected"),
    [
        (VGG16, {"n_classes": 4}, 165_733_060),
        (VGG16, {"n_classes": 7}, 165_745_351),
        (VGG16, {"n_classes": 8}, 165_749_448),
        (VGG16, {"n_classes": 4, "n_features": 64, "n_frames_padded": 64}, 39_903_940),
        (QVGG16, {"n_classes": 4, **QUATERNIONS}, 9_998_020),
        (QVGG16, {"n_classes": 7, **QUATERNIONS}, 10_010_311),
        (QVGG16, {"n_classes": 8, **QUATERNIONS}, 10_014_408),
        (QVGG16, {"n_classes": 4}, 9_998_020 + 256),
        (QVGG16, {"n_classes": 4, "train_embedding": False}, 9_998_020),
        (QVGG16, {"n_classes": 4, "embedding": None, "n_channels": 4}, 41_455_300),
        (RHEmo, {"n_classes": 5}, 256 + 33_583_109),
    ],
)
def test_published_number_of_parameters(network, arguments, expected):
    assert count(shapes_of(network, **arguments)) == expected


def test_layers_of_the_real_network():
    model = shapes_of(VGG16, n_classes=4)
    counts = [layer.count_params() for layer in model.layers if layer.name.startswith("conv")]
    dense = [model.get_layer(name).count_params() for name in ("dense", EMBEDDING, "classifier")]
    assert model.get_layer("flat").output.shape == (None, 32_768)
    assert model.embedding_model().output_shape == (None, 4096)
    assert counts == [640, 36_928, 73_856, 147_584, 295_168, 590_080, 590_080, 1_180_160] + 5 * [2_359_808]
    assert sum(counts) == 14_713_536
    assert dense == [134_221_824, 16_781_312, 16_388]


def test_layers_of_the_quaternion_network():
    model = shapes_of(QVGG16, n_classes=4)
    convolutions = [layer for layer in model.layers if layer.name.startswith("conv")]
    counts = [layer.count_params() for layer in convolutions]
    dense = [model.get_layer(name) for name in ("dense", EMBEDDING, "classifier")]
    assert model.get_layer("flat").output.shape == (None, 2048)
    assert model.embedding_model().output_shape == (None, 4096)
    assert [layer.count_params() for layer in dense] == [2_101_248, 4_198_400, 16_388]
    assert counts == [640, 9280, 18_560, 36_992, 73_984, 147_712, 147_712, 295_424] + 5 * [590_336]
    assert sum(counts) == 3_681_984
    assert {type(layer) for layer in convolutions} == {QuaternionConv2D}
    assert [type(layer) for layer in dense] == [QuaternionDense, QuaternionDense, keras.layers.Dense]


@pytest.mark.parametrize(
    ("network", "rows", "columns"), [(VGG16, 512, 128), (QVGG16, 64, 64)], ids=["real", "quaternion"]
)
def test_maps_of_the_feature_layers(network, rows, columns):
    model = shapes_of(network, n_classes=4)
    shapes = [model.feature_map(number).shape for number in range(1, 14)]
    assert model.get_layer("pool_5").output.shape == (None, rows // 32, columns // 32, 512)
    sizes = [(1, 64)] * 2 + [(2, 128)] * 2 + [(4, 256)] * 3 + [(8, 512)] * 3 + [(16, 512)] * 3
    assert shapes == [(None, rows // factor, columns // factor, channels) for factor, channels in sizes]


def rh_emo_and_its_training_network():
    model = RHEmo(n_classes=5)
    return model, model.training_network()


def test_parts_of_rh_emo():
    model, network = shapes_of(rh_emo_and_its_training_network)
    counts = {layer.name: count(layer) for layer in network.layers}
    assert model.get_layer("encoder").output.shape == (None, 64, 64, 4)
    assert {name: output.shape for name, output in network.output.items()} == {
        "spectrogram": (None, 512, 128, 1),
        "reconstruction": (None, 512, 128, 1),
        "emotion": (None, 5),
        "valence": (None, 1),
        "arousal": (None, 1),
        "dominance": (None, 1),
    }
    assert count(network) == 134_283_658
    assert counts["encoder"] == 256
    assert sum(counts[name] for name in counts if name.startswith("decoder")) == 130
    for dimension in ("valence", "arousal", "dominance"):
        assert sum(counts[name] for name in counts if name.startswith(dimension)) == 33_566_721


def test_layers_of_the_encoder():
    encoder = shapes_of(QVGG16, n_classes=4).get_layer("encoder")
    counts = [count(stage) for stage in encoder.stages if stage.weights]
    shapes, shape = [], (None, 512, 128, 1)
    for stage in encoder.stages:
        shape = stage.compute_output_shape(shape)
        shapes += [shape[1:]] if "pool" in stage.name else []
    assert counts == [20, 4, 76, 8, 148]
    assert shapes == [(256, 64, 2), (128, 64, 4), (64, 64, 4)]


@pytest.mark.parametrize("network", [VGG16, QVGG16])
@pytest.mark.parametrize("width", [1 / 16, 3 / 16, 0.25, 1, 2])
def test_width_is_a_factor_of_all_channels(network, width):
    model = shapes_of(network, n_classes=4, width=width)
    channels = [model.feature_map(number).shape[-1] for number in (1, 3, 5, 8, 13)]
    units = [model.get_layer(name).output.shape[-1] for name in ("dense", EMBEDDING)]
    assert channels == [width * size for size in (64, 128, 256, 512, 512)]
    assert units == [4096 * width] * 2
    assert all(isinstance(size, int) and size % 4 == 0 for size in channels + units)


def test_width_that_breaks_quaternions_is_refused():
    with pytest.raises(ConfigError) as error:
        VGG16(n_classes=4, width=0.1)
    assert str(error.value) == (
        "width is 0.1; it must be a multiple of 1/16, such as 0.0625, 0.25 or 1.0, "
        "so that all numbers of channels are divisible by 4."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_channels": 4}, "n_channels is 4; the embedding takes 1, or set it to None."),
        (
            {"embedding": None},
            "n_channels is 1; without an embedding it must be a multiple of 4, the parts of quaternions.",
        ),
    ],
)
def test_channels_must_fit_the_embedding(arguments, message):
    with pytest.raises(ConfigError) as error:
        QVGG16(n_classes=4, **arguments)
    assert str(error.value) == message


def pictures(n_clips=2, n_frames=20, n_features=32, n_channels=1):
    shape = (n_clips, n_frames, n_features, n_channels)
    return np.abs(np.random.default_rng(0).normal(size=shape)).astype("float32")


def run(model, inputs):
    return keras.ops.convert_to_numpy(model(inputs, training=False))


def test_short_clips_are_followed_by_zeros():
    model = VGG16(n_classes=4, **TINY)
    clips = pictures()
    model.normalization.adapt(clips)
    padded = np.pad(clips, [(0, 0), (0, 44), (0, 0), (0, 0)])
    np.testing.assert_allclose(run(model, clips), run(model, padded), rtol=1e-5)
    normalised = (clips - clips.mean()) / clips.std()
    seen = run(keras.Model(model.input, model.get_layer("padding").output), clips)
    np.testing.assert_allclose(seen[:, :20], normalised, atol=1e-5)
    np.testing.assert_array_equal(seen[:, 20:], np.zeros((2, 44, 32, 1)))


def test_longer_clips_are_refused():
    model = VGG16(n_classes=4, **TINY)
    with pytest.raises(FeatureError, match="65 frames were given; the network takes 64 at most: cut recordings into"):
        model(pictures(n_frames=65))
    with pytest.raises(FeatureError, match=r"^vgg16 takes clips of at most 64 frames, the data has 65; cut"):
        check_features_shape(model, (65, 32, 1), "the data has")
    check_features_shape(model, (64, 32, 1), "the data has")
    with pytest.raises(ConfigError, match=r"^n_frames is 65; it must be at most n_frames_padded, 64\.$"):
        VGG16(n_classes=4, n_frames=65, **TINY)


@pytest.mark.parametrize("network", [VGG16, QVGG16])
def test_feature_map_is_behind_the_relu(network):
    options = {} if network is VGG16 else {"embedding": None, "n_channels": 4}
    model = network(n_classes=4, **TINY, **options)
    inputs = pictures(n_channels=4 if options else 1) - 0.5
    picture = run(keras.Model(model.input, model.get_layer("padding").output), inputs)
    layer = model.get_layer("conv_1")
    kernel = layer.real_kernel() if options else layer.kernel
    expected = keras.ops.relu(keras.ops.conv(picture, kernel, padding="same") + layer.bias)
    maps = run(keras.Model(model.input, model.feature_map(1)), inputs)
    np.testing.assert_allclose(maps, keras.ops.convert_to_numpy(expected), atol=1e-5)
    assert maps.min() == 0


@pytest.mark.parametrize("network", [VGG16, QVGG16])
def test_signal_survives_thirteen_convolutions(network):
    """By Glorot's criterion a quaternion network's deviation would shrink about a hundredfold."""
    keras.utils.set_random_seed(0)
    options = {} if network is VGG16 else {"embedding": None, "n_channels": 4}
    model = network(n_classes=4, **{**TINY, "width": 0.5}, **options)
    inputs = pictures(n_channels=4 if options else 1, n_frames=64)
    first, last = (np.std(run(keras.Model(model.input, model.feature_map(number)), inputs)) for number in (1, 13))
    assert 0.2 < last / first < 5
