"""Recipes: a model, its features, a corpus, a protocol and the training settings, in one YAML file.

The YAML is strict. Unknown and duplicate keys raise with their line and the nearest match,
``1e-3`` is a number, and neither tags nor aliases are admitted, so a file can neither run code
nor grow without bound.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serzoo.errors import ConfigError, SerzooError, unknown_name
from serzoo.features.spec import MFCCSpec, spec_from_dict

SELECTION_RULES = {
    "last-epoch": "the model of the last epoch",
    "best-train-war": "the epoch with the highest WAR on the training part (TBDM-Net's ::BT)",
    "best-validation-uar": "the epoch with the highest UAR on a validation part that shares no speaker with training",
    "leaky-best-test-war": "the epoch with the highest WAR on the TEST part: a leak, kept to show what it is worth",
}

_MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class ModelConfig:
    """Which architecture, with which arguments."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of ``keras.optimizers.Adam`` or ``Nadam``."""

    name: str = "adam"
    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    def __post_init__(self) -> None:
        if self.name not in ("adam", "nadam"):
            raise unknown_name("optimizer", self.name, ("adam", "nadam"))
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}; it must be greater than 0.")


@dataclass(frozen=True)
class WaveformAugmentConfig:
    """Random changes of training waveforms; each is off at its default.

    Args:
        gain_db: gain drawn from ``-gain_db..gain_db``, in dB.
        noise_snr_db: white noise at a signal-to-noise ratio drawn from this value up to 20 dB above it.
        shift: circular shift drawn from ``-shift..shift``, as a fraction of the clip.
    """

    gain_db: float = 0.0
    noise_snr_db: float | None = None
    shift: float = 0.0


@dataclass(frozen=True)
class SpecAugmentConfig:
    """SpecAugment (Park et al., 2019): bands of frames and of coefficients set to zero.

    Args:
        time_masks: number of time masks.
        time_width: widest time mask, in frames.
        feature_masks: number of coefficient masks.
        feature_width: widest coefficient mask.
    """

    time_masks: int = 0
    time_width: int = 20
    feature_masks: int = 0
    feature_width: int = 5


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained and which of its epochs is kept.

    Args:
        optimizer: the optimiser and its settings.
        batch_size: clips per step.
        epochs: passes over the training part.
        label_smoothing: applied to training targets only.
        selection: one of :data:`SELECTION_RULES`.
        validation_fraction: share of the training speakers held out, where the selection needs a
            validation part and the protocol has none.
        seed: of the initial weights, the order of the clips, dropout and augmentation.
        jit_compile: compile the training step with XLA.
        waveform_augment: random changes of the waveform; needs decoding in every epoch.
        spec_augment: masks on the features.
    """

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_size: int = 64
    epochs: int = 300
    label_smoothing: float = 0.1
    selection: str = "last-epoch"
    validation_fraction: float = 0.2
    seed: int = 0
    jit_compile: bool = True
    waveform_augment: WaveformAugmentConfig | None = None
    spec_augment: SpecAugmentConfig | None = None

    def __post_init__(self) -> None:
        if self.selection not in SELECTION_RULES:
            raise unknown_name("selection rule", self.selection, SELECTION_RULES)
        for name in ("batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {self.label_smoothing}; it must be in 0..1, 1 excluded.")
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(f"validation_fraction is {self.validation_fraction}; it must be between 0 and 1.")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a result, apart from the recordings.

    Args:
        name: how the recipe is called.
        corpus: a name of :data:`serzoo.data.CORPORA`.
        model: architecture and arguments.
        features: what the model hears.
        protocol: a named protocol of :mod:`serzoo.data.splits`.
        training: training settings and selection rule.
        summary: one line for ``serzoo list``.
        source: paper and table that the recipe follows.
        class_names: use these classes of the corpus only, in this order.
        test_corpus: test on this corpus, for the protocol ``cross-shared5-v1``.
    """

    name: str
    corpus: str
    model: ModelConfig
    protocol: str
    features: MFCCSpec = field(default_factory=MFCCSpec)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    summary: str = ""
    source: str = ""
    class_names: tuple[str, ...] | None = None
    test_corpus: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain data that :func:`recipe_from_dict` reads back."""
        return _plain(self)

    def to_yaml(self) -> str:
        """Return the recipe as YAML with every value spelt out."""
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

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
            target = values
            for parent in parents:
                target = target.get(parent) if isinstance(target.get(parent), dict) else target.setdefault(parent, {})
            target[last] = value
        return recipe_from_dict(values, "override")


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
        UnknownNameError: no recipe or file of that name.
        ConfigError: the file cannot be read or says something that is not allowed.
    """
    if isinstance(name, Recipe):
        return name
    text = str(name)
    if text in list_recipes():
        return read_recipe(config_folder() / f"{text}.yaml")
    if text.endswith((".yaml", ".yml")):
        return read_recipe(Path(text).expanduser())
    raise unknown_name("config", text, list_recipes())


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a YAML file.

    Raises:
        ConfigError: the file is missing, not strict YAML, or not a recipe.
    """
    if not path.is_file():
        raise ConfigError(f"Config file {path} does not exist; give a YAML file or one of: {', '.join(list_recipes())}.")
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"{path}: {path.stat().st_size} bytes is no config; at most {_MAX_BYTES} are read.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8.") from None
    values, lines = parse_yaml(text, str(path))
    return _recipe(values, str(path), lines)


def recipe_from_dict(values: Mapping[str, Any], origin: str = "recipe") -> Recipe:
    """Build a recipe from plain data; ``origin`` is what error messages call it."""
    return _recipe(values, origin, {})


def parse_yaml(text: str, origin: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    """Parse strict YAML.

    Args:
        text: the document.
        origin: what error messages call it.

    Returns:
        The value, and the line of each key by its path.

    Raises:
        ConfigError: broken syntax, a duplicate key, a tag, an anchor or an alias.
    """
    import yaml

    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            tag = getattr(event, "tag", None)
            if getattr(event, "anchor", None) or tag:
                found = f"the tag {tag!r}" if tag else f"the anchor or alias {event.anchor!r}"
                raise ConfigError(f"{origin} line {event.start_mark.line + 1}: {found} is not allowed; write the value out.")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{origin}{where}: not valid YAML ({getattr(error, 'problem', None) or error}).") from None
    except RecursionError:
        raise ConfigError(f"{origin}: nested too deeply to be a config.") from None
    lines: dict[tuple[str, ...], int] = {}
    return _value(node, (), origin, lines), lines


_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)")


def _value(node: Any, path: tuple[str, ...], origin: str, lines: dict[tuple[str, ...], int]) -> Any:
    """Turn a YAML node into plain data, noting the line of every key."""
    import yaml

    if node is None:
        return {}
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in result:
                raise ConfigError(f"{origin} line {line}: key {key!r} occurs twice; keep one.")
            lines[(*path, key)] = line
            result[key] = _value(value_node, (*path, key), origin, lines)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, str(index)), origin, lines) for index, item in enumerate(node.value)]
    if node.style is None and _NUMBER.fullmatch(node.value):  # YAML 1.1 reads 1e-3 as a string
        return float(node.value.replace("_", ""))
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{origin} line {node.start_mark.line + 1}: {node.value!r} is no value ({error}).") from None


def _recipe(values: Any, origin: str, lines: Mapping[tuple[str, ...], int]) -> Recipe:
    recipe = _build(Recipe, values, (), origin, lines)
    _check_names(recipe, origin)
    return recipe


def _check_names(recipe: Recipe, origin: str) -> None:
    """Raise unless the recipe's model, corpus and protocol exist."""
    from serzoo.data.corpora import CORPORA
    from serzoo.data.splits import get_protocol
    from serzoo.models import MODELS

    try:
        MODELS.get(recipe.model.name)
        CORPORA.get(recipe.corpus)
        get_protocol(recipe.protocol)
    except SerzooError as error:
        raise type(error)(f"{origin}: {error}") from None


def _build(cls: type, values: Any, path: tuple[str, ...], origin: str, lines: Mapping[tuple[str, ...], int]) -> Any:
    """Build the dataclass ``cls`` from plain data, checking keys and types on the way."""
    where = _place(path, origin, lines)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected keys and values, found {values!r}.")
    if cls is MFCCSpec:
        return _reraise(lambda: spec_from_dict(values), where)
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise _prefixed(unknown_name("key", key, hints), _place((*path, str(key)), origin, lines))
    required = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise ConfigError(f"{where}: the key {', '.join(map(repr, missing))} is missing; add it.")
    arguments = {key: _convert(hints[key], value, (*path, key), origin, lines) for key, value in values.items()}
    return _reraise(lambda: cls(**arguments), where)


def _convert(hint: Any, value: Any, path: tuple[str, ...], origin: str, lines: Mapping[tuple[str, ...], int]) -> Any:
    """Return ``value`` as the type ``hint`` says, or raise."""
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, path, origin, lines)
    base = typing.get_origin(hint) or hint
    if base is tuple and isinstance(value, (list, tuple)):
        return tuple(str(item) for item in value)
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, base) or (base is int and isinstance(value, bool)):
        raise ConfigError(f"{_place(path, origin, lines)}: {path[-1]} is {value!r}; it must be {_TYPE_NAMES[base]}.")
    return value


_TYPE_NAMES = {
    int: "a whole number", float: "a number", str: "text (quote codes such as '01')",
    bool: "true or false", dict: "keys and values", tuple: "a list",
}  # fmt: skip


def _place(path: tuple[str, ...], origin: str, lines: Mapping[tuple[str, ...], int]) -> str:
    line = f" line {lines[path]}" if path in lines else ""
    return f"{origin}{line}" + (f" ({'.'.join(path)})" if path and not line else "")


def _prefixed(error: SerzooError, where: str) -> SerzooError:
    return type(error)(f"{where}: {error}")


def _reraise(build: typing.Callable[[], Any], where: str) -> Any:
    try:
        return build()
    except SerzooError as error:
        raise _prefixed(error, where) from None


def _plain(value: Any) -> Any:
    """Return dataclasses and tuples as dictionaries and lists."""
    if isinstance(value, MFCCSpec):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
