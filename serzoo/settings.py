"""What data and training read of a recipe: the model, its training and augmentation, and the use of genders.

Each is a small frozen dataclass that checks its own values; :mod:`serzoo.recipes` puts them together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from serzoo.errors import ConfigError, unknown_name
from serzoo.labels import FEMALE, MALE
from serzoo.strict_data import check_types, require

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
        check_types(self)
        if self.name not in ("adam", "nadam"):
            raise unknown_name("optimizer", self.name, ("adam", "nadam"))
        for name in ("learning_rate", "epsilon"):
            require(self, name, 0 < getattr(self, name) < math.inf, "greater than 0")
        for name in ("beta_1", "beta_2"):
            require(self, name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        require(self, "weight_decay", 0 <= self.weight_decay < 1, "at least 0 and below 1")


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
        check_types(self)
        require(self, "gain_db", 0 <= self.gain_db < math.inf, "at least 0")
        require(self, "noise_snr_db", self.noise_snr_db is None or math.isfinite(self.noise_snr_db), "finite")
        require(self, "shift", 0 <= self.shift <= 1, "in 0..1")


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
        check_types(self)
        for name in ("time_masks", "time_width", "feature_masks", "feature_width"):
            require(self, name, getattr(self, name) >= 0, "at least 0")


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
        check_types(self)
        if self.selection not in SELECTION_RULES:
            raise unknown_name("selection rule", self.selection, SELECTION_RULES)
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        for name in ("batch_size", "epochs"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        require(self, "patience", self.patience is None or self.patience >= 1, "at least 1, or null for all epochs")
        if self.patience is not None and self.selection == LAST_RULE:
            raise ConfigError(
                f"patience is {self.patience}, but no epoch is better than another under {LAST_RULE}; "
                "choose another selection or leave patience out."
            )
        require(self, "label_smoothing", 0 <= self.label_smoothing < 1, "at least 0 and below 1")
        require(self, "validation_fraction", 0 < self.validation_fraction < 1, "above 0 and below 1")
        require(self, "seed", 0 <= self.seed < 2**32, "at least 0 and below 2^32")
        require(self, "warmup_epochs", 0 <= self.warmup_epochs < self.epochs, "at least 0 and below epochs")
        require(self, "mixup", 0 <= self.mixup < math.inf, "at least 0")
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
        check_types(self)
        require(self, "layers", self.layers != (), "names of layers, or null for all")


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
        check_types(self)
        require(self, "pretrained", len(self.pretrained) >= 1, "at least one model")
        fit_for_use = len(set(self.layers)) == len(self.layers) >= 1 and min(self.layers) >= 1
        require(self, "layers", fit_for_use, "different numbers of feature layers, from 1 on")
        require(self, "beta", 0 < self.beta < math.inf, "greater than 0")


@dataclass(frozen=True)
class ReconstructionConfig:
    """How RH-Emo's first stage is trained; what is not here is as in the recipe's ``training``."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_size: int = 50
    epochs: int = 500
    patience: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("batch_size", "epochs"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        require(self, "patience", self.patience is None or self.patience >= 1, "at least 1, or null for all epochs")


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
        check_types(self)
        for name in ("alpha", "beta"):
            require(self, name, 0 < getattr(self, name) < math.inf, "greater than 0")
        for name in ("beta_class", "beta_vad"):
            require(self, name, 0 <= getattr(self, name) < math.inf, "at least 0")


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
        check_types(self)
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
