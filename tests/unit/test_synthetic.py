from collections import Counter
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from serzoo.data import synthetic
from serzoo.data.corpora.corpus import CORPORA
from serzoo.data.synthetic import load, plan_corpus, write_corpus
from serzoo.data.synthetic_voice import PROSODIES, synthesize
from serzoo.errors import DataError, UnknownNameError
from serzoo.labels import CANONICAL_LABELS, FEMALE, MALE

CORPUS_NAMES = ("casia", "cremad", "emodb", "emovo", "iemocap", "ravdess", "savee", "tess")
CLIP = {"label": "happy", "speaker": "anna", "gender": FEMALE, "text": "t1"}


def pitch_of(waveform: np.ndarray, sample_rate: int = 16_000) -> float:
    """Median fundamental frequency in Hz, from the highest peak of the autocorrelation of loud frames."""
    frames = librosa.util.frame(waveform, frame_length=800, hop_length=400).T
    frames = frames[np.sqrt((frames**2).mean(axis=1)) > 0.5 * np.sqrt((waveform**2).mean())]
    power = np.abs(np.fft.rfft(frames, 2048)) ** 2
    correlation = np.fft.irfft(power)[:, sample_rate // 500 : sample_rate // 60]
    return float(np.median(sample_rate / (sample_rate // 500 + correlation.argmax(axis=1))))


def average(label: str, measure: object, gender: str = FEMALE) -> float:
    """Mean of a measure over six speakers."""
    return float(np.mean([measure(synthesize(label, f"s{index}", gender, "t1")) for index in range(6)]))  # type: ignore[operator]


def level(waveform: np.ndarray) -> float:
    return 10 * np.log10(np.mean(waveform**2))


@pytest.mark.parametrize("label", PROSODIES)
def test_clips_are_waveforms(label: str) -> None:
    waveform = synthesize(label, "anna", FEMALE, "t1")
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert np.isfinite(waveform).all()
    assert 0.05 < np.abs(waveform).max() <= 0.99
    assert 1.0 < len(waveform) / 16_000 < 5.0


def test_every_canonical_emotion_can_be_spoken() -> None:
    assert set(PROSODIES) == set(CANONICAL_LABELS)


def test_same_arguments_give_the_same_samples() -> None:
    first = synthesize(**CLIP)
    synthesize("sad", "bert", MALE, "t2")
    np.testing.assert_array_equal(first, synthesize(**CLIP))


@pytest.mark.parametrize(
    "change", [{"label": "sad"}, {"speaker": "bert"}, {"gender": MALE}, {"text": "t2"}, {"take": 1}, {"seed": 1}]
)
def test_every_argument_changes_the_samples(change: dict) -> None:
    first, second = synthesize(**CLIP), synthesize(**CLIP | change)
    assert len(first) != len(second) or np.abs(first - second).max() > 0.01


def test_known_clip() -> None:
    """If this fails on purpose, raise synthetic.VERSION: clips kept on disk have become others."""
    assert synthetic.VERSION == 1
    waveform = synthesize("neutral", "01", MALE, "01")
    assert len(waveform) == 46592
    assert np.sqrt(np.mean(waveform**2)) == pytest.approx(0.056215, rel=1e-3)


@pytest.mark.parametrize("sample_rate", [8000, 22_050, 24_414, 48_000])
def test_other_sample_rates_say_the_same(sample_rate: int) -> None:
    waveform, usual = synthesize(**CLIP, sample_rate=sample_rate), synthesize(**CLIP)
    assert len(waveform) / sample_rate == pytest.approx(len(usual) / 16_000, abs=0.05)
    assert pitch_of(waveform, sample_rate) == pytest.approx(pitch_of(usual), rel=0.1)


def test_men_speak_lower_than_women() -> None:
    assert average("neutral", pitch_of, MALE) < 140 < 170 < average("neutral", pitch_of, FEMALE)


def test_emotions_sound_as_their_prosody_says() -> None:
    pitch = {label: average(label, pitch_of) for label in ("happy", "neutral", "sad")}
    assert pitch["happy"] > 1.1 * pitch["neutral"] > 1.1 * pitch["sad"]
    loudness = {label: average(label, level) for label in ("angry", "neutral", "sad")}
    assert loudness["angry"] > loudness["neutral"] + 4 > loudness["sad"] + 8
    assert average("fear", len) < average("neutral", len) < average("sad", len)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"label": "hapy"}, UnknownNameError, "Did you mean 'happy'"),
        ({"gender": "f"}, DataError, "gender is 'f'; it must be one of 'male', 'female'"),
        ({"sample_rate": 0}, DataError, "sample_rate is 0; it must be an integer of at least 8000"),
        ({"seed": -1}, DataError, "seed is -1; it must be an integer of at least 0"),
    ],
)
def test_impossible_clips_are_refused(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        synthesize(**CLIP | change)


def test_all_published_corpora_can_be_written() -> None:
    selections = {"iemocap-improvised"}  # of a corpus that can be written
    of_emotions = {name for name in CORPORA if CORPORA.get(name).classes_are == "emotions"}
    assert {name for name in of_emotions if CORPORA.get(name).class_counts} - selections == set(CORPUS_NAMES)


@pytest.mark.parametrize("fmt", ["wav", "flac"])
@pytest.mark.parametrize("corpus", CORPUS_NAMES)
def test_written_corpus_is_read_back(corpus: str, fmt: str, tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus", corpus, n_speakers=2, n_texts=1, fmt=fmt)
    clips = plan_corpus(corpus, n_speakers=2, n_texts=1)
    manifest = CORPORA.get(corpus).load(root)
    expected = {root / f"{clip.name}.{fmt}": clip.recording for clip in clips}
    assert set(manifest.paths) == set(expected)
    assert manifest.class_names == CORPORA.get(corpus).class_names
    for path, label, speaker, gender in zip(
        manifest.paths, *(manifest.column(name) for name in ("label", "speaker", "gender")), strict=True
    ):
        said = expected[path]
        assert (label, speaker, gender) == (said.label, said.speaker, said.gender)
        assert soundfile.info(path).samplerate == 16_000


@pytest.mark.parametrize("corpus", CORPUS_NAMES)
def test_every_name_that_can_be_written_is_unique_and_parsed(corpus: str) -> None:
    layout = synthetic._LAYOUTS[corpus]
    clips = plan_corpus(corpus, len(layout.speakers), len(layout.texts), min(len(layout.takes), 6))
    assert len({clip.name.lower() for clip in clips}) == len(clips)
    if corpus == "iemocap":  # its labels are not in the names
        return
    for clip in clips:
        parsed = CORPORA.get(corpus).parse(Path(f"{clip.name}.wav"))
        assert (parsed.label, parsed.speaker, parsed.gender) == (
            clip.recording.label,
            clip.recording.speaker,
            clip.recording.gender,
        )


def test_full_ravdess_names_are_those_of_the_real_corpus() -> None:
    clips = plan_corpus("ravdess", n_speakers=24, n_texts=2, takes=4)
    real = CORPORA.get("ravdess")
    assert Counter(clip.recording.label for clip in clips) == real.class_counts
    assert Counter(clip.recording.speaker for clip in clips) == real.speaker_counts


@pytest.mark.recordings
def test_full_ravdess_names_are_on_disk(ravdess_root: Path) -> None:
    clips = plan_corpus("ravdess", n_speakers=24, n_texts=2, takes=4)
    found = {path.relative_to(ravdess_root).with_suffix("").as_posix() for path in ravdess_root.rglob("*.flac")}
    assert {clip.name for clip in clips} == found


def test_clips_do_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    small = write_corpus(tmp_path / "small", "emodb", n_speakers=1, n_texts=1, class_names=["sad", "angry"])
    large = write_corpus(tmp_path / "large", "emodb", n_speakers=2, n_texts=2, class_names=["angry", "sad"])
    for path in small.rglob("*.wav"):
        assert path.read_bytes() == (large / path.relative_to(small)).read_bytes()
    assert len(list(large.rglob("*.wav"))) == 8


def test_speakers_alternate_between_men_and_women() -> None:
    assert [clip.recording.gender for clip in plan_corpus("emodb", 4, 1, class_names=["sad"])] == [MALE, FEMALE] * 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"corpus": "ravdes"}, UnknownNameError, "Did you mean 'ravdess'"),
        ({"corpus": "casia", "class_names": ["angry", "calm"]}, UnknownNameError, "Unknown class of casia 'calm'"),
        (
            {"corpus": "tess", "n_speakers": 3},
            DataError,
            "n_speakers of a synthetic tess is 3; it must be an integer in 1..2",
        ),
        (
            {"corpus": "ravdess", "n_texts": 3},
            DataError,
            "n_texts of a synthetic ravdess is 3; it must be an integer in 1..2",
        ),
        (
            {"corpus": "emovo", "takes": 2, "n_speakers": 2},
            DataError,
            "takes of a synthetic emovo is 2; it must be an integer in 1..1",
        ),
        ({"corpus": "emovo", "n_speakers": 0}, DataError, "n_speakers of a synthetic emovo is 0; it must be"),
        ({"corpus": "emovo", "fmt": "mp3"}, UnknownNameError, "Known: flac, wav"),
    ],
)
def test_impossible_corpora_are_refused(arguments: dict, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        write_corpus(tmp_path / "corpus", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_a_full_one_kept(tmp_path: Path) -> None:
    small = {"corpus": "casia", "n_speakers": 1, "n_texts": 1, "class_names": ["sad"]}
    assert write_corpus(tmp_path, **small) == tmp_path
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="exists; give a new or empty folder"):
        write_corpus(tmp_path, **small)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_corpus_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fails_at_the_third(*arguments: object) -> np.ndarray:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return np.zeros(100, np.float32)

    monkeypatch.setattr(synthetic, "synthesize", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        write_corpus(tmp_path / "corpus", "casia")
    assert list(tmp_path.iterdir()) == []


def test_built_in_corpus_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = load(tmp_path, n_speakers=2, takes=1)
    assert manifest.corpus == "synthetic"
    assert manifest.class_names == CORPORA.get("ravdess").class_names
    assert len(manifest) == 2 * 8 * 2
    monkeypatch.setattr(synthetic, "synthesize", None)
    assert load(tmp_path, n_speakers=2, takes=1).paths == manifest.paths


def test_built_in_corpus_with_other_arguments_is_another(tmp_path: Path) -> None:
    first, second = (load(tmp_path, n_speakers=1, takes=1, seed=seed) for seed in (0, 1))
    assert first.paths[0].parent != second.paths[0].parent
    assert first.paths[0].read_bytes() != second.paths[0].read_bytes()


def test_built_in_corpus_that_another_process_made_meanwhile_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = synthetic._write_clip

    def overtaken(clip: synthetic.SyntheticClip, path: Path, seed: int, sample_rate: int) -> None:
        monkeypatch.setattr(synthetic, "_write_clip", real_write)
        write_corpus(tmp_path / f"synthetic-v{synthetic.VERSION}-1x1-seed0", "ravdess", n_speakers=1)
        real_write(clip, path, seed, sample_rate)

    monkeypatch.setattr(synthetic, "_write_clip", overtaken)
    assert len(load(tmp_path, n_speakers=1, takes=1)) == 16
    assert [path.name for path in tmp_path.iterdir()] == ["synthetic-v1-1x1-seed0"]


def test_emotions_can_be_learnt_and_unknown_speakers_are_harder() -> None:
    from sklearn.model_selection import KFold, LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    clips = plan_corpus("ravdess", n_speakers=6, n_texts=2, takes=2, class_names=("angry", "happy", "neutral", "sad"))
    features = []
    for clip in clips:
        who = clip.recording
        waveform = synthesize(who.label, who.speaker, who.gender, who.text, clip.take)
        features.append(librosa.feature.mfcc(y=waveform, sr=16_000, n_mfcc=20).mean(axis=1))
    labels = np.array([clip.recording.label for clip in clips])
    speakers = np.array([clip.recording.speaker for clip in clips])
    classifier = make_pipeline(StandardScaler(), SVC(C=10))
    known = cross_val_predict(classifier, features, labels, cv=KFold(10, shuffle=True, random_state=0))
    unknown = cross_val_predict(classifier, features, labels, cv=LeaveOneGroupOut(), groups=speakers)
    assert 0.8 < np.mean(known == labels) < 1.0
    assert 0.4 < np.mean(unknown == labels) < np.mean(known == labels) - 0.1
