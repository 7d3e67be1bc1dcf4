"""The compiled way of training the dilated blocks, against the stock layers they are made of."""

import keras
import numpy as np
import pytest

from serzoo.layers import temporal
from serzoo.layers.temporal import DilatedConvBlock, TemporalAwareBlock, set_compiled
from serzoo.models.timnet import TIMNet

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


def train(block, arguments, compiled, n_steps=2):
    """Return the losses, weights and moving statistics after steps of plain descent, and its gradients with them."""
    keras.utils.set_random_seed(5)
    layer = block(**arguments)
    inputs = keras.Input((None, N_CHANNELS))
    model = keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)))
    layer.compiled = compiled
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    rng = np.random.default_rng(0)
    features = rng.normal(2.0, 1.0, (4, N_FRAMES, N_CHANNELS)).astype("float32")
    targets = rng.normal(size=(4, N_FRAMES, 2)).astype("float32")
    losses = [model.train_on_batch(features, targets) for _ in range(n_steps)]
    return [np.asarray(losses), *model.get_weights()]


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


def test_timnet_tells_its_blocks_whether_it_is_compiled():
    model = TIMNet(n_classes=2, n_features=3, n_blocks=1)
    blocks = [model.get_layer(name) for name in model.feature_layers]
    for jit_compile in (True, False):
        model.compile("sgd", "categorical_crossentropy", jit_compile=jit_compile)
        model.make_train_function()
        assert {block.compiled for block in blocks} == {jit_compile}


def test_other_layers_are_not_told():
    layer = keras.layers.ReLU()
    set_compiled([layer], True)
    assert not hasattr(layer, "compiled")
