"""Quaternion VGG16 on the embedding of RH-Emo (Guizzo et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import keras

from serzoo.checks import FLAG, one_of
from serzoo.errors import ConfigError
from serzoo.features.spec import FeatureSpec
from serzoo.layers.quaternion import QuaternionConv2D, QuaternionDense, QuaternionFlatten, QuaternionInitializer
from serzoo.models.base import FEATURES, SERModel, classifier_layer
from serzoo.models.rh_emo import POOLED_BINS, POOLED_FRAMES, RHEmoEncoder
from serzoo.models.vgg16 import CONVOLUTIONS, POOLED, check_vgg, connect, convolve, make_picture

RH_EMO = "rh_emo"
"""Name of the embedding by that model's encoder."""


@keras.saving.register_keras_serializable("serzoo")
class QVGG16(SERModel):
    """VGG16 with quaternions in all layers but the last, on RH-Emo's four axes of emotion as one quaternion.

    Takes magnitude spectra, (batch, n_frames, n_features, n_channels). The first layer normalises them by the
    training part's statistics. Frames of zeros pad each clip to ``n_frames_padded``. Returns class
    probabilities, (batch, n_classes). Its feature layers are the quaternion convolutions 1 to 13.

    Args, besides those of :class:`SERModel`:
        n_features: frequency bins, a multiple of 32; of 64 with the embedding.
        n_channels: values per bin: 1 with the embedding; without, a multiple of 4, blocks [r | i | j | k].
        n_frames_padded: frames after padding, a multiple of 32; of 256 with the embedding.
        embedding: ``"rh_emo"`` puts RH-Emo's encoder before the first convolution: four channels with an eighth of
            the frames and half the bins. It starts untrained; ``get_layer("encoder").set_weights`` takes the weights
            of the same layer in a trained RH-Emo. None takes quaternions as features.
        train_embedding: False freezes the encoder. Its batch normalisation then uses its stored statistics in
            training, too.
        width: as in :class:`~serzoo.models.vgg16.VGG16`.
        dropout: share of values zeroed in training after each hidden dense layer: single values, not whole quaternions.
        normalization: ``"maximum"`` (0..1, required by RH-Emo), ``"global"`` (mean 0 and variance 1 over all
            values), or None for normalised features.

    Source: Guizzo, Weyde, Tarroni and Comminiello, "Quaternion Anti-Transfer Learning for Speech Emotion
    Recognition", WASPAA 2023, section 3.1; its 1e7 parameters do not count the encoder's 256. Activations and poolings
    treat each component separately, as in the program. All quaternion kernels start by He's criterion, not by Glorot's
    as the program's convolutions: without batch normalisation, the signal would halve with every convolution.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        n_features: int = 128,
        n_channels: int = 1,
        n_frames: int | None = None,
        n_frames_padded: int = 512,
        embedding: str | None = RH_EMO,
        train_embedding: bool = True,
        width: float = 1.0,
        dropout: float = 0.5,
        normalization: str | None = "maximum",
        classifier_activation: str | None = "softmax",
        class_names: Sequence[str] | None = None,
        feature_spec: FeatureSpec | Mapping[str, object] | None = None,
        name: str = "qvgg16",
    ) -> None:
        pooled = (POOLED, POOLED) if embedding is None else (POOLED * POOLED_FRAMES, POOLED * POOLED_BINS)
        check_vgg(self, *pooled, embedding=one_of((RH_EMO, None)), train_embedding=FLAG)
        if embedding is None and n_channels % 4:
            raise ConfigError(
                f"n_channels is {n_channels}; without an embedding it must be a multiple of 4, "
                "the parts of quaternions."
            )
        if embedding is not None and n_channels != 1:
            raise ConfigError(f"n_channels is {n_channels}; the embedding takes 1, or set it to None.")

        he = QuaternionInitializer("he")
        inputs = keras.Input((n_frames, n_features, n_channels), name=FEATURES)
        picture = make_picture(inputs, normalization, n_frames_padded)
        if embedding is not None:
            encoder = RHEmoEncoder()
            encoder.trainable = train_embedding
            picture = encoder(picture)
        maps = convolve(picture, width, partial(QuaternionConv2D, kernel_initializer=he))
        flat = QuaternionFlatten(name="flat")(maps)
        hidden = connect(flat, width, dropout, partial(QuaternionDense, kernel_initializer=he))
        outputs = classifier_layer(n_classes, classifier_activation)(hidden)
        super().__init__(inputs, outputs, class_names=class_names, feature_spec=feature_spec, name=name)
        self.feature_layers = CONVOLUTIONS
