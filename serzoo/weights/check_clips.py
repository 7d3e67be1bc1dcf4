"""The check clips of pretrained weights: a model card states the probabilities for one of them.

They are synthetic, and stored as files so that no package's version can change them. A card names its clip by the
arguments of :func:`serzoo.data.synthetic_voice.synthesize` that made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from serzoo.errors import WeightsError
from serzoo.labels import FEMALE, MALE

_COMMON = {"speaker": "01", "text": "01", "take": 0, "seed": 0, "sample_rate": 48_000}

EMOTION_CLIP: Mapping[str, Any] = MappingProxyType({"label": "happy", "gender": MALE, **_COMMON})
"""The clip of emotion classifiers."""

GENDER_CLIP: Mapping[str, Any] = MappingProxyType({"label": "neutral", "gender": FEMALE, **_COMMON})
"""The clip of gender classifiers."""

_FOLDER = Path(__file__).with_name("files")


def is_check_clip(arguments: Mapping[str, Any]) -> bool:
    """Return whether a card's ``input`` names one of the two clips."""
    return dict(arguments) in (dict(EMOTION_CLIP), dict(GENDER_CLIP))


def read_check_clip(arguments: Mapping[str, Any]) -> tuple[np.ndarray, int]:
    """Return a check clip's samples, (n_samples,) float32 in -1..1, and its sample rate, 48,000 Hz.

    Args:
        arguments: :data:`EMOTION_CLIP` or :data:`GENDER_CLIP`.

    Raises:
        WeightsError: they name no check clip.
    """
    import soundfile

    if not is_check_clip(arguments):
        raise WeightsError(f"input is {dict(arguments)!r:.80}; it must name one of serzoo's check clips.")
    path = _FOLDER / f"check-{arguments['label']}-{arguments['gender']}.wav"
    return soundfile.read(path, dtype="float32")
