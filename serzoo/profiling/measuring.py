"""Measure a model; :mod:`serzoo.profiling.benchmark` does so in a process of its own."""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
import time
import timeit
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from joblib import cpu_count

from serzoo.data.examples import network_inputs
from serzoo.errors import ConfigError
from serzoo.features.frontend import FRONT_ENDS, front_end
from serzoo.models.base import check_features_shape
from serzoo.profiling.costs import Ceilings, ProductRate, Profile
from serzoo.profiling.operations import Shape, count_operations
from serzoo.training.compiling import compile_network

if TYPE_CHECKING:
    from serzoo.features.spec import FeatureSpec
    from serzoo.models.base import SERModel
    from serzoo.settings import TrainingConfig

_SQUARE = 2048
_COPIED_BYTES = 256_000_000
_PRODUCT_BYTES = 256_000_000
_STEP_BUDGET = 60  # seconds after which no further training step begins


def measure(
    build: Callable[[], SERModel],
    recipe: str,
    training: TrainingConfig,
    n_frames: int | None,
    seconds: float | None,
    repeats: int,
) -> Profile:
    """Measure a model in a process that has not done anything else, since its peak memory never falls.

    Args:
        build: returns the model.
        recipe: name of its recipe; empty if there is none.
        training: settings of the training steps.
        n_frames, seconds, repeats: as in :func:`serzoo.profiling.profile`.

    Raises:
        ConfigError: Keras's backend is neither TensorFlow nor JAX, or the length of clips is missing.
        FeatureError: clips of a length that the model does not take.
    """
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise ConfigError(f"Keras runs on {backend}; set KERAS_BACKEND to one of: tensorflow, jax.")
    _compiled(lambda x: x + 1)(np.ones(1, np.float32))  # starts the backend
    idle_memory = _memory("VmRSS")
    model, jit_compile = build(), training.jit_compile or _on_jax()
    n_frames = _clip_frames(model, n_frames, seconds)
    return Profile(
        model=model.name,
        recipe=recipe,
        backend=backend,
        versions={name: version(name) for name in ("serzoo", "keras", backend)},
        cpu=_from_proc("cpuinfo", "model name") or platform.processor() or platform.machine(),
        threads=cpu_count() if _on_jax() else int(os.environ.get("TF_NUM_INTRAOP_THREADS") or cpu_count()),
        jit_compile=jit_compile,
        batch_size=training.batch_size,
        n_frames=n_frames,
        frame_shape=model.frame_shape,
        parameters=model.count_params(),
        idle_memory=idle_memory,
        **_predictions(model, n_frames, jit_compile),  # before training steps: peak memory only rises
        **_steps(model, training, n_frames, repeats),
    )


def _clip_frames(model: SERModel, n_frames: int | None, seconds: float | None) -> int:
    """Return the frames of a clip: the given ones, the model's, or those of its features."""
    spec = model.feature_spec
    if seconds is not None:
        if spec is None or not spec.hop_length:
            raise ConfigError(f"the features of {model.name} have no frames per second; leave seconds out.")
        n_frames = spec.frames_in(round(seconds * spec.sample_rate))
    n_frames = n_frames or model.features_shape[0] or (None if spec is None else spec.n_frames)
    if n_frames is None:
        raise ConfigError(f"{model.name} takes clips of any length; give n_frames (--frames) or seconds (--seconds).")
    check_features_shape(model, (n_frames, *model.frame_shape), "the clips to be measured have")
    return n_frames


def _predictions(model: SERModel, n_frames: int, jit_compile: bool) -> dict[str, Any]:
    """Measure the time of a clip, from features and from samples, and the memory until then."""
    random, spec = np.random.default_rng(0), model.feature_spec
    clip = random.standard_normal((1, n_frames, *model.frame_shape), np.float32)
    found: dict[str, Any] = {"waveform_seconds": None, "clip_seconds": None}
    found["prediction_seconds"] = _latency(model, lambda features: features, clip, jit_compile)
    n_samples = None if spec is None else _samples_in(spec, n_frames)
    if spec is not None and n_samples is not None:
        found["clip_seconds"] = n_samples / spec.sample_rate
        if spec.kind in FRONT_ENDS:
            extract = front_end(replace(spec, n_samples=None, segment_frames=None))  # type: ignore[call-arg]
            extract.build((1, n_samples))
            samples = 0.1 * random.standard_normal((1, n_samples), np.float32)
            found["waveform_seconds"] = _latency(model, lambda s: extract(s)[:, :n_frames], samples, jit_compile)
    return {**found, "prediction_memory": _memory("VmHWM")}


def _samples_in(spec: FeatureSpec, n_frames: int) -> int | None:
    """Return the samples of a clip of ``n_frames``.

    None where no number of samples gives as many frames, or a recording of any duration is one frame.
    """
    if not spec.hop_length:
        return None
    least = max(spec.min_samples, (n_frames - 1) * spec.hop_length)
    counts = (spec.n_samples or least, *range(least, least + spec.min_samples + 2 * spec.hop_length, spec.hop_length))
    return next((count for count in counts if spec.frames_in(count) == n_frames), None)


def _latency(model: SERModel, to_features: Callable[[Any], Any], array: np.ndarray, jit_compile: bool) -> float:
    """Return the median seconds from an array, by way of features, to the model's prediction."""

    def inputs(array: Any) -> Any:
        return _inputs(model, to_features(array))

    predict: Callable[..., Any]
    if _on_jax():  # weights as arguments: in a closure they would be compiled as constants
        sets = (model.trainable_variables, model.non_trainable_variables)
        weights = [[variable.value for variable in variables] for variables in sets]
        predict = partial(_compiled(lambda w, x: model.stateless_call(*w, inputs(x), training=False)[0]), weights)
    else:
        predict = _compiled(lambda x: model(inputs(x), training=False), jit_compile)
    return statistics.median(_durations(lambda: np.asarray(predict(array)), 30))


def _inputs(model: SERModel, features: Any) -> Any:
    """Return the model's inputs for some features; the gender of a model that takes it is unknown, 0.5."""
    if not model.takes_gender:
        return network_inputs(features, None)
    full = np.full if isinstance(features, np.ndarray) else keras.ops.full  # the inputs must be of one kind
    return network_inputs(features, full((features.shape[0],), 0.5, "float32"))


def _steps(model: SERModel, training: TrainingConfig, n_frames: int, repeats: int) -> dict[str, Any]:
    """Measure training steps and the machine's ceilings, and count operations."""
    step = _training_step(model, training, n_frames)
    first = timeit.timeit(step, number=1)
    seconds: list[float] = []
    start = time.perf_counter()
    while not seconds or (len(seconds) < repeats and time.perf_counter() - start < _STEP_BUDGET):
        seconds.append(timeit.timeit(step, number=1))
    memory = _memory("VmHWM")
    device, device_memory = _device()
    batch = count_operations(model, training.batch_size, n_frames)
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return {
        "first_step_seconds": first,
        "step_seconds": tuple(seconds),
        "step_memory": memory,
        "device": device,
        "device_memory": device_memory,
        "trainable": trainable,
        "prediction_flops": count_operations(model, 1, n_frames).flops,
        "step_flops": batch.step_flops,
        # Adam reads and writes each weight and its two moments.
        "step_traffic": 6 * 4 * trainable + 2 * batch.output_bytes,
        "ceilings": measure_ceilings(batch.largest(3)),
    }


def _training_step(model: SERModel, training: TrainingConfig, n_frames: int) -> Callable[[], np.ndarray]:
    """Return a training step that waits for its loss."""
    random, size = np.random.default_rng(0), training.batch_size
    inputs = _inputs(model, random.standard_normal((size, n_frames, *model.frame_shape), np.float32))
    targets = np.eye(model.n_classes, dtype=np.float32)[random.integers(model.n_classes, size=size)]
    compile_network(model, model, training)
    return lambda: np.asarray(model.train_on_batch(inputs, targets))


def measure_ceilings(shapes: Sequence[Shape]) -> Ceilings:
    """Measure products of these shapes, with fewer rows where an array would exceed 256 MB, and copying."""
    products = []
    for batch, m, k, n in shapes:
        shape = (batch, min(m, max(1, _PRODUCT_BYTES // (4 * batch * max(k, n)))), k, n)
        products.append(ProductRate(shape, _product_rate(shape)))
    rates = [_product_rate((1, _SQUARE, _SQUARE, _SQUARE)), *(product.gflops for product in products)]
    return Ceilings(max(rates), _copy_rate(), tuple(products))


def _product_rate(shape: Shape) -> float:
    """Return 10^9 operations per second of a product."""
    batch, m, k, n = shape
    random = np.random.default_rng(0)
    factors = [random.standard_normal(size, np.float32) for size in ((batch, m, k), (batch, k, n))]
    return _rate(2 * math.prod(shape), keras.ops.matmul, factors, lambda: np.matmul(*factors))


def _copy_rate() -> float:
    """Return 10^9 bytes read and written per second."""
    source = np.ones(_COPIED_BYTES // 4, np.float32)
    parts = [np.array_split(array, cpu_count()) for array in (np.ones_like(source), source)]
    with ThreadPoolExecutor(cpu_count()) as pool:
        copy = partial(pool.map, np.copyto, *parts)
        return _rate(2 * source.nbytes, lambda values: values + 1, [source], lambda: list(copy()))


def _rate(work: float, function: Callable[..., Any], arrays: list[np.ndarray], in_numpy: Callable[[], object]) -> float:
    """Return ``work`` / 10^9 per second of the faster of a backend's function of arrays and one in NumPy."""

    def with_corner(*tensors: Any) -> tuple[Any, Any]:
        result = function(*tensors)
        return result, keras.ops.ravel(result)[:1]  # to wait for, without copying the result

    compiled, tensors = _compiled(with_corner), list(map(keras.ops.convert_to_tensor, arrays))
    ways = (lambda: np.asarray(compiled(*tensors)[1]), in_numpy)
    return work / 1e9 / min(min(_durations(way, 5)) for way in ways)


def _durations(function: Callable[[], object], repeats: int) -> list[float]:
    """Return the seconds of calls after a first one, which compiles."""
    return timeit.repeat(function, number=1, repeat=1 + repeats)[1:]


def _on_jax() -> bool:
    return keras.backend.backend() == "jax"


def _compiled(function: Callable[..., Any], jit_compile: bool = True) -> Callable[..., Any]:
    """Return a function of the backend's tensors compiled, on JAX always by XLA."""
    if _on_jax():
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, jit_compile=jit_compile, autograph=False)


def _device() -> tuple[str, int | None]:
    """Return the name of the backend's device, and the peak of its memory in bytes if it reports that."""
    if _on_jax():
        import jax

        device = jax.local_devices()[0]
        return device.device_kind, (device.memory_stats() or {}).get("peak_bytes_in_use")
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU", None
    details = tf.config.experimental.get_device_details(gpus[0])
    return details.get("device_name", "GPU"), tf.config.experimental.get_memory_info("GPU:0")["peak"]


def _memory(name: str) -> int:
    """Return memory of this process in bytes: ``VmRSS`` in use now, ``VmHWM`` the peak.

    Without /proc both are the peak, possibly that of the parent process.
    """
    kilobytes = _from_proc("self/status", name).split()
    if kilobytes:
        return int(kilobytes[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _from_proc(file: str, key: str) -> str:
    """Return the first value of a key in a file of /proc, "" if there is none."""
    path = Path("/proc") / file
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
