"""Compute features of any kind from a spec."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from serzoo.features.embeddings import embed
from serzoo.features.reference import log_mel, magnitude_stft, mfcc
from serzoo.features.spec import EmbeddingSpec, FeatureSpec, LogMelSpec, MFCCSpec, STFTSpec


def embedding(waveform: np.ndarray, spec: EmbeddingSpec) -> np.ndarray:
    """Compute the vector of a recording, as its only frame; see :func:`serzoo.features.embeddings.embed`.

    Args:
        waveform: (n,) float32 at ``spec.sample_rate``, full scale at -1 and 1.
        spec: the vector.

    Returns:
        (1, spec.width) float32.

    Raises:
        SerzooError: as :func:`serzoo.features.embeddings.embed` does.
    """
    return embed(waveform, spec)[np.newaxis]


EXTRACTORS: dict[str, Callable[..., np.ndarray]] = {
    MFCCSpec.kind: mfcc,
    LogMelSpec.kind: log_mel,
    STFTSpec.kind: magnitude_stft,
    EmbeddingSpec.kind: embedding,
}
"""The reference function of each kind of feature."""


def extract(waveform: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Compute the features of ``spec``.

    Args:
        waveform: (n,) float32 at ``spec.sample_rate``, full scale at -1 and 1.
        spec: the features.

    Returns:
        (n_frames, *spec.frame_shape) float32.

    Raises:
        FeatureError: the waveform is not one channel, or too short.
    """
    return EXTRACTORS[spec.kind](waveform, spec)
