import csv
import io
import json
import struct
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import soundfile

from serzoo.classifier import Classifier
from serzoo.data import audio
from serzoo.data.examples import Examples
from serzoo.errors import AudioError, ConfigError, FeatureError, SerzooWarning, UnknownNameError, WeightsError
from serzoo.features.extract import extract
from serzoo.features.spec import LogMelSpec, MFCCSpec
from serzoo.labels import UNKNOWN
from serzoo.models.timnet import TIMNet
from serzoo.predictions import Prediction, Segment, to_csv, to_json
from serzoo.settings import ModelConfig
from serzoo.training.evaluate import predict_probabilities
from serzoo.weights.cards import Calibration, EmotionCard
from serzoo.weights.check_clips import EMOTION_CLIP
from serzoo.zoo import build, load

RATE = 22_050
LENGTH = RATE // 2  # samples that the model takes
NAMES = ("angry", "happy", "sad")


def tiny_model(n_samples=LENGTH, **changes):
    keras.utils.set_random_seed(1)
    settings = {"n_blocks": 2, "filters": 4, "class_names": NAMES, "feature_spec": MFCCSpec(n_samples=n_samples)}
    return TIMNet(n_classes=3, **{**settings, **changes})


def tone(seconds=0.5, pitch=220.0, rate=RATE, level=0.2):
    """A tone that wanders, so that parts of a recording differ, over a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    wave = np.sin(2 * np.pi * pitch * time * (1 + 0.5 * time)) + 0.05 * noise
    return (level * wave).astype(np.float32)


def write(path, samples, rate=RATE, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def values(prediction):
    return np.array(list(prediction.probabilities.values()))


@pytest.fixture(scope="module")
def classifier():
    return Classifier(tiny_model())


@pytest.fixture(scope="module")
def of_any_length():
    return Classifier(tiny_model(n_samples=None))


@pytest.fixture
def recordings(tmp_path):
    """Files of different lengths, rates and formats in nested folders."""
    root = tmp_path / "recordings"
    return [
        write(root / "a2.wav", tone(0.5, 150)),
        write(root / "a10.flac", tone(0.3, 400)),
        write(root / "b" / "stereo.wav", np.stack([tone(0.9, 300, 44_100), tone(0.9, 90, 44_100)], axis=1), 44_100),
        write(root / "b" / "long.WAV", tone(2.2, 120)),
    ]


# Predictions ----------------------------------------------------------------------------------------------------------


def test_predicts_a_file(classifier, recordings):
    prediction = classifier.predict(str(recordings[0]))
    assert prediction.name == str(recordings[0])
    assert tuple(prediction.probabilities) == NAMES
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert prediction.label == NAMES[values(prediction).argmax()]
    assert prediction.confidence == values(prediction).max()
    assert prediction.duration == 0.5
    assert prediction.timeline == prediction.warnings == ()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_prediction_is_the_evaluated_output(classifier, recordings, number):
    waveform, _ = audio.read(recordings[number], RATE)
    features = extract(waveform, classifier.feature_spec)[None]
    evaluated = predict_probabilities(classifier.model, Examples(features, np.zeros(1, np.int64), NAMES))[0]
    np.testing.assert_allclose(values(classifier.predict(recordings[number])), evaluated, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("kind", ["classifier", "of_any_length"])
def test_a_batch_does_not_change_a_file(kind, recordings, batch_size, request):
    subject = request.getfixturevalue(kind)
    together = subject.predict(recordings, batch_size=batch_size)
    for path, prediction in zip(recordings, together, strict=True):
        alone = subject.predict(path)
        assert prediction.name == alone.name == str(path)
        np.testing.assert_allclose(values(prediction), values(alone), rtol=0, atol=1e-6)
        assert len(prediction.timeline) == len(alone.timeline)


@pytest.mark.jax
def test_threads_may_share_a_classifier(classifier, recordings):
    expected = [values(prediction) for prediction in classifier.predict(recordings)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(classifier.predict, recordings * 3))
    np.testing.assert_allclose([values(answer) for answer in answers], expected * 3, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_samples", [LENGTH, None])
def test_warming_up_does_not_change_the_probabilities(recordings, n_samples):
    subject = Classifier(tiny_model(n_samples=n_samples))
    expected = [values(subject.predict(path)) for path in recordings]
    subject.warm_up()
    answers = [values(subject.predict(path)) for path in recordings]
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("warm", [False, True])
def test_changed_weights_change_the_probabilities(recordings, warm):
    model = tiny_model()
    subject = Classifier(model)
    if warm:
        subject.warm_up()
    before = values(subject.predict(recordings[0]))
    model.set_weights([2 * weight for weight in model.get_weights()])
    assert np.abs(values(subject.predict(recordings[0])) - before).max() > 1e-3


def test_different_files_get_different_probabilities(classifier, recordings):
    answers = np.array([values(prediction) for prediction in classifier.predict(recordings)])
    assert np.ptp(answers, axis=0).max() > 1e-3


# Pretrained weights ---------------------------------------------------------------------------------------------------


CALIBRATION = Calibration(2.0, 0.3, 0.1, 0.5, 0.6, 0.7, 100)
CARD = EmotionCard(
    name="timnet.none_v1",
    summary="",
    bytes=0,
    sha256=64 * "0",
    corpus="",
    source="",
    licence="CC0",
    protocol="",
    scores={"uar": 0.5, "war": 0.5},
    class_names=NAMES,
    feature_spec={},
    versions={},
    input=dict(EMOTION_CLIP),
    output=(),
    model=ModelConfig("timnet"),
    trained_on="",
    calibration=CALIBRATION,
)


@pytest.mark.parametrize("number", [0, 3])
def test_a_card_calibrates(recordings, number):
    plain, calibrated = Classifier(tiny_model()), Classifier(tiny_model(), CARD)
    raw, found = plain.predict(recordings[number]), calibrated.predict(recordings[number])
    assert bool(raw.timeline) == (number == 3), "a long recording has windows"
    pairs = list(zip(raw.timeline, found.timeline, strict=True)) or [(raw, found)]
    for one, other in pairs:
        roots = np.sqrt(values(one))
        np.testing.assert_allclose(values(other), roots / roots.sum(), rtol=0, atol=1e-5)
    assert values(found).max() < values(raw).max()
    np.testing.assert_allclose(values(found), np.mean([values(other) for _, other in pairs], axis=0), atol=1e-6)


def test_a_card_calibrates_pooled_segments(recordings):
    small = {"n_convs": 1, "filters": [2, 2], "projection": 4, "lstm_units": 2}
    spec = LogMelSpec(n_mels=8, segment_frames=20)
    model = build("acrnn", class_names=NAMES, feature_spec=spec, gender=False, **small)
    model.normalization.adapt(np.random.default_rng(0).normal(size=(2, 20, 8, 3)))
    raw, found = (Classifier(model, card).predict(recordings[3]) for card in (None, CARD))
    assert len(raw.timeline) > 2
    roots = np.sqrt(values(raw))
    np.testing.assert_allclose(values(found), roots / roots.sum(), rtol=0, atol=1e-6)


def test_below_the_threshold_the_label_is_unknown(recordings):
    subject = Classifier(tiny_model(), CARD)
    sure = subject.predict(recordings[0])
    assert (sure.threshold, subject.threshold) == (0.5, 0.5)
    for threshold, label in (
        (0, sure.top),
        (sure.confidence, sure.top),
        (sure.confidence + 1e-6, UNKNOWN),
        (1.0, UNKNOWN),
    ):
        found = subject.predict(recordings[0], threshold=threshold)
        assert (found.label, found.top, found.confidence) == (label, sure.top, sure.confidence)
        assert found.probabilities == sure.probabilities
    assert sure.label == (sure.top if sure.confidence >= 0.5 else UNKNOWN)
    samples, rate = soundfile.read(recordings[0], dtype="float32")
    for found in (
        subject.predict(samples, rate, threshold=1),
        *subject.predict(recordings, threshold=1),
        *subject.predict_files(recordings, threshold=1),
        *subject.predict(recordings[3], threshold=1).timeline,
    ):
        assert found.label == UNKNOWN


def test_a_model_without_a_card_has_no_threshold(classifier, recordings):
    found = classifier.predict(recordings[0])
    assert (classifier.card, classifier.threshold, found.threshold, found.label) == (None, 0, 0, found.top)
    assert not {"top", "threshold"} & set(found.to_dict())
    assert "threshold" not in to_csv([found])
    assert classifier.predict(recordings[0], threshold=1).label == UNKNOWN


def test_outputs_have_the_most_probable_class_of_an_unknown_recording(classifier, recordings):
    found = classifier.predict(recordings[:2], threshold=0.99)
    (row, _) = csv.DictReader(io.StringIO(to_csv(found)))
    assert (row["label"], row["top"], row["threshold"]) == (UNKNOWN, found[0].top, "0.99")
    assert float(row["confidence"]) == pytest.approx(found[0].confidence, abs=1e-6)
    shown = json.loads(to_json(found))[0]
    assert (shown["label"], shown["top"], shown["threshold"]) == (UNKNOWN, found[0].top, 0.99)
    assert shown["probabilities"][shown["top"]] == shown["confidence"]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), "0.5", True])
def test_an_invalid_threshold_is_refused(classifier, recordings, threshold):
    with pytest.raises(ConfigError, match=r"^threshold is .*; it must be a number in 0\.\.1"):
        classifier.predict(recordings[0], threshold=threshold)


def test_a_saved_network_has_no_card(recordings, tmp_path):
    subject = Classifier(tiny_model(), CARD)
    with pytest.warns(SerzooWarning, match=r"timnet\.none_v1 without its model card: .* its licence is still CC0"):
        path = subject.save(tmp_path / "model.keras")
    assert load(path).card is None
    expected = values(Classifier(subject.model).predict(recordings[0]))
    np.testing.assert_allclose(values(load(path).predict(recordings[0])), expected, rtol=0, atol=1e-6)


# Where recordings are -------------------------------------------------------------------------------------------------


def test_folder_is_searched_in_natural_order(classifier, recordings, tmp_path):
    write(tmp_path / "recordings" / ".hidden" / "c.wav", tone())
    (tmp_path / "recordings" / "notes.txt").write_text("no audio")
    found = classifier.predict(tmp_path / "recordings")
    assert [prediction.name for prediction in found] == [str(path) for path in (*recordings[:2], *recordings[:1:-1])]


def test_list_may_hold_folders(classifier, recordings):
    found = classifier.predict([recordings[0], recordings[2].parent])
    assert [prediction.name for prediction in found] == [str(recordings[index]) for index in (0, 3, 2)]


def test_array_equals_file(classifier, tmp_path):
    path = write(tmp_path / "float.wav", tone(0.4, rate=16_000), 16_000, "FLOAT")
    samples, _ = soundfile.read(path, dtype="float64")
    from_array = classifier.predict(samples, 16_000)
    assert from_array.name == "array"
    np.testing.assert_allclose(values(from_array), values(classifier.predict(path)), rtol=0, atol=1e-6)


def test_logits_become_probabilities(classifier):
    logits = tiny_model(classifier_activation=None)
    logits.set_weights(classifier.model.get_weights())
    expected = values(classifier.predict(tone(), RATE))
    np.testing.assert_allclose(values(Classifier(logits).predict(tone(), RATE)), expected, rtol=0, atol=1e-6)


# Long recordings ------------------------------------------------------------------------------------------------------


def test_windows_overlap_by_half_and_end_with_the_recording(classifier):
    waveform = np.concatenate([tone(1.0), tone(0.3, 700)])  # 2.6 times the model's length
    prediction = classifier.predict(waveform, RATE)
    hop, end = (LENGTH + 1) // 2 / RATE, len(waveform) / RATE
    starts = [0, hop, 2 * hop, 3 * hop, end - LENGTH / RATE]
    assert [segment.start for segment in prediction.timeline] == pytest.approx(starts)
    assert [segment.end for segment in prediction.timeline] == pytest.approx(
        [start + LENGTH / RATE for start in starts]
    )
    parts = np.array([values(segment) for segment in prediction.timeline])
    np.testing.assert_allclose(values(prediction), parts.mean(axis=0), rtol=0, atol=1e-6)
    for segment, start in zip(prediction.timeline, starts, strict=True):
        first = round(start * RATE)
        alone = classifier.predict(waveform[first : first + LENGTH], RATE)
        np.testing.assert_allclose(values(segment), values(alone), rtol=0, atol=1e-6)
        assert segment.label == alone.label


@pytest.mark.parametrize(
    ("n_samples", "windows", "n_segments"),
    [
        (2 * LENGTH, "auto", 0),
        (2 * LENGTH + 1, "auto", 3),
        (2 * LENGTH, True, 3),
        (LENGTH + 1, True, 2),
        (LENGTH, True, 0),
        (5 * LENGTH, False, 0),
    ],
)
def test_when_windows_are_used(classifier, n_samples, windows, n_segments):
    waveform = tone(3)[:n_samples]
    assert len(classifier.predict(waveform, RATE, windows=windows).timeline) == n_segments


def test_without_windows_the_centre_is_classified(classifier):
    waveform = tone(3)
    start = (len(waveform) - LENGTH) // 2
    prediction = classifier.predict(waveform, RATE, windows=False)
    centre = classifier.predict(waveform[start : start + LENGTH], RATE)
    np.testing.assert_allclose(values(prediction), values(centre), rtol=0, atol=1e-6)
    assert prediction.warnings == ("only the central 0.50 of 3.00 s were classified; use windows=True for all of it",)
    assert not classifier.predict(waveform[: LENGTH + 100], RATE).warnings


def test_silent_windows_do_not_count(classifier):
    waveform = np.concatenate([tone(0.5), np.zeros(4 * LENGTH, np.float32)])
    prediction = classifier.predict(waveform, RATE)
    assert [segment.start for segment in prediction.timeline] == pytest.approx([0, (LENGTH + 1) // 2 / RATE])


def test_silent_centre_is_refused(classifier):
    waveform = np.concatenate([tone(0.1), np.zeros(4 * LENGTH, np.float32), tone(0.1)])
    with pytest.raises(AudioError, match=r"array is silent in its central 11025 samples; use windows=True"):
        classifier.predict(waveform, RATE, windows=False)


def test_model_of_any_length_takes_recordings_whole(of_any_length):
    assert of_any_length.predict(tone(5), RATE).timeline == ()
    with pytest.raises(ConfigError, match="windows=True is for models of fixed length; this one takes"):
        of_any_length.predict(tone(5), RATE, windows=True)


# Warnings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        (tone(rate=16_000), 16_000, "recorded at 16000 Hz, below the model's 22050 Hz: it has nothing above 8000 Hz"),
        (tone(0.2), RATE, "only 0.20 s long"),
        (tone(level=1e-4), RATE, "very quiet: -83 dB RMS"),
        (np.clip(tone(level=2), -1, 1), RATE, "clipped: 66.6% of the samples"),
        (tone(level=30_000), RATE, "but full scale is 1; divide 16-bit samples by 32768"),
    ],
)
def test_unusual_recordings_are_classified_with_a_warning(classifier, waveform, rate, message):
    (warning,) = classifier.predict(waveform, rate).warnings
    assert message in warning


def test_normalised_recordings_are_not_called_clipped(classifier):
    waveform = tone(level=0.5)
    assert classifier.predict(waveform / np.abs(waveform).max(), RATE).warnings == ()


@pytest.mark.recordings
def test_recordings_of_the_training_corpora_need_no_warning(classifier, ravdess_root):
    quiet = ravdess_root / "Actor_18" / "03-01-02-01-01-01-18.flac"
    assert classifier.predict(quiet, windows=True).warnings == ()


# Bad input ------------------------------------------------------------------------------------------------------------


def _text(path):
    path.write_text("this is a text")


def _truncated(path):
    write(path, tone())
    path.write_bytes(path.read_bytes()[:-2000])


def _nan(path):
    samples = tone()
    samples[7] = np.nan
    write(path, samples, subtype="FLOAT")


def _rate_zero(path):
    write(path, tone())
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 24, 0)
    path.write_bytes(content)


BAD_FILES = {
    "text named wav": (_text, "cannot be decoded"),
    "cut off": (_truncated, "cut off"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "no samples": (lambda path: write(path, np.zeros(0)), "no samples"),
    "NaN": (_nan, "1 samples that are NaN"),
    "silence": (lambda path: write(path, np.zeros(RATE)), "silent"),
    "10 ms": (lambda path: write(path, tone(0.01)), "too short"),
    "git-lfs stub": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git-lfs"),
    "rate 0": (_rate_zero, "sample rate of 0"),
    "missing": (lambda path: None, "does not exist"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_named_in_one_line(classifier, tmp_path, name):
    spoil, message = BAD_FILES[name]
    path = tmp_path / "bad.wav"
    spoil(path)
    with pytest.raises(AudioError, match=message) as raised:
        classifier.predict(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_bad_file_does_not_lose_the_others(classifier, recordings):
    silent = write(recordings[0].parent / "a3.wav", np.zeros(RATE))
    paths = [recordings[0], silent, recordings[1]]
    with pytest.raises(AudioError, match=r"a3\.wav is silent"):
        classifier.predict(paths)
    errors = []
    found = classifier.predict_files(paths, on_error=errors.append)
    assert [prediction.name for prediction in found] == [str(recordings[0]), str(recordings[1])]
    assert [type(error) for error in errors] == [AudioError]
    assert str(silent) in str(errors[0])
    in_turn = classifier.predict_files(paths, batch_size=1, on_error=errors.append)
    assert ([prediction.name for prediction in in_turn], len(errors)) == ([prediction.name for prediction in found], 2)


def test_only_bad_files_give_no_prediction(classifier, tmp_path):
    errors = []
    assert classifier.predict_files([tmp_path / "none.wav"], on_error=errors.append) == []
    assert len(errors) == 1


def test_empty_folder_is_refused(classifier, tmp_path):
    with pytest.raises(AudioError, match=f"Folder {tmp_path} holds no recordings"):
        classifier.predict(tmp_path)


@pytest.mark.parametrize(
    ("source", "rate", "message"),
    [
        (tone(), None, "array has no sample rate"),
        (tone(), 0, "array has the sample rate 0"),
        (tone(), -16_000, "array has the sample rate -16000"),
        (np.stack([tone(), tone()], axis=1), RATE, r"array has the shape \(11025, 2\)"),
        (np.zeros(100, np.int16), RATE, "array holds int16 samples"),
        (np.full(RATE, np.nan), RATE, "NaN"),
        (np.zeros(RATE), RATE, "array is silent"),
        (np.zeros(0), RATE, "array holds no samples"),
        (tone(0.05), RATE, "array lasts 0.050 s"),
        ("a.wav", RATE, "files have their own"),
        ([0.1, 0.2], None, "0.1 is not a path"),
    ],
)
def test_bad_samples_are_refused(classifier, source, rate, message):
    with pytest.raises(AudioError, match=message):
        classifier.predict(source, rate)


@pytest.mark.parametrize("options", [{"windows": "always"}, {"windows": None}, {"batch_size": 0}, {"batch_size": 2.5}])
def test_bad_options_are_refused(classifier, options):
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name} is"):
        classifier.predict(tone(), RATE, **options)


@pytest.mark.parametrize("missing", ["class_names", "feature_spec"])
def test_a_model_needs_class_names_and_features(missing):
    with pytest.raises(ConfigError, match=f"timnet has no {missing}; build or load it with {missing}="):
        Classifier(tiny_model(**{missing: None}))


def test_features_must_fit_the_model():
    with pytest.raises(FeatureError, match=r"takes any x 39 values .* its feature spec gives any x 13"):
        Classifier(tiny_model(feature_spec=MFCCSpec(n_mfcc=13)))
    with pytest.raises(FeatureError, match=r"takes 215 x 39 values .* its feature spec gives 22 x 39"):
        Classifier(tiny_model(n_frames=215))
    with pytest.raises(FeatureError, match="gives any x 39"):
        Classifier(tiny_model(n_samples=None, n_frames=215))


def test_a_diverged_model_is_refused():
    model = tiny_model()
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    with pytest.raises(WeightsError, match="timnet returns NaN"):
        Classifier(model).predict(tone(), RATE)


# Output ---------------------------------------------------------------------------------------------------------------


def _predictions():
    segments = tuple(
        Segment(start, start + 0.5, {"angry": 0.25 + start, "sad": 0.75 - start}) for start in (0.0, 0.25, 0.5)
    )
    return [
        Prediction('wörds, "quoted".wav', {"angry": 0.5, "sad": 0.5}, 1.0, segments, ("clipped: 5%", "very quiet")),
        Prediction("b.wav", {"angry": 1 / 3, "sad": 2 / 3}, 0.25),
    ]


def test_json():
    first, second = json.loads(to_json(_predictions()))
    assert first["name"] == 'wörds, "quoted".wav'
    assert [segment["label"] for segment in first["timeline"]] == ["sad", "angry", "angry"]
    assert first["timeline"][1]["start"] == 0.25
    assert second == {
        "name": "b.wav",
        "label": "sad",
        "confidence": 0.666667,
        "probabilities": {"angry": 0.333333, "sad": 0.666667},
        "duration": 0.25,
        "timeline": [],
        "warnings": [],
    }


def test_csv():
    rows = list(csv.DictReader(io.StringIO(to_csv(_predictions()))))
    assert rows[0]["name"] == 'wörds, "quoted".wav'
    assert rows[0]["warnings"] == "clipped: 5%; very quiet"
    assert rows[1] == {
        "name": "b.wav",
        "label": "sad",
        "confidence": "0.666667",
        "duration": "0.25",
        "p_angry": "0.333333",
        "p_sad": "0.666667",
        "warnings": "",
    }


def test_no_predictions_are_still_json_and_csv():
    assert json.loads(to_json([])) == []
    assert to_csv([]) == "name,label,confidence,duration,warnings\n"


def test_saved_classifier_loads_again(classifier, tmp_path):
    path = classifier.save(tmp_path / "new" / "model.keras")
    again = load(path)
    assert again.class_names == NAMES
    assert again.feature_spec == classifier.feature_spec
    np.testing.assert_allclose(
        values(again.predict(tone(), RATE)), values(classifier.predict(tone(), RATE)), rtol=0, atol=1e-6
    )
    assert [file.name for file in path.parent.iterdir()] == ["model.keras"]


def test_failed_save_leaves_the_old_file(classifier, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_text("old")

    def fail(target):
        target.write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(classifier.model, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        classifier.save(path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]


def test_save_needs_the_keras_ending(classifier, tmp_path):
    with pytest.raises(ConfigError, match=r"model.h5 does not end in \.keras"):
        classifier.save(tmp_path / "model.h5")


def test_unknown_feature_kind_of_a_model():
    with pytest.raises(UnknownNameError, match="Did you mean 'mfcc'"):
        tiny_model(feature_spec={"kind": "mfc"})
