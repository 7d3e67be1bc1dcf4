"""Cards: what is known of a pretrained set, as strict YAML beside its file of weights."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from serzoo import strict_yaml
from serzoo.errors import ConfigError, SerzooError, WeightsError
from serzoo.features.spec import spec_from_dict
from serzoo.labels import UNKNOWN
from serzoo.settings import ModelConfig
from serzoo.strict_data import Place, build
from serzoo.weights.check_clips import is_check_clip

SUFFIX = ".yaml"
"""A card is called as its set, with this ending."""

MAX_BYTES = 2**32
"""Of a file of weights."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f]")
_LOCAL = ("localhost", "127.0.0.1", "::1")
_RATES = (1_000, 192_000)  # Hz
_MAX_CLIP = 300  # seconds
_MAX_COUNT = 2**13  # bands, samples of a window and whatever else a feature counts
_MAX_ARGUMENT = 2**16
_MAX_WORK = 2**26  # frames of a clip times the values of the largest thing that is computed of one
_INPUT_SECONDS = 5  # more than any synthetic clip has


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
        input: names the check clip; see :mod:`serzoo.weights.check_clips`.
        output: the answer to it, a probability per class.
        url: where the file is, for a set whose card comes without it; None for one that has it beside its card.

    Raises:
        WeightsError: name, hash or address is none; or what the card describes is larger than any clip or feature, so
            that nobody's card takes all of the memory.
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
        for name in ("summary", "corpus", "source", "licence", "protocol"):
            text = getattr(self, name)
            _require(text.isprintable(), name, text, "one line of printable characters")
        for label in self.class_names:
            _require(label.isprintable(), "a class name", label, "one line of printable characters")
        is_url = self.url is None or is_address(self.url)
        _require(is_url, "url", self.url, "an address that begins with https://")
        _require(0 <= self.bytes <= MAX_BYTES, "bytes", self.bytes, f"in 0..{MAX_BYTES}")
        _require(is_check_clip(self.input), "input", self.input, "one of the clips of serzoo.weights.check_clips")
        _check_features(self.feature_spec)

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
        error_after: the same with one.
        threshold: a confidence below this makes the answer ``unknown``, 0..1.
        coverage: share of the recordings whose confidence reaches the threshold, 0..1.
        accuracy: share of those that are answered right, 0..1.
        n: recordings, each counted once, however many networks heard it.

    Error, coverage and accuracy with a temperature are those of temperatures that were fitted without the recordings
    they are about: for each fold on the other folds.

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
        _require(self.n >= 1, "n", self.n, "at least 1")


@dataclass(frozen=True, kw_only=True)
class EmotionCard(Card):
    """The card of a network that tells emotions; the scores are those of its kind in a cross-validation.

    Args:
        model: the architecture and its arguments; the other arguments are those of :class:`Card`.
        trained_on: what these weights have heard.
        calibration: what their answers are worth.

    Raises:
        WeightsError: as :class:`Card`; or a class is called :data:`serzoo.labels.UNKNOWN`, UAR or WAR is missing or out
            of range, or an argument of the model is too large.
    """

    kind = "emotion"
    suffix = ".weights.h5"
    use = "tells emotions; load it with serzoo.load"

    model: ModelConfig
    trained_on: str
    calibration: Calibration

    def __post_init__(self) -> None:
        super().__post_init__()
        others = "other names: it is what a set answers that does not know"
        _require(UNKNOWN not in self.class_names, "class_names", self.class_names, others)
        for name in ("uar", "war"):
            score = self.scores.get(name)
            in_range = isinstance(score, (int, float)) and not isinstance(score, bool) and 0 <= score <= 1
            _require(in_range, f"scores.{name}", score, "a number in 0..1")
        for name, number in _integers(self.model.arguments):
            _require(number <= _MAX_ARGUMENT, name, number, f"at most {_MAX_ARGUMENT}")

    def __str__(self) -> str:
        found = self.calibration
        return (
            f"{self.name}: {self.summary}; {self.licence}\nTrained on {self.trained_on}.\n"
            f"Protocol {self.protocol}: UAR {self.scores['uar']:.2%}, WAR {self.scores['war']:.2%}.\n"
            f"Calibration on {found.n} held-out recordings: temperature {found.temperature:.3f}, expected error "
            f"{found.error_before:.2%} before and {found.error_after:.2%} after, on folds that it was not fitted on; "
            f"with a confidence of at least {found.threshold:g} are {found.coverage:.1%} answered, "
            f"{found.accuracy:.1%} of these right."
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


def is_address(url: str) -> bool:
    """Return whether something may be fetched from ``url``: over https, or over http from this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is no number raises
    except ValueError:  # also an address in brackets that is none
        return False
    return not _UNPRINTABLE.search(url) and bool(host) and (parts.scheme == "https" or is_local(url))


def is_local(url: str) -> bool:
    """Return whether ``url``, which can be split into its parts, is an http address of this machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in _LOCAL


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


def _check_features(spec: Mapping[str, Any]) -> None:
    """Raise WeightsError if the features are larger than anybody's; whether they are any, others check."""
    try:
        known = spec_from_dict(spec)
    except (SerzooError, TypeError):
        return
    counts = dict(_integers(known.to_dict()))
    lowest, highest = _RATES
    rate = counts.pop("sample_rate")
    _require(lowest <= rate <= highest, "feature_spec.sample_rate", rate, f"in {lowest}..{highest} Hz")
    n_samples = counts.pop("n_samples", _INPUT_SECONDS * rate)
    longest = _MAX_CLIP * rate
    _require(n_samples <= longest, "feature_spec.n_samples", n_samples, f"at most {longest}, {_MAX_CLIP} seconds")
    for name, number in counts.items():
        _require(number <= _MAX_COUNT, f"feature_spec.{name}", number, f"at most {_MAX_COUNT}")
    if known.hop_length:
        work = n_samples // known.hop_length * max(counts.values())
        what = f"so long that the values of all frames of a clip are at most {_MAX_WORK}"
        _require(work <= _MAX_WORK, "feature_spec.hop_length", known.hop_length, what)


def _integers(values: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    """Yield the whole numbers among plain values, and in lists of them, with the names of the values."""
    for name, value in values.items():
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, int) and not isinstance(each, bool):
                yield name, each


def _require(allowed: bool, name: str, value: object, what: str) -> None:
    if not allowed:
        raise WeightsError(f"{name} is {value!r:.80}; it must be {what}.")
