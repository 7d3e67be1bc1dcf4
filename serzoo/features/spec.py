"""Feature specs: frozen records of every number that determines the value of a feature."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

from serzoo.checks import COUNT, FRACTION, POSITIVE, integer, one_of, require
from serzoo.errors import ConfigError, unknown_name
from serzoo.features.model_files import source_fingerprint
from serzoo.strict_data import Checked, Choice, Place, build, placed

FEATURE_VERSION = 1
"""Increased whenever the code computes other values for the same spec; part of every cache key."""

WINDOWS = ("hamming", "rectangular")
"""Window functions of a log-mel frame."""

SOURCES = ("hf", "mel", "mfcc", "onnx", "vectors")
"""Kinds of embedding sources: the text before the colon, or all of it."""

SIGNAL_SOURCES = {"mel": (80, 22_050), "mfcc": (39, 22_050)}
"""The sources without a file: width, and sample rate in Hz."""


@dataclass(frozen=True)
class FeatureSpec(Checked, ABC):
    """Settings and shapes common to all kinds of features.

    Args:
        sample_rate: in Hz; audio of another rate is resampled first.

    Raises:
        ConfigError: a value out of range, or settings that contradict each other.
        UnknownNameError: an unknown name of a window or source.
    """

    sample_rate: Annotated[int, COUNT]

    kind: ClassVar[str]
    """Name of the kind in recipes."""

    @property
    def n_samples(self) -> int | None:
        """Samples to which a waveform is padded or cut; None keeps its length."""
        return None

    @property
    def segment_frames(self) -> int | None:
        """Frames of the segments of a recording; None does not cut it."""
        return None

    @property
    def hop_length(self) -> int:
        """Frame shift in samples; 0 where a recording is one frame."""
        return 0

    @property
    @abstractmethod
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of one frame."""

    @abstractmethod
    def frames_in(self, n_samples: int) -> int:
        """Return the number of frames of a waveform of ``n_samples``, before any segmenting."""

    @property
    @abstractmethod
    def n_frames(self) -> int | None:
        """Frames of every network input, or None where recordings keep their length."""

    @property
    def min_samples(self) -> int:
        """Least number of samples of a waveform."""
        return 1

    def to_dict(self) -> dict[str, object]:
        """Return the spec as plain data, ``kind`` first; :func:`spec_from_dict` reads it back."""
        return {"kind": self.kind, **asdict(self)}

    def digest(self) -> str:
        """Return a hash of the settings that determine the values and of the code's version, 16 hexadecimal digits."""
        values = {"version": FEATURE_VERSION, **self._key()}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def _key(self) -> dict[str, object]:
        """Return the settings that determine the extracted values."""
        return self.to_dict()


@dataclass(frozen=True)
class FrameSpec(FeatureSpec):
    """Settings common to features of frames.

    Args:
        n_samples: length to which the waveform is zero-padded or cut, at both ends; None keeps its length.
        segment_frames: frames of a segment. The network predicts each segment of a recording, and the recording gets
            the maximum over its segments, class by class. None gives the network all frames at once.
        hop_length: frame shift in samples; the default depends on the kind.
    """

    n_samples: Annotated[int, COUNT] | None = None
    segment_frames: Annotated[int, COUNT] | None = None
    hop_length: Annotated[int, COUNT] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if None not in (self.n_samples, self.segment_frames):
            raise ConfigError(
                f"n_samples is {self.n_samples} and segment_frames is {self.segment_frames}; set one of them: "
                "a recording is padded or cut to one length, or divided into segments."
            )

    @property
    def n_frames(self) -> int | None:
        """Frames of every network input, or None where recordings keep their length."""
        if self.segment_frames is not None:
            return self.segment_frames
        return None if self.n_samples is None else self.frames_in(self.n_samples)

    def _key(self) -> dict[str, object]:
        """Return all settings but ``segment_frames``: segments are cut after the extraction."""
        return {name: value for name, value in self.to_dict().items() if name != "segment_frames"}


@dataclass(frozen=True)
class MFCCSpec(FrameSpec):
    """Mel-frequency cepstral coefficients as ``librosa.feature.mfcc`` computes them.

    The defaults are those of the programs of TIM-Net and TBDM-Net (their papers differ).

    Args, besides those of :class:`FrameSpec`:
        n_mfcc: coefficients per frame.
        n_fft: FFT and Hann window length in samples.
        n_mels: Slaney mel bands between 0 Hz and half the sample rate.
        top_db: dynamic range in dB; lower mel powers of a clip are raised to its maximum less ``top_db``.
    """

    sample_rate: Annotated[int, COUNT] = 22_050
    hop_length: Annotated[int, COUNT] = 512
    n_mfcc: Annotated[int, COUNT] = 39
    n_fft: Annotated[int, COUNT] = 2048
    n_mels: Annotated[int, COUNT] = 128
    top_db: Annotated[float, POSITIVE] = 80.0

    kind = "mfcc"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_mfcc > self.n_mels:
            raise ConfigError(f"n_mfcc is {self.n_mfcc} but there are {self.n_mels} mel bands; use n_mfcc <= n_mels.")

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(n_mfcc,)."""
        return (self.n_mfcc,)

    def frames_in(self, n_samples: int) -> int:
        """Return the number of frames, centred on the multiples of the hop, of a waveform of ``n_samples``."""
        return 1 + (n_samples - self.n_fft % 2) // self.hop_length


@dataclass(frozen=True)
class LogMelSpec(FrameSpec):
    """Logarithms of mel band powers with their first and second differences over time, as three channels.

    The values equal those of python_speech_features 0.6. The defaults are those of the ACRNN papers; their program uses
    ``window="rectangular", preemphasis=0.97, standardize_waveform=False``.

    Args, besides those of :class:`FrameSpec`:
        n_samples: as in :class:`FrameSpec`; at least one window.
        n_mels: HTK mel bands between 0 Hz and half the sample rate.
        window_length: samples of a frame.
        n_fft: FFT length; a frame is zero-padded to it.
        window: one of :data:`WINDOWS`.
        preemphasis: share of each sample subtracted from the next one; 0 for none.
        standardize_waveform: scale each waveform to zero mean and unit variance; otherwise full scale is 32768.
        delta_width: frames on either side that enter a difference.

    Raises:
        ConfigError: a value out of range.
        UnknownNameError: an unknown window.
    """

    sample_rate: Annotated[int, COUNT] = 16_000
    hop_length: Annotated[int, COUNT] = 160
    n_mels: Annotated[int, COUNT] = 40
    window_length: Annotated[int, COUNT] = 400
    n_fft: Annotated[int, COUNT] = 512
    window: Annotated[str, one_of(WINDOWS, "window")] = "hamming"
    preemphasis: Annotated[float, FRACTION] = 0.0
    standardize_waveform: bool = True
    delta_width: Annotated[int, COUNT] = 2

    kind = "logmel"

    def __post_init__(self) -> None:
        super().__post_init__()
        length = self.window_length
        if length > self.n_fft:
            raise ConfigError(f"window_length is {length} but n_fft is {self.n_fft}; use window_length <= n_fft.")
        if self.n_samples is not None and self.n_samples < length:
            raise ConfigError(
                f"n_samples is {self.n_samples} but one frame has {length}; use n_samples >= window_length."
            )

    @property
    def min_samples(self) -> int:
        """One frame."""
        return self.window_length

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(n_mels, 3): the band's logarithm, its difference and the difference's difference."""
        return (self.n_mels, 3)

    def frames_in(self, n_samples: int) -> int:
        """Return the number of frames that cover a waveform of ``n_samples``, the last one zero-padded."""
        beyond_the_first = max(n_samples - self.window_length, 0)
        return 1 + -(-beyond_the_first // self.hop_length)


@dataclass(frozen=True)
class STFTSpec(FrameSpec):
    """Magnitudes of the short-time Fourier transform as ``scipy.signal.stft`` computes it.

    The defaults are those of the quaternion networks and RH-Emo: 16 ms Hamming windows with half overlap at 16 kHz,
    without the highest of the 129 bins. ``segment_frames=501`` gives the papers' segments of 4 seconds.

    Args, besides those of :class:`FrameSpec`:
        hop_length: as in :class:`FrameSpec`; at most ``window_length``.
        window_length: samples of a frame, and of its Fourier transform.
        n_bins: frequencies from 0 Hz on, ``sample_rate / window_length`` apart; at most ``window_length // 2 + 1``.

    Source: Guizzo et al., "Quaternion Anti-Transfer Learning for Speech Emotion Recognition", WASPAA 2023,
    section 3.1.
    """

    sample_rate: Annotated[int, COUNT] = 16_000
    hop_length: Annotated[int, COUNT] = 128
    window_length: Annotated[int, COUNT] = 256
    n_bins: Annotated[int, COUNT] = 128

    kind = "stft"

    def __post_init__(self) -> None:
        super().__post_init__()
        length = self.window_length
        if self.hop_length > length:
            raise ConfigError(
                f"hop_length is {self.hop_length} but window_length is {length}; use hop_length <= window_length."
            )
        if self.n_bins > length // 2 + 1:
            raise ConfigError(
                f"n_bins is {self.n_bins} but a window of {length} samples has {length // 2 + 1}; use at most those."
            )

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(n_bins, 1): an image with one channel."""
        return (self.n_bins, 1)

    def frames_in(self, n_samples: int) -> int:
        """Return the number of frames, centred on the multiples of the hop, that cover a waveform of ``n_samples``."""
        return 1 + -(-(n_samples - self.window_length % 2) // self.hop_length)


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpec(FeatureSpec):
    """One vector per recording, as a feature of one frame: see :mod:`serzoo.features.embeddings`.

    Args:
        sample_rate: that of the network's training data, in Hz.
        source: ``"mel"`` (80 bands) or ``"mfcc"`` (39 coefficients), averaged over time, both at 22,050 Hz;
            ``"hf:NAME"``, a network of Hugging Face transformers by hub id or local folder; ``"onnx:FILE"``, an
            exported network; ``"vectors:FILE"``, vectors computed elsewhere, an ``.npz`` or CSV file.
        width: values of the vector.
        layer: hidden state of an ``hf:`` network to average over time: 0 for the input of the first transformer layer,
            1 for its output, and so on; None for the network's output.

    Raises:
        ConfigError: a value out of range, or settings that contradict each other.
        UnknownNameError: an unknown source.

    Source: Stanea et al., "An analysis of large speech models-based representations for speech emotion recognition",
    2023, section III.B.
    """

    sample_rate: Annotated[int, COUNT] = 16_000
    source: str
    width: Annotated[int, COUNT]
    layer: Annotated[int, integer(at_least=0)] | None = None

    kind = "embedding"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.source.isprintable(), "source", self.source, "a line of text, for example mel or hf:NAME")
        if self.source_kind not in SOURCES:
            raise unknown_name("embedding source", self.source_kind, SOURCES)
        if self.source in SIGNAL_SOURCES:
            width, sample_rate = SIGNAL_SOURCES[self.source]
            if (self.width, self.sample_rate) != (width, sample_rate):
                raise ConfigError(
                    f"width is {self.width} and sample_rate is {self.sample_rate}, but {self.source} has {width} "
                    f"values at {sample_rate} Hz; set width: {width} and sample_rate: {sample_rate}."
                )
        elif self.source_kind in SIGNAL_SOURCES:
            raise ConfigError(f"source is {self.source!r}; {self.source_kind} needs no file, write {self.source_kind}.")
        elif not self.source_name:
            raise ConfigError(f"source is {self.source!r}; add its name after a colon: {self.source_kind}:NAME.")
        if self.layer is not None and self.source_kind != "hf":
            raise ConfigError(f"layer is {self.layer!r}, but only hf: networks have layers to choose; leave it out.")

    @property
    def source_kind(self) -> str:
        """One of :data:`SOURCES`."""
        return self.source.partition(":")[0]

    @property
    def source_name(self) -> str:
        """The file, folder or hub id after the colon; empty for a source without one."""
        return self.source.partition(":")[2]

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(width,)."""
        return (self.width,)

    @property
    def n_frames(self) -> int:
        """1: the recording is one frame."""
        return 1

    def frames_in(self, n_samples: int) -> int:
        """Return 1, for any number of samples."""
        return 1

    def _key(self) -> dict[str, object]:
        """Return the spec with a hash of the source's content in place of its path."""
        return {**self.to_dict(), "source": [self.source_kind, source_fingerprint(self.source)]}


SPECS: dict[str, type[FeatureSpec]] = {spec.kind: spec for spec in (MFCCSpec, LogMelSpec, STFTSpec, EmbeddingSpec)}
"""The spec of each kind, by its name in recipes."""


def spec_from_dict(values: Mapping[str, object]) -> FeatureSpec:
    """Return the spec of plain data.

    Args:
        values: ``kind`` (default: MFCCs) and any of that kind's fields.

    Raises:
        UnknownNameError: an unknown kind or field; the message names the nearest match.
        ConfigError: a value out of range, or a missing field without default.
    """
    return build(FeatureSpec, values, Place(""), CHOOSE_SPEC)  # type: ignore[type-abstract]


def _spec_class(values: Mapping[str, Any], place: Place) -> tuple[type, Mapping[str, Any]]:
    """Return the class of a ``kind``, and the values without it."""
    given = dict(values)
    kind = given.pop("kind", MFCCSpec.kind)
    with placed(place.key(values, "kind")):
        if not isinstance(kind, str) or kind not in SPECS:
            raise unknown_name("feature kind", kind, SPECS)
    return SPECS[kind], given


CHOOSE_SPEC: Mapping[type, Choice] = {FeatureSpec: _spec_class}
"""For :func:`serzoo.strict_data.build`: ``kind`` selects the class of a spec."""
