"""Protocols: named, versioned rules that split a manifest into training, validation and test parts.

A score means nothing without the protocol it was measured under, so a protocol's name is stamped
into every result and never changes its meaning: another rule gets another version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from serzoo.checks import Number, check
from serzoo.data.manifest import COLUMNS, Manifest, in_natural_order
from serzoo.errors import DataError, unknown_name
from serzoo.labels import SHARED_LABELS

EMOBOX_RAVDESS = (
    ("01", "11", "20", "21"),
    ("04", "10", "12", "14"),
    ("08", "09", "19", "23"),
    ("03", "05", "07", "24"),
    ("02", "15", "16", "18"),
    ("06", "13", "17", "22"),
)
"""Test actors of the six folds that EmoBox publishes for RAVDESS (Ma et al., 2024)."""

LUNA_JIMENEZ_RAVDESS = (
    ("02", "05", "14", "15", "16"),
    ("03", "06", "07", "13", "18"),
    ("10", "11", "12", "19", "20"),
    ("08", "17", "21", "23", "24"),
    ("01", "04", "09", "22"),
)
"""Test actors of the five RAVDESS folds of Luna-Jimenez et al. (Sensors 21, 7665, 2021)."""

ACTOR_70_20_10_RAVDESS = (
    tuple(f"{actor:02d}" for actor in range(1, 18)),
    tuple(f"{actor:02d}" for actor in range(18, 23)),
    ("23", "24"),
)
"""Training, validation and test actors of ``actor70-20-10-v1``.

The quaternion anti-transfer paper gives the sizes, 17, 5 and 2 actors, but not the actors; these
are taken in order, which puts one man and one woman into the test part.
"""

INNER = "inner-"
"""What a protocol's name begins with that scores on recordings held out of another protocol's training parts."""

PART_COLUMN, SOURCE, TARGET = "part", "source", "target"
"""The column in which :func:`cross_corpus` notes which of the two corpora a recording is from."""


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
            raise DataError(
                f"{self.name} puts a recording into two parts (or twice into one); its parts must not meet."
            )

    def parts(self) -> dict[str, np.ndarray]:
        """Return the parts there are by name: ``train``, ``test`` and perhaps ``validation``."""
        parts = {"train": self.train, "test": self.test}
        return parts if self.validation is None else {**parts, "validation": self.validation}


@dataclass(frozen=True)
class Protocol:
    """A named rule that splits a manifest; :func:`get_protocol` makes them.

    Args:
        name: the full name with its version, for example ``"random10-seed46-v1"``.
        summary: one line on what it does.
        speaker_independent: whether no test (or validation) speaker is in the training part.
        split: the rule.
    """

    name: str
    summary: str
    speaker_independent: bool
    split: Callable[[Manifest], list[Fold]]

    @property
    def takes_two_corpora(self) -> bool:
        """Whether it splits what :func:`cross_corpus` joins."""
        return self.name.removeprefix(INNER).startswith("cross-")

    @property
    def tests_on_both(self) -> bool:
        """Whether recordings of both corpora are in its test parts."""
        return self.name.removeprefix(INNER).startswith("cross-pooled")

    def folds(self, manifest: Manifest) -> list[Fold]:
        """Split ``manifest``.

        Raises:
            DataError: the protocol needs speakers and some are unknown, the speakers or sessions are
                not those it was published for, or there are too few of them or of the recordings.
        """
        if self.speaker_independent:
            _check_speakers_known(manifest, f"protocol {self.name}")
        return self.split(manifest)


def get_protocol(name: str) -> Protocol:
    """Return the protocol called ``name``.

    Args:
        name: a name of :func:`protocol_names` with its numbers filled in, for example
            ``"random10-seed46-v1"``. Without a version, the newest one is meant. ``inner-`` and a name is
            the protocol to choose settings by before that one's test parts are looked at.

    Raises:
        UnknownNameError: no family of protocols has such names.
    """
    if name.startswith(INNER):
        return _inner(get_protocol(name.removeprefix(INNER)))
    for candidate in (name, *(f"{name}-v{version}" for version in range(_NEWEST_VERSION, 0, -1))):
        for family in _FAMILIES:
            numbers = family.match(candidate)
            if numbers is not None:
                return family.protocol(candidate, numbers)
    raise unknown_name("protocol", name, protocol_names())


def protocol_names() -> dict[str, str]:
    """Return the families of protocols: name pattern to one-line summary, K and S standing for numbers."""
    return {
        **{family.template: family.summary for family in _FAMILIES},
        f"{INNER}PROTOCOL": "any of these without its test parts: scores what is held out of each training part, "
        "to choose settings by",
    }


def with_validation(fold: Fold, manifest: Manifest, fraction: float = 0.1, seed: int = 0) -> Fold:
    """Carve a speaker-disjoint validation part out of a fold's training part.

    A fold that has a validation part already is returned as it is. The speakers are drawn from
    their sorted names, so the choice does not depend on the order of the manifest.

    Args:
        fold: a fold of ``manifest``.
        manifest: the recordings, all with a known speaker.
        fraction: share of the training *speakers* to move, above 0 and below 1; at least one moves.
        seed: which speakers move, 0 or above.

    Returns:
        The fold with a validation part whose speakers are not in its training part. They may be in
        the test part where the protocol is speaker-dependent.

    Raises:
        DataError: a speaker is unknown, or the training part has fewer than two.
    """
    if fold.validation is not None:
        return fold
    check("fraction", fraction, Number(above=0, below=1), DataError)
    _check_speakers_known(manifest, "a speaker-disjoint validation part")
    speakers = manifest.column("speaker")
    names = _shuffled(np.unique(speakers[fold.train]), seed)
    n_validation = max(1, round(fraction * len(names)))
    if n_validation >= len(names):
        raise DataError(
            f"{fold.name} trains on {len(names)} speakers, too few to set {n_validation} aside for validation; "
            "use another selection rule or more speakers."
        )
    held_out = np.isin(speakers[fold.train], names[:n_validation])
    return replace(fold, train=fold.train[~held_out], validation=fold.train[held_out])


def cross_corpus(source: Manifest, target: Manifest) -> Manifest:
    """Join two corpora for ``cross-shared5-v1``: training on the one, testing on the other.

    Args:
        source: the corpus to train on.
        target: the corpus to test on.

    Returns:
        Both, restricted to the classes of :data:`serzoo.labels.SHARED_LABELS` that both have (five for
        the corpora of TIM-Net's table 2), the source first. Speakers, texts and sessions carry their
        corpus's name, since two corpora may both have a speaker ``03``. A column ``part`` says
        ``source`` or ``target``.

    Raises:
        DataError: both are the same corpus, or they share fewer than two of those classes.
    """
    import pandas as pd

    if source.corpus == target.corpus:
        raise DataError(f"Both corpora are {source.corpus!r}; cross-corpus protocols need two different ones.")
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
            column: _named(manifest.corpus, restricted.column(column)) for column in ("speaker", "text", "session")
        }
        frames.append(restricted.frame[list(COLUMNS)].assign(**named, **{PART_COLUMN: part}))
    return Manifest(pd.concat(frames, ignore_index=True), tuple(shared), f"{source.corpus}-to-{target.corpus}")


# The rules ------------------------------------------------------------------------------------------------------------


def _k_fold(manifest: Manifest, folds: int, seed: int) -> list[Fold]:
    from sklearn.model_selection import KFold

    if len(manifest) < folds:
        raise DataError(f"{len(manifest)} recordings cannot be split into {folds} folds; use fewer folds.")
    splits = KFold(folds, shuffle=True, random_state=seed).split(np.arange(len(manifest)))
    return [Fold(_fold_name(number), train, test) for number, (train, test) in enumerate(splits, start=1)]


def _leave_one_out(manifest: Manifest, column: str) -> list[Fold]:
    values = manifest.column(column)
    groups = in_natural_order(values)
    if len(groups) < 2:
        raise DataError(f"Leaving one {column} out needs at least 2; {manifest.corpus} has only {groups[0]!r}.")
    return [
        Fold(_fold_name(number, column, group), *_where(values != group, values == group))
        for number, group in enumerate(groups, start=1)
    ]


def _leave_one_speaker_out(manifest: Manifest) -> list[Fold]:
    return _leave_one_out(manifest, "speaker")


def _leave_one_session_out(manifest: Manifest) -> list[Fold]:
    sessions = in_natural_order(manifest.column("session"))
    if len(sessions) != 5 or "" in sessions:
        raise DataError(
            f"{manifest.corpus} has the sessions {sessions} ('' = unknown); iemocap5-sessions-v1 needs IEMOCAP's 5."
        )
    return _leave_one_out(manifest, "session")


def _leave_one_speaker_out_8_1_1(manifest: Manifest) -> list[Fold]:
    speakers = manifest.column("speaker")
    names = in_natural_order(speakers)
    if len(names) != 10:
        raise DataError(f"{manifest.corpus} has {len(names)} speakers; loso8-1-1-v1 needs 10 (IEMOCAP or EMO-DB).")
    folds = []
    for number, test in enumerate(names, start=1):
        validation = _partner(manifest, names, test)
        training = (speakers != test) & (speakers != validation)
        name = _fold_name(number, "speaker", test)
        folds.append(Fold(name, *_where(training, speakers == test, speakers == validation)))
    return folds


def _partner(manifest: Manifest, names: Sequence[str], speaker: str) -> str:
    """Return the other speaker of the session, or the next one where speakers do not come in pairs."""
    speakers, sessions = manifest.column("speaker"), manifest.column("session")
    session = sessions[speakers == speaker][0]
    others = [name for name in names if name != speaker and session and session in sessions[speakers == name]]
    return others[0] if len(others) == 1 else names[(names.index(speaker) + 1) % len(names)]


def _published_test_speakers(manifest: Manifest, groups: Sequence[Sequence[str]]) -> list[Fold]:
    _check_same_speakers(manifest, groups)
    speakers = manifest.column("speaker")
    tested = [np.isin(speakers, group) for group in groups]
    return [Fold(_fold_name(number), *_where(~test, test)) for number, test in enumerate(tested, start=1)]


def _published_parts(manifest: Manifest, parts: Sequence[Sequence[str]]) -> list[Fold]:
    _check_same_speakers(manifest, parts)
    speakers = manifest.column("speaker")
    train, validation, test = (np.isin(speakers, part) for part in parts)
    return [Fold(_fold_name(1), *_where(train, test, validation))]


def _random_70_20_10(manifest: Manifest, seed: int) -> list[Fold]:
    order = _shuffled(np.arange(len(manifest)), seed)
    if len(order) < 3:
        raise DataError(
            f"{manifest.corpus} has {len(order)} recordings; training, validation and test need 3 or more; add some."
        )
    train, validation, test = _cut_70_20_10(order)
    return [Fold(_fold_name(1), train, test, validation)]


def _speaker_70_20_10(manifest: Manifest, seed: int) -> list[Fold]:
    speakers = manifest.column("speaker")
    found = np.unique(speakers)
    if len(found) < 3:
        raise DataError(
            f"{manifest.corpus} has {_listed(found)}; training, validation and test need 3 or more; use "
            f"loso-v1 (a fold per speaker, no validation part) or random70-20-10-seed{seed}-v1 (by recording, so "
            "speaker-dependent)."
        )
    names = _cut_70_20_10(_shuffled(found, seed))
    train, validation, test = (np.isin(speakers, part) for part in names)
    return [Fold(_fold_name(1), *_where(train, test, validation))]


def _source_to_target(manifest: Manifest) -> list[Fold]:
    parts = _of_two_corpora(manifest)
    return [Fold(_fold_name(1), *_where(parts == SOURCE, parts == TARGET))]


def _pooled(manifest: Manifest, folds: int, seed: int) -> list[Fold]:
    parts, speakers = _of_two_corpora(manifest), manifest.column("speaker")
    tested = np.empty(len(manifest), np.int64)
    for part in (SOURCE, TARGET):
        names = _shuffled(np.unique(speakers[parts == part]), seed)
        if len(names) < folds:
            raise DataError(
                f"A corpus of {manifest.corpus} has {_listed(names)}, too few for {folds} folds with some of its "
                "speakers in each; use fewer folds."
            )
        for number, name in enumerate(names):
            tested[speakers == name] = number % folds
    return [Fold(_fold_name(number + 1), *_where(tested != number, tested == number)) for number in range(folds)]


def _of_two_corpora(manifest: Manifest) -> np.ndarray:
    """Return for each recording which of the two corpora it is from."""
    if PART_COLUMN not in manifest.frame.columns:
        raise DataError(
            f"{manifest.corpus} is one corpus; the protocols cross-... need two, joined by "
            "serzoo.data.splits.cross_corpus."
        )
    return manifest.column(PART_COLUMN)


def _inner(outer: Protocol) -> Protocol:
    """Return the protocol that tests on recordings held out of the training parts of ``outer``.

    Those are ``outer``'s validation parts where it has some, else a fifth of the speakers, or a tenth of the recordings
    where ``outer`` does not keep speakers apart.
    """
    name = f"{INNER}{outer.name}"
    summary = f"{outer.name} without its test parts: scores what is held out of each training part"
    return Protocol(name, summary, outer.speaker_independent, partial(_inner_folds, outer=outer))


def _inner_folds(manifest: Manifest, outer: Protocol) -> list[Fold]:
    folds = []
    for fold in outer.folds(manifest):
        if outer.speaker_independent or fold.validation is not None:
            held_out = with_validation(fold, manifest, fraction=0.2)
        else:
            order = _shuffled(fold.train, seed=0)
            n_held_out = max(1, round(0.1 * len(order)))
            held_out = replace(fold, train=order[n_held_out:], validation=order[:n_held_out])
        assert held_out.validation is not None
        folds.append(Fold(fold.name, held_out.train, held_out.validation))
    return folds


# Names ----------------------------------------------------------------------------------------------------------------

_NEWEST_VERSION = 1
_MAX_NAMES = 12
_NUMBERS = {"K": r"(?P<folds>[2-9]|[1-9]\d{1,3})", "S": r"(?P<seed>0|[1-9]\d{0,8})"}


@dataclass(frozen=True)
class _Family:
    """Protocols that differ in numbers only; capital K (folds) and S (seed) stand for them."""

    template: str
    summary: str
    speaker_independent: bool
    rule: Callable[..., list[Fold]]

    def match(self, name: str) -> dict[str, int] | None:
        """Return the numbers in ``name`` if it is one of this family's."""
        pattern = re.sub("[KS]", lambda letter: _NUMBERS[letter.group()], self.template)
        found = re.fullmatch(pattern, name)
        return None if found is None else {key: int(value) for key, value in found.groupdict().items()}

    def protocol(self, name: str, numbers: Mapping[str, int]) -> Protocol:
        """Return the family's protocol with these numbers."""
        values = {"K": numbers.get("folds"), "S": numbers.get("seed")}
        summary = re.sub(r"\b[KS]\b", lambda letter: str(values[letter.group()]), self.summary)
        return Protocol(name, summary, self.speaker_independent, partial(self.rule, **numbers))


_FAMILIES = (
    _Family(
        "randomK-seedS-v1",
        "shuffled K-fold over the recordings in manifest order, seed S, not stratified (TIM-Net, TBDM-Net); "
        "no validation part",
        False,
        _k_fold,
    ),
    _Family(
        "random70-20-10-seedS-v1",
        "one random split of the recordings, seed S: 70 % train, 20 % validation, 10 % test",
        False,
        _random_70_20_10,
    ),
    _Family(
        "speaker70-20-10-seedS-v1",
        "one random split of the speakers, seed S: 70 % train, 20 % validation, 10 % test",
        True,
        _speaker_70_20_10,
    ),
    _Family(
        "actor70-20-10-v1",
        "RAVDESS: train on actors 01-17, validation 18-22, test 23 and 24",
        True,
        partial(_published_parts, parts=ACTOR_70_20_10_RAVDESS),
    ),
    _Family(
        "loso-v1",
        "leave one speaker out: a fold per speaker, no validation part",
        True,
        _leave_one_speaker_out,
    ),
    _Family(
        "loso8-1-1-v1",
        "10 speakers: test on one, validation on the other of its session (or the next), train on 8 (ACRNN)",
        True,
        _leave_one_speaker_out_8_1_1,
    ),
    _Family(
        "iemocap5-sessions-v1",
        "IEMOCAP: leave one session out, 5 folds, no validation part",
        True,
        _leave_one_session_out,
    ),
    _Family(
        "emobox6-v1",
        "RAVDESS: EmoBox's 6 folds of 4 actors, no validation part",
        True,
        partial(_published_test_speakers, groups=EMOBOX_RAVDESS),
    ),
    _Family(
        "luna5-v1",
        "RAVDESS: the 5 folds of Luna-Jimenez et al. (2021), no validation part",
        True,
        partial(_published_test_speakers, groups=LUNA_JIMENEZ_RAVDESS),
    ),
    _Family(
        "cross-shared5-v1",
        "train on one corpus, test on another, on the classes they share of angry, fear, happy, neutral, sad (TIM-Net)",
        True,
        _source_to_target,
    ),
    _Family(
        "cross-pooledK-seedS-v1",
        "train and test on two corpora at once, on the same classes: K folds over the speakers of each, seed S",
        True,
        _pooled,
    ),
)


# Parts ----------------------------------------------------------------------------------------------------------------


def _check_speakers_known(manifest: Manifest, wanted_by: str) -> None:
    n_unknown = int(np.sum(manifest.column("speaker") == ""))
    if n_unknown:
        raise DataError(
            f"{n_unknown} of {len(manifest)} recordings of {manifest.corpus} have no speaker, which {wanted_by} needs; "
            "fill the manifest's speaker column or choose a random protocol."
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


def _cut_70_20_10(items: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut three ``items`` or more into training, validation and test, the last two rounded but never empty."""
    n_validation, n_test = max(1, round(0.2 * len(items))), max(1, round(0.1 * len(items)))
    n_train = len(items) - n_validation - n_test
    return items[:n_train], items[n_train : n_train + n_validation], items[n_train + n_validation :]


def _shuffled(items: np.ndarray, seed: int) -> np.ndarray:
    # RandomState because NumPy promises never to change its stream; Generator's may change with a release.
    return np.random.RandomState(seed).permutation(items)


def _listed(speakers: Iterable[str]) -> str:
    """Return, say, ``2 speakers (OAF, YAF)``."""
    names = in_natural_order(speakers)
    shown = ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
    return f"{len(names)} speaker{'s' if len(names) != 1 else ''} ({shown})"


def _where(*masks: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.flatnonzero(mask) for mask in masks)


def _named(corpus: str, values: np.ndarray) -> list[str]:
    return [f"{corpus}/{value}" if value else "" for value in values]


def _fold_name(number: int, *what: str) -> str:
    """Return ``fold01`` or, say, ``fold01-speaker-03``, with nothing a file system could object to."""
    return "-".join([f"fold{number:02d}", *(re.sub(r"[^\w.]+", "_", part) for part in what)])
