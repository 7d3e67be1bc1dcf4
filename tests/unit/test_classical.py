"""Classical classifiers: arguments, probabilities, calibration by speakers, files."""

import io
import json
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from serzoo.classical import model
from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS, complete_arguments
from serzoo.classical.model import ClassicalClassifier, clip_vectors, load_classical
from serzoo.data.examples import Examples
from serzoo.errors import (
    ConfigError,
    DataError,
    FeatureError,
    MissingExtraError,
    SerzooWarning,
    UnknownNameError,
    WeightsError,
)
from serzoo.experiments.setup import check_recipe, prepare_recipe
from serzoo.features.spec import MFCCSpec
from serzoo.models import MODELS
from serzoo.recipes import recipe_from_dict
from serzoo.training.train_classical import speaker_splits, train_classical

SPEC = MFCCSpec(n_samples=2048, n_mfcc=4)
CLASSES = ("angry", "happy", "sad")
EVERY_CLASSIFIER = pytest.mark.parametrize("name", CLASSICAL_CLASSIFIERS)
QUICK = {
    "random_forest": {"n_estimators": 10},
    "xgboost": {"n_estimators": 10},
    "mlp": {"hidden_layer_sizes": [8], "learning_rate_init": 0.1},
}
"""Arguments that keep the tests fast."""


def blobs(distance=6.0, n_speakers=6, n_each=4, n_classes=3, seed=0):
    """Clips of 5 frames; value k is larger by ``distance`` deviations in class k. All speakers have all classes."""
    rng = np.random.default_rng(seed)
    targets = np.tile(np.repeat(np.arange(n_classes), n_each), n_speakers)
    speakers = np.repeat([f"{number:02d}" for number in range(1, n_speakers + 1)], n_classes * n_each)
    features = rng.standard_normal((len(targets), 1, 4)) + np.zeros((1, 5, 1))
    features[np.arange(len(targets)), :, targets] += distance
    return Examples(features.astype(np.float32), targets, CLASSES[:n_classes]), speakers


def trained(name="svc", data=None, seed=0, **arguments):
    examples, speakers = data or blobs()
    return train_classical(name, {**QUICK.get(name, {}), **arguments}, examples, SPEC, speakers=speakers, seed=seed)


def svc_by_hand(examples, **arguments):
    vectors = examples.features.astype(np.float64).mean(axis=1)
    settings = {"C": 10, "gamma": 0.001, "break_ties": True, **arguments}
    return SVC(**settings).fit(vectors, examples.targets), vectors


# Arguments


def test_models_and_classical_classifiers_share_no_name() -> None:
    assert set(CLASSICAL_CLASSIFIERS) == {"svc", "logistic_regression", "mlp", "random_forest", "xgboost"}
    assert not set(CLASSICAL_CLASSIFIERS) & set(MODELS)


def test_the_defaults_of_the_svc_are_those_of_the_paper() -> None:
    expected = {"C": 10.0, "gamma": 0.001, "kernel": "rbf", "class_weight": None, "scale": False, "calibrate": False}
    assert complete_arguments("svc") == expected
    assert complete_arguments("svc", {"C": 1}) == {**expected, "C": 1}


@EVERY_CLASSIFIER
def test_the_library_has_every_argument(name) -> None:
    entry = CLASSICAL_CLASSIFIERS.get(name)
    taken = entry.load()().get_params()
    assert set(entry.settings) | set(entry.fixed) | {"random_state"} <= set(taken)
    assert all(default in allowed for default, allowed in entry.settings.values())
    assert 10 < len(entry.summary) < 100


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("svm", {}, "Unknown classical classifier 'svm'. Did you mean 'svc'?"),
        ("svc", {"gama": 1.0}, "Unknown argument of svc 'gama'. Did you mean 'gamma'?"),
        ("mlp", {"C": 1.0}, "Unknown argument of mlp 'C'."),
    ],
)
def test_unknown_names_raise_with_the_nearest_match(name, arguments, message) -> None:
    with pytest.raises(UnknownNameError) as error:
        complete_arguments(name, arguments)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "argument", "value", "what"),
    [
        ("svc", "C", 0, "a number above 0"),
        ("svc", "C", True, "a number above 0"),
        ("svc", "C", float("inf"), "a number above 0"),
        ("svc", "gamma", "scales", "a number above 0, or one of 'scale', 'auto'"),
        ("svc", "kernel", "precomputed", "one of 'rbf', 'linear', 'poly', 'sigmoid'"),
        ("svc", "class_weight", "equal", "one of None (null in YAML), 'balanced'"),
        ("svc", "class_weight", {0: 1.0}, "one of None (null in YAML), 'balanced'"),
        ("svc", "scale", "yes", "true or false"),
        ("svc", "calibrate", 1, "true or false"),
        ("logistic_regression", "max_iter", 0, "an integer of at least 1"),
        ("mlp", "hidden_layer_sizes", [], "a list of one or more values, each an integer of at least 1"),
        ("mlp", "hidden_layer_sizes", [8, 0], "a list of one or more values, each an integer of at least 1"),
        ("mlp", "alpha", -1e-9, "a number of at least 0"),
        ("random_forest", "max_depth", 0, "an integer of at least 1, or None (null in YAML)"),
        ("random_forest", "n_estimators", 1.5, "an integer of at least 1"),
        ("xgboost", "subsample", 1.1, "a number above 0 and at most 1"),
    ],
)
def test_values_out_of_range_raise(name, argument, value, what) -> None:
    with pytest.raises(ConfigError) as error:
        complete_arguments(name, {argument: value})
    assert str(error.value) == f"{argument} of {name} is {value!r}; it must be {what}."


# Recipes

RECIPE = {
    "name": "small",
    "corpus": "synthetic",
    "model": {"name": "svc"},
    "features": {"kind": "mfcc", "n_samples": 16000},
    "protocol": "loso-v1",
}


def test_a_recipe_of_a_classical_classifier_survives_plain_data() -> None:
    recipe = recipe_from_dict({**RECIPE, "model": {"name": "mlp", "arguments": {"hidden_layer_sizes": [8]}}})
    assert recipe_from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"name": "svcc"}}, "Unknown model 'svcc'. Did you mean 'svc'?"),
        ({"model": {"name": "svc", "arguments": {"c": 1}}}, "Unknown argument of svc 'c'. Did you mean 'C'?"),
        ({"model": {"name": "svc", "arguments": {"C": -1}}}, "C of svc is -1; it must be a number above 0."),
        ({"training": {"selection": "best-train-war"}}, "training.selection is best-train-war, but svc has no epochs"),
        ({"training": {"class_weights": True}}, "training.class_weights is set, but svc is no network"),
        ({"training": {"spec_augment": {"time_masks": 1}}}, "training.spec_augment is set, but svc is no network"),
        ({"training": {"waveform_augment": {"gain_db": 3}}}, "training.waveform_augment is set, but svc is no network"),
        ({"training": {"epochs": 20}}, "training.epochs is 20, but svc is no network that could use it; leave it out."),
        ({"training": {"label_smoothing": 0}}, "training.label_smoothing is 0.0, but svc is no network"),
        ({"training": {"optimizer": {"beta_1": 0.5}}}, "training.optimizer.beta_1 is 0.5, but svc is no network"),
        ({"training": {"jit_compile": False}}, "training.jit_compile is False, but svc is no network"),
        ({"gender": {"source": "binary"}}, "gender.source is set, but svc is no network"),
        ({"initial": {"model": "a.keras"}}, "initial is set, but svc is no network"),
        ({"anti_transfer": {"pretrained": ["a.keras"]}}, "anti_transfer is set, but svc is no network"),
        (
            {"rh_emo": {}, "training": {"selection": "last-epoch"}},
            "rh_emo is set, but svc is no network that could use it; leave it out.",
        ),
    ],
)
def test_settings_of_networks_raise(values, message) -> None:
    with pytest.raises((ConfigError, UnknownNameError)) as error:
        check_recipe(recipe_from_dict({**RECIPE, **values}))
    assert str(error.value).startswith(f"{RECIPE['name']}: {message}")


def test_default_settings_of_networks_and_any_seed_are_allowed() -> None:
    usual = recipe_from_dict(RECIPE).to_dict()["training"]
    assert {"batch_size", "epochs", "optimizer"} < set(usual)
    assert recipe_from_dict({**RECIPE, "training": {**usual, "seed": 7}}).training.seed == 7


def test_a_change_of_a_networks_recipe_is_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"training\.selection is best-validation-uar, but svc has no epochs"):
        prepare_recipe("timnet-synthetic", {"model.name": "svc", "model.arguments": {}})


# Training and prediction


def test_vectors_are_means_over_the_frames_that_are_no_padding() -> None:
    segments = np.zeros((3, 4, 2, 2), np.float32)
    segments[0, :3] = [[[1, 2], [3, 4]], [[3, 2], [3, 0]], [[5, 5], [6, 8]]]
    segments[1], segments[2, :1] = 1, 7
    examples = Examples(segments, np.array([0, 1, 2])[:2], ("a", "b"), segment_counts=np.array([1, 2]))
    np.testing.assert_allclose(clip_vectors(examples), [[3, 3, 4, 4], np.full(4, (4 * 1 + 7) / 5)])


def test_a_clip_of_padding_alone_is_a_vector_of_zeros() -> None:
    examples = Examples(np.zeros((2, 3, 4), np.float32), np.array([0, 1]), ("a", "b"))
    np.testing.assert_array_equal(clip_vectors(examples), np.zeros((2, 4)))


@EVERY_CLASSIFIER
@pytest.mark.parametrize("calibrate", [False, True])
def test_separable_classes_are_recognised(name, calibrate) -> None:
    model = trained(name, calibrate=calibrate, scale=True)
    unseen, _ = blobs(seed=1)
    probabilities = model.predict_probabilities(unseen)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert probabilities.min() >= 0
    assert np.mean(probabilities.argmax(axis=1) == unseen.targets) > 0.95


@EVERY_CLASSIFIER
def test_the_same_seed_gives_the_same_probabilities(name) -> None:
    data = blobs(distance=0.7)
    first, second = (trained(name, data, seed=2**32 - 1).predict_probabilities(data[0]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ["mlp", "random_forest"])
def test_another_seed_gives_other_probabilities(name) -> None:
    data = blobs(distance=0.7)
    first, second = (trained(name, data, seed=seed).predict_probabilities(data[0]) for seed in (0, 1))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_most_probable_class_is_the_one_that_the_svc_predicts(n_classes) -> None:
    examples, speakers = blobs(distance=0.5, n_classes=n_classes, n_speakers=12)  # hard, so that votes are tied
    new = blobs(distance=0.5, n_classes=n_classes, n_speakers=40, seed=1)[0]
    by_hand, _ = svc_by_hand(examples, gamma=0.5)
    expected = by_hand.predict(new.features.astype(np.float64).mean(axis=1))
    probabilities = trained("svc", (examples, speakers), gamma=0.5).predict_probabilities(new)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), expected)
    assert 0 < np.mean(expected != new.targets) < 1


def test_the_svcs_probabilities_of_two_classes_are_the_logistic_function_of_its_margin() -> None:
    examples, speakers = blobs(distance=1.0, n_classes=2)
    by_hand, vectors = svc_by_hand(examples)
    expected = 1 / (1 + np.exp(-by_hand.decision_function(vectors)))
    found = trained("svc", (examples, speakers)).predict_probabilities(examples)
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-9)


def test_scale_is_that_of_the_training_part() -> None:
    examples, speakers = blobs(distance=1.0)
    stretched = Examples(examples.features * np.float32([1, 1e3, 1, 1]), examples.targets, CLASSES)
    plain, large = (trained("svc", (each, speakers), scale=True) for each in (examples, stretched))
    np.testing.assert_allclose(large.predict_probabilities(stretched), plain.predict_probabilities(examples), atol=1e-6)
    shifted = Examples(examples.features + 1, examples.targets, CLASSES)
    assert np.abs(plain.predict_probabilities(shifted) - plain.predict_probabilities(examples)).max() > 1e-3


def test_a_class_missing_in_training_has_probability_zero() -> None:
    examples, speakers = blobs()
    kept = np.flatnonzero(examples.targets != 1)
    model = trained("xgboost", (examples.select(kept), speakers[kept]))
    assert model.learned == (0, 2)
    np.testing.assert_array_equal(model.predict_probabilities(examples)[:, 1], 0)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True])
def test_a_seed_out_of_range_raises(seed) -> None:
    with pytest.raises(ConfigError, match=r"^seed is .*; it must be an integer of at least 0 and below"):
        trained(seed=seed)


def test_a_single_class_raises() -> None:
    examples, speakers = blobs()
    kept = np.flatnonzero(examples.targets == 1)
    with pytest.raises(DataError, match="All 24 training clips are 'happy'; a classifier needs 2 or more classes"):
        trained("svc", (examples.select(kept), speakers[kept]))


def test_vectors_of_another_width_raise() -> None:
    other = Examples(np.zeros((1, 5, 3), np.float32), np.array([0]), CLASSES)
    with pytest.raises(FeatureError, match="svc takes vectors of 4 values, but those of the data have 3"):
        trained().predict_probabilities(other)


@pytest.mark.parametrize("name", ["mlp", "logistic_regression"])
def test_training_without_convergence_warns(name) -> None:
    with pytest.warns(SerzooWarning, match=f"^{name} did not converge; raise max_iter or set scale to true in"):
        trained(name, blobs(distance=0.5), max_iter=2)


def test_a_missing_xgboost_raises_with_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    message = r"needs xgboost; run: pip install 'serzoo\[xgboost\]'"
    with pytest.raises(MissingExtraError, match=message):
        trained("xgboost")


# Calibration


def test_calibration_holds_out_whole_speakers(monkeypatch) -> None:
    examples, speakers = blobs(distance=1.0, n_speakers=7)
    speaker_of = {tuple(vector): speaker for vector, speaker in zip(clip_vectors(examples), speakers, strict=True)}
    fit, parts = SVC.fit, []

    def remember(self, vectors, targets, **settings):
        parts.append({speaker_of[tuple(vector)] for vector in vectors})
        return fit(self, vectors, targets, **settings)

    monkeypatch.setattr(SVC, "fit", remember)
    trained("svc", (examples, speakers), calibrate=True)
    *others, whole = parts
    assert whole == set(speakers)
    held_out = [whole - part for part in others]
    assert len(held_out) == 5
    assert sum(map(len, held_out)) == len(set.union(*held_out)) == 7


def test_calibrated_probabilities_have_a_smaller_brier_score() -> None:
    examples, speakers = blobs(distance=1.5, n_speakers=20, n_each=10, n_classes=2)
    unseen, _ = blobs(distance=1.5, n_speakers=100, n_each=10, n_classes=2, seed=1)
    errors = {}
    for calibrate in (False, True):
        model = trained("svc", (examples, speakers), calibrate=calibrate, C=1e-3)  # its margins hardly differ
        errors[calibrate] = np.mean((model.predict_probabilities(unseen)[:, 1] - unseen.targets) ** 2)
    ideal = 1 / (1 + np.exp(clip_vectors(unseen)[:, :2] @ [1.5, -1.5]))  # Bayes' rule
    assert np.mean((ideal - unseen.targets) ** 2) < errors[True] < 0.17 < 0.2 < errors[False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: np.full_like(names, "01"), "'angry' has one speaker only (01), and a split by speakers needs 2"),
        (lambda names: None, "Some speakers are unknown"),
        (lambda names: np.where(names == "02", "", names), "Some speakers are unknown"),
    ],
)
def test_calibration_without_two_known_speakers_raises(change, message) -> None:
    examples, speakers = blobs(n_speakers=2)
    with pytest.raises(DataError) as error:
        trained("svc", (examples, change(speakers)), calibrate=True)
    assert str(error.value).startswith(f"Calibration: {message}")
    assert str(error.value).endswith("or set calibrate to false.")
    trained("svc", (examples, change(speakers)))


def test_splits_by_speakers_keep_both_classes_where_a_speaker_has_one() -> None:
    speakers = np.repeat([f"{number:02d}" for number in range(10)], [40, 3, 5, 2, 8, 30, 1, 4, 9, 2])
    targets = (speakers.astype(int) >= 5).astype(int)
    for seed in (None, 0, 1):
        splits = speaker_splits(targets, speakers, ("f", "m"), 5, seed=seed)
        assert len(splits) == 5
        np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in splits])), np.arange(len(targets)))
        for train, test in splits:
            assert not set(speakers[train]) & set(speakers[test])
            assert set(targets[train]) == set(targets[test]) == {0, 1}


def test_a_split_that_would_lose_a_class_raises(monkeypatch) -> None:
    monkeypatch.setattr("sklearn.model_selection.StratifiedGroupKFold", lambda n, **_: GroupKFold(n))
    speakers = np.array(["a", "a", "a", "a", "b", "b", "c", "d"])  # GroupKFold separates a from the others
    targets = np.array([1, 1, 1, 1, 0, 0, 0, 1])
    with pytest.raises(DataError, match="All speakers of 'f' are held out together"):
        speaker_splits(targets, speakers, ("f", "m"), 2)


# Files


@EVERY_CLASSIFIER
@pytest.mark.parametrize("settings", [{}, {"scale": True, "calibrate": True}])
def test_a_loaded_classifier_predicts_as_the_saved_one(name, settings, tmp_path) -> None:
    data = blobs(distance=1.0)
    model = trained(name, data, **settings)
    path = model.save(tmp_path / "fold01" / "model.skops")
    for source in (path, str(path), path.parent):
        loaded = load_classical(source)
        np.testing.assert_array_equal(loaded.predict_probabilities(data[0]), model.predict_probabilities(data[0]))
    assert (loaded.name, loaded.class_names, loaded.feature_spec, loaded.width) == (name, CLASSES, SPEC, 4)
    assert {key: loaded.arguments[key] for key in settings} == settings


@EVERY_CLASSIFIER
def test_a_file_contains_no_pickle_and_only_trusted_types(name, tmp_path) -> None:
    path = trained(name, calibrate=True).save(tmp_path / "model.skops")
    names = zipfile.ZipFile(path).namelist()
    assert {file.rpartition(".")[2] for file in names} <= {"json", "npy", "bin"}
    for file in names:
        if file.endswith(".npy"):
            np.load(io.BytesIO(zipfile.ZipFile(path).read(file)), allow_pickle=False)
    card = json.loads(zipfile.ZipFile(path).read("serzoo.json"))
    assert (card["classifier"], card["class_names"], card["feature_spec"]) == (name, list(CLASSES), SPEC.to_dict())
    found = skops.io.get_untrusted_types(file=path)
    assert sorted(found) == sorted(model.trusted_types(name, {"calibrate": True}))


def test_a_file_does_not_store_the_splits_of_the_calibration(tmp_path) -> None:
    archive = zipfile.ZipFile(trained("logistic_regression", calibrate=True).save(tmp_path / "a.skops"))
    sizes = [np.load(io.BytesIO(archive.read(name))).size for name in archive.namelist() if name.endswith(".npy")]
    assert max(sizes) < 14, "the indices of the 72 clips would be more"


@pytest.mark.parametrize("name", ["model.pkl", "model"])
def test_another_suffix_raises(name, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"does not end in \.skops"):
        trained().save(tmp_path / name)


def error_of(path) -> str:
    with pytest.raises(WeightsError) as error:
        load_classical(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def rewritten(path, target, replace):
    """Copy an archive, its files changed by ``replace(name, content)``; None leaves a file out."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = replace(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def with_estimator(path, target, estimator):
    """Put another object into an archive, under the card of the old one."""
    card = zipfile.ZipFile(path).read("serzoo.json")
    content = io.BytesIO(skops.io.dumps(estimator))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("serzoo.json", card)
    target.write_bytes(content.getvalue())
    return target


def test_other_files_raise(tmp_path) -> None:
    path = trained().save(tmp_path / "run" / "fold01" / "model.skops")
    assert "does not exist" in error_of(tmp_path / "other.skops")
    assert f"has no model.skops; choose a fold: {path.parent}" in error_of(tmp_path / "run")
    assert "has no model.skops; give the folder of a finished fold" in error_of(tmp_path)
    text = tmp_path / "text.skops"
    text.write_text("hello")
    assert "is no zip archive, not a classical classifier of serzoo" in error_of(text)
    bare = rewritten(path, tmp_path / "bare.skops", lambda name, old: None if name == "serzoo.json" else old)
    assert "is an archive without serzoo.json" in error_of(bare)
    large = rewritten(
        path, tmp_path / "large.skops", lambda name, old: b" " * 1_000_001 if name == "serzoo.json" else old
    )
    assert "more than 1000000 bytes" in error_of(large)


def test_damaged_files_raise(tmp_path) -> None:
    path = trained().save(tmp_path / "model.skops")
    content = path.read_bytes()
    for cut in (10, len(content) // 2, len(content) - 5):
        (tmp_path / "cut.skops").write_bytes(content[:cut])
        assert "cut.skops is " in error_of(tmp_path / "cut.skops")
    first = zipfile.ZipFile(path).infolist()[0]
    at = first.header_offset + 200
    (tmp_path / "flipped.skops").write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
    assert "flipped.skops is damaged" in error_of(tmp_path / "flipped.skops")

    def card(**changes):
        return lambda name, old: json.dumps({**json.loads(old), **changes}) if name == "serzoo.json" else old

    for changes in (
        {"width": 5},
        {"class_names": ["a", "b"]},
        {"learned": [0, 1]},
        {"arguments": {"c": 1}},
        {"width": "x"},
    ):
        assert "is damaged (" in error_of(rewritten(path, tmp_path / "changed.skops", card(**changes))), changes
    gone = rewritten(path, tmp_path / "gone.skops", lambda name, old: None if name == "schema.json" else old)
    assert "is damaged (" in error_of(gone)
    listed = rewritten(path, tmp_path / "list.skops", lambda name, old: b"[]" if name == "serzoo.json" else old)
    assert "is damaged (" in error_of(listed)


def test_hostile_files_are_not_loaded(tmp_path) -> None:
    path, target = trained().save(tmp_path / "model.skops"), tmp_path / "hostile.skops"
    foreign = with_estimator(path, target, {"estimator": FunctionTransformer(func=exec)})
    assert "contains builtins.exec, types that svc does not have; it is not loaded." in error_of(foreign)
    forest = trained("random_forest").estimator
    assert "contains sklearn.tree._tree.Tree, types that svc" in error_of(with_estimator(path, target, forest))
    other = LogisticRegression().fit([[0.0] * 4, [1.0] * 4], [0, 1])
    message = (
        "contains sklearn.linear_model._logistic.LogisticRegression, not sklearn.svm._classes.SVC; it is not loaded."
    )
    assert message in error_of(with_estimator(path, target, other))
    assert "is damaged (" in error_of(with_estimator(path, target, SVC()))


def test_a_forest_with_branches_out_of_its_memory_is_not_loaded(tmp_path) -> None:
    path = trained("random_forest", blobs(distance=0.5)).save(tmp_path / "model.skops")
    whole = load_classical(path).estimator.estimators_[0].tree_.__getstate__()["nodes"]

    def broken(field, value):
        def replace(name, old):
            if not name.endswith(".npy"):
                return old
            array = np.load(io.BytesIO(old))
            if array.dtype != whole.dtype or len(array) < 3:
                return old
            array[field][0] = value
            buffer = io.BytesIO()
            np.save(buffer, array)
            return buffer.getvalue()

        return rewritten(path, tmp_path / "broken.skops", replace)

    for field, value, reason in (
        ("left_child", 10**9, "a branch of a tree leads out of it"),
        ("right_child", 0, "a branch of a tree leads out of it"),
        ("feature", 4, "a tree splits by a value that the vectors do not have"),
    ):
        assert reason in error_of(broken(field, value))


def test_loading_without_xgboost_raises_with_the_extra(tmp_path, monkeypatch) -> None:
    path = trained("xgboost").save(tmp_path / "model.skops")
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(MissingExtraError, match=r"serzoo\[xgboost\]"):
        load_classical(path)


def test_probabilities_of_nan_raise() -> None:
    broken = SimpleNamespace(predict_proba=lambda vectors: np.full((len(vectors), 3), np.nan))
    with pytest.raises(WeightsError, match="svc returns NaN"):
        ClassicalClassifier("svc", {"calibrate": True}, CLASSES, SPEC, 4, (0, 1, 2), broken).predict_probabilities(
            blobs()[0]
        )
