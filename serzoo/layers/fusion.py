"""Fusion of a model's time scales into one representation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from serzoo.layers.recorded import RecordedLayer


@keras.saving.register_keras_serializable("serzoo")
class DynamicFusion(RecordedLayer):
    """Sum of the scales, each times a learned weight: ``sum_j w_j g_j``, without softmax or bias.

    Takes (batch, scales, channels) and returns (batch, channels).

    Args:
        initializer: of the weights, shape (scales, 1).

    Source: Ye et al., "Temporal Modeling Matters", ICASSP 2023, equation 4.
    """

    def __init__(self, *, initializer: Any, name: str | None = None) -> None:
        super().__init__(name=name)
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create one weight per scale."""
        self.kernel = self.add_weight(shape=(input_shape[1], 1), initializer=self.initializer, name="kernel")

    def call(self, inputs: Any) -> Any:
        """Return the weighted sum, (batch, channels)."""
        return keras.ops.sum(inputs * self.kernel, axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (batch, channels)."""
        return (input_shape[0], input_shape[2])


def fuse_scales(scales: Sequence[Any], *, initializer: Any | None, name: str) -> Any:
    """Fuse symbolic scales, each (batch, channels), into one (batch, channels).

    Args:
        scales: one tensor per time scale.
        initializer: of the learned weights of :class:`DynamicFusion`; None averages the scales instead.
        name: Keras name of the layer whose output is the result.
    """
    stacked = keras.ops.stack(scales, axis=1)
    if initializer is None:
        return keras.layers.GlobalAveragePooling1D(name=name)(stacked)
    return DynamicFusion(initializer=initializer, name=name)(stacked)
