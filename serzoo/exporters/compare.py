"""Compare an exported model, whatever its format, with the model it was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from serzoo.data.examples import network_inputs
from serzoo.errors import ExportError
from serzoo.features.extract import extract
from serzoo.features.segments import cut_segments, pool_segments

if TYPE_CHECKING:
    from serzoo.classifier import Classifier

FEATURES_TOLERANCE = 1e-5
"""Largest allowed difference of a probability, given the same features."""

WAVEFORM_TOLERANCE = 1e-4
"""Largest allowed difference of a probability, given the same waveform. The front end's coefficients are within 2e-3
of the reference's, which reach 850; that changes the probabilities of TIM-Net and TBDM-Net by up to 1e-6."""

_BATCH_SIZES = (1, 3)


def check_probabilities(
    classifier: Classifier,
    *,
    by_waveforms: Callable[..., np.ndarray],
    by_features: Callable[..., np.ndarray],
) -> None:
    """Compare an export's probabilities with the model's on noise of several lengths and batch sizes.

    Args:
        classifier: the model; its features come from the reference.
        by_waveforms: maps waveforms, (batch, n_samples) float32, to the export's probabilities, (batch, n_classes); for
            models with a gender input it also takes ``gender``, (batch,).
        by_features: the same for the features of whole recordings, (batch, n_frames, ...) float32.

    Raises:
        ExportError: a probability differs too much, or the shape does.
    """
    for waveforms in _probes(classifier):
        features = np.stack([extract(waveform, classifier.feature_spec) for waveform in waveforms])
        genders = np.linspace(1, 0, len(waveforms), dtype=np.float32)
        expected = _probabilities(classifier, features, genders)
        gender = {"gender": genders} if classifier.model.takes_gender else {}
        _compare("features", by_features(features, **gender), expected, FEATURES_TOLERANCE)
        found = by_waveforms(waveforms, **gender)
        _compare(f"waveforms of {waveforms.shape[1]} samples", found, expected, WAVEFORM_TOLERANCE)


def _probabilities(classifier: Classifier, features: np.ndarray, genders: np.ndarray) -> np.ndarray:
    """Return the model's probabilities for whole recordings, (batch, n_classes)."""
    length = classifier.feature_spec.segment_frames
    parts = [clip[None] if length is None else cut_segments(clip, length) for clip in features]
    counts = np.array([len(part) for part in parts])
    repeated = np.repeat(genders, counts) if classifier.model.takes_gender else None
    outputs = classifier.network.predict_on_batch(network_inputs(np.concatenate(parts), repeated))
    return np.asarray(classifier.calibrated(pool_segments(outputs, counts)))


def _probes(classifier: Classifier) -> Iterator[np.ndarray]:
    """Yield noise that swells and fades, shorter than, equal to and longer than the model's length."""
    random, spec = np.random.default_rng(0), classifier.feature_spec
    length = spec.n_samples or (spec.segment_frames or 0) * spec.hop_length or spec.sample_rate
    shortest = spec.min_samples + (classifier.model.min_frames - 1) * spec.hop_length
    for n_samples in (max(length // 3 + 1, shortest), max(length, shortest), 2 * length + shortest):
        for batch_size in _BATCH_SIZES:
            noise = random.normal(0, 0.1, (batch_size, n_samples)) * np.hanning(n_samples)
            yield noise.astype(np.float32)


def _compare(kind: str, found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    if found.shape != expected.shape:
        raise ExportError(f"The export returns the shape {found.shape} for {kind}, the model {expected.shape}.")
    difference = float(np.abs(found - expected).max())
    if not difference <= tolerance:  # also where it is NaN
        raise ExportError(
            f"The export's probabilities for {kind} differ from the model's by {difference:.2g}, "
            f"allowed is {tolerance:g}; nothing was written."
        )
