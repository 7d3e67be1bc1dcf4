"""Model cards: the description of pretrained weights, as strict YAML next to the weights file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from serzoo import strict_yaml
from serzoo.checks import COUNT, POSITIVE, UNIT, check, require
from serzoo.errors import ConfigError, SerzooError, WeightsError
from serzoo.features.spec import spec_from_dict
from serzoo.labels import UNKNOWN
from serzoo.settings import ModelConfig
from serzoo.strict_data import Checked, Place, build
from serzoo.weights.check_clips import is_check_clip

SUFFIX = ".yaml"
"""Ending of a card; the rest of its name is that of the weights."""

MAX_BYTES = 2**32
"""Largest size of a weights file."""

_require = partial(require, error=WeightsError)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f]")
_LOCAL = ("localhost", "127.0.0.1", "::1")
_RATES = (1_000, 192_000)  # Hz
_MAX_CLIP = 300  # seconds
_MAX_COUNT = 2**13  # bands, samples of a window and other sizes of a feature
_MAX_ARGUMENT = 2**16
_MAX_WORK = 2**26  # frames of a clip times the largest of a feature's sizes
_INPUT_SECONDS = 5  # longer than the check clips


@dataclass(frozen=True, kw_only=True)
class Card:
    """The model card of pretrained weights, whatever they classify.

    Args:
        name: of the weights, and with an ending of their files: ASCII letters, digits and ``_ . + -``.
        summary: one line.
        bytes: size of the weights file.
        sha256: of the weights file, hexadecimal.
        corpus: training corpus; several are joined by ``+``.
        source: where the corpus comes from.
        licence: of the corpus, and therefore of the weights.
        protocol: how the scores were measured.
        scores: in 0..1, by name; of several folds a list.
        class_names: names of the outputs, in order.
        feature_spec: features of the model, as :func:`serzoo.features.spec.spec_from_dict` reads them.
        versions: of the packages used for training and testing.
        input: names the check clip; see :mod:`serzoo.weights.check_clips`.
        output: the model's probabilities for the check clip, one per class.
        url: address of the weights file; None if it is next to the card.

    Raises:
        WeightsError: an invalid name, hash or address, or sizes beyond those of any real clip or feature, which could
            use up the memory of the machine.
    """

    kind: ClassVar[str]
    """The classes of the weights: ``"emotion"`` or ``"gender"``."""

    suffix: ClassVar[str]
    """Ending of the weights file."""

    use: ClassVar[str]
    """How to use weights of this kind, as the end of a sentence."""

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
        texts = [(name, getattr(self, name)) for name in ("summary", "corpus", "source", "licence", "protocol")]
        for name, text in (*texts, *(("a class name", label) for label in self.class_names)):
            _require(text.isprintable(), name, text, "one line of printable characters")
        if self.url is not None:
            _require(is_address(self.url), "url", self.url, "an address that begins with https://")
        _require(0 <= self.bytes <= MAX_BYTES, "bytes", self.bytes, f"in 0..{MAX_BYTES}")
        _require(is_check_clip(self.input), "input", self.input, "one of the clips of serzoo.weights.check_clips")
        _check_features(self.feature_spec)

    @property
    def file(self) -> str:
        """Name of the weights file."""
        return f"{self.name}{self.suffix}"


@dataclass(frozen=True, kw_only=True)
class GenderCard(Card):
    """The card of a gender classifier; the scores are those of its cross-validation on unseen speakers."""

    kind = "gender"
    suffix = ".skops"
    use = "classifies the speaker's gender; use it as a gender input (predict(..., gender=NAME), --gender NAME)"

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.summary}; {self.licence}\n"
            f"Protocol {self.protocol}: accuracy {self.scores['accuracy']:.2%}."
        )


@dataclass(frozen=True)
class Calibration(Checked):
    """How reliable a model's probabilities are, measured on held-out recordings.

    Args:
        temperature: divisor of the logarithms of the probabilities
            (:func:`serzoo.layers.temperature.at_temperature`), above 0.
        error_before: expected calibration error without the temperature, 0..1.
        error_after: expected calibration error with a temperature.
        threshold: confidence in 0..1 below which the label is ``unknown``.
        coverage: share of the recordings whose confidence reaches the threshold, 0..1.
        accuracy: share of those that are classified correctly, 0..1.
        n: number of recordings, each counted once, however many networks classified it.

    Each fold's share of ``error_after``, ``coverage`` and ``accuracy`` is measured at a temperature that was fitted on
    the other folds.

    Raises:
        ConfigError: a value out of range.
    """

    temperature: Annotated[float, POSITIVE]
    error_before: Annotated[float, UNIT]
    error_after: Annotated[float, UNIT]
    threshold: Annotated[float, UNIT]
    coverage: Annotated[float, UNIT]
    accuracy: Annotated[float, UNIT]
    n: Annotated[int, COUNT]


@dataclass(frozen=True, kw_only=True)
class EmotionCard(Card):
    """The card of an emotion classifier; the scores are those of a cross-validation of the same model.

    Args:
        model: the architecture and its arguments; the other arguments are those of :class:`Card`.
        trained_on: training recordings of these weights.
        calibration: how reliable their probabilities are.

    Raises:
        WeightsError: as :class:`Card`; or a class is called :data:`serzoo.labels.UNKNOWN`, UAR or WAR is missing or out
            of range, or an argument of the model is too large.
    """

    kind = "emotion"
    suffix = ".weights.h5"
    use = "classifies emotions; load it with serzoo.load"

    model: ModelConfig
    trained_on: str
    calibration: Calibration

    def __post_init__(self) -> None:
        super().__post_init__()
        others = "without 'unknown', the label below the threshold"
        _require(UNKNOWN not in self.class_names, "class_names", self.class_names, others)
        for name in ("uar", "war"):
            check(f"scores.{name}", self.scores.get(name), UNIT, WeightsError)
        for name, number in _integers(self.model.arguments):
            _require(number <= _MAX_ARGUMENT, name, number, f"at most {_MAX_ARGUMENT}")

    def __str__(self) -> str:
        found = self.calibration
        return (
            f"{self.name}: {self.summary}; {self.licence}\nTrained on {self.trained_on}.\n"
            f"Protocol {self.protocol}: UAR {self.scores['uar']:.2%}, WAR {self.scores['war']:.2%}.\n"
            f"Temperature {found.temperature:.3f}, fitted on {found.n} held-out recordings. Expected calibration error "
            f"{found.error_before:.2%} without and {found.error_after:.2%} with a temperature from other folds.\n"
            f"{found.coverage:.1%} of clips reach confidence {found.threshold:g}; {found.accuracy:.1%} of those are "
            "correct."
        )


KINDS: Mapping[str, type[Card]] = MappingProxyType({card.kind: card for card in (EmotionCard, GenderCard)})
"""The classes of cards by their kind."""

C = TypeVar("C", bound=Card)


def expect(card: Card, kind: type[C]) -> C:
    """Return the card if it is of this kind.

    Raises:
        WeightsError: it is of another kind.
    """
    if not isinstance(card, kind):
        raise WeightsError(f"{card.name} {card.use}.")
    return card


def check_name(name: str) -> str:
    """Return ``name`` if it is a valid name for pretrained weights.

    Raises:
        WeightsError: it is not.
    """
    _require(bool(_NAME.fullmatch(name)), "name", name, "ASCII letters, digits and _ . + -")
    return name


def is_address(url: str) -> bool:
    """Return whether files may be downloaded from ``url``: over https, or over http from this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is no number raises
    except ValueError:  # also an invalid IPv6 address in brackets
        return False
    return not _UNPRINTABLE.search(url) and bool(host) and (parts.scheme == "https" or is_local(url))


def is_local(url: str) -> bool:
    """Return whether ``url``, a valid address, is an http address of this machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in _LOCAL


def read_card(path: Path) -> Card:
    """Read a model card.

    Raises:
        WeightsError: the file cannot be read, is not a card, or has another name than its weights.
    """
    try:
        values = strict_yaml.read(path)
    except ConfigError as error:
        raise WeightsError(str(error)) from None
    try:
        if not isinstance(values, dict):
            raise WeightsError(f"it holds {values!r:.80}, no keys")
        plain = json.loads(json.dumps(values))  # plain dictionaries: errors name keys, not lines
        kind = plain.pop("kind", None)
        if not isinstance(kind, str) or kind not in KINDS:
            raise WeightsError(f"its kind is {kind!r:.80}, not {' or '.join(KINDS)}")
        card = build(KINDS[kind], plain, Place("card"))
    except SerzooError as error:
        reason = str(error).removesuffix(".")
        raise WeightsError(f"{path} is not a valid model card ({reason:.400}); get it again.") from None
    if path.name != f"{card.name}{SUFFIX}":
        raise WeightsError(f"{path} is the card of {card.name}; rename it to {card.name}{SUFFIX}.")
    return card


def card_text(card: Card) -> str:
    """Return a card as YAML that :func:`read_card` reads back."""
    values = {"kind": card.kind, **asdict(card)}
    plain = json.loads(json.dumps({key: value for key, value in values.items() if value is not None}))
    return strict_yaml.dump(plain)


def _check_features(spec: Mapping[str, Any]) -> None:
    """Raise WeightsError if the features are larger than real ones. Building the model checks if they are valid."""
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
        what = f"so large that all frames of a clip have at most {_MAX_WORK} values"
        _require(work <= _MAX_WORK, "feature_spec.hop_length", known.hop_length, what)


def _integers(values: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    """Yield names and values of the whole numbers among plain values and in lists of them."""
    for name, value in values.items():
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, int) and not isinstance(each, bool):
                yield name, each
