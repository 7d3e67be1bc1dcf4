"""Protocols: named, versioned rules that split a manifest into training, validation and test parts.

A score has a meaning only together with its protocol, so its name is stamped into every result and never changes its
meaning: a changed rule gets a new version. :mod:`serzoo.data.splits` has the rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from serzoo import strict_yaml
from serzoo.data import splits
from serzoo.data.manifest import Manifest
from serzoo.data.splits import Fold
from serzoo.errors import unknown_name

INNER = "inner-"
"""Prefix of the protocols that score recordings held out of another protocol's training parts."""

_NEWEST_VERSION = 1
_NUMBERS = {"K": r"(?P<K>[2-9]|[1-9]\d{1,3})", "S": r"(?P<S>0|[1-9]\d{0,8})"}
_ARGUMENTS = {"K": "folds", "S": "seed"}
_PROTOCOLS = strict_yaml.read(Path(__file__).with_suffix(".yaml"))


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
    def described(self) -> str:
        """The name and the kind, such as ``loso-v1 (speaker-independent)``."""
        return f"{self.name} ({'speaker-independent' if self.speaker_independent else 'speaker-DEPENDENT'})"

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
        outer = get_protocol(name.removeprefix(INNER))
        words = f"{outer.name} without its test parts: scores recordings held out of each training part"
        return Protocol(f"{INNER}{outer.name}", words, outer.speaker_independent, partial(_inner_folds, outer=outer))
    for full_name, (template, facts) in product((name, f"{name}-v{_NEWEST_VERSION}"), _PROTOCOLS.items()):
        found = re.fullmatch(re.sub("[KS]", lambda letter: _NUMBERS[letter.group()], template), full_name)
        if found is not None:
            summary: str = facts["summary"]
            arguments: dict[str, Any] = {}
            if "groups" in facts:
                arguments["groups"] = [names.split() for names in facts["groups"]]
            for letter, number in found.groupdict().items():
                summary = re.sub(rf"\b{letter}\b", number, summary)
                arguments[_ARGUMENTS[letter]] = int(number)
            rule = partial(getattr(splits, facts["rule"]), **arguments)
            return Protocol(full_name, summary, facts.get("speaker_independent", True), rule)
    raise unknown_name("protocol", name, protocol_names())


def protocol_names() -> dict[str, str]:
    """Return a summary by name pattern for all protocols; K and S stand for numbers."""
    return {
        **{template: facts["summary"] for template, facts in _PROTOCOLS.items()},
        f"{INNER}PROTOCOL": "any of these without its test parts: scores recordings held out of each training part, "
        "to choose settings",
    }


def _inner_folds(manifest: Manifest, outer: Protocol) -> list[Fold]:
    """Return folds that test on the validation parts of ``outer``, without its test parts.

    Where there are none, they test on a fifth of the training speakers, or a tenth of the training recordings if
    ``outer`` is speaker-dependent.
    """
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
