"""Train folds one after another or at the same time: as one program on JAX, elsewhere in processes."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import keras

from serzoo.checks import COUNT, check
from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.data.workers import with_progress
from serzoo.errors import ConfigError, WeightsError
from serzoo.experiments.folds import Experiment, Task, train_fold, write_fold
from serzoo.experiments.processes import run_in_processes
from serzoo.experiments.run_folder import RunFolder
from serzoo.experiments.stages import build_model
from serzoo.recipes import Recipe
from serzoo.training.compiling import ModelPool

_MIN_SEGMENTS = 20_000
"""Segments times epochs above which a fold's training takes longer than starting a process and compiling in it."""

_LARGE = 2_000_000
"""Number of weights above which one network's matrix products keep all cores busy."""


def train_tasks(
    tasks: Sequence[Task], experiment: Experiment, at_once: int | None = None, *, progress: bool = True
) -> Iterator[Task]:
    """Train folds and write their folders; yield each fold when it is finished, not always in order."""
    if not tasks:
        return
    n_at_once = min(len(tasks), choose_at_once(tasks, experiment) if at_once is None else at_once)
    # Without TensorFlow there is no tf.data pipeline, so a single fold is trained by the JAX program as well.
    if _on_jax() and _obstacle(tasks[0].recipe) is None and (n_at_once > 1 or not _has_tensorflow()):
        yield from _in_jax_programs(tasks, experiment, n_at_once, progress)
    elif n_at_once > 1:
        yield from _in_processes(tasks, experiment, n_at_once, progress)
    else:
        model_pool = ModelPool()
        for task in tasks:
            train_fold(task, experiment, progress=progress, model_pool=model_pool)
            yield task


def check_at_once(recipe: Recipe, at_once: int | None) -> None:
    """Raise ConfigError unless ``at_once`` folds of the recipe can train at the same time."""
    if at_once is None:
        return
    check("at_once", at_once, COUNT)
    obstacle = _obstacle(recipe)
    if at_once > 1 and not _on_jax() and _has_accelerator():
        raise ConfigError(
            f"at_once is {at_once}, but processes cannot share one accelerator; leave at_once out, "
            "or run on JAX (KERAS_BACKEND=jax), where folds are one program."
        )
    if at_once > 1 and _on_jax() and obstacle is not None:
        raise ConfigError(
            f"at_once is {at_once}, but on JAX {obstacle} cannot be trained as one program; leave at_once out, "
            "or run on TensorFlow (KERAS_BACKEND=tensorflow)."
        )


def choose_at_once(tasks: Sequence[Task], experiment: Experiment) -> int:
    """Return the number of folds to train at the same time for the shortest total time.

    With JAX and an accelerator: all folds of one seed. On a CPU with TensorFlow: one per core, in processes of one
    thread each, since a second fold gains more than a second thread for a small network. Otherwise, and where
    trainings are short or one network keeps all cores busy (docs/performance.md): one after another.
    """
    recipe = tasks[0].recipe
    if _on_jax() and _has_accelerator() and _obstacle(recipe) is None:
        return sum(task.recipe.training.seed == recipe.training.seed for task in tasks)
    if _on_jax() or _has_accelerator() or recipe.model.name in CLASSICAL_CLASSIFIERS:
        return 1
    from joblib import cpu_count

    n_segments = int(experiment.examples.counts[tasks[0].fold.train].sum())
    is_long = n_segments * recipe.training.epochs >= _MIN_SEGMENTS
    is_small = build_model(recipe, experiment.manifest).count_params() < _LARGE
    return min(cpu_count(), len(tasks)) if is_long and is_small else 1


def _obstacle(recipe: Recipe) -> str | None:
    """Return the part of a recipe that cannot be trained as one program of several folds, or None."""
    obstacles = {
        f"a classical classifier ({recipe.model.name})": recipe.model.name in CLASSICAL_CLASSIFIERS,
        "anti_transfer": recipe.anti_transfer is not None,
        "rh_emo": recipe.rh_emo is not None,
        "training.waveform_augment": recipe.training.waveform_augment is not None,
    }
    return next((name for name, is_set in obstacles.items() if is_set), None)


def _on_jax() -> bool:
    return keras.backend.backend() == "jax"


def _has_accelerator() -> bool:
    return not keras.distribution.list_devices()[0].lower().startswith("cpu")


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _in_jax_programs(tasks: Sequence[Task], experiment: Experiment, n_at_once: int, progress: bool) -> Iterator[Task]:
    """Train ``n_at_once`` folds as one program, then the next ones."""
    from serzoo.training.jax_folds import Training, fit_folds

    model_pool = ModelPool()
    for start in range(0, len(tasks), n_at_once):
        group = tasks[start : start + n_at_once]
        experiments = [experiment.with_gender_inputs(task) for task in group]
        trainings = [
            Training(
                build_model(task.recipe, own.manifest),
                task.recipe.training,
                own.examples,
                task.parts,
                own.run.path / task.fold.name,
            )
            for task, own in zip(group, experiments, strict=True)
        ]
        title = group[0].fold.name if len(group) == 1 else f"{len(group)} folds"
        diverged: list[WeightsError] = []
        for number, history in fit_folds(trainings, model_pool=model_pool, progress=progress, title=title):
            try:
                write_fold(group[number], experiments[number], trainings[number].model, history, model_pool=model_pool)
            except WeightsError as error:  # raised at the end: the other folds are not affected
                diverged.append(error)
                continue
            yield group[number]
        if diverged:
            raise diverged[0]


def _in_processes(tasks: Sequence[Task], experiment: Experiment, n_at_once: int, progress: bool) -> Iterator[Task]:
    """Train each fold in one of ``n_at_once`` processes that share the cores."""
    # joblib reuses worker processes, whose working directory may be another one: the path must be absolute.
    experiment = replace(experiment, run=RunFolder(experiment.run.path.resolve()))
    calls, names = [(task, experiment) for task in tasks], [task.fold.name for task in tasks]
    finished = run_in_processes(_train_in_process, calls, names, n_at_once)
    for number, _ in with_progress(finished, f"folds, {n_at_once} at a time", len(tasks), progress):
        yield tasks[number]


def _train_in_process(task: Task, experiment: Experiment) -> None:
    train_fold(task, experiment, progress=False, model_pool=_process_model_pool())


@cache
def _process_model_pool() -> ModelPool:
    """Return the model pool of this worker process."""
    return ModelPool()
