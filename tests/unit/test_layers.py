"""The layers against their equations, and what each frame of the input can reach."""

import keras
import numpy as np
import pytest
from scipy.special import erf, expit

from serzoo.errors import ConfigError
from serzoo.layers.fusion import DynamicFusion, fuse_scales
from serzoo.layers.gender import GenderColumns, GenderEmbedding
from serzoo.layers.temporal import DilatedConvBlock, TemporalAwareBlock
from serzoo.models import MODELS

pytestmark = pytest.mark.jax

N_FRAMES, N_CHANNELS = 24, 3


def block_with_random_weights(block=TemporalAwareBlock, *, seed=0, **arguments):
    layer = block(**arguments)
    layer.build((None, None, N_CHANNELS))
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        # Positive throughout, so that moving variances are valid and no ReLU is dead for all frames.
        weight.assign(rng.uniform(0.2, 1.2, weight.shape))
    return layer


def run(layer, inputs, training=False):
    return keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(inputs), training=training))


def frames(n_clips=2, n_frames=N_FRAMES, seed=1):
    return np.random.default_rng(seed).normal(size=(n_clips, n_frames, N_CHANNELS)).astype("float32")


def changed_frames(layer, position, n_frames=N_FRAMES):
    """Return the output frames that change with the input frame at ``position``."""
    inputs = frames(1, n_frames)
    changed = inputs.copy()
    changed[0, position] += 1.0
    difference = np.abs(run(layer, inputs) - run(layer, changed))[0].max(axis=-1)
    return set(np.flatnonzero(difference > 0).tolist())


def sub_block(inputs, layer, part, activation):
    """NumPy version of one sub-block in inference, for a kernel of two taps."""
    conv, norm = (getattr(layer, f"{kind}_{part}") for kind in ("conv", "norm"))
    dilation = conv.dilation_rate[0]
    before = dilation if conv.padding == "causal" else dilation // 2
    padded = np.pad(inputs, ((0, 0), (before, dilation - before), (0, 0)))
    kernel = conv.kernel.numpy()
    n_frames = inputs.shape[1]
    hidden = padded[:, :n_frames] @ kernel[0] + padded[:, dilation : dilation + n_frames] @ kernel[1]
    if conv.use_bias:
        hidden = hidden + conv.bias.numpy()
    gamma, beta, mean, variance = (weight.numpy() for weight in norm.weights)
    return activation(gamma * (hidden - mean) / np.sqrt(variance + norm.epsilon) + beta)


@pytest.mark.parametrize("dilation_rate", [1, 2, 4])
@pytest.mark.parametrize(
    ("arguments", "activation"),
    [
        ({"padding": "causal"}, lambda x: np.maximum(x, 0)),
        (
            {"padding": "same", "use_bias": False, "activation": "gelu", "epsilon": 1e-5},
            lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
        ),
    ],
    ids=["timnet", "tbdm"],
)
def test_block_computes_its_equation(arguments, activation, dilation_rate):
    layer = block_with_random_weights(dilation_rate=dilation_rate, **arguments)
    inputs = frames()
    attention = sub_block(sub_block(inputs, layer, 1, activation), layer, 2, activation)
    np.testing.assert_allclose(run(layer, inputs), inputs * expit(attention), rtol=1e-5, atol=1e-6)


def test_plain_block_is_the_block_without_its_gate():
    gated, plain = (block_with_random_weights(block) for block in (TemporalAwareBlock, DilatedConvBlock))
    inputs = frames()
    np.testing.assert_allclose(run(gated, inputs), inputs * expit(run(plain, inputs)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dilation_rate", [1, 2, 4])
def test_causal_block_reaches_only_the_taps_at_and_after_a_frame(dilation_rate):
    layer = block_with_random_weights(activation="gelu", dilation_rate=dilation_rate)
    assert changed_frames(layer, 10) == {10, 10 + dilation_rate, 10 + 2 * dilation_rate}


@pytest.mark.parametrize(
    ("dilation_rate", "reached"), [(1, {8, 9, 10}), (2, {8, 10, 12}), (4, {6, 10, 14}), (6, {4, 10, 16})]
)
def test_same_padding_takes_half_of_the_zeros_before_rounded_down(dilation_rate, reached):
    layer = block_with_random_weights(activation="gelu", dilation_rate=dilation_rate, padding="same")
    assert changed_frames(layer, 10) == reached


def test_receptive_field_of_a_causal_stack_doubles_with_every_block():
    n_blocks = 4
    stack = keras.Sequential(
        [block_with_random_weights(activation="gelu", dilation_rate=2**index) for index in range(n_blocks)]
    )
    reached = changed_frames(stack, 5, n_frames=50)
    assert reached == set(range(5, 5 + 1 + 2 * (2**n_blocks - 1)))


@pytest.mark.parametrize("dropout_axis", ["frames", "channels"])
def test_dropout_zeroes_whole_frames_or_whole_channels(dropout_axis):
    keras.utils.set_random_seed(3)
    layer = DilatedConvBlock(dropout=0.25, dropout_axis=dropout_axis)
    kept = run(layer.dropout, np.ones((200, 40, 30), "float32"), training=True)
    across = {"frames": 2, "channels": 1}[dropout_axis]
    assert np.ptp(kept, axis=across).max() == 0
    np.testing.assert_allclose(np.unique(kept), [0, 1 / 0.75], rtol=1e-6)
    assert np.mean(kept == 0) == pytest.approx(0.25, abs=0.03)


def test_dropout_is_off_in_inference():
    layer = block_with_random_weights(dropout=0.9)
    np.testing.assert_array_equal(run(layer, frames()), run(layer, frames()))


def test_moving_statistics_keep_their_momentum():
    layer = TemporalAwareBlock(momentum=0.9, dropout=0.0)
    inputs = frames()
    run(layer, inputs, training=True)
    convolved = run(layer.conv_1, inputs)
    statistics = [weight.numpy() for weight in layer.norm_1.weights[2:]]
    np.testing.assert_allclose(statistics[0], 0.1 * convolved.mean(axis=(0, 1)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics[1], 0.9 + 0.1 * convolved.var(axis=(0, 1)), rtol=1e-4)


@pytest.mark.parametrize("initializer", ["glorot_uniform", keras.initializers.HeNormal()], ids=["name", "instance"])
def test_kernels_of_a_block_start_different(initializer):
    layer = TemporalAwareBlock(kernel_initializer=initializer)
    layer.build((None, None, N_CHANNELS))
    kernels = [conv.kernel.numpy() for conv in (layer.conv_1, layer.conv_2)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.05


def test_dynamic_fusion_is_a_weighted_sum():
    layer = DynamicFusion(initializer="ones")
    layer.build((None, 3, 2))
    layer.kernel.assign([[1.0], [-2.0], [0.5]])
    scales = np.array([[[1, 2], [3, 4], [10, 20]]], "float32")
    np.testing.assert_allclose(run(layer, scales), [[1 - 6 + 5, 2 - 8 + 10]])


def test_scales_are_averaged_without_learned_weights():
    inputs = [keras.Input((2,)) for _ in range(3)]
    model = keras.Model(inputs, fuse_scales(inputs, initializer=None, name="mean"))
    scales = [np.array([row], "float32") for row in ([1, 2], [3, 4], [11, 0])]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(scales)), [[5, 2]], rtol=1e-6)
    assert not model.weights


def test_gender_embedding_at_its_ends_is_the_embedding_of_keras():
    ours, keras_layer = GenderEmbedding(width=5), keras.layers.Embedding(2, 5)
    ours.build((None, 1))
    keras_layer.build((None, 1))
    keras_layer.set_weights(ours.get_weights())
    genders = np.array([[0], [1], [1]])
    embedded = run(ours, genders.astype("float32"))
    assert embedded.shape == (3, 1, 5)
    np.testing.assert_array_equal(embedded, keras.ops.convert_to_numpy(keras_layer(genders)))
    ours.set_weights(keras_layer.get_weights())


def test_gender_embedding_is_linear_in_the_probability():
    layer = GenderEmbedding(width=2)
    layer.build((None, 1))
    layer.embeddings.assign([[1.0, -2.0], [5.0, 6.0]])
    np.testing.assert_allclose(run(layer, np.array([[0.25], [0.5]], "float32"))[:, 0], [[2, 0], [3, 2]], rtol=1e-6)


def test_gender_embedding_starts_as_that_of_keras():
    layer = GenderEmbedding(width=20_000)
    layer.build((None, 1))
    vectors = layer.embeddings.numpy()
    assert vectors.shape == (2, 20_000)
    assert np.abs(vectors).max() == pytest.approx(0.05, rel=0.01)
    assert vectors.std() == pytest.approx(0.1 / np.sqrt(12), rel=0.02)


@pytest.mark.parametrize(("columns", "expected"), [(1, [[0.25], [1.0]]), (2, [[0.75, 0.25], [0.0, 1.0]])])
def test_gender_columns_are_appended_to_every_frame(columns, expected):
    frames, male = keras.Input((None, 3)), keras.Input((1,))
    outputs = GenderColumns(columns=columns)(frames, male)
    assert outputs.shape == (None, None, 3 + columns)
    values = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    appended = keras.Model([frames, male], outputs)([values, np.array([[0.25], [1.0]], "float32")])
    appended = keras.ops.convert_to_numpy(appended)
    np.testing.assert_array_equal(appended[..., :3], values)
    np.testing.assert_allclose(appended[..., 3:], np.repeat(np.array(expected)[:, None], 5, axis=1))


@pytest.mark.parametrize("name", ["timnet", "tbdm", "embedding_dnn"])
@pytest.mark.parametrize("columns", [3, -1, "2", None])
def test_other_numbers_of_gender_columns_are_refused(name, columns):
    with pytest.raises(ConfigError, match=r"^gender_columns is .*; it must be one of 0, 1, 2"):
        MODELS.get(name).load()(n_classes=2, gender_columns=columns)


@pytest.mark.parametrize(
    "layer",
    [
        DilatedConvBlock(kernel_size=3, dilation_rate=4, padding="same", use_bias=False, name="plain"),
        TemporalAwareBlock(activation="gelu", dropout=0.3, dropout_axis="frames", momentum=0.9, epsilon=1e-5),
        DynamicFusion(initializer="ones", name="fusion"),
        GenderEmbedding(width=7, name="gender"),
        GenderColumns(columns=2, name="columns"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_are_rebuilt_from_their_config(layer):
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
