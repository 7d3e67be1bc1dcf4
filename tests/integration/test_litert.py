"""LiteRT files of small models: what they answer, what they need, and what must not be written."""

import contextlib
import json
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest

import serzoo
from serzoo.classifier import Classifier
from serzoo.errors import ExportError
from serzoo.exporters import compare, export, litert
from serzoo.features.extract import extract
from serzoo.features.spec import LogMelSpec, MFCCSpec
from serzoo.models.acrnn import ACRNN
from serzoo.models.timnet import TIMNet

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="written by TensorFlow"),
]

RATE = 8000
LENGTH = RATE // 2
NAMES = ("wütend", "happy", "sad")
SMALL = MFCCSpec(sample_rate=RATE, n_samples=LENGTH, n_fft=256, hop_length=128, n_mels=20, n_mfcc=8)


def interpreter_of(path):
    import tensorflow as tf

    return tf.lite.Interpreter(str(path))


def tiny_classifier(**changes):
    keras.utils.set_random_seed(1)
    settings = {"n_blocks": 1, "filters": 8, "n_features": 8, "class_names": NAMES, "feature_spec": SMALL}
    return Classifier(TIMNet(n_classes=3, **{**settings, **changes}))


def tiny_acrnn():
    keras.utils.set_random_seed(1)
    small = {"n_convs": 1, "filters": (4, 4), "projection": 8, "lstm_units": 4, "dense_units": 6, "attention_width": 3}
    spec = LogMelSpec(n_mels=8, segment_frames=8)
    return Classifier(
        ACRNN(n_classes=3, n_features=8, normalization=None, class_names=NAMES, feature_spec=spec, **small)
    )


def noise(batch_size, n_samples):
    return np.random.default_rng(n_samples).normal(0, 0.1, (batch_size, n_samples)).astype(np.float32)


@pytest.fixture(scope="module")
def classifier():
    return tiny_classifier(gender_columns=1)


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    return export(classifier, tmp_path_factory.mktemp("export") / "model", format="litert")


@pytest.fixture(scope="module")
def runners(exported):
    return litert.runners(exported / litert.FILE)


@pytest.mark.parametrize("n_samples", [1, 700, LENGTH, LENGTH + 1, 5 * LENGTH])
def test_waveforms_of_any_length(classifier, runners, n_samples):
    waveforms, genders = noise(2, n_samples), np.array([0.3, 1.0], np.float32)
    answers = runners["serving_default"](waveforms, gender=genders)
    features = np.stack([extract(waveform, SMALL) for waveform in waveforms])
    expected = classifier.network.predict_on_batch({"features": features, "gender": genders[:, None]})
    np.testing.assert_allclose(answers, expected, rtol=0, atol=compare.WAVEFORM_TOLERANCE)
    asked = runners["features"](features, gender=genders)
    np.testing.assert_allclose(asked, expected, rtol=0, atol=compare.FEATURES_TOLERANCE)


@pytest.mark.parametrize("gender", [-0.01, 1.01, np.nan])
def test_a_gender_out_of_range_gives_nan(runners, gender):
    answers = runners["serving_default"](noise(1, LENGTH), gender=np.array([gender], np.float32))
    assert np.isnan(answers).all()


def test_metadata_describes_the_inputs(exported):
    assert sorted(path.name for path in exported.iterdir()) == ["metadata.json", "model.tflite"]
    metadata = json.loads((exported / "metadata.json").read_text(encoding="utf-8"))
    assert (metadata["format"], metadata["file"]) == ("litert", "model.tflite")
    assert metadata["class_names"] == list(NAMES)
    interpreter = interpreter_of(exported / litert.FILE)
    taken = {name: set(found["inputs"]) for name, found in interpreter.get_signature_list().items()}
    assert taken == {name: set(inputs) for name, inputs in metadata["signatures"].items()}
    assert metadata["signatures"]["features"]["features"] == "float32 (1, 32, 8)"


def test_only_own_operations_and_no_variables(exported):
    interpreter = interpreter_of(exported / litert.FILE)
    operations = {found["op_name"] for found in interpreter._get_ops_details()}
    assert "CONV_2D" in operations
    assert not [name for name in operations if name.startswith(("Flex", "VAR_HANDLE", "CUSTOM"))]


SERVE = """
import sys
sys.modules.update(serzoo=None, keras=None, librosa=None, tensorflow=None)  # importing one of them fails
import numpy as np
from ai_edge_litert.interpreter import Interpreter
ask = Interpreter(model_path=sys.argv[1]).get_signature_runner("serving_default")
waveform = np.load(sys.argv[2])
print(*ask(waveform=waveform, gender=np.ones(1, np.float32))["probabilities"][0])
"""


@pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="needs ai-edge-litert")
def test_runs_without_tensorflow(exported, runners, tmp_path):
    np.save(tmp_path / "speech.npy", noise(1, 3000))
    command = [sys.executable, "-c", SERVE, exported / litert.FILE, tmp_path / "speech.npy"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    expected = runners["serving_default"](noise(1, 3000), gender=np.ones(1, np.float32))[0]
    np.testing.assert_allclose([float(value) for value in answer.split()], expected, rtol=0, atol=1e-5)


def test_any_length_logits_and_an_odd_transform(tmp_path):
    """LiteRT's Fourier transform takes powers of two; the front end does without it for others."""
    spec = MFCCSpec(sample_rate=RATE, n_fft=200, hop_length=80, n_mels=20, n_mfcc=8)
    subject = tiny_classifier(feature_spec=spec, classifier_activation=None)
    ask = litert.runners(export(subject, tmp_path / "model", format="litert") / litert.FILE)["serving_default"]
    for n_samples in (3000, 9000):
        features = extract(noise(1, n_samples)[0], spec)[None]
        expected = subject.network.predict_on_batch(features)
        answers = ask(noise(1, n_samples))
        np.testing.assert_allclose(answers, expected, rtol=0, atol=compare.WAVEFORM_TOLERANCE)
        assert answers.sum() == pytest.approx(1, abs=1e-6)


def test_segments_of_a_recurrent_model(tmp_path):
    """That the answers are right is checked by the export itself."""
    subject = tiny_acrnn()
    ask = litert.runners(export(subject, tmp_path / "model", format="litert") / litert.FILE)["serving_default"]
    answers = ask(noise(2, 6000), gender=np.array([0, 1], np.float32))
    assert answers.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert np.abs(answers[0] - answers[1]).max() > 1e-4
    assert not subject.model.get_layer("bilstm").forward_layer.unroll


# What must not be written ---------------------------------------------------------------------------------------------


def test_a_file_with_other_weights_is_refused(tmp_path, monkeypatch):
    subject, wrong = tiny_classifier(), tiny_classifier()
    wrong.model.set_weights([weight * 1.01 for weight in subject.model.get_weights()])
    module = litert._module
    monkeypatch.setattr(litert, "_module", lambda _: module(wrong))
    with pytest.raises(ExportError, match="The export's probabilities for features differ from the model's by"):
        export(subject, tmp_path / "model", format="litert")
    assert list(tmp_path.iterdir()) == []


def test_what_the_converter_has_no_operation_for_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(litert, "_unrolled", lambda _: contextlib.nullcontext())
    message = r"LiteRT cannot compute this acrnn \(no operation for TensorListGetItem\); export it with"
    with pytest.raises(ExportError, match=message) as error:
        export(tiny_acrnn(), tmp_path / "model", format="litert")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_what_the_interpreter_cannot_compute_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "serzoo.features.frontend.FrontEnd.fft_of_powers_of_two_only",
        property(lambda _: False, lambda *_: None),
        raising=False,
    )
    subject = tiny_classifier(feature_spec=MFCCSpec(sample_rate=RATE, n_fft=200, n_mels=20, n_mfcc=8))
    with pytest.raises(ExportError, match=r"LiteRT cannot compute this timnet \(.*rfft2d.*\); export it with") as error:
        export(subject, tmp_path / "model", format="litert")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_other_backends_get_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ExportError, match=r"A LiteRT file is written by TensorFlow, but Keras runs on jax; "):
        serzoo.export(tiny_classifier(), tmp_path / "model", format="litert")
    assert list(tmp_path.iterdir()) == []


def test_command_line(run, tmp_path, monkeypatch):
    monkeypatch.setattr(litert, "write", lambda _, folder: (folder.mkdir(), (folder / litert.FILE).touch()))
    tiny_classifier().save(tmp_path / "model.keras")
    code, out, _ = run("export", tmp_path / "model.keras", tmp_path / "out", "--format", "litert")
    assert (code, out.strip()) == (0, str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "metadata.json").read_text())["format"] == "litert"
