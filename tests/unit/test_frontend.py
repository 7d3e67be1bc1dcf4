from dataclasses import dataclass, replace

import keras
import numpy as np
import pytest

from serzoo.data import audio
from serzoo.errors import FeatureError
from serzoo.features import reference
from serzoo.features.extract import extract
from serzoo.features.frontend import MFCC, LogMel, MagnitudeSTFT, fit_length, front_end
from serzoo.features.spec import LogMelSpec, MFCCSpec, STFTSpec

pytestmark = pytest.mark.jax

on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs the TensorFlow backend")
on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs the JAX backend")

TOLERANCES = {"mfcc": 1e-3, "logmel": 2e-3, "stft": 1e-6}
"""Tolerance of magnitudes (not logarithms), as a share of the largest one."""

SMALL = MFCCSpec(sample_rate=16_000, n_mfcc=13, n_fft=400, hop_length=160, n_mels=40)
ODD = MFCCSpec(sample_rate=16_000, n_samples=5001, n_mfcc=13, n_fft=501, hop_length=160, n_mels=40, top_db=40.0)
PAPERS = LogMelSpec()
PROGRAM = LogMelSpec(window="rectangular", preemphasis=0.97, standardize_waveform=False)
ODD_MELS = LogMelSpec(
    n_samples=5001, n_mels=23, window_length=399, hop_length=77, n_fft=501, preemphasis=0.5, delta_width=3
)
PICTURE = STFTSpec()
ODD_PICTURE = STFTSpec(n_samples=5001, window_length=399, hop_length=77, n_bins=200)

full_size = pytest.mark.parametrize(
    "spec", [MFCCSpec(), PAPERS, PROGRAM, PICTURE], ids=["mfcc", "papers", "program", "stft"]
)
every_kind = pytest.mark.parametrize(
    "spec", [SMALL, ODD, PAPERS, PROGRAM, ODD_MELS, PICTURE, ODD_PICTURE], ids=lambda spec: spec.kind
)


def tone(n_samples, frequency, rate=22_050):
    return np.sin(2 * np.pi * frequency * np.arange(n_samples) / rate).astype(np.float32)


def noise(n_samples, scale=0.1):
    return (scale * np.random.default_rng(0).standard_normal(n_samples)).astype(np.float32)


def impulse(n_samples):
    waveform = np.zeros(n_samples, np.float32)
    waveform[n_samples // 2] = 1
    return waveform


def compute(layer, waveforms):
    return keras.ops.convert_to_numpy(layer(np.stack(waveforms)))


def check(spec, waveforms, computed):
    """Compare the features of ``waveforms`` with the reference."""
    expected = np.stack([extract(waveform, spec) for waveform in waveforms])
    assert computed.dtype == np.float32
    unit = expected.max() if spec.kind == "stft" else 1
    np.testing.assert_allclose(computed, expected, rtol=0, atol=TOLERANCES[spec.kind] * unit, strict=True)


SIGNALS = {
    "silence": np.zeros(11_025, np.float32),
    "impulse": impulse(11_025),
    "noise": noise(11_025),
    "whisper": noise(11_025, scale=1e-7),
    "shout": noise(11_025, scale=1e4),
    "constant": np.ones(11_025, np.float32),
    "tone": tone(11_025, 440),
    "tone at the band's end": tone(11_025, 11_024),
    "tone in the bin's middle": tone(11_025, 22_050 * 100.5 / 2048),
    "noise in zeros": np.pad(noise(1000), (5000, 5025)),
    "decay": noise(11_025) * np.geomspace(1, 1e-9, 11_025, dtype=np.float32),
}


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("n_samples", [None, 10_000, 20_001])
@full_size
def test_equals_the_reference(spec, name, n_samples):
    spec = replace(spec, n_samples=n_samples)
    check(spec, [SIGNALS[name]], compute(front_end(spec), [SIGNALS[name]]))


@every_kind
@pytest.mark.parametrize("n_samples", [400, 401, 560, 561, 4999, 5000, 5001, 5002, 7777])
def test_equals_the_reference_for_other_settings_and_lengths(spec, n_samples):
    check(spec, [noise(n_samples)], compute(front_end(spec), [noise(n_samples)]))


@pytest.mark.parametrize("spec", [SMALL, ODD, ODD_MELS, ODD_PICTURE], ids=lambda spec: spec.kind)
def test_without_transforms_of_other_lengths_than_powers_of_two(spec, monkeypatch):
    layer = front_end(spec)
    layer.fft_of_powers_of_two_only = True
    monkeypatch.setattr(keras.ops, "rfft", None)  # calling it fails
    check(spec, [noise(5000)], compute(layer, [noise(5000)]))


@pytest.mark.parametrize("spec", [SMALL, ODD, PICTURE, ODD_PICTURE], ids=lambda spec: spec.kind)
@pytest.mark.parametrize("n_samples", [1, 128, 160, 255, 399])
def test_less_than_a_window(spec, n_samples):
    check(spec, [noise(n_samples)], compute(front_end(spec), [noise(n_samples)]))


@pytest.mark.parametrize("n_samples", [1, 160, 399])
def test_log_mels_of_less_than_a_frame_are_those_of_a_padded_frame(n_samples):
    clip, spec = noise(n_samples), replace(PROGRAM, preemphasis=0.0)
    check(spec, [np.pad(clip, (0, 400 - n_samples))], compute(LogMel(spec), [clip]))
    standardized = compute(LogMel(PAPERS), [clip])
    assert standardized.shape == (1, 1, 40, 3)
    assert np.isfinite(standardized).all()


@pytest.mark.parametrize("n_samples", [1, 4, 5, 6, 7, 10])
def test_fit_length_equals_the_reference(n_samples):
    waveforms = np.arange(1, 13, dtype=np.float32).reshape(2, 6)
    expected = [reference.fit_length(waveform, n_samples) for waveform in waveforms]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(fit_length(waveforms, n_samples)), expected)


@pytest.mark.recordings
@full_size
def test_equals_the_reference_on_recordings(spec, ravdess_root, emodb_root):
    paths = [*sorted(ravdess_root.rglob("*.flac"))[::120], *sorted(emodb_root.rglob("*.*a[cv]"))[::68]]
    assert len(paths) >= 16
    spec = replace(spec, n_samples=110_000)
    waveforms = [reference.fit_length(audio.read(path, spec.sample_rate)[0], 110_000) for path in paths]
    check(spec, waveforms, compute(front_end(spec), waveforms))


@full_size
def test_a_clip_does_not_depend_on_its_neighbours(spec):
    layer = front_end(replace(spec, n_samples=10_000))
    clips = [SIGNALS[name] for name in ("whisper", "shout", "silence", "decay")]
    together = compute(layer, clips)
    for clip, features in zip(clips, together, strict=True):
        np.testing.assert_allclose(compute(layer, [clip])[0], features, rtol=3e-7, atol=1e-5)  # a float32 rounding


@pytest.mark.parametrize(
    ("spec", "n_samples", "shape"),
    [
        (MFCCSpec(n_samples=110_000), None, (None, 215, 39)),
        (MFCCSpec(n_samples=110_000), 5, (None, 215, 39)),
        (SMALL, None, (None, None, 13)),
        (SMALL, 1600, (None, 11, 13)),
        (replace(SMALL, segment_frames=7), 1600, (None, 11, 13)),
        (PAPERS, None, (None, None, 40, 3)),
        (PAPERS, 1, (None, 1, 40, 3)),
        (PAPERS, 48_000, (None, 299, 40, 3)),
        (ODD_MELS, None, (None, 61, 23, 3)),
        (PICTURE, None, (None, None, 128, 1)),
        (PICTURE, 64_000, (None, 501, 128, 1)),
        (ODD_PICTURE, None, (None, 66, 200, 1)),
    ],
)
def test_symbolic_shape(spec, n_samples, shape):
    assert front_end(spec)(keras.Input((n_samples,))).shape == shape


@every_kind
def test_any_length_in_one_model(spec):
    inputs = keras.Input((None,))
    model = keras.Model(inputs, front_end(spec)(inputs))
    for n_samples in (500, 5001, 9000):
        check(spec, [noise(n_samples)], model.predict(noise(n_samples)[None], verbose=0))


@pytest.mark.parametrize("spec", [SMALL, PAPERS, PICTURE], ids=lambda spec: spec.kind)
def test_survives_saving(spec, tmp_path):
    inputs = keras.Input((None,))
    model = keras.Model(inputs, type(front_end(spec))(spec, name="front")(inputs))
    model.save(tmp_path / "front.keras")
    loaded = keras.models.load_model(tmp_path / "front.keras")
    assert loaded.get_layer("front").spec == spec
    waveforms = noise(4000).reshape(2, 2000)
    np.testing.assert_array_equal(loaded.predict(waveforms, verbose=0), model.predict(waveforms, verbose=0))


@pytest.mark.parametrize(("layer", "spec"), [(MFCC, SMALL), (LogMel, PROGRAM), (MagnitudeSTFT, ODD_PICTURE)])
def test_config_is_plain_data(layer, spec):
    config = layer(spec, name="front").get_config()
    assert config == {"name": "front", "spec": spec.to_dict()}
    assert layer.from_config(config).get_config() == config


def test_a_kind_without_a_layer_raises():
    @dataclass(frozen=True)
    class Cepstrogram(MFCCSpec):
        kind = "cepstrogram"

    with pytest.raises(
        FeatureError, match=r"^cepstrogram features have no Keras layer, only mfcc, logmel, stft have; the model"
    ):
        front_end(Cepstrogram())


@every_kind
def test_has_no_weights_and_keeps_float32_under_mixed_precision(spec):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = front_end(spec)
    finally:
        keras.config.set_dtype_policy(policy)
    assert not layer.weights
    check(spec, [noise(2000)], compute(layer, [noise(2000)]))


@on_tensorflow
@pytest.mark.parametrize("name", ["silence", "noise", "noise in zeros"])
@full_size
def test_gradients_are_finite(spec, name):
    import tensorflow as tf

    waveforms = tf.Variable(SIGNALS[name][None])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(front_end(replace(spec, n_samples=12_000))(waveforms)))
    gradient = tape.gradient(loss, waveforms).numpy()
    assert np.isfinite(gradient).all()
    assert gradient.any() == (name != "silence")


@on_tensorflow
@every_kind
def test_in_a_saved_model(spec, tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.layer = front_end(spec)
    signature = [tf.TensorSpec((None, None), tf.float32)]
    module.compute = tf.function(module.layer, input_signature=signature)
    tf.saved_model.save(module, tmp_path, signatures=module.compute)
    served = tf.saved_model.load(tmp_path)
    assert served.compute(noise(20)[None, :1]).shape[0] == 1
    for n_samples in (500, 5001, 9000):
        check(spec, [noise(n_samples)], served.compute(noise(n_samples)[None]).numpy())


@on_tensorflow
@every_kind
def test_compiled_by_xla(spec):
    import tensorflow as tf

    waveforms = noise(8000).reshape(2, 4000)
    check(spec, waveforms, tf.function(front_end(spec), jit_compile=True)(waveforms).numpy())


@on_jax
@pytest.mark.parametrize("n_samples", [None, 10_000, 20_001])
@full_size
def test_compiled_by_jax(spec, n_samples):
    import jax

    spec = replace(spec, n_samples=n_samples)
    layer = front_end(spec)
    layer.build((1, 11_025))
    for name in ("noise in zeros", "silence"):
        waveform = SIGNALS[name]
        check(spec, [waveform], np.asarray(jax.jit(layer.call)(waveform[None])))
        gradient = jax.jit(jax.grad(lambda x: (layer.call(x) ** 2).sum()))(waveform[None])
        assert np.isfinite(gradient).all()
        assert gradient.any() == (name != "silence")
