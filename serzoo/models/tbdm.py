"""TBDM-Net: temporally-aware bi-directional dense multi-scale network (Striletchi et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from serzoo.features.spec import MFCCSpec
from serzoo.layers.fusion import DynamicFusion
from serzoo.layers.temporal import DROPOUT_AXES, FRAMES, TemporalAwareBlock
from serzoo.models.base import EMBEDDING, SERModel, check_choice, check_count, check_flag, check_fraction

NORMALIZATION = {"momentum": 0.9, "epsilon": 1e-5}
"""Of every batch normalisation: PyTorch's defaults in Keras terms."""


def pytorch_uniform() -> keras.initializers.Initializer:
    """Return PyTorch's default for the kernels of convolutions and dense layers: U(-b, b), b = 1 / sqrt(fan_in)."""
    return keras.initializers.VarianceScaling(scale=1 / 3, mode="fan_in", distribution="uniform")


@keras.saving.register_keras_serializable("serzoo")
class TBDMNet(SERModel):
    """Two densely connected stacks of temporal-aware blocks, over the frames and over the frames reversed.

    A block's output is joined to its input, so that the channels double with every block. The sum
    of both directions' outputs gives one scale each: a 1x1 convolution brings it to ``filters``
    channels, then the mean over time is taken. The scales are fused by learned weights and classified.

    Takes MFCC frames as they are, not normalised, (batch, n_frames, n_features), and returns
    class probabilities, (batch, n_classes). Padding counts as frames, in the mean and in the reversal.
    The T x T linear layers that the published program declares and never uses are left out.

    Args:
        n_classes: outputs, at least 2.
        n_features: values per frame, more than the coefficients where gender columns are appended.
        n_frames: frames per clip; None takes any number.
        n_blocks: blocks per direction; block j has dilation rate 2^(j-1).
        filters: channels of every scale.
        kernel_size: taps of the dilated convolutions.
        dropout: share of frames or channels zeroed in training, in [0, 1).
        dropout_axis: ``"frames"`` (as the published program does) or ``"channels"``.
        activation: ``"gelu"`` (exact, erf) or ``"relu"``, in the blocks.
        backward: False leaves out the reversed direction.
        multi_scale: False keeps only the last scale, which then needs no fusion.
        dynamic_fusion: False averages the scales.
        classifier_activation: ``"softmax"``, or None for logits.
        class_names: names of the outputs in order.
        feature_spec: the features the model takes.
        name: Keras name of the model.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the class names do not fit ``n_classes``.

    Source: Striletchi, Striletchi and Stan, "TBDM-Net: Bidirectional Dense Networks with Gender Information
    for Speech Emotion Recognition", 2024; what the published program computes where the paper is silent.
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
        classifier_activation: str | None = "softmax",
        class_names: Sequence[str] | None = None,
        feature_spec: MFCCSpec | Mapping[str, object] | None = None,
        name: str = "tbdm",
    ) -> None:
        check_count("n_classes", n_classes, minimum=2)
        if n_frames is not None:
            check_count("n_frames", n_frames)
        check_count("n_features", n_features)
        check_count("n_blocks", n_blocks)
        check_count("filters", filters)
        check_count("kernel_size", kernel_size)
        check_fraction("dropout", dropout)
        check_flag("backward", backward)
        check_flag("multi_scale", multi_scale)
        check_flag("dynamic_fusion", dynamic_fusion)
        check_choice("dropout_axis", dropout_axis, DROPOUT_AXES)
        check_choice("activation", activation, ("gelu", "relu"))
        check_choice("classifier_activation", classifier_activation, ("softmax", None))

        def direction(frames: Any, prefix: str) -> dict[int, Any]:
            """Return one direction's states by block number j, each (batch, time, n_features * 2^j)."""
            states = {0: frames}
            for number in range(1, n_blocks + 1):
                block = TemporalAwareBlock(
                    kernel_size=kernel_size,
                    dilation_rate=2 ** (number - 1),
                    padding="same",
                    use_bias=False,
                    activation=activation,
                    dropout=dropout,
                    dropout_axis=dropout_axis,
                    kernel_initializer=pytorch_uniform(),
                    name=f"{prefix}_block_{number}",
                    **NORMALIZATION,
                )
                previous = states[number - 1]
                states[number] = keras.ops.concatenate([block(previous), previous], axis=-1)
            return states

        def pool(state: Any, number: int) -> Any:
            """Return the scale that the directions' summed state ``number`` gives, (batch, filters)."""
            reduce = keras.layers.Conv1D(
                filters, 1, use_bias=False, kernel_initializer=pytorch_uniform(), name=f"reduction_{number}_conv"
            )
            normalize = keras.layers.BatchNormalization(name=f"reduction_{number}_norm", **NORMALIZATION)
            return keras.ops.mean(keras.ops.relu(normalize(reduce(state))), axis=1)

        inputs = keras.Input((n_frames, n_features), name="features")
        states = direction(inputs, "forward")
        if backward:
            reversed_states = direction(keras.ops.flip(inputs, axis=1), "backward")
            # The reversed states are not turned back: the mean over time does not see their order.
            ...
        raise NotImplementedError
