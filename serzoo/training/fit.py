"""Train one model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from serzoo.classifier import Classifier
from serzoo.data.cache import FeatureCache
from serzoo.data.epochs import steps_per_epoch
from serzoo.data.examples import Examples
from serzoo.data.manifest import Manifest
from serzoo.errors import ConfigError
from serzoo.models.base import SERModel
from serzoo.settings import TrainingConfig
from serzoo.training.callbacks import FitSession, progress_bar
from serzoo.training.compiling import ModelPool, compile_network
from serzoo.training.evaluate import Data, as_examples, is_dataset
from serzoo.training.objectives import Objective, TrainingNetwork


@dataclass(frozen=True)
class History:
    """The losses and scores of a training.

    Args:
        records: for each epoch the loss, the running WAR on the training part (with dropout), and the scores of the
            parts that were scored.
        selected_epoch: the epoch whose weights the model has, counted from 1.
    """

    records: tuple[dict[str, float], ...]
    selected_epoch: int

    @property
    def history(self) -> dict[str, list[float]]:
        """One list per loss or score, as in ``keras.callbacks.History``."""
        return {name: self.column(name) for name in self.records[0]}

    def column(self, name: str) -> list[float]:
        """Return one value per epoch."""
        return [record[name] for record in self.records]

    def table(self) -> list[dict[str, float]]:
        """Return the records with their epochs, counted from 1."""
        return [{"epoch": epoch, **record} for epoch, record in enumerate(self.records, 1)]

    @property
    def selected(self) -> dict[str, float]:
        """The record of the selected epoch."""
        return self.records[self.selected_epoch - 1]


def fit(
    model: SERModel | Classifier,
    x: Data,
    y: np.ndarray | None = None,
    *,
    validation_data: Data | None = None,
    test_data: Data | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    training: TrainingConfig | None = None,
    objective: Objective | None = None,
    run_folder: str | Path | None = None,
    cache: FeatureCache | None = None,
    progress: bool = True,
    title: str = "training",
    model_pool: ModelPool | None = None,
) -> History:
    """Train ``model`` in place.

    A model that normalises its features takes their statistics from the training part, unless it has statistics from
    an earlier training.

    Args:
        model: a model of the zoo, or a loaded :class:`~serzoo.classifier.Classifier`.
        x: the training part: a manifest, examples, (features, targets), or a ``tf.data.Dataset`` of one pass over
            batches of (features, targets), which are trained on in its order; or the features alone, with ``y``.
        y: class indices, (N,), of the features ``x``; None for all other data.
        validation_data: scored after each epoch; the rules ``best-validation-...`` need it.
        test_data: scored after each epoch; only ``leaky-best-test-war`` takes it.
        epochs: passes over the training part; as the next two it takes precedence over ``training``.
        batch_size: segments per step; a dataset has batches already.
        learning_rate: of the optimiser, at its highest.
        callbacks: called after serzoo's own, so that they find all scores in the logs.
        training: the settings; the default is the papers' label smoothing with plain Adam.
        objective: the loss, such as :class:`~serzoo.training.anti_transfer.AntiTransfer`; None for the cross-entropy
            of the classes.
        run_folder: folder of the state to resume from and of TensorBoard logs; None keeps neither.
        cache: cache of features; None for the default folder.
        progress: show a progress bar.
        title: text before the progress bar.
        model_pool: shares a compiled network between trainings of equal models; not used with an objective.

    Returns:
        The loss and scores of each epoch, and the selected epoch.

    Raises:
        ConfigError: the selection rule needs a part that was not given, or does not use one that was; or a setting is
            out of range or does not apply to a dataset.
        DataError, FeatureError: the data does not fit the model, or the run folder's state is of another training.
        WeightsError: the training diverged and its epochs cannot be scored.
    """
    training = _settings(training, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    data: Data = x if y is None else (x, y)
    _check_settings(training, objective, data, callbacks)
    if batch_size is not None and is_dataset(data):
        raise ConfigError(f"batch_size is {batch_size}, but the dataset has batches already; leave it out.")
    model = model.model if isinstance(model, Classifier) else model
    examples = as_examples(data, model, cache=cache, progress=progress)
    given = {"validation": validation_data, "test": test_data}
    held_out = {name: as_examples(part, model, cache=cache) for name, part in given.items() if part is not None}
    with _compiled(model, training, objective, model_pool) as (predictor, network):
        folder = None if run_folder is None else Path(run_folder)
        session = FitSession(predictor, training, examples, held_out, folder, objective)
        first_epoch = session.start(network)
        boards = [] if folder is None else [keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False)]
        with progress_bar(title, training.epochs, first_epoch, shown=progress) as advance:
            if first_epoch < training.epochs:
                batches, n_steps = _batches(data, examples, predictor, training, first_epoch, objective)
                network.fit(
                    batches,
                    epochs=training.epochs,
                    initial_epoch=first_epoch,
                    steps_per_epoch=n_steps,
                    class_weight=dict(enumerate(class_weights(examples).tolist())) if training.class_weights else None,
                    callbacks=[session, *boards, *callbacks, keras.callbacks.LambdaCallback(on_epoch_end=advance)],
                    shuffle=False,
                    verbose=0,
                )
        selected = session.finish()
        return History(tuple(session.records), selected)


def _settings(training: TrainingConfig | None, **given: Any) -> TrainingConfig:
    """Return the settings of a training; the ``given`` ones take precedence where they are not None."""
    if training is not None and not isinstance(training, TrainingConfig):
        raise ConfigError(f"training is {training!r:.80}; give serzoo.TrainingConfig(epochs=..., ...).")
    training = training or TrainingConfig()
    changes = {name: value for name, value in given.items() if value is not None}
    if "learning_rate" in changes:
        changes["optimizer"] = replace(training.optimizer, learning_rate=changes.pop("learning_rate"))
    return replace(training, **changes)


def _check_settings(
    training: TrainingConfig, objective: Objective | None, data: Data, callbacks: Sequence[object]
) -> None:
    """Raise ConfigError if the settings have a wrong type, or do not apply to the data or the objective."""
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise ConfigError(f"callbacks has {callback!r:.80}; give objects of keras.callbacks.Callback.")
    if objective is not None and not isinstance(objective, Objective):
        raise ConfigError(f"objective is {objective!r:.80}; give an Objective, such as AntiTransfer(pretrained).")
    if training.waveform_augment is not None and not isinstance(data, Manifest):
        raise ConfigError("training.waveform_augment needs recordings: give a manifest, not features.")
    for name in ("mixup", "spec_augment"):
        if is_dataset(data) and getattr(training, name):
            raise ConfigError(f"training.{name} is set, but a dataset is trained on as it is; leave it out.")
    for name in ("class_weights", "mixup"):
        if _takes_dimensions(objective) and getattr(training, name):
            raise ConfigError(f"training.{name} applies to classes only, not dimensions; leave it out.")


def _takes_dimensions(objective: Objective | None) -> bool:
    return objective is not None and objective.takes_dimensions


@contextmanager
def _compiled(
    model: SERModel, training: TrainingConfig, objective: Objective | None, model_pool: ModelPool | None
) -> Iterator[tuple[SERModel, keras.Model]]:
    """Yield the model to predict with and the network in training, compiled; on exit ``model`` has their weights."""
    if model_pool is None or objective is not None:
        network = model if objective is None else TrainingNetwork(model, objective)
        compile_network(network, model, training)
        yield model, network
        return
    pooled = model_pool.compiled(model, training)
    try:
        yield pooled, pooled
    finally:
        model.set_weights(pooled.get_weights())


def _batches(
    data: Data,
    examples: Examples,
    model: SERModel,
    training: TrainingConfig,
    first_epoch: int,
    objective: Objective | None,
) -> tuple[Any, int | None]:
    """Return the training batches, and their number in an epoch unless they end with the epoch.

    Recordings are decoded in every epoch only if waveforms are augmented.
    """
    from serzoo.data import pipeline  # jax_folds imports this file, but not TensorFlow

    n_steps, with_dimensions = steps_per_epoch(examples.n_segments, training.batch_size), _takes_dimensions(objective)
    if is_dataset(data):
        return pipeline.smoothed(data, model.n_classes, training.label_smoothing), None
    neutral = 0.0 if model.normalization is None else model.normalization.neutral
    common: dict[str, Any] = {"first_epoch": first_epoch, "neutral": neutral, "with_dimensions": with_dimensions}
    if training.waveform_augment is None or not isinstance(data, Manifest) or model.feature_spec is None:
        return pipeline.training_dataset(examples, training, **common), n_steps
    with_gender = model.takes_gender
    return pipeline.waveform_dataset(data, model.feature_spec, training, with_gender=with_gender, **common), n_steps


def class_weights(examples: Examples) -> np.ndarray:
    """Return n / (n_classes x n of the class), (n_classes,), counted in segments.

    As scikit-learn's ``"balanced"``, but that one refuses classes without examples.
    """
    counts = np.bincount(np.repeat(examples.targets, examples.counts), minlength=len(examples.class_names))
    return counts.sum() / (len(counts) * np.maximum(counts, 1))
