"""Training on all recordings: a model to use."""

import dataclasses

import numpy as np
import pytest

import serzoo
from serzoo.data.cache import FeatureCache
from serzoo.errors import ConfigError
from serzoo.experiments import train_all as train_all_module
from serzoo.experiments.provenance import read_provenance
from serzoo.experiments.train_all import train_all
from serzoo.features.spec import MFCCSpec
from serzoo.recipes import Recipe
from serzoo.settings import GenderConfig, ModelConfig, TrainingConfig
from serzoo.training.callbacks import FitSession

RECIPE = Recipe(
    name="small",
    corpus="synthetic",
    model=ModelConfig("timnet", {"n_blocks": 1, "filters": 4}),
    features=MFCCSpec(sample_rate=16_000, n_samples=16_000, n_mfcc=13),
    protocol="loso-v1",
    training=TrainingConfig(batch_size=64, epochs=2, seed=3, jit_compile=False),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return FeatureCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def model(tmp_path_factory, cache, no_plots):
    return train_all(RECIPE, run_folder=tmp_path_factory.mktemp("run"), cache=cache, progress=False)


def test_every_recording_is_trained_on_and_no_state_remains(model):
    assert model.parent.name == "all"
    n_recordings = len(serzoo.data.load_corpus("synthetic"))
    assert len(read_provenance(model)) == n_recordings
    assert sorted(path.name for path in model.parent.iterdir() if path.is_file()) == [
        "environment.json",
        "history.csv",
        "model.keras",
        "provenance.txt",
    ]
    assert serzoo.load(model).class_names == serzoo.data.load_corpus("synthetic").class_names


def test_a_finished_model_is_not_trained_again(model, cache, monkeypatch):
    before = model.read_bytes()
    monkeypatch.setattr(train_all_module, "train", None)
    assert train_all(RECIPE, run_folder=model.parents[1], cache=cache, progress=False) == model
    assert model.read_bytes() == before


@pytest.mark.slow
def test_an_interrupted_training_resumes(model, cache, tmp_path, monkeypatch, no_plots):
    save = FitSession._save

    def save_then_stop(self, path):
        save(self, path)
        raise KeyboardInterrupt

    monkeypatch.setattr("serzoo.training.callbacks._SAVE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(FitSession, "_save", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train_all(RECIPE, run_folder=tmp_path, cache=cache, progress=False)
    monkeypatch.setattr(FitSession, "_save", save)
    assert (tmp_path / "all" / "state.npz").exists()
    resumed = train_all(RECIPE, run_folder=tmp_path, cache=cache, progress=False)
    assert not (tmp_path / "all" / "state.npz").exists()
    for own, expected in zip(
        serzoo.load(resumed).model.get_weights(), serzoo.load(model).model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(own, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training.selection": "best-validation-uar"},
            "training.selection is best-validation-uar, but no recordings are held out",
        ),
        (
            {"training.selection": "leaky-best-test-war"},
            "training.selection is leaky-best-test-war, but no recordings are held out",
        ),
        ({"gender.train_on": "female"}, "gender.train_on is female, but all recordings are used; set it to all"),
        (
            {"model.name": "svc", "model.arguments": {}},
            "svc is a classical classifier; only networks train on all recordings",
        ),
    ],
)
def test_recipes_that_need_held_out_recordings_are_refused(tmp_path, changes, message):
    changed = dataclasses.replace(RECIPE, training=TrainingConfig()) if "model.name" in changes else RECIPE
    with pytest.raises(ConfigError, match=message):
        train_all(changed, run_folder=tmp_path, changes=changes, progress=False)
    assert not list(tmp_path.iterdir())


def test_genders_predicted_by_a_classifier_are_refused(tmp_path):
    recipe = dataclasses.replace(
        RECIPE,
        model=ModelConfig("timnet", {"n_blocks": 1, "filters": 4, "gender_columns": 1}),
        gender=GenderConfig(source="binary"),
    )
    with pytest.raises(ConfigError, match=r"gender\.source is binary, but its classifier needs a fold"):
        train_all(recipe, run_folder=tmp_path, progress=False)


@pytest.mark.slow
def test_the_command_prints_the_path_of_the_model(run, tmp_path, no_plots):
    small = ("model.arguments.n_blocks=1", "training.epochs=1", "training.selection=last-epoch")
    changes = [part for change in (*small, "training.jit_compile=false") for part in ("--set", change)]
    code, out, _ = run("train", "timnet-synthetic", "--all", "-q", "--run", str(tmp_path / "run"), *changes)
    assert code == 0
    assert out.strip().endswith(f"Model: {tmp_path / 'run' / 'all' / 'model.keras'}")


def test_a_fold_and_all_recordings_exclude_each_other(run):
    code, _, err = run("train", "timnet-synthetic", "--all", "--fold", "2")
    assert code == 2
    assert "--all trains on all recordings, --fold 2 leaves some out; choose one." in err
