"""BLAS on one thread during feature extraction, by any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_held: list[Any] = []  # the limit, once for each user


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Limit BLAS to one thread: the products of feature extraction are so small that more threads slow them down.

    The limit holds for the whole process. Users may overlap in any order: it lasts until the last one is done; then the
    limits before the first one hold again.
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
    """Return the BLAS libraries of the process; cached, since the search takes longer (4 ms) than a clip's features."""
    import scipy.linalg  # noqa: F401  (loads SciPy's own BLAS, so that it is limited too)

    return ThreadpoolController()
