"""Train and score a recipe fold by fold under its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from serzoo.config import LEAKY_RULE, VALIDATION_RULE, Recipe, load_recipe
from serzoo.data import load_manifest
from serzoo.data.cache import FeatureCache
from serzoo.data.leakage import LeakageReport, check_leakage, hash_contents
from serzoo.data.manifest import Manifest
from serzoo.data.pipeline import Examples, load_examples
from serzoo.data.splits import Fold, Protocol, get_protocol, with_validation
from serzoo.errors import ConfigError
from serzoo.files import moved_into_place, write_whole
from serzoo.metrics import Summary, summarise
from serzoo.models.base import SERModel
from serzoo.report.plots import plot_confusion, plot_embedding, plot_history
from serzoo.training.evaluate import predict_outputs
from serzoo.training.fit import History, fit
from serzoo.training.run_folder import RunFolder, describe_data, environment
from serzoo.zoo import build, check_arguments

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Report:
    """The outcome of :func:`cross_validate`.

    Args:
        recipe: what was trained.
        protocol: how it was scored.
        fold_names: all folds in the run folder that are done, in order; the scores are theirs.
        chosen: the folds that this call asked for.
        n_folds: how many folds the protocol has in all.
        summary: scores of each fold, mean, standard deviation and pooled scores.
        leakage: what training and test parts share.
        folder: the run folder.
    """

    recipe: Recipe
    protocol: Protocol
    fold_names: tuple[str, ...]
    chosen: tuple[str, ...]
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
    all_folds = _folds(recipe, protocol, manifest)
    chosen = choose_folds(all_folds, folds, protocol.name)
    build_model(recipe, manifest)  # a wrong argument shows here, before anything is computed or written
    hashes = hash_contents(manifest)
    check_leakage(manifest, chosen, hashes, protocol)
    examples = load_examples(manifest, recipe.features, cache=cache, progress=progress)
    run = RunFolder.open(run_folder or Path("runs") / recipe.name, recipe, describe_data(manifest, hashes))
    for fold in chosen:
        if run.read_scores(fold.name, manifest.class_names) is None:
            train_fold(recipe, manifest, examples, fold, run, cache=cache, progress=progress)

    scores = {fold.name: run.read_scores(fold.name, manifest.class_names) for fold in all_folds}
    done = [fold for fold in all_folds if scores[fold.name] is not None]
    report = Report(
        recipe=recipe,
        protocol=protocol,
        fold_names=tuple(fold.name for fold in done),
        chosen=tuple(fold.name for fold in chosen),
        n_folds=len(all_folds),
        summary=summarise([score for score in scores.values() if score is not None]),
        leakage=check_leakage(manifest, done, hashes, protocol),
        folder=run.path,
    )
    run.write_json("leakage.json", report.leakage.to_dict())
    run.write_json("report.json", report.to_dict())
    plot_confusion(report.summary.pooled, run.path / "plots" / "confusion.png", title=f"{recipe.name}, {protocol.name}")
    return report


def _folds(recipe: Recipe, protocol: Protocol, manifest: Manifest) -> list[Fold]:
    """Return the protocol's folds, each with a validation part if the selection rule needs one."""
    folds = protocol.folds(manifest)
    if recipe.training.selection != VALIDATION_RULE:
        return folds
    fraction, seed = recipe.training.validation_fraction, recipe.training.seed
    return [with_validation(fold, manifest, fraction, seed) for fold in folds]


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


def build_model(recipe: Recipe, manifest: Manifest) -> SERModel:
    """Return the recipe's model for the manifest's classes, the same weights every time.

    Raises:
        UnknownNameError: an argument that the model does not have.
        ConfigError: an argument out of range.
    """
    check_arguments(recipe.model.name, recipe.model.arguments)
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
    cache: FeatureCache | None = None,
    progress: bool = True,
) -> None:
    """Train on one fold's training part, predict its test part and write the fold's folder.

    Args:
        recipe: what to train.
        manifest: all recordings.
        examples: their features.
        fold: the parts.
        run: the run folder.
        cache: where features are kept; None for the default folder.
        progress: show a progress bar.
    """
    rule = recipe.training.selection
    model = build_model(recipe, manifest)
    test = examples.select(fold.test)
    validation = None if fold.validation is None or rule != VALIDATION_RULE else examples.select(fold.validation)
    augmented = recipe.training.waveform_augment is not None
    history = fit(
        model,
        manifest.select(fold.train) if augmented else examples.select(fold.train),
        validation_data=validation,
        test_data=test if rule == LEAKY_RULE else None,
        training=recipe.training,
        run_folder=run.fold(fold.name),
        cache=cache,
        progress=progress,
        title=fold.name,
    )
    _write_fold(run, fold, model, history, test, prediction_table(manifest, fold.test, _probabilities(model, test)))


def _probabilities(model: SERModel, examples: Examples) -> np.ndarray:
    """Return the probabilities of the examples, (N, n_classes), also where the model gives logits."""
    outputs = predict_outputs(model, examples.features)
    if model.classifier_activation is not None:
        return outputs
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _write_fold(
    run: RunFolder,
    fold: Fold,
    model: SERModel,
    history: History,
    test: Examples,
    predictions: pd.DataFrame,
) -> None:
    """Write a fold's model, history, representation, plots, versions and, last, its predictions."""
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
    run.write_json(f"{fold.name}/environment.json", environment())
    run.write_predictions(fold.name, predictions)
    (folder / "state.npz").unlink(missing_ok=True)


def prediction_table(manifest: Manifest, indices: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return one row per clip: name, speaker, label, prediction and the probability of each class.

    Args:
        manifest: all recordings.
        indices: positions of the clips, (n,).
        probabilities: of each class for them, (n, n_classes).
    """
    import pandas as pd

    columns = {"clip": manifest.names, "speaker": manifest.column("speaker"), "label": manifest.column("label")}
    table = pd.DataFrame(columns).iloc[indices].reset_index(drop=True)
    table["prediction"] = np.asarray(manifest.class_names)[probabilities.argmax(axis=1)]
    for index, name in enumerate(manifest.class_names):
        table[f"p_{name}"] = probabilities[:, index].round(6)
    return table
