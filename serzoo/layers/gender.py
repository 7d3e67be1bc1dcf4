"""The speaker's gender as a learned vector or as columns of the features."""

from __future__ import annotations

from typing import Any

import keras

from serzoo.layers.recorded import RecordedLayer

GENDER_COLUMNS = (0, 1, 2)
"""Numbers of columns that :class:`GenderColumns` appends; 0 for a model without gender input."""


@keras.saving.register_keras_serializable("serzoo")
class GenderEmbedding(RecordedLayer):
    """One learned vector for female, one for male, and in between a mix of both: ``(1 - p) E_0 + p E_1``.

    Takes the probability p that the speaker is male, (batch, 1) in 0..1, and returns (batch, 1, width).
    At p = 0 and 1 this is ``keras.layers.Embedding(2, width)``, with the same weights.

    Args:
        width: of the vectors.

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


@keras.saving.register_keras_serializable("serzoo")
class GenderColumns(RecordedLayer):
    """Appends the speaker's gender to the values of every frame.

    Takes frames (batch, time, n_features) and the probability p that the speaker is male, (batch, 1) in 0..1, and
    returns (batch, time, n_features + columns): one column holds p, two hold 1 - p and p.

    Args:
        columns: 1 or 2.

    Source: Striletchi, Striletchi and Stan, "TBDM-Net", 2024, section 3.5, "pre-hoc".
    """

    def __init__(self, *, columns: int, name: str | None = None) -> None:
        super().__init__(name=name)
        self.columns = columns

    def call(self, frames: Any, male: Any) -> Any:
        """Return the frames with the columns appended."""
        genders = male if self.columns == 1 else keras.ops.concatenate([1.0 - male, male], axis=-1)
        batch, time = keras.ops.shape(frames)[:2]
        repeated = keras.ops.broadcast_to(genders[:, None, :], (batch, time, self.columns))
        return keras.ops.concatenate([frames, keras.ops.cast(repeated, frames.dtype)], axis=-1)

    def compute_output_shape(self, frames_shape: Any, male_shape: Any) -> tuple[int | None, ...]:  # type: ignore[override]
        """Return (batch, time, n_features + columns)."""
        del male_shape
        *outer, n_features = frames_shape
        return (*outer, None if n_features is None else n_features + self.columns)
