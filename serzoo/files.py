"""Writing files and folders atomically: a name never refers to a half-written one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serzoo.errors import SerzooError


@contextmanager
def moved_into_place(target: Path, *, replace_folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to ``target``, of the same name, for writing a file or a folder.

    It is moved to ``target`` in one step when the block ends, and removed if the block raises. Parent
    folders are made. An existing file is replaced, a folder only if it is empty.

    Args:
        target: where the file or folder goes.
        replace_folder: also replace a folder that is not empty; if that fails, it stays unchanged.

    Raises:
        OSError: the place cannot be written, or a folder there is not empty.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        part = Path(scratch) / target.name
        yield part
        if replace_folder and target.is_dir():
            _exchange(part, target, Path(scratch) / "replaced" / target.name)
        else:
            os.replace(part, target)


def _exchange(new: Path, target: Path, old: Path) -> None:
    """Move ``target`` to ``old`` and ``new`` to its place, or leave ``target`` unchanged."""
    old.parent.mkdir()
    os.replace(target, old)
    try:
        os.replace(new, target)
    except BaseException:
        os.replace(old, target)
        raise


def write_whole(path: Path, content: bytes | str) -> None:
    """Write bytes, or text as UTF-8, as the file ``path`` or the target of a link; see :func:`moved_into_place`.

    A pipe or device is written to, not replaced.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
    with moved_into_place(Path(os.path.realpath(path)) if path.is_symlink() else path) as part:
        part.write_bytes(data)


def local_path(source: str | Path) -> Path:
    """Return a path with ``~`` replaced by the home folder.

    Raises:
        SerzooError: no user has that home folder, or the path has a NUL.
    """
    if "\0" in str(source):
        raise SerzooError(f"{str(source)!r:.200} is not a path; leave the NUL out.")
    try:
        return Path(source).expanduser()
    except RuntimeError:
        raise SerzooError(f"{str(source)!r:.200} begins with no user's home folder; write the path out.") from None
