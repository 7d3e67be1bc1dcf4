"""Predict a timeline of a long recording and write it as JSON.

    python examples/long_recording.py MODEL RECORDING

MODEL is the name of pretrained weights, a .keras file or the folder of a fold. A recording at least twice as
long as the model's clips is classified in half-overlapping windows.
"""

import sys
from itertools import groupby
from pathlib import Path

import serzoo
from serzoo.predictions import to_json


def main(model: str | Path, recording: Path) -> None:
    prediction = serzoo.load(model).predict(recording)
    for label, run in groupby(prediction.timeline, key=lambda segment: segment.label):
        segments = list(run)
        print(f"{segments[0].start:7.1f} s to {segments[-1].end:7.1f} s: {label}")
    for warning in prediction.warnings:
        print(f"warning: {warning}")
    timeline = recording.with_suffix(".json")
    timeline.write_text(to_json([prediction]), encoding="utf-8")
    print(f"Overall {prediction.label} ({prediction.confidence:.0%}); all probabilities are in {timeline}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]))
