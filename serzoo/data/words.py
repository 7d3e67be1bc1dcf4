"""Single words cut out of LibriSpeech: recordings to pretrain the recognition of words on."""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from serzoo.data.audio import probe, read
from serzoo.data.corpora.corpus import CORPORA, Recording, build_manifest, check_folder
from serzoo.data.sources import read_table, to_csv
from serzoo.data.workers import in_order, with_progress
from serzoo.errors import DataError, SerzooWarning
from serzoo.files import local_path, moved_into_place

ALIGNMENT_COLUMNS = ("utterance", "word", "start", "end")
"""Columns of the table that says when which word is said."""

TABLE = "words.csv"
"""The table of the words that were cut, in their folder."""

_FULL_SCALE = 2**15


class _Spoken(NamedTuple):
    """A word that is said, from when to when in seconds, and the line of the alignments that says so."""

    line: int
    word: str
    start: float
    end: float


_Cut = tuple[str, int, slice]
"""A word, its place among those of its utterance, from 0 on, and the samples that it takes up there."""


def cut_words(
    root: str | Path,
    alignments: str | Path,
    target: str | Path,
    *,
    n_words: int = 1000,
    progress: bool = False,
) -> Path:
    """Cut every occurrence of the most frequent words out of LibriSpeech's recordings.

    The task of Guizzo et al. (2021 and 2023), who pretrain on the 1000 most frequent words of ``train-clean-100``,
    each padded with zeros to 4 seconds, at a random offset in every batch. Here the words keep their length;
    padding belongs to the features of a recipe.

    Args:
        root: LibriSpeech, or one of its subsets; words are counted in the alignments, even if these cover only a part.
        alignments: a table, UTF-8, with the columns ``utterance`` (``103-1240-0000``), ``word``, ``start`` and ``end``
            (seconds from the recording's beginning). A row without a word is a pause.
        target: the folder to write, new or empty. It gets its name when everything is written.
        n_words: number of words, at least 2; ties go to the alphabetically first.
        progress: whether to show a progress bar on standard error.

    Returns:
        The table ``target/words.csv`` for the corpus ``csv``: label and text are the word in lower case, speaker,
        gender and session (the chapter) LibriSpeech's. Each occurrence is a file
        ``<speaker>/<chapter>/<utterance>-<place of the word>.flac``, 16 bit, the very samples of the recording from
        ``round(start * rate)`` up to, not including, ``round(end * rate)``.

    Raises:
        DataError: the target holds something; the table is missing or malformed; a word starts where it ends or
            later, or ends after its recording; an utterance has no recording; there are fewer than two words.
        AudioError: a recording cannot be read.
        OSError: the target cannot be written.
    """
    folder, table = local_path(target), local_path(alignments)
    check_folder(root)
    if n_words < 2:
        raise DataError(f"The number of words is {n_words}; a task needs at least 2.")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        found = f"holds the words of {TABLE} already" if (folder / TABLE).is_file() else "is not a new or empty folder"
        raise DataError(f"{folder} {found}; remove it or name another folder.")
    spoken = _read_alignments(table)
    words = _most_frequent(spoken, n_words, table)
    places = {
        name: [(place, one) for place, one in enumerate(said) if one.word in words] for name, said in spoken.items()
    }
    recordings = _recordings(root, {name: chosen[0][1].line for name, chosen in places.items() if chosen}, table)
    cuts = {name: _cuts(path, places[name], table) for name, (path, _) in recordings.items()}
    with moved_into_place(folder) as part:
        written = in_order(lambda name: _write_words(part, *recordings[name], cuts[name]), list(recordings), None)
        rows = list(chain.from_iterable(with_progress(written, "Cutting", len(recordings), progress)))
        to_csv(build_manifest(rows, tuple(sorted(words)), "words"), part / TABLE)
    return folder / TABLE


def _read_alignments(table: Path) -> dict[str, list[_Spoken]]:
    """Return the words of each utterance, in order."""
    spoken: dict[str, list[_Spoken]] = defaultdict(list)
    for line, row in read_table(table, ALIGNMENT_COLUMNS).items():
        if row["word"]:
            spoken[row["utterance"]].append(_spoken(row, line, table))
    for utterance, words in spoken.items():
        words.sort(key=lambda one: (one.start, one.line))
        for one, following in pairwise(words):
            if one.start == following.start:
                raise DataError(
                    f"{table} lines {one.line} and {following.line}: two words of {utterance} start at "
                    f"{one.start:g} s; give each once."
                )
    return spoken


def _spoken(row: Mapping[str, str], line: int, table: Path) -> _Spoken:
    try:
        start, end = float(row["start"]), float(row["end"])
    except ValueError:
        start = end = math.nan
    if not 0 <= start < end < math.inf:
        raise DataError(
            f"{table} line {line}: {row['word']!r} runs from {row['start']!r} to {row['end']!r}; give seconds from the "
            "recording's beginning on, the start before the end."
        )
    return _Spoken(line, row["word"].lower(), start, end)


def _most_frequent(spoken: Mapping[str, Sequence[_Spoken]], n_words: int, table: Path) -> set[str]:
    counts = Counter(one.word for words in spoken.values() for one in words)
    if len(counts) < 2:
        found = f"the one word {next(iter(counts))!r}" if counts else "no word"
        raise DataError(f"{table} has {found}; a task needs at least 2, so give the alignments of more recordings.")
    if len(counts) < n_words:
        warnings.warn(
            f"{table} has {len(counts)} different words where {n_words} are asked for; all of them are cut",
            SerzooWarning,
            stacklevel=3,
        )
    return set(sorted(counts, key=lambda word: (-counts[word], word))[:n_words])


def _recordings(root: str | Path, lines: Mapping[str, int], table: Path) -> dict[str, tuple[Path, Recording]]:
    """Return the recordings of the utterances; ``lines`` are their line numbers in the alignments."""
    found = {path.stem: (path, recording) for path, recording in CORPORA.get("librispeech").scan(root).recordings}
    missing = [utterance for utterance in lines if utterance not in found]
    if missing:
        raise DataError(
            f"{table}: {len(missing)} of {len(lines)} utterances have no recording in {root} (first: line "
            f"{lines[missing[0]]}, {missing[0]!r}); give the folder that holds them or leave their lines out."
        )
    return {utterance: found[utterance] for utterance in lines}


def _cuts(path: Path, places: Sequence[tuple[int, _Spoken]], table: Path) -> list[_Cut]:
    """Return the samples that words take up in the recording at ``path``."""
    info = probe(path)
    cuts = []
    for place, spoken in places:
        start, stop = (round(seconds * info.sample_rate) for seconds in (spoken.start, spoken.end))
        what = f"{table} line {spoken.line}: {spoken.word!r}"
        if stop > info.n_samples:
            raise DataError(
                f"{what} ends at {spoken.end:g} s, its recording {path.name} at {info.duration:g} s; correct the line "
                "or get the recording again."
            )
        if start == stop:
            raise DataError(f"{what} holds no sample of {path.name} at {info.sample_rate} Hz; correct the line.")
        cuts.append((spoken.word, place, slice(start, stop)))
    return cuts


def _write_words(folder: Path, path: Path, recording: Recording, cuts: Sequence[_Cut]) -> list[tuple[Path, Recording]]:
    waveform, sample_rate = read(path)
    samples = np.clip(np.round(waveform * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    written = []
    for word, place, part in cuts:
        target = folder / recording.speaker / recording.session / f"{path.stem}-{place:03d}.flac"
        target.parent.mkdir(parents=True, exist_ok=True)
        encoded = io.BytesIO()  # written by Python, so that a full disk is an OSError
        soundfile.write(encoded, samples[part], sample_rate, format="FLAC", subtype="PCM_16")
        target.write_bytes(encoded.getvalue())
        written.append((target, replace(recording, label=word, text=word)))
    return written
