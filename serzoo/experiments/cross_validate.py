"""Train and score a recipe fold by fold under its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

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


@dataclass(frozen=True)
class Report:
    """The outcome of :func:`cross_validate`.

    Args:
        recipe: the recipe.
        protocol: its protocol.
        scores: of the finished runs: by fold, in order, and by the run's folder in the run folder.
        chosen: the folders of the runs that this call selected.
        n_folds: number of folds of the protocol.
        leakage: speakers, texts and recordings shared by training and test parts.
        n_test: number of different test recordings.
        seen: by pretrained model of the recipe, how many of these it was trained on; None where that is unknown.
        folder: the run folder.
    """

    recipe: Recipe
    protocol: Protocol
    scores: Mapping[str, Mapping[str, Scores]]
    chosen: tuple[str, ...]
    n_folds: int
    leakage: LeakageReport
    n_test: int
    seen: Mapping[str, int | None]
    folder: Path

    @property
    def runs(self) -> dict[str, tuple[str, ...]]:
        """The folders of the finished runs by fold, in order."""
        return {fold: tuple(scores) for fold, scores in self.scores.items()}

    @cached_property
    def summary(self) -> Summary:
        """Scores of each run, mean and standard deviation over folds, and pooled scores."""
        return summarise([list(scores.values()) for scores in self.scores.values()])

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

    def write(self, title: str) -> None:
        """Write the report into the run folder, with a picture of the confusion matrix of this title."""
        RunFolder(self.folder).write_json("report.json", self.to_dict())
        plot_confusion(self.summary.pooled, self.folder / "plots" / "confusion.png", title=title)

    def __str__(self) -> str:
        seeds, genders = self.recipe.seeds, gender_settings(self.recipe)
        n_folds, n_wanted = len(self.runs), len(self.runs) * len(seeds)
        facts = {
            f"Protocol {self.protocol.described}, selection {self.recipe.training.selection}.": True,
            f"Each fold is the mean over seeds {seeds[0]} to {seeds[-1]}.": len(seeds) > 1,
            f"{n_folds} of {self.n_folds} folds only.": n_folds < self.n_folds,
            f"{self.n_runs} of the {n_wanted} runs of these folds only.": self.n_runs < n_wanted,
            f"Trained on {genders.train_on} speakers only.": genders.train_on != "all",
        }
        lines = [f"{self.recipe.name}: {self.summary}", "  ".join(fact for fact, holds in facts.items() if holds)]
        if genders.source != GOLDEN:
            lines.append(f"Genders: {genders.source}, predicted by {self.describe_gender_classifier()}")
        leaks = [str(self.leakage)]
        for source, count in self.seen.items():
            if count is None:
                leaks.append(f"the training recordings of {source} are unknown")
            else:
                leaks.append(f"{count} of {self.n_test} test recordings were training recordings of {source}")
        return "\n".join([*lines, "; ".join(leaks)])

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


def cross_validate(
    config: str | Path | Recipe,
    *,
    data: Manifest | None = None,
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
        data: recordings to use instead of the recipe's corpus; their name of a corpus takes its place in the results.
        data_root: the corpus's folder; None only for ``data`` and the built-in synthetic corpus.
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
    manifest = load_manifest(recipe, data_root, test_data_root, data)
    recipe = recipe if data is None else replace(recipe, corpus=data.corpus)
    protocol = get_protocol(recipe.protocol)
    all_folds = recipe_folds(recipe, manifest)
    chosen = choose_folds(all_folds, folds, protocol.name)
    with_gender = _check_model(recipe, manifest, chosen) and gender_settings(recipe).source == GOLDEN
    hashes = hash_contents(manifest, cache)
    check_leakage(manifest, chosen, hashes, protocol)
    examples = load_examples(manifest, recipe.features, with_gender=with_gender, cache=cache, progress=progress)
    once = replace(recipe, repeats=1)  # without `repeats`: seeds may be added to a run folder later
    description = describe_data(manifest, hashes, weight_files(recipe), recipe)
    run = RunFolder.open(run_folder or Path("runs") / recipe.name, once, description)
    experiment = Experiment(manifest, examples, hashes, run, cache)
    tasks = [
        Task(
            replace(once, training=replace(once.training, seed=seed)),
            replace(fold, name=run_name(fold.name, seed, recipe.training.seed)),
        )
        for seed, fold in product(recipe.seeds, chosen)
    ]
    remaining = [task for task in tasks if not _read_scores(experiment, [task.fold.name], task.fold)]
    for _ in train_tasks(remaining, experiment, at_once, progress=progress):
        _write_report(recipe, experiment, all_folds, chosen)
    return _write_report(recipe, experiment, all_folds, chosen)


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


def _write_report(recipe: Recipe, experiment: Experiment, all_folds: Sequence[Fold], chosen: Sequence[Fold]) -> Report:
    """Report on all finished runs of the run folder."""
    first, protocol, run = recipe.training.seed, get_protocol(recipe.protocol), experiment.run
    names = {fold.name: [run_name(fold.name, seed, first) for seed in recipe.seeds] for fold in all_folds}
    scores = {fold.name: _read_scores(experiment, names[fold.name], fold) for fold in all_folds}
    done = [fold for fold in all_folds if scores[fold.name]]
    tests = [experiment.hashes[index] for index in np.unique(np.concatenate([fold.test for fold in done]))]
    report = Report(
        recipe=recipe,
        protocol=protocol,
        scores={fold.name: scores[fold.name] for fold in done},
        chosen=tuple(name for fold in chosen for name in names[fold.name]),
        n_folds=len(all_folds),
        leakage=check_leakage(experiment.manifest, done, experiment.hashes, protocol),
        n_test=len(tests),
        seen={source: count_seen(path, tests) for source, path in weight_files(recipe).items()},
        folder=run.path,
    )
    run.write_json("leakage.json", report.leakage.to_dict())
    report.write(f"{recipe.name}, {protocol.name}")
    return report


def _read_scores(experiment: Experiment, names: Sequence[str], fold: Fold) -> dict[str, Scores]:
    """Return the scores of a fold's finished runs; their predictions must be of its test part."""
    manifest = experiment.manifest
    clips = list(zip(manifest.names, manifest.column("label"), strict=True))
    return experiment.run.read_scores(names, manifest.class_names, [clips[index] for index in fold.test])


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
    wanted, chosen = decided(manifest.genders) == (gender == MALE), []
    for fold in folds:
        if recipe.training.selection not in VALIDATION_RULES:  # an unused validation part may lack that gender
            fold = replace(fold, validation=None)
        kept = {name: part[wanted[part]] for name, part in fold.parts().items() if name != "test"}
        for name, part in kept.items():
            if not len(part):
                raise DataError(
                    f"gender.train_on is {gender}, but no {gender} speaker of {manifest.corpus} is in the {name} part "
                    f"of {fold.name}; use another protocol, or a corpus with both genders."
                )
        chosen.append(replace(fold, **kept))
    return chosen


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
