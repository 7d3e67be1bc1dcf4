"""Recordings of one's own: a folder per class, or a table (CSV) that names each recording and its label."""

from __future__ import annotations

import csv
import difflib
import io
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from serzoo.data.corpora.corpus import AUDIO_SUFFIXES, CORPORA, Corpus, Recording, Scan, check_folder
from serzoo.data.manifest import COLUMNS, Manifest, rating
from serzoo.errors import DataError, SerzooWarning
from serzoo.files import local_path, write_whole
from serzoo.labels import DIMENSIONS

_REQUIRED, _OPTIONAL = COLUMNS[:2], (*COLUMNS[2:], *DIMENSIONS)
_DELIMITERS = ",;\t"


def from_folders(root: str | Path, class_names: Sequence[str] | None = None) -> Manifest:
    """Read a folder that holds one sub-folder of wav, flac, ogg or mp3 files per class.

    Args:
        root: the folder; each sub-folder with audio files in it, at any depth, is a class.
        class_names: all classes in the order of the model's outputs; None takes the sub-folders'
            names, sorted.

    Returns:
        The recordings by class and, within each, by natural path. Only path and label are known.

    Raises:
        DataError: the folder is missing, holds no class, or only one where ``class_names`` is None.
        UnknownNameError: a sub-folder's name is not in ``class_names``.
    """
    return ClassFolders(class_names).load(root)


def from_csv(path: str | Path, root: str | Path | None = None, class_names: Sequence[str] | None = None) -> Manifest:
    """Read a table of recordings: UTF-8, separated by comma, semicolon or tab, with a header.

    Args:
        path: the table. Its columns ``path`` and ``label`` must be filled; ``speaker``, ``gender``,
            ``text``, ``session`` and ``intensity`` are optional, as are ratings of ``valence``, ``arousal`` and
            ``dominance`` in 0..1; further columns are kept.
        root: the folder that relative paths start from; None takes the table's own.
        class_names: all classes in the order of the model's outputs; None takes the labels, sorted.

    Returns:
        The recordings in the table's order.

    Raises:
        DataError: the table is missing, empty, not UTF-8 or malformed; a column, path, label or audio
            file is missing; a path occurs twice; a rating is no number in 0..1; only one class where
            ``class_names`` is None.
        UnknownNameError: a label is not in ``class_names``.
    """
    import pandas as pd

    table = local_path(path)
    folder = table.parent if root is None else check_folder(root)
    rows = read_table(table, _REQUIRED, _OPTIONAL)
    _check_rows(rows, folder, table)
    for line, row in rows.items():
        for name in DIMENSIONS:
            rating(row.get(name, ""), f"{table} line {line}: the {name}")
    frame = pd.DataFrame([{**row, "path": str(folder / row["path"])} for row in rows.values()])
    frame = frame.reindex(columns=list(dict.fromkeys((*COLUMNS, *frame.columns))), fill_value="")
    found = sorted(set(frame["label"]))
    if class_names is None and len(found) < 2:
        raise DataError(f"{table} has the one class {found[0]!r}; a classifier needs at least 2.")
    return Manifest(frame, tuple(found if class_names is None else class_names), table.stem)


def to_csv(manifest: Manifest, path: str | Path) -> None:
    """Write a manifest as a table that :func:`from_csv` reads back; an existing file is replaced at once.

    Args:
        manifest: the recordings. Their order is kept; the order of their classes is not in the table.
        path: the file. Recordings below its folder get relative paths, so the folder can be moved.

    Raises:
        DataError: the file's folder cannot be written.
    """
    target = local_path(path)
    folder = target.parent.absolute()
    frame = manifest.frame.assign(path=[_portable(name, folder) for name in manifest.frame["path"]])
    try:
        write_whole(target, frame.to_csv(index=False, lineterminator="\n"))
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror}); choose another folder.") from None


class ClassFolders(Corpus):
    """A folder per class, as a corpus without published counts.

    Args:
        class_names: as :func:`from_folders` takes them.
    """

    name = "folder"
    title = "folder-per-class"
    class_names = ()
    licence = ""
    source = ""
    layout = "<class>/<any name>.wav"
    suffixes = (*AUDIO_SUFFIXES, ".ogg", ".mp3")

    def __init__(self, class_names: Sequence[str] | None = None) -> None:
        self._given = None if class_names is None else tuple(class_names)

    def parse(self, path: PurePath) -> Recording:
        """Take the first folder's name as the label."""
        if len(path.parts) < 2:
            raise self.misnamed(path)
        return Recording(label=path.parts[0], utterance=path.with_suffix("").as_posix())

    def load(self, root: str | Path) -> Manifest:
        """Return :meth:`Corpus.load`'s manifest under the folder's own name."""
        manifest = super().load(root)
        return Manifest(manifest.frame, manifest.class_names, Path(root).resolve().name)

    def present_classes(self, labels: Iterable[str]) -> tuple[str, ...]:
        """Return the given class names, or else the labels, sorted."""
        return self._given or tuple(sorted(set(labels)))


class Table(Corpus):
    """A table of recordings, as a corpus without published counts; its root is the file."""

    name = "csv"
    title = "CSV"
    class_names = ()
    licence = ""
    source = ""
    layout = "a table with the columns path and label"

    def scan(self, root: str | Path) -> Scan:
        """List the table's recordings."""
        manifest = from_csv(root)
        known = zip(*(manifest.frame[column] for column in COLUMNS[1:]), strict=True)
        return Scan(tuple(zip(manifest.paths, (Recording(*values) for values in known), strict=True)))

    def load(self, root: str | Path) -> Manifest:
        """Return :func:`from_csv`'s manifest."""
        return from_csv(root)


CORPORA.register("folder", ClassFolders())
CORPORA.register("csv", Table())


def read_table(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[int, dict[str, str]]:
    """Read a table: UTF-8, separated by comma, semicolon or tab, with a header.

    Args:
        path: the table.
        required: columns that it must have.
        optional: columns whose misspelling is worth a :class:`~serzoo.errors.SerzooWarning`.

    Returns:
        The rows, values by column, under the number of the line that each ends on, from 1 on.

    Raises:
        DataError: the table is missing, not UTF-8, malformed or without rows, or lacks a column.
    """
    text = _read_text(path, required)
    first_line = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first_line.count), strict=True)
    rows: dict[int, list[str]] = {}
    try:
        for row in reader:
            if any(map(str.strip, row)):
                rows[reader.line_num] = [value.strip() for value in row]
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num} is not valid CSV ({error}); check its quotes.") from None
    if len(rows) < 2:
        found = "only a header" if rows else "nothing"
        raise DataError(f"{path} holds {found}; it needs a header with {_and(required)}, and lines below it.")
    header = rows.pop(next(iter(rows)))
    _check_header(header, path, required, optional)
    for line, row in rows.items():
        if len(row) != len(header):
            raise DataError(
                f"{path} line {line} has {len(row)} values, its header {len(header)}; quote commas in values."
            )
    return {line: dict(zip(header, row, strict=True)) for line, row in rows.items()}


def _read_text(path: Path, required: Sequence[str]) -> str:
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"Table {path} {found}; give a CSV file with the columns {_and(required)}.")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(f"{path} is not UTF-8 (byte 0x{byte:02x} at {error.start}); save it as UTF-8.") from None


def _check_header(header: list[str], path: Path, required: Sequence[str], optional: Sequence[str]) -> None:
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{path} has the column {twice[0]!r} twice; give each column a name of its own.")
    for column in required:
        if column not in header:
            near = _nearest(column, header)
            hint = f" Did you mean {column!r} by {near!r}?" if near else ""
            raise DataError(f"{path} has no column {column!r}.{hint} Its header names: {', '.join(header)}.")
    free = [name for name in header if name not in (*required, *optional)]
    for column in optional:
        near = None if column in header else _nearest(column, free)
        if near:
            warnings.warn(
                f"{path}: the column {near!r} is kept but not used; call it {column!r} if it is that",
                SerzooWarning,
                stacklevel=4,
            )


def _nearest(name: str, candidates: Sequence[str]) -> str | None:
    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name, by_lower_case, n=1, cutoff=0.75)
    return by_lower_case[near[0]] if near else None


def _check_rows(rows: Mapping[int, Mapping[str, str]], folder: Path, table: Path) -> None:
    """Raise unless each row has a label and the path of a file that no other row has."""
    files = {line: os.path.normpath(folder / row["path"]) for line, row in rows.items()}
    first_line = {file: line for line, file in reversed(files.items())}
    faults = {
        "no path": [line for line, row in rows.items() if not row["path"]],
        "no label": [line for line, row in rows.items() if not row["label"]],
        f"a path that is no file in {folder}": [line for line, file in files.items() if not Path(file).is_file()],
        "a path that an earlier row has": [line for line, file in files.items() if first_line[file] != line],
    }
    for fault, lines in faults.items():
        if lines:
            first_one = f"first: line {lines[0]}, {rows[lines[0]]['path']!r}"
            raise DataError(f"{table}: {len(lines)} of {len(rows)} rows have {fault} ({first_one}); correct them.")


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _portable(name: str, folder: Path) -> str:
    path = Path(name).absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
