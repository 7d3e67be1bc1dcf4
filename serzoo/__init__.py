"""serzoo: a Keras model zoo for speech emotion recognition.

The public names are imported when they are first used, so that ``import serzoo`` loads neither
TensorFlow nor Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from serzoo import data
    from serzoo.classifier import Classifier
    from serzoo.errors import SerzooError
    from serzoo.experiments.cross_validate import cross_validate
    from serzoo.exporters import export
    from serzoo.features.spec import LogMelSpec, MFCCSpec
    from serzoo.recipes import Recipe, load_recipe
    from serzoo.settings import TrainingConfig
    from serzoo.training.evaluate import evaluate
    from serzoo.training.fit import fit
    from serzoo.weights.store import list_pretrained
    from serzoo.zoo import build, describe, list_models, load

_HOMES = {
    "Classifier": "serzoo.classifier",
    "LogMelSpec": "serzoo.features.spec",
    "MFCCSpec": "serzoo.features.spec",
    "Recipe": "serzoo.recipes",
    "SerzooError": "serzoo.errors",
    "TrainingConfig": "serzoo.recipes",
    "build": "serzoo.zoo",
    "cross_validate": "serzoo.experiments.cross_validate",
    "describe": "serzoo.zoo",
    "evaluate": "serzoo.training.evaluate",
    "export": "serzoo.exporters",
    "fit": "serzoo.training.fit",
    "list_models": "serzoo.zoo",
    "list_pretrained": "serzoo.weights.store",
    "load": "serzoo.zoo",
    "load_recipe": "serzoo.recipes",
}

__all__ = [
    "Classifier", "LogMelSpec", "MFCCSpec", "Recipe", "SerzooError", "TrainingConfig", "build", "cross_validate",
    "data", "describe", "evaluate", "export", "fit", "list_models", "list_pretrained", "load", "load_recipe",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use."""
    if name == "data":
        return importlib.import_module("serzoo.data")
    if name not in _HOMES:
        raise AttributeError(f"module 'serzoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
