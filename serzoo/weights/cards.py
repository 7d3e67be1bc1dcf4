"""Cards: what is known of a pretrained set, as strict YAML beside its file of weights."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from serzoo import strict_yaml
from serzoo.config import ModelConfig
from serzoo.errors import ConfigError, SerzooError, WeightsError
from serzoo.strict_data import Place, build

SUFFIX = ".yaml"
"""A card is called as its set, with this ending."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a pretrained set, whatever it tells.

    Args:
        name: of the set, and with an ending of its files: ASCII letters, digits and ``_ . + -``.
        summary: one line.
        bytes: size of its file of weights.
        sha256: of that file, hexadecimal.
        corpus: what it was trained on; several are joined by ``+``.
        source: where the corpus comes from.
        licence: of the corpus, and so of what was trained on it.
        protocol: how the scores were found.
        scores: in 0..1, by name; of several folds a list.
        class_names: what it tells apart, in the order of its answers.
        feature_spec: what it takes; :func:`serzoo.features.spec.spec_from_dict` reads it.
        versions: of the packages that it was trained and tested with.
        input: arguments of :func:`serzoo.data.synthetic.synthesize`, which make the fixed input.
        output: the answer to it, a probability per class.
        url: where the file is, for a set whose card comes without it; None for one that has it beside its card.

    Raises:
        WeightsError: name, hash or address is none.
    """

    kind: ClassVar[str]
    """What the set tells."""

    suffix: ClassVar[str]
    """Ending of its file of weights."""

    use: ClassVar[str]
    """What a set of this kind is for."""

    name: str
    summary: str
    bytes: int
    sha256: str
    corpus: str
    source: str
    licence: str
    protocol: str
    scores: Mapping[str, Any]
    class_names: tuple[str, ...]
    feature_spec: Mapping[str, Any]
    versions: Mapping[str, str]
    input: Mapping[str, Any]
    output: tuple[float, ...]
    url: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        _require(bool(_SHA256.fullmatch(self.sha256)), "sha256", self.sha256, "64 hexadecimal digits")
        is_address = self.url is None or self.url.startswith(("https://", "http://"))
        _require(is_address, "url", self.url, "an address that begins with https://")

    @property
    def file(self) -> str:
        """Name of the file of weights."""
        return f"{self.name}{self.suffix}"


@dataclass(frozen=True, kw_only=True)
class GenderCard(Card):
    """The card of a classifier of speakers' genders; the scores are those of its kind on speakers not heard."""

    kind = "gender"
    suffix = ".skops"
    use = "tells speakers' genders; name it where a gender goes (predict(..., gender=NAME), --gender NAME)"


@dataclass(frozen=True)
class Calibration:
    """What a set's answers are worth, found on the predictions of recordings that were held out.

    Args:
        temperature: by which the logarithms of its probabilities are divided
            (:func:`serzoo.layers.temperature.at_temperature`), above 0.
        error_before: expected calibration error without the temperature, 0..1.
        error_after: the same with it.
        threshold: a confidence below this makes the answer ``unknown``, 0..1.
        coverage: share of the recordings whose confidence reaches the threshold, 0..1.
        accuracy: share of those that are answered right, 0..1.
        n: predictions.

    Raises:
        WeightsError: a value out of range.
    """

    temperature: float
    error_before: float
    error_after: float
    threshold: float
    coverage: float
    accuracy: float
    n: int

    def __post_init__(self) -> None:
        usable = 0 < self.temperature < math.inf
        _require(usable, "temperature", self.temperature, "a number above 0")
        for name in ("error_before", "error_after", "threshold", "coverage", "accuracy"):
            value = getattr(self, name)
            _require(0 <= value <= 1, name, value, "in 0..1")


@dataclass(frozen=True, kw_only=True)
class EmotionCard(Card):
    """The card of a network that tells emotions; the scores are those of its kind in a cross-validation.

    Args:
        model: the architecture and its arguments; the other arguments are those of :class:`Card`.
        trained_on: what these weights have heard.
        calibration: what their answers are worth.
    """

    kind = "emotion"
    suffix = ".weights.h5"
    use = "tells emotions; load it with serzoo.load"

    model: ModelConfig
    trained_on: str
    calibration: Calibration

    def __str__(self) -> str:
        found = self.calibration
        return (
            f"{self.name}: {self.summary}; {self.licence}\nTrained on {self.trained_on}.\n"
            f"Protocol {self.protocol}: UAR {self.scores['uar']:.2%}, WAR {self.scores['war']:.2%}.\n"
            f"Calibration on {found.n} held-out predictions: temperature {found.temperature:.3f}, expected error "
            f"{found.error_before:.2%} before and {found.error_after:.2%} after; with a confidence of at least "
            f"{found.threshold:g} are {found.coverage:.1%} answered, {found.accuracy:.1%} of these right."
        )


KINDS: Mapping[str, type[Card]] = MappingProxyType({card.kind: card for card in (EmotionCard, GenderCard)})
"""The cards by what a set tells."""

C = TypeVar("C", bound=Card)


def expect(card: Card, kind: type[C]) -> C:
    """Return the card if it is of a kind.

    Raises:
        WeightsError: it is of another.
    """
    if not isinstance(card, kind):
        raise WeightsError(f"{card.name} {card.use}.")
    return card


def check_name(name: str) -> str:
    """Return ``name`` if a set can be called so.

    Raises:
        WeightsError: it cannot.
    """
    _require(bool(_NAME.fullmatch(name)), "the set's name", name, "ASCII letters, digits and _ . + -")
    return name


def read_card(path: Path) -> Card:
    """Read a card.

    Raises:
        WeightsError: the file cannot be read, is no card, or is called otherwise than its set.
    """
    try:
        values = strict_yaml.read(path)
    except ConfigError as error:
        raise WeightsError(str(error)) from None
    if not isinstance(values, dict):
        raise WeightsError(f"{path} is no card of a pretrained set; it holds {values!r:.80}, no keys. Get it again.")
    values = json.loads(json.dumps(values))  # without the lines of the keys
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise WeightsError(
            f"{path} is no card of a pretrained set; its kind is {kind!r:.80}, not {' or '.join(KINDS)}."
        )
    try:
        card = build(KINDS[kind], values, Place("card"))
    except SerzooError as error:
        reason = str(error).removesuffix(".")
        raise WeightsError(f"{path} is no card of a pretrained set ({reason:.400}); get it again.") from None
    if path.name != f"{card.name}{SUFFIX}":
        raise WeightsError(f"{path} is the card of {card.name}; call it {card.name}{SUFFIX}.")
    return card


def card_text(card: Card) -> str:
    """Return a card as YAML that :func:`read_card` reads back."""
    values = {"kind": card.kind, **asdict(card)}
    plain = json.loads(json.dumps({key: value for key, value in values.items() if value is not None}))
    return strict_yaml.dump(plain)


def _require(allowed: bool, name: str, value: object, what: str) -> None:
    if not allowed:
        raise WeightsError(f"{name} is {value!r:.80}; it must be {what}.")
