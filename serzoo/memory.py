"""Keep freed memory in the process, so that the next training step does not wait for it."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""mallopt's parameters: free bytes above which memory is returned, and the number of separately mapped blocks."""

_NEVER = -1


@cache
def keep_freed_memory() -> None:
    """Let glibc's malloc keep freed memory for the rest of the process; on other platforms do nothing.

    By default malloc returns blocks of 32 MB and more to the system as soon as they are freed. A training step compiled
    by XLA works in such blocks: the system clears them again, page by page, in every step, and that takes up to half of
    the step's time (docs/performance.md). The peak memory of a process hardly grows, but it is held until the end.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
