"""Counted operations equal those worked out by hand from the layers' sizes."""

import itertools

import keras
import pytest
from keras import layers

import serzoo
from serzoo.features.spec import MFCCSpec
from serzoo.layers.attention import DotProductAttention, SelfAttention
from serzoo.layers.hypercomplex import PHMDense
from serzoo.layers.quaternion import QuaternionConv2D, QuaternionConv2DTranspose
from serzoo.profiling.benchmark import class_names_of, first_recipe
from serzoo.profiling.operations import count_operations


def network(shape: tuple[int | None, ...], *stack: keras.layers.Layer) -> keras.Model:
    inputs = hidden = keras.Input(shape)
    for layer in stack:
        hidden = layer(hidden)
    return keras.Model(inputs, hidden)


def test_dense_layers_multiply_once_per_weight_and_row() -> None:
    model = network((8,), layers.Dense(5, activation="relu"), layers.Dense(3))
    assert count_operations(model, 7).flops == 2 * 7 * (8 * 5 + 5 * 3)
    assert count_operations(network((11, 8), layers.Dense(5)), 7).flops == 2 * 7 * 11 * 8 * 5


@pytest.mark.parametrize(
    ("layer", "positions"),
    [
        (layers.Conv2D(5, (3, 2), padding="same"), 10 * 6),
        (layers.Conv2D(5, (3, 2)), 8 * 5),
        (layers.Conv2D(5, (3, 2), strides=2, padding="same"), 5 * 3),
    ],
)
def test_convolutions_multiply_the_window_at_each_output(layer: keras.layers.Layer, positions: int) -> None:
    count = count_operations(network((None, 6, 4), layer), 2, n_frames=10)
    assert count.products == {(1, 2 * positions, 3 * 2 * 4, 5): 1}
    assert count.flops == 2 * (2 * positions * 5) * (3 * 2 * 4)
    assert count.output_bytes == 4 * 2 * positions * 5


def test_lstms_multiply_both_kernels_in_every_frame() -> None:
    assert count_operations(network((11, 6), layers.LSTM(4)), 2).flops == 2 * 2 * 11 * (6 * 16 + 4 * 16)
    both = network((None, 6), layers.Bidirectional(layers.LSTM(4)))
    assert count_operations(both, 2, n_frames=11).flops == 2 * 2 * 2 * 11 * (6 * 16 + 4 * 16)


def test_attention_multiplies_all_pairs_of_frames() -> None:
    batch, frames, channels = 2, 9, 6
    projections = 3 * batch * frames * channels * channels
    pairs = 2 * batch * frames * frames * channels
    model = network((frames, channels), DotProductAttention())
    assert count_operations(model, batch).flops == 2 * (projections + pairs)


def test_windowed_attention_multiplies_the_frames_that_a_block_sees() -> None:
    batch, frames, channels, units, width = 2, 12, 6, 5, 4
    projections = 2 * batch * frames * channels * units
    seen = batch * frames * (2 * width - 1)
    model = network((frames, channels), SelfAttention(units=units, width=width))
    assert count_operations(model, batch).flops == 2 * (projections + seen * units + seen * channels)


def test_hypercomplex_layers_multiply_by_their_real_kernel() -> None:
    assert count_operations(network((8,), PHMDense(6, n=2)), 3).flops == 2 * 3 * 8 * 6
    grown = QuaternionConv2DTranspose(4, 3, strides=2, padding="same")
    model = network((10, 6, 8), QuaternionConv2D(8, 3, padding="same"), grown)
    assert count_operations(model).flops == 2 * 60 * 9 * (8 * 8 + 8 * 4)


@pytest.mark.parametrize("n_frames", [64, 215])
def test_timnet_multiplies_as_its_convolutions_do(n_frames: int) -> None:
    width, blocks = 13, 2
    spec = MFCCSpec(n_samples=512 * (n_frames - 1), n_mfcc=width)
    model = serzoo.build("timnet", 4, feature_spec=spec, n_blocks=blocks, filters=width)
    entries, taps = 2, 2 * (2 * 2 * blocks)  # two directions; two convolutions of two taps in each block
    count = count_operations(model, 2, n_frames)
    assert count.flops == 2 * 2 * (n_frames * width * width * (entries + taps) + 4 * width)


def test_a_training_step_adds_the_gradients_of_weights_and_of_layer_inputs() -> None:
    model = serzoo.build("embedding_dnn", 4, n_features=16)
    widths = (16, 8, 4, 2, 4)
    sizes = [2 * 3 * before * after for before, after in itertools.pairwise(widths)]
    assert count_operations(model, 3, 1).step_flops == 3 * sum(sizes) - sizes[0], "features need no gradient"


def test_frozen_layers_cost_no_weight_gradients() -> None:
    first, second = layers.Dense(5), layers.Dense(3)
    model = network((8,), first, second)
    first.trainable = False
    assert count_operations(model).step_flops == 2 * (8 * 5) + 2 * 2 * (5 * 3)


def test_recurrent_layers_propagate_gradients_through_their_state() -> None:
    lstm = 2 * 2 * 11
    model = network((11, 6), layers.LSTM(4))
    assert count_operations(model, 2).step_flops == lstm * (2 * 6 * 16 + 3 * 4 * 16)


def test_the_largest_products_come_first_and_small_ones_are_left_out() -> None:
    count = count_operations(network((8,), layers.Dense(90), layers.Dense(300), layers.Dense(2)), 7)
    assert count.largest(1) == [(1, 7, 90, 300)]
    assert count.largest(3) == [(1, 7, 90, 300)]


@pytest.mark.parametrize(
    ("name", "n_frames", "forward", "step"),
    [("acrnn", 300, 28_142_721_456, 84_289_923_168), ("rh_emo", 501, 74_252_288, 220_397_568)],
)
def test_whole_models_cost_the_products_of_their_xla_program(name: str, n_frames: int, forward: int, step: int) -> None:
    """The numbers were counted in the program that XLA compiles; a layer that is missed would show here."""
    recipe = first_recipe(name)
    model = serzoo.build(
        name, class_names=class_names_of(recipe), feature_spec=recipe.features, **recipe.model.arguments
    )
    count = count_operations(model, 1, n_frames)
    assert (count.flops, count.step_flops) == (forward, step)
