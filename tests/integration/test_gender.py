"""Cross-validation of classical classifiers, and gender classifiers, on a synthetic corpus."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from serzoo.classical.gender_classifier import GENDERS, gender_probabilities, load_gender_classifier
from serzoo.classical.model import load_classical
from serzoo.cli.app import app
from serzoo.data import load_corpus
from serzoo.data.cache import FeatureCache
from serzoo.data.examples import load_examples
from serzoo.data.protocols import get_protocol
from serzoo.data.splits import Fold
from serzoo.data.synthetic import write_corpus
from serzoo.errors import AudioError, ConfigError, DataError, MissingExtraError, UnknownNameError, WeightsError
from serzoo.experiments.cross_validate import cross_validate
from serzoo.features.spec import MFCCSpec
from serzoo.recipes import Recipe
from serzoo.settings import ModelConfig, TrainingConfig
from serzoo.training import train_gender
from serzoo.training.train_classical import train_classical
from serzoo.training.train_gender import (
    cross_validate_gender,
    fold_genders,
    gender_manifest,
    score_gender,
    train_gender_classifier,
)

SPEC = MFCCSpec(sample_rate=16_000, n_samples=16_000, n_mfcc=13)
CLASSES = ("neutral", "angry", "sad")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return FeatureCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four men and four women say a text with eight emotions."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "ravdess", n_speakers=8, n_texts=1)


@pytest.fixture(scope="module")
def manifest(root):
    return load_corpus("ravdess", root)


def with_column(manifest, **columns):
    return dataclasses.replace(manifest, frame=manifest.frame.assign(**columns))


def women_of(manifest):
    return manifest.select(np.flatnonzero(manifest.column("gender") == "female"))


def of_speakers(manifest, *speakers):
    return manifest.select(np.flatnonzero(np.isin(manifest.column("speaker"), speakers)))


@pytest.fixture
def training_speakers(monkeypatch):
    """The speakers and clips of each training, in order."""
    trainings, train = [], train_gender.train_classical

    def remember(name, arguments, examples, spec, *, speakers, seed):
        trainings.append((set(speakers), {tuple(clip.ravel()) for clip in examples.features}))
        return train(name, arguments, examples, spec, speakers=speakers, seed=seed)

    monkeypatch.setattr(train_gender, "train_classical", remember)
    return trainings


# Cross-validation of a recipe


def recipe(name="svc", protocol="loso-v1", seed=0, **arguments):
    return Recipe(
        name="small",
        corpus="ravdess",
        model=ModelConfig(name, {"scale": True, **arguments}),
        features=SPEC,
        protocol=protocol,
        training=TrainingConfig(seed=seed),
        class_names=CLASSES,
    )


def test_a_recipe_of_a_classical_classifier_is_cross_validated(root, cache, tmp_path, monkeypatch):
    common = {"data_root": root, "run_folder": tmp_path / "run", "cache": cache, "progress": False}
    settings = recipe(protocol="random3-seed0-v1", calibrate=True)
    first = cross_validate(settings, folds=[1, 2], **common)
    assert first.fold_names == ("fold01", "fold02")
    assert "speaker-DEPENDENT), selection last-epoch.  2 of 3 folds only." in str(first)
    for fold in first.fold_names:
        written = {path.name for path in (tmp_path / "run" / fold).iterdir()}
        assert written == {"model.skops", "predictions.csv", "environment.json", "provenance.txt"}
    for name in ("recipe.yaml", "data.json", "leakage.json", "report.json", "plots/confusion.png"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    assert {path.name for path in (tmp_path / "run" / "plots").iterdir()} == {"confusion.png"}
    packages = json.loads((tmp_path / "run" / first.chosen[0] / "environment.json").read_text())["packages"]
    assert {"scikit-learn", "skops"} <= set(packages)

    monkeypatch.setattr("serzoo.experiments.folds.train_classical", None)
    assert cross_validate(settings, folds=[1, 2], **common).summary == first.summary
    monkeypatch.undo()
    whole = cross_validate(settings, **common)
    assert whole.complete
    assert whole.summary.folds[:2] == first.summary.folds
    assert whole.summary.pooled.n == 8 * len(CLASSES)


def test_predictions_are_those_of_the_saved_classifier(root, manifest, cache, tmp_path):
    report = cross_validate(
        recipe("random_forest", seed=5), data_root=root, run_folder=tmp_path, folds=[3], cache=cache, progress=False
    )
    chosen = manifest.with_classes(CLASSES)
    fold = get_protocol("loso-v1").folds(chosen)[2]
    examples = load_examples(chosen, SPEC, cache=cache)
    by_hand = train_classical("random_forest", {"scale": True}, examples.select(fold.train), SPEC, seed=5)
    expected = by_hand.predict_probabilities(examples.select(fold.test))
    kept = load_classical(tmp_path / report.chosen[0])
    assert (kept.class_names, kept.feature_spec) == (CLASSES, SPEC)
    np.testing.assert_array_equal(kept.predict_probabilities(examples.select(fold.test)), expected)
    table = pd.read_csv(tmp_path / report.chosen[0] / "predictions.csv")
    np.testing.assert_allclose(table[[f"p_{name}" for name in CLASSES]], expected, atol=1e-6)
    assert table["prediction"].tolist() == [CLASSES[index] for index in expected.argmax(axis=1)]
    assert table["speaker"].unique().tolist() == [3]
    assert len((tmp_path / report.chosen[0] / "provenance.txt").read_text().split()) == len(fold.train)


def test_every_seed_trains_another_classifier(root, cache, tmp_path):
    repeated = dataclasses.replace(recipe("random_forest"), repeats=2)
    report = cross_validate(repeated, data_root=root, run_folder=tmp_path, folds=[1], cache=cache, progress=False)
    assert report.chosen == ("fold01-speaker-01", "fold01-speaker-01-seed1")
    tables = [(tmp_path / name / "predictions.csv").read_bytes() for name in report.chosen]
    assert tables[0] != tables[1]


def test_a_classical_classifier_predicts_any_target(root, cache, tmp_path):
    settings = dataclasses.replace(recipe(), class_names=None, target="gender")
    report = cross_validate(settings, data_root=root, run_folder=tmp_path, folds=[1, 2], cache=cache, progress=False)
    assert report.summary.pooled.class_names == GENDERS
    assert report.summary.pooled.war > 0.9


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (recipe(gama=1), UnknownNameError, "Unknown argument of svc 'gama'. Did you mean 'gamma'"),
        (
            dataclasses.replace(recipe(), training=TrainingConfig(selection="best-train-war")),
            ConfigError,
            "svc has no epochs to choose from",
        ),
        (recipe("xgboost"), MissingExtraError, r"serzoo\[xgboost\]"),
    ],
)
def test_a_refused_recipe_leaves_no_run_folder(root, cache, tmp_path, monkeypatch, settings, error, message):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(error, match=message):
        cross_validate(settings, data_root=root, run_folder=tmp_path / "run", cache=cache, progress=False)
    assert not (tmp_path / "run").exists()


def test_a_training_part_of_one_speaker_cannot_be_calibrated(tmp_path, cache):
    small = write_corpus(tmp_path / "two", n_speakers=2, n_texts=1)
    common = {"data_root": small, "cache": cache, "progress": False}
    with pytest.raises(DataError, match=r"fold01-speaker-01: Calibration: 'neutral' has one speaker only \(02\)"):
        cross_validate(recipe(calibrate=True), run_folder=tmp_path / "run", **common)
    assert cross_validate(recipe(), run_folder=tmp_path / "run", **common).complete


def test_train_and_cv_take_classical_classifiers(root, tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(recipe().to_yaml())
    arguments = [str(config), "--data", str(root), "--run", str(tmp_path / "run"), "-q"]
    result = CliRunner().invoke(app, ["train", *arguments, "--fold", "2"])
    assert result.exit_code == 0, result.output
    assert f"Model: {tmp_path / 'run' / 'fold02-speaker-02' / 'model.skops'}" in result.output
    result = CliRunner().invoke(app, ["cv", *arguments, "--folds", "1-2"])
    assert result.exit_code == 0, result.output
    assert "2 of 8 folds only" in result.output
    listed = CliRunner().invoke(app, ["list"]).output
    assert "Classical classifiers\n" in listed
    assert "  svc  " in listed


# Genders


def test_genders_are_predicted_for_unseen_speakers(manifest, cache, training_speakers):
    report = cross_validate_gender(manifest, SPEC, n_folds=4, cache=cache)
    assert report.summary.pooled.class_names == GENDERS == ("female", "male")
    assert report.summary.pooled.n == len(manifest)
    assert report.summary.pooled.war > 0.9
    speakers = manifest.column("speaker")
    assert sorted(sum(report.test_speakers, ())) == sorted(set(speakers))
    for fold, tested, (trained, _) in zip(report.folds, report.test_speakers, training_speakers, strict=True):
        assert trained == set(speakers) - set(tested)
        assert set(speakers[fold.test]) == set(tested)
        assert set(manifest.column("gender")[fold.test]) == set(GENDERS)
        assert set(manifest.column("gender")[fold.train]) == set(GENDERS)
    men = manifest.column("gender") == "male"
    assert np.mean((report.male > 0.5) == men) == report.summary.pooled.war
    assert "fold01: accuracy " in str(report)
    assert str(report).endswith("4 speaker-disjoint folds, seed 0.")
    assert json.loads(json.dumps(report.to_dict()))["test_speakers"]["fold02"] == list(report.test_speakers[1])


@pytest.mark.parametrize("classifier", ["logistic_regression", "random_forest", "xgboost", "mlp"])
def test_every_classical_classifier_predicts_genders(manifest, cache, classifier):
    arguments = {"mlp": {"hidden_layer_sizes": [8], "learning_rate_init": 0.1}}.get(classifier, {})
    report = cross_validate_gender(manifest, SPEC, classifier, n_folds=2, arguments=arguments, cache=cache)
    assert report.summary.pooled.war > 0.8
    assert len(np.unique(report.male)) > 2
    assert str(report).splitlines()[2].startswith(f"{classifier}: accuracy")


def test_the_seed_determines_folds_and_predictions(manifest, cache):
    first, same, other = (
        cross_validate_gender(manifest, SPEC, n_folds=4, seed=seed, cache=cache) for seed in (1, 1, 2)
    )
    assert first.test_speakers == same.test_speakers != other.test_speakers
    np.testing.assert_array_equal(first.male, same.male)


def test_a_saved_gender_classifier_predicts_as_before(root, manifest, cache, tmp_path):
    known, unknown = (of_speakers(manifest, *speakers) for speakers in (("01", "02", "03", "04"), ("05", "06")))
    model = train_gender_classifier(known, SPEC, cache=cache)
    assert (model.arguments["scale"], model.arguments["calibrate"]) == (True, True)
    expected = gender_probabilities(model, unknown, cache=cache)
    assert expected.shape == (len(unknown),)
    assert ((expected >= 0) & (expected <= 1)).all()
    path = model.save(tmp_path / "model.skops")
    without = with_column(unknown, gender="")
    for source in (path, tmp_path):
        np.testing.assert_array_equal(gender_probabilities(source, without, cache=cache), expected)
    np.testing.assert_array_equal(gender_probabilities(path, unknown.paths, cache=cache), expected)
    np.testing.assert_array_equal(gender_probabilities(path, str(unknown.paths[0]), cache=cache), expected[:1])
    assert len(gender_probabilities(path, root, cache=cache)) == len(manifest)
    right = np.mean((expected > 0.5) == (unknown.column("gender") == "male"))
    assert score_gender(path, unknown, cache=cache).war == right > 0.9
    assert score_gender(path, women_of(unknown), cache=cache).recall["male"] is None
    with pytest.raises(DataError, match="16 of 16 recordings of ravdess have no gender"):
        score_gender(path, without, cache=cache)
    with pytest.raises(AudioError, match=r"missing\.wav"):
        gender_probabilities(path, ["missing.wav"], cache=cache)
    with pytest.raises(DataError, match="list of recordings' is empty"):
        gender_probabilities(path, [], cache=cache)


def test_a_classifier_of_other_classes_predicts_no_genders(manifest, cache, tmp_path):
    examples = load_examples(manifest.with_classes(CLASSES), SPEC, cache=cache)
    train_classical("svc", {}, examples, SPEC).save(tmp_path / "model.skops")
    with pytest.raises(WeightsError, match="has the classes neutral, angry, sad, not female and male"):
        load_gender_classifier(tmp_path)


def rows_of(fold, manifest, cache):
    examples = load_examples(manifest, SPEC, cache=cache)
    return {
        part: [tuple(clip.ravel()) for clip in examples.select(rows).features] for part, rows in fold.parts().items()
    }


def test_predictions_in_a_fold_are_for_unseen_speakers(manifest, cache, training_speakers):
    fold = get_protocol("loso-v1").folds(manifest)[2]
    genders = fold_genders(manifest, SPEC, fold, cache=cache)
    speakers, men = manifest.column("speaker"), manifest.column("gender") == "male"
    assert genders.seen == ()
    assert genders.male.shape == (len(manifest),)
    assert np.mean((genders.male > 0.5) == men) > 0.9
    assert all("03" not in trained for trained, _ in training_speakers)
    *others, (whole, _) = training_speakers
    assert whole == set(speakers) - {"03"}
    held_out = [whole - trained for trained, _ in others]
    assert sum(map(len, held_out)) == len(set.union(*held_out)) == len(whole)

    # the first of the others has predicted its unseen speakers, and only they have its predictions
    unknown = np.flatnonzero(np.isin(speakers, list(held_out[0])))
    known = of_speakers(manifest, *others[0][0])
    first = train_gender_classifier(known, SPEC, cache=cache)
    np.testing.assert_allclose(genders.male[unknown], gender_probabilities(first, manifest, cache=cache)[unknown])


def test_a_speaker_dependent_fold_names_the_seen_test_speakers(manifest, cache, training_speakers):
    shuffled = np.random.default_rng(0).permutation(len(manifest))
    fold = Fold("fold01", train=shuffled[12:], test=shuffled[:4], validation=shuffled[4:8])
    genders = fold_genders(with_column(manifest, text=""), SPEC, fold, cache=cache)
    speakers = manifest.column("speaker")
    assert genders.seen == tuple(sorted(set(speakers[fold.test]) & set(speakers[fold.train])))
    assert len(genders.seen) > 1
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(genders.male)), np.sort(shuffled[8:12]))
    clips = rows_of(fold, manifest, cache)
    assert all(trained.isdisjoint(clips["test"] + clips["validation"]) for _, trained in training_speakers)
    assert training_speakers[-1][1] == set(clips["train"])


def test_genders_of_the_test_part_are_not_used(manifest, cache):
    fold = get_protocol("loso-v1").folds(manifest)[0]
    hidden = manifest.column("gender").astype(object)
    hidden[fold.test] = ""
    known, unknown = (
        fold_genders(each, SPEC, fold, cache=cache) for each in (manifest, with_column(manifest, gender=hidden))
    )
    np.testing.assert_array_equal(known.male, unknown.male)


EVERY_USE = pytest.mark.parametrize(
    "use",
    [
        lambda manifest: cross_validate_gender(manifest, SPEC, n_folds=2),
        lambda manifest: train_gender_classifier(manifest, SPEC),
        lambda manifest: fold_genders(
            manifest, SPEC, Fold("fold01", np.arange(len(manifest) - 1), [len(manifest) - 1])
        ),
    ],
)


@EVERY_USE
def test_one_gender_or_unknown_ones_are_refused_before_anything_is_computed(manifest, use, monkeypatch):
    monkeypatch.setattr("serzoo.training.train_gender.load_examples", None)
    cases = {
        "have the gender 'female', a single class": women_of(manifest),
        "recordings of ravdess have no gender; fill that column": with_column(
            manifest, gender=["", *manifest.column("gender")[1:]]
        ),
        "gender is '0.7'; a classifier trains on 'male' and 'female'": with_column(manifest, gender="0.7"),
        "Speaker 01 of ravdess is female in some recordings and male in others": with_column(manifest, speaker="01"),
    }
    for message, wrong in cases.items():
        with pytest.raises(DataError) as error:
            use(wrong)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_other_spellings_of_a_gender_are_accepted(manifest):
    written = with_column(manifest, gender=[{"male": "M", "female": "0"}[text] for text in manifest.column("gender")])
    assert gender_manifest(written).column("label").tolist() == manifest.column("gender").tolist()


@pytest.mark.parametrize(
    ("speakers", "n_folds", "message"),
    [
        (
            ("01", "02", "03", "04"),
            3,
            "3 speaker-disjoint folds need 3 speakers of each gender, but ravdess has only 2 of one gender",
        ),
        (("01", "02", "04"), 2, "'male' has one speaker only (01)"),
        (("01", "02", "03", "04"), 2, "fold01: Calibration: '"),
        (("01", "02", "03", "04"), 1, "n_folds is 1; it must be an integer of at least 2."),
    ],
)
def test_too_few_speakers_are_refused(manifest, cache, speakers, n_folds, message):
    with pytest.raises(DataError) as error:
        cross_validate_gender(of_speakers(manifest, *speakers), SPEC, n_folds=n_folds, cache=cache)
    assert str(error.value).startswith(message)


def test_two_speakers_of_each_gender_are_enough_without_calibration(manifest, cache):
    few = of_speakers(manifest, "01", "02", "03", "04")
    report = cross_validate_gender(few, SPEC, n_folds=2, arguments={"calibrate": False}, cache=cache)
    assert report.summary.pooled.n == len(few)


def run(*arguments):
    return CliRunner().invoke(app, ["gender", *map(str, arguments)])


def test_gender_on_the_command_line(root, tmp_path):
    saved = tmp_path / "gender.skops"
    result = run("ravdess", root, "--folds", 2, "--set", "calibrate=false", "--save", saved, "-q")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["fold01", "fold02", "svc", "Protocol", "Model", "Card"]
    assert load_gender_classifier(saved).feature_spec.to_dict()["source"] == "mfcc"
    assert load_gender_classifier(saved).arguments["calibrate"] is False
    result = run("ravdess", root, "--model", saved, "--json", "-q")
    assert json.loads(result.stdout)["class_names"] == list(GENDERS)
    assert "the classifier may have been trained on these speakers" in result.stderr
    result = run("ravdess", root, "--folds", 2, "--features", "mel", "--json", "-q")
    assert json.loads(result.stdout)["speaker_independent"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classifier", "svm"], "Unknown classical classifier 'svm'. Did you mean 'svc'?"),
        (["--features", "mfccs"], "Unknown embedding source 'mfccs'"),
        (["--features", "vectors:missing.npz"], "missing.npz"),
        (["--save", "model.pkl"], "--save model.pkl needs a name that ends in .skops"),
        (["--save", "a.skops", "--model", "b.skops"], "--save a.skops needs"),
        (["--model", "b.skops"], "Classifier b.skops does not exist"),
        (["--set", "gama=1"], "Unknown argument of svc 'gama'"),
        (["--seed", "-1"], "seed is -1; it must be an integer of at least 0 and below 4294967296."),
        (["--seed", 2**32], "seed is 4294967296; it must be an integer of at least 0 and below 4294967296."),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(root, options, message):
    error = run("ravdess", root, "-q", *options).exception
    assert message in str(error)
    assert "\n" not in str(error)


def test_savee_is_refused_in_another_process(tmp_path):
    write_corpus(tmp_path / "savee", "savee", n_speakers=2, n_texts=1)
    code = "from serzoo.cli import main; main()"
    command = [sys.executable, "-c", code, "gender", "savee", str(tmp_path / "savee"), "-q"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "recordings of savee have the gender 'male', a single class" in line
