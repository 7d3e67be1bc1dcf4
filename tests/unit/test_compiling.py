"""Trainings that share a compiled network give the same numbers as trainings with a network each."""

import keras
import numpy as np
import pytest

import serzoo
from serzoo.settings import OptimizerConfig, TrainingConfig
from serzoo.training import compiling
from serzoo.training.compiling import ModelPool
from serzoo.training.fit import fit

CLASSES = ("angry", "happy", "sad")
TRAINING = TrainingConfig(epochs=2, batch_size=8, jit_compile=False)


def built(seed: int, **arguments: object) -> serzoo.models.base.SERModel:
    keras.utils.set_random_seed(seed)
    settings = {"n_features": 6, "normalization": "real-frames", "dropout": 0.4, **arguments}
    return serzoo.build("embedding_dnn", class_names=CLASSES, **settings)


def data(seed: int, n_clips: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_clips, 1, 6)).astype("float32"), rng.integers(0, 3, n_clips)


@pytest.fixture
def compiled(monkeypatch):
    """The networks that were compiled for a model pool."""
    networks, compile_network = [], compiling.compile_network

    def remember(network, model, training):
        networks.append(network)
        compile_network(network, model, training)

    monkeypatch.setattr(compiling, "compile_network", remember)
    return networks


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["last-epoch", "best-validation-uar"])
def test_a_model_pool_changes_no_digit(compiled, rule):
    training = TrainingConfig(epochs=3, batch_size=8, jit_compile=False, selection=rule)
    held_out = {"validation_data": data(9)} if rule.startswith("best") else {}
    bench = ModelPool()
    for seed in (1, 2, 3):
        alone, turn = built(seed), built(seed)
        histories = [
            fit(model, data(seed), training=training, progress=False, **held_out, **where)
            for model, where in ((alone, {}), (turn, {"model_pool": bench}))
        ]
        assert histories[0] == histories[1]
        for ours, theirs in zip(turn.get_weights(), alone.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert turn.normalization.is_adapted
    assert len(compiled) == 1


def test_the_model_has_the_weights_of_an_interrupted_training(monkeypatch):
    model, bench = built(1), ModelPool()
    before = model.get_weights()
    lent = bench.compiled(model, TRAINING)

    def interrupt(*arguments, **settings):
        lent.trainable_variables[0].assign_add(keras.ops.ones_like(lent.trainable_variables[0]))
        raise KeyboardInterrupt

    monkeypatch.setattr(lent, "fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(model, data(1), training=TRAINING, model_pool=bench, progress=False)
    learned = [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert any(learned)
    np.testing.assert_array_equal(model.trainable_variables[0], lent.trainable_variables[0])


@pytest.mark.parametrize(
    ("arguments", "training"),
    [
        ({"dropout": 0.1}, TRAINING),
        ({}, TrainingConfig(jit_compile=False, optimizer=OptimizerConfig(learning_rate=0.5))),
        ({}, TrainingConfig(jit_compile=False, optimizer=OptimizerConfig(name="nadam"))),
        ({}, TrainingConfig(jit_compile=True)),
    ],
)
def test_another_model_or_setting_is_compiled_again(compiled, arguments, training):
    bench = ModelPool()
    first = bench.compiled(built(1), TRAINING)
    assert bench.compiled(built(2), TrainingConfig(epochs=7, seed=5, jit_compile=False)) is first
    other = bench.compiled(built(3, **arguments), training)
    assert other is not first
    assert len(compiled) == 2
    rate = training.optimizer.learning_rate
    assert float(other.optimizer.learning_rate) == pytest.approx(rate)


def test_the_pooled_network_starts_untrained():
    bench = ModelPool()
    fit(built(1), data(1), training=TRAINING, model_pool=bench, progress=False)
    model = built(2)
    lent = bench.compiled(model, TRAINING)
    for ours, theirs in zip(lent.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not lent.normalization.is_adapted
    assert int(lent.optimizer.iterations) == 0
    moments = [v for v in lent.optimizer.variables if v.shape and "learning_rate" not in v.path]
    assert moments
    assert all(not np.asarray(v).any() for v in moments)
