import io
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from serzoo.classifier import Classifier
from serzoo.data.corpora.corpus import CORPORA
from serzoo.errors import ConfigError, SerzooError, UnknownNameError
from serzoo.features.spec import MFCCSpec
from serzoo.models.timnet import TIMNet
from serzoo.zoo import load

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
NAMES = ("angry", "happy", "sad")
SPEC = MFCCSpec(n_samples=11_025)


def tiny_model(class_names=NAMES, feature_spec=SPEC):
    return TIMNet(n_classes=3, n_blocks=2, filters=4, class_names=class_names, feature_spec=feature_spec)


def features(spec=SPEC):
    return np.random.default_rng(0).normal(0, 30, (2, 22, spec.n_mfcc)).astype(np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A whole model file; tests that change it work on a copy."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    tiny_model().save(path)
    return path


@pytest.fixture
def nameless(tmp_path):
    model = tiny_model(class_names=None, feature_spec=None)
    model.save(tmp_path / "nameless.keras")
    return tmp_path / "nameless.keras"


def rewritten(source, target, **members):
    """Copy a .keras file with some members replaced; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = members.get(name.partition(".")[0], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def config_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def assert_refused(path, match, **arguments):
    """The error is one line and names the file."""
    with pytest.raises(SerzooError, match=match) as raised:
        load(path, **arguments)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    return raised.value


# Files that serzoo saved ----------------------------------------------------------------------------------------------


def test_keras_file_gives_a_classifier(saved):
    classifier = load(saved)
    assert isinstance(classifier, Classifier)
    assert classifier.class_names == NAMES
    assert classifier.feature_spec == SPEC
    expected = keras.saving.load_model(saved).predict(features(), verbose=0)
    np.testing.assert_allclose(classifier.network.predict(features(), verbose=0), expected, rtol=0, atol=1e-6)


def test_folder_of_a_fold(saved):
    assert load(saved.parent).class_names == NAMES


def test_run_folder_lists_its_folds(saved, tmp_path):
    for name in ("fold01", "fold02"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.keras").write_bytes(saved.read_bytes())
    error = assert_refused(tmp_path, "holds no model.keras; choose a fold")
    assert str(tmp_path / "fold01") in str(error)
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", "give the folder of a finished fold")


def test_names_and_features_are_added_where_the_file_has_none(nameless):
    classifier = load(nameless, class_names=list(NAMES), feature_spec={"kind": "mfcc", "n_samples": 11_025})
    assert classifier.class_names == NAMES
    assert classifier.feature_spec == SPEC
    expected = keras.saving.load_model(nameless).predict(features(), verbose=0)
    np.testing.assert_allclose(classifier.network.predict(features(), verbose=0), expected, rtol=0, atol=1e-6)


def test_a_file_without_names_is_refused_with_the_remedy(nameless):
    with pytest.raises(ConfigError, match="has no class_names; build or load it with class_names="):
        load(nameless)
    assert_refused(nameless, "has 3 classes but 2 class names are given", class_names=["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"class_names": ["angry", "sad", "happy"]}, "has the class names"),
        ({"feature_spec": MFCCSpec(n_samples=22_050)}, "has the features"),
        ({"recipe": "timnet-ravdess"}, "has the class names"),
    ],
)
def test_names_and_features_of_the_file_cannot_be_replaced(saved, arguments, match):
    assert_refused(saved, match, **arguments)
    assert load(saved, class_names=NAMES, feature_spec=SPEC).class_names == NAMES


# The papers' weight files ---------------------------------------------------------------------------------------------


def test_timnet_weights_with_their_recipe():
    classifier = load(GOLDEN / "tim_net_d8.hdf5", recipe="timnet-ravdess")
    assert classifier.class_names == CORPORA.get("ravdess").class_names
    assert classifier.feature_spec == MFCCSpec(n_samples=110_000)
    with np.load(GOLDEN / "tim_net_d8.npz") as golden:
        answers = classifier.network.predict(golden["x"], verbose=0)
        np.testing.assert_allclose(answers, golden["probabilities"], rtol=0, atol=1e-5)


def test_tbdm_state_with_names_and_features():
    names = [f"class {number}" for number in range(8)]
    classifier = load(GOLDEN / "tbdm_net_f8.npz", class_names=names, feature_spec=MFCCSpec(n_mfcc=8))
    assert classifier.class_names == tuple(names)
    with np.load(GOLDEN / "tbdm_net_f8.npz") as golden:
        logits = golden["logits"].astype(np.float64)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(classifier.network.predict(golden["x"], verbose=0), probabilities, rtol=0, atol=1e-5)


def test_bare_weights_need_names_and_features():
    for arguments in ({}, {"class_names": NAMES}, {"feature_spec": SPEC}):
        assert_refused(
            GOLDEN / "tim_net_d8.hdf5",
            "has weights only; give the recipe of their training, such as recipe='timnet-ravdess'",
            **arguments,
        )


def test_recipe_must_fit_the_weights():
    weights = GOLDEN / "tim_net_d8.hdf5"
    assert_refused(weights, "has timnet weights, tbdm-ravdess is a recipe for tbdm", recipe="tbdm-ravdess")
    assert_refused(weights, "has weights for 8 classes but 7 are given", recipe="timnet-emodb")
    with pytest.raises(UnknownNameError, match="Did you mean 'timnet-ravdess'"):
        load(weights, recipe="timnet-ravdes")


# Files that are missing, damaged or hostile ---------------------------------------------------------------------------


def test_unknown_file_names_the_nearest(saved):
    path = saved.with_name("modle.keras")
    error = assert_refused(path, "Unknown model file")
    assert f"Did you mean '{saved}'" in str(error)
    with pytest.raises(UnknownNameError, match=r"Unknown model file or pretrained weights 'timnet\.ravdess_v7'"):
        load("timnet.ravdess_v7")
    with pytest.raises(UnknownNameError, match=r"Model file ravdess_v7\.keras does not exist"):
        load("ravdess_v7.keras")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"PK")
    assert_refused(path, r"give a serzoo model \(.keras\)")


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.98])
def test_truncated_file(saved, tmp_path, kept):
    content = saved.read_bytes()
    path = tmp_path / "model.keras"
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    assert_refused(path, "is not a complete .keras file")


def test_text_named_keras(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("this is a text")
    assert_refused(path, "is not a complete .keras file")


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (None, "config.json"),
        (b"{", "is not a complete .keras file"),
        (b"[" * 100_000, "is not a complete .keras file"),
        (b" " * 2_000_000, "config is too large"),
        (b"[1, 2]", "has a 'None', not a model of serzoo"),
    ],
)
def test_damaged_config(saved, tmp_path, config, match):
    assert_refused(rewritten(saved, tmp_path / "model.keras", config=config), match)


def test_damaged_weights(saved, tmp_path):
    with zipfile.ZipFile(saved) as archive:
        weights = archive.read("model.weights.h5")
    for content in (None, b"", weights[: len(weights) // 2]):
        assert_refused(rewritten(saved, tmp_path / "model.keras", model=content), "is damaged")


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_another_model(saved, tmp_path):
    other = tmp_path / "other.keras"
    TIMNet(n_classes=3, n_blocks=2, filters=5).save(other)
    with zipfile.ZipFile(other) as archive:
        weights = archive.read("model.weights.h5")
    assert_refused(rewritten(saved, tmp_path / "model.keras", model=weights), "is damaged")


def test_lambda_is_not_run(tmp_path):
    """A Lambda layer's bytecode would run on loading if safe mode were off."""
    marker = str(tmp_path / "marker")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: (open(marker, "w").close(), x)[1])])
    Path(marker).unlink()
    path = tmp_path / "model.keras"
    model.save(path)
    assert_refused(path, "not a model of serzoo; allowed are")
    assert not Path(marker).exists()


@pytest.mark.parametrize(
    "change",
    [
        {"module": "os", "class_name": "system", "registered_name": "system", "config": {"command": "true"}},
        {"module": "serzoo.zoo", "class_name": "load", "registered_name": "serzoo>load"},
        {"module": "keras", "class_name": "Sequential", "registered_name": None},
        {"registered_name": ["serzoo>TIMNet"]},
        {"class_name": "function", "config": "TIMNet"},
        {"class_name": "__lambda__"},
    ],
)
def test_foreign_classes_are_refused(saved, tmp_path, change):
    config = json.dumps(config_of(saved) | change)
    assert_refused(rewritten(saved, tmp_path / "model.keras", config=config), "not a model of serzoo; allowed are")


@pytest.mark.parametrize(
    "change",
    [
        {"dropout": {"class_name": "__lambda__", "config": {"value": "x"}}},
        {"filters": "4"},
        {"n_classes": 1},
        {"surprise": 1},
        {"feature_spec": {"kind": "pickle"}},
        {"class_names": ["a", "b"]},
    ],
)
def test_forged_arguments_are_refused(saved, tmp_path, change):
    config = config_of(saved)
    config["config"] |= change
    assert_refused(rewritten(saved, tmp_path / "model.keras", config=json.dumps(config)), "is damaged")


def test_pickled_objects_are_refused(tmp_path):
    path = tmp_path / "state.npz"
    content = io.BytesIO()
    np.savez(content, **{"fc.weight": np.array([print], dtype=object)})
    path.write_bytes(content.getvalue())
    assert_refused(path, "is not a readable .npz archive of numbers", class_names=NAMES, feature_spec=SPEC)
