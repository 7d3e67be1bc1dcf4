"""Writing files so that nothing half-written ever stands under their name."""

from __future__ import annotations

import os
import uuid
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
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
