"""Segments: recordings of any length cut into pieces of one length, and the pieces' posteriors pooled.

The rule of Chen et al. (IEEE Signal Processing Letters 25(10), 2018) and of the self-attention CNN-BiLSTM after them: a
recording gets the element-wise maximum of its segments' posteriors. The papers do not specify the remainder. Here the
last segment ends where the recording ends and overlaps the one before, so that every frame is used.
"""

from __future__ import annotations

import numpy as np


def segment_starts(n_frames: int, length: int) -> np.ndarray:
    """Return the first frames of the segments, of ``length`` frames, of a recording of at least one frame.

    They are (ceil(n_frames / length),) int64: 0, length, 2 length, ... and, for a remainder, n_frames - length; only 0
    for a recording that is no longer than a segment.
    """
    n_segments = -(-n_frames // length)
    return np.minimum(np.arange(n_segments) * length, max(n_frames - length, 0))


def cut_segments(features: np.ndarray, length: int) -> np.ndarray:
    """Cut a recording's features into segments; a recording shorter than a segment is padded with zeros at its end.

    Models treat a frame of zeros as padding and keep it zero when they normalise.

    Args:
        features: (n_frames, ...), at least one frame.
        length: frames of a segment, at least 1.

    Returns:
        (n_segments, length, ...) of the features' dtype; they start at :func:`segment_starts`.
    """
    missing = length - len(features)
    if missing > 0:
        features = np.pad(features, [(0, missing)] + [(0, 0)] * (features.ndim - 1))
    return np.stack([features[start : start + length] for start in segment_starts(len(features), length)])


def pool_segments(posteriors: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the element-wise maximum over each recording's segments, scaled to a sum of 1 (with the same order).

    Args:
        posteriors: (n_segments, n_classes), each row with a sum of 1; the rows of a recording are consecutive.
        counts: segments of each recording, (n_recordings,), each at least 1.

    Returns:
        (n_recordings, n_classes).
    """
    if (counts == 1).all():
        return posteriors
    starts = np.cumsum(counts) - counts
    maxima = np.maximum.reduceat(posteriors, starts, axis=0)
    return maxima / maxima.sum(axis=1, keepdims=True)
