"""Published results in percent, to compare with, each with its protocol; ``published_figures.csv`` holds them.

Most are on random folds, with the same speakers in training and test. Such a figure does not apply to new speakers and
is comparable only with a result under the same protocol.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from serzoo.metrics import HEADLINE


@dataclass(frozen=True)
class Published:
    """A published result.

    Args:
        system: the scored system, with epochs and selection if the paper states them.
        protocol: the protocol in words.
        speaker_independent: whether no test speaker was in training.
        paper: authors and year.
        table: its table; empty if not recorded.
        scores: UAR, WAR and weighted F1, in percent; None if not published.
    """

    system: str
    protocol: str
    speaker_independent: bool
    paper: str
    table: str
    scores: tuple[float | None, ...]


def _read(path: Path) -> dict[str, Published]:
    with path.open(encoding="utf-8", newline="") as file:
        return {
            row["name"]: Published(
                row["system"],
                row["protocol"],
                row["speaker_independent"] == "true",
                row["paper"],
                row["table"],
                tuple(float(row[score]) if row[score] else None for score in HEADLINE),
            )
            for row in csv.DictReader(file)
        }


PUBLISHED = _read(Path(__file__).with_suffix(".csv"))
"""All published results by ``system/corpus`` or ``system/corpus/variant``."""
