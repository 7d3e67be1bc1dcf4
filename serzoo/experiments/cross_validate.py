"""Train and score a recipe fold by fold under its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.classical.gender_classifier import decided
from serzoo.data.cache import FeatureCache
from serzoo.data.examples import load_examples
from serzoo.data.leakage import LeakageReport, check_leakage, hash_contents
from serzoo.data.manifest import Manifest
from serzoo.data.protocols import Protocol, get_protocol
from serzoo.data.splits import Fold, with_validation
from serzoo.errors import ConfigError, DataError
from serzoo.experiments.folds import Experiment, Task, gender_settings, weight_files
from serzoo.experiments.parallel import check_at_once, train_tasks
from serzoo.experiments.provenance import count_seen
from serzoo.experiments.run_folder import RunFolder, describe_data, run_name
from serzoo.experiments.setup import load_manifest, prepare_recipe
from serzoo.experiments.stages import build_model, check_stages
from serzoo.labels import MALE
from serzoo.metrics import Scores, Summary, summarise
from serzoo.models.base import check_features_shape
from serzoo.plots import plot_confusion
from serzoo.recipes import Recipe
from serzoo.settings import GOLDEN, VALIDATION_RULES
from serzoo.training.train_classical import check_classical
from serzoo.training.train_gender import check_gender_inputs
from serzoo.weights.store import list_pretrained, pretrained_card

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Report:
    """The outcome of :func:`cross_validate`.

    Args:
        recipe: the recipe.
        protocol: its protocol.
        runs: by fold, in order, the folders of the finished runs in the run folder; the scores are theirs.
        chosen: the folders of the runs that this call selected.
        n_folds: number of folds of the protocol.
        summary: scores of each run, mean and standard deviation over folds, and pooled scores.
        leakage: speakers, texts and recordings shared by training and test parts.
        n_test: number of different test recordings.
        seen: by pretrained model of the recipe, how many of these it was trained on; None where that is unknown.
        folder: the run folder.
    """

    recipe: Recipe
    protocol: Protocol
    runs: Mapping[str, tuple[str, ...]]
    chosen: tuple[str, ...]
    n_folds: int
    summary: Summary
    leakage: LeakageReport
    n_test: int
    seen: Mapping[str, int | None]
    folder: Path

    @property
    def fold_names(self) -> tuple[str, ...]:
        """The folds with at least one finished run, in order."""
        return tuple(self.runs)

    @property
    def n_runs(self) -> int:
        """Number of finished runs."""
        return sum(map(len, self.runs.values()))

    @property
    def complete(self) -> bool:
        """Whether every fold of the protocol was scored with every seed."""
        return self.n_runs == self.n_folds * self.recipe.repeats

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain data, without the path of the run folder."""
        return {
            "recipe": self.recipe.to_dict(),
            "protocol": self.protocol.name,
            "speaker_independent": self.protocol.speaker_independent,
            "selection": self.recipe.training.selection,
            "fold_names": list(self.fold_names),
            "run_names": [list(names) for names in self.runs.values()],
            "n_folds": self.n_folds,
            "scores": self.summary.to_dict(),
            "leakage": self.leakage.to_dict(),
            **({"seen": dict(self.seen)} if self.seen else {}),
        }

    def __str__(self) -> str:
        return (
            f"{self.recipe.name}: {self.summary}\n"
            f"Protocol {self.protocol.described}, selection {self.recipe.training.selection}."
            f"{self._repeats()}{self._missing()}{self._genders()}\n"
            f"{self.leakage}{self._seen()}"
        )

    def _genders(self) -> str:
        settings = self.recipe.gender
        if settings is None:
            return ""
        trained = "" if settings.train_on == "all" else f"  Trained on {settings.train_on} speakers only."
        return (
            trained
            if settings.source == GOLDEN
            else f"{trained}\nGenders: {settings.source}, predicted by {self.describe_gender_classifier()}"
        )

    def describe_gender_classifier(self) -> str:
        """Return which classifier predicts the genders, and whether it was trained on test speakers, in words."""
        settings = gender_settings(self.recipe)
        if settings.classifier in list_pretrained():
            return f"{settings.classifier}, trained on all speakers of {pretrained_card(settings.classifier).corpus}."
        if settings.classifier not in CLASSICAL_CLASSIFIERS:
            return f"{settings.classifier}; check whether test speakers were in its training."
        seen = {True: "unseen", False: "SEEN in training", None: "unknown"}[self.leakage.speaker_independent]
        return (
            f"{settings.classifier} on {settings.features}, trained on each fold's training part; "
            f"test speakers are {seen}."
        )

    def _seen(self) -> str:
        texts = (
            f"the training recordings of {source} are unknown"
            if count is None
            else f"{count} of {self.n_test} test recordings were training recordings of {source}"
            for source, count in self.seen.items()
        )
        return "".join(f"; {text}" for text in texts)

    def _repeats(self) -> str:
        seeds = self.recipe.seeds
        return f"  Each fold is the mean over seeds {seeds[0]} to {seeds[-1]}." if len(seeds) > 1 else ""

    def _missing(self) -> str:
        n_folds, n_wanted = len(self.runs), len(self.runs) * self.recipe.repeats
        folds = f"  {n_folds} of {self.n_folds} folds only." if n_folds < self.n_folds else ""
        return folds + (
            f"  {self.n_runs} of the {n_wanted} runs of these folds only." if self.n_runs < n_wanted else ""
        )


def cross_validate(
    config: str | Path | Recipe,
    *,
    data_root: str | Path | None = None,
    test_data_root: str | Path | None = None,
    run_folder: str | Path | None = None,
    folds: Sequence[int] | None = None,
    changes: Mapping[str, object] | None = None,
    at_once: int | None = None,
    cache: FeatureCache | None = None,
    progress: bool = True,
) -> Report:
    """Train and score a recipe on the folds of its protocol, each fold with each seed of the recipe.

    Called again with the same run folder, an interrupted run resumes to the same numbers: finished folds are read from
    their predictions, an unfinished training continues after its last saved epoch. The report is written after each
    training; all folds are trained with one seed before the next, so that it soon covers all folds.

    Args:
        config: a recipe's name (``serzoo list``), a YAML file or a recipe.
        data_root: the corpus's folder; None only for the built-in synthetic corpus.
        test_data_root: the test corpus's folder, for cross-corpus recipes.
        run_folder: folder of the results; None for ``runs/<recipe name>``.
        folds: numbers of folds, counted from 1; None for all.
        changes: values to replace in the recipe, for example ``{"training.epochs": 2}``.
        at_once: number of folds that train at the same time: on Keras's JAX backend as one program, elsewhere in
            processes; None for the fastest (:func:`serzoo.experiments.parallel.choose_at_once`).
        cache: cache of features; None for the default folder.
        progress: show progress bars.

    Raises:
        SerzooError: the recipe, the recordings or the run folder cannot be used.
    """
    recipe = prepare_recipe(config, changes)
    check_at_once(recipe, at_once)
    manifest = load_manifest(recipe, data_root, test_data_root)
    protocol = get_protocol(recipe.protocol)
    all_folds = recipe_folds(recipe, manifest)
    chosen = choose_folds(all_folds, folds, protocol.name)
    with_gender = _check_model(recipe, manifest, chosen) and gender_settings(recipe).source == GOLDEN
    hashes = hash_contents(manifest, cache)
    check_leakage(manifest, chosen, hashes, protocol)
    examples = load_examples(manifest, recipe.features, with_gender=with_gender, cache=cache, progress=progress)
    once = _with_seed(recipe, recipe.training.seed)  # without `repeats`: seeds may be added to a run folder later
    data = describe_data(manifest, hashes, weight_files(recipe), recipe)
    run = RunFolder.open(run_folder or Path("runs") / recipe.name, once, data)
    tasks = [
        Task(_with_seed(recipe, seed), replace(fold, name=run_name(fold.name, seed, recipe.training.seed)))
        for seed, fold in product(recipe.seeds, chosen)
    ]
    remaining = [task for task in tasks if not _read_scores(run, [task.name], manifest, task.fold)]
    experiment = Experiment(manifest, examples, hashes, run, cache)
    for _ in train_tasks(remaining, experiment, at_once, progress=progress):
        _write_report(recipe, manifest, all_folds, chosen, hashes, run)
    return _write_report(recipe, manifest, all_folds, chosen, hashes, run)


def _check_model(recipe: Recipe, manifest: Manifest, folds: Sequence[Fold]) -> bool:
    """Return whether the recipe's model has a gender input; raise SerzooError if the recipe cannot be trained.

    All checks are made here, before anything is computed or written.
    """
    if recipe.model.name in CLASSICAL_CLASSIFIERS:
        check_classical(recipe.model.name, recipe.model.arguments, manifest, folds)
        return False
    if recipe.training.waveform_augment is not None and recipe.features.n_samples is None:
        remedy = "set features.n_samples" if recipe.features.kind != "embedding" else "leave it out with embeddings"
        raise ConfigError(f"training.waveform_augment needs clips of one length; {remedy}.")
    model = build_model(recipe, manifest)
    if gender_settings(recipe).source != GOLDEN and not model.takes_gender:
        raise ConfigError(
            f"gender.source is {gender_settings(recipe).source}, but this {recipe.model.name} has no gender input; "
            "set model.arguments.gender_columns (acrnn: gender) or leave gender.source out."
        )
    check_gender_inputs(manifest, gender_settings(recipe), folds)
    check_features_shape(model, (recipe.features.n_frames, *recipe.features.frame_shape), "the recipe's features have")
    check_stages(recipe, model)
    return model.takes_gender


def _write_report(
    recipe: Recipe,
    manifest: Manifest,
    all_folds: Sequence[Fold],
    chosen: Sequence[Fold],
    hashes: Sequence[str],
    run: RunFolder,
) -> Report:
    """Report on all finished runs of the run folder."""
    first = recipe.training.seed
    names = {fold.name: [run_name(fold.name, seed, first) for seed in recipe.seeds] for fold in all_folds}
    scores = {fold.name: _read_scores(run, names[fold.name], manifest, fold) for fold in all_folds}
    done = [fold for fold in all_folds if scores[fold.name]]
    protocol = get_protocol(recipe.protocol)
    tests = [hashes[index] for index in np.unique(np.concatenate([fold.test for fold in done]))]
    report = Report(
        recipe=recipe,
        protocol=protocol,
        runs={fold.name: tuple(scores[fold.name]) for fold in done},
        chosen=tuple(name for fold in chosen for name in names[fold.name]),
        n_folds=len(all_folds),
        summary=summarise([list(scores[fold.name].values()) for fold in done]),
        leakage=check_leakage(manifest, done, hashes, protocol),
        n_test=len(tests),
        seen={source: count_seen(path, tests) for source, path in weight_files(recipe).items()},
        folder=run.path,
    )
    run.write_json("leakage.json", report.leakage.to_dict())
    run.write_json("report.json", report.to_dict())
    plot_confusion(report.summary.pooled, run.path / "plots" / "confusion.png", title=f"{recipe.name}, {protocol.name}")
    return report


def _read_scores(run: RunFolder, names: Sequence[str], manifest: Manifest, fold: Fold) -> dict[str, Scores]:
    """Return the scores of a fold's finished runs; their predictions must be of its test part."""
    clips = list(zip(manifest.names, manifest.column("label"), strict=True))
    return run.read_scores(names, manifest.class_names, [clips[index] for index in fold.test])


def derive_report(base: Report, folder: Path, tables: Mapping[str, pd.DataFrame], title: str) -> Report:
    """Write predictions that were derived from a run's into a new run folder, and report on them.

    Args:
        base: the report of the original run, with recipe, protocol and leakage.
        folder: the new run folder.
        tables: predictions by the name of the run's folder; runs without predictions are left out.
        title: title of the plot.
    """
    run, class_names = RunFolder(folder), base.summary.pooled.class_names
    for name, table in tables.items():
        run.write_predictions(name, table)
    scores = {
        fold: run.read_scores([name for name in names if name in tables], class_names)
        for fold, names in base.runs.items()
    }
    done = {fold: found for fold, found in scores.items() if found}
    report = replace(
        base,
        runs={fold: tuple(found) for fold, found in done.items()},
        chosen=tuple(name for name in base.chosen if name in tables),
        summary=summarise([list(found.values()) for found in done.values()]),
        folder=folder,
    )
    run.write_json("report.json", report.to_dict())
    plot_confusion(report.summary.pooled, folder / "plots" / "confusion.png", title=title)
    return report


def recipe_folds(recipe: Recipe, manifest: Manifest) -> list[Fold]:
    """Return the folds on which the recipe trains.

    A fold has a validation part if the selection rule needs one; training and validation parts have only the speakers
    of the gender ``gender.train_on``.

    Raises:
        DataError: the corpus does not allow these folds.
    """
    folds = get_protocol(recipe.protocol).folds(manifest)
    if recipe.training.selection in VALIDATION_RULES:
        fraction, seed = recipe.training.validation_fraction, recipe.training.seed
        folds = [with_validation(fold, manifest, fraction, seed) for fold in folds]
    gender = gender_settings(recipe).train_on
    if gender == "all":
        return folds
    if recipe.training.selection not in VALIDATION_RULES:  # an unused validation part may lack that gender
        folds = [replace(fold, validation=None) for fold in folds]
    return [_of_one_gender(fold, manifest, gender) for fold in folds]


def _of_one_gender(fold: Fold, manifest: Manifest, gender: str) -> Fold:
    """Return the fold with the speakers of one gender in its training and validation parts; the test part is the same.

    Raises:
        DataError: a gender is unknown, or a part has no speaker of this gender.
    """
    wanted = decided(manifest.genders) == (gender == MALE)
    parts = {"train": fold.train} if fold.validation is None else {"train": fold.train, "validation": fold.validation}
    kept = {name: part[wanted[part]] for name, part in parts.items()}
    for name, part in kept.items():
        if not len(part):
            raise DataError(
                f"gender.train_on is {gender}, but no {gender} speaker of {manifest.corpus} is in the {name} part of "
                f"{fold.name}; use another protocol, or a corpus with both genders."
            )
    return replace(fold, **kept)


def _with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe of one run, with this seed alone."""
    return replace(recipe, repeats=1, training=replace(recipe.training, seed=seed))


def choose_folds(folds: Sequence[Fold], numbers: Sequence[int] | None, protocol: str) -> list[Fold]:
    """Return the folds with these numbers, counted from 1, or all.

    Raises:
        ConfigError: there is no fold of that number, or no number.
    """
    if numbers is None:
        return list(folds)
    wrong = [number for number in numbers if not 1 <= number <= len(folds)]
    if wrong or not numbers:
        found = f"Fold {wrong[0]} is not" if wrong else "No fold was chosen"
        raise ConfigError(f"{found} in {protocol}; choose from 1 to {len(folds)}.")
    return [folds[number - 1] for number in sorted(set(numbers))]
