"""The leakage guard: speakers, texts and audio that the training, validation and test parts of a split share.

Recognising a speaker, a sentence or a recording is easier than recognising an emotion, so a result states which of
these its test part shares with its training part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from serzoo.data.manifest import Manifest
from serzoo.data.protocols import Protocol
from serzoo.data.splits import Fold
from serzoo.errors import DataError

if TYPE_CHECKING:
    from serzoo.data.cache import FeatureCache

_PAIRS_OF_PARTS = (("train", "test"), ("train", "validation"), ("validation", "test"))


@dataclass(frozen=True)
class Overlap:
    """What two parts of one fold have in common. Unknown speakers and texts are left out.

    Args:
        fold: the fold's name.
        seen: the part that is known to the model, ``"train"`` or ``"validation"``.
        scored: the part that is held against it, ``"validation"`` or ``"test"``.
        speakers: speakers in both.
        scored_speakers: all speakers of the scored part.
        texts: texts in both.
        scored_texts: all texts of the scored part.
        duplicates: :attr:`Manifest.names` (in the seen part, in the scored part) of recordings with the same audio;
            None if the audio was not compared.
    """

    fold: str
    seen: str
    scored: str
    speakers: tuple[str, ...]
    scored_speakers: tuple[str, ...]
    texts: tuple[str, ...]
    scored_texts: tuple[str, ...]
    duplicates: tuple[tuple[str, str], ...] | None


@dataclass(frozen=True)
class LeakageReport:
    """The overlaps between the parts of all folds; ``str(report)`` is the line to print beside a score.

    Args:
        overlaps: one per fold and pair of its parts.
        n_recordings: recordings in the manifest.
        n_unknown_speakers: how many of them have no known speaker.
    """

    overlaps: tuple[Overlap, ...]
    n_recordings: int
    n_unknown_speakers: int

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LeakageReport:
        """Return the report whose :meth:`to_dict`, read from JSON, are ``values``.

        Raises:
            LookupError, TypeError: ``values`` are not of that form.
        """
        overlaps = tuple(Overlap(**overlap) for overlap in values["overlaps"])
        return cls(overlaps, values["n_recordings"], values["n_unknown_speakers"])

    @property
    def speaker_independent(self) -> bool | None:
        """Whether no fold tests on a speaker of its training part; None if an unknown speaker leaves it open."""
        if any(overlap.speakers for overlap in self._between("train", "test")):
            return False
        return None if self.n_unknown_speakers else True

    @property
    def duplicates(self) -> tuple[tuple[str, str], ...] | None:
        """Pairs of recordings with the same audio that some fold puts on both sides of train and test, each once."""
        found = [overlap.duplicates for overlap in self._between("train", "test")]
        if None in found:
            return None
        return tuple(sorted({(min(pair), max(pair)) for pairs in found for pair in pairs or ()}))

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain data for JSON."""
        return {
            "summary": str(self),
            "speaker_independent": self.speaker_independent,
            "n_recordings": self.n_recordings,
            "n_unknown_speakers": self.n_unknown_speakers,
            "duplicates": self.duplicates,
            "overlaps": [asdict(overlap) for overlap in self.overlaps],
        }

    def __str__(self) -> str:
        tests, validations = self._between("train", "test"), self._between("train", "validation")
        shared, scored = _count(tests, "speakers")
        if self.speaker_independent is None:
            parts = [f"speakers unknown for {self.n_unknown_speakers} of {self.n_recordings} recordings"]
        else:
            kind = "speaker-independent" if self.speaker_independent else "speaker-dependent"
            parts = [f"{kind}: {shared} of {scored} test speakers are in training"]
        shared, scored = _count(tests, "texts")
        parts.append(f"texts shared: {shared} of {scored}" if scored else "texts unknown")
        pairs = self.duplicates
        found = "not checked" if pairs is None else f"{len(pairs) or 'no'} pair{'s' if len(pairs) != 1 else ''}"
        parts.append(f"duplicates: {found}")
        in_training, scored = _count(validations, "speakers")
        in_test, _ = _count(self._between("validation", "test"), "speakers")
        if scored:
            parts.append(f"validation speakers: {scored}, {in_training} in training, {in_test} in test")
        return "; ".join(parts)

    def _between(self, seen: str, scored: str) -> list[Overlap]:
        return [overlap for overlap in self.overlaps if (overlap.seen, overlap.scored) == (seen, scored)]


def check_leakage(
    manifest: Manifest,
    folds: Fold | Sequence[Fold],
    content_hashes: Sequence[str] | None = None,
    protocol: Protocol | None = None,
) -> LeakageReport:
    """Report the overlaps between the parts of each fold; raise if a speaker-independent protocol shares speakers.

    Args:
        manifest: the recordings.
        folds: one fold of ``manifest`` or several.
        content_hashes: one per recording, from :func:`hash_contents`; None leaves the audio unread.
        protocol: the protocol the folds are from.

    Raises:
        DataError: the protocol is speaker-independent but a speaker is in two parts of a fold, or
            there is not one hash per recording.
    """
    if content_hashes is not None and len(content_hashes) != len(manifest):
        raise DataError(f"{len(content_hashes)} content hashes for {len(manifest)} recordings; give one for each.")
    hashes = None if content_hashes is None else np.asarray(content_hashes, dtype=str)
    overlaps = tuple(
        _overlap(manifest, fold, seen, scored, hashes)
        for fold in ([folds] if isinstance(folds, Fold) else folds)
        for seen, scored in _PAIRS_OF_PARTS
        if seen in fold.parts() and scored in fold.parts()
    )
    for overlap in overlaps:
        if protocol is not None and protocol.speaker_independent and overlap.speakers:
            raise DataError(
                f"Protocol {protocol.name} is speaker-independent, but {overlap.fold} has speaker "
                f"{', '.join(overlap.speakers)} in both {overlap.seen} and {overlap.scored}; "
                "check the manifest's speaker and session columns."
            )
    return LeakageReport(overlaps, len(manifest), int(np.sum(manifest.column("speaker") == "")))


def hash_contents(manifest: Manifest, cache: FeatureCache | None = None) -> list[str]:
    """Return the content hashes of all recordings in order; each is decoded once, and then known by its bytes.

    Args:
        manifest: the recordings.
        cache: where hashes are kept; None for the default folder.

    Raises:
        AudioError: a recording cannot be decoded.
    """
    from serzoo.data.cache import FeatureCache

    return (cache or FeatureCache()).content_hashes(manifest.paths)


def _overlap(manifest: Manifest, fold: Fold, seen: str, scored: str, hashes: np.ndarray | None) -> Overlap:
    before, after = fold.parts()[seen], fold.parts()[scored]
    speakers, texts = manifest.column("speaker"), manifest.column("text")
    return Overlap(
        fold=fold.name,
        seen=seen,
        scored=scored,
        speakers=_known(speakers[before], speakers[after]),
        scored_speakers=_known(speakers[after]),
        texts=_known(texts[before], texts[after]),
        scored_texts=_known(texts[after]),
        duplicates=None if hashes is None else _duplicates(manifest.names, hashes, before, after),
    )


def _known(*parts: np.ndarray) -> tuple[str, ...]:
    """Return the known values that all parts have."""
    return tuple(sorted(set.intersection(*(set(values.tolist()) for values in parts)) - {""}))


def _duplicates(
    names: Sequence[str], hashes: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[tuple[str, str], ...]:
    same_audio = defaultdict(list)
    for index in before:
        same_audio[hashes[index]].append(index)
    return tuple((names[first], names[second]) for second in after for first in same_audio.get(hashes[second], ()))


def _count(overlaps: Sequence[Overlap], what: str) -> tuple[int, int]:
    shared = {value for overlap in overlaps for value in getattr(overlap, what)}
    scored = {value for overlap in overlaps for value in getattr(overlap, f"scored_{what}")}
    return len(shared), len(scored)
