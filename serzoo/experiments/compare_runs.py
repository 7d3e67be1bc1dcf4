"""Comparing two runs on the same test clips."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

from serzoo.errors import DataError
from serzoo.experiments.statistics import COMPARED, FEW_SPEAKERS, N_RESAMPLES, Comparison, compare, marked
from serzoo.experiments.stored_run import TITLES, StoredRun


@dataclass(frozen=True)
class RunComparison:
    """The outcome of :func:`compare_runs`: paths, folds, and the comparison of these folds' clips together."""

    first: str
    second: str
    folds: tuple[str, ...]
    comparison: Comparison

    def to_dict(self) -> dict[str, object]:
        """Return everything as plain data for JSON."""
        return {"first": self.first, "second": self.second, "folds": list(self.folds), **asdict(self.comparison)}

    def __str__(self) -> str:
        found = self.comparison
        folds = f"{len(self.folds)} folds together" if len(self.folds) > 1 else self.folds[0]
        flips = "all" if found.exact else f"{N_RESAMPLES:,} random"
        few = f"† Below {FEW_SPEAKERS} speakers intervals are too narrow; where interval and p disagree, p decides."
        lines = [
            f"{self.second} minus {self.first}, points, 95 % interval over speakers:",
            *(f"  {TITLES[name]} {found.differences[name]}" for name in COMPARED),
            f"{found.n_clips} test clips of {marked(found.n_speakers)} speakers, {folds}.",
            f"p is from {flips} permutations, swapping predictions by speaker; its smallest possible value is "
            f"{found.smallest_p:.2g}. Neither interval nor p covers other seeds and splits.",
        ]
        return "\n".join([*lines, few] if found.n_speakers < FEW_SPEAKERS else lines)


def compare_runs(first: StoredRun, second: StoredRun, *, shared_folds: bool = False) -> RunComparison:
    """Compare two runs on the same folds; see :func:`serzoo.experiments.statistics.compare`.

    With ``shared_folds`` runs of different folds are not refused, but compared on the folds that both have done.

    Raises:
        DataError: the runs differ in classes, folds, test clips, or in the clips' labels or speakers.
    """
    both = f"{first.path} and {second.path} cannot be compared"
    if first.class_names != second.class_names:
        raise DataError(
            f"{both}: their classes are {', '.join(first.class_names)} and {', '.join(second.class_names)}."
        )
    shared = tuple(fold for fold in first.folds if fold in second.folds)
    alone = sorted(set(first.folds) ^ set(second.folds))
    if not shared or (alone and not shared_folds):
        common = f"--shared-folds compares the folds that both have ({', '.join(shared)})"
        remedy = common if shared else "compare runs of one protocol"
        raise DataError(f"{both}: {alone[0]} is done in only one of them; {remedy}.")
    for fold in shared:
        tables = [run.tables[name] for run in (first, second) for name in run.folds[fold]]
        tested = [Counter(zip(table["clip"], table["speaker"], table["label"], strict=True)) for table in tables]
        odd = sorted(set().union(*((clips - tested[0]) + (tested[0] - clips) for clips in tested)))
        if odd:
            clip, speaker, label = odd[0]
            times = sorted({clips[odd[0]] for clips in tested})
            how = (
                f"is there {times[0]} times in one of them and {times[-1]} times in another"
                if times[0]
                else "is not in all of them"
            )
            raise DataError(
                f"{both}: in {fold}, the test clip {clip} (speaker {speaker}, {label}) {how}; "
                "compare runs of one protocol on one corpus."
            )
    counts = [run.speaker_counts(shared) for run in (first, second)]
    return RunComparison(str(first.path), str(second.path), shared, compare(*counts))
