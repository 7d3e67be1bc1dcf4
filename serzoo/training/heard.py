"""What a trained model has heard: a list beside its file, for what is pretrained must not have heard a test part."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from serzoo.files import write_whole

HEARD = "heard.txt"
"""The list, in the folder of a fold: a line for each recording of the training and validation parts."""

_DIGITS = 16
"""Of a recording's hash that are kept: enough to tell recordings apart, a quarter of its length."""


def write_heard(folder: Path, content_hashes: Iterable[str], weight_files: Iterable[Path] = ()) -> None:
    """Write the list of a model that is in ``folder``.

    Args:
        folder: of the fold.
        content_hashes: of the audio of its training and validation parts.
        weight_files: the models it started from or was held against, whose own lists are added where they are known.
    """
    heard = {content[:_DIGITS] for content in content_hashes}
    for path in weight_files:
        heard |= read_heard(path) or frozenset()
    write_whole(folder / HEARD, "".join(f"{content}\n" for content in sorted(heard)))


def read_heard(model_file: Path) -> frozenset[str] | None:
    """Return the beginnings of the hashes of what a model has heard, or None if there is no list beside its file."""
    path = model_file.parent / HEARD
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else None


def count_heard(model_file: Path, content_hashes: Iterable[str]) -> int | None:
    """Return how many of these recordings a model has heard, or None if that is not known."""
    heard = read_heard(model_file)
    return None if heard is None else sum(content[:_DIGITS] in heard for content in content_hashes)
