"""From run folders to pretrained weights: the card's content, and the refusals."""

import gzip
import json
import re
import shutil

import h5py
import numpy as np
import pytest

import serzoo
from serzoo.data.leakage import LeakageReport
from serzoo.data.protocols import get_protocol
from serzoo.data.synthetic import write_corpus
from serzoo.errors import ConfigError, DataError, SerzooError, SerzooWarning, WeightsError
from serzoo.experiments.cross_validate import cross_validate
from serzoo.experiments.packaging import package, read_held_out
from serzoo.experiments.run_folder import read_predictions, score_predictions
from serzoo.experiments.train_all import ALL_RECORDINGS
from serzoo.features.spec import MFCCSpec
from serzoo.metrics import summarise
from serzoo.recipes import Recipe, read_recipe
from serzoo.results.keep import keep
from serzoo.settings import ModelConfig, TrainingConfig
from serzoo.weights.cards import read_card

NAME = "timnet.ravdess_v1"
FOLD = "fold01-speaker-01"
SPEC = MFCCSpec(sample_rate=8_000, n_samples=8_000, n_mfcc=13, n_mels=40)
RECIPE = Recipe(
    name="tiny",
    corpus="ravdess",
    model=ModelConfig("timnet", {"n_blocks": 1, "filters": 4}),
    protocol="loso-v1",
    features=SPEC,
    training=TrainingConfig(epochs=1, batch_size=8, jit_compile=False),
)

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, no_plots):
    """The run folder of two folds of three; 24 recordings of three speakers."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    root = write_corpus(tmp_path_factory.mktemp("corpus") / "ravdess", n_speakers=3, n_texts=1)
    cross_validate(RECIPE, data_root=root, run_folder=folder, folds=[1, 2], at_once=1, progress=False)
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the run folder that may be changed."""
    return shutil.copytree(trained, tmp_path / "run")


def scored(folder):
    """Return the path and the content of each fold's predictions."""
    return {path: read_predictions(path.parent) for path in sorted(folder.glob("fold*/predictions.csv"))}


def settle(folder, n_folds=2):
    """Make a run folder's report that of its recipe, its predictions and its first folds; the others are deleted."""
    path, recipe = folder / "report.json", read_recipe(folder / "recipe.yaml")
    report = json.loads(path.read_text())
    names = report["fold_names"][:n_folds]
    for name in report["fold_names"][n_folds:]:
        shutil.rmtree(folder / name)
    classes = report["scores"]["pooled"]["class_names"]
    scores = [[score_predictions(folder / name / "predictions.csv", classes)] for name in names]
    overlaps = [overlap for overlap in report["leakage"]["overlaps"] if overlap["fold"] in names]
    leakage = LeakageReport.from_dict({**report["leakage"], "overlaps": overlaps}).to_dict()
    own = {
        "recipe": recipe.to_dict(),
        "protocol": get_protocol(recipe.protocol).name,
        "selection": recipe.training.selection,
        "fold_names": names,
        "run_names": [[name] for name in names],
        "scores": summarise(scores).to_dict(),
        "leakage": leakage,
    }
    path.write_text(json.dumps({**report, **own}))
    (folder / "leakage.json").write_text(json.dumps(leakage))


def change(folder, *pairs):
    """Replace texts in a run folder's recipe, and with it in its report."""
    path = folder / "recipe.yaml"
    text = path.read_text()
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
    settle(folder)


def make(folder, out, **changes):
    options = {"name": NAME, "scores": [folder], **changes}
    return package(folder / FOLD, options.pop("name"), options.pop("scores"), out, **options)


def refused(folder, error, **changes):
    with pytest.raises(error) as caught:
        make(folder, folder / "out", **changes)
    assert "\n" not in str(caught.value)
    assert not (folder / "out").exists(), "nothing is written"
    return str(caught.value)


def test_the_command_writes_weights_that_load(run, folder, tmp_path):
    code, out, err = run("package", folder / FOLD, "--name", NAME, "--scores", folder, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    path = tmp_path / "out" / f"{NAME}.yaml"
    assert out.startswith(f"{NAME}: timnet on RAVDESS, 8 classes; CC BY-NC-SA 4.0\n")
    assert out.endswith(f"Card: {path}\n")
    assert sorted(file.name for file in path.parent.iterdir()) == [f"{NAME}.weights.h5", path.name]
    expected = serzoo.load(folder / FOLD).model.get_weights()
    for found, weights in zip(serzoo.load(path).model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, weights)
    with h5py.File(path.with_name(f"{NAME}.weights.h5")) as file:
        assert "optimizer" not in file


def test_the_card_states_the_origin_of_all_its_parts(folder, tmp_path):
    card = read_card(make(folder, tmp_path / "out"))
    assert (card.corpus, card.licence) == ("ravdess", "CC BY-NC-SA 4.0")
    assert card.source.startswith("https://zenodo.org/")
    assert card.protocol == "loso-v1 (speaker-independent) of tiny, 2 of 3 folds, selection last-epoch"
    different = "16 recordings, those of the same audio counted once, of the 24 of ravdess"
    assert card.trained_on == f"{different}: fold01-speaker-01 of tiny under loso-v1"
    assert (card.model.name, card.model.arguments["n_blocks"], card.model.arguments["dropout"]) == ("timnet", 1, 0.1)
    assert card.feature_spec == SPEC.to_dict()
    assert {"serzoo", "keras", "numpy", "librosa"} < set(card.versions)
    wars = [(table["label"] == table["prediction"]).mean() for table in scored(folder).values()]
    assert card.scores["war_of_folds"] == pytest.approx(wars, abs=1e-6)
    assert card.scores["war"] == pytest.approx(np.mean(wars), abs=1e-6)
    assert (card.scores["n"], card.calibration.n) == (16, 16)
    assert card.calibration.threshold == 0.5


def test_the_card_states_a_training_on_all_recordings(folder, tmp_path):
    shutil.copytree(folder / FOLD, folder / ALL_RECORDINGS, ignore=shutil.ignore_patterns("predictions.csv"))
    card = package(folder / ALL_RECORDINGS, NAME, [folder], tmp_path / "out")
    assert read_card(card).trained_on == "all 24 recordings of ravdess"


def test_probabilities_are_calibrated_on_held_out_predictions(folder, tmp_path):
    for path, table in scored(folder).items():  # always 9 to 1 sure of two classes, and right three times of four
        names = [column for column in table if column.startswith("p_")]
        table[names] = 0.0
        table["p_angry"], table["p_calm"] = 0.9, 0.1
        table["label"], table["prediction"] = ["angry", "angry", "angry", "calm"] * 2, "angry"
        table.to_csv(path, index=False)
    settle(folder)
    found = read_card(make(folder, tmp_path / "out", threshold=0.7)).calibration
    assert found.temperature == pytest.approx(1.9, abs=0.1), "2 without the six classes that have next to nothing"
    assert found.error_before == pytest.approx(0.15, abs=1e-6)
    assert found.error_after < 0.02
    assert (found.threshold, found.coverage, found.accuracy) == (0.7, 1.0, 0.75)


def test_kept_and_compressed_predictions_and_further_runs_count_too(folder, tmp_path):
    expected = read_card(make(folder, tmp_path / "one"))
    other = shutil.copytree(folder, tmp_path / "other")
    for path in scored(other):
        path.with_name("predictions.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    found = read_card(make(folder, tmp_path / "two", scores=[folder, other]))
    assert found.scores["war_of_folds"] == 2 * expected.scores["war_of_folds"]
    assert (found.calibration.n, found.scores["n"]) == (16, 16), "recordings, not predictions"
    assert found.calibration.error_after == pytest.approx(expected.calibration.error_after, abs=1e-3)
    assert found.calibration.temperature == pytest.approx(expected.calibration.temperature, rel=1e-3)
    assert found.protocol == f"{expected.protocol}; {expected.protocol}"
    keep(other, tmp_path / "kept")
    kept = read_card(make(folder, tmp_path / "three", scores=[tmp_path / "kept"]))
    assert (kept.scores, kept.calibration, kept.protocol) == (expected.scores, expected.calibration, expected.protocol)


@pytest.fixture
def directions(folder, tmp_path):
    """Two run folders of one fold each, of both directions between two corpora."""
    other = shutil.copytree(folder, tmp_path / "other")
    for path, source, target in ((folder, "ravdess", "emodb"), (other, "emodb", "ravdess")):
        change(
            path,
            ("protocol: loso-v1", "protocol: cross-shared5-v1"),
            ("corpus: ravdess\nmodel", f"corpus: {source}\nmodel"),
            ("test_corpus: null", f"test_corpus: {target}"),
        )
        report = json.loads((path / "report.json").read_text())
        (path / "report.json").write_text(json.dumps(report | {"n_folds": 1}))
    table = read_predictions(other / FOLD)
    table.iloc[1:].to_csv(other / FOLD / "predictions.csv", index=False)
    for path in (folder, other):
        settle(path, n_folds=1)
    return folder, other


def test_corpora_are_joined_with_their_licences(directions, tmp_path):
    folder, _ = directions
    card = read_card(make(folder, tmp_path / "out", scores=directions, name="timnet.ravdess_emodb_v1"))
    assert card.corpus == "ravdess+emodb"
    assert card.licence == "RAVDESS: CC BY-NC-SA 4.0; EMO-DB: free for research (Burkhardt et al., 2005)"
    assert card.source.startswith("RAVDESS: https://zenodo.org/")
    assert card.summary == "timnet on RAVDESS and EMO-DB, 8 classes"


def test_a_model_of_both_corpora_is_scored_by_both_directions(directions, tmp_path):
    folder, _ = directions
    shutil.copytree(folder / FOLD, folder / ALL_RECORDINGS, ignore=shutil.ignore_patterns("predictions.csv"))
    path = package(folder / ALL_RECORDINGS, "timnet.ravdess_emodb_v1", directions, tmp_path / "out")
    card = read_card(path)
    assert card.trained_on == "all 24 recordings of ravdess and emodb that have its classes"
    assert card.calibration.n == 15, "recordings of two corpora are not the same, whatever they are called"
    assert len(card.scores["uar_of_folds"]) == 2


def test_weights_of_pooled_corpora_are_scored_on_both_together(folder, tmp_path):
    change(
        folder,
        ("protocol: loso-v1", "protocol: cross-pooled2-seed0-v1"),
        ("test_corpus: null", "test_corpus: emodb"),
    )
    assert {clip.split("/")[0] for clip in read_held_out(folder).clips["clip"]} == {"ravdess+emodb"}
    card = read_card(make(folder, tmp_path / "out", name="timnet.ravdess_emodb_v1"))
    assert card.corpus == "ravdess+emodb"
    assert "cross-pooled2-seed0-v1 (speaker-independent)" in card.protocol


def test_scores_of_one_fold_are_refused(directions):
    folder, _ = directions
    assert "All recordings are in one fold" in refused(folder, DataError)


def test_scores_on_seen_speakers_give_a_warning(folder, tmp_path):
    change(folder, ("protocol: loso-v1", "protocol: random10-seed46-v1"))
    with pytest.warns(
        SerzooWarning, match="random10-seed46-v1 tests on seen speakers, so confidences will be too high"
    ):
        card = read_card(make(folder, tmp_path / "out"))
    assert card.protocol.startswith("random10-seed46-v1 (speaker-DEPENDENT) of tiny")


def test_a_model_file_alone_needs_a_description(folder, tmp_path):
    path = shutil.copy(folder / FOLD / "model.keras", tmp_path / "alone.keras")
    with pytest.raises(ConfigError, match=r"alone\.keras is not in a run folder; describe its training recordings"):
        package(path, NAME, [folder], tmp_path / "out")
    card = read_card(package(path, NAME, [folder], tmp_path / "out", trained_on="whispers", summary="S", licence="L"))
    assert (card.trained_on, card.summary, card.licence) == ("whispers", "S", "L")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tbdm.ravdess_v1", "is no name for weights of timnet; use timnet.<corpus>_v1."),
        ("timnet.ravdess", "is no name for weights of timnet"),
        ("timnet.ravdess_v1/..", "is no name for weights of timnet"),
    ],
)
def test_a_name_of_another_form_is_refused(folder, name, message):
    assert message in refused(folder, ConfigError, name=name)


def test_weights_never_change_under_their_name(folder, tmp_path):
    kept = make(folder, tmp_path / "out").read_bytes()
    with pytest.raises(ConfigError, match="exists, and published weights never change; raise the number after _v"):
        make(folder, tmp_path / "out", threshold=0.6)
    assert (tmp_path / "out" / f"{NAME}.yaml").read_bytes() == kept


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_blocks: 1", "n_blocks: 2", "n_blocks 2, "),
        ("    n_blocks: 1\n", "", "n_blocks 8, "),
        ("    filters: 4\n", "    filters: 4\n    dropout: 0.2\n", "dropout 0.2, "),
        ("  name: timnet", "  name: tbdm", "model tbdm, "),
        ("n_mels: 40", "n_mels: 41", "features "),
        ("  epochs: 1\n", "  epochs: 2\n", "training.epochs 2, "),
        ("learning_rate: 0.001", "learning_rate: 0.002", "training.optimizer.learning_rate 0.002, "),
        ("name: adam", "name: nadam", "training.optimizer.name nadam, "),
        ("mixup: 0.0", "mixup: 0.4", "training.mixup 0.4, "),
        ("spec_augment: null", "spec_augment: {time_masks: 1}", "training.spec_augment.time_masks 1, "),
        ("selection: last-epoch", "selection: best-train-war", "training.selection best-train-war, "),
        ("corpus: ravdess", "corpus: emodb", "corpora ['emodb'], "),
        ("gender: null", "gender: {train_on: male}", "gender.source golden, "),
    ],
)
def test_scores_of_another_kind_of_model_are_refused(folder, tmp_path, old, new, message):
    other = shutil.copytree(folder, tmp_path / "other")
    change(other, (old, new))
    found = refused(folder, WeightsError, scores=[folder, other])
    assert found.startswith(f"tiny was scored with {message}")
    assert found.endswith("; give its own run.")


def test_runs_may_differ_in_name_seed_and_defaults(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    change(
        other,
        ("name: tiny", "name: again"),
        ("    filters: 4\n", "    filters: 4\n    kernel_size: 2\n"),
        ("  seed: 0\n", "  seed: 7\n"),
        ("jit_compile: false", "jit_compile: true"),
        ("summary: ''", "summary: once more"),
    )
    assert " of again, " in read_card(make(folder, tmp_path / "out", scores=[folder, other])).protocol


def test_a_training_from_other_networks_needs_a_description(folder, tmp_path):
    change(folder, ("initial: null", "initial: {model: elsewhere/fold01}"))
    for given in ({}, {"trained_on": "whispers"}, {"licence": "mine"}):
        message = refused(folder, ConfigError, **given)
        assert message.startswith(
            "The training used elsewhere/fold01, whose training recordings are not in its run folder"
        )
    card = read_card(make(folder, tmp_path / "out", trained_on="whispers", licence="mine"))
    assert (card.trained_on, card.licence) == ("whispers", "mine")


def test_scores_that_are_none_are_refused(folder, tmp_path):
    assert "needs scores of a cross-validation" in refused(folder, ConfigError, scores=[])
    assert "report.json cannot be read" in refused(folder, DataError, scores=[tmp_path / "nothing"])
    for path, table in scored(folder).items():
        table.drop(columns="p_sad").to_csv(path, index=False)
    assert "lacks the probabilities of some class; its scores cannot be used." in refused(folder, DataError)
    for path, table in scored(folder).items():
        table.drop(columns=[column for column in table if column.startswith("p_")]).to_csv(path, index=False)
    assert "predictions.csv has no probabilities" in refused(folder, DataError)


def test_scores_that_predictions_contradict_are_refused(folder):
    path, table = next(iter(scored(folder).items()))
    table.iloc[1:].to_csv(path, index=False)
    assert re.search(r"fold01.*: UAR: report\.json has .*; its scores cannot be used", refused(folder, DataError))


@pytest.mark.parametrize("names", [5, None, [1, 2], [[1]], [["fold01-speaker-01"], ["fold01-speaker-01"]]])
def test_a_damaged_report_is_refused(folder, names):
    path = folder / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"run_names": names}))
    assert "report.json is damaged: run_names is" in refused(folder, DataError)


def test_predictions_that_are_not_the_most_probable_class_are_refused(folder, tmp_path):
    path, table = next(iter(scored(folder).items()))
    kept = table.copy()
    names = [column for column in table if column.startswith("p_")]
    table.loc[0, names] = 1 / len(names)  # a tie, in which any class may be the answer
    table.to_csv(path, index=False)
    settle(folder)
    make(folder, tmp_path / "out")
    table = kept
    table.loc[0, "prediction"] = "sad" if table.loc[0, "prediction"] != "sad" else "calm"
    table.to_csv(path, index=False)
    settle(folder)
    assert "a prediction is not the most probable class; its scores cannot be used." in refused(folder, DataError)
    table["p_sad"] = "much"
    table.to_csv(path, index=False)
    assert "(not only numbers in the column p_sad)" in refused(folder, DataError)


def test_a_missing_fold_and_a_threshold_out_of_range_are_refused(folder):
    assert "threshold is 2" in refused(folder, SerzooError, threshold=2)
    (folder / "fold02-speaker-02" / "predictions.csv").unlink()
    assert "predictions.csv is missing" in refused(folder, DataError)


def test_a_corpus_of_the_user_needs_a_licence(folder, tmp_path):
    change(folder, ("corpus: ravdess", "corpus: folder"))
    assert "The licence of folder is not known; give that of the weights (--licence)." in refused(folder, ConfigError)
    assert read_card(make(folder, tmp_path / "out", licence="mine")).licence == "mine"
