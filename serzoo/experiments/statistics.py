"""Intervals over test speakers, and tests of the difference between two runs.

Clips of one speaker are alike, so clips are not independent and an interval over clips is too narrow. The bootstrap
here resamples speakers, each with all test clips (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
chapter 13, for percentiles; Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8, and
Field and Welsh, "Bootstrapping clustered data", JRSS B 69, 2007, for clusters).

**Few speakers.** The percentiles make the interval of a mean of S speakers as wide as Student's:
``Phi(t(S - 1) * sqrt(S / (S - 1)))`` instead of 2.5 % (Hesterberg, "What teachers should know about the bootstrap", The
American Statistician 69, 2015). The usual percentiles are too narrow: by 7 % with 24 speakers, by 30 % with six. Two
errors remain: skew, and the bound that no interval exceeds the range from the worst to the best speaker.
:data:`COVERAGE` has the resulting coverage. Five to thirty clusters count as few (Cameron, Gelbach and Miller,
"Bootstrap-based improvements for inference with clustered errors", Review of Economics and Statistics 90, 2008). The
test of a difference keeps its level with any number of speakers; with few it has little power.

**Pooled.** Scores are of all folds' test clips together, each counted once: a fold of a speaker-independent protocol
has few speakers, or one, so folds cannot be resampled apart from speakers. The mean over folds differs a little from
the pooled score; for WAR and folds of one size they are equal. Of several seeds' predictions of a clip each counts its
share. So UAR and WAR are means over seeds, and F1 is of the averaged confusion matrix.

**Not covered** are other seeds, splits, training parts, sentences and corpora. The scores of two seeds of a small
network may differ by as much as the interval's width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from types import MappingProxyType

import numpy as np

from serzoo.errors import DataError
from serzoo.metrics import headline_scores

N_RESAMPLES = 10_000
"""Number of bootstrap samples, and the largest number of sign flips."""

FEW_SPEAKERS = 30
"""Intervals over fewer speakers are marked as too narrow."""

COVERAGE: Mapping[int, int] = MappingProxyType({24: 93, 12: 92, 6: 89, 4: 86, 2: 50})
"""By the number of speakers, how many of a hundred 95 % intervals contain a true score of 90 %, from the simulation in
the tests; of lower scores as many or more do."""

COMPARED = ("uar", "war")
"""The scores whose differences are tested: those that are a sum of the speakers' contributions."""


def percent(score: float, sign: str = "") -> str:
    """Return a score, or a difference of two, in percent with two digits, the same on every machine.

    Args:
        score: 0..1, of a difference -1..1.
        sign: ``"+"`` to show the sign of positive numbers too.
    """
    # rounded first, as the last digits depend on the order in which a machine adds; + 0.0 turns -0 into 0
    return f"{round(100 * score, 6) + 0.0:{sign}.2f}"


def marked(n_speakers: int) -> str:
    """Return a number of speakers, with a dagger below :data:`FEW_SPEAKERS`."""
    return f"{n_speakers} †" if n_speakers < FEW_SPEAKERS else str(n_speakers)


@dataclass(frozen=True)
class Interval:
    """A score, 0..1, or a difference of two, -1..1, with the ends of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{percent(self.value)} [{percent(self.low)}, {percent(self.high)}]"


@dataclass(frozen=True)
class Difference(Interval):
    """The second score minus the first, with the p of the two-sided permutation test."""

    p: float

    def __str__(self) -> str:
        p = f"p = {self.p:.3f}" if self.p >= 0.001 else "p < 0.001"
        return f"{percent(self.value, '+')} [{percent(self.low, '+')}, {percent(self.high, '+')}], {p}"


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same test clips.

    Args:
        differences: of each of :data:`COMPARED`, the second run's score minus the first's.
        n_speakers: number of speakers of the clips.
        n_clips: number of clips.
        exact: whether p is from all permutations, instead of :data:`N_RESAMPLES` random ones.
        smallest_p: the smallest possible p: every speaker's score is higher in the same run.
    """

    differences: Mapping[str, Difference]
    n_speakers: int
    n_clips: int
    exact: bool
    smallest_p: float


@dataclass(frozen=True, eq=False)
class SpeakerCounts:
    """Counts by speaker, from which the scores of any sample of speakers follow.

    Args:
        speakers: S names, ascending, so that no result depends on the order of the clips.
        hits: correct predictions by speaker and class, (S, K); support and predicted are all clips by true and
            by predicted class.
    """

    speakers: tuple[str, ...]
    hits: np.ndarray
    support: np.ndarray
    predicted: np.ndarray

    @classmethod
    def from_predictions(
        cls,
        speakers: Sequence[str] | np.ndarray,
        targets: Sequence[int] | np.ndarray,
        predictions: Sequence[int] | np.ndarray,
        n_classes: int,
        weights: Sequence[float] | np.ndarray | None = None,
    ) -> SpeakerCounts:
        """Count the predictions of each speaker's clips.

        Args:
            speakers: the speaker of each of N clips.
            targets: true class indices, (N,), each in ``0..n_classes - 1``.
            predictions: predicted class indices, the same.
            n_classes: the number of classes, K.
            weights: of the predictions, (N,), above 0, such as 1/3 with three seeds; None for 1 each.

        Raises:
            DataError: an unknown speaker.
        """
        names = np.asarray(speakers, dtype=str)
        if (names == "").any():
            raise DataError(
                f"{(names == '').sum()} of {len(names)} clips have no known speaker; statistics over speakers need all."
            )
        known, rows = np.unique(names, return_inverse=True)
        shape = (len(known), n_classes, n_classes)
        cells = np.ravel_multi_index((rows, targets, predictions), shape)
        confusion = np.bincount(cells, weights, minlength=np.prod(shape)).reshape(shape)
        hits = np.diagonal(confusion, axis1=1, axis2=2)
        return cls(tuple(known.tolist()), hits, confusion.sum(axis=2), confusion.sum(axis=1))

    @property
    def n_clips(self) -> int:
        """Number of clips."""
        return round(float(self.support.sum()))

    def scores(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        """Return UAR, WAR and weighted F1, 0..1, by their names in :data:`serzoo.metrics.HEADLINE`, each of shape (B,).

        Args:
            draws: the number of times each speaker was drawn, (B, S).
        """
        counts = draws.astype(float) @ np.hstack([self.hits, self.support, self.predicted])
        return headline_scores(*np.split(counts, 3, axis=1))


def intervals(counts: SpeakerCounts, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> dict[str, Interval]:
    """Return the pooled UAR, WAR and weighted F1 with 95 % bootstrap intervals over speakers.

    Args:
        counts: of the run; see :func:`SpeakerCounts.from_predictions`.
        n_resamples: the number of samples of speakers, drawn with replacement.
        seed: of the draws.

    Returns:
        By the names of :data:`serzoo.metrics.HEADLINE`. The module's docstring lists the sources of variation left out.

    Raises:
        DataError: there are fewer than two speakers.
    """
    n_speakers = len(counts.speakers)
    scores = counts.scores(_draws(n_speakers, n_resamples, seed))
    return {name: Interval(*_with_ends(values, n_speakers)) for name, values in scores.items()}


def compare(
    first: SpeakerCounts, second: SpeakerCounts, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare two runs on the same clips.

    The interval of a difference is a paired bootstrap over speakers: both runs are scored on each sample. The test is a
    two-sided permutation test that swaps the two runs' predictions speaker by speaker, so flips the sign of the
    speaker's contribution to the difference (Fisher, "The Design of Experiments", 1935, section 21; Good, "Permutation,
    Parametric and Bootstrap Tests of Hypotheses", 2005). It counts all permutations if there are at most
    ``n_resamples``. Of random ones the observed one is counted too, so that p is never 0 (Phipson and Smyth,
    "Permutation p-values should never be zero", 2010). With S speakers p is at least 2 ** (1 - S).

    The arguments are those of :func:`intervals`.

    Raises:
        DataError: the runs differ in speakers or in their clips of each class, or there are fewer than two speakers.
    """
    same = first.speakers == second.speakers and first.support.shape == second.support.shape
    if not same or not np.allclose(first.support, second.support):
        raise DataError("The two runs have different test speakers or clips; compare runs on the same test parts.")
    n_speakers, clips = len(first.speakers), first.support.sum(axis=0)
    draws = _draws(n_speakers, n_resamples, seed)
    before, after = first.scores(draws), second.scores(draws)
    gained = (second.hits - first.hits)[:, clips > 0]
    shares = {"uar": (gained / clips[clips > 0]).mean(axis=1), "war": gained.sum(axis=1) / clips.sum()}
    exact = n_speakers < 63 and 2**n_speakers <= n_resamples
    if exact:
        signs = np.array(list(product((-1, 1), repeat=n_speakers)))
    else:
        signs = np.random.default_rng(seed).choice((-1, 1), size=(n_resamples, n_speakers))

    def p(shares: np.ndarray) -> float:
        """Return the share of sign flips, the observed signs included, with a sum at least as far from 0."""
        # sums of the same shares in another order differ by less than 1e-9
        as_far = int((np.abs(signs @ shares) >= abs(shares.sum()) - 1e-9).sum())
        return as_far / len(signs) if exact else (1 + as_far) / (1 + len(signs))

    differences = {
        name: Difference(*_with_ends(after[name] - before[name], n_speakers), p(shares[name])) for name in COMPARED
    }
    return Comparison(differences, n_speakers, first.n_clips, exact, p(np.ones(n_speakers)))


@lru_cache(maxsize=8)  # all runs of one corpus have as many speakers
def _draws(n_speakers: int, n_resamples: int, seed: int) -> np.ndarray:
    """Return how often each of S speakers is in the data, once, and in each of B samples of S, (1 + B, S)."""
    if n_speakers < 2:
        raise DataError(f"{n_speakers} test speaker; an interval over speakers needs at least 2.")
    drawn = np.random.default_rng(seed).integers(0, n_speakers, (n_resamples, n_speakers))
    cells = np.ravel_multi_index((np.arange(n_resamples)[:, None], drawn), drawn.shape)
    counts = np.bincount(cells.ravel(), minlength=drawn.size).reshape(drawn.shape)
    return np.vstack([np.ones(n_speakers), counts])


def _with_ends(values: np.ndarray, n_speakers: int) -> tuple[float, float, float]:
    """Return the first of the values (1 + B,), and the ends of its interval: percentiles of the others."""
    from scipy.special import ndtr, stdtrit

    level = ndtr(np.sqrt(n_speakers / (n_speakers - 1)) * stdtrit(n_speakers - 1, 0.025))
    low, high = np.quantile(values[1:], [level, 1 - level])
    return float(values[0]), float(low), float(high)
