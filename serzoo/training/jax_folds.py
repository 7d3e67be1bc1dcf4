"""Train several folds as one program on JAX: the first axis of every array is the fold.

A network is a function of its weights, so ``jax.vmap`` trains ten folds by mapping one training step over ten sets of
weights, optimiser states and orders of clips. One small network leaves an accelerator mostly idle; ten keep it busy,
and an epoch of all folds is one call of a compiled loop. Each fold gets the numbers of :func:`serzoo.training.fit.fit`
on JAX, up to float32 rounding, and saves the same state, so either may resume what the other began.

This module needs JAX, not TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
from serzoo.training.callbacks import ProgressBar, training_variables
from serzoo.training.compiling import ModelPool
from serzoo.training.evaluate import clip_probabilities
from serzoo.training.fit import FitSession, History, class_weights

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

    def part(self, name: str) -> Examples:
        """Return the clips of a part."""
        return self.examples.select(self.parts[name])

    @property
    def held_out(self) -> dict[str, Examples]:
        """The held-out parts, scored after each epoch."""
        return {name: self.part(name) for name in self.parts if name != "train"}

    def rows(self, part: str) -> np.ndarray:
        """Return the indices of a part's segments among all segments."""
        return self.examples.segments_of(self.parts[part])


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
        epochs = range(run.first_epochs.min(), trainings[0].settings.epochs)
        bar = ProgressBar(title, epochs.stop, epochs.start)
        try:
            if progress and epochs:
                bar.on_train_begin()
            for epoch in epochs:
                logs = run.train(epoch)
                if progress:
                    bar.on_epoch_end(epoch, logs)
        finally:
            bar.stop()
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
        self.trainings, self.sessions = trainings, []
        values, neutrals, first_epochs = [], [], []
        for training in trainings:  # one network gives each training its initial or restored values in turn
            self.network = network = model_pool.compiled(training.model, training.settings)
            part = training.part("train")
            session = FitSession(network, training.settings, part, training.held_out, training.folder)
            first_epochs.append(session.start(network))
            neutrals.append(0.0 if network.normalization is None else network.normalization.neutral)
            values.append([np.asarray(variable) for variable in training_variables(network)])
            self.sessions.append(session)
        self.first_epochs = np.array(first_epochs)
        self.data = _Data(trainings, np.array(neutrals, np.float32))
        self.program = _program(self.network)
        self.state = self.program.stacked(values)
        self.finished = np.zeros(len(trainings), bool)
        self.errors: dict[int, WeightsError] = {}

    def train(self, epoch: int) -> dict[str, float]:
        """Train the epoch, counted from 0, in all trainings that need it; return the means of their logs."""
        active = (self.first_epochs <= epoch) & ~self.finished
        if not active.any():
            return {}
        full, tails = self.data.batches(epoch)
        self._set_learning_rate(epoch)
        self.state, values = self.program.train(self.state, full, tails, active, self.data.shared, self.data.own)
        columns = {name: np.asarray(column) for name, column in values.items()}
        logs = {
            int(number): {name: float(column[number]) for name, column in columns.items()}
            for number in active.nonzero()[0]
        }
        self._score(logs)
        self.finished[list(self.errors)] = True
        finite = {number: record for number, record in logs.items() if number not in self.errors}
        for number, record in finite.items():
            self._record(number, epoch, record)
        names = next(iter(finite.values()), {})
        return {name: float(np.mean([record[name] for record in finite.values()])) for name in names}

    def _set_learning_rate(self, epoch: int) -> None:
        kind, index = self.program.place(self.network.optimizer.learning_rate)
        rate = self.trainings[0].settings.learning_rate(epoch)
        self.state[kind][index] = jnp.full_like(self.state[kind][index], rate)

    def _score(self, logs: Mapping[int, dict[str, float]]) -> None:
        """Add the scores of the parts that are scored; a training with NaN gets an error instead."""
        for place, scorer in enumerate(self.sessions[0].scores):
            batches = self.data.batches_of(scorer.part)
            outputs = self.program.predict(*self.state[:2], batches, self.data.shared, self.data.own)
            outputs = np.asarray(outputs).reshape(len(batches), -1, self.network.n_classes)
            for number, record in logs.items():
                own = self.sessions[number].scores[place]
                try:
                    rows = outputs[number, : own.examples.n_segments]
                    own.add_to(record, clip_probabilities(self.network, rows, own.examples.counts))
                except WeightsError as error:  # the other trainings continue
                    self.errors[number] = error

    def _record(self, number: int, epoch: int, record: dict[str, float]) -> None:
        """Do the work of the callbacks KeepBest and Checkpoint after a training's epoch."""
        session = self.sessions[number]
        if session.keep_best is not None:
            session.keep_best.consider(epoch, record, lambda: self._values(number, self.network.weights))
            self.finished[number] = session.keep_best.is_out_of_patience(epoch)
        is_last = epoch + 1 == self.trainings[0].settings.epochs or bool(self.finished[number])
        session.state.record(record, is_last, lambda: self._values(number, training_variables(self.network)))

    def _values(self, number: int, variables: Sequence[Any]) -> list[np.ndarray]:
        return self.program.values(self.state, number, variables)

    def finish(self) -> Iterator[tuple[int, History]]:
        """Set the weights of each model and yield its history; raise an error of one training after the others."""
        variables = self.network.variables  # precise batch norm depends on dropout's random states too
        for number, (training, session) in enumerate(zip(self.trainings, self.sessions, strict=True)):
            if number in self.errors:
                continue
            for variable, value in zip(variables, self._values(number, variables), strict=True):
                variable.assign(value)
            try:
                history = session.finish(self.network)
            except WeightsError as error:
                self.errors[number] = error
                continue
            training.model.set_weights(self.network.get_weights())
            yield number, history
        if self.errors:
            raise next(iter(self.errors.values()))


class _Data:
    """The data of the trainings on the device, and the batches of each epoch.

    Args:
        trainings: the trainings.
        neutrals: for each training the value of masked features, (n, ...), broadcast over a frame.

    Attributes:
        shared: features and targets of all segments.
        own: arrays that differ between trainings; the first axis is the training.
    """

    def __init__(self, trainings: Sequence[Training], neutrals: np.ndarray) -> None:
        first = trainings[0]
        self.trainings, self.settings = trainings, first.settings
        self._rows = {part: [training.rows(part) for training in trainings] for part in first.parts}
        targets = network_targets(first.examples, self.settings.label_smoothing)
        targets = np.repeat(targets, first.examples.counts, axis=0)
        self.shared = jax.device_put({"features": first.examples.features, "targets": targets})
        self.own = jax.device_put({"neutral": neutrals, **_differences(trainings)})

    def batches(self, epoch: int) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
        """Return the full batches of an epoch, (steps, n, batch_size), and the smaller last ones, by size.

        Parts differ in size, so shorter trainings are padded with batches whose ``is_real`` is False.
        """
        size = self.settings.batch_size
        orders = [
            epoch_order(len(rows), training.settings.seed, epoch)
            for rows, training in zip(self._rows["train"], self.trainings, strict=True)
        ]
        n_full = np.array([len(order) // size for order in orders])
        length = max(n_full.max(), 1) * size
        columns = [
            self._columns(number, _padded(order[: n_full[number] * size], length), epoch)
            for number, order in enumerate(orders)
        ]
        full = {
            name: np.stack([own[name].reshape(-1, size, *own[name].shape[1:]) for own in columns], axis=1)
            for name in columns[0]
        }
        full["is_real"] = np.arange(len(full["rows"]))[:, None] < n_full
        return full, self._last_batches(
            [order[count * size :] for order, count in zip(orders, n_full, strict=True)], epoch
        )

    def _last_batches(self, rests: Sequence[np.ndarray], epoch: int) -> list[dict[str, np.ndarray]]:
        """Return the incomplete last batches; trainings with last batches of one size share an entry."""
        tails = []
        for size in sorted({len(rest) for rest in rests} - {0}):
            numbers = np.array([number for number, rest in enumerate(rests) if len(rest) == size])
            parts = [self._columns(number, rests[number], epoch) for number in numbers]
            tails.append({"numbers": numbers} | {name: np.stack([own[name] for own in parts]) for name in parts[0]})
        return tails

    def _columns(self, number: int, order: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        """Return a training's segments in this order, with their mixup partners and masks."""
        rows, seed = self._rows["train"][number], self.trainings[number].settings.seed
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
    """Compiled functions that train, and predict with, one network for many sets of weights.

    Args:
        network: a compiled network; the order of its variables is the order of a state.

    Attributes:
        train: takes a state (donated, so not usable afterwards), the full batches, the last ones, the mask of active
            trainings, (n,), and the data; returns the new state and the epoch's logs, (n,) each.
        predict: takes the state's weights and other variables, batches of rows and the data; returns the outputs,
            (n, n_batches, batch_size, n_classes).
    """

    def __init__(self, network: SERModel) -> None:
        self.network = network
        _build_metrics(network)
        self.variables = (
            network.trainable_variables,
            network.non_trainable_variables,
            network.optimizer.variables,
            network.metrics_variables,
        )
        self._places = {
            id(variable): (kind, index)
            for kind, group in enumerate(self.variables)
            for index, variable in enumerate(group)
        }
        for metric in network.metrics:
            metric.reset_state()
        self._fresh_metrics = [np.asarray(variable) for variable in network.metrics_variables]
        self.train = jax.jit(self._train_epoch, donate_argnums=0)
        self.predict = jax.jit(jax.vmap(self._predict, in_axes=(0, 0, 0, None, 0)))

    def stacked(self, values: Sequence[Sequence[np.ndarray]]) -> State:
        """Return a state from each training's values in the order of ``training_variables``."""
        given = {id(variable): place for place, variable in enumerate(training_variables(self.network))}

        def stack(variable: Any) -> np.ndarray:
            return np.stack([own[given[id(variable)]] for own in values])

        *others, _ = self.variables
        fresh = [np.stack([value] * len(values)) for value in self._fresh_metrics]
        return jax.device_put((*([stack(variable) for variable in group] for group in others), fresh))

    def values(self, state: State, number: int, variables: Sequence[Any]) -> list[np.ndarray]:
        """Return the values of variables in one training."""
        places = [self.place(variable) for variable in variables]
        return jax.device_get([state[kind][index][number] for kind, index in places])

    def place(self, variable: Any) -> tuple[int, int]:
        """Return the position of a variable in a state: its group, and its index in the group."""
        return self._places[id(variable)]

    def _train_epoch(
        self, state: State, full: dict[str, Any], tails: list[dict[str, Any]], active: Any, shared: Any, own: Any
    ) -> tuple[State, dict[str, Any]]:
        state = (*state[:3], [jnp.broadcast_to(value, (len(active), *value.shape)) for value in self._fresh_metrics])
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


@lru_cache(maxsize=1)
def _program(network: SERModel) -> Program:
    """Return the program of a network; cached, since JAX compiles each new ``jax.jit`` again."""
    return Program(network)


def _build_metrics(network: SERModel) -> None:
    """Create the variables of loss and metrics; Keras creates them at the first batch only."""
    some = np.full((1, network.n_classes), 1 / network.n_classes, np.float32)
    network.compute_loss(y=some, y_pred=some)
    network.compute_metrics(x=None, y=some, y_pred=some)


def _differences(trainings: Sequence[Training]) -> dict[str, np.ndarray]:
    """Return further arrays that differ between trainings: the genders of all segments and the class weights."""
    own: dict[str, np.ndarray] = {}
    genders = [training.examples.genders for training in trainings if training.examples.genders is not None]
    if genders:
        own["genders"] = np.repeat(np.stack(genders), trainings[0].examples.counts, axis=1)
    if trainings[0].settings.class_weights:
        weights = [class_weights(training.part("train")) for training in trainings]
        own["class_weights"] = np.stack(weights).astype(np.float32)
    return own


def _select(mask: Any, values: Any, others: Any) -> Any:
    """Return ``values`` for the trainings in the mask, (n,), and ``others`` for the rest."""

    def select(value: Any, other: Any) -> Any:
        return jnp.where(mask.reshape(-1, *[1] * (value.ndim - 1)), value, other)

    return jax.tree.map(select, values, others)


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    """Return the rows followed by zeros, (length,)."""
    return np.concatenate([rows, np.zeros(length - len(rows), rows.dtype)])
