"""Score a model on a part of a corpus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from scipy.special import softmax

from serzoo.classifier import Classifier
from serzoo.data.cache import FeatureCache
from serzoo.data.examples import Examples, load_examples
from serzoo.data.manifest import Manifest
from serzoo.errors import DataError, FeatureError, WeightsError
from serzoo.features.segments import pool_segments
from serzoo.labels import male_probability
from serzoo.metrics import Scores
from serzoo.models.base import SERModel, check_features_shape

Data = Manifest | Examples | tuple[np.ndarray | Mapping[str, np.ndarray], np.ndarray] | Iterable[Any]
"""Data for :func:`evaluate` and :func:`serzoo.training.fit.fit`.

A :class:`~serzoo.data.manifest.Manifest`, :class:`~serzoo.data.examples.Examples`, a pair of arrays (features,
targets), or a ``tf.data.Dataset`` of batches of such pairs. Targets are class indices; a dataset may have one-hot rows.

For a model with gender input, ``{"features": ..., "gender": ...}`` takes the place of the features.
"""


def is_dataset(data: object) -> bool:
    """Return whether ``data`` is a ``tf.data.Dataset``, without importing TensorFlow."""
    return hasattr(data, "element_spec")


def as_examples(data: Data, model: SERModel, *, cache: FeatureCache | None = None, progress: bool = False) -> Examples:
    """Return ``data`` as features and targets that fit ``model``.

    A manifest may lack some of the model's classes; its targets follow the model's order.

    Args:
        data: a manifest (its features are extracted by the model's spec), examples, a pair of
            features (N, *model.features_shape) and targets (N,), class indices, or a dataset of batches of such pairs.
        model: the model that takes the features.
        cache: cache of features; None for the default folder.
        progress: show a progress bar while features are extracted.

    Raises:
        FeatureError: the model has no feature spec, or the features have another shape.
        DataError: the classes are not the model's, or the speakers' genders are missing or out of range.
    """
    if isinstance(data, Manifest):
        if model.feature_spec is None:
            raise FeatureError(
                f"{model.name} has no feature spec, so it cannot read recordings; "
                "build it with feature_spec=..., or give features and targets."
            )
        data = data if model.class_names is None else data.labelled(model.class_names)
        with_gender = model.takes_gender
        examples = load_examples(data, model.feature_spec, with_gender=with_gender, cache=cache, progress=progress)
    elif isinstance(data, Examples):
        examples = data
    else:
        if is_dataset(data):
            from serzoo.data.pipeline import collected

            data = collected(data, rank=1 + len(model.features_shape))
        if not isinstance(data, tuple) or len(data) != 2:
            raise DataError(
                f"The data is {type(data).__name__}; give a manifest, (features, targets) or a tf.data.Dataset."
            )
        names = model.class_names or tuple(f"class {index}" for index in range(model.n_classes))
        features, genders = _features_and_genders(data[0])
        examples = Examples(features, np.asarray(data[1], np.int64), names, genders)
    _check_fit(examples, model)
    return examples


def predict_probabilities(model: SERModel, examples: Examples, batch_size: int = 64) -> np.ndarray:
    """Return the probabilities of clips, (N, n_classes); a model's logits go through softmax.

    The segments of a clip are pooled by :func:`serzoo.features.segments.pool_segments`. The result does not depend on
    ``batch_size``, the number of segments per prediction step.

    Raises:
        WeightsError: an output is NaN or infinite, or the model normalises its features and has no statistics.
    """
    model.check_statistics()
    outputs = np.asarray(model.predict(examples.inputs(), batch_size=batch_size, verbose=0))
    return clip_probabilities(model, outputs, examples.counts)


def clip_probabilities(model: SERModel, outputs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the probabilities of clips, (N, n_classes), from a model's outputs for their segments.

    ``outputs`` are probabilities or logits, (n_segments, n_classes); ``counts`` the segments of each clip, (N,).

    Raises:
        WeightsError: an output is NaN or infinite.
    """
    if not np.isfinite(outputs).all():
        raise WeightsError(
            f"{model.name} predicts NaN: its training diverged (lower learning_rate) or its weights are damaged."
        )
    return pool_segments(outputs if model.classifier_activation is not None else softmax(outputs, axis=1), counts)


def embed(model: keras.Model, examples: Examples, batch_size: int = 64) -> np.ndarray:
    """Return the fused representation of clips, (N, width), averaged over the segments of each clip.

    ``model`` is a model of the zoo or its ``embedding_model()``; ``batch_size`` counts segments.
    """
    network = model.embedding_model() if isinstance(model, SERModel) else model
    outputs = np.asarray(network.predict(examples.inputs(), batch_size=batch_size, verbose=0))
    starts = np.cumsum(examples.counts) - examples.counts
    return np.add.reduceat(outputs, starts, axis=0) / examples.counts[:, None]


def evaluate(model: SERModel | Classifier, data: Data, *, batch_size: int = 64, progress: bool = False) -> Scores:
    """Return UAR, WAR, weighted F1, the recall of each class and the confusion matrix.

    Args:
        model: a model of the zoo, or a loaded :class:`~serzoo.classifier.Classifier`.
        data: a manifest, examples, or (features, targets).
        batch_size: segments per prediction step.
        progress: show a progress bar while features are extracted.

    Raises:
        FeatureError: the data's features are not the model's.
        DataError, UnknownNameError: the data has other classes than the model, or no genders for its gender input.
        WeightsError: the model predicts NaN, or has no statistics to normalise its features with.
    """
    model = model.model if isinstance(model, Classifier) else model
    examples = as_examples(data, model, progress=progress)
    predicted = predict_probabilities(model, examples, batch_size).argmax(axis=1)
    return Scores.from_predictions(examples.targets, predicted, examples.class_names)


def _features_and_genders(given: np.ndarray | Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the features and the genders, (N,), from the inputs of a (inputs, targets) pair; genders may be None."""
    if not isinstance(given, Mapping):
        return np.asarray(given, np.float32), None
    if set(given) != {"features", "gender"}:
        raise DataError(f"The inputs are named {', '.join(map(repr, given))}; name them 'features' and 'gender'.")
    rows = enumerate(np.asarray(given["gender"]).reshape(-1))
    genders = [male_probability(gender, f"Clip {row}: the speaker's") for row, gender in rows]
    return np.asarray(given["features"], np.float32), np.array(genders, np.float32)


def _check_fit(examples: Examples, model: SERModel) -> None:
    check_features_shape(model, examples.features.shape[1:], "the data has")
    if model.takes_gender != (examples.genders is not None):
        given = "has none" if model.takes_gender else "has genders"
        remedy = "give {'features': ..., 'gender': ...}" if model.takes_gender else "give the features alone"
        raise DataError(
            f"{model.name} {'takes' if model.takes_gender else 'does not take'} the speaker's gender, "
            f"the data {given}; {remedy}."
        )
    expected = model.class_names or examples.class_names
    if tuple(examples.class_names) != tuple(expected) or len(expected) != model.n_classes:
        raise DataError(
            f"The data's classes ({', '.join(examples.class_names)}) are not the model's "
            f"({', '.join(model.class_names) if model.class_names else f'{model.n_classes} classes'}); "
            "build the model for these classes or select them with Manifest.with_classes."
        )
