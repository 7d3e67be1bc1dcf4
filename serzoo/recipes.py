"""Recipes: a model, its features, a corpus, a protocol and the training settings, in one YAML file.

A recipe is read into dataclasses. Unknown keys, missing ones and values of the wrong type raise
with the file, the line and the key; :mod:`serzoo.strict_data` and :mod:`serzoo.strict_yaml` see to that.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from serzoo import strict_yaml
from serzoo.checks import COUNT, require
from serzoo.errors import ConfigError, unknown_name
from serzoo.features.spec import CHOOSE_SPEC, FeatureSpec, MFCCSpec
from serzoo.files import local_path
from serzoo.settings import (
    LAST_RULE,
    VALIDATION_RULES,
    AntiTransferConfig,
    GenderConfig,
    InitialWeights,
    ModelConfig,
    RHEmoConfig,
    TrainingConfig,
)
from serzoo.strict_data import Place, build, check_types, placed


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a result, apart from the recordings.

    Args:
        name: of the recipe and of folders: letters, digits, ``.``, ``_`` and ``-``.
        corpus: a name of :data:`serzoo.data.CORPORA`.
        model: architecture and arguments.
        features: of the model's input.
        protocol: a named protocol of :mod:`serzoo.data.protocols`.
        training: training settings and selection rule.
        target: the column of the manifest to predict: ``label``, the emotion; or for pretraining another, such as
            ``speaker`` or ``text``.
        initial: weights to start from; None for random ones.
        anti_transfer: training away from other networks.
        rh_emo: RH-Emo's two stages; None trains its classifier only.
        gender: source of the gender input, and the genders to train on; None for the corpus's and all recordings.
        repeats: trainings of each fold, with the seeds training.seed, training.seed + 1, ...
        summary: one line for ``serzoo list``.
        source: paper and table that the recipe follows.
        class_names: use these classes of the corpus (or values of the target) only, in this order.
        test_corpus: test on this corpus, for the protocol ``cross-shared5-v1``.
    """

    name: str
    corpus: str
    model: ModelConfig
    protocol: str
    features: FeatureSpec = field(default_factory=MFCCSpec)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    target: str = "label"
    initial: InitialWeights | None = None
    anti_transfer: AntiTransferConfig | None = None
    rh_emo: RHEmoConfig | None = None
    gender: GenderConfig | None = None
    repeats: Annotated[int, COUNT] = 1
    summary: str = ""
    source: str = ""
    class_names: tuple[str, ...] | None = None
    test_corpus: str | None = None

    def __post_init__(self) -> None:
        check_types(self, CHOOSE_SPEC)
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ConfigError(f"name is {self.name!r}; use letters, digits, '.', '_' and '-' only.")
        few_enough = self.training.seed + self.repeats <= 2**32
        require(few_enough, "repeats", self.repeats, "so small that all seeds are below 2^32")
        if self.anti_transfer is not None and self.rh_emo is not None:
            raise ConfigError("anti_transfer and rh_emo are both set; a training has one or the other.")
        if self.rh_emo is not None:
            self._check_rh_emo()
        layers = () if self.anti_transfer is None else self.anti_transfer.layers
        if len(layers) > 1 and self.training.selection not in VALIDATION_RULES:
            raise ConfigError(
                f"anti_transfer.layers names {len(layers)} layers, of which one is chosen on the validation part; "
                f"set training.selection to {' or '.join(VALIDATION_RULES)}, or name one layer."
            )

    def _check_rh_emo(self) -> None:
        """Raise unless both stages of RH-Emo's training can go by the recipe's training settings."""
        allowed = ("best-validation-loss", LAST_RULE)
        if self.training.selection not in allowed:
            raise ConfigError(
                f"training.selection is {self.training.selection}, but RH-Emo's first stage classifies nothing; "
                f"set it to {' or '.join(allowed)}."
            )
        if self.rh_emo is not None and self.rh_emo.reconstruction.patience and self.training.selection == LAST_RULE:
            raise ConfigError(
                f"rh_emo.reconstruction.patience is {self.rh_emo.reconstruction.patience}, but training.selection is "
                f"{LAST_RULE}; set that to best-validation-loss or leave patience out."
            )
        if self.training.class_weights:
            raise ConfigError(
                "training.class_weights is true, but RH-Emo's loss is of more than classes; leave it out."
            )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that each fold is trained with."""
        return tuple(range(self.training.seed, self.training.seed + self.repeats))

    @property
    def weight_files(self) -> tuple[str, ...]:
        """The trained models that a training starts from or is held against, as the recipe names them."""
        initial = () if self.initial is None else (self.initial.model,)
        return initial if self.anti_transfer is None else (*initial, *self.anti_transfer.pretrained)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data that :func:`recipe_from_dict` reads back."""
        return _plain(self)

    def to_yaml(self) -> str:
        """Return the recipe as YAML with every value spelt out."""
        return strict_yaml.dump(self.to_dict())

    def override(self, changes: Mapping[str, object]) -> Recipe:
        """Return a recipe with some values replaced.

        Args:
            changes: dotted key to value, for example ``{"training.epochs": 2}``.

        Raises:
            UnknownNameError: no such key.
            ConfigError: a value of the wrong type or out of range.
        """
        values = self.to_dict()
        for key, value in changes.items():
            *parents, last = key.split(".")
            if key == "features.kind" and value != values["features"]["kind"]:
                values["features"] = {}  # the settings of another kind mean nothing
            target = values
            for parent in parents:
                if not isinstance(target.get(parent), dict):
                    target[parent] = {}
                target = target[parent]
            target[last] = value
        return recipe_from_dict(values, "override")


_NOT_INHERITED = ("name", "summary", "source")
"""Keys of a recipe that describe it alone, so that a recipe that extends it needs its own."""

_MAX_EXTENSIONS = 4


def config_folder() -> Path:
    """Return the folder of the recipes: package data in a wheel, the repository's in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "zoo_configs"
    return installed if installed.is_dir() else package.parent / "zoo_configs"


def list_recipes() -> list[str]:
    """Return the names of the recipes that come with serzoo."""
    return sorted(path.stem for path in config_folder().glob("*.yaml"))


def load_recipe(name: str | Path | Recipe) -> Recipe:
    """Return a recipe by name, from a YAML file, or as given.

    Raises:
        UnknownNameError: no recipe of that name, or an unknown name or key in the file.
        ConfigError: the file cannot be read or says something that is not allowed.
    """
    if isinstance(name, Recipe):
        return name
    text = str(name)
    if text in list_recipes():
        return read_recipe(config_folder() / f"{text}.yaml")
    if text.endswith((".yaml", ".yml")):
        return read_recipe(local_path(text))
    raise unknown_name("recipe", text, list_recipes())


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a YAML file, completed by the recipe that its key ``extends`` names, if there is one.

    ``extends`` is the name of a recipe of the zoo, or of a YAML file in the same folder. Its keys are merged one by
    one, those of ``model.arguments`` as well; ``name``, ``summary`` and ``source`` are not inherited.

    Raises:
        UnknownNameError: an unknown name or key, with the nearest match.
        ConfigError: the file cannot be read, is not strict YAML, or not a recipe; recipes extend each other in a circle
            or in more than four steps.
    """
    return _read(path, ())


def _read(path: Path, extended_by: tuple[Path, ...]) -> Recipe:
    values = strict_yaml.read(path)
    if isinstance(values, strict_yaml.LinedDict) and "extends" in values:
        place = Place(str(path)).key(values, "extends")
        base_path = _base_path(values.pop("extends"), path, place)
        chain = (*extended_by, path)
        if base_path.resolve() in [file.resolve() for file in chain]:
            raise ConfigError(
                f"{place}: {base_path.name} extends this recipe in turn; recipes extend in one direction."
            )
        if len(chain) > _MAX_EXTENSIONS:
            raise ConfigError(f"{place}: more than {_MAX_EXTENSIONS} recipes extend each other; write this one out.")
        base = _read(base_path, chain).to_dict()
        _merge({key: value for key, value in base.items() if key not in _NOT_INHERITED}, values)
    return recipe_from_dict(values, str(path))


def _base_path(name: object, path: Path, place: Place) -> Path:
    """Return the file of the recipe that ``extends: NAME`` in the file ``path`` means."""
    if isinstance(name, str) and name.endswith((".yaml", ".yml")) and Path(name).name == name:
        return path.with_name(name)
    if isinstance(name, str) and name in list_recipes():
        return config_folder() / f"{name}.yaml"
    with placed(place):
        raise unknown_name("recipe to extend", name, list_recipes())


def _merge(base: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Add the keys of ``base`` that ``values`` does not have, also within the mappings that both have.

    ``values`` is changed in place, since it knows the lines of its keys for error messages.
    """
    for key, inherited in base.items():
        own = values.setdefault(key, inherited)
        if own is inherited or not isinstance(own, dict) or not isinstance(inherited, dict):
            continue
        if key == "features" and own.get("kind", inherited["kind"]) != inherited["kind"]:
            continue  # the settings of another kind do not apply
        _merge(inherited, own)


def recipe_from_dict(values: Any, origin: str = "recipe") -> Recipe:
    """Build a recipe from plain data; ``origin`` is its name in error messages.

    Raises:
        UnknownNameError: an unknown name or key, with the nearest match.
        ConfigError: a key is missing, or a value is of the wrong type or out of range.
    """
    return build(Recipe, values, Place(origin), CHOOSE_SPEC)


def _plain(value: Any) -> Any:
    """Return dataclasses and tuples as dictionaries and lists."""
    if isinstance(value, FeatureSpec):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
