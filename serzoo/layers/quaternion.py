"""Quaternion layers: four channels are one number, and weights multiply numbers.

A quaternion is r + x i + y j + z k with i^2 = j^2 = k^2 = ijk = -1. The channels of a tensor are the last axis, packed
in blocks [r | i | j | k]: of 4 m channels, the first m are the real parts of m quaternions, and so on. A weight
w = r + x i + y j + z k multiplies from the left, w q, as one real matrix::

            in_r  in_i  in_j  in_k
    out_r [   r    -x    -y    -z ]
    out_i [   x     r    -z     y ]
    out_j [   y     z     r    -x ]
    out_k [   z    -y     x     r ]

A layer's quaternions form one real kernel of such blocks, and a call takes one real product with it: that is faster
than sixteen small products, though the kernel has four times as many numbers as there are weights.

Sources: Gaudet and Maida, "Deep Quaternion Networks", 2018; Parcollet et al., "Quaternion Recurrent Neural
Networks", ICLR 2019; Guizzo et al., "Quaternion Anti-Transfer Learning for Speech Emotion Recognition", 2023.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from serzoo.errors import unknown_name
from serzoo.layers.hypercomplex import (
    DATA_FORMAT,
    HypercomplexConv,
    HypercomplexDense,
    HypercomplexLayer,
    check_blocks,
)
from serzoo.layers.recorded import RecordedLayer

CRITERIA = ("glorot", "he")
"""Criteria of the initial variance: kept forwards and backwards on average, or kept through a ReLU."""


def hamilton_kernel(components: Any) -> Any:
    """Return the real kernel that multiplies blocks of quaternions from the left.

    Args:
        components: r, x, y and z of the weights, (4, ..., numbers in, numbers out).

    Returns:
        (..., 4 numbers in, 4 numbers out); transposed, the matrix at the top of this file.
    """
    r, x, y, z = ops.unstack(ops.convert_to_tensor(components))
    # Built from two halves (Cayley and Dickson's construction), so that no tensor is used more than twice. TensorFlow
    # adds three or more gradients of a tensor in an order that depends on timing; float sums depend on the order, and
    # two trainings from one seed would differ.
    first, second = _square(r, x, -x, r), _square(y, z, z, -y)
    return _square(first, second, -second, first)


def _square(top_left: Any, top_right: Any, bottom_left: Any, bottom_right: Any) -> Any:
    """Return four kernels as one; rows are inputs, columns are outputs."""
    top, bottom = (ops.concatenate(row, axis=-1) for row in ((top_left, top_right), (bottom_left, bottom_right)))
    return ops.concatenate([top, bottom], axis=-2)


@keras.saving.register_keras_serializable("serzoo")
class QuaternionInitializer(keras.initializers.Initializer):
    """Random quaternions ``m (cos a + v sin a)``: a modulus m, a unit axis v and an angle a.

    The modulus follows the chi distribution of 4 degrees of freedom with the scale s, where s^2 is
    1 / (2 (fan_in + fan_out)) for ``"glorot"`` and 1 / (2 fan_in) for ``"he"``, fans counted in quaternions; the axis
    is uniform on the sphere and the angle on the circle. The mean of |w|^2 is therefore 4 s^2: 2 s^2 for the real part
    and 2/3 s^2 for each other part. ``"he"`` doubles the variance of the output, because a ReLU halves it.

    Args:
        criterion: one of :data:`CRITERIA`.
        seed: makes every call return the same numbers; None gives each kernel its own, from Keras's global seed.

    Raises:
        UnknownNameError: the criterion is neither of the two.

    Source: Gaudet and Maida, "Deep Quaternion Networks", 2018; Parcollet et al., "Quaternion Recurrent Neural
    Networks", ICLR 2019 (there the axis comes from a cube, with the same variances).
    """

    def __init__(self, criterion: str = "glorot", seed: int | None = None) -> None:
        if criterion not in CRITERIA:
            raise unknown_name("criterion", criterion, CRITERIA)
        self.criterion = criterion
        self.seed = seed

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Return the components of a kernel, (4, ..., numbers in, numbers out)."""
        _, *window, n_in, n_out = shape
        fans = n_in + n_out if self.criterion == "glorot" else n_in
        scale = 1 / math.sqrt(2 * fans * math.prod(window))
        # A single draw: with one seed, separate draws of modulus, axis and angle would return the same numbers.
        normal = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)((9, *shape[1:]), dtype)
        modulus = scale * ops.norm(normal[:4], axis=0)
        axis = _unit(normal[4:7])
        cosine, sine = ops.split(_unit(normal[7:]), 2)
        return modulus * ops.concatenate([cosine, sine * axis])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the initializer."""
        return {"criterion": self.criterion, "seed": self.seed}


def _unit(vectors: Any) -> Any:
    """Return the vectors along the first axis at length 1."""
    return vectors / ops.norm(vectors, axis=0, keepdims=True)


class _Quaternions(HypercomplexLayer):
    """Base of the layers whose weights are quaternions."""

    n_components = 4
    default_initializer = QuaternionInitializer

    def real_kernel(self) -> Any:
        """Return the real kernel of the Hamilton product."""
        return hamilton_kernel(self.kernel)


@keras.saving.register_keras_serializable("serzoo")
class QuaternionDense(_Quaternions, HypercomplexDense):
    """A matrix of quaternions times the input's quaternions, ``y_o = sum_i w_oi x_i + b_o``.

    Takes (batch, ..., channels) and returns (batch, ..., units), blocks [r | i | j | k] on the last axis. It has
    channels x units / 4 + units weights. The arguments are those of :class:`HypercomplexDense`; by default
    :class:`QuaternionInitializer` draws the components, (4, channels / 4, units / 4), by Glorot's criterion.
    """


@keras.saving.register_keras_serializable("serzoo")
class QuaternionConv1D(_Quaternions, HypercomplexConv):
    """A convolution over time with quaternions; the arguments are those of :class:`QuaternionConv2D`.

    Takes (batch, time, channels) and returns (batch, time, filters).
    """

    rank = 1


@keras.saving.register_keras_serializable("serzoo")
class QuaternionConv2D(_Quaternions, HypercomplexConv):
    """A convolution with quaternions: at every tap of the kernel, weights times the input's quaternions.

    Takes (batch, rows, columns, channels) and returns (batch, rows, columns, filters), blocks [r | i | j | k] on the
    last axis. It has channels x filters x taps / 4 + filters weights. The arguments are those of
    :class:`HypercomplexConv`; by default :class:`QuaternionInitializer` draws the components,
    (4, taps, channels / 4, filters / 4), by Glorot's criterion.
    """

    rank = 2


@keras.saving.register_keras_serializable("serzoo")
class QuaternionConv2DTranspose(_Quaternions, HypercomplexConv):
    """The adjoint of :class:`QuaternionConv2D`: every input adds conj(w) times itself to the outputs under the kernel.

    The weights, (4, taps, filters / 4, channels / 4), are those of the convolution from the output back to the input;
    that explains their order and the conjugates. As in Keras's transposed convolution, the initializer treats the
    last axis but one as the input.

    Takes (batch, rows, columns, channels) and returns (batch, rows, columns, filters); the arguments are those of
    :class:`QuaternionConv2D`. With ``"same"`` padding there are strides times as many rows and columns.

    Source: the decoder of Guizzo et al., "Learning Speech Emotion Representations in the Quaternion Domain", 2023.
    """

    rank = 2

    def _product(self, inputs: Any, kernel: Any) -> Any:
        if max(self.dilation_rate) > 1:  # TensorFlow has no dilated transposed convolution on some processors
            kernel = _spread(kernel, self.dilation_rate)
        return ops.conv_transpose(inputs, kernel, self.strides, self.padding, data_format=DATA_FORMAT)

    def _kernel_ends(self, size_in: int, size_out: int) -> tuple[int, int]:
        return size_out, size_in


def _spread(kernel: Any, rates: tuple[int, ...]) -> Any:
    """Return a kernel (rows, columns, ...) with zeros between its taps; it dilates without a dilation rate."""
    rows, columns = (
        ops.eye((taps - 1) * rate + 1, dtype=kernel.dtype)[:, ::rate]
        for taps, rate in zip(kernel.shape[:2], rates, strict=True)
    )
    return ops.einsum("ah,bw,hwoi->aboi", rows, columns, kernel)


@keras.saving.register_keras_serializable("serzoo")
class QuaternionBatchNormalization(RecordedLayer):
    """Quaternions less their mean, over one deviation for the whole layer: ``g (x - mean) / sqrt(v + epsilon) + b``.

    The mean is one quaternion and v one number, the mean of |x - mean|^2, both over batch, positions and all
    quaternions of the layer; the scale g is real and one per quaternion, the offset b one per real channel.
    The output's variances of the four components sum to 1; their proportions do not change.

    Takes (batch, ..., channels), blocks [r | i | j | k] on the last axis, and returns the same shape. Training takes
    the batch's statistics and moves the stored ones towards them; inference and a frozen layer take the stored ones.

    Args:
        momentum: share of their value that the stored statistics keep in a step, in [0, 1].
        epsilon: added to v.

    Raises:
        ConfigError: the channels are no multiple of 4.

    Source: the program of Guizzo et al., "Learning Speech Emotion Representations in the Quaternion Domain", 2023.
    """

    def __init__(self, *, momentum: float = 0.9, epsilon: float = 1e-5, name: str | None = None) -> None:
        super().__init__(name=name)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create scale, offset and the stored statistics."""
        channels = input_shape[-1]
        check_blocks(self.name, channels, channels, 4)
        self.gamma = self.add_weight(shape=(channels // 4,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta")
        self.moving_mean = self.add_weight(shape=(4,), initializer="zeros", trainable=False, name="moving_mean")
        self.moving_variance = self.add_weight(shape=(), initializer="ones", trainable=False, name="moving_variance")

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the normalised quaternions, in the shape of ``inputs``."""
        mean, variance = self.moving_mean, self.moving_variance
        if training and self.trainable:
            mean, variance = self._moments(inputs)
            for stored, current in ((self.moving_mean, mean), (self.moving_variance, variance)):
                stored.assign(stored * self.momentum + current * (1 - self.momentum))
        scale = ops.tile(self.gamma / ops.sqrt(variance + self.epsilon), 4)
        return self._centre(inputs, mean) * scale + self.beta

    def _moments(self, inputs: Any) -> tuple[Any, Any]:
        """Return the mean quaternion, (4,), and the mean square of the distance from it, a number."""
        channel_means = ops.mean(inputs, axis=tuple(range(len(inputs.shape) - 1)))
        mean = ops.mean(ops.reshape(channel_means, (4, -1)), axis=1)
        return mean, 4 * ops.mean(ops.square(self._centre(inputs, mean)))

    def _centre(self, inputs: Any, mean: Any) -> Any:
        return inputs - ops.repeat(mean, inputs.shape[-1] // 4)


@keras.saving.register_keras_serializable("serzoo")
class QuaternionFlatten(keras.layers.Flatten):
    """Flattens a map to one row in blocks [r | i | j | k], for :class:`QuaternionDense`.

    Takes (batch, positions, channels), with any number of axes of positions, and returns (batch, positions x channels),
    channel by channel and within a channel position by position, rows before columns: the order of flattening with
    channels first. Keras's own Flatten puts the four components of one position next to each other, so the first
    quarter of its row would be a quarter of the positions, not the real parts.
    """

    def call(self, inputs: Any) -> Any:
        """Return the values, (batch, positions x channels)."""
        return super().call(ops.moveaxis(inputs, -1, 1))
