"""Operations are counted as they are in the program: against counts made by hand."""

import itertools

import keras
import numpy as np
import pytest

import serzoo
from serzoo.errors import SerzooError
from serzoo.features.spec import MFCCSpec
from serzoo.profiling.hlo import Product, count_products
from serzoo.profiling.measuring import _TensorFlow
from serzoo.training.compiling import compile_network

LOOP = """
HloModule loop

%body (state: (s32[], s32[], f32[4,4])) -> (s32[], s32[], f32[4,4]) {
  %state = (s32[], s32[], f32[4,4]{1,0}) parameter(0)
  %turn = s32[] get-tuple-element((s32[], s32[], f32[4,4]{1,0}) %state), index=0
  %last = s32[] get-tuple-element((s32[], s32[], f32[4,4]{1,0}) %state), index=1
  %x = f32[4,4]{1,0} get-tuple-element((s32[], s32[], f32[4,4]{1,0}) %state), index=2
  %one = s32[] constant(1)
  %next = s32[] add(s32[] %turn, s32[] %one)
  %y = f32[4,4]{1,0} dot(f32[4,4]{1,0} %x, f32[4,4]{1,0} %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %new = (s32[], s32[], f32[4,4]{1,0}) tuple(s32[] %next, s32[] %last, f32[4,4]{1,0} %y)
}

%again (state: (s32[], s32[], f32[4,4])) -> pred[] {
  %state = (s32[], s32[], f32[4,4]{1,0}) parameter(0)
  %turn = s32[] get-tuple-element((s32[], s32[], f32[4,4]{1,0}) %state), index=0
  %last = s32[] get-tuple-element((s32[], s32[], f32[4,4]{1,0}) %state), index=1
  ROOT %less = pred[] compare(s32[] %turn, s32[] %last), direction=LT
}

ENTRY %main (x: f32[4,4]) -> f32[4,4] {
  %x = f32[4,4]{1,0} parameter(0)
  %unused = f32[4,4]{1,0} dot(f32[4,4]{1,0} %x, f32[4,4]{1,0} %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %first = s32[] constant(2)
  %last = s32[] LAST
  %start = (s32[], s32[], f32[4,4]{1,0}) tuple(s32[] %first, s32[] %last, f32[4,4]{1,0} %x)
  %end = (s32[], s32[], f32[4,4]{1,0}) while((s32[], s32[], f32[4,4]{1,0}) %start), condition=%again, body=%body
  ROOT %y = f32[4,4]{1,0} get-tuple-element((s32[], s32[], f32[4,4]{1,0}) %end), index=2
}
"""


def convolution(output: str, left: str, right: str, window: str) -> str:
    return (
        f"HloModule one\n\nENTRY main.1 {{\n  a = f32[{left}] parameter(0)\n  b = f32[{right}] parameter(1)\n"
        f"  ROOT c = f32[{output}] convolution(a, b), window={{{window}}}, dim_labels=b0f_0io->b0f\n}}\n"
    )


def forward_flops(model: keras.Model, inputs: np.ndarray) -> int:
    return count_products(_TensorFlow().forward_text(model, inputs)).flops


def test_a_loop_counts_as_often_as_it_turns_and_what_nobody_needs_not_at_all() -> None:
    count = count_products(LOOP.replace("LAST", "constant(9)"))
    assert count.products == {Product(1, 4, 4, 4, output_bytes=64): 7}
    assert (count.flops, count.output_bytes) == (7 * 128, 7 * 64)


def test_a_loop_that_the_data_end_is_refused() -> None:
    with pytest.raises(SerzooError, match="loop end turns as often as its data say"):
        count_products(LOOP.replace("LAST", "parameter(1)"))


def test_convolutions_count_their_window_and_no_zeros_between_values() -> None:
    plain = count_products(convolution("2,10,5", "2,12,3", "3,3,5", "size=3"))
    assert plain.flops == 2 * (2 * 10 * 5) * 3 * 3
    stretched = count_products(convolution("2,20,3", "2,10,5", "4,5,3", "size=4 pad=2_1 lhs_dilate=2"))
    assert stretched.flops == 2 * (2 * 20 * 3) * (4 // 2) * 5


def test_dense_layers_are_counted_exactly() -> None:
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    assert forward_flops(model, np.zeros((7, 8), np.float32)) == 2 * 7 * (8 * 5 + 5 * 3)


def test_lstms_are_counted_over_all_frames() -> None:
    model = keras.Sequential([keras.Input((11, 6)), keras.layers.LSTM(4)])
    assert forward_flops(model, np.zeros((2, 11, 6), np.float32)) == 2 * 2 * 11 * (6 * 16 + 4 * 16)


def test_jax_writes_loops_down_that_are_counted_too() -> None:
    jax = pytest.importorskip("jax")

    def turn(x: object, _: None) -> tuple[object, None]:
        return x @ x, None

    text = jax.jit(lambda x: jax.lax.scan(turn, x, None, length=5)[0]).lower(np.eye(3)).as_text("hlo")
    assert count_products(text).flops == 5 * 2 * 3**3


def test_timnet_costs_what_its_convolutions_do() -> None:
    n_frames, width, blocks = 64, 13, 2
    spec = MFCCSpec(n_samples=512 * (n_frames - 1), n_mfcc=width)
    model = serzoo.build("timnet", 4, feature_spec=spec, n_blocks=blocks, filters=width)
    entries, taps = 2, 2 * (2 * 2 * blocks)  # two directions; two convolutions of two taps in each block
    by_hand = 2 * 2 * (n_frames * width * width * (entries + taps) + 4 * width)
    forward = forward_flops(model, np.zeros((2, n_frames, width), np.float32))
    assert by_hand <= forward < 1.1 * by_hand, "TensorFlow pads clips to multiples of the dilation"


def test_a_training_step_costs_the_gradients_of_weights_and_inputs_too() -> None:
    model = serzoo.build("embedding_dnn", 4, n_features=16)
    compile_network(model, model, serzoo.TrainingConfig(jit_compile=False))
    widths = (16, 8, 4, 2, 4)
    layers = [2 * 3 * before * after for before, after in itertools.pairwise(widths)]
    targets = np.eye(4, dtype=np.float32)[:3]
    step = count_products(_TensorFlow().step_text(model, np.zeros((3, 1, 16), np.float32), targets))
    assert step.flops == 3 * sum(layers) - layers[0], "nobody asks for the gradient of the features"
