"""TensorFlow SavedModel: one folder that takes waveforms or features and answers with probabilities and labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from serzoo.errors import ExportError
from serzoo.export.verify import check_answers
from serzoo.features.frontend import MFCC

if TYPE_CHECKING:
    from serzoo.classifier import Classifier


def write(classifier: Classifier, folder: Path) -> None:
    """Write the SavedModel and check it.

    Its signatures, each giving ``probabilities`` (batch, n_classes) and ``label`` (batch,) unless said otherwise:

    - ``serving_default`` takes ``waveform``, (batch, n_samples) float32 of any length at the model's sample
      rate, full scale at -1 and 1;
    - ``features`` takes ``features``, (batch, n_frames, n_features) float32;
    - ``class_names`` takes nothing and gives ``class_names``, (n_classes,).

    Args:
        classifier: what to export.
        folder: a new folder.

    Raises:
        ExportError: Keras runs on another backend than TensorFlow, or the export does not reproduce the model.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"A SavedModel is written by TensorFlow, but Keras runs on {keras.backend.backend()}; "
            "save the model, set KERAS_BACKEND=tensorflow and export it from a new process."
        )
    module = _module(classifier)
    signatures = {"serving_default": module.waveform, "features": module.features, "class_names": module.class_names}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    _verify(classifier, folder)


def describe(classifier: Classifier) -> dict[str, object]:
    """Return the signatures' inputs and TensorFlow's version, as plain data."""
    rate, n_features = classifier.feature_spec.sample_rate, classifier.feature_spec.n_features
    return {
        "signatures": {
            "serving_default": {"waveform": f"float32 (batch, n_samples), -1..1 at {rate} Hz, any length"},
            "features": {"features": f"float32 (batch, n_frames, {n_features})"},
            "class_names": {},
        },
        "caution": "silence and clips too short to tell anything are answered like any other; check before asking",
        "tensorflow": tf.__version__,
    }


def _module(classifier: Classifier) -> tf.Module:
    """Return the functions to save, together with the variables they read."""
    network, front_end = classifier.network, MFCC(classifier.feature_spec)
    class_names = tf.constant(classifier.class_names)

    def answer(features: Any) -> dict[str, Any]:
        probabilities = network(features, training=False)
        return {"probabilities": probabilities, "label": tf.gather(class_names, tf.argmax(probabilities, axis=-1))}

    waveform = tf.TensorSpec((None, None), tf.float32, name="waveform")
    features = tf.TensorSpec(network.input_shape, tf.float32, name="features")
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    module.waveform = tf.function(lambda waveform: answer(front_end(waveform)), input_signature=[waveform])
    module.features = tf.function(answer, input_signature=[features])
    module.class_names = tf.function(lambda: {"class_names": class_names}, input_signature=[])
    return module


def _verify(classifier: Classifier, folder: Path) -> None:
    """Load the export as a stranger would and compare it with the model."""
    signatures = tf.saved_model.load(str(folder)).signatures
    class_names = _decoded(signatures["class_names"]()["class_names"])
    if class_names != list(classifier.class_names):
        raise ExportError(f"The export names the classes {class_names}, the model {list(classifier.class_names)}.")

    def ask(signature: str, name: str, values: np.ndarray) -> np.ndarray:
        answers = signatures[signature](**{name: tf.constant(values)})
        probabilities = answers["probabilities"].numpy()
        if _decoded(answers["label"]) != [class_names[index] for index in probabilities.argmax(axis=1)]:
            raise ExportError(f"The labels of the exported endpoint {signature} are not those of its probabilities.")
        return probabilities

    check_answers(
        classifier,
        by_waveforms=lambda waveforms: ask("serving_default", "waveform", waveforms),
        by_features=lambda features: ask("features", "features", features),
    )


def _decoded(labels: Any) -> list[str]:
    return [label.decode() for label in labels.numpy()]
