"""Run function calls in worker processes: quietly, and with their warnings repeated in the calling process."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from serzoo.errors import ConfigError, SerzooWarning

_Result = TypeVar("_Result")


def run_in_processes(
    function: Callable[..., _Result], calls: Sequence[tuple[object, ...]], names: Sequence[str], n_jobs: int
) -> Iterator[tuple[int, _Result]]:
    """Call a function several times in ``n_jobs`` processes that share the cores.

    Args:
        function: a function of a module, so that it can be pickled.
        calls: the arguments of each call.
        names: name of each call, put before its warnings.
        n_jobs: number of processes.

    Yields:
        The number of a call, counted from 0, and its result, as they finish.

    Raises:
        ConfigError: a process was killed.
    """
    from joblib import Parallel, cpu_count, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    threads = max(1, cpu_count() // n_jobs)
    try:
        with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=threads):
            with stderr_closed():  # a worker imports TensorFlow to unpickle a call, and TensorFlow prints notes
                results = Parallel(return_as="generator_unordered")(
                    delayed(_numbered)(number, function, arguments, threads) for number, arguments in enumerate(calls)
                )
            for number, result, messages in results:
                for message in messages:
                    warnings.warn(f"{names[number]}: {message}", SerzooWarning, stacklevel=2)
                yield number, result
    except TerminatedWorkerError:
        raise ConfigError(
            f"A worker process was killed, as happens when memory runs out; use fewer than {n_jobs} processes."
        ) from None


def _numbered(
    number: int, function: Callable[..., _Result], arguments: tuple[object, ...], threads: int
) -> tuple[int, _Result, list[str]]:
    return number, *quietly(function, *arguments, threads=threads)


def quietly(function: Callable[..., _Result], *arguments: object, threads: int = 1) -> tuple[_Result, list[str]]:
    """Call a function in a worker process, where TensorFlow may use ``threads`` threads.

    Returns:
        The function's result, and the texts of serzoo's warnings during the call, without repetitions.
    """
    os.environ.update(dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), str(threads)))
    with stderr_closed():
        import keras

        keras.distribution.list_devices()  # initialises TensorFlow, whose native code prints notes only now
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SerzooWarning)
        result = function(*arguments)
    messages = [str(each.message) for each in caught if issubclass(each.category, SerzooWarning)]
    return result, list(dict.fromkeys(messages))


@contextmanager
def stderr_closed() -> Iterator[None]:
    """Discard stderr output of native code in this process, and all stderr output of processes started meanwhile."""
    sys.stderr.flush()
    kept, silent = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(silent)
        os.close(kept)
