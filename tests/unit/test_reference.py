import warnings

import librosa
import numpy as np
import pytest

from serzoo.data import audio
from serzoo.errors import FeatureError
from serzoo.features import reference
from serzoo.features.spec import MFCCSpec


def noise(n_samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


@pytest.mark.parametrize(
    ("given", "n_samples", "expected"),
    [
        ([1, 2, 3], 3, [1, 2, 3]),
        ([1, 2, 3], 5, [0, 1, 2, 3, 0]),
        ([1, 2, 3], 6, [0, 1, 2, 3, 0, 0]),
        ([1, 2, 3, 4, 5], 3, [2, 3, 4]),
        ([1, 2, 3, 4, 5, 6], 3, [2, 3, 4]),
        ([1], 4, [0, 1, 0, 0]),
    ],
)
def test_fit_length(given, n_samples, expected):
    fitted = reference.fit_length(np.array(given, np.float32), n_samples)
    assert fitted.dtype == np.float32
    assert fitted.tolist() == expected


@pytest.mark.parametrize("n_samples", [2048, 5000, 22_050])
def test_mfcc_is_librosa(n_samples):
    waveform = noise(n_samples)
    expected = librosa.feature.mfcc(y=waveform, sr=22_050, n_mfcc=39).T
    features = reference.mfcc(waveform, MFCCSpec())
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4)


def test_mfcc_passes_every_setting_on():
    spec = MFCCSpec(sample_rate=16_000, n_mfcc=13, n_fft=512, hop_length=160, n_mels=40, top_db=30.0)
    waveform = noise(4000) * np.linspace(0, 1, 4000, dtype=np.float32)
    powers = librosa.feature.melspectrogram(y=waveform, sr=16_000, n_fft=512, hop_length=160, n_mels=40)
    expected = librosa.feature.mfcc(S=librosa.power_to_db(powers, top_db=30), n_mfcc=13).T
    np.testing.assert_allclose(reference.mfcc(waveform, spec), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("n_samples", "n_frames"),
    [(88_000, 172), (96_000, 188), (310_000, 606), (110_000, 215), (130_000, 254)],
)
def test_published_lengths(n_samples, n_frames):
    spec = MFCCSpec(n_samples=n_samples)
    assert spec.n_frames == n_frames
    assert reference.extract(noise(60_000), spec).shape == (n_frames, 39)


@pytest.mark.parametrize("n_fft", [400, 501, 512])
@pytest.mark.parametrize("n_samples", [1, 1599, 1600, 1601])
def test_n_frames_of_the_spec(n_fft, n_samples):
    spec = MFCCSpec(n_samples=n_samples, n_fft=n_fft, hop_length=160, n_mels=20, n_mfcc=13)
    assert reference.extract(noise(3000), spec).shape == (spec.n_frames, 13)


@pytest.mark.parametrize("n_samples", [1, 220])
@pytest.mark.parametrize("fitted", [None, 110_000])
def test_short_clips_do_not_warn(n_samples, fitted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = reference.extract(noise(n_samples), MFCCSpec(n_samples=fitted))
    assert features.shape == (1 if fitted is None else 215, 39)
    assert np.isfinite(features).all()


def test_silence_is_the_floor():
    features = reference.extract(np.zeros(22_050, np.float32), MFCCSpec())
    np.testing.assert_allclose(features[:, 0], -100 * np.sqrt(128), rtol=1e-6)
    np.testing.assert_allclose(features[:, 1:], 0, atol=1e-3)


@pytest.mark.parametrize("waveform", [np.zeros((2, 100), np.float32), np.zeros(0, np.float32)])
def test_other_shapes_are_refused(waveform):
    with pytest.raises(FeatureError, match=r"one channel with samples.*got the shape \("):
        reference.extract(waveform, MFCCSpec())


@pytest.mark.recordings
def test_mfcc_is_librosa_on_a_recording(ravdess_root):
    path = next(ravdess_root.glob("Actor_01/*.flac"))
    waveform, _ = audio.read(path, 22_050)
    expected = librosa.feature.mfcc(y=reference.fit_length(librosa.load(path)[0], 110_000), sr=22_050, n_mfcc=39).T
    features = reference.extract(waveform, MFCCSpec(n_samples=110_000))
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4)
