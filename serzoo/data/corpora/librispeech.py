"""LibriSpeech: English audiobooks read by volunteers (Panayotov et al., 2015)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from types import MappingProxyType

from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording, audio_files, warn
from serzoo.data.manifest import in_natural_order
from serzoo.errors import DataError
from serzoo.labels import FEMALE, MALE

UTTERANCE_NAME = re.compile(r"(?P<speaker>[0-9]+)-(?P<chapter>[0-9]+)-(?P<number>[0-9]{4})")
"""Name of a recording: reader, chapter and number in the chapter."""

_SPEAKER_TABLE, _TRANSCRIPT = "SPEAKERS.TXT", ".trans.txt"
_GENDERS = {"F": FEMALE, "M": MALE}


class LibriSpeech(Corpus):
    """All subsets below the root; the class is the reader, a task for pretraining.

    Readers' genders are in ``SPEAKERS.TXT``, in the root or next to it; without that table they are unknown. The text
    is the chapter's transcript where there is one, the session the chapter.

    Args:
        genders: by reader, as :meth:`prepare` reads them.
        texts: by utterance, likewise.
    """

    name = "librispeech"
    title = "LibriSpeech"
    class_names = ()
    classes_are = "speakers"
    licence = "CC BY 4.0"
    source = "https://www.openslr.org/12"
    layout = "train-clean-100/103/1240/103-1240-0000.flac"
    sample_rates = (16_000,)

    def __init__(
        self, genders: Mapping[str, str] = MappingProxyType({}), texts: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._genders, self._texts = genders, texts

    def prepare(self, root: Path) -> LibriSpeech:
        """Read the readers' genders and the transcripts.

        Raises:
            DataError: a line of either cannot be read.
        """
        transcripts = (path for path in audio_files(root, (".txt",)) if path.name.endswith(_TRANSCRIPT))
        texts = {utterance: text for path in transcripts for utterance, text in _read_transcript(path)}
        return LibriSpeech(_read_genders(root), texts)

    def parse(self, path: PurePath) -> Recording:
        """Read a name such as ``103-1240-0000``: reader, chapter, number."""
        fields = self.match(UTTERANCE_NAME, path)
        return Recording(
            label=fields["speaker"],
            speaker=fields["speaker"],
            gender=self._genders.get(fields["speaker"], ""),
            text=self._texts.get(path.stem, ""),
            session=fields["chapter"],
        )

    def present_classes(self, labels: Iterable[str]) -> tuple[str, ...]:
        """Return the readers in natural order."""
        return tuple(in_natural_order(labels))


def _read_genders(root: Path) -> dict[str, str]:
    """Read the table of readers, ``ID | SEX | SUBSET | MINUTES | NAME``; a line with ``;`` first is a comment."""
    places = [folder / _SPEAKER_TABLE for folder in (root, root.resolve().parent, *sorted(root.glob("*/")))]
    table = next((place for place in places if place.is_file()), None)
    if table is None:
        warn(f"{LibriSpeech.title}: no {_SPEAKER_TABLE} in {root} or next to it; the readers' genders are unknown")
        return {}
    genders = {}
    for number, line in enumerate(table.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip() or line.startswith(";"):
            continue
        reader, _, rest = (part.strip() for part in line.partition("|"))
        gender = rest.partition("|")[0].strip()
        if not reader.isdecimal() or gender not in _GENDERS:
            raise DataError(
                f"{table} line {number}: {line.strip()!r} does not begin with a reader's number and F or M "
                "(ID | SEX | ...); get the file again."
            )
        genders[reader] = _GENDERS[gender]
    return genders


def _read_transcript(path: Path) -> Iterable[tuple[str, str]]:
    """Yield the utterances of a chapter and their words."""
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        utterance, _, text = line.strip().partition(" ")
        if UTTERANCE_NAME.fullmatch(utterance):
            yield utterance, text.strip()
        elif utterance:
            raise DataError(
                f"{path} line {number}: {line.strip()!r:.80} does not begin with an utterance such as 103-1240-0000; "
                "get the file again."
            )


CORPORA.register("librispeech", LibriSpeech())
