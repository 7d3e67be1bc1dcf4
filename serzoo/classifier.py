"""Classify recordings: a model together with the features it takes and the names of its outputs."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
import numpy as np

from serzoo.data import audio
from serzoo.data.clips import Clip, Windows, make_clip, recordings_in
from serzoo.data.examples import network_inputs
from serzoo.errors import AudioError, ConfigError, DataError, SerzooWarning, WeightsError
from serzoo.features.segments import pool_segments
from serzoo.features.spec import FeatureSpec
from serzoo.features.threads import single_threaded_blas
from serzoo.files import local_path, moved_into_place
from serzoo.labels import UNKNOWN, male_probability
from serzoo.layers.temperature import at_temperature
from serzoo.models.base import SERModel, check_choice, check_count, check_features_shape

if TYPE_CHECKING:
    from serzoo.classical.model import ClassicalClassifier
    from serzoo.weights.cards import EmotionCard

_WORKERS = min(4, os.cpu_count() or 1)

Gender = str | float | None
"""A speaker's gender for models that take it: ``"male"``, ``"female"`` or the probability of male, in 0..1."""

Genders: TypeAlias = "Gender | Sequence[Gender] | Path | ClassicalClassifier"
"""What predictions take as gender: one for all recordings, one for each, or a classifier that tells them by the voice.

Such a classifier is given by name (:func:`serzoo.list_pretrained`), as a ``.skops`` file, as the folder of a run's fold
(a ``Path``, or text with a slash), or loaded by
:func:`serzoo.classical.gender_classifier.load_gender_classifier`, which saves time where predictions are many.
"""


@dataclass(frozen=True)
class Segment:
    """What was heard in one window or segment of a long recording.

    Args:
        start: in seconds from the beginning of the recording.
        end: in seconds.
        probabilities: one per class name, in the model's order.
        threshold: as in :class:`Prediction`.
    """

    start: float
    end: float
    probabilities: Mapping[str, float]
    threshold: float = 0.0

    @property
    def label(self) -> str:
        """The answer: the most probable class, or :data:`UNKNOWN`."""
        return _label(self.probabilities, self.threshold)

    def to_dict(self) -> dict[str, object]:
        """Return the segment as plain data."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "label": self.label,
            "probabilities": _rounded(self.probabilities),
        }


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one recording.

    Args:
        name: the file's path, or ``"array"``.
        probabilities: one per class name, in the model's order; of a long recording the mean over its windows,
            or the maximum over its segments, scaled to a sum of 1.
        duration: in seconds.
        timeline: the windows of a long recording, half overlapping, those that are digital silence left out, or
            its segments, for a model that was trained on such; empty for a recording in one piece.
        warnings: why the answer may be worth less than usual.
        gender: probability that the speaker is male, as the model was told; None for a model that does not take it.
        threshold: the confidence that an answer needs, 0..1; 0 takes any.
    """

    name: str
    probabilities: Mapping[str, float]
    duration: float
    timeline: tuple[Segment, ...] = ()
    warnings: tuple[str, ...] = ()
    gender: float | None = None
    threshold: float = 0.0

    @property
    def label(self) -> str:
        """The answer: :attr:`top`, or :data:`UNKNOWN` where its probability is below the threshold."""
        return _label(self.probabilities, self.threshold)

    @property
    def top(self) -> str:
        """The most probable class, however probable it is."""
        return _most_probable(self.probabilities)

    @property
    def confidence(self) -> float:
        """The probability of :attr:`top`."""
        return self.probabilities[self.top]

    def to_dict(self) -> dict[str, object]:
        """Return the prediction as plain data."""
        return {
            "name": self.name,
            "label": self.label,
            **_doubted(self),
            "confidence": round(self.confidence, 6),
            "probabilities": _rounded(self.probabilities),
            "duration": round(self.duration, 3),
            **_told(self),
            "timeline": [segment.to_dict() for segment in self.timeline],
            "warnings": list(self.warnings),
        }


def to_json(predictions: Sequence[Prediction]) -> str:
    """Return predictions as a JSON list with one object per recording, timelines included."""
    return json.dumps([prediction.to_dict() for prediction in predictions], indent=2, ensure_ascii=False) + "\n"


def to_csv(predictions: Sequence[Prediction]) -> str:
    """Return predictions of one classifier as CSV: a row per recording, a column ``p_<class>`` per class.

    A column ``gender`` is there if the classifier takes it, as the probability of a male speaker; columns ``top`` and
    ``threshold`` are there if an answer needs some confidence. Timelines are left out; :func:`to_json` has them.
    """
    class_names = list(predictions[0].probabilities) if predictions else []
    told = _told(predictions[0]) if predictions else {}
    doubted = _doubted(predictions[0]) if predictions else {}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["name", "label", *doubted, "confidence", "duration", *told]
    writer.writerow([*columns, *(f"p_{name}" for name in class_names), "warnings"])
    for prediction in predictions:
        probabilities = _rounded(prediction.probabilities).values()
        answer = [prediction.name, prediction.label, *_doubted(prediction).values()]
        head = [*answer, round(prediction.confidence, 6), round(prediction.duration, 3), *_told(prediction).values()]
        writer.writerow([*head, *probabilities, "; ".join(prediction.warnings)])
    return text.getvalue()


class Classifier:
    """Answers with an emotion to recordings; what :func:`serzoo.load` returns.

    A recipe of fixed length stays as published: a recording is centred in it, zero-padded or cut, as in
    training. One of segments hears a recording of any length whole, segment by segment. Recordings are
    classified independently of each other, whatever batch they come in.

    A pretrained set's probabilities are calibrated by the temperature on its card, and where the largest is below the
    card's threshold the answer is :data:`UNKNOWN`. Of any other model they are the network's own, and each is answered.

    Args:
        model: a model of the zoo that has class names and a feature spec.
        card: of the pretrained set whose network the model is; None for any other.

    Attributes:
        model: as given.
        card: as given; it knows name, licence and calibration.
        class_names: the names of the model's outputs, in order.
        feature_spec: the features the model takes.
        threshold: the confidence that an answer needs unless a call says another, 0..1.
        network: maps the model's inputs to probabilities (batch, n_classes), also where ``model`` gives
            logits; the weights are the model's. They are not calibrated yet (:meth:`calibrated`).

    Raises:
        ConfigError: the model has no class names or no feature spec.
        FeatureError: the spec's features are not what the model takes.
        WeightsError: the model normalises its features and has no statistics to do so.
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
        """Return the network's probabilities for recordings at the temperature of the card, if there is one.

        Args:
            probabilities: (batch, n_classes), array or tensor; of recordings in segments those that the segments are
                put together to.
        """
        return probabilities if self.card is None else at_temperature(probabilities, self.card.calibration.temperature)

    def warm_up(self) -> None:
        """Get ready for recordings that come one at a time, so that the first is answered as fast as the others.

        It takes seconds and pays in a program that runs for long: XLA compiles the network for one clip, which halves
        the time of a small one such as TIM-Net's. Answers change by float32 rounding at most. Where clips differ in
        length, XLA would compile anew for each length, and is left out.
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
            sample_rate: of samples, in Hz; files say theirs.
            gender: the speaker's, for a model that takes it: one for all recordings, one for each, or a classifier of
                genders that tells each one's by the voice (:data:`Genders`).
            windows: True classifies recordings longer than ``feature_spec.n_samples`` in half-overlapping windows
                of that length, False only their central part; ``"auto"`` takes windows for recordings
                more than twice as long. A model of segments takes recordings whole, with ``"auto"``.
            threshold: the confidence, 0..1, below which the answer is :data:`UNKNOWN`; 0 takes any answer, None is
                the card's threshold, or 0 without a card.
            batch_size: clips that the model takes at a time.

        Returns:
            A prediction for a file or for samples; a list for a folder or a list, in natural order or as given.

        Raises:
            AudioError: a recording that cannot be read, is silent, or is shorter than
                :data:`~serzoo.data.clips.MIN_SECONDS`; :meth:`predict_files` can go on without it.
            DataError: the model takes a gender and it is missing or out of range.
            UnknownNameError, WeightsError: no classifier of genders, or a damaged one.
            ConfigError: a gender for a model without, windows where they mean nothing, or a threshold out of range.
        """
        if isinstance(source, np.ndarray):
            if sample_rate is None:
                raise AudioError("array has no sample rate; give the rate it was recorded at: predict(array, 16000).")
            return self.predict_waveform(
                source, sample_rate, gender=gender, windows=windows, threshold=threshold, batch_size=batch_size
            )
        if sample_rate is not None:
            raise AudioError("sample_rate goes with samples as a NumPy array (np.asarray(...)); files say their own.")
        ask = partial(self.predict_files, gender=gender, windows=windows, threshold=threshold, batch_size=batch_size)
        if isinstance(source, (str, Path)) or not isinstance(source, Iterable):
            found = ask([source])
            return found if local_path(source).is_dir() else found[0]
        return ask(source)

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
            batch_size: windows that the model takes at a time.

        Raises:
            AudioError: not one channel of finite floats, silent, or shorter than
                :data:`~serzoo.data.clips.MIN_SECONDS`.
            SerzooError: a wrong gender or threshold, or windows where they mean nothing; as in :meth:`predict`.
        """
        self._check_options(windows, threshold, batch_size)
        (told,) = self._genders(gender, ["array"])
        samples = audio.check_waveform(waveform, sample_rate, "array")
        with single_threaded_blas():
            clip = _prepare("array", samples, sample_rate, told, self.feature_spec, windows)
        return self._predict_clips([clip], self._needed(threshold), batch_size)[0]

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
            gender: as in :meth:`predict`; one for each counts the recordings found in folders.
            windows: as in :meth:`predict`.
            threshold: as in :meth:`predict`.
            batch_size: files that are read, and clips that the model takes, at a time.
            on_error: is called with the error of each recording that cannot be classified, which the
                result then lacks; None raises the first such error.

        Raises:
            AudioError: as in :meth:`predict`, and a folder without recordings.
            SerzooError: a wrong gender or threshold, or windows where they mean nothing; as in :meth:`predict`.
        """
        self._check_options(windows, threshold, batch_size)
        paths = [path for source in sources for path in recordings_in(source)]
        genders = self._genders(gender, paths)
        attempt = partial(_attempt, spec=self.feature_spec, windows=windows)
        predictions: list[Prediction] = []
        with single_threaded_blas(), closing(_in_batches(attempt, paths, genders, batch_size)) as batches:
            for outcomes in batches:
                predictions += self._predict_clips(_clips(outcomes, on_error), self._needed(threshold), batch_size)
        return predictions

    def save(self, path: str | Path) -> Path:
        """Write the model with its class names and feature spec to a file that :func:`serzoo.load` reads.

        A card stays behind, and with it temperature, threshold and licence; a warning says so.

        Args:
            path: a name that ends in ``.keras``; an old file is replaced once the new one is whole.

        Raises:
            ConfigError: another ending.
        """
        target = local_path(path)
        if target.suffix != ".keras":
            raise ConfigError(
                f"{path} does not end in .keras, the format that keeps class names and features; name it so."
            )
        if self.card is not None:
            network = f"{target.name} has the network of {self.card.name} without its card"
            message = f"{network}: it answers uncalibrated, and its licence is still {self.card.licence}"
            warnings.warn(message, SerzooWarning, stacklevel=2)
        with moved_into_place(target) as part:
            self.model.save(part)
        return target

    def _needed(self, threshold: float | None) -> float:
        """Return the confidence that an answer needs."""
        return self.threshold if threshold is None else float(threshold)

    def _check_options(self, windows: object, threshold: object, batch_size: object) -> None:
        check_choice("windows", windows, ("auto", True, False))
        is_number = isinstance(threshold, Real) and not isinstance(threshold, bool)
        if threshold is not None and not (is_number and 0 <= threshold <= 1):  # type: ignore[operator]
            raise ConfigError(f"threshold is {threshold!r}; it must be a number in 0..1 (0 takes any answer).")
        check_count("batch_size", batch_size)
        in_segments = self.feature_spec.segment_frames is not None
        if windows != "auto" and (in_segments or (windows and self.feature_spec.n_samples is None)):
            raise ConfigError(
                f"windows={windows} is for models of fixed length; this one takes recordings whole (windows='auto')."
            )

    def _genders(
        self, gender: Genders, names: Sequence[str | Path]
    ) -> Sequence[float | None] | Sequence[ClassicalClassifier]:
        """Return each recording's probability of a male speaker, or who tells it; None where the model takes none."""
        if not self.model.takes_gender:
            if gender is not None:
                raise ConfigError(f"{self.model.name} does not take the speaker's gender; leave gender out.")
            return [None] * len(names)
        from serzoo.classical.gender_classifier import find_gender_classifier

        judge = find_gender_classifier(gender)
        if judge is not None:
            return [judge] * len(names)
        given = np.asarray(gender, object)
        if given.ndim == 0:
            given = np.full(len(names), gender, object)
        if given.shape not in ((len(names),), (len(names), 1)):
            found = " x ".join(map(str, given.shape))
            raise DataError(f"{found} genders for {len(names)} recordings; give one for all, or one for each.")
        pairs = zip(given.ravel(), names, strict=True)
        return [male_probability(each, f"{name}: the speaker's") for each, name in pairs]

    def _predict_clips(self, clips: Sequence[Clip], threshold: float, batch_size: int) -> list[Prediction]:
        """Run the model on all parts of all clips and put together those of each."""
        if not clips:
            return []
        # clips of different lengths go one by one: padding them to a common length would change the answers
        groups = [clip.features for clip in clips]
        genders = [np.full(len(clip.features), clip.gender or 0.0, np.float32) for clip in clips]
        if self.feature_spec.n_frames is not None:
            groups, genders = [np.concatenate(groups)], [np.concatenate(genders)]
        outputs = [self._forward(*group, batch_size) for group in zip(groups, genders, strict=True)]
        probabilities = np.concatenate(outputs).astype(np.float64)
        if not np.isfinite(probabilities).all():
            raise WeightsError(f"{self.model.name} answers with NaN: its training diverged or its weights are damaged.")
        parts = np.split(probabilities, np.cumsum([len(clip.features) for clip in clips])[:-1])
        return [self._prediction(clip, part, threshold) for clip, part in zip(clips, parts, strict=True)]

    def _forward(self, features: np.ndarray, genders: np.ndarray, batch_size: int) -> np.ndarray:
        """Return the network's probabilities, (n, n_classes), asked for ``batch_size`` rows at a time."""
        # network.predict makes a tf.data pipeline per call, which takes ten times as long as the network for one clip
        rows = [slice(start, start + batch_size) for start in range(0, len(features), batch_size)]
        batches = [(features[part], genders[part] if self.model.takes_gender else None) for part in rows]
        networks = [self._for_one_clip if len(batch[0]) == 1 else self.network for batch in batches]
        asked = zip(networks, batches, strict=True)
        with self._turn:
            return np.concatenate([network.predict_on_batch(network_inputs(*batch)) for network, batch in asked])

    def _prediction(self, clip: Clip, outputs: np.ndarray, threshold: float) -> Prediction:
        calibrated = np.asarray(self.calibrated(outputs))
        spans = zip(clip.spans, calibrated, strict=True) if clip.spans else ()
        timeline = tuple(Segment(start, end, self._by_name(part), threshold) for (start, end), part in spans)
        if self.feature_spec.segment_frames is None:
            whole = calibrated.mean(axis=0)
        else:
            whole = np.asarray(self.calibrated(pool_segments(outputs, np.array([len(outputs)]))))[0]
        answer = self._by_name(whole)
        return Prediction(clip.name, answer, clip.duration, timeline, clip.warnings, clip.gender, threshold)

    def _by_name(self, probabilities: np.ndarray) -> dict[str, float]:
        return dict(zip(self.class_names, probabilities.tolist(), strict=True))


def _in_batches(
    attempt: Callable[[Path, Any], Clip | AudioError], paths: Sequence[Path], genders: Sequence[Any], batch_size: int
) -> Generator[Iterable[Clip | AudioError], None, None]:
    """Yield the outcomes of the recordings, a batch at a time; threads hear the next batch in the meantime."""
    if len(paths) == 1:  # nothing to do beside it, and to start threads takes as long as to read a file
        yield map(attempt, paths, genders)
        return
    with ThreadPoolExecutor(_WORKERS) as pool:
        heard: Iterable[Clip | AudioError] = ()
        for start in range(0, len(paths), batch_size):
            batch = slice(start, start + batch_size)
            upcoming = pool.map(attempt, paths[batch], genders[batch])
            yield heard
            heard = upcoming
        yield heard


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
    """Return a recording as the model will hear it; its gender, if somebody is to tell it, is heard on the way."""
    if gender is None or isinstance(gender, float):
        return make_clip(name, waveform, sample_rate, spec, windows, gender)
    from serzoo.classical.gender_classifier import predict_gender

    clip = make_clip(name, waveform, sample_rate, spec, windows, None)
    male = predict_gender(gender, waveform, sample_rate, name)
    own_rate = gender.feature_spec.sample_rate
    if sample_rate < own_rate:
        warning = f"recorded at {sample_rate} Hz, the classifier of genders hears at {own_rate} Hz and may be mistaken"
        clip = replace(clip, warnings=(*clip.warnings, warning))
    return replace(clip, gender=male)


def _clips(outcomes: Iterable[Clip | AudioError], on_error: Callable[[AudioError], object] | None) -> list[Clip]:
    """Return the clips among the outcomes and hand on the errors."""
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
    """Return a model that shares the weights and always gives probabilities; on JAX it is compiled in any case."""
    outputs = model.outputs[0]
    if model.classifier_activation is None:
        outputs = keras.layers.Softmax()(outputs)
    network = keras.Model(model.input, outputs, name=f"{model.name}_probabilities")
    # TensorFlow's XLA compiles anew for every batch size, which takes seconds; JAX has no other fast way
    network.compile(jit_compile=jit_compile or keras.backend.backend() == "jax")
    return network


def _told(prediction: Prediction) -> dict[str, float]:
    """Return the gender that a model was told, under its name in the outputs; nothing for a model without."""
    return {} if prediction.gender is None else {"gender": round(prediction.gender, 6)}


def _doubted(prediction: Prediction) -> dict[str, str | float]:
    """Return what an answer might have been and what it needs, under their names in the outputs, if it needs any."""
    return {"top": prediction.top, "threshold": round(prediction.threshold, 6)} if prediction.threshold else {}


def _label(probabilities: Mapping[str, float], threshold: float) -> str:
    top = _most_probable(probabilities)
    return top if probabilities[top] >= threshold else UNKNOWN


def _most_probable(probabilities: Mapping[str, float]) -> str:
    return max(probabilities, key=probabilities.__getitem__)


def _rounded(probabilities: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in probabilities.items()}
