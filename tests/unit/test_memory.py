"""Freed memory is kept in the process."""

import platform
import subprocess
import sys

import pytest

HELD_AFTER_A_LARGE_BLOCK = """
import resource
from pathlib import Path
import numpy as np
from serzoo.memory import keep_freed_memory

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 10**6

if {kept}:
    keep_freed_memory()
    keep_freed_memory()
before = held()
for _ in range(4):
    np.ones(200_000_000, np.uint8)
print(held() - before)
"""


def held_after_a_large_block(*, kept: bool) -> int:
    """Return the growth of a process in MB after it has allocated and freed 200 MB four times."""
    code = HELD_AFTER_A_LARGE_BLOCK.format(kept=kept)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc's malloc only")
def test_freed_memory_is_kept_and_used_again() -> None:
    assert held_after_a_large_block(kept=False) < 20
    assert 180 < held_after_a_large_block(kept=True) < 220
