"""Train and score a recipe fold by fold under its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serzoo.config import GOLDEN, LEAKY_RULE, VALIDATION_RULES, GenderConfig, Recipe, load_recipe
from serzoo.data import load_manifest
from serzoo.data.cache import FeatureCache
from serzoo.data.examples import Examples, load_examples
from serzoo.data.leakage import LeakageReport, check_leakage, hash_contents
from serzoo.data.manifest import Manifest
from serzoo.data.splits import Fold, Protocol, get_protocol, with_validation
from serzoo.errors import ConfigError, DataError
from serzoo.files import moved_into_place
from serzoo.labels import MALE
from serzoo.metrics import Summary, summarise
from serzoo.models.base import SERModel, check_features_shape
from serzoo.models.simple import SIMPLE_CLASSIFIERS
from serzoo.report.plots import plot_confusion, plot_embedding, plot_history
from serzoo.training.compiling import Workbench
from serzoo.training.evaluate import embed, predict_probabilities
from serzoo.training.fit import History
from serzoo.training.gender import check_told, decided, gender_classifier_file, told_genders
from serzoo.training.heard import count_heard, write_heard
from serzoo.training.run_folder import RunFolder, describe_data, environment, write_table
from serzoo.training.simple import SIMPLE_MODEL_FILE, check_simple, train_simple
from serzoo.training.stages import build_model, check_stages, train
from serzoo.weights.store import list_pretrained, pretrained_card
from serzoo.zoo import model_file

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Report:
    """The outcome of :func:`cross_validate`.

    Args:
        recipe: what was trained.
        protocol: how it was scored.
        runs: the folds in the run folder that were trained at least once, in order, each with the folders
            of its runs that are done; the scores are theirs.
        chosen: the folders of the runs that this call asked for.
        n_folds: how many folds the protocol has in all.
        summary: scores of each run, mean and standard deviation over folds, and pooled scores.
        leakage: what training and test parts share.
        heard: how many of the test recordings each trained model has heard that the recipe starts from or trains
            against; None where that is not known.
        folder: the run folder.
    """

    recipe: Recipe
    protocol: Protocol
    runs: Mapping[str, tuple[str, ...]]
    chosen: tuple[str, ...]
    n_folds: int
    summary: Summary
    leakage: LeakageReport
    heard: Mapping[str, int | None]
    folder: Path

    @property
    def fold_names(self) -> tuple[str, ...]:
        """The folds that were trained at least once, in order."""
        return tuple(self.runs)

    @property
    def n_runs(self) -> int:
        """How many runs are done."""
        return sum(map(len, self.runs.values()))

    @property
    def complete(self) -> bool:
        """Whether every fold of the protocol was scored with every seed."""
        return self.n_runs == self.n_folds * self.recipe.repeats

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain data, without the run folder's place."""
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
            **({"heard": dict(self.heard)} if self.heard else {}),
        }

    def __str__(self) -> str:
        kind = "speaker-independent" if self.protocol.speaker_independent else "speaker-DEPENDENT"
        return (
            f"{self.recipe.name}: {self.summary}\n"
            f"Protocol {self.protocol.name} ({kind}), selection {self.recipe.training.selection}."
            f"{self._repeats()}{self._missing()}{self._genders()}\n"
            f"{self.leakage}{self._heard()}"
        )

    def _genders(self) -> str:
        settings = self.recipe.gender
        if settings is None:
            return ""
        trained = "" if settings.train_on == "all" else f"  Trained on {settings.train_on} speakers only."
        return trained if settings.source == GOLDEN else f"{trained}\nGenders: {settings.source} of {self.who_tells()}"

    def who_tells(self) -> str:
        """Say which classifier tells the genders, and whether it has heard the test speakers."""
        settings = _gender(self.recipe)
        if settings.classifier in list_pretrained():
            return (
                f"{settings.classifier}, which has heard all speakers of {pretrained_card(settings.classifier).corpus}."
            )
        if not settings.trains:
            return f"{settings.classifier}, trained before; whether it has heard the test speakers is for you to know."
        heard = {True: "has not heard", False: "HAS heard", None: "may have heard"}[self.leakage.speaker_independent]
        return (
            f"{settings.classifier} on {settings.features}, trained on each fold's training part; "
            f"it {heard} the test speakers."
        )

    def _heard(self) -> str:
        texts = (
            f"what {source} has heard is not known" if count is None else f"{source} has heard {count} test recordings"
            for source, count in self.heard.items()
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
    cache: FeatureCache | None = None,
    progress: bool = True,
) -> Report:
    """Train and score a recipe on the folds of its protocol, each fold with each seed of the recipe.

    An interrupted run goes on where it stopped when called again with the same run folder: what is
    done is read from its predictions, what was running resumes after its last saved epoch, to the
    same numbers. The report is written after each training; one seed is trained on all folds before
    the next, so that it is soon about all of them.

    Args:
        config: a recipe's name (``serzoo list``), a YAML file or a recipe.
        data_root: the corpus's folder; None only for the built-in synthetic corpus.
        test_data_root: the test corpus's folder, for cross-corpus recipes.
        run_folder: where the results go; None for ``runs/<recipe name>``.
        folds: which folds, counted from 1; None for all.
        changes: values to replace in the recipe, for example ``{"training.epochs": 2}``.
        cache: where features are kept; None for the default folder.
        progress: show progress bars.

    Raises:
        SerzooError: anything wrong with the recipe, the recordings or the run folder.
    """
    recipe = load_recipe(config).override(changes or {})
    manifest = load_manifest(recipe, data_root, test_data_root)
    protocol = get_protocol(recipe.protocol)
    all_folds = recipe_folds(recipe, manifest)
    chosen = choose_folds(all_folds, folds, protocol.name)
    with_gender = _check_model(recipe, manifest, chosen) and _gender(recipe).source == GOLDEN
    hashes = hash_contents(manifest, cache)
    check_leakage(manifest, chosen, hashes, protocol)
    examples = load_examples(manifest, recipe.features, with_gender=with_gender, cache=cache, progress=progress)
    once = _with_seed(recipe, recipe.training.seed)  # a run folder takes further seeds later
    data = describe_data(manifest, hashes, _weight_files(recipe), recipe)
    run = RunFolder.open(run_folder or Path("runs") / recipe.name, once, data)
    workbench = Workbench()
    for seed, fold in product(recipe.seeds, chosen):
        named = replace(fold, name=_run_name(recipe, fold, seed))
        if not run.read_scores([named.name], manifest.class_names):
            own = _with_seed(recipe, seed)
            train_fold(own, manifest, examples, named, run, hashes, cache=cache, progress=progress, workbench=workbench)
            _write_report(recipe, manifest, all_folds, chosen, hashes, run)
    return _write_report(recipe, manifest, all_folds, chosen, hashes, run)


def _check_model(recipe: Recipe, manifest: Manifest, folds: Sequence[Fold]) -> bool:
    """Return whether the recipe's model takes genders.

    Whatever does not fit it shows here, before anything is computed or written.
    """
    if recipe.model.name in SIMPLE_CLASSIFIERS:
        check_simple(recipe.model.name, recipe.model.arguments, manifest, folds)
        return False
    if recipe.training.waveform_augment is not None and recipe.features.n_samples is None:
        remedy = "set features.n_samples" if recipe.features.kind != "embedding" else "leave it out with embeddings"
        raise ConfigError(f"training.waveform_augment changes clips of one length; {remedy}.")
    model = build_model(recipe, manifest)
    if _gender(recipe).source != GOLDEN and not model.takes_gender:
        raise ConfigError(
            f"gender.source is {_gender(recipe).source}, but this {recipe.model.name} is not told the gender; "
            "set model.arguments.gender_columns (acrnn: gender) or leave gender.source out."
        )
    check_told(manifest, _gender(recipe), folds)
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
    """Report on everything in the run folder that is done."""
    names = {fold.name: [_run_name(recipe, fold, seed) for seed in recipe.seeds] for fold in all_folds}
    scores = {fold: run.read_scores(names[fold], manifest.class_names) for fold in names}
    done = [fold for fold in all_folds if scores[fold.name]]
    protocol = get_protocol(recipe.protocol)
    report = Report(
        recipe=recipe,
        protocol=protocol,
        runs={fold.name: tuple(scores[fold.name]) for fold in done},
        chosen=tuple(name for fold in chosen for name in names[fold.name]),
        n_folds=len(all_folds),
        summary=summarise([list(scores[fold.name].values()) for fold in done]),
        leakage=check_leakage(manifest, done, hashes, protocol),
        heard=_heard_tests(recipe, done, hashes),
        folder=run.path,
    )
    run.write_json("leakage.json", report.leakage.to_dict())
    run.write_json("report.json", report.to_dict())
    plot_confusion(report.summary.pooled, run.path / "plots" / "confusion.png", title=f"{recipe.name}, {protocol.name}")
    return report


def derive_report(base: Report, folder: Path, tables: Mapping[str, pd.DataFrame], title: str) -> Report:
    """Write predictions that were made of a run's, in a run folder of their own, and report on them.

    Args:
        base: the report of the run, which names recipe, protocol and leakage.
        folder: of the new run folder.
        tables: predictions by the name of the run's folder; a run without is left out.
        title: of the plot.
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


def _heard_tests(recipe: Recipe, folds: Sequence[Fold], hashes: Sequence[str]) -> dict[str, int | None]:
    """Return how many test recordings of these folds each trained model that the recipe names has heard."""
    tests = [hashes[index] for index in np.unique(np.concatenate([fold.test for fold in folds]))]
    return {source: count_heard(path, tests) for source, path in _weight_files(recipe).items()}


def _weight_files(recipe: Recipe) -> dict[str, Path]:
    """Return the files of the trained models that a training depends on, by the recipe's names for them."""
    files = {source: model_file(source) for source in recipe.weight_files}
    settings = _gender(recipe)
    if settings.source == GOLDEN or settings.trains:
        return files
    return {**files, settings.classifier: gender_classifier_file(settings.classifier)}


def recipe_folds(recipe: Recipe, manifest: Manifest) -> list[Fold]:
    """Return the folds of the recipe's protocol as it trains on them.

    Each has a validation part if the selection rule needs one, and of the parts but the test part those speakers that
    ``gender.train_on`` says.

    Raises:
        DataError: the corpus cannot be split so.
    """
    folds = get_protocol(recipe.protocol).folds(manifest)
    if recipe.training.selection in VALIDATION_RULES:
        fraction, seed = recipe.training.validation_fraction, recipe.training.seed
        folds = [with_validation(fold, manifest, fraction, seed) for fold in folds]
    who = _gender(recipe).train_on
    if who == "all":
        return folds
    if recipe.training.selection not in VALIDATION_RULES:
        folds = [replace(fold, validation=None) for fold in folds]  # which may have no speaker of that gender
    return [_of_one_gender(fold, manifest, who) for fold in folds]


def _of_one_gender(fold: Fold, manifest: Manifest, gender: str) -> Fold:
    """Return the fold with the speakers of one gender in its training and validation parts; its test part stays.

    Raises:
        DataError: a gender is unknown, or a part has no speakers of this one.
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


def _gender(recipe: Recipe) -> GenderConfig:
    """Return what the recipe makes of genders; without a word about it, what the corpus states."""
    return recipe.gender or GenderConfig()


def _run_name(recipe: Recipe, fold: Fold, seed: int) -> str:
    """Return the name of the folder in which a fold is trained with a seed; further seeds come beside the first."""
    return fold.name if seed == recipe.training.seed else f"{fold.name}-seed{seed}"


def _with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe of one run."""
    return replace(recipe, repeats=1, training=replace(recipe.training, seed=seed))


def choose_folds(folds: Sequence[Fold], numbers: Sequence[int] | None, protocol: str) -> list[Fold]:
    """Return the folds with these numbers, counted from 1, or all.

    Raises:
        ConfigError: a number is not a fold's.
    """
    if numbers is None:
        return list(folds)
    wrong = [number for number in numbers if not 1 <= number <= len(folds)]
    if wrong or not numbers:
        found = f"Fold {wrong[0]} is not" if wrong else "No fold was chosen"
        raise ConfigError(f"{found} in {protocol}; choose from 1 to {len(folds)}.")
    return [folds[number - 1] for number in sorted(set(numbers))]


def train_fold(
    recipe: Recipe,
    manifest: Manifest,
    examples: Examples,
    fold: Fold,
    run: RunFolder,
    hashes: Sequence[str],
    *,
    cache: FeatureCache | None = None,
    progress: bool = True,
    workbench: Workbench | None = None,
) -> None:
    """Train on one fold's training part, predict its test part and write the fold's folder.

    Args:
        recipe: what to train, with its first seed.
        manifest: all recordings.
        examples: their features.
        fold: the parts, under the name of the folder to write.
        run: the run folder.
        hashes: of each recording's audio.
        cache: where features are kept; None for the default folder.
        progress: show a progress bar.
        workbench: where the folds before left their network compiled.
    """
    if recipe.model.name in SIMPLE_CLASSIFIERS:
        _train_simple_fold(recipe, manifest, examples, fold, run, hashes)
        return
    rule = recipe.training.selection
    if _gender(recipe).source != GOLDEN:
        male = told_genders(manifest, _gender(recipe), fold, recipe.training.seed, cache=cache)
        manifest, examples = manifest.with_genders(male), replace(examples, genders=male)
    test = examples.select(fold.test)
    validation = None if rule not in VALIDATION_RULES else fold.validation
    augmented = recipe.training.waveform_augment is not None
    model, history = train(
        recipe,
        manifest,
        run.fold(fold.name),
        data=manifest.select(fold.train) if augmented else examples.select(fold.train),
        validation_data=None if validation is None else examples.select(validation),
        test_data=test if rule == LEAKY_RULE else None,
        cache=cache,
        progress=progress,
        title=fold.name,
        workbench=workbench,
    )
    table = prediction_table(manifest, fold.test, predict_probabilities(model, test), test.genders)
    heard = fold.train if fold.validation is None else np.concatenate([fold.train, fold.validation])
    write_heard(run.fold(fold.name), (hashes[index] for index in heard), _weight_files(recipe).values())
    _write_fold(run, fold, model, history, test, table)


def _train_simple_fold(
    recipe: Recipe, manifest: Manifest, examples: Examples, fold: Fold, run: RunFolder, hashes: Sequence[str]
) -> None:
    """Do what :func:`train_fold` does with a simple classifier, which has no epochs to draw or to resume from."""
    model = train_simple(
        recipe.model.name,
        recipe.model.arguments,
        examples.select(fold.train),
        recipe.features,
        speakers=manifest.column("speaker")[fold.train],
        seed=recipe.training.seed,
    )
    table = prediction_table(manifest, fold.test, model.predict_probabilities(examples.select(fold.test)))
    model.save(run.fold(fold.name) / SIMPLE_MODEL_FILE)
    write_heard(run.fold(fold.name), (hashes[index] for index in fold.train))
    run.write_json(f"{fold.name}/environment.json", environment())
    run.write_predictions(fold.name, table)


def _write_fold(
    run: RunFolder,
    fold: Fold,
    model: SERModel,
    history: History,
    test: Examples,
    predictions: pd.DataFrame,
) -> None:
    """Write a fold's model, history, representation, plots, versions and, last, its predictions."""
    folder = run.fold(fold.name)
    with moved_into_place(folder / "model.keras") as part:
        model.without_training_state().save(part)
    write_table(folder / "history.csv", history.table())
    embedding = embed(model, test)
    with moved_into_place(folder / "embedding.npy") as part:
        np.save(part, embedding)
    plot_history(history, run.path / "plots" / f"{fold.name}-curves.png")
    plot_embedding(embedding, test.targets, test.class_names, run.path / "plots" / f"{fold.name}-tsne.png")
    run.write_json(f"{fold.name}/environment.json", environment())
    run.write_predictions(fold.name, predictions)
    for state in folder.rglob("state.npz"):
        state.unlink()


def prediction_table(
    manifest: Manifest, indices: np.ndarray, probabilities: np.ndarray, genders: np.ndarray | None = None
) -> pd.DataFrame:
    """Return one row per clip: name, speaker, label, prediction and the probability of each class.

    Args:
        manifest: all recordings.
        indices: positions of the clips, (n,).
        probabilities: of each class for them, (n, n_classes).
        genders: the probabilities that the clips' speakers are male, (n,), if the model was told them.
    """
    import pandas as pd

    columns = {"clip": manifest.names, "speaker": manifest.column("speaker"), "label": manifest.column("label")}
    table = pd.DataFrame(columns).iloc[indices].reset_index(drop=True)
    if genders is not None:
        table["male"] = genders.round(6)
    table["prediction"] = np.asarray(manifest.class_names)[probabilities.argmax(axis=1)]
    for index, name in enumerate(manifest.class_names):
        table[f"p_{name}"] = probabilities[:, index].round(6)
    return table
