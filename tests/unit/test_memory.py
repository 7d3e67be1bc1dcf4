"""Memory kept for what a process needs next."""

import platform
import subprocess
import sys

import pytest

FAULTS_OF_A_BLOCK_USED_AGAIN = """
import resource
import numpy as np
from serzoo.memory import keep_freed_memory

if {kept}:
    keep_freed_memory()
    keep_freed_memory()
np.ones(200_000_000, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(200_000_000, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, kept: bool) -> int:
    """Return how many pages a process is given for a block of 200 MB after it has freed one of that size."""
    code = FAULTS_OF_A_BLOCK_USED_AGAIN.format(kept=kept)
    # huge pages, which NumPy asks for, are few whatever happens
    environment = {"NUMPY_MADVISE_HUGEPAGE": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_what_is_freed_is_used_again() -> None:
    assert faults(kept=False) > 40_000
    assert faults(kept=True) < 1_000
