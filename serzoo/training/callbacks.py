"""Keras callbacks: learning rate, scores after each epoch, the best epoch, the state to resume from, progress."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from serzoo.data.examples import Examples
from serzoo.errors import DataError
from serzoo.files import write_whole
from serzoo.models.base import SERModel
from serzoo.training.evaluate import predict_probabilities, score_probabilities

_SAVE_EVERY_SECONDS = 20.0


class LearningRate(keras.callbacks.Callback):
    """Sets the learning rate of each epoch; unlike Keras's LearningRateScheduler it adds nothing to the logs.

    Args:
        of_epoch: returns the learning rate of an epoch, counted from 0.
    """

    def __init__(self, of_epoch: Callable[[int], float]) -> None:
        super().__init__()
        self.of_epoch = of_epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the learning rate before the epoch's first step."""
        self.model.optimizer.learning_rate = self.of_epoch(epoch)


class EpochScores(keras.callbacks.Callback):
    """Adds a part's loss, UAR and WAR in inference mode to the epoch's logs, as ``<part>_loss`` and so on.

    Args:
        part: name of the part: ``"train"``, ``"validation"`` or ``"test"``.
        examples: the part's clips.
        predictor: the model to predict with; it shares its weights with the network in training.
        loss: returns the loss, from the network in training, the clips and the predicted probabilities.
    """

    def __init__(
        self,
        part: str,
        examples: Examples,
        predictor: SERModel,
        loss: Callable[[keras.Model, Examples, np.ndarray], float],
    ) -> None:
        super().__init__()
        self.part, self.examples, self.predictor, self.loss = part, examples, predictor, loss

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Score the part and write the scores into ``logs`` for the callbacks after this one."""
        if logs is not None:
            self.add_to(logs, predict_probabilities(self.predictor, self.examples))

    def add_to(self, logs: dict[str, Any], probabilities: np.ndarray) -> None:
        """Write the loss and the scores of these probabilities, (N, n_classes), into ``logs``."""
        scores = score_probabilities(self.examples, probabilities)
        logs[f"{self.part}_loss"] = self.loss(self.model, self.examples, probabilities)
        logs[f"{self.part}_uar"], logs[f"{self.part}_war"] = scores.uar, scores.war


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the best epoch in memory, and stops after ``patience`` epochs without improvement.

    Of equal epochs the first is kept. Keras's EarlyStopping cannot resume: its best epoch is not part of any state.

    Args:
        monitor: the log to compare, for example ``"validation_uar"``; the lowest loss or the highest score is best.
        patience: epochs without improvement after which the training stops; None for never.
    """

    def __init__(self, monitor: str, patience: int | None = None) -> None:
        super().__init__()
        self.monitor, self.patience = monitor, patience
        self.sign = -1 if monitor.endswith("loss") else 1
        self.best_value, self.best_epoch = -self.sign * np.inf, -1
        self.best_weights: list[np.ndarray] = []

    def is_out_of_patience(self, epoch: int) -> bool:
        """Return whether the training ends with ``epoch``, counted from 0."""
        return self.patience is not None and epoch - max(self.best_epoch, 0) >= self.patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep a copy of the weights if this epoch is the best so far."""
        self.consider(epoch, logs or {}, self.model.get_weights)
        self.model.stop_training = self.is_out_of_patience(epoch)

    def consider(self, epoch: int, logs: Mapping[str, Any], weights: Callable[[], list[np.ndarray]]) -> None:
        """Keep the weights that ``weights()`` returns if this epoch, counted from 0, is the best so far."""
        value = float(logs[self.monitor])
        if self.sign * value > self.sign * self.best_value:
            self.best_value, self.best_epoch = value, epoch
            self.best_weights = weights()


class Checkpoint(keras.callbacks.Callback):
    """Saves the state of a training at the end of epochs, so that it resumes to the same numbers.

    The state holds the weights and dropout's random state, the optimiser's variables, the best epoch so far and the
    history. It is written to a temporary file and moved into place, at most every 20 seconds, and at the last epoch.

    Args:
        path: the ``.npz`` file, or None to keep the history in memory only.
        fingerprint: hash of the training's data and settings; a state with another fingerprint is refused.
        epochs: number of epochs.
        keep_best: its best epoch is saved in the state; None if the last epoch is kept.
    """

    def __init__(self, path: Path | None, fingerprint: str, epochs: int, keep_best: KeepBest | None = None) -> None:
        super().__init__()
        self.path, self.fingerprint, self.epochs, self.keep_best = path, fingerprint, epochs, keep_best
        self.records: list[dict[str, float]] = []
        self._saved = time.monotonic()

    def restore(self, model: keras.Model) -> int:
        """Load the state, if there is one, into a built and compiled ``model``.

        Returns:
            The first epoch to train, counted from 0; ``epochs`` if the training is over, early stopping included.

        Raises:
            DataError: the state belongs to another training or is damaged.
        """
        if self.path is None or not self.path.exists():
            return 0
        try:
            with np.load(self.path, allow_pickle=False) as state:
                meta = json.loads(str(state["meta"]))
                arrays = {name: state[name] for name in state.files if name != "meta"}
            fingerprint = meta["fingerprint"]
        except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{self.path}: damaged training state ({error}); delete it to train that fold again."
            ) from None
        if fingerprint != self.fingerprint:
            raise DataError(
                f"{self.path} belongs to a training with other settings; choose another run folder or delete this one."
            )
        for index, variable in enumerate(training_variables(model)):
            variable.assign(arrays[f"variable/{index}"])
        self.records = meta["records"]
        if self.keep_best is not None and meta["best_epoch"] >= 0:
            self.keep_best.best_value, self.keep_best.best_epoch = meta["best_value"], meta["best_epoch"]
            count = sum(name.startswith("best/") for name in arrays)
            self.keep_best.best_weights = [arrays[f"best/{index}"] for index in range(count)]
        n_done = len(self.records)
        is_over = self.keep_best is not None and self.keep_best.is_out_of_patience(n_done - 1)
        return self.epochs if is_over else n_done

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the epoch's logs and save the state if it is due."""
        is_last = epoch + 1 == self.epochs or self.model.stop_training
        self.record(logs or {}, is_last, lambda: training_variables(self.model))

    def record(self, logs: Mapping[str, Any], is_last: bool, variables: Callable[[], Iterable[Any]]) -> None:
        """Record an epoch's logs and, after the last epoch or 20 seconds, save the values of ``variables()``."""
        self.records.append({name: float(value) for name, value in logs.items()})
        due = is_last or time.monotonic() - self._saved >= _SAVE_EVERY_SECONDS
        if self.path is not None and due:
            self._save(self.path, variables())
            self._saved = time.monotonic()

    def _save(self, path: Path, variables: Iterable[Any]) -> None:
        arrays: dict[str, Any] = {
            f"variable/{index}": keras.ops.convert_to_numpy(variable) for index, variable in enumerate(variables)
        }
        best = self.keep_best
        if best is not None:
            arrays |= {f"best/{index}": weight for index, weight in enumerate(best.best_weights)}
        meta = {
            "fingerprint": self.fingerprint,
            "records": self.records,
            "best_value": float(best.best_value) if best is not None and best.best_epoch >= 0 else 0.0,
            "best_epoch": best.best_epoch if best is not None else -1,
        }
        buffer = io.BytesIO()
        np.savez(buffer, meta=np.array(json.dumps(meta)), **arrays)
        write_whole(path, buffer.getvalue())


def training_variables(network: keras.Model) -> list[Any]:
    """Return every variable that training changes, in the order of the saved state."""
    return [*network.variables, *network.optimizer.variables]


class ProgressBar(keras.callbacks.Callback):
    """One line on stderr with the epoch, its loss and its scores.

    Keras does not call its callbacks after an interruption, so call :meth:`stop` in a ``finally`` block.

    Args:
        title: text before the bar.
        epochs: number of epochs.
        first_epoch: the epoch at which the training starts or resumes, counted from 0.
    """

    def __init__(self, title: str, epochs: int, first_epoch: int = 0) -> None:
        super().__init__()
        self.title, self.epochs, self.first_epoch = title, epochs, first_epoch
        self._progress: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Draw the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        # Narrow enough for 80 columns with the longest scores.
        columns = (BarColumn(bar_width=16), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(
            TextColumn("{task.description}"),
            *columns,
            TextColumn("{task.fields[scores]}"),
            console=Console(stderr=True),
        )
        self._progress.start()
        self._task = self._progress.add_task(self.title, total=self.epochs, completed=self.first_epoch, scores="")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Advance the bar and show this epoch's logs."""
        shown = {
            name: value for name, value in (logs or {}).items() if name in ("loss", "war") or name.endswith("_uar")
        }
        scores = " ".join(f"{name} {value:.2f}" for name, value in shown.items())
        self._progress.update(self._task, completed=epoch + 1, scores=scores)

    def stop(self) -> None:
        """Leave the bar on the screen and show the cursor again; does nothing if the bar was never drawn."""
        if self._progress is not None:
            self._progress.stop()
