"""What happens between the epochs of a training: learning rate, scores, the best epoch, saved state, progress."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from serzoo.data.examples import Examples
from serzoo.errors import ConfigError, DataError, WeightsError
from serzoo.files import moved_into_place
from serzoo.metrics import Scores
from serzoo.models.base import SERModel
from serzoo.settings import LAST_RULE, TrainingConfig
from serzoo.training.evaluate import predict_probabilities
from serzoo.training.objectives import Objective, cross_entropy
from serzoo.training.precise_batch_norm import check_has_batch_norm, recompute_batch_norm

_SAVE_EVERY_SECONDS = 20.0


class FitSession(keras.callbacks.Callback):
    """Sets learning rates, scores epochs, keeps the best one in memory, stops early, and saves the state to resume.

    The state holds the weights and dropout's random state, the optimiser's variables, the best epoch so far and the
    history. It is written at most every 20 seconds, and after the last epoch. Of equal epochs the first is the best.
    (Keras's callbacks do not resume to the same numbers: their best epoch is not part of any state.)

    Args:
        predictor: the model to predict with; it shares its weights with the network in training.
        training: the settings.
        examples: the training part.
        held_out: the validation or the test part, by name.
        folder: folder of the state; None keeps it in memory.
        objective: as in :func:`serzoo.training.fit.fit`.

    Attributes:
        scored: the parts that are scored after each epoch, by name.
        records: the logs of each epoch.

    Raises:
        ConfigError: the selection rule needs a part that was not given, or does not use one that was; or
            ``precise_norm`` is set for a model without moving statistics.
    """

    def __init__(
        self,
        predictor: SERModel,
        training: TrainingConfig,
        examples: Examples,
        held_out: Mapping[str, Examples],
        folder: Path | None,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        rule = training.selection
        *_, part, score = rule.split("-")  # such as best-validation-uar; the last epoch needs no part
        self.monitor = "" if rule == LAST_RULE else f"{part}_{score}"
        if "test" in held_out and part != "test":
            raise ConfigError(
                f"test_data is only for the rule leaky-best-test-war, but the rule is {rule}; use evaluate() instead."
            )
        if self.monitor and part not in ("train", *held_out):
            raise ConfigError(f"The selection rule {rule} needs {part}_data; give it or choose another rule.")
        if training.precise_norm:
            check_has_batch_norm(predictor)
        self.predictor, self.training, self.examples = predictor, training, examples
        self.scored = {"train": examples, **held_out} if part == "train" else dict(held_out)
        self.loss = cross_entropy if objective is None else objective.held_out_loss
        self.path = None if folder is None else folder / "state.npz"
        self.fingerprint = _fingerprint(predictor, training, objective, [examples, *held_out.values()])
        self.records: list[dict[str, float]] = []
        self.sign = -1 if self.monitor.endswith("loss") else 1  # the lowest loss or the highest score is the best
        self.best_value, self.best_epoch, self.best_weights = -self.sign * np.inf, -1, list[np.ndarray]()
        self._saved = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or ``patience`` epochs have brought no better one."""
        n_done, patience = len(self.records), self.training.patience
        is_out_of_patience = patience is not None and n_done - 1 - max(self.best_epoch, 0) >= patience
        return n_done == self.training.epochs or is_out_of_patience

    def start(self, network: keras.Model) -> int:
        """Restore the state, if there is one, of the built and compiled network in training.

        Returns:
            The first epoch to train, counted from 0; the number of epochs if the training is over.

        Raises:
            DataError: the state belongs to another training or is damaged.
        """
        self.set_model(network)
        if self.path is not None and self.path.exists():
            self._restore(self.path)
        normalization = self.predictor.normalization  # last: a refused training must not leave statistics behind
        if normalization is not None and not normalization.is_adapted:
            normalization.adapt(self.examples.features)
        return self.training.epochs if self.is_over else len(self.records)

    def _restore(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as state:
                meta = json.loads(str(state["meta"]))
                arrays = {name: state[name] for name in state.files if name != "meta"}
            fingerprint = meta["fingerprint"]
        except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: damaged training state ({error}); delete it to train that fold again.") from None
        if fingerprint != self.fingerprint:
            raise DataError(
                f"{path} belongs to a training with other settings; choose another run folder or delete this one."
            )
        for index, variable in enumerate(_variables(self.model)):
            variable.assign(arrays[f"variable/{index}"])
        self.records = meta["records"]
        if meta["best_epoch"] >= 0:
            self.best_value, self.best_epoch = meta["best_value"], meta["best_epoch"]
            self.best_weights = [arrays[f"best/{index}"] for index in range(len(self.model.weights))]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the learning rate before the epoch's first step."""
        self.model.optimizer.learning_rate = self.training.learning_rate(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the scores to ``logs``, for the callbacks after this one too, and record the epoch."""
        logs = {} if logs is None else logs
        for part, examples in self.scored.items():
            self.add_scores(logs, part, predict_probabilities(self.predictor, examples))
        self.record(logs)
        self.model.stop_training = self.is_over

    def add_scores(self, logs: dict[str, Any], part: str, probabilities: np.ndarray) -> None:
        """Add a part's loss, UAR and WAR to ``logs`` as ``<part>_loss`` and so on, from (N, n_classes)."""
        examples = self.scored[part]
        scores = Scores.from_predictions(examples.targets, probabilities.argmax(axis=1), examples.class_names)
        logs[f"{part}_loss"] = self.loss(self.model, examples, probabilities)
        logs[f"{part}_uar"], logs[f"{part}_war"] = scores.uar, scores.war

    def record(self, logs: Mapping[str, Any], load: Callable[[], object] = lambda: None) -> None:
        """Record an epoch's logs, keep its weights if it is the best so far, and save the state if that is due.

        Args:
            logs: the epoch's losses and scores.
            load: called before the variables of the network are read; puts the epoch's values into them.
        """
        self.records.append({name: float(value) for name, value in logs.items()})
        if self.monitor and self.sign * self.records[-1][self.monitor] > self.sign * self.best_value:
            load()
            self.best_value, self.best_epoch = self.records[-1][self.monitor], len(self.records) - 1
            self.best_weights = self.model.get_weights()
        if self.path is not None and (self.is_over or time.monotonic() - self._saved >= _SAVE_EVERY_SECONDS):
            load()
            self._save(self.path)
            self._saved = time.monotonic()

    def _save(self, path: Path) -> None:
        variables = map(keras.ops.convert_to_numpy, _variables(self.model))
        arrays: dict[str, Any] = {f"variable/{index}": values for index, values in enumerate(variables)}
        arrays |= {f"best/{index}": values for index, values in enumerate(self.best_weights)}
        meta = {
            "fingerprint": self.fingerprint,
            "records": self.records,
            "best_value": self.best_value if self.best_epoch >= 0 else 0.0,
            "best_epoch": self.best_epoch,
        }
        with moved_into_place(path) as part:
            np.savez(part, meta=np.array(json.dumps(meta)), **arrays)

    def finish(self) -> int:
        """Load the weights of the selected epoch into the network, and return its number, counted from 1.

        Raises:
            WeightsError: the training diverged and its epochs cannot be scored.
        """
        if self.monitor:
            if self.best_epoch < 0:
                raise WeightsError(
                    f"{self.predictor.name} has no epoch with a finite {self.monitor}: its training diverged; "
                    "lower learning_rate."
                )
            self.model.set_weights(self.best_weights)
        if self.training.precise_norm:
            seed, batch_size = self.training.seed, self.training.batch_size
            recompute_batch_norm(self.predictor, self.examples, batch_size=batch_size, seed=seed)
        return self.best_epoch + 1 if self.monitor else self.training.epochs


def _variables(network: keras.Model) -> list[Any]:
    """Return every variable that training changes, in the order of the saved state."""
    return [*network.variables, *network.optimizer.variables]


def _fingerprint(model: SERModel, training: TrainingConfig, objective: Objective | None, parts: list[Examples]) -> str:
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


@contextmanager
def progress_bar(title: str, total: int, done: int = 0, *, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Show one line on stderr with the number of epochs, the loss and the scores.

    Args:
        title: text before the bar.
        total: number of epochs, or of other things to do.
        done: how many of them are done already.
        shown: False shows nothing.

    Yields:
        A function to call with the number of an epoch, counted from 0, and its logs, when it is done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Narrow enough for 80 columns with the longest scores.
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=16), MofNCompleteColumn(), TimeRemainingColumn())
    scores = TextColumn("{task.fields[scores]}")
    with Progress(*columns, scores, console=Console(stderr=True), disable=not shown or done >= total) as bar:
        task = bar.add_task(title, total=total, completed=done, scores="")

        def advance(epoch: int, logs: Mapping[str, float] = MappingProxyType({})) -> None:
            names = [name for name in logs if name in ("loss", "war") or name.endswith("_uar")]
            bar.update(task, completed=epoch + 1, scores=" ".join(f"{name} {logs[name]:.2f}" for name in names))

        yield advance
