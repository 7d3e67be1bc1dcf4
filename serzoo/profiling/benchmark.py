"""Profile a model in a process of its own.

The peak memory of a process never falls, so the process that measures must not have done anything else.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serzoo.checks import COUNT, check
from serzoo.errors import ConfigError, SerzooError, unknown_name
from serzoo.experiments.processes import stderr_closed
from serzoo.files import local_path
from serzoo.profiling.costs import Profile
from serzoo.recipes import Recipe, list_recipes, load_recipe

if TYPE_CHECKING:
    from serzoo.classifier import Classifier
    from serzoo.models.base import SERModel
    from serzoo.settings import TrainingConfig


def profile(
    model: str | Path | Recipe | SERModel | Classifier,
    *,
    batch_size: int | None = None,
    n_frames: int | None = None,
    seconds: float | None = None,
    jit_compile: bool | None = None,
    repeats: int = 5,
    changes: Mapping[str, object] | None = None,
) -> Profile:
    """Measure a model on random features and targets.

    A training step minimises cross-entropy; the recipe's objective and auxiliary networks are left out. No training
    step begins after the first minute.

    Args:
        model: name of a model, whose first recipe sets features, batch and training; a recipe, by name, file or
            object; a trained ``.keras`` file or a fold's folder; or a model or classifier object.
        batch_size: clips of a training step; None for the recipe's.
        n_frames: frames of a clip; None for that of the features.
        seconds: duration of a clip, instead of ``n_frames``.
        jit_compile: whether XLA compiles; None for the recipe's setting. On JAX it always does.
        repeats: training steps measured after the first.
        changes: values of the recipe to replace, as in :meth:`serzoo.Recipe.override`.

    Raises:
        UnknownNameError: no such model, recipe or file; the message names the nearest match.
        ConfigError: a classical classifier, an argument out of range, or a model and batch larger than the memory.
        FeatureError: clips of a length that the model does not take.
    """
    for name, value in (("batch_size", batch_size), ("n_frames", n_frames), ("repeats", repeats)):
        if value is not None:
            check(name, value, COUNT)
    if seconds is not None and (n_frames is not None or not 0 < seconds < math.inf):
        raise ConfigError(f"seconds is {seconds!r}; give a length above 0, and leave out n_frames.")
    build, recipe, training = _subject(model, changes or {})
    settings: dict[str, Any] = {"batch_size": batch_size, "jit_compile": jit_compile}
    training = replace(training, **{name: value for name, value in settings.items() if value is not None})
    return _measure_apart(build, recipe, training, n_frames, seconds, repeats)


def first_recipe(name: str) -> Recipe:
    """Return the first recipe of a model whose class names do not depend on recordings.

    Raises:
        ConfigError: there is none.
    """
    for recipe in map(load_recipe, list_recipes()):
        if recipe.model.name == name and class_names_of(recipe):
            return recipe
    raise ConfigError(f"No recipe sets the features of {name}; name a recipe or a trained model.")


def class_names_of(recipe: Recipe) -> Sequence[str]:
    """Return the names of the classes, empty where they depend on the recordings."""
    from serzoo.data.corpora.corpus import CORPORA

    of_corpus = CORPORA.get(recipe.corpus).class_names if recipe.target == "label" else ()
    return recipe.class_names or of_corpus


def _name_of(model: object) -> str:
    """Return the name of a model's architecture."""
    from serzoo.models import MODELS

    for name in MODELS:
        if MODELS.get(name).load() is type(model):
            return name
    raise ConfigError(f"{model!r:.80} is no model of the zoo; give a name, a recipe, a file or a serzoo model.")


def _subject(
    model: str | Path | Recipe | SERModel | Classifier, changes: Mapping[str, object]
) -> tuple[Callable[[], SERModel], str, TrainingConfig]:
    """Return a function that builds the model, the name of its recipe (empty if none) and the training settings."""
    from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
    from serzoo.experiments.setup import prepare_recipe
    from serzoo.models import MODELS
    from serzoo.zoo import WEIGHT_FILES, build, load, model_file

    name = str(model) if isinstance(model, (str, Path)) else None
    if name in MODELS:
        model = first_recipe(str(name))
    if isinstance(model, Recipe) or (name and (name in list_recipes() or name.endswith((".yaml", ".yml")))):
        model = prepare_recipe(model, changes)  # type: ignore[arg-type]
        name = model.model.name
    if name in CLASSICAL_CLASSIFIERS:
        raise ConfigError(f"{name} is a classical classifier and has no training steps; name a network.")
    if isinstance(model, Recipe):
        class_names = class_names_of(model)
        if not class_names:
            raise ConfigError(
                f"The classes of {model.name} depend on its recordings; set them: --set 'class_names=[a, b, c]'."
            )
        settings = {"class_names": class_names, "feature_spec": model.features, **model.model.arguments}
        return partial(build, model.model.name, **settings), model.name, model.training
    if name and not (local_path(name).exists() or Path(name).suffix or os.sep in name):
        raise unknown_name("model or recipe", name, [*MODELS, *list_recipes()])
    if changes:
        raise ConfigError("A model that is built cannot be changed; give its name or a recipe with changes.")
    if name is not None:
        path = model_file(name)
        if path.suffix in WEIGHT_FILES:
            known = WEIGHT_FILES[path.suffix]
            raise ConfigError(f"{path} holds weights only; to benchmark their model, name it: {known}.")
        with stderr_closed():  # TensorFlow writes notes there when it is imported
            model = load(path)
    network: Any = getattr(model, "model", model)  # that of a classifier
    training = first_recipe(_name_of(network)).training
    return partial(type(network).from_config, network.get_config()), "", training


def _measure_apart(*arguments: Any) -> Profile:
    """Call :func:`serzoo.profiling.measuring.measure` in a new process, on this one's backend."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    environment = {"TF_CPP_MIN_LOG_LEVEL": "2"}
    if "keras" in sys.modules:
        environment["KERAS_BACKEND"] = sys.modules["keras"].backend.backend()
    try:
        with ProcessPoolExecutor(1, env=environment) as pool:
            with stderr_closed():  # also for the process that starts here
                future = pool.submit(_measure, *arguments)
            return future.result()
    except TerminatedWorkerError:
        raise ConfigError(
            "A signal ended the benchmark, probably because memory ran out; choose a smaller batch or shorter clips."
        ) from None


def _measure(*arguments: Any) -> Profile:
    from serzoo.profiling.measuring import measure  # only in the process that measures: it imports Keras

    try:
        return measure(*arguments)
    except Exception as error:
        words = ("MemoryError", "RESOURCE_EXHAUSTED", "ResourceExhausted", "OOM when")
        if isinstance(error, SerzooError) or not any(word in f"{type(error).__name__}: {error}" for word in words):
            raise
        raise ConfigError(
            "The training step does not fit into memory; choose a smaller batch or shorter clips."
        ) from None
