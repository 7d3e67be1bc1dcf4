import warnings
from dataclasses import replace

import librosa
import numpy as np
import pytest
import scipy.fft
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from serzoo.data import audio
from serzoo.errors import FeatureError
from serzoo.features import reference
from serzoo.features.extract import extract
from serzoo.features.spec import LogMelSpec, MFCCSpec, STFTSpec

PAPERS = LogMelSpec()
PROGRAM = LogMelSpec(window="rectangular", preemphasis=0.97, standardize_waveform=False)


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


def test_mfcc_uses_every_setting():
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
    assert extract(noise(60_000), spec).shape == (n_frames, 39)


@pytest.mark.parametrize("n_fft", [400, 501, 512])
@pytest.mark.parametrize("n_samples", [1, 1599, 1600, 1601])
def test_n_frames_of_the_spec(n_fft, n_samples):
    spec = MFCCSpec(n_samples=n_samples, n_fft=n_fft, hop_length=160, n_mels=20, n_mfcc=13)
    assert extract(noise(3000), spec).shape == (spec.n_frames, 13)


@pytest.mark.parametrize("n_samples", [1, 220])
@pytest.mark.parametrize("fitted", [None, 110_000])
def test_short_clips_do_not_warn(n_samples, fitted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = extract(noise(n_samples), MFCCSpec(n_samples=fitted))
    assert features.shape == (1 if fitted is None else 215, 39)
    assert np.isfinite(features).all()


def test_silence_is_the_floor():
    features = extract(np.zeros(22_050, np.float32), MFCCSpec())
    np.testing.assert_allclose(features[:, 0], -100 * np.sqrt(128), rtol=1e-6)
    np.testing.assert_allclose(features[:, 1:], 0, atol=1e-3)


@pytest.mark.parametrize("waveform", [np.zeros((2, 100), np.float32), np.zeros(0, np.float32)])
@pytest.mark.parametrize("spec", [MFCCSpec(), PAPERS, STFTSpec()])
def test_other_shapes_raise(waveform, spec):
    with pytest.raises(FeatureError, match=r"the waveform has shape \(.*one channel with samples"):
        extract(waveform, spec)


@pytest.mark.parametrize(("n_fft", "hop_length"), [(512, 160), (400, 160), (501, 160), (64, 200), (512, 512)])
@pytest.mark.parametrize("before", [0, 1, 159, 160, 255, 256, 257, 3000])
@pytest.mark.parametrize("behind", [0, 1, 250, 2048])
def test_skipping_digital_silence_does_not_change_the_values(n_fft, hop_length, before, behind):
    """Frames with a single sample of sound, at either end, are computed."""
    spec = MFCCSpec(sample_rate=16_000, n_mfcc=13, n_fft=n_fft, hop_length=hop_length, n_mels=20)
    waveform = np.pad(noise(700) + np.float32(1), (before, behind))
    padded = np.pad(waveform, n_fft // 2)
    powers = librosa.feature.melspectrogram(
        y=padded, sr=16_000, n_fft=n_fft, hop_length=hop_length, n_mels=20, center=False
    )
    expected = librosa.feature.mfcc(S=librosa.power_to_db(powers, top_db=80), n_mfcc=13).T
    np.testing.assert_allclose(reference.mfcc(waveform, spec), expected, rtol=0, atol=1e-4, strict=True)


def test_mfcc_is_that_of_float64():
    """A fade over 180 dB; values above the floor at 80 dB have many magnitudes."""
    spec = MFCCSpec(n_samples=20_001)
    waveform = noise(15_000) * np.geomspace(1, 1e-9, 15_000, dtype=np.float32)
    padded = np.pad(reference.fit_length(waveform, 20_001).astype(float), 1024)
    frames = np.array([padded[start : start + 2048] for start in range(0, len(padded) - 2047, 512)])
    spectra = np.fft.rfft(frames * scipy.signal.get_window("hann", 2048))
    powers = np.abs(spectra) ** 2 @ librosa.filters.mel(sr=22_050, n_fft=2048, dtype=float).T
    decibels = 10 * np.log10(np.maximum(powers, 1e-10))
    expected = scipy.fft.dct(np.maximum(decibels, decibels.max() - 80), norm="ortho")[:, :39]
    np.testing.assert_allclose(reference.mfcc(waveform, spec), expected, rtol=0, atol=2e-4)


@pytest.mark.recordings
def test_mfcc_is_librosa_on_a_recording(ravdess_root):
    path = next(ravdess_root.glob("Actor_01/*.flac"))
    waveform, _ = audio.read(path, 22_050)
    expected = librosa.feature.mfcc(y=reference.fit_length(librosa.load(path)[0], 110_000), sr=22_050, n_mfcc=39).T
    features = extract(waveform, MFCCSpec(n_samples=110_000))
    # the first coefficient is about -800, where neighbouring float32 are 6e-5 apart; librosa itself is 1.5e-4 off
    np.testing.assert_allclose(features, expected, rtol=0, atol=3e-4)


def log_mel_by_hand(waveform, spec):
    """The definition, sample by sample; without differences."""
    samples = waveform.astype(float) * 32_768
    if spec.standardize_waveform:
        samples = (waveform - np.mean(waveform, dtype=float)) / np.std(waveform, dtype=float)
    samples = np.append(samples[0], samples[1:] - spec.preemphasis * samples[:-1])
    times = np.arange(spec.window_length)
    hamming = 0.54 - 0.46 * np.cos(2 * np.pi * times / (spec.window_length - 1))
    window = hamming if spec.window == "hamming" else 1
    waves = np.exp(-2j * np.pi * np.outer(times, np.arange(spec.n_fft // 2 + 1)) / spec.n_fft)
    highest = 2595 * np.log10(1 + spec.sample_rate / 2 / 700)
    hertz = 700 * (10 ** (np.arange(spec.n_mels + 2) * highest / (spec.n_mels + 1) / 2595) - 1)
    corners = np.floor(hertz * (spec.n_fft + 1) / spec.sample_rate)
    static, start, end = [], 0, 0
    while end < len(samples):
        end = start + spec.window_length
        frame = samples[start:end]
        power = np.abs((np.pad(frame, (0, end - start - len(frame))) * window) @ waves) ** 2 / spec.n_fft
        bands = [power @ np.interp(np.arange(len(power)), corners[i : i + 3], [0, 1, 0]) for i in range(spec.n_mels)]
        static.append(np.log(bands))
        start += spec.hop_length
    return np.array(static)


def differences_by_hand(values, width):
    """The difference of each frame as a sum over neighbouring frames."""
    last, norm = len(values) - 1, 2 * sum(n * n for n in range(1, width + 1))
    return [
        sum(n * (values[min(t + n, last)] - values[max(t - n, 0)]) for n in range(1, width + 1)) / norm
        for t in range(len(values))
    ]


@pytest.mark.parametrize(
    "spec",
    [
        PAPERS,
        PROGRAM,
        LogMelSpec(n_mels=13),
        LogMelSpec(window_length=320, hop_length=100),
        LogMelSpec(n_fft=600),
        LogMelSpec(sample_rate=22_050, n_fft=1001),
        LogMelSpec(window="rectangular"),
        LogMelSpec(preemphasis=0.5),
        LogMelSpec(standardize_waveform=False),
        LogMelSpec(delta_width=1),
        LogMelSpec(delta_width=7),
    ],
)
@pytest.mark.parametrize("n_samples", [400, 560, 561, 2399])
def test_log_mel_follows_its_definition(spec, n_samples):
    waveform = noise(n_samples)
    static = log_mel_by_hand(waveform, spec)
    difference = differences_by_hand(static, spec.delta_width)
    expected = np.stack([static, difference, differences_by_hand(difference, spec.delta_width)], axis=-1)
    features = extract(waveform, spec)
    assert features.dtype == np.float32
    assert features.shape == (spec.frames_in(n_samples), *spec.frame_shape)
    np.testing.assert_allclose(features, expected, rtol=1e-6, atol=1e-6)


def test_log_mel_is_that_of_python_speech_features():
    """``logfbank(samples, 16_000, nfilt=40)`` and ``delta(..., 2)`` of version 0.6."""
    samples = (np.random.RandomState(0).randn(16_000) * 1000).astype(np.int16)
    features = extract((samples / 32_768).astype(np.float32), PROGRAM)
    assert features.shape == (99, 40, 3)
    np.testing.assert_allclose(features[0, :4, 0], [7.957434, 8.498491, 10.071375, 10.151375], rtol=0, atol=1e-6)
    assert features[..., 0].mean(dtype=float) == pytest.approx(13.818104, abs=1e-6)
    np.testing.assert_allclose(features[5, :3, 1], [-0.432349, -0.201810, -0.381706], rtol=0, atol=1e-6)
    np.testing.assert_allclose(features[5, :3, 2], [-0.114574, -0.091435, -0.153701], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n_samples", "n_frames"), [(400, 1), (401, 2), (48_000, 299), (48_081, 300), (48_240, 300)])
def test_log_mel_frames(n_samples, n_frames):
    assert extract(noise(n_samples), PAPERS).shape == (n_frames, 40, 3)


@given(gain=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_a_gain_shifts_the_bands_only(gain, seed):
    waveform = noise(2000, seed)
    quiet, loud = (extract(scale * waveform, PROGRAM) for scale in (np.float32(1), np.float32(gain)))
    np.testing.assert_allclose(loud[..., 0] - quiet[..., 0], 2 * np.log(gain), rtol=0, atol=1e-4)
    np.testing.assert_allclose(loud[..., 1:], quiet[..., 1:], rtol=0, atol=1e-4)


@given(gain=st.floats(1e-3, 1e3), offset=st.floats(-1, 1), seed=st.integers(0, 99))
def test_standardised_waveforms_have_no_gain_or_offset(gain, offset, seed):
    waveform = noise(2000, seed)
    changed = np.float32(gain) * (waveform + np.float32(offset))
    np.testing.assert_allclose(extract(changed, PAPERS), extract(waveform, PAPERS), rtol=0, atol=1e-3)


def test_differences_of_a_steady_rise():
    """A period of one hop, growing by the same factor each time: the bands' logarithms rise linearly."""
    slope, n_frames = 0.05, 12
    periods = np.tile(noise(160), 3 + n_frames)[: 400 + 160 * (n_frames - 1)]
    waveform = periods * np.exp(0.5 * slope * np.arange(len(periods)) / 160)
    features = extract(waveform, replace(PAPERS, standardize_waveform=False))
    inner = np.ones(n_frames - 4)
    once = slope * np.array([0.5, 0.8, *inner, 0.8, 0.5])
    twice = slope * np.array([0.13, 0.15, 0.12, 0.04, *inner[4:] * 0, -0.04, -0.12, -0.15, -0.13])
    np.testing.assert_allclose(np.diff(features[..., 0], axis=0), slope, rtol=0, atol=1e-4)
    np.testing.assert_allclose(features[..., 1], np.tile(once[:, None], 40), rtol=0, atol=1e-6)
    np.testing.assert_allclose(features[..., 2], np.tile(twice[:, None], 40), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("waveform", "spec"),
    [
        (np.zeros(2000, np.float32), PAPERS),
        (np.zeros(2000, np.float32), PROGRAM),
        (np.full(2000, 0.1, np.float32), PAPERS),
    ],
)
def test_log_mel_of_silence_is_its_floor(waveform, spec):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = extract(waveform, spec)
    np.testing.assert_allclose(features[..., 0], -36.04365, rtol=0, atol=1e-5)
    np.testing.assert_allclose(features[..., 1:], 0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("spec", [LogMelSpec(n_samples=3000), STFTSpec(n_samples=3000)])
def test_length_is_fitted_first(spec):
    for n_samples in (400, 2999, 3001, 5000):
        waveform = noise(n_samples)
        expected = extract(reference.fit_length(waveform, 3000), replace(spec, n_samples=None))
        np.testing.assert_array_equal(extract(waveform, spec), expected)


@pytest.mark.parametrize("spec", [PROGRAM, STFTSpec()])
def test_the_waveform_is_not_modified(spec):
    waveform = noise(1000).astype(np.float64)
    before = waveform.copy()
    extract(waveform, spec)
    np.testing.assert_array_equal(waveform, before)


@pytest.mark.parametrize("n_samples", [None, 1000])
def test_less_than_a_frame_raises(n_samples):
    with pytest.raises(FeatureError) as error:
        extract(noise(399), LogMelSpec(n_samples=n_samples))
    assert str(error.value) == (
        "the recording has 399 samples, but one frame has 400 at 16000 Hz; use a longer recording."
    )


@pytest.mark.parametrize("n_samples", [256, 257, 384, 385, 5000, 64_000])
def test_stft_is_scipys(n_samples):
    waveform = noise(n_samples)
    _, times, spectra = scipy.signal.stft(waveform.astype(float), 16_000, window="hamming", nperseg=256, noverlap=128)
    features = extract(waveform, STFTSpec())
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[..., 0], np.abs(spectra[:128]).T, rtol=1e-6)
    np.testing.assert_allclose(times, np.arange(len(features)) * 0.008)


@pytest.mark.parametrize(
    "spec", [STFTSpec(), STFTSpec(n_bins=129), STFTSpec(window_length=101, hop_length=37, n_bins=51)]
)
@pytest.mark.parametrize("n_samples", [1, 100, 255, 256, 1000])
def test_stft_follows_its_definition(spec, n_samples):
    """Each frame's sum over its samples; zeros beyond the ends, a periodic Hamming window."""
    waveform, length = noise(n_samples), spec.window_length
    times = np.arange(length)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * times / length)
    waves = np.exp(-2j * np.pi * np.outer(times, np.arange(spec.n_bins)) / length)
    padded = np.pad(waveform.astype(float), (length // 2, 2 * length))
    starts = np.arange(spec.frames_in(n_samples)) * spec.hop_length
    frames = padded[starts[:, None] + times] * window / window.sum()
    assert not padded[starts[-1] + length :].any()  # the frames cover the clip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = extract(waveform, spec)
    np.testing.assert_allclose(features[..., 0], np.abs(frames @ waves), rtol=1e-5, atol=1e-10)


def test_stft_of_a_full_scale_sine_peaks_at_a_half():
    waveform = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    inner = extract(waveform, STFTSpec())[1:-2, :, 0]
    np.testing.assert_array_equal(inner.argmax(axis=1), 1000 / (16_000 / 256))
    np.testing.assert_allclose(inner.max(axis=1), 0.5, rtol=1e-4)


def test_stft_frames_are_in_order_of_time():
    waveform = np.append(np.zeros(8000, np.float32), noise(8000))
    loudness = extract(waveform, STFTSpec()).sum(axis=(1, 2))
    assert loudness[:60].max() < 1e-3 * loudness[65:].min()


def test_silence_is_not_padding_in_the_stft():
    """No frame of a recording is all zeros; only padding is."""
    features = extract(np.zeros(1000, np.float32), STFTSpec())
    np.testing.assert_array_equal(features, np.float32(1e-10))
    features = extract(np.append(np.zeros(1000, np.float32), noise(1000)), STFTSpec())
    assert features.min() == np.float32(1e-10)


def test_four_seconds_are_a_segment_of_501_frames():
    spec = STFTSpec(segment_frames=501)
    assert extract(noise(64_000), spec).shape == (spec.n_frames, *spec.frame_shape) == (501, 128, 1)
