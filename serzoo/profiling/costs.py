"""The measured cost of a model, and its table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ProductRate:
    """The machine's rate in one of the model's own products.

    Args:
        shape: batch, m, k and n of (batch, m, k) times (batch, k, n).
        gflops: 10^9 floating-point operations per second.
    """

    shape: tuple[int, ...]
    gflops: float


@dataclass(frozen=True)
class Ceilings:
    """The highest rates that the machine reached.

    Args:
        matmul_gflops: 10^9 floating-point operations per second in the product of two large square matrices, or in one
            of ``products`` if that is faster; float32, the faster of Keras's backend and NumPy.
        copy_gbytes: 10^9 bytes read and written per second in copying an array larger than all caches; likewise.
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
    """The cost of a model. Times are in seconds, sizes in bytes.

    Args:
        model: name of the architecture.
        recipe: the recipe of features, batch and training settings; empty if there is none.
        backend: Keras's backend.
        versions: of the libraries.
        device: the backend's device.
        cpu: the processor.
        threads: threads of the processor that the backend may use.
        jit_compile: whether XLA compiles the model.
        batch_size: clips of a training step.
        n_frames: frames of a clip.
        frame_shape: shape of a frame.
        clip_seconds: duration of a clip; None where a recording of any duration is one frame.
        parameters: number of all weights.
        trainable: number of trainable weights.
        prediction_flops: floating-point operations of a prediction for one clip's features, in matrix products and
            convolutions (see :mod:`serzoo.profiling.operations`).
        step_flops: those of a training step.
        step_traffic: least number of bytes that a training step moves: weights and Adam's moments read and written,
            the forward pass's products written and read once.
        idle_memory: memory of the process with the libraries loaded.
        prediction_memory: peak memory after predictions of single clips.
        step_memory: peak memory after training steps.
        device_memory: peak memory of an accelerator; None without one, or where it does not report it.
        prediction_seconds: from one clip's features to the prediction, median.
        waveform_seconds: from one clip's samples to the prediction, median; None where no layer computes the features.
        first_step_seconds: duration of the first training step, compilation included.
        step_seconds: durations of the further training steps.
        ceilings: of the machine.
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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Profile:
        """Return the profile of plain data as :func:`dataclasses.asdict` and JSON write it."""
        ceilings = values["ceilings"]
        products = tuple(ProductRate(tuple(rate["shape"]), rate["gflops"]) for rate in ceilings["products"])
        nested = {"ceilings": Ceilings(**{**ceilings, "products": products})}
        return cls(**{**values, **nested, **{name: tuple(values[name]) for name in ("frame_shape", "step_seconds")}})

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
        return {
            **json.loads(json.dumps(asdict(self))),
            "step_median": self.step_median,
            "step_bound": self.step_bound,
            "times_the_bound": self.times_the_bound,
            "prediction_bound": self.prediction_bound,
            "real_time_factor": self.real_time_factor(self.prediction_seconds),
            "waveform_real_time_factor": self.real_time_factor(self.waveform_seconds),
        }

    def __str__(self) -> str:
        """Return a table."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        groups = [self._model_rows(), self._step_rows(), self._prediction_rows(), self._ceiling_rows()]
        width = max(len(name) for rows in groups for name in rows)
        tables = ["\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items()) for rows in groups]
        of = f", recipe {self.recipe}" if self.recipe else ""
        return (
            f"{self.model}{of}\n"
            f"{versions}; {self.backend}, {'compiled by XLA' if self.jit_compile else 'not compiled by XLA'}\n"
            f"{self.device}; {self.cpu}, {self.threads} threads\n" + "\n\n".join(tables)
        )

    def _model_rows(self) -> dict[str, str]:
        audio = "" if self.clip_seconds is None else f", {self.clip_seconds:.2f} s of audio"
        return {
            "clip": f"{self.n_frames} frames of {' x '.join(map(str, self.frame_shape))}{audio}",
            "parameters": f"{self.parameters:,}, {self.trainable:,} of them trainable",
        }

    def _step_rows(self) -> dict[str, str]:
        is_computing = self.step_bound > self.step_traffic / (self.ceilings.copy_gbytes * 1e9)
        on_device = {} if self.device_memory is None else {"peak device memory": _size(self.device_memory)}
        return {
            f"training step, batch {self.batch_size}": f"{_seconds(self.step_median)}, "
            f"{_seconds(min(self.step_seconds))} at best of {len(self.step_seconds)}; "
            f"the first {_seconds(self.first_step_seconds)}",
            "operations": f"{_flops(self.step_flops)} in products: {_flops(self.step_flops / self.step_median)}/s",
            "times the lower bound": f"{self.times_the_bound:.1f} times {_seconds(self.step_bound)}, "
            f"bound by {'products' if is_computing else 'memory'}",
            "peak memory": f"{_size(self.step_memory)}, {_size(self.step_memory - self.idle_memory)} "
            "above an idle process",
            **on_device,
        }

    def _prediction_rows(self) -> dict[str, str]:
        def row(seconds: float) -> str:
            factor = self.real_time_factor(seconds)
            return _seconds(seconds) + ("" if factor is None else f", {factor:,.0f} times real time")

        waveform = {} if self.waveform_seconds is None else {"waveform to prediction": row(self.waveform_seconds)}
        return {
            "features to prediction, batch 1": row(self.prediction_seconds),
            **waveform,
            "operations of a prediction": f"{_flops(self.prediction_flops)} in products",
            "lower bound of a prediction": _seconds(self.prediction_bound),
            "peak memory of predictions": f"{_size(self.prediction_memory)}; idle {_size(self.idle_memory)}",
        }

    def _ceiling_rows(self) -> dict[str, str]:
        own = {
            f"  of the model, {_shape(product.shape)}": f"{_flops(product.gflops * 1e9)}/s"
            for product in self.ceilings.products
        }
        return {
            "ceiling: matrix product": f"{_flops(self.ceilings.matmul_gflops * 1e9)}/s",
            **own,
            "ceiling: copy": f"{self.ceilings.copy_gbytes:.1f} GB/s, read and written",
        }


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


def _shape(shape: tuple[int, ...]) -> str:
    batch, m, k, n = shape
    return f"{m} x {k} x {n}" if batch == 1 else f"{batch} of {m} x {k} x {n}"
