"""Networks that answer together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("serzoo", "OpinionPool")  # its name in saved models
class LogitsAverage(keras.layers.Layer):
    """The mean of several networks' logits: the normalised geometric mean of their probabilities.

    The cross-entropy of that mean alone would train the networks to be right together, and they would stop as soon as
    their mean is. In training the layer therefore adds what is missing to the mean of the networks' own
    cross-entropies: ``-log sum_c prod_m p_mc^(1/M)``, the mean over the batch, which is 0 where they agree. They are
    then trained as if each were alone, as long as targets sum to 1 and clips weigh the same.

    Takes a list of logits, each (batch, n_classes), and returns (batch, n_classes).

    Args:
        activation: ``"softmax"`` for probabilities, or None for logits.
        name: Keras name of the layer.

    Source: Heskes, "Selecting Weighting Factors in Logarithmic Opinion Pools", NIPS 10, 1997: what is added is the
    ambiguity there, with equal weights.
    """

    def __init__(self, activation: str | None = "softmax", *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.activation = activation

    def call(self, inputs: Sequence[Any], training: bool | None = None) -> Any:
        """Return what the networks answer together."""
        if training and len(inputs) > 1:
            self.add_loss(-ops.mean(_log_agreement(inputs)))
        pooled = ops.mean(ops.stack(list(inputs)), axis=0)
        return keras.activations.softmax(pooled) if self.activation == "softmax" else pooled

    def compute_output_shape(self, input_shape: Sequence[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Return (batch, n_classes)."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {"name": self.name, "activation": self.activation}


def _log_agreement(logits: Sequence[Any]) -> Any:
    """Return the logarithm of the sum of the geometric means of the networks' probabilities, (batch,), at most 0."""
    opinions = ops.stack([ops.log_softmax(opinion, axis=-1) for opinion in logits])
    return ops.logsumexp(ops.mean(opinions, axis=0), axis=-1)
