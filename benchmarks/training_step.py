"""A training step of TIM-Net or TBDM-Net: serzoo against stock Keras layers, PyTorch, and the matrix products alone.

    python benchmarks/training_step.py --model timnet --out results.json

A step is forward, backward and Adam on one batch, until its loss is available. Each way has a process of its own that
waits while the others compute. The repeats alternate, and a ratio is the median over the repeats of their ratios, so
that other work on the machine affects all of them. Processor time, the sum over all threads, is affected less.

The floor is the time of the products of the step's convolutions by their definition, forward and for both gradients,
with the shapes of the model, in float32, each by the faster of TensorFlow and XLA.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from measuring import machine

STOCK, STOCK_XLA, TORCH, SERZOO, SERZOO_PLAIN, SERZOO_BFLOAT16, SERZOO_GIVING_BACK, FLOOR = (
    "stock Keras",
    "stock Keras, XLA",
    "PyTorch",
    "serzoo",
    "serzoo, no XLA",
    "serzoo, bfloat16",
    "serzoo, memory given back",
    "floor",
)
WAYS = {
    "timnet": (STOCK, STOCK_XLA, SERZOO, SERZOO_PLAIN, SERZOO_GIVING_BACK, FLOOR),
    "tbdm": (STOCK, STOCK_XLA, TORCH, SERZOO, SERZOO_PLAIN, SERZOO_BFLOAT16, SERZOO_GIVING_BACK, FLOOR),
}
LEARNING_RATE, BETAS, ADAM_EPSILON = 1e-3, (0.93, 0.98), 1e-8
N_FEATURES, N_CLASSES = 39, 8

Step = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(WAYS), required=True)
    parser.add_argument("--batch", type=int, default=64, help="clips in a batch; default: 64")
    parser.add_argument("--frames", type=int, default=215, help="frames of a clip; default: 215")
    parser.add_argument("--repeats", type=int, default=15, help="steps of every way; default: 15")
    parser.add_argument("--ways", nargs="+", help="some of the table's rows; default: all")
    parser.add_argument("--out", type=Path, help="JSON file to write; default: none")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        serve(options)
        return
    unknown = set(options.ways or ()) - set(WAYS[options.model])
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(WAYS[options.model])}")
    results = measure(options)
    print_table(results)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the milliseconds of every step of every way: elapsed and processor time."""
    ways = {way: Way(way, options) for way in options.ways or WAYS[options.model]}
    try:
        rounds = [{way: process.step() for way, process in ways.items()} for _ in range(options.repeats)]
    finally:
        for process in ways.values():
            process.end()
    return {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "model": options.model,
        "batch": options.batch,
        "frames": options.frames,
        "wall": {way: [one[way][0] for one in rounds] for way in ways},
        "processors": {way: [one[way][1] for one in rounds] for way in ways},
    }


class Way:
    """A process that trains in one way, a step per request."""

    def __init__(self, way: str, options: argparse.Namespace) -> None:
        settings = ("--model", options.model, "--batch", str(options.batch), "--frames", str(options.frames))
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--way", way, *settings],
            env={
                **os.environ,
                "KERAS_BACKEND": "tensorflow",
                "CUDA_VISIBLE_DEVICES": "-1",
                "TF_CPP_MIN_LOG_LEVEL": "2",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.step()  # compiles

    def step(self) -> tuple[float, float]:
        """Return elapsed and processor milliseconds."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a process ended with {self.process.wait()}: {' '.join(map(str, self.process.args))}")  # type: ignore[arg-type]
        wall, processors = json.loads(line)
        return wall, processors

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def serve(options: argparse.Namespace) -> None:
    """Do a step for every line of stdin, two for the first, and print the times of the last one."""
    step = make_step(options)
    step()
    for _ in sys.stdin:
        start, processors = time.perf_counter(), time.process_time()
        own = step()
        took = [time.perf_counter() - start, time.process_time() - processors]
        if options.way == FLOOR:  # the floor times equal products once
            took = own  # type: ignore[assignment]
        print(json.dumps([1000 * seconds for seconds in took]), flush=True)


def make_step(options: argparse.Namespace) -> Step:
    if options.way == FLOOR:
        return products(options)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(options.batch, options.frames, N_FEATURES)).astype("float32")
    classes = rng.integers(0, N_CLASSES, options.batch)
    if options.way == TORCH:
        return torch_step(features, classes)
    model = keras_model(options)
    targets = np.eye(N_CLASSES, dtype="float32")[classes]
    return lambda: model.train_on_batch(features, targets)


def keras_model(options: argparse.Namespace) -> Any:
    """Return a compiled model; serzoo's with its default training settings."""
    import keras
    import stock_models

    from serzoo.models.tbdm import TBDMNet
    from serzoo.models.timnet import TIMNet
    from serzoo.settings import BFLOAT16, TrainingConfig
    from serzoo.training import compiling

    settings = {
        SERZOO: TrainingConfig(),
        SERZOO_PLAIN: TrainingConfig(jit_compile=False),
        SERZOO_BFLOAT16: TrainingConfig(jit_compile=False, precision=BFLOAT16),
        SERZOO_GIVING_BACK: TrainingConfig(),
    }
    if options.way in settings:
        kind = {"timnet": TIMNet, "tbdm": TBDMNet}[options.model]
        network = kind(n_classes=N_CLASSES, n_frames=options.frames)
        if options.way == SERZOO_GIVING_BACK:
            compiling.keep_freed_memory = lambda: None  # type: ignore[assignment]
        compiling.compile_network(network, network, settings[options.way])
        return network
    model = getattr(stock_models, f"stock_{options.model}")(options.frames, N_CLASSES)
    adam = keras.optimizers.Adam(LEARNING_RATE, *BETAS, epsilon=ADAM_EPSILON)
    metrics = [keras.metrics.CategoricalAccuracy()]
    model.compile(adam, "categorical_crossentropy", metrics=metrics, jit_compile=options.way == STOCK_XLA)
    return model


def torch_step(features: np.ndarray, classes: np.ndarray) -> Step:
    import stock_models
    import torch

    network = stock_models.torch_tbdm(N_CLASSES).train()
    adam = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=ADAM_EPSILON)
    inputs, targets = torch.from_numpy(features), torch.from_numpy(classes)

    def step() -> float:
        adam.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(inputs), targets)
        loss.backward()
        adam.step()
        return loss.item()

    return step


def products(options: argparse.Namespace) -> Callable[[], list[float]]:
    """Return a function that returns elapsed and processor seconds of the products of a step's convolutions."""
    import tensorflow as tf

    n_rows = options.batch * options.frames

    def forward_and_gradients(rows: Any, kernel: Any, gradient: Any) -> tuple[Any, ...]:
        ahead = tf.matmul(rows, kernel)
        return ahead, tf.matmul(gradient, kernel, transpose_b=True), tf.matmul(rows, gradient, transpose_a=True)

    compilers = [tf.function(forward_and_gradients, jit_compile=jit) for jit in (False, True)]
    arguments = {
        shape: [tf.random.normal(sizes) for sizes in ((n_rows, shape[0]), shape, (n_rows, shape[1]))]
        for shape in set(convolutions(options.model))
    }

    def run_all() -> list[float]:
        total = np.zeros(2)
        for shape, tensors in arguments.items():
            took = []
            for function in compilers:
                start, processors = time.perf_counter(), time.process_time()
                function(*tensors)[-1].numpy()
                took.append((time.perf_counter() - start, time.process_time() - processors))
            total += convolutions(options.model).count(shape) * np.min(took, axis=0)
        return total.tolist()

    return run_all


def convolutions(model: str) -> list[tuple[int, int]]:
    """Return the kernels of a model as matrices, taps times channels to filters."""
    if model == "timnet":
        return [(2 * N_FEATURES, N_FEATURES)] * 2 * 16 + [(N_FEATURES, N_FEATURES)] * 2
    widths = [N_FEATURES * 2**index for index in range(6)]
    return [(2 * width, width) for width in widths] * 4 + [(2 * width, N_FEATURES) for width in widths]


def print_table(results: dict[str, Any]) -> None:
    machine, wall, processors = (results[key] for key in ("machine", "wall", "processors"))
    repeats = len(next(iter(wall.values())))
    print(f"{results['model']}, batch {results['batch']}, {results['frames']} frames, {repeats} repeats")
    print(f"{machine['processor']}, {machine['cores']} core(s), load {machine['load'][0]:.1f}, {results['date']}\n")
    print("ms a step           median     min   of processors   it / serzoo (quartiles)   of processors   it / floor")
    for way, steps in wall.items():
        row = f"{way:18} {median(steps):7.0f} {min(steps):7.0f} {median(processors[way]):15.0f}"
        print(row + ratio(wall, way, SERZOO, 12) + ratio(processors, way, SERZOO, 6) + ratio(wall, way, FLOOR, 3))


def ratio(times: dict[str, list[float]], way: str, other: str, width: int) -> str:
    """Return median and quartiles of the ratio of two ways' times, repeat by repeat."""
    if other not in times:
        return ""
    low, middle, high = np.percentile(np.divide(times[way], times[other]), (25, 50, 75))
    return f"{middle:{width}.2f} ({low:.2f}-{high:.2f})  "


if __name__ == "__main__":
    main()
