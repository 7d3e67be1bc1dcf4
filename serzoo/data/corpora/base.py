"""What a corpus is: a file-name grammar, class names and the counts its authors published."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import ClassVar

from serzoo.data.manifest import Manifest
from serzoo.errors import DataError, SerzooWarning
from serzoo.registry import Registry

AUDIO_SUFFIXES = (".wav", ".flac")


class MisnamedFileError(DataError):
    """An audio file whose name does not follow its corpus's grammar."""


@dataclass(frozen=True)
class Recording:
    """What a file name (and the corpus's label files) say about one recording; ``""`` where unknown."""

    label: str
    speaker: str = ""
    gender: str = ""
    text: str = ""
    session: str = ""
    intensity: str = ""


class Corpus:
    """Base of all corpora; a subclass sets the attributes and writes :meth:`parse`.

    Attributes:
        name: lower-case registry name.
        title: the name as printed.
        class_names: classes in the order of the published models' outputs.
        licence: under which terms the recordings may be used.
        source: where to get the recordings.
        layout: one line that shows where the audio files lie below the root.
        sample_rates: the rates, in Hz, that the published files have.
        class_counts: recordings per class.
        speaker_counts: recordings per speaker.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]
    licence: ClassVar[str]
    source: ClassVar[str]
    layout: ClassVar[str]
    sample_rates: ClassVar[tuple[int, ...]]
    class_counts: ClassVar[Mapping[str, int]]
    speaker_counts: ClassVar[Mapping[str, int]]

    def parse(self, path: PurePath) -> Recording | None:
        """Read what the name of a file tells.

        Args:
            path: the file's path relative to the corpus root.

        Returns:
            The recording, or None for a file of the corpus that is not part of the standard
            selection (a song of RAVDESS, say).

        Raises:
            MisnamedFileError: the name does not follow the grammar.
        """
        raise MisnamedFileError(f"{path}: {self.title} has no file-name grammar.")

    def match(self, pattern: re.Pattern[str], path: PurePath) -> dict[str, str]:
        """Match ``path``'s stem against ``pattern`` and return the named groups (``""`` where absent)."""
        found = pattern.fullmatch(path.stem)
        if found is None:
            raise MisnamedFileError(f"{path}: not a file name of {self.title}; expected {self.layout}.")
        return found.groupdict(default="")

    def prepare(self, root: Path) -> Corpus:
        """Return the corpus to scan ``root`` with; one that reads label files loads them here."""
        del root
        return self

    def load(self, root: str | Path) -> Manifest:
        """Scan ``root`` and return its manifest.

        Raises:
            DataError: the folder is missing or holds no recording of this corpus.
        """
        folder = check_folder(root)
        corpus = self.prepare(folder)
        rows, misnamed = [], []
        for path in audio_files(folder):
            try:
                recording = corpus.parse(path.relative_to(folder))
            except MisnamedFileError:
                misnamed.append(path)
                continue
            if recording is not None:
                rows.append((path, recording))
        if misnamed:
            warnings.warn(
                f"{len(misnamed)} audio files under {folder} are not named as {self.title} files are "
                f"(first: {misnamed[0].name}) and were left out; run: serzoo data verify {self.name} {folder}",
                SerzooWarning,
                stacklevel=2,
            )
        if not rows:
            raise DataError(
                f"No {self.title} recordings under {folder}; expected {self.layout} (wav or flac). Get it from {self.source}."
            )
        return build_manifest(rows, self.class_names, self.name)


CORPORA: Registry[Corpus] = Registry("corpus")


def check_folder(root: str | Path) -> Path:
    """Return ``root`` as a path if it is a folder.

    Raises:
        DataError: it does not exist or is a file.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"Folder {folder} {found}; give the folder that holds the recordings.")
    return folder


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which ``a2`` comes before ``a10``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


def audio_files(root: Path) -> Iterator[Path]:
    """Yield the wav and flac files below ``root``, hidden ones left out, in natural order."""
    found = (
        path
        for path in root.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    yield from sorted(found, key=lambda path: natural_key(path.relative_to(root).as_posix()))


def build_manifest(
    rows: list[tuple[Path, Recording]], class_names: tuple[str, ...], corpus: str
) -> Manifest:
    """Order recordings by class, then by natural file name, and return them as a manifest."""
    import pandas as pd

    order = {name: index for index, name in enumerate(class_names)}
    rows = sorted(rows, key=lambda row: (order.get(row[1].label, -1), natural_key(row[0].name), str(row[0])))
    frame = pd.DataFrame([{"path": str(path), **asdict(recording)} for path, recording in rows])
    return Manifest(frame, class_names, corpus)


__all__ = [
    "AUDIO_SUFFIXES", "CORPORA", "Corpus", "MisnamedFileError", "Recording",
    "audio_files", "build_manifest", "check_folder", "natural_key",
]  # fmt: skip
