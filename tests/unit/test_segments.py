"""Cutting recordings into segments and pooling the posteriors, on arrays and inside a graph."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serzoo.features.segments import cut_segments, pool_segments, segment_starts
from serzoo.layers.segment_pooling import predict_by_segments

pytestmark = pytest.mark.jax


@pytest.mark.parametrize(
    ("n_frames", "starts"),
    [(1, [0]), (299, [0]), (300, [0]), (301, [0, 1]), (600, [0, 300]), (650, [0, 300, 350]), (900, [0, 300, 600])],
)
def test_segments_of_300_frames(n_frames, starts):
    assert segment_starts(n_frames, 300).tolist() == starts


@given(st.integers(1, 200), st.integers(1, 50))
def test_every_frame_is_in_a_segment_and_no_more_segments_than_needed(n_frames, length):
    features = np.arange(1, n_frames + 1, dtype=np.float32)[:, None]
    segments = cut_segments(features, length)
    assert segments.shape == (-(-n_frames // length), length, 1)
    assert set(segments.ravel()) - {0} == set(features.ravel())
    assert segments.ravel().max() == n_frames
    if n_frames >= length:
        assert segments.all(), "only a short recording is padded"
        assert segments[-1, -1, 0] == n_frames


def test_a_short_recording_is_padded_behind_its_end():
    segment = cut_segments(np.full((2, 4, 3), 5.0, np.float32), 5)
    assert segment.shape == (1, 5, 4, 3)
    assert segment.dtype == np.float32
    assert (segment[0, :2] == 5).all()
    assert (segment[0, 2:] == 0).all()


def test_pooling_takes_the_maximum_of_each_class():
    posteriors = np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1], [0.3, 0.7]])
    pooled = pool_segments(posteriors, np.array([1, 2, 1]))
    np.testing.assert_allclose(pooled, [[0.2, 0.8], [0.9 / 1.4, 0.5 / 1.4], [0.3, 0.7]])


def test_pooling_single_segments_changes_nothing():
    posteriors = np.array([[0.2, 0.8], [0.5, 0.5]])
    assert pool_segments(posteriors, np.array([1, 1])) is posteriors


@pytest.mark.parametrize("with_gender", [False, True])
@pytest.mark.parametrize("n_frames", [1, 6, 7, 8, 14, 20])
def test_graph_and_arrays_are_equal(n_frames, with_gender):
    rng = np.random.default_rng(n_frames)
    features = rng.normal(size=(3, n_frames, 4, 3)).astype(np.float32)
    genders = np.array([[0.0], [1.0], [0.3]], np.float32) if with_gender else None
    weights = rng.normal(size=(7 * 4 * 3, 5)).astype(np.float32)

    def network(inputs):
        segments, gender = (inputs["features"], inputs["gender"]) if with_gender else (inputs, 0.0)
        return keras.ops.softmax(keras.ops.reshape(segments, (-1, 84)) @ weights + gender * weights[0])

    parts = [cut_segments(clip, 7) for clip in features]
    counts = np.array([len(part) for part in parts])
    segments = np.concatenate(parts)
    inputs = {"features": segments, "gender": np.repeat(genders, counts, axis=0)} if with_gender else segments
    expected = pool_segments(keras.ops.convert_to_numpy(network(inputs)), counts)
    pooled = keras.ops.convert_to_numpy(predict_by_segments(network, keras.ops.array(features), 7, genders))
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a graph with dynamic shapes is TensorFlow's")
def test_one_graph_takes_any_length():
    import tensorflow as tf

    def network(segments):
        return keras.ops.softmax(keras.ops.sum(segments, axis=(1,)))

    graph = tf.function(
        lambda features: predict_by_segments(network, features, 7),
        input_signature=[tf.TensorSpec((None, None, 4), tf.float32)],
    )
    for n_frames in (1, 7, 16):
        features = np.random.default_rng(0).normal(size=(2, n_frames, 4)).astype(np.float32)
        parts = np.stack([cut_segments(clip, 7) for clip in features])
        expected = keras.ops.convert_to_numpy(network(parts.reshape(-1, 7, 4))).reshape(2, -1, 4).max(axis=1)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(graph(features).numpy(), expected, atol=1e-6)
