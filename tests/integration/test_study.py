"""Studies of frozen representations: every cell, its run folder, and the table."""

import json

import numpy as np
import pytest

from serzoo.data.cache import FeatureCache
from serzoo.data.synthetic import write_corpus
from serzoo.errors import ConfigError, SerzooError, UnknownNameError, WeightsError
from serzoo.features.spec import EmbeddingSpec
from serzoo.models.simple import SIMPLE_CLASSIFIERS
from serzoo.training import study as studies
from serzoo.training.cross_validate import cross_validate
from serzoo.training.simple import load_simple
from serzoo.training.study import NETWORK, Cell, study_frozen
from serzoo.zoo import load

MEL = EmbeddingSpec(source="mel", width=80, sample_rate=22_050)
MFCC = EmbeddingSpec(source="mfcc", width=39, sample_rate=22_050)

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    return {name: write_corpus(folder / name, name, n_speakers=2, n_texts=1) for name in ("ravdess", "emodb")}


@pytest.fixture(scope="module")
def study(corpora, tmp_path_factory):
    """Two corpora, two representations, three classifiers, one of them a network, as they are and scaled."""
    folder = tmp_path_factory.mktemp("study")
    return folder, study_frozen(
        corpora, [MEL, MFCC], ["svc", "random_forest"], scaled=(False, True), protocol="random2-seed1-v1",
        run_folder=folder / "run", cache=FeatureCache(folder / "cache"), jobs=1, progress=False,
    )  # fmt: skip


def test_every_cell_is_a_cross_validation(study, corpora):
    folder, found = study
    assert len(found.reports) == 2 * 2 * 2 * 2
    for cell, report in found.reports.items():
        assert report.folder == folder / "run" / cell.folder
        assert json.loads((report.folder / "report.json").read_text())["scores"] == report.summary.to_dict()
        assert report.complete
        assert report.recipe.model.arguments == ({"scale": True} if cell.scaled else {})
    cell = Cell("emodb", MFCC, "svc", False)
    alone = cross_validate(
        found.reports[cell].recipe, data_root=corpora["emodb"], run_folder=folder / "alone",
        cache=FeatureCache(folder / "cache"), progress=False,
    )  # fmt: skip
    assert alone.summary == found.reports[cell].summary


def test_the_table_is_of_the_reports(study):
    folder, found = study
    rows = found.table()
    assert [(row["features"], row["classifier"]) for row in rows[:3]] == [
        ("mel", "svc"),
        ("mel", "svc, scaled"),
        ("mel", "random_forest"),
    ]
    for row in rows:
        scores = []
        for corpus in ("ravdess", "emodb"):
            spec = MEL if row["features"] == "mel" else MFCC
            classifier, _, scaled = row["classifier"].partition(", ")
            report = found.reports[Cell(corpus, spec, classifier, scaled == "scaled")]
            assert row[f"{corpus} UAR"] == 100 * report.summary.mean["uar"]
            scores.append(100 * report.summary.mean["war"])
        assert row["mean WAR"] == pytest.approx(np.mean(scores))
    text = (folder / "run" / "table.md").read_text()
    assert text == found.to_markdown()
    head, rule, *lines = text.splitlines()
    assert head.startswith("| features | classifier | ravdess UAR | ravdess WAR | emodb UAR | emodb WAR | mean UAR |")
    assert len(lines) == len(rows)
    best = max(row["mean UAR"] for row in rows)
    assert f"**{best:.2f}**" in text
    assert rule.count("---") == 8


def test_what_is_done_is_not_done_again(study, corpora, monkeypatch):
    folder, found = study
    monkeypatch.setattr("serzoo.training.cross_validate.train_simple", None)
    again = study_frozen(
        corpora, [MFCC], ["svc"], protocol="random2-seed1-v1", run_folder=folder / "run",
        cache=FeatureCache(folder / "cache"), jobs=1, progress=False,
    )  # fmt: skip
    assert {cell: report.summary for cell, report in again.reports.items()} == {
        cell: report.summary
        for cell, report in found.reports.items()
        if (cell.features, cell.classifier, cell.scaled) == (MFCC, "svc", False)
    }


@pytest.mark.slow
def test_cells_side_by_side_give_the_same_numbers(study, corpora, tmp_path):
    folder, found = study
    beside = study_frozen(
        {"emodb": corpora["emodb"]}, [MFCC], ["svc", NETWORK], protocol="random2-seed1-v1", run_folder=tmp_path / "run",
        changes={"training.epochs": 2}, cache=FeatureCache(folder / "cache"), jobs=2, progress=False,
    )  # fmt: skip
    cell, network = Cell("emodb", MFCC, "svc", False), Cell("emodb", MFCC, NETWORK, False)
    assert beside.reports[cell].summary == found.reports[cell].summary
    assert beside.reports[network].recipe.training.epochs == 2
    assert (beside.reports[network].folder / "fold02" / "model.keras").exists()


def test_scaling_is_part_of_the_network(corpora):
    recipe = Cell("ravdess", MFCC, NETWORK, True).recipe("random5-seed0-v1", 3)
    assert recipe.model.arguments == {"normalization": "real-frames"}
    assert (recipe.training.seed, recipe.training.epochs, recipe.features) == (3, 100, MFCC)


@pytest.mark.parametrize("classifier", [NETWORK, *SIMPLE_CLASSIFIERS])
@pytest.mark.parametrize("scaled", [False, True])
def test_every_classifier_has_a_recipe(classifier, scaled):
    cell = Cell("savee", MEL, classifier, scaled)
    recipe = cell.recipe("loso-v1", 0)
    assert (recipe.corpus, recipe.model.name, recipe.protocol) == ("savee", classifier, "loso-v1")
    assert recipe.override({}) == recipe


def test_on_the_command_line(corpora, tmp_path, run):
    corpus = f"emodb={corpora['emodb']}"
    folds = ("--protocol", "random2-seed1-v1", "--run", tmp_path / "run", "--jobs", 1, "-q")
    common = ("study", "frozen", "--corpus", corpus, "--features", "mfcc", *folds)
    code, out, _ = run(*common, "--classifier", "svc", "--scale", "both", "--set", "training.seed=3")
    assert code == 0
    assert [line.split(" | ")[1] for line in out.splitlines()[2:4]] == ["svc", "svc, scaled"]
    assert "mean" not in out.splitlines()[0]
    (first, _) = sorted((tmp_path / "run" / "emodb").iterdir())
    assert load_simple(first / "fold01").class_names
    code, out, err = run(*common, "--classifier", "svc", "--set", "training.seed=3", "--json")
    assert list(json.loads(out)["rows"][0]) == ["features", "classifier", "emodb UAR", "emodb WAR"]
    for wrong, what in (
        ((*common, "--corpus", "emodb"), "--corpus emodb names no folder; write --corpus emodb=FOLDER"),
        ((*common, "--scale", "maybe"), "Unknown value of --scale 'maybe'"),
        ((*common, "--features", "mfc"), "Did you mean 'mfcc'?"),
    ):
        code, out, err = run(*wrong)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert what in err


def test_a_simple_classifier_is_no_network(study):
    (folder,) = {report.folder for cell, report in study[1].reports.items() if cell == Cell("emodb", MEL, "svc", True)}
    for source in (folder / "fold01", folder / "fold01" / "model.skops"):
        with pytest.raises(WeightsError, match=r"model\.skops is a simple classifier, not a network; read it with"):
            load(source)


def test_cells_have_folders_of_their_own(tmp_path):
    cells = studies._cells(["ravdess", "emodb"], [MEL, MFCC], ["svc", "mlp"], [False, True])
    assert len({cell.folder for cell in cells}) == len(cells) == 16
    assert all(len(cell.folder.parts) == 2 for cell in cells)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"classifiers": ["svm"]}, UnknownNameError, r"^Unknown classifier of a study 'svm'\. Did you mean 'svc'\?"),
        ({"features": []}, ConfigError, r"^A study needs a corpus, features, a classifier, and scaled or not; give"),
        ({"jobs": 0}, ConfigError, r"^jobs is 0; it must be at least 1"),
        ({"protocol": "random5-sed0-v1"}, UnknownNameError, "random5-sed0-v1"),
        ({"corpora": {"ravdes": "x"}}, UnknownNameError, "Did you mean 'ravdess'"),
    ],
)
def test_what_cannot_be_compared_is_refused(corpora, tmp_path, changes, error, message):
    settings = {"corpora": corpora, "features": [MFCC], "classifiers": ["svc"], "run_folder": tmp_path / "run"}
    with pytest.raises(error, match=message) as caught:
        study_frozen(**{**settings, **changes}, progress=False)
    assert isinstance(caught.value, SerzooError)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
