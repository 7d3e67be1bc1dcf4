"""The predictions of a classifier for recordings, and their JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serzoo.labels import UNKNOWN


@dataclass(frozen=True)
class Segment:
    """The prediction for one window or segment of a recording.

    Args:
        start: in seconds from the beginning of the recording.
        end: in seconds.
        probabilities: one per class name, in the model's order.
        threshold: as in :class:`Prediction`.
    """

    start: float
    end: float
    probabilities: Mapping[str, float]
    threshold: float = 0.0

    @property
    def label(self) -> str:
        """The most probable class, or :data:`UNKNOWN` where its probability is below the threshold."""
        return _label(self.probabilities, self.threshold)

    def to_dict(self) -> dict[str, object]:
        """Return the segment as plain data."""
        return {
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "label": self.label,
            "probabilities": _rounded(self.probabilities),
        }


@dataclass(frozen=True)
class Prediction:
    """The prediction for one recording.

    Args:
        name: the file's path, or ``"array"``.
        probabilities: one per class name, in the model's order. For a recording in windows they are the mean over the
            windows; for one in segments the maximum over the segments, scaled to a sum of 1.
        duration: in seconds.
        timeline: half-overlapping windows of a long recording, without those that are digital silence, or the segments
            of a model that was trained on segments; empty for a recording that is classified whole.
        warnings: reasons why the prediction may be less reliable than usual.
        gender: gender input of the model, as the probability of a male speaker; None for models without one.
        threshold: confidence in 0..1 below which the label is :data:`UNKNOWN`; 0 accepts every prediction.
    """

    name: str
    probabilities: Mapping[str, float]
    duration: float
    timeline: tuple[Segment, ...] = ()
    warnings: tuple[str, ...] = ()
    gender: float | None = None
    threshold: float = 0.0

    @property
    def label(self) -> str:
        """:attr:`top`, or :data:`UNKNOWN` where its probability is below the threshold."""
        return _label(self.probabilities, self.threshold)

    @property
    def top(self) -> str:
        """The most probable class, whatever the threshold."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """The probability of :attr:`top`."""
        return self.probabilities[self.top]

    def to_dict(self) -> dict[str, object]:
        """Return the prediction as plain data; ``top``, ``threshold`` and ``gender`` only where they apply."""
        return {
            "name": self.name,
            "label": self.label,
            **_top_and_threshold(self),
            "confidence": round(self.confidence, 6),
            "probabilities": _rounded(self.probabilities),
            "duration": round(self.duration, 3),
            **_gender(self),
            "timeline": [segment.to_dict() for segment in self.timeline],
            "warnings": list(self.warnings),
        }


def to_json(predictions: Sequence[Prediction]) -> str:
    """Return predictions as a JSON list with one object per recording, timelines included."""
    return json.dumps([prediction.to_dict() for prediction in predictions], indent=2, ensure_ascii=False) + "\n"


def to_csv(predictions: Sequence[Prediction]) -> str:
    """Return the predictions of one classifier as CSV: a row per recording, a column ``p_<class>`` per class.

    There is a column ``gender``, the probability of a male speaker, for models with a gender input, and there are
    columns ``top`` and ``threshold`` for predictions with a threshold. Timelines are left out; :func:`to_json` has
    them.
    """
    rows = [
        {
            "name": prediction.name,
            "label": prediction.label,
            **_top_and_threshold(prediction),
            "confidence": round(prediction.confidence, 6),
            "duration": round(prediction.duration, 3),
            **_gender(prediction),
            **{f"p_{name}": value for name, value in _rounded(prediction.probabilities).items()},
            "warnings": "; ".join(prediction.warnings),
        }
        for prediction in predictions
    ]
    columns = list(rows[0]) if rows else ["name", "label", "confidence", "duration", "warnings"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _top_and_threshold(prediction: Prediction) -> dict[str, str | float]:
    return {"top": prediction.top, "threshold": round(prediction.threshold, 6)} if prediction.threshold else {}


def _gender(prediction: Prediction) -> dict[str, float]:
    return {} if prediction.gender is None else {"gender": round(prediction.gender, 6)}


def _label(probabilities: Mapping[str, float], threshold: float) -> str:
    top = max(probabilities, key=probabilities.__getitem__)
    return top if probabilities[top] >= threshold else UNKNOWN


def _rounded(probabilities: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in probabilities.items()}
