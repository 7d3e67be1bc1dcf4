"""Registers the classes of serzoo with Keras when Keras first looks for one, as ``keras.models.load_model`` does.

Keras imports classes by itself from its own packages only; all others have to be imported before a file that names them
is read. ``import serzoo`` shall be enough for that and yet load neither Keras nor the networks. So the table in which
Keras registers classes is replaced by one that imports them on demand: at once if Keras is loaded already, and else by
a hook in the import of Keras.
"""

from __future__ import annotations

import importlib
import importlib.abc
import pkgutil
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_TABLE = "keras.src.saving.object_registration"

_HOMES = ("serzoo.layers", "serzoo.models", "serzoo.features.frontend")
"""The packages and the module that register classes."""


class _Registered(dict[str, Any]):
    """Keras's classes by registered name; a name of serzoo that is missing imports all of serzoo's classes."""

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str) and name.startswith("serzoo>") and not super().__contains__(name):
            for home in map(importlib.import_module, _HOMES):
                for module in pkgutil.iter_modules(getattr(home, "__path__", ()), f"{home.__name__}."):
                    importlib.import_module(module.name)
        return super().__contains__(name)


def _replace(table: Any) -> None:
    table.GLOBAL_CUSTOM_OBJECTS = _Registered(table.GLOBAL_CUSTOM_OBJECTS)


class _Hook(importlib.abc.MetaPathFinder):
    """Finds the module of Keras's table, once, and replaces the table after the module has run."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of Keras's table, and None for every other module."""
        if name != _TABLE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_replace(module: ModuleType) -> None:
                run(module)
                _replace(module)

            spec.loader.exec_module = run_and_replace  # type: ignore[method-assign]
        return spec


def find_on_demand() -> None:
    """Let Keras find serzoo's classes, whether it is imported before serzoo or after it."""
    if _TABLE in sys.modules:
        _replace(sys.modules[_TABLE])
    else:
        sys.meta_path.insert(0, _Hook())
