"""Score a model on a part of a corpus."""

from __future__ import annotations

import numpy as np

from serzoo.classifier import Classifier
from serzoo.data.cache import FeatureCache
from serzoo.data.manifest import Manifest
from serzoo.data.pipeline import Examples, load_examples
from serzoo.errors import DataError, FeatureError, WeightsError
from serzoo.metrics import Scores
from serzoo.models.base import SERModel

Data = Manifest | Examples | tuple[np.ndarray, np.ndarray]
"""What :func:`evaluate` and :func:`serzoo.training.fit.fit` take: a manifest, examples, or (features, targets)."""


def as_examples(data: Data, model: SERModel, *, cache: FeatureCache | None = None, progress: bool = False) -> Examples:
    """Return ``data`` as features and targets that fit ``model``.

    A manifest may lack classes that the model knows; its targets follow the model's order.

    Args:
        data: a manifest (its features are extracted by the model's spec), examples, or a pair of
            features (N, n_frames, n_features) and targets (N,), class indices.
        model: the model that will take them.
        cache: where features are kept; None for the default folder.
        progress: show a progress bar while features are extracted.

    Raises:
        FeatureError: the model has no feature spec, or features of another width.
        DataError: other classes than the model's.
    """
    if isinstance(data, Manifest):
        if model.feature_spec is None:
            raise FeatureError(
                f"{model.name} has no feature spec, so it cannot read recordings; "
                "build it with feature_spec=..., or give features and targets."
            )
        data = data if model.class_names is None else data.labelled(model.class_names)
        examples = load_examples(data, model.feature_spec, cache=cache, progress=progress)
    elif isinstance(data, Examples):
        examples = data
    else:
        names = model.class_names or tuple(f"class {index}" for index in range(model.n_classes))
        examples = Examples(np.asarray(data[0], np.float32), np.asarray(data[1], np.int64), names)
    _check_fit(examples, model)
    return examples


def predict_outputs(model: SERModel, features: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Return the model's outputs for features (N, n_frames, n_features) as an array (N, n_classes).

    Raises:
        WeightsError: an output is NaN or infinite, which would pass for a prediction of some class.
    """
    outputs = np.asarray(model.predict(features, batch_size=batch_size, verbose=0))
    if not np.isfinite(outputs).all():
        raise WeightsError(
            f"{model.name} answers with NaN: its training diverged (lower learning_rate) or its weights are damaged."
        )
    return outputs


def evaluate(model: SERModel | Classifier, data: Data, *, batch_size: int = 64, progress: bool = False) -> Scores:
    """Return UAR, WAR, weighted F1, the recall of each class and the confusion matrix.

    Args:
        model: a model of the zoo, or what :func:`serzoo.load` returns.
        data: a manifest, examples, or (features, targets).
        batch_size: clips per prediction step.
        progress: show a progress bar while features are extracted.

    Raises:
        FeatureError: the data's features are not the model's.
        DataError, UnknownNameError: the data has classes that are not the model's.
        WeightsError: the model answers with NaN.
    """
    model = model.model if isinstance(model, Classifier) else model
    examples = as_examples(data, model, progress=progress)
    outputs = predict_outputs(model, examples.features, batch_size)
    return Scores.from_predictions(examples.targets, outputs.argmax(axis=1), examples.class_names)


def _check_fit(examples: Examples, model: SERModel) -> None:
    width = examples.features.shape[-1]
    if width != model.n_features:
        raise FeatureError(f"{model.name} takes {model.n_features} values per frame, the data has {width}.")
    expected = model.class_names or examples.class_names
    if tuple(examples.class_names) != tuple(expected) or len(expected) != model.n_classes:
        raise DataError(
            f"The data's classes ({', '.join(examples.class_names)}) are not the model's "
            f"({', '.join(model.class_names) if model.class_names else f'{model.n_classes} classes'}); "
            "build the model for these classes or select them with Manifest.with_classes."
        )
