"""The speaker's gender as a vector."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("serzoo")
class GenderEmbedding(keras.layers.Layer):
    """One learned vector for female, one for male, and in between a mix of both: ``(1 - p) E_0 + p E_1``.

    Takes the probability p that the speaker is male, (batch, 1) in 0..1, and returns (batch, 1, width).
    At 0 and 1 this is ``keras.layers.Embedding(2, width)``, and the weights are interchangeable with its.

    Args:
        width: of the vectors.
        name: Keras name of the layer.

    Source: Bhushan et al., "A Self-Attention Based Hybrid CNN-LSTM for Speaker-Independent Speech
    Emotion Recognition", section 2.3.1.
    """

    def __init__(self, *, width: int = 300, name: str | None = None) -> None:
        super().__init__(name=name)
        self.width = width

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the two vectors, as ``keras.layers.Embedding`` starts them."""
        del input_shape
        self.embeddings = self.add_weight(shape=(2, self.width), initializer="uniform", name="embeddings")

    def call(self, inputs: Any) -> Any:
        """Return the mixed vectors, (batch, 1, width)."""
        shares = keras.ops.stack([1.0 - inputs, inputs], axis=-1)
        return keras.ops.matmul(shares, self.embeddings)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (batch, 1, width)."""
        return (*input_shape, self.width)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the layer."""
        return {"name": self.name, "width": self.width}
