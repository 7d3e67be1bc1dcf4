"""Eleven systems that use the speaker's gender, and the table that compares them.

Source: Striletchi, Striletchi and Stan, "TBDM-Net", 2024, section 3.5, tables 5 and 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.experiments.cross_validate import Report
from serzoo.experiments.published_figures import PUBLISHED, Published
from serzoo.labels import FEMALE, MALE
from serzoo.metrics import Scores
from serzoo.recipes import Recipe
from serzoo.settings import BINARY, GOLDEN, PROBABILITIES
from serzoo.tables import markdown_table

FULL = "full"

POSTERIORS, LOGITS = "posteriors", "logits"

WEIGHTINGS = (POSTERIORS, LOGITS)
"""How post-hoc systems combine the predictions of the two models of one gender: the mean of the class probabilities,
weighted by gender, or the softmax of that of their logarithms."""

SCORES = {"UAR": "uar", "WAR": "war", "F1": "weighted_f1"}
"""Columns of the table, and the score of each."""


@dataclass(frozen=True)
class System:
    """A system of one or two models that uses the speaker's gender, or a baseline that does not.

    Args:
        trainings: the trainings that it needs: on all speakers (``full``), on one gender (``male``, ``female``), or
            with gender input (the name of the source).
        tested: the speakers of its test part: ``all``, ``male`` or ``female``.
        source: source of the genders, one of :data:`serzoo.settings.GENDER_SOURCES`; None if it uses none.
    """

    trainings: tuple[str, ...]
    tested: str = "all"
    source: str | None = None

    @property
    def takes_gender(self) -> bool:
        """Whether its model has a gender input (pre-hoc)."""
        return self.trainings == (self.source,)

    @property
    def predicts_gender(self) -> bool:
        """Whether a classifier predicts the genders."""
        return self.source in (BINARY, PROBABILITIES)


SYSTEMS: Mapping[str, System] = {
    "baseline:full": System((FULL,)),
    "baseline:M": System((FULL,), MALE),
    "baseline:F": System((FULL,), FEMALE),
    "split:M": System((MALE,), MALE),
    "split:F": System((FEMALE,), FEMALE),
    "post-hoc:golden-labels": System((FEMALE, MALE), source=GOLDEN),
    "post-hoc:binary": System((FEMALE, MALE), source=BINARY),
    "post-hoc:probabilities": System((FEMALE, MALE), source=PROBABILITIES),
    "pre-hoc:golden-labels": System((GOLDEN,), source=GOLDEN),
    "pre-hoc:binary": System((BINARY,), source=BINARY),
    "pre-hoc:probabilities": System((PROBABILITIES,), source=PROBABILITIES),
}
"""The systems by their names in the paper's tables, in the same order."""


@dataclass(frozen=True)
class GenderSystems:
    """The outcome of :func:`cross_validate_systems`.

    Args:
        recipe: the recipe without gender.
        reports: report of each system, as :func:`serzoo.cross_validate` returns it.
        refused: reasons why the other systems are not possible, by name.
        genders: scores of the gender classifiers on the test parts; None if no system uses them.
        weighting: one of :data:`WEIGHTINGS`.
        folder: of the trainings, the systems and the table.
    """

    recipe: Recipe
    reports: Mapping[str, Report]
    refused: Mapping[str, str]
    genders: Scores | None
    weighting: str
    folder: Path

    def table(self) -> list[dict[str, Any]]:
        """Return the rows: scores in percent, means over folds, and the paper's figures if it has the same task."""
        published = self._published()
        rows = []
        for name, report in self.reports.items():
            own = {title: 100 * report.summary.mean[score] for title, score in SCORES.items()}
            figures = {}
            if name in published:
                figures = {f"paper {title}": paper for title, paper in zip(SCORES, published[name].scores, strict=True)}
            rows.append({"system": name, **own, **figures, "n": report.summary.pooled.n})
        return rows

    def _published(self) -> Mapping[str, Published]:
        """Return the paper's figures by system; they are for all emotions of one corpus, so none for other tasks."""
        recipe = self.recipe
        same_task = recipe.test_corpus is None and recipe.target == "label" and recipe.class_names is None
        keys = {name: f"tbdm-300/{recipe.corpus}/{name}" for name in SYSTEMS if same_task}
        return {name: PUBLISHED[key] for name, key in keys.items() if key in PUBLISHED}

    def to_markdown(self) -> str:
        """Return the table in the paper's layout."""
        rows = self.table()
        cells = [[f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
        return markdown_table(list(rows[0]), cells)

    def to_dict(self) -> dict[str, object]:
        """Return the table, refusals and gender scores as plain data; reports are in the systems' folders."""
        return {
            "table": self.table(),
            "refused": dict(self.refused),
            "genders": None if self.genders is None else self.genders.to_dict(),
            "weighting": self.weighting,
        }

    def __str__(self) -> str:
        report, training = next(iter(self.reports.values())), self.recipe.training
        epochs = "" if self.recipe.model.name in CLASSICAL_CLASSIFIERS else f"{training.epochs} epochs, "
        lines = [
            f"{self.to_markdown()}Protocol {report.protocol.described}, selection {training.selection}, "
            f"{epochs}{len(report.runs)} of {report.n_folds} folds. In percent, means over folds; "
            "n counts test recordings."
            + (" The paper's figures are TBDM-Net's: ten random folds, 300 epochs." if self._published() else ""),
        ]
        if self.genders is not None:
            classifier = next(r for name, r in self.reports.items() if SYSTEMS[name].predicts_gender)
            lines.append(
                f"Genders predicted by {classifier.describe_gender_classifier()}  "
                f"Accuracy on the test parts {100 * self.genders.war:.2f} (n={self.genders.n})."
            )
        lines += [f"{name} refused: {reason}" for name, reason in self.refused.items()]
        return "\n".join(lines)
