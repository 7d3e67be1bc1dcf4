"""Checks of arguments and settings: which values are allowed, and the error for all others.

The allowed values are a small object, such as ``integer(at_least=1)``. Functions and constructors pass it to
:func:`check`; a dataclass that :mod:`serzoo.strict_data` reads has it in the type of a field,
``epochs: Annotated[int, integer(at_least=1)]``. Every error reads "NAME is VALUE; it must be WORDS."
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from serzoo.errors import ConfigError, SerzooError, unknown_name

NONE = "None (null in YAML)"


@dataclass(frozen=True)
class Allowed:
    """The values that an argument may have: ``in`` finds one, and ``a | b`` has the values of both.

    Args:
        words: a description of the values, to follow "it must be".
        accepts: whether a value is allowed.
        names: the values, if they are names of something.
        kind: of these names, in the singular; another name is then an UnknownNameError with the nearest match.
    """

    words: str
    accepts: Callable[[Any], bool]
    names: tuple[str, ...] = ()
    kind: str = ""

    def __contains__(self, value: object) -> bool:
        return self.accepts(value)

    def __or__(self, other: Allowed) -> Allowed:
        return Allowed(f"{self.words}, or {other.words}", lambda value: value in self or value in other)


def real(
    at_least: float | None = None, above: float | None = None, at_most: float | None = None, below: float | None = None
) -> Allowed:
    """Return the finite numbers within limits; True and False are none."""
    limits = {"of at least": at_least, "above": above, "at most": at_most, "below": below}
    words = " and ".join(f"{word} {limit}" for word, limit in limits.items() if limit is not None)
    if at_least is not None and at_most is not None:
        words = f"in {at_least}..{at_most}"

    def accepts(value: Any) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        number: Any = value
        return (
            (isinstance(number, Integral) or math.isfinite(number))  # math.isfinite fails for huge integers
            and (at_least is None or number >= at_least)
            and (above is None or number > above)
            and (at_most is None or number <= at_most)
            and (below is None or number < below)
        )

    return Allowed(f"a number {words}".strip(), accepts)


def integer(at_least: int | None = None, at_most: int | None = None, below: int | None = None) -> Allowed:
    """Return the integers within limits."""
    numbers = real(at_least, None, at_most, below)
    return Allowed(
        numbers.words.replace("a number", "an integer"), lambda value: isinstance(value, Integral) and value in numbers
    )


def multiple_of(factor: int) -> Allowed:
    """Return the integers above 0 that ``factor`` divides."""
    return Allowed(f"a positive multiple of {factor}", lambda value: value in COUNT and value % factor == 0)


def one_of(choices: Sequence[object], kind: str = "") -> Allowed:
    """Return the allowed values that ``choices`` lists; ``kind`` as in :class:`Allowed`."""
    words = [NONE if choice is None else repr(choice) for choice in choices]
    joined = f"one of {', '.join(words)}" if len(words) > 1 else words[0]
    return Allowed(joined, lambda value: value in choices, tuple(map(str, choices)) if kind else (), kind)


def list_of(item: Allowed, distinct: bool = False) -> Allowed:
    """Return the lists and tuples of one or more values, all in ``item``, and all different if ``distinct``."""

    def accepts(value: Any) -> bool:
        is_full = isinstance(value, list | tuple) and len(value) > 0 and all(entry in item for entry in value)
        return is_full and not (distinct and len(set(value)) < len(value))

    return Allowed(f"a list of one or more {'different ' if distinct else ''}values, each {item.words}", accepts)


COUNT = integer(at_least=1)
SEED = integer(at_least=0, below=2**32)
POSITIVE = real(above=0)
NOT_NEGATIVE = real(at_least=0)
FRACTION = real(at_least=0, below=1)
UNIT = real(at_least=0, at_most=1)
FLAG = Allowed("true or false", lambda value: isinstance(value, bool))
TEXTS = list_of(Allowed("text", lambda value: isinstance(value, str) and bool(value)))


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
        allowed: the allowed values, or their description; for names of a kind the error is an UnknownNameError with the
            nearest match.
        error: class of all other errors.
        or_none: None is allowed as well.
    """
    words = allowed if isinstance(allowed, str) else allowed.words
    if isinstance(allowed, Allowed) and allowed.kind and isinstance(value, str):
        return unknown_name(allowed.kind, value, allowed.names)
    given = f"{list(value) if isinstance(value, tuple) else value!r}"
    return error(f"{name} is {given:.80}; it must be {words}{f', or {NONE}' if or_none else ''}.")
