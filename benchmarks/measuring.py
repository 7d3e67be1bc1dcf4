"""What the benchmarks share: time, peak memory, and a fresh process for each figure.

A process's peak memory never falls, so whatever is compared must not share one.
"""

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def timed(function: Callable[[], object]) -> float:
    """Return how long a call takes, in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_memory() -> float:
    """Return the most memory this process has held so far, in MB.

    Where Linux tells it, that is the program's own: ``ru_maxrss`` starts at the peak of the process that started this.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def run_apart(*command: object) -> list[float]:
    """Run a Python script with its arguments in a process of its own, on TensorFlow's CPU, and return what it prints.

    The process ends this one with its error output if it fails.
    """
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    words = [sys.executable, *map(str, command)]
    answer = subprocess.run(words, env=environment, capture_output=True, text=True)
    if answer.returncode:
        sys.exit(f"{' '.join(words)} ended with {answer.returncode}:\n{answer.stderr}")
    return [float(figure) for figure in answer.stdout.split()]


def processor() -> str:
    """Return the processor's name where Linux tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def machine() -> dict[str, object]:
    """Return what a figure was measured on: platform, processor, cores that may be used, load."""
    return {
        "platform": platform.platform(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
    }
