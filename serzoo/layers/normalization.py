"""Normalisation of features by the statistics of the training part, stored with the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from serzoo.errors import DataError, FeatureError
from serzoo.layers.recorded import RecordedLayer

EPSILON = 1e-5
"""Added to the standard deviation of a value of a frame, as the program of ACRNN does."""

_CLIPS_AT_ONCE = 32


class Normalization(RecordedLayer, ABC):
    """Base of the layers that normalise features by the training part's statistics, stored as weights.

    They take (batch, time, ...) and return the same shape. A frame of exact zeros is padding: it is left out of
    the statistics and stays zero. Until :meth:`adapt` is called or weights with statistics are loaded, features
    pass unchanged. They compute in float32 whatever the dtype policy: in half precision, subtracting a large mean
    would leave too few digits.
    """

    include_padding = False
    """Whether padding is treated as any other frame."""

    per_value = False
    """Whether every value of a frame has its own statistics; otherwise all have the same."""

    initial: tuple[tuple[str, str], ...]
    """Name of each statistic, and the initializer by which it changes no feature."""

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name=name, dtype="float32")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the statistics for frames of ``input_shape[2:]``."""
        self.frame_shape = tuple(input_shape[2:])
        shape = self.frame_shape if self.per_value else ()
        for name, start in self.initial:
            setattr(self, name, self.add_weight(shape=shape, initializer=start, trainable=False, name=name))
        self.n_frames = self.add_weight(shape=(), initializer="zeros", trainable=False, dtype="int32", name="n_frames")

    @property
    def is_adapted(self) -> bool:
        """Whether the layer has statistics: the number of their frames is a weight and starts at 0."""
        return int(self.n_frames.numpy()) > 0

    @property
    def neutral(self) -> np.ndarray:
        """The features that normalise to zero, of a shape that broadcasts to a frame."""
        return np.zeros((), np.float32)

    def adapt(self, features: np.ndarray) -> None:
        """Compute the statistics of ``features`` in double precision; they replace earlier ones.

        Args:
            features: (N, n_frames, ...) numbers, padded with zero frames; at least one real frame.

        Raises:
            FeatureError: a frame has another shape than the layer's input.
            DataError: there is no frame to count, or a value is not finite.
        """
        if not self.built:
            self.build(features.shape)
        if features.shape[2:] != self.frame_shape:
            frame = ", ".join(str(size) for size in self.frame_shape)
            raise FeatureError(f"features of shape {features.shape} were given; give (N, n_frames, {frame}).")
        count = 0
        for frames in self._counted_frames(features):
            if not np.isfinite(frames).all():
                raise DataError("the features hold values that are not finite; find the damaged recordings.")
            count += len(frames)
        if count == 0:
            raise DataError("the features hold only padding; give recordings that hold sound.")
        self._take_statistics(features)
        self.n_frames.assign(count)

    def call(self, inputs: Any) -> Any:
        """Return the normalised frames, in the shape of ``inputs``."""
        normalized = self._normalized(inputs)
        if self.include_padding:
            return normalized
        real = keras.ops.any(inputs != 0, axis=tuple(range(2, len(inputs.shape))), keepdims=True)
        return keras.ops.where(real, normalized, 0.0)

    @abstractmethod
    def _take_statistics(self, features: np.ndarray) -> None:
        """Set the statistics to those of ``features``: finite, with at least one frame that counts."""

    @abstractmethod
    def _normalized(self, inputs: Any) -> Any:
        """Return ``inputs`` normalised, padding included."""

    def _counted_frames(self, features: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the frames that count, (n, ...) float64, a few clips at a time: a whole corpus in float64 is large."""
        for start in range(0, len(features), _CLIPS_AT_ONCE):
            clips = np.asarray(features[start : start + _CLIPS_AT_ONCE], np.float64)
            frames = clips.reshape(-1, *clips.shape[2:])
            yield frames if self.include_padding else frames[frames.any(axis=tuple(range(1, frames.ndim)))]


class _Standardization(Normalization):
    """Values minus a mean, over a standard deviation, both with the shape of a frame or single numbers."""

    initial = (("mean", "zeros"), ("std", "ones"))

    _epsilon = 0.0
    """Added to the standard deviation."""

    @property
    def neutral(self) -> np.ndarray:
        """The mean."""
        return self.mean.numpy()

    def _take_statistics(self, features: np.ndarray) -> None:
        axis = 0 if self.per_value else None
        count = sum(np.size(frames, axis) for frames in self._counted_frames(features))
        mean = sum(frames.sum(axis=axis) for frames in self._counted_frames(features)) / count
        variance = sum(((frames - mean) ** 2).sum(axis=axis) for frames in self._counted_frames(features)) / count
        self.mean.assign(mean)
        self.std.assign(np.sqrt(variance))

    def _normalized(self, inputs: Any) -> Any:
        return (inputs - self.mean) / (self.std + self._epsilon)


@keras.saving.register_keras_serializable("serzoo")
class FrameNormalization(_Standardization):
    """Each value of a frame minus its mean, over its standard deviation: ``(x - mean) / (std + 1e-5)``.

    Input, output and padding are those of :class:`Normalization`.

    Args:
        include_padding: True treats padding as any other frame, in the statistics and in the output,
            as the program of ACRNN does.

    Source: Chen, He, Yang and Zhang, "3-D Convolutional Recurrent Neural Networks with Attention Model
    for Speech Emotion Recognition", 2018; epsilon from its program.
    """

    per_value = True
    _epsilon = EPSILON

    def __init__(self, *, include_padding: bool = False, name: str | None = None) -> None:
        super().__init__(name=name)
        self.include_padding = include_padding


@keras.saving.register_keras_serializable("serzoo")
class GlobalNormalization(_Standardization):
    """All values minus their one mean, over their one standard deviation (1 where they do not vary).

    Input, output, padding and arguments are those of :class:`Normalization`.

    Source: Guizzo et al., "Quaternion Anti-Transfer Learning for Speech Emotion Recognition", WASPAA 2023,
    section 3.1, for its real networks.
    """

    def _take_statistics(self, features: np.ndarray) -> None:
        super()._take_statistics(features)
        if not self.std.numpy():
            self.std.assign(1.0)


@keras.saving.register_keras_serializable("serzoo")
class MaximumNormalization(Normalization):
    """All values over the largest absolute value: magnitudes of the training part are in 0..1.

    Magnitudes of other recordings may be larger. Input, output, padding and arguments are those of
    :class:`Normalization`.

    Source: Guizzo et al., "Quaternion Anti-Transfer Learning for Speech Emotion Recognition", WASPAA 2023,
    section 3.1, for its quaternion networks.
    """

    initial = (("maximum", "ones"),)

    def _take_statistics(self, features: np.ndarray) -> None:
        self.maximum.assign(max(np.abs(frames).max(initial=0) for frames in self._counted_frames(features)))

    def _normalized(self, inputs: Any) -> Any:
        return inputs / self.maximum
