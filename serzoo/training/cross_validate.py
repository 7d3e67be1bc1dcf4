"""Train and score a recipe fold by fold under its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from serzoo.config import Recipe, load_recipe
from serzoo.data import load_corpus
from serzoo.data.cache import FeatureCache
from serzoo.data.leakage import LeakageReport, check_leakage, hash_contents
from serzoo.data.manifest import Manifest
from serzoo.data.pipeline import Examples, load_examples
from serzoo.data.splits import Fold, Protocol, cross_corpus, get_protocol, with_validation
from serzoo.errors import ConfigError
from serzoo.files import moved_into_place, write_whole
from serzoo.metrics import Scores, Summary, summarise
from serzoo.models.base import SERModel
from serzoo.report.plots import plot_confusion, plot_embedding, plot_history
from serzoo.training.evaluate import predict_outputs
from serzoo.training.fit import History, fit
from serzoo.training.run_folder import RunFolder
from serzoo.zoo import build

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Report:
    """The outcome of :func:`cross_validate`.

    Args:
        recipe: what was trained.
        protocol: how it was scored.
        fold_names: the folds that were scored, in order.
        n_folds: how many folds the protocol has in all.
        summary: scores of each fold, mean, standard deviation and pooled scores.
        leakage: what training and test parts share.
        folder: the run folder.
    """

    recipe: Recipe
    protocol: Protocol
    fold_names: tuple[str, ...]
    n_folds: int
    summary: Summary
    leakage: LeakageReport
    folder: Path

    @property
    def complete(self) -> bool:
        """Whether every fold of the protocol was scored."""
        return len(self.fold_names) == self.n_folds

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain data, without the run folder's place."""
        return {
            "recipe": self.recipe.to_dict(),
            "protocol": self.protocol.name,
            "speaker_independent": self.protocol.speaker_independent,
            "selection": self.recipe.training.selection,
            "fold_names": list(self.fold_names),
            "n_folds": self.n_folds,
            "scores": self.summary.to_dict(),
            "leakage": self.leakage.to_dict(),
        }

    def __str__(self) -> str:
        kind = "speaker-independent" if self.protocol.speaker_independent else "speaker-DEPENDENT"
        done = "" if self.complete else f"  {len(self.fold_names)} of {self.n_folds} folds only."
        return (
            f"{self.recipe.name}: {self.summary}\n"
            f"Protocol {self.protocol.name} ({kind}), selection {self.recipe.training.selection}.{done}\n"
            f"{self.leakage}"
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
    """Train and score a recipe on the folds of its protocol.

    An interrupted run goes on where it stopped when called again with the same run folder: folds
    that are done are read from their predictions, the one that was running resumes after its last
    saved epoch, to the same numbers.

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
    all_folds = protocol.folds(manifest)
    chosen = choose_folds(all_folds, folds, protocol.name)
    build_model(recipe, manifest)  # a wrong argument shows here, before anything is written or computed
    run = RunFolder.open(run_folder or Path("runs") / recipe.name, recipe)
    leakage = check_leakage(manifest, chosen, hash_contents(manifest), protocol)
    run.write_json("leakage.json", leakage.to_dict())
    examples = load_examples(manifest, recipe.features, cache=cache, progress=progress)
    scores = []
    for fold in chosen:
        done = run.read_scores(fold.name, manifest.class_names)
        scores.append(done or train_fold(recipe, manifest, examples, fold, run, progress=progress))
    report = Report(
        recipe, protocol, tuple(fold.name for fold in chosen), len(all_folds), summarise(scores), leakage, run.path
    )
    run.write_json("report.json", report.to_dict())
    plot_confusion(report.summary.pooled, run.path / "plots" / "confusion.png", title=f"{recipe.name}, {protocol.name}")
    return report


def load_manifest(recipe: Recipe, data_root: str | Path | None, test_data_root: str | Path | None = None) -> Manifest:
    """Return the recordings a recipe is about.

    Raises:
        ConfigError: a folder is missing from the call, or given without need.
        DataError: the corpus cannot be used.
    """
    if (recipe.test_corpus is None) != (test_data_root is None):
        needed = "needs" if test_data_root is None else "does not take"
        raise ConfigError(
            f"{recipe.name} {needed} a test corpus folder (test_data_root); its test_corpus is {recipe.test_corpus}."
        )
    manifest = load_corpus(recipe.corpus, data_root)
    if recipe.test_corpus is not None:
        manifest = cross_corpus(manifest, load_corpus(recipe.test_corpus, test_data_root))
    return manifest if recipe.class_names is None else manifest.with_classes(recipe.class_names)


def choose_folds(folds: Sequence[Fold], numbers: Sequence[int] | None, protocol: str) -> list[Fold]:
    """Return the folds with these numbers, counted from 1, or all.

    Raises:
        ConfigError: a number is not a fold's.
    """
    if numbers is None:
        return list(folds)
    wrong = [number for number in numbers if not 1 <= number <= len(folds)]
    if wrong or not numbers:
        raise ConfigError(f"Fold {wrong[0] if wrong else 'list'} is not in {protocol}; choose from 1 to {len(folds)}.")
    return [folds[number - 1] for number in sorted(set(numbers))]


def build_model(recipe: Recipe, manifest: Manifest) -> SERModel:
    """Return the recipe's model for the manifest's classes, the same weights every time.

    Raises:
        UnknownNameError: an argument that the model does not have.
        ConfigError: an argument out of range.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(recipe.training.seed)
    return build(
        recipe.model.name,
        class_names=manifest.class_names,
        feature_spec=recipe.features,
        **recipe.model.arguments,
    )


def train_fold(
    recipe: Recipe,
    manifest: Manifest,
    examples: Examples,
    fold: Fold,
    run: RunFolder,
    *,
    progress: bool = True,
) -> Scores:
    """Train on one fold's training part, score its test part and write the fold's folder.

    Args:
        recipe: what to train.
        manifest: all recordings.
        examples: their features.
        fold: the parts.
        run: the run folder.
        progress: show a progress bar.
    """
    rule = recipe.training.selection
    if rule == "best-validation-uar":
        fold = with_validation(fold, manifest, recipe.training.validation_fraction, recipe.training.seed)
    model = build_model(recipe, manifest)
    test = examples.select(fold.test)
    augmented = recipe.training.waveform_augment is not None
    history = fit(
        model,
        manifest.select(fold.train) if augmented else examples.select(fold.train),
        validation_data=None if fold.validation is None else examples.select(fold.validation),
        test_data=test if rule == "leaky-best-test-war" else None,
        training=recipe.training,
        run_folder=run.fold(fold.name),
        progress=progress,
        title=fold.name,
    )
    outputs = predict_outputs(model, test.features)
    _write_fold(run, fold, model, history, test, prediction_table(manifest, fold.test, outputs))
    return Scores.from_predictions(test.targets, outputs.argmax(axis=1), manifest.class_names)


def _write_fold(
    run: RunFolder,
    fold: Fold,
    model: SERModel,
    history: History,
    test: Examples,
    predictions: pd.DataFrame,
) -> None:
    """Write a fold's model, history, representation, plots and, last, its predictions."""
    import pandas as pd

    folder = run.fold(fold.name)
    with moved_into_place(folder / "model.keras") as part:
        model.without_training_state().save(part)
    records = pd.DataFrame(history.records)
    records.insert(0, "epoch", range(1, len(records) + 1))
    write_whole(folder / "history.csv", records.to_csv(index=False, lineterminator="\n"))
    embedding = np.asarray(model.embedding_model().predict(test.features, verbose=0))
    with moved_into_place(folder / "embedding.npy") as part:
        np.save(part, embedding)
    plot_history(history, run.path / "plots" / f"{fold.name}-curves.png")
    plot_embedding(embedding, test.targets, test.class_names, run.path / "plots" / f"{fold.name}-tsne.png")
    run.write_predictions(fold.name, predictions)
    (folder / "state.npz").unlink(missing_ok=True)


def prediction_table(manifest: Manifest, indices: np.ndarray, outputs: np.ndarray) -> pd.DataFrame:
    """Return one row per clip: name, speaker, label, prediction and the output of each class.

    Args:
        manifest: all recordings.
        indices: positions of the clips, (n,).
        outputs: the model's outputs for them, (n, n_classes).
    """
    import pandas as pd

    columns = {"clip": manifest.names, "speaker": manifest.column("speaker"), "label": manifest.column("label")}
    table = pd.DataFrame(columns).iloc[indices].reset_index(drop=True)
    table["prediction"] = np.asarray(manifest.class_names)[outputs.argmax(axis=1)]
    for index, name in enumerate(manifest.class_names):
        table[f"p_{name}"] = outputs[:, index].round(6)
    return table
