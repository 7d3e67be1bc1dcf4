"""Common to the benchmarks: time, peak memory, and a new process for each figure.

The peak memory of a process never falls, so figures to be compared must not share a process.
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
    """Return the duration of a call in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_memory() -> float:
    """Return the peak memory of this process so far, in MB.

    On Linux from /proc: ``ru_maxrss`` starts at the peak of the parent process.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def run_apart(*command: object) -> list[float]:
    """Run a Python script with its arguments in a new process, on TensorFlow's CPU, and return the numbers it prints.

    If the process fails, this one exits with its error output.
    """
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return [float(figure) for figure in done.stdout.split()]


def processor() -> str:
    """Return the name of the processor (on other systems than Linux, the machine type)."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def machine() -> dict[str, object]:
    """Return platform, processor, usable cores and load."""
    return {
        "platform": platform.platform(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
    }
