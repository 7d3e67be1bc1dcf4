"""The compiled way of training the dilated blocks, against the stock layers they are made of."""

import keras
import numpy as np
import pytest

from serzoo.errors import ConfigError
from serzoo.layers import temporal
from serzoo.layers.temporal import DilatedConvBlock, TemporalAwareBlock, blocks_among
from serzoo.models.dense_tcn import DenseTCN
from serzoo.models.timnet import TIMNet
from serzoo.settings import TrainingConfig
from serzoo.training.compiling import ModelPool, compile_network

pytestmark = pytest.mark.jax

N_FRAMES, N_CHANNELS = 13, 3

BLOCKS = [
    (TemporalAwareBlock, {"dilation_rate": 1}),
    (TemporalAwareBlock, {"dilation_rate": 2, "padding": "same", "use_bias": False, "activation": "gelu"}),
    (TemporalAwareBlock, {"dilation_rate": 3, "dropout": 0.4, "dropout_axis": "frames"}),
    (TemporalAwareBlock, {"dilation_rate": 5, "padding": "same", "dropout": 0.4, "dropout_axis": "channels"}),
    (TemporalAwareBlock, {"dilation_rate": 20}),
    (TemporalAwareBlock, {"dilation_rate": 20, "padding": "same"}),
    (DilatedConvBlock, {"dilation_rate": 2, "kernel_size": 1}),
    (DilatedConvBlock, {"dilation_rate": 2, "kernel_size": 3, "padding": "same", "dropout": 0.0}),
]


def train(block, arguments, compiled, n_steps=2, product_dtype=None):
    """Return the losses, weights and moving statistics after steps of plain descent, and its gradients with them."""
    keras.utils.set_random_seed(5)
    layer = block(**arguments)
    inputs = keras.Input((None, N_CHANNELS))
    model = keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)))
    layer.compiled, layer.product_dtype = compiled, product_dtype
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    rng = np.random.default_rng(0)
    features = rng.normal(2.0, 1.0, (4, N_FRAMES, N_CHANNELS)).astype("float32")
    targets = rng.normal(size=(4, N_FRAMES, 2)).astype("float32")
    losses = [model.train_on_batch(features, targets) for _ in range(n_steps)]
    return [np.asarray(losses), *model.get_weights()]


@pytest.mark.slow
@pytest.mark.parametrize("pairs_from", [1, 10**9], ids=["pairs", "frames"])
@pytest.mark.parametrize(("block", "arguments"), BLOCKS)
def test_compiled_training_is_that_of_the_stock_layers(monkeypatch, block, arguments, pairs_from):
    monkeypatch.setattr(temporal, "PAIRS_FROM_CHANNELS", pairs_from)
    expected, found = (train(block, arguments, compiled) for compiled in (False, True))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=2e-5, atol=2e-6)


def test_statistics_are_exact_far_from_zero():
    """The variance of values a thousand deviations from 0 would drown in the difference of two large squares."""
    norm = keras.layers.BatchNormalization(momentum=0.0)
    norm.build((None, None, 2))
    values = np.random.default_rng(0).normal(1000.0, 1.0, (2, 50, 8)).astype("float32")
    temporal.normalize_batch(keras.ops.convert_to_tensor(values), norm, bias=None)
    np.testing.assert_allclose(norm.moving_variance.numpy(), values.astype("float64").var(axis=(1, 2)), rtol=1e-4)


def test_frozen_block_keeps_its_statistics():
    layer = TemporalAwareBlock(dropout=0.0)
    layer.build((None, None, N_CHANNELS))
    layer.compiled, layer.trainable = True, False
    frames = np.random.default_rng(0).normal(size=(2, N_FRAMES, N_CHANNELS)).astype("float32")
    np.testing.assert_array_equal(layer(frames, training=True), layer(frames, training=False))
    np.testing.assert_array_equal(layer.norm_1.moving_mean.numpy(), 0.0)


def test_timnet_sets_whether_its_blocks_are_compiled():
    model = TIMNet(n_classes=2, n_features=3, n_blocks=1)
    blocks = [model.get_layer(name) for name in model.feature_layers]
    for jit_compile in (True, False):
        model.compile("sgd", "categorical_crossentropy", jit_compile=jit_compile)
        model.make_train_function()
        assert {block.compiled for block in blocks} == {jit_compile}


def test_only_blocks_have_training_options():
    block = TemporalAwareBlock()
    assert blocks_among([keras.layers.ReLU(), block]) == [block]


@pytest.mark.parametrize("padding", ["causal", "same"])
def test_products_of_bfloat16_are_those_of_rounded_factors(padding):
    rng = np.random.default_rng(1)
    inputs, kernel = (rng.normal(size=shape).astype("float32") for shape in ((5, 9, 4), (2, 5, 6)))
    found = temporal.dilated_convolution(inputs, kernel, 3, padding, "bfloat16")
    rounded = [keras.ops.cast(keras.ops.cast(values, "bfloat16"), "float32") for values in (inputs, kernel)]
    expected = np.asarray(temporal.dilated_convolution(*rounded, 3, padding))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(found, expected, rtol=2**-7, atol=1e-6)  # the sum is rounded once more; AVX2 cuts it off
    assert not np.array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("block", "arguments"), BLOCKS)
def test_training_in_bfloat16_goes_where_float32_does(block, arguments):
    exact, rounded = (train(block, arguments, True, product_dtype=dtype) for dtype in (None, "bfloat16"))
    for one, other in zip(exact, rounded, strict=True):
        np.testing.assert_allclose(other, one, rtol=0.05, atol=0.02)
    assert any(not np.array_equal(one, other) for one, other in zip(exact, rounded, strict=True))


def test_bfloat16_needs_no_xla():
    plain, turned = (train(*BLOCKS[1], compiled, product_dtype="bfloat16") for compiled in (False, True))
    for one, other in zip(plain, turned, strict=True):
        np.testing.assert_array_equal(other, one)


def test_bfloat16_makes_no_differences_of_frames(monkeypatch):
    """Little of a rounded value would be left in them, so wide layers are computed as narrow ones are."""
    frames, kernel = np.ones((3, 8, 2), np.float32), np.ones((2, 3, 4), np.float32)
    monkeypatch.setattr(temporal, "PAIRS_FROM_CHANNELS", 1)
    monkeypatch.setattr(temporal, "_pairs_of_frames", lambda *_: pytest.fail("differences of frames"))
    temporal.dilated_convolution(frames, kernel, 1, "causal", "bfloat16")
    with pytest.raises(pytest.fail.Exception, match="differences of frames"):
        temporal.dilated_convolution(frames, kernel, 1, "causal")


def test_precision_is_set_in_blocks_and_refused_without_any():
    model = TIMNet(n_classes=2, n_features=3, n_blocks=1)
    blocks = blocks_among(model.layers)
    for precision, dtype in (("bfloat16", "bfloat16"), ("float32", None)):
        compile_network(model, model, TrainingConfig(precision=precision))
        assert [block.product_dtype for block in blocks] == [dtype] * 2
    other = DenseTCN(n_classes=2, n_features=8, n_blocks=1)
    compile_network(other, other, TrainingConfig())
    with pytest.raises(ConfigError, match=r"precision is bfloat16, but dense_tcn has no dilated blocks.*leave it out"):
        compile_network(other, other, TrainingConfig(precision="bfloat16"))


def test_workbench_compiles_anew_for_another_precision():
    bench, model = ModelPool(), TIMNet(n_classes=2, n_features=3, n_blocks=1)
    lent = [
        bench.compiled(model, TrainingConfig(precision=precision)) for precision in ("float32", "bfloat16", "bfloat16")
    ]
    assert lent[0] is not lent[1]
    assert lent[1] is lent[2]
