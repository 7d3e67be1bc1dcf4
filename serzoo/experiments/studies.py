"""Compare frozen representations: each corpus, embedding and classifier is cross-validated on the same folds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from serzoo.checks import COUNT, check
from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.data import load_corpus
from serzoo.data.cache import FeatureCache
from serzoo.data.examples import load_examples
from serzoo.errors import ConfigError, unknown_name
from serzoo.experiments.cross_validate import Report, cross_validate
from serzoo.experiments.processes import run_in_processes
from serzoo.experiments.setup import check_recipe
from serzoo.features.spec import EmbeddingSpec
from serzoo.files import write_whole
from serzoo.recipes import Recipe, load_recipe
from serzoo.settings import ModelConfig
from serzoo.tables import markdown_table

NETWORK = "embedding_dnn"
"""The classifier that is a network of the zoo; the others are classical classifiers."""

SCORES = ("UAR", "WAR")
"""Columns of the table for each corpus."""

_SET_BY_THE_STUDY = (
    "name", "corpus", "test_corpus", "features", "protocol", "model.name", "model.arguments.scale",
    "model.arguments.normalization",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One cross-validation of a study.

    Args:
        corpus: name of the corpus.
        features: the representation.
        classifier: ``embedding_dnn`` or a classical classifier.
        scaled: whether each value is standardised (zero mean, unit deviation over the training part).
    """

    corpus: str
    features: EmbeddingSpec
    classifier: str
    scaled: bool

    @property
    def row(self) -> tuple[str, str]:
        """The first two columns of its row in the table: representation and classifier."""
        layer = "" if self.features.layer is None else f" layer {self.features.layer}"
        return f"{self.features.source}{layer}", f"{self.classifier}, scaled" if self.scaled else self.classifier

    @property
    def folder(self) -> Path:
        """Its run folder, below the study's."""
        source, classifier = (re.sub(r"[^A-Za-z0-9_.]+", "-", text.replace(",", "")) for text in self.row)
        return Path(self.corpus, f"{source[-60:]}-{classifier}-{self.features.digest()}")

    def recipe(self, protocol: str, seed: int, changes: Mapping[str, object] = MappingProxyType({})) -> Recipe:
        """Return the zoo's recipe for this classifier with the cell's corpus and features."""
        base = load_recipe(f"{NETWORK if self.classifier == NETWORK else 'svc'}-ravdess-mfcc")
        scaling = {"normalization": "real-frames"} if self.classifier == NETWORK else {"scale": True}
        return replace(
            base,
            name=f"{self.classifier}-{self.corpus}",
            summary="A cell of a study of frozen representations",
            corpus=self.corpus,
            model=ModelConfig(self.classifier, scaling if self.scaled else {}),
            features=self.features,
            protocol=protocol,
            training=replace(base.training, seed=seed),
        ).override(changes)


@dataclass(frozen=True)
class FrozenStudy:
    """The outcome of :func:`study_frozen`: the report of each cell, in the order of the table's rows."""

    protocol: str
    reports: Mapping[Cell, Report]

    def table(self) -> list[dict[str, Any]]:
        """Return the rows: features, classifier, UAR and WAR in percent for each corpus, and means over corpora."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for cell, report in self.reports.items():
            row = rows.setdefault(cell.row, {"features": cell.row[0], "classifier": cell.row[1]})
            for score in SCORES:
                row[f"{cell.corpus} {score}"] = 100 * report.summary.mean[score.lower()]
        corpora = list(dict.fromkeys(cell.corpus for cell in self.reports))
        for row, score in product(rows.values(), SCORES if len(corpora) > 1 else ()):
            row[f"mean {score}"] = float(np.mean([row[f"{corpus} {score}"] for corpus in corpora]))
        return list(rows.values())

    def to_markdown(self) -> str:
        """Return the table as the paper has it, the best of each column in bold."""
        rows = self.table()
        best = {name: max(row[name] for row in rows) for name in list(rows[0])[2:]}
        lines = []
        for row in rows:
            scores = [f"**{row[name]:.2f}**" if row[name] == best[name] else f"{row[name]:.2f}" for name in best]
            lines.append([row["features"], row["classifier"], *scores])
        return markdown_table(list(rows[0]), lines)

    def __str__(self) -> str:
        return f"{self.to_markdown()}Protocol {self.protocol}; UAR and WAR in percent, means over folds."


def study_frozen(
    corpora: Mapping[str, str | Path],
    features: Sequence[EmbeddingSpec],
    classifiers: Sequence[str] = ("svc", NETWORK),
    *,
    scaled: Iterable[bool] = (False,),
    protocol: str = "random5-seed0-v1",
    seed: int = 0,
    changes: Mapping[str, object] | None = None,
    run_folder: str | Path = "runs/frozen",
    jobs: int | None = None,
    cache: FeatureCache | None = None,
    progress: bool = True,
) -> FrozenStudy:
    """Cross-validate classifiers on frozen representations of whole recordings.

    Each cell has a run folder of :func:`serzoo.cross_validate` below the study's; finished cells are not trained again.
    Cells run at the same time, one process per core.

    Args:
        corpora: folders by corpus name.
        features: the representations.
        classifiers: names of classifiers: ``embedding_dnn`` and classical classifiers.
        scaled: whether values are standardised over the training part: (False,), (True,) or both.
        protocol: protocol of all cells.
        seed: seed of every classifier.
        changes: values to replace in every recipe, for example ``{"model.arguments.C": 1.0}``; if ``embedding_dnn`` is
            among the classifiers, those of ``training`` but for its seed apply to it alone.
        run_folder: folder of the cells' run folders and of ``table.md``.
        jobs: number of processes; None for one per core.
        cache: cache of embeddings; None for the default folder.
        progress: show a progress bar while embeddings are computed.

    Returns:
        The reports, with a table like that of Stanea et al., "An analysis of large speech models-based representations
        for speech emotion recognition", 2023, table II.

    Raises:
        UnknownNameError: an unknown corpus, classifier or protocol.
        ConfigError: nothing to compare, no number of processes, or a change to a value that the study sets.
        SerzooError: as :func:`serzoo.cross_validate`.
    """
    from joblib import cpu_count

    cells = _cells(corpora, features, classifiers, scaled)
    if jobs is not None:
        check("jobs", jobs, COUNT)
    n_jobs = min(jobs or cpu_count(), len(cells))
    recipes = [cell.recipe(protocol, seed, _own_changes(cell, classifiers, changes or {})) for cell in cells]
    for recipe in recipes:  # before features are computed
        check_recipe(recipe)
    for corpus, spec in product(corpora, features):  # computed once, here; the processes read the cache
        load_examples(load_corpus(corpus, corpora[corpus]), spec, cache=cache, progress=progress)
    calls = [
        (recipe, corpora[cell.corpus], Path(run_folder) / cell.folder, cache)
        for cell, recipe in zip(cells, recipes, strict=True)
    ]
    if n_jobs == 1:
        reports = {cell: _cross_validate(*call) for cell, call in zip(cells, calls, strict=True)}
    else:
        names = [f"{cell.corpus}, {', '.join(cell.row)}" for cell in cells]
        trained = dict(run_in_processes(_cross_validate, calls, names, n_jobs))
        reports = {cell: trained[number] for number, cell in enumerate(cells)}
    study = FrozenStudy(protocol, reports)
    write_whole(Path(run_folder) / "table.md", study.to_markdown())
    return study


def _cells(
    corpora: Iterable[str], features: Sequence[EmbeddingSpec], classifiers: Sequence[str], scaled: Iterable[bool]
) -> list[Cell]:
    """Return all cells, row by row."""
    for classifier in classifiers:
        if classifier not in (NETWORK, *CLASSICAL_CLASSIFIERS):
            raise unknown_name("classifier of a study", classifier, [NETWORK, *CLASSICAL_CLASSIFIERS])
    rows = product(dict.fromkeys(features), dict.fromkeys(classifiers), dict.fromkeys(scaled), corpora)
    cells = [Cell(corpus, spec, classifier, scale) for spec, classifier, scale, corpus in rows]
    if not cells:
        raise ConfigError(
            "A study needs a corpus, features, a classifier and a value of scaled; give at least one of each."
        )
    return cells


def _own_changes(cell: Cell, classifiers: Iterable[str], changes: Mapping[str, object]) -> dict[str, object]:
    """Return the changes for a cell: a network's training settings do not apply to classical classifiers."""
    for key in changes:
        if any(f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.") for name in _SET_BY_THE_STUDY):
            raise ConfigError(
                f"{key} is set by the study; choose its corpora, features, classifiers, scaling and protocol instead."
            )
    if cell.classifier == NETWORK or NETWORK not in classifiers:
        return dict(changes)
    return {key: value for key, value in changes.items() if key == "training.seed" or not key.startswith("training")}


def _cross_validate(recipe: Recipe, root: str | Path, run_folder: Path, cache: FeatureCache | None) -> Report:
    """Train and score a cell."""
    return cross_validate(recipe, data_root=root, run_folder=run_folder, at_once=1, cache=cache, progress=False)
