"""RH-Emo: an embedding of spectrograms with one channel per axis of emotion (Guizzo et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from serzoo.checks import COUNT, multiple_of, one_of
from serzoo.features.spec import FeatureSpec
from serzoo.labels import DIMENSIONS, EMOTION
from serzoo.layers.normalization import MaximumNormalization
from serzoo.layers.padding import PadFrames
from serzoo.layers.quaternion import QuaternionBatchNormalization, QuaternionConv2DTranspose
from serzoo.layers.recorded import RecordedLayer
from serzoo.models.base import EMBEDDING, FEATURES, PYTORCH_NORM, SERModel, classifier_layer

ENCODER = "encoder"
"""Name of the layer that computes the embedding."""

POOLED_FRAMES, POOLED_BINS = 8, 2
"""Frames and bins of a spectrogram per frame and bin of the embedding."""

SPECTROGRAM, RECONSTRUCTION = "spectrogram", "reconstruction"
"""Outputs of the training network besides the class and the three dimensions."""


@keras.saving.register_keras_serializable("serzoo")
class RHEmo(SERModel):
    """An encoder of spectrograms to four channels; the first is classified.

    Takes magnitude spectra, (batch, n_frames, n_features, 1). The first layer scales them to 0..1 by the training
    part's maximum. Frames of zeros pad each clip to ``n_frames_padded``. Returns class probabilities,
    (batch, n_classes), from the head on the embedding's first channel. :meth:`training_network` adds the decoder and
    the heads that train the other channels.

    The layer ``"encoder"`` returns the embedding, (batch, n_frames_padded / 8, n_features / 2, 4). Its channels are
    trained to predict discrete emotion, valence, arousal and dominance, in this order.

    Args, besides those of :class:`SERModel`:
        n_features: frequency bins, a multiple of 2.
        n_channels: values per bin: 1.
        n_frames_padded: frames after padding, a multiple of 8.
        head_width: size of both hidden dense layers of every head.
        dropout: after each hidden dense layer.
        normalization: ``"maximum"``, or None for features in 0..1.

    Source: Guizzo, Weyde, Scardapane and Comminiello, "Learning Speech Emotion Representations in the Quaternion
    Domain", IEEE/ACM Transactions on Audio, Speech, and Language Processing 31, 2023, and its program.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        n_features: int = 128,
        n_channels: int = 1,
        n_frames: int | None = None,
        n_frames_padded: int = 512,
        head_width: int = 4096,
        dropout: float = 0.5,
        normalization: str | None = "maximum",
        classifier_activation: str | None = "softmax",
        class_names: Sequence[str] | None = None,
        feature_spec: FeatureSpec | Mapping[str, object] | None = None,
        name: str = "rh_emo",
    ) -> None:
        self.check_arguments(
            n_features=multiple_of(POOLED_BINS),
            n_channels=one_of((1,)),
            n_frames_padded=multiple_of(POOLED_FRAMES),
            head_width=COUNT,
            normalization=one_of(("maximum", None)),
        )

        inputs = spectrogram = keras.Input((n_frames, n_features, n_channels), name=FEATURES)
        if normalization is not None:
            spectrogram = MaximumNormalization(name="normalization")(spectrogram)
        spectrogram = PadFrames(n_frames_padded, name=SPECTROGRAM)(spectrogram)
        embedding = RHEmoEncoder()(spectrogram)
        hidden = _hidden_layers(embedding[..., 0], head_width, dropout, names=("dense", EMBEDDING))
        outputs = classifier_layer(n_classes, classifier_activation, kernel_initializer="glorot_normal")(hidden)
        super().__init__(inputs, outputs, class_names=class_names, feature_spec=feature_spec, name=name)

    def training_network(self) -> keras.Model:
        """Return a model that shares the weights, with a new decoder and new heads for the other axes.

        Its outputs are a dictionary: ``"spectrogram"``, the encoder's input, and ``"reconstruction"``, both
        (batch, n_frames_padded, n_features, 1); ``"emotion"``, this model's output; ``"valence"``, ``"arousal"``
        and ``"dominance"``, probabilities of a high value, (batch, 1).
        """
        embedding = self.get_layer(ENCODER).output
        outputs = {
            SPECTROGRAM: self.get_layer(SPECTROGRAM).output,
            RECONSTRUCTION: _decode(embedding),
            EMOTION: self.output,
        }
        for channel, dimension in enumerate(DIMENSIONS, 1):
            names = (f"{dimension}_dense_1", f"{dimension}_dense_2")
            hidden = _hidden_layers(
                embedding[..., channel], self.arguments["head_width"], self.arguments["dropout"], names
            )
            outputs[dimension] = _dense(1, activation="sigmoid", name=dimension)(hidden)
        return keras.Model(self.input, outputs, name=f"{self.name}_training")


@keras.saving.register_keras_serializable("serzoo")
class RHEmoEncoder(RecordedLayer):
    """Three real convolutions, each followed by ReLU and pooling, with batch normalisation in between.

    Takes spectrograms in 0..1, (batch, frames, bins, 1), and returns their embedding, (batch, frames / 8,
    bins / 2, 4), not negative. A frozen layer normalises by its stored statistics in training, too.
    """

    def __init__(self, *, name: str = ENCODER) -> None:
        super().__init__(name=name)
        self.stages: list[keras.layers.Layer] = []
        convolve = partial(
            keras.layers.Conv2D, kernel_size=3, padding="same", activation="relu", kernel_initializer="glorot_normal"
        )
        for number, (channels, pool) in enumerate(((2, (2, 2)), (4, (2, 1)), (4, (2, 1))), 1):
            if number > 1:
                self.stages.append(keras.layers.BatchNormalization(**PYTORCH_NORM, name=f"norm_{number - 1}"))
            self.stages.append(convolve(channels, name=f"conv_{number}"))
            self.stages.append(keras.layers.MaxPooling2D(pool, name=f"pool_{number}"))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights of all stages."""
        for stage in self.stages:
            stage.build(input_shape)
            input_shape = stage.compute_output_shape(input_shape)

    def call(self, inputs: Any) -> Any:
        """Return the embedding."""
        maps = inputs
        for stage in self.stages:
            maps = stage(maps)
        return maps

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (batch, frames / 8, bins / 2, 4)."""
        for stage in self.stages:
            input_shape = stage.compute_output_shape(input_shape)
        return input_shape


def reconstruction_loss(outputs: Mapping[str, Any]) -> Any:
    """Return the binary cross-entropy of a batch's reconstruction, a mean over all bins, as Guizzo et al. compute it.

    The target is the spectrogram itself, clipped at 1: above 1 the cross-entropy has no minimum, and clips may be
    louder than the training part.
    """
    spectrogram = ops.minimum(outputs[SPECTROGRAM], 1.0)
    return ops.mean(ops.binary_crossentropy(spectrogram, outputs[RECONSTRUCTION]))


def emotion_loss(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    """Return the cross-entropy of a batch's class probabilities; the targets are one-hot, (batch, n_classes)."""
    return ops.mean(ops.categorical_crossentropy(targets[EMOTION], outputs[EMOTION]))


def dimension_loss(targets: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    """Return the sum of the binary cross-entropies of valence, arousal and dominance.

    Each is a mean over the clips whose target, (batch, 1), is known, 0 if there is none. Targets are 1 for high, 0 for
    low and NaN for unknown.
    """
    return sum(_known_crossentropy(targets[name], outputs[name]) for name in DIMENSIONS)


def _known_crossentropy(target: Any, output: Any) -> Any:
    """Return the mean binary cross-entropy over the clips whose target is not NaN, or 0."""
    known = ops.logical_not(ops.isnan(target))
    losses = ops.binary_crossentropy(ops.where(known, target, 0.0), output)
    n_known = ops.sum(ops.cast(known, losses.dtype))
    return ops.sum(ops.where(known, losses, 0.0)) / ops.maximum(n_known, 1.0)


def _decode(embedding: Any) -> Any:
    """Return the reconstructed spectrogram, the mean of the last quaternion's four parts."""
    maps = embedding
    for number in (1, 2):
        maps = _grow(strides=(2, 1), activation="relu", name=f"decoder_conv_{number}")(maps)
        maps = QuaternionBatchNormalization(name=f"decoder_norm_{number}")(maps)
    maps = _grow(strides=(2, 2), activation="sigmoid", name="decoder_conv_3")(maps)
    return ops.mean(maps, axis=-1, keepdims=True)


_grow = partial(QuaternionConv2DTranspose, 4, 3, padding="same")
"""A layer from a map of one quaternion to a larger one."""

_dense = partial(keras.layers.Dense, kernel_initializer="glorot_normal")
"""A dense layer with the program's initializer."""


def _hidden_layers(channel: Any, width: int, dropout: float, names: tuple[str, str]) -> Any:
    """Return the hidden values of a head, (batch, width), from one channel of the embedding."""
    hidden = keras.layers.Flatten(name=f"{names[0]}_flat")(channel)
    for name in names:
        hidden = _dense(width, activation="relu", name=name)(hidden)
        hidden = keras.layers.Dropout(dropout, name=f"{name}_dropout")(hidden)
    return hidden
