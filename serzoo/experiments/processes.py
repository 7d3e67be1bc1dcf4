"""Work in other processes: on few threads, quiet, with its warnings brought home."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from serzoo.errors import SerzooWarning

_Result = TypeVar("_Result")


def quietly(function: Callable[..., _Result], *arguments: object, threads: int = 1) -> tuple[_Result, list[str]]:
    """Call a function in a process that was started for such calls, on TensorFlow's CPU.

    Args:
        function: what to call.
        arguments: what with.
        threads: that TensorFlow may use.

    Returns:
        What the function returns, and the texts of serzoo's warnings on the way, each once.
    """
    os.environ.update(dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), str(threads)))
    with stderr_closed():
        import keras

        keras.distribution.list_devices()  # what native code has to say of them, it says now
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SerzooWarning)
        result = function(*arguments)
    messages = [str(each.message) for each in caught if issubclass(each.category, SerzooWarning)]
    return result, list(dict.fromkeys(messages))


@contextmanager
def stderr_closed() -> Iterator[None]:
    """Keep what native code writes to stderr from it, and what processes that are started meanwhile ever write."""
    sys.stderr.flush()
    kept, silent = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(silent)
        os.close(kept)
