"""A timeline of a long recording, as JSON.

    python examples/long_recording.py MODEL RECORDING

MODEL is a .keras file or a fold's folder of a run. A recording more than twice as long as the model's
clips is classified in half-overlapping windows.
"""

import sys
from itertools import groupby
from pathlib import Path

import serzoo
from serzoo.predictions import to_json


def main(model: Path, recording: Path) -> None:
    prediction = serzoo.load(model).predict(recording)
    for label, run in groupby(prediction.timeline, key=lambda segment: segment.label):
        segments = list(run)
        print(f"{segments[0].start:7.1f} s to {segments[-1].end:7.1f} s: {label}")
    for warning in prediction.warnings:
        print(f"warning: {warning}")
    answer = recording.with_suffix(".json")
    answer.write_text(to_json([prediction]), encoding="utf-8")
    print(f"Overall {prediction.label} ({prediction.confidence:.0%}); all probabilities are in {answer}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
