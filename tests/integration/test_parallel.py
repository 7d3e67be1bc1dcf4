"""Folds that train at the same time: how many, and the same numbers as one after another."""

import warnings

import keras
import numpy as np
import pandas as pd
import pytest

import serzoo
from serzoo.errors import ConfigError, SerzooWarning, WeightsError
from serzoo.experiments import parallel
from serzoo.experiments.processes import quietly
from serzoo.recipes import load_recipe

TINY = {
    "protocol": "random10-seed46-v1",
    "model.arguments": {"n_blocks": 1, "filters": 4},
    "training.epochs": 2,
    "training.jit_compile": False,
}


@pytest.fixture
def tasks(synthetic_root, monkeypatch, tmp_path):
    """The tasks and the experiment that a cross-validation would train, of ten folds."""
    seen = []
    monkeypatch.setattr("serzoo.experiments.cross_validate.train_tasks", lambda *given, **_: seen.extend(given) or [])
    monkeypatch.setattr("serzoo.experiments.cross_validate._write_report", lambda *_: None)
    serzoo.cross_validate("timnet-synthetic", data_root=synthetic_root, run_folder=tmp_path, changes=TINY)
    return seen[:2]


def changed(tasks, **changes):
    return [parallel.Task(task.recipe.override(changes), task.fold) for task in tasks]


@pytest.mark.parametrize(
    ("backend", "devices", "changes", "expected"),
    [
        ("jax", ["gpu:0"], {}, 10),
        ("jax", ["cpu:0"], {"training.epochs": 5000}, 1),
        ("jax", ["gpu:0"], {"training.waveform_augment.gain_db": 3.0}, 1),
        ("tensorflow", ["GPU:0"], {"training.epochs": 5000}, 1),
        ("tensorflow", ["CPU:0"], {"training.epochs": 5000}, 4),
        ("tensorflow", ["CPU:0"], {"training.epochs": 5}, 1),
        ("tensorflow", ["CPU:0"], {"training.epochs": 5000, "model.arguments.filters": 600}, 1),
    ],
)
def test_the_fastest_number_of_folds_is_chosen(tasks, monkeypatch, backend, devices, changes, expected):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: devices)
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    assert parallel.choose_at_once(changed(tasks[0], **changes), tasks[1]) == expected


@pytest.mark.parametrize("at_once", [0, -1, True, 1.5])
def test_a_wrong_number_is_refused_before_anything_is_read(at_once):
    with pytest.raises(ConfigError, match=r"at_once is .*; it must be an integer of at least 1"):
        serzoo.cross_validate("timnet-synthetic", data_root="nowhere", at_once=at_once)


@pytest.mark.parametrize(
    ("recipe", "changes", "what"),
    [
        ("svc-ravdess-mfcc", {}, r"a classical classifier \(svc\)"),
        ("rh_emo-ravdess-actors", {}, "rh_emo"),
        ("timnet-ravdess", {"training.waveform_augment.gain_db": 3.0}, "training.waveform_augment"),
    ],
)
def test_recipes_that_cannot_be_one_program_are_refused_on_jax(monkeypatch, recipe, changes, what):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    recipe = load_recipe(recipe).override(changes)
    parallel.check_at_once(recipe, 1)
    parallel.check_at_once(recipe, None)
    with pytest.raises(ConfigError, match=f"at_once is 2, but on JAX {what} cannot be trained as one program"):
        parallel.check_at_once(recipe, 2)


def test_processes_do_not_share_an_accelerator(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["GPU:0"])
    with pytest.raises(ConfigError, match="at_once is 2, but processes cannot share one accelerator"):
        parallel.check_at_once(load_recipe("timnet-ravdess"), 2)


def test_seeds_are_trained_one_after_another_on_an_accelerator(tasks, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    assert parallel.choose_at_once(tasks[0] + changed(tasks[0], **{"training.seed": 9}), tasks[1]) == 10


def warn_and_add(one, other):
    warnings.warn("be careful", SerzooWarning, stacklevel=2)
    warnings.warn("be careful", SerzooWarning, stacklevel=2)
    return one + other


def test_warnings_of_a_process_are_returned_once():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quietly(warn_and_add, 1, 2) == (3, ["be careful"])


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="on JAX folds are one program")
def test_processes_give_the_numbers_of_one_after_another(run, synthetic_root, tmp_path):
    changes = [f"--set={key}={str(value).lower()}" for key, value in TINY.items() if key != "model.arguments"]
    changes += ["--set=model.arguments.n_blocks=1", "--set=model.arguments.filters=4"]
    common = ["cv", "timnet-synthetic", "--data", str(synthetic_root), "--folds", "1-3", *changes]
    for at_once in ("1", "2"):
        code, _, error = run(*common, "--at-once", at_once, "--run", str(tmp_path / at_once))
        assert code == 0, error
    assert "folds, 2 at a time" in error
    for fold in ("fold01", "fold02", "fold03"):
        alone, parallel_fold = (pd.read_csv(tmp_path / at_once / fold / "predictions.csv") for at_once in ("1", "2"))
        pd.testing.assert_frame_equal(alone, parallel_fold, check_exact=False, rtol=1e-3, atol=1e-3)
        assert np.isfinite(alone.filter(like="p_").to_numpy()).all()


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="on JAX folds are one program")
def test_an_error_in_a_process_is_the_same_error(synthetic_root, tmp_path, capfd):
    changes = {**TINY, "training.optimizer.learning_rate": 1e30}
    common = {"data_root": synthetic_root, "run_folder": tmp_path, "folds": [1, 2], "progress": False}
    with pytest.raises(WeightsError, match="training diverged"):
        serzoo.cross_validate("timnet-synthetic", changes=changes, at_once=2, **common)
    assert not list(tmp_path.glob("fold*/model.keras")), "a diverged training leaves no model"
    assert "absl::InitializeLog" not in capfd.readouterr().err, "no notes of TensorFlow's start"
