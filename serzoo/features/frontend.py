"""The reference features as a Keras layer, so that an exported model takes waveforms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from serzoo.features.spec import MFCCSpec, spec_from_dict

_POWER_FLOOR = 1e-10  # librosa.power_to_db's amin


@keras.saving.register_keras_serializable("serzoo")
class MFCC(keras.layers.Layer):
    """Waveforms to mel-frequency cepstral coefficients, equal to :func:`serzoo.features.reference.mfcc`.

    Unlike ``keras.layers.MelSpectrogram`` it computes librosa's numbers, and a clip's features do not depend on
    the other clips of its batch. It has no weights and computes in float32 whatever the dtype policy.

    Args:
        spec: the features; plain data is accepted too.
        name: Keras name of the layer.

    Input: (batch, n_samples) floats at ``spec.sample_rate``, full scale at -1 and 1, any number of samples.
    Output: (batch, n_frames, n_mfcc) float32.
    """

    def __init__(self, spec: MFCCSpec | Mapping[str, object], name: str | None = None) -> None:
        super().__init__(name=name, dtype="float32")
        self.spec = spec if isinstance(spec, MFCCSpec) else spec_from_dict(spec)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the window, the mel bands and the DCT; ``input_shape`` is (batch, n_samples)."""
        del input_shape
        import librosa

        spec = self.spec
        self._window = librosa.filters.get_window("hann", spec.n_fft).astype(np.float32)
        self._mel_bands = librosa.filters.mel(sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_mels).T
        self._dct = librosa.feature.mfcc(S=np.eye(spec.n_mels, dtype=np.float32), n_mfcc=spec.n_mfcc).T
        self._dct_of_one = np.array([math.sqrt(spec.n_mels)] + [0.0] * (spec.n_mfcc - 1), np.float32)

    def call(self, waveforms: Any) -> Any:
        """Return the coefficients of ``waveforms``."""
        if self.spec.n_samples is not None:
            waveforms = _fit_length(waveforms, self.spec.n_samples)
        frames = self._frames(waveforms) * self._window
        real, imaginary = ops.rfft(frames)
        powers = ops.matmul(ops.square(real) + ops.square(imaginary), self._mel_bands)
        decibels = (10 / math.log(10)) * ops.log(ops.maximum(powers, _POWER_FLOOR))
        floor = ops.max(decibels, axis=(1, 2), keepdims=True) - self.spec.top_db
        decibels = ops.maximum(decibels, floor)
        # Each frame's mean is transformed apart, exactly: summing 128 values around -75 dB costs 1e-3 in float32.
        level = ops.mean(decibels, axis=-1, keepdims=True)
        return ops.matmul(decibels - level, self._dct) + level * self._dct_of_one

    def _frames(self, waveforms: Any) -> Any:
        """Cut (batch, n_samples) into (batch, n_frames, n_fft), centred on the multiples of the hop.

        ``ops.extract_sequences`` does the same, but takes 20 ms a clip on JAX. Gathering blocks of the
        largest size that divides window and hop takes 0.4 ms on either backend.
        """
        n_fft, hop_length = self.spec.n_fft, self.spec.hop_length
        padded = ops.pad(waveforms, ((0, 0), (n_fft // 2, n_fft // 2)))
        n_padded = ops.shape(padded)[1]
        n_frames = 1 + (n_padded - n_fft) // hop_length
        block = math.gcd(n_fft, hop_length)
        n_blocks = n_padded // block
        blocks = ops.reshape(padded[:, : n_blocks * block], (-1, n_blocks, block))
        firsts = ops.arange(n_frames, dtype="int32")[:, None] * (hop_length // block)
        chosen = ops.take(blocks, firsts + ops.arange(n_fft // block, dtype="int32"), axis=1)
        return ops.reshape(chosen, (-1, n_frames, n_fft))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (batch, n_frames, n_mfcc) for an input of (batch, n_samples)."""
        n_frames = self.spec.n_frames
        if n_frames is None and input_shape[1] is not None:
            n_frames = replace(self.spec, n_samples=input_shape[1]).n_frames
        return input_shape[0], n_frames, self.spec.n_mfcc

    def get_config(self) -> dict[str, Any]:
        """Return the name and the spec as plain data."""
        return {"name": self.name, "spec": self.spec.to_dict()}


def _fit_length(waveforms: Any, n_samples: int) -> Any:
    """Centre (batch, n) in (batch, n_samples), n static or dynamic; the rounding of ``reference.fit_length``."""
    difference = n_samples - ops.shape(waveforms)[1]
    missing, excess = _at_least_zero(difference), _at_least_zero(-difference)
    central = waveforms[:, excess // 2 : excess // 2 + n_samples]
    centred = ops.pad(central, ((0, 0), (missing // 2, missing - missing // 2)))
    return ops.reshape(centred, (-1, n_samples))  # tells a graph the static length


def _at_least_zero(count: Any) -> Any:
    return max(count, 0) if isinstance(count, int) else ops.maximum(count, 0)
