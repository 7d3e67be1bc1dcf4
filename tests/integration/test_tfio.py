"""tensorflow-io's route through the pipeline; it needs TensorFlow 2.16 (make test-tfio)."""

import dataclasses

import numpy as np
import pytest
import soundfile

pytest.importorskip("tensorflow_io", reason="tensorflow-io is not installed (make test-tfio)")

import tensorflow as tf

from serzoo.data import pipeline
from serzoo.data.corpora.corpus import Recording, build_manifest
from serzoo.features.spec import MFCCSpec
from serzoo.settings import SpecAugmentConfig, TrainingConfig

CLASSES = ("angry", "sad")
TRAINING = TrainingConfig(batch_size=3, epochs=1)


def write_manifest(folder, suffix, rate=22_050, channels=1):
    rng = np.random.default_rng(0)
    rows = []
    for index in range(6):
        path = folder / f"{index}{suffix}"
        tone = 0.3 * np.sin(2 * np.pi * 300 * (index + 1) * np.arange(rate) / rate)
        noisy = tone[:, None] + 0.01 * rng.standard_normal((rate, channels))
        soundfile.write(path, noisy, rate, subtype="PCM_16")
        rows.append((path, Recording(label=CLASSES[index % 2])))
    return build_manifest(rows, CLASSES, "custom")


def features(manifest, spec, decoder, training=TRAINING):
    dataset = pipeline.waveform_dataset(manifest, spec, training, decoder=decoder)
    return np.concatenate([batch for batch, _ in dataset.as_numpy_iterator()])


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("n_samples", [11_025, 33_075])
def test_without_resampling_the_features_are_those_of_soundfile(tmp_path, suffix, channels, n_samples):
    manifest, spec = write_manifest(tmp_path, suffix, channels=channels), MFCCSpec(n_samples=n_samples)
    np.testing.assert_allclose(features(manifest, spec, "tfio"), features(manifest, spec, "soundfile"), atol=5e-3)


def test_resampling_is_close_to_soxr(tmp_path):
    manifest, spec = write_manifest(tmp_path, ".wav", rate=44_100), MFCCSpec(n_samples=22_050)
    first = tf.data.Dataset.range(1)
    ours, theirs = (
        next(first.map(decoder(manifest.paths, spec.sample_rate, spec.n_samples)).as_numpy_iterator())
        for decoder in pipeline._DECODERS.values()
    )
    best = max(np.corrcoef(ours[100:-100], np.roll(theirs, lag)[100:-100])[0, 1] for lag in range(-50, 51))
    assert best > 0.999, "the same but for its filter's delay of a millisecond or two"


def test_clips_read_in_parallel_are_not_mixed_up(tmp_path):
    manifest, spec = write_manifest(tmp_path, ".wav"), MFCCSpec(n_samples=22_050)
    reference = features(manifest, spec, "soundfile")
    for _ in range(5):
        np.testing.assert_allclose(features(manifest, spec, "tfio"), reference, atol=5e-3)


def test_masks_work_on_this_route_too(tmp_path):
    manifest, spec = write_manifest(tmp_path, ".wav"), MFCCSpec(n_samples=22_050)
    masked = dataclasses.replace(TRAINING, spec_augment=SpecAugmentConfig(time_masks=1, time_width=8))
    difference = np.abs(features(manifest, spec, "tfio", masked) - features(manifest, spec, "tfio"))
    frames = (difference > 1e-2).any(axis=2).sum(axis=1)
    assert 0 < frames.max() <= 8


def test_a_recording_that_is_missing_is_named(tmp_path):
    manifest = write_manifest(tmp_path, ".wav")
    missing = manifest.paths[2]
    missing.unlink()
    with pytest.raises(Exception, match=missing.name):
        features(manifest, MFCCSpec(n_samples=22_050), "tfio")
