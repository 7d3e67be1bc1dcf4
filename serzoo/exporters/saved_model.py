"""TensorFlow SavedModel: one folder that maps waveforms or features to probabilities and labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from serzoo.data.examples import network_inputs
from serzoo.errors import ExportError
from serzoo.exporters import graph
from serzoo.exporters.compare import check_probabilities
from serzoo.features.frontend import front_end
from serzoo.layers.segment_pooling import predict_by_segments

if TYPE_CHECKING:
    from serzoo.classifier import Classifier


def write(classifier: Classifier, folder: Path) -> None:
    """Write the SavedModel and check it.

    Its signatures return ``probabilities`` (batch, n_classes) and ``label`` (batch,), except the last:

    - ``serving_default`` takes ``waveform``, (batch, n_samples) float32 of any length at the model's sample
      rate, full scale at -1 and 1;
    - ``features`` takes ``features``, (batch, n_frames, ...) float32; for a model of segments those of whole
      recordings; the export cuts them;
    - ``class_names`` takes nothing and returns ``class_names``, (n_classes,).

    For a model with a gender input, the first two also take ``gender``, (batch,) float32, the probability of male;
    values outside 0..1 are refused.
    """
    graph.check_backend("SavedModel")
    module = _module(classifier)
    signatures = {"serving_default": module.waveform, "features": module.features, "class_names": module.class_names}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    _check(classifier, folder)


def describe(classifier: Classifier) -> dict[str, object]:
    """Return the result of :func:`serzoo.exporters.graph.describe`, with the signature of class names."""
    described = graph.describe(classifier, None, "probability of male, 0..1")
    described["signatures"]["class_names"] = {}
    return described


def _module(classifier: Classifier) -> tf.Module:
    """Return the functions to save, together with the variables they read."""
    network, to_features, spec = classifier.network, front_end(classifier.feature_spec), classifier.feature_spec
    class_names = tf.constant(classifier.class_names)

    def classify(features: Any, gender: Any = None) -> dict[str, Any]:
        genders = None if gender is None else _checked(gender, features)
        if spec.segment_frames is None:
            probabilities = forward(network_inputs(features, genders))
        else:
            rows = None if genders is None else genders[:, None]
            probabilities = predict_by_segments(forward, features, spec.segment_frames, rows)
        probabilities = classifier.calibrated(probabilities)
        return {"probabilities": probabilities, "label": tf.gather(class_names, tf.argmax(probabilities, axis=-1))}

    def forward(inputs: Any) -> Any:
        return network(inputs, training=False)

    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    module.waveform = tf.function(
        lambda waveform, *gender: classify(to_features(waveform), *gender),
        input_signature=graph.waveform_inputs(classifier, None),
    )
    module.features = tf.function(classify, input_signature=graph.features_inputs(classifier, None))
    module.class_names = tf.function(lambda: {"class_names": class_names}, input_signature=[])
    return module


def _checked(gender: Any, features: Any) -> Any:
    """Return ``gender`` (batch,), after a check in the graph: one number in 0..1 per recording, no NaN."""
    in_range = tf.reduce_all((gender >= 0) & (gender <= 1))
    message = "gender holds a value outside 0..1; give the probability that the speaker is male"
    as_many = tf.debugging.assert_equal(
        tf.shape(gender)[0], tf.shape(features)[0], "gender must hold one number per recording"
    )
    with tf.control_dependencies([tf.debugging.Assert(in_range, [message, gender]), as_many]):
        return tf.identity(gender)


def _check(classifier: Classifier, folder: Path) -> None:
    """Load the export as its users will and compare it with the model."""
    signatures = tf.saved_model.load(str(folder)).signatures
    class_names = _decoded(signatures["class_names"]()["class_names"])
    if class_names != list(classifier.class_names):
        raise ExportError(f"The export names the classes {class_names}, the model {list(classifier.class_names)}.")

    def run(signature: str, **inputs: np.ndarray) -> np.ndarray:
        outputs = signatures[signature](**{name: tf.constant(values) for name, values in inputs.items()})
        probabilities = outputs["probabilities"].numpy()
        if _decoded(outputs["label"]) != [class_names[index] for index in probabilities.argmax(axis=1)]:
            raise ExportError(f"The labels of the exported endpoint {signature} are not those of its probabilities.")
        return probabilities

    check_probabilities(
        classifier,
        by_waveforms=lambda waveforms, **gender: run("serving_default", waveform=waveforms, **gender),
        by_features=lambda features, **gender: run("features", features=features, **gender),
    )


def _decoded(labels: Any) -> list[str]:
    return [label.decode() for label in labels.numpy()]
