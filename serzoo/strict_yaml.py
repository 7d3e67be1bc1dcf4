"""A strict and safe subset of YAML: the format of recipes, ledgers and model cards.

Plain values are read as JSON would: ``1e-3`` is a number, ``true`` a truth value, ``null`` nothing, and
all else is text, also ``01``, ``no`` and ``2023-06-04``, unlike in YAML 1.1. Tags,
anchors, aliases and duplicate keys are refused, so a document can neither run code nor grow without bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serzoo.errors import ConfigError

_MAX_BYTES = 100_000
_MAX_DEPTH = 20
_PLAIN_VALUES = (
    ("null", r"|~|null", ("", "~", "n")),
    ("bool", r"true|false", ("t", "f")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", tuple("-+0123456789")),
    ("float", r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?", tuple("-+.0123456789")),
)
"""YAML type, pattern and first characters of plain values; the first match decides."""


class LinedDict(dict[str, Any]):
    """A mapping with the line of each key in its document."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


def read(path: Path) -> Any:
    """Read a YAML file.

    Returns:
        Text, numbers, truth values, None, lists and :class:`LinedDict`.

    Raises:
        ConfigError: the file cannot be read, is too large, not UTF-8 text or not strict YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); give a YAML file.") from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{path} is larger than {_MAX_BYTES} bytes; a recipe is a short text file.")
    try:
        return parse(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8.") from None


def parse(text: str, origin: str) -> Any:
    """Parse a YAML document.

    Args:
        text: the document.
        origin: its name, for error messages.

    Returns:
        As :func:`read`; None for an empty document.

    Raises:
        ConfigError: the document is not strict YAML; the message gives the line.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{origin}{line}: not strict YAML ({error.problem}).") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{origin}: not a text file ({error.reason} at position {error.position}).") from None
    except ValueError as error:
        raise ConfigError(f"{origin}: not strict YAML ({error}).") from None


def dump(values: Mapping[str, Any]) -> str:
    """Return plain data as YAML that :func:`parse` reads back; the keys keep their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Quotes text that this reader or one of YAML 1.1 would not read as text."""


class _Loader(yaml.SafeLoader):
    """Returns plain data only, from less than YAML's safe subset."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - none of YAML 1.1's; those of _PLAIN_VALUES are added below
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose the next node unless it is tagged, shared or nested too deeply."""
        event = self.peek_event()
        if getattr(event, "tag", None):
            raise _refused(f"the tag {event.tag!r} is not allowed; write a plain value", event)
        if getattr(event, "anchor", None):
            raise _refused(f"the anchor or alias {event.anchor!r} is not allowed; write the value out", event)
        if self.depth == _MAX_DEPTH:
            raise _refused(f"nested more than {_MAX_DEPTH} levels deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_lined_dict(self, node: yaml.MappingNode) -> LinedDict:
        """Build a mapping whose keys are text, each once."""
        result = LinedDict()
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _refused(f"the key {key!r} is not text; quote it", key_node)
            if key in result:
                raise _refused(f"the key {key!r} occurs twice; keep one", key_node)
            result.lines[key] = key_node.start_mark.line + 1
            result[key] = self.construct_object(value_node, deep=True)
        return result


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_lined_dict)
for _kind, _pattern, _starts in _PLAIN_VALUES:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})\Z"), _starts)


def _refused(problem: str, where: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)
