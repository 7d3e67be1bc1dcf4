"""The process that measures a model: ``python -m serzoo.profiling.measuring``, started by ``serzoo.profiling``."""

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
from serzoo.profiling.benchmark import first_recipe, name_of

if TYPE_CHECKING:
    from serzoo.features.spec import FeatureSpec
    from serzoo.models.base import SERModel
    from serzoo.profiling.operations import Shape
    from serzoo.settings import TrainingConfig

ADAM_TRAFFIC = 6
"""Least number of transfers per weight in a step: the weight and Adam's two moments, read and written."""

_SQUARE = 2048
_COPIED_BYTES = 256_000_000
_PRODUCT_BYTES = 256_000_000
_MEASURED_PRODUCTS = 3
_STEP_BUDGET, _PREDICTION_BUDGET, _CEILING_BUDGET = 60.0, 2.0, 1.0
"""Seconds after which no further training step, prediction or run of a ceiling begins."""


def main() -> None:
    """Read a job from stdin and print its result, or its error, as the last line of stdout."""
    job = json.load(sys.stdin)
    try:
        result = measure(job)
    except SerzooError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    print("\n" + json.dumps(result), end="")


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of :class:`serzoo.profiling.Profile`.

    Args:
        job: model and options, as :func:`serzoo.profiling.profile` writes them.
    """
    # Counting comes last and predictions before training steps: peak memory only rises.
    backend = _backend()
    backend.compile(lambda x: x + 1)(np.ones(1, np.float32))  # starts the backend
    idle_memory = _memory("VmRSS")
    model, recipe, training = _subject(job)
    n_frames = _clip_frames(model, job)
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
        **_predictions(backend, model, n_frames, training.jit_compile),
        **_steps(backend, model, training, n_frames, batch_size, job["repeats"]),
    }


def _predictions(backend: Any, model: SERModel, n_frames: int, jit_compile: bool) -> dict[str, Any]:
    """Measure the time of a clip, from features and from samples, and the memory until then."""
    clip = np.random.default_rng(0).standard_normal((1, n_frames, *model.frame_shape), np.float32)
    spec = model.feature_spec
    n_samples = None if spec is None else _samples_in(spec, n_frames)
    predict = backend.predictor(model, lambda features: _inputs(model, features), jit_compile)
    times = {"prediction_seconds": _median(lambda: predict(clip)), "waveform_seconds": None, "clip_seconds": None}
    if spec is not None and n_samples is not None:
        times["waveform_seconds"] = _waveform_seconds(backend, model, spec, n_frames, n_samples, jit_compile)
        times["clip_seconds"] = n_samples / spec.sample_rate
    return {**times, "prediction_memory": _memory("VmHWM")}


def _steps(
    backend: Any, model: SERModel, training: TrainingConfig, n_frames: int, batch_size: int, repeats: int
) -> dict[str, Any]:
    """Measure training steps and the machine's ceilings, and count operations.

    The large product alternates with the steps, so that other work on the machine slows both alike.
    """
    from serzoo.profiling.operations import count_operations

    step = _training_step(model, training, n_frames, batch_size)
    first = timed(step)
    start = time.perf_counter()
    seconds = [timed(step)]
    memory = {"step_memory": _memory("VmHWM"), "device_memory": backend.device_memory()}
    square = _product(backend, (1, _SQUARE, _SQUARE, _SQUARE))
    rates = [square()]
    while len(seconds) < repeats and time.perf_counter() - start < _STEP_BUDGET:
        seconds.append(timed(step))
        rates.append(square())
    batch = count_operations(model, batch_size, n_frames)
    ceilings = measure_ceilings(batch.largest(_MEASURED_PRODUCTS))
    ceilings["matmul_gflops"] = max(ceilings["matmul_gflops"], *rates)
    weights = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return {
        **memory,
        "first_step_seconds": first,
        "step_seconds": seconds,
        "prediction_flops": count_operations(model, 1, n_frames).flops,
        "step_flops": batch.step_flops,
        "step_traffic": 4 * ADAM_TRAFFIC * weights + 2 * batch.output_bytes,
        "ceilings": ceilings,
    }


def _subject(job: Mapping[str, Any]) -> tuple[SERModel, str, TrainingConfig]:
    """Return the model, the name of its recipe (empty if none) and the training settings."""
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
    """Return the frames of a clip: the job's, the model's, or those of its features."""
    from serzoo.models.base import check_features_shape

    spec, n_frames = model.feature_spec, job["n_frames"]
    if job["seconds"] is not None:
        if spec is None or not spec.hop_length:
            raise ConfigError(f"the features of {model.name} have no frames per second; leave seconds out.")
        n_frames = spec.frames_in(round(job["seconds"] * spec.sample_rate))
    n_frames = n_frames or model.features_shape[0] or (None if spec is None else spec.n_frames)
    if n_frames is None:
        raise ConfigError(f"{model.name} takes clips of any length; give n_frames (--frames) or seconds (--seconds).")
    check_features_shape(model, (n_frames, *model.frame_shape), "the clips to be measured have")
    return n_frames


def _inputs(model: SERModel, features: Any) -> Any:
    """Return the model's inputs for some features; the gender of a model that takes it is unknown, 0.5."""
    import keras

    from serzoo.data.examples import network_inputs

    if not model.takes_gender:
        return network_inputs(features, None)
    full = np.full if isinstance(features, np.ndarray) else keras.ops.full  # the inputs must be of one kind
    return network_inputs(features, full((features.shape[0],), 0.5, "float32"))


def _samples_in(spec: FeatureSpec, n_frames: int) -> int | None:
    """Return the samples of a clip of ``n_frames``.

    None where no number of samples gives as many frames, or a recording of any duration is one frame.
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
    """Return the seconds from a clip's samples to its prediction, None where no layer computes the features."""
    from serzoo.features.frontend import FRONT_ENDS, front_end

    if spec.kind not in FRONT_ENDS:
        return None
    extract = front_end(replace(spec, n_samples=None, segment_frames=None))  # type: ignore[call-arg]
    extract.build((1, n_samples))
    predict = backend.predictor(model, lambda samples: _inputs(model, extract(samples)[:, :n_frames]), jit_compile)
    samples = 0.1 * np.random.default_rng(0).standard_normal((1, n_samples), np.float32)
    return _median(lambda: predict(samples))


def _training_step(
    model: SERModel, training: TrainingConfig, n_frames: int, batch_size: int
) -> Callable[[], np.ndarray]:
    """Return a training step that waits for its loss."""
    from serzoo.training.compiling import compile_network

    random = np.random.default_rng(0)
    inputs = _inputs(model, random.standard_normal((batch_size, n_frames, *model.frame_shape), np.float32))
    targets = np.eye(model.n_classes, dtype=np.float32)[random.integers(model.n_classes, size=batch_size)]
    compile_network(model, model, training)
    return lambda: np.asarray(model.train_on_batch(inputs, targets))


def measure_ceilings(shapes: Sequence[Shape] = ()) -> dict[str, Any]:
    """Return the fields of :class:`serzoo.profiling.Ceilings`, measured on Keras's backend and in NumPy.

    Args:
        shapes: products to measure as well, with fewer rows where an array would exceed 256 MB.
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
    """Return a function that measures a product in 10^9 operations per second, the faster of backend and NumPy."""
    import keras

    batch, m, k, n = shape
    random = np.random.default_rng(0)
    sizes = ((batch, m, k), (batch, k, n)) if batch > 1 else ((m, k), (k, n))
    left, right = (random.standard_normal(size, np.float32) for size in sizes)

    def multiply(one: Any, other: Any) -> tuple[Any, Any]:
        product = keras.ops.matmul(one, other)
        return product, product[..., :1, :1]  # a small result to wait for, without copying the product

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
    target = np.ones_like(source)  # written once here: the system allocates memory at the first write
    on_device = keras.ops.convert_to_tensor(source)

    def increment(values: Any) -> tuple[Any, Any]:
        result = values + 1
        return result, result[:1]  # a small result to wait for

    threads = _cpus()
    compiled = backend.compile(increment)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        ways: list[Callable[[], object]] = [
            lambda: np.asarray(compiled(on_device)[1]),
            lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)),
        ]
        return 2 * source.nbytes / _least(ways) / 1e9


def _least(ways: Sequence[Callable[[], object]]) -> float:
    """Return the seconds of the fastest call of the fastest function."""
    return min(min(_repeated(way, 10, _CEILING_BUDGET / 2)) for way in ways)


def _median(function: Callable[[], object]) -> float:
    """Return the median seconds of a call, after a first one that compiles."""
    return statistics.median(_repeated(function, 100, _PREDICTION_BUDGET))


def _repeated(function: Callable[[], object], repeats: int, budget: float) -> list[float]:
    """Return the seconds of up to ``repeats`` calls after a first one; none begins after ``budget`` seconds."""
    function()
    start = time.perf_counter()
    seconds = [timed(function)]
    while len(seconds) < repeats and time.perf_counter() - start < budget:
        seconds.append(timed(function))
    return seconds


def timed(function: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _backend() -> Any:
    """Return the functions that depend on Keras's backend.

    Raises:
        ConfigError: the backend is neither TensorFlow nor JAX.
    """
    import keras

    name = keras.backend.backend()
    if name not in _BACKENDS:
        raise ConfigError(f"Keras runs on {name}; set KERAS_BACKEND to one of: {', '.join(_BACKENDS)}.")
    return _BACKENDS[name]()


class _TensorFlow:
    """Compilation, device and memory in TensorFlow."""

    name = "tensorflow"

    def compile(self, function: Callable[..., Any], jit_compile: bool = True) -> Callable[..., Any]:
        import tensorflow as tf

        return tf.function(function, jit_compile=jit_compile, autograph=False)

    def predictor(
        self, model: SERModel, prepare: Callable[[Any], Any], jit_compile: bool
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return a compiled function from an array to the model's prediction."""
        compiled = self.compile(lambda array: model(prepare(array), training=False), jit_compile)
        return lambda array: np.asarray(compiled(array))

    def device(self) -> str:
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"

    def device_memory(self) -> int | None:
        import tensorflow as tf

        has_gpu = tf.config.list_logical_devices("GPU")
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] if has_gpu else None

    def threads(self) -> int:
        return int(os.environ.get("TF_NUM_INTRAOP_THREADS") or _cpus())


class _JAX:
    """Compilation, device and memory in JAX."""

    name = "jax"

    def compile(self, function: Callable[..., Any], jit_compile: bool = True) -> Callable[..., Any]:
        import jax

        del jit_compile
        return jax.jit(function)

    def predictor(
        self, model: SERModel, prepare: Callable[[Any], Any], jit_compile: bool
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return a compiled function from an array to the model's prediction."""
        # As arguments: weights in a closure would be compiled as constants.
        weights = [
            [variable.value for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        compiled = self.compile(lambda w, array: model.stateless_call(*w, prepare(array), training=False)[0])
        return lambda array: np.asarray(compiled(weights, array))

    def device(self) -> str:
        import jax

        return jax.local_devices()[0].device_kind

    def device_memory(self) -> int | None:
        import jax

        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    def threads(self) -> int:
        return _cpus()


_BACKENDS = {"tensorflow": _TensorFlow, "jax": _JAX}


def _memory(name: str) -> int:
    """Return memory of this process in bytes: ``VmRSS`` in use now, ``VmHWM`` the peak.

    Without /proc both are the peak, possibly that of the parent process.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _cpus() -> int:
    """Return the number of processors that this process may use."""
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
