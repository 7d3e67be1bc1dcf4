"""Writing files so that nothing half-written ever stands under their name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file beside its place and move it there in one step; parent folders are made.

    Args:
        path: the file; an old one is replaced.
        content: bytes, or text to be written as UTF-8.

    Raises:
        OSError: the folder cannot be written; no part of the file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with open(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
