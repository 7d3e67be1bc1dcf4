import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf

import serzoo.exporters
from serzoo.classifier import Classifier
from serzoo.errors import ConfigError, ExportError, UnknownNameError
from serzoo.exporters import compare, export, saved_model
from serzoo.features.extract import extract
from serzoo.features.spec import MFCCSpec
from serzoo.models.timnet import TIMNet

RATE = 22_050
LENGTH = RATE // 2
NAMES = ("wütend", "happy", "sad")


def tiny_classifier(n_samples=LENGTH, **changes):
    keras.utils.set_random_seed(1)
    settings = {"n_blocks": 2, "filters": 4, "class_names": NAMES, "feature_spec": MFCCSpec(n_samples=n_samples)}
    return Classifier(TIMNet(n_classes=3, **{**settings, **changes}))


def noise(batch_size, n_samples):
    return np.random.default_rng(n_samples).normal(0, 0.1, (batch_size, n_samples)).astype(np.float32)


def reference(classifier, waveforms):
    features = np.stack([extract(waveform, classifier.feature_spec) for waveform in waveforms])
    return features, classifier.network.predict(features, verbose=0)


def ask(signature, **inputs):
    answers = signature(**{name: tf.constant(value) for name, value in inputs.items()})
    return answers["probabilities"].numpy(), [label.decode() for label in answers["label"].numpy()]


@pytest.fixture(scope="module")
def classifier():
    return tiny_classifier()


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    return export(classifier, tmp_path_factory.mktemp("export") / "deep" / "model")


@pytest.fixture(scope="module")
def signatures(exported):
    return tf.saved_model.load(str(exported)).signatures


@pytest.fixture
def instant(monkeypatch):
    """Writing a SavedModel takes seconds; for what happens around it a marker will do."""
    monkeypatch.setattr(saved_model, "write", lambda _, folder: (folder.mkdir(), (folder / "model").touch()))


@pytest.mark.parametrize("n_samples", [1, 700, 3000, LENGTH, LENGTH + 1, 5 * LENGTH])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_waveforms_of_any_length(classifier, signatures, batch_size, n_samples):
    waveforms = noise(batch_size, n_samples)
    probabilities, labels = ask(signatures["serving_default"], waveform=waveforms)
    _, expected = reference(classifier, waveforms)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=compare.WAVEFORM_TOLERANCE)
    assert labels == [NAMES[index] for index in probabilities.argmax(axis=1)]


def test_batch_does_not_change_the_probabilities(signatures):
    waveforms = noise(3, 4000) * np.array([[1], [1e-3], [10]], np.float32)
    together, _ = ask(signatures["serving_default"], waveform=waveforms)
    for index in range(3):
        alone, _ = ask(signatures["serving_default"], waveform=waveforms[index : index + 1])
        np.testing.assert_allclose(together[index], alone[0], rtol=0, atol=1e-6)


def test_features(classifier, signatures):
    features, expected = reference(classifier, noise(2, LENGTH))
    probabilities, labels = ask(signatures["features"], features=features)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=compare.FEATURES_TOLERANCE)
    assert labels == [NAMES[index] for index in expected.argmax(axis=1)]


def test_class_names(signatures):
    names = signatures["class_names"]()["class_names"]
    assert [name.decode() for name in names.numpy()] == list(NAMES)


def test_metadata(exported, classifier):
    metadata = json.loads((exported / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["class_names"] == list(NAMES)
    assert metadata["sample_rate"] == RATE
    assert metadata["feature_spec"] == classifier.feature_spec.to_dict()
    assert metadata["versions"]["keras"] == keras.__version__
    assert list(metadata["signatures"]) == ["serving_default", "features", "class_names"]


SERVE = """
import sys
sys.modules.update(serzoo=None, keras=None, librosa=None)  # importing one of them fails
import soundfile, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
waveform, _ = soundfile.read(sys.argv[2], dtype="float32")
answer = model.signatures["serving_default"](waveform=tf.constant(waveform[None]))
print(answer["label"].numpy()[0].decode(), *answer["probabilities"].numpy()[0], sep=";")
"""


def test_runs_with_tensorflow_alone(exported, classifier, tmp_path):
    soundfile.write(tmp_path / "speech.wav", noise(1, 9000)[0], RATE)
    output = subprocess.run(
        [sys.executable, "-c", SERVE, exported, tmp_path / "speech.wav"],
        capture_output=True,
        encoding="utf-8",
        check=True,
        cwd=tmp_path,
        env={"PYTHONIOENCODING": "utf-8", "CUDA_VISIBLE_DEVICES": ""},
    ).stdout
    label, *probabilities = output.strip().split(";")
    expected = classifier.predict(tmp_path / "speech.wav")
    assert label == expected.label
    np.testing.assert_allclose(
        [float(value) for value in probabilities],
        list(expected.probabilities.values()),
        rtol=0,
        atol=compare.WAVEFORM_TOLERANCE,
    )


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"n_samples": None}, {"classifier_activation": None, "n_frames": 22}])
def test_other_kinds_of_model(tmp_path, changes):
    """Any length of features, and logits, which are exported as probabilities."""
    classifier = tiny_classifier(**changes)
    serve = tf.saved_model.load(str(export(classifier, tmp_path / "model"))).signatures["serving_default"]
    probabilities, _ = ask(serve, waveform=noise(2, 7000))
    np.testing.assert_allclose(
        probabilities, reference(classifier, noise(2, 7000))[1], rtol=0, atol=compare.WAVEFORM_TOLERANCE
    )
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-6)


def test_export_is_a_function(instant, classifier, tmp_path):
    assert serzoo.export(classifier.model, tmp_path / "model") == tmp_path / "model"
    assert serzoo.exporters.export is export


# What must not be written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "top_db", "message"),
    [
        (1.01, 80, "The export's probabilities for features differ from the model's by"),
        (1.0, 60, "The export's probabilities for waveforms of 3676 samples differ from the model's by"),
    ],
)
def test_export_that_is_off_is_refused(classifier, tmp_path, monkeypatch, scale, top_db, message):
    """Instead of the model one with other weights is written, or one with another front end."""
    wrong = tiny_classifier(feature_spec=MFCCSpec(n_samples=LENGTH, top_db=top_db))
    wrong.model.set_weights([weight * scale for weight in classifier.model.get_weights()])
    write_module = saved_model._module
    monkeypatch.setattr(saved_model, "_module", lambda _: write_module(wrong))
    with pytest.raises(ExportError, match=message):
        export(classifier, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_nan_is_a_difference():
    with pytest.raises(ExportError, match="differ from the model's by nan"):
        compare._compare("features", np.full((1, 3), np.nan), np.full((1, 3), 0.3), 1.0)


def test_folder_in_use_is_refused(classifier, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match=f"Folder {tmp_path} is not empty; choose another or set overwrite=True"):
        export(classifier, tmp_path)
    with pytest.raises(ExportError, match="holds no earlier export, so it is not overwritten"):
        export(classifier, tmp_path, overwrite=True)
    with pytest.raises(ExportError, match=r"thesis\.txt is a file"):
        export(classifier, tmp_path / "thesis.txt", overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_earlier_export_is_replaced_on_request(instant, classifier, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()  # an empty folder is free
    export(classifier, folder)
    (folder / "old").touch()
    export(classifier, folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["metadata.json", "model"]
    assert list(tmp_path.iterdir()) == [folder]


def test_failed_export_keeps_the_earlier_one(instant, classifier, tmp_path, monkeypatch):
    folder = export(classifier, tmp_path / "model")

    def fail(classifier, folder):
        folder.mkdir()
        raise ExportError("no")

    monkeypatch.setattr(saved_model, "write", fail)
    with pytest.raises(ExportError, match="no"):
        export(classifier, folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["metadata.json", "model"]
    assert list(tmp_path.iterdir()) == [folder]


def test_unknown_format(classifier, tmp_path):
    with pytest.raises(UnknownNameError, match=r"Unknown export format 'savedmodel'\. Did you mean 'saved_model'"):
        export(classifier, tmp_path / "model", format="savedmodel")


def test_other_backends_get_the_remedy(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ExportError, match=r"Keras runs on jax; .* KERAS_BACKEND=tensorflow"):
        export(classifier, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_model_without_names(tmp_path):
    with pytest.raises(ConfigError, match="timnet has no class_names"):
        export(TIMNet(n_classes=3, n_blocks=2, filters=4, feature_spec=MFCCSpec(n_samples=LENGTH)), tmp_path / "model")
