"""Padding of clips to one length inside a graph."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from serzoo.errors import FeatureError
from serzoo.layers.recorded import RecordedLayer


@keras.saving.register_keras_serializable("serzoo")
class PadFrames(RecordedLayer):
    """Frames of zeros behind the last frame.

    Takes (batch, time, ...) with at most ``n_frames`` frames and returns (batch, n_frames, ...).

    Args:
        n_frames: of every output.

    Raises:
        FeatureError: when called with more frames.
    """

    def __init__(self, n_frames: int, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.n_frames = n_frames

    def call(self, inputs: Any) -> Any:
        """Return ``inputs`` with zeros behind."""
        missing = self.n_frames - ops.shape(inputs)[1]
        if isinstance(missing, int) and missing < 0:
            raise FeatureError(
                f"{inputs.shape[1]} frames were given; the network takes {self.n_frames} at most: "
                "cut recordings into segments (features.segment_frames)."
            )
        padded = ops.pad(inputs, [(0, 0), (0, missing)] + [(0, 0)] * (len(inputs.shape) - 2))
        return ops.reshape(padded, self.compute_output_shape((-1, *inputs.shape[1:])))  # a static length, in graphs too

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return ``input_shape`` with ``n_frames`` frames."""
        return input_shape[0], self.n_frames, *input_shape[2:]
