"""Training objectives: the cross-entropy of the classes, or a loss of several terms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from serzoo.data.examples import Examples
from serzoo.labels import EMOTION
from serzoo.models.base import SERModel

PREDICTION = "prediction"
"""Name of a training network's output that is the model's own."""


class Objective(ABC):
    """A loss of several terms, and the outputs of the network from which they are computed."""

    term_names: tuple[str, ...]
    """Names of the terms of the loss, in order."""

    takes_dimensions = False
    """Whether targets are a dictionary of classes and dimensions (:func:`serzoo.data.examples.network_targets`)."""

    def check(self, model: SERModel) -> None:
        """Raise SerzooError unless ``model`` can be trained with this objective; by default any can."""
        del model

    @abstractmethod
    def outputs(self, model: SERModel) -> dict[str, Any]:
        """Return the symbolic outputs of the network to train, all computed from ``model.input``.

        The model's own output is among them as :data:`PREDICTION` if WAR is to be logged during training.
        """

    @abstractmethod
    def terms(self, targets: Any, outputs: Mapping[str, Any], sample_weight: Any | None) -> tuple[Any, ...]:
        """Return the terms of a batch's loss, scalars in the order of their names; their sum is minimised."""

    @abstractmethod
    def fingerprint(self) -> bytes:
        """Return bytes that differ for objectives that lead to different weights."""

    def held_out_loss(self, network: keras.Model, examples: Examples, probabilities: np.ndarray) -> float:
        """Return the loss of a held-out part, by which epochs are compared: by default the classes' cross-entropy.

        Args:
            network: the network in training.
            examples: the held-out part.
            probabilities: the model's prediction for each clip, (N, n_classes).
        """
        return cross_entropy(network, examples, probabilities)


class TrainingNetwork(keras.Model):
    """A model with the outputs that its objective needs; it shares the model's layers, and so its weights.

    Each term of the objective is averaged over the epoch and logged under its name, on every backend.
    """

    def __init__(self, model: SERModel, objective: Objective) -> None:
        outputs = objective.outputs(model)
        super().__init__(model.input, outputs, name=f"{model.name}_training")
        self.objective = objective
        self.means = [keras.metrics.Mean(name=name) for name in objective.term_names]
        self.accuracies = [keras.metrics.CategoricalAccuracy(name="war")] if PREDICTION in outputs else []

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the sum of the objective's terms and of the losses that layers add, such as weight penalties."""
        del x, training
        outputs = keras.tree.map_structure(lambda output: ops.cast(output, "float32"), y_pred)  # for mixed precision
        terms = self.objective.terms(y, outputs, sample_weight)
        n_rows = ops.shape(class_targets(y))[0]
        for mean, term in zip(self.means, terms, strict=True):
            mean.update_state(term, sample_weight=n_rows)  # the last batch of an epoch may be smaller
        return sum(terms) + sum(self.losses)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the means over the epoch so far: the loss, its terms, and WAR if the prediction is an output."""
        del x, sample_weight
        for accuracy in self.accuracies:
            accuracy.update_state(class_targets(y), y_pred[PREDICTION])
        return self.get_metrics_result()


def probabilities(model: SERModel) -> Any:
    """Return the model's symbolic output as probabilities; logits go through softmax."""
    return model.output if model.classifier_activation is not None else ops.softmax(model.output)


def class_targets(targets: Any) -> Any:
    """Return the one-hot classes of targets with or without dimensions."""
    return targets[EMOTION] if isinstance(targets, Mapping) else targets


def cross_entropy(network: keras.Model, examples: Examples, probabilities: np.ndarray) -> float:
    """Return the mean cross-entropy of clips; the arguments are those of :meth:`Objective.held_out_loss`."""
    of_target = probabilities[np.arange(len(examples)), examples.targets]
    return float(-np.log(np.maximum(of_target, keras.config.epsilon())).mean())
