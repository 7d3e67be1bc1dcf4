"""Attention over the frames of an utterance: within a window, over all frames, or as a weighted mean."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from serzoo.layers.recorded import RecordedLayer

MASKED = -10_000.0
"""Added to the scores of masked frames, as keras-self-attention does."""


@keras.saving.register_keras_serializable("serzoo")
class SelfAttention(RecordedLayer):
    """Additive self-attention of every frame over the frames around it.

    The frame t scores each frame s of its window, ``activation(tanh(x_t Wt + x_s Wx + bh) Wa + ba)``;
    the softmax of the scores over the window weighs the input frames themselves.

    Takes (batch, time, channels) and returns the same shape. It computes what ``SeqSelfAttention`` of
    keras-self-attention computes, with weights in the same order (Wt, Wx, bh, Wa, ba), in time and
    memory that grow with time x width instead of time x time: queries are taken in blocks as long as
    the window, and a block is compared only with the frames in its own windows.

    Args:
        units: width of the space in which frames are compared.
        width: frames in a window, which begins ``width // 2`` frames before t and is cut off at the
            clip's ends; None compares every frame with all frames.
        activation: name of the Keras activation of the scores, or None.

    Source: Zheng et al., "OpenTag: Open Attribute Value Extraction from Product Profiles", 2018, as
    keras-self-attention 0.51 computes it.
    """

    def __init__(
        self,
        *,
        units: int = 32,
        width: int | None = None,
        activation: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.units = units
        self.width = width
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights, in the order of keras-self-attention."""
        channels = input_shape[-1]
        self.query_kernel = self.add_weight(shape=(channels, self.units), initializer="glorot_normal", name="Wt")
        self.key_kernel = self.add_weight(shape=(channels, self.units), initializer="glorot_normal", name="Wx")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bh")
        self.score_kernel = self.add_weight(shape=(self.units, 1), initializer="glorot_normal", name="Wa")
        self.score_bias = self.add_weight(shape=(1,), initializer="zeros", name="ba")

    def call(self, inputs: Any) -> Any:
        """Return for every frame the weighted sum of its window, (batch, time, channels)."""
        queries = ops.matmul(inputs, self.query_kernel) + self.bias
        keys = ops.matmul(inputs, self.key_kernel)
        if self.width is None:
            return ops.matmul(ops.softmax(self._scores(queries, keys)), inputs)
        n_frames, width = ops.shape(inputs)[1], self.width
        n_blocks = -(-n_frames // width)
        scores = self._scores(_cut(queries, width, 0, n_blocks), _contexts(keys, width, n_blocks))
        weights = ops.softmax(scores + MASKED * (1.0 - _windows(n_frames, width, n_blocks, scores.dtype)))
        attended = ops.matmul(weights, _contexts(inputs, width, n_blocks))
        return ops.reshape(attended, (-1, n_blocks * width, inputs.shape[-1]))[:, :n_frames]

    def _scores(self, queries: Any, keys: Any) -> Any:
        """Return the score of every key for every query, (..., n_queries, n_keys)."""
        compared = ops.tanh(ops.expand_dims(queries, -2) + ops.expand_dims(keys, -3))
        return self.activation(ops.squeeze(ops.matmul(compared, self.score_kernel), -1) + self.score_bias)


def _cut(sequence: Any, width: int, before: int, n_blocks: Any) -> Any:
    """Cut (batch, time, channels), after ``before`` zeros, into blocks, (batch, n_blocks, width, channels)."""
    after = n_blocks * width - before - ops.shape(sequence)[1]
    padded = ops.pad(sequence, [[0, 0], [before, after], [0, 0]])
    return ops.reshape(padded, (-1, n_blocks, width, sequence.shape[-1]))


def _contexts(sequence: Any, width: int, n_blocks: Any) -> Any:
    """Return the frames in the windows of each block, (batch, n_blocks, 2 width - 1, channels).

    They are one block of the shifted sequence and the first ``width - 1`` frames of the next.
    """
    cut = _cut(sequence, width, width // 2, n_blocks + 1)
    return ops.concatenate([cut[:, :-1], cut[:, 1:, : width - 1]], axis=2)


def _windows(n_frames: Any, width: int, n_blocks: Any, dtype: str) -> Any:
    """Return 1 for each frame of a block's context in the window of a query, 0 for others and for padding.

    Shape (n_blocks, width, 2 width - 1): the window of the block's query r is the ``width`` frames from r on.
    """
    n_keys = 2 * width - 1
    window = ops.tri(width, n_keys, width - 1, dtype) - ops.tri(width, n_keys, -1, dtype)
    exists = _contexts(ops.ones((1, n_frames, 1), dtype), width, n_blocks)[0, :, :, 0]
    return window * ops.expand_dims(exists, 1)


@keras.saving.register_keras_serializable("serzoo")
class AttentionPooling(keras.layers.Layer):
    """Weighted mean of the frames, the weights from one score per frame: ``softmax_t(u sigmoid(x_t W + b))``.

    Takes (batch, time, channels) and returns (batch, channels).

    Source: Chen, He, Yang and Zhang, "3-D Convolutional Recurrent Neural Networks with Attention Model
    for Speech Emotion Recognition", 2018, as its program computes it.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights, all of them normal with a standard deviation of 0.1 as in the program."""
        shapes = {"kernel": (input_shape[-1], 1), "bias": (1,), "scale": (1,)}
        self.kernel, self.bias, self.scale = (
            self.add_weight(shape=shape, initializer=keras.initializers.RandomNormal(stddev=0.1), name=name)
            for name, shape in shapes.items()
        )

    def call(self, inputs: Any) -> Any:
        """Return the weighted mean over time, (batch, channels)."""
        scores = self.scale * ops.sigmoid(ops.matmul(inputs, self.kernel) + self.bias)
        return ops.sum(ops.softmax(scores, axis=1) * inputs, axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (batch, channels)."""
        return (input_shape[0], input_shape[2])


@keras.saving.register_keras_serializable("serzoo")
class DotProductAttention(keras.layers.Layer):
    """Scaled dot-product self-attention with one head: ``softmax(Q K^T / sqrt(channels)) V``.

    Q, K and V are the input times a square matrix each. Every frame is compared with all frames, so time and
    memory grow with the square of the clip's length.

    Takes (batch, time, channels) and returns the same shape.

    Source: Bhushan et al., "A Self-Attention Based Hybrid CNN-LSTM for Speaker-Independent Speech
    Emotion Recognition", equations 4 to 7.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the three matrices."""
        shape = (input_shape[-1], input_shape[-1])
        self.query_kernel, self.key_kernel, self.value_kernel = (
            self.add_weight(shape=shape, initializer="glorot_uniform", name=f"{role}_kernel")
            for role in ("query", "key", "value")
        )

    def call(self, inputs: Any) -> Any:
        """Return for every frame the weighted sum of all values, (batch, time, channels)."""
        frames = ops.expand_dims(inputs, 2)  # (batch, time, heads, channels)
        kernels = (self.query_kernel, self.key_kernel, self.value_kernel)
        return ops.squeeze(ops.dot_product_attention(*(ops.matmul(frames, kernel) for kernel in kernels)), 2)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return ``input_shape``."""
        return input_shape
