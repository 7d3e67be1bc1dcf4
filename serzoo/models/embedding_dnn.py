"""The feed-forward network for frozen representations (Stanea et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

from serzoo.checks import COUNT, one_of
from serzoo.features.spec import FeatureSpec
from serzoo.layers.normalization import FrameNormalization
from serzoo.models.base import EMBEDDING, PYTORCH_NORM, SERModel, classifier_layer, with_gender_columns

HALVINGS = 3
"""Hidden layers, each half as wide as its input."""


@keras.saving.register_keras_serializable("serzoo")
class EmbeddingDNN(SERModel):
    """Three hidden layers, each half as wide as the one before, and the classifier.

    The frames are averaged over time; an embedding is one frame. Each hidden layer is linear, followed by batch
    normalisation, ReLU and dropout. Widths are rounded down, and at least 1: 39 values become 19, 9 and 4.
    The last hidden layer may have fewer units than there are classes: 4 for 8 classes in this example.

    Takes (batch, n_frames, n_features) and returns class probabilities, (batch, n_classes). Padding counts as
    frames in the average.

    Args, besides those of :class:`SERModel`:
        n_features: values per frame, the width of the embedding; 192 are those of TitaNet and ECAPA-TDNN.
        dropout: share of a hidden layer's values zeroed in training, in [0, 1); the paper does not state it.
        normalization: ``"real-frames"`` brings each value to zero mean and unit deviation by the statistics of the
            training part; None takes the features as they are: the paper mentions no scaling.
        gender_columns: as in :func:`~serzoo.models.base.with_gender_columns`.

    Source: Stanea et al., "An analysis of large speech models-based representations for speech emotion recognition",
    2023, section III.C.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        n_features: int = 192,
        n_frames: int | None = None,
        dropout: float = 0.2,
        normalization: str | None = None,
        gender_columns: int = 0,
        classifier_activation: str | None = "softmax",
        class_names: Sequence[str] | None = None,
        feature_spec: FeatureSpec | Mapping[str, object] | None = None,
        name: str = "embedding_dnn",
    ) -> None:
        self.check_arguments(n_features=COUNT, normalization=one_of(("real-frames", None)))

        features = frames = keras.Input((n_frames, n_features), name="features")
        if normalization is not None:
            frames = FrameNormalization(name="normalization")(frames)
        inputs, frames = with_gender_columns(features, frames, gender_columns)
        hidden = keras.ops.mean(frames, axis=1)
        for number in range(1, HALVINGS + 1):
            width = max(1, (n_features + gender_columns) // 2**number)
            activation = EMBEDDING if number == HALVINGS else f"activation_{number}"
            hidden = keras.layers.Dense(width, name=f"dense_{number}")(hidden)
            hidden = keras.layers.BatchNormalization(**PYTORCH_NORM, name=f"norm_{number}")(hidden)
            hidden = keras.layers.ReLU(name=activation)(hidden)
            hidden = keras.layers.Dropout(dropout, name=f"dropout_{number}")(hidden)
        outputs = classifier_layer(n_classes, classifier_activation)(hidden)
        super().__init__(inputs, outputs, class_names=class_names, feature_spec=feature_spec, name=name)
