"""The zoo's models: one file each, one entry in ``models.yaml``.

The classes are named by module path so that listing the models loads neither Keras nor TensorFlow.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serzoo import strict_yaml
from serzoo.registry import Registry

if TYPE_CHECKING:
    from serzoo.models.base import SERModel


@dataclass(frozen=True)
class ModelEntry:
    """Module path, summary and source of a model, available before its class is imported."""

    target: str
    summary: str
    source: str

    def load(self) -> type[SERModel]:
        """Import and return the model's class."""
        return pkgutil.resolve_name(self.target)


MODELS: Registry[ModelEntry] = Registry("model")
for _name, _entry in strict_yaml.read(Path(__file__).with_name("models.yaml")).items():
    MODELS.register(_name, ModelEntry(**_entry))
