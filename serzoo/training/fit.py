"""Train one model: checks, callbacks, the epoch to keep and the state to resume from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from serzoo.classifier import Classifier
from serzoo.data.cache import FeatureCache
from serzoo.data.epochs import steps_per_epoch
from serzoo.data.examples import Examples
from serzoo.data.manifest import Manifest
from serzoo.errors import ConfigError, WeightsError
from serzoo.models.base import SERModel
from serzoo.settings import TrainingConfig
from serzoo.training.callbacks import Checkpoint, EpochScores, KeepBest, LearningRate, ProgressBar
from serzoo.training.compiling import ModelPool, compile_network
from serzoo.training.evaluate import Data, as_examples
from serzoo.training.objectives import Objective, TrainingNetwork, cross_entropy
from serzoo.training.precise_batch_norm import check_has_batch_norm, recompute_batch_norm

_MONITORED = {
    "best-train-war": ("train", "train_war"),
    "best-validation-uar": ("validation", "validation_uar"),
    "best-validation-loss": ("validation", "validation_loss"),
    "leaky-best-test-war": ("test", "test_war"),
}


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
    data: Data,
    *,
    validation_data: Data | None = None,
    test_data: Data | None = None,
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
        data: the training part: a manifest, examples, or (features, targets).
        validation_data: scored after each epoch; the rules ``best-validation-...`` need it.
        test_data: scored after each epoch; only ``leaky-best-test-war`` takes it.
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
        ConfigError: the selection rule needs a part that was not given, or does not use one that was.
        DataError, FeatureError: the data does not fit the model, or the run folder's state is of another training.
        WeightsError: the training diverged and its epochs cannot be scored.
    """
    training = TrainingConfig() if training is None else training
    _check_settings(training, objective, data)
    model = model.model if isinstance(model, Classifier) else model
    examples = as_examples(data, model, cache=cache, progress=progress)
    given = {"validation": validation_data, "test": test_data}
    held_out = {name: as_examples(part, model, cache=cache) for name, part in given.items() if part is not None}
    with _compiled(model, training, objective, model_pool) as (predictor, network):
        folder = None if run_folder is None else Path(run_folder)
        session = FitSession(predictor, training, examples, held_out, folder, objective)
        first_epoch = session.start(network)
        callbacks = session.callbacks
        if folder is not None:
            callbacks.append(keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False))
        bar = ProgressBar(title, training.epochs, first_epoch)
        if first_epoch < training.epochs:
            try:
                network.fit(
                    _batches(data, examples, predictor, training, first_epoch, _takes_dimensions(objective)),
                    epochs=training.epochs,
                    initial_epoch=first_epoch,
                    steps_per_epoch=steps_per_epoch(examples.n_segments, training.batch_size),
                    class_weight=dict(enumerate(class_weights(examples).tolist())) if training.class_weights else None,
                    callbacks=[*callbacks, bar] if progress else callbacks,
                    shuffle=False,
                    verbose=0,
                )
            finally:
                bar.stop()
        return session.finish(network)


class FitSession:
    """Everything around the training steps: scores of epochs, the best epoch, the state to resume from.

    Args:
        model: the model to predict with; it shares its weights with the network in training.
        training: the settings.
        examples: the training part.
        held_out: the validation or the test part, by name.
        folder: folder of the state; None keeps it in memory.
        objective: as in :func:`fit`.

    Raises:
        ConfigError: the selection rule needs a part that was not given, or does not use one that was; or
            ``precise_norm`` is set for a model without moving statistics.
    """

    def __init__(
        self,
        model: SERModel,
        training: TrainingConfig,
        examples: Examples,
        held_out: Mapping[str, Examples],
        folder: Path | None,
        objective: Objective | None = None,
    ) -> None:
        part, monitor = _MONITORED.get(training.selection, (None, None))
        _check_parts(training.selection, part, held_out)
        scored = {"train": examples, **held_out} if part == "train" else held_out
        if training.precise_norm:
            check_has_batch_norm(model)
        loss = cross_entropy if objective is None else objective.held_out_loss
        self.model, self.training, self.examples = model, training, examples
        self.schedule = LearningRate(training.learning_rate)
        self.scores = [EpochScores(name, clips, model, loss) for name, clips in scored.items()]
        self.keep_best = None if monitor is None else KeepBest(monitor, training.patience)
        fingerprint = _fingerprint(model, training, objective, [examples, *held_out.values()])
        path = None if folder is None else folder / "state.npz"
        self.state = Checkpoint(path, fingerprint, training.epochs, self.keep_best)

    @property
    def callbacks(self) -> list[keras.callbacks.Callback]:
        """The callbacks in the order in which they depend on each other.

        Scores are written into the epoch's logs, the best epoch is chosen by these, and the state saves both.
        """
        return [self.schedule, *self.scores, *([] if self.keep_best is None else [self.keep_best]), self.state]

    def start(self, network: keras.Model) -> int:
        """Restore the state of the network in training, and return the first epoch to train, counted from 0."""
        first_epoch = self.state.restore(network)
        normalization = self.model.normalization  # adapted last: a refused training must not leave statistics behind
        if normalization is not None and not normalization.is_adapted:
            normalization.adapt(self.examples.features)
        return first_epoch

    def finish(self, network: keras.Model) -> History:
        """Load the weights of the selected epoch into the network, and return the history.

        Raises:
            WeightsError: the training diverged and its epochs cannot be scored.
        """
        selected = self.state.epochs if self.keep_best is None else self._restore_best(network, self.keep_best)
        if self.training.precise_norm:
            seed, batch_size = self.training.seed, self.training.batch_size
            recompute_batch_norm(self.model, self.examples, batch_size=batch_size, seed=seed)
        return History(tuple(self.state.records), selected)

    def _restore_best(self, network: keras.Model, keep_best: KeepBest) -> int:
        """Load the weights of the best epoch into the network, and return its number, counted from 1."""
        if keep_best.best_epoch < 0:
            raise WeightsError(
                f"{self.model.name} has no epoch with a finite {keep_best.monitor}: its training diverged; "
                "lower learning_rate."
            )
        network.set_weights(keep_best.best_weights)
        return keep_best.best_epoch + 1


def _check_settings(training: TrainingConfig, objective: Objective | None, data: Data) -> None:
    """Raise ConfigError if the settings have a wrong type, or do not apply to the data or the objective."""
    if not isinstance(training, TrainingConfig):
        raise ConfigError(f"training is {training!r:.80}; give serzoo.TrainingConfig(epochs=..., ...).")
    if objective is not None and not isinstance(objective, Objective):
        raise ConfigError(f"objective is {objective!r:.80}; give an Objective, such as AntiTransfer(pretrained).")
    if training.waveform_augment is not None and not isinstance(data, Manifest):
        raise ConfigError("training.waveform_augment needs recordings: give a manifest, not features.")
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


def _check_parts(rule: str, part: str | None, held_out: Mapping[str, Examples]) -> None:
    """Raise ConfigError unless the selection rule's part was given, and the test part only if the rule uses it."""
    if "test" in held_out and part != "test":
        raise ConfigError(
            f"test_data is only for the rule leaky-best-test-war, but the rule is {rule}; use evaluate() instead."
        )
    if part is not None and part not in ("train", *held_out):
        raise ConfigError(f"The selection rule {rule} needs {part}_data; give it or choose another rule.")


def _batches(
    data: Data,
    examples: Examples,
    model: SERModel,
    training: TrainingConfig,
    first_epoch: int,
    with_dimensions: bool,
) -> Any:
    """Return the training batches; recordings are decoded in every epoch only if waveforms are augmented."""
    from serzoo.data.pipeline import training_dataset, waveform_dataset  # jax_folds imports this file, not TensorFlow

    neutral = 0.0 if model.normalization is None else model.normalization.neutral
    if training.waveform_augment is None or not isinstance(data, Manifest) or model.feature_spec is None:
        return training_dataset(examples, training, first_epoch, neutral=neutral, with_dimensions=with_dimensions)
    return waveform_dataset(
        data,
        model.feature_spec,
        training,
        with_gender=model.takes_gender,
        first_epoch=first_epoch,
        neutral=neutral,
        with_dimensions=with_dimensions,
    )


def class_weights(examples: Examples) -> np.ndarray:
    """Return n / (n_classes x n of the class), (n_classes,), counted in segments.

    As scikit-learn's ``"balanced"``, but that one refuses classes without examples.
    """
    counts = np.bincount(np.repeat(examples.targets, examples.counts), minlength=len(examples.class_names))
    return counts.sum() / (len(counts) * np.maximum(counts, 1))


def _fingerprint(
    model: SERModel, training: TrainingConfig, objective: Objective | None, parts: Iterable[Examples]
) -> str:
    """Return a hash of the data, the model and the settings that determine the numbers of a training.

    Settings at their defaults are left out: states remain valid when a later version adds a setting. (A changed
    default would make different trainings look equal, so defaults must not change.)
    """
    changed = _changed(asdict(training), asdict(TrainingConfig()))
    settings = json.dumps([changed, model.get_config(), keras.backend.backend()], sort_keys=True, default=str)
    content = hashlib.sha256(settings.encode())
    content.update(b"" if objective is None else objective.fingerprint())
    for examples in parts:
        for values in (examples.features, examples.targets, examples.counts, examples.genders, examples.dimensions):
            content.update(b"" if values is None else values.tobytes())
    return content.hexdigest()


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are not at their defaults; nested settings are compared one by one."""
    return {
        name: _changed(value, defaults[name]) if isinstance(value, dict) and defaults[name] is not None else value
        for name, value in values.items()
        if value != defaults[name]
    }
