"""Memory that a process has had is kept for what it needs next."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""mallopt's names for free bytes above which memory is given back, and for how many blocks are mapped on their own."""

_NEVER = -1


@cache
def keep_freed_memory() -> None:
    """Let glibc's malloc keep what is freed, for the rest of the process; elsewhere do nothing.

    By itself it gives blocks of 32 MB and more back to the system at once, such as those that a training step compiled
    by XLA works in. To get them back, cleared page by page, in every step takes up to half of the step's time
    (docs/performance.md). What a process holds at most hardly grows, but does not shrink before its end.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
