"""Recipes: a model, its features, a corpus, a protocol and the training settings, in one YAML file.

A recipe is read into dataclasses. Unknown keys, missing ones and values of the wrong type raise
with the file, the line and the key; :mod:`serzoo.strict_data` and :mod:`serzoo.strict_yaml` see to that.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serzoo import strict_yaml
from serzoo.errors import ConfigError, unknown_name
from serzoo.features.spec import SPECS, FeatureSpec, MFCCSpec
from serzoo.files import local_path
from serzoo.labels import FEMALE, MALE
from serzoo.strict_data import Choice, Place, build, convert, field_types, placed

LAST_RULE, LEAKY_RULE = "last-epoch", "leaky-best-test-war"
VALIDATION_RULES = ("best-validation-uar", "best-validation-loss")
"""These need a validation part: the protocol's, or else speakers held out of the training part."""

SELECTION_RULES = {
    LAST_RULE: "the model of the last epoch",
    "best-train-war": "the epoch with the highest WAR on the training part (TBDM-Net's ::BT)",
    "best-validation-uar": "the epoch with the highest UAR on the validation part",
    "best-validation-loss": "the epoch with the lowest loss on the validation part, anti-transfer left out",
    LEAKY_RULE: "the epoch with the highest WAR on the TEST part: a leak, kept to show what it is worth",
}


@dataclass(frozen=True)
class ModelConfig:
    """Which architecture, or which simple classifier, with which arguments."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of ``keras.optimizers.Adam`` or ``Nadam``; with ``weight_decay``, Adam is AdamW."""

    name: str = "adam"
    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_types(self)
        if self.name not in ("adam", "nadam"):
            raise unknown_name("optimizer", self.name, ("adam", "nadam"))
        for name in ("learning_rate", "epsilon"):
            _require(self, name, 0 < getattr(self, name) < math.inf, "greater than 0")
        for name in ("beta_1", "beta_2"):
            _require(self, name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        _require(self, "weight_decay", 0 <= self.weight_decay < 1, "at least 0 and below 1")


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

    def __post_init__(self) -> None:
        _check_types(self)
        _require(self, "gain_db", 0 <= self.gain_db < math.inf, "at least 0")
        _require(self, "noise_snr_db", self.noise_snr_db is None or math.isfinite(self.noise_snr_db), "finite")
        _require(self, "shift", 0 <= self.shift <= 1, "in 0..1")


@dataclass(frozen=True)
class SpecAugmentConfig:
    """SpecAugment (Park et al., 2019): bands of frames and of coefficients set to zero, or to the mean that a model
    subtracts.

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

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("time_masks", "time_width", "feature_masks", "feature_width"):
            _require(self, name, getattr(self, name) >= 0, "at least 0")


SCHEDULES = ("constant", "cosine")

FLOAT32, BFLOAT16 = "float32", "bfloat16"
PRECISIONS = (FLOAT32, BFLOAT16)


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained and which of its epochs is kept.

    Args:
        optimizer: the optimiser and its settings.
        batch_size: segments per step; a clip that is not cut is one.
        epochs: passes over the training part.
        label_smoothing: applied to training targets only.
        selection: one of :data:`SELECTION_RULES`.
        patience: stop after this many epochs without a better one in the sense of ``selection``; None for all epochs.
        validation_fraction: share of the training speakers held out, where the selection needs a
            validation part and the protocol has none.
        seed: of the order of the clips and their augmentation; in a cross-validation also of the
            initial weights and of dropout.
        jit_compile: compile the training step with XLA.
        class_weights: weigh each training segment by n / (n_classes x n of its class), as scikit-learn's
            "balanced" does.
        schedule: of the learning rate, one of :data:`SCHEDULES`: as it is in all epochs, or falling to almost nothing
            along half a cosine.
        warmup_epochs: epochs at the beginning in which the learning rate rises in equal steps.
        mixup: each training segment and its target are mixed with another's in a proportion drawn from
            Beta(mixup, mixup) (Zhang et al., ICLR 2018), the larger share its own; 0 mixes nothing.
        waveform_augment: random changes of the waveform; needs decoding in every epoch.
        spec_augment: masks on the features.
        precision: of the matrix products in the dilated blocks of TIM-Net and TBDM-Net while they train, one of
            :data:`PRECISIONS`; all else stays float32. bfloat16 is faster for wide blocks where the processor has
            products of it and XLA does not compile the step (``jit_compile: false``).
        precise_norm: after the last step, take the moving statistics of batch normalisation anew from the training
            part, for the weights that are kept (Wu and Johnson, 2021).
    """

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_size: int = 64
    epochs: int = 300
    label_smoothing: float = 0.1
    selection: str = LAST_RULE
    patience: int | None = None
    validation_fraction: float = 0.2
    seed: int = 0
    jit_compile: bool = True
    class_weights: bool = False
    schedule: str = "constant"
    warmup_epochs: int = 0
    mixup: float = 0.0
    waveform_augment: WaveformAugmentConfig | None = None
    spec_augment: SpecAugmentConfig | None = None
    precision: str = FLOAT32
    precise_norm: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        if self.selection not in SELECTION_RULES:
            raise unknown_name("selection rule", self.selection, SELECTION_RULES)
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        for name in ("batch_size", "epochs"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        _require(self, "patience", self.patience is None or self.patience >= 1, "at least 1, or null for all epochs")
        if self.patience is not None and self.selection == LAST_RULE:
            raise ConfigError(
                f"patience is {self.patience}, but no epoch is better than another under {LAST_RULE}; "
                "choose another selection or leave patience out."
            )
        _require(self, "label_smoothing", 0 <= self.label_smoothing < 1, "at least 0 and below 1")
        _require(self, "validation_fraction", 0 < self.validation_fraction < 1, "above 0 and below 1")
        _require(self, "seed", 0 <= self.seed < 2**32, "at least 0 and below 2^32")
        _require(self, "warmup_epochs", 0 <= self.warmup_epochs < self.epochs, "at least 0 and below epochs")
        _require(self, "mixup", 0 <= self.mixup < math.inf, "at least 0")
        if self.mixup and self.waveform_augment is not None:
            raise ConfigError(
                "mixup and waveform_augment are both set, but mixup mixes features; leave one of them out."
            )

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate in an epoch, counted from 0."""
        rising = (epoch + 1) / (self.warmup_epochs + 1)
        done = max(epoch - self.warmup_epochs, 0) / (self.epochs - self.warmup_epochs)
        falling = (1 + math.cos(math.pi * done)) / 2 if self.schedule == "cosine" else 1.0
        return self.optimizer.learning_rate * min(rising, falling)


@dataclass(frozen=True)
class InitialWeights:
    """A trained model whose weights a training starts from.

    Args:
        model: a ``.keras`` file of serzoo, or the folder of a run's fold.
        layers: names of the layers to take over, for example ``["encoder"]``; None for all of them, the last too.
    """

    model: str
    layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        _require(self, "layers", self.layers != (), "names of layers, or null for all")


@dataclass(frozen=True)
class AntiTransferConfig:
    """Training away from networks that were trained on other tasks (Guizzo et al., 2021 and 2023).

    Args:
        pretrained: those networks, ``.keras`` files or folders of a run's fold. With two, the model is trained against
            the first and then, from there, against the second (dual anti-transfer).
        layers: numbers of the feature layers to try, from 1 on. Each is trained; the one with the highest WAR on
            the validation part is kept.
        beta: weight of the anti-transfer loss.
    """

    pretrained: tuple[str, ...]
    layers: tuple[int, ...] = (2,)
    beta: float = 1.0

    def __post_init__(self) -> None:
        _check_types(self)
        _require(self, "pretrained", len(self.pretrained) >= 1, "at least one model")
        fit_for_use = len(set(self.layers)) == len(self.layers) >= 1 and min(self.layers) >= 1
        _require(self, "layers", fit_for_use, "different numbers of feature layers, from 1 on")
        _require(self, "beta", 0 < self.beta < math.inf, "greater than 0")


@dataclass(frozen=True)
class ReconstructionConfig:
    """How RH-Emo's first stage is trained; what is not here is as in the recipe's ``training``."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_size: int = 50
    epochs: int = 500
    patience: int | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("batch_size", "epochs"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        _require(self, "patience", self.patience is None or self.patience >= 1, "at least 1, or null for all epochs")


@dataclass(frozen=True)
class RHEmoConfig:
    """RH-Emo's training in two stages: reconstruction, then emotion as well (Guizzo et al., 2023).

    The recipe's ``training`` is that of the second stage.

    Args:
        reconstruction: how the first stage is trained.
        alpha: weight of the reconstruction.
        beta: weight of the recognition in the second stage.
        beta_class: weight of the classes within it.
        beta_vad: weight of valence, arousal and dominance within it.
    """

    reconstruction: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    alpha: float = 1.0
    beta: float = 0.01
    beta_class: float = 1.0
    beta_vad: float = 100.0

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("alpha", "beta"):
            _require(self, name, 0 < getattr(self, name) < math.inf, "greater than 0")
        for name in ("beta_class", "beta_vad"):
            _require(self, name, 0 <= getattr(self, name) < math.inf, "at least 0")


GOLDEN, BINARY, PROBABILITIES = "golden", "binary", "probabilities"

GENDER_SOURCES = {
    GOLDEN: "the gender that the corpus states",
    BINARY: "the decision of a gender classifier",
    PROBABILITIES: "the probability that the speaker is male, of a gender classifier",
}

TRAIN_ON = ("all", MALE, FEMALE)


@dataclass(frozen=True)
class GenderConfig:
    """What a training makes of the speakers' genders (Striletchi et al., 2024, section 3.5).

    Args:
        source: one of :data:`GENDER_SOURCES`, what a model with gender input is told in training and in testing.
        classifier: who tells, unless it is the corpus: a simple classifier, trained on each fold's training part; or a
            trained one: pretrained by name, a ``.skops`` file or a path with a folder in it.
        arguments: of a simple classifier, those that are not to be as ``serzoo gender`` has them.
        features: what a simple classifier hears, as ``serzoo gender --features`` takes it.
        train_on: ``all``, or ``male`` or ``female`` to train and validate on those speakers only; the test part stays.
    """

    source: str = GOLDEN
    classifier: str = "svc"
    arguments: dict[str, Any] = field(default_factory=dict)
    features: str = "mfcc"
    train_on: str = "all"

    def __post_init__(self) -> None:
        _check_types(self)
        for what, name, known in (
            ("gender source", self.source, GENDER_SOURCES),
            ("value of train_on", self.train_on, TRAIN_ON),
        ):
            if name not in known:
                raise unknown_name(what, name, known)
        if self.train_on != "all" and self.source != GOLDEN:
            raise ConfigError(
                f"gender.train_on is {self.train_on}, so there is one gender to train on and gender.source "
                f"{self.source} has nothing to learn from; leave one of them out."
            )

    @property
    def trains(self) -> bool:
        """Whether the classifier is trained on each fold, and not a trained one."""
        from serzoo.models.simple import SIMPLE_CLASSIFIERS

        return self.classifier in SIMPLE_CLASSIFIERS


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a result, apart from the recordings.

    Args:
        name: how the recipe is called; letters, digits, ``.``, ``_`` and ``-``, for it names folders too.
        corpus: a name of :data:`serzoo.data.CORPORA`.
        model: architecture and arguments.
        features: what the model hears.
        protocol: a named protocol of :mod:`serzoo.data.splits`.
        training: training settings and selection rule.
        target: what is to be told: ``label``, the emotion, or another column of the manifest, such as ``speaker`` or
            ``text``, a task to pretrain on.
        initial: weights to start from; None for fresh ones.
        anti_transfer: training away from other networks.
        rh_emo: RH-Emo's two stages; without, its classifier alone is trained.
        gender: who tells the model the speakers' genders, and whose recordings it is trained on; None for what the
            corpus states and all recordings.
        repeats: how often each fold is trained, with the seeds training.seed, training.seed + 1, ...
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
    repeats: int = 1
    summary: str = ""
    source: str = ""
    class_names: tuple[str, ...] | None = None
    test_corpus: str | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ConfigError(f"name is {self.name!r}; use letters, digits, '.', '_' and '-' only.")
        _require(self, "repeats", self.repeats >= 1, "at least 1")
        _require(self, "repeats", self.training.seed + self.repeats <= 2**32, "so few that all seeds are below 2^32")
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
    raise unknown_name("config", text, list_recipes())


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a YAML file.

    Raises:
        UnknownNameError: an unknown name or key, with the nearest match.
        ConfigError: the file cannot be read, is not strict YAML, or not a recipe.
    """
    return recipe_from_dict(strict_yaml.read(path), str(path))


def recipe_from_dict(values: Any, origin: str = "recipe") -> Recipe:
    """Build a recipe from plain data; ``origin`` is what error messages call it.

    Raises:
        UnknownNameError: an unknown name or key, with the nearest match.
        ConfigError: a key is missing, or a value is of the wrong type or out of range.
    """
    place = Place(origin)
    recipe = build(Recipe, values, place, _CHOICES)
    with placed(place):
        _check_names(recipe)
    return recipe


def _check_names(recipe: Recipe) -> None:
    """Raise unless the recipe's model, corpora and protocol exist and go together."""
    from serzoo.data.corpora import CORPORA
    from serzoo.data.splits import get_protocol

    _check_model(recipe)
    if recipe.gender is not None:
        _check_gender(recipe.gender)
    CORPORA.get(recipe.corpus)
    if recipe.test_corpus is not None:
        CORPORA.get(recipe.test_corpus)
    protocol = get_protocol(recipe.protocol)
    if protocol.takes_two_corpora != (recipe.test_corpus is not None):
        needed = "does not take" if recipe.test_corpus else "needs"
        raise ConfigError(
            f"protocol {protocol.name} {needed} a test_corpus, which is {recipe.test_corpus}; change one."
        )


def _check_model(recipe: Recipe) -> None:
    """Raise unless the recipe's model exists; a simple classifier's arguments and training are checked too."""
    from serzoo.models import MODELS
    from serzoo.models.simple import SIMPLE_CLASSIFIERS, complete_arguments

    name = recipe.model.name
    if name in SIMPLE_CLASSIFIERS:
        complete_arguments(name, recipe.model.arguments)
        _check_simple_training(recipe)
    elif name not in MODELS:
        raise unknown_name("model", name, [*MODELS, *SIMPLE_CLASSIFIERS])


def _check_gender(settings: GenderConfig) -> None:
    """Raise unless the classifier of genders exists, as far as its name tells, and takes its arguments."""
    from serzoo.models.simple import SIMPLE_CLASSIFIERS, SIMPLE_SUFFIX, complete_arguments
    from serzoo.weights.store import list_pretrained

    name, pretrained = settings.classifier, list_pretrained("gender")
    if settings.trains:
        complete_arguments(name, settings.arguments)
    elif name not in pretrained and not name.endswith(SIMPLE_SUFFIX) and Path(name).name == name:
        raise unknown_name("gender classifier", name, [*SIMPLE_CLASSIFIERS, *pretrained])
    elif settings.arguments:
        raise ConfigError(f"gender.arguments are set, but {name} is trained already; leave them out.")


def _check_simple_training(recipe: Recipe) -> None:
    """Raise if a recipe asks of a simple classifier what only a network can do."""
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
    usual = TrainingConfig(seed=training.seed)  # a recipe that is written in full names what it does not use
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


def _feature_class(values: Mapping[str, Any], place: Place) -> tuple[type, Mapping[str, Any]]:
    """Return the class of features that ``kind`` names, and the values without it."""
    given = dict(values)
    kind = given.pop("kind", MFCCSpec.kind)
    with placed(place.key(values, "kind")):
        if not isinstance(kind, str) or kind not in SPECS:
            raise unknown_name("feature kind", kind, SPECS)
    return SPECS[kind], given


_CHOICES: Mapping[type, Choice] = {FeatureSpec: _feature_class}


def _check_types(settings: Any) -> None:
    """Hold settings that were made in Python to the types that a file is held to."""
    for name, hint in field_types(type(settings)).items():
        place = Place(type(settings).__name__, (name,))
        object.__setattr__(settings, name, convert(hint, getattr(settings, name), place, _CHOICES))


def _require(settings: object, name: str, allowed: bool, what: str) -> None:
    value = getattr(settings, name)
    if not allowed:
        raise ConfigError(f"{name} is {list(value) if isinstance(value, tuple) else value}; it must be {what}.")


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
