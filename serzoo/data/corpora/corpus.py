"""The base of corpora: a grammar of file names, class names and the published counts."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from serzoo.data.manifest import COLUMNS, Manifest, natural_key
from serzoo.errors import DataError, SerzooWarning
from serzoo.files import local_path
from serzoo.labels import DIMENSIONS
from serzoo.registry import Registry

AUDIO_SUFFIXES = (".wav", ".flac")


class MisnamedFileError(DataError):
    """An audio file whose name does not follow its corpus's grammar."""


@dataclass(frozen=True)
class Recording:
    """The metadata of one recording, from its file name and the corpus's label files; ``""`` where unknown.

    Args:
        label: a class name.
        speaker: the speaker's name, unique within the corpus.
        gender: :data:`serzoo.labels.MALE` or :data:`serzoo.labels.FEMALE`.
        text: name of the text; recordings with the same text have the same words.
        session: the recording session.
        intensity: of the acted emotion.
        valence: pleasantness, a number in 0..1, high above 0.5, like the next two.
        arousal: excitement.
        dominance: degree of control.
        utterance: the recording's name where the file's own is not unique or differs between the
            layouts a corpus circulates in. Not part of the manifest.
    """

    label: str
    speaker: str = ""
    gender: str = ""
    text: str = ""
    session: str = ""
    intensity: str = ""
    valence: str = ""
    arousal: str = ""
    dominance: str = ""
    utterance: str = ""


@dataclass(frozen=True)
class Scan:
    """The audio files below a root, by use.

    Args:
        recordings: the recordings of the standard selection, each utterance once.
        repeated: further files of an utterance that is among the recordings already.
        skipped: files of the corpus that are not part of the standard selection.
        misnamed: files that do not follow the grammar.
    """

    recordings: tuple[tuple[Path, Recording], ...]
    repeated: tuple[Path, ...] = ()
    skipped: tuple[Path, ...] = ()
    misnamed: tuple[Path, ...] = ()


class Corpus:
    """Base of all corpora; a subclass sets the attributes and writes :meth:`parse`.

    Attributes:
        name: lower-case registry name.
        title: the name as printed.
        labels: class of each code in file names or label files.
        genders: gender of each speaker, where they are known.
        class_names: classes in the order of the published models' outputs; empty where they depend on the recordings.
        classes_are: kind of the classes, in the plural; emotions are those of
            :data:`serzoo.labels.CANONICAL_LABELS`.
        licence: of the recordings.
        source: where to get the recordings.
        layout: one line that shows where the audio files lie below the root.
        sample_rates: the rates, in Hz, that the published files have.
        class_counts: recordings per class; empty where nothing is published.
        speaker_counts: recordings per speaker; empty where nothing is published.
        channel_counts: recordings per number of channels; empty where nothing is published.
        suffixes: endings of the audio files, lower-case.
    """

    name: str
    title: str
    labels: Mapping[str, str] = {}
    genders: Mapping[str, str] = {}
    class_names: tuple[str, ...]
    classes_are: str = "emotions"
    licence: str
    source: str
    layout: str
    sample_rates: tuple[int, ...] = ()
    class_counts: Mapping[str, int] = {}
    speaker_counts: Mapping[str, int] = {}
    channel_counts: Mapping[int, int] = {}
    suffixes: tuple[str, ...] = AUDIO_SUFFIXES

    def parse(self, path: PurePath) -> Recording | None:
        """Read the metadata in the name of a file.

        Args:
            path: the file's path relative to the corpus root.

        Returns:
            The recording, or None for a file of the corpus that is not part of the standard
            selection (a song of RAVDESS, say).

        Raises:
            MisnamedFileError: the name does not follow the grammar.
        """
        raise self.misnamed(path)

    def match(self, pattern: re.Pattern[str], path: PurePath) -> dict[str, str]:
        """Match ``path``'s stem against ``pattern`` and return the named groups (``""`` where absent)."""
        found = pattern.fullmatch(path.stem)
        if found is None:
            raise self.misnamed(path)
        return found.groupdict(default="")

    def misnamed(self, path: PurePath) -> MisnamedFileError:
        """Return the error for a file whose name does not follow the grammar."""
        return MisnamedFileError(f"{path}: not a file name of {self.title}; expected {self.layout}.")

    def default_root(self) -> Path | None:
        """Return the folder to use where none is given; None where the recordings must be fetched by hand."""
        return None

    def prepare(self, root: Path) -> Corpus:
        """Return the corpus to scan ``root`` with; one that reads label files loads them here."""
        del root
        return self

    def scan(self, root: str | Path) -> Scan:
        """Find the audio files below ``root`` and read their names; none is opened.

        Raises:
            DataError: the folder is missing, or the label files that the corpus needs are.
        """
        folder = check_folder(root)
        corpus = self.prepare(folder)
        recordings: dict[str, tuple[Path, Recording]] = {}
        repeated, skipped, misnamed = [], [], []
        for path in audio_files(folder, self.suffixes):
            try:
                recording = corpus.parse(path.relative_to(folder))
            except MisnamedFileError:
                misnamed.append(path)
                continue
            if recording is None:
                skipped.append(path)
            elif (utterance := recording.utterance or path.stem) in recordings:
                repeated.append(path)
            else:
                recordings[utterance] = (path, recording)
        return Scan(tuple(recordings.values()), tuple(repeated), tuple(skipped), tuple(misnamed))

    def load(self, root: str | Path) -> Manifest:
        """Scan ``root`` and return its manifest.

        Files that do not follow the grammar, further copies of an utterance and classes without any
        recording are left out with a :class:`~serzoo.errors.SerzooWarning` that names them.

        Raises:
            DataError: the folder is missing or holds recordings of fewer than two classes.
        """
        scan = self.scan(root)
        if not scan.recordings:
            raise DataError(
                f"No {self.title} recordings under {root} ({len(scan.misnamed)} audio files have other names); "
                f"expected {self.layout} (wav or flac); run: serzoo data verify {self.name} {root}"
            )
        self._warn_about(scan.misnamed, "are not named as its files are", root)
        self._warn_about(scan.repeated, "repeat a recording that is there already", root)
        class_names = self.present_classes(recording.label for _, recording in scan.recordings)
        return build_manifest(scan.recordings, class_names, self.name)

    def present_classes(self, labels: Iterable[str]) -> tuple[str, ...]:
        """Return the classes among ``labels`` in the corpus's order, with a warning if some are absent.

        A class without recordings would be an output that nothing trains and a recall that is not defined.
        """
        found = set(labels)
        absent = [name for name in self.class_names if name not in found]
        if absent:
            warn(
                f"{self.title}: no recording of {', '.join(absent)}; the manifest has the other "
                f"{len(self.class_names) - len(absent)} of {len(self.class_names)} classes, so its scores "
                "are not comparable with published ones"
            )
        return tuple(name for name in self.class_names if name in found)

    def _warn_about(self, left_out: Sequence[Path], what: str, root: str | Path) -> None:
        if left_out:
            warn(
                f"{self.title}: {len(left_out)} audio files under {root} {what} (first: {left_out[0].name}) "
                f"and were left out; run: serzoo data verify {self.name} {root}"
            )


CORPORA: Registry[Corpus] = Registry("corpus")


def check_folder(root: str | Path) -> Path:
    """Return ``root`` as a path if it is a folder.

    Raises:
        DataError: it does not exist or is a file.
    """
    if not str(root):
        raise DataError("No folder is named (the path is empty); give the folder that holds the recordings.")
    folder = local_path(root)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"Folder {folder} {found}; give the folder that holds the recordings.")
    return folder


def audio_files(root: Path, suffixes: Sequence[str] = AUDIO_SUFFIXES) -> list[Path]:
    """Return the files below ``root`` that end in ``suffixes`` in natural order.

    Hidden files and folders are left out, linked folders are followed.
    """
    found = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        visible = (Path(folder, name) for name in names if not name.startswith("."))
        found += [path for path in visible if path.suffix.lower() in suffixes]
    return sorted(found, key=lambda path: natural_key(path.relative_to(root).as_posix()))


def build_manifest(rows: Sequence[tuple[Path, Recording]], class_names: tuple[str, ...], corpus: str) -> Manifest:
    """Order recordings by class, then by natural name, and return them as a manifest.

    The name is the utterance's where the corpus gives one, so that the order, and with it every
    random fold, is the same in whichever layout the corpus lies on disk; else the file's. The columns
    :data:`~serzoo.labels.DIMENSIONS` are there if a recording has one of them.
    """
    import pandas as pd

    order = {name: index for index, name in enumerate(class_names)}

    def key(row: tuple[Path, Recording]) -> tuple[int, list[tuple[int, int, str]], str]:
        path, recording = row
        return order.get(recording.label, -1), natural_key(recording.utterance or path.name), str(path)

    values = [{**vars(recording), "path": str(path)} for path, recording in sorted(rows, key=key)]
    rated = any(getattr(recording, name) for _, recording in rows for name in DIMENSIONS)
    columns = [*COLUMNS, *(DIMENSIONS if rated else ())]
    return Manifest(pd.DataFrame(values, columns=columns), class_names, corpus)


def warn(message: str) -> None:
    """Warn about a problem of a corpus that does not prevent loading it."""
    warnings.warn(message, SerzooWarning, stacklevel=4)
