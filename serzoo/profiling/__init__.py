"""Measure what a model of the zoo costs on this machine, and how far that is from what the machine can do.

The measuring is done in a process of its own, by :mod:`serzoo.profiling.measuring`.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serzoo import errors
from serzoo.errors import ConfigError, SerzooError, unknown_name
from serzoo.files import local_path

if TYPE_CHECKING:
    from serzoo.classifier import Classifier
    from serzoo.models.base import SERModel
    from serzoo.recipes import Recipe


@dataclass(frozen=True)
class ProductRate:
    """How fast the machine computes one of the model's own products.

    Args:
        shape: batch, m, k and n of (batch, m, k) times (batch, k, n).
        gflops: 10^9 floating-point operations per second.
    """

    shape: tuple[int, ...]
    gflops: float


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do, measured beside the model.

    Args:
        matmul_gflops: 10^9 floating-point operations per second in the product of two large square matrices, or in one
            of ``products`` should that be faster; float32, the faster of Keras's backend and NumPy.
        copy_gbytes: 10^9 bytes read and written per second in copying an array beyond all caches; likewise.
        products: the model's own products in which most operations of its training step are, as products of matrices.
    """

    matmul_gflops: float
    copy_gbytes: float
    products: tuple[ProductRate, ...] = ()

    def floor(self, flops: float, traffic: float) -> float:
        """Return the seconds below which nothing computes ``flops`` operations and moves ``traffic`` bytes."""
        return max(flops / (self.matmul_gflops * 1e9), traffic / (self.copy_gbytes * 1e9))


@dataclass(frozen=True)
class Profile:
    """What a model costs. Times are in seconds, sizes in bytes.

    Args:
        model: the architecture's name.
        recipe: the recipe that features, batch and settings are from; empty if there is none.
        backend: Keras's.
        versions: of the libraries.
        device: what the backend computes on.
        cpu: the processor.
        threads: threads that the backend may use on the processor.
        jit_compile: whether XLA compiles what is measured.
        batch_size: clips of a training step.
        n_frames: frames of a clip.
        frame_shape: values of a frame.
        clip_seconds: sound in a clip, in seconds; None where a recording of any length is one frame.
        parameters: all weights.
        trainable: those of them that are trained.
        answer_flops: floating-point operations of an answer to one clip's features, in matrix products and
            convolutions; what is added, compared and so on beside them is not counted.
        step_flops: those of a training step, likewise.
        step_traffic: bytes that a training step moves at least: weights and Adam's moments read and written, the
            forward pass's products written and read once.
        idle_memory: of the process with the libraries and nothing else.
        answer_memory: the most that the process held until it had answered clips one by one.
        step_memory: the most that it held until it had trained.
        device_memory: the most memory of an accelerator in use; None without one, or where it does not tell.
        answer_seconds: from one clip's features to the answer, median.
        waveform_seconds: from one clip's samples to the answer, median; None where no layer computes the features.
        first_step_seconds: the first training step, with compiling.
        step_seconds: each further one.
        ceilings: what the machine can do.
    """

    model: str
    recipe: str
    backend: str
    versions: Mapping[str, str]
    device: str
    cpu: str
    threads: int
    jit_compile: bool
    batch_size: int
    n_frames: int
    frame_shape: tuple[int, ...]
    clip_seconds: float | None
    parameters: int
    trainable: int
    answer_flops: int
    step_flops: int
    step_traffic: int
    idle_memory: int
    answer_memory: int
    step_memory: int
    device_memory: int | None
    answer_seconds: float
    waveform_seconds: float | None
    first_step_seconds: float
    step_seconds: tuple[float, ...]
    ceilings: Ceilings

    @property
    def step_median(self) -> float:
        """Seconds of a training step."""
        return statistics.median(self.step_seconds)

    @property
    def step_floor(self) -> float:
        """Seconds that the machine's ceilings leave for a training step, if it does nothing but its products."""
        return self.ceilings.floor(self.step_flops, self.step_traffic)

    @property
    def times_the_floor(self) -> float:
        """How far the training step is from its floor; 1 would be all that the machine can do."""
        return self.step_median / self.step_floor

    @property
    def answer_floor(self) -> float:
        """Seconds that the ceilings leave for an answer to one clip, which reads each weight once."""
        return self.ceilings.floor(self.answer_flops, 4 * self.parameters)

    def real_time_factor(self, seconds: float | None) -> float | None:
        """Return the seconds of sound dealt with in a second, if a clip takes ``seconds``."""
        return None if seconds is None or self.clip_seconds is None else self.clip_seconds / seconds

    def to_dict(self) -> dict[str, object]:
        """Return the profile as plain data, what follows from the measurements included."""
        return {
            **json.loads(json.dumps(asdict(self))),
            "step_median": self.step_median,
            "step_floor": self.step_floor,
            "times_the_floor": self.times_the_floor,
            "answer_floor": self.answer_floor,
            "real_time_factor": self.real_time_factor(self.answer_seconds),
            "waveform_real_time_factor": self.real_time_factor(self.waveform_seconds),
        }

    def __str__(self) -> str:
        """Return a table."""
        clip = f"{self.n_frames} frames of {' x '.join(map(str, self.frame_shape))}"
        heard = "" if self.clip_seconds is None else f", {self.clip_seconds:.2f} s of sound"
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        rows = {
            "clip": clip + heard,
            "parameters": f"{self.parameters:,}, {self.trainable:,} of them trained",
            "": "",
            **self._step_rows(),
            " ": "",
            **self._answer_rows(),
            "  ": "",
            **self._ceiling_rows(),
        }
        width = max(map(len, rows))
        of = f", as in {self.recipe}" if self.recipe else ""
        return "\n".join(
            [
                f"{self.model}{of}",
                f"{versions}; {self.backend}, {'compiled by XLA' if self.jit_compile else 'not compiled by XLA'}",
                f"{self.device}; {self.cpu}, {self.threads} threads",
                *(f"  {name:<{width}}  {text}".rstrip() for name, text in rows.items()),
            ]
        )

    def _step_rows(self) -> dict[str, str]:
        least, bound = min(self.step_seconds), "products" if self._is_computing else "memory"
        above_idle = self.step_memory - self.idle_memory
        on_device = {} if self.device_memory is None else {"device memory": f"{_size(self.device_memory)} at most"}
        return {
            f"training step, batch {self.batch_size}": f"{_seconds(self.step_median)}, {_seconds(least)} at best of "
            f"{len(self.step_seconds)}; the first {_seconds(self.first_step_seconds)}",
            "operations": f"{_flops(self.step_flops)} in products: {_flops(self.step_flops / self.step_median)}/s",
            "times the floor": f"{self.times_the_floor:.1f} times {_seconds(self.step_floor)}, bound by {bound}",
            "peak memory": f"{_size(self.step_memory)}, {_size(above_idle)} above an idle process",
            **on_device,
        }

    @property
    def _is_computing(self) -> bool:
        return self.step_floor > self.step_traffic / (self.ceilings.copy_gbytes * 1e9)

    def _answer_rows(self) -> dict[str, str]:
        def row(seconds: float) -> str:
            factor = self.real_time_factor(seconds)
            return _seconds(seconds) + ("" if factor is None else f", {factor:,.0f} times real time")

        waveform = {} if self.waveform_seconds is None else {"waveform to answer": row(self.waveform_seconds)}
        return {
            "features to answer, batch 1": row(self.answer_seconds),
            **waveform,
            "operations of an answer": f"{_flops(self.answer_flops)} in products",
            "the answer's floor": _seconds(self.answer_floor),
            "peak memory of answers": f"{_size(self.answer_memory)}; idle {_size(self.idle_memory)}",
        }

    def _ceiling_rows(self) -> dict[str, str]:
        own = {
            f"  of its own, {_shape(product.shape)}": f"{_flops(product.gflops * 1e9)}/s"
            for product in self.ceilings.products
        }
        return {
            "ceiling: matrix product": f"{_flops(self.ceilings.matmul_gflops * 1e9)}/s",
            **own,
            "ceiling: copy": f"{self.ceilings.copy_gbytes:.1f} GB/s, read and written",
        }


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
    """Measure a model, with fresh weights, in a process of its own.

    Nothing is read but the model: features and targets are random numbers. A training step is that of cross-entropy;
    objectives and networks beside the model are left out. After a minute of training steps no further one is begun.

    Args:
        model: a model's name, whose first recipe decides features, batch and settings; a recipe, by name, file or
            itself; a trained ``.keras`` file or a fold's folder; or a model or classifier itself.
        batch_size: clips of a training step, as in the recipe unless given.
        n_frames: frames of a clip, as the features have unless given.
        seconds: length of a clip, instead of ``n_frames``.
        jit_compile: whether XLA compiles, as in the recipe unless given. On JAX it always does.
        repeats: training steps measured after the first.
        changes: values of the recipe to be replaced, as :meth:`serzoo.Recipe.override` takes them.

    Raises:
        UnknownNameError: no such model, recipe or file, with the nearest match.
        ConfigError: a simple classifier, an argument out of range, or a model and batch that the memory does not hold.
        FeatureError: clips of a length that the model does not take.
    """
    for name, value in (("batch_size", batch_size), ("n_frames", n_frames), ("repeats", repeats)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigError(f"{name} is {value!r}; it must be an integer of at least 1.")
    if seconds is not None and (n_frames is not None or not 0 < seconds < math.inf):
        raise ConfigError(f"seconds is {seconds!r}; give a length above 0, and no n_frames beside it.")
    job = {
        **_job(model, changes or {}),
        "batch_size": batch_size,
        "n_frames": n_frames,
        "seconds": seconds,
        "jit_compile": jit_compile,
        "repeats": repeats,
    }
    return _from_dict(_run_apart(job))


def _job(model: str | Path | Recipe | SERModel | Classifier, changes: Mapping[str, object]) -> dict[str, Any]:
    """Return as plain data what the other process is to build; it is light unless a model is given."""
    from serzoo.recipes import Recipe

    if isinstance(model, Recipe):
        return _recipe_job(model, changes)
    if not isinstance(model, (str, Path)):
        return _model_job(model, changes)
    found = _named_recipe(model)
    if found is not None:
        return _recipe_job(found, changes)
    if changes:
        raise ConfigError(f"{model} is trained and cannot be changed; name a model or a recipe to change.")
    return {"file": str(_keras_file(model))}


def _named_recipe(model: str | Path) -> Recipe | None:
    """Return the recipe that a name stands for, a model's name included; None for a file or folder of a model."""
    from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
    from serzoo.models import MODELS
    from serzoo.profiling.measuring import first_recipe
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
    raise unknown_name("model or config", name, [*MODELS, *list_recipes()])


def _keras_file(source: str | Path) -> Path:
    """Return the file that a path, or a fold's folder, stands for."""
    from serzoo.zoo import WEIGHT_FILES, model_file

    path = model_file(source)
    if path.suffix in WEIGHT_FILES:
        name = WEIGHT_FILES[path.suffix]
        raise ConfigError(f"{path} holds weights alone, which cost what any others do; name their model, {name}.")
    return path


def _recipe_job(recipe: Recipe, changes: Mapping[str, object]) -> dict[str, Any]:
    from serzoo.experiments.setup import prepare_recipe
    from serzoo.models import MODELS
    from serzoo.profiling.measuring import class_names_of

    recipe = prepare_recipe(recipe, changes)
    if recipe.model.name not in MODELS:
        raise _not_a_network(recipe.model.name)
    if not class_names_of(recipe):
        raise ConfigError(
            f"{recipe.name} has the classes that its recordings have; say how many there are: "
            "--set 'class_names=[a, b, c]'."
        )
    return {"recipe": recipe.to_dict(), "class_names": list(class_names_of(recipe))}


def _model_job(given: SERModel | Classifier, changes: Mapping[str, object]) -> dict[str, Any]:
    from serzoo.classifier import Classifier
    from serzoo.profiling.measuring import name_of

    model = given.model if isinstance(given, Classifier) else given
    job = {"name": name_of(model), "config": model.get_config()}
    if changes:
        raise ConfigError("a model that is built cannot be changed; give its name or a recipe with changes.")
    return job


def _not_a_network(name: str) -> ConfigError:
    return ConfigError(f"{name} is a simple classifier, not a network, and has no training steps; name a network.")


def _run_apart(job: dict[str, Any]) -> dict[str, Any]:
    """Do the job in a new process and return its answer; its errors are raised here."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    if "keras" in sys.modules:
        environment["KERAS_BACKEND"] = sys.modules["keras"].backend.backend()
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [_import_folder(), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "serzoo.profiling.measuring"]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, env=environment)
    answer = done.stdout.rpartition("\n")[2]
    if done.returncode == 0 and answer:
        found = json.loads(answer)
        if "error" in found:
            raise getattr(errors, found["error"], SerzooError)(found["message"])
        return found
    if done.returncode < 0:
        raise ConfigError(
            f"The measuring process was ended by signal {-done.returncode}, as happens when memory runs out; "
            "choose a smaller batch or shorter clips."
        )
    if _is_out_of_memory(done.stderr):
        raise ConfigError("The memory does not hold the training step; choose a smaller batch or shorter clips.")
    raise RuntimeError(f"the measuring process ended with {done.returncode}:\n{done.stderr}")


def _import_folder() -> str:
    """Return the folder that this serzoo is imported from, so that the other process imports the same."""
    return str(Path(__file__).resolve().parents[2])


def _is_out_of_memory(text: str) -> bool:
    return any(words in text for words in ("MemoryError", "RESOURCE_EXHAUSTED", "ResourceExhausted", "OOM when"))


def _from_dict(values: Mapping[str, Any]) -> Profile:
    """Return the profile of the other process's answer."""
    ceilings = values["ceilings"]
    rates = tuple(ProductRate(tuple(rate["shape"]), rate["gflops"]) for rate in ceilings["products"])
    own = {field.name: values[field.name] for field in fields(Profile)}
    own["ceilings"] = Ceilings(ceilings["matmul_gflops"], ceilings["copy_gbytes"], rates)
    return Profile(
        **{**own, "frame_shape": tuple(own["frame_shape"]), "step_seconds": tuple(own["step_seconds"])},
    )


def _seconds(seconds: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 1e-6:.3g} us"


def _flops(flops: float) -> str:
    for unit, name in ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")):
        if flops >= unit:
            return f"{flops / unit:.3g} {name}"
    return f"{flops / 1e3:.3g} kFLOP"


def _size(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _shape(shape: Sequence[int]) -> str:
    batch, m, k, n = shape
    return f"{m} x {k} x {n}" if batch == 1 else f"{batch} of {m} x {k} x {n}"
