"""Checks of arguments and settings: which values are allowed, and the error for all others.

The allowed values are a small object, such as ``Integer(at_least=1)``. Functions and constructors pass it to
:func:`check`; a dataclass that :mod:`serzoo.strict_data` reads has it in the type of a field,
``epochs: Annotated[int, Integer(at_least=1)]``. Every error reads "NAME is VALUE; it must be WHAT."
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from serzoo.errors import ConfigError, SerzooError, unknown_name

NONE = "None (null in YAML)"


class Allowed:
    """The values that an argument may have: ``in`` finds one, ``str()`` describes them, to follow "it must be"."""

    def __contains__(self, value: Any) -> bool:
        raise NotImplementedError

    def __or__(self, other: Allowed) -> Either:
        return Either((self, other))


@dataclass(frozen=True)
class Either(Allowed):
    """The values of several kinds, written ``Number(above=0) | OneOf(("auto",))``."""

    kinds: tuple[Allowed, ...]

    def __contains__(self, value: Any) -> bool:
        return any(value in kind for kind in self.kinds)

    def __str__(self) -> str:
        return ", or ".join(map(str, self.kinds))


@dataclass(frozen=True)
class Number(Allowed):
    """Finite numbers within limits; True and False are none."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __contains__(self, value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        number: Any = value
        return (
            (isinstance(number, Integral) or math.isfinite(number))
            and (self.at_least is None or number >= self.at_least)
            and (self.above is None or number > self.above)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"{self._noun} in {self.at_least}..{self.at_most}"
        names = {"at_least": "of at least", "above": "above", "at_most": "at most", "below": "below"}
        limits = [f"{words} {getattr(self, name)}" for name, words in names.items() if getattr(self, name) is not None]
        return " ".join((self._noun, " and ".join(limits))).strip()

    _noun = "a number"


@dataclass(frozen=True)
class Integer(Number):
    """Integers within limits."""

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, Integral) and super().__contains__(value)

    _noun = "an integer"


@dataclass(frozen=True)
class MultipleOf(Allowed):
    """The integers above 0 that ``factor`` divides."""

    factor: int

    def __contains__(self, value: Any) -> bool:
        return value in COUNT and value % self.factor == 0

    def __str__(self) -> str:
        return f"a positive multiple of {self.factor}"


@dataclass(frozen=True)
class Flag(Allowed):
    """True and False."""

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class OneOf(Allowed):
    """Some values.

    Args:
        choices: the values.
        kind: their common name in the singular, if they are names of something; another name is then an
            UnknownNameError with the nearest match.
    """

    choices: tuple[object, ...]
    kind: str = ""

    def __contains__(self, value: Any) -> bool:
        return value in self.choices

    def __str__(self) -> str:
        words = [NONE if choice is None else repr(choice) for choice in self.choices]
        return f"one of {', '.join(words)}" if len(words) > 1 else words[0]


@dataclass(frozen=True)
class ListOf(Allowed):
    """Lists and tuples of one or more values, all allowed by ``item``, and all different if ``distinct``."""

    item: Allowed
    distinct: bool = False

    def __contains__(self, value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and len(value) > 0
            and all(entry in self.item for entry in value)
            and not (self.distinct and len(set(value)) < len(value))
        )

    def __str__(self) -> str:
        return f"a list of one or more {'different ' if self.distinct else ''}values, each {self.item}"


@dataclass(frozen=True)
class Text(Allowed):
    """Text of at least one character."""

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, str) and bool(value)

    def __str__(self) -> str:
        return "text"


COUNT = Integer(at_least=1)
SEED = Integer(at_least=0, below=2**32)
POSITIVE = Number(above=0)
NOT_NEGATIVE = Number(at_least=0)
FRACTION = Number(at_least=0, below=1)
UNIT = Number(at_least=0, at_most=1)
FLAG = Flag()
TEXTS = ListOf(Text())


def check(name: str, value: object, allowed: Allowed, error: type[SerzooError] = ConfigError) -> None:
    """Raise the error of :func:`refusal` unless ``value`` is allowed."""
    if value not in allowed:
        raise refusal(name, value, allowed, error)


def require(is_allowed: bool, name: str, value: object, words: str, error: type[SerzooError] = ConfigError) -> None:
    """Raise the error of :func:`refusal` unless ``is_allowed``; ``words`` state the condition."""
    if not is_allowed:
        raise refusal(name, value, words, error)


def refusal(
    name: str, value: object, allowed: Allowed | str, error: type[SerzooError] = ConfigError, or_none: bool = False
) -> SerzooError:
    """Return the error for a value that is not allowed.

    Args:
        name: of the argument or setting.
        value: the given one.
        allowed: the allowed values, or their description; after the names of a kind (:class:`OneOf`) the error is an
            UnknownNameError with the nearest match.
        error: class of all other errors.
        or_none: None is allowed as well.
    """
    if isinstance(allowed, OneOf) and allowed.kind and isinstance(value, str):
        return unknown_name(allowed.kind, value, map(str, allowed.choices))
    given = f"{list(value) if isinstance(value, tuple) else value!r}"
    return error(f"{name} is {given:.80}; it must be {allowed}{f', or {NONE}' if or_none else ''}.")


def check_count(name: str, value: object, minimum: int = 1) -> None:
    """Raise ConfigError unless ``value`` is an integer of at least ``minimum``."""
    check(name, value, Integer(at_least=minimum))


def check_multiple(name: str, value: object, factor: int) -> None:
    """Raise ConfigError unless ``value`` is a positive multiple of ``factor``."""
    check(name, value, MultipleOf(factor))


def check_fraction(name: str, value: object) -> None:
    """Raise ConfigError unless ``value`` is a number of at least 0 and below 1."""
    check(name, value, FRACTION)


def check_amount(name: str, value: object) -> None:
    """Raise ConfigError unless ``value`` is a finite number of at least 0; True is 1 and False 0."""
    check(name, int(value) if isinstance(value, bool) else value, NOT_NEGATIVE)


def check_flag(name: str, value: object) -> None:
    """Raise ConfigError unless ``value`` is True or False."""
    check(name, value, FLAG)


def check_choice(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise ConfigError unless ``value`` is one of ``allowed``."""
    check(name, value, OneOf(tuple(allowed)))
