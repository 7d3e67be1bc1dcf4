"""The eleven gender systems on a synthetic corpus, and single trainings with gender input."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from serzoo.classical.gender_classifier import gender_probabilities
from serzoo.data import load_corpus
from serzoo.data.cache import FeatureCache
from serzoo.data.manifest import Manifest
from serzoo.data.synthetic import write_corpus
from serzoo.errors import ConfigError, DataError, UnknownNameError, WeightsError
from serzoo.experiments import parallel
from serzoo.experiments.cross_validate import cross_validate, recipe_folds
from serzoo.experiments.gender_study import cross_validate_systems
from serzoo.experiments.gender_systems import LOGITS, SYSTEMS
from serzoo.experiments.run_folder import read_predictions
from serzoo.features.spec import MFCCSpec
from serzoo.recipes import Recipe
from serzoo.settings import AntiTransferConfig, GenderConfig, InitialWeights, ModelConfig, TrainingConfig
from serzoo.training.train_gender import gender_inputs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_plots")]

SPEC = MFCCSpec(sample_rate=16_000, n_samples=16_000, n_mfcc=13)
GENDER = GenderConfig(arguments={"calibrate": False})
RECIPE = Recipe(
    name="small",
    corpus="ravdess",
    model=ModelConfig("embedding_dnn", {"normalization": "real-frames"}),
    features=SPEC,
    protocol="random3-seed0-v1",
    training=TrainingConfig(epochs=2, jit_compile=False),
    gender=GENDER,
    class_names=("neutral", "angry"),
)

FOLD = 2
"""The fold that most tests train."""


@pytest.fixture(scope="module")
def common(tmp_path_factory):
    """Three men and three women say two texts with two emotions."""
    root = write_corpus(tmp_path_factory.mktemp("corpus") / "ravdess", n_speakers=6, n_texts=2)
    return {"data_root": root, "cache": FeatureCache(tmp_path_factory.mktemp("cache")), "progress": False}


@pytest.fixture(scope="module")
def manifest(common) -> Manifest:
    return load_corpus("ravdess", common["data_root"]).with_classes(RECIPE.class_names)


@pytest.fixture(scope="module")
def found(common, tmp_path_factory, no_plots):
    return cross_validate_systems(RECIPE, run_folder=tmp_path_factory.mktemp("systems"), folds=[FOLD], **common)


@pytest.fixture(scope="module")
def fold(manifest):
    return recipe_folds(RECIPE, manifest)[FOLD - 1]


@pytest.fixture
def trainings(monkeypatch):
    """The recipe and fold of each training, in order."""
    trained, train_fold = [], parallel.train_fold

    def remember(task, experiment, **arguments):
        trained.append((task.recipe.name, task.fold.name))
        train_fold(task, experiment, **arguments)

    monkeypatch.setattr(parallel, "train_fold", remember)
    return trained


def classical(**changes):
    """The recipe with a fast classifier."""
    return dataclasses.replace(RECIPE, model=ModelConfig("svc"), training=TrainingConfig(), **changes)


# The systems


def test_all_eleven_are_made_of_six_trainings_on_the_same_fold(found, manifest, fold):
    assert list(found.reports) == list(SYSTEMS)
    assert not found.refused
    trained = {path.parent.name for path in found.folder.glob("*/recipe.yaml")}
    assert trained == {"full", "male", "female", "golden", "binary", "probabilities"}
    male = manifest.genders > 0.5
    tested = {"M": male, "F": ~male}
    for name, report in found.reports.items():
        kept = tested.get(name[-1], np.full(len(manifest), True))
        clips = read_predictions(report.folder / fold.name)["clip"].tolist()
        assert clips == [manifest.names[index] for index in fold.test if kept[index]], name
        assert report.summary.pooled.n == len(clips)


def test_a_model_of_one_gender_trains_on_provenance_that_gender(found, manifest, fold):
    provenance = {
        name: (found.folder / name / fold.name / "provenance.txt").read_text().split()
        for name in ("full", "male", "female")
    }
    assert len(provenance["male"]) == int((manifest.genders > 0.5)[fold.train].sum())
    assert not set(provenance["male"]) & set(provenance["female"])
    assert set(provenance["male"]) | set(provenance["female"]) == set(provenance["full"])


def mixed(found, fold, male, weighting="posteriors"):
    """Both models' predictions, weighted as in the paper."""
    answers = {}
    for gender in ("female", "male"):
        table = read_predictions(found.folder / gender / fold)
        answers[gender] = table[["p_neutral", "p_angry"]].to_numpy()
    if weighting == LOGITS:
        product = answers["female"] ** (1 - male[:, None]) * answers["male"] ** male[:, None]
        return product / product.sum(axis=1, keepdims=True)
    return (1 - male[:, None]) * answers["female"] + male[:, None] * answers["male"]


@pytest.mark.parametrize("source", ["golden", "binary", "probabilities"])
def test_post_hoc_systems_weight_the_predictions_of_both_models(found, manifest, fold, source):
    name = f"post-hoc:{source}".replace("golden", "golden-labels")
    table = read_predictions(found.reports[name].folder / fold.name)
    male = gender_inputs(manifest, dataclasses.replace(GENDER, source=source), fold)[fold.test]
    expected = mixed(found, fold.name, male)
    np.testing.assert_allclose(table[["p_neutral", "p_angry"]], expected, atol=1.1e-6)
    np.testing.assert_allclose(table["male"], male, atol=1e-6)
    assert table["prediction"].tolist() == np.array(["neutral", "angry"])[expected.argmax(axis=1)].tolist()
    assert (source == "probabilities") == bool(((male > 0) & (male < 1)).any())


def test_logits_are_weighted_on_demand(found, common, fold, tmp_path):
    names = ["post-hoc:probabilities"]
    copy = shutil.copytree(found.folder, tmp_path / "systems")
    again = cross_validate_systems(RECIPE, names, weighting=LOGITS, run_folder=copy, folds=[FOLD], **common)
    table = read_predictions(again.reports[names[0]].folder / fold.name)
    expected = mixed(found, fold.name, table["male"].to_numpy(), LOGITS)
    np.testing.assert_allclose(table[["p_neutral", "p_angry"]], expected, atol=2e-5)
    assert again.to_dict()["weighting"] == LOGITS


@pytest.mark.parametrize(("source", "columns"), [("golden", 1), ("binary", 1), ("probabilities", 2)])
def test_pre_hoc_models_get_the_gender_input_in_the_table(found, manifest, fold, source, columns):
    recipe = found.reports[f"pre-hoc:{source}".replace("golden", "golden-labels")].recipe
    assert recipe.model.arguments["gender_columns"] == columns
    male = read_predictions(found.folder / source / fold.name)["male"]
    np.testing.assert_allclose(male, gender_inputs(manifest, recipe.gender, fold)[fold.test], atol=1e-6)
    assert "male" not in read_predictions(found.folder / "full" / fold.name)


def test_the_table_has_the_papers_figures_beside_ours(found, common, trainings):
    assert "paper" not in str(found), "two classes are another task than the paper's"
    published = dataclasses.replace(found, recipe=dataclasses.replace(found.recipe, class_names=None))
    rows = {row["system"]: row for row in published.table()}
    assert "The paper's figures are TBDM-Net's: ten random folds, 300 epochs." in str(published)
    assert (rows["split:F"]["paper UAR"], rows["split:F"]["paper WAR"], rows["split:F"]["paper F1"]) == (
        90.71,
        90.41,
        90.71,
    )
    for name, report in found.reports.items():
        assert rows[name]["UAR"] == 100 * report.summary.mean["uar"]
    text = str(found)
    assert "speaker-DEPENDENT" in text
    assert (
        "Genders predicted by svc on mfcc, trained on each fold's training part; test speakers are SEEN in training."
        in text
    )
    assert f"Accuracy on the test parts {100 * found.genders.war:.2f} (n={found.genders.n})." in text
    for changes in ({"test_corpus": "emodb"}, {"target": "text"}):
        other = dataclasses.replace(published, recipe=dataclasses.replace(published.recipe, **changes))
        assert "paper" not in other.to_markdown()
    assert (found.folder / "table.md").read_text() == found.to_markdown()
    assert json.loads((found.folder / "systems.json").read_text())["table"][0]["system"] == "baseline:full"

    again = cross_validate_systems(RECIPE, run_folder=found.folder, folds=[FOLD], **common)
    assert again.table() == found.table()
    assert not trainings  # all was there


def test_folds_come_one_after_another(common, tmp_path, trainings):
    names = ["post-hoc:golden-labels", "baseline:full", "split:M"]
    first = cross_validate_systems(classical(), names, folds=[2], run_folder=tmp_path, **common)
    assert list(first.reports) == ["baseline:full", "split:M", "post-hoc:golden-labels"]
    assert "1 of 3 folds" in str(first)
    second = cross_validate_systems(classical(), names, folds=[1], run_folder=tmp_path, **common)
    assert [report.fold_names for report in second.reports.values()] == [("fold01", "fold02")] * 3
    assert sorted(trainings) == [
        (f"small-{what}", fold) for what in ("female", "full", "male") for fold in ("fold01", "fold02")
    ]


def test_the_systems_of_a_table_are_scored_on_the_same_folds(common, tmp_path):
    alone = cross_validate_systems(classical(), ["baseline:full"], run_folder=tmp_path, **common)
    assert alone.reports["baseline:full"].fold_names == ("fold01", "fold02", "fold03")
    names = ["baseline:full", "baseline:F", "split:M"]
    found = cross_validate_systems(classical(), names, folds=[2], run_folder=tmp_path, **common)
    assert [report.fold_names for report in found.reports.values()] == [("fold02",)] * 3
    assert found.reports["baseline:full"].summary.folds == alone.reports["baseline:full"].summary.folds[1:2]
    assert "1 of 3 folds" in str(found)


def test_another_gender_classifier_reuses_the_trained_models(common, tmp_path, trainings):
    for classifier in ("svc", "logistic_regression"):
        recipe = classical(gender=dataclasses.replace(GENDER, classifier=classifier))
        found = cross_validate_systems(recipe, ["post-hoc:binary"], folds=[2], run_folder=tmp_path, **common)
        report = found.reports["post-hoc:binary"]
        assert f"Genders: binary, predicted by {classifier} on mfcc" in str(report)
        assert json.loads((report.folder / "report.json").read_text())["recipe"]["gender"]["classifier"] == classifier
    assert [name for name, _ in trainings] == ["small-female", "small-male"]


@pytest.mark.parametrize(
    ("training", "damage"),
    [
        ("full", lambda text: text[: text.rstrip().rindex("\n") + 1]),
        ("male", lambda text: text[: text.rstrip().rindex("\n") + 1]),
        ("female", lambda text: text.replace("p_angry", "angry")),
        ("female", lambda text: text.replace("0.", "O.")),
    ],
)
def test_damaged_predictions_are_one_line(common, tmp_path, training, damage):
    names = ["baseline:M", "post-hoc:golden-labels"]
    cross_validate_systems(classical(), names, folds=[2], run_folder=tmp_path, **common)
    path = tmp_path / training / "fold02" / "predictions.csv"
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=r"predictions\.csv is damaged or of another run \((not|no) .*\); delete"):
        cross_validate_systems(classical(), names, folds=[2], run_folder=tmp_path, **common)


def test_a_seed_is_one_of_every_system(common, tmp_path):
    found = cross_validate_systems(
        classical(),
        ["post-hoc:golden-labels", "split:F"],
        folds=[1],
        changes={"repeats": 2},
        run_folder=tmp_path,
        **common,
    )
    for report in found.reports.values():
        assert report.runs == {"fold01": ("fold01", "fold01-seed1")}


def test_a_classical_classifier_makes_the_systems_without_gender_input(common, tmp_path):
    genders = dataclasses.replace(GENDER, classifier="logistic_regression", features="mel")
    found = cross_validate_systems(classical(gender=genders), run_folder=tmp_path, folds=[1], **common)
    assert "Genders predicted by logistic_regression on mel, trained on each fold's training part" in str(found)
    assert list(found.refused) == [name for name in SYSTEMS if name.startswith("pre-hoc")]
    assert set(found.refused.values()) == {
        "svc has no gender input; choose a model that has one, such as timnet or tbdm."
    }


# Corpora that lack genders


def savee_like(common, tmp_path, genders):
    """The corpus as a table, with other genders."""
    manifest = load_corpus("ravdess", common["data_root"]).with_classes(RECIPE.class_names)
    table = tmp_path / "clips.csv"
    manifest.frame.assign(gender=genders(manifest)).to_csv(table, index=False)
    return {**common, "data_root": table}


def test_with_one_gender_systems_that_need_two_are_refused(common, tmp_path):
    men = savee_like(common, tmp_path, lambda manifest: "male")
    found = cross_validate_systems(classical(corpus="csv"), run_folder=tmp_path / "run", **men)
    assert list(found.reports) == ["baseline:full", "baseline:M", "split:M"]
    assert found.refused["split:F"] == (
        "no female speaker of clips is in the training part of fold01; use a corpus with both genders."
    )
    assert found.reports["split:M"].summary == found.reports["baseline:full"].summary
    assert {path.parent.name for path in (tmp_path / "run").glob("*/recipe.yaml")} == {"full"}  # all speakers are men
    assert "split:F refused: no female speaker" in str(found)
    assert "paper" not in found.to_markdown()


def test_unknown_genders_leave_the_model_of_all_speakers(common, tmp_path):
    unknown = savee_like(common, tmp_path, lambda manifest: [""] + ["male"] * (len(manifest) - 1))
    found = cross_validate_systems(classical(corpus="csv"), run_folder=tmp_path / "run", **unknown)
    assert list(found.reports) == ["baseline:full"]
    assert all(
        "gender is unknown" in found.refused[name]
        for name in SYSTEMS
        if "pre-hoc" not in name and name != "baseline:full"
    )


def test_an_impossible_system_named_by_the_user_is_an_error(common, tmp_path):
    men = savee_like(common, tmp_path, lambda manifest: "male")
    with pytest.raises(DataError, match=r"^split:F cannot be made: no female speaker of clips"):
        cross_validate_systems(
            classical(corpus="csv"), ["baseline:full", "split:F"], run_folder=tmp_path / "run", **men
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("selection", ["last-epoch", "best-validation-uar"])
def test_missing_provenance_one_gender_are_found_before_the_first_training(common, tmp_path, selection):
    woman = savee_like(common, tmp_path, lambda manifest: np.where(manifest.column("speaker") == "02", "f", "m"))
    training = dataclasses.replace(RECIPE.training, selection=selection)
    recipe = dataclasses.replace(RECIPE, corpus="csv", protocol="loso-v1", training=training)
    with pytest.raises(DataError, match=r"^split:F cannot be made: .* no female speaker of clips is in the"):
        cross_validate_systems(recipe, ["baseline:full", "split:F"], folds=[1], run_folder=tmp_path / "run", **woman)
    assert not (tmp_path / "run").exists()


def test_the_validation_part_has_provenance_the_gender_or_is_left_out(manifest):
    recipe = classical(protocol="random70-20-10-seed0-v1", gender=GenderConfig(train_on="female"))
    (fold,) = recipe_folds(recipe, manifest)
    assert fold.validation is None  # not used
    chosen = dataclasses.replace(recipe, training=TrainingConfig(selection="best-validation-uar"))
    (fold,) = recipe_folds(chosen, manifest)
    assert fold.validation is not None
    for part in (fold.train, fold.validation):
        assert (manifest.genders[part] == 0).all()
    assert (manifest.genders[fold.test] == 1).any()


def test_models_without_gender_input_are_found_before_the_first_training(found, fold, common, tmp_path):
    trained = str(found.folder / "full" / fold.name)
    started = dataclasses.replace(RECIPE, initial=InitialWeights(trained))
    timnet = dataclasses.replace(RECIPE, model=ModelConfig("timnet"), anti_transfer=AntiTransferConfig((trained,)))
    for recipe, message in ((started, "Unknown layer of embedding_dnn"), (timnet, "anti-transfer compares maps")):
        with pytest.raises(DataError, match=rf"^pre-hoc:binary cannot be made: {message}"):
            cross_validate_systems(recipe, ["pre-hoc:binary"], run_folder=tmp_path / "run", **common)
    assert not (tmp_path / "run").exists()


def test_a_named_target_of_one_value_per_gender_is_refused(common, tmp_path):
    recipe = classical(target="gender", class_names=None)
    found = cross_validate_systems(recipe, folds=[1], run_folder=tmp_path, **common)
    assert list(found.reports) == ["baseline:full", "baseline:M", "baseline:F"]
    assert "All 29 training clips are 'male'" in found.refused["split:M"]


def test_test_parts_without_a_gender_are_named(common, tmp_path):
    recipe = classical(protocol="loso-v1")
    found = cross_validate_systems(recipe, ["baseline:M", "split:M"], folds=[1, 2], run_folder=tmp_path / "a", **common)
    assert [report.fold_names for report in found.reports.values()] == [
        ("fold01-speaker-01",)
    ] * 2  # the second speaker is a woman
    with pytest.raises(DataError, match="no male speaker is in the test parts of these folds"):
        cross_validate_systems(recipe, ["split:M"], folds=[2], run_folder=tmp_path / "b", **common)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"systems": ["split:X"]}, "Unknown system 'split:X'"),
        ({"weighting": "logit"}, "Unknown weighting 'logit'.*logits"),
    ],
)
def test_wrong_names_are_refused(common, tmp_path, arguments, message):
    with pytest.raises(UnknownNameError, match=message):
        cross_validate_systems(RECIPE, run_folder=tmp_path / "run", **arguments, **common)
    assert not (tmp_path / "run").exists()


# Trainings with gender input


def with_gender(source, **arguments):
    model = ModelConfig("embedding_dnn", {"gender_columns": 2})
    return dataclasses.replace(RECIPE, model=model, gender=dataclasses.replace(GENDER, source=source, **arguments))


def test_genders_of_the_test_part_need_not_be_known(common, tmp_path, manifest):
    recipe = dataclasses.replace(with_gender("binary"), corpus="csv", protocol="loso-v1")
    first = manifest.column("speaker") == "01"
    table = savee_like(common, tmp_path, lambda m: np.where(first, "", m.column("gender")))
    report = cross_validate(recipe, run_folder=tmp_path / "run", folds=[1], **table)
    assert set(read_predictions(report.folder / report.chosen[0])["male"]) <= {0.0, 1.0}
    assert "Genders: binary, predicted by svc on mfcc, trained on each fold's training part" in str(report)
    assert "test speakers are unseen." in str(report)
    golden = dataclasses.replace(recipe, gender=None)
    with pytest.raises(DataError, match="gender is unknown"):
        cross_validate(golden, run_folder=tmp_path / "golden", folds=[1], **table)


@pytest.mark.parametrize(
    ("calibrate", "women", "message"),
    [
        (True, ["02", "04"], r"fold01 has 2 female speakers; .* need 3 known speakers .* \(2 with gender"),
        (False, ["02"], "fold01 has 1 female speaker; .* need 2 known speakers"),
    ],
)
def test_too_few_speakers_for_the_classifier_are_found_before_anything_is_written(
    common, tmp_path, calibrate, women, message
):
    recipe = dataclasses.replace(with_gender("binary", arguments={"calibrate": calibrate}), corpus="csv")
    few = savee_like(common, tmp_path, lambda m: np.where(np.isin(m.column("speaker"), women), "female", "male"))
    with pytest.raises(DataError, match=message):
        cross_validate(recipe, run_folder=tmp_path / "run", **few)
    assert not (tmp_path / "run").exists()


def test_unknown_speakers_for_the_classifier_are_found_before_anything_is_written(common, tmp_path, manifest):
    table = tmp_path / "clips.csv"
    manifest.frame.assign(speaker=manifest.frame["speaker"].replace("01", "")).to_csv(table, index=False)
    recipe = dataclasses.replace(with_gender("binary"), corpus="csv")
    with pytest.raises(DataError, match="fold01 has 3 female speakers and others are unknown"):
        cross_validate(recipe, run_folder=tmp_path / "run", **{**common, "data_root": table})
    assert not (tmp_path / "run").exists()


def test_a_pretrained_classifier_predicts_the_genders(common, tmp_path, manifest):
    changes = {"gender.classifier": "gender-ravdess", "gender.arguments": {}}
    names = ["post-hoc:probabilities"]
    found = cross_validate_systems(
        classical(), names, folds=[1], changes=changes, run_folder=tmp_path / "systems", **common
    )
    assert "Genders predicted by gender-ravdess, trained on all speakers of ravdess." in str(found)
    table = read_predictions(found.reports[names[0]].folder / "fold01")
    male = gender_probabilities("gender-ravdess", manifest, cache=common["cache"])
    np.testing.assert_allclose(table["male"], male[recipe_folds(RECIPE, manifest)[0].test], atol=1e-6)

    report = cross_validate(with_gender("binary"), folds=[1], changes=changes, run_folder=tmp_path / "one", **common)
    assert "the training recordings of gender-ravdess are unknown" in str(report)
    assert "gender-ravdess" in json.loads((report.folder / "data.json").read_text())["weights"]


def test_a_report_names_the_gender_classifier(found):
    text = str(found.reports["pre-hoc:probabilities"])
    assert (
        "Genders: probabilities, predicted by svc on mfcc, trained on each fold's training part; test speakers are SEEN"
        in text
    )
    assert "Genders" not in str(found.reports["baseline:full"])
    assert "Trained on female speakers only." in str(found.reports["split:F"])
    assert "Trained on" not in str(found.reports["post-hoc:golden-labels"])
    assert found.reports["post-hoc:golden-labels"].recipe.model.arguments["gender_columns"] == 0
    assert "Genders: binary, predicted by svc on mfcc" in str(found.reports["post-hoc:binary"])


def test_a_report_has_the_leakage_of_its_own_parts(found, manifest, fold):
    speakers = manifest.column("speaker")
    male = manifest.genders > 0.5
    full = found.reports["baseline:full"].leakage
    assert found.reports["post-hoc:golden-labels"].leakage == full
    for name, tested in (("baseline:M", male), ("split:M", male), ("split:F", ~male)):
        (overlap,) = found.reports[name].leakage.overlaps
        assert set(overlap.scored_speakers) == set(speakers[fold.test[tested[fold.test]]]), name
        assert set(overlap.speakers) == set(overlap.scored_speakers) & set(speakers[fold.train]), name
    kept = json.loads((found.reports["post-hoc:golden-labels"].folder / "report.json").read_text())
    assert kept["leakage"] == json.loads(json.dumps(full.to_dict()))


def test_the_folder_of_a_system_names_its_trainings(found):
    kept = json.loads((found.reports["post-hoc:probabilities"].folder / "system.json").read_text())
    assert kept == {
        "system": "post-hoc:probabilities",
        "trainings": ["small-female", "small-male"],
        "weighting": "posteriors",
    }


def test_waveform_augmentation_works_with_gender_input(common, tmp_path):
    changes = {"training.waveform_augment.gain_db": 1.0}
    report = cross_validate(with_gender("binary"), run_folder=tmp_path, folds=[1], changes=changes, **common)
    assert report.summary.pooled.n == 8


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            lambda: dataclasses.replace(RECIPE, gender=GenderConfig(source="binary")),
            "embedding_dnn has no gender input",
        ),
        (lambda: with_gender("golden", train_on="feamle"), "Unknown value of train_on 'feamle'.*female"),
        (lambda: with_gender("gold"), "Unknown gender source 'gold'.*golden"),
        (lambda: with_gender("binary", train_on="male"), "gender.train_on is male, so there is one gender"),
        (lambda: with_gender("binary").override({"gender.classifier": "svm"}), "Unknown .*'svm'.*svc"),
        (lambda: with_gender("binary").override({"gender.arguments.C": -1}), "C of svc is -1"),
        (
            lambda: with_gender("binary").override({"gender.classifier": "gender-ravdess"}),
            "gender.arguments are set, but gender",
        ),
        (
            lambda: with_gender("binary", arguments={}).override({"gender.classifier": "no/where.skops"}),
            "no/where.skops does not exist",
        ),
        (
            lambda: classical(gender=GenderConfig(source="binary")).override({}),
            "gender.source is set, but svc is no network",
        ),
        (lambda: with_gender("binary").override({"gender.features": "chroma"}), "chroma"),
    ],
)
def test_wrong_settings_are_one_line(common, tmp_path, recipe, message):
    with pytest.raises((ConfigError, UnknownNameError, WeightsError), match=message):
        cross_validate(recipe(), run_folder=tmp_path / "run", **common)
    assert not (tmp_path / "run").exists()


# On the command line


def test_cv_prints_the_table(common, tmp_path, run):
    config = tmp_path / "small.yaml"
    config.write_text(classical(corpus="csv").to_yaml())
    table = savee_like(common, tmp_path, lambda manifest: "male")["data_root"]
    arguments = ["cv", str(config), "--data", str(table), "--run", str(tmp_path / "run"), "--quiet"]
    code, text, _ = run(*arguments, "--gender", "all")
    assert code == 0
    assert text.startswith("| system | UAR | WAR | F1 | n |")
    assert text.rstrip().endswith(f"Run folder: {tmp_path / 'run'}")
    code, _, error = run(*arguments, "--gender", "split:M, split:F")
    assert code == 2
    assert error.startswith("error: split:F cannot be made")
    assert error.count("\n") == 1


def test_the_report_of_a_table_reads_back(found, fold):
    table = read_predictions(found.reports["post-hoc:binary"].folder / fold.name)
    assert list(table.columns) == ["clip", "speaker", "label", "prediction", "male", "p_neutral", "p_angry"]
