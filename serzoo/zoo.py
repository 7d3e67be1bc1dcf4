"""Build models by name and say what is in the zoo."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from serzoo.errors import ConfigError, unknown_name
from serzoo.models import MODELS

if TYPE_CHECKING:
    from serzoo.features.spec import MFCCSpec
    from serzoo.models.base import SERModel


def list_models() -> list[str]:
    """Return the names that :func:`build` takes."""
    return MODELS.names()


def build(
    name: str,
    n_classes: int | None = None,
    *,
    class_names: Sequence[str] | None = None,
    feature_spec: MFCCSpec | Mapping[str, object] | None = None,
    **arguments: Any,
) -> SERModel:
    """Build a model with fresh weights.

    Args:
        name: one of :func:`list_models`.
        n_classes: width of the output; may be left out where ``class_names`` says it.
        class_names: names of the outputs, in order.
        feature_spec: the features the model will take.
        arguments: the architecture's own arguments; ``serzoo describe NAME`` lists them.

    Returns:
        A Keras model that maps frames (batch, time, n_features) to probabilities (batch, n_classes).

    Raises:
        UnknownNameError: an unknown model or argument, with the nearest match.
        ConfigError: an argument out of range, or no number of classes.
    """
    entry = MODELS.get(name)
    allowed = builder_arguments(name)
    for argument in arguments:
        if argument not in allowed:
            raise unknown_name(f"argument of {name}", argument, allowed)
    if n_classes is None and class_names is None:
        raise ConfigError(f"{name} needs n_classes or class_names; for example serzoo.build({name!r}, n_classes=7).")
    if n_classes is None:
        n_classes = len(class_names or ())
    return entry.load()(n_classes=n_classes, class_names=class_names, feature_spec=feature_spec, **arguments)


def builder_arguments(name: str) -> dict[str, object]:
    """Return the arguments of a model and their defaults, those common to all models left out."""
    parameters = inspect.signature(MODELS.get(name).load().__init__).parameters
    common = {"self", "n_classes", "class_names", "feature_spec"}
    return {key: parameter.default for key, parameter in parameters.items() if key not in common}


def describe(name: str) -> dict[str, Any]:
    """Return what is known of a model: summary, source, arguments and the recipes that use it.

    Raises:
        UnknownNameError: no such model.
    """
    from serzoo.config import list_recipes, load_recipe

    entry = MODELS.get(name)
    recipes = [recipe for recipe in list_recipes() if load_recipe(recipe).model.name == name]
    return {
        "name": name,
        "summary": entry.summary,
        "source": entry.source,
        "arguments": builder_arguments(name),
        "recipes": recipes,
    }
