"""The level of a clip."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("serzoo", "FloorLevel")  # its name in saved models
class ClipDynamicRange(keras.layers.Layer):
    """Raises what is far below a clip's own loudest value, so that silence is one level and digital zero none.

    Takes log-mel spectrograms, (batch, n_frames, n_bands), and returns the same shape. It looks at each clip alone.

    Args:
        level_range: what is further below the maximum than this is raised to it, in the unit of the spectrogram.
        name: Keras name of the layer.
    """

    def __init__(self, level_range: float, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.level_range = level_range

    def call(self, inputs: Any) -> Any:
        """Return the floored spectrograms."""
        loudest = keras.ops.max(inputs, axis=(1, 2), keepdims=True)
        return keras.ops.maximum(inputs, loudest - self.level_range)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return ``input_shape``."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {"name": self.name, "level_range": self.level_range}
