"""Scores of a classifier, all from its confusion matrix: UAR, WAR, weighted F1 and recall per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from serzoo.errors import DataError
from serzoo.labels import check_class_names

HEADLINE = ("uar", "war", "weighted_f1")
"""The three scores of every table, in this order."""


def headline_scores(hits: np.ndarray, support: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Return UAR, WAR and weighted F1, 0..1, by their names in :data:`HEADLINE`, each of shape (...,).

    This is the only place that defines them; counts may be fractions, as of clips that share a weight.

    Args:
        hits: correct predictions of each class, (..., K).
        support: recordings of each true class, (..., K); their sum is above 0.
        predicted: recordings of each predicted class, (..., K).
    """
    occurs = support > 0
    recall = np.divide(hits, support, out=np.zeros(hits.shape), where=occurs)
    either = support + predicted
    f1 = np.divide(2 * hits, either, out=np.zeros(hits.shape), where=either > 0)
    n = support.sum(axis=-1)
    return {
        "uar": recall.sum(axis=-1) / occurs.sum(axis=-1),
        "war": hits.sum(axis=-1) / n,
        "weighted_f1": (support * f1).sum(axis=-1) / n,
    }


@dataclass(frozen=True)
class Scores:
    """The scores of a classifier, from its confusion matrix.

    Args:
        confusion: recordings counted by true class (rows) and predicted class (columns), shape (K, K).
        class_names: the K classes.

    Raises:
        DataError: the matrix is not K x K, has a negative entry or counts no recording.
    """

    confusion: tuple[tuple[int, ...], ...]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        names = check_class_names(self.class_names)
        matrix = np.asarray(self.confusion)
        if matrix.shape != (len(names), len(names)) or (matrix < 0).any() or matrix.sum() == 0:
            raise DataError(
                f"A confusion matrix of {len(names)} classes needs {len(names)} x {len(names)} counts, "
                f"0 or above and not all 0; got shape {matrix.shape} with a sum of {matrix.sum()}."
            )
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "confusion", tuple(tuple(int(count) for count in row) for row in matrix))

    @classmethod
    def from_predictions(
        cls, targets: Sequence[int] | np.ndarray, predictions: Sequence[int] | np.ndarray, class_names: Sequence[str]
    ) -> Scores:
        """Score predicted classes.

        Args:
            targets: true class indices, shape (N,), each in ``0..K - 1``.
            predictions: predicted class indices, the same shape and range.
            class_names: the K classes.

        Raises:
            DataError: there is no recording, the shapes differ or an index is out of range.
        """
        n_classes = len(class_names)
        true = _class_indices("targets", targets, n_classes)
        predicted = _class_indices("predictions", predictions, n_classes)
        if len(true) != len(predicted):
            raise DataError(f"{len(true)} targets but {len(predicted)} predictions; give one prediction per target.")
        matrix = np.bincount(true * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
        return cls(tuple(map(tuple, matrix.tolist())), tuple(class_names))

    @property
    def n(self) -> int:
        """Number of recordings."""
        return int(np.sum(self.confusion))

    @property
    def recall(self) -> dict[str, float | None]:
        """Recall of each class, 0..1; None for a class without recordings."""
        hits, support = np.diagonal(self.confusion), np.sum(self.confusion, axis=1)
        return {
            name: float(hit / count) if count else None
            for name, hit, count in zip(self.class_names, hits, support, strict=True)
        }

    @property
    def uar(self) -> float:
        """Unweighted average recall, 0..1: the mean of the recalls of the classes that occur in the targets.

        A class without recordings has no recall, so it is left out rather than counted as 0: EMO-DB has no recording
        of speaker 08 with disgust, and the UAR of that fold is the mean over the other six classes.
        """
        return self._headline["uar"]

    @property
    def war(self) -> float:
        """Weighted average recall, 0..1: the accuracy."""
        return self._headline["war"]

    @property
    def weighted_f1(self) -> float:
        """Mean of the classes' F1 scores, weighted by their number of recordings, 0..1."""
        return self._headline["weighted_f1"]

    @cached_property
    def _headline(self) -> dict[str, float]:
        matrix = np.asarray(self.confusion)
        scores = headline_scores(np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0))
        return {name: float(score) for name, score in scores.items()}

    def to_dict(self) -> dict[str, object]:
        """Return all scores as plain data for JSON; :meth:`from_dict` reads it back."""
        return {
            **{name: getattr(self, name) for name in HEADLINE},
            "n": self.n,
            "recall": self.recall,
            "class_names": list(self.class_names),
            "confusion": [list(row) for row in self.confusion],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Scores:
        """Rebuild the scores from the dictionary of :meth:`to_dict`.

        Raises:
            DataError: ``confusion`` or ``class_names`` is missing or malformed.
        """
        missing = [key for key in ("confusion", "class_names") if key not in values]
        if missing:
            raise DataError(f"Stored scores lack {' and '.join(missing)}; was the file written by serzoo?")
        return cls(values["confusion"], values["class_names"])  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"UAR {_percent(self.uar)}  WAR {_percent(self.war)}  F1 {_percent(self.weighted_f1)}  (n={self.n})"


@dataclass(frozen=True)
class Summary:
    """Scores over folds, each trained once or with several seeds.

    Args:
        folds: for each fold the scores of its runs, one per seed.
        pooled: the scores of all runs' predictions together; a class that one fold lacks is in it.
        mean: ``uar``, ``war`` and ``weighted_f1``, averaged over the runs of a fold, then over folds, 0..1.
        std: the standard deviation of the folds' averages, of the population (divided by the number of folds).
    """

    folds: tuple[tuple[Scores, ...], ...]
    pooled: Scores
    mean: dict[str, float]
    std: dict[str, float]

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain data for JSON."""
        return {
            "mean": self.mean,
            "std": self.std,
            "pooled": self.pooled.to_dict(),
            "folds": [[run.to_dict() for run in runs] for runs in self.folds],
        }

    def __str__(self) -> str:
        uar, war, f1 = (f"{_percent(self.mean[name])} ± {_percent(self.std[name])}" for name in HEADLINE)
        n_folds, n_runs = len(self.folds), sum(map(len, self.folds))
        folds = f"{n_folds} folds" if n_folds > 1 else "1 fold"
        runs = f", {n_runs} runs" if n_runs > n_folds else ""
        return f"UAR {uar}  WAR {war}  F1 {f1}  ({folds}{runs}, n={self.pooled.n})"


def summarise(folds: Sequence[Sequence[Scores]]) -> Summary:
    """Return mean, population standard deviation and pooled scores over folds.

    Args:
        folds: for each fold the scores of its runs; a fold counts once, however many runs it has.

    Raises:
        DataError: there is no fold, a fold has no run, or the runs' classes differ.
    """
    if not folds or not all(folds):
        raise DataError("No folds to summarise; evaluate at least one, each at least once.")
    runs = [run for fold in folds for run in fold]
    class_names = runs[0].class_names
    for run in runs:
        if run.class_names != class_names:
            raise DataError(f"Folds have different classes: {list(class_names)} and {list(run.class_names)}.")
    averages = {name: [np.mean([getattr(run, name) for run in fold]) for fold in folds] for name in HEADLINE}
    pooled = np.sum([run.confusion for run in runs], axis=0)
    return Summary(
        folds=tuple(map(tuple, folds)),
        pooled=Scores(tuple(map(tuple, pooled.tolist())), class_names),
        mean={name: float(np.mean(scores)) for name, scores in averages.items()},
        std={name: float(np.std(scores)) for name, scores in averages.items()},
    )


def _class_indices(what: str, values: Sequence[int] | np.ndarray, n_classes: int) -> np.ndarray:
    indices = np.asarray(values)
    if indices.ndim != 1 or len(indices) == 0:
        raise DataError(f"The {what} have shape {indices.shape}; scores need a list of at least one class index.")
    if not np.issubdtype(indices.dtype, np.integer):
        raise DataError(f"The {what} are {indices.dtype}; scores need class indices (integers), not probabilities.")
    outside = indices[(indices < 0) | (indices >= n_classes)]
    if len(outside):
        raise DataError(
            f"The {what} hold {outside[0]}; with {n_classes} classes, indices go from 0 to {n_classes - 1}."
        )
    return indices.astype(np.int64)


def _percent(score: float) -> str:
    return f"{100 * score:.2f}"
