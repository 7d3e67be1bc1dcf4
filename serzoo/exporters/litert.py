"""LiteRT (formerly TensorFlow Lite): one small file that takes a waveform or features, for phones and boards.

The weights are constants of the file, so that batch normalisation is folded into the convolutions. The file uses only
LiteRT's own operations, none of TensorFlow's, so that any LiteRT runtime runs it without TensorFlow.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from serzoo.data.examples import network_inputs
from serzoo.errors import ExportError
from serzoo.exporters import graph
from serzoo.exporters.compare import check_probabilities
from serzoo.features.frontend import fit_length, front_end

if TYPE_CHECKING:
    from serzoo.classifier import Classifier

FILE = "model.tflite"

_SIGNATURES = {"serving_default": "waveform", "features": "features"}
"""The signatures of the file and the input of each."""


def write(classifier: Classifier, folder: Path) -> None:
    """Write the LiteRT file and check it.

    Its signatures return ``probabilities`` (1, n_classes) in the order of the metadata's class names:

    - ``serving_default`` takes ``waveform``, (1, n_samples) float32 of any length at the model's sample rate, full
      scale at -1 and 1;
    - ``features`` takes ``features``, (1, n_frames, ...) float32; for a model of segments those of the whole recording,
      cut by the file.

    For a model with a gender input, both also take ``gender``, (1,) float32, the probability of male; values outside
    0..1 give NaN.
    """
    graph.check_backend("LiteRT file")
    folder.mkdir()
    module = _module(classifier)
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(module, saved, signatures={name: getattr(module, name) for name in _SIGNATURES})
        converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=list(_SIGNATURES))
        try:
            content = converter.convert()
        except Exception as error:  # the converter's own class is not public
            raise _refused(classifier, error) from None
    (folder / FILE).write_bytes(content)
    try:  # load the file as its users will
        signatures = runners(folder / FILE)
        check_probabilities(classifier, by_waveforms=signatures["serving_default"], by_features=signatures["features"])
    except (RuntimeError, ValueError) as error:  # the interpreter's, for an operation that it does not have
        raise _refused(classifier, error) from None


def describe(classifier: Classifier) -> dict[str, object]:
    """Return the file's name and what :func:`serzoo.exporters.graph.describe` returns."""
    return {"file": FILE, **graph.describe(classifier, 1, "probability of male, 0..1; anything else gives NaN")}


def _module(classifier: Classifier) -> tf.Module:
    """Return the functions to convert, for one recording at a time."""
    network, spec = classifier.network, classifier.feature_spec
    to_features = front_end(spec)
    to_features.fft_of_powers_of_two_only = True
    trainable = [variable.numpy() for variable in network.trainable_variables]
    fixed = [variable.numpy() for variable in network.non_trainable_variables]

    def forward(features: Any, gender: Any) -> Any:
        return network.stateless_call(trainable, fixed, network_inputs(features, gender), training=False)[0]

    def of_features(features: Any, gender: Any = None) -> dict[str, Any]:
        if spec.segment_frames is None:
            probabilities = forward(features, gender)
        else:
            probabilities = _by_segments(partial(forward, gender=gender), features, classifier)
        probabilities = classifier.calibrated(probabilities)
        if gender is not None:  # a LiteRT graph cannot raise
            probabilities = tf.where((gender >= 0) & (gender <= 1), probabilities, np.float32("nan"))
        return {"probabilities": probabilities}

    def of_waveform(waveform: Any, gender: Any = None) -> dict[str, Any]:
        # fit to the length first: LiteRT runs graphs of fixed shapes several times as fast
        fitted = waveform if spec.n_samples is None else tf.reshape(fit_length(waveform, spec.n_samples), (1, -1))
        features = to_features(fitted)
        features.set_shape((1, *graph.features_shape(classifier, fixed=True)))
        return of_features(features, gender)

    module = tf.Module()
    module.serving_default = tf.function(of_waveform, input_signature=graph.waveform_inputs(classifier, 1))
    module.features = tf.function(of_features, input_signature=graph.features_inputs(classifier, 1))
    return module


def _by_segments(forward: Callable[[Any], Any], features: Any, classifier: Classifier) -> Any:
    """Cut features (1, n_frames, ...) and pool probabilities (1, n_classes) as :mod:`serzoo.features.segments` does.

    The segments go through the network one by one: LiteRT has no LSTM for batches of variable size, and none within a
    loop unless its steps are unrolled.
    """
    length, n_frames = classifier.feature_spec.segment_frames or 0, tf.shape(features)[1]
    padded = tf.pad(features, [(0, 0), (0, length)] + [(0, 0)] * (len(features.shape) - 2))

    def step(start: Any, maxima: Any) -> tuple[Any, Any]:
        first = tf.minimum(start, tf.maximum(n_frames - length, 0))
        segment = padded[:, first : first + length]
        segment.set_shape((1, length, *features.shape[2:]))
        return start + length, tf.maximum(maxima, forward(segment))

    with _unrolled(classifier.network):
        start = (0, tf.zeros((1, classifier.model.n_classes)))
        maxima = tf.while_loop(lambda start, _: start < n_frames, step, start)[1]
    return maxima / tf.reduce_sum(maxima, axis=1, keepdims=True)


@contextmanager
def _unrolled(network: keras.Model) -> Iterator[None]:
    """Unroll recurrent layers: they are traced step by step instead of as loops."""
    names = ("forward_layer", "backward_layer")
    parts = [getattr(layer, name, layer) for layer in network.layers for name in names]
    layers = [part for part in parts if isinstance(part, keras.layers.RNN)]
    try:
        for layer in layers:
            layer.unroll = True
        yield
    finally:
        for layer in layers:
            layer.unroll = False


def runners(path: Path) -> dict[str, Callable[..., np.ndarray]]:
    """Return a function for each signature of a written file, by name.

    Each function maps waveforms or features, (batch, ...), and for some models ``gender``, (batch,), to probabilities,
    (batch, n_classes). It runs one recording at a time on one thread, in LiteRT's own package if that is installed,
    else in TensorFlow.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's announces its move to that package
        interpreter = Interpreter(model_path=str(path), num_threads=1)

    def run(runner: Callable[..., Any], name: str, values: np.ndarray, **gender: np.ndarray) -> np.ndarray:
        inputs = {name: values, **gender}
        rows = [{key: each[[row]] for key, each in inputs.items()} for row in range(len(values))]
        return np.concatenate([runner(**one)["probabilities"] for one in rows])

    return {name: partial(run, interpreter.get_signature_runner(name), key) for name, key in _SIGNATURES.items()}


def _refused(classifier: Classifier, error: Exception) -> ExportError:
    """Return a one-line error for the converter's or the interpreter's, whose messages contain whole graphs."""
    operation = re.search(r'fused\["(\w+):', str(error))
    reason = f"no operation for {operation[1]}" if operation else str(error).strip().partition("\n")[0].rstrip(".")
    return ExportError(
        f"LiteRT cannot compute this {classifier.model.name} ({reason:.200}); export it with format='saved_model'."
    )
