"""Pooling of an utterance's frames to one vector."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from serzoo.layers.recorded import RecordedLayer

VARIANCE_FLOOR = 1e-5
"""Keeps the root of a variance, and its gradient, finite where a channel does not vary."""


@keras.saving.register_keras_serializable("serzoo")
class AttentiveStatistics(RecordedLayer):
    """Means over the frames that several heads attend to, and mean and standard deviation over all frames.

    A head weights frames by ``softmax_t(v . tanh(W x_t + b))``, so that silence and padding can count less than speech.

    Takes (batch, time, channels) and returns (batch, (heads + 2) x channels).

    Args:
        heads: number of weighted means.
        units: hidden units of the attention.

    Source: Okabe et al., "Attentive Statistics Pooling for Deep Speaker Embedding", Interspeech 2018, with several
    heads and the statistics of all frames.
    """

    def __init__(self, *, heads: int = 4, units: int = 48, name: str | None = None) -> None:
        super().__init__(name=name)
        self.heads, self.units = heads, units
        self.hidden = keras.layers.Dense(units, activation="tanh", name="hidden")
        # a bias common to all frames would cancel in the softmax
        self.scores = keras.layers.Dense(heads, use_bias=False, name="scores")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights for as many channels as the input has."""
        self.hidden.build(input_shape)
        self.scores.build((*input_shape[:-1], self.units))

    def call(self, inputs: Any) -> Any:
        """Return the weighted means, head by head, then mean and standard deviation."""
        weights = ops.softmax(self.scores(self.hidden(inputs)), axis=1)
        attended = ops.matmul(ops.swapaxes(weights, 1, 2), inputs)
        mean = ops.mean(inputs, axis=1, keepdims=True)
        variance = ops.mean(ops.square(inputs - mean), axis=1, keepdims=True)
        statistics = ops.concatenate([attended, mean, ops.sqrt(variance + VARIANCE_FLOOR)], axis=1)
        return ops.reshape(statistics, (-1, (self.heads + 2) * inputs.shape[-1]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (batch, (heads + 2) x channels)."""
        batch, _, channels = input_shape
        return (batch, None if channels is None else (self.heads + 2) * channels)
