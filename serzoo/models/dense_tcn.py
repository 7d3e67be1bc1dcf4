"""DenseTCN, serzoo's own light model: dense dilated convolutions after a convolutional stem on log-mels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from serzoo.checks import COUNT, FLAG, NOT_NEGATIVE
from serzoo.features.spec import FeatureSpec
from serzoo.layers.augmentation import SpectrogramAugment
from serzoo.layers.loudness import ClipDynamicRange
from serzoo.layers.members import LogitsAverage
from serzoo.layers.pooling import AttentiveStatistics
from serzoo.models.base import EMBEDDING, SERModel, classifier_layer

_STEM = ((5, (2, 2)), (3, (2, 2)), (3, (1, 2)))
"""Kernel and strides, in time and over the bands, of the stem's convolutions."""

_RANGE = 14.0
"""Dynamic range of a clip, in natural logarithms of power (61 dB): lower values count as silence."""

_MOMENTUM = 0.9
"""Of the moving statistics: low, because they must follow the weights and an epoch has about thirty steps."""


@keras.saving.register_keras_serializable("serzoo")
class DenseTCN(SERModel):
    """A stem of strided convolutions over time and bands, densely connected dilated blocks, attentive pooling.

    The stem detects harmonics and formants at any band and keeps a quarter of the frames. Each block takes the outputs
    of all blocks before it, so the representation has time scales from three of the stem's frames to dozens. In
    training every clip is augmented, as if by another speaker or channel (:class:`SpectrogramAugment`).

    Members are networks side by side whose logits are averaged. Each has its own augmentation and its own loss
    (:class:`LogitsAverage`).

    Takes log-mel frames, (batch, n_frames, n_features, n_channels), and uses the first channel only: the convolutions
    learn differences over time. Returns class probabilities, (batch, n_classes).

    Args, besides those of :class:`SERModel`:
        n_features: mel bands.
        n_channels: values per mel band: the log-mel and any others.
        n_blocks: dilated blocks; block j has dilation rate 2^(j-1).
        filters: channels of every block.
        stem_filters: channels of the stem's first convolution; the second has twice, the third three times as many.
        kernel_size: taps of the dilated convolutions.
        heads: attentive means over time.
        dropout: share of a block's channels zeroed in training, in [0, 1); half of it after the stem, twice as much,
            but at most 0.9, before the classifier.
        augment: strength of the augmentation in training, at least 0: 1 for unseen speakers, less for seen ones, 0 for
            none.
        members: number of networks whose logits are averaged; each has as many weights as a single network.

    Source: serzoo. Dense connections as in TBDM-Net (Striletchi et al., 2024), attentive statistics as in Okabe et al.,
    Interspeech 2018.
    """

    min_frames = 5
    """The stem leaves two of five frames, the fewest over which attention and deviation make sense."""

    def __init__(
        self,
        *,
        n_classes: int,
        n_features: int = 64,
        n_channels: int = 3,
        n_frames: int | None = None,
        n_blocks: int = 4,
        filters: int = 96,
        stem_filters: int = 16,
        kernel_size: int = 3,
        heads: int = 4,
        dropout: float = 0.1,
        augment: float = 1.0,
        members: int = 1,
        classifier_activation: str | None = "softmax",
        class_names: Sequence[str] | None = None,
        feature_spec: FeatureSpec | Mapping[str, object] | None = None,
        name: str = "dense_tcn",
    ) -> None:
        counts = ("n_features", "n_channels", "n_blocks", "filters", "stem_filters", "kernel_size", "heads", "members")
        self.check_arguments(**dict.fromkeys(counts, COUNT), augment=NOT_NEGATIVE | FLAG)

        inputs = keras.Input((n_frames, n_features, n_channels), name="features")
        bands = ClipDynamicRange(_RANGE, name="floor")(inputs[..., 0])
        prefixes = [""] if members == 1 else [f"member_{number}_" for number in range(1, members + 1)]
        pooled = [_pooled(bands, self.arguments, prefix) for prefix in prefixes]
        embedding = pooled[0] if members == 1 else keras.layers.Concatenate(name=EMBEDDING)(pooled)
        dropped = keras.layers.Dropout(min(2 * dropout, 0.9))(embedding)
        if members == 1:
            outputs = classifier_layer(n_classes, classifier_activation)(dropped)
        else:
            shares = zip(prefixes, keras.ops.split(dropped, members, axis=-1), strict=True)
            logits = [classifier_layer(n_classes, None, name=f"{prefix}classifier")(share) for prefix, share in shares]
            outputs = LogitsAverage(classifier_activation, name="classifier")(logits)
        super().__init__(inputs, outputs, class_names=class_names, feature_spec=feature_spec, name=name)
        numbers = range(1, n_blocks + 1)
        self.feature_layers = tuple(f"{prefix}block_{number}" for prefix in prefixes for number in numbers)


def _pooled(bands: Any, arguments: Mapping[str, Any], prefix: str) -> Any:
    """Return a member's pooled representation, (batch, width), of log-mels (batch, frames, bands)."""
    filters, dropout = arguments["filters"], arguments["dropout"]
    if arguments["augment"]:
        bands = SpectrogramAugment(strength=float(arguments["augment"]), name=f"{prefix}augment")(bands)
    hidden = _stem(bands, arguments["stem_filters"], dropout / 2, prefix)
    entry = keras.layers.Conv1D(filters, 1, use_bias=False, name=f"{prefix}entry_conv")
    hidden = _unit(entry(hidden), f"{prefix}entry")
    states = _blocks(hidden, arguments["n_blocks"], filters, arguments["kernel_size"], dropout, prefix)
    return AttentiveStatistics(heads=arguments["heads"], name=prefix + EMBEDDING)(states)


def _stem(bands: Any, filters: int, dropout: float, prefix: str) -> Any:
    """Return the stem's output, (batch, frames / 4, channels x bands / 8), for (batch, frames, bands)."""
    layers = keras.layers
    normalize = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{prefix}band_norm")  # per band
    hidden = keras.ops.expand_dims(normalize(bands), -1)
    for number, (kernel, strides) in enumerate(_STEM, 1):
        convolve = layers.Conv2D(
            number * filters, kernel, strides, padding="same", use_bias=False, name=f"{prefix}stem_{number}_conv"
        )
        hidden = _unit(convolve(hidden), f"{prefix}stem_{number}")
    hidden = layers.SpatialDropout2D(dropout, name=f"{prefix}stem_dropout")(hidden)
    return layers.Reshape((-1, hidden.shape[2] * hidden.shape[3]), name=f"{prefix}stem")(hidden)


def _blocks(hidden: Any, n_blocks: int, filters: int, kernel_size: int, dropout: float, prefix: str) -> Any:
    """Return the concatenated outputs of all blocks, (batch, time, n_blocks x filters)."""
    layers, states = keras.layers, [hidden]
    for number in range(1, n_blocks + 1):
        name = f"{prefix}block_{number}"
        taken = states[0]
        if len(states) > 1:
            joined = layers.Concatenate(name=f"{name}_joined")(states)
            taken = _unit(layers.Conv1D(filters, 1, use_bias=False, name=f"{name}_reduce")(joined), f"{name}_reduce")
        dilation = 2 ** (number - 1)
        convolve = layers.Conv1D(
            filters, kernel_size, dilation_rate=dilation, padding="same", use_bias=False, name=f"{name}_conv"
        )
        states.append(layers.SpatialDropout1D(dropout, name=name)(_unit(convolve(taken), name)))
    return states[1] if n_blocks == 1 else layers.Concatenate(name=f"{prefix}blocks")(states[1:])


def _unit(convolved: Any, name: str) -> Any:
    """Normalise over the batch and rectify."""
    normalized = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_norm")(convolved)
    return keras.layers.Activation("relu", name=f"{name}_relu")(normalized)
