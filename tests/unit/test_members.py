"""Members of a model: the mean of their outputs, and the loss that trains each as if it were alone."""

import keras
import numpy as np
import pytest
from keras import ops

import serzoo
from serzoo.layers.members import LogitsAverage
from serzoo.training.objectives import PREDICTION, Objective, TrainingNetwork

TARGETS = np.array([[1, 0, 0], [0.1, 0.8, 0.1], [0, 0.3, 0.7], [0, 0, 1]], np.float32)


def opinions(n_members=3, *, scale=3.0, seed=0):
    return list(np.random.default_rng(seed).normal(0, scale, (n_members, len(TARGETS), 3)).astype(np.float32))


def cross_entropy(targets, logits):
    return float(-(targets * np.asarray(ops.log_softmax(logits))).sum(-1).mean())


@pytest.mark.parametrize("scale", [0.1, 3.0, 80.0])
def test_the_loss_of_members_is_the_mean_of_their_own_losses(scale):
    logits, pool = opinions(scale=scale), LogitsAverage()
    together = np.asarray(pool(logits, training=True))
    loss = float(keras.losses.CategoricalCrossentropy()(TARGETS, ops.convert_to_tensor(together)))
    if scale < 10:  # beyond, Keras clips the probabilities that it is given without their logits
        own = np.mean([cross_entropy(TARGETS, opinion) for opinion in logits])
        assert loss + float(pool.losses[0]) == pytest.approx(own, rel=1e-5)
    assert float(pool.losses[0]) >= 0


def test_members_predict_the_geometric_mean_of_their_probabilities():
    logits = opinions()
    probabilities = np.stack([np.asarray(ops.softmax(opinion)) for opinion in logits])
    geometric = np.exp(np.log(probabilities).mean(0))
    np.testing.assert_allclose(LogitsAverage()(logits), geometric / geometric.sum(-1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(LogitsAverage(None)(logits), np.mean(logits, axis=0), rtol=1e-5, atol=1e-6)


def test_members_that_agree_add_no_loss_and_inference_adds_none():
    (one,) = opinions(1)
    agreeing, answering, alone = LogitsAverage(), LogitsAverage(), LogitsAverage()
    agreeing([one, one + 5.0], training=True)
    answering(opinions())
    alone([one], training=True)
    assert float(agreeing.losses[0]) == pytest.approx(0, abs=1e-6)
    assert not answering.losses
    assert not alone.losses


def small(members, **arguments):
    size = {"n_features": 8, "n_blocks": 2, "filters": 4, "stem_filters": 2}
    return serzoo.build("dense_tcn", n_classes=3, members=members, **{**size, "augment": 0, "dropout": 0, **arguments})


@pytest.mark.slow
def test_a_member_is_trained_as_if_it_were_alone():
    """One step of gradient descent leaves each member where a network of its own, trained alone, is."""
    rng = np.random.default_rng(1)
    clips = rng.normal(size=(len(TARGETS), 20, 8, 3)).astype(np.float32)
    together, alone = small(2), [small(1), small(1)]
    pairs = [
        (layer, together.get_layer(f"member_{member}_{layer.name}"))
        for member, network in enumerate(alone, 1)
        for layer in network.layers
        if layer.weights
    ]
    for layer, of_member in pairs:
        of_member.set_weights(layer.get_weights())
    rates = ((together, 0.2), (alone[0], 0.1), (alone[1], 0.1))  # the mean of two losses halves gradients
    for network, rate in rates:
        network.compile(keras.optimizers.SGD(rate), keras.losses.CategoricalCrossentropy(), jit_compile=False)
        network.train_on_batch(clips, TARGETS)
    assert sum(len(layer.weights) for layer, _ in pairs) == len(together.weights)
    for layer, of_member in pairs:
        for theirs, ours in zip(layer.get_weights(), of_member.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-6, err_msg=layer.name)


class OfClasses(Objective):
    """The default loss of a model without an objective."""

    term_names = ("classes",)

    def outputs(self, model):
        return {PREDICTION: model.output}

    def terms(self, targets, outputs, sample_weight):
        return (keras.losses.CategoricalCrossentropy()(targets, outputs[PREDICTION]),)

    def fingerprint(self):
        return b""


def test_members_have_their_own_losses_under_an_objective_too():
    clips = np.random.default_rng(1).normal(size=(len(TARGETS), 20, 8, 3)).astype(np.float32)
    model = small(2)
    trained = {"alone": model.without_training_state(), "objective": TrainingNetwork(model, OfClasses())}
    trained["alone"].compile(loss=keras.losses.CategoricalCrossentropy())
    losses = {
        name: float(network.compute_loss(clips, TARGETS, network(clips, training=True), training=True))
        for name, network in trained.items()
    }
    assert float(model.get_layer("classifier").losses[0]) > 1e-4
    assert losses["objective"] == pytest.approx(losses["alone"], rel=1e-5)


def test_members_are_as_many_networks():
    one, three = small(1, augment=0.5), small(3, augment=0.5)
    assert three.count_params() - n_random(three) == 3 * (one.count_params() - n_random(one))
    assert three.feature_layers == tuple(f"member_{member}_block_{block}" for member in (1, 2, 3) for block in (1, 2))
    assert three.embedding_model().output_shape == (None, 3 * one.embedding_model().output_shape[-1])


def n_random(model):
    """Return how many of the numbers that Keras counts as weights are states of random generators."""
    return sum(int(np.prod(variable.shape)) for variable in model.non_trainable_variables if "seed" in variable.path)


def test_each_member_has_its_own_augmentation():
    model = small(2, augment=1.0)
    clips = np.random.default_rng(2).normal(size=(1, 40, 8, 3)).astype(np.float32)
    augmented = keras.Model(model.input, [model.get_layer(f"member_{number}_augment").output for number in (1, 2)])
    first, second = (np.asarray(changed) for changed in augmented(clips, training=True))
    assert np.abs(first - second).max() > 0.1
