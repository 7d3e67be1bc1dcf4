"""A synthetic corpus of speech-like clips, for examples and tests without recordings.

:mod:`serzoo.data.synthetic_voice` makes the clips; this module names them as real corpora do. A score on them shows
that a model learns, and nothing about real speech.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import NamedTuple

from serzoo import strict_yaml
from serzoo.checks import check, integer
from serzoo.data.corpora import CORPORA, Corpus, Recording
from serzoo.data.manifest import Manifest
from serzoo.data.synthetic_voice import synthesize
from serzoo.errors import DataError, unknown_name
from serzoo.files import local_path, moved_into_place
from serzoo.labels import FEMALE, MALE

VERSION = 1
"""Raised whenever the same arguments give other clips; part of the folder name under which :func:`load` keeps them."""


class SyntheticClip(NamedTuple):
    """A clip of a synthetic corpus: its path below the root without suffix, its metadata, and its take."""

    name: str
    recording: Recording
    take: int


def write_corpus(
    root: str | Path,
    corpus: str = "ravdess",
    n_speakers: int = 4,
    n_texts: int = 2,
    takes: int = 1,
    seed: int = 0,
    sample_rate: int = 16_000,
    class_names: Sequence[str] | None = None,
    fmt: str = "wav",
) -> Path:
    """Write a synthetic corpus with the file names of a real one.

    The folder gets its name when it is complete.

    Args:
        root: the new folder; an empty one may exist.
        corpus: the real corpus; see :func:`plan_corpus`, also for the next three.
        n_speakers: number of speakers.
        n_texts: number of texts.
        takes: recordings of each text with each emotion by each speaker.
        seed: of the voices and texts, 0 or above.
        sample_rate: in Hz, 8000 or above.
        class_names: emotions to write; None for all of the corpus.
        fmt: ``"wav"`` or ``"flac"``, both mono with 16 bits.

    Returns:
        ``root``.

    Raises:
        UnknownNameError: an unknown corpus or format, or an emotion that the corpus does not have.
        DataError: the folder is not empty, or the corpus's file names do not distinguish so many recordings.
    """
    clips = plan_corpus(corpus, n_speakers, n_texts, takes, class_names)
    if fmt not in ("wav", "flac"):
        raise unknown_name("audio format", fmt, ("wav", "flac"))
    target = local_path(root)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} exists; give a new or empty folder.")
    try:
        with moved_into_place(target) as folder:
            for clip in clips:
                _write_clip(clip, folder / f"{clip.name}.{fmt}", seed, sample_rate)
            if corpus == "iemocap":
                _write_iemocap_labels(clips, folder)
    except OSError as error:
        raise DataError(f"{target} cannot be written ({error.strerror}); give another folder.") from None
    return target


def load(folder: str | Path | None = None, n_speakers: int = 8, takes: int = 4, seed: int = 0) -> Manifest:
    """Return the built-in corpus: eight emotions, two texts, RAVDESS's file names; 480 clips by default.

    The first call writes the clips to ``folder``; later calls find them there.

    Args:
        folder: the parent of the clips' folder, which is named after the other arguments; None for serzoo's cache.
        n_speakers: 1 to 24, men and women in turns.
        takes: 1 to 4 of each text; at most 2 of neutral ones.
        seed: of the voices and texts, 0 or above.

    Raises:
        DataError: a number is out of range.
    """
    from serzoo.data.cache import default_folder

    parent = default_folder().parent if folder is None else local_path(folder)
    root = parent / f"synthetic-v{VERSION}-{n_speakers}x{takes}-seed{seed}"
    if not root.is_dir():
        try:
            write_corpus(root, "ravdess", n_speakers, n_texts=2, takes=takes, seed=seed)
        except DataError:
            if not root.is_dir():  # else another process has written it meanwhile
                raise
    return replace(CORPORA.get("ravdess").load(root), corpus="synthetic")


def plan_corpus(
    corpus: str, n_speakers: int = 4, n_texts: int = 2, takes: int = 1, class_names: Sequence[str] | None = None
) -> list[SyntheticClip]:
    """Return the clips that :func:`write_corpus` writes.

    Args:
        corpus: casia, cremad, emodb, emovo, iemocap, ravdess, savee or tess.
        n_speakers: number of its speakers, men and women in turns where it has both.
        n_texts: number of its texts.
        takes: recordings of each text with each emotion by each speaker. RAVDESS has four (two normal, two strong; no
            strong neutral ones), EMO-DB six, IEMOCAP a hundred, the others one.
        class_names: emotions; None for all of the corpus.

    Raises:
        UnknownNameError: an unknown corpus, or an emotion that it does not have.
        DataError: the corpus's file names do not distinguish so many speakers, texts or takes.
    """
    if corpus not in _LAYOUTS:
        raise unknown_name("corpus with synthetic clips", corpus, _LAYOUTS)
    layout = _LAYOUTS[corpus]
    labels = layout.codes if class_names is None else class_names
    for label in labels:
        if label not in layout.codes:
            raise unknown_name(f"class of {corpus}", label, layout.codes)
    for name, value, most in (
        ("n_speakers", n_speakers, len(layout.speakers)),
        ("n_texts", n_texts, len(layout.texts)),
        ("takes", takes, len(layout.takes)),
    ):
        check(f"{name} of a synthetic {corpus}", value, integer(at_least=1, at_most=most), DataError)
    return [
        SyntheticClip(layout.name(label, speaker, text, take), Recording(label, speaker, gender, text), take)
        for speaker, gender in list(layout.speakers.items())[:n_speakers]
        for label in labels
        for text in layout.texts[:n_texts]
        for take in range(min(takes, 2) if (corpus, label) == ("ravdess", "neutral") else takes)
    ]


def _write_clip(clip: SyntheticClip, path: Path, seed: int, sample_rate: int) -> None:
    import soundfile

    who = clip.recording
    waveform = synthesize(who.label, who.speaker, who.gender, who.text, clip.take, seed, sample_rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, sample_rate, subtype="PCM_16")


def _write_iemocap_labels(clips: Sequence[SyntheticClip], folder: Path) -> None:
    """Write the label file of each dialog, as IEMOCAP's ``EmoEvaluation`` folders have them."""
    lines: dict[Path, list[str]] = {}
    for clip in clips:
        session, _, _, dialog, utterance = clip.name.split("/")
        path = folder / session / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        start = 5.0 * len(lines.setdefault(path, ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]))
        code = _LAYOUTS["iemocap"].codes[clip.recording.label]
        lines[path].append(f"[{start:.4f} - {start + 4:.4f}]\t{utterance}\t{code}\t[2.5000, 2.5000, 2.5000]")
    for path, text in lines.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(text) + "\n")


# File names: the inverse of the parsers in serzoo.data.corpora --------------------------------------------------------


class _Layout(NamedTuple):
    """Codes by emotion, speakers with their genders, texts, fields of each take, and the template of file names."""

    codes: dict[str, str]
    speakers: dict[str, str]
    texts: list[str]
    takes: list[dict[str, str]]
    path: str

    def name(self, label: str, speaker: str, text: str, take: int) -> str:
        number = list(self.codes).index(label)
        fields = {"speaker": speaker, "text": text, "label": self.codes[label], "number": number, **self.takes[take]}
        return self.path.format_map(fields)


def _layout(corpus: str, path: str, texts: str, takes: Mapping[str, str] = MappingProxyType({})) -> _Layout:
    imitated = CORPORA.get(corpus)
    codes = {label: code for code, label in imitated.labels.items()}
    men, women = ([name for name, own in imitated.genders.items() if own == gender] for gender in (MALE, FEMALE))
    turns = filter(None, chain.from_iterable(zip_longest(men, women)))
    fields = zip(*([(key, value) for value in values.split()] for key, values in takes.items()), strict=True)
    return _Layout(
        {label: codes[label] for label in imitated.class_names},
        {speaker: imitated.genders[speaker] for speaker in turns},
        texts.split(),
        [dict(take) for take in fields] or [{}],
        path,
    )


_LAYOUTS = {
    corpus: _layout(corpus, **facts) for corpus, facts in strict_yaml.read(Path(__file__).with_suffix(".yaml")).items()
}


class Synthetic(Corpus):
    """The built-in corpus in the registry, for recipes and the command line."""

    name = "synthetic"
    title = "the synthetic corpus"
    class_names = CORPORA.get("ravdess").class_names
    licence = "free: no recordings; serzoo makes it on first use"
    source = "serzoo itself"
    layout = CORPORA.get("ravdess").layout

    def parse(self, path: PurePath) -> Recording | None:
        """Read RAVDESS's file names."""
        return CORPORA.get("ravdess").parse(path)

    def default_root(self) -> Path:
        """Return serzoo's cache folder."""
        from serzoo.data.cache import default_folder

        return default_folder().parent

    def load(self, root: str | Path) -> Manifest:
        """Return the corpus of :func:`load`; the first call writes it to ``root``."""
        return load(root)


CORPORA.register("synthetic", Synthetic())
