"""Published results in percent, to compare with, each with its protocol.

Most are on random folds, with the same speakers in training and test. Such a figure does not apply to new speakers and
is comparable only with a result under the same protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

_RANDOM10 = ("ten random folds, speaker-dependent", False)
_RANDOM5 = ("five random folds, speaker-dependent", False)
_TIMNET = "Ye et al., ICASSP 2023"
_TBDM = "Striletchi et al., 2024"
_QUATERNION = "Guizzo et al., WASPAA 2023"
_FROZEN = "Stanea et al., 2023"


@dataclass(frozen=True)
class Published:
    """A published result.

    Args:
        system: the scored system, with epochs and selection if the paper states them.
        protocol: the protocol in words.
        speaker_independent: whether no test speaker was in training.
        paper: authors and year.
        table: its table; empty if not recorded.
        uar: unweighted average recall, in percent; None if not published, as in the others.
        war: weighted average recall, the accuracy.
        f1: weighted F1.
    """

    system: str
    protocol: str
    speaker_independent: bool
    paper: str
    table: str
    uar: float | None = None
    war: float | None = None
    f1: float | None = None

    @property
    def scores(self) -> tuple[float | None, float | None, float | None]:
        """UAR, WAR and F1, in the order of :data:`serzoo.metrics.HEADLINE`."""
        return self.uar, self.war, self.f1


_CORPORA = ("casia", "emodb", "emovo", "iemocap", "ravdess", "savee")

_TIMNET_LAST = (
    (91.08, 91.08), (89.19, 90.28), (86.56, 86.56), (69.00, 68.29), (90.04, 90.07), (77.26, 79.36),
)  # fmt: skip
_TBDM_TABLE = {
    "timnet-300": (
        (89.60, 90.40, 89.90), (91.09, 89.30, 89.00), (84.60, 85.80, 84.10),
        (68.70, 67.90, 67.40), (88.00, 89.30, 88.10), (80.09, 81.19, 78.20),
    ),
    "tbdm-bt": (
        (86.54, 85.66, 85.77), (90.01, 88.23, 88.30), (84.20, 82.12, 82.05),
        (71.78, 70.05, 70.19), (85.29, 84.30, 84.40), (78.47, 77.49, 77.90),
    ),
    "tbdm-300": (
        (91.01, 90.50, 90.54), (92.94, 91.40, 91.55), (88.10, 87.06, 87.19),
        (73.28, 71.88, 71.94), (91.60, 90.97, 91.02), (81.21, 80.41, 80.60),
    ),
}  # fmt: skip
_TBDM_SYSTEMS = {
    "timnet-300": "TIM-Net, run again by TBDM-Net's authors, 300 epochs",
    "tbdm-bt": "TBDM-Net::BT, best training WAR of 300 epochs",
    "tbdm-300": "TBDM-Net::300, last of 300 epochs",
}
_TBDM_ABLATIONS = {
    "relu": ("ReLU", (90.76, 90.34, 90.42)),
    "no-backward": ("w/o BD", (90.09, 89.99, 90.06)),
    "no-multi-scale": ("w/o MS", (90.81, 90.69, 90.80)),
    "5-blocks": ("5 TABs", (91.08, 90.90, 90.84)),
}
_GENDER_SYSTEMS = (
    "baseline:full", "baseline:M", "baseline:F", "split:M", "split:F",
    "post-hoc:golden-labels", "post-hoc:binary", "post-hoc:probabilities",
    "pre-hoc:golden-labels", "pre-hoc:binary", "pre-hoc:probabilities",
)  # fmt: skip
_GENDER_TABLES = {
    "ravdess": ("table 5", (
        (91.60, 90.97, 91.02), (87.02, 85.00, 84.91), (91.23, 90.13, 90.31),
        (90.86, 89.44, 89.24), (90.71, 90.41, 90.71),
        (90.75, 90.41, 90.44), (89.83, 89.37, 89.38), (90.04, 89.51, 89.50),
        (91.34, 91.18, 91.22), (91.07, 90.90, 90.88), (91.70, 91.31, 91.33),
    )),
    "iemocap": ("table 6", (
        (73.28, 71.88, 71.94), (72.72, 70.53, 70.75), (73.73, 72.61, 72.59),
        (72.62, 70.05, 70.23), (72.58, 71.40, 71.65),
        (72.03, 70.72, 70.88), (71.45, 70.18, 70.33), (71.69, 70.43, 70.60),
        (73.68, 71.94, 71.97), (73.47, 71.77, 71.84), (73.69, 72.22, 72.26),
    )),
}  # fmt: skip
_QUATERNION_ROWS: dict[str, tuple[str, float, float]] = {
    "vgg16": ("real VGG16", 41.06, 45.0),
    "vgg16-at-s": ("real VGG16, Single S, best layer of each split", 49.56, 46.67),
    "qvgg16": ("quaternion VGG16", 49.85, 36.67),
    "qvgg16-at-s": ("quaternion VGG16, Single S at layer 2", 57.11, 51.67),
}
_FROZEN_ROWS: dict[str, tuple[str, float, float]] = {
    "mel-svc": ("mel, SVM", 21.22, 21.39),
    "mel-dnn": ("mel, DNN", 42.44, 30.90),
    "mfcc-svc": ("MFCC, SVM", 61.96, 61.39),
    "mfcc-dnn": ("MFCC, DNN", 47.02, 48.06),
}


_ALONE = "leaving one speaker out"
_SINGLE = {
    "acrnn/iemocap": Published("ACRNN", f"{_ALONE}, improvised", True, "Chen et al., 2018", "abstract", uar=64.74),
    "acrnn/emodb": Published("ACRNN", _ALONE, True, "Chen et al., 2018", "abstract", uar=82.82),
    "acrnn-gender/iemocap": Published(
        "ACRNN, self-attention, gender", f"{_ALONE}, improvised", True, "Bhushan et al., 2022", "table 1", 62.86, 64.32
    ),
    "reslstm-sa/ravdess": Published(
        "ResLSTM-SA h64, 47 k weights", "speaker-independent", True, "arXiv 2606.03359", "", uar=65.17
    ),
    "whisper-large-v3/ravdess": Published(
        "Whisper large-v3, frozen", "EmoBox's six folds", True, "Ma et al., 2024", "table 4", 75.32, 75.87
    ),
}


def _timnet() -> Iterator[tuple[str, Published]]:
    title = "TIM-Net, last of 500 epochs"
    for corpus, scores in zip(_CORPORA, _TIMNET_LAST, strict=True):
        yield f"timnet-500/{corpus}", Published(title, *_RANDOM10, _TIMNET, "table 1, *", *scores)


def _tbdm() -> Iterator[tuple[str, Published]]:
    for name, rows in _TBDM_TABLE.items():
        for corpus, scores in zip(_CORPORA, rows, strict=True):
            yield f"{name}/{corpus}", Published(_TBDM_SYSTEMS[name], *_RANDOM10, _TBDM, "table 2", *scores)
    for name, (title, scores) in _TBDM_ABLATIONS.items():
        yield f"tbdm-300/ravdess/{name}", Published(f"TBDM-Net::300, {title}", *_RANDOM10, _TBDM, "table 3", *scores)
    for corpus, (table, systems) in _GENDER_TABLES.items():
        for system, scores in zip(_GENDER_SYSTEMS, systems, strict=True):
            yield _system_key(corpus, system), Published(f"TBDM-Net, {system}", *_RANDOM10, _TBDM, table, *scores)


def _quaternion() -> Iterator[tuple[str, Published]]:
    splits = {"random": ("one random split, speaker-dependent", False), "actors": ("one split by actors", True)}
    for name, (title, *accuracies) in _QUATERNION_ROWS.items():
        for (split, protocol), accuracy in zip(splits.items(), accuracies, strict=True):
            yield f"{name}/ravdess/{split}", Published(title, *protocol, _QUATERNION, "table 1", war=accuracy)


def _frozen() -> Iterator[tuple[str, Published]]:
    for name, (title, *scores) in _FROZEN_ROWS.items():
        yield f"frozen/ravdess/{name}", Published(title, *_RANDOM5, _FROZEN, "table II", *scores)


def _system_key(corpus: str, system: str) -> str:
    return f"tbdm-300/{corpus}/{system}"


PUBLISHED: Mapping[str, Published] = MappingProxyType(
    dict([*_timnet(), *_tbdm(), *_quaternion(), *_frozen(), *_SINGLE.items()])
)
"""All published results by ``system/corpus`` or ``system/corpus/variant``."""


def published_gender_systems(corpus: str) -> dict[str, Published]:
    """Return the results of TBDM-Net's gender systems, by their names in its tables 5 and 6, in order.

    Args:
        corpus: ``ravdess`` or ``iemocap``; empty for others, without published results.
    """
    keys = {system: _system_key(corpus, system) for system in _GENDER_SYSTEMS}
    return {system: PUBLISHED[key] for system, key in keys.items() if key in PUBLISHED}
