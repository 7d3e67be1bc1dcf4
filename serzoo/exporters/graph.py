"""The inputs of the graphs that TensorFlow writes, and their description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from serzoo.errors import ExportError

if TYPE_CHECKING:
    from serzoo.classifier import Classifier


def check_backend(format_: str) -> None:
    """Raise ExportError unless Keras runs on TensorFlow, the only backend that writes a ``format_``."""
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"A {format_} is written by TensorFlow, but Keras runs on {keras.backend.backend()}; "
            "save the model, set KERAS_BACKEND=tensorflow and export it from a new process."
        )


def waveform_inputs(classifier: Classifier, batch: int | None) -> list[tf.TensorSpec]:
    """Return the inputs of the waveform endpoint: ``waveform``, (batch, n_samples) float32, and the gender if any."""
    return [tf.TensorSpec((batch, None), tf.float32, name="waveform"), *_gender_input(classifier, batch)]


def features_inputs(classifier: Classifier, batch: int | None) -> list[tf.TensorSpec]:
    """Return the inputs of the features endpoint: ``features``, (batch, n_frames, ...), and the gender if any."""
    shape = (batch, *features_shape(classifier, fixed=batch is not None))
    return [tf.TensorSpec(shape, tf.float32, name="features"), *_gender_input(classifier, batch)]


def features_shape(classifier: Classifier, fixed: bool) -> tuple[int | None, ...]:
    """Return the shape of a recording's features, (n_frames or None, ...).

    Args:
        classifier: the exported one.
        fixed: whether the endpoint takes only the spec's number of frames, if it has one, or all that the model takes.
    """
    spec = classifier.feature_spec
    if spec.segment_frames is not None:
        return None, *spec.frame_shape
    n_frames, *frame_shape = classifier.model.features_shape
    return (n_frames or spec.n_frames) if fixed else n_frames, *frame_shape


def describe(classifier: Classifier, batch: int | None, gender: str) -> dict[str, Any]:
    """Return the inputs of both signatures, the limits that a user must know and TensorFlow's version, as plain data.

    Args:
        classifier: the exported one.
        batch: number of recordings per call; None for any number.
        gender: description of the gender input, for models with one.
    """
    spec, model = classifier.feature_spec, classifier.model
    sizes = features_shape(classifier, fixed=batch is not None)
    shape = ", ".join("n_frames" if size is None else str(size) for size in sizes)
    rows = "batch" if batch is None else batch
    genders = {"gender": f"float32 ({rows},), {gender}"} if model.takes_gender else {}
    waveform = f"float32 ({rows}, n_samples), -1..1 at {spec.sample_rate} Hz, any length"
    caution = "silence and very short clips get probabilities like any other; check the input before the call"
    if spec.segment_frames is not None:
        caution += "; zeros after a recording count as sound, so do not pad; memory grows with the recording's length"
    elif spec.n_samples is None and model.min_frames > 1:
        caution += f"; a recording must have {model.min_frames} frames"
    return {
        "signatures": {
            "serving_default": {"waveform": waveform, **genders},
            "features": {"features": f"float32 ({rows}, {shape})", **genders},
        },
        "caution": caution,
        "tensorflow": tf.__version__,
    }


def _gender_input(classifier: Classifier, batch: int | None) -> list[tf.TensorSpec]:
    return [tf.TensorSpec((batch,), tf.float32, name="gender")] if classifier.model.takes_gender else []
