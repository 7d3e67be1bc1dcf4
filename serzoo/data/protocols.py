"""Protocols: named, versioned rules that split a manifest into training, validation and test parts.

A score has a meaning only together with its protocol, so its name is stamped into every result and never changes its
meaning: a changed rule gets a new version. :mod:`serzoo.data.splits` has the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from serzoo.data import splits
from serzoo.data.manifest import Manifest
from serzoo.data.splits import Fold
from serzoo.errors import unknown_name

INNER = "inner-"
"""Prefix of the protocols that score recordings held out of another protocol's training parts."""


@dataclass(frozen=True)
class Protocol:
    """A named rule that splits a manifest; :func:`get_protocol` makes them.

    Args:
        name: the full name with its version, for example ``"random10-seed46-v1"``.
        summary: one line on the split.
        speaker_independent: whether no test (or validation) speaker is in the training part.
        split: the rule.
    """

    name: str
    summary: str
    speaker_independent: bool
    split: Callable[[Manifest], list[Fold]]

    @property
    def takes_two_corpora(self) -> bool:
        """Whether it splits two corpora joined by :func:`serzoo.data.splits.cross_corpus`."""
        return self.name.removeprefix(INNER).startswith("cross-")

    @property
    def tests_on_both(self) -> bool:
        """Whether its test parts have recordings of both corpora."""
        return self.name.removeprefix(INNER).startswith("cross-pooled")

    def folds(self, manifest: Manifest) -> list[Fold]:
        """Split ``manifest``.

        Raises:
            DataError: the protocol needs speakers and some are unknown; the speakers or sessions are not the published
                ones; or there are too few speakers, sessions or recordings.
        """
        if self.speaker_independent:
            splits.check_speakers_known(manifest, f"protocol {self.name}")
        return self.split(manifest)


def get_protocol(name: str) -> Protocol:
    """Return the protocol called ``name``.

    Args:
        name: a name of :func:`protocol_names` with its numbers filled in, for example
            ``"random10-seed46-v1"``. Without a version the newest one is taken. With the prefix ``inner-`` it is the
            protocol for choosing settings, which leaves the test parts unused.

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
    """Return a summary by name pattern for all families of protocols; K and S stand for numbers."""
    return {
        **{family.template: family.summary for family in _FAMILIES},
        f"{INNER}PROTOCOL": "any of these without its test parts: scores recordings held out of each training part, "
        "to choose settings",
    }


def _inner(outer: Protocol) -> Protocol:
    """Return the protocol that tests on recordings held out of the training parts of ``outer``.

    These are the validation parts of ``outer``; without them, a fifth of the training speakers, or a tenth of the
    training recordings if ``outer`` is speaker-dependent.
    """
    name = f"{INNER}{outer.name}"
    summary = f"{outer.name} without its test parts: scores recordings held out of each training part"
    return Protocol(name, summary, outer.speaker_independent, partial(_inner_folds, outer=outer))


def _inner_folds(manifest: Manifest, outer: Protocol) -> list[Fold]:
    folds = []
    for fold in outer.folds(manifest):
        if outer.speaker_independent or fold.validation is not None:
            held_out = splits.with_validation(fold, manifest, fraction=0.2)
        else:
            order = splits.shuffled(fold.train, seed=0)
            n_held_out = max(1, round(0.1 * len(order)))
            held_out = replace(fold, train=order[n_held_out:], validation=order[:n_held_out])
        assert held_out.validation is not None
        folds.append(Fold(fold.name, held_out.train, held_out.validation))
    return folds


# Names ----------------------------------------------------------------------------------------------------------------

_NEWEST_VERSION = 1
_NUMBERS = {"K": r"(?P<folds>[2-9]|[1-9]\d{1,3})", "S": r"(?P<seed>0|[1-9]\d{0,8})"}


@dataclass(frozen=True)
class _Family:
    """Protocols that differ only in numbers, for which K (folds) and S (seed) stand."""

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
        splits.k_fold,
    ),
    _Family(
        "random70-20-10-seedS-v1",
        "one random split of the recordings, seed S: 70 % train, 20 % validation, 10 % test",
        False,
        splits.random_70_20_10,
    ),
    _Family(
        "speaker70-20-10-seedS-v1",
        "one random split of the speakers, seed S: 70 % train, 20 % validation, 10 % test",
        True,
        splits.speaker_70_20_10,
    ),
    _Family(
        "actor70-20-10-v1",
        "RAVDESS: train on actors 01-17, validation 18-22, test 23 and 24",
        True,
        partial(splits.published_parts, parts=splits.ACTOR_70_20_10_RAVDESS),
    ),
    _Family(
        "loso-v1",
        "leave one speaker out: a fold per speaker, no validation part",
        True,
        splits.leave_one_speaker_out,
    ),
    _Family(
        "loso8-1-1-v1",
        "10 speakers: test on one, validation on the other of its session (or the next), train on 8 (ACRNN)",
        True,
        splits.leave_one_speaker_out_8_1_1,
    ),
    _Family(
        "iemocap5-sessions-v1",
        "IEMOCAP: leave one session out, 5 folds, no validation part",
        True,
        splits.leave_one_session_out,
    ),
    _Family(
        "emobox6-v1",
        "RAVDESS: EmoBox's 6 folds of 4 actors, no validation part",
        True,
        partial(splits.published_test_speakers, groups=splits.EMOBOX_RAVDESS),
    ),
    _Family(
        "luna5-v1",
        "RAVDESS: the 5 folds of Luna-Jimenez et al. (2021), no validation part",
        True,
        partial(splits.published_test_speakers, groups=splits.LUNA_JIMENEZ_RAVDESS),
    ),
    _Family(
        "cross-shared5-v1",
        "train on one corpus, test on another, on the classes they share of angry, fear, happy, neutral, sad (TIM-Net)",
        True,
        splits.source_to_target,
    ),
    _Family(
        "cross-pooledK-seedS-v1",
        "train and test on two corpora at once, on the same classes: K folds over the speakers of each, seed S",
        True,
        splits.pooled,
    ),
)
