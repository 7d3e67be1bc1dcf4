"""Normalisation of features by the statistics of the training part, stored with the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from serzoo.errors import DataError, FeatureError

EPSILON = 1e-5
"""Added to the standard deviation, as the program of ACRNN does."""

_CLIPS_AT_ONCE = 32


@keras.saving.register_keras_serializable("serzoo")
class FrameNormalization(keras.layers.Layer):
    """Each value of a frame minus its mean, over its standard deviation: ``(x - mean) / (std + 1e-5)``.

    Takes (batch, time, ...) and returns the same shape. A frame whose values are all exactly zero is
    padding and stays zero, which is the mean of the real frames. Until :meth:`adapt` has been called
    or weights with statistics have been loaded, the mean is 0 and the standard deviation 1.

    Args:
        include_padding: True treats padding as any other frame, in the statistics and in the output,
            as the program of ACRNN does.
        name: Keras name of the layer.

    Source: Chen, He, Yang and Zhang, "3-D Convolutional Recurrent Neural Networks with Attention Model
    for Speech Emotion Recognition", 2018; epsilon from its program.
    """

    def __init__(self, *, include_padding: bool = False, name: str | None = None) -> None:
        super().__init__(name=name)
        self.include_padding = include_padding

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the statistics, one mean and one standard deviation per value of a frame."""
        shape = tuple(input_shape[2:])
        self.mean = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="mean")
        self.std = self.add_weight(shape=shape, initializer="ones", trainable=False, name="std")
        self.n_frames = self.add_weight(shape=(), initializer="zeros", trainable=False, dtype="int32", name="n_frames")

    @property
    def is_adapted(self) -> bool:
        """Whether there are statistics: of how many frames they are is a weight, too."""
        return int(self.n_frames.numpy()) > 0

    def adapt(self, features: np.ndarray) -> None:
        """Take the mean and the population standard deviation of each value of a frame.

        Args:
            features: (N, n_frames, ...) numbers, padded with zero frames; at least one real frame.

        Raises:
            FeatureError: a frame has another shape than the layer's input.
            DataError: there is no frame to count, or a value is not finite.
        """
        if not self.built:
            self.build(features.shape)
        if features.shape[2:] != tuple(self.mean.shape):
            frame = ", ".join(str(size) for size in self.mean.shape)
            raise FeatureError(f"features of shape {features.shape} were given; give (N, n_frames, {frame}).")
        count = sum(len(frames) for frames in self._counted_frames(features))
        if count == 0:
            raise DataError("the features hold no frame but padding; give recordings that hold sound.")
        with np.errstate(invalid="ignore"):  # infinities of both signs
            mean = sum(frames.sum(axis=0) for frames in self._counted_frames(features)) / count
        if not np.isfinite(mean).all():
            raise DataError("the features hold values that are not finite; find the damaged recordings.")
        variance = sum(((frames - mean) ** 2).sum(axis=0) for frames in self._counted_frames(features)) / count
        self.mean.assign(mean)
        self.std.assign(np.sqrt(variance))
        self.n_frames.assign(count)

    def call(self, inputs: Any) -> Any:
        """Return the normalised frames, in the shape of ``inputs``."""
        normalized = (inputs - self.mean) / (self.std + EPSILON)
        if self.include_padding:
            return normalized
        real = keras.ops.any(inputs != 0, axis=tuple(range(2, len(inputs.shape))), keepdims=True)
        return keras.ops.where(real, normalized, 0.0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return ``input_shape``."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {"name": self.name, "include_padding": self.include_padding}

    def _counted_frames(self, features: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the frames that count, (n, ...) float64, of a few clips at a time to keep the memory low."""
        for start in range(0, len(features), _CLIPS_AT_ONCE):
            clips = np.asarray(features[start : start + _CLIPS_AT_ONCE], np.float64)
            frames = clips.reshape(-1, *clips.shape[2:])
            yield frames if self.include_padding else frames[frames.any(axis=tuple(range(1, frames.ndim)))]
