"""Folds, and the rules that split a manifest into them; :mod:`serzoo.data.protocols` gives the rules names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from serzoo.checks import check, real
from serzoo.data.manifest import COLUMNS, Manifest, in_natural_order
from serzoo.errors import DataError
from serzoo.labels import SHARED_LABELS

PART_COLUMN, SOURCE, TARGET = "part", "source", "target"
"""The column that :func:`cross_corpus` adds, and its values: the corpus of each recording."""


@dataclass(frozen=True, eq=False)
class Fold:
    """One split of a manifest: positions of its rows, ascending.

    Args:
        name: unique within the protocol and usable as a file name, for example ``"fold01"``.
        train: positions of the training recordings, shape (n_train,), int64.
        test: positions of the test recordings, shape (n_test,), int64.
        validation: positions of the validation recordings, or None where the protocol has none.

    Raises:
        DataError: a part is empty, or a recording is in two parts.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray | None = None

    def __post_init__(self) -> None:
        for part, indices in self.parts().items():
            object.__setattr__(self, part, np.sort(np.asarray(indices, dtype=np.int64)))
            if len(indices) == 0:
                raise DataError(f"The {part} part of {self.name} is empty; the corpus is too small for this protocol.")
        everything = np.concatenate(list(self.parts().values()))
        if len(np.unique(everything)) != len(everything):
            raise DataError(f"{self.name} has a recording in two parts, or twice in one; give disjoint parts.")

    def parts(self) -> dict[str, np.ndarray]:
        """Return the positions by part: ``train``, ``test`` and, where the fold has one, ``validation``."""
        parts = {"train": self.train, "test": self.test}
        return parts if self.validation is None else {**parts, "validation": self.validation}


def with_validation(fold: Fold, manifest: Manifest, fraction: float = 0.1, seed: int = 0) -> Fold:
    """Move some speakers from a fold's training part to a validation part, unless it has one.

    The speakers are drawn from their sorted names, so that the order of the manifest does not matter.

    Args:
        fold: a fold of ``manifest``.
        manifest: the recordings, all with a known speaker.
        fraction: share of the training *speakers* to move, above 0 and below 1; at least one speaker moves.
        seed: of the draw, 0 or above.

    Returns:
        The fold with a validation part whose speakers are not in its training part. In a speaker-dependent protocol
        they may be in the test part.

    Raises:
        DataError: a speaker is unknown, or the training part has fewer than two.
    """
    if fold.validation is not None:
        return fold
    check("fraction", fraction, real(above=0, below=1), DataError)
    check_speakers_known(manifest, "a speaker-disjoint validation part")
    speakers = manifest.column("speaker")
    names = shuffled(np.unique(speakers[fold.train]), seed)
    n_validation = max(1, round(fraction * len(names)))
    if n_validation >= len(names):
        raise DataError(
            f"{fold.name} trains on {len(names)} speakers, too few to hold {n_validation} out for validation; "
            "use another selection rule or more speakers."
        )
    held_out = np.isin(speakers[fold.train], names[:n_validation])
    return replace(fold, train=fold.train[~held_out], validation=fold.train[held_out])


def cross_corpus(source: Manifest, target: Manifest) -> Manifest:
    """Join two corpora for the protocols ``cross-...``.

    Args:
        source: the corpus to train on.
        target: the corpus to test on.

    Returns:
        Both, the source first, restricted to the classes of :data:`serzoo.labels.SHARED_LABELS` that both have (five
        for the corpora of TIM-Net's table 2). The column ``part`` is ``source`` or ``target``. Speakers, texts and
        sessions are prefixed with their corpus, since two corpora may both have a speaker ``03``.

    Raises:
        DataError: both are the same corpus, or they share fewer than two of those classes.
    """
    import pandas as pd

    if source.corpus == target.corpus:
        raise DataError(f"Both corpora are {source.corpus!r}; cross-corpus protocols need two different corpora.")
    shared = [name for name in SHARED_LABELS if name in source.class_names and name in target.class_names]
    if len(shared) < 2:
        raise DataError(
            f"{source.corpus} and {target.corpus} share {len(shared)} of the classes {', '.join(SHARED_LABELS)}; "
            "a cross-corpus protocol needs at least 2."
        )
    frames = []
    for part, manifest in ((SOURCE, source), (TARGET, target)):
        restricted = manifest.with_classes(shared)
        named = {
            column: [f"{manifest.corpus}/{value}" if value else "" for value in restricted.column(column)]
            for column in ("speaker", "text", "session")
        }
        frames.append(restricted.frame[list(COLUMNS)].assign(**named, **{PART_COLUMN: part}))
    return Manifest(pd.concat(frames, ignore_index=True), tuple(shared), f"{source.corpus}-to-{target.corpus}")


# Rules ----------------------------------------------------------------------------------------------------------------


def k_fold(manifest: Manifest, folds: int, seed: int) -> list[Fold]:
    """Shuffle the recordings and cut them into folds."""
    from sklearn.model_selection import KFold

    if len(manifest) < folds:
        raise DataError(f"{len(manifest)} recordings cannot be split into {folds} folds; use fewer folds.")
    positions = np.arange(len(manifest))
    splits = KFold(folds, shuffle=True, random_state=seed).split(positions)
    return [_fold(number, np.isin(positions, test)) for number, (_, test) in enumerate(splits, start=1)]


def leave_one_speaker_out(manifest: Manifest, column: str = "speaker") -> list[Fold]:
    """Test on each speaker in turn, or on each value of another column."""
    values = manifest.column(column)
    groups = in_natural_order(values)
    if len(groups) < 2:
        raise DataError(f"Leaving one {column} out needs at least 2; {manifest.corpus} has only {groups[0]!r}.")
    return [_fold(number, values == group, name=(column, group)) for number, group in enumerate(groups, start=1)]


def leave_one_session_out(manifest: Manifest) -> list[Fold]:
    """Test on each of IEMOCAP's five sessions in turn."""
    sessions = in_natural_order(manifest.column("session"))
    if len(sessions) != 5 or "" in sessions:
        raise DataError(
            f"{manifest.corpus} has the sessions {sessions} ('' = unknown); iemocap5-sessions-v1 needs IEMOCAP's 5."
        )
    return leave_one_speaker_out(manifest, "session")


def leave_one_speaker_out_8_1_1(manifest: Manifest) -> list[Fold]:
    """Test on each of ten speakers in turn; validation is the other speaker of the session, or else the next."""
    speakers, sessions = manifest.column("speaker"), manifest.column("session")
    names = in_natural_order(speakers)
    if len(names) != 10:
        raise DataError(f"{manifest.corpus} has {len(names)} speakers; loso8-1-1-v1 needs 10 (IEMOCAP or EMO-DB).")
    folds = []
    for number, test in enumerate(names, start=1):
        session = sessions[speakers == test][0]
        others = [name for name in names if name != test and session and session in sessions[speakers == name]]
        validation = others[0] if len(others) == 1 else names[number % len(names)]
        folds.append(_fold(number, speakers == test, speakers == validation, name=("speaker", test)))
    return folds


def published_test_speakers(manifest: Manifest, groups: Sequence[Sequence[str]]) -> list[Fold]:
    """Test on each published group of speakers in turn."""
    _check_same_speakers(manifest, groups)
    speakers = manifest.column("speaker")
    return [_fold(number, np.isin(speakers, group)) for number, group in enumerate(groups, start=1)]


def published_parts(manifest: Manifest, groups: Sequence[Sequence[str]]) -> list[Fold]:
    """Split by published speakers of the training, validation and test part."""
    _check_same_speakers(manifest, groups)
    _, validation, test = (np.isin(manifest.column("speaker"), group) for group in groups)
    return [_fold(1, test, validation)]


def random_70_20_10(manifest: Manifest, seed: int) -> list[Fold]:
    """Split the recordings at random."""
    if len(manifest) < 3:
        raise DataError(
            f"{manifest.corpus} has {len(manifest)} recordings; training, validation and test need 3 or more; add some."
        )
    return _split_70_20_10(np.arange(len(manifest)), seed)


def speaker_70_20_10(manifest: Manifest, seed: int) -> list[Fold]:
    """Split the speakers at random."""
    speakers = manifest.column("speaker")
    if len(set(speakers)) < 3:
        raise DataError(
            f"{manifest.corpus} has {_listed(speakers)}; training, validation and test need 3 or more; use "
            f"loso-v1 (a fold per speaker, no validation part) or random70-20-10-seed{seed}-v1 (by recording, so "
            "speaker-dependent)."
        )
    return _split_70_20_10(speakers, seed)


def source_to_target(manifest: Manifest) -> list[Fold]:
    """Train on the source, test on the target."""
    return [_fold(1, _of_two_corpora(manifest) == TARGET)]


def pooled(manifest: Manifest, folds: int, seed: int) -> list[Fold]:
    """Split the speakers of both corpora into folds."""
    parts, speakers = _of_two_corpora(manifest), manifest.column("speaker")
    tested = np.empty(len(manifest), np.int64)
    for part in (SOURCE, TARGET):
        names = shuffled(np.unique(speakers[parts == part]), seed)
        if len(names) < folds:
            raise DataError(
                f"A corpus of {manifest.corpus} has {_listed(names)}, too few for {folds} folds with some of its "
                "speakers in each; use fewer folds."
            )
        for number, name in enumerate(names):  # dealt out in turns, so that folds differ by one speaker at most
            tested[speakers == name] = number % folds
    return [_fold(number + 1, tested == number) for number in range(folds)]


def _of_two_corpora(manifest: Manifest) -> np.ndarray:
    """Return the part of each recording: :data:`SOURCE` or :data:`TARGET`."""
    if PART_COLUMN not in manifest.frame.columns:
        raise DataError(
            f"{manifest.corpus} is one corpus; the protocols cross-... need two, joined by "
            "serzoo.data.splits.cross_corpus."
        )
    return manifest.column(PART_COLUMN)


# Parts ----------------------------------------------------------------------------------------------------------------


def check_speakers_known(manifest: Manifest, wanted_by: str) -> None:
    """Raise DataError if a recording has no speaker; ``wanted_by`` is the subject of the message."""
    n_unknown = int(np.sum(manifest.column("speaker") == ""))
    if n_unknown:
        raise DataError(
            f"{n_unknown} of {len(manifest)} recordings of {manifest.corpus} have no speaker, but {wanted_by} needs "
            "it; fill the manifest's speaker column or choose a random protocol."
        )


def _check_same_speakers(manifest: Manifest, published: Iterable[Sequence[str]]) -> None:
    expected = {speaker for group in published for speaker in group}
    given = set(manifest.column("speaker").tolist())
    if given != expected:
        missing, extra = sorted(expected - given), sorted(given - expected)
        differences = f"lacks {', '.join(missing) or 'none'} and has {', '.join(extra) or 'none'} besides"
        if not given & expected:
            differences = f"has none of them but {_listed(given)}"
        raise DataError(
            f"The protocol is for RAVDESS's {len(expected)} actors; {manifest.corpus} {differences}; "
            "use all of RAVDESS, or loso-v1, or random70-20-10-seed0-v1 (by recording, so speaker-dependent)."
        )


def _split_70_20_10(owners: np.ndarray, seed: int) -> list[Fold]:
    """Split three or more owners of recordings at random; validation and test are rounded but never empty."""
    order = shuffled(np.unique(owners), seed)
    n_validation, n_test = max(1, round(0.2 * len(order))), max(1, round(0.1 * len(order)))
    _, validation, test = np.split(order, [len(order) - n_validation - n_test, len(order) - n_test])
    return [_fold(1, np.isin(owners, test), np.isin(owners, validation))]


def shuffled(items: np.ndarray, seed: int) -> np.ndarray:
    """Return the items in random order."""
    # RandomState because NumPy promises never to change its stream; Generator's may change with a release.
    return np.random.RandomState(seed).permutation(items)


_MAX_NAMES = 12


def _listed(speakers: Iterable[str]) -> str:
    """Return, for example, ``2 speakers (OAF, YAF)``."""
    names = in_natural_order(speakers)
    shown = ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
    return f"{len(names)} speaker{'s' if len(names) != 1 else ''} ({shown})"


def _fold(number: int, test: np.ndarray, validation: np.ndarray | None = None, name: Sequence[str] = ()) -> Fold:
    """Return a fold that trains on all recordings but those of its other parts, which are masks.

    It is called ``fold01`` or, for example, ``fold01-speaker-03``, in characters that every file system allows.
    """
    full_name = "-".join([f"fold{number:02d}", *(re.sub(r"[^\w.]+", "_", part) for part in name)])
    train = ~test if validation is None else ~(test | validation)
    held_out = None if validation is None else np.flatnonzero(validation)
    return Fold(full_name, np.flatnonzero(train), np.flatnonzero(test), held_out)
