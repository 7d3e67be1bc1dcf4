"""VGG16 (Simonyan and Zisserman, 2015) on magnitude spectrograms, as trained by Guizzo et al. (2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras

from serzoo.checks import COUNT, POSITIVE, Allowed, multiple_of, one_of
from serzoo.features.spec import FeatureSpec
from serzoo.layers.normalization import GlobalNormalization, MaximumNormalization, Normalization
from serzoo.layers.padding import PadFrames
from serzoo.models.base import EMBEDDING, FEATURES, SERModel, classifier_layer

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of each block's convolutions, before its pooling: configuration D."""

CONVOLUTIONS = tuple(f"conv_{number}" for number in range(1, 14))
"""Names of the convolutions; their outputs include the ReLU."""

HIDDEN_UNITS = 4096
"""Width of both hidden dense layers."""

POOLED = 2 ** len(BLOCKS)
"""Frames and bins per output of all poolings together."""

NORMALIZATIONS: dict[str | None, type[Normalization]] = {"global": GlobalNormalization, "maximum": MaximumNormalization}
"""Mean 0 and variance 1 over all values; or magnitudes in 0..1."""

_WIDTH = Allowed(
    "a multiple of 1/16, such as 0.0625, 0.25 or 1.0, so that all numbers of channels are divisible by 4",
    lambda width: width in POSITIVE and BLOCKS[0][0] * width % 4 == 0,
)


@keras.saving.register_keras_serializable("serzoo")
class VGG16(SERModel):
    """Thirteen convolutions of 3x3 in five blocks, each followed by pooling, and three dense layers.

    Takes magnitude spectra, (batch, n_frames, n_features, n_channels). The first layer normalises them by the
    training part's statistics. Frames of zeros pad each clip to ``n_frames_padded``. Returns class
    probabilities, (batch, n_classes). Its feature layers are the convolutions 1 to 13.

    Args, besides those of :class:`SERModel`:
        n_features: frequency bins, a multiple of 32.
        n_channels: values per bin.
        n_frames_padded: frames after padding, a multiple of 32.
        width: factor of all channels and of both hidden dense layers; a multiple of 1/16, so that the numbers of
            channels stay divisible by 4.
        dropout: after each hidden dense layer.
        normalization: ``"global"`` (mean 0 and variance 1 over all values, as for the paper's real networks),
            ``"maximum"`` (0..1), or None for normalised features.

    Source: Guizzo, Weyde, Tarroni and Comminiello, "Quaternion Anti-Transfer Learning for Speech Emotion
    Recognition", WASPAA 2023, section 3.1; configuration D of Simonyan and Zisserman, "Very Deep Convolutional
    Networks for Large-Scale Image Recognition", 2015. The paper names torchvision's network, but states 1.6e8
    parameters, the number without the adaptive pooling before the dense layers; this model has no such pooling. All
    kernels before a ReLU start as in He et al. (2015): without batch normalisation, smaller ones let the signal vanish
    over thirteen convolutions.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        n_features: int = 128,
        n_channels: int = 1,
        n_frames: int | None = None,
        n_frames_padded: int = 512,
        width: float = 1.0,
        dropout: float = 0.5,
        normalization: str | None = "global",
        classifier_activation: str | None = "softmax",
        class_names: Sequence[str] | None = None,
        feature_spec: FeatureSpec | Mapping[str, object] | None = None,
        name: str = "vgg16",
    ) -> None:
        check_vgg(self)

        inputs = keras.Input((n_frames, n_features, n_channels), name=FEATURES)
        picture = make_picture(inputs, normalization, n_frames_padded)
        maps = convolve(picture, width, partial(keras.layers.Conv2D, kernel_initializer="he_normal"))
        flat = keras.layers.Flatten(name="flat")(maps)
        hidden = connect(flat, width, dropout, partial(keras.layers.Dense, kernel_initializer="he_normal"))
        outputs = classifier_layer(n_classes, classifier_activation)(hidden)
        super().__init__(inputs, outputs, class_names=class_names, feature_spec=feature_spec, name=name)
        self.feature_layers = CONVOLUTIONS


def make_picture(features: Any, normalization: str | None, n_frames: int) -> Any:
    """Return the normalised features, padded with zeros to ``n_frames`` frames."""
    if normalization is not None:
        features = NORMALIZATIONS[normalization](name="normalization")(features)
    return PadFrames(n_frames, name="padding")(features)


def convolve(picture: Any, width: float, convolution: Callable[..., keras.layers.Layer]) -> Any:
    """Return the maps after the last pooling, (batch, rows / 32, columns / 32, 512 width).

    ``convolution`` makes a layer, given channels, kernel size, padding, activation and name.
    """
    maps, names = picture, iter(CONVOLUTIONS)
    for block, (channels, n_convs) in enumerate(BLOCKS, 1):
        for _ in range(n_convs):
            maps = convolution(int(channels * width), 3, padding="same", activation="relu", name=next(names))(maps)
        maps = keras.layers.MaxPooling2D(2, name=f"pool_{block}")(maps)
    return maps


def connect(flat: Any, width: float, dropout: float, dense: Callable[..., keras.layers.Layer]) -> Any:
    """Return the classifier's input, (batch, 4096 width); ``dense`` makes a layer, given size, activation and name."""
    hidden = flat
    for name in ("dense", EMBEDDING):
        hidden = dense(int(HIDDEN_UNITS * width), activation="relu", name=name)(hidden)
        hidden = keras.layers.Dropout(dropout, name=f"{name}_dropout")(hidden)
    return hidden


def check_vgg(model: SERModel, pooled_frames: int = POOLED, pooled_bins: int = POOLED, **allowed: Allowed) -> None:
    """Check the arguments that real and quaternion VGG16 have in common, as :meth:`SERModel.check_arguments` does.

    ``pooled_frames`` and ``pooled_bins`` are those of one value before the dense layers.
    """
    model.check_arguments(
        **allowed,
        n_features=multiple_of(pooled_bins),
        n_channels=COUNT,
        n_frames_padded=multiple_of(pooled_frames),
        width=_WIDTH,
        normalization=one_of((*NORMALIZATIONS, None)),
    )
