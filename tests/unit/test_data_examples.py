"""Examples in memory: clips in one segment or several, with or without genders."""

import dataclasses

import numpy as np
import pytest
import soundfile

from serzoo.data import audio
from serzoo.data.cache import FeatureCache
from serzoo.data.corpora.corpus import Recording, build_manifest
from serzoo.data.examples import Examples, load_examples, network_inputs
from serzoo.errors import AudioError, ConfigError, DataError, FeatureError
from serzoo.features.extract import extract
from serzoo.features.segments import cut_segments
from serzoo.features.spec import LogMelSpec, MFCCSpec

CLASSES = ("angry", "happy", "sad")
COUNTS = np.array([1, 3, 2, 1])


def numbered(counts=COUNTS, **changes):
    """Clips whose segments are numbered from 0 in their first value."""
    features = np.zeros((counts.sum(), 2, 5), np.float32) + np.arange(counts.sum(), dtype=np.float32)[:, None, None]
    high = np.array([[0, 1, np.nan]] * len(counts), np.float32)
    high[:, 0] = np.arange(len(counts)) / len(counts)
    values = {"genders": np.linspace(0, 1, len(counts), dtype=np.float32), "segment_counts": counts}
    values |= {"dimensions": high, **changes}
    return Examples(features, np.arange(len(counts)) % 3, CLASSES, **values)


def numbers(examples):
    return examples.features[:, 0, 0].astype(int).tolist()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Three recordings of 0.3, 0.75 and 0.6 seconds."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    rows = []
    for index, seconds in enumerate((0.3, 0.75, 0.6)):
        path = folder / f"{index}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(round(16_000 * seconds)), 16_000)
        gender = ("female", "male", "0.25")[index]
        rows.append((path, Recording(label=CLASSES[index], speaker=str(index), gender=gender)))
    return build_manifest(rows, CLASSES, "custom")


def test_length_is_in_clips_and_segments_are_counted_apart():
    examples = numbered()
    assert (len(examples), examples.n_segments) == (4, 7)
    assert Examples(examples.features, np.zeros(7, np.int64), CLASSES).counts.tolist() == [1] * 7


@pytest.mark.parametrize(
    ("indices", "segments"), [([0, 1, 2, 3], range(7)), ([2, 0], [4, 5, 0]), ([1], [1, 2, 3]), ([3, 3], [6, 6])]
)
def test_clips_are_selected_with_all_their_segments(indices, segments):
    chosen = numbered().select(indices)
    assert numbers(chosen) == list(segments)
    assert chosen.counts.tolist() == COUNTS[indices].tolist()
    assert chosen.targets.tolist() == [index % 3 for index in indices]
    np.testing.assert_array_equal(chosen.genders, numbered().genders[indices])
    np.testing.assert_array_equal(chosen.dimensions, numbered().dimensions[indices])


def test_selection_without_segments_or_genders():
    plain = Examples(np.arange(30, dtype=np.float32).reshape(3, 2, 5), np.arange(3), CLASSES).select(np.array([2, 0]))
    assert plain.features[:, 0, 0].tolist() == [20, 0]
    assert plain.genders is plain.segment_counts is plain.dimensions is None


def test_inputs_repeat_a_clips_gender_for_each_segment():
    examples = numbered()
    inputs = examples.inputs()
    assert inputs["features"] is examples.features
    np.testing.assert_allclose(inputs["gender"][:, 0], [0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1], atol=1e-6)
    assert network_inputs(examples.features, None) is examples.features


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment_counts": np.array([1, 3, 2, 2])}, "add up to 8 for 7 segments"),
        ({"segment_counts": np.array([0, 4, 2, 1])}, "at least 1, one per clip"),
        ({"segment_counts": COUNTS + 0.5}, "are float64"),
        ({"genders": np.array([0, 1], np.float32)}, r"shape \(2,\); give 4 probabilities"),
        ({"genders": np.array([], np.float32)}, r"shape \(0,\)"),
        ({"genders": np.array([0, 1, 1.5, 0], np.float32)}, r"to 1.5; .* in 0\.\.1"),
        ({"genders": np.array([0, 1, -0.1, 0], np.float32)}, "from -0.1"),
        ({"genders": np.array([0, 1, np.nan, 0], np.float32)}, r"in 0\.\.1"),
        ({"dimensions": np.zeros((3, 3))}, r"shape \(3, 3\); give \(4, 3\), valence, arousal, dominance of each clip"),
        ({"dimensions": np.zeros((4, 2))}, r"shape \(4, 2\)"),
        ({"dimensions": np.zeros(12)}, r"shape \(12,\)"),
        ({"dimensions": np.full((4, 3), 2.5)}, r"from 2\.5 to 2\.5; give values in 0\.\.1, NaN where"),
        ({"dimensions": np.array([[0, -1, np.nan]] * 4)}, r"from -1\.0 to 0\.0"),
        ({"dimensions": np.full((4, 3), np.inf)}, "from inf"),
    ],
)
def test_values_of_clips_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        numbered(**changes)


@pytest.mark.parametrize(
    ("features", "targets", "error", "message"),
    [
        (np.zeros((2, 3)), [0, 1], FeatureError, r"shape \(2, 3\)"),
        (np.zeros((0, 3, 5)), [], FeatureError, "not empty"),
        (np.zeros((2, 3, 5)), [0], DataError, r"2 clips but targets of shape \(1,\)"),
        (np.full((2, 3, 5), np.nan), [0, 1], FeatureError, "clip 0 hold NaN"),
        (np.zeros((2, 3, 5)), [0, 3], DataError, "allow 0..2"),
        (np.zeros((2, 3, 5)), [-1, 0], DataError, "from -1 to 0"),
    ],
)
def test_examples_that_make_no_sense_are_refused(features, targets, error, message):
    with pytest.raises(error, match=message):
        Examples(features.astype(np.float32), np.array(targets, np.int64), CLASSES)


def test_the_clip_with_bad_values_is_named_by_its_own_number():
    features = numbered().features.copy()
    features[5, 1, 2] = np.inf
    with pytest.raises(FeatureError, match="clip 2 hold NaN or infinite"):
        Examples(features, np.zeros(4, np.int64), CLASSES, segment_counts=COUNTS)


def test_recordings_are_cut_after_their_features_are_known(manifest, tmp_path):
    spec = LogMelSpec(segment_frames=30)
    examples = load_examples(manifest, spec, with_gender=True, cache=FeatureCache(tmp_path))
    whole = [extract(audio.read(path, 16_000)[0], spec) for path in manifest.paths]
    assert [len(features) for features in whole] == [29, 74, 59]
    np.testing.assert_array_equal(examples.features, np.concatenate([cut_segments(clip, 30) for clip in whole]))
    assert examples.counts.tolist() == [1, 3, 2]
    assert examples.genders.tolist() == [0.0, 1.0, 0.25]


@pytest.mark.parametrize("spec", [LogMelSpec(segment_frames=30), LogMelSpec(n_samples=8000)])
def test_ratings_come_along_as_high_or_not(manifest, tmp_path, spec):
    assert load_examples(manifest, spec, cache=FeatureCache(tmp_path)).dimensions is None
    rated = dataclasses.replace(manifest, frame=manifest.frame.assign(arousal=["0.5", "", "0.51"]))
    nan = np.nan
    np.testing.assert_array_equal(
        load_examples(rated, spec, cache=FeatureCache(tmp_path)).dimensions,
        np.array([[nan, 0, nan], [nan, nan, nan], [nan, 1, nan]], np.float32),
    )


def test_any_kind_of_feature_is_cut(manifest, tmp_path):
    examples = load_examples(manifest, MFCCSpec(segment_frames=10), cache=FeatureCache(tmp_path))
    assert examples.features.shape == (9, 10, 39)
    assert examples.counts.tolist() == [2, 4, 3]


def test_segments_share_the_cache_with_whole_recordings(manifest, tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path)
    load_examples(manifest, LogMelSpec(segment_frames=30), cache=cache)
    monkeypatch.setattr("serzoo.data.cache.extract", None)
    assert load_examples(manifest, LogMelSpec(segment_frames=50), cache=cache).counts.tolist() == [1, 2, 2]


def test_a_length_is_needed(manifest):
    with pytest.raises(ConfigError, match=r"n_samples and features\.segment_frames are not set"):
        load_examples(manifest, LogMelSpec())


def test_a_recording_shorter_than_a_frame_is_named(manifest, tmp_path):
    path = tmp_path / "short.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(399), 16_000)
    with pytest.raises(AudioError, match=r"short\.wav: .*399.*400"):
        FeatureCache(tmp_path).clip(path, LogMelSpec())


@pytest.mark.parametrize(("gender", "shown"), [("", "unknown"), ("x", "'x'"), ("1.2", "'1.2'"), ("nan", "'nan'")])
def test_a_missing_gender_names_the_recording(manifest, gender, shown):
    frame = manifest.frame.assign(gender=["male", gender, "female"])
    with pytest.raises(DataError, match=rf"1\.wav: the speaker's gender is {shown}; give 'male', 'female'"):
        load_examples(dataclasses.replace(manifest, frame=frame), LogMelSpec(segment_frames=30), with_gender=True)
