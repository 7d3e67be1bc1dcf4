"""Checking a run: its report, recipe and leakage must follow from its predictions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from serzoo.data.leakage import LeakageReport
from serzoo.errors import DataError, SerzooError
from serzoo.experiments.run_folder import PREDICTIONS
from serzoo.experiments.stored_run import TITLES, StoredRun, read_json
from serzoo.metrics import HEADLINE
from serzoo.recipes import read_recipe, recipe_from_dict


def differences(run: StoredRun, name: str) -> Iterator[str]:
    """Yield a line for each contradiction between a run's predictions, report, recipe and leakage.

    Args:
        run: the run.
        name: its name in the lines.

    Raises:
        DataError: a file of the kept form is missing or damaged.
    """
    missing = [one for one in run.runs if one not in run.predicted]
    for one in missing:
        yield f"{name} {one}: {PREDICTIONS} is missing"
    for one in sorted(run.predicted - set(run.runs)):
        yield f"{name} {one}: has predictions that {run.report_file} does not count"
    yield from _other_settings(run, name)
    if missing:
        return
    try:
        yield from _other_scores(run.summary.to_dict(), run, name)
        yield from _other_predictions(run, name)
        yield from _other_leaks(run, name)
        yield from _other_speakers(run, name)
    except DataError as error:
        yield f"{name}: {error}"
    except (LookupError, TypeError, ValueError):
        yield f"{name}: {run.report_file} is damaged; its scores or leaks are not in the form that serzoo writes"


def _other_settings(run: StoredRun, name: str) -> Iterator[str]:
    """Yield a line for each part of the recipe or the leakage that contradicts the report."""
    recipe, leakage = run.path / "recipe.yaml", run.path / "leakage.json"
    try:
        decided = {"protocol": run.protocol.name, **run.recipe["training"]}
        for key in ("protocol", "selection"):
            if run.report[key] != decided[key]:
                yield f"{name}: {run.report_file} has {key} {run.report[key]}, its recipe {decided[key]}"
        reported = None if run.derived else recipe_from_dict({**run.recipe, "repeats": 1})
        if run.kept is not None:  # which has recipe and leakage once
            return
        if reported and read_recipe(recipe) != reported:
            yield f"{name}: recipe.yaml is not the recipe of {run.report_file}"
        if leakage.exists() and read_json(leakage) != run.report["leakage"]:
            yield f"{name}: leakage.json is not the leakage of {run.report_file}"
    except SerzooError as error:
        yield f"{name}: {error}"


def _other_scores(computed: Mapping[str, Any], run: StoredRun, name: str) -> Iterator[str]:
    """Yield a line for each score of the report that the predictions do not give."""
    reported = run.report["scores"]
    for names, *scores in zip(run.folds.values(), reported["folds"], computed["folds"], strict=True):
        for fold, kept, found in zip(names, *scores, strict=True):
            yield from _unequal(f"{name} {fold}", kept, found, run.report_file)
    for part in ("mean", "std", "pooled"):
        yield from _unequal(f"{name} {part}", reported[part], computed[part], run.report_file)


def _other_predictions(run: StoredRun, name: str) -> Iterator[str]:
    """Yield a line for each run whose predictions are not the most probable classes, if it has probabilities."""
    columns = [f"p_{label}" for label in run.class_names]
    for fold, table in run.tables.items():
        if not any(str(column).startswith("p_") for column in table):
            continue
        if not set(columns) <= set(table):
            yield f"{name} {fold}: {PREDICTIONS} lacks the probabilities of some class"
            continue
        probabilities, (_, predicted) = table[columns].to_numpy(), run.indices[fold]
        of_predicted = probabilities[np.arange(len(predicted)), predicted]
        # both are rounded to six digits, so a tie is exact and either of the tied classes may be predicted
        if not (of_predicted == probabilities.max(axis=1)).all():
            yield f"{name} {fold}: a prediction is not the most probable class"


def _other_leaks(run: StoredRun, name: str) -> Iterator[str]:
    """Yield a line for each conclusion of the leakage that does not follow from its overlaps."""
    reported = run.report["leakage"]
    concluded = json.loads(json.dumps(LeakageReport.from_dict(reported).to_dict()))
    for key in sorted({*reported, *concluded}):
        if reported.get(key) != concluded.get(key):
            yield f"{name}: leakage: {key} is {reported.get(key)!r:.60}, by its overlaps {concluded.get(key)!r:.60}"
    unknown = {clip for table in run.tables.values() for clip in table["clip"][table["speaker"] == ""]}
    if len(unknown) > reported["n_unknown_speakers"]:
        yield f"{name}: leakage: n_unknown_speakers is {reported['n_unknown_speakers']}, {len(unknown)} are tested on"


def _other_speakers(run: StoredRun, name: str) -> Iterator[str]:
    """Yield a line for each run whose test speakers are not those of its fold in the leakage."""
    overlaps = [one for one in run.report["leakage"]["overlaps"] if (one["seen"], one["scored"]) == ("train", "test")]
    of_folds = {one["fold"]: set(one["scored_speakers"]) for one in overlaps}
    for fold, own in ((fold, own) for fold, runs in run.folds.items() for own in runs):
        odd = set(run.tables[own]["speaker"]).difference({""}) ^ of_folds[fold]
        if odd:
            yield f"{name} {own}: speaker {min(odd)} is in only one of predictions and leakage of {run.report_file}"


def _unequal(where: str, reported: Mapping[str, Any], computed: Mapping[str, Any], file: str) -> Iterator[str]:
    """Yield a line for each value that differs; UAR, WAR and F1 in percent."""
    for key, value in computed.items():
        kept = reported[key]
        if key == "recall":
            yield from _unequal(f"{where}: recall", kept, value, file)
        # the last digits of scores depend on the order of sums
        elif kept != value and not (type(kept) is type(value) is float and abs(kept - value) <= 1e-9):
            shown = (f"{100 * score:.4f}" if key in HEADLINE else f"{score!r:.80}" for score in (kept, value))
            yield f"{where}: {TITLES.get(key, key)}: {file} has {next(shown)}, the predictions give {next(shown)}"
