"""Layers that multiply hypercomplex numbers, each by one real product; the layers here also learn the algebra.

The last axis of inputs and outputs holds the numbers in one block per component: of n m channels, the first m are
the first components of m numbers with n components each, the next m their second components, and so on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from serzoo.errors import ConfigError, unknown_name
from serzoo.layers.recorded import RecordedLayer

PADDINGS = ("same", "valid")
"""Paddings of the convolutions: zeros around the input, or none."""

DATA_FORMAT = "channels_last"


def check_blocks(layer: str, channels_in: int, channels_out: int, n_components: int) -> None:
    """Raise ConfigError unless a layer's channels, in and out, can be cut into one block per component."""
    if channels_in % n_components or channels_out % n_components:
        raise ConfigError(
            f"{layer} has {channels_in} channels in and {channels_out} out; both must be multiples of {n_components}, "
            "one block of channels per component."
        )


class HypercomplexLayer(RecordedLayer, ABC):
    """A product with hypercomplex weights, computed as one with a real kernel: ``activation(x * W + bias)``.

    The layer stores the components of its weights, ``kernel``, (n, ..., numbers in, numbers out), and a real bias per
    channel. One kind of subclass names the algebra and assembles the real kernel, (..., channels in, channels out), in
    which each component occurs n times; another kind takes the real product with it.

    The constructor takes the real channels of the output, a multiple of the number of components, and the size of the
    kernel along each axis that it slides over. The other arguments are read from the record of those of a subclass:

    Args:
        activation: of every channel separately, so of every component of a number; a Keras name, or None.
        use_bias: whether to add a bias per real channel; it starts at 0.
        kernel_initializer: of ``kernel``; None takes the algebra's own.
        name: Keras name of the layer.

    Raises:
        ConfigError: the channels of an input, or those of the output, are no multiple of the number of components.
    """

    n_components: int
    """Components of a number of the algebra."""

    default_initializer: type[keras.initializers.Initializer] = keras.initializers.GlorotUniform
    """Of ``kernel``. Keras counts the components as part of the window, so the fans are those of the real kernel."""

    def __init__(self, channels: int, window: tuple[int, ...]) -> None:
        super().__init__(name=self.arguments["name"])
        self.channels = channels
        self.window = window
        self.activation = keras.activations.get(self.arguments["activation"])
        self.use_bias = self.arguments["use_bias"]
        initializer = keras.initializers.get(self.arguments["kernel_initializer"])
        self.kernel_initializer = initializer or self.default_initializer()

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the components of the weights, and the bias."""
        channels_in, n = input_shape[-1], self.n_components
        check_blocks(self.name, channels_in, self.channels, n)
        self.kernel = self.add_weight(
            shape=(n, *self.window, *self._kernel_ends(channels_in // n, self.channels // n)),
            initializer=self.kernel_initializer,
            name="kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.channels,), initializer="zeros", name="bias")

    def call(self, inputs: Any) -> Any:
        """Return the activated product, with the output's channels on the last axis."""
        outputs = self._product(inputs, self.real_kernel())
        return self.activation(outputs + self.bias if self.use_bias else outputs)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the shape that the real product gives."""
        kernel_shape = (*self.window, *self._kernel_ends(input_shape[-1], self.channels))
        return self._product(keras.KerasTensor(input_shape), keras.KerasTensor(kernel_shape)).shape

    @abstractmethod
    def real_kernel(self) -> Any:
        """Return the real kernel, (..., channels in, channels out)."""

    @abstractmethod
    def _product(self, inputs: Any, kernel: Any) -> Any:
        """Return the real product of ``inputs`` with the real kernel, without bias."""

    def _kernel_ends(self, size_in: int, size_out: int) -> tuple[int, int]:
        """Return the sizes of a kernel's last two axes, in their order."""
        return size_in, size_out


class HypercomplexDense(HypercomplexLayer):
    """A matrix of hypercomplex numbers times the numbers on the last axis of the input.

    Takes (batch, ..., channels) and returns (batch, ..., units).

    Args:
        units: real channels of the output, a multiple of the number of components.
        activation: this and all others as in :class:`HypercomplexLayer`.
    """

    def __init__(
        self,
        units: int,
        *,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(units, window=())

    def _product(self, inputs: Any, kernel: Any) -> Any:
        return ops.matmul(inputs, kernel)


class HypercomplexConv(HypercomplexLayer):
    """A convolution (in the sense of neural networks: a correlation) with a kernel of hypercomplex numbers.

    Takes (batch, positions, channels) and returns (batch, positions, filters), with :attr:`rank` axes of positions.

    Args:
        filters: real channels of the output, a multiple of the number of components.
        kernel_size: taps per axis, or one number for all axes.
        strides: positions from one output to the next, per axis or one number for all.
        padding: ``"same"`` (an output per stride) or ``"valid"`` (an output where the kernel lies inside the input).
        dilation_rate: positions from one tap to the next, per axis or one number for all; other than 1 only
            without strides.
        activation: this and all others as in :class:`HypercomplexLayer`.

    Raises:
        UnknownNameError: ``padding`` is neither of the two.
    """

    rank: int
    """Axes that the kernel slides over."""

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        *,
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(filters, self._per_axis(kernel_size))
        if padding not in PADDINGS:
            raise unknown_name("padding", padding, PADDINGS)
        self.strides = self._per_axis(strides)
        self.padding = padding
        self.dilation_rate = self._per_axis(dilation_rate)

    def _product(self, inputs: Any, kernel: Any) -> Any:
        return ops.conv(inputs, kernel, self.strides, self.padding, DATA_FORMAT, self.dilation_rate)

    def _per_axis(self, sizes: int | Sequence[int]) -> tuple[int, ...]:
        return (sizes,) * self.rank if isinstance(sizes, int) else tuple(sizes)


def phm_kernel(algebra: Any, components: Any) -> Any:
    """Return a sum of Kronecker products, ``sum_s A_s (x) F_s``, over the kernels' last two axes.

    Args:
        algebra: the n matrices A_s, (n, n, n), whose rows are components of the output and columns of the input.
        components: the n kernels F_s, (n, ..., numbers in, numbers out).

    Returns:
        (..., n numbers in, n numbers out): its block of input component i and output component o is
        ``sum_s A_s[o, i] F_s``.
    """
    n, *window, n_in, n_out = components.shape
    blocks = ops.einsum("soi,s...ab->...iaob", algebra, components)
    return ops.reshape(blocks, (*window, n * n_in, n * n_out))


class _LearnedAlgebra(HypercomplexLayer):
    """The layers whose table of products of two components is a weight, ``algebra``, (n, n, n)."""

    def __init__(self, *, n: int, **options: Any) -> None:
        if n < 1:
            raise ConfigError(f"n is {n}; a number has at least 1 component.")
        super().__init__(**options)
        self.n_components = n

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the algebra and the components.

        The algebra starts as Glorot and Bengio (2010) start matrices of n x n. With a variance of 1/n, the real kernel,
        a sum of n products, has the variance of the components.
        """
        super().build(input_shape)
        n = self.n_components
        self.algebra = self.add_weight(
            shape=(n, n, n),
            initializer=keras.initializers.RandomUniform(-math.sqrt(3 / n), math.sqrt(3 / n)),
            name="algebra",
        )

    def real_kernel(self) -> Any:
        """Return the sum of the algebra's Kronecker products with the components."""
        return phm_kernel(self.algebra, self.kernel)


@keras.saving.register_keras_serializable("serzoo")
class PHMDense(_LearnedAlgebra, HypercomplexDense):
    """Parameterised hypercomplex multiplication: ``y = (sum_s A_s (x) F_s) x + b``, with A and F learned.

    There are n matrices A_s of n x n, the algebra, and n matrices F_s of units / n x channels / n, so the layer has
    about 1/n of the weights of a dense one. With n = 4 and the quaternions' A it is
    :class:`serzoo.layers.quaternion.QuaternionDense`; with n = 1 it is a real layer.

    Takes (batch, ..., channels) and returns (batch, ..., units).

    Args:
        units: this and all others as in :class:`HypercomplexDense`; ``kernel_initializer`` is that of F,
            (n, channels / n, units / n), by default Glorot's uniform one.
        n: components of a number, at least 1.

    Raises:
        ConfigError: n is below 1, or the channels in or out are no multiple of it.

    Source: Zhang et al., "Beyond Fully-Connected Layers with Quaternions: Parameterization of Hypercomplex
    Multiplications with 1/n Parameters", ICLR 2021.
    """

    def __init__(
        self,
        units: int,
        *,
        n: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(**self.arguments)


@keras.saving.register_keras_serializable("serzoo")
class PHMConv2D(_LearnedAlgebra, HypercomplexConv):
    """Parameterised hypercomplex convolution, with the kernel ``sum_s A_s (x) F_s``, A and F learned.

    The algebra A is that of :class:`PHMDense`, and F holds n kernels of filters / n x channels / n. With n = 4 and
    the quaternions' A it is :class:`serzoo.layers.quaternion.QuaternionConv2D`.

    Takes (batch, rows, columns, channels) and returns (batch, rows, columns, filters).

    Args:
        filters: this and all others as in :class:`HypercomplexConv`; ``kernel_initializer`` is that of F,
            (n, rows, columns, channels / n, filters / n), by default Glorot's uniform one.
        n: components of a number, at least 1.

    Raises:
        ConfigError: n is below 1, or the channels in or out are no multiple of it.

    Source: Grassucci, Zhang and Comminiello, "PHNNs: Lightweight Neural Networks via Parameterized Hypercomplex
    Convolutions", 2022.
    """

    rank = 2

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        *,
        n: int,
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(**self.arguments)
