"""From a recording to the model's input: files, windows or segments, their features, and warnings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from serzoo.data import audio
from serzoo.data.corpora.corpus import audio_files
from serzoo.errors import AudioError, FeatureError
from serzoo.features.extract import extract
from serzoo.features.segments import cut_segments, segment_starts
from serzoo.features.spec import FeatureSpec
from serzoo.files import local_path

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
"""Endings of the files read from a folder; a file given by name may have any ending."""

MIN_SECONDS = 0.1
"""Shorter recordings, less than a syllable, are refused."""

_SHORT_SECONDS = 0.5
_QUIET_DB = -70.0  # dB below full scale; the quietest recording of RAVDESS has an RMS of -61
_FULL_SCALE = 0.999
_CLIPPED_SHARE = 0.001  # of all samples; a recording normalised to full scale reaches it in far fewer
_USED_SHARE = 0.9

Windows = bool | Literal["auto"]
"""Whether long recordings are classified window by window; ``"auto"``: those longer than twice the model's length."""


@dataclass(frozen=True)
class Clip:
    """A recording prepared for a model.

    Args:
        name: the file's path, or ``"array"``.
        duration: in seconds.
        features: of each window or segment, (n_parts, n_frames, ...).
        spans: start and end of each part in seconds; empty where the recording is classified in one piece.
        warnings: reasons why the prediction may be less reliable.
        gender: probability that the speaker is male, or None for a model that does not take it.
    """

    name: str
    duration: float
    features: np.ndarray
    spans: tuple[tuple[float, float], ...]
    warnings: tuple[str, ...]
    gender: float | None


def recordings_in(source: str | Path) -> Iterator[Path]:
    """Yield a file, or the recordings below a folder in natural order, hidden ones left out.

    Args:
        source: a file of any name, or a folder that is searched with its subfolders for :data:`SUFFIXES`.

    Raises:
        AudioError: not a path, or a folder without recordings.
    """
    if not isinstance(source, (str, Path)) or not str(source):
        raise AudioError(f"{source!r} is not a path; give file names, or a NumPy array and its sample rate.")
    path = local_path(source)
    if not path.is_dir():
        yield path
        return
    found = [file for file in audio_files(path, SUFFIXES) if file.is_file()]
    if not found:
        raise AudioError(f"Folder {path} holds no recordings; looked for {', '.join(SUFFIXES)}.")
    yield from found


def make_clip(
    name: str, waveform: np.ndarray, sample_rate: int, spec: FeatureSpec, windows: Windows, gender: float | None
) -> Clip:
    """Check a recording, cut it into the parts to classify and compute their features.

    Args:
        name: of the recording, for error messages.
        waveform: one channel, (n_samples,), floats, full scale at -1 and 1.
        sample_rate: in Hz; the waveform is resampled to the rate of the features.
        spec: the features.
        windows: whether a recording longer than ``spec.n_samples`` is cut into windows of that length.
        gender: probability that the speaker is male; None if the model does not take it.

    Raises:
        AudioError: the recording is silent, or shorter than :data:`MIN_SECONDS` or a frame.
    """
    audio.check_audible(waveform, name)
    duration = len(waveform) / sample_rate
    if duration < MIN_SECONDS:
        raise AudioError(
            f"{name} lasts {duration:.3f} s, too short to classify; give at least {MIN_SECONDS} s of speech."
        )
    warnings = _warnings(waveform, sample_rate, spec)
    waveform = audio.resample(waveform, sample_rate, spec.sample_rate)
    try:
        if spec.segment_frames is not None:
            features, spans = _in_segments(waveform, spec, spec.segment_frames)
            n_silent = sum(not waveform[start:end].any() for start, end in spans)
            if n_silent:  # they are classified too, and may have the maximum
                warnings.append(f"{n_silent} of {len(spans)} segments are digital silence and count like speech")
        else:
            spans = _spans(len(waveform), spec.n_samples, windows)
            used = spans[0][1] - spans[0][0]
            if len(spans) == 1 and used < _USED_SHARE * len(waveform):
                central, total = used / spec.sample_rate, len(waveform) / spec.sample_rate
                warnings.append(
                    f"only the central {central:.2f} of {total:.2f} s were classified; use windows=True for all of it"
                )
            features, spans = _in_windows(name, waveform, spec, spans)
    except FeatureError as error:
        raise AudioError(f"{name}: {error}") from None
    seconds = [(start / spec.sample_rate, end / spec.sample_rate) for start, end in spans]
    return Clip(name, duration, features, tuple(seconds), tuple(warnings), gender)


def _in_windows(
    name: str, waveform: np.ndarray, spec: FeatureSpec, spans: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return the features of a recording's windows, and their spans; silent windows are left out."""
    audible = [(start, end) for start, end in spans if waveform[start:end].any()]
    if not audible:
        raise AudioError(
            f"{name} is silent in its central {spec.n_samples} samples; use windows=True to classify all of it."
        )
    return np.stack([extract(waveform[start:end], spec) for start, end in audible]), audible if len(spans) > 1 else []


def _in_segments(waveform: np.ndarray, spec: FeatureSpec, length: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return the features of a recording's segments, and their spans; none for a single segment."""
    features = extract(waveform, spec)
    segments = cut_segments(features, length)
    starts = segment_starts(len(features), length) * spec.hop_length
    ends = np.minimum(starts + length * spec.hop_length, len(waveform))
    return segments, list(zip(starts.tolist(), ends.tolist(), strict=True)) if len(segments) > 1 else []


def _spans(n_samples: int, length: int | None, windows: Windows) -> list[tuple[int, int]]:
    """Return start and end, in samples, of the windows to classify: the central one, or half-overlapping ones."""
    if length is None or n_samples <= length:
        return [(0, n_samples)]
    if not windows or (windows == "auto" and n_samples <= 2 * length):
        starts = [(n_samples - length) // 2]
    else:
        hop = (length + 1) // 2
        starts = [*range(0, n_samples - length, hop), n_samples - length]
    return [(start, start + length) for start in starts]


def _warnings(waveform: np.ndarray, sample_rate: int, spec: FeatureSpec) -> list[str]:
    """Return warnings about sample rate, length and level."""
    found = []
    if sample_rate < spec.sample_rate:
        found.append(
            f"recorded at {sample_rate} Hz, below the model's {spec.sample_rate} Hz: it has nothing above "
            f"{sample_rate // 2} Hz, so predictions are reliable only if the training recordings were alike"
        )
    duration = len(waveform) / sample_rate
    if duration < _SHORT_SECONDS:
        found.append(f"only {duration:.2f} s long, little to classify")
    # np.abs would copy the samples, tens of thousands per second
    peak = float(max(waveform.max(), -waveform.min()))
    level = 10 * math.log10(np.dot(waveform, waveform) / len(waveform))
    if level < _QUIET_DB:
        found.append(f"very quiet: {level:.0f} dB RMS below full scale")
    if peak > 2:
        found.append(f"samples reach {peak:.0f}, but full scale is 1; divide 16-bit samples by 32768")
    elif peak >= _FULL_SCALE and (clipped := np.mean(np.abs(waveform) >= _FULL_SCALE)) > _CLIPPED_SHARE:
        found.append(f"clipped: {clipped:.1%} of the samples are at full scale")
    return found
