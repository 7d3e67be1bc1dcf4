"""Make probabilities as sure as they are right, and say below which confidence an answer is worth nothing."""

from __future__ import annotations

import numpy as np

from serzoo.errors import DataError
from serzoo.layers.temperature import FLOOR, at_temperature
from serzoo.weights.cards import Calibration

MAJORITY = 0.5
"""The usual threshold: an answer is given where it is more likely right than wrong.

With calibrated probabilities that is the best rule where a wrong answer costs as much as a right one is worth, and none
costs nothing (Chow, On Optimum Recognition Error and Reject Tradeoff, 1970).
"""

_BINS = 15  # as Guo et al. have them
_TEMPERATURES = (0.05, 20.0)


def calibrate(
    probabilities: np.ndarray,
    targets: np.ndarray,
    clips: np.ndarray,
    folds: np.ndarray,
    threshold: float = MAJORITY,
) -> Calibration:
    """Fit the temperature on predictions of recordings that were held out, and say what the answers are worth then.

    The temperature is fitted on all of them. What it is worth is found as scores are: each fold is judged at a
    temperature that was fitted on the other folds, without the recordings that are in this one, too.

    Args:
        probabilities: (N, n_classes), each row with a sum of 1.
        targets: class indices, (N,).
        clips: which recording each row is about, (N,); several networks may have heard the same.
        folds: which fold each row is of, (N,).
        threshold: a confidence below this makes the answer unknown, 0..1.

    Raises:
        DataError: no predictions, of other shapes, or no probabilities; or one fold alone, or folds of which one has
            all recordings, which leave nothing to fit a temperature on.
        WeightsError: the threshold is out of range.
    """
    _check(probabilities, targets)
    if not clips.shape == folds.shape == targets.shape:
        raise DataError(
            f"{len(targets)} predictions need as many recordings and folds, not {clips.shape}, {folds.shape}."
        )
    calibrated = _held_out(probabilities, targets, clips, folds)
    answered = calibrated.max(axis=1) >= threshold
    right = calibrated.argmax(axis=1) == targets
    return Calibration(
        temperature=fit_temperature(probabilities, targets),
        error_before=expected_calibration_error(probabilities, targets),
        error_after=expected_calibration_error(calibrated, targets),
        threshold=threshold,
        coverage=float(answered.mean()),
        accuracy=float(right[answered].mean()) if answered.any() else 0.0,
        n=len(np.unique(clips)),
    )


def _held_out(probabilities: np.ndarray, targets: np.ndarray, clips: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the probabilities of each fold at a temperature that was fitted without its recordings."""
    calibrated = np.empty(probabilities.shape)
    for fold in np.unique(folds):
        own = folds == fold
        others = ~np.isin(clips, clips[own])
        if not others.any():
            raise DataError(
                "All recordings are in one fold, so that none can tell what a temperature is worth that was fitted on "
                "the others; give the scores of two folds or more."
            )
        temperature = fit_temperature(probabilities[others], targets[others])
        calibrated[own] = np.asarray(at_temperature(probabilities[own], temperature), np.float64)
    return calibrated


def fit_temperature(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the temperature at which the targets are most likely (Guo et al., ICML 2017, section 4.2).

    The negative log likelihood is convex in the temperature's inverse, so that there is one. It is looked for between
    0.05 and 20; probabilities that are always right have none, and get the smallest.

    Args:
        probabilities: (N, n_classes), each row with a sum of 1.
        targets: class indices, (N,).

    Raises:
        DataError: no predictions, of other shapes, or no probabilities.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    _check(probabilities, targets)
    logarithms, rows = np.log(np.maximum(probabilities, FLOOR)), np.arange(len(targets))

    def loss(inverse: float) -> float:
        return -float(log_softmax(logarithms * inverse, axis=1)[rows, targets].mean())

    coldest, hottest = _TEMPERATURES
    found = minimize_scalar(loss, bounds=(1 / hottest, 1 / coldest), method="bounded", options={"xatol": 1e-6})
    return float(1 / found.x)


def expected_calibration_error(probabilities: np.ndarray, targets: np.ndarray, n_bins: int = _BINS) -> float:
    """Return how far confidence and accuracy are apart, 0..1 (Guo et al., ICML 2017, equation 3).

    Predictions are put into bins of equal width by their confidence; the differences between a bin's mean confidence
    and its accuracy are averaged, weighted by the bin's size.

    Args:
        probabilities: (N, n_classes), each row with a sum of 1.
        targets: class indices, (N,).
        n_bins: of the confidences between 0 and 1; one that lies between two bins belongs to the lower.

    Raises:
        DataError: no predictions, of other shapes, or no probabilities.
    """
    _check(probabilities, targets)
    confidences, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    bins = np.clip(np.ceil(confidences * n_bins).astype(int) - 1, 0, n_bins - 1)
    gaps = np.bincount(bins, weights=right - confidences, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(targets))


def _check(probabilities: np.ndarray, targets: np.ndarray) -> None:
    if probabilities.ndim != 2 or targets.shape != probabilities.shape[:1] or not len(targets):
        raise DataError(
            f"Probabilities of shape {probabilities.shape} and targets of shape {targets.shape} do not go together; "
            "calibration needs (N, n_classes) and (N,), N at least 1."
        )
    if not (probabilities >= 0).all() or not np.allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-4):
        raise DataError("Probabilities to calibrate must lie in 0..1 with a sum of 1 in each row.")
