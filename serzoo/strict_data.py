"""Dataclasses built from plain data: the reader of recipes, ledgers and model cards.

The fields of a dataclass define the keys, the required ones and the types of values. Unknown and missing keys, and
values of another type, raise an error with their place: the file, the line (if :func:`serzoo.strict_yaml.read` read the
data) and the dotted key.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from serzoo.checks import Allowed, refusal
from serzoo.errors import ConfigError, SerzooError, UnknownNameError, unknown_name

T = TypeVar("T")

_TYPE_NAMES = {
    int: "an integer", float: "a number", str: "text (in quotes if it looks like a number)",
    bool: "true or false", dict: "a set of keys and values", Mapping: "a set of keys and values", tuple: "a list",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The place of a value, for error messages.

    Args:
        origin: the file, or another name of the data; empty for values made in Python.
        path: the keys that lead to the value; of a list's entry its number, counted from 1.
        line: of the file, counted from 1; None where it is not known.
    """

    origin: str
    path: tuple[str, ...] = ()
    line: int | None = None

    def key(self, values: Mapping[str, Any], name: str) -> Place:
        """Return the place of ``values[name]``, where ``values`` stands here."""
        return Place(self.origin, (*self.path, str(name)), getattr(values, "lines", {}).get(name))

    def entry(self, number: int, value: Any) -> Place:
        """Return the place of entry ``number``, from 1 on, of the list that stands here; its line is its first key's.

        An entry without keys is put on the line of the list.
        """
        lines = getattr(value, "lines", {}).values()
        return Place(self.origin, (*self.path, str(number)), min(lines, default=self.line))

    def refusal(self, value: object, allowed: Allowed | str, or_none: bool = False) -> SerzooError:
        """Return the error for a value that is not allowed here, whose name is the dotted key."""
        error = refusal(".".join(self.path) or "the document", value, allowed, or_none=or_none)
        where = str(self if isinstance(error, UnknownNameError) else Place(self.origin, line=self.line))
        return type(error)(f"{where}: {error}") if self.origin else error

    def __str__(self) -> str:
        line = f" line {self.line}" if self.line else ""
        return ", ".join(filter(None, (self.origin + line, ".".join(self.path))))


Choice = Callable[[Mapping[str, Any], Place], tuple[type, Mapping[str, Any]]]
"""Takes the values for an abstract dataclass and their place; returns the dataclass to build, and its values."""

_NO_CHOICES: Mapping[type, Choice] = types.MappingProxyType({})


@contextmanager
def placed(place: Place) -> Iterator[None]:
    """Prefix the messages of serzoo's errors with the place, if it has an origin; their class stays."""
    try:
        yield
    except SerzooError as error:
        raise (type(error)(f"{place}: {error}") if place.origin else error) from None


def build(cls: type[T], values: Any, place: Place, choices: Mapping[type, Choice] = _NO_CHOICES) -> T:
    """Build a dataclass from plain data, checking keys and types on the way.

    Args:
        cls: the dataclass. Its fields, and those of the dataclasses that they hold, are of the types that
            :func:`convert` knows.
        values: a mapping from fields to plain data; all else is refused.
        place: where ``values`` stands.
        choices: for each abstract dataclass, here or below, the function that chooses the one to build.

    Raises:
        UnknownNameError: an unknown key, with the nearest match.
        ConfigError: a key is missing, or a value is of the wrong type.
        SerzooError: raised by the dataclass itself, with the place.
    """
    if not isinstance(values, Mapping):
        raise place.refusal(values, _TYPE_NAMES[Mapping])
    meant, given = choices[cls](values, place) if cls in choices else (cls, values)
    hints = field_types(meant)
    for name in given:
        if name not in hints:
            with placed(place.key(values, name)):
                raise unknown_name("key", name, hints)
    required = [f.name for f in dataclasses.fields(meant) if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in given]
    if missing:
        with placed(place):
            raise ConfigError(f"the key {', '.join(map(repr, missing))} is missing; add it.")
    arguments = {name: convert(hints[name], value, place.key(values, name), choices) for name, value in given.items()}
    with placed(place):
        return meant(**arguments)


def field_types(cls: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields by name, in the order of the fields."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def convert(
    hint: Any, value: Any, place: Place, choices: Mapping[type, Choice] = _NO_CHOICES, or_none: bool = False
) -> Any:
    """Return a value as the type that a field has.

    Args:
        hint: ``int``, ``float``, ``str``, ``bool``, a dataclass, a ``tuple`` of one of these in any number, a ``dict``
            or ``Mapping`` from text to one of these or to ``Any``, which is not checked; ``Annotated`` of one of all
            these with the values that are allowed; or one of all these or None.
        value: plain data, or a dataclass that is built already. An integer becomes a ``float`` and a list a ``tuple``
            where the hint says so; nothing else is converted.
        place: where the value stands.
        choices: as :func:`build` takes them.
        or_none: None is allowed as well, for the error message.

    Raises:
        UnknownNameError, ConfigError, SerzooError: as :func:`build` raises them.
    """
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = next(option for option in typing.get_args(hint) if option is not types.NoneType)
        return None if value is None else convert(inner, value, place, choices, or_none=True)
    hint, allowed = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint, None)
    if dataclasses.is_dataclass(hint):
        cls = typing.cast(type, hint)
        return value if isinstance(value, cls) else build(cls, value, place, choices)
    base = typing.get_origin(hint) or hint
    converted = value
    if base is float and type(value) is int:
        converted = float(str(value))  # a number too large for a float becomes infinite; no setting allows that
    if base is tuple and isinstance(value, (list, tuple)):
        converted = tuple(_entries(typing.get_args(hint)[0], value, place, choices))
    is_of_type = isinstance(converted, base) and not (base is int and isinstance(value, bool))
    if not is_of_type or (allowed is not None and converted not in allowed):
        raise place.refusal(value, allowed or _TYPE_NAMES[base], or_none)
    if isinstance(value, Mapping) and typing.get_args(hint)[1] is not Any:
        kind = typing.get_args(hint)[1]
        return {name: convert(kind, item, place.key(value, name), choices) for name, item in value.items()}
    return converted


def _entries(kind: Any, values: Sequence[Any], place: Place, choices: Mapping[type, Choice]) -> Iterator[Any]:
    """Yield the entries of a list as ``kind`` says; dataclasses among them have keys, and so places, of their own."""
    for number, value in enumerate(values, start=1):
        yield convert(kind, value, place.entry(number, value) if dataclasses.is_dataclass(kind) else place, choices)


class Checked:
    """Base of dataclasses that are checked like those from a file when they are made in Python.

    A subclass with checks across several fields calls this ``__post_init__`` first.
    """

    def __post_init__(self) -> None:
        check_types(self)


def check_types(settings: Any, choices: Mapping[type, Choice] = _NO_CHOICES) -> None:
    """Convert and check the fields of a dataclass, in place, as :func:`build` does.

    Raises:
        UnknownNameError, ConfigError, SerzooError: as :func:`build` raises them.
    """
    for name, hint in field_types(type(settings)).items():
        place = Place("", (name,))
        object.__setattr__(settings, name, convert(hint, getattr(settings, name), place, choices))
