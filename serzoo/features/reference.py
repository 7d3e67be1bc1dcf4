"""What a feature is worth: librosa's numbers, which every faster route is tested against."""

from __future__ import annotations

import numpy as np

from serzoo.errors import FeatureError
from serzoo.features.spec import MFCCSpec


def fit_length(waveform: np.ndarray, n_samples: int) -> np.ndarray:
    """Centre a waveform in a fixed length, as the programs of TIM-Net and TBDM-Net do.

    A shorter one, ``missing`` samples short, gets ``missing // 2`` zeros before it and the rest after it.
    Of a longer one, ``excess // 2`` samples are cut off before the central part and the rest after it.

    Args:
        waveform: (n,) samples.
        n_samples: the wanted length.

    Returns:
        (n_samples,) of the waveform's dtype.
    """
    missing = n_samples - len(waveform)
    if missing >= 0:
        return np.pad(waveform, (missing // 2, missing - missing // 2))
    excess = -missing
    return waveform[excess // 2 : excess // 2 + n_samples]


def mfcc(waveform: np.ndarray, spec: MFCCSpec) -> np.ndarray:
    """Compute ``librosa.feature.mfcc`` of a waveform brought to ``spec.n_samples``.

    All that the spec does not name is librosa's default: a periodic Hann window, frames centred on
    multiples of the hop with zeros beyond both ends, power spectra, Slaney mel bands, decibels
    relative to 1, and an orthonormal DCT-II.

    Args:
        waveform: (n,) float32 at ``spec.sample_rate``, full scale at -1 and 1; any n >= 1.
        spec: the features.

    Returns:
        (n_frames, n_mfcc) float32, roughly -850..200.

    Raises:
        FeatureError: the waveform is not one channel with at least one sample.
    """
    import librosa

    if waveform.ndim != 1 or len(waveform) == 0:
        raise FeatureError(f"MFCCs need one channel with samples, (n_samples,); got the shape {waveform.shape}.")
    if spec.n_samples is not None:
        waveform = fit_length(waveform, spec.n_samples)
    # librosa's own centring is the same but warns about clips shorter than a window
    padded = np.pad(waveform.astype(np.float32, copy=False), spec.n_fft // 2)
    powers = librosa.feature.melspectrogram(
        y=padded,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        n_mels=spec.n_mels,
        center=False,
    )
    decibels = librosa.power_to_db(powers, top_db=spec.top_db)
    return np.ascontiguousarray(librosa.feature.mfcc(S=decibels, n_mfcc=spec.n_mfcc).T)


EXTRACTORS = {MFCCSpec.kind: mfcc}
"""The function that defines each kind of feature."""


def extract(waveform: np.ndarray, spec: MFCCSpec) -> np.ndarray:
    """Compute the features that ``spec`` describes.

    Args:
        waveform: (n,) float32 at ``spec.sample_rate``, full scale at -1 and 1; any n >= 1.
        spec: the features.

    Returns:
        (n_frames, n_features) float32.

    Raises:
        FeatureError: the waveform is not one channel with at least one sample.
    """
    return EXTRACTORS[spec.kind](waveform, spec)
