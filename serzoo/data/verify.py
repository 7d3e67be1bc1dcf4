"""Checks of a corpus on disk against its published description: every recording is decoded."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from serzoo.data.audio import AudioInfo, probe, read
from serzoo.data.corpora.corpus import CORPORA, Corpus, MisnamedFileError, Recording, Scan
from serzoo.data.workers import in_order, with_progress
from serzoo.errors import AudioError
from serzoo.files import local_path

Severity = Literal["error", "warning", "note"]
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_SILENCE = 1e-3  # the quietest recording of RAVDESS has a range ten times as large
_MAX_FILES, _MAX_ITEMS = 5, 12

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Problem:
    """One finding.

    Args:
        severity: ``"error"``: recordings that cannot be used or contradict each other; ``"warning"``:
            usable, but not the corpus as published, or a risk to a result; ``"note"``: good to know.
        kind: one of a few fixed words such as ``"duplicate"``.
        message: the finding, one line.
        files: the files concerned, relative to the root where they are below it.
        remedy: the action to take, one line; ``""`` for none.
    """

    severity: Severity
    kind: str
    message: str
    files: tuple[str, ...] = ()
    remedy: str = ""


@dataclass(frozen=True)
class VerifyReport:
    """The findings of :func:`verify`; ``str(report)`` is the text to print.

    Args:
        corpus: registry name of the corpus.
        title: its name as printed.
        root: its folder or table.
        n_recordings: recordings of the standard selection, each utterance once.
        n_skipped: files of the corpus that are not part of that selection.
        seconds: total length of the recordings that could be decoded.
        class_counts: recordings per class, in the corpus's order.
        speaker_counts: recordings per speaker, ``""`` for unknown ones.
        sample_rates: recordings per sample rate in Hz.
        channels: recordings per number of channels.
        problems: the findings, errors first.
    """

    corpus: str
    title: str
    root: str
    n_recordings: int
    n_skipped: int
    seconds: float
    class_counts: Mapping[str, int]
    speaker_counts: Mapping[str, int]
    sample_rates: Mapping[int, int]
    channels: Mapping[int, int]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether every recording can be used; warnings and notes do not count."""
        return not any(problem.severity == "error" for problem in self.problems)

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain data for JSON, with ``ok``."""
        return {"ok": self.ok, **asdict(self)}

    def __str__(self) -> str:
        speakers = [speaker for speaker in self.speaker_counts if speaker]
        lines = [
            f"{self.title} in {self.root}: {_n(self.n_recordings, 'recording')}, "
            f"{_n(len(self.class_counts), 'class')}, {_n(len(speakers), 'known speaker')}, {self.seconds / 60:.1f} min"
        ]
        for problem in self.problems:
            lines.append(f"{problem.severity}: {problem.message}")
            lines += [f"    {name}" for name in problem.files[:_MAX_FILES]]
            if len(problem.files) > _MAX_FILES:
                lines.append(f"    and {len(problem.files) - _MAX_FILES} more")
            if problem.remedy:
                lines.append(f"    -> {problem.remedy}")
        counts = Counter(problem.severity for problem in self.problems)
        lines.append(", ".join(_n(counts[severity], severity) for severity in _SEVERITIES))
        return "\n".join(lines)


class _Decoded(NamedTuple):
    """A recording and the result of decoding it: its header and a digest of its samples, or why it cannot be used."""

    path: Path
    recording: Recording
    info: AudioInfo | None
    digest: str = ""
    silent: bool = False
    reason: str = ""


def verify(corpus: str, root: str | Path, progress: bool = False) -> VerifyReport:
    """Decode every recording of a corpus and compare the corpus with its published numbers.

    Args:
        corpus: a name of :data:`serzoo.data.corpora.CORPORA`, ``"folder"`` and ``"csv"`` included.
        root: the folder that holds the recordings; for ``"csv"`` the table.
        progress: whether to show a progress bar on standard error.

    Returns:
        The findings. A folder without any recording of the corpus is a finding, too.

    Raises:
        UnknownNameError: no such corpus.
        DataError: the folder, the label files or the table cannot be read.
    """
    source, root = CORPORA.get(corpus), local_path(root)
    scan = source.scan(root)
    results = in_order(lambda item: _decode(*item), scan.recordings, None)
    checked = list(with_progress(results, "Decoding", len(scan.recordings), progress))
    infos = [item.info for item in checked if item.info is not None]
    classes = Counter(recording.label for _, recording in scan.recordings)
    return VerifyReport(
        corpus=corpus,
        title=source.title,
        root=str(root),
        n_recordings=len(scan.recordings),
        n_skipped=len(scan.skipped),
        seconds=sum(info.duration for info in infos),
        class_counts={name: classes[name] for name in source.class_names or sorted(classes) if name in classes},
        speaker_counts=dict(sorted(Counter(recording.speaker for _, recording in scan.recordings).items())),
        sample_rates=dict(sorted(Counter(info.sample_rate for info in infos).items())),
        channels=dict(sorted(Counter(info.channels for info in infos).items())),
        problems=_Checks(source, scan, root, checked).run(),
    )


def _decode(path: Path, recording: Recording) -> _Decoded:
    try:
        info = probe(path)
        waveform, _ = read(path)
    except AudioError as error:
        return _Decoded(path, recording, None, reason=str(error).removeprefix(f"{path} "))
    digest = hashlib.sha256(waveform.tobytes()).hexdigest()
    return _Decoded(path, recording, info, f"{info.sample_rate} {digest}", bool(np.ptp(waveform) < _SILENCE))


class _Checks:
    """The checks of a corpus; each adds its findings to the problems."""

    def __init__(self, source: Corpus, scan: Scan, root: Path, checked: Sequence[_Decoded]) -> None:
        self.source, self.scan, self.root = source, scan, root
        self.unusable = [item for item in checked if item.info is None]
        self.decoded = [(item, item.info) for item in checked if item.info is not None]
        self.classes = Counter(recording.label for _, recording in scan.recordings)
        self.found: list[Problem] = []

    def run(self) -> tuple[Problem, ...]:
        """Run all checks and return the problems, errors first."""
        if not self.scan.recordings:
            self.nothing_found()
        self.unusable_files()
        self.contradictions_and_duplicates()
        if self.scan.recordings:
            self.counts()
        self.left_out()
        silent = [item.path for item, _ in self.decoded if item.silent]
        if silent:
            message = f"{_n(len(silent), 'file')} of silence."
            self.add("warning", "silent", message, "Leave them out or get them again.", silent)
        self.sample_rates()
        self.channels()
        if self.scan.recordings and not self.source.class_counts:
            self.unpublished()
        return tuple(sorted(self.found, key=lambda problem: _SEVERITIES.index(problem.severity)))

    def add(self, severity: Severity, kind: str, message: str, remedy: str, files: Iterable[Path] = ()) -> None:
        folder = self.root if self.root.is_dir() else self.root.parent
        names = (path.relative_to(folder) if path.is_relative_to(folder) else path for path in files)
        self.found.append(Problem(severity, kind, message, tuple(name.as_posix() for name in names), remedy))

    def nothing_found(self) -> None:
        source, misnamed = self.source, self.scan.misnamed
        published = (CORPORA.get(name) for name in CORPORA if CORPORA.get(name).class_counts)
        other = next(
            (corpus for corpus in published if misnamed and all(_fits(corpus, path) for path in misnamed)), None
        )
        if other is not None:
            found = f"{len(misnamed)} named as {other.title}'s are"
            remedy = f"Run: serzoo data verify {other.name} {self.root}"
        else:
            suffixes = Counter(path.suffix.lower() or "bare" for path in self.root.rglob("*") if path.is_file())
            found = _shortened([f"{count} {suffix}" for suffix, count in suffixes.most_common()]) or "none"
            origin = f"; get it from {source.source}" if source.source else ""
            remedy = f"Expected {source.layout} (wav or flac){origin}"
        message = f"No recording of {source.title}; the files there: {found}."
        self.add("error", "nothing found", message, remedy, misnamed)

    def unusable_files(self) -> None:
        """Group the files by reason: thousands of git-lfs stubs are one problem."""
        for reason, paths in _grouped((item.reason, item.path) for item in self.unusable).items():
            what, _, remedy = reason.partition("; ")
            message = f"{_n(len(paths), 'file')} unusable: {'each' if len(paths) > 1 else 'it'} {what}."
            self.add("error", "unusable", message, remedy[:1].upper() + remedy[1:], paths)

    def contradictions_and_duplicates(self) -> None:
        for group in _grouped((item.digest, item) for item, _ in self.decoded if not item.silent).values():
            if len(group) == 1:
                continue
            labels = sorted({item.recording.label for item in group})
            message = f"{len(group)} files hold the same audio, labelled {' and '.join(labels)}."
            severity: Severity = "warning"
            kind = "duplicate"
            remedy = "A random split can train on one and test on the other; leave one out or split by speaker."
            if len(labels) > 1:
                severity, kind = "error", "contradiction"
                remedy = "Listen to it and keep the file whose label is right."
            self.add(severity, kind, message, remedy, [item.path for item in group])

    def counts(self) -> None:
        """Compare the recordings per class and per speaker with the published numbers.

        The numbers per speaker are sums over all classes, so they are compared only if no class is absent.
        """
        source = self.source
        self.compare("class", self.classes, source.class_counts)
        if all(self.classes[name] for name in source.class_counts):
            speakers = Counter(recording.speaker for _, recording in self.scan.recordings)
            self.compare("speaker", speakers, source.speaker_counts)

    def compare(self, what: str, found: Mapping[str, int], published: Mapping[str, int]) -> None:
        remedy = (
            f"Get the missing files from {self.source.source}; scores on a part do not compare with published ones."
        )
        absent = [f"{name} ({count} published)" for name, count in published.items() if not found[name]]
        if absent:
            rest = f"loading gives the other {len(published) - len(absent)}"
            message = (
                f"{len(absent)} of {_n(len(published), what)} without any recording: {_shortened(absent)}; {rest}."
            )
            self.add("warning", f"{what} absent", message, remedy)
        different = [
            f"{name} {found[name]} of {count}" for name, count in published.items() if found[name] not in (0, count)
        ]
        if different:
            message = f"Recordings per {what} differ from the published numbers: {_shortened(different)}."
            self.add("warning", f"{what} count", message, remedy)

    def left_out(self) -> None:
        source, misnamed, repeated = self.source, self.scan.misnamed, self.scan.repeated
        if misnamed and self.scan.recordings:
            message = f"{_n(len(misnamed), 'file')} not named as {source.title}'s are; loading leaves them out."
            remedy = f"Name them as in {source.layout}, or move them away."
            self.add("warning", "misnamed", message, remedy, misnamed)
        if repeated:
            message = f"{_n(len(repeated), 'file')} with the name of another recording; loading leaves them out."
            remedy = "Remove the second copy: the same name as wav and flac, or a folder with a copy."
            self.add("warning", "repeated", message, remedy, repeated)

    def sample_rates(self) -> None:
        groups = sorted(_grouped((info.sample_rate, item.path) for item, info in self.decoded).items())
        expected = self.source.sample_rates
        if not expected and len(groups) > 1:
            rates = ", ".join(f"{len(paths)} at {rate} Hz" for rate, paths in groups)
            remedy = (
                "Reading resamples them; make sure that the rates do not differ by class: a model could learn them."
            )
            self.add("note", "sample rate", f"Sample rates differ: {rates}.", remedy)
        for rate, paths in groups:
            if expected and rate not in expected:
                published = " or ".join(str(rate) for rate in expected)
                message = f"{_n(len(paths), 'file')} at {rate} Hz; published at {published} Hz."
                remedy = f"These are resampled copies; get the originals from {self.source.source}."
                self.add("warning", "sample rate", message, remedy, paths)

    def channels(self) -> None:
        """Report files whose number of channels is not the usual one, and copies that were mixed down."""
        found = Counter(info.channels for _, info in self.decoded)
        published = self.source.channel_counts
        if not found or (len(found) == 1 and not published):
            return
        usual = found.most_common(1)[0][0]
        odd = [item.path for item, info in self.decoded if info.channels != usual]
        known = "mixed"
        if published:
            known = "as published" if found == published else f"published: {_per_channels(published)}"
        message = f"{_per_channels(found)} ({known})."
        self.add("note", "channels", message, "Nothing to do: channels are averaged when read.", odd)

    def unpublished(self) -> None:
        """Report class balance and unknown speakers of a corpus without published numbers."""
        counts = self.classes
        if len(counts) < 2:
            message = f"All recordings are of the class {next(iter(counts))!r}."
            self.add("error", "one class", message, "Add recordings of another class.")
        else:
            ratio = max(counts.values()) / min(counts.values())
            each = _shortened([f"{label} {count}" for label, count in sorted(counts.items())])
            message = f"Recordings per class: {each}; the largest has {ratio:.1f} times the smallest."
            self.add("note", "class balance", message, "Use UAR, which weights all classes equally.")
        n_unknown = sum(not recording.speaker for _, recording in self.scan.recordings)
        if n_unknown:
            message = f"{n_unknown} of {_n(len(self.scan.recordings), 'recording')} without a speaker."
            remedy = "Name the speakers in a CSV's column speaker: without them no split is speaker-independent."
            self.add("note", "speaker unknown", message, remedy)


def _fits(corpus: Corpus, path: Path) -> bool:
    with suppress(MisnamedFileError):
        corpus.parse(path)
        return True
    return False


def _grouped(pairs: Iterable[tuple[_Key, _Value]]) -> dict[_Key, list[_Value]]:
    groups: dict[_Key, list[_Value]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


def _n(count: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{count} {what}{plural if count != 1 else ''}"


def _shortened(items: Sequence[str]) -> str:
    more = len(items) - _MAX_ITEMS
    return ", ".join(items[:_MAX_ITEMS]) + (f" and {more} more" if more > 0 else "")


def _per_channels(counts: Mapping[int, int]) -> str:
    names = {1: "mono", 2: "stereo"}
    return ", ".join(f"{count} {names.get(n, f'{n}-channel')}" for n, count in sorted(counts.items()))
