"""What a feature is: every number that decides its value, in one frozen record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from serzoo.errors import ConfigError, unknown_name

FEATURE_VERSION = 1
"""Raised whenever the code computes other values for the same spec; part of every cache key."""


@dataclass(frozen=True)
class MFCCSpec:
    """Mel-frequency cepstral coefficients as ``librosa.feature.mfcc`` computes them.

    The defaults are what the programs of TIM-Net and TBDM-Net run (not what their papers say).

    Args:
        sample_rate: in Hz; audio of another rate is resampled to it first.
        n_samples: the waveform is centred in this many samples, zero-padded or cut; None keeps its length.
        n_mfcc: coefficients per frame.
        n_fft: FFT and Hann window length in samples.
        hop_length: frame shift in samples.
        n_mels: Slaney mel bands between 0 Hz and half the sample rate.
        top_db: each clip's mel powers are floored this many dB below its own maximum.
    """

    sample_rate: int = 22_050
    n_samples: int | None = None
    n_mfcc: int = 39
    n_fft: int = 2048
    hop_length: int = 512
    n_mels: int = 128
    top_db: float = 80.0

    kind = "mfcc"

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_mfcc", "n_fft", "hop_length", "n_mels"):
            _check_positive(name, getattr(self, name), int)
        if self.n_samples is not None:
            _check_positive("n_samples", self.n_samples, int)
        _check_positive("top_db", self.top_db, (int, float))
        if self.n_mfcc > self.n_mels:
            raise ConfigError(f"n_mfcc is {self.n_mfcc} but there are {self.n_mels} mel bands; use n_mfcc <= n_mels.")

    @property
    def n_features(self) -> int:
        """Values per frame."""
        return self.n_mfcc

    @property
    def n_frames(self) -> int | None:
        """Frames of every clip, or None where clips keep their length."""
        return None if self.n_samples is None else 1 + (self.n_samples - self.n_fft % 2) // self.hop_length

    def to_dict(self) -> dict[str, object]:
        """Return the spec as plain data, ``kind`` first; :func:`spec_from_dict` reads it back."""
        return {"kind": self.kind, **asdict(self)}

    def digest(self) -> str:
        """Return a hash of the spec and the feature code's version, 16 hexadecimal digits."""
        text = json.dumps({"version": FEATURE_VERSION, **self.to_dict()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


SPECS = {"mfcc": MFCCSpec}
"""Feature kinds by the name a config uses."""


def spec_from_dict(values: Mapping[str, object]) -> MFCCSpec:
    """Build the spec that ``values`` describes.

    Args:
        values: ``kind`` and any of that kind's fields.

    Raises:
        UnknownNameError: an unknown kind or field, with the nearest match.
        ConfigError: a value out of range.
    """
    given = dict(values)
    kind = given.pop("kind", "mfcc")
    if kind not in SPECS:
        raise unknown_name("feature kind", kind, SPECS)
    spec = SPECS[kind]
    allowed = [field.name for field in fields(spec)]
    for name in given:
        if name not in allowed:
            raise unknown_name(f"{kind} setting", name, allowed)
    return spec(**given)  # type: ignore[arg-type]


def _check_positive(name: str, value: object, types: type | tuple[type, ...]) -> None:
    if isinstance(value, bool) or not isinstance(value, types) or not value > 0:  # type: ignore[operator]
        raise ConfigError(f"{name} is {value!r}; it must be a positive number.")
