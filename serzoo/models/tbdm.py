"""TBDM-Net: temporally-aware bi-directional dense multi-scale network (Striletchi et al., 2024)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras

from serzoo.checks import one_of
from serzoo.features.spec import FeatureSpec
from serzoo.layers.fusion import fuse_scales
from serzoo.layers.temporal import DROPOUT_AXES, FRAMES, TemporalAwareBlock, sum_directions
from serzoo.models.base import EMBEDDING, PYTORCH_NORM, DilatedNetwork, classifier_layer, with_gender_columns

PYTORCH_UNIFORM = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"},
}
"""PyTorch's default for kernels, U(-b, b) with b = 1 / sqrt(fan_in); as data, so that each layer makes its own seed."""


@keras.saving.register_keras_serializable("serzoo")
class TBDMNet(DilatedNetwork):
    """Two densely connected stacks of temporal-aware blocks, over the frames and over the frames reversed.

    A block's output is concatenated with its input, so the channels double with every block. The sum of
    both directions' outputs is one time scale per block: a 1x1 convolution brings it to ``filters``
    channels, and the mean over time follows. The scales are fused by learned weights and classified.

    Takes MFCC frames without normalisation, (batch, n_frames, n_features), and returns class
    probabilities, (batch, n_classes). Padding counts as frames, in the mean and in the reversal.
    The T x T linear layers that the published program declares but does not use are left out.

    Args, besides those of :class:`serzoo.models.timnet.TIMNet` (without ``block``):
        n_features: values per frame; the channels of every block are a multiple of n_features + gender_columns.
        filters: channels of every scale.
        dropout: share of frames or channels zeroed in training, in [0, 1).
        dropout_axis: ``"frames"`` (as the published program does) or ``"channels"``.
        activation: ``"gelu"`` (exact, erf) or ``"relu"``, in the blocks.

    Source: Striletchi, Striletchi and Stan, "TBDM-Net: Bidirectional Dense Networks with Gender Information
    for Speech Emotion Recognition", 2024; where the paper is silent, the published program.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        n_features: int = 39,
        n_frames: int | None = None,
        n_blocks: int = 6,
        filters: int = 39,
        kernel_size: int = 2,
        dropout: float = 0.1,
        dropout_axis: str = FRAMES,
        activation: str = "gelu",
        backward: bool = True,
        multi_scale: bool = True,
        dynamic_fusion: bool = True,
        gender_columns: int = 0,
        classifier_activation: str | None = "softmax",
        class_names: Sequence[str] | None = None,
        feature_spec: FeatureSpec | Mapping[str, object] | None = None,
        name: str = "tbdm",
    ) -> None:
        self.check_arguments(dropout_axis=one_of(DROPOUT_AXES))

        make_block = partial(
            TemporalAwareBlock,
            kernel_size=kernel_size,
            padding="same",
            use_bias=False,
            activation=activation,
            dropout=dropout,
            dropout_axis=dropout_axis,
            kernel_initializer=PYTORCH_UNIFORM,
            **PYTORCH_NORM,
        )
        features = keras.Input((n_frames, n_features), name="features")
        inputs, frames = with_gender_columns(features, features, gender_columns)
        stack = partial(_dense_stack, n_blocks=n_blocks, make_block=make_block)
        states = sum_directions(frames, stack, backward)
        numbered = list(enumerate(states, 1)) if multi_scale else [(n_blocks, states[-1])]
        scales = [_scale(state, filters, f"reduction_{number}") for number, state in numbered]
        learned = keras.initializers.RandomUniform(0.0, 1.0) if multi_scale and dynamic_fusion else None
        embedding = fuse_scales(scales, initializer=learned, name=EMBEDDING)
        outputs = classifier_layer(n_classes, classifier_activation, kernel_initializer=PYTORCH_UNIFORM)(embedding)
        super().__init__(inputs, outputs, class_names=class_names, feature_spec=feature_spec, name=name)


def _dense_stack(
    frames: Any, direction: str, n_blocks: int, make_block: Callable[..., keras.layers.Layer]
) -> list[Any]:
    """Return one direction's states, the j-th (batch, time, n_features * 2^j)."""
    state, states = frames, []
    for number in range(1, n_blocks + 1):
        block = make_block(dilation_rate=2 ** (number - 1), name=f"{direction}_block_{number}")
        state = keras.ops.concatenate([block(state), state], axis=-1)
        states.append(state)
    return states


def _scale(state: Any, filters: int, name: str) -> Any:
    """Reduce a state to ``filters`` channels and return the mean over time, (batch, filters)."""
    reduce = keras.layers.Conv1D(filters, 1, use_bias=False, kernel_initializer=PYTORCH_UNIFORM, name=f"{name}_conv")
    normalize = keras.layers.BatchNormalization(**PYTORCH_NORM, name=f"{name}_norm")
    return keras.ops.mean(keras.ops.relu(normalize(reduce(state))), axis=1)
