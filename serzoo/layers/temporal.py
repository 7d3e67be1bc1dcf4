"""Dilated convolution blocks over time: the temporal-aware block of TIM-Net and TBDM-Net, and a plain one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

FRAMES, CHANNELS = "frames", "channels"
DROPOUT_AXES = (FRAMES, CHANNELS)
"""What one decision of the dropout zeroes: all channels of a frame, or a channel in all frames."""

_NOISE_SHAPES = {FRAMES: (None, None, 1), CHANNELS: (None, 1, None)}


@keras.saving.register_keras_serializable("serzoo")
class DilatedConvBlock(keras.layers.Layer):
    """Two sub-blocks of dilated convolution, batch normalisation, activation and dropout.

    Takes (batch, time, channels) and returns the same shape. This is the plain temporal
    convolution ("TCN") that TIM-Net's ablation puts in place of its temporal-aware block.

    Args:
        kernel_size: taps of each convolution.
        dilation_rate: frames between two taps.
        padding: ``"causal"`` (an output sees no later frame) or ``"same"`` (half of the missing
            frames are taken as zeros before the first, rounded down, and the rest after the last).
        use_bias: whether the convolutions add a bias.
        activation: name of a Keras activation; ``"gelu"`` is the exact one (erf).
        dropout: share of frames or channels to zero in training, in [0, 1).
        dropout_axis: one of :data:`DROPOUT_AXES`.
        momentum: of the moving statistics, in [0, 1]; they keep this share of their value in a step.
        epsilon: added to the variance.
        kernel_initializer: of the convolutions.
        name: Keras name of the layer.

    Source: Ye et al., "Temporal Modeling Matters", ICASSP 2023, section 2.2.
    """

    def __init__(
        self,
        *,
        kernel_size: int = 2,
        dilation_rate: int = 1,
        padding: str = "causal",
        use_bias: bool = True,
        activation: str = "relu",
        dropout: float = 0.1,
        dropout_axis: str = CHANNELS,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        kernel_initializer: Any = "glorot_uniform",
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.kernel_size = kernel_size
        self.dilation_rate = dilation_rate
        self.padding = padding
        self.use_bias = use_bias
        self.activation = keras.activations.get(activation)
        self.dropout = keras.layers.Dropout(dropout, noise_shape=_NOISE_SHAPES[dropout_axis])
        self.dropout_axis = dropout_axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the convolutions and normalisations for as many channels as the input has."""
        self.conv_1 = self._convolution(input_shape[-1], "conv_1")
        self.norm_1 = self._normalization("norm_1")
        self.conv_2 = self._convolution(input_shape[-1], "conv_2")
        self.norm_2 = self._normalization("norm_2")
        for layer in (self.conv_1, self.norm_1, self.conv_2, self.norm_2):
            layer.build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Return the second sub-block's output, (batch, time, channels)."""
        hidden = self.dropout(self.activation(self.norm_1(self.conv_1(inputs))))
        return self.dropout(self.activation(self.norm_2(self.conv_2(hidden))))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return ``input_shape``."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {
            "name": self.name,
            "kernel_size": self.kernel_size,
            "dilation_rate": self.dilation_rate,
            "padding": self.padding,
            "use_bias": self.use_bias,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout.rate,
            "dropout_axis": self.dropout_axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    def _convolution(self, channels: int | None, name: str) -> keras.layers.Layer:
        return keras.layers.Conv1D(
            channels,
            self.kernel_size,
            dilation_rate=self.dilation_rate,
            padding=self.padding,
            use_bias=self.use_bias,
            # An initializer draws its seed when it is made: shared, it would fill both kernels alike.
            kernel_initializer=self.kernel_initializer.clone(),
            name=name,
        )

    def _normalization(self, name: str) -> keras.layers.Layer:
        return keras.layers.BatchNormalization(momentum=self.momentum, epsilon=self.epsilon, name=name)


@keras.saving.register_keras_serializable("serzoo")
class TemporalAwareBlock(DilatedConvBlock):
    """A block whose sub-blocks say how much of each input value passes: ``F * sigmoid(sub_blocks(F))``.

    Takes (batch, time, channels) and returns the same shape; the arguments are those of
    :class:`DilatedConvBlock`.

    Source: Ye et al., "Temporal Modeling Matters", ICASSP 2023, equations 1 and 2.
    """

    def call(self, inputs: Any) -> Any:
        """Return the gated input, (batch, time, channels)."""
        return inputs * keras.ops.sigmoid(super().call(inputs))


def sum_directions(frames: Any, stack: Callable[[Any, str], list[Any]], backward: bool) -> list[Any]:
    """Run a stack of blocks over the frames and, if ``backward``, another over them reversed in time.

    Args:
        frames: (batch, time, channels).
        stack: builds the blocks' outputs from frames and a direction's name, ``"forward"`` or ``"backward"``.
        backward: whether to add the second direction.

    Returns:
        Per block the sum of both directions, (batch, time, channels). The reversed one is not turned back: the
        mean over time that follows does not see the order.

    Source: Ye et al., "Temporal Modeling Matters", ICASSP 2023, equation 3.
    """
    states = stack(frames, "forward")
    if not backward:
        return states
    reversed_states = stack(keras.ops.flip(frames, axis=1), "backward")
    return [ahead + back for ahead, back in zip(states, reversed_states, strict=True)]
