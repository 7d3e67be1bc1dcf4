"""One fold of a cross-validation: its gender input, training, predictions and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.classical.gender_classifier import gender_classifier_file
from serzoo.classical.model import CLASSICAL_MODEL_FILE
from serzoo.data.cache import FeatureCache
from serzoo.data.examples import Examples
from serzoo.data.manifest import Manifest
from serzoo.data.splits import Fold
from serzoo.experiments.provenance import write_provenance
from serzoo.experiments.run_folder import RunFolder, environment, write_table
from serzoo.experiments.stages import train
from serzoo.files import moved_into_place
from serzoo.models.base import SERModel
from serzoo.plots import plot_embedding, plot_history
from serzoo.recipes import Recipe
from serzoo.settings import GOLDEN, LEAKY_RULE, VALIDATION_RULES, GenderConfig
from serzoo.training.compiling import ModelPool
from serzoo.training.evaluate import embed, predict_probabilities
from serzoo.training.fit import History
from serzoo.training.train_classical import train_classical
from serzoo.training.train_gender import gender_inputs
from serzoo.zoo import model_file

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Task:
    """A fold to train with the seed of the recipe; the fold's name is that of its folder."""

    recipe: Recipe
    fold: Fold

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """Indices of the training recordings (``"train"``) and of the part that the selection rule scores, if any."""
        rule, parts = self.recipe.training.selection, {"train": self.fold.train}
        if rule in VALIDATION_RULES and self.fold.validation is not None:
            parts["validation"] = self.fold.validation
        return {**parts, "test": self.fold.test} if rule == LEAKY_RULE else parts


@dataclass(frozen=True)
class Experiment:
    """The recordings of a cross-validation with their features and the hashes of their audio, run folder and cache."""

    manifest: Manifest
    examples: Examples
    hashes: Sequence[str]
    run: RunFolder
    cache: FeatureCache | None = None

    def with_gender_inputs(self, task: Task) -> Experiment:
        """Return the experiment with the gender inputs of a fold."""
        settings = gender_settings(task.recipe)
        if settings.source == GOLDEN:
            return self
        male = gender_inputs(self.manifest, settings, task.fold, task.recipe.training.seed, cache=self.cache)
        examples = replace(self.examples, genders=male)
        return replace(self, manifest=self.manifest.with_genders(male), examples=examples)


def train_fold(
    task: Task, experiment: Experiment, *, progress: bool = True, model_pool: ModelPool | None = None
) -> None:
    """Train on a fold's training part, predict its test part and write the fold's folder."""
    recipe, run = task.recipe, experiment.run
    if recipe.model.name in CLASSICAL_CLASSIFIERS:
        _train_classical_fold(task, experiment)
        return
    experiment = experiment.with_gender_inputs(task)
    held_out = {f"{name}_data": experiment.examples.select(part) for name, part in task.parts.items()}
    data = held_out.pop("train_data")
    model, history = train(
        recipe,
        experiment.manifest,
        run.path / task.fold.name,
        x=data if recipe.training.waveform_augment is None else experiment.manifest.select(task.fold.train),
        **held_out,
        cache=experiment.cache,
        progress=progress,
        title=task.fold.name,
        model_pool=model_pool,
    )
    write_fold(task, experiment, model, history, model_pool=model_pool)


def _train_classical_fold(task: Task, experiment: Experiment) -> None:
    """Train and write a fold of a classical classifier; it has no epochs to plot or to resume from."""
    recipe, fold, run = task.recipe, task.fold, experiment.run
    model = train_classical(
        recipe.model.name,
        recipe.model.arguments,
        experiment.examples.select(fold.train),
        recipe.features,
        speakers=experiment.manifest.column("speaker")[fold.train],
        seed=recipe.training.seed,
    )
    probabilities = model.predict_probabilities(experiment.examples.select(fold.test))
    model.save(run.path / fold.name / CLASSICAL_MODEL_FILE)
    write_provenance(run.path / fold.name, (experiment.hashes[index] for index in fold.train))
    run.write_json(f"{fold.name}/environment.json", environment())
    run.write_predictions(fold.name, prediction_table(experiment.manifest, fold.test, probabilities))


def write_fold(
    task: Task, experiment: Experiment, model: SERModel, history: History, *, model_pool: ModelPool | None = None
) -> None:
    """Write a fold's model, history, embeddings, plots, versions and, last, its predictions.

    Predictions mark a fold as finished, so everything else is written before them.

    Raises:
        WeightsError: the model predicts NaN; nothing is written.
    """
    predictor, embedding_model = (model_pool or ModelPool()).for_prediction(model)
    fold, run = task.fold, experiment.run
    folder, test = run.path / fold.name, experiment.examples.select(fold.test)
    probabilities = predict_probabilities(predictor, test)  # first of all: it raises if the training diverged
    seen = np.concatenate([fold.train] if fold.validation is None else [fold.train, fold.validation])
    write_model(task.recipe, run, fold.name, model, history, [experiment.hashes[index] for index in seen])
    embedding = embed(embedding_model, test)
    with moved_into_place(folder / "embedding.npy") as part:
        np.save(part, embedding)
    plot_embedding(embedding, test.targets, test.class_names, run.path / "plots" / f"{fold.name}-tsne.png")
    run.write_predictions(fold.name, prediction_table(experiment.manifest, fold.test, probabilities, test.genders))
    forget_states(folder)


def write_model(
    recipe: Recipe, run: RunFolder, name: str, model: SERModel, history: History, seen: Sequence[str]
) -> None:
    """Write a trained model, its provenance, history and versions."""
    folder = run.path / name
    write_provenance(folder, seen, weight_files(recipe).values())
    with moved_into_place(folder / "model.keras") as part:
        model.without_training_state().save(part)
    write_table(folder / "history.csv", history.table())
    plot_history(history, run.path / "plots" / f"{name}-curves.png")
    run.write_json(f"{name}/environment.json", environment())


def forget_states(folder: Path) -> None:
    """Delete the states of a finished training, also those of its stages."""
    for state in folder.rglob("state.npz"):
        state.unlink()


def gender_settings(recipe: Recipe) -> GenderConfig:
    """Return the recipe's gender settings; by default genders are those of the corpus."""
    return recipe.gender or GenderConfig()


def other_models(recipe: Recipe) -> tuple[str, ...]:
    """Return the trained models on which a training depends, as the recipe names them."""
    settings = gender_settings(recipe)
    trains_classifier = settings.source == GOLDEN or settings.classifier in CLASSICAL_CLASSIFIERS
    return recipe.weight_files if trains_classifier else (*recipe.weight_files, settings.classifier)


def weight_files(recipe: Recipe) -> dict[str, Path]:
    """Return the files of :func:`other_models` by name."""
    return {
        name: model_file(name) if name in recipe.weight_files else gender_classifier_file(name)
        for name in other_models(recipe)
    }


def prediction_table(
    manifest: Manifest, indices: np.ndarray, probabilities: np.ndarray, genders: np.ndarray | None = None
) -> pd.DataFrame:
    """Return one row per clip at ``indices``, (n,): name, speaker, label, prediction and probabilities, (n, n_classes).

    With a gender input ``genders`` is P(male), (n,).
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
