"""RH-Emo's loss: reconstruction, classes, and valence, arousal and dominance where they are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from serzoo.data.examples import Examples, network_targets
from serzoo.errors import ConfigError
from serzoo.labels import EMOTION
from serzoo.models.base import SERModel
from serzoo.models.rh_emo import RECONSTRUCTION, SPECTROGRAM, dimension_loss, emotion_loss, reconstruction_loss
from serzoo.training.objectives import PREDICTION, Objective, probabilities


@dataclass(frozen=True, eq=False)
class EmotionalReconstruction(Objective):
    """``alpha R + beta (beta_class C + beta_vad (V + A + D))``, the loss of RH-Emo.

    Args:
        network: the model's ``training_network()``; the same one in both stages of a training, so that the second
            starts from the decoder of the first.
        alpha: weight of the reconstruction.
        beta: weight of the recognition; 0 in the first stage, which trains encoder and decoder alone.
        beta_class: weight of the classes within it.
        beta_vad: weight of valence, arousal and dominance within it.

    Source: the program of Guizzo et al. (2023), with the weights of its second stage.
    """

    network: keras.Model
    alpha: float = 1.0
    beta: float = 0.01
    beta_class: float = 1.0
    beta_vad: float = 100.0

    takes_dimensions = True

    @property
    def term_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The reconstruction, and in the second stage the classes and the dimensions as well."""
        return ("reconstruction", "classes", "dimensions") if self.beta else ("reconstruction",)

    def check(self, model: SERModel) -> None:
        """Raise ConfigError unless ``network`` was made from ``model``."""
        if self.network.input is not model.input:
            raise ConfigError(f"The reconstruction network is not {model.name}'s; give model.training_network().")

    def outputs(self, model: SERModel) -> dict[str, Any]:
        """Return the outputs from which the terms are computed."""
        self.check(model)
        outputs = self.network.output
        if self.beta:
            prediction = probabilities(model)
            return {**outputs, EMOTION: prediction, PREDICTION: prediction}
        return {name: outputs[name] for name in (SPECTROGRAM, RECONSTRUCTION)}

    def terms(self, targets: Any, outputs: Mapping[str, Any], sample_weight: Any | None) -> tuple[Any, ...]:
        """Return the weighted terms of a batch."""
        del sample_weight  # fit() refuses class weights here
        reconstruction = self.alpha * reconstruction_loss(outputs)
        if not self.beta:
            return (reconstruction,)
        classes = self.beta * self.beta_class * emotion_loss(targets, outputs)
        return reconstruction, classes, self.beta * self.beta_vad * dimension_loss(targets, outputs)

    def fingerprint(self) -> bytes:
        """Return the weights of the terms."""
        return json.dumps([self.alpha, self.beta, self.beta_class, self.beta_vad]).encode()

    def held_out_loss(self, network: keras.Model, examples: Examples, probabilities: np.ndarray) -> float:
        """Return the whole loss as a mean over segments, as the paper's program computes it."""
        del probabilities
        targets = network_targets(examples, with_dimensions=True)
        rows = {name: np.repeat(values, examples.counts, axis=0) for name, values in targets.items()}
        return float(network.evaluate(examples.inputs(), rows, batch_size=32, verbose=0, return_dict=True)["loss"])
