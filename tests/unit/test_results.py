"""The numbers in docs/results.md are those of the predictions kept beside it."""

import json
from pathlib import Path

import numpy as np
import pytest

from serzoo.metrics import HEADLINE, summarise
from serzoo.training.run_folder import score_predictions

DOCS = Path(__file__).parents[2] / "docs"
RUNS = sorted(path.parent for path in (DOCS / "results").glob("*/report.json"))


def test_there_are_results():
    assert RUNS


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_scores_follow_from_the_predictions(run):
    report = json.loads((run / "report.json").read_text())
    classes = report["scores"]["pooled"]["class_names"]
    folds = [
        [score_predictions(run / name / "predictions.csv", classes) for name in names] for names in report["run_names"]
    ]
    summary = summarise(folds)
    assert summary.to_dict() == report["scores"]
    page = (DOCS / "results.md").read_text()
    for name, runs in zip(report["fold_names"], folds, strict=True):
        assert row(name, runs) in page
        if len(runs) > 1:
            first = report["recipe"]["training"]["seed"]
            assert all(row(f"seed {first + number}", [scores]) in page for number, scores in enumerate(runs))
    mean = summary.mean
    assert f"**{100 * mean['uar']:.2f} / {100 * mean['war']:.2f} / {100 * mean['weighted_f1']:.2f}**" in page


def row(name, runs):
    """The mean of some runs as a row of a table, or the beginning of one."""
    uar, war, f1 = (100 * np.mean([getattr(scores, score) for scores in runs]) for score in HEADLINE)
    return f"| {name} | {uar:.2f} | {war:.2f} | {f1:.2f} |"
