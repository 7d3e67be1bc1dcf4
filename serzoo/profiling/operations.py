"""Count a model's floating-point operations from the shapes of its layers.

Counted are the multiply-adds of dense layers, convolutions, recurrent layers, matrix products and attention, two
operations each, zeros of padding included. Not counted are additions of a bias, activations, normalisation, pooling,
dropout, the real kernels that quaternion layers make of their weights, layers of other packages (keras-self-attention)
and the optimiser. A faster algorithm for the same product (Winograd's, in wide dilated blocks) counts as the plain one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeAlias

import keras

Shape: TypeAlias = tuple[int, int, int, int]
"""Batch, m, k and n of a product (batch, m, k) times (batch, k, n)."""

_TRACED = (keras.Model, keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D)
"""Keras layers that compute by ``keras.ops``, as all layers of this package do."""


def count_operations(model: keras.Model, batch_size: int = 1, n_frames: int | None = None) -> OperationCount:
    """Count the operations of a batch.

    Args:
        model: a functional model.
        batch_size: clips in the batch.
        n_frames: frames of a clip, needed where the model leaves them open.
    """
    count = OperationCount()
    inputs = keras.tree.map_structure(
        lambda x: keras.KerasTensor((batch_size, *(n_frames if size is None else size for size in x.shape[1:]))),
        model.input,
    )
    count.trace(model, (inputs,), {})
    return count


class OperationCount:
    """Operations of one forward pass and of one training step.

    Attributes:
        products: matrix products of the forward pass, and how often each is computed.
        step_flops: operations of a training step: the forward pass and the gradients of weights and layer inputs.
    """

    def __init__(self) -> None:
        self.products: Counter[Shape] = Counter()
        self.step_flops = 0
        self._differentiated: dict[int, Any] = {}  # by id: tensors that depend on trainable weights

    @property
    def flops(self) -> int:
        """Operations of the forward pass."""
        return sum(_flops(shape) * times for shape, times in self.products.items())

    @property
    def output_bytes(self) -> int:
        """Size of the products' results in float32."""
        return sum(4 * batch * m * n * times for (batch, m, _, n), times in self.products.items())

    def largest(self, number: int) -> list[Shape]:
        """Return up to ``number`` products of a twentieth of the operations or more, in decreasing order."""
        flops = {shape: _flops(shape) * times for shape, times in self.products.items()}
        large = [shape for shape in flops if 20 * flops[shape] >= self.flops]
        return sorted(large, key=lambda shape: -flops[shape])[:number]

    def trace(self, layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Add the operations in the ``call`` of a layer, for symbolic arguments."""
        inputs: list[Any] = []

        def as_input(value: Any) -> Any:
            if not isinstance(value, keras.KerasTensor):
                return value
            inputs.append(keras.Input(batch_shape=value.shape, dtype=value.dtype))
            self._mark(inputs[-1], self._needs_gradient(value))
            return inputs[-1]

        args, kwargs = keras.tree.map_structure(as_input, (args, dict(kwargs)))
        graph = keras.Model(inputs, layer.call(*args, **kwargs))
        # Cloning is Keras's public way to visit the operations of a graph; the clone itself is not used.
        visit = partial(self._visit, layer)
        keras.models.clone_model(graph, inputs, clone_function=lambda same: same, call_function=visit)

    def _visit(self, owner: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Add an operation in the ``call`` of ``owner``; return its symbolic outputs."""
        outputs = operation(*args, **kwargs)
        is_layer = isinstance(operation, keras.layers.Layer)
        if not is_layer:
            self._add_product(operation, owner, args, outputs)
        elif isinstance(operation, keras.layers.Bidirectional):
            for direction in (operation.forward_layer, operation.backward_layer):
                self._add_recurrent(direction, args[0])
        elif isinstance(operation, keras.layers.RNN):
            self._add_recurrent(operation, args[0])
        elif isinstance(operation, _TRACED) or type(operation).__module__.startswith("serzoo."):
            self.trace(operation, args, kwargs)
        trains = is_layer and bool(operation.trainable_weights)
        depends = any(map(self._needs_gradient, keras.tree.flatten((args, kwargs))))
        keras.tree.map_structure(lambda x: self._mark(x, trains or depends), outputs)
        return outputs

    def _add_product(self, operation: Any, owner: Any, args: tuple[Any, ...], output: Any) -> None:
        """Add an operation of ``keras.ops`` if it is a product; the arguments are its factors."""
        match type(operation).__name__:
            case "Matmul" if len(args[1].shape) == 2:  # one product of all rows
                products = [(1, math.prod(args[0].shape[:-1]), *args[1].shape)]
            case "Matmul":
                products = [(math.prod(args[0].shape[:-2]), *args[0].shape[-2:], args[1].shape[-1])]
            case "Conv":
                *taps_and_channels, filters = args[1].shape
                products = [(1, math.prod(output.shape[:-1]), math.prod(taps_and_channels), filters)]
            case "ConvTranspose":
                *taps_and_filters, channels = args[1].shape
                products = [(1, math.prod(args[0].shape[:-1]), channels, math.prod(taps_and_filters))]
            case "DotProductAttention":
                (batch, n_queries, heads, width), n_keys = args[0].shape, args[1].shape[1]
                products = [(batch * heads, n_queries, width, n_keys), (batch * heads, n_queries, n_keys, width)]
            case _:
                return
        trains = bool(owner.trainable_weights)
        gradients = sum(
            self._needs_gradient(factor) if isinstance(factor, keras.KerasTensor) else trains for factor in args[:2]
        )
        for product in products:
            self._add(product, 1, gradients)

    def _add_recurrent(self, layer: Any, inputs: Any) -> None:
        """Add a recurrent layer, whose cell multiplies by each of its kernels in each frame."""
        batch, n_frames, _ = inputs.shape
        trains = bool(layer.trainable_weights)
        input_kernel, *state_kernels = (weight.shape for weight in layer.weights if len(weight.shape) == 2)
        self._add((1, batch, *input_kernel), n_frames, trains + self._needs_gradient(inputs))
        for kernel in state_kernels:
            self._add((1, batch, *kernel), n_frames, 2 * trains)

    def _add(self, product: Shape, times: int, gradients: int) -> None:
        """Add a product; the gradient of either factor is a product of as many operations."""
        self.products[product] += times
        self.step_flops += _flops(product) * times * (1 + gradients)

    def _mark(self, tensor: Any, needs_gradient: bool) -> None:
        if needs_gradient:
            self._differentiated[id(tensor)] = tensor

    def _needs_gradient(self, value: Any) -> bool:
        return id(value) in self._differentiated


def _flops(shape: Shape) -> int:
    """Return the operations of a product: a multiplication and an addition for each of its terms."""
    return 2 * math.prod(shape)
