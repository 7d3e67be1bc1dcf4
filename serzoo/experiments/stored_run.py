"""Run folders read again: what the report says, and the same computed anew from the predictions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.data.leakage import LeakageReport
from serzoo.data.splits import get_protocol
from serzoo.errors import DataError, SerzooError
from serzoo.experiments.run_folder import PREDICTIONS, class_indices, damaged, read_predictions, read_table, stored
from serzoo.experiments.statistics import SpeakerCounts
from serzoo.files import local_path
from serzoo.metrics import HEADLINE, Scores, Summary, summarise
from serzoo.recipes import read_recipe, recipe_from_dict

if TYPE_CHECKING:
    import pandas as pd

REPORT = "report.json"

TITLES = dict(zip(HEADLINE, ("UAR", "WAR", "F1"), strict=True))
"""What scores are called in tables and messages."""

_ROUNDING = 1e-9
_SHOWN_PACKAGES = ("keras", "scikit-learn")


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A run folder with its report; the scores are computed from the predictions, never taken from the report.

    Args:
        path: the folder.
        report: what its ``report.json`` holds.
    """

    path: Path
    report: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> StoredRun:
        """Read a run folder's report; predictions are read when they are asked for.

        Raises:
            DataError: the folder has no report, or it is damaged.
        """
        path = local_path(path)
        below = [] if (path / REPORT).exists() else run_folders(path)
        if below:
            names = ", ".join(folder.relative_to(path).as_posix() for folder in below)
            raise DataError(f"{path} is a folder of run folders; give one of them: {names}.")
        report = read_json(path / REPORT)
        if "heard" in report:  # in reports of versions before 0.1.0
            report["seen"] = report.pop("heard")
        for key, kind in _NEEDED.items():
            values: Any = report
            for part in key.split("."):
                values = values.get(part) if isinstance(values, dict) else None
            if not isinstance(values, kind) or isinstance(values, bool):
                raise DataError(f"{path / REPORT} is damaged: {key} is {values!r:.60}; run serzoo cv again.")
        for problem in _misfits(report):
            raise DataError(f"{path / REPORT} is damaged: {problem}; run serzoo cv again.")
        return cls(path, report)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """What was trained, as the report has it; of derived predictions it is no recipe that could be trained."""
        return self.report["recipe"]

    @property
    def target(self) -> str:
        """What is told: ``label``, or another column."""
        return self.recipe.get("target", "label")

    @property
    def seeds(self) -> range:
        """The seeds that each fold is trained with once the run is complete."""
        first = self.recipe["training"]["seed"]
        return range(first, first + self.recipe.get("repeats", 1))

    @property
    def folds(self) -> dict[str, tuple[str, ...]]:
        """The folds that are done, in order, each with the folders of its runs, one per seed."""
        names = zip(self.report["fold_names"], self.report["run_names"], strict=True)
        return {fold: tuple(runs) for fold, runs in names}

    @property
    def runs(self) -> list[str]:
        """The folders of all runs."""
        return [run for runs in self.folds.values() for run in runs]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of all class indices."""
        return tuple(self.report["scores"]["pooled"]["class_names"])

    @property
    def speaker_independent(self) -> bool | None:
        """Whether no test speaker was in the training part; None where that is not known."""
        independent: bool | None = self.report["leakage"].get("speaker_independent")
        return independent

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The predictions of all runs by their folders' names.

        Raises:
            DataError: a file is missing or damaged.
        """
        return {run: _read_table(self.path / run) for run in self.runs}

    def indices(self, run: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the true and the predicted class indices of a run's clips."""
        return class_indices(self.tables[run], stored(self.path / run / PREDICTIONS), self.class_names)

    @cached_property
    def summary(self) -> Summary:
        """The scores of all runs, computed from the predictions."""
        scores = {run: Scores.from_predictions(*self.indices(run), self.class_names) for run in self.runs}
        return summarise([[scores[run] for run in runs] for runs in self.folds.values()])

    def speaker_counts(self, folds: tuple[str, ...] | None = None) -> SpeakerCounts:
        """Return what statistics over speakers are computed from; of several seeds each counts its share of a fold.

        Args:
            folds: of which folds; None for all that are done.

        Raises:
            DataError: the run tells speakers apart, each of which is a class; or a speaker is not known.
        """
        if self.target == "speaker":
            raise DataError(f"{self.path} tells speakers apart, so that none can be left out; there are no statistics.")
        chosen = [runs for fold, runs in self.folds.items() if folds is None or fold in folds]
        wanted = {run: 1 / len(runs) for runs in chosen for run in runs}
        indices = [self.indices(run) for run in wanted]
        return SpeakerCounts.from_predictions(
            np.concatenate([self.tables[run]["speaker"].to_numpy() for run in wanted]),
            np.concatenate([targets for targets, _ in indices]),
            np.concatenate([predictions for _, predictions in indices]),
            len(self.class_names),
            np.concatenate([np.full(len(self.tables[run]), share) for run, share in wanted.items()]),
        )

    def epochs(self) -> str:
        """Say how many epochs were trained: as many as the recipe has, or from the histories where fewer are."""
        if self.recipe["model"]["name"] in CLASSICAL_CLASSIFIERS:
            return "none"
        most = self.recipe["training"]["epochs"]
        histories = [self.path / run / "history.csv" for run in self.runs]
        trained = {len(read_table(path)) for path in histories if stored(path).exists()} or {most}
        if trained == {most}:
            return str(most)
        least, last = min(trained), max(trained)
        return f"{least if least == last else f'{least} to {last}'} of at most {most}, stopped early"

    def software(self) -> list[str]:
        """Return what computed it, from the runs' ``environment.json``; of predictions that were derived, nothing."""
        paths = [self.path / run / "environment.json" for run in self.runs]
        return sorted({_software(read_json(path)) for path in paths if path.exists()})


_NEEDED = {
    "recipe.corpus": str, "recipe.protocol": str, "recipe.model.name": str, "recipe.model.arguments": dict,
    "recipe.training.selection": str, "recipe.training.epochs": int, "recipe.training.seed": int,
    "protocol": str, "selection": str, "fold_names": list, "run_names": list, "n_folds": int,
    "scores.pooled.class_names": list, "leakage.summary": str,
}  # fmt: skip
"""What a report must have, keys within keys, and of which type."""


def _misfits(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the parts of a report's lists and with what need not be there."""
    folds, runs, classes = report["fold_names"], report["run_names"], report["scores"]["pooled"]["class_names"]
    for key, names in {"fold_names": folds, "class_names": classes}.items():
        if not _are_names(names):
            yield f"{key} is {names!r:.60}"
    per_fold = len(runs) == len(folds) and all(isinstance(names, list) and names for names in runs)
    if not per_fold or not _are_names([name for names in runs for name in names]):
        yield f"run_names is {runs!r:.60}, which does not fit the folds"
    elif any(Path(name).name != name for names in runs for name in names):
        yield f"run_names is {runs!r:.60}, no names of folders"
    recipe, seen = report["recipe"], report.get("seen", {})
    repeats = recipe.get("repeats", 1)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        yield f"recipe.repeats is {repeats!r:.60}"
    for key, value in (("target", recipe.get("target", "label")), ("test_corpus", recipe.get("test_corpus") or "")):
        if not isinstance(value, str):
            yield f"recipe.{key} is {value!r:.60}"
    if not any(report["leakage"].get("speaker_independent") is known for known in (True, False, None)):
        yield f"leakage.speaker_independent is {report['leakage']['speaker_independent']!r:.60}"
    if report["n_folds"] < len(folds):
        yield f"n_folds is {report['n_folds']}, but {len(folds)} are done"
    if not isinstance(seen, dict):
        yield f"seen is {seen!r:.60}"


def _are_names(names: list[Any]) -> bool:
    """Return whether there are names in a list and nothing else, each once."""
    return bool(names) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _read_table(folder: Path) -> pd.DataFrame:
    """Return the predictions in a run's folder, the columns of which are what a run writes."""
    table, path = read_predictions(folder), stored(folder / PREDICTIONS)
    missing = [name for name in ("clip", "speaker", "label", "prediction") if name not in table.columns]
    if missing:
        raise damaged(path, f"no column {missing[0]}")
    for name in table.columns:
        if name.startswith("p_") and table[name].dtype.kind not in "iuf":
            raise damaged(path, f"not only numbers in the column {name}")
    return table


def run_folders(folder: Path) -> list[Path]:
    """Return the run folders at and below ``folder``: whatever has a report, in alphabetical order."""
    return sorted(path.parent for path in folder.rglob(REPORT))


def differences(run: StoredRun, name: str) -> Iterator[str]:
    """Yield a line for everything in a run folder that its predictions contradict, or that contradicts its report.

    Args:
        run: the run folder.
        name: what the lines call it.
    """
    missing = [names for names in run.runs if not stored(run.path / names / PREDICTIONS).exists()]
    for fold in missing:
        yield f"{name} {fold}: {PREDICTIONS} is missing"
    uncounted = {path.parent.name for path in run.path.glob(f"*/{PREDICTIONS}*")} - set(run.runs)
    for fold in sorted(uncounted):
        yield f"{name} {fold}: has predictions that {REPORT} does not count"
    yield from _other_settings(run, name)
    if missing:
        return
    try:
        yield from _other_scores(run.summary.to_dict(), run, name)
        yield from _other_answers(run, name)
        yield from _other_leaks(run, name)
        yield from _other_speakers(run, name)
    except DataError as error:
        yield f"{name}: {error}"
    except (LookupError, TypeError, ValueError):
        yield f"{name}: {REPORT} is damaged; its scores or leaks are not in the form that serzoo writes"


def _other_settings(run: StoredRun, name: str) -> Iterator[str]:
    """Yield lines about the recipe and the leaks, which a folder holds beside its report, and what they decide."""
    recipe, leakage = run.path / "recipe.yaml", run.path / "leakage.json"
    try:
        decided = {"protocol": get_protocol(run.recipe["protocol"]).name, **run.recipe["training"]}
        for key in ("protocol", "selection"):
            if run.report[key] != decided[key]:
                yield f"{name}: {REPORT} says {key} {run.report[key]}, its recipe {decided[key]}"
        reported = recipe_from_dict({**run.recipe, "repeats": 1}) if recipe.exists() else None
        if reported and read_recipe(recipe) != reported:
            yield f"{name}: recipe.yaml is not the recipe of {REPORT}"
        if leakage.exists() and read_json(leakage) != run.report["leakage"]:
            yield f"{name}: leakage.json is not the leakage of {REPORT}"
    except SerzooError as error:
        yield f"{name}: {error}"


def _other_scores(computed: Mapping[str, Any], run: StoredRun, name: str) -> Iterator[str]:
    """Yield a line for each score of the report that is not the predictions'."""
    reported = run.report["scores"]
    for names, *scores in zip(run.folds.values(), reported["folds"], computed["folds"], strict=True):
        for fold, kept, found in zip(names, *scores, strict=True):
            yield from _unequal(f"{name} {fold}", kept, found)
    for part in ("mean", "std", "pooled"):
        yield from _unequal(f"{name} {part}", reported[part], computed[part])


def _other_answers(run: StoredRun, name: str) -> Iterator[str]:
    """Yield a line for each run whose predictions are not the most probable classes, where probabilities are kept."""
    columns = [f"p_{label}" for label in run.class_names]
    for fold, table in run.tables.items():
        if not any(str(column).startswith("p_") for column in table):
            continue
        if not set(columns) <= set(table):
            yield f"{name} {fold}: {PREDICTIONS} lacks the probabilities of some class"
            continue
        probabilities, (_, answers) = table[columns].to_numpy(), run.indices(fold)
        of_answers = probabilities[np.arange(len(answers)), answers]
        if not (of_answers == probabilities.max(axis=1)).all():  # six digits round alike, so that a tie is one exactly
            yield f"{name} {fold}: a prediction is not the most probable class"


def _other_leaks(run: StoredRun, name: str) -> Iterator[str]:
    """Yield lines about what the report concludes otherwise from the overlaps of its folds' parts."""
    reported = run.report["leakage"]
    concluded = json.loads(json.dumps(LeakageReport.from_dict(reported).to_dict()))
    for key in sorted({*reported, *concluded}):
        if reported.get(key) != concluded.get(key):
            yield f"{name}: leakage: {key} is {reported.get(key)!r:.60}, by its overlaps {concluded.get(key)!r:.60}"
    unknown = {clip for table in run.tables.values() for clip in table["clip"][table["speaker"] == ""]}
    if len(unknown) > reported["n_unknown_speakers"]:
        yield f"{name}: leakage: n_unknown_speakers is {reported['n_unknown_speakers']}, {len(unknown)} are tested on"


def _other_speakers(run: StoredRun, name: str) -> Iterator[str]:
    """Yield a line for each run whose test speakers are not those that were looked for in its training part."""
    overlaps = [one for one in run.report["leakage"]["overlaps"] if (one["seen"], one["scored"]) == ("train", "test")]
    looked_for = {one["fold"]: set(one["scored_speakers"]) for one in overlaps}
    for fold, own in ((fold, own) for fold, runs in run.folds.items() for own in runs):
        odd = set(run.tables[own]["speaker"]).difference({""}) ^ looked_for[fold]
        if odd:
            yield f"{name} {own}: speaker {min(odd)} is in the predictions or in the leakage of {REPORT} alone"


def _unequal(where: str, reported: Mapping[str, Any], computed: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each value that differs; UAR, WAR and F1 are given in percent."""
    for key, value in computed.items():
        kept = reported[key]
        if key == "recall":
            yield from _unequal(f"{where}: recall", kept, value)
        elif not _same(kept, value):
            shown = (f"{100 * score:.4f}" if key in HEADLINE else f"{score!r:.80}" for score in (kept, value))
            yield f"{where}: {TITLES.get(key, key)}: {REPORT} says {next(shown)}, the predictions give {next(shown)}"


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, scores but for their last digits."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= _ROUNDING
    return bool(one == other)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file cannot be read or is none.
    """
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give a run folder with its {path.name}.") from None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise DataError(f"{path} is damaged (no JSON object); get it again.")
    return values


def _software(environment: Mapping[str, Any]) -> str:
    """Return what of an environment decides numbers: Python, backend, Keras or scikit-learn."""
    packages = environment.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    shown = (str(environment.get("backend")), *_SHOWN_PACKAGES)
    versions = [f"{name} {packages[name]}" for name in shown if name in packages]
    return ", ".join([f"Python {environment.get('python')}", *versions])
