"""The start of an experiment: a recipe with checked names, and its recordings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS, CLASSICAL_SUFFIX, complete_arguments
from serzoo.data import load_corpus
from serzoo.data.corpora.corpus import CORPORA
from serzoo.data.manifest import Manifest
from serzoo.data.protocols import get_protocol
from serzoo.data.splits import cross_corpus
from serzoo.errors import ConfigError, unknown_name
from serzoo.models import MODELS
from serzoo.recipes import Recipe, load_recipe
from serzoo.settings import GOLDEN, LAST_RULE, GenderConfig, TrainingConfig
from serzoo.strict_data import Place, placed
from serzoo.weights.store import list_pretrained


def prepare_recipe(config: str | Path | Recipe, changes: Mapping[str, object] | None = None) -> Recipe:
    """Load a recipe, replace some of its values and check every name in it.

    Args:
        config: a recipe's name, a YAML file or a recipe.
        changes: dotted key to value, for example ``{"training.epochs": 2}``.

    Raises:
        UnknownNameError: an unknown recipe, key, model, corpus, protocol or gender classifier.
        ConfigError: a value out of range, or settings that do not go together.
    """
    recipe = load_recipe(config).override(changes or {})
    check_recipe(recipe)
    return recipe


def check_recipe(recipe: Recipe) -> None:
    """Raise SerzooError, with the recipe's name, unless its model, corpora and protocol exist and go together."""
    name = recipe.model.name
    with placed(Place(recipe.name)):
        if name in CLASSICAL_CLASSIFIERS:
            complete_arguments(name, recipe.model.arguments)
            _check_classical_training(recipe)
        elif name not in MODELS:
            raise unknown_name("model", name, [*MODELS, *CLASSICAL_CLASSIFIERS])
        if recipe.gender is not None:
            _check_gender(recipe.gender)
        CORPORA.get(recipe.corpus)
        if recipe.test_corpus is not None:
            CORPORA.get(recipe.test_corpus)
        protocol = get_protocol(recipe.protocol)
        if protocol.takes_two_corpora != (recipe.test_corpus is not None):
            needed = "does not take" if recipe.test_corpus else "needs"
            raise ConfigError(
                f"protocol {protocol.name} {needed} a test_corpus; it is {recipe.test_corpus}. Change one."
            )


def load_manifest(
    recipe: Recipe,
    data_root: str | Path | None = None,
    test_data_root: str | Path | None = None,
    data: Manifest | None = None,
) -> Manifest:
    """Return the recordings of a recipe, which sets corpus, test corpus, target and classes.

    The arguments are those of :func:`serzoo.cross_validate`.

    Raises:
        ConfigError: the test corpus's folder is missing, or given without need.
        DataError: a corpus cannot be used.
    """
    if data is not None and (data_root, test_data_root, recipe.test_corpus) != (None, None, None):
        raise ConfigError(
            f"data is given for {recipe.name}, and so is another folder or a test_corpus; give data alone."
        )
    if (recipe.test_corpus is None) != (test_data_root is None):
        needed = "needs" if test_data_root is None else "does not take"
        raise ConfigError(
            f"{recipe.name} {needed} a test corpus folder (test_data_root=..., --test-data FOLDER); "
            f"its test_corpus is {recipe.test_corpus or 'not set'}."
        )
    manifest = load_corpus(recipe.corpus, data_root) if data is None else data
    if recipe.test_corpus is not None:
        manifest = cross_corpus(manifest, load_corpus(recipe.test_corpus, test_data_root))
    manifest = manifest.with_target(recipe.target)
    return manifest if recipe.class_names is None else manifest.with_classes(recipe.class_names)


def _check_gender(settings: GenderConfig) -> None:
    """Raise unless the gender classifier is a known name or a path, and takes its arguments."""
    name, pretrained = settings.classifier, list_pretrained("gender")
    if name in CLASSICAL_CLASSIFIERS:
        complete_arguments(name, settings.arguments)
    elif name not in pretrained and not name.endswith(CLASSICAL_SUFFIX) and Path(name).name == name:
        raise unknown_name("gender classifier", name, [*CLASSICAL_CLASSIFIERS, *pretrained])
    elif settings.arguments:
        raise ConfigError(f"gender.arguments are set, but {name} is trained already; leave them out.")


def _check_classical_training(recipe: Recipe) -> None:
    """Raise if a recipe of a classical classifier has settings for networks only."""
    training = recipe.training
    for_networks = {
        "training.waveform_augment": training.waveform_augment,
        "training.spec_augment": training.spec_augment,
        "training.class_weights": training.class_weights,
        "initial": recipe.initial,
        "anti_transfer": recipe.anti_transfer,
        "rh_emo": recipe.rh_emo,
        "gender.source": recipe.gender is not None and recipe.gender.source != GOLDEN,
    }
    for key, value in for_networks.items():
        if value:
            raise ConfigError(f"{key} is set, but {recipe.model.name} is no network that could use it; leave it out.")
    if training.selection != LAST_RULE:
        raise ConfigError(
            f"training.selection is {training.selection}, but {recipe.model.name} has no epochs to choose from; "
            f"set it to {LAST_RULE} or leave it out."
        )
    usual = TrainingConfig(seed=training.seed)  # a recipe written out has all settings, so defaults are accepted
    for key, value in _changed(training, usual, "training"):
        raise ConfigError(f"{key} is {value}, but {recipe.model.name} is no network that could use it; leave it out.")


def _changed(settings: Any, usual: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each setting that is not as usual."""
    for setting in dataclasses.fields(usual):
        key, value, default = f"{path}.{setting.name}", getattr(settings, setting.name), getattr(usual, setting.name)
        if dataclasses.is_dataclass(default):
            yield from _changed(value, default, key)
        elif value != default:
            yield key, value
