"""ACRNN with self-attention and the speaker's gender (Bhushan et al., 2022; Chen et al., 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from serzoo.checks import COUNT, FLAG, Allowed, integer, list_of, one_of
from serzoo.errors import ConfigError
from serzoo.features.spec import FeatureSpec
from serzoo.layers.attention import AttentionPooling, DotProductAttention, SelfAttention
from serzoo.layers.gender import GenderEmbedding
from serzoo.layers.normalization import FrameNormalization
from serzoo.models.base import EMBEDDING, FEATURES, GENDER, SERModel, classifier_layer

KERNEL_SIZE = (5, 3)
"""Frames and mel bands under every convolution."""

TIME_POOL = 2
"""Frames per output frame of the pooling after the first convolution."""

SLOPE = 0.01
"""Slope of the leaky ReLU below zero."""

MOMENTUM = 0.9
"""Of the batch normalisation's moving statistics: a batch has thousands of frames, so a few batches are enough.

The program normalises by the batch's statistics in evaluation too, so its predictions depend on a clip's neighbours.
"""

_FILTERS = Allowed(
    "two integers of at least 1: for the first convolution and for the others",
    lambda filters: filters in list_of(COUNT) and len(filters) == 2,
)


@keras.saving.register_keras_serializable("serzoo")
class ACRNN(SERModel):
    """Convolutions over time and mel bands, a bidirectional LSTM, attention, and the speaker's gender.

    Takes log-mel frames with their deltas as channels, (batch, n_frames, n_features, n_channels). The first
    layer normalises them by the training part's statistics. With ``gender``, the inputs are a dictionary of
    ``features`` and ``gender``, the probability that the speaker is male, (batch, 1) in 0..1. Returns class
    probabilities, (batch, n_classes). Padding counts as frames everywhere but in the normalisation.

    Args, besides those of :class:`SERModel`:
        n_features: mel bands, at least ``pool_freq``.
        n_channels: values per mel band: static, delta and delta-delta.
        n_convs: convolutions of 5 frames x 3 bands.
        filters: channels of the first convolution and of all others.
        pool_freq: bands per output band of the pooling after the first convolution; 2 in the papers, 4 in
            the program. Over time the pooling is always 2.
        projection: width of the linear layer between convolutions and LSTM.
        lstm_units: width of each direction.
        attention: ``"self"`` (within a window, relu scores, then the mean over time; the paper's model 2),
            ``"pooling"`` (a weighted mean over time; model 1) or ``"dot_product"`` (the paper's equations
            4 to 7, then the mean over time).
        attention_impl: of ``"self"``: ``"native"``, or ``"library"`` for the layer of keras-self-attention,
            on TensorFlow only. Both compute the same, with the same weights.
        attention_width: frames (after pooling) in a window of ``"self"``; None takes all.
        gender: False builds the model without gender input.
        dense_units: width of the dense layer before the classifier.
        batch_norm: ``"projection"`` normalises the linear layer's output (as the program does), ``"dense"``
            the dense layer's (as Chen et al. write), None normalises neither.
        dropout: after each convolution and the dense layer.
        normalization: ``"real-frames"`` takes the statistics over real frames and keeps padding zero,
            ``"all-frames"`` treats padding as frames (as the program does), None takes normalised features.

    Raises:
        ConfigError: also if ``attention_impl`` is ``"library"`` on another backend.

    Source: Bhushan et al., "A Self-Attention Based Hybrid CNN-LSTM for Speaker-Independent Speech Emotion
    Recognition", 2022, on top of Chen, He, Yang and Zhang, "3-D Convolutional Recurrent Neural Networks with
    Attention Model for Speech Emotion Recognition", 2018; where both are silent, its program.
    Kernels before a leaky ReLU start as in He et al. (2015). With the program's fixed deviation of 0.1, the
    activations grow about fourfold per convolution.
    """

    min_frames = TIME_POOL

    def __init__(
        self,
        *,
        n_classes: int,
        n_features: int = 40,
        n_channels: int = 3,
        n_frames: int | None = None,
        n_convs: int = 6,
        filters: Sequence[int] = (128, 256),
        pool_freq: int = 2,
        projection: int = 768,
        lstm_units: int = 128,
        attention: str = "self",
        attention_impl: str = "native",
        attention_width: int | None = 15,
        gender: bool = True,
        dense_units: int = 64,
        batch_norm: str | None = "projection",
        dropout: float = 0.0,
        normalization: str | None = "real-frames",
        classifier_activation: str | None = "softmax",
        class_names: Sequence[str] | None = None,
        feature_spec: FeatureSpec | Mapping[str, object] | None = None,
        name: str = "acrnn",
    ) -> None:
        counts = ("n_channels", "n_convs", "pool_freq", "projection", "lstm_units", "dense_units")
        self.check_arguments(
            **dict.fromkeys(counts, COUNT),
            n_features=integer(at_least=pool_freq),
            attention_width=COUNT | one_of((None,)),
            filters=_FILTERS,
            gender=FLAG,
            attention=one_of(("self", "pooling", "dot_product")),
            attention_impl=one_of(("native", "library")),
            batch_norm=one_of(("projection", "dense", None)),
            normalization=one_of(("real-frames", "all-frames", None)),
        )

        inputs = features = keras.Input((n_frames, n_features, n_channels), name=FEATURES)
        if normalization is not None:
            features = FrameNormalization(include_padding=normalization == "all-frames", name="normalization")(features)
        frames = _convolve(features, n_convs, filters, pool_freq, dropout)
        frames = _project(frames, projection, normalize=batch_norm == "projection")
        lstm = keras.layers.LSTM(lstm_units, return_sequences=True, name="lstm")
        frames = keras.layers.Bidirectional(lstm, name="bilstm")(frames)
        utterance = _attend(frames, attention, attention_impl, attention_width)
        if gender:
            male = keras.Input((1,), name=GENDER)
            inputs = {FEATURES: inputs, GENDER: male}
            vector = GenderEmbedding(width=300, name="gender_embedding")(male)
            vector = keras.layers.Flatten(name="gender_vector")(keras.layers.Dense(64, name="gender_dense")(vector))
            utterance = keras.layers.Concatenate(name="utterance_and_gender")([utterance, vector])
        hidden = keras.layers.Dense(dense_units, kernel_initializer="he_normal", name="dense")(utterance)
        if batch_norm == "dense":
            hidden = keras.layers.BatchNormalization(momentum=MOMENTUM, name="dense_norm")(hidden)
        embedding = keras.layers.LeakyReLU(SLOPE, name=EMBEDDING)(hidden)
        embedding = keras.layers.Dropout(dropout, name="dense_dropout")(embedding)
        outputs = classifier_layer(n_classes, classifier_activation)(embedding)
        super().__init__(inputs, outputs, class_names=class_names, feature_spec=feature_spec, name=name)
        self.feature_layers = tuple(f"conv_{number}_activation" for number in range(1, n_convs + 1))


def _convolve(features: Any, n_convs: int, filters: Sequence[int], pool_freq: int, dropout: float) -> Any:
    """Return the convolutions' output, (batch, n_frames // 2, n_features // pool_freq, filters[1])."""
    hidden = features
    for number in range(1, n_convs + 1):
        channels = filters[0] if number == 1 else filters[1]
        hidden = keras.layers.Conv2D(
            channels, KERNEL_SIZE, padding="same", kernel_initializer="he_normal", name=f"conv_{number}"
        )(hidden)
        hidden = keras.layers.LeakyReLU(SLOPE, name=f"conv_{number}_activation")(hidden)
        if number == 1:
            hidden = keras.layers.MaxPooling2D((TIME_POOL, pool_freq), name="pool")(hidden)
        hidden = keras.layers.Dropout(dropout, name=f"conv_{number}_dropout")(hidden)
    return hidden


def _project(hidden: Any, units: int, normalize: bool) -> Any:
    """Project each frame's bands and channels to ``units`` values, (batch, time, units)."""
    _, n_frames, n_bands, n_channels = hidden.shape
    frames = keras.layers.Reshape((n_frames or -1, n_bands * n_channels), name="frames")(hidden)
    frames = keras.layers.Dense(units, kernel_initializer="he_normal", name="projection")(frames)
    if normalize:
        frames = keras.layers.BatchNormalization(momentum=MOMENTUM, name="projection_norm")(frames)
    return keras.layers.LeakyReLU(SLOPE, name="projection_activation")(frames)


def _attend(frames: Any, attention: str, implementation: str, width: int | None) -> Any:
    """Pool an utterance's frames to one vector, (batch, channels)."""
    if attention == "pooling":
        return AttentionPooling(name="attention")(frames)
    layer = _self_attention(implementation, width) if attention == "self" else DotProductAttention(name="attention")
    return keras.layers.GlobalAveragePooling1D(name="mean")(layer(frames))


def _self_attention(implementation: str, width: int | None) -> keras.layers.Layer:
    """Return the paper's self-attention, this package's or the library's."""
    if implementation == "native":
        return SelfAttention(width=width, activation="relu", name="attention")
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"attention_impl is 'library'; it needs TensorFlow, but Keras runs on {keras.backend.backend()}; "
            "choose 'native': it takes the same weights."
        )
    from keras_self_attention import SeqSelfAttention

    return SeqSelfAttention(attention_width=width, attention_activation="relu", name="attention")
