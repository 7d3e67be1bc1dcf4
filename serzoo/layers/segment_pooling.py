"""Segments inside a graph, so that an exported model takes recordings of any length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops


def predict_by_segments(network: Callable[[Any], Any], features: Any, length: int, genders: Any | None = None) -> Any:
    """Cut recordings into segments and pool the segments' posteriors, as :mod:`serzoo.features.segments` does.

    Args:
        network: returns posteriors (n, n_classes) for features (n, length, ...), with genders for the
            dictionary of ``features`` and ``gender``, (n, 1).
        features: of whole recordings, (batch, n_frames, ...); n_frames may be dynamic, at least 1.
        length: frames of a segment.
        genders: (batch, 1), or None for a network without gender input.

    Returns:
        (batch, n_classes): each recording's element-wise maximum over its segments, scaled to a sum of 1.
    """
    n_frames = ops.shape(features)[1]
    n_segments = (n_frames + length - 1) // length
    padding = [(0, 0), (0, n_segments * length - n_frames)] + [(0, 0)] * (len(features.shape) - 2)
    # The last segment ends where the recording ends; it overlaps the one before instead of containing padding.
    starts = ops.minimum(ops.arange(n_segments) * length, ops.maximum(n_frames - length, 0))
    segments = ops.take(ops.pad(features, padding), starts[:, None] + ops.arange(length), axis=1)
    inputs = ops.reshape(segments, (-1, length, *features.shape[2:]))
    if genders is not None:
        inputs = {"features": inputs, "gender": ops.repeat(genders, n_segments, axis=0)}
    posteriors = network(inputs)
    maxima = ops.max(ops.reshape(posteriors, (-1, n_segments, posteriors.shape[-1])), axis=1)
    return maxima / ops.sum(maxima, axis=-1, keepdims=True)
