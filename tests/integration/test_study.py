"""Studies of frozen representations: every cell, its run folder, and the table."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.classical.model import load_classical
from serzoo.data import load_corpus
from serzoo.data.cache import FeatureCache
from serzoo.data.synthetic import write_corpus
from serzoo.data.vectors import embedding_spec
from serzoo.errors import ConfigError, SerzooError, SerzooWarning, UnknownNameError, WeightsError
from serzoo.experiments import studies
from serzoo.experiments.cross_validate import cross_validate
from serzoo.experiments.run_folder import describe_data
from serzoo.experiments.studies import NETWORK, Cell, study_frozen
from serzoo.features import embeddings
from serzoo.features.model_files import source_fingerprint
from serzoo.features.spec import EmbeddingSpec
from serzoo.settings import GenderConfig
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


@pytest.fixture
def table(corpora, tmp_path):
    """A file of vectors of EMO-DB's recordings, and a function that replaces it."""
    names = np.array(load_corpus("emodb", corpora["emodb"]).names)

    def write(seed):
        np.savez(tmp_path / "v.npz", names=names, vectors=np.random.default_rng(seed).normal(size=(len(names), 3)))
        return embedding_spec(f"vectors:{tmp_path / 'v.npz'}")

    return write


def test_a_run_folder_holds_embeddings_of_one_content(corpora, table, tmp_path):
    recipe = Cell("emodb", table(0), "svc", False).recipe("random2-seed1-v1", 0)
    common = {"data_root": corpora["emodb"], "run_folder": tmp_path / "run", "progress": False}
    cross_validate(recipe, folds=[1], **common)
    kept = json.loads((tmp_path / "run" / "data.json").read_text())
    assert kept["embeddings"] == {recipe.features.source: source_fingerprint(recipe.features.source)}
    table(1)
    with pytest.raises(ConfigError, match=r"embeddings by another network or table \(see data\.json there\)") as caught:
        cross_validate(recipe, folds=[2], **common)
    assert "\n" not in str(caught.value)
    table(0)
    assert cross_validate(recipe, folds=[2], **common).complete


def test_a_run_of_signal_features_has_no_embeddings_in_its_data(study):
    for report in study[1].reports.values():
        described = json.loads((report.folder / "data.json").read_text())
        assert list(described) == ["corpus", "n_recordings", "class_names", "sha256"]


def test_embeddings_of_the_gender_classifier_are_part_of_the_data(corpora, table):
    manifest = load_corpus("emodb", corpora["emodb"])
    recipe = Cell("emodb", MFCC, NETWORK, False).recipe("random2-seed1-v1", 0)
    binary, spec = replace(recipe, gender=GenderConfig("binary", features=table(0).source)), table(0)
    hashes = [""] * len(manifest)
    assert describe_data(manifest, hashes, {}, binary)["embeddings"] == {spec.source: source_fingerprint(spec.source)}
    golden = replace(recipe, gender=GenderConfig(features=spec.source))
    assert describe_data(manifest, hashes, {}, golden) == describe_data(manifest, hashes, {}, recipe)


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


def test_finished_cells_are_not_trained_again(study, corpora, monkeypatch):
    folder, found = study
    monkeypatch.setattr("serzoo.experiments.folds.train_classical", None)
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
def test_cells_side_by_side_give_the_same_numbers_and_warnings(study, corpora, tmp_path, capfd):
    folder, found = study
    beside = study_frozen(
        {"emodb": corpora["emodb"]}, [MFCC], ["svc", NETWORK], protocol="random2-seed1-v1", run_folder=tmp_path / "run",
        changes={"training.epochs": 2}, cache=FeatureCache(folder / "cache"), jobs=2, progress=False,
    )  # fmt: skip
    cell, network = Cell("emodb", MFCC, "svc", False), Cell("emodb", MFCC, NETWORK, False)
    assert beside.reports[cell].summary == found.reports[cell].summary
    assert beside.reports[network].recipe.training.epochs == 2
    assert (beside.reports[network].folder / "fold02" / "model.keras").exists()
    with pytest.warns(SerzooWarning) as caught:
        study_frozen(
            {"emodb": corpora["emodb"]}, [MFCC], ["mlp"], scaled=(False, True), protocol="random2-seed1-v1", jobs=2,
            run_folder=tmp_path / "run", changes={"model.arguments.max_iter": 1}, cache=FeatureCache(folder / "cache"),
            progress=False,
        )  # fmt: skip
    messages = [str(each.message).partition(" did not converge")[0] for each in caught]
    assert messages == ["emodb, mfcc, mlp: mlp", "emodb, mfcc, mlp, scaled: mlp"]
    assert capfd.readouterr().err == ""


def test_training_settings_of_a_network_do_not_apply_to_classical_classifiers():
    changes = {"training.epochs": 2, "training.optimizer.name": "nadam", "training.seed": 3, "repeats": 2}
    svc, network = (Cell("emodb", MFCC, name, False) for name in ("svc", NETWORK))
    assert studies._own_changes(svc, ["svc", NETWORK], changes) == {"training.seed": 3, "repeats": 2}
    assert studies._own_changes(network, ["svc", NETWORK], changes) == changes
    assert studies._own_changes(svc, ["svc", "mlp"], changes) == changes


def test_scaling_is_part_of_the_network(corpora):
    recipe = Cell("ravdess", MFCC, NETWORK, True).recipe("random5-seed0-v1", 3)
    assert recipe.model.arguments == {"normalization": "real-frames"}
    assert (recipe.training.seed, recipe.training.epochs, recipe.features) == (3, 100, MFCC)


@pytest.mark.parametrize("classifier", [NETWORK, *CLASSICAL_CLASSIFIERS])
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
    assert load_classical(first / "fold01").class_names
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


def test_a_classical_classifier_is_not_loaded_as_a_network(study):
    (folder,) = {report.folder for cell, report in study[1].reports.items() if cell == Cell("emodb", MEL, "svc", True)}
    for source in (folder / "fold01", folder / "fold01" / "model.skops"):
        with pytest.raises(WeightsError, match=r"model\.skops is a classical classifier, not a network; load it with"):
            load(source)


def test_cells_have_folders_of_their_own(tmp_path):
    cells = studies._cells(["ravdess", "emodb"], [MEL, MFCC], ["svc", "mlp"], [False, True])
    assert len({cell.folder for cell in cells}) == len(cells) == 16
    assert all(len(cell.folder.parts) == 2 for cell in cells)
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    (deep / "v.csv").write_text("clip,0\na.wav,1\n")
    long = [
        Cell("emodb", embedding_spec(f"vectors:{deep / 'v.csv'}"), "svc", scaled).folder for scaled in (False, True)
    ]
    assert len(set(long)) == 2
    assert max(len(folder.name) for folder in long) < 120


def nan_graph(path):
    """Write an ONNX graph that takes the mean logarithm of samples, of which some are negative."""
    import onnx

    nodes = [
        onnx.helper.make_node("Log", ["wave"], ["logs"]),
        onnx.helper.make_node("ReduceMean", ["logs"], ["out"], axes=[1]),
    ]
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
        for name, shape in (("wave", ["batch", "samples"]), ("out", ["batch", 1]))
    )
    graph = onnx.helper.make_graph(nodes, "tiny", inputs, outputs)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return f"onnx:{path}"


@pytest.mark.parametrize(
    ("commands", "source", "message"),
    [
        (
            "cv study gender",
            "onnx:none.onnx",
            "onnx:none.onnx: file none.onnx does not exist; correct the path in source.",
        ),
        ("cv study gender", "vectors:none.csv", "vectors:none.csv: file none.csv does not exist; correct the path"),
        ("cv study gender", "extra", "onnx: embeddings need onnxruntime; run: pip install 'serzoo[onnx]'"),
        (
            "cv study gender",
            "hf:some/model",
            "hf:some/model is no folder, and downloading it from the Hugging Face Hub failed",
        ),
        ("cv", "mfcc", "override, features: width is 2 and sample_rate is 22050, but mfcc has 39 values at 22050 Hz"),
        ("cv", "table", "width is 2, but {table} returns 3 values; set width: 3."),
        ("cv", "graph", "width is 2, but {graph} returns 1 values; set width: 1."),
        ("cv study", "nan", "v.npz: vectors hold NaN or infinite values ("),
        (
            "study",
            "graph",
            "the embedding by {graph} holds NaN or infinite values; check the recording and the network.",
        ),
    ],
)
def test_mistakes_with_embeddings_are_one_line(corpora, table, tmp_path, monkeypatch, run, commands, source, message):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    embeddings._network.cache_clear()
    named = {"table": table(0).source, "graph": nan_graph(tmp_path / "nan.onnx")}
    given = {**named, "extra": named["graph"], "nan": named["table"]}.get(source, source)
    if source == "extra":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    width = 2
    if source == "nan":
        width, names = 1, load_corpus("emodb", corpora["emodb"]).names
        np.savez(tmp_path / "v.npz", names=np.array(names), vectors=np.full((len(names), 1), np.nan))
    root, folder = corpora["emodb"], tmp_path / "run"
    features = {"features.kind": "embedding", "features.source": given, "features.width": width}
    sets = [word for key, value in features.items() for word in ("--set", f"{key}={value}")]
    lines = {
        "cv": ("cv", "svc-ravdess-mfcc", "--data", root, "--run", folder, "-q", "--set", "corpus=emodb", *sets),
        "study": ("study", "frozen", "--corpus", f"emodb={root}", "--features", given, "--run", folder, "-q"),
        "gender": ("gender", "emodb", root, "--features", given, "-q"),
    }
    for command in commands.split():
        code, out, err = run(*lines[command])
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith("error: ")
        assert message.format(**named) in err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"classifiers": ["svm"]}, UnknownNameError, r"^Unknown classifier of a study 'svm'\. Did you mean 'svc'\?"),
        ({"features": []}, ConfigError, r"^A study needs a corpus, features, a classifier and a value of scaled; give"),
        ({"jobs": 0}, ConfigError, r"^jobs is 0; it must be an integer of at least 1"),
        ({"protocol": "random5-sed0-v1"}, UnknownNameError, "random5-sed0-v1"),
        ({"corpora": {"ravdes": "x"}}, UnknownNameError, "Did you mean 'ravdess'"),
        ({"changes": {"training.epochs": 2}}, ConfigError, r"training\.epochs is 2, but svc is no network that could"),
        (
            {"changes": {"features.source": "mel"}},
            ConfigError,
            r"^features\.source is set by the study; choose its corpora",
        ),
        ({"changes": {"model": {"name": "mlp"}}}, ConfigError, "^model is set by the study"),
        (
            {"changes": {"model.arguments.scale": True}},
            ConfigError,
            r"^model\.arguments\.scale is set by the study",
        ),
        ({"changes": {"protocol": "loso-v1"}}, ConfigError, "^protocol is set by the study"),
    ],
)
def test_a_wrong_study_is_refused(corpora, tmp_path, changes, error, message):
    settings = {"corpora": corpora, "features": [MFCC], "classifiers": ["svc"], "run_folder": tmp_path / "run"}
    with pytest.raises(error, match=message) as caught:
        study_frozen(**{**settings, **changes}, progress=False)
    assert isinstance(caught.value, SerzooError)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
