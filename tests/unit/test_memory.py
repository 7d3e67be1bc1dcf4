"""Memory kept for what a process needs next."""

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
    """Return how many MB more a process holds after it has had and freed 200 MB, four times."""
    code = HELD_AFTER_A_LARGE_BLOCK.format(kept=kept)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_what_is_freed_is_kept_and_used_again() -> None:
    assert held_after_a_large_block(kept=False) < 20
    assert 180 < held_after_a_large_block(kept=True) < 220
