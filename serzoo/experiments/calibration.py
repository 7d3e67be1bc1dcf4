"""Temperature scaling, and the coverage and accuracy of a confidence threshold."""

from __future__ import annotations

import numpy as np

from serzoo.errors import DataError
from serzoo.layers.temperature import FLOOR, at_temperature
from serzoo.weights.cards import Calibration

MAJORITY = 0.5
"""The default threshold: keep a prediction that is more likely correct than wrong, else abstain.

With calibrated probabilities this is the optimum if a wrong prediction costs as much as a correct one gains, and
abstaining costs nothing (Chow, On Optimum Recognition Error and Reject Tradeoff, 1970).
"""


def calibrate(
    probabilities: np.ndarray,
    targets: np.ndarray,
    clips: np.ndarray,
    folds: np.ndarray,
    threshold: float = MAJORITY,
) -> Calibration:
    """Fit the temperature on held-out predictions, and estimate calibration error, coverage and accuracy.

    The temperature is fitted on all predictions. The estimates are cross-validated: each fold is scaled with a
    temperature fitted on the other folds, without their predictions of clips that are in this fold too.

    Args:
        probabilities: (N, n_classes), each row with a sum of 1.
        targets: class indices, (N,).
        clips: the recording of each row, (N,); several rows may be of one.
        folds: the fold of each row, (N,).
        threshold: a prediction with a confidence below this is unknown, 0..1.

    Raises:
        DataError: there are no predictions, their shapes differ, or they are no probabilities; or a fold has all
            recordings, which leaves none to fit a temperature on.
        ConfigError: the threshold is out of range.
    """
    _check(probabilities, targets)
    if not clips.shape == folds.shape == targets.shape:
        raise DataError(
            f"{len(targets)} predictions need as many recordings and folds, not {clips.shape}, {folds.shape}."
        )
    calibrated = np.empty(probabilities.shape)
    for fold in np.unique(folds):
        own = folds == fold
        others = ~np.isin(clips, clips[own])
        if not others.any():
            raise DataError(
                "All recordings are in one fold, so a temperature cannot be fitted on other folds; give the scores of "
                "two folds or more."
            )
        temperature = fit_temperature(probabilities[others], targets[others])
        calibrated[own] = np.asarray(at_temperature(probabilities[own], temperature), np.float64)
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


def fit_temperature(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return the temperature at which the targets are most likely (Guo et al., ICML 2017, section 4.2).

    The negative log likelihood is convex in the inverse of the temperature, so the minimum is unique. The search is
    between 0.05 and 20; predictions that are all correct have no minimum and get the smallest. Arguments and errors are
    those of :func:`calibrate`.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    _check(probabilities, targets)
    logarithms, rows = np.log(np.maximum(probabilities, FLOOR)), np.arange(len(targets))

    def loss(inverse: float) -> float:
        return -float(log_softmax(logarithms * inverse, axis=1)[rows, targets].mean())

    found = minimize_scalar(loss, bounds=(1 / 20, 1 / 0.05), method="bounded", options={"xatol": 1e-6})
    return float(1 / found.x)


def expected_calibration_error(probabilities: np.ndarray, targets: np.ndarray, n_bins: int = 15) -> float:
    """Return the expected calibration error, 0..1 (Guo et al., ICML 2017, equation 3).

    Predictions are put into bins of equal width by their confidence; the differences between a bin's mean confidence
    and its accuracy are averaged, weighted by the bin's size. There are ``n_bins`` between 0 and 1, as many as in the
    paper; a border belongs to the lower bin. The other arguments, and the errors, are those of :func:`calibrate`.
    """
    _check(probabilities, targets)
    confidences, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    bins = np.clip(np.ceil(confidences * n_bins).astype(int) - 1, 0, n_bins - 1)
    gaps = np.bincount(bins, weights=right - confidences, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(targets))


def _check(probabilities: np.ndarray, targets: np.ndarray) -> None:
    if probabilities.ndim != 2 or targets.shape != probabilities.shape[:1] or not len(targets):
        raise DataError(
            f"Probabilities of shape {probabilities.shape} and targets of shape {targets.shape} do not fit; "
            "calibration needs (N, n_classes) and (N,), N at least 1."
        )
    if not (probabilities >= 0).all() or not np.allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-4):
        raise DataError("Probabilities to calibrate must be in 0..1 with a sum of 1 in each row.")
