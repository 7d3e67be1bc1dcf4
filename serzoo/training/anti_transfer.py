"""Anti-transfer: training away from a network that was trained on another task (Guizzo et al., 2021 and 2023)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from serzoo.classifier import Classifier
from serzoo.errors import ConfigError
from serzoo.features.spec import FeatureSpec
from serzoo.models.base import SERModel
from serzoo.training.objectives import ANSWER, Objective, probabilities

SIMILARITY = "similarity"
"""Output of the training network beside the answer: how alike the two networks' maps are, (batch,)."""

_TINY = 1e-12
"""Keeps maps of nothing but zeros from a division by zero; their similarity is 0."""


@dataclass(frozen=True, eq=False)
class AntiTransfer(Objective):
    """Cross-entropy of the classes plus ``beta`` times the similarity of one layer's maps with another network's.

    The other network is one of the same structure that was trained on an orthogonal task, such as telling speakers
    or words, whose features the model is to avoid. It is used whole, with its own normalisation and embedding, as it
    answers: nothing in it changes. Its weights are copied, so that it can be trained or thrown away meanwhile.

    Args:
        pretrained: the other network, or what :func:`serzoo.load` returns.
        layer: number of the feature layer, from 1 on; of VGG16 the convolution, behind its ReLU.
        beta: weight of the anti-transfer loss, greater than 0.

    Raises:
        ConfigError: ``beta`` is out of range. When training starts: no such layer, or networks of different structure.

    Source: Guizzo, Weyde, Tarroni and Comminiello, "Quaternion Anti-Transfer Learning for Speech Emotion
    Recognition", WASPAA 2023, equations 1 and 2. The Gram matrices are each clip's own, over all real channels. (The
    program of the first paper takes one over the batch, compares row by row, applies beta twice and taps the layer
    before; the layer 1 of its tables is the spectrogram, whose loss has no gradient.)
    """

    pretrained: SERModel
    layer: int = 2
    beta: float = 1.0

    term_names = ("cross_entropy", "anti_transfer")

    def __post_init__(self) -> None:
        if isinstance(self.pretrained, Classifier):
            object.__setattr__(self, "pretrained", self.pretrained.model)
        if isinstance(self.beta, bool) or not isinstance(self.beta, (int, float)) or not 0 < self.beta < np.inf:
            raise ConfigError(f"beta is {self.beta!r}; it must be a number greater than 0.")

    def check(self, model: SERModel) -> None:
        """Raise unless both networks are built alike, have that layer, and the other one has its statistics."""
        check_same_structure(model, self.pretrained, self.layer)
        self.pretrained.check_statistics()

    def outputs(self, model: SERModel) -> dict[str, Any]:
        """Return the answer and, for each clip, the similarity of both networks' maps."""
        self.check(model)
        copy = self.pretrained.without_training_state()
        extractor = keras.Model(copy.features_input, copy.feature_map(self.layer))
        maps = [model.feature_map(self.layer), FrozenNetwork(extractor, name="pretrained")(model.features_input)]
        return {ANSWER: probabilities(model), SIMILARITY: MapSimilarity(name=SIMILARITY)(maps)}

    def terms(self, targets: Any, outputs: Mapping[str, Any], sample_weight: Any | None) -> tuple[Any, Any]:
        """Return the mean cross-entropy, weighted if the classes are, and beta times the mean similarity."""
        losses = ops.categorical_crossentropy(targets, outputs[ANSWER])
        if sample_weight is not None:
            losses = losses * sample_weight
        return ops.mean(losses), self.beta * ops.mean(outputs[SIMILARITY])

    def fingerprint(self) -> bytes:
        """Return a hash of the settings and of the other network."""
        settings = json.dumps([self.layer, self.beta, self.pretrained.get_config()], sort_keys=True, default=str)
        content = hashlib.sha256(settings.encode())
        for weights in self.pretrained.get_weights():
            content.update(weights.tobytes())
        return content.digest()


class FrozenNetwork(keras.layers.Layer):
    """A network that is never trained and answers as in inference even while what is around it trains.

    Args:
        network: whose weights are marked as not trainable.
        name: Keras name of the layer.
    """

    def __init__(self, network: keras.Model, name: str | None = None) -> None:
        super().__init__(name=name, trainable=False)
        self.network = network
        self.network.trainable = False

    def call(self, inputs: Any) -> Any:
        """Return the network's output; its dropout stays off, its batch normalisation at its statistics."""
        return self.network(inputs, training=False)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the network's."""
        return self.network.compute_output_shape(input_shape)


class MapSimilarity(keras.layers.Layer):
    """The squared cosine between the Gram matrices of two maps; only the first gets a gradient.

    Takes two maps of one shape, (batch, ..., channels), and returns (batch,), in 0..1. The Gram matrix of a clip,
    (channels, channels), sums the products of two channels over all positions, so scale and order of the positions
    do not matter. A map of zeros is like nothing: 0. It is computed in float32 whatever the precision of the maps.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name, dtype="float32")

    def call(self, inputs: Any) -> Any:
        """Return the similarity of each clip's two maps."""
        trained, pretrained = gram_matrices(inputs[0]), gram_matrices(ops.stop_gradient(inputs[1]))
        product = _inner(trained, pretrained)
        return ops.square(product) / (_inner(trained, trained) * _inner(pretrained, pretrained) + _TINY)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None]:
        """Return (batch,)."""
        return (input_shape[0][0],)


def gram_matrices(maps: Any) -> Any:
    """Return each clip's Gram matrix of its channels, (batch, channels, channels), scaled to trace 1.

    Args:
        maps: (batch, ..., channels).
    """
    flat = ops.reshape(maps, (ops.shape(maps)[0], -1, maps.shape[-1]))
    energy = ops.stop_gradient(ops.sum(ops.square(flat), axis=(1, 2), keepdims=True))  # cancels in the cosine
    return ops.matmul(ops.transpose(flat, (0, 2, 1)), flat) / (energy + _TINY)


def check_same_structure(model: SERModel, pretrained: SERModel, layer: int) -> None:
    """Raise ConfigError unless both networks are built alike up to a feature layer and hear the same features.

    Args:
        model: the network to train.
        pretrained: the other one.
        layer: number of the feature layer, from 1 on.
    """
    kinds = [type(network).__name__ for network in (model, pretrained)]
    if kinds[0] != kinds[1]:
        raise ConfigError(
            f"Anti-transfer between {kinds[0]} and {kinds[1]}; the networks must be of one structure: "
            f"give a pretrained {kinds[0]}."
        )
    if not model.feature_layers:
        raise ConfigError(f"{model.name} names no feature layers, which anti-transfer compares; choose another model.")
    shapes = [_shapes_up_to(network, layer) for network in (model, pretrained)]
    if shapes[0] != shapes[1]:
        differing = {
            name: (value, pretrained.get_config().get(name))
            for name, value in model.get_config().items()
            if name not in ("name", "n_classes", "class_names", "feature_spec")
            and value != pretrained.get_config().get(name)
        }
        found = ", ".join(f"{name} {ours!r} and {theirs!r}" for name, (ours, theirs) in differing.items())
        raise ConfigError(
            f"Anti-transfer between two {model.name} of different structure up to feature layer {layer}"
            f" ({found or 'other sizes of frames'}); build both with the same arguments."
        )
    specs = [network.feature_spec for network in (model, pretrained)]
    if None not in specs and _heard(specs[0]) != _heard(specs[1]):  # type: ignore[arg-type]
        raise ConfigError(
            "Anti-transfer between networks that hear different features "
            f"({specs[0]} and {specs[1]}); train both on the same."
        )


def _shapes_up_to(network: SERModel, layer: int) -> list[tuple[int | None, ...]]:
    """Return the shapes of input, map and all weights that the map depends on."""
    feature_map = network.feature_map(layer)
    try:
        weights = keras.Model(network.features_input, feature_map).weights
    except ValueError:  # the map does not follow from the features alone
        raise ConfigError(
            f"{network.name}'s feature layer {layer} hears the speaker's gender too, and anti-transfer compares maps "
            "of features; set gender_columns to 0."
        ) from None
    return [network.features_shape[1:], tuple(feature_map.shape), *(tuple(weight.shape) for weight in weights)]


def _heard(spec: FeatureSpec) -> dict[str, object]:
    """Return what decides the frames of a feature, not how many of them a network gets."""
    return {name: value for name, value in spec.to_dict().items() if name not in ("n_samples", "segment_frames")}


def _inner(left: Any, right: Any) -> Any:
    """Return the inner products of matrices, (batch,)."""
    return ops.sum(left * right, axis=(1, 2))
