"""What DenseTCN does to spectrograms: their level, random changes in training, pooling over time."""

import keras
import numpy as np
import pytest
from keras import ops

import serzoo
from serzoo.errors import ConfigError
from serzoo.layers.augmentation import SpectrogramAugment
from serzoo.layers.loudness import ClipDynamicRange
from serzoo.layers.pooling import VARIANCE_FLOOR, AttentiveStatistics

OFF = {
    "time_stretch": 0.0,
    "time_shift": 0.0,
    "band_stretch": 0.0,
    "band_shift": 0.0,
    "gain": 0.0,
    "time_masks": 0,
    "band_masks": 0,
}


def augmented(inputs, seed=0, **changes):
    return ops.convert_to_numpy(SpectrogramAugment(**{**OFF, **changes}, seed=seed)(inputs, training=True))


@pytest.fixture
def clips():
    return np.random.default_rng(0).normal(size=(6, 20, 8)).astype(np.float32)


def test_nothing_changes_outside_training_or_at_zero(clips):
    np.testing.assert_array_equal(SpectrogramAugment()(clips, training=False), clips)
    np.testing.assert_allclose(augmented(clips), clips, atol=1e-6)


@pytest.mark.parametrize("change", [{"time_shift": 5.0}, {"time_stretch": 0.3}, {"gain": 3.0}, {"time_masks": 1}])
def test_each_clip_has_its_own_draws_and_the_seed_repeats_them(clips, change):
    same = np.repeat(clips[:1], 6, axis=0)
    found = augmented(same, **change)
    assert np.abs(found - found[0]).max() > 0.01
    np.testing.assert_array_equal(augmented(same, **change), found)
    assert np.abs(augmented(same, seed=1, **change) - found).max() > 0.01


@pytest.mark.parametrize(("argument", "axis"), [("time_shift", 1), ("band_shift", 2)])
def test_a_ramp_is_shifted_by_no_more_than_the_bound_and_repeats_its_edge(argument, axis):
    size = 30
    ramp = np.arange(size, dtype=np.float32).reshape((1, size, 1) if axis == 1 else (1, 1, size))
    found = augmented(np.broadcast_to(ramp, (200, size, size)).copy(), **{argument: 4.0})
    shifts = np.moveaxis(found - ramp, axis, 1)[:, :, 0]
    middle = shifts[:, size // 2]
    assert -4 <= middle.min() < -3
    assert 3 < middle.max() <= 4
    expected = np.clip(np.arange(size) + middle[:, None], 0, size - 1) - np.arange(size)
    np.testing.assert_allclose(shifts, expected, atol=1e-4)


@pytest.mark.parametrize(("argument", "axis"), [("time_stretch", 1), ("band_stretch", 2)])
def test_a_ramp_is_stretched_around_its_middle(argument, axis):
    size = 31
    ramp = np.arange(size, dtype=np.float32).reshape((1, size, 1) if axis == 1 else (1, 1, size))
    found = augmented(np.broadcast_to(ramp, (200, size, size)).copy(), **{argument: 0.2})
    values = np.moveaxis(found, axis, 1)[:, :, 0]
    np.testing.assert_allclose(values[:, 15], 15, atol=1e-4)
    speeds = values[:, 16] - values[:, 15]
    assert np.exp(-0.2) <= speeds.min() < 0.86
    assert 1.17 < speeds.max() <= np.exp(0.2) + 1e-6


def test_gain_is_one_number_for_all_of_a_clip(clips):
    gains = augmented(clips, gain=3.0) - clips
    np.testing.assert_allclose(gains, np.broadcast_to(gains[:, :1, :1], gains.shape), atol=1e-5)
    assert np.abs(gains).max() <= 3.0


def test_masks_replace_bands_of_frames_and_of_mel_bands_by_the_clips_mean():
    ramps = np.broadcast_to(np.arange(100, dtype=np.float32).reshape(1, 10, 10), (300, 10, 10)).copy()
    found = augmented(ramps, time_masks=1, time_width=3, band_masks=1, band_width=2)
    hidden = np.isclose(found, 49.5)
    np.testing.assert_allclose(found[~hidden], ramps[~hidden])
    frames, bands = hidden.all(axis=2).sum(axis=1), hidden.all(axis=1).sum(axis=1)
    assert set(frames) == {0, 1, 2, 3}
    assert set(bands) == {0, 1, 2}


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_strength_scales_every_bound_and_width(strength):
    bounds = {"time_stretch": 0.2, "time_shift": 2.0, "band_stretch": 0.1, "band_shift": 1.0, "gain": 0.5}
    widths = {"time_width": 4, "band_width": 2}
    counts = {"time_masks": 2, "band_masks": 1}
    clips = np.random.default_rng(0).normal(size=(20, 30, 8)).astype("float32")
    scaled = {name: value * strength for name, value in bounds.items()}
    scaled |= {name: round(value * strength) for name, value in widths.items()}
    np.testing.assert_array_equal(
        augmented(clips, strength=strength, **bounds, **widths, **counts), augmented(clips, **scaled, **counts)
    )
    np.testing.assert_array_equal(augmented(clips, strength=0.0, **bounds, **widths, **counts), clips)


@pytest.mark.parametrize("augment", [0, 0.4, True])
def test_dense_tcn_augments_with_the_given_strength(augment):
    model = serzoo.build("dense_tcn", n_classes=2, n_features=8, n_blocks=1, augment=augment)
    names = [layer.name for layer in model.layers]
    assert ("augment" in names) == bool(augment)
    if augment:
        assert model.get_layer("augment").strength == augment
    assert type(model).from_config(model.get_config()).arguments["augment"] == augment


def test_masks_are_no_wider_than_the_clip():
    assert np.isfinite(augmented(np.ones((50, 2, 3), np.float32), time_masks=2, time_width=30)).all()


@pytest.mark.parametrize(
    ("argument", "value", "kind"),
    [
        ("time_stretch", -1, "a number"),
        ("gain", float("nan"), "a number"),
        ("band_shift", "far", "a number"),
        ("strength", -0.5, "a number"),
        ("band_masks", 1.5, "an integer"),
        ("time_masks", None, "an integer"),
        ("time_width", True, "an integer"),
    ],
)
def test_a_bound_is_a_number_of_at_least_0(argument, value, kind):
    with pytest.raises(ConfigError, match=f"^{argument} is {value!r}; it must be {kind} of at least 0"):
        SpectrogramAugment(**{argument: value})


def test_the_layer_is_rebuilt_from_its_config():
    layer = SpectrogramAugment(time_shift=3.0, band_masks=1, seed=4)
    assert SpectrogramAugment.from_config(layer.get_config()).get_config() == layer.get_config()


def test_silence_is_one_level_below_each_clips_own_maximum():
    clips = np.array([[[0.0, -3.0], [-50.0, -5.0]], [[10.0, 9.0], [4.9, -36.0]]], np.float32)
    found = ops.convert_to_numpy(ClipDynamicRange(5.0)(clips))
    np.testing.assert_array_equal(found, [[[0, -3], [-5, -5]], [[10, 9], [5, 5]]])


def test_attention_can_ignore_frames_and_statistics_cannot():
    layer = AttentiveStatistics(heads=2, units=3)
    inputs = np.random.default_rng(2).normal(size=(2, 7, 4)).astype(np.float32)
    assert layer(inputs).shape == (2, 16)
    layer.set_weights([np.zeros((4, 3)), np.zeros(3), np.zeros((3, 2))])  # every frame scores the same
    heads = ops.convert_to_numpy(layer(inputs)).reshape(2, 4, 4)
    for head in heads.swapaxes(0, 1)[:3]:
        np.testing.assert_allclose(head, inputs.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(heads[:, 3], np.sqrt(inputs.var(axis=1) + VARIANCE_FLOOR), atol=1e-6)
    kernel = np.array([[50.0, 0, 0], *[[0.0] * 3] * 3])
    layer.set_weights([kernel, np.zeros(3), np.array([[100.0, -100.0], [0, 0], [0, 0]])])
    inputs[:, :, 0] = [1, 1, 1, -1, -1, -1, -1]  # speech is where the first channel is positive
    first, second = ops.convert_to_numpy(layer(inputs)).reshape(2, 4, 4).swapaxes(0, 1)[:2]
    np.testing.assert_allclose(first, inputs[:, :3].mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(second, inputs[:, 3:].mean(axis=1), atol=1e-5)


def test_a_channel_that_does_not_vary_has_a_finite_gradient():
    model = keras.Sequential([keras.Input((5, 3)), keras.layers.Dense(2), AttentiveStatistics(), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", jit_compile=keras.backend.backend() == "jax")
    model.fit(np.zeros((4, 5, 3), np.float32), np.ones((4, 1), np.float32), verbose=0)
    assert all(np.isfinite(weights).all() for weights in model.get_weights())
