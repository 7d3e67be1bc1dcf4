"""The command line: its output, and one line with exit code 2 for wrong input."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import serzoo
from serzoo.classifier import Classifier
from serzoo.data.synthetic import write_corpus
from serzoo.features.spec import LogMelSpec, MFCCSpec
from serzoo.recipes import config_folder, load_recipe

CLASSES = ("angry", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")
GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
RATE = 16_000
TINY_RECIPE = """
name: tiny
corpus: synthetic
model: {name: timnet, arguments: {n_blocks: 2, filters: 8}}
features: {kind: mfcc, n_samples: 22050}
protocol: loso-v1
training: {epochs: 1, batch_size: 64, jit_compile: false}
"""


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    model = serzoo.build("timnet", class_names=CLASSES, feature_spec=MFCCSpec(n_samples=11_025), n_blocks=2, filters=4)
    return Classifier(model).save(tmp_path_factory.mktemp("model") / "tiny.keras")


@pytest.fixture(scope="module")
def gender_model_file(tmp_path_factory):
    small = {"n_convs": 1, "filters": [2, 2], "projection": 4, "lstm_units": 2}
    model = serzoo.build("acrnn", class_names=CLASSES, feature_spec=LogMelSpec(segment_frames=50), **small)
    model.normalization.adapt(np.random.default_rng(0).normal(size=(2, 50, 40, 3)))
    return Classifier(model).save(tmp_path_factory.mktemp("model") / "acrnn.keras")


@pytest.fixture
def tone(tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(RATE) / 9), RATE)
    return path


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_RECIPE)
    return path


def test_list_names_everything(run):
    code, out, _ = run("list")
    assert code == 0
    assert all(name in out for name in ("timnet", "tbdm", "ravdess", "emobox6-v1", "timnet-ravdess"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timnet", ["timnet: temporal-aware", "  n_blocks ", "  timnet-iemocap  "]),
        ("svc", ["svc: support vector machine", "  gamma         0.001"]),
        ("dense_tcn.ravdess_v1", ["UAR 65.82%", "CC BY-NC-SA 4.0", "74.7% of clips reach confidence 0.5; 75.2% of"]),
        ("gender-ravdess", ["logistic_regression", "accuracy 96.67%"]),
        ("ravdess", ["ravdess: RAVDESS", "angry 192", "Recordings  1440", "Actor_01/03-01-05-01-02-01-01.wav"]),
        ("folder", ["those of your recordings"]),
        ("loso-v1", ["loso-v1: leave one speaker out"]),
        ("randomK-seedS-v1", ["shuffled K-fold"]),
        ("random10-seed46", ["shuffled 10-fold", "seed 46"]),
    ],
)
def test_describe_shows_every_kind_of_name(run, name, expected):
    code, out, err = run("describe", name)
    assert (code, err) == (0, "")
    assert [text for text in expected if text not in out] == []


@pytest.mark.parametrize("source", ["timnet-ravdess", "timnet-ravdess.yaml"])
def test_describe_shows_a_recipe_with_every_value(run, source):
    path = config_folder() / source
    code, out, _ = run("describe", path if source.endswith(".yaml") else source)
    assert code == 0
    assert out == load_recipe("timnet-ravdess").to_yaml()


def test_version(run):
    assert run("--version")[1] == f"serzoo {serzoo.__version__}\n"


def test_predict_prints_a_line_and_writes_json_and_csv(run, model_file, tone, tmp_path):
    code, out, _ = run("predict", "--model", model_file, tone, "--output", tmp_path / "answers.csv")
    assert code == 0
    row = next(csv.DictReader(io.StringIO((tmp_path / "answers.csv").read_text())))
    assert row["label"] in CLASSES
    assert out.startswith(f"{tone}: {row['label']} (")
    code, out, _ = run("predict", "--model", model_file, tone, "--json")
    assert json.loads(out)[0]["label"] == row["label"]


@pytest.mark.parametrize("gender", ["female", "0.4"])
def test_predict_takes_a_gender_input(run, gender_model_file, tone, gender):
    code, out, err = run("predict", "--model", gender_model_file, "--gender", gender, tone)
    assert (code, err) == (0, "")
    assert out.startswith(f"{tone}: ")
    assert len(out.splitlines()) == 3, "a second has two segments of half a second"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "acrnn.keras takes the speaker's gender; add --gender male, --gender female, the probability"),
        (["--gender", "1.5"], "gender is '1.5'"),
        (["--gender", "x"], "gender is 'x'"),
    ],
)
def test_a_missing_or_invalid_gender_is_one_line(run, gender_model_file, tone, options, message):
    code, out, err = run("predict", "--model", gender_model_file, tone, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_gender_for_a_model_without_gender_input_is_refused(run, model_file, tone):
    code, _, err = run("predict", "--model", model_file, tone, "--gender", "male")
    assert code == 2
    assert "timnet does not take the speaker's gender" in err


def test_long_files_get_a_timeline(run, model_file, tmp_path):
    soundfile.write(tmp_path / "long.wav", 0.1 * np.random.default_rng(0).standard_normal(3 * RATE), RATE)
    out = run("predict", "--model", model_file, tmp_path / "long.wav")[1]
    assert "0.0 s -" in out.splitlines()[1]


def test_good_files_are_classified_next_to_bad_ones(run, model_file, tone, tmp_path):
    (tmp_path / "bad.wav").write_text("no audio at all")
    code, out, err = run("predict", "--model", model_file, tone, tmp_path / "bad.wav", "-o", tmp_path / "answers.json")
    assert code == 2
    assert "tone.wav" in out
    assert "bad.wav" in err
    assert len(json.loads((tmp_path / "answers.json").read_text())) == 1


@pytest.mark.slow
def test_train_evaluate_export_and_predict_with_the_result(run, recipe_file, synthetic_root, tmp_path, tone):
    folder = tmp_path / "run"
    code, out, _ = run("train", recipe_file, "--data", synthetic_root, "--run", folder, "--fold", 2, "-q")
    assert code == 0
    assert "UAR" in out
    assert "speaker-independent" in out
    fold = folder / "fold02-speaker-02"
    again = ("train", recipe_file, "--data", synthetic_root, "--run", folder, "--fold", 2, "-q")
    (fold / "model.keras").rename(fold / "kept.keras")
    assert "was removed since its fold was trained" in run(*again)[2]
    (fold / "kept.keras").rename(fold / "model.keras")
    for damaged in (b"", b'\xff\xfe"', b"label,prediction\n"):
        whole = (fold / "predictions.csv").read_bytes()
        (fold / "predictions.csv").write_bytes(damaged)
        code, _, err = run(*again)
        assert code == 2
        assert "predictions.csv" in err
        (fold / "predictions.csv").write_bytes(whole)
    corpus = next(path for path in synthetic_root.iterdir() if path.is_dir())
    code, out, _ = run("evaluate", fold, "ravdess", corpus, "--json", "-q")
    assert json.loads(out)["n"] == 480
    assert run("export", fold, tmp_path / "exported")[0] == 0
    assert (tmp_path / "exported" / "saved_model.pb").exists()
    assert run("predict", "-m", fold, tone)[0] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
def test_values_can_be_set_and_folds_chosen(run, recipe_file, synthetic_root, tmp_path):
    code, out, _ = run(
        "cv", recipe_file, "--data", synthetic_root, "--run", tmp_path / "run", "--folds", "1,3",
        "--set", "training.batch_size=100", "--set", "training.label_smoothing=2e-1", "-q",
    )  # fmt: skip
    assert code == 0
    assert "2 of 8 folds only" in out
    resolved = (tmp_path / "run" / "recipe.yaml").read_text()
    assert "batch_size: 100" in resolved
    assert "label_smoothing: 0.2" in resolved


@pytest.mark.slow
def test_anti_transfer_is_set_on_the_command_line(run, recipe_file, tmp_path):
    root = write_corpus(tmp_path / "ravdess", "ravdess", n_speakers=3, n_texts=1)
    spec, small = MFCCSpec(n_samples=22_050), {"n_blocks": 2, "filters": 8}
    network = serzoo.build("timnet", class_names=("01", "02", "03"), feature_spec=spec, **small)
    path = Classifier(network).save(tmp_path / "speakers.keras")
    settings = ("--set", "corpus=ravdess", "--set", f"anti_transfer.pretrained=[{path}]", "--fold", 1, "-q")
    common = ("train", recipe_file, "--data", root, "--run", tmp_path / "run", *settings)
    code, out, err = run(*common, "--set", "anti_transfer.layers=[5]")
    assert (code, out) == (2, "")
    assert err == "error: feature layer 5 was asked for; timnet has 4, numbered from 1.\n"
    assert not (tmp_path / "run").exists()
    code, out, _ = run(*common, "--set", "anti_transfer.layers=[1]", "--set", "anti_transfer.beta=2")
    assert code == 0
    assert "UAR" in out
    (history,) = (tmp_path / "run").glob("*/history.csv")
    assert "anti_transfer" in history.read_text().splitlines()[0]
    assert str(path) in json.loads((tmp_path / "run" / "data.json").read_text())["weights"]


def test_a_model_of_speakers_is_evaluated_on_speakers(run, tmp_path):
    root = write_corpus(tmp_path / "ravdess", "ravdess", n_speakers=2, n_texts=1)
    spec, small = MFCCSpec(n_samples=22_050), {"n_blocks": 2, "filters": 8}
    network = serzoo.build("timnet", class_names=("01", "02"), feature_spec=spec, **small)
    model = Classifier(network).save(tmp_path / "speakers.keras")
    code, out, _ = run("evaluate", model, "ravdess", root, "--target", "speaker", "--json", "-q")
    assert code == 0
    assert json.loads(out)["n"] == len(list(root.rglob("*.wav")))
    for asked, what in (([], "'angry'"), (["--target", "speker"], "Did you mean 'speaker'?")):
        code, _, err = run("evaluate", model, "ravdess", root, "-q", *asked)
        assert (code, err.count("\n")) == (2, 1)
        assert what in err


def test_the_papers_weights_are_converted(run, tmp_path):
    target = tmp_path / "timnet.keras"
    assert run("convert", GOLDEN / "tim_net_d8.hdf5", target, "--recipe", "timnet-ravdess")[0] == 0
    assert serzoo.load(target).class_names == CLASSES


def test_verify_lists_the_problems(run, tmp_path):
    clip = tmp_path / "Actor_01" / "03-01-05-01-02-01-01.wav"
    clip.parent.mkdir()
    soundfile.write(clip, np.zeros(100), 48_000)
    (clip.parent / "03-01-05-01-02-02-01.wav").write_text("version https://git-lfs.github.com/spec/v1\n")
    code, out, _ = run("data", "verify", "ravdess", tmp_path, "-q")
    assert code == 1
    assert "git lfs pull" in out
    assert json.loads(run("data", "verify", "ravdess", tmp_path, "--json", "-q")[1])


def test_a_synthetic_corpus_is_written_and_its_features_cached(run, recipe_file, synthetic_root, tmp_path, monkeypatch):
    monkeypatch.setenv("SERZOO_CACHE", str(tmp_path / "cache"))
    assert run("data", "synthesize", tmp_path / "tess", "--corpus", "tess")[0] == 0
    assert len(list((tmp_path / "tess").rglob("*.wav"))) > 10
    assert "480 clips" in run("features", "extract", recipe_file, "--data", synthetic_root, "-q")[1]
    assert "480 clips" in run("features", "size")[1]
    run("features", "clear")
    assert ": 0 clips" in run("features", "size")[1]


# Wrong input ----------------------------------------------------------------------------------------------------------


def wav(path, samples, rate=RATE):
    soundfile.write(path, samples, rate, subtype="FLOAT")


def truncated(path):
    wav(path, np.full(RATE, 0.1))
    path.write_bytes(path.read_bytes()[:-RATE])


def with_rate(rate):
    def write(path):
        wav(path, tone_samples())
        content = bytearray(path.read_bytes())
        content[24:28] = rate.to_bytes(4, "little")
        path.write_bytes(content)

    return write


def tone_samples():
    return 0.1 * np.sin(np.arange(RATE) / 9)


BAD_RECORDINGS = {
    "text.wav": lambda path: path.write_text("I am a text."),
    "truncated.wav": truncated,
    "empty.wav": lambda path: path.write_bytes(b""),
    "nan.wav": lambda path: wav(path, np.full(RATE, np.nan)),
    "silence.wav": lambda path: wav(path, np.zeros(RATE)),
    "short.wav": lambda path: wav(path, np.full(RATE // 100, 0.1)),
    "stub.wav": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "rate0.wav": with_rate(0),
    "rate1.wav": with_rate(1),  # resampling from 1 Hz would crash
    "rate2e9.wav": with_rate(2**31 - 1),
    "constant.wav": lambda path: wav(path, np.full(RATE, 0.5)),
    "faint.wav": lambda path: wav(path, 1e-30 * tone_samples()),
    "absurd.wav": lambda path: wav(path, 1e30 * tone_samples()),
    "pipe.wav": os.mkfifo,
    "missing.wav": lambda path: None,
}


@pytest.mark.parametrize("name", BAD_RECORDINGS)
def test_a_bad_recording_is_one_line_that_names_it(run, model_file, tmp_path, name):
    BAD_RECORDINGS[name](tmp_path / name)
    code, _, err = run("predict", "--model", model_file, tmp_path / name)
    lines = err.strip().splitlines()
    assert code == 2
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert name in lines[0]


def one_class(folder):
    (folder / "clips" / "angry").mkdir(parents=True)
    wav(folder / "clips" / "angry" / "1.wav", np.full(RATE, 0.1))
    return folder / "clips"


def unknown_label(folder):
    wav(folder / "1.wav", np.full(RATE, 0.1))
    wav(folder / "2.wav", np.full(RATE, 0.2))
    (folder / "table.csv").write_text("path,label\n1.wav,angry\n2.wav,hapy\n")
    return folder / "table.csv"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["describe", "timnett"], "Unknown name 'timnett'. Did you mean 'timnet'?"),
        (["data", "verify", "ravdes", "."], "Did you mean 'ravdess'?"),
        (["cv", "timnet-ravdes"], "Did you mean 'timnet-ravdess'?"),
        (["cv", "timnet-ravdess"], "No place is given for RAVDESS"),
        (["cv", "timnet-ravdess", "--data", "nowhere"], "nowhere does not exist"),
        (["cv", "timnet-synthetic", "--set", "training.epoch=3"], "Did you mean 'epochs'?"),
        (["cv", "timnet-synthetic", "--set", "training.epochs=many"], "training.epochs is 'many'; it must be an int"),
        (["cv", "timnet-synthetic", "--set", "epochs"], "is not key=value"),
        (["cv", "timnet-synthetic", "--set", "model.arguments.n_block=3"], "Did you mean 'n_blocks'?"),
        (["cv", "timnet-synthetic", "--set", "model.arguments.name=x"], "Unknown argument of timnet 'name'"),
        (["cv", "timnet-synthetic", "--set", "protocol=random10-sed46"], "Unknown protocol"),
        (["cv", "timnet-synthetic", "--set", "target=speker"], "Did you mean 'speaker'?"),
        (["cv", "timnet-synthetic", "--set", "anti_transfer.pretrained=[no.keras]"], "pretrained: Model file no.keras"),
        (["cv", "timnet-synthetic", "--set", "initial.model=no.keras"], "initial.model: Model file no"),
        (["cv", "timnet-synthetic", "--set", "training.patience=0"], "patience is 0"),
        (["cv", "timnet-synthetic", "--set", "rh_emo.alpha=1"], "RH-Emo's first stage classifies nothing"),
        (["cv", "timnet-synthetic", "--folds", "one"], "is not a list of folds"),
        (["cv", "timnet-synthetic", "--folds", "1-99999999999"], "is not a list of folds"),
        (["cv", "timnet-synthetic", "--folds", "1-2-9"], "is not a list of folds"),
        (["cv", "timnet-synthetic", "--folds", "5-1"], "is not a list of folds"),
        (["describe", "TIMNet"], "Did you mean 'timnet'?"),
        (["predict", "-m", "nowhere.keras", "x.wav"], "nowhere.keras"),
        (["predict", "-m", "nowhere.keras", "x.wav", "-o", "x.txt"], "use .json or .csv"),
        (["convert", str(GOLDEN / "tim_net_d8.hdf5"), "x.keras", "--recipe", "timnet-casia"], "8 classes but 6 are"),
        (["convert", str(GOLDEN / "tim_net_d8.hdf5"), "x.keras"], "has weights only; give the recipe"),
        (["convert", str(GOLDEN / "tim_net_d8.hdf5"), "x.h5"], "name a .keras file"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_line_with_the_remedy(run, arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    lines = [line for line in err.strip().splitlines() if line.startswith("error: ")]
    assert code == 2
    assert err.strip().splitlines() == lines
    assert len(lines) == 1
    assert expected in lines[0]
    assert not Path("runs").exists(), "nothing is left behind"


def test_corpora_that_cannot_be_trained_on_are_refused(run, model_file, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, expected in [
        (["evaluate", model_file, "ravdess", tmp_path / "empty"], "No RAVDESS recordings"),
        (["evaluate", model_file, "folder", one_class(tmp_path)], "at least 2 classes"),
        (["evaluate", model_file, "csv", unknown_label(tmp_path)], "Did you mean 'happy'?"),
    ]:
        code, _, err = run(*arguments, "-q")
        assert code == 2, arguments
        assert expected in err
        assert len(err.strip().splitlines()) == 1


def test_an_interruption_prints_how_to_continue(run, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("serzoo.recipes.list_recipes", interrupt)
    code, _, err = run("list")
    assert code == 130
    assert err.startswith("interrupted; the same command continues a training")


def test_one_bad_recording_does_not_stop_the_others(run, model_file, tone, tmp_path):
    wav(tmp_path / "absurd.wav", 1e30 * tone_samples())
    code, out, err = run("predict", "--model", model_file, tone, tmp_path / "absurd.wav")
    assert code == 2
    assert "tone.wav: " in out
    assert "absurd.wav has samples of 1e+29" in err


def test_a_hostile_recipe_runs_no_code(run, tmp_path):
    path = tmp_path / "hostile.yaml"
    path.write_text(f"name: !!python/object/apply:os.system ['touch {tmp_path}/pwned']\n")
    code, _, err = run("cv", path)
    assert code == 2
    assert "hostile.yaml" in err
    assert not (tmp_path / "pwned").exists()


def test_a_classifier_with_more_classes_than_the_corpus_is_scored_on_the_shared_ones(run, model_file, tmp_path):
    serzoo.data.synthetic.write_corpus(tmp_path / "clips", "emodb", n_speakers=2)
    code, _, err = run("evaluate", model_file, "emodb", tmp_path / "clips", "-q")
    assert code == 2
    assert "boredom" in err
    code, out, err = run("evaluate", model_file, "emodb", tmp_path / "clips", "--shared-classes", "--json", "-q")
    assert code == 0
    assert json.loads(out)["n"] == 24
    assert json.loads(out)["recall"]["calm"] is None
    assert "may have been trained on these recordings" in err


def test_the_process_prints_one_line_and_exits_with_2(model_file, tmp_path):
    """Seen from outside, where TensorFlow's native notes would show."""
    (tmp_path / "text.wav").write_text("no audio")
    arguments = ["predict", "--model", str(model_file), str(tmp_path / "text.wav")]
    command = [sys.executable, "-c", "from serzoo.cli import main; main()", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "text.wav" in result.stderr
