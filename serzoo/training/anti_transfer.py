"""Anti-transfer learning: avoid the features of a network trained on another task (Guizzo et al., 2021 and 2023)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from serzoo.checks import POSITIVE, check
from serzoo.classifier import Classifier
from serzoo.errors import ConfigError
from serzoo.models.base import SERModel
from serzoo.training.objectives import PREDICTION, Objective, probabilities

SIMILARITY = "similarity"
"""Name of the training network's second output, the similarity of the two networks' maps, (batch,)."""

_TINY = 1e-12
"""Avoids a division by zero for maps of zeros; their similarity is 0."""


@dataclass(frozen=True, eq=False)
class AntiTransfer(Objective):
    """Cross-entropy of the classes plus ``beta`` times the similarity of one layer's maps in two networks.

    The second network has the same structure and was trained on an orthogonal task, such as speaker or word
    recognition. It runs in inference mode with its own normalisation and embedding, and is not trained. Its weights
    are copied, so the original may be trained further or deleted.

    Args:
        pretrained: the second network, or a loaded :class:`~serzoo.classifier.Classifier`.
        layer: number of the feature layer, from 1 on; for VGG16 the convolution, after its ReLU.
        beta: weight of the anti-transfer loss, greater than 0.

    Raises:
        ConfigError: ``beta`` is out of range. When training starts: no such layer, or networks of different structure.

    Source: Guizzo, Weyde, Tarroni and Comminiello, "Quaternion Anti-Transfer Learning for Speech Emotion
    Recognition", WASPAA 2023, equations 1 and 2. There is one Gram matrix per clip, over all real channels. (The
    program of the first paper computes one per batch, compares row by row, applies beta twice and uses the layer
    before; layer 1 of its tables is the spectrogram, whose loss has no gradient.)
    """

    pretrained: SERModel
    layer: int = 2
    beta: float = 1.0

    term_names = ("cross_entropy", "anti_transfer")

    def __post_init__(self) -> None:
        if isinstance(self.pretrained, Classifier):
            object.__setattr__(self, "pretrained", self.pretrained.model)
        check("beta", self.beta, POSITIVE)

    def check(self, model: SERModel) -> None:
        """Raise unless both networks share a structure with that layer, and ``pretrained`` has its statistics."""
        check_same_structure(model, self.pretrained, self.layer)
        self.pretrained.check_statistics()

    def outputs(self, model: SERModel) -> dict[str, Any]:
        """Return the model's prediction and, for each clip, the similarity of both networks' maps."""
        self.check(model)
        copy = self.pretrained.without_training_state()
        extractor = keras.Model(copy.features_input, copy.feature_map(self.layer))
        maps = [model.feature_map(self.layer), FrozenNetwork(extractor, name="pretrained")(model.features_input)]
        return {PREDICTION: probabilities(model), SIMILARITY: MapSimilarity(name=SIMILARITY)(maps)}

    def terms(self, targets: Any, outputs: Mapping[str, Any], sample_weight: Any | None) -> tuple[Any, Any]:
        """Return the mean cross-entropy, weighted if the classes are, and beta times the mean similarity."""
        losses = ops.categorical_crossentropy(targets, outputs[PREDICTION])
        if sample_weight is not None:
            losses = losses * sample_weight
        return ops.mean(losses), self.beta * ops.mean(outputs[SIMILARITY])

    def fingerprint(self) -> bytes:
        """Return a hash of the settings and of the pretrained network."""
        settings = json.dumps([self.layer, self.beta, self.pretrained.get_config()], sort_keys=True, default=str)
        content = hashlib.sha256(settings.encode())
        for weights in self.pretrained.get_weights():
            content.update(weights.tobytes())
        return content.digest()


class FrozenNetwork(keras.layers.Layer):
    """A network that is not trained and runs in inference mode even while the model around it trains."""

    def __init__(self, network: keras.Model, name: str | None = None) -> None:
        super().__init__(name=name, trainable=False)
        self.network = network
        self.network.trainable = False

    def call(self, inputs: Any) -> Any:
        """Return the network's output, without dropout and with the stored statistics of batch normalisation."""
        return self.network(inputs, training=False)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the network's output; JAX cannot infer it for any number of frames."""
        return self.network.compute_output_shape(input_shape)


class MapSimilarity(keras.layers.Layer):
    """The squared cosine between the Gram matrices of two maps; only the first gets a gradient.

    Takes two maps of one shape, (batch, ..., channels), and returns (batch,), in 0..1. The Gram matrix of a clip,
    (channels, channels), sums the products of two channels over all positions, so scale and order of the positions
    do not matter. The similarity of a map of zeros is 0. Computed in float32 whatever the precision of the maps.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name, dtype="float32")

    def call(self, inputs: Any) -> Any:
        """Return the similarity of each clip's two maps."""
        trained, pretrained = gram_matrices(inputs[0]), gram_matrices(ops.stop_gradient(inputs[1]))

        def inner(left: Any, right: Any) -> Any:
            return ops.sum(left * right, axis=(1, 2))

        energies = inner(trained, trained) * inner(pretrained, pretrained)
        return ops.square(inner(trained, pretrained)) / (energies + _TINY)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None]:
        """Return (batch,)."""
        return (input_shape[0][0],)


def gram_matrices(maps: Any) -> Any:
    """Return the clips' Gram matrices, (batch, channels, channels), of trace 1, from maps, (batch, ..., channels)."""
    flat = ops.reshape(maps, (ops.shape(maps)[0], -1, maps.shape[-1]))
    # The scale keeps the products of large maps within float32. It cancels in the cosine, so it needs no gradient.
    energy = ops.stop_gradient(ops.sum(ops.square(flat), axis=(1, 2), keepdims=True))
    return ops.matmul(ops.transpose(flat, (0, 2, 1)), flat) / (energy + _TINY)


def check_same_structure(model: SERModel, pretrained: SERModel, layer: int) -> None:
    """Raise ConfigError unless both networks have the same layers up to a feature layer and take the same features."""
    kinds = [type(network).__name__ for network in (model, pretrained)]
    if kinds[0] != kinds[1]:
        raise ConfigError(
            f"Anti-transfer between {kinds[0]} and {kinds[1]}; the networks must be of one structure: "
            f"give a pretrained {kinds[0]}."
        )
    if not model.feature_layers:
        raise ConfigError(f"{model.name} names no feature layers for anti-transfer to compare; choose another model.")
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
    settings = [{} if spec is None else {**spec.to_dict(), "n_samples": 0, "segment_frames": 0} for spec in specs]
    if None not in specs and settings[0] != settings[1]:  # the number of frames may differ
        raise ConfigError(
            f"Anti-transfer between networks with different features ({specs[0]} and {specs[1]}); train both on the "
            "same features."
        )


def _shapes_up_to(network: SERModel, layer: int) -> list[tuple[int | None, ...]]:
    """Return the shapes of the input, the map and all weights that the map depends on."""
    feature_map = network.feature_map(layer)
    try:
        weights = keras.Model(network.features_input, feature_map).weights
    except ValueError:  # the map does not follow from the features alone
        raise ConfigError(
            f"{network.name}'s feature layer {layer} depends on the gender input too, but anti-transfer compares maps "
            "of features alone; set gender_columns to 0."
        ) from None
    return [network.features_shape[1:], tuple(feature_map.shape), *(tuple(weight.shape) for weight in weights)]
