"""``serzoo.fit`` and ``serzoo.evaluate`` as a Keras user calls them: arrays, a tf.data.Dataset, callbacks."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import serzoo
from serzoo.data.examples import Examples
from serzoo.data.pipeline import training_dataset
from serzoo.errors import ConfigError, DataError, FeatureError
from serzoo.settings import SpecAugmentConfig, TrainingConfig

CLASSES = ("angry", "happy", "sad")
TRAINING = TrainingConfig(jit_compile=False)


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)
    targets = np.arange(30) % 3
    features = rng.standard_normal((30, 12, 5)).astype(np.float32)
    features[:, :, 0] += 2 * targets[:, None]
    return Examples(features, targets, CLASSES)


def model(**arguments):
    keras.utils.set_random_seed(0)
    sizes = {"n_features": 5, "n_blocks": 1, "filters": 4, "backward": False}
    return serzoo.build("timnet", class_names=CLASSES, **sizes, **arguments)


def dataset(examples, batch_size=8):
    return tf.data.Dataset.from_tensor_slices((examples.features, examples.targets)).batch(batch_size)


def weights_after(x, y=None, **settings):
    trained = model()
    history = serzoo.fit(trained, x, y, progress=False, **{"training": TRAINING, "epochs": 2, **settings})
    return trained.get_weights(), history


def assert_equal(one, other):
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


def test_settings_may_be_arguments(examples):
    shorthand, history = weights_after(examples.features, examples.targets, epochs=3, batch_size=10, learning_rate=0.01)
    optimizer = dataclasses.replace(TRAINING.optimizer, learning_rate=0.01)
    whole = dataclasses.replace(TRAINING, epochs=3, batch_size=10, optimizer=optimizer)
    expected, _ = weights_after(examples, training=whole, epochs=None)
    assert_equal(shorthand, expected)
    assert len(history.history["loss"]) == len(history.records) == 3


def test_a_dataset_of_the_same_batches_gives_the_same_weights(examples):
    once = dataclasses.replace(TRAINING, epochs=1, batch_size=8)
    plain = dataclasses.replace(once, label_smoothing=0.0)
    batches = training_dataset(examples, plain)  # one epoch, in the order of the recipe's own path
    with_indices = batches.map(lambda x, y: (x, tf.argmax(y, axis=1)))
    expected, _ = weights_after(examples, training=once, epochs=1, batch_size=8)
    for given in (batches, with_indices):
        assert_equal(weights_after(given, training=once, epochs=1)[0], expected)


@pytest.mark.parametrize("change", [lambda data: data, lambda data: data.filter(lambda x, y: True)])
def test_every_epoch_is_one_pass_over_the_dataset(examples, change):
    """The number of batches need not be known beforehand: after a filter it is not."""
    steps = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
    weights_after(change(dataset(examples)), callbacks=[count])
    assert steps == [0, 1, 2, 3] * 2


def test_callbacks_find_all_scores(examples):
    logs = []
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, found: logs.append(dict(found)))
    _, history = weights_after(examples, validation_data=dataset(examples), callbacks=[record])
    assert [{name: float(value) for name, value in found.items()} for found in logs] == list(history.records)
    assert {"loss", "war", "validation_loss", "validation_uar"} <= set(logs[0])


def test_genders_come_in_a_dataset_too(examples):
    genders = np.linspace(0, 1, len(examples), dtype=np.float32)
    inputs = {"features": examples.features, "gender": genders[:, None]}
    with_gender = model(gender_columns=1)
    data = tf.data.Dataset.from_tensor_slices((inputs, examples.targets)).batch(8)
    serzoo.fit(with_gender, data, epochs=1, training=TRAINING, progress=False)
    assert serzoo.evaluate(with_gender, data) == serzoo.evaluate(with_gender, (inputs, examples.targets))


def test_statistics_are_those_of_the_dataset(examples):
    trained = serzoo.build("embedding_dnn", n_classes=3, n_features=5, normalization="real-frames")
    averaged = examples.features.mean(axis=1, keepdims=True)
    data = tf.data.Dataset.from_tensor_slices((averaged, examples.targets)).batch(7)
    serzoo.fit(trained, data, epochs=1, training=TRAINING, progress=False)
    trained.check_statistics()
    np.testing.assert_allclose(trained.normalization.mean, averaged.mean(axis=(0, 1)), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "settings", "error", "message"),
    [
        (lambda data: data.unbatch(), {}, FeatureError, "features have 2 axes, the model takes 3 with the batch; call"),
        (lambda data: data.repeat(), {}, DataError, "The dataset has no end; leave out repeat"),
        (lambda data: data.take(0), {}, DataError, "The dataset is empty"),
        (lambda data: data.map(lambda x, y: x), {}, DataError, "The dataset's elements are not pairs"),
        (lambda data: data.map(lambda x, y: (x[:, :, :4], y)), {}, FeatureError, "12 x 4"),
        (lambda data: data.map(lambda x, y: (x, y + 1)), {}, DataError, "Targets run from 1 to 3; 3 classes allow"),
        (lambda data: data, {"batch_size": 4}, ConfigError, "batch_size is 4, but the dataset has batches already"),
        (lambda data: data, {"epochs": 0}, ConfigError, "epochs is 0; it must be an integer of at least 1"),
        (lambda data: data, {"learning_rate": -1.0}, ConfigError, r"learning_rate is -1\.0; it must be a number above"),
        (lambda data: data, {"callbacks": [print]}, ConfigError, "callbacks has <built-in function print>; give"),
        (lambda data: [1, 2, 3], {}, DataError, "The data is list; give a manifest"),
        (
            lambda data: data,
            {"training": dataclasses.replace(TRAINING, spec_augment=SpecAugmentConfig(1))},
            ConfigError,
            "training.spec_augment is set, but a dataset is trained on as it is",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(examples, change, settings, error, message):
    with pytest.raises(error, match=message) as caught:
        weights_after(change(dataset(examples)), **settings)
    assert "\n" not in str(caught.value)
