"""Profile a model in a process of its own.

The peak memory of a process never falls, so the process that measures must not have done anything else.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serzoo import errors
from serzoo.checks import COUNT, check
from serzoo.errors import ConfigError, SerzooError, unknown_name
from serzoo.files import local_path
from serzoo.profiling.costs import Profile

if TYPE_CHECKING:
    from serzoo.classifier import Classifier
    from serzoo.models.base import SERModel
    from serzoo.recipes import Recipe


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
    options = {
        "batch_size": batch_size,
        "n_frames": n_frames,
        "seconds": seconds,
        "jit_compile": jit_compile,
        "repeats": repeats,
    }
    return Profile.from_dict(_run_apart({**_subject(model, changes or {}), **options}))


def first_recipe(name: str) -> Recipe:
    """Return the first recipe of a model whose class names do not depend on recordings.

    Raises:
        ConfigError: there is none.
    """
    from serzoo.recipes import list_recipes, load_recipe

    for recipe in map(load_recipe, list_recipes()):
        if recipe.model.name == name and class_names_of(recipe):
            return recipe
    raise ConfigError(f"No recipe sets the features of {name}; name a recipe or a trained model.")


def class_names_of(recipe: Recipe) -> Sequence[str]:
    """Return the names of the classes, empty where they depend on the recordings."""
    from serzoo.data.corpora.corpus import CORPORA

    of_corpus = CORPORA.get(recipe.corpus).class_names if recipe.target == "label" else ()
    return recipe.class_names or of_corpus


def name_of(model: SERModel) -> str:
    """Return the name of a model's architecture.

    Raises:
        ConfigError: it is no model of the zoo.
    """
    from serzoo.models import MODELS

    for name in MODELS:
        if MODELS.get(name).load() is type(model):
            return name
    raise ConfigError(f"{model!r:.80} is no model of the zoo; give a name, a recipe, a file or a serzoo model.")


def _subject(model: str | Path | Recipe | SERModel | Classifier, changes: Mapping[str, object]) -> dict[str, Any]:
    """Return the model to build in the other process, as plain data."""
    from serzoo.recipes import Recipe

    found = _named_recipe(model) if isinstance(model, (str, Path)) else model
    if isinstance(found, Recipe):
        return _recipe_subject(found, changes)
    if changes:
        raise ConfigError("A model that is built cannot be changed; give its name or a recipe with changes.")
    if found is None:
        return {"file": str(_keras_file(str(model)))}
    from serzoo.classifier import Classifier  # only here: it imports Keras, slow and not needed for recipes

    network = found.model if isinstance(found, Classifier) else found
    return {"name": name_of(network), "config": network.get_config()}


def _named_recipe(model: str | Path) -> Recipe | None:
    """Return the recipe of a name, including names of models; None for the path of a model."""
    from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
    from serzoo.models import MODELS
    from serzoo.recipes import list_recipes, load_recipe

    name = str(model)
    if name in MODELS:
        return first_recipe(name)
    if name in CLASSICAL_CLASSIFIERS:
        raise _not_a_network(name)
    if name in list_recipes() or name.endswith((".yaml", ".yml")):
        return load_recipe(model)
    if local_path(name).exists() or Path(name).suffix or os.sep in name:
        return None
    raise unknown_name("model or recipe", name, [*MODELS, *list_recipes()])


def _keras_file(source: str | Path) -> Path:
    """Return the ``.keras`` file of a path or of a fold's folder."""
    from serzoo.zoo import WEIGHT_FILES, model_file

    path = model_file(source)
    if path.suffix in WEIGHT_FILES:
        raise ConfigError(f"{path} holds weights only; to benchmark their model, name it: {WEIGHT_FILES[path.suffix]}.")
    return path


def _recipe_subject(recipe: Recipe, changes: Mapping[str, object]) -> dict[str, Any]:
    from serzoo.experiments.setup import prepare_recipe
    from serzoo.models import MODELS

    recipe = prepare_recipe(recipe, changes)
    if recipe.model.name not in MODELS:
        raise _not_a_network(recipe.model.name)
    if not class_names_of(recipe):
        raise ConfigError(
            f"The classes of {recipe.name} depend on its recordings; set them: --set 'class_names=[a, b, c]'."
        )
    return {"recipe": recipe.to_dict(), "class_names": list(class_names_of(recipe))}


def _not_a_network(name: str) -> ConfigError:
    return ConfigError(f"{name} is a classical classifier and has no training steps; name a network.")


def _run_apart(job: dict[str, Any]) -> dict[str, Any]:
    """Run ``serzoo.profiling.measuring`` on a job and return its result; its errors are raised here."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    if "keras" in sys.modules:
        environment["KERAS_BACKEND"] = sys.modules["keras"].backend.backend()
    # The other process must import this very serzoo, installed or not.
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")])
    )
    command = [sys.executable, "-m", "serzoo.profiling.measuring"]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, env=environment)
    last_line = done.stdout.rpartition("\n")[2]
    if done.returncode == 0 and last_line:
        found = json.loads(last_line)
        if "error" in found:
            raise getattr(errors, found["error"], SerzooError)(found["message"])
        return found
    if done.returncode < 0:
        raise ConfigError(
            f"Signal {-done.returncode} ended the benchmark, probably because memory ran out; "
            "choose a smaller batch or shorter clips."
        )
    if any(words in done.stderr for words in ("MemoryError", "RESOURCE_EXHAUSTED", "ResourceExhausted", "OOM when")):
        raise ConfigError("The training step does not fit into memory; choose a smaller batch or shorter clips.")
    raise RuntimeError(f"the benchmark process ended with {done.returncode}:\n{done.stderr}")
