"""A gender classifier as the gender input of a network; training and saving one."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import serzoo
from serzoo.classical.gender_classifier import gender_probabilities, load_gender_classifier
from serzoo.classical.model import load_classical
from serzoo.classifier import Classifier
from serzoo.data import load_corpus
from serzoo.data.cache import FeatureCache
from serzoo.data.synthetic import write_corpus
from serzoo.errors import AudioError, ConfigError, DataError, UnknownNameError, WeightsError
from serzoo.features.spec import EmbeddingSpec, LogMelSpec, MFCCSpec
from serzoo.predictions import to_csv
from serzoo.training import train_gender
from serzoo.training.train_gender import train_gender_classifier
from serzoo.weights import store
from serzoo.weights.cards import read_card

CLASSES = ("angry", "happy", "sad")
NAME = "gender-ravdess"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two men and two women, one text, eight emotions, at 16 kHz."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "ravdess", n_speakers=4, n_texts=1)


@pytest.fixture(scope="module")
def manifest(root):
    return load_corpus("ravdess", root)


@pytest.fixture(scope="module")
def recordings(manifest):
    """One recording of each speaker."""
    speakers = manifest.column("speaker").tolist()
    return [manifest.paths[speakers.index(speaker)] for speaker in ("01", "02", "03", "04")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return FeatureCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    small = {"n_convs": 1, "filters": [2, 2], "projection": 4, "lstm_units": 2}
    model = serzoo.build("acrnn", class_names=CLASSES, feature_spec=LogMelSpec(n_mels=8, segment_frames=60), **small)
    model.normalization.adapt(np.random.default_rng(0).normal(size=(2, 60, 8, 3)))
    return Classifier(model).save(tmp_path_factory.mktemp("model") / "tiny.keras")


@pytest.fixture(scope="module")
def classifier(model_file):
    return serzoo.load(model_file)


@pytest.fixture(scope="module")
def trained(manifest, cache):
    """A gender classifier on segments, several per recording."""
    spec = MFCCSpec(sample_rate=8_000, n_mfcc=13, segment_frames=40)
    return train_gender_classifier(
        manifest, spec, "logistic_regression", arguments={"calibrate": False, "C": 0.01}, cache=cache
    )


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    return trained.save(tmp_path_factory.mktemp("gender") / "own.skops")


def values(prediction):
    return np.array(list(prediction.probabilities.values()))


# In Python ------------------------------------------------------------------------------------------------------------


def test_each_recording_gets_its_own_gender(classifier, recordings, saved, trained, cache):
    male = gender_probabilities(saved, recordings, cache=cache)
    assert len(set(male.tolist())) == len(male), "all different, so that the test detects a wrong order"
    given = classifier.predict(recordings, gender=male.tolist())
    for source in (saved, str(saved), trained):
        for batch_size in (1, 3, 32):
            predicted = classifier.predict(recordings, gender=source, batch_size=batch_size)
            np.testing.assert_allclose([each.gender for each in predicted], male, rtol=0, atol=1e-6)
            for one, other in zip(predicted, given, strict=True):
                np.testing.assert_allclose(values(one), values(other), rtol=0, atol=1e-6)
    assert np.abs(values(given[0]) - values(classifier.predict(recordings[0], gender=1 - male[0]))).max() > 1e-6


def test_a_pretrained_classifier_is_found_by_name(classifier, recordings, cache):
    male = gender_probabilities(NAME, recordings, cache=cache)
    predicted = classifier.predict(recordings, gender=NAME)
    np.testing.assert_allclose([each.gender for each in predicted], male, rtol=0, atol=1e-6)
    warning = "recorded at 16000 Hz; the gender classifier, trained at 22050 Hz, may be wrong"
    assert all(warning in each.warnings for each in predicted)


def test_samples_get_the_prediction_of_their_file(classifier, recordings, saved):
    samples, rate = soundfile.read(recordings[1], dtype="float32")
    from_file, from_samples = (
        classifier.predict(recordings[1], gender=saved),
        classifier.predict(samples, rate, gender=saved),
    )
    assert from_samples.gender == from_file.gender
    np.testing.assert_allclose(values(from_samples), values(from_file), rtol=0, atol=1e-6)
    assert not any("gender classifier" in warning for warning in from_samples.warnings), "its features are at 8 kHz"


def test_predictions_record_the_gender_input(classifier, recordings):
    predicted = classifier.predict(recordings[:2], gender=["male", 0.25])
    assert [each.gender for each in predicted] == [1.0, 0.25]
    assert [each.to_dict()["gender"] for each in predicted] == [1.0, 0.25]
    rows = list(csv.DictReader(io.StringIO(to_csv(predicted))))
    assert [row["gender"] for row in rows] == ["1.0", "0.25"]
    assert [float(rows[0][f"p_{name}"]) for name in CLASSES] == pytest.approx(values(predicted[0]), abs=1e-6)
    plain = dataclasses.replace(predicted[0], gender=None)
    assert "gender" not in plain.to_dict()
    assert "gender" not in to_csv([plain])


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("gender-ravdes", UnknownNameError, "Did you mean 'gender-ravdess'?"),
        ("missing.skops", WeightsError, "Classifier missing.skops does not exist"),
        ("no/such", WeightsError, "Classifier no/such does not exist"),
        (Path("ravdess"), WeightsError, "Classifier ravdess does not exist"),
        ("ravd", DataError, "the speaker's gender is 'ravd'; give 'male', 'female' or"),
        ([NAME] * 4, DataError, "the speaker's gender is 'gender-ravdess'; give"),
    ],
)
def test_other_gender_inputs_raise(classifier, recordings, source, error, message):
    with pytest.raises(error) as caught:
        classifier.predict(recordings, gender=source)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_classifiers_raise(classifier, recordings, trained):
    other = dataclasses.replace(trained, class_names=("sad", "happy"))
    with pytest.raises(WeightsError, match="logistic_regression has the classes sad, happy, not female and male"):
        classifier.predict(recordings, gender=other)
    table = dataclasses.replace(trained, feature_spec=EmbeddingSpec(source="vectors:table.npz", width=13))
    with pytest.raises(ConfigError, match="takes vectors of a table and cannot predict a recording"):
        classifier.predict(recordings, gender=table)


def test_a_recording_too_short_for_the_gender_classifier_is_named(classifier, trained, tmp_path):
    wide = dataclasses.replace(trained, feature_spec=LogMelSpec(sample_rate=16_000, window_length=4096, n_fft=4096))
    soundfile.write(tmp_path / "short.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 3000), 16_000)
    with pytest.raises(AudioError, match=r"short\.wav: .*4096"):
        classifier.predict(tmp_path / "short.wav", gender=wide)


# On the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True])
def test_predict_takes_a_classifier_as_gender(run, model_file, root, recordings, saved, cache, own):
    source = saved if own else NAME
    code, out, err = run("predict", "-m", model_file, "--gender", source, "--json", root / "Actor_02", recordings[2])
    assert (code, err) == (0, "")
    rows = json.loads(out)
    assert len(rows) == 9
    male = gender_probabilities(source, [row["name"] for row in rows], cache=cache)
    np.testing.assert_allclose([row["gender"] for row in rows], male, rtol=0, atol=2e-6)


def test_unreadable_recordings_are_named_and_the_others_predicted(run, model_file, recordings, saved, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.wav").write_text("no audio at all")
    soundfile.write(folder / "b.wav", np.zeros(16_000), 16_000)
    (folder / "c.wav").write_bytes(recordings[0].read_bytes())
    table = tmp_path / "predictions.csv"
    code, _, err = run("predict", "-m", model_file, "--gender", saved, folder, recordings[1], "-o", table)
    assert code == 2
    assert [line.partition(": ")[0] for line in err.splitlines()] == ["error"] * 2
    assert "a.wav" in err.splitlines()[0]
    assert "b.wav" in err.splitlines()[1]
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [row["name"] for row in rows] == [str(folder / "c.wav"), str(recordings[1])]
    male = gender_probabilities(saved, recordings[:2])
    np.testing.assert_allclose([float(row["gender"]) for row in rows], male, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gender-ravdes", "error: Unknown pretrained weights 'gender-ravdes'. Did you mean 'gender-ravdess'?"),
        ("missing.skops", "error: Classifier missing.skops does not exist"),
    ],
)
def test_a_missing_classifier_is_one_line(run, model_file, recordings, source, message):
    code, out, err = run("predict", "-m", model_file, "--gender", source, recordings[0])
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_list_shows_pretrained_classifiers(run):
    _, out, _ = run("list")
    (line,) = [line for line in out.partition("Pretrained weights\n")[2].splitlines() if line.startswith(f"  {NAME}  ")]
    assert line.endswith("; CC BY-NC-SA 4.0")


# Training one ---------------------------------------------------------------------------------------------------------


def gender_command(run, root, *options):
    return run("gender", "ravdess", root, "--folds", 2, "--set", "calibrate=false", "-q", *options)


def test_a_saved_classifier_has_a_card_and_works_from_the_store(run, root, tmp_path, monkeypatch):
    options = ("--classifier", "logistic_regression", "--save", tmp_path / "gender-new.skops")
    code, out, err = gender_command(run, root, *options)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"Card: {tmp_path / 'gender-new.yaml'}"
    card = read_card(tmp_path / "gender-new.yaml")
    assert (card.kind, card.corpus, card.licence) == ("gender", "ravdess", "CC BY-NC-SA 4.0")
    assert card.protocol.startswith("2 speaker-disjoint folds, seed 0")
    assert card.scores["n"] == 32
    assert np.mean(card.scores["accuracy_of_folds"]) == pytest.approx(card.scores["accuracy"], abs=1e-6)
    assert card.versions["serzoo"] == serzoo.__version__
    monkeypatch.setattr(store, "FILES", tmp_path)
    assert serzoo.list_pretrained() == ["gender-new"]
    found = load_gender_classifier("gender-new")
    assert found.feature_spec.to_dict() == card.feature_spec
    code, out, err = gender_command(run, root, "--model", "gender-new", "--json")
    assert code == 0, err
    assert json.loads(out)["n"] == 32


def test_a_file_that_the_card_would_replace_raises_before_training(run, root, tmp_path, monkeypatch):
    monkeypatch.setattr(train_gender, "load_examples", None)
    (tmp_path / "new.yaml").write_text("name: my-recipe\n")
    code, out, err = gender_command(run, root, "--save", tmp_path / "new.skops")
    assert (code, out) == (2, "")
    assert "new.yaml is not a model card, and the card of new.skops would replace it" in err
    assert [path.name for path in tmp_path.iterdir()] == ["new.yaml"]


def test_a_classifier_without_a_card_is_not_left_behind_after_an_error(run, root, tmp_path, monkeypatch):
    def fail(_):
        raise WeightsError("no versions today")

    monkeypatch.setattr(train_gender, "_versions", fail)
    code, _, err = gender_command(run, root, "--save", tmp_path / "new.skops")
    assert (code, err) == (2, "error: no versions today\n")
    assert list(tmp_path.iterdir()) == []


def test_a_classifier_of_vectors_from_a_table_has_no_card(run, root, manifest, tmp_path):
    table = tmp_path / "vectors.npz"
    pitch = np.where(manifest.column("gender") == "male", 1.0, -1.0)[:, None]
    np.savez(table, names=np.array(manifest.names), vectors=pitch)
    code, out, err = gender_command(run, root, "--features", f"vectors:{table}", "--save", tmp_path / "new.skops")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("Card: none")
    assert load_classical(tmp_path / "new.skops").width == 1
    assert not (tmp_path / "new.yaml").exists()
