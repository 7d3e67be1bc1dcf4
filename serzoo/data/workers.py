"""Many recordings handled by threads, in order: libsndfile and NumPy work outside Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(function: Callable[[_Item], _Result], items: Sequence[_Item], workers: int | None) -> Iterator[_Result]:
    """Apply a function in threads and yield the results in order, at most ``2 * workers`` calls ahead.

    Args:
        function: of one item.
        items: its arguments.
        workers: threads; None for one per CPU core that this process may use, as far as the system reports it.
    """
    workers = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    pending: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                if len(pending) == 2 * workers:
                    yield pending.popleft().result()
                pending.append(pool.submit(function, item))
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def with_progress(results: Iterable[_Result], title: str, total: int, shown: bool) -> Iterator[_Result]:
    """Yield the results, with a progress bar on standard error if ``shown``."""
    if shown:
        from rich.console import Console
        from rich.progress import track

        results = track(results, title, total=total, console=Console(stderr=True))
    return iter(results)
