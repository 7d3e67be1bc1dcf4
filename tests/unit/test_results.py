"""The numbers in docs/results.md and docs/experiments.md are those of the predictions in docs/results."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score

from serzoo.data.protocols import INNER
from serzoo.experiments.gender_systems import SYSTEMS
from serzoo.experiments.stored_run import StoredRun, run_folders
from serzoo.metrics import HEADLINE, Scores, summarise
from serzoo.results.check import problems

DOCS = Path(__file__).parents[2] / "docs"
EXPERIMENTS = (DOCS / "experiments.md").read_text(encoding="utf-8")
LINKED = sorted(DOCS / path for path in set(re.findall(r"\]\((results/[^)#]+)\)", EXPERIMENTS)))
"""The runs that docs/experiments.md is about; the tables of docs/results.md are about all there are."""

_REPORTED = [path for path in LINKED if path in run_folders(path)]
RUNS = [path for path in _REPORTED if path.parent == DOCS / "results"]
TRIALS = [path for path in _REPORTED if path not in RUNS]
"""Runs of one fold, with one seed or several, that are a line of a table, to choose settings by."""

SYSTEM_FOLDERS = [path for path in LINKED if (path / "systems.json").exists()]
"""Gender systems, side by side."""

CELLS = [cell for path in LINKED if path not in (*SYSTEM_FOLDERS, *_REPORTED) for cell in run_folders(path)]
"""Cross-validations of a study, whose folder has its table."""

stored = cache(StoredRun.open)


def test_every_number_of_the_results_follows_from_the_predictions():
    assert problems(DOCS / "results") == []


def test_there_are_experiments():
    assert RUNS
    assert TRIALS
    assert CELLS
    assert SYSTEM_FOLDERS
    assert all(path in _REPORTED or (path / "table.md").exists() for path in LINKED)


def test_experiments_have_no_folds_but_those_of_runs():
    rows = set()
    for run in RUNS:
        report, folds, _ = recomputed(run)
        first = report["recipe"]["training"]["seed"]
        for name, runs in zip(report["fold_names"], folds, strict=True):
            rows |= {row(name, runs), *(row(f"seed {first + seed}", [scores]) for seed, scores in enumerate(runs))}
    lines = re.findall(r"^\| (?:fold|seed )\d.*", EXPERIMENTS, re.MULTILINE)
    assert lines
    assert [line for line in lines if not line.startswith(tuple(rows))] == []


@pytest.mark.parametrize("run", TRIALS, ids=lambda run: run.name)
def test_lines_of_trials_follow_from_the_predictions(run):
    report, folds, summary = recomputed(run)
    assert len(folds) == 1
    assert report["protocol"].startswith(INNER), "settings may not be chosen on test parts"
    line = re.search(rf"^\| \[.*\]\({run.relative_to(DOCS).as_posix()}\) (\| .*)", EXPERIMENTS, re.MULTILINE)
    cells = " | ".join(f"{100 * summary.mean[score]:.2f}" for score in HEADLINE)
    assert line
    assert line[1] == f"| {report['recipe']['training']['epochs']} | {cells} |"


def test_average_of_the_seeds_follows_from_their_predictions():
    run = DOCS / "results" / "dense_tcn-inner" / "a4e100x3"
    tables = [stored(run).tables[name] for name in ("fold01", "fold01-seed1", "fold01-seed2")]
    columns = [column for column in tables[0].columns if column.startswith("p_")]
    classes = [column.removeprefix("p_") for column in columns]
    predicted = sum(table[columns].to_numpy() for table in tables).argmax(axis=-1)
    targets = [classes.index(label) for label in tables[0]["label"]]
    averaged = Scores.from_predictions(np.array(targets), predicted, classes)
    assert f"averaged probabilities have {100 * averaged.uar:.2f} UAR" in EXPERIMENTS


def test_scores_of_each_of_two_pooled_corpora_follow_from_the_predictions():
    run = DOCS / "results" / "dense_tcn-pooled-ravdess-emodb"
    table = pd.concat(stored(run).tables.values())
    of_corpora = table.groupby(table["speaker"].str.partition("/")[0])
    uar = {name: 100 * recall_score(clips["label"], clips["prediction"], average="macro") for name, clips in of_corpora}
    assert f"{uar['ravdess']:.2f} on RAVDESS's clips and\n{uar['emodb']:.2f} on EMO-DB's" in EXPERIMENTS


def recomputed(run):
    """Return a run's report, the scores of each fold's runs, and their summary, both from the predictions alone."""
    summary = stored(run).summary
    return stored(run).report, summary.folds, summary


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_scores_follow_from_the_predictions(run):
    report, folds, summary = recomputed(run)
    assert summary.to_dict() == report["scores"]
    for name, runs in zip(report["fold_names"], folds, strict=True):
        assert row(name, runs) in EXPERIMENTS
        if len(runs) > 1:
            first = report["recipe"]["training"]["seed"]
            assert all(row(f"seed {first + number}", [scores]) in EXPERIMENTS for number, scores in enumerate(runs))
    mean = summary.mean
    assert f"**{100 * mean['uar']:.2f} / {100 * mean['war']:.2f} / {100 * mean['weighted_f1']:.2f}**" in EXPERIMENTS


def row(name, runs):
    """The mean of some runs as a row of a table, or the beginning of one."""
    uar, war, f1 = (100 * np.mean([getattr(scores, score) for scores in runs]) for score in HEADLINE)
    return f"| {name} | {uar:.2f} | {war:.2f} | {f1:.2f} |"


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_tables_of_studies_follow_from_the_predictions(cell):
    report, _, summary = recomputed(cell)
    assert summary.to_dict() == report["scores"]
    table = (cell.parent / "table.md").read_text()
    assert table in EXPERIMENTS
    features, model = report["recipe"]["features"]["source"], report["recipe"]["model"]
    title = f"{model['name']}, scaled" if model["arguments"] else model["name"]
    scores = " | ".join(f"{100 * summary.mean[score]:.2f}" for score in ("uar", "war"))
    assert f"| {features} | {title} | {scores} |" in table.replace("**", "")


def of_system(folder, name, fold):
    """A system's predictions in a fold, computed from its trainings' predictions; RAVDESS's odd actors are men."""
    system = SYSTEMS[name]
    tables = [stored(folder / training).tables[fold] for training in system.trainings]
    gold = tables[0]["speaker"].astype(int).to_numpy() % 2
    if system.tested != "all":
        return tables[0][gold == (system.tested == "male")]
    if len(tables) == 1:
        return tables[0]
    women, men = tables
    guessed = stored(folder / "post-hoc-probabilities").tables[fold]["male"].to_numpy()
    male = {"golden": gold, "binary": guessed > 0.5, "probabilities": guessed}[system.source][:, None]
    columns = [column for column in women.columns if column.startswith("p_")]
    mixed = (1 - male) * women[columns].to_numpy() + male * men[columns].to_numpy()
    return women.assign(prediction=[columns[index].removeprefix("p_") for index in mixed.argmax(axis=1)])


@pytest.mark.parametrize("folder", SYSTEM_FOLDERS, ids=lambda folder: folder.name)
def test_tables_of_systems_follow_from_the_predictions(folder):
    table = (folder / "table.md").read_text()
    assert table in EXPERIMENTS
    rows = json.loads((folder / "systems.json").read_text())["table"]
    for row in rows:
        name = row["system"]
        own = folder / name.replace(":", "-")  # unless its predictions are a training's
        run = stored(own if own.exists() else folder / SYSTEMS[name].trainings[0])
        folds = []
        for fold in run.folds:
            found = of_system(folder, name, fold)
            targets, predicted = (found[key].map(run.class_names.index).to_numpy() for key in ("label", "prediction"))
            folds.append([Scores.from_predictions(targets, predicted, run.class_names)])
        summary = summarise(folds)
        scores = [100 * summary.mean[score] for score in HEADLINE]
        np.testing.assert_allclose([row["UAR"], row["WAR"], row["F1"]], scores, rtol=1e-12)
        assert f"| {name} | {' | '.join(f'{score:.2f}' for score in scores)} |" in table
        assert row["n"] == summary.pooled.n
