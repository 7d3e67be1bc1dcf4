"""Train and score the systems that use the speaker's gender on the same folds."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.classical.gender_classifier import GENDERS, decided
from serzoo.data.cache import FeatureCache
from serzoo.data.leakage import check_leakage, hash_contents
from serzoo.data.manifest import Manifest
from serzoo.data.protocols import get_protocol
from serzoo.data.splits import Fold
from serzoo.errors import DataError, SerzooError, unknown_name
from serzoo.experiments.cross_validate import Report, choose_folds, cross_validate, recipe_folds
from serzoo.experiments.gender_systems import FULL, LOGITS, POSTERIORS, SYSTEMS, WEIGHTINGS, GenderSystems, System
from serzoo.experiments.run_folder import PREDICTIONS, RunFolder, damaged, read_predictions
from serzoo.experiments.setup import load_manifest, prepare_recipe
from serzoo.experiments.stages import build_model, check_stages
from serzoo.files import local_path, write_whole
from serzoo.labels import FEMALE, MALE
from serzoo.metrics import Scores
from serzoo.models import MODELS
from serzoo.recipes import Recipe
from serzoo.settings import BINARY, GENDER_SOURCES, GOLDEN, PROBABILITIES, GenderConfig
from serzoo.training.train_classical import check_classical
from serzoo.training.train_gender import gender_inputs
from serzoo.zoo import builder_arguments

if TYPE_CHECKING:
    import pandas as pd

_SMALLEST = 5e-7
"""Stored probabilities have six decimals; a stored 0 counts as half of the last digit."""


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
    """Train the models that the systems need, and score all systems on the same folds.

    Six trainings are enough for all eleven systems: on all speakers, on each gender, and three with gender input. Each
    training and each system has a run folder below ``run_folder``. An interrupted call resumes; folds of earlier calls
    are scored too if all trainings have them.

    Args:
        config: a recipe; its ``gender`` section names the gender classifier. The arguments that are not described here
            are those of :func:`serzoo.cross_validate`.
        systems: names of :data:`SYSTEMS`; None or empty for all that the corpus and the model allow.
        weighting: one of :data:`WEIGHTINGS`.
        run_folder: folder of the results; None for ``runs/<recipe name>-gender``.

    Raises:
        UnknownNameError: no such system or weighting.
        DataError: the corpus or the model does not allow a named system.
        SerzooError: as :func:`serzoo.cross_validate`.
    """
    for name in systems or ():
        if name not in SYSTEMS:
            raise unknown_name("system", name, SYSTEMS)
    if weighting not in WEIGHTINGS:
        raise unknown_name("weighting", weighting, WEIGHTINGS)
    recipe = prepare_recipe(config, changes)
    recipe = replace(recipe, gender=replace(recipe.gender or GenderConfig(), source=GOLDEN, train_on="all"))
    manifest = load_manifest(recipe, data_root, test_data_root)
    all_folds = recipe_folds(recipe, manifest)
    genders = _Genders(recipe, manifest, cache)
    chosen = choose_folds(all_folds, folds, recipe.protocol)
    reasons = {name: _refusal(SYSTEMS[name], recipe, genders, chosen) for name in systems or SYSTEMS}
    refused = {name: reason for name, reason in reasons.items() if reason}
    if refused and systems:
        name, reason = next(iter(refused.items()))
        raise DataError(f"{name} cannot be made: {reason}")
    made = {name: system for name, system in SYSTEMS.items() if name in reasons and name not in refused}
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
    # only the runs that all trainings have: earlier calls may have left more in some
    runs = set.intersection(*({run for runs in report.runs.values() for run in runs} for report in trained.values()))
    shared = {name: _with_runs(report, runs) for name, report in trained.items()}
    named = {fold.name: fold for fold in all_folds}
    hashes = hash_contents(manifest, cache)
    reports = {}
    for name, system in made.items():
        bases = [shared[_training(training, genders)] for training in system.trainings]
        reports[name] = _report(name, bases, recipe, named, genders, hashes, weighting)
    predicting = [reports[name] for name, system in made.items() if system.predicts_gender]
    scores = genders.score([named[fold] for fold in predicting[0].runs]) if predicting else None
    found = GenderSystems(recipe, reports, refused, scores, weighting, folder)
    write_whole(folder / "table.md", found.to_markdown())
    write_whole(folder / "systems.json", json.dumps(found.to_dict(), indent=2) + "\n")
    return found


def _training(name: str, genders: _Genders) -> str:
    """Return the training to run: if all speakers are of one gender, the training on all speakers is the same one."""
    return FULL if name in (MALE, FEMALE) and genders.of(name).all() else name


class _Genders:
    """P(male) in each fold from each source; a classifier is trained once per fold."""

    def __init__(self, recipe: Recipe, manifest: Manifest, cache: FeatureCache | None) -> None:
        self.manifest = manifest
        self._settings = replace(recipe.gender or GenderConfig(), source=PROBABILITIES)
        self._seed = recipe.training.seed
        self._cache = cache
        self._probabilities: dict[str, np.ndarray] = {}

    def male_probabilities(self, source: str, fold: Fold) -> np.ndarray:
        """Return P(male) of all recordings, (N,), from a source.

        Raises:
            DataError: a gender of the corpus is unknown, or the classifier cannot be trained.
        """
        if source == GOLDEN:
            return self.manifest.genders
        if fold.name not in self._probabilities:
            male = gender_inputs(self.manifest, self._settings, fold, self._seed, cache=self._cache)
            self._probabilities[fold.name] = male
        male = self._probabilities[fold.name]
        return decided(male).astype(np.float32) if source == BINARY else male

    def of(self, gender: str) -> np.ndarray:
        """Return the mask of recordings of this gender, (N,), by the corpus."""
        return decided(self.manifest.genders) == (gender == MALE)

    def score(self, folds: Sequence[Fold]) -> Scores:
        """Score the classifiers' decisions on the folds' test parts."""
        truth, predicted = (
            np.concatenate([self.male_probabilities(source, fold)[fold.test] for fold in folds])
            for source in (GOLDEN, BINARY)
        )
        return Scores.from_predictions(decided(truth).astype(np.int64), predicted.astype(np.int64), GENDERS)


def _refusal(system: System, recipe: Recipe, genders: _Genders, folds: Sequence[Fold]) -> str:
    """Return the reason why a system is not possible, or an empty string."""
    argument, model = _gender_argument(recipe), recipe.model.name
    if system.takes_gender and argument is None:
        return f"{model} has no gender input; choose a model that has one, such as timnet or tbdm."
    if system.takes_gender and recipe.anti_transfer is not None and argument == "gender_columns":
        return f"anti-transfer compares maps of features alone, but {model}'s depend on the gender; leave one out."
    try:
        for fold in folds:
            for gender in (FEMALE, MALE) if system.source else set(system.trainings) - {FULL}:
                if not genders.of(gender)[fold.train].any():
                    return (
                        f"no {gender} speaker of {genders.manifest.corpus} is in the training part of {fold.name}; "
                        "use a corpus with both genders."
                    )
            if system.source:
                genders.male_probabilities(system.source, fold)
        for training in dict.fromkeys(_training(name, genders) for name in system.trainings):
            _check_training(_variant(recipe, training), genders.manifest, [fold.name for fold in folds])
        if system.tested != "all" and not any(genders.of(system.tested)[fold.test].any() for fold in folds):
            return f"no {system.tested} speaker is in the test parts of these folds; choose other folds."
    except DataError as error:
        return str(error)
    return ""


def _check_training(recipe: Recipe, manifest: Manifest, fold_names: Sequence[str]) -> None:
    """Raise DataError if a training that uses genders is impossible in these folds.

    The training on all speakers is not checked here: an error there is an error of the recipe.
    """
    if recipe.gender is None:
        return
    folds = [fold for fold in recipe_folds(recipe, manifest) if fold.name in fold_names]
    try:
        if recipe.model.name in CLASSICAL_CLASSIFIERS:
            check_classical(recipe.model.name, recipe.model.arguments, manifest, folds)
        elif recipe.weight_files:  # pretrained weights may be of a model without gender input
            check_stages(recipe, build_model(recipe, manifest))
    except SerzooError as error:
        raise DataError(str(error)) from None


def _gender_argument(recipe: Recipe) -> str | None:
    """Return the name of the model argument that adds a gender input, or None."""
    arguments = builder_arguments(recipe.model.name) if recipe.model.name in MODELS else {}
    return next((name for name in ("gender_columns", "gender") if name in arguments), None)


def _variant(recipe: Recipe, training: str) -> Recipe:
    """Return the recipe of a training: without gender, on one gender, or with gender input from a source."""
    argument, takes_gender = _gender_argument(recipe), training in GENDER_SOURCES
    if argument is not None:
        columns = {GOLDEN: 1, BINARY: 1, PROBABILITIES: 2}.get(training, 0)
        value = columns if argument == "gender_columns" else takes_gender
        recipe = replace(recipe, model=replace(recipe.model, arguments={**recipe.model.arguments, argument: value}))
    train_on = training if training in (MALE, FEMALE) else "all"
    gender = GenderConfig(train_on=train_on)  # no classifier: a later call with another one keeps these trainings
    if training in (BINARY, PROBABILITIES):
        gender = replace(recipe.gender or gender, source=training, train_on="all")
    has_gender = takes_gender or train_on != "all"
    return replace(recipe, name=f"{recipe.name}-{training}", gender=gender if has_gender else None)


def _with_runs(report: Report, names: Container[str]) -> Report:
    """Return a report of only these runs."""
    scores = {fold: {run: own for run, own in runs.items() if run in names} for fold, runs in report.scores.items()}
    return replace(report, scores={fold: runs for fold, runs in scores.items() if runs})


def _report(
    name: str,
    trained: Sequence[Report],
    recipe: Recipe,
    folds: Mapping[str, Fold],
    genders: _Genders,
    hashes: Sequence[str],
    weighting: str,
) -> Report:
    """Return a system's report: its training's own, or one of predictions derived from its trainings'."""
    system, base, posthoc = SYSTEMS[name], trained[0], len(trained) > 1
    parts = folds if posthoc else {fold.name: fold for fold in recipe_folds(base.recipe, genders.manifest)}
    tested = {fold: parts[fold] for fold in base.runs}
    if system.tested != "all":
        own = {fold: one.test[genders.of(system.tested)[one.test]] for fold, one in tested.items()}
        tested = {fold: replace(one, test=own[fold]) for fold, one in tested.items() if len(own[fold])}
    leakage = check_leakage(genders.manifest, list(tested.values()), hashes, get_protocol(recipe.protocol))
    if system.tested == "all" and not posthoc:
        return replace(base, leakage=leakage)
    folder = RunFolder(base.folder.parent / name.replace(":", "-"))
    made_of = {"system": name, "trainings": [report.recipe.name for report in trained]}
    if posthoc:
        settings = replace(recipe.gender or GenderConfig(), source=str(system.source))
        base = replace(base, recipe=replace(base.recipe, name=f"{recipe.name}-{folder.path.name}", gender=settings))
        made_of["weighting"] = weighting
    folder.write_json("system.json", made_of)
    for fold, one in tested.items():
        for run in base.runs[fold]:
            predictions = [_predictions(report, run, genders.manifest) for report in trained]
            if posthoc:
                male = genders.male_probabilities(str(system.source), folds[fold])[one.test]
                table = _weighted(predictions[0], predictions[1], male, weighting)
            else:
                table = predictions[0][np.isin(folds[fold].test, one.test)]
            folder.write_predictions(run, table)
    class_names = genders.manifest.class_names
    report = replace(
        base,
        scores={fold: folder.read_scores(base.runs[fold], class_names) for fold in tested},
        chosen=tuple(run for fold in tested for run in base.runs[fold] if run in base.chosen),
        leakage=leakage,
        folder=folder.path,
    )
    report.write(f"{recipe.name}, {name}")
    return report


def _predictions(report: Report, run: str, manifest: Manifest) -> pd.DataFrame:
    """Return a run's predictions; the cross-validation has checked that they are of the fold's test part, in order."""
    table = read_predictions(report.folder / run)
    if not {f"p_{name}" for name in manifest.class_names} <= set(table):
        raise damaged(report.folder / run / PREDICTIONS, "not the probabilities of its classes")
    return table


def _weighted(women: pd.DataFrame, men: pd.DataFrame, male: np.ndarray, weighting: str) -> pd.DataFrame:
    """Return the mean predictions of two models, weighted by the speakers' genders."""
    columns = [name for name in women.columns if name.startswith("p_")]  # in the order of the classes
    probabilities = [table[columns].to_numpy() for table in (women, men)]
    if weighting == LOGITS:
        probabilities = [np.log(np.maximum(values, _SMALLEST)) for values in probabilities]
    mixed = (1 - male[:, None]) * probabilities[0] + male[:, None] * probabilities[1]
    if weighting == LOGITS:
        mixed = softmax(mixed, axis=1)
    predicted = [columns[index].removeprefix("p_") for index in mixed.argmax(axis=1)]
    names = women[["clip", "speaker", "label"]]
    return names.assign(prediction=predicted, male=male.round(6), **dict(zip(columns, mixed.round(6).T, strict=True)))
