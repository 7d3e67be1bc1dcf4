"""Compute features of any kind from a spec."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from serzoo.features.embeddings import embed
from serzoo.features.reference import log_mel, magnitude_stft, mfcc
from serzoo.features.spec import EmbeddingSpec, FeatureSpec, LogMelSpec, MFCCSpec, STFTSpec

EXTRACTORS: dict[str, Callable[..., np.ndarray]] = {
    MFCCSpec.kind: mfcc,
    LogMelSpec.kind: log_mel,
    STFTSpec.kind: magnitude_stft,
    EmbeddingSpec.kind: lambda waveform, spec: embed(waveform, spec)[np.newaxis],  # the only frame
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
        SerzooError: an embedding cannot be computed; see :func:`~serzoo.features.embeddings.embed`.
    """
    return EXTRACTORS[spec.kind](waveform, spec)
