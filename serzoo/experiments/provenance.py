"""Provenance: the training recordings of a model, as a list of content hashes next to its file.

A model that starts from pretrained weights must not be tested on their training recordings.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from serzoo.files import write_whole

PROVENANCE = "provenance.txt"
"""The list, in the folder of a fold: a line for each recording of the training and validation parts."""

_EARLIER_NAME = "heard.txt"  # in run folders of versions before 0.1.0

_DIGITS = 16
"""Hex digits stored of each hash: 64 bits, enough to distinguish recordings, a quarter of its length."""


def write_provenance(folder: Path, content_hashes: Iterable[str], weight_files: Iterable[Path] = ()) -> None:
    """Write the list of the model in ``folder``.

    Args:
        folder: of the fold.
        content_hashes: of the audio of its training and validation parts.
        weight_files: the models it started from or was trained against, whose own lists are added where they exist.
    """
    hashes = {content[:_DIGITS] for content in content_hashes}
    for path in weight_files:
        hashes |= read_provenance(path) or frozenset()
    write_whole(folder / PROVENANCE, "".join(f"{content}\n" for content in sorted(hashes)))


def read_provenance(model_file: Path) -> frozenset[str] | None:
    """Return the first digits of the hashes of a model's training recordings; None if there is no list."""
    lists = (model_file.parent / name for name in (PROVENANCE, _EARLIER_NAME))
    path = next((path for path in lists if path.is_file()), None)
    return None if path is None else frozenset(path.read_text(encoding="utf-8").split())


def count_seen(model_file: Path, content_hashes: Iterable[str]) -> int | None:
    """Return how many of these recordings a model was trained on; None if unknown."""
    hashes = read_provenance(model_file)
    return None if hashes is None else sum(content[:_DIGITS] in hashes for content in content_hashes)
