"""Train several folds as one program on JAX: the first axis of every array is the fold.

A network is a function of its weights, so ``jax.vmap`` trains ten folds by mapping one training step over ten sets of
weights, optimiser states and orders of clips. One small network leaves an accelerator mostly idle; ten keep it busy,
and an epoch of all folds is one call of a compiled loop. Each fold gets the numbers of :func:`serzoo.training.fit.fit`
on JAX, up to float32 rounding, and saves the same state, so either may resume a training of the other.

This module needs JAX, not TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
from jax import numpy as jnp

from serzoo.data.epochs import epoch_masks, epoch_mixture, epoch_order
from serzoo.data.examples import Examples, mixed, network_inputs, network_targets
from serzoo.errors import ConfigError, WeightsError
from serzoo.models.base import SERModel
from serzoo.settings import TrainingConfig
from serzoo.training.callbacks import FitSession, progress_bar
from serzoo.training.compiling import ModelPool
from serzoo.training.evaluate import clip_probabilities
from serzoo.training.fit import History, class_weights

State = tuple[list[Any], list[Any], list[Any], list[Any]]
"""Values of trainable weights, other variables, optimiser variables and metrics; the first axis is the training."""


@dataclass(frozen=True)
class Training:
    """One of several trainings that differ in weights, clips and seed only.

    Args:
        model: the model; it is trained in place.
        settings: the settings; all trainings have the same but for the seed.
        examples: the clips of all parts; all trainings have the same features.
        parts: indices of clips by part: ``"train"``, and ``"validation"`` or ``"test"`` if the selection rule uses it.
        folder: folder of the state to resume from; None keeps none.
    """

    model: SERModel
    settings: TrainingConfig
    examples: Examples
    parts: Mapping[str, np.ndarray]
    folder: Path | None = None


def fit_folds(
    trainings: Sequence[Training],
    *,
    model_pool: ModelPool | None = None,
    progress: bool = True,
    title: str = "training",
) -> Iterator[tuple[int, History]]:
    """Train models of one architecture as one program, on Keras's JAX backend.

    Args:
        trainings: the trainings, without waveform augmentation and with the cross-entropy of the classes as loss.
        model_pool: shares a compiled network between calls.
        progress: show one progress bar for all.
        title: text before the progress bar.

    Yields:
        The number of a training, counted from 0, and its history, when its model has the trained weights.

    Raises:
        ConfigError: as :func:`serzoo.training.fit.fit`, or the device has too little memory for so many trainings.
        DataError: as :func:`serzoo.training.fit.fit`.
        WeightsError: a training diverged; raised after the others were yielded.
    """
    try:
        run = _FoldRun(trainings, ModelPool() if model_pool is None else model_pool)
        epochs = range(run.first_epoch, trainings[0].settings.epochs)
        with progress_bar(title, epochs.stop, epochs.start, shown=progress) as advance:
            for epoch in epochs:
                advance(epoch, run.train(epoch))
        yield from run.finish()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ConfigError(
            f"{len(trainings)} trainings of {trainings[0].model.name} do not fit into memory at once; "
            "lower at_once (--at-once)."
        ) from None


class _FoldRun:
    """The running trainings: their state on the device, and a :class:`FitSession` each."""

    def __init__(self, trainings: Sequence[Training], model_pool: ModelPool) -> None:
        self.trainings, self.sessions = trainings, list[FitSession]()
        first_epochs, states, neutrals = [], [], []
        for training in trainings:  # one network gives each training its initial or restored values in turn
            self.network = network = model_pool.compiled(training.model, training.settings)
            self.program = _program(network)
            parts = {name: training.examples.select(clips) for name, clips in training.parts.items()}
            session = FitSession(network, training.settings, parts.pop("train"), parts, training.folder)
            self.sessions.append(session)
            first_epochs.append(session.start(network))
            neutrals.append(0.0 if network.normalization is None else network.normalization.neutral)
            states.append(tuple([np.asarray(variable) for variable in group] for group in self.program.variables))
        self.first_epoch = min(first_epochs)
        self.data = _Data(trainings, np.array(neutrals, np.float32))
        self.state: State = jax.device_put(jax.tree.map(lambda *values: np.stack(values), *states))
        self.errors: dict[int, WeightsError] = {}

    def train(self, epoch: int) -> dict[str, float]:
        """Train the epoch, counted from 0, in all trainings that need it; return the means of their logs."""
        numbers = [
            number
            for number, session in enumerate(self.sessions)
            if len(session.records) == epoch and not session.is_over and number not in self.errors
        ]
        if not numbers:
            return {}
        active = np.isin(np.arange(len(self.sessions)), numbers)
        full, tails = self.data.batches(epoch)
        self._set_learning_rate(epoch)
        self.state, values = self.program.train(self.state, full, tails, active, self.data.shared, self.data.own)
        columns = {name: np.asarray(column) for name, column in values.items()}
        logs = {number: {name: float(column[number]) for name, column in columns.items()} for number in numbers}
        self._score(logs)
        finite = {number: record for number, record in logs.items() if number not in self.errors}
        for number, record in finite.items():
            self.sessions[number].record(record, partial(self._load, number))
        names = next(iter(finite.values()), {})
        return {name: float(np.mean([record[name] for record in finite.values()])) for name in names}

    def _set_learning_rate(self, epoch: int) -> None:
        optimizer, rate = self.network.optimizer, self.trainings[0].settings.learning_rate(epoch)
        index = next(i for i, variable in enumerate(optimizer.variables) if variable is optimizer.learning_rate)
        self.state[2][index] = jnp.full_like(self.state[2][index], rate)

    def _score(self, logs: Mapping[int, dict[str, float]]) -> None:
        """Add the scores of the parts that are scored; a training with NaN gets an error instead."""
        for part in self.sessions[0].scored:
            batches = self.data.batches_of(part)
            outputs = self.program.predict(*self.state[:2], batches, self.data.shared, self.data.own)
            outputs = np.asarray(outputs).reshape(len(batches), -1, self.network.n_classes)
            for number, record in logs.items():
                session = self.sessions[number]
                examples = session.scored[part]
                try:
                    rows = outputs[number, : examples.n_segments]
                    session.add_scores(record, part, clip_probabilities(self.network, rows, examples.counts))
                except WeightsError as error:  # the other trainings continue
                    self.errors[number] = error

    def _load(self, number: int) -> None:
        """Give the network a training's values."""
        for variables, values in zip(self.program.variables, self.state, strict=True):
            for variable, value in zip(variables, jax.device_get([value[number] for value in values]), strict=True):
                variable.assign(value)

    def finish(self) -> Iterator[tuple[int, History]]:
        """Set the weights of each model and yield its history; raise an error of one training after the others."""
        for number, (training, session) in enumerate(zip(self.trainings, self.sessions, strict=True)):
            if number in self.errors:
                continue
            self._load(number)
            try:
                selected = session.finish()
            except WeightsError as error:
                self.errors[number] = error
                continue
            training.model.set_weights(self.network.get_weights())
            yield number, History(tuple(session.records), selected)
        if self.errors:
            raise next(iter(self.errors.values()))


class _Data:
    """The data of the trainings on the device, and the batches of each epoch.

    ``shared`` are features and targets of all segments; ``own`` differs between trainings, the first axis: the value
    of masked features, (n, ...), broadcast over a frame, the genders of all segments and the class weights.
    """

    def __init__(self, trainings: Sequence[Training], neutrals: np.ndarray) -> None:
        first = trainings[0]
        self.trainings, self.settings = trainings, first.settings
        self._rows = {
            part: [training.examples.segments_of(training.parts[part]) for training in trainings]
            for part in first.parts
        }
        targets = network_targets(first.examples, self.settings.label_smoothing)
        targets = np.repeat(targets, first.examples.counts, axis=0)
        self.shared = jax.device_put({"features": first.examples.features, "targets": targets})
        own = {"neutral": neutrals}
        genders = [training.examples.genders for training in trainings if training.examples.genders is not None]
        if genders:
            own["genders"] = np.repeat(np.stack(genders), first.examples.counts, axis=1)
        if self.settings.class_weights:
            weights = [class_weights(training.examples.select(training.parts["train"])) for training in trainings]
            own["class_weights"] = np.stack(weights).astype(np.float32)
        self.own = jax.device_put(own)

    def batches(self, epoch: int) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
        """Return the full batches of an epoch, (steps, n, batch_size), and the smaller last ones, by size.

        Parts differ in size, so shorter trainings are padded with batches whose ``is_real`` is False. Trainings with
        last batches of one size share an entry.
        """
        size = self.settings.batch_size
        columns = [self._columns(number, epoch) for number in range(len(self.trainings))]
        n_full, n_left = np.divmod([len(own["rows"]) for own in columns], size)
        length = max(n_full.max(), 1)

        def full_batches(values: np.ndarray, count: int) -> np.ndarray:
            return _padded(values[: count * size], length * size).reshape(length, size, *values.shape[1:])

        full = {
            name: np.stack([full_batches(own[name], count) for own, count in zip(columns, n_full, strict=True)], axis=1)
            for name in columns[0]
        }
        full["is_real"] = np.arange(length)[:, None] < n_full
        tails = []
        for rest in sorted(set(n_left) - {0}):
            numbers = np.flatnonzero(n_left == rest)
            last = {name: np.stack([columns[number][name][-rest:] for number in numbers]) for name in columns[0]}
            tails.append({"numbers": numbers, **last})
        return full, tails

    def _columns(self, number: int, epoch: int) -> dict[str, np.ndarray]:
        """Return a training's segments in the order of an epoch, with their mixup partners and masks."""
        rows, seed = self._rows["train"][number], self.trainings[number].settings.seed
        order = epoch_order(len(rows), seed, epoch)
        columns = {"rows": rows[order]}
        if self.settings.mixup:
            partners, shares = epoch_mixture(len(rows), seed, epoch, self.settings.mixup)
            columns |= {"partners": rows[partners[order]], "shares": shares[order]}
        if self.settings.spec_augment is not None:
            sizes = self.trainings[0].examples.features.shape[1:3]
            frames, values = epoch_masks(order, sizes, seed, epoch, self.settings.spec_augment)
            columns |= {"frames": frames, "values": values}
        return columns

    def batches_of(self, part: str) -> np.ndarray:
        """Return the rows of a part's segments, (n, n_batches, batch_size); smaller parts are padded with zeros."""
        rows, size = self._rows[part], self.settings.batch_size
        length = -(-max(map(len, rows)) // size) * size
        return np.stack([_padded(own, length).reshape(-1, size) for own in rows])


class Program:
    """Compiled functions that train, and predict with, one compiled network for many sets of weights.

    Attributes:
        variables: the network's, in the order of a state.
        train: takes a state (donated, so not usable afterwards), the full batches, the last ones, the mask of active
            trainings, (n,), and the data; returns the new state and the epoch's logs, (n,) each.
        predict: takes the state's weights and other variables, batches of rows and the data; returns the outputs,
            (n, n_batches, batch_size, n_classes).
    """

    def __init__(self, network: SERModel) -> None:
        self.network = network
        some = np.full((1, network.n_classes), 1 / network.n_classes, np.float32)
        network.compute_loss(y=some, y_pred=some)  # Keras creates the variables of loss and metrics at the first batch
        network.compute_metrics(x=None, y=some, y_pred=some)
        self.variables = (
            network.trainable_variables,
            network.non_trainable_variables,
            network.optimizer.variables,
            network.metrics_variables,
        )
        self.train = jax.jit(self._train_epoch, donate_argnums=0)
        self.predict = jax.jit(jax.vmap(self._predict, in_axes=(0, 0, 0, None, 0)))

    def _train_epoch(
        self, state: State, full: dict[str, Any], tails: list[dict[str, Any]], active: Any, shared: Any, own: Any
    ) -> tuple[State, dict[str, Any]]:
        state = (*state[:3], jax.tree.map(jnp.zeros_like, state[3]))
        steps = jax.vmap(self._step, in_axes=(0, 0, None, 0))

        def step(state: State, batch: dict[str, Any]) -> tuple[State, None]:
            trained = steps(state, batch, shared, own)  # vmap cannot skip a training, so an inactive one is discarded
            return _select(active & batch["is_real"], trained, state), None

        state, _ = jax.lax.scan(step, state, full)
        for tail in tails:  # of another batch size, so outside the scan; there are at most as many sizes as trainings
            numbers = tail["numbers"]
            before, differences = jax.tree.map(lambda values, numbers=numbers: values[numbers], (state, own))
            after = _select(active[numbers], steps(before, tail, shared, differences), before)
            state = jax.tree.map(lambda values, new, numbers=numbers: values.at[numbers].set(new), state, after)
        return state, jax.vmap(self._logs)(state[3])

    def _step(self, state: State, batch: dict[str, Any], shared: Any, own: dict[str, Any]) -> State:
        """Train one network on one batch with Keras's own training step."""
        segments = self._segments(batch["rows"], shared, own)
        if "partners" in batch:
            others = self._segments(batch["partners"], shared, own)
            segments = {name: mixed(values, others[name], batch["shares"]) for name, values in segments.items()}
        features, targets = segments["features"], segments["targets"]
        if "frames" in batch:
            kept = batch["frames"][:, :, None] & batch["values"][:, None]
            kept = kept.reshape(kept.shape + (1,) * (features.ndim - 3))
            features = jnp.where(kept, features, own["neutral"])
        data = [network_inputs(features, segments.get("genders")), targets]
        if "class_weights" in own:
            data.append(own["class_weights"][targets.argmax(axis=-1)])
        return self.network.train_step(state, tuple(data))[1]

    def _segments(self, rows: Any, shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
        genders = {"genders": own["genders"]} if "genders" in own else {}
        return {name: values[rows] for name, values in {**shared, **genders}.items()}

    def _logs(self, metrics: list[Any]) -> dict[str, Any]:
        pairs = list(zip(self.network.metrics_variables, metrics, strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            return self.network.get_metrics_result()

    def _predict(self, trainable: list[Any], others: list[Any], batches: Any, shared: Any, own: dict[str, Any]) -> Any:
        """Return one network's outputs for batches of rows, (n_batches, batch_size, n_classes)."""

        def predict(rows: Any) -> Any:
            segments = self._segments(rows, shared, own)
            inputs = network_inputs(segments["features"], segments.get("genders"))
            return self.network.stateless_call(trainable, others, inputs, training=False)[0]

        return jax.lax.map(predict, batches)


_program = lru_cache(maxsize=1)(Program)  # JAX compiles each new jax.jit again


def _select(mask: Any, values: Any, others: Any) -> Any:
    """Return ``values`` for the trainings in the mask, (n,), and ``others`` for the rest."""
    return jax.tree.map(
        lambda value, other: jnp.where(mask.reshape(-1, *[1] * (value.ndim - 1)), value, other), values, others
    )


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    """Return the rows followed by zeros, (length, ...)."""
    return np.concatenate([rows, np.zeros((length - len(rows), *rows.shape[1:]), rows.dtype)])
