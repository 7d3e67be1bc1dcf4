"""The contract of all pretrained emotion weights: those of the package, and some made here."""

import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import soundfile

import serzoo
from serzoo.classifier import Classifier
from serzoo.data.corpora.corpus import CORPORA
from serzoo.data.synthetic_voice import synthesize
from serzoo.exporters import export
from serzoo.exporters.compare import WAVEFORM_TOLERANCE
from serzoo.features.spec import spec_from_dict
from serzoo.labels import UNKNOWN
from serzoo.models import MODELS
from serzoo.weights import store
from serzoo.weights.cards import EmotionCard, card_text, read_card
from serzoo.weights.check_clips import read_check_clip
from serzoo.zoo import full_arguments

MADE_HERE = "timnet.tiny_v1"
SAID = f"Model: {MADE_HERE} (untrained; free: no recordings; serzoo makes it on first use)\n"
SETS = serzoo.list_pretrained("emotion")
PAGE = Path(__file__).parents[2] / "docs" / "pretrained.md"

NOT_ON_JAX = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow writes exports")


@pytest.fixture(scope="module", params=[*SETS, MADE_HERE])
def source(request, tiny_set):
    """The weights' source: a name of the package, or a folder."""
    return tiny_set if request.param == MADE_HERE else request.param


@pytest.fixture(scope="module")
def classifier(source):
    return serzoo.load(source)


@pytest.fixture(scope="module")
def clip(classifier):
    """The check clip of the card, synthesised at the sample rate of the model so that nothing is resampled."""
    return synthesize(**{**classifier.card.input, "sample_rate": classifier.feature_spec.sample_rate})


def gender_input(classifier):
    """Return the gender of the check clip as a keyword, for models with a gender input."""
    return {"gender": classifier.card.input["gender"]} if classifier.model.takes_gender else {}


def values(prediction):
    return np.array(list(prediction.probabilities.values()))


def as_exported(classifier, clip, **gender):
    """Return the prediction for the part that an export takes: the whole clip, or the centre of a fixed length."""
    spec = classifier.feature_spec
    return classifier.predict(clip, spec.sample_rate, windows="auto" if spec.n_samples is None else False, **gender)


def test_the_documented_weights_exist():
    assert store.DEFAULT == "dense_tcn.ravdess_v1"
    assert {"dense_tcn.ravdess_v1", "timnet.ravdess_v2", "dense_tcn.ravdess_emodb_v2"} <= set(SETS)


@pytest.mark.parametrize("name", SETS)
def test_the_documentation_has_the_numbers_of_the_card(name):
    card = store.pretrained_card(name)
    (row,) = (line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}`"))
    found = card.calibration
    shown = f"{100 * found.error_after:.1f} %, {100 * found.coverage:.0f} %, {100 * found.accuracy:.0f} %"
    assert f"| {100 * card.scores['uar']:.2f} " in row
    assert shown in row


@pytest.mark.jax
def test_its_probabilities_are_those_of_its_card(classifier):
    card = classifier.card
    found = classifier.predict(*read_check_clip(card.input), **gender_input(classifier))
    np.testing.assert_allclose(values(found), card.output, rtol=0, atol=1e-5)
    assert max(card.output) < 0.9999, "a probability at 1 would not change with the features"


def test_the_card_is_whole(classifier, source):
    card, path = store.pretrained_file(source)
    assert card == classifier.card
    assert isinstance(card, EmotionCard)
    for text in (card.summary, card.source, card.licence, card.protocol, card.trained_on):
        assert text.strip()
        assert "\n" not in text
    assert card.name.startswith(f"{card.model.name}.")
    assert card.class_names == classifier.class_names
    assert spec_from_dict(card.feature_spec) == classifier.feature_spec
    assert MODELS.get(card.model.name).load() is type(classifier.model)
    assert path.stat().st_size == card.bytes < 2_000_000


def test_the_card_has_scores_and_calibration(classifier):
    scores, calibration = classifier.card.scores, classifier.card.calibration
    assert {"uar", "war", "uar_of_folds"} <= set(scores)
    assert np.mean(scores["uar_of_folds"]) == pytest.approx(scores["uar"], abs=1e-5)
    assert calibration.error_after <= 0.1
    assert calibration.n >= 50
    assert calibration.threshold > 0
    assert classifier.threshold == calibration.threshold


def test_the_licence_is_that_of_the_corpora(classifier):
    card = classifier.card
    for corpus in card.corpus.split("+"):
        assert CORPORA.get(corpus).licence in card.licence
        assert CORPORA.get(corpus).source in card.source


def test_the_card_is_written_as_it_was_read(classifier, tmp_path):
    path = tmp_path / f"{classifier.card.name}.yaml"
    path.write_text(card_text(classifier.card))
    assert read_card(path) == classifier.card


def test_the_file_holds_the_networks_arrays_alone(classifier, source):
    _, path = store.pretrained_file(source)
    arrays = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.append(name) if isinstance(item, h5py.Dataset) else None)
    assert len(arrays) == len(classifier.model.weights)
    assert all(name.startswith("layers/") for name in arrays)


@pytest.mark.jax
def test_it_survives_a_keras_file(classifier, clip, tmp_path):
    with pytest.warns(serzoo.errors.SerzooWarning, match="without its model card"):
        path = classifier.save(tmp_path / "model.keras")
    again = serzoo.load(path)
    for found, expected in zip(again.model.get_weights(), classifier.model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (again.class_names, again.feature_spec) == (classifier.class_names, classifier.feature_spec)
    raw, found = (as_exported(each, clip, **gender_input(classifier)) for each in (again, classifier))
    calibrated = np.asarray(classifier.calibrated(values(raw)[None]))[0]
    np.testing.assert_allclose(values(found), calibrated, rtol=0, atol=1e-5)


def test_below_its_threshold_the_label_is_unknown(classifier, clip):
    rate = classifier.feature_spec.sample_rate
    found = classifier.predict(clip, rate, **gender_input(classifier))
    assert found.label == (found.top if found.confidence >= classifier.threshold else UNKNOWN)
    assert classifier.predict(clip, rate, threshold=0, **gender_input(classifier)).label == found.top
    assert classifier.predict(clip, rate, threshold=1, **gender_input(classifier)).label == UNKNOWN


@pytest.mark.slow
@NOT_ON_JAX
@pytest.mark.parametrize("format_", ["saved_model", "litert"])
def test_an_export_gives_its_calibrated_probabilities(classifier, clip, tmp_path, format_):
    folder = export(classifier, tmp_path / "export", format_)
    gender = {"gender": np.ones(1, np.float32)} if classifier.model.takes_gender else {}
    found = asked(folder, format_, clip[None], **gender)[0]
    expected = as_exported(classifier, clip, **gender_input(classifier))
    np.testing.assert_allclose(found, values(expected), rtol=0, atol=WAVEFORM_TOLERANCE)
    metadata = json.loads((folder / "metadata.json").read_text())
    card = classifier.card
    assert metadata["class_names"] == list(card.class_names)
    assert metadata["pretrained"] == {
        "name": card.name, "licence": card.licence, "source": card.source, "threshold": card.calibration.threshold,
    }  # fmt: skip


@pytest.mark.slow
@NOT_ON_JAX
@pytest.mark.parametrize("format_", ["saved_model", "litert"])
def test_an_export_calibrates_pooled_segments(tiny_set, tmp_path, format_):
    """The network classifies segments; the card's temperature is for recordings."""
    spec = {"kind": "mfcc", "sample_rate": 8_000, "n_mfcc": 13, "n_mels": 40, "segment_frames": 10}
    model = serzoo.build("timnet", class_names=("angry", "happy", "sad"), feature_spec=spec, n_blocks=2, filters=4)
    subject = Classifier(model, serzoo.load(tiny_set).card)
    clip = synthesize("sad", "1", "male", "1", sample_rate=8_000)
    expected = subject.predict(clip, 8_000)
    assert len(expected.timeline) > 1
    found = asked(export(subject, tmp_path / "export", format_), format_, clip[None])[0]
    np.testing.assert_allclose(found, values(expected), rtol=0, atol=WAVEFORM_TOLERANCE)


def asked(folder, format_, waveforms, **gender):
    """Return an export's probabilities for waveforms, (batch, n_samples)."""
    if format_ == "litert":
        from serzoo.exporters import litert

        return litert.runners(folder / litert.FILE)["serving_default"](waveforms, **gender)
    import tensorflow as tf

    inputs = {name: tf.constant(each) for name, each in {"waveform": waveforms, **gender}.items()}
    return tf.saved_model.load(str(folder)).signatures["serving_default"](**inputs)["probabilities"].numpy()


@pytest.mark.parametrize("name", ["acrnn", "dense_tcn", "embedding_dnn", "tbdm", "timnet"])
def test_a_networks_arguments_are_the_given_ones_completed(name):
    """Cards have complete arguments, recipes the given ones, and packaging compares them."""
    found = serzoo.build(name, n_classes=3, dropout=0.25).get_config()
    expected = full_arguments(name, None, {"dropout": 0.25})
    common = {key: found[key] for key in ("name", "n_classes", "class_names", "feature_spec")}
    assert found == json.loads(json.dumps({**common, **expected}))


# On the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "speech.wav"
    soundfile.write(path, synthesize("sad", "1", "male", "1", sample_rate=8_000), 8_000)
    return path


@pytest.fixture
def usual(tiny_set, monkeypatch):
    """The weights made here, in place of the package's."""
    monkeypatch.setattr(store, "FILES", tiny_set)
    monkeypatch.setattr(store, "DEFAULT", MADE_HERE)
    return MADE_HERE


def test_predict_needs_no_model(run, usual, recording):
    code, out, err = run("predict", recording)
    assert code == 0
    assert err == SAID
    found = serzoo.load(usual).predict(recording)
    assert found.label == UNKNOWN
    assert out.startswith(f"{recording}: unknown (perhaps {found.top}, {found.confidence:.0%})\n")


def test_predict_takes_a_threshold(run, usual, recording, tmp_path):
    table = tmp_path / "answers.json"
    for threshold, label in ((0, None), (1, UNKNOWN)):
        code, out, err = run("predict", "--threshold", threshold, recording, "-o", table)
        (answer,) = json.loads(table.read_text())
        assert (code, err) == (0, SAID)
        assert answer["label"] == (label or max(answer["probabilities"], key=answer["probabilities"].get))
        assert out.startswith(f"{recording}: {answer['label']} (")
    assert (answer["threshold"], answer["top"]) == (1, max(answer["probabilities"], key=answer["probabilities"].get))
    code, out, err = run("predict", "--threshold", 1.5, recording)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == "error: threshold is 1.5; it must be a number in 0..1."


def test_predict_without_pretrained_weights_is_one_line(run, recording, monkeypatch, tmp_path):
    monkeypatch.setattr(store, "FILES", tmp_path)
    code, out, err = run("predict", recording)
    assert (code, out) == (2, "")
    assert err == "error: No pretrained emotion weights come with this serzoo; name a model (--model).\n"


def test_list_shows_pretrained_weights_with_their_licence(run, usual):
    _, out, _ = run("list")
    (line,) = [
        line for line in out.partition("Pretrained weights\n")[2].splitlines() if line.startswith(f"  {usual}  ")
    ]
    assert line.endswith("untrained; free: no recordings; serzoo makes it on first use")


def test_pretrained_weights_are_named_wherever_a_model_is(run, usual, tmp_path, monkeypatch):
    code, out, _ = run("convert", usual, tmp_path / "model.keras")
    assert (code, Path(out.strip())) == (0, tmp_path / "model.keras")
    code, _, err = run("predict", "-m", "timnet.tiny", "x.wav")
    assert (code, err.count("\n")) == (2, 1)
    assert "Unknown model file or pretrained weights 'timnet.tiny'. Did you mean 'timnet.tiny_v1'?" in err
