"""Constructor arguments, recorded once, so that no model and no layer lists them again for its config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

import keras


class RecordsArguments:
    """A Keras object that records the arguments of its constructor."""

    arguments: Mapping[str, Any]
    """The constructor's arguments by name, defaults included; read-only, tuples as lists."""

    def __new__(cls, *args: Any, **arguments: Any) -> Self:
        """Record the arguments before the constructor runs, so that it can use the record."""
        made = super().__new__(cls, *args, **arguments)
        # Partial, because Keras also calls this without arguments, when it turns a model into a functional one.
        bound = inspect.signature(cls.__init__).bind_partial(made, *args, **arguments)
        bound.apply_defaults()
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in bound.arguments.items()}
        del values["self"]
        made.arguments = MappingProxyType(values)  # a plain dictionary would be tracked by Keras as state
        return made


def output_dtype() -> str | None:
    """Return "float32" under mixed precision, for layers that return probabilities or logits, and else None."""
    return "float32" if keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16") else None


class RecordedLayer(RecordsArguments, keras.layers.Layer):
    """Base of the layers: their config is the record of their arguments, and their output has the input's shape.

    Every layer takes ``name``, its Keras name; None lets Keras choose one.
    """

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return the shape of the output, given that of the input; here they are equal."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        values = {name: keras.saving.serialize_keras_object(value) for name, value in self.arguments.items()}
        return {**values, "name": self.name}
