"""The eleven ways to make use of a speaker's gender, side by side on the same folds.

Source: Striletchi, Striletchi and Stan, "TBDM-Net", 2024, section 3.5, tables 5 and 6.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.classical.gender_classifier import GENDERS, decided
from serzoo.data.cache import FeatureCache
from serzoo.data.leakage import check_leakage, hash_contents
from serzoo.data.manifest import Manifest
from serzoo.data.splits import Fold, get_protocol
from serzoo.errors import DataError, SerzooError, unknown_name
from serzoo.experiments.cross_validate import Report, choose_folds, cross_validate, derive_report, recipe_folds
from serzoo.experiments.published_figures import Published, published_gender_systems
from serzoo.experiments.run_folder import PREDICTIONS, RunFolder, damaged, read_predictions
from serzoo.experiments.setup import load_manifest, prepare_recipe
from serzoo.experiments.stages import build_model, check_stages
from serzoo.files import local_path, write_whole
from serzoo.labels import FEMALE, MALE
from serzoo.metrics import Scores, summarise
from serzoo.models import MODELS
from serzoo.recipes import Recipe
from serzoo.settings import BINARY, GENDER_SOURCES, GOLDEN, PROBABILITIES, GenderConfig
from serzoo.training.evaluate import softmax
from serzoo.training.train_classical import check_classical
from serzoo.training.train_gender import gender_inputs
from serzoo.zoo import builder_arguments

if TYPE_CHECKING:
    import pandas as pd

FULL = "full"

POSTERIORS, LOGITS = "posteriors", "logits"

WEIGHTINGS = {
    POSTERIORS: "the probabilities of the classes, the mean of both models' answers",
    LOGITS: "their logarithms, brought back to probabilities that add up to one",
}
"""What the genders weight of the two models' answers after the fact."""

SCORES = {"UAR": "uar", "WAR": "war", "F1": "weighted_f1"}
"""What the table gives of each system."""

_SMALLEST = 5e-7
"""Probabilities are kept to six decimals; one that is written as 0 counts as half of the last digit."""


@dataclass(frozen=True)
class System:
    """One of the ways.

    Args:
        trainings: whose predictions it is made of: the model of all speakers (``full``), those of one gender
            (``male``, ``female``), or a model that is told the gender, from who tells.
        tested: the speakers whose recordings are its test part: ``all``, ``male`` or ``female``.
        source: who tells the genders, where they are told: one of :data:`serzoo.recipes.GENDER_SOURCES`.
    """

    trainings: tuple[str, ...]
    tested: str = "all"
    source: str | None = None

    @property
    def needs(self) -> frozenset[str]:
        """The genders that the corpus must have for it."""
        return frozenset({MALE, FEMALE} if self.source else {self.tested} - {"all"})

    @property
    def takes_gender(self) -> bool:
        """Whether its model is told the gender: pre-hoc."""
        return self.trainings == (self.source,)

    @property
    def guesses(self) -> bool:
        """Whether a classifier tells it the genders."""
        return self.source in (BINARY, PROBABILITIES)


SYSTEMS: Mapping[str, System] = MappingProxyType(
    {
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
)
"""By the names of the paper's tables, in their order."""


@dataclass(frozen=True)
class GenderSystems:
    """The outcome of :func:`cross_validate_systems`.

    Args:
        recipe: what the systems are made of.
        reports: what :func:`serzoo.cross_validate` reports, or would, of each system.
        refused: why the others cannot be, by name.
        genders: how well the gender classifiers told the genders of the test parts, if they were asked.
        weighting: one of :data:`WEIGHTINGS`.
        folder: where all of it lies.
    """

    recipe: Recipe
    reports: Mapping[str, Report]
    refused: Mapping[str, str]
    genders: Scores | None
    weighting: str
    folder: Path

    def table(self) -> list[dict[str, Any]]:
        """Return the rows: scores in percent, means over folds, and beside them the paper's, if it has this task."""
        published = self._published()
        rows = []
        for name, report in self.reports.items():
            row: dict[str, Any] = {"system": name}
            for title, score in SCORES.items():
                row[title] = 100 * report.summary.mean[score]
            if name in published:
                figures = zip(SCORES, published[name].scores, strict=True)
                row |= {f"paper {title}": figure for title, figure in figures}
            rows.append({**row, "n": report.summary.pooled.n})
        return rows

    def _published(self) -> Mapping[str, Published]:
        """Return the paper's scores by system; none of another task than all emotions of one of its corpora."""
        recipe = self.recipe
        same_task = recipe.test_corpus is None and recipe.target == "label" and recipe.class_names is None
        return published_gender_systems(recipe.corpus) if same_task else {}

    def to_markdown(self) -> str:
        """Return the table as the paper has it."""
        rows = self.table()
        lines = [list(rows[0]), ["---"] * len(rows[0])]
        for row in rows:
            lines.append([f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()])
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def to_dict(self) -> dict[str, object]:
        """Return everything but the reports, which lie in the systems' folders, as plain data."""
        return {
            "table": self.table(),
            "refused": dict(self.refused),
            "genders": None if self.genders is None else self.genders.to_dict(),
            "weighting": self.weighting,
        }

    def __str__(self) -> str:
        report, training = next(iter(self.reports.values())), self.recipe.training
        epochs = "" if self.recipe.model.name in CLASSICAL_CLASSIFIERS else f"{training.epochs} epochs, "
        kind = "speaker-independent" if report.protocol.speaker_independent else "speaker-DEPENDENT"
        lines = [
            f"{self.to_markdown()}Protocol {report.protocol.name} ({kind}), selection {training.selection}, "
            f"{epochs}{len(report.runs)} of {report.n_folds} folds. In percent, means over folds; "
            "n counts test recordings."
            + (" The paper's are TBDM-Net's, ten random folds, 300 epochs." if self._published() else ""),
        ]
        guessed = [report for name, report in self.reports.items() if SYSTEMS[name].guesses]
        if self.genders is not None:
            lines.append(
                f"Genders told by {guessed[0].describe_gender_classifier()}  Accuracy on the test parts {100 * self.genders.war:.2f} "
                f"(n={self.genders.n})."
            )
        lines += [f"{name} refused: {reason}" for name, reason in self.refused.items()]
        return "\n".join(lines)


def cross_validate_systems(
    config: str | Path | Recipe,
    systems: Sequence[str] | None = None,
    *,
    weighting: str = POSTERIORS,
    data_root: str | Path | None = None,
    test_data_root: str | Path | None = None,
    run_folder: str | Path | None = None,
    folds: Sequence[int] | None = None,
    changes: Mapping[str, object] | None = None,
    at_once: int | None = None,
    cache: FeatureCache | None = None,
    progress: bool = True,
) -> GenderSystems:
    """Train what the systems need, each model once per fold, and score all systems on the same folds.

    Six trainings serve all eleven: the model of all speakers, those of each gender, and three that are told the
    gender. Each is a run folder of :func:`serzoo.cross_validate` below the systems', and what is made of their
    predictions lies beside them; an interrupted call goes on where it stopped. Folds of earlier calls count too, as far
    as all trainings have them.

    Args:
        config: a recipe of a model of the zoo; its ``gender`` section names the classifier that tells genders.
        systems: names of :data:`SYSTEMS`; None, or none, for all that the corpus and the model allow.
        weighting: one of :data:`WEIGHTINGS`.
        data_root: as in :func:`serzoo.cross_validate`, and so are the others.
        test_data_root: the test corpus's folder, for cross-corpus recipes.
        run_folder: where the results go; None for ``runs/<recipe name>-gender``.
        folds: which folds, counted from 1; None for all.
        changes: values to replace in the recipe.
        at_once: how many folds train at the same time.
        cache: where features are kept; None for the default folder.
        progress: show progress bars.

    Raises:
        UnknownNameError: no such system or weighting.
        DataError: a system was named that the corpus or the model does not allow.
        SerzooError: as :func:`serzoo.cross_validate` raises.
    """
    _check_names("system", systems or (), SYSTEMS)
    _check_names("weighting", (weighting,), WEIGHTINGS)
    recipe = prepare_recipe(config, changes)
    recipe = replace(recipe, gender=replace(recipe.gender or GenderConfig(), source=GOLDEN, train_on="all"))
    manifest = load_manifest(recipe, data_root, test_data_root)
    all_folds = recipe_folds(recipe, manifest)
    genders = _Genders(recipe, manifest, cache)
    refused = _refusals(systems or tuple(SYSTEMS), recipe, genders, choose_folds(all_folds, folds, recipe.protocol))
    if refused and systems:
        name, reason = next(iter(refused.items()))
        raise DataError(f"{name} cannot be made: {reason}")
    made = {name: SYSTEMS[name] for name in SYSTEMS if name in (systems or SYSTEMS) and name not in refused}
    folder = local_path(run_folder or Path("runs") / f"{recipe.name}-gender")
    trained = {
        training: cross_validate(
            _variant(recipe, training),
            data_root=data_root,
            test_data_root=test_data_root,
            run_folder=folder / training,
            folds=folds,
            at_once=at_once,
            cache=cache,
            progress=progress,
        )
        for training in dict.fromkeys(_training(name, genders) for system in made.values() for name in system.trainings)
    }
    named = {fold.name: fold for fold in all_folds}
    shared = _shared(trained)
    hashes = hash_contents(manifest, cache)
    reports = {}
    for name, system in made.items():
        bases = [shared[_training(training, genders)] for training in system.trainings]
        reports[name] = _report(name, bases, recipe, named, genders, hashes, weighting)
    guessed = [reports[name] for name, system in made.items() if system.guesses]
    scores = genders.score([named[fold] for fold in guessed[0].runs]) if guessed else None
    found = GenderSystems(recipe, reports, refused, scores, weighting, folder)
    write_whole(folder / "table.md", found.to_markdown())
    write_whole(folder / "systems.json", json.dumps(found.to_dict(), indent=2) + "\n")
    return found


def _training(name: str, genders: _Genders) -> str:
    """Return the training that serves as this one: where all speakers are of one gender, that of all speakers."""
    return FULL if name in (MALE, FEMALE) and genders.of(name).all() else name


class _Genders:
    """Whom each source calls male in a fold; a classifier is trained once per fold."""

    def __init__(self, recipe: Recipe, manifest: Manifest, cache: FeatureCache | None) -> None:
        self.manifest = manifest
        self._settings = replace(recipe.gender or GenderConfig(), source=PROBABILITIES)
        self._seed = recipe.training.seed
        self._cache = cache
        self._probabilities: dict[str, np.ndarray] = {}

    def male_probabilities(self, source: str, fold: Fold) -> np.ndarray:
        """Return P(male) of all recordings, (N,), as the source has it.

        Raises:
            DataError: the corpus does not state a gender that is needed, or a classifier cannot be trained.
        """
        if source == GOLDEN:
            return self.manifest.genders
        if fold.name not in self._probabilities:
            male = gender_inputs(self.manifest, self._settings, fold, self._seed, cache=self._cache)
            self._probabilities[fold.name] = male
        male = self._probabilities[fold.name]
        return decided(male).astype(np.float32) if source == BINARY else male

    def of(self, gender: str) -> np.ndarray:
        """Return which recordings are of this gender, (N,), by what the corpus states."""
        return decided(self.manifest.genders) == (gender == MALE)

    def score(self, folds: Sequence[Fold]) -> Scores:
        """Score the classifiers' decisions on the folds' test parts."""
        truth, answers = (
            np.concatenate([self.male_probabilities(source, fold)[fold.test] for fold in folds])
            for source in (GOLDEN, BINARY)
        )
        return Scores.from_predictions(decided(truth).astype(np.int64), answers.astype(np.int64), GENDERS)


def _refusals(names: Sequence[str], recipe: Recipe, genders: _Genders, folds: Sequence[Fold]) -> dict[str, str]:
    """Return why systems cannot be made, by the names of those that cannot."""
    reasons = {name: _refusal(SYSTEMS[name], recipe, genders, folds) for name in names}
    return {name: reason for name, reason in reasons.items() if reason}


def _refusal(system: System, recipe: Recipe, genders: _Genders, folds: Sequence[Fold]) -> str:
    """Return why a system cannot be made, or nothing."""
    argument = _gender_argument(recipe)
    if system.takes_gender and argument is None:
        return f"{recipe.model.name} cannot be told the gender; choose a model that can, such as timnet or tbdm."
    if system.takes_gender and recipe.anti_transfer is not None and argument == "gender_columns":
        return f"anti-transfer compares maps of features alone, {recipe.model.name}'s hold the gender; leave one out."
    try:
        for fold in folds:
            _check_fold(system, genders, fold)
        for training in dict.fromkeys(_training(name, genders) for name in system.trainings):
            _check_training(_variant(recipe, training), genders.manifest, [fold.name for fold in folds])
        if system.tested != "all" and not any(genders.of(system.tested)[fold.test].any() for fold in folds):
            return f"no {system.tested} speaker is in the test parts of these folds; choose other folds."
    except DataError as error:
        return str(error)
    return ""


def _check_training(recipe: Recipe, manifest: Manifest, fold_names: Sequence[str]) -> None:
    """Raise DataError if it shows already that what a training does with genders cannot be done in these folds.

    The training of all speakers does nothing with them; what is wrong with that one is wrong with the recipe.
    """
    if recipe.gender is None:
        return
    folds = [fold for fold in recipe_folds(recipe, manifest) if fold.name in fold_names]
    try:
        if recipe.model.name in CLASSICAL_CLASSIFIERS:
            check_classical(recipe.model.name, recipe.model.arguments, manifest, folds)
        elif recipe.weight_files:  # which may be of a model without gender
            check_stages(recipe, build_model(recipe, manifest))
    except SerzooError as error:
        raise DataError(str(error)) from None


def _check_fold(system: System, genders: _Genders, fold: Fold) -> None:
    """Raise DataError unless a fold has the genders that a system needs, and somebody to tell them."""
    for gender in () if system.trainings == (FULL,) else sorted(system.needs):
        if not genders.of(gender)[fold.train].any():
            raise DataError(
                f"no {gender} speaker of {genders.manifest.corpus} is in the training part of {fold.name}; "
                "use a corpus with both genders."
            )
    if system.source:
        genders.male_probabilities(system.source, fold)


def _gender_argument(recipe: Recipe) -> str | None:
    """Return the argument that lets the recipe's model be told the gender, if it has one."""
    arguments = builder_arguments(recipe.model.name) if recipe.model.name in MODELS else {}
    return next((name for name in ("gender_columns", "gender") if name in arguments), None)


def _variant(recipe: Recipe, training: str) -> Recipe:
    """Return what is trained: the recipe without gender, on one gender, or told the gender by a source."""
    argument, told = _gender_argument(recipe), training in GENDER_SOURCES
    if argument is not None:
        columns = {GOLDEN: 1, BINARY: 1, PROBABILITIES: 2}.get(training, 0)
        value = columns if argument == "gender_columns" else told
        recipe = replace(recipe, model=replace(recipe.model, arguments={**recipe.model.arguments, argument: value}))
    who = training if training in (MALE, FEMALE) else "all"
    gender = GenderConfig(train_on=who)  # without the classifier, which another may replace later
    if training in (BINARY, PROBABILITIES):
        gender = replace(recipe.gender or gender, source=training, train_on="all")
    return replace(recipe, name=f"{recipe.name}-{training}", gender=gender if told or who != "all" else None)


def _shared(trained: Mapping[str, Report]) -> dict[str, Report]:
    """Return the reports of those runs that all trainings have; some may have more, from earlier calls."""
    first = next(iter(trained.values()))
    runs = {
        fold: tuple(run for run in names if all(run in report.runs.get(fold, ()) for report in trained.values()))
        for fold, names in first.runs.items()
    }
    runs = {fold: names for fold, names in runs.items() if names}
    return {name: report if report.runs == runs else _narrowed(report, runs) for name, report in trained.items()}


def _narrowed(report: Report, runs: Mapping[str, tuple[str, ...]]) -> Report:
    """Return the report of some of its runs."""
    folder, class_names = RunFolder(report.folder), report.summary.pooled.class_names
    scores = {fold: folder.read_scores(names, class_names) for fold, names in runs.items()}
    return replace(report, runs=runs, summary=summarise([list(found.values()) for found in scores.values()]))


def _report(
    name: str,
    trained: Sequence[Report],
    recipe: Recipe,
    folds: Mapping[str, Fold],
    genders: _Genders,
    hashes: Sequence[str],
    weighting: str,
) -> Report:
    """Return a system's report; where it is not a training's own, its predictions are made of the trainings'."""
    system, base = SYSTEMS[name], trained[0]
    parts_of = {fold.name: fold for fold in recipe_folds(base.recipe, genders.manifest)} if len(trained) == 1 else folds
    tested = {fold: _tested(parts_of[fold], system, genders) for fold in base.runs}
    scored = {fold: parts for fold, parts in tested.items() if parts is not None}
    leakage = check_leakage(genders.manifest, list(scored.values()), hashes, get_protocol(recipe.protocol))
    if system.tested == "all" and len(trained) == 1:
        return replace(base, leakage=leakage)
    tables = {}
    for fold, parts in scored.items():
        kept = np.isin(folds[fold].test, parts.test)
        for run in base.runs[fold]:
            answers = [_predictions(report, run, genders.manifest) for report in trained]
            if len(trained) == 1:
                tables[run] = answers[0][kept]
            else:
                male = genders.male_probabilities(str(system.source), folds[fold])[parts.test]
                tables[run] = _weighted(answers[0], answers[1], male, weighting)
    if len(trained) > 1:
        settings = replace(recipe.gender or GenderConfig(), source=str(system.source))
        base = replace(base, recipe=replace(base.recipe, name=f"{recipe.name}-{_folder(name)}", gender=settings))
    folder = trained[0].folder.parent / _folder(name)
    made_of = {"system": name, "trainings": [report.recipe.name for report in trained]}
    RunFolder(folder).write_json("system.json", made_of | ({"weighting": weighting} if len(trained) > 1 else {}))
    return derive_report(replace(base, leakage=leakage), folder, tables, f"{recipe.name}, {name}")


def _folder(name: str) -> str:
    """Return the name of a system's folder."""
    return name.replace(":", "-")


def _tested(fold: Fold, system: System, genders: _Genders) -> Fold | None:
    """Return the fold with the speakers in its test part that a system is tested on; None if there are none."""
    if system.tested == "all":
        return fold
    test = fold.test[genders.of(system.tested)[fold.test]]
    return replace(fold, test=test) if len(test) else None


def _predictions(report: Report, run: str, manifest: Manifest) -> pd.DataFrame:
    """Return a run's predictions, which the cross-validation has found to be those of the fold's test part, in order.

    Raises:
        DataError: they are without speakers or probabilities.
    """
    from pandas.api.types import is_numeric_dtype

    table = read_predictions(report.folder / run)
    columns = [f"p_{name}" for name in manifest.class_names]
    whole = {"speaker", *columns} <= set(table.columns) and all(map(is_numeric_dtype, table[columns].dtypes))
    if not whole:
        raise damaged(report.folder / run / PREDICTIONS, "not the probabilities of its classes")
    return table


def _weighted(women: pd.DataFrame, men: pd.DataFrame, male: np.ndarray, weighting: str) -> pd.DataFrame:
    """Return the predictions of two models as one: each answer counts as much as the speaker is of its gender.

    Args:
        women: the predictions of the model of female speakers.
        men: of the model of male ones, for the same clips.
        male: the probabilities that the speakers are male, (n,).
        weighting: one of :data:`WEIGHTINGS`.
    """
    columns = [name for name in women.columns if name.startswith("p_")]  # those of the classes, in their order
    answers = [table[columns].to_numpy() for table in (women, men)]
    if weighting == LOGITS:
        answers = [np.log(np.maximum(answer, _SMALLEST)) for answer in answers]
    mixed = (1 - male[:, None]) * answers[0] + male[:, None] * answers[1]
    if weighting == LOGITS:
        mixed = softmax(mixed)
    predicted = [columns[index].removeprefix("p_") for index in mixed.argmax(axis=1)]
    names = women[["clip", "speaker", "label"]]
    return names.assign(prediction=predicted, male=male.round(6), **dict(zip(columns, mixed.round(6).T, strict=True)))


def _check_names(kind: str, names: Sequence[str], known: Mapping[str, object]) -> None:
    for name in names:
        if name not in known:
            raise unknown_name(kind, name, known)
