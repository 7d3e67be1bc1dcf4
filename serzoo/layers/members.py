"""The combination of several networks' outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from serzoo.layers.recorded import RecordedLayer, output_dtype


@keras.saving.register_keras_serializable("serzoo", "OpinionPool")  # its name in saved models
class LogitsAverage(RecordedLayer):
    """The mean of several networks' logits: the normalised geometric mean of their probabilities.

    The cross-entropy of the mean alone would train the networks jointly: they would stop learning as soon as their mean
    is right. In training the layer therefore adds the difference between the mean of the networks' own cross-entropies
    and the cross-entropy of the mean: ``-log sum_c prod_m p_mc^(1/M)``, averaged over the batch, 0 where the networks
    agree. Each network is then trained as if it were alone, as long as targets sum to 1 and clips have equal weights.

    Takes a list of logits, each (batch, n_classes), and returns (batch, n_classes).

    Args:
        activation: ``"softmax"`` for probabilities, or None for logits.

    Source: Heskes, "Selecting Weighting Factors in Logarithmic Opinion Pools", NIPS 10, 1997: the added loss is its
    ambiguity term, with equal weights.
    """

    def __init__(self, activation: str | None = "softmax", *, name: str | None = None) -> None:
        super().__init__(name=name, dtype=output_dtype())
        self.activation = activation

    def call(self, inputs: Sequence[Any], training: bool | None = None) -> Any:
        """Return the combined probabilities or logits, (batch, n_classes)."""
        if training and len(inputs) > 1:
            self.add_loss(-ops.mean(_log_agreement(inputs)))
        pooled = ops.mean(ops.stack(list(inputs)), axis=0)
        return keras.activations.softmax(pooled) if self.activation == "softmax" else pooled

    def compute_output_shape(self, input_shape: Sequence[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Return (batch, n_classes)."""
        return tuple(input_shape[0])


def _log_agreement(logits: Sequence[Any]) -> Any:
    """Return the logarithm of the sum of the geometric means of the networks' probabilities, (batch,), at most 0."""
    log_probabilities = ops.stack([ops.log_softmax(each, axis=-1) for each in logits])
    return ops.logsumexp(ops.mean(log_probabilities, axis=0), axis=-1)
