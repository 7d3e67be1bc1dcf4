"""The measured cost of a model, and its table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ProductRate:
    """The machine's rate in one of the model's own products."""

    shape: tuple[int, ...]  # batch, m, k and n of (batch, m, k) times (batch, k, n)
    gflops: float  # 10^9 floating-point operations per second


@dataclass(frozen=True)
class Ceilings:
    """The highest rates that the machine reached in float32, each the faster of Keras's backend and NumPy.

    Args:
        matmul_gflops: 10^9 floating-point operations per second in the product of two large square matrices, or in one
            of ``products`` if that is faster.
        copy_gbytes: 10^9 bytes read and written per second in copying an array larger than all caches.
        products: the model's own matrix products with the most operations.
    """

    matmul_gflops: float
    copy_gbytes: float
    products: tuple[ProductRate, ...] = ()

    def lower_bound(self, flops: float, traffic: float) -> float:
        """Return the least time in seconds for ``flops`` operations and ``traffic`` bytes moved."""
        return max(flops / (self.matmul_gflops * 1e9), traffic / (self.copy_gbytes * 1e9))


@dataclass(frozen=True)
class Profile:
    """The cost of a model: times in seconds, sizes in bytes, operations as :mod:`serzoo.profiling.operations` counts.

    ``recipe`` is empty if there is none; ``jit_compile`` is whether XLA compiles the model; ``threads`` are those that
    the backend may use. ``prediction_*`` are for one clip, ``waveform_seconds`` from its samples (None where no layer
    computes the features), medians; ``step_*`` for a training step of ``batch_size`` clips, the first one, compilation
    included, apart. A step moves ``step_traffic`` bytes at least: weights and Adam's moments read and written, the
    forward pass's products written and read once. Memory is that of the process: ``idle_memory`` with the libraries
    loaded, the peak after predictions and after training steps; ``device_memory`` is the peak of an accelerator, None
    without one or where it does not report it. ``clip_seconds`` is None where a recording of any duration is one frame.
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
    prediction_flops: int
    step_flops: int
    step_traffic: int
    idle_memory: int
    prediction_memory: int
    step_memory: int
    device_memory: int | None
    prediction_seconds: float
    waveform_seconds: float | None
    first_step_seconds: float
    step_seconds: tuple[float, ...]
    ceilings: Ceilings

    @property
    def step_median(self) -> float:
        """Median duration of a training step."""
        return statistics.median(self.step_seconds)

    @property
    def step_bound(self) -> float:
        """Least duration of a training step at the machine's ceilings."""
        return self.ceilings.lower_bound(self.step_flops, self.step_traffic)

    @property
    def times_the_bound(self) -> float:
        """Ratio of the training step's duration to its lower bound; 1 is the best possible."""
        return self.step_median / self.step_bound

    @property
    def prediction_bound(self) -> float:
        """Least duration of a prediction; it reads each weight once."""
        return self.ceilings.lower_bound(self.prediction_flops, 4 * self.parameters)

    def real_time_factor(self, seconds: float | None) -> float | None:
        """Return the seconds of audio processed in a second, if a clip takes ``seconds``."""
        return None if seconds is None or self.clip_seconds is None else self.clip_seconds / seconds

    def to_dict(self) -> dict[str, object]:
        """Return the profile as plain data, derived figures included."""
        derived = ("step_median", "step_bound", "times_the_bound", "prediction_bound")
        return {
            **json.loads(json.dumps(asdict(self))),
            **{name: getattr(self, name) for name in derived},
            "real_time_factor": self.real_time_factor(self.prediction_seconds),
            "waveform_real_time_factor": self.real_time_factor(self.waveform_seconds),
        }

    def __str__(self) -> str:
        """Return a table."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        rows = [(name, text) for name, text in self._rows() if text is not None]
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:<{width}}  {text}".rstrip() for name, text in rows]
        of = f", recipe {self.recipe}" if self.recipe else ""
        return (
            f"{self.model}{of}\n"
            f"{versions}; {self.backend}, {'compiled by XLA' if self.jit_compile else 'not compiled by XLA'}\n"
            f"{self.device}; {self.cpu}, {self.threads} threads\n" + "\n".join(lines)
        )

    def _rows(self) -> list[tuple[str, str | None]]:
        """Return names and texts of the table; the text is None where a row does not apply."""

        def latency(seconds: float) -> str:
            factor = self.real_time_factor(seconds)
            return _seconds(seconds) + ("" if factor is None else f", {factor:,.0f} times real time")

        median, bound, ceilings = self.step_median, self.step_bound, self.ceilings
        least, first = _seconds(min(self.step_seconds)), _seconds(self.first_step_seconds)
        audio = "" if self.clip_seconds is None else f", {self.clip_seconds:.2f} s of audio"
        bound_by = "products" if bound > ceilings.lower_bound(0, self.step_traffic) else "memory"
        steps = f"{_seconds(median)}, {least} at best of {len(self.step_seconds)}; the first {first}"
        above = f"{_size(self.step_memory - self.idle_memory)} above an idle process"
        return [
            ("clip", f"{self.n_frames} frames of {' x '.join(map(str, self.frame_shape))}{audio}"),
            ("parameters", f"{self.parameters:,}, {self.trainable:,} of them trainable"),
            ("", ""),
            (f"training step, batch {self.batch_size}", steps),
            ("operations", f"{_flops(self.step_flops)} in products: {_flops(self.step_flops / median)}/s"),
            ("times the lower bound", f"{self.times_the_bound:.1f} times {_seconds(bound)}, bound by {bound_by}"),
            ("peak memory", f"{_size(self.step_memory)}, {above}"),
            ("peak device memory", None if self.device_memory is None else _size(self.device_memory)),
            ("", ""),
            ("features to prediction, batch 1", latency(self.prediction_seconds)),
            ("waveform to prediction", None if self.waveform_seconds is None else latency(self.waveform_seconds)),
            ("operations of a prediction", f"{_flops(self.prediction_flops)} in products"),
            ("lower bound of a prediction", _seconds(self.prediction_bound)),
            ("peak memory of predictions", f"{_size(self.prediction_memory)}; idle {_size(self.idle_memory)}"),
            ("", ""),
            ("ceiling: matrix product", f"{_flops(1e9 * ceilings.matmul_gflops)}/s"),
            *((f"  of the model, {_shape(own.shape)}", f"{_flops(1e9 * own.gflops)}/s") for own in ceilings.products),
            ("ceiling: copy", f"{ceilings.copy_gbytes:.1f} GB/s, read and written"),
        ]


def _seconds(seconds: float) -> str:
    return _scaled(seconds, (1, "s"), (1e-3, "ms"), (1e-6, "us"))


def _flops(flops: float) -> str:
    return _scaled(flops, (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"))


def _scaled(value: float, *units: tuple[float, str]) -> str:
    """Return a value in the largest unit that it reaches, or in the last."""
    size, name = next((unit for unit in units if value >= unit[0]), units[-1])
    return f"{value / size:.3g} {name}"


def _size(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _shape(shape: Sequence[int]) -> str:
    batch, m, k, n = shape
    return f"{m} x {k} x {n}" if batch == 1 else f"{batch} of {m} x {k} x {n}"
