"""The zoo's models: one file each, one line here.

The classes are named by module path so that listing the models loads neither Keras nor TensorFlow.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


MODELS: Registry[ModelEntry] = Registry("model")
MODELS.register(
    "timnet",
    ModelEntry(
        "serzoo.models.timnet:TIMNet",
        "temporal-aware bi-direction multi-scale network on MFCCs, 0.1 M parameters",
        "Ye et al., Temporal Modeling Matters, ICASSP 2023",
    ),
)
MODELS.register(
    "tbdm",
    ModelEntry(
        "serzoo.models.tbdm:TBDMNet",
        "temporally-aware bi-directional dense multi-scale network on MFCCs, 16.8 M parameters",
        "Striletchi, Striletchi and Stan, TBDM-Net, 2024",
    ),
)
MODELS.register(
    "acrnn",
    ModelEntry(
        "serzoo.models.acrnn:ACRNN",
        "convolutions, BiLSTM and self-attention on log-mels, with the speaker's gender, 9.3 M parameters",
        "Bhushan et al., A Self-Attention Based Hybrid CNN-LSTM, 2022",
    ),
)
MODELS.register(
    "vgg16",
    ModelEntry(
        "serzoo.models.vgg16:VGG16",
        "thirteen convolutions on magnitude spectrograms, 165.7 M parameters",
        "Guizzo et al., Quaternion Anti-Transfer Learning, WASPAA 2023",
    ),
)
MODELS.register(
    "qvgg16",
    ModelEntry(
        "serzoo.models.qvgg16:QVGG16",
        "VGG16 of quaternions behind the embedding of RH-Emo, 10.0 M parameters",
        "Guizzo et al., Quaternion Anti-Transfer Learning, WASPAA 2023",
    ),
)
MODELS.register(
    "rh_emo",
    ModelEntry(
        "serzoo.models.rh_emo:RHEmo",
        "encoder of spectrograms to four channels, one per axis of emotion, with 33.6 M parameters in its head",
        "Guizzo et al., Learning Speech Emotion Representations in the Quaternion Domain, 2023",
    ),
)
MODELS.register(
    "embedding_dnn",
    ModelEntry(
        "serzoo.models.embedding_dnn:EmbeddingDNN",
        "three halving layers on an embedding of the recording, 25 thousand parameters for 192 values",
        "Stanea et al., An Analysis of Large Speech Models-Based Representations, 2023",
    ),
)
MODELS.register(
    "dense_tcn",
    ModelEntry(
        "serzoo.models.dense_tcn:DenseTCN",
        "dense dilated convolutions on log-mels with speaker-like augmentation in training, 0.3 M parameters",
        "serzoo",
    ),
)
