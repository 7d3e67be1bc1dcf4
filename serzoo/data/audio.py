"""Reading recordings: soundfile decodes, channels are averaged, soxr resamples; equal to ``librosa.load``."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from serzoo.errors import AudioError
from serzoo.files import local_path

_LFS_MARK = b"version https://git-lfs"
SAMPLE_RATES = (1_000, 768_000)
"""Lowest and highest sample rate in Hz. Others come from damaged headers; resampling them hangs or crashes."""

SILENCE, LOUDEST = 1e-6, 1e6
"""Largest deviation from the mean, full scale being 1, of silence (-120 dB) and of numbers that can be sound."""

_STREAMED_SIZE = 0x7FFFF000  # the least size in headers of programs that write to a pipe and do not have the size


@dataclass(frozen=True)
class AudioInfo:
    """The header of a file.

    Args:
        sample_rate: in Hz.
        channels: their number.
        n_samples: samples per channel.
    """

    sample_rate: int
    channels: int
    n_samples: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate


def probe(path: str | Path) -> AudioInfo:
    """Read a recording's header without decoding it.

    Args:
        path: a file that libsndfile decodes: wav, flac, ogg, mp3, aiff ...

    Raises:
        AudioError: the file is missing, a folder, empty, a git-lfs stub, no audio, cut off (wav) or without samples.
    """
    with _opened(local_path(path)) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames)


def read(path: str | Path, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """Read a recording as one channel, exactly as ``librosa.load(path, sr=sample_rate)`` does.

    Silence is read like any other recording; :func:`check_audible` refuses it where it makes no sense.

    Args:
        path: a file that libsndfile decodes: wav, flac, ogg, mp3, aiff ...
        sample_rate: in Hz, the rate to resample to; None keeps the file's.

    Returns:
        The waveform, (n_samples,) float32, full scale at -1 and 1, and its sample rate in Hz.

    Raises:
        AudioError: what :func:`probe` refuses; samples that are missing, NaN or infinite; a rate that is not positive.
    """
    samples, file_rate = _decode(local_path(path))
    waveform = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if sample_rate is None:
        return waveform, file_rate
    return resample(waveform, file_rate, sample_rate), sample_rate


def resample(waveform: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Change the sample rate by soxr at its "HQ" quality, as ``librosa.resample`` does.

    Args:
        waveform: (n_samples,) float32.
        source_rate: the waveform's rate in Hz.
        target_rate: the wanted rate in Hz.

    Returns:
        (ceil(n_samples * target_rate / source_rate),) float32.

    Raises:
        AudioError: a rate is not positive.
    """
    for rate in (source_rate, target_rate):
        _check_rate(rate, "The waveform")
    if source_rate == target_rate:
        return waveform
    n_samples = math.ceil(len(waveform) * (float(target_rate) / source_rate))
    resampled = soxr.resample(waveform, source_rate, target_rate, quality="HQ")[:n_samples]
    missing = n_samples - len(resampled)
    return np.pad(resampled, (0, missing)) if missing else resampled


def content_hash(path: str | Path) -> str:
    """Return a hash of the decoded samples of a recording, independent of its format and header.

    Args:
        path: a file that :func:`read` accepts.

    Returns:
        SHA-256 over the decoded float32 samples of all channels, their number and the sample rate, 64 hexadecimal
        digits. Lossless copies (wav, flac) of one recording share it; a resampled or mixed-down copy does not.

    Raises:
        AudioError: as :func:`read`.
    """
    samples, sample_rate = _decode(local_path(path))
    digest = hashlib.sha256(f"{sample_rate} Hz, {samples.shape[1]} channels\n".encode())
    digest.update(np.ascontiguousarray(samples, dtype="<f4").data)
    return digest.hexdigest()


def check_waveform(waveform: np.ndarray, sample_rate: int, name: str = "waveform") -> np.ndarray:
    """Check samples that did not come from a file.

    Args:
        waveform: (n_samples,) floating point, full scale at -1 and 1.
        sample_rate: in Hz.
        name: of the waveform, for error messages.

    Returns:
        The waveform as float32, not resampled.

    Raises:
        AudioError: not one channel of finite floating-point samples, or a rate that is not positive.
    """
    samples = np.asarray(waveform)
    _check_rate(sample_rate, name)
    if samples.ndim != 1:
        raise AudioError(f"{name} has the shape {samples.shape}; give one channel, (n_samples,), e.g. their mean.")
    if len(samples) == 0:
        raise AudioError(f"{name} holds no samples; give at least one.")
    if not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(f"{name} holds {samples.dtype} samples; give floats in -1..1 (int16 divided by 32768).")
    _check_finite(samples, name)
    return samples.astype(np.float32, copy=False)


def check_audible(waveform: np.ndarray, name: str) -> None:
    """Raise for silence, and for numbers too large to be sound.

    Args:
        waveform: (n_samples,), full scale at -1 and 1.
        name: of the waveform, for error messages.

    Raises:
        AudioError: no sample is further than :data:`SILENCE` from their mean, or one is beyond :data:`LOUDEST`.
    """
    mean = float(waveform.mean(dtype=np.float64))
    loudest = max(float(waveform.max()) - mean, mean - float(waveform.min()))  # without a copy
    if loudest < SILENCE:
        raise AudioError(
            f"{name} is silent: its {len(waveform)} samples are all within {SILENCE:g} of {mean:g}; "
            "record it again or leave it out."
        )
    if loudest > LOUDEST:
        raise AudioError(f"{name} has samples of {loudest:.3g}, but full scale is 1; export it again.")


def _decode(path: Path) -> tuple[np.ndarray, int]:
    """Return all channels, (n_samples, channels) float32, and the sample rate."""
    with _opened(path) as file:
        samples, n_announced, sample_rate = _samples(file, path), file.frames, file.samplerate
    is_estimate = path.suffix.lower() == ".mp3"
    if len(samples) == 0 or (len(samples) < n_announced and not is_estimate):
        raise AudioError(f"{path} is cut off: {n_announced} samples announced, {len(samples)} found; get it again.")
    return samples, sample_rate


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open a recording, with AudioErrors for its faults, also while it is read."""
    _check_file(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            _check_rate(file.samplerate, path)
            if file.frames == 0:
                raise AudioError(f"{path} holds no samples; leave it out or export it again.")
            yield file
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise AudioError(f"{path} cannot be decoded ({reason}); convert it to wav or flac, or get it again.") from None


def _samples(file: soundfile.SoundFile, path: Path) -> np.ndarray:
    if file.subtype != "PCM_16":
        samples = file.read(file.frames, dtype="float32", always_2d=True)
        _check_finite(samples, path)
        return samples
    # the same numbers: libsndfile's own conversion of a wav to floats takes five times as long as reading it
    pcm = file.read(file.frames, dtype="int16", always_2d=True)
    return np.multiply(pcm, np.float32(1 / 32_768), dtype=np.float32)


def _check_rate(rate: object, name: object) -> None:
    lowest, highest = SAMPLE_RATES
    if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)) or not lowest <= rate <= highest:
        raise AudioError(f"{name} has the sample rate {rate!r} Hz; possible are {lowest} to {highest} Hz.")


def _check_finite(samples: np.ndarray, name: object) -> None:
    n_bad = samples.size - np.count_nonzero(np.isfinite(samples))
    if n_bad:
        raise AudioError(f"{name} holds {n_bad} samples that are NaN or infinite; export it again or leave it out.")


def _check_file(path: Path) -> None:
    if not str(path).isascii() and any("\ud800" <= letter <= "\udfff" for letter in str(path)):
        raise AudioError(f"{str(path)!a} has a name that is not UTF-8; rename it.")
    if path.is_dir():
        raise AudioError(f"{path} is a folder; give one recording.")
    if path.exists() and not path.is_file():
        raise AudioError(f"{path} is a pipe or device; give a file.")  # reading it might never end
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_MARK))
            if not start:
                raise AudioError(f"{path} is empty (0 bytes); get it again.")
            if start == _LFS_MARK:
                raise AudioError(f"{path} is a git-lfs stub, not the recording; run: git lfs pull")
            if start[:4] == b"RIFF" and start[8:12] == b"WAVE":
                _check_wav(path, file)
    except FileNotFoundError:
        raise AudioError(f"{path} does not exist; check the path.") from None
    except OSError as error:
        raise AudioError(f"{path} cannot be read ({error.strerror}); check its permissions.") from None


def _check_wav(path: Path, file: BinaryIO) -> None:
    """Compare a wav's header with its size: libsndfile reads a cut-off file without complaint."""
    size = path.stat().st_size
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        position += 8
        if name == b"fmt ":
            start = file.read(8)
            if len(start) == 8 and struct.unpack("<4xI", start)[0] == 0:
                raise AudioError(
                    f"{path} has a sample rate of 0 Hz in its header; export it again with the right rate."
                )
        if name == b"data":
            if size - position < length < _STREAMED_SIZE:
                raise AudioError(
                    f"{path} is cut off: its header announces {length} bytes of samples, "
                    f"{size - position} are there; get it again."
                )
            return
        position += length + length % 2
    raise AudioError(f"{path} is cut off: its header ends before the samples begin; get it again.")
