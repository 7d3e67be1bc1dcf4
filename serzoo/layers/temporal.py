"""Dilated convolution blocks over time: the temporal-aware block of TIM-Net and TBDM-Net, and a plain one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras

from serzoo.layers.recorded import RecordedLayer

FRAMES, CHANNELS = "frames", "channels"
DROPOUT_AXES = (FRAMES, CHANNELS)
"""Unit that dropout zeroes: all channels of a frame, or a channel in all frames."""

PAIRS_FROM_CHANNELS = 256
"""Channels from which saving a quarter of the products outweighs the extra sums; below, memory access is the limit."""

_NOISE_SHAPES = {FRAMES: (None, None, 1), CHANNELS: (None, 1, None)}


@keras.saving.register_keras_serializable("serzoo")
class DilatedConvBlock(RecordedLayer):
    """Two sub-blocks of dilated convolution, batch normalisation, activation and dropout.

    Takes (batch, time, channels) and returns the same shape. This is the plain temporal
    convolution ("TCN") that TIM-Net's ablation puts in place of its temporal-aware block.
    Training compiled by XLA, or with products of lower precision, takes a faster way through the sub-blocks than the
    layers' own, with the same results.

    Args:
        kernel_size: taps of each convolution.
        dilation_rate: frames between two taps.
        padding: ``"causal"`` (an output depends on no later frame) or ``"same"`` (half of the missing
            frames are taken as zeros before the first, rounded down, and the rest after the last).
        use_bias: whether the convolutions add a bias.
        activation: name of a Keras activation; ``"gelu"`` is the exact one (erf).
        dropout: share of frames or channels to zero in training, in [0, 1).
        dropout_axis: one of :data:`DROPOUT_AXES`.
        momentum: share of their value that the moving statistics keep in a step, in [0, 1].
        epsilon: added to the variance.
        kernel_initializer: of the convolutions.

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
        self.dilation_rate = dilation_rate
        self.padding = padding
        self.activation = keras.activations.get(activation)
        self.dropout = keras.layers.Dropout(dropout, noise_shape=_NOISE_SHAPES[dropout_axis])
        self.dropout_axis = dropout_axis
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.compiled = keras.backend.backend() == "jax"
        """Whether to train in the way that is fast under XLA; without XLA the layers' own is faster."""
        self.product_dtype: str | None = None
        """Type of the products over channels in training, such as "bfloat16"; None for the type of the factors."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the convolutions and normalisations for as many channels as the input has."""
        self.conv_1, self.norm_1 = self._sub_block(1, input_shape)
        self.conv_2, self.norm_2 = self._sub_block(2, input_shape)

    def _sub_block(self, number: int, input_shape: tuple[int | None, ...]) -> tuple[keras.layers.Layer, ...]:
        convolution = keras.layers.Conv1D(
            input_shape[-1],
            **{name: self.arguments[name] for name in ("kernel_size", "dilation_rate", "padding", "use_bias")},
            # An initializer draws its seed when it is made: a shared one would fill both kernels with equal numbers.
            kernel_initializer=self.kernel_initializer.clone(),
            name=f"conv_{number}",
        )
        settings = {name: self.arguments[name] for name in ("momentum", "epsilon")}
        normalization = keras.layers.BatchNormalization(**settings, name=f"norm_{number}")
        for layer in (convolution, normalization):
            layer.build(input_shape)
        return convolution, normalization

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the second sub-block's output, (batch, time, channels)."""
        trains = training and self.norm_1.trainable and self.norm_2.trainable  # frozen ones use their moving statistics
        if trains and (self.compiled or self.product_dtype):
            return _turned(self._training_output(_turned(inputs)))
        hidden = self.activation(self.norm_1(self.conv_1(inputs)))
        hidden = self.activation(self.norm_2(self.conv_2(self.dropout(hidden))))
        return self._result(inputs, self.dropout(hidden))

    def _result(self, inputs: Any, hidden: Any) -> Any:
        """Return the block's output, given its sub-blocks' output, in any order of the axes."""
        del inputs
        return hidden

    def _training_output(self, inputs: Any) -> Any:
        """Return the output in training, (channels, time, batch) as the inputs.

        The order of the axes makes it fast. A shift in time moves whole rows of the batch, and sums and products over
        channels run over long contiguous rows. XLA cancels the transpositions between two blocks. The numbers equal
        those of the layers in training, dropout included.
        """
        hidden = self._training_sub_block(inputs, self.conv_1, self.norm_1)
        return self._result(inputs, self._training_sub_block(hidden, self.conv_2, self.norm_2))

    def _training_sub_block(self, inputs: Any, conv: keras.layers.Conv1D, norm: keras.layers.BatchNormalization) -> Any:
        convolved = dilated_convolution(inputs, conv.kernel, self.dilation_rate, self.padding, self.product_dtype)
        hidden = self.activation(normalize_batch(convolved, norm, conv.bias))
        return hidden * self._noise(hidden) if self.dropout.rate else hidden

    def _noise(self, hidden: Any) -> Any:
        """Return dropout's factors of (channels, time, batch): (channels, 1, batch) or (1, time, batch).

        The random numbers pass through a product with the identity matrix, because XLA does not fuse a product into the
        operations around it. Without it, XLA draws the numbers again for every frame that uses them; that takes a tenth
        of TIM-Net's training step.
        """
        ops = keras.ops
        channels, time, batch = ops.shape(hidden)
        sizes = (batch, 1, channels) if self.dropout_axis == CHANNELS else (batch, time, 1)
        drawn = ops.reshape(self.dropout(ops.ones(sizes, hidden.dtype), training=True), (batch, -1))
        kept = ops.cast(drawn > 0, hidden.dtype)  # 0 and 1 are exact in a product of any precision
        kept = ops.reshape(ops.matmul(kept, ops.eye(ops.shape(kept)[1], dtype=hidden.dtype)), sizes)
        return _turned(kept) / (1.0 - self.dropout.rate)


@keras.saving.register_keras_serializable("serzoo")
class TemporalAwareBlock(DilatedConvBlock):
    """A block whose sub-blocks gate its input: ``F * sigmoid(sub_blocks(F))``.

    Takes (batch, time, channels) and returns the same shape; the arguments are those of
    :class:`DilatedConvBlock`.

    Source: Ye et al., "Temporal Modeling Matters", ICASSP 2023, equations 1 and 2.
    """

    def _result(self, inputs: Any, hidden: Any) -> Any:
        """Return the gated input."""
        return inputs * keras.ops.sigmoid(hidden)


def blocks_among(layers: Iterable[keras.layers.Layer]) -> list[DilatedConvBlock]:
    """Return the blocks among ``layers``, whose training options must be set before the step is traced."""
    return [layer for layer in layers if isinstance(layer, DilatedConvBlock)]


def _turned(frames: Any) -> Any:
    """Swap the first and last axis: (batch, time, channels) to (channels, time, batch) and back."""
    return keras.ops.transpose(frames, (2, 1, 0))


def dilated_convolution(
    inputs: Any, kernel: Any, dilation_rate: int, padding: str, product_dtype: str | None = None
) -> Any:
    """Convolve over time by matrix products, without a bias.

    In wide layers two taps take three products for every four of the definition (see :func:`_pairs_of_frames`).

    Args:
        inputs: (channels, time, batch).
        kernel: (taps, channels, filters).
        dilation_rate: frames between two taps.
        padding: ``"causal"`` or ``"same"``, as of :class:`DilatedConvBlock`.
        product_dtype: type of the products; None for the type of the inputs.

    Returns:
        (filters, time, batch), of the inputs' type.
    """
    taps, time = kernel.shape[0], keras.ops.shape(inputs)[1]
    missing = dilation_rate * (taps - 1)
    before = missing if padding == "causal" else missing // 2
    padded = keras.ops.pad(inputs, [[0, 0], [before, missing - before], [0, 0]])
    # In lower precision products are cheap, and the differences of frames would cancel most of the digits.
    pays = taps == 2 and kernel.shape[1] >= PAIRS_FROM_CHANNELS and product_dtype is None
    paired = time // (2 * dilation_rate) * (2 * dilation_rate) if pays else 0
    if isinstance(paired, int) and paired == 0:
        return _frame_by_frame(padded, kernel, dilation_rate, product_dtype)
    outputs = _pairs_of_frames(padded[:, : paired + dilation_rate], kernel, dilation_rate)
    if isinstance(paired, int) and paired == time:
        return outputs
    rest = _frame_by_frame(padded[:, paired:], kernel, dilation_rate)
    return keras.ops.concatenate([outputs, rest], axis=1)


def _frame_by_frame(padded: Any, kernel: Any, dilation_rate: int, product_dtype: str | None = None) -> Any:
    """Return the outputs, ``y[t] = sum_k w[k] x[t + k * d]``, by one product over all taps."""
    taps, channels, filters = kernel.shape
    time = keras.ops.shape(padded)[1] - dilation_rate * (taps - 1)
    shifted = [padded[:, tap * dilation_rate : tap * dilation_rate + time] for tap in range(taps)]
    weights = keras.ops.reshape(kernel, (taps * channels, filters))
    return _product(weights, keras.ops.concatenate(shifted, axis=0), product_dtype)


def _pairs_of_frames(padded: Any, kernel: Any, dilation_rate: int) -> Any:
    """Return the outputs of a kernel of two taps for a multiple of ``2 * dilation_rate`` frames.

    The outputs at ``t`` and ``t + d`` share one input: ``y[t] = v a + w b`` and ``y[t + d] = v b + w c``. With the
    shared product ``(v + w) b`` they are ``v (a - b) + (v + w) b`` and ``w (c - b) + (v + w) b``: three products
    instead of four.

    Source: Winograd's minimal filtering algorithm F(2, 2).
    """
    ops = keras.ops
    channels, time, batch = ops.shape(padded)
    time = time - dilation_rate
    chunks = (channels, time // (2 * dilation_rate), 2, dilation_rate, batch)
    first, middle = ops.unstack(ops.reshape(padded[:, :time], chunks), 2, axis=2)
    last = ops.reshape(padded[:, dilation_rate:], chunks)[:, :, 1]
    shared = _product(kernel[0] + kernel[1], middle)
    ahead, behind = _product(kernel[0], first - middle), _product(kernel[1], last - middle)
    pairs = ops.stack([ahead + shared, shared + behind], axis=2)
    return ops.reshape(pairs, (kernel.shape[2], time, batch))


def _product(weights: Any, columns: Any, dtype: str | None = None) -> Any:
    """Return ``weights``, (channels, filters), applied to (channels, ...): (filters, ...), of the columns' type."""
    ops = keras.ops
    channels, *others = ops.shape(columns)
    factors = ops.transpose(weights), ops.reshape(columns, (channels, -1))
    product = ops.matmul(*(ops.cast(factor, dtype or columns.dtype) for factor in factors))
    return ops.reshape(ops.cast(product, columns.dtype), (weights.shape[1], *others))


def normalize_batch(inputs: Any, norm: keras.layers.BatchNormalization, bias: Any | None) -> Any:
    """Normalise by the batch's statistics, in float32 at least, and move the layer's statistics towards them.

    Args:
        inputs: (channels, time, batch).
        norm: the layer with the weights and the moving statistics.
        bias: of the convolution before, (channels,), not yet added to the inputs; or None. Subtracting the mean cancels
            it, so only the moving mean needs it. Its gradient is exactly 0; through the sum it would be float noise.

    Returns:
        (channels, time, batch), of the inputs' type.
    """
    ops = keras.ops
    dtype = keras.backend.result_type(inputs.dtype, "float32")
    values, gamma, beta = (ops.cast(value, dtype) for value in (inputs, norm.gamma, norm.beta))
    mean = ops.mean(values, axis=(1, 2))
    # With the mean as a constant, the gradient of the centred values needs no extra pass over all of them. The gradient
    # of the mean itself flows through ``shift``, one number per channel; there ``mean - constant_mean`` is 0.
    constant_mean = ops.stop_gradient(mean)
    centred = values - constant_mean[:, None, None]
    variance = ops.mean(ops.square(centred), axis=(1, 2))
    scale = gamma * ops.rsqrt(variance + norm.epsilon)
    shift = beta - (mean - constant_mean) * scale
    if bias is not None:
        bias = ops.cast(bias, dtype)
        mean, shift = mean + bias, shift + 0.0 * bias  # 0 times the bias: a gradient of 0 instead of none
    _move(norm.moving_mean, mean, norm.momentum)
    _move(norm.moving_variance, variance, norm.momentum)
    return ops.cast(centred * scale[:, None, None] + shift[:, None, None], inputs.dtype)


def _move(moving: Any, value: Any, momentum: float) -> None:
    moving.assign(moving * momentum + keras.ops.stop_gradient(value) * (1.0 - momentum))


def sum_directions(frames: Any, stack: Callable[[Any, str], list[Any]], backward: bool) -> list[Any]:
    """Run a stack of blocks over the frames and, if ``backward``, another over them reversed in time.

    Args:
        frames: (batch, time, channels).
        stack: builds the blocks' outputs from frames and a direction's name, ``"forward"`` or ``"backward"``.
        backward: whether to add the second direction.

    Returns:
        Per block the sum of both directions, (batch, time, channels). The backward outputs stay reversed: the
        mean over time that follows does not depend on the order.

    Source: Ye et al., "Temporal Modeling Matters", ICASSP 2023, equation 3.
    """
    states = stack(frames, "forward")
    if not backward:
        return states
    reversed_states = stack(keras.ops.flip(frames, axis=1), "backward")
    return [ahead + back for ahead, back in zip(states, reversed_states, strict=True)]
