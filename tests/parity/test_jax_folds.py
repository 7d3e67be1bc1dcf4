"""Folds as one program give the numbers of one after another; on JAX only (make test-slow)."""

import subprocess
import sys
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest

import serzoo
from serzoo.data.examples import Examples
from serzoo.errors import WeightsError
from serzoo.models import MODELS
from serzoo.settings import OptimizerConfig, SpecAugmentConfig, TrainingConfig
from serzoo.training import callbacks
from serzoo.training.callbacks import FitSession
from serzoo.training.compiling import ModelPool
from serzoo.training.fit import fit

if keras.backend.backend() != "jax":
    pytest.skip("folds train as one program on JAX only", allow_module_level=True)

from serzoo.training.jax_folds import Training, fit_folds

CLASSES = ("calm", "angry", "sad")
N_CLIPS, N_FRAMES, N_FEATURES = 23, 3, 16
FOLDS = ([0, 1, 2, 3, 4, 5], [6, 7], [8, 9, 10, 11, 12, 13])
"""Test parts: training parts of 17, 21 and 17 clips, so of two full batches and different last ones."""

SETTINGS = TrainingConfig(OptimizerConfig(epsilon=1e-3), epochs=3, batch_size=8, seed=5)
"""With a small epsilon, Adam turns the noise in the gradient of a bias before batch normalisation into steps."""

SMALL = {
    "timnet": {"n_blocks": 1, "filters": 4},
    "tbdm": {"n_blocks": 1, "filters": 4},
    "acrnn": {
        "n_channels": 2,
        "n_convs": 1,
        "filters": [3, 4],
        "projection": 5,
        "lstm_units": 3,
        "attention_width": 3,
        "dense_units": 4,
    },
    "vgg16": {"n_frames_padded": 32, "n_features": 32, "width": 1 / 16},
    "qvgg16": {"embedding": None, "n_channels": 4, "n_features": 32, "n_frames_padded": 32, "width": 1 / 16},
    "dense_tcn": {"n_features": 8, "n_blocks": 1, "filters": 4, "stem_filters": 2, "members": 2},
    "rh_emo": {"n_features": 6, "n_frames_padded": 40, "head_width": 8},
}


def build(name="embedding_dnn", **arguments):
    keras.utils.set_random_seed(1)
    sizes = {"n_features": N_FEATURES, "n_frames": N_FRAMES} if name == "embedding_dnn" else {}
    return serzoo.build(name, class_names=CLASSES, **{**sizes, **arguments})


def clips(shape=(N_FRAMES, N_FEATURES), counts=None, **others):
    rng = np.random.default_rng(0)
    targets = np.arange(N_CLIPS) % 3
    of_segments = targets if counts is None else np.repeat(targets, counts)
    offsets = of_segments.reshape(-1, *[1] * len(shape))
    features = rng.normal(size=(len(of_segments), *shape)).astype(np.float32) + offsets.astype(np.float32)
    return Examples(features, targets, CLASSES, segment_counts=counts, **others)


def parts(test, **held_out):
    taken = np.concatenate([test, *held_out.values()])
    return {
        "train": np.setdiff1d(np.arange(N_CLIPS), taken),
        **{name: np.array(rows) for name, rows in held_out.items()},
    }


def both(make, settings, examples, splits):
    """Return models and histories of trainings one after another, and of the same as one program."""
    alone, bench = [], ModelPool()
    for number, split in enumerate(splits):
        model, own = make(), examples[number]
        held_out = {f"{name}_data": own.select(rows) for name, rows in split.items() if name != "train"}
        history = fit(
            model, own.select(split["train"]), training=settings[number], progress=False, model_pool=bench, **held_out
        )
        alone.append((model, history))
    trainings = [Training(make(), *each) for each in zip(settings, examples, splits, strict=True)]
    histories = dict(fit_folds(trainings, progress=False))
    return alone, [(training.model, histories[number]) for number, training in enumerate(trainings)]


def check_same(alone, together, tolerance=2e-4):
    for (model, history), (other, its) in zip(alone, together, strict=True):
        assert history.selected_epoch == its.selected_epoch
        assert len(history.records) == len(its.records)
        for record, found in zip(history.records, its.records, strict=True):
            assert list(record) == list(found)
            np.testing.assert_allclose(list(found.values()), list(record.values()), rtol=tolerance, atol=tolerance)
        for weights, found in zip(model.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(found, weights, rtol=tolerance, atol=tolerance)


@pytest.mark.jax
def test_folds_of_different_sizes_that_differ_in_seed_too():
    settings = [replace(SETTINGS, seed=seed) for seed in (5, 5, 6)]
    alone, together = both(build, settings, [clips()] * 3, [parts(test) for test in FOLDS])
    check_same(alone, together)
    first, _, last = (model.get_weights()[0] for model, _ in together)
    assert np.abs(first - last).max() > 1e-3, "trainings of their own"


@pytest.mark.jax
def test_all_that_can_differ_between_folds():
    """Statistics, genders, class weights, masks, segments, logits and a rule that scores the training part."""
    counts = np.arange(N_CLIPS) % 3 + 1
    masks = SpecAugmentConfig(time_masks=1, time_width=2, feature_masks=1, feature_width=4)
    nadam = replace(SETTINGS.optimizer, name="nadam")
    changed = {"class_weights": True, "spec_augment": masks, "selection": "best-train-war", "optimizer": nadam}
    settings = replace(SETTINGS, precise_norm=True, **changed)
    rng = np.random.default_rng(3)
    data = [clips(counts=counts, genders=rng.random(N_CLIPS).astype(np.float32)) for _ in FOLDS]

    def make():
        return build(normalization="real-frames", gender_columns=2, classifier_activation=None)

    alone, together = both(make, [settings] * 3, data, [parts(test) for test in FOLDS])
    check_same(alone, together)
    assert "train_uar" in together[0][1].records[0]


@pytest.mark.jax
def test_mixtures_and_a_schedule_with_decaying_weights():
    decaying = replace(SETTINGS.optimizer, weight_decay=0.1, learning_rate=0.01)
    settings = replace(SETTINGS, optimizer=decaying, mixup=0.4, schedule="cosine", warmup_epochs=1)
    genders = np.random.default_rng(3).random(N_CLIPS).astype(np.float32)
    mixed = partial(build, gender_columns=1)
    alone, together = both(mixed, [settings] * 3, [clips(genders=genders)] * 3, [parts(test) for test in FOLDS])
    check_same(alone, together)
    plain = [replace(settings, **{name: getattr(SETTINGS, name)}) for name in ("mixup", "schedule", "optimizer")]
    others = both(mixed, plain, [clips(genders=genders)] * 3, [parts(FOLDS[0])] * 3)[0]
    for model, _ in others:  # each setting counts
        assert np.abs(model.get_weights()[0] - together[0][0].get_weights()[0]).max() > 1e-4


@pytest.mark.jax
def test_each_fold_has_its_own_best_epoch_and_early_stopping():
    settings = replace(SETTINGS, epochs=4, selection="best-validation-loss", patience=1)
    settings = replace(settings, optimizer=replace(settings.optimizer, learning_rate=0.2))
    splits = [parts(test, validation=rows) for test, rows in zip(FOLDS, ([6, 7], [0, 1, 2], [20]), strict=True)]
    alone, together = both(build, [settings] * 3, [clips()] * 3, splits)
    check_same(alone, together, tolerance=2e-3)
    lengths = [len(history.records) for _, history in together]
    assert len(set(lengths)) > 1
    assert max(lengths) < 4


@pytest.mark.jax
def test_either_way_resumes_the_state_of_the_other(tmp_path):
    """Both end with the same weights."""
    trained, split = clips(), parts(FOLDS[0])
    whole, folder = build(), tmp_path / "fold01"
    fit(whole, trained.select(split["train"]), training=SETTINGS, progress=False, model_pool=ModelPool())

    class Stopped(Exception):
        pass

    save = FitSession._save

    def save_then_stop(session, path):
        save(session, path)
        raise Stopped

    trainings = [Training(build(), SETTINGS, trained, split, folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks, "_SAVE_EVERY_SECONDS", 0.0)
        patch.setattr(FitSession, "_save", save_then_stop)
        with pytest.raises(Stopped):
            list(fit_folds(trainings, progress=True))
    assert (folder / "state.npz").exists()
    model = build()
    history = fit(model, trained.select(split["train"]), training=SETTINGS, run_folder=folder, progress=False)
    assert len(history.records) == SETTINGS.epochs
    for weights, found in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(found, weights, rtol=2e-4, atol=2e-4)

    again = [Training(build(), SETTINGS, trained, split, folder)]
    assert len(dict(fit_folds(again, progress=False))[0].records) == SETTINGS.epochs, "it is over: nothing is trained"
    for weights, found in zip(whole.get_weights(), again[0].model.get_weights(), strict=True):
        np.testing.assert_allclose(found, weights, rtol=2e-4, atol=2e-4)


@pytest.mark.jax
@pytest.mark.parametrize("broken", [0, 1])
def test_a_diverged_training_does_not_affect_the_others(broken):
    settings = replace(SETTINGS, epochs=2, selection="best-train-war")
    trainings = [Training(build(), settings, clips(), parts(test)) for test in FOLDS[:2]]
    model = trainings[broken].model
    model.set_weights([np.full_like(weights, np.nan) for weights in model.get_weights()])
    found = fit_folds(trainings, progress=False)
    number, history = next(found)
    assert (number, len(history.records)) == (1 - broken, 2)
    with pytest.raises(WeightsError, match="embedding_dnn predicts NaN"):
        next(found)


SLOW_TO_COMPILE = {"vgg16", "qvgg16", "rh_emo", "tbdm"}
"""Models whose layers others have too; XLA takes minutes to compile their trainings."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in SLOW_TO_COMPILE else pytest.mark.jax)
        for name in MODELS
        if name != "embedding_dnn"
    ],
)
def test_any_model_of_the_zoo(name):
    settings = replace(SETTINGS, epochs=1, batch_size=16, optimizer=replace(SETTINGS.optimizer, learning_rate=1e-3))
    model = build(name, **SMALL[name])
    n_frames = min(model.max_frames or 12, max(model.min_frames, 12))
    genders = {"genders": (np.arange(N_CLIPS) % 2).astype(np.float32)} if model.takes_gender else {}
    examples = clips((n_frames, *model.frame_shape), **genders)
    splits = [parts([0, 1, 2, 3, 4, 5, 6]), parts([7, 8, 9, 10, 11, 12, 13])]
    alone, together = both(lambda: build(name, **SMALL[name]), [settings] * 2, [examples] * 2, splits)
    check_same(alone, together, tolerance=1e-3)


@pytest.mark.jax
def test_a_cross_validation_needs_no_tensorflow(tmp_path):
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from serzoo.cli import main\n"
        f"sys.argv = ['serzoo', 'cv', 'timnet-synthetic', '--run', {str(tmp_path)!r}, '--folds', '1-2', '--quiet',\n"
        "    '--set', 'training.epochs=1', '--set', 'model.arguments.n_blocks=1',\n"
        "    '--set', 'protocol=random10-seed46-v1']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(tmp_path.glob("fold*/predictions.csv"))) == 2
