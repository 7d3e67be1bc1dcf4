"""Train classical classifiers on one vector per recording: the features averaged over frames."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS, Splits, complete_arguments, make_estimator
from serzoo.classical.model import ClassicalClassifier, clip_vectors
from serzoo.data.examples import Examples
from serzoo.data.manifest import Manifest, in_natural_order
from serzoo.data.splits import Fold
from serzoo.errors import ConfigError, DataError, SerzooError, SerzooWarning
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
    """Train a simple classifier.

    Args:
        name: of :data:`serzoo.classical.estimators.CLASSICAL_CLASSIFIERS`.
        arguments: those that are not to be the defaults.
        examples: the training part.
        spec: what its features are.
        speakers: of each clip, (N,); needed with ``calibrate: true``, which holds out whole speakers.
        seed: of whatever the classifier draws, in ``0..2^32 - 1``.

    Returns:
        The classifier; the same one, to the last digit, for the same arguments.

    Raises:
        UnknownNameError, ConfigError: no such classifier or argument, or an argument or the seed out of range.
        MissingExtraError: its library is not installed.
        DataError: the training part has one class, or too few speakers to calibrate.
    """
    settings = complete_arguments(name, arguments)
    _check_seed(seed)
    splits = check_training_part(settings, examples.targets, speakers, examples.class_names)
    learned, targets = np.unique(examples.targets, return_inverse=True)
    vectors = clip_vectors(examples)
    estimator = make_estimator(name, settings, seed, splits)
    with _convergence_explained(name):
        estimator.fit(vectors, targets)
    if settings["calibrate"]:
        estimator.set_params(cv=None)  # the positions of the clips are nobody's business any more
    known = tuple(map(int, learned))
    return ClassicalClassifier(name, settings, examples.class_names, spec, vectors.shape[1], known, estimator)


def check_classical(name: str, arguments: Mapping[str, object], manifest: Manifest, folds: Sequence[Fold]) -> None:
    """Raise unless a simple classifier can be trained on the training parts of these folds; nothing is trained.

    Args:
        name: of the classifier.
        arguments: those that are not to be the defaults.
        manifest: the recordings.
        folds: of the manifest.

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
    """Split clips so that nobody is on both sides, and every class is in every training part.

    Args:
        targets: class indices, (N,).
        speakers: of the clips, (N,).
        class_names: what the indices mean.
        n_splits: how many splits at most; no more than speakers of the class with the fewest of them.
        seed: which speakers go together; None takes them in order.

    Returns:
        Positions of the two sides, the second ones covering all clips once, with the classes' shares as equal as
        whole speakers allow.

    Raises:
        DataError: an unknown speaker, or a class that fewer than two speakers have.
        ConfigError: a seed out of range.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    _check_seed(0 if seed is None else seed)
    if speakers is None or "" in speakers:
        raise DataError(
            "Some speakers are unknown, and a split by speakers needs them all; fill the manifest's speaker column."
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
                f"All speakers of {class_names[min(missing)]!r} are held out together, and a split by speakers needs "
                "some on either side; add speakers, or do without that class."
            )
    return splits


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ConfigError(f"seed is {seed!r}; it must be a whole number, at least 0 and below 2^32.")


def check_training_part(
    settings: Mapping[str, Any], targets: np.ndarray, speakers: np.ndarray | None, class_names: Sequence[str]
) -> Splits | None:
    """Return the splits to calibrate with, or None without; raise DataError if the part cannot be trained on."""
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


@contextmanager
def _convergence_explained(name: str) -> Iterator[None]:
    """Turn scikit-learn's warnings of a training that did not settle into one that says what to do."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        message = f"{name} stopped before it settled; raise max_iter in model.arguments, or set scale to true there."
        warnings.warn(message, SerzooWarning, stacklevel=4)
