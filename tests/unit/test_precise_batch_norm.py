"""Precise batch norm: the statistics, the layers that have them, and the weights for which they are computed."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import serzoo
from serzoo.data.epochs import epoch_order
from serzoo.data.examples import Examples
from serzoo.errors import ConfigError
from serzoo.settings import TrainingConfig
from serzoo.training.fit import fit
from serzoo.training.precise_batch_norm import recompute_batch_norm

CLASSES = ("angry", "happy", "sad")
TRAINING = TrainingConfig(batch_size=8, epochs=3, seed=3, jit_compile=False)
SMALL = {
    "timnet": {"n_features": 16, "n_blocks": 2, "filters": 4, "dropout": 0},
    "tbdm": {"n_features": 16, "n_blocks": 2, "filters": 4, "dropout": 0},
    "dense_tcn": {"n_features": 16, "n_channels": 1, "n_blocks": 2, "filters": 4, "stem_filters": 2, "dropout": 0}
    | {"augment": 0, "members": 2},
}


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    targets = np.arange(21) % 3
    features = rng.standard_normal((21, 12, 16)).astype(np.float32)
    features[:, :, 0] += 2 * targets[:, None]
    return Examples(features, targets, CLASSES)


def small(name="timnet", examples=None, **arguments):
    keras.utils.set_random_seed(1)
    model = serzoo.build(name, n_classes=3, **{**SMALL[name], **arguments})
    if model.normalization is not None and examples is not None:
        model.normalization.adapt(examples.features)
    return model


def fitting(name, examples):
    features = examples.features[..., None] if name == "dense_tcn" else examples.features
    return replace(examples, features=features)


def moving(model):
    return [np.asarray(value) for value in model.non_trainable_variables if value.name.startswith("moving_")]


@pytest.mark.parametrize("name", SMALL)
def test_with_one_batch_inference_equals_training_mode(examples, name):
    clips = fitting(name, examples)
    model = small(name, clips)
    recompute_batch_norm(model, clips, batch_size=len(clips), seed=0)
    in_training = np.asarray(model(clips.features, training=True))
    recompute_batch_norm(model, clips, batch_size=len(clips), seed=0)  # the line above changed them
    np.testing.assert_allclose(model(clips.features), in_training, atol=2e-5)


def test_quaternion_batch_norm_is_recomputed_too():
    rng = np.random.default_rng(0)
    clips = Examples(rng.standard_normal((6, 32, 16)).astype(np.float32), np.arange(6) % 3, CLASSES)
    model = serzoo.build("rh_emo", n_classes=3, n_features=16, n_frames_padded=32, head_width=8)
    before = moving(model)
    recompute_batch_norm(model, clips, batch_size=6, seed=0)
    assert len(before) > 0
    assert all(not np.array_equal(old, new) for old, new in zip(before, moving(model), strict=True))


def test_statistics_are_the_mean_over_full_batches(examples):
    inputs = keras.Input((12, 16))
    model = keras.Model(inputs, keras.layers.BatchNormalization(momentum=0.9)(inputs))
    recompute_batch_norm(model, examples, batch_size=8, seed=5)
    batches = examples.features[epoch_order(21, 5, 0)[:16]].reshape(2, -1, 16)  # the other five are an incomplete batch
    mean, variance = moving(model)
    np.testing.assert_allclose(mean, batches.mean(1).mean(0), atol=1e-5)
    np.testing.assert_allclose(variance, batches.var(1).mean(0), rtol=1e-4)
    assert model.layers[1].momentum == 0.9


def test_an_incomplete_batch_is_used_if_it_is_the_only_one(examples):
    model = small(examples=examples)
    before = moving(model)
    recompute_batch_norm(model, examples, batch_size=64, seed=0)
    assert not any(np.array_equal(old, new) for old, new in zip(before, moving(model), strict=True))


def test_momenta_are_restored_after_an_interruption(examples, monkeypatch):
    inputs = keras.Input((12, 16))
    norm = keras.layers.BatchNormalization(momentum=0.9)
    model = keras.Model(inputs, norm(inputs))

    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(norm, "call", interrupt)
    with pytest.raises(KeyboardInterrupt):
        recompute_batch_norm(model, examples, batch_size=8, seed=0)
    assert norm.momentum == 0.9


def test_a_frozen_model_is_refused(examples):
    model = small(examples=examples)
    model.trainable = False
    with pytest.raises(ConfigError, match=r"precise_norm is true, but timnet has no batch normalisation .* leave it"):
        fit(model, examples, training=replace(TRAINING, precise_norm=True), progress=False)


def test_a_model_without_batch_norm_is_refused():
    clips = Examples(np.zeros((3, 32, 32, 1), np.float32), np.arange(3), CLASSES)
    model = serzoo.build("vgg16", n_classes=3, n_frames_padded=32, n_features=32, width=1 / 16)
    with pytest.raises(ConfigError, match="vgg16 has no batch normalisation"):
        fit(model, clips, training=replace(TRAINING, precise_norm=True), progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("selection", ["last-epoch", "best-train-war"])
def test_a_training_recomputes_statistics_for_the_selected_weights(examples, selection):
    settings = replace(TRAINING, selection=selection)
    plain, precise = small(), small()
    fit(plain, examples, training=settings, progress=False)
    fit(precise, examples, training=replace(settings, precise_norm=True), progress=False)
    for ours, theirs in zip(precise.trainable_variables, plain.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    renewed = moving(precise)
    assert not any(np.array_equal(ours, theirs) for ours, theirs in zip(renewed, moving(plain), strict=True))
    recompute_batch_norm(plain, examples, batch_size=8, seed=3)
    for ours, theirs in zip(renewed, moving(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_restored_finished_training_has_the_same_statistics(examples, tmp_path):
    settings = replace(TRAINING, precise_norm=True)
    first, again = small(), small()
    fit(first, examples, training=settings, run_folder=tmp_path, progress=False)
    fit(again, examples, training=settings, run_folder=tmp_path, progress=False)
    for ours, theirs in zip(again.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
