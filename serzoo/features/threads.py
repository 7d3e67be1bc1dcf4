"""One thread for BLAS while features are computed, however many compute them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_held: list[Any] = []  # the limit, and as many references to it as there are users


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep BLAS to one thread: features are small products, which several threads slow down several times.

    The limit is the process's. Users may overlap in any order: it lasts until the last of them is done, and what
    held before the first holds again.
    """
    with _lock:
        _held.append(_held[0] if _held else _libraries().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            limit = _held.pop()
            if not _held:
                limit.restore_original_limits()


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    """Return the BLAS libraries of the process. To look for them takes 4 ms, longer than a recording's features."""
    import scipy.linalg  # noqa: F401  (loads SciPy's own BLAS, which is then limited too)

    return ThreadpoolController()
