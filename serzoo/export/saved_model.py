"""TensorFlow SavedModel: one folder that takes waveforms or features and answers with probabilities and labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from serzoo.data.examples import network_inputs
from serzoo.errors import ExportError
from serzoo.export.verify import check_answers
from serzoo.features.frontend import front_end
from serzoo.layers.segments import answer_by_segments

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
    spec = classifier.feature_spec
    shape = ", ".join("n_frames" if size is None else str(size) for size in _features_shape(classifier))
    gender = {"gender": "float32 (batch,), probability of male, 0..1"} if classifier.model.takes_gender else {}
    return {
        "signatures": {
            "serving_default": {
                "waveform": f"float32 (batch, n_samples), -1..1 at {spec.sample_rate} Hz, any length",
                **gender,
            },
            "features": {"features": f"float32 (batch, {shape})", **gender},
            "class_names": {},
        },
        "caution": _caution(classifier),
        "tensorflow": tf.__version__,
    }


def _caution(classifier: Classifier) -> str:
    """Return what whoever asks the export must know."""
    caution = "silence and clips too short to tell anything are answered like any other; check before asking"
    if classifier.feature_spec.segment_frames is not None:
        caution += "; zeros behind a recording count as sound, so pad none; memory grows with a recording's length"
    elif classifier.feature_spec.n_samples is None and classifier.model.min_frames > 1:
        caution += f"; a recording must have {classifier.model.min_frames} frames"
    return caution


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
        return {"probabilities": probabilities, "label": tf.gather(class_names, tf.argmax(probabilities, axis=-1))}

    def ask(inputs: Any) -> Any:
        return network(inputs, training=False)

    waveform = tf.TensorSpec((None, None), tf.float32, name="waveform")
    features = tf.TensorSpec((None, *_features_shape(classifier)), tf.float32, name="features")
    gender = [tf.TensorSpec((None,), tf.float32, name="gender")] if classifier.model.takes_gender else []
    module = tf.Module()
    module.weights = [variable.value for variable in network.variables]
    module.waveform = tf.function(
        lambda waveform, *gender: answer(listen(waveform), *gender), input_signature=[waveform, *gender]
    )
    module.features = tf.function(answer, input_signature=[features, *gender])
    module.class_names = tf.function(lambda: {"class_names": class_names}, input_signature=[])
    return module


def _features_shape(classifier: Classifier) -> tuple[int | None, ...]:
    """Return the shape of a recording's features, (n_frames or None, ...)."""
    spec = classifier.feature_spec
    return classifier.model.features_shape if spec.segment_frames is None else (None, *spec.frame_shape)


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
