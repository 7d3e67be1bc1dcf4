"""What a model costs on this machine, measured in a process in which nothing else has happened.

``python -m serzoo.profiling.measuring`` is that process, which :mod:`serzoo.profiling` starts, since the peak memory of
a process never falls.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serzoo.errors import ConfigError, SerzooError
from serzoo.profiling.hlo import count_products

if TYPE_CHECKING:
    from serzoo.features.spec import FeatureSpec
    from serzoo.models.base import SERModel
    from serzoo.recipes import Recipe
    from serzoo.settings import TrainingConfig

ADAM_TRAFFIC = 6
"""How often each weight's size travels in a step at least: the weight and Adam's two moments, read and written."""

_SQUARE = 2048
_COPIED_BYTES = 256_000_000
_PRODUCT_BYTES = 256_000_000
_MEASURED_PRODUCTS = 3
_STEP_BUDGET, _ANSWER_BUDGET, _CEILING_BUDGET = 60.0, 2.0, 1.0
"""Seconds after which nothing more is repeated, for the training step, for answers to a clip and for each ceiling."""

Shape = tuple[int, int, int, int]
"""Batch, m, k and n of a product (batch, m, k) times (batch, k, n)."""


def first_recipe(name: str) -> Recipe:
    """Return the first recipe of a model whose classes are known without recordings.

    Raises:
        ConfigError: there is none.
    """
    from serzoo.recipes import list_recipes, load_recipe

    for recipe in map(load_recipe, list_recipes()):
        if recipe.model.name == name and class_names_of(recipe):
            return recipe
    raise ConfigError(f"No recipe says which features {name} takes; name a recipe or a trained model.")


def class_names_of(recipe: Recipe) -> Sequence[str]:
    """Return the names of the classes, empty where only the recordings tell."""
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


def main() -> None:
    """Read a job from stdin, do it, and print its answer, or its error, as the last line of stdout."""
    job = json.load(sys.stdin)
    try:
        answer = measure(job)
    except SerzooError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print("\n" + json.dumps(answer), end="")


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of :class:`serzoo.profiling.Profile`, what needs least memory measured first.

    Args:
        job: what to measure, as :func:`serzoo.profiling.profile` writes it.
    """
    backend = _backend()
    backend.compile(lambda x: x + 1)(np.ones(1, np.float32))  # starts the backend
    idle_memory = _memory("VmRSS")
    model, recipe, training = _subject(job)
    n_frames = _clip_frames(model, job)
    clip = np.random.default_rng(0).standard_normal((1, n_frames, *model.frame_shape), np.float32)
    batch_size = job["batch_size"] or training.batch_size
    return {
        "model": model.name,
        "recipe": recipe,
        "backend": backend.name,
        "versions": {name: version(name) for name in ("serzoo", "keras", backend.name)},
        "device": backend.device(),
        "cpu": _cpu(),
        "threads": backend.threads(),
        "jit_compile": training.jit_compile,
        "batch_size": batch_size,
        "n_frames": n_frames,
        "frame_shape": model.frame_shape,
        "parameters": model.count_params(),
        "trainable": sum(math.prod(weight.shape) for weight in model.trainable_weights),
        "idle_memory": idle_memory,
        **_answers(backend, model, clip, training.jit_compile),
        **_steps(backend, model, training, n_frames, batch_size, job["repeats"]),
        "answer_flops": count_products(backend.forward_text(model, _inputs(model, clip))).flops,
    }


def _answers(backend: Any, model: SERModel, clip: np.ndarray, jit_compile: bool) -> dict[str, Any]:
    """Measure how long a clip takes, from features and from samples, and the memory until then."""
    spec, n_frames = model.feature_spec, clip.shape[1]
    n_samples = None if spec is None else _samples_in(spec, n_frames)
    answer = backend.predictor(model, lambda features: _inputs(model, features), jit_compile)
    times = {"answer_seconds": _median(lambda: answer(clip)), "waveform_seconds": None, "clip_seconds": None}
    if spec is not None and n_samples is not None:
        times["waveform_seconds"] = _waveform_seconds(backend, model, spec, n_frames, n_samples, jit_compile)
        times["clip_seconds"] = n_samples / spec.sample_rate
    return {**times, "answer_memory": _memory("VmHWM")}


def _steps(
    backend: Any, model: SERModel, training: TrainingConfig, n_frames: int, batch_size: int, repeats: int
) -> dict[str, Any]:
    """Measure training steps and, in turns with them, the fastest product; then the other ceilings, and count."""
    step, batch = _training_step(model, training, n_frames, batch_size)
    first = timed(step)
    start = time.perf_counter()
    seconds = [timed(step)]
    memory = {"step_memory": _memory("VmHWM"), "device_memory": backend.device_memory()}
    square = _product(backend, (1, _SQUARE, _SQUARE, _SQUARE))
    rates = [square()]
    while len(seconds) < repeats and time.perf_counter() - start < _STEP_BUDGET:
        seconds.append(timed(step))
        rates.append(square())
    trained = count_products(backend.step_text(model, *batch))
    forward = count_products(backend.forward_text(model, batch[0]))
    ceilings = measure_ceilings([product.shape for product in trained.largest(_MEASURED_PRODUCTS)])
    ceilings["matmul_gflops"] = max(ceilings["matmul_gflops"], *rates)
    weights = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return {
        **memory,
        "first_step_seconds": first,
        "step_seconds": seconds,
        "step_flops": trained.flops,
        "step_traffic": 4 * ADAM_TRAFFIC * weights + 2 * forward.output_bytes,
        "ceilings": ceilings,
    }


def _subject(job: Mapping[str, Any]) -> tuple[SERModel, str, TrainingConfig]:
    """Return the model, the name of its recipe and the training settings, of which no other than jit is the job's."""
    from serzoo.models import MODELS
    from serzoo.recipes import recipe_from_dict
    from serzoo.zoo import build, load

    if "recipe" in job:
        recipe = recipe_from_dict(job["recipe"])
        arguments = recipe.model.arguments
        model = build(recipe.model.name, class_names=job["class_names"], feature_spec=recipe.features, **arguments)
        name, training = recipe.name, recipe.training
    elif "file" in job:
        model = load(job["file"]).model
        training, name = first_recipe(name_of(model)).training, ""
    else:
        model = MODELS.get(job["name"]).load().from_config(job["config"])
        training, name = first_recipe(job["name"]).training, ""
    jit_compile = training.jit_compile if job["jit_compile"] is None else job["jit_compile"]
    return model, name, replace(training, jit_compile=jit_compile or _backend().name == "jax")


def _clip_frames(model: SERModel, job: Mapping[str, Any]) -> int:
    """Return the frames of a clip: those asked for, those the model is built for, or those of its features."""
    from serzoo.models.base import check_features_shape

    spec, n_frames = model.feature_spec, job["n_frames"]
    if job["seconds"] is not None:
        if spec is None or not spec.hop_length:
            raise ConfigError(f"{model.name} has no features whose frames are counted in seconds; leave seconds out.")
        n_frames = spec.frames_in(round(job["seconds"] * spec.sample_rate))
    n_frames = n_frames or model.features_shape[0] or (None if spec is None else spec.n_frames)
    if n_frames is None:
        raise ConfigError(f"{model.name} takes clips of any length; give n_frames (--frames) or seconds (--seconds).")
    check_features_shape(model, (n_frames, *model.frame_shape), "the clips to be measured have")
    return n_frames


def _inputs(model: SERModel, features: Any) -> Any:
    """Return a network's inputs: the features, and speakers of whom nothing is known where it takes the gender."""
    import keras

    from serzoo.data.examples import network_inputs

    if not model.takes_gender:
        return network_inputs(features, None)
    full = np.full if isinstance(features, np.ndarray) else keras.ops.full  # a network takes one kind or the other
    return network_inputs(features, full((features.shape[0],), 0.5, "float32"))


def _samples_in(spec: FeatureSpec, n_frames: int) -> int | None:
    """Return the samples of a clip of ``n_frames``.

    None where no length has as many, or a recording of any length is one frame.
    """
    if not spec.hop_length:
        return None
    if spec.n_samples is not None and spec.frames_in(spec.n_samples) == n_frames:
        return spec.n_samples
    n_samples = max(spec.min_samples, (n_frames - 1) * spec.hop_length)
    while spec.frames_in(n_samples) < n_frames:
        n_samples += spec.hop_length
    return n_samples if spec.frames_in(n_samples) == n_frames else None


def _waveform_seconds(
    backend: Any, model: SERModel, spec: FeatureSpec, n_frames: int, n_samples: int, jit_compile: bool
) -> float | None:
    """Return the seconds from a clip's samples to its answer, None where no layer computes the features."""
    from serzoo.features.frontend import FRONT_ENDS, front_end

    if spec.kind not in FRONT_ENDS:
        return None
    listen = front_end(replace(spec, n_samples=None, segment_frames=None))  # type: ignore[call-arg]
    listen.build((1, n_samples))
    answer = backend.predictor(model, lambda samples: _inputs(model, listen(samples)[:, :n_frames]), jit_compile)
    samples = 0.1 * np.random.default_rng(0).standard_normal((1, n_samples), np.float32)
    return _median(lambda: answer(samples))


def _training_step(
    model: SERModel, training: TrainingConfig, n_frames: int, batch_size: int
) -> tuple[Callable[[], object], tuple[Any, np.ndarray]]:
    """Return a training step that waits for its loss, and its batch."""
    from serzoo.training.compiling import compile_network

    random = np.random.default_rng(0)
    features = random.standard_normal((batch_size, n_frames, *model.frame_shape), np.float32)
    targets = np.eye(model.n_classes, dtype=np.float32)[random.integers(model.n_classes, size=batch_size)]
    inputs = _inputs(model, features)
    compile_network(model, model, training)
    return lambda: np.asarray(model.train_on_batch(inputs, targets)), (inputs, targets)


def measure_ceilings(shapes: Sequence[Shape] = ()) -> dict[str, Any]:
    """Return the fields of :class:`serzoo.profiling.Ceilings`, measured on Keras's backend and in NumPy.

    Args:
        shapes: products to be measured too; rows are left out where an array would take more than 256 MB.
    """
    backend = _backend()
    measured = [(shape, _product(backend, shape)()) for shape in map(_shortened, shapes)]
    fastest = max(_product(backend, (1, _SQUARE, _SQUARE, _SQUARE))(), *(rate for _, rate in measured), 0.0)
    products = [{"shape": shape, "gflops": rate} for shape, rate in measured]
    return {"matmul_gflops": fastest, "copy_gbytes": _copy_rate(backend), "products": products}


def _shortened(shape: Shape) -> Shape:
    """Return the shape with so few rows that no array is larger than 256 MB."""
    batch, m, k, n = shape
    return batch, min(m, max(1, _PRODUCT_BYTES // (4 * batch * max(k, n)))), k, n


def _product(backend: Any, shape: Shape) -> Callable[[], float]:
    """Return what measures a product in 10^9 operations per second, the faster of backend and NumPy."""
    import keras

    batch, m, k, n = shape
    random = np.random.default_rng(0)
    sizes = ((batch, m, k), (batch, k, n)) if batch > 1 else ((m, k), (k, n))
    left, right = (random.standard_normal(size, np.float32) for size in sizes)

    def multiply(one: Any, other: Any) -> tuple[Any, Any]:
        product = keras.ops.matmul(one, other)
        return product, product[..., :1, :1]  # which is waited for

    compiled, on_device = backend.compile(multiply), [keras.ops.convert_to_tensor(array) for array in (left, right)]
    ways: list[Callable[[], object]] = [
        lambda: np.asarray(compiled(*on_device)[1]),
        lambda: np.matmul(left, right),
    ]
    return lambda: 2 * batch * m * k * n / _least(ways) / 1e9


def _copy_rate(backend: Any) -> float:
    """Return 10^9 bytes read and written per second, the faster of backend and NumPy in threads."""
    import keras

    source = np.ones(_COPIED_BYTES // 4, np.float32)
    target = np.ones_like(source)  # the system gives memory when it is first written
    on_device = keras.ops.convert_to_tensor(source)

    def pass_on(values: Any) -> tuple[Any, Any]:
        moved = values + 1
        return moved, moved[:1]  # which is waited for

    compiled, threads = backend.compile(pass_on), _cpus()
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        ways: list[Callable[[], object]] = [
            lambda: np.asarray(compiled(on_device)[1]),
            lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)),
        ]
        return 2 * source.nbytes / _least(ways) / 1e9


def _least(ways: Sequence[Callable[[], object]]) -> float:
    """Return the seconds of the fastest call of the fastest way."""
    return min(min(_repeated(way, 10, _CEILING_BUDGET / 2)) for way in ways)


def _median(function: Callable[[], object]) -> float:
    """Return the seconds of a call, compiled before."""
    return statistics.median(_repeated(function, 100, _ANSWER_BUDGET))


def _repeated(function: Callable[[], object], repeats: int, budget: float) -> list[float]:
    """Return the seconds of calls after a first one: at most ``repeats``, none begun after ``budget`` seconds."""
    function()
    start = time.perf_counter()
    seconds = [timed(function)]
    while len(seconds) < repeats and time.perf_counter() - start < budget:
        seconds.append(timed(function))
    return seconds


def timed(function: Callable[[], object]) -> float:
    """Return how long a call takes, in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _backend() -> Any:
    """Return what depends on Keras's backend.

    Raises:
        ConfigError: neither TensorFlow nor JAX.
    """
    import keras

    name = keras.backend.backend()
    if name not in _BACKENDS:
        raise ConfigError(f"Keras runs on {name}; set KERAS_BACKEND to one that is measured: {', '.join(_BACKENDS)}.")
    return _BACKENDS[name]()


class _TensorFlow:
    """How a function is compiled, and written down, by TensorFlow."""

    name = "tensorflow"

    def compile(self, function: Callable[..., Any], jit_compile: bool = True) -> Callable[..., Any]:
        import tensorflow as tf

        return tf.function(function, jit_compile=jit_compile, autograph=False)

    def predictor(
        self, model: SERModel, prepare: Callable[[Any], Any], jit_compile: bool
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return a compiled function from an array to the model's answer."""
        compiled = self.compile(lambda array: model(prepare(array), training=False), jit_compile)
        return lambda array: np.asarray(compiled(array))

    def forward_text(self, model: SERModel, inputs: Any) -> str:
        """Return the HLO of an answer."""
        return self._text(lambda arrays: model(arrays, training=False), inputs)

    def step_text(self, model: SERModel, inputs: Any, targets: np.ndarray) -> str:
        """Return the HLO of a training step."""
        return self._text(lambda arrays, classes: model.train_step((arrays, classes)), inputs, targets)

    def device(self) -> str:
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"

    def device_memory(self) -> int | None:
        import tensorflow as tf

        return (
            tf.config.experimental.get_memory_info("GPU:0")["peak"] if tf.config.list_logical_devices("GPU") else None
        )

    def threads(self) -> int:
        return int(os.environ.get("TF_NUM_INTRAOP_THREADS") or _cpus())

    def _text(self, function: Callable[..., Any], *arrays: Any) -> str:
        return self.compile(function).experimental_get_compiler_ir(*arrays)(stage="hlo")  # type: ignore[attr-defined]


class _JAX:
    """How a function is compiled, and written down, by JAX."""

    name = "jax"

    def compile(self, function: Callable[..., Any], jit_compile: bool = True) -> Callable[..., Any]:
        import jax

        del jit_compile
        return jax.jit(function)

    def predictor(
        self, model: SERModel, prepare: Callable[[Any], Any], jit_compile: bool
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return a compiled function from an array to the model's answer."""
        weights = self._weights(model)
        compiled = self.compile(lambda w, array: model.stateless_call(*w, prepare(array), training=False)[0])
        return lambda array: np.asarray(compiled(weights, array))

    def forward_text(self, model: SERModel, inputs: Any) -> str:
        """Return the HLO of an answer."""
        forward = self.compile(lambda weights, arrays: model.stateless_call(*weights, arrays, training=False)[0])
        return forward.lower(self._weights(model), inputs).as_text("hlo")  # type: ignore[attr-defined]

    def step_text(self, model: SERModel, inputs: Any, targets: np.ndarray) -> str:
        """Return the HLO of a training step."""
        kept = model.optimizer.variables, model.metrics_variables
        state = (*self._weights(model), *([variable.value for variable in some] for some in kept))
        return self.compile(model.train_step).lower(state, (inputs, targets)).as_text("hlo")  # type: ignore[attr-defined]

    def device(self) -> str:
        import jax

        return jax.local_devices()[0].device_kind

    def device_memory(self) -> int | None:
        import jax

        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    def threads(self) -> int:
        return _cpus()

    def _weights(self, model: SERModel) -> tuple[list[Any], list[Any]]:
        trained, kept = model.trainable_variables, model.non_trainable_variables
        return [variable.value for variable in trained], [variable.value for variable in kept]


_BACKENDS = {"tensorflow": _TensorFlow, "jax": _JAX}


def _memory(name: str) -> int:
    """Return memory of this process in bytes: ``VmRSS`` held now, ``VmHWM`` held at most.

    Where the system has no /proc, both are the most so far, which a parent's memory may be in.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
