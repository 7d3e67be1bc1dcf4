"""Writing files and folders so that nothing half-written ever stands under their name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def moved_into_place(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target``, of the same name, at which to write a file or a folder.

    It is moved to ``target`` in one step when the block ends, and removed if the block raises. Parent
    folders are made. A file that is there already is replaced, a folder only if it is empty.

    Raises:
        OSError: the place cannot be written, or a folder there is not empty.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        part = Path(scratch) / target.name
        yield part
        os.replace(part, target)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8, as the file ``path``; see :func:`moved_into_place`."""
    with moved_into_place(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
