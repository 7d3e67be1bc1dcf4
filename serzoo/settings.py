"""The parts of a recipe that data and training read: model, training, augmentation and genders.

Each is a small frozen dataclass that checks its values; a :class:`serzoo.recipes.Recipe` combines them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

from serzoo.checks import (
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    TEXTS,
    UNIT,
    integer,
    list_of,
    one_of,
    real,
    require,
)
from serzoo.errors import ConfigError
from serzoo.labels import FEMALE, MALE
from serzoo.strict_data import Checked

LAST_RULE, LEAKY_RULE = "last-epoch", "leaky-best-test-war"

VALIDATION_RULES = ("best-validation-uar", "best-validation-loss")
"""These need a validation part: the protocol's, or else speakers held out of the training part."""

SELECTION_RULES = {
    LAST_RULE: "the model of the last epoch",
    "best-train-war": "the epoch with the highest WAR on the training part (TBDM-Net's ::BT)",
    "best-validation-uar": "the epoch with the highest UAR on the validation part",
    "best-validation-loss": "the epoch with the lowest loss on the validation part, anti-transfer left out",
    LEAKY_RULE: "the epoch with the highest WAR on the TEST part: a leak, offered to measure its effect",
}


@dataclass(frozen=True)
class ModelConfig(Checked):
    """An architecture or classical classifier, and its arguments."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerConfig(Checked):
    """Settings of ``keras.optimizers.Adam`` or ``Nadam``; with ``weight_decay``, Adam is AdamW."""

    name: Annotated[str, one_of(("adam", "nadam"), "optimizer")] = "adam"
    learning_rate: Annotated[float, POSITIVE] = 1e-3
    beta_1: Annotated[float, FRACTION] = 0.9
    beta_2: Annotated[float, FRACTION] = 0.999
    epsilon: Annotated[float, POSITIVE] = 1e-7
    weight_decay: Annotated[float, FRACTION] = 0.0


@dataclass(frozen=True)
class WaveformAugmentConfig(Checked):
    """Random changes of training waveforms; each is off at its default.

    Args:
        gain_db: gain drawn from ``-gain_db..gain_db``, in dB.
        noise_snr_db: white noise at a signal-to-noise ratio drawn from this value up to 20 dB above it.
        shift: circular shift drawn from ``-shift..shift``, as a fraction of the clip.
    """

    gain_db: Annotated[float, NOT_NEGATIVE] = 0.0
    noise_snr_db: Annotated[float, real()] | None = None
    shift: Annotated[float, UNIT] = 0.0


@dataclass(frozen=True)
class SpecAugmentConfig(Checked):
    """SpecAugment (Park et al., 2019): bands of frames and of coefficients set to zero, or to the mean that a model
    subtracts.

    Args:
        time_masks: number of time masks.
        time_width: widest time mask, in frames.
        feature_masks: number of coefficient masks.
        feature_width: widest coefficient mask.
    """

    time_masks: Annotated[int, integer(at_least=0)] = 0
    time_width: Annotated[int, integer(at_least=0)] = 20
    feature_masks: Annotated[int, integer(at_least=0)] = 0
    feature_width: Annotated[int, integer(at_least=0)] = 5


SCHEDULES = ("constant", "cosine")

FLOAT32, BFLOAT16 = "float32", "bfloat16"

PRECISIONS = (FLOAT32, BFLOAT16)


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """Settings of a training, and the rule that chooses the epoch to keep.

    Args:
        optimizer: the optimiser and its settings.
        batch_size: segments per step; an uncut clip is one segment.
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
        precise_norm: after the last step, recompute the moving statistics of batch normalisation on the training part
            with the weights that are kept (precise batch norm, Wu and Johnson, 2021).
    """

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_size: Annotated[int, COUNT] = 64
    epochs: Annotated[int, COUNT] = 300
    label_smoothing: Annotated[float, FRACTION] = 0.1
    selection: Annotated[str, one_of(tuple(SELECTION_RULES), "selection rule")] = LAST_RULE
    patience: Annotated[int, COUNT] | None = None
    validation_fraction: Annotated[float, real(above=0, below=1)] = 0.2
    seed: Annotated[int, SEED] = 0
    jit_compile: bool = True
    class_weights: bool = False
    schedule: Annotated[str, one_of(SCHEDULES, "schedule")] = "constant"
    warmup_epochs: Annotated[int, integer(at_least=0)] = 0
    mixup: Annotated[float, NOT_NEGATIVE] = 0.0
    waveform_augment: WaveformAugmentConfig | None = None
    spec_augment: SpecAugmentConfig | None = None
    precision: Annotated[str, one_of(PRECISIONS, "precision")] = FLOAT32
    precise_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience is not None and self.selection == LAST_RULE:
            raise ConfigError(
                f"patience is {self.patience}, but no epoch is better than another under {LAST_RULE}; "
                "choose another selection or leave patience out."
            )
        require(self.warmup_epochs < self.epochs, "warmup_epochs", self.warmup_epochs, f"below epochs, {self.epochs}")
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
class InitialWeights(Checked):
    """A trained model whose weights a training starts from.

    Args:
        model: a ``.keras`` file of serzoo, or the folder of a run's fold.
        layers: names of the layers to take over, for example ``["encoder"]``; None for all of them, the last too.
    """

    model: str
    layers: Annotated[tuple[str, ...], TEXTS] | None = None


@dataclass(frozen=True)
class AntiTransferConfig(Checked):
    """Training away from networks that were trained on other tasks (Guizzo et al., 2021 and 2023).

    Args:
        pretrained: those networks, ``.keras`` files or folders of a run's fold. With two, the model is trained against
            the first and then, from there, against the second (dual anti-transfer).
        layers: numbers of the feature layers to try, from 1 on. Each is trained; the one with the highest WAR on
            the validation part is kept.
        beta: weight of the anti-transfer loss.
    """

    pretrained: Annotated[tuple[str, ...], TEXTS]
    layers: Annotated[tuple[int, ...], list_of(COUNT, distinct=True)] = (2,)
    beta: Annotated[float, POSITIVE] = 1.0


@dataclass(frozen=True)
class ReconstructionConfig(Checked):
    """Settings of RH-Emo's first stage; all others are those of the recipe's ``training``."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_size: Annotated[int, COUNT] = 50
    epochs: Annotated[int, COUNT] = 500
    patience: Annotated[int, COUNT] | None = None


@dataclass(frozen=True)
class RHEmoConfig(Checked):
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
    alpha: Annotated[float, POSITIVE] = 1.0
    beta: Annotated[float, POSITIVE] = 0.01
    beta_class: Annotated[float, NOT_NEGATIVE] = 1.0
    beta_vad: Annotated[float, NOT_NEGATIVE] = 100.0


GOLDEN, BINARY, PROBABILITIES = "golden", "binary", "probabilities"

GENDER_SOURCES = {
    GOLDEN: "the gender that the corpus states",
    BINARY: "the decision of a gender classifier",
    PROBABILITIES: "the probability that the speaker is male, of a gender classifier",
}

TRAIN_ON = ("all", MALE, FEMALE)


@dataclass(frozen=True)
class GenderConfig(Checked):
    """The use of the speakers' genders in training (Striletchi et al., 2024, section 3.5).

    Args:
        source: one of :data:`GENDER_SOURCES`: the gender input of a model in training and testing.
        classifier: gender classifier for the other sources than the corpus: a classical one, trained on each fold's
            training part; or a trained one: name of pretrained weights, ``.skops`` file or path with a folder.
        arguments: of a classical classifier, those other than the defaults of ``serzoo gender``.
        features: of a classical classifier, as in ``serzoo gender --features``.
        train_on: ``all``, or ``male`` or ``female`` to train and validate on those speakers only; the test part stays.
    """

    source: Annotated[str, one_of(tuple(GENDER_SOURCES), "gender source")] = GOLDEN
    classifier: str = "svc"
    arguments: dict[str, Any] = field(default_factory=dict)
    features: str = "mfcc"
    train_on: Annotated[str, one_of(TRAIN_ON, "value of train_on")] = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_on != "all" and self.source != GOLDEN:
            raise ConfigError(
                f"gender.train_on is {self.train_on}, so there is one gender to train on and gender.source "
                f"{self.source} has nothing to learn from; leave one of them out."
            )
