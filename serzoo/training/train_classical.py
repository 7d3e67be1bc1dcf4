"""Train classical classifiers on one vector per recording: the features averaged over frames."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serzoo.checks import SEED, check
from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS, Splits, complete_arguments, make_estimator
from serzoo.classical.model import ClassicalClassifier, clip_vectors
from serzoo.data.examples import Examples
from serzoo.data.manifest import Manifest, in_natural_order
from serzoo.data.splits import Fold
from serzoo.errors import DataError, SerzooError, SerzooWarning
from serzoo.features.spec import FeatureSpec

_CALIBRATION_PARTS = 5


def train_classical(
    name: str,
    arguments: Mapping[str, object],
    examples: Examples,
    spec: FeatureSpec,
    *,
    speakers: np.ndarray | None = None,
    seed: int = 0,
) -> ClassicalClassifier:
    """Train a classical classifier; the result is reproducible to the last digit.

    Args:
        name: a name of :data:`serzoo.classical.estimators.CLASSICAL_CLASSIFIERS`.
        arguments: its arguments that differ from the defaults.
        examples: the training part.
        spec: the feature spec of the examples.
        speakers: speaker of each clip, (N,); needed for ``calibrate: true``, which holds out whole speakers.
        seed: seed of the classifier's random numbers, in ``0..2^32 - 1``.

    Raises:
        UnknownNameError, ConfigError: no such classifier or argument, or an argument or the seed is out of range.
        MissingExtraError: its library is not installed.
        DataError: the training part has one class, or too few speakers to calibrate.
    """
    from sklearn.exceptions import ConvergenceWarning

    settings = complete_arguments(name, arguments)
    check("seed", seed, SEED)
    splits = check_training_part(settings, examples.targets, speakers, examples.class_names)
    learned, targets = np.unique(examples.targets, return_inverse=True)
    vectors = clip_vectors(examples)
    estimator = make_estimator(name, settings, seed, splits)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(vectors, targets)
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        message = f"{name} did not converge; raise max_iter or set scale to true in model.arguments."
        warnings.warn(message, SerzooWarning, stacklevel=2)
    if settings["calibrate"]:
        estimator.set_params(cv=None)  # the indices of the calibration's clips do not belong into a saved model
    known = tuple(map(int, learned))
    return ClassicalClassifier(name, settings, examples.class_names, spec, vectors.shape[1], known, estimator)


def check_classical(name: str, arguments: Mapping[str, object], manifest: Manifest, folds: Sequence[Fold]) -> None:
    """Raise unless a classical classifier can be trained on the training parts of these folds; nothing is trained.

    Raises:
        SerzooError: as :func:`train_classical`; the message names the fold.
    """
    settings = complete_arguments(name, arguments)
    CLASSICAL_CLASSIFIERS.get(name).load()
    speakers = manifest.column("speaker")
    for fold in folds:
        try:
            check_training_part(settings, manifest.targets[fold.train], speakers[fold.train], manifest.class_names)
        except SerzooError as error:
            raise type(error)(f"{fold.name}: {error}") from None


def speaker_splits(
    targets: np.ndarray,
    speakers: np.ndarray | None,
    class_names: Sequence[str],
    n_splits: int,
    *,
    seed: int | None = None,
) -> Splits:
    """Return speaker-disjoint splits of clips, stratified by class, with every class in every training part.

    Args:
        targets: class indices, (N,), of ``class_names``.
        speakers: speaker of each clip, (N,).
        n_splits: largest number of splits; there are at most as many as speakers of the class with the fewest.
        seed: shuffles the speakers; None takes them in order.

    Raises:
        DataError: a speaker is unknown, or a class has fewer than two speakers.
        ConfigError: the seed is out of range.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if seed is not None:
        check("seed", seed, SEED)
    if speakers is None or "" in speakers:
        raise DataError(
            "Some speakers are unknown, but a split by speakers needs all of them; fill the manifest's speaker column."
        )
    by_class = {index: in_natural_order(speakers[targets == index]) for index in np.unique(targets)}
    rarest = min(by_class, key=lambda index: len(by_class[index]))
    if len(by_class[rarest]) < 2:
        raise DataError(
            f"{class_names[rarest]!r} has one speaker only ({by_class[rarest][0]}), and a split by speakers needs 2 or "
            "more of each class; add speakers."
        )
    folds = StratifiedGroupKFold(min(n_splits, len(by_class[rarest])), shuffle=seed is not None, random_state=seed)
    splits = list(folds.split(np.zeros(len(targets)), targets, speakers))
    for train, _ in splits:
        missing = set(by_class) - set(targets[train])
        if missing:
            raise DataError(
                f"All speakers of {class_names[min(missing)]!r} are held out together, but a split by speakers needs "
                "some on either side; add speakers or leave that class out."
            )
    return splits


def check_training_part(
    settings: Mapping[str, Any], targets: np.ndarray, speakers: np.ndarray | None, class_names: Sequence[str]
) -> Splits | None:
    """Return the splits for the calibration, or None if it is off; raise DataError if training is impossible."""
    found = np.unique(targets)
    if len(found) < 2:
        raise DataError(
            f"All {len(targets)} training clips are {class_names[found[0]]!r}; a classifier needs 2 or more classes."
        )
    if not settings["calibrate"]:
        return None
    try:
        return speaker_splits(targets, speakers, class_names, _CALIBRATION_PARTS)
    except DataError as error:
        raise DataError(f"Calibration: {str(error).rstrip('.')}, or set calibrate to false.") from None
