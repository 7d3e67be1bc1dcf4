import keras
import numpy as np
import pytest

from serzoo.data import audio
from serzoo.features import reference
from serzoo.features.frontend import MFCC
from serzoo.features.spec import MFCCSpec

on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs the TensorFlow backend")
on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="needs the JAX backend")

TOLERANCE = 1e-3
SMALL = MFCCSpec(sample_rate=16_000, n_mfcc=13, n_fft=400, hop_length=160, n_mels=40)
ODD = MFCCSpec(sample_rate=16_000, n_samples=5001, n_mfcc=13, n_fft=501, hop_length=160, n_mels=40, top_db=40.0)


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


def errors(spec, waveforms):
    """Largest difference to the reference, per clip."""
    expected = np.stack([reference.extract(waveform, spec) for waveform in waveforms])
    computed = compute(MFCC(spec), waveforms)
    assert computed.shape == expected.shape
    assert computed.dtype == np.float32
    return np.abs(computed - expected).max(axis=(1, 2))


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
def test_equals_the_reference(name, n_samples):
    assert errors(MFCCSpec(n_samples=n_samples), [SIGNALS[name]]) < TOLERANCE


@pytest.mark.parametrize("spec", [SMALL, ODD], ids=["small", "odd"])
@pytest.mark.parametrize("n_samples", [1, 160, 4999, 5000, 5001, 5002, 7777])
def test_equals_the_reference_for_other_settings_and_lengths(spec, n_samples):
    assert errors(spec, [noise(n_samples)]) < TOLERANCE


@pytest.mark.recordings
def test_equals_the_reference_on_recordings(ravdess_root, emodb_root):
    paths = [*sorted(ravdess_root.rglob("*.flac"))[::120], *sorted(emodb_root.rglob("*.*a[cv]"))[::68]]
    assert len(paths) >= 16
    spec = MFCCSpec(n_samples=110_000)
    waveforms = [reference.fit_length(audio.read(path, spec.sample_rate)[0], 110_000) for path in paths]
    assert errors(spec, waveforms).max() < TOLERANCE


def test_a_clip_does_not_depend_on_its_neighbours():
    layer = MFCC(MFCCSpec(n_samples=10_000))
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
    ],
)
def test_symbolic_shape(spec, n_samples, shape):
    assert MFCC(spec)(keras.Input((n_samples,))).shape == shape


def test_any_length_in_one_model():
    inputs = keras.Input((None,))
    model = keras.Model(inputs, MFCC(ODD)(inputs))
    for n_samples in (100, 5001, 9000):
        waveform = noise(n_samples)
        features = model.predict(waveform[None], verbose=0)[0]
        np.testing.assert_allclose(features, reference.extract(waveform, ODD), rtol=0, atol=TOLERANCE)


def test_survives_saving(tmp_path):
    inputs = keras.Input((None,))
    model = keras.Model(inputs, MFCC(SMALL, name="front")(inputs))
    model.save(tmp_path / "front.keras")
    loaded = keras.models.load_model(tmp_path / "front.keras")
    assert loaded.get_layer("front").spec == SMALL
    waveforms = noise(4000).reshape(2, 2000)
    np.testing.assert_array_equal(loaded.predict(waveforms, verbose=0), model.predict(waveforms, verbose=0))


def test_config_is_plain_data():
    config = MFCC(SMALL, name="front").get_config()
    assert config == {"name": "front", "spec": SMALL.to_dict()}
    assert MFCC.from_config(config).get_config() == config


def test_has_no_weights_and_keeps_float32_under_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = MFCC(SMALL)
    finally:
        keras.config.set_dtype_policy(policy)
    waveform = noise(2000)
    assert not layer.weights
    np.testing.assert_allclose(
        compute(layer, [waveform])[0], reference.extract(waveform, SMALL), rtol=0, atol=TOLERANCE
    )


@on_tensorflow
@pytest.mark.parametrize("name", ["silence", "noise", "noise in zeros"])
def test_gradients_are_finite(name):
    import tensorflow as tf

    waveforms = tf.Variable(SIGNALS[name][None])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(MFCC(MFCCSpec(n_samples=12_000))(waveforms)))
    gradient = tape.gradient(loss, waveforms).numpy()
    assert np.isfinite(gradient).all()
    assert gradient.any() == (name != "silence")


@on_tensorflow
@pytest.mark.parametrize("spec", [SMALL, ODD], ids=["own length", "fixed length"])
def test_in_a_saved_model(spec, tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.layer = MFCC(spec)
    signature = [tf.TensorSpec((None, None), tf.float32)]
    module.compute = tf.function(module.layer, input_signature=signature)
    tf.saved_model.save(module, tmp_path, signatures=module.compute)
    served = tf.saved_model.load(tmp_path)
    for n_samples in (100, 5001, 9000):
        waveform = noise(n_samples)
        features = served.compute(waveform[None]).numpy()[0]
        np.testing.assert_allclose(features, reference.extract(waveform, spec), rtol=0, atol=TOLERANCE)


@on_tensorflow
def test_compiled_by_xla():
    import tensorflow as tf

    layer = MFCC(ODD)
    waveforms = noise(8000).reshape(2, 4000)
    compiled = tf.function(layer, jit_compile=True)(waveforms).numpy()
    np.testing.assert_allclose(compiled, compute(layer, waveforms), rtol=0, atol=TOLERANCE)


@on_jax
@pytest.mark.parametrize("n_samples", [None, 10_000, 20_001])
def test_compiled_by_jax(n_samples):
    import jax

    spec = MFCCSpec(n_samples=n_samples)
    layer = MFCC(spec)
    layer.build((1, 11_025))
    for name in ("noise in zeros", "silence"):
        waveform = SIGNALS[name]
        computed = jax.jit(layer.call)(waveform[None])[0]
        np.testing.assert_allclose(computed, reference.extract(waveform, spec), rtol=0, atol=TOLERANCE)
        gradient = jax.grad(lambda x: (layer.call(x) ** 2).sum())(waveform[None])
        assert np.isfinite(gradient).all()
        assert gradient.any() == (name != "silence")
