"""The level of a clip."""

from __future__ import annotations

from typing import Any

import keras

from serzoo.layers.recorded import RecordedLayer


@keras.saving.register_keras_serializable("serzoo", "FloorLevel")  # its name in saved models
class ClipDynamicRange(RecordedLayer):
    """Raises values far below a clip's maximum, so that silence and digital zero have the same level.

    Takes log-mel spectrograms, (batch, n_frames, n_bands), and returns the same shape. Each clip has its own maximum.

    Args:
        level_range: largest distance below the maximum, in the unit of the spectrogram; lower values are raised to it.
    """

    def __init__(self, level_range: float, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.level_range = level_range

    def call(self, inputs: Any) -> Any:
        """Return the floored spectrograms."""
        loudest = keras.ops.max(inputs, axis=(1, 2), keepdims=True)
        return keras.ops.maximum(inputs, loudest - self.level_range)
