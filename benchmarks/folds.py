"""Folds on a CPU: one process with all threads against one process of one thread per core.

    python benchmarks/folds.py --model timnet --out results.json

A process trains repeatedly on one batch. Both ways alternate, and a ratio is the median over the rounds of their
ratios: the speed of the parallel processes relative to that of the single process for as many steps.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from measuring import processor

N_CLASSES, N_FRAMES = 8, 215


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="timnet", help="a model on MFCCs; default: timnet")
    parser.add_argument("--batch", type=int, default=64, help="clips in a batch; default: 64")
    parser.add_argument("--steps", type=int, default=20, help="steps of a process in a round; default: 20")
    parser.add_argument("--repeats", type=int, default=7, help="rounds; default: 7")
    parser.add_argument("--out", type=Path, help="JSON file to write; default: none")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options)
        return
    n_cores = len(os.sched_getaffinity(0))
    alone, others = start(options, n_cores), [start(options, 1) for _ in range(n_cores)]
    for process in (alone, *others):
        next_number(process)  # compiled
    rounds = [(took([alone], options.steps), took(others, options.steps) / n_cores) for _ in range(options.repeats)]
    for process in (alone, *others):
        process.stdin.close()
        process.wait()
    print(f"{options.model}, batch {options.batch}; {processor()}, {n_cores} cores, load {os.getloadavg()[0]:.1f}")
    print(f"ms a step   one process {median(one for one, _ in rounds):8.0f}   ", end="")
    print(f"{n_cores} processes {median(many for _, many in rounds):8.0f}   ", end="")
    ratios = sorted(one / many for one, many in rounds)
    print(f"ratio {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    if options.out:
        results = {"model": options.model, "batch": options.batch, "cores": n_cores, "ms": rounds}
        options.out.write_text(json.dumps({**results, "date": time.strftime("%Y-%m-%d")}, indent=2) + "\n")


def start(options: argparse.Namespace, threads: int) -> subprocess.Popen[str]:
    """Return a process that trains with this number of threads."""
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads)), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, __file__, "--serve", "--model", options.model, "--batch", str(options.batch)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def took(processes: list[subprocess.Popen[str]], steps: int) -> float:
    """Return the milliseconds per step of the slowest process, while all of them train."""
    for process in processes:
        process.stdin.write(f"{steps}\n")
        process.stdin.flush()
    return max(next_number(process) for process in processes) / steps * 1e3


def next_number(process: subprocess.Popen[str]) -> float:
    """Return the next number that a process prints; exit if the process has ended."""
    line = process.stdout.readline()
    if not line:
        sys.exit(f"a process ended with {process.wait()}: {' '.join(map(str, process.args))}")
    return float(line)


def serve(options: argparse.Namespace) -> None:
    """Train the number of steps in each line of stdin and print their seconds."""
    import keras

    import serzoo

    model = serzoo.build(options.model, n_classes=N_CLASSES, n_frames=N_FRAMES)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="categorical_crossentropy", jit_compile=True)
    rng = np.random.default_rng(0)
    clips = keras.ops.convert_to_tensor(rng.normal(size=(options.batch, *model.features_shape)).astype("float32"))
    targets = np.eye(N_CLASSES, dtype="float32")[rng.integers(0, N_CLASSES, options.batch)]
    for _ in range(2):
        model.train_on_batch(clips, targets)
    print(0, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            model.train_on_batch(clips, targets)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
