"""Reading a run back: its report, and scores recomputed from its predictions.

A run is stored in one of two forms: as training writes it (:mod:`serzoo.experiments.run_folder`), or as ``serzoo keep``
writes it (:mod:`serzoo.results.keep`), which is two files for all folds and seeds::

    run.json            recipe, data, leakage, report, environments, histories
    predictions.csv.gz  the rows of all folds' predictions, after the columns fold and seed
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.data.protocols import Protocol, get_protocol
from serzoo.errors import DataError
from serzoo.experiments.run_folder import (
    KEPT,
    PREDICTIONS,
    class_indices,
    read_predictions,
    read_table,
    run_name,
    stored,
)  # fmt: skip
from serzoo.experiments.statistics import SpeakerCounts
from serzoo.files import local_path
from serzoo.metrics import HEADLINE, Scores, Summary, summarise
from serzoo.recipes import Recipe, recipe_from_dict

if TYPE_CHECKING:
    import pandas as pd

REPORT = "report.json"

TITLES = dict(zip(HEADLINE, ("UAR", "WAR", "F1"), strict=True))
"""Column titles of the scores."""

_KEPT_PARTS = {"recipe": dict, "leakage": dict, "report": dict, "environments": list, "histories": dict}


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A run with its report. Scores are computed from the predictions, never taken from the report.

    ``kept`` is the content of ``run.json``; None for a folder as training writes it.
    """

    path: Path
    report: Mapping[str, Any]
    kept: Mapping[str, Any] | None = None

    @classmethod
    def open(cls, path: str | Path) -> StoredRun:
        """Read a run's report; predictions are read on first use.

        Raises:
            DataError: the folder has no report, or it is damaged.
        """
        path = local_path(path)
        kept = read_json(path / KEPT) if (path / KEPT).exists() else None
        if kept is None and not (path / REPORT).exists() and (below := run_folders(path)):
            names = ", ".join(folder.relative_to(path).as_posix() for folder in below)
            raise DataError(f"{path} is a folder of run folders; give one of them: {names}.")
        report = read_json(path / REPORT) if kept is None else _report_of(kept, path)
        if "heard" in report:  # in reports of versions before 0.1.0
            report["seen"] = report.pop("heard")
        run = cls(path, report, kept)
        for problem in _misfits(report):
            raise DataError(f"{path / run.report_file} is damaged: {problem}; run serzoo cv again.")
        return run

    @property
    def report_file(self) -> str:
        """The name of the file that holds the report."""
        return REPORT if self.kept is None else KEPT

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The report's recipe; for predictions derived from other runs it cannot be trained."""
        return self.report["recipe"]

    def part(self, name: str) -> Any:
        """Return a part of the run that is a file of its own in a run folder, ``name.json``; None if there is none."""
        if self.kept is not None:
            return self.kept.get(name)
        path = self.path / f"{name}.json"
        return read_json(path) if path.exists() else None

    @property
    def derived(self) -> bool:
        """Whether the predictions were made of other runs' predictions, without a training of their own."""
        return not (self.path / "recipe.yaml").exists() if self.kept is None else "data" not in self.kept

    def trained_recipe(self) -> Recipe:
        """Return the recipe that was trained, its number of seeds as in the report.

        Raises:
            DataError: the predictions were derived from other runs.
            ConfigError: the recipe is damaged.
        """
        if self.derived:
            raise DataError(f"{self.path} holds predictions derived from other runs, not a training; give a training.")
        return recipe_from_dict(dict(self.recipe))

    @property
    def protocol(self) -> Protocol:
        """The protocol of its recipe."""
        return get_protocol(self.recipe["protocol"])

    @property
    def target(self) -> str:
        """The predicted column of the manifest: ``label``, or another."""
        return self.recipe.get("target") or "label"

    @property
    def seeds(self) -> range:
        """The seeds that each fold is trained with once the run is complete."""
        first = self.recipe["training"]["seed"]
        return range(first, first + self.recipe.get("repeats", 1))

    @property
    def folds(self) -> dict[str, tuple[str, ...]]:
        """The folds that are done, in order, each with the names of its runs, one per seed."""
        names = zip(self.report["fold_names"], self.report["run_names"], strict=True)
        return {fold: tuple(runs) for fold, runs in names}

    @property
    def runs(self) -> list[str]:
        """The names of all runs."""
        return [run for runs in self.folds.values() for run in runs]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of all class indices."""
        return tuple(self.report["scores"]["pooled"]["class_names"])

    @property
    def speaker_independent(self) -> bool | None:
        """Whether no test speaker was in the training part; None if unknown."""
        return self.report["leakage"].get("speaker_independent")

    @cached_property
    def predicted(self) -> frozenset[str]:
        """The names of all runs with predictions, whether or not the report counts them."""
        if self.kept is None:
            return frozenset(path.parent.name for path in self.path.glob(f"*/{PREDICTIONS}*"))
        return frozenset(self._kept_tables)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The predictions by run name.

        Raises:
            DataError: a file is missing or damaged.
        """
        if self.kept is None:
            return {run: read_predictions(self.path / run) for run in self.runs}
        for run in self.runs:
            if run not in self._kept_tables:
                raise DataError(f"{self.predictions_file(run)} has no predictions of {run}; keep the run again.")
        return {run: self._kept_tables[run] for run in self.runs}

    @cached_property
    def _kept_tables(self) -> dict[str, pd.DataFrame]:
        """All predictions of the kept form by run name, whether or not the report counts the runs."""
        groups = read_predictions(self.path, ("fold", "seed")).groupby(["fold", "seed"], sort=False)
        return {
            run_name(str(fold), str(seed), self.seeds[0]): rows.drop(columns=["fold", "seed"]).reset_index(drop=True)
            for (fold, seed), rows in groups
        }

    def predictions_file(self, run: str) -> Path:
        """Return the file that holds a run's predictions."""
        return stored((self.path / run if self.kept is None else self.path) / PREDICTIONS)

    @cached_property
    def indices(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The true and the predicted class indices of the clips, each (N,), by run name."""
        tables = self.tables.items()
        return {run: class_indices(table, self.predictions_file(run), self.class_names) for run, table in tables}

    @cached_property
    def summary(self) -> Summary:
        """The scores of all runs, computed from the predictions."""
        runs_of_folds = self.folds.values()
        return summarise(
            [[Scores.from_predictions(*self.indices[run], self.class_names) for run in runs] for runs in runs_of_folds]
        )

    def speaker_counts(self, folds: tuple[str, ...] | None = None) -> SpeakerCounts:
        """Return the counts that statistics over speakers need; each of several seeds counts its share of a fold.

        Only ``folds`` are counted, if they are given.

        Raises:
            DataError: the classes are speakers, or a speaker is unknown.
        """
        if self.target == "speaker":
            raise DataError(f"{self.path} classifies speakers; statistics over speakers need another target.")
        chosen = [runs for fold, runs in self.folds.items() if folds is None or fold in folds]
        columns = [
            (self.tables[run]["speaker"], *self.indices[run], np.full(len(self.tables[run]), 1 / len(runs)))
            for runs in chosen
            for run in runs
        ]
        speakers, targets, predictions, weights = map(np.concatenate, zip(*columns, strict=True))
        return SpeakerCounts.from_predictions(speakers, targets, predictions, len(self.class_names), weights)

    @cached_property
    def histories(self) -> Mapping[str, Mapping[str, list[Any]]]:
        """The columns of the tables of epochs and of layers, by paths such as ``fold01/history.csv``."""
        if self.kept is not None:
            return self.kept["histories"]
        names = ("history.csv", "layers.csv")
        files = [path for run in self.runs for path in sorted((self.path / run).rglob("*.csv*"))]
        tables = dict.fromkeys(path.with_name(path.name.removesuffix(".gz")) for path in files)
        return {path.relative_to(self.path).as_posix(): _columns(path) for path in tables if path.name in names}

    @cached_property
    def environments(self) -> dict[str, dict[str, Any]]:
        """Versions and platform by run name; empty for derived predictions."""
        if self.kept is None:
            files = {run: self.path / run / "environment.json" for run in self.runs}
            return {run: read_json(path) for run, path in files.items() if path.exists()}
        return {run: one["environment"] for one in self.kept["environments"] for run in one["runs"]}

    def epochs(self) -> str:
        """Describe how many epochs were trained, by the histories where fewer than the recipe's."""
        if self.recipe["model"]["name"] in CLASSICAL_CLASSIFIERS:
            return "none"
        most = self.recipe["training"]["epochs"]
        histories = [self.histories.get(f"{run}/history.csv") for run in self.runs]
        trained = {len(next(iter(columns.values()))) for columns in histories if columns} or {most}
        if trained == {most}:
            return str(most)
        least, last = min(trained), max(trained)
        return f"{least if least == last else f'{least} to {last}'} of at most {most}, stopped early"

    def software(self) -> list[str]:
        """Return the distinct versions that decide numbers: Python, backend, Keras, scikit-learn; empty if derived."""
        return sorted({_software(environment) for environment in self.environments.values()})


def _report_of(kept: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the report of a kept run, with the recipe and the leakage that ``run.json`` stores once, beside it.

    Raises:
        DataError: a part is missing or of another type.
    """
    for key, kind in _KEPT_PARTS.items():
        if not isinstance(kept.get(key), kind):
            raise DataError(f"{path / KEPT} is damaged: {key} is {kept.get(key)!r:.60}; keep the run again.")
    for one in kept["environments"]:
        if not (
            isinstance(one, dict) and isinstance(one.get("environment"), dict) and isinstance(one.get("runs"), list)
        ):
            raise DataError(f"{path / KEPT} is damaged: environments has {one!r:.60}; keep the run again.")
    for name, columns in kept["histories"].items():
        if not (isinstance(columns, dict) and columns and all(isinstance(values, list) for values in columns.values())):
            raise DataError(f"{path / KEPT} is damaged: histories.{name} is {columns!r:.60}; keep the run again.")
    return {**kept["report"], "recipe": kept["recipe"], "leakage": kept["leakage"]}


_FORM: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("recipe.corpus", "recipe.protocol", "recipe.model.name", "recipe.training.selection"), (str,)),
    **dict.fromkeys(("recipe.training.epochs", "recipe.training.seed", "n_folds"), (int,)),
    **dict.fromkeys(("protocol", "selection", "leakage.summary"), (str,)),
    **dict.fromkeys(("fold_names", "run_names", "scores.pooled.class_names"), (list,)),
    **dict.fromkeys(("recipe.target", "recipe.test_corpus"), (str, NoneType)),
    "recipe.model.arguments": (dict,),
    "recipe.repeats": (int, NoneType),
    "leakage.speaker_independent": (bool, NoneType),
    "seen": (dict, NoneType),
}
"""The types of the parts of a report by their keys, with dots between nested ones; a missing part is None."""


def _misfits(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each part of a report that is missing or of another form."""
    for key, kinds in _FORM.items():
        value: Any = report
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if type(value) not in kinds:
            yield f"{key} is {value!r:.60}"
    folds, runs, classes = report["fold_names"], report["run_names"], report["scores"]["pooled"]["class_names"]
    for key, names in {"fold_names": folds, "class_names": classes}.items():
        if not _are_names(names):
            yield f"{key} is {names!r:.60}"
    per_fold = len(runs) == len(folds) and all(isinstance(names, list) and names for names in runs)
    if not per_fold or not _are_names([name for names in runs for name in names]):
        yield f"run_names is {runs!r:.60}, which does not fit the folds"
    elif any(Path(name).name != name for names in runs for name in names):
        yield f"run_names is {runs!r:.60}, no names of folders"
    if (report["recipe"].get("repeats", 1) or 0) < 1:
        yield f"recipe.repeats is {report['recipe']['repeats']}"
    if report["n_folds"] < len(folds):
        yield f"n_folds is {report['n_folds']}, but {len(folds)} are done"


def _are_names(names: list[Any]) -> bool:
    """Return whether a list holds different names and nothing else, at least one."""
    return bool(names) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def run_folders(folder: Path) -> list[Path]:
    """Return the runs at and below ``folder``, in either form, in alphabetical order."""
    return sorted({path.parent for name in (REPORT, KEPT) for path in folder.rglob(name)})


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file cannot be read or holds no object.
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


def _columns(path: Path) -> dict[str, list[Any]]:
    """Return the columns of a CSV file by name."""
    return {str(name): [_value(cell) for cell in cells] for name, cells in read_table(path, str).items()}


def _value(cell: str) -> Any:
    """Return a cell as a number if it is one. Pandas's faster parser may change the last digit; this keeps it."""
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def _software(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages")
    shown = (str(environment.get("backend")), "keras", "scikit-learn")
    versions = [f"{name} {packages[name]}" for name in shown if isinstance(packages, dict) and name in packages]
    return ", ".join([f"Python {environment.get('python')}", *versions])
