"""Normalisation by stored statistics: over which frames they are, and what becomes of padding."""

import keras
import numpy as np
import pytest

from serzoo.errors import DataError, FeatureError
from serzoo.layers.normalization import FrameNormalization, GlobalNormalization, MaximumNormalization

pytestmark = pytest.mark.jax

KINDS = (FrameNormalization, GlobalNormalization, MaximumNormalization)
every_kind = pytest.mark.parametrize("kind", KINDS)


def padded_clips(n_clips=70, n_frames=9, frame_shape=(4, 3), seed=0):
    """Return clips of different lengths, zero-padded at the end, and a flag per real frame."""
    rng = np.random.default_rng(seed)
    clips = rng.normal(5, 3, (n_clips, n_frames, *frame_shape)).astype("float32")
    real = np.arange(n_frames) < rng.integers(1, n_frames + 1, n_clips)[:, None]
    clips[~real] = 0
    return clips, real


def adapted(features, kind=FrameNormalization, **arguments):
    layer = kind(**arguments)
    layer.adapt(features)
    return layer


def run(layer, inputs):
    return keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(np.asarray(inputs, "float32"))))


@pytest.mark.parametrize("frame_shape", [(5,), (4, 3)])
def test_real_frames_come_out_with_mean_0_and_deviation_1(frame_shape):
    clips, real = padded_clips(frame_shape=frame_shape)
    outputs = run(adapted(clips), clips)
    np.testing.assert_allclose(outputs[real].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(outputs[real].std(axis=0), 1, atol=1e-4)
    np.testing.assert_array_equal(outputs[~real], 0)


@pytest.mark.parametrize("frame_shape", [(5,), (4, 3)])
def test_all_values_together_come_out_with_mean_0_and_deviation_1(frame_shape):
    clips, real = padded_clips(frame_shape=frame_shape)
    clips *= np.linspace(0.1, 10, frame_shape[0]).reshape(-1, *[1] * (len(frame_shape) - 1))
    layer = adapted(clips, GlobalNormalization)
    frames = clips[real].astype(float)
    expected = np.where(real.reshape(*real.shape, *[1] * len(frame_shape)), (clips - frames.mean()) / frames.std(), 0)
    np.testing.assert_allclose(run(layer, clips), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(run(layer, clips)[~real], 0)
    np.testing.assert_allclose([layer.mean.numpy(), layer.std.numpy()], [frames.mean(), frames.std()], rtol=1e-6)


def test_magnitudes_come_out_between_0_and_1():
    clips = np.abs(padded_clips()[0])
    outputs = run(adapted(clips, MaximumNormalization), clips)
    np.testing.assert_allclose(outputs, clips / clips.max(), rtol=1e-6)
    assert (outputs.min(), outputs.max()) == (0, 1)


def test_maximum_is_of_the_size():
    clips, _ = padded_clips()
    clips[-1, 0, 0, 0] = -50
    outputs = run(adapted(clips, MaximumNormalization), clips)
    assert outputs.min() == -1
    assert np.abs(outputs).max() == 1


@pytest.mark.parametrize("kind", [GlobalNormalization, MaximumNormalization])
def test_small_values_normalise_as_exactly_as_large_ones(kind):
    """Magnitudes of a spectrum are often below 1e-5; nothing may be added to their divisor."""
    clips, _ = padded_clips()
    small = clips * np.float32(2**-40)
    np.testing.assert_allclose(run(adapted(small, kind), small), run(adapted(clips, kind), clips), rtol=1e-5)


def test_statistics_are_those_of_the_real_frames():
    clips, real = padded_clips()
    layer = adapted(clips)
    frames = clips[real].astype(float)
    np.testing.assert_allclose(layer.mean.numpy(), frames.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(layer.std.numpy(), frames.std(axis=0), rtol=1e-6)
    assert int(layer.n_frames.numpy()) == real.sum()
    np.testing.assert_allclose(
        run(layer, clips)[real], (frames - frames.mean(axis=0)) / (frames.std(axis=0) + 1e-5), rtol=1e-4, atol=1e-5
    )


def test_padding_counts_where_it_is_included():
    """As in the published program: padding has its share in the statistics and becomes -mean / std."""
    clips, real = padded_clips()
    layer = adapted(clips, include_padding=True)
    frames = clips.reshape(-1, 4, 3).astype(float)
    mean, std = frames.mean(axis=0), frames.std(axis=0)
    assert int(layer.n_frames.numpy()) == real.size
    np.testing.assert_allclose(run(layer, clips), (clips - mean) / (std + 1e-5), rtol=1e-4, atol=1e-5)
    assert np.abs(run(layer, clips)[~real]).min() > 0.1


@pytest.mark.parametrize(("kind", "epsilon"), [(FrameNormalization, 1e-5), (GlobalNormalization, 0)])
def test_frame_with_one_value_is_no_padding(kind, epsilon):
    layer = adapted(padded_clips()[0], kind)
    frames = np.zeros((1, 2, 4, 3))
    frames[0, 1, 2, 1] = 1e-20
    outputs = run(layer, frames)
    np.testing.assert_array_equal(outputs[0, 0], 0)
    expected = np.broadcast_to(-layer.mean.numpy() / (layer.std.numpy() + epsilon), (4, 3))
    np.testing.assert_allclose(outputs[0, 1], expected, rtol=1e-4)


def test_variance_is_taken_about_the_mean():
    """Squares minus squared mean would lose these deviations in the offset, in double precision too."""
    clips = (1e5 + np.random.default_rng(0).choice([-1, 1], (100, 50, 2)) / 16).astype("float32")
    layer = adapted(clips)
    np.testing.assert_allclose(layer.std.numpy(), clips.astype(float).reshape(-1, 2).std(axis=0), rtol=1e-6)


def test_constant_value_stays_finite():
    clips = np.full((3, 5, 2), 0.1, "float32")
    clips[..., 1] = np.arange(1, 16).reshape(3, 5)
    outputs = run(adapted(clips), clips)
    assert np.isfinite(outputs).all()
    np.testing.assert_array_equal(outputs[..., 0], 0)


def test_features_that_never_vary_stay_finite():
    clips = np.full((3, 5, 2), 0.5, "float32")
    np.testing.assert_array_equal(run(adapted(clips, GlobalNormalization), clips), 0)


@every_kind
def test_without_statistics_values_pass(kind):
    layer = kind()
    inputs, _ = padded_clips()
    np.testing.assert_allclose(run(layer, inputs), inputs, rtol=2e-5)
    assert not layer.is_adapted
    layer.adapt(inputs)
    assert layer.is_adapted


@every_kind
def test_statistics_are_replaced_not_mixed(kind):
    layer = adapted(padded_clips(seed=0)[0], kind)
    layer.adapt(padded_clips(n_clips=3, seed=1)[0])
    fresh = adapted(padded_clips(n_clips=3, seed=1)[0], kind)
    for weight, expected in zip(layer.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize(
    ("kind", "arguments", "names"),
    [
        (FrameNormalization, {}, ["mean", "std", "n_frames"]),
        (FrameNormalization, {"include_padding": True}, ["mean", "std", "n_frames"]),
        (GlobalNormalization, {}, ["mean", "std", "n_frames"]),
        (MaximumNormalization, {}, ["maximum", "n_frames"]),
    ],
)
def test_statistics_survive_a_file(kind, arguments, names, tmp_path):
    inputs = keras.Input((None, 4, 3))
    layer = kind(**arguments, name="statistics")
    model = keras.Model(inputs, layer(inputs))
    clips, real = padded_clips()
    layer.adapt(clips)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = loaded.get_layer("statistics")
    assert again.get_config() == layer.get_config()
    assert [weight.name for weight in again.weights] == names
    assert int(again.n_frames.numpy()) == (real.size if arguments else real.sum())
    np.testing.assert_array_equal(run(loaded, clips), run(model, clips))
    assert loaded.output_shape == (None, None, 4, 3)
    assert not loaded.trainable_weights


@pytest.mark.parametrize("shape", [(2, 9, 3, 4), (2, 9, 12), (9, 4, 3), (2, 9, 4, 3, 1), (12,)])
@every_kind
def test_other_frames_are_refused(kind, shape):
    layer = adapted(padded_clips()[0], kind)
    with pytest.raises(FeatureError, match=r"^features of shape \(.*\) were given; give \(N, n_frames, 4, 3\)\."):
        layer.adapt(np.ones(shape))


@pytest.mark.parametrize("features", [np.zeros((3, 5, 4)), np.ones((0, 5, 4)), np.ones((3, 0, 4))])
@every_kind
def test_features_without_a_frame_are_refused(kind, features):
    with pytest.raises(DataError, match="the features hold only padding; give recordings that hold sound"):
        kind().adapt(features)


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [np.inf, -np.inf]])
@every_kind
def test_values_that_are_not_finite_are_refused(kind, values):
    clips, _ = padded_clips()
    layer = adapted(clips, kind)
    before = layer.get_weights()
    clips[: len(values), 0, 0, 0] = values
    with pytest.raises(DataError, match="not finite"):
        layer.adapt(clips)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@every_kind
def test_the_neutral_value_comes_out_as_zero(kind):
    clips, _ = padded_clips()
    layer = adapted(clips, kind)
    inputs = np.where(np.arange(9)[:, None, None] < 4, layer.neutral, clips[:1])
    assert np.abs(run(layer, inputs)[0, :4]).max() == 0


@every_kind
def test_statistics_are_in_float32_whatever_the_policy(kind):
    clips, _ = padded_clips()
    expected = run(adapted(clips, kind), clips)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        outputs = run(adapted(clips, kind), clips)
    finally:
        keras.config.set_dtype_policy("float32")
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs, expected)
