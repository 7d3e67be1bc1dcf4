"""Classify recordings: a model together with its features and class names."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
import numpy as np

from serzoo.checks import COUNT, UNIT, check, one_of
from serzoo.data import audio
from serzoo.data.clips import Clip, Windows, make_clip, recordings_in
from serzoo.data.examples import network_inputs
from serzoo.errors import AudioError, ConfigError, DataError, SerzooWarning, WeightsError
from serzoo.features.segments import pool_segments
from serzoo.features.spec import FeatureSpec
from serzoo.features.threads import single_threaded_blas
from serzoo.files import local_path, moved_into_place
from serzoo.labels import male_probability
from serzoo.layers.temperature import at_temperature
from serzoo.models.base import SERModel, check_features_shape
from serzoo.predictions import Prediction, Segment

if TYPE_CHECKING:
    from serzoo.classical.model import ClassicalClassifier
    from serzoo.weights.cards import EmotionCard

_WORKERS = min(4, os.cpu_count() or 1)

Gender = str | float | None
"""A speaker's gender for models that take it: ``"male"``, ``"female"`` or the probability of male, in 0..1."""

Genders: TypeAlias = "Gender | Sequence[Gender] | Path | ClassicalClassifier"
"""The gender input of predictions: one for all recordings, one for each, or a gender classifier.

The classifier is the name of a pretrained one (:func:`serzoo.list_pretrained`), a ``.skops`` file, the folder of a
run's fold (a ``Path``, or text with a slash), or the result of
:func:`serzoo.classical.gender_classifier.load_gender_classifier`; that saves loading it at each call.
"""


class Classifier:
    """Classifies recordings; :func:`serzoo.load` returns one.

    A model of fixed length gets the recording centred in that length, zero-padded or cut as in training; a model of
    segments gets the whole recording, segment by segment. The prediction for a recording does not depend on the others
    in its batch.

    The probabilities of pretrained weights are calibrated with the temperature of the model card, and the label is
    :data:`serzoo.labels.UNKNOWN` where the largest is below the card's threshold. Those of other models are the
    network's own, without a threshold.

    Args:
        model: a model of the zoo that has class names and a feature spec.
        card: the model card, for pretrained weights; None for any other model.

    Attributes:
        model: as given.
        card: as given; it has the name, licence and calibration.
        class_names: the names of the model's outputs, in order.
        feature_spec: the features that the model takes.
        threshold: confidence in 0..1 below which the label is unknown, unless a call sets another.
        network: maps the model's inputs to probabilities (batch, n_classes), also where ``model`` gives logits; the
            weights are the model's. The probabilities are not calibrated (:meth:`calibrated`).

    Raises:
        ConfigError: the model has no class names or no feature spec.
        FeatureError: the spec's features are not those that the model takes.
        WeightsError: the model normalises its features and has no statistics for it.
    """

    def __init__(self, model: SERModel, card: EmotionCard | None = None) -> None:
        if model.class_names is None or model.feature_spec is None:
            missing = "class_names" if model.class_names is None else "feature_spec"
            raise ConfigError(
                f"{model.name} has no {missing}; build or load it with {missing}=... to classify with it."
            )
        spec = model.feature_spec
        check_features_shape(model, (spec.n_frames, *spec.frame_shape), "its feature spec gives")
        model.check_statistics()
        self.model = model
        self.card = card
        self.threshold = 0.0 if card is None else card.calibration.threshold
        self.class_names = model.class_names
        self.feature_spec = model.feature_spec
        self.network = _probability_network(model)
        self._for_one_clip = self.network
        # on JAX predict_on_batch hands over the variables' arrays and takes them back: one thread at a time
        self._turn = threading.Lock() if keras.backend.backend() == "jax" else nullcontext()

    def calibrated(self, probabilities: Any) -> Any:
        """Return probabilities scaled by the temperature of the model card; unchanged without a card.

        Args:
            probabilities: of recordings, (batch, n_classes), array or tensor. Pool those of segments first.
        """
        return probabilities if self.card is None else at_temperature(probabilities, self.card.calibration.temperature)

    def warm_up(self) -> None:
        """Prepare for recordings that come one at a time, so that the first one takes no longer than the others.

        It takes seconds, and is meant for programs that run long: XLA compiles the network for one clip, which halves
        the time of a small network such as TIM-Net's and changes probabilities by float32 rounding at most. A model
        for clips of any length is not compiled, because XLA would compile it for each new length.
        """
        spec = self.feature_spec
        n_frames = spec.n_frames or max(self.model.min_frames, spec.frames_in(spec.sample_rate))
        clip = np.zeros((1, n_frames, *spec.frame_shape), np.float32)
        network = self.network if spec.n_frames is None else _probability_network(self.model, jit_compile=True)
        network.predict_on_batch(network_inputs(clip, np.zeros(1, np.float32) if self.model.takes_gender else None))
        self._for_one_clip = network

    def predict(
        self,
        source: str | Path | Iterable[str | Path] | np.ndarray,
        sample_rate: int | None = None,
        *,
        gender: Genders = None,
        windows: Windows = "auto",
        threshold: float | None = None,
        batch_size: int = 32,
    ) -> Prediction | list[Prediction]:
        """Classify a file, a folder, a list of files, or samples.

        Args:
            source: a file that libsndfile decodes, a folder that is searched with its subfolders for
                :data:`~serzoo.data.clips.SUFFIXES`, a list of both, or one channel of samples, (n_samples,),
                floats in -1..1.
            sample_rate: of samples, in Hz; files have their own.
            gender: gender input, for models that take one: one for all recordings, one for each, or a gender
                classifier (:data:`Genders`).
            windows: True classifies recordings longer than ``feature_spec.n_samples`` in half-overlapping windows of
                that length, False classifies their central part only, and ``"auto"`` uses windows for recordings more
                than twice as long. Models of segments take ``"auto"`` only.
            threshold: confidence in 0..1 below which the label is :data:`serzoo.labels.UNKNOWN`; 0 accepts every
                prediction, None takes the threshold of the model card, or 0 without one.
            batch_size: number of clips per forward pass.

        Returns:
            A prediction for a file or for samples; a list for a folder or a list, in natural order or as given.

        Raises:
            AudioError: a recording that cannot be read, is silent, or is shorter than
                :data:`~serzoo.data.clips.MIN_SECONDS`; :meth:`predict_files` can skip it.
            DataError: the gender input is missing or out of range.
            UnknownNameError, WeightsError: the gender classifier does not exist or is damaged.
            ConfigError: a gender for a model without gender input, windows for a model that takes recordings whole, or
                a threshold out of range.
        """
        if isinstance(source, np.ndarray):
            if sample_rate is None:
                raise AudioError("array has no sample rate; give the rate it was recorded at: predict(array, 16000).")
            return self.predict_waveform(
                source, sample_rate, gender=gender, windows=windows, threshold=threshold, batch_size=batch_size
            )
        if sample_rate is not None:
            raise AudioError("sample_rate goes with samples as a NumPy array (np.asarray(...)); files have their own.")
        is_one = isinstance(source, (str, Path)) or not isinstance(source, Iterable)
        sources: Any = [source] if is_one else source
        found = self.predict_files(sources, gender=gender, windows=windows, threshold=threshold, batch_size=batch_size)
        return found[0] if is_one and not local_path(sources[0]).is_dir() else found

    def predict_waveform(
        self,
        waveform: np.ndarray,
        sample_rate: int,
        *,
        gender: Genders = None,
        windows: Windows = "auto",
        threshold: float | None = None,
        batch_size: int = 32,
    ) -> Prediction:
        """Classify samples.

        Args:
            waveform: one channel, (n_samples,), floats, full scale at -1 and 1.
            sample_rate: in Hz.
            gender: as in :meth:`predict`.
            windows: as in :meth:`predict`.
            threshold: as in :meth:`predict`.
            batch_size: number of windows per forward pass.

        Raises:
            AudioError: not one channel of finite floats, silent, or shorter than
                :data:`~serzoo.data.clips.MIN_SECONDS`.
            SerzooError: wrong gender, threshold or windows; as in :meth:`predict`.
        """
        self._check_options(windows, threshold, batch_size)
        (male,) = self._genders(gender, ["array"])
        samples = audio.check_waveform(waveform, sample_rate, "array")
        with single_threaded_blas():
            clip = _prepare("array", samples, sample_rate, male, self.feature_spec, windows)
        return self._predict_clips([clip], self._threshold(threshold), batch_size)[0]

    def predict_files(
        self,
        sources: Iterable[str | Path],
        *,
        gender: Genders = None,
        windows: Windows = "auto",
        threshold: float | None = None,
        batch_size: int = 32,
        on_error: Callable[[AudioError], object] | None = None,
    ) -> list[Prediction]:
        """Classify files and folders.

        Args:
            sources: files, and folders that are searched with their subfolders.
            gender: as in :meth:`predict`; "one for each" includes the recordings found in folders.
            windows: as in :meth:`predict`.
            threshold: as in :meth:`predict`.
            batch_size: number of files to read, and of clips per forward pass.
            on_error: is called with the error of each recording that cannot be classified, and the result is without
                these recordings; None raises the first such error.

        Raises:
            AudioError: as in :meth:`predict`, and a folder without recordings.
            SerzooError: wrong gender, threshold or windows; as in :meth:`predict`.
        """
        self._check_options(windows, threshold, batch_size)
        paths = [path for source in sources for path in recordings_in(source)]
        genders = self._genders(gender, paths)
        attempt = partial(_attempt, spec=self.feature_spec, windows=windows)
        predictions: list[Prediction] = []
        with single_threaded_blas(), closing(_in_batches(attempt, paths, genders, batch_size)) as batches:
            for outcomes in batches:
                predictions += self._predict_clips(_clips(outcomes, on_error), self._threshold(threshold), batch_size)
        return predictions

    def save(self, path: str | Path) -> Path:
        """Write the model with its class names and feature spec to a file that :func:`serzoo.load` reads.

        The file has no model card, and so no temperature, threshold or licence; a warning states it.

        Args:
            path: a name that ends in ``.keras``; an existing file is replaced once the new one is complete.

        Raises:
            ConfigError: another ending.
        """
        target = local_path(path)
        if target.suffix != ".keras":
            raise ConfigError(
                f"{path} does not end in .keras, the format with class names and features; choose such a name."
            )
        if self.card is not None:
            warnings.warn(
                f"{target.name} has the network of {self.card.name} without its model card: its probabilities are not "
                f"calibrated, and its licence is still {self.card.licence}",
                SerzooWarning,
                stacklevel=2,
            )
        with moved_into_place(target) as part:
            self.model.save(part)
        return target

    def _threshold(self, threshold: float | None) -> float:
        return self.threshold if threshold is None else float(threshold)

    def _check_options(self, windows: object, threshold: object, batch_size: object) -> None:
        check("windows", windows, one_of(("auto", True, False)))
        if threshold is not None:
            check("threshold", threshold, UNIT)
        check("batch_size", batch_size, COUNT)
        in_segments = self.feature_spec.segment_frames is not None
        if windows != "auto" and (in_segments or (windows and self.feature_spec.n_samples is None)):
            raise ConfigError(
                f"windows={windows} is for models of fixed length; this one takes whole recordings (windows='auto')."
            )

    def _genders(
        self, gender: Genders, names: Sequence[str | Path]
    ) -> Sequence[float | None] | Sequence[ClassicalClassifier]:
        """Return the probability of a male speaker or the gender classifier for each recording, or None for each."""
        if not self.model.takes_gender:
            if gender is not None:
                raise ConfigError(f"{self.model.name} does not take the speaker's gender; leave gender out.")
            return [None] * len(names)
        from serzoo.classical.gender_classifier import find_gender_classifier

        classifier = find_gender_classifier(gender)
        if classifier is not None:
            return [classifier] * len(names)
        given = np.asarray(gender, object)
        if given.ndim == 0:
            given = np.full(len(names), gender, object)
        if given.shape not in ((len(names),), (len(names), 1)):
            found = " x ".join(map(str, given.shape))
            raise DataError(f"{found} genders for {len(names)} recordings; give one for all, or one for each.")
        pairs = zip(given.ravel(), names, strict=True)
        return [male_probability(each, f"{name}: the speaker's") for each, name in pairs]

    def _predict_clips(self, clips: Sequence[Clip], threshold: float, batch_size: int) -> list[Prediction]:
        """Run the model on all parts of all clips and pool the parts of each clip."""
        if not clips:
            return []
        # clips of different lengths go one by one: padding them to a common length would change their probabilities
        groups = [clip.features for clip in clips]
        genders = [np.full(len(clip.features), clip.gender or 0.0, np.float32) for clip in clips]
        if self.feature_spec.n_frames is not None:
            groups, genders = [np.concatenate(groups)], [np.concatenate(genders)]
        outputs = [self._forward(*group, batch_size) for group in zip(groups, genders, strict=True)]
        probabilities = np.concatenate(outputs).astype(np.float64)
        if not np.isfinite(probabilities).all():
            raise WeightsError(f"{self.model.name} returns NaN: its training diverged or its weights are damaged.")
        parts = np.split(probabilities, np.cumsum([len(clip.features) for clip in clips])[:-1])
        return [self._prediction(clip, part, threshold) for clip, part in zip(clips, parts, strict=True)]

    def _forward(self, features: np.ndarray, genders: np.ndarray, batch_size: int) -> np.ndarray:
        """Return the network's probabilities, (n, n_classes), computed for ``batch_size`` rows at a time."""
        # network.predict makes a tf.data pipeline per call; for one clip that takes ten times as long as the network
        rows = [slice(start, start + batch_size) for start in range(0, len(features), batch_size)]
        batches = [(features[part], genders[part] if self.model.takes_gender else None) for part in rows]
        networks = [self._for_one_clip if len(batch[0]) == 1 else self.network for batch in batches]
        passes = zip(networks, batches, strict=True)
        with self._turn:
            return np.concatenate([network.predict_on_batch(network_inputs(*batch)) for network, batch in passes])

    def _prediction(self, clip: Clip, outputs: np.ndarray, threshold: float) -> Prediction:
        calibrated = np.asarray(self.calibrated(outputs))
        spans = zip(clip.spans, calibrated, strict=True) if clip.spans else ()
        timeline = tuple(Segment(start, end, self._by_name(part), threshold) for (start, end), part in spans)
        if self.feature_spec.segment_frames is None:
            whole = calibrated.mean(axis=0)
        else:
            whole = np.asarray(self.calibrated(pool_segments(outputs, np.array([len(outputs)]))))[0]
        return Prediction(
            clip.name, self._by_name(whole), clip.duration, timeline, clip.warnings, clip.gender, threshold
        )

    def _by_name(self, probabilities: np.ndarray) -> dict[str, float]:
        return dict(zip(self.class_names, probabilities.tolist(), strict=True))


def _in_batches(
    attempt: Callable[[Path, Any], Clip | AudioError], paths: Sequence[Path], genders: Sequence[Any], batch_size: int
) -> Generator[Iterable[Clip | AudioError], None, None]:
    """Yield the outcomes of the recordings batch by batch; threads read the next batch while one is classified."""
    if len(paths) == 1:  # there is no next batch, and starting threads takes as long as reading a file
        yield map(attempt, paths, genders)
        return
    with ThreadPoolExecutor(_WORKERS) as pool:
        ready: Iterable[Clip | AudioError] = ()
        for start in range(0, len(paths), batch_size):
            batch = slice(start, start + batch_size)
            upcoming = pool.map(attempt, paths[batch], genders[batch])
            yield ready
            ready = upcoming
        yield ready


def _attempt(
    path: Path, gender: float | ClassicalClassifier | None, spec: FeatureSpec, windows: Windows
) -> Clip | AudioError:
    try:
        waveform, sample_rate = audio.read(path)
        return _prepare(str(path), waveform, sample_rate, gender, spec, windows)
    except AudioError as error:
        return error


def _prepare(
    name: str,
    waveform: np.ndarray,
    sample_rate: int,
    gender: float | ClassicalClassifier | None,
    spec: FeatureSpec,
    windows: Windows,
) -> Clip:
    """Return a recording's clip; where ``gender`` is a classifier, the clip's gender is its prediction."""
    if gender is None or isinstance(gender, float):
        return make_clip(name, waveform, sample_rate, spec, windows, gender)
    from serzoo.classical.gender_classifier import predict_gender

    clip = make_clip(name, waveform, sample_rate, spec, windows, None)
    male = predict_gender(gender, waveform, sample_rate, name)
    own_rate = gender.feature_spec.sample_rate
    if sample_rate < own_rate:
        warning = f"recorded at {sample_rate} Hz; the gender classifier, trained at {own_rate} Hz, may be wrong"
        clip = replace(clip, warnings=(*clip.warnings, warning))
    return replace(clip, gender=male)


def _clips(outcomes: Iterable[Clip | AudioError], on_error: Callable[[AudioError], object] | None) -> list[Clip]:
    """Return the clips among the outcomes; pass the errors to ``on_error``, or raise the first."""
    clips = []
    for outcome in outcomes:
        if isinstance(outcome, Clip):
            clips.append(outcome)
        elif on_error is None:
            raise outcome
        else:
            on_error(outcome)
    return clips


def _probability_network(model: SERModel, jit_compile: bool = False) -> keras.Model:
    """Return a model that shares the weights and outputs probabilities; on JAX it is compiled in any case."""
    outputs = model.outputs[0]
    if model.classifier_activation is None:
        outputs = keras.layers.Softmax()(outputs)
    network = keras.Model(model.input, outputs, name=f"{model.name}_probabilities")
    # TensorFlow's XLA takes seconds to compile each new batch size; on JAX there is no other fast way
    network.compile(jit_compile=jit_compile or keras.backend.backend() == "jax")
    return network
