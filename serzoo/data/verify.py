"""Checks of a corpus on disk against its published description: every recording is decoded."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from serzoo.data.audio import AudioInfo, probe, read
from serzoo.data.corpora.corpus import CORPORA, Corpus, MisnamedFileError, Recording, Scan
from serzoo.errors import AudioError
from serzoo.files import local_path

Severity = Literal["error", "warning", "note"]
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_SILENCE = 1e-3  # the quietest recording of RAVDESS has a range ten times as large
_MAX_FILES, _MAX_ITEMS = 5, 12


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


@dataclass(frozen=True)
class _Decoded:
    """A recording and the result of decoding it."""

    path: Path
    recording: Recording
    info: AudioInfo
    digest: str
    silent: bool


@dataclass(frozen=True)
class _Unusable:
    """A recording that cannot be decoded, and the reason."""

    path: Path
    reason: str


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
    checked = _check_all(scan, progress)
    decoded = [item for item in checked if isinstance(item, _Decoded)]
    problems = [
        *_nothing_found(source, scan, root),
        *_unusable(item for item in checked if isinstance(item, _Unusable)),
        *_contradictions_and_duplicates(decoded),
        *_counts(source, scan),
        *_left_out(source, scan),
        *_silent(decoded),
        *_sample_rates(source, decoded),
        *_channels(source, decoded),
        *_unpublished(source, scan),
    ]
    return VerifyReport(
        corpus=corpus,
        title=source.title,
        root=str(root),
        n_recordings=len(scan.recordings),
        n_skipped=len(scan.skipped),
        seconds=sum(item.info.duration for item in decoded),
        class_counts=_class_counts(source, scan),
        speaker_counts=_count(recording.speaker for _, recording in scan.recordings),
        sample_rates=_count(item.info.sample_rate for item in decoded),
        channels=_count(item.info.channels for item in decoded),
        problems=tuple(_relative(problem, root) for problem in _by_severity(problems)),
    )


def _check_all(scan: Scan, progress: bool) -> list[_Decoded | _Unusable]:
    """Decode the recordings in parallel: libsndfile works outside Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results: Iterable[_Decoded | _Unusable] = pool.map(lambda item: _check(*item), scan.recordings)
        if progress:
            from rich.console import Console
            from rich.progress import track

            results = track(results, "Decoding", total=len(scan.recordings), console=Console(stderr=True))
        return list(results)


def _check(path: Path, recording: Recording) -> _Decoded | _Unusable:
    try:
        info = probe(path)
        waveform, _ = read(path)
    except AudioError as error:
        return _Unusable(path, str(error).removeprefix(f"{path} "))
    digest = hashlib.sha256(waveform.tobytes()).hexdigest()
    return _Decoded(path, recording, info, f"{info.sample_rate} {digest}", bool(np.ptp(waveform) < _SILENCE))


def _nothing_found(source: Corpus, scan: Scan, root: Path) -> Iterator[Problem]:
    if scan.recordings:
        return
    other = _named_like(scan.misnamed)
    if other is not None:
        found = f"{len(scan.misnamed)} named as {other.title}'s are"
        remedy = f"Run: serzoo data verify {other.name} {root}"
    else:
        suffixes = Counter(path.suffix.lower() or "bare" for path in root.rglob("*") if path.is_file())
        found = _shortened([f"{count} {suffix}" for suffix, count in suffixes.most_common()]) or "none"
        remedy = f"Expected {source.layout} (wav or flac)" + (f"; get it from {source.source}" if source.source else "")
    message = f"No recording of {source.title}; the files there: {found}."
    yield Problem("error", "nothing found", message, _names(scan.misnamed), remedy)


def _named_like(paths: Sequence[Path]) -> Corpus | None:
    """Return the corpus with a published grammar that fits all ``paths``, if there is one."""
    published = (CORPORA.get(name) for name in CORPORA if CORPORA.get(name).class_counts)
    return next((corpus for corpus in published if paths and all(_fits(corpus, path) for path in paths)), None)


def _fits(corpus: Corpus, path: Path) -> bool:
    try:
        corpus.parse(path)
    except MisnamedFileError:
        return False
    return True


def _unusable(items: Iterable[_Unusable]) -> Iterator[Problem]:
    """Group the files by reason: thousands of git-lfs stubs are one problem."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for item in items:
        groups[item.reason].append(item.path)
    for reason, paths in groups.items():
        what, _, remedy = reason.partition("; ")
        message = f"{_n(len(paths), 'file')} unusable: {'each' if len(paths) > 1 else 'it'} {what}."
        yield Problem("error", "unusable", message, _names(paths), remedy[:1].upper() + remedy[1:])


def _contradictions_and_duplicates(decoded: Sequence[_Decoded]) -> Iterator[Problem]:
    groups: dict[str, list[_Decoded]] = defaultdict(list)
    for item in decoded:
        if not item.silent:
            groups[item.digest].append(item)
    for group in groups.values():
        if len(group) == 1:
            continue
        labels = sorted({item.recording.label for item in group})
        message = f"{len(group)} files hold the same audio, labelled {' and '.join(labels)}."
        names = _names(item.path for item in group)
        if len(labels) > 1:
            yield Problem(
                "error", "contradiction", message, names, "Listen to it and keep the file whose label is right."
            )
        else:
            remedy = "A random split can train on one and test on the other; leave one out or split by speaker."
            yield Problem("warning", "duplicate", message, names, remedy)


def _counts(source: Corpus, scan: Scan) -> Iterator[Problem]:
    """Compare the recordings per class and per speaker with the published numbers.

    The numbers per speaker are sums over all classes, so they are compared only if no class is absent.
    """
    if not scan.recordings:
        return
    classes = Counter(recording.label for _, recording in scan.recordings)
    speakers = Counter(recording.speaker for _, recording in scan.recordings)
    remedy = f"Get the missing files from {source.source}; scores on a part do not compare with published ones."
    yield from _compare("class", classes, source.class_counts, remedy)
    if all(classes[name] for name in source.class_counts):
        yield from _compare("speaker", speakers, source.speaker_counts, remedy)


def _compare(what: str, found: Mapping[str, int], published: Mapping[str, int], remedy: str) -> Iterator[Problem]:
    absent = [f"{name} ({count} published)" for name, count in published.items() if not found[name]]
    if absent:
        rest = f"loading gives the other {len(published) - len(absent)}"
        message = f"{len(absent)} of {_n(len(published), what)} without any recording: {_shortened(absent)}; {rest}."
        yield Problem("warning", f"{what} absent", message, remedy=remedy)
    different = [
        f"{name} {found[name]} of {count}" for name, count in published.items() if found[name] not in (0, count)
    ]
    if different:
        message = f"Recordings per {what} differ from the published numbers: {_shortened(different)}."
        yield Problem("warning", f"{what} count", message, remedy=remedy)


def _left_out(source: Corpus, scan: Scan) -> Iterator[Problem]:
    if scan.misnamed and scan.recordings:
        message = f"{_n(len(scan.misnamed), 'file')} not named as {source.title}'s are; loading leaves them out."
        remedy = f"Name them as in {source.layout}, or move them away."
        yield Problem("warning", "misnamed", message, _names(scan.misnamed), remedy)
    if scan.repeated:
        n_files = _n(len(scan.repeated), "file")
        message = f"{n_files} with the name of another recording; loading leaves them out."
        remedy = "Remove the second copy: the same name as wav and flac, or a folder with a copy."
        yield Problem("warning", "repeated", message, _names(scan.repeated), remedy)


def _silent(decoded: Sequence[_Decoded]) -> Iterator[Problem]:
    paths = [item.path for item in decoded if item.silent]
    if paths:
        message = f"{_n(len(paths), 'file')} of silence."
        yield Problem("warning", "silent", message, _names(paths), "Leave them out or get them again.")


def _sample_rates(source: Corpus, decoded: Sequence[_Decoded]) -> Iterator[Problem]:
    groups: dict[int, list[Path]] = defaultdict(list)
    for item in decoded:
        groups[item.info.sample_rate].append(item.path)
    if not source.sample_rates and len(groups) > 1:
        rates = ", ".join(f"{len(paths)} at {rate} Hz" for rate, paths in sorted(groups.items()))
        remedy = "Reading resamples them; make sure that the rates do not differ by class: a model could learn them."
        yield Problem("note", "sample rate", f"Sample rates differ: {rates}.", remedy=remedy)
    for rate, paths in sorted(groups.items()):
        if source.sample_rates and rate not in source.sample_rates:
            published = " or ".join(str(rate) for rate in source.sample_rates)
            message = f"{_n(len(paths), 'file')} at {rate} Hz; published at {published} Hz."
            remedy = f"These are resampled copies; get the originals from {source.source}."
            yield Problem("warning", "sample rate", message, _names(paths), remedy)


def _channels(source: Corpus, decoded: Sequence[_Decoded]) -> Iterator[Problem]:
    """Report files whose number of channels is not the usual one, and copies that were mixed down."""
    found = Counter(item.info.channels for item in decoded)
    published = source.channel_counts
    if not found or (len(found) == 1 and not published):
        return
    usual = found.most_common(1)[0][0]
    odd = [item.path for item in decoded if item.info.channels != usual]
    known = "as published" if found == published else f"published: {_per_channels(published)}" if published else "mixed"
    message = f"{_per_channels(found)} ({known})."
    yield Problem("note", "channels", message, _names(odd), "Nothing to do: channels are averaged when read.")


def _unpublished(source: Corpus, scan: Scan) -> Iterator[Problem]:
    """Report class balance and unknown speakers of a corpus without published numbers."""
    if source.class_counts or not scan.recordings:
        return
    counts = Counter(recording.label for _, recording in scan.recordings)
    if len(counts) < 2:
        message = f"All recordings are of the class {next(iter(counts))!r}."
        yield Problem("error", "one class", message, remedy="Add recordings of another class.")
    else:
        ratio = max(counts.values()) / min(counts.values())
        each = _shortened([f"{label} {count}" for label, count in sorted(counts.items())])
        message = f"Recordings per class: {each}; the largest has {ratio:.1f} times the smallest."
        yield Problem("note", "class balance", message, remedy="Use UAR, which weights all classes equally.")
    n_unknown = sum(not recording.speaker for _, recording in scan.recordings)
    if n_unknown:
        message = f"{n_unknown} of {_n(len(scan.recordings), 'recording')} without a speaker."
        remedy = "Name the speakers in a CSV's column speaker: without them no split is speaker-independent."
        yield Problem("note", "speaker unknown", message, remedy=remedy)


def _by_severity(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: _SEVERITIES.index(problem.severity))


def _relative(problem: Problem, root: Path) -> Problem:
    folder = root if root.is_dir() else root.parent
    files = (Path(name) for name in problem.files)
    names = (path.relative_to(folder) if path.is_relative_to(folder) else path for path in files)
    return replace(problem, files=tuple(name.as_posix() for name in names))


def _class_counts(source: Corpus, scan: Scan) -> dict[str, int]:
    found = _count(recording.label for _, recording in scan.recordings)
    return {name: found[name] for name in source.class_names or found if name in found}


def _count(values: Iterable[Any]) -> dict[Any, int]:
    return dict(sorted(Counter(values).items()))


def _names(paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths)


def _n(count: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{count} {what}{plural if count != 1 else ''}"


def _shortened(items: Sequence[str]) -> str:
    more = len(items) - _MAX_ITEMS
    return ", ".join(items[:_MAX_ITEMS]) + (f" and {more} more" if more > 0 else "")


def _per_channels(counts: Mapping[int, int]) -> str:
    names = {1: "mono", 2: "stereo"}
    return ", ".join(f"{count} {names.get(n, f'{n}-channel')}" for n, count in sorted(counts.items()))
