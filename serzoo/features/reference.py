"""Reference implementation of the features; faster ones are tested against it.

:func:`mfcc`, :func:`log_mel` and :func:`magnitude_stft` take a waveform, (n,) float32 at ``spec.sample_rate`` with full
scale at -1 and 1, and raise a FeatureError if it has several channels or less than ``spec.min_samples`` samples.
"""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from serzoo.errors import FeatureError
from serzoo.features.spec import FeatureSpec, LogMelSpec, MFCCSpec, STFTSpec

LOG_MEL_FLOOR = float(np.finfo(float).eps)
"""Least power of a log-mel band; an empty band has the value -36.04."""

MAGNITUDE_FLOOR = 1e-10
"""Least magnitude of a Fourier transform: far below the resolution of any recording, but not zero.

Models treat frames of zeros as padding; with the floor, digital silence is not mistaken for it.
"""

FULL_SCALE = 32_768
"""Factor from a waveform in -1..1 to 16-bit samples, for waveforms that are not standardised."""

_FRAMES_AT_ONCE = 64  # windowed frames, spectra and powers of this many fit into a core's cache
_BANDS_AT_ONCE = 16


def fit_length(waveform: np.ndarray, n_samples: int) -> np.ndarray:
    """Pad or cut a waveform to a fixed length at both ends, as the programs of TIM-Net and TBDM-Net do.

    Of the ``missing`` samples of a shorter one, ``missing // 2`` zeros come before it and the rest after it. Of the
    ``excess`` samples of a longer one, ``excess // 2`` are cut off at its start and the rest at its end. The result is
    (n_samples,) of the waveform's dtype.
    """
    missing = n_samples - len(waveform)
    if missing >= 0:
        return np.pad(waveform, (missing // 2, missing - missing // 2))
    excess = -missing
    return waveform[excess // 2 : excess // 2 + n_samples]


def mfcc(waveform: np.ndarray, spec: MFCCSpec) -> np.ndarray:
    """Compute ``librosa.feature.mfcc`` of a waveform padded or cut to ``spec.n_samples``.

    The values equal librosa's up to float32 rounding, in a third of its time. Settings that are not in the spec have
    librosa's defaults: a periodic Hann window, frames centred on multiples of the hop with zeros beyond both ends,
    power spectra, Slaney mel bands, decibels relative to 1, and an orthonormal DCT-II.

    Returns:
        (n_frames, n_mfcc) float32, roughly -850..200.
    """
    import librosa
    import scipy.fft

    waveform = one_channel(waveform, spec)
    padded = np.pad(waveform.astype(np.float32, copy=False), spec.n_fft // 2)
    decibels = librosa.power_to_db(_mel_powers(padded, spec), top_db=spec.top_db)
    # In float64: a float32 sum over 128 bands near -75 dB loses digits.
    coefficients = scipy.fft.dct(decibels.astype(np.float64), norm="ortho")[:, : spec.n_mfcc]
    return np.ascontiguousarray(coefficients, np.float32)


def _mel_powers(padded: np.ndarray, spec: MFCCSpec) -> np.ndarray:
    """Return the mel powers of all windows within ``padded``, (n_frames, n_mels) float32."""
    import scipy.fft

    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]
    window, groups = _mel_tables(spec)
    powers = np.zeros((len(frames), spec.n_mels), np.float32)
    sound = padded != 0
    if not sound.any():
        return powers
    # Frames of digital silence before and after the clip keep their zeros.
    first = max((int(sound.argmax()) - spec.n_fft) // spec.hop_length + 1, 0)
    behind = min(-(-(len(sound) - int(sound[::-1].argmax())) // spec.hop_length), len(frames))
    # Reused for every block: allocating memory for each costs as much time as the transforms.
    windowed = np.empty((_FRAMES_AT_ONCE, spec.n_fft), np.float32)
    squares = np.empty((_FRAMES_AT_ONCE, spec.n_fft // 2 + 1), np.float32)
    for start in range(first, behind, _FRAMES_AT_ONCE):
        rows = slice(start, min(start + _FRAMES_AT_ONCE, behind))
        n_rows = rows.stop - rows.start
        parts = scipy.fft.rfft(np.multiply(frames[rows], window, out=windowed[:n_rows])).view(np.float32)
        np.square(parts, out=parts)
        np.add(parts[:, ::2], parts[:, 1::2], out=squares[:n_rows])
        for bands, bins, weights in groups:
            np.matmul(squares[:n_rows, bins], weights, out=powers[rows, bands])
    return powers


@lru_cache(maxsize=8)
def _mel_tables(spec: MFCCSpec) -> tuple[np.ndarray, list[tuple[slice, slice, np.ndarray]]]:
    """Return the window and groups of neighbouring mel bands: bands, their bins, and (bins, bands) weights.

    Bands are narrow: of the whole matrix 2 % of the weights are not zero, of the groups 20 %.
    """
    import librosa

    window = librosa.filters.get_window("hann", spec.n_fft).astype(np.float32)
    mel = librosa.filters.mel(sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_mels)
    groups = []
    for start in range(0, spec.n_mels, _BANDS_AT_ONCE):
        bands = slice(start, start + _BANDS_AT_ONCE)
        used = np.flatnonzero(mel[bands].any(axis=0))
        bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)
        groups.append((bands, bins, np.ascontiguousarray(mel[bands, bins].T)))
    return window, groups


def log_mel(waveform: np.ndarray, spec: LogMelSpec) -> np.ndarray:
    """Compute python_speech_features' ``logfbank`` of a waveform and twice its ``delta``.

    Settings that are not in the spec have the defaults of version 0.6: frames from the first sample on, the last one
    zero-padded, periodograms (squared magnitudes divided by the FFT's length), and natural logarithms. For the
    differences, the first and the last frame are repeated beyond the ends of the waveform.

    Returns:
        (n_frames, n_mels, 3) float32: bands from -36.04 to about 28, their first and their second differences.
    """
    import librosa

    samples = one_channel(waveform, spec).astype(np.float64)
    samples = _standardized(samples) if spec.standardize_waveform else FULL_SCALE * samples
    samples[1:] -= spec.preemphasis * samples[:-1]
    n_padded = (spec.frames_in(len(samples)) - 1) * spec.hop_length + spec.window_length
    padded = np.pad(samples, (0, n_padded - len(samples)))
    frames = librosa.util.frame(padded, frame_length=spec.window_length, hop_length=spec.hop_length, axis=0)
    powers = np.abs(np.fft.rfft(frames * frame_window(spec), spec.n_fft)) ** 2 / spec.n_fft
    static = np.log(np.maximum(powers @ mel_triangles(spec).T, LOG_MEL_FLOOR))
    slope = partial(librosa.feature.delta, width=2 * spec.delta_width + 1, axis=0, mode="nearest")
    difference = slope(static)
    return np.stack([static, difference, slope(difference)], axis=-1).astype(np.float32)


def frame_window(spec: LogMelSpec) -> np.ndarray:
    """Return the window of a log-mel frame, (window_length,): ones, or the symmetric Hamming window."""
    return np.hamming(spec.window_length) if spec.window == "hamming" else np.ones(spec.window_length)


def mel_triangles(spec: LogMelSpec) -> np.ndarray:
    """Return python_speech_features' mel bands, (n_mels, n_fft // 2 + 1).

    Each rises linearly from 0 to 1 at its centre and falls to 0; corners are equally spaced on the HTK mel scale
    (2595 log10(1 + f / 700)) and rounded down to the bin of an FFT with one point more.
    """
    import librosa

    corners = librosa.mel_frequencies(spec.n_mels + 2, fmin=0, fmax=spec.sample_rate / 2, htk=True)
    bins = np.floor((spec.n_fft + 1) * corners / spec.sample_rate).astype(int)
    triangles = np.zeros((spec.n_mels, spec.n_fft // 2 + 1))
    for triangle, lower, centre, upper in zip(triangles, bins[:-2], bins[1:-1], bins[2:], strict=True):
        triangle[lower:centre] = np.linspace(0, 1, centre - lower, endpoint=False)
        triangle[centre:upper] = np.linspace(1, 0, upper - centre, endpoint=False)
    return triangles


def magnitude_stft(waveform: np.ndarray, spec: STFTSpec) -> np.ndarray:
    """Compute the magnitudes of ``scipy.signal.stft``, time first.

    Settings that are not in the spec have that function's defaults: a periodic Hamming window, frames centred on
    multiples of the hop with zeros beyond both ends, the last one zero-padded, and division by the window's sum,
    so that a sine of full scale peaks at 0.5. Magnitudes below :data:`MAGNITUDE_FLOOR` are raised to it.

    Returns:
        (n_frames, n_bins, 1) float32, 1e-10..1.
    """
    import scipy.signal

    samples = one_channel(waveform, spec).astype(np.float64)
    # Padded here, because scipy shortens the window for clips shorter than one.
    *_, spectra = scipy.signal.stft(
        np.pad(samples, spec.window_length // 2),
        window="hamming",
        nperseg=spec.window_length,
        noverlap=spec.window_length - spec.hop_length,
        boundary=None,
    )
    magnitudes = np.abs(spectra[: spec.n_bins]).T
    return np.maximum(magnitudes, MAGNITUDE_FLOOR).astype(np.float32)[..., np.newaxis]


def one_channel(waveform: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Return a waveform of one channel, padded or cut to ``spec.n_samples`` if that is set.

    Raises:
        FeatureError: the waveform is not (n,) with n >= ``spec.min_samples``.
    """
    if waveform.ndim != 1 or len(waveform) == 0:
        raise FeatureError(
            f"the waveform has shape {waveform.shape}; features need one channel with samples, (n_samples,)."
        )
    if len(waveform) < spec.min_samples:
        raise FeatureError(
            f"the recording has {len(waveform)} samples, but one frame has {spec.min_samples} "
            f"at {spec.sample_rate} Hz; use a longer recording."
        )
    return waveform if spec.n_samples is None else fit_length(waveform, spec.n_samples)


def _standardized(samples: np.ndarray) -> np.ndarray:
    """Return ``samples`` with zero mean and unit variance, or zeros if all are equal."""
    centred = samples - samples[0]  # exactly 0 where nothing varies, whatever rounding makes of the mean
    centred -= centred.mean()
    return centred / (centred.std() or 1)
