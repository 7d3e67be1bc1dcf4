"""Many trainings as one program on JAX: the folds of a cross-validation, each an axis entry of every array.

A network is a function of its weights, so that ten folds are that function mapped over ten sets of weights, optimiser
states and orders of clips. So an accelerator that one small network leaves idle has enough to do, and an epoch of all
folds is one call of a compiled loop. Each fold gets the numbers that :func:`serzoo.training.fit.fit` gives it on JAX,
up to the noise of float32, and leaves the same state to resume from: a cross-validation may change ways in between.

This needs JAX alone, not TensorFlow.
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
"""Values of the weights, of the other variables, of the optimiser's and of the metrics'; first axis: trainings."""


@dataclass(frozen=True)
class Training:
    """One of several trainings that differ in weights, clips and seed, and agree in all else.

    Args:
        model: is trained in place.
        settings: those of the others, but for the seed.
        examples: all clips, of which the trainings have parts; the features are the same in all trainings.
        parts: clips by part: ``"train"``, and ``"validation"`` or ``"test"`` where the selection rule asks for it.
        folder: keeps the state to resume from; None keeps nothing.
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
        """The parts that are scored after each epoch and not trained on."""
        return {name: self.part(name) for name in self.parts if name != "train"}

    def rows(self, part: str) -> np.ndarray:
        """Return the rows of the features that are a part's segments."""
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
        trainings: their batch size, epochs and so on are the first one's. The waveform is not augmented, and what is
            minimised is the cross-entropy of the classes.
        model_pool: where their network may be compiled already.
        progress: show one progress bar for all.
        title: what the progress bar calls them.

    Yields:
        The number of a training, counted from 0, and what :func:`serzoo.training.fit.fit` returns of it, when its model
        has its weights.

    Raises:
        ConfigError: as :func:`serzoo.training.fit.fit`, or the memory does not hold so many.
        DataError: as :func:`serzoo.training.fit.fit`.
        WeightsError: a training diverged; the others come first.
    """
    try:
        yield from _fit_at_once(trainings, ModelPool() if model_pool is None else model_pool, progress, title)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ConfigError(
            f"{len(trainings)} trainings of {trainings[0].model.name} do not fit into the memory at once; "
            "lower at_once (--at-once)."
        ) from None


def _fit_at_once(
    trainings: Sequence[Training], model_pool: ModelPool, progress: bool, title: str
) -> Iterator[tuple[int, History]]:
    run = _FoldRun(trainings, model_pool)
    epochs = range(run.firsts.min(), trainings[0].settings.epochs)
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


class _FoldRun:
    """The trainings while they run: their state on the device, and what goes on beside the steps."""

    def __init__(self, trainings: Sequence[Training], model_pool: ModelPool) -> None:
        self.trainings, self.courses = trainings, []
        values, neutrals, firsts = [], [], []
        for training in trainings:
            self.network = network = model_pool.compiled(training.model, training.settings)
            part = training.part("train")
            session = FitSession(network, training.settings, part, training.held_out, training.folder)
            firsts.append(session.start(network))
            neutrals.append(0.0 if network.normalization is None else network.normalization.neutral)
            values.append([np.asarray(variable) for variable in training_variables(network)])
            self.courses.append(session)
        self.firsts = np.array(firsts)
        self.data = _Data(trainings, np.array(neutrals, np.float32))
        self.program = _program(self.network)
        self.state = self.program.stacked(values)
        self.is_over = np.zeros(len(trainings), bool)
        self.errors: dict[int, WeightsError] = {}

    def train(self, epoch: int) -> dict[str, float]:
        """Train an epoch, counted from 0, of those that have yet to; return the means of their logs."""
        alive = (self.firsts <= epoch) & ~self.is_over
        if not alive.any():
            return {}
        full, tails = self.data.batches(epoch)
        self._set_learning_rate(epoch)
        self.state, values = self.program.train(self.state, full, tails, alive, self.data.shared, self.data.own)
        columns = {name: np.asarray(column) for name, column in values.items()}
        numbers = [int(number) for number in alive.nonzero()[0]]
        logs = {number: {name: float(column[number]) for name, column in columns.items()} for number in numbers}
        self._score(logs)
        self.is_over[list(self.errors)] = True
        sound = [number for number in logs if number not in self.errors]
        for number in sound:
            self._note(number, epoch, logs[number])
        return (
            {name: float(np.mean([logs[number][name] for number in sound])) for name in logs[sound[0]]} if sound else {}
        )

    def _set_learning_rate(self, epoch: int) -> None:
        kind, index = self.program.place(self.network.optimizer.learning_rate)
        rate = self.trainings[0].settings.learning_rate(epoch)
        self.state[kind][index] = jnp.full_like(self.state[kind][index], rate)

    def _score(self, logs: Mapping[int, dict[str, float]]) -> None:
        """Add the scores that the selection rule or a held-out part asks for."""
        for place, scorer in enumerate(self.courses[0].scores):
            batches = self.data.batches_of(scorer.part)
            answers = self.program.answers(*self.state[:2], batches, self.data.shared, self.data.own)
            outputs = np.asarray(answers).reshape(len(batches), -1, self.network.n_classes)
            for number, record in logs.items():
                own = self.courses[number].scores[place]
                try:
                    rows = outputs[number, : own.examples.n_segments]
                    own.add_to(record, clip_probabilities(self.network, rows, own.examples.counts))
                except WeightsError as error:  # the others go on
                    self.errors[number] = error

    def _note(self, number: int, epoch: int, record: dict[str, float]) -> None:
        """Keep what is to be kept of a training's epoch."""
        session = self.courses[number]
        if session.keep_best is not None:
            session.keep_best.consider(epoch, record, lambda: self._values(number, self.network.weights))
            self.is_over[number] = session.keep_best.is_out_of_patience(epoch)
        is_last = epoch + 1 == self.trainings[0].settings.epochs or bool(self.is_over[number])
        session.state.note(record, is_last, lambda: self._values(number, training_variables(self.network)))

    def _values(self, number: int, variables: Sequence[Any]) -> list[np.ndarray]:
        return self.program.values(self.state, number, variables)

    def finish(self) -> Iterator[tuple[int, History]]:
        """Give each model its weights; an error of one comes when the others are done."""
        variables = self.network.variables  # dropout's random states too, which new statistics depend on
        for number, (training, session) in enumerate(zip(self.trainings, self.courses, strict=True)):
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
    """What the trainings are trained on, on the device, and which of it in which epoch.

    Args:
        trainings: those that run.
        neutrals: what masks put in the place of each training's features, (n, ...), of shapes that go with a frame's.

    Attributes:
        shared: features and targets of all segments.
        own: what each training has of its own, first axis: trainings.
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
        """Return the full batches of an epoch, (steps, n, batch_size), and the last, smaller ones, by their sizes."""
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
        full["is_there"] = np.arange(len(full["rows"]))[:, None] < n_full
        return full, self._last_batches(
            [order[count * size :] for order, count in zip(orders, n_full, strict=True)], epoch
        )

    def _last_batches(self, rests: Sequence[np.ndarray], epoch: int) -> list[dict[str, np.ndarray]]:
        """Return what is left of each training's order, trainings with as much left together."""
        tails = []
        for size in sorted({len(rest) for rest in rests} - {0}):
            numbers = np.array([number for number, rest in enumerate(rests) if len(rest) == size])
            parts = [self._columns(number, rests[number], epoch) for number in numbers]
            tails.append({"numbers": numbers} | {name: np.stack([own[name] for own in parts]) for name in parts[0]})
        return tails

    def _columns(self, number: int, order: np.ndarray, epoch: int) -> dict[str, np.ndarray]:
        """Return what a training's step is told of segments: which they are, what they are mixed with, what stays."""
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
        """Return the rows of a part's segments, (n, n_batches, batch_size), zeros behind those of smaller parts."""
        rows, size = self._rows[part], self.settings.batch_size
        length = -(-max(map(len, rows)) // size) * size
        return np.stack([_padded(own, length).reshape(-1, size) for own in rows])


class Program:
    """A training epoch, and answers, of one network with many sets of weights, compiled.

    Args:
        network: compiled; its variables say where values are in a state.

    Attributes:
        train: from a state, which is used up, the full batches, the last ones, which trainings are alive, (n,), and the
            data gives the new state and the epoch's mean loss and so on, (n,) each.
        answers: from the state's weights and other variables, batches of rows and the data gives the outputs,
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
        self.answers = jax.jit(jax.vmap(self._answer, in_axes=(0, 0, 0, None, 0)))

    def stacked(self, values: Sequence[Sequence[np.ndarray]]) -> State:
        """Return the state of which each training's variables have these values, in the order of training_variables."""
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
        """Return where in a state a variable's values are: in which group, and where there."""
        return self._places[id(variable)]

    def _train_epoch(
        self, state: State, full: dict[str, Any], tails: list[dict[str, Any]], alive: Any, shared: Any, own: Any
    ) -> tuple[State, dict[str, Any]]:
        state = (*state[:3], [jnp.broadcast_to(value, (len(alive), *value.shape)) for value in self._fresh_metrics])
        steps = jax.vmap(self._step, in_axes=(0, 0, None, 0))

        def step(state: State, batch: dict[str, Any]) -> tuple[State, None]:
            trained = steps(state, batch, shared, own)
            return _chosen(alive & batch["is_there"], trained, state), None

        state, _ = jax.lax.scan(step, state, full)
        for tail in tails:
            numbers = tail["numbers"]
            before, differences = jax.tree.map(lambda values, numbers=numbers: values[numbers], (state, own))
            after = _chosen(alive[numbers], steps(before, tail, shared, differences), before)
            state = jax.tree.map(lambda values, new, numbers=numbers: values.at[numbers].set(new), state, after)
        return state, jax.vmap(self._logs)(state[3])

    def _step(self, state: State, batch: dict[str, Any], shared: Any, own: dict[str, Any]) -> State:
        """Train one network with one batch: the step that Keras's own fit takes."""
        chosen = self._chosen_rows(batch["rows"], shared, own)
        if "partners" in batch:
            others = self._chosen_rows(batch["partners"], shared, own)
            chosen = {name: mixed(rows, others[name], batch["shares"]) for name, rows in chosen.items()}
        features, targets = chosen["features"], chosen["targets"]
        if "frames" in batch:
            kept = batch["frames"][:, :, None] & batch["values"][:, None]
            kept = kept.reshape(kept.shape + (1,) * (features.ndim - 3))
            features = jnp.where(kept, features, own["neutral"])
        data = [network_inputs(features, chosen.get("genders")), targets]
        if "class_weights" in own:
            data.append(own["class_weights"][targets.argmax(axis=-1)])
        return self.network.train_step(state, tuple(data))[1]

    def _chosen_rows(self, rows: Any, shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
        genders = {"genders": own["genders"]} if "genders" in own else {}
        return {name: values[rows] for name, values in {**shared, **genders}.items()}

    def _logs(self, metrics: list[Any]) -> dict[str, Any]:
        pairs = list(zip(self.network.metrics_variables, metrics, strict=True))
        with keras.StatelessScope(state_mapping=pairs):
            return self.network.get_metrics_result()

    def _answer(self, trainable: list[Any], others: list[Any], batches: Any, shared: Any, own: dict[str, Any]) -> Any:
        """Return one network's outputs for batches of rows, (n_batches, batch_size, n_classes)."""

        def answer(rows: Any) -> Any:
            chosen = self._chosen_rows(rows, shared, own)
            inputs = network_inputs(chosen["features"], chosen.get("genders"))
            return self.network.stateless_call(trainable, others, inputs, training=False)[0]

        return jax.lax.map(answer, batches)


@lru_cache(maxsize=1)
def _program(network: SERModel) -> Program:
    """Return the program of a network, the same as last time if it is the same network: JAX then has it compiled."""
    return Program(network)


def _build_metrics(network: SERModel) -> None:
    """Have Keras make the variables of loss and metrics, which it does at the first batch."""
    some = np.full((1, network.n_classes), 1 / network.n_classes, np.float32)
    network.compute_loss(y=some, y_pred=some)
    network.compute_metrics(x=None, y=some, y_pred=some)


def _differences(trainings: Sequence[Training]) -> dict[str, np.ndarray]:
    """Return what else is each training's own: the genders of all segments, the weights of its classes."""
    own: dict[str, np.ndarray] = {}
    genders = [training.examples.genders for training in trainings if training.examples.genders is not None]
    if genders:
        own["genders"] = np.repeat(np.stack(genders), trainings[0].examples.counts, axis=1)
    if trainings[0].settings.class_weights:
        weights = [class_weights(training.part("train")) for training in trainings]
        own["class_weights"] = np.stack(weights).astype(np.float32)
    return own


def _chosen(which: Any, values: Any, others: Any) -> Any:
    """Return the values of those trainings that ``which`` says, (n,), and the others' otherwise."""

    def choose(value: Any, other: Any) -> Any:
        return jnp.where(which.reshape(-1, *[1] * (value.ndim - 1)), value, other)

    return jax.tree.map(choose, values, others)


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    """Return the rows followed by zeros, (length,)."""
    return np.concatenate([rows, np.zeros(length - len(rows), rows.dtype)])
