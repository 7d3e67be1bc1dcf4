"""TensorFlow SavedModel: one folder that takes waveforms or features and answers with probabilities and labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from serzoo.data.examples import network_inputs
from serzoo.errors import ExportError
from serzoo.exporters import graph
from serzoo.exporters.compare import check_answers
from serzoo.features.frontend import front_end
from serzoo.layers.segment_pooling import answer_by_segments

if TYPE_CHECKING:
    from serzoo.classifier import Classifier


def write(classifier: Classifier, folder: Path) -> None:
    """Write the SavedModel and check it.

    Its signatures, each giving ``probabilities`` (batch, n_classes) and ``label`` (batch,) unless said otherwise:

    - ``serving_default`` takes ``waveform``, (batch, n_samples) float32 of any length at the model's sample
      rate, full scale at -1 and 1;
    - ``features`` takes ``features``, (batch, n_frames, ...) float32, of whole recordings where the model
      was trained on segments: the export cuts them;
    - ``class_names`` takes nothing and gives ``class_names``, (n_classes,).

    For a model that takes the speaker's gender, both also take ``gender``, (batch,) float32, the
    probability of male; anything outside 0..1 is refused.

    Args:
        classifier: what to export.
        folder: a new folder.

    Raises:
        ExportError: Keras runs on another backend than TensorFlow, or the export does not reproduce the model.
    """
    graph.check_backend("SavedModel")
    module = _module(classifier)
    signatures = {"serving_default": module.waveform, "features": module.features, "class_names": module.class_names}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    _verify(classifier, folder)


def describe(classifier: Classifier) -> dict[str, object]:
    """Return the signatures' inputs and TensorFlow's version, as plain data."""
    return {
        "signatures": {
            **graph.describe_inputs(classifier, None, "probability of male, 0..1"),
            "class_names": {},
        },
        "caution": graph.caution(classifier),
        "tensorflow": tf.__version__,
    }


def _module(classifier: Classifier) -> tf.Module:
    """Return the functions to save, together with the variables they read."""
    network, listen, spec = classifier.network, front_end(classifier.feature_spec), classifier.feature_spec
    class_names = tf.constant(classifier.class_names)

    def answer(features: Any, gender: Any = None) -> dict[str, Any]:
        genders = None if gender is None else _checked(gender, features)
        if spec.segment_frames is None:
            probabilities = ask(network_inputs(features, genders))
        else:
            rows = None if genders is None else genders[:, None]
            probabilities = answer_by_segments(ask, features, spec.segment_frames, rows)
        probabilities = classifier.calibrated(probabilities)
        return {"probabilities": probabilities, "label": tf.gather(class_names, tf.argmax(probabilities, axis=-1))}

    def ask(inputs: Any) -> Any:
        return network(inputs, training=False)

    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    module.waveform = tf.function(
        lambda waveform, *gender: answer(listen(waveform), *gender),
        input_signature=graph.waveform_inputs(classifier, None),
    )
    module.features = tf.function(answer, input_signature=graph.features_inputs(classifier, None))
    module.class_names = tf.function(lambda: {"class_names": class_names}, input_signature=[])
    return module


def _checked(gender: Any, features: Any) -> Any:
    """Return ``gender`` (batch,) if it is one number in 0..1 per recording; the graph fails otherwise, on NaN too."""
    in_range = tf.reduce_all((gender >= 0) & (gender <= 1))
    message = "gender holds a value outside 0..1; give the probability that the speaker is male"
    as_many = tf.debugging.assert_equal(
        tf.shape(gender)[0], tf.shape(features)[0], "gender must hold one number per recording"
    )
    with tf.control_dependencies([tf.debugging.Assert(in_range, [message, gender]), as_many]):
        return tf.identity(gender)


def _verify(classifier: Classifier, folder: Path) -> None:
    """Load the export as a stranger would and compare it with the model."""
    signatures = tf.saved_model.load(str(folder)).signatures
    class_names = _decoded(signatures["class_names"]()["class_names"])
    if class_names != list(classifier.class_names):
        raise ExportError(f"The export names the classes {class_names}, the model {list(classifier.class_names)}.")

    def ask(signature: str, **inputs: np.ndarray) -> np.ndarray:
        answers = signatures[signature](**{name: tf.constant(values) for name, values in inputs.items()})
        probabilities = answers["probabilities"].numpy()
        if _decoded(answers["label"]) != [class_names[index] for index in probabilities.argmax(axis=1)]:
            raise ExportError(f"The labels of the exported endpoint {signature} are not those of its probabilities.")
        return probabilities

    check_answers(
        classifier,
        by_waveforms=lambda waveforms, **gender: ask("serving_default", waveform=waveforms, **gender),
        by_features=lambda features, **gender: ask("features", features=features, **gender),
    )


def _decoded(labels: Any) -> list[str]:
    return [label.decode() for label in labels.numpy()]
