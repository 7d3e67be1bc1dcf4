"""A manifest: one row per recording, whatever the corpus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serzoo.errors import DataError, unknown_name
from serzoo.labels import DIMENSIONS, check_class_names, male_probability

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("path", "label", "speaker", "gender", "text", "session", "intensity")
"""Columns of every manifest. ``path`` and ``label`` are always filled; the others hold ``""`` where unknown."""

_HIGH = 0.5


@dataclass(frozen=True)
class Manifest:
    """The recordings of a corpus in a fixed order.

    Args:
        frame: a table with the columns :data:`COLUMNS`, all strings, index 0..N-1. More are kept, among
            them ``valence``, ``arousal`` and ``dominance`` with ratings in 0..1 or ``""``.
            The order is the one the papers' splits depend on: by class, in the order of
            ``class_names``, and by natural file-name order within each class.
        class_names: the classes, in the order of the model's outputs.
        corpus: the name of the corpus, or ``"custom"``.

    Raises:
        DataError: a column is missing, there is no row, or a label is not a class.
    """

    frame: pd.DataFrame
    class_names: tuple[str, ...]
    corpus: str = "custom"

    def __post_init__(self) -> None:
        missing = [column for column in COLUMNS if column not in self.frame.columns]
        if missing:
            raise DataError(f"A manifest lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}.")
        if len(self.frame) == 0:
            raise DataError(f"The manifest of {self.corpus!r} is empty; it needs at least one recording.")
        object.__setattr__(self, "class_names", check_class_names(self.class_names))
        for label in sorted(set(self.frame["label"])):
            if label not in self.class_names:
                raise unknown_name(f"label in {self.corpus}", label, self.class_names)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def paths(self) -> list[Path]:
        """The recordings' paths, in order."""
        return [Path(path) for path in self.frame["path"]]

    @property
    def names(self) -> list[str]:
        """The shortest ends of the recordings' paths that are all different, in order, with ``/`` between the parts.

        Tables name recordings like this, so that the names do not depend on the folder of the corpus.
        """
        parts = [path.parts for path in self.paths]
        depths = range(1, max(map(len, parts)) + 1)
        cuts = (["/".join(part[-depth:]) for part in parts] for depth in depths)
        return next((names for names in cuts if len(set(names)) == len(names)), self.column("path").tolist())

    @property
    def targets(self) -> np.ndarray:
        """Class indices, shape (N,), int64, each in ``0..len(class_names) - 1``."""
        lookup = {name: index for index, name in enumerate(self.class_names)}
        return np.array([lookup[label] for label in self.frame["label"]], dtype=np.int64)

    @property
    def genders(self) -> np.ndarray:
        """Probabilities that the speakers are male, shape (N,), float32: 1 for ``male``, 0 for ``female``.

        Raises:
            DataError: a recording's gender is unknown, or is neither of these nor a number in 0..1.
        """
        rows = zip(self.frame["gender"], self.frame["path"], strict=True)
        return np.array([male_probability(gender, f"{path}: the speaker's") for gender, path in rows], np.float32)

    def with_genders(self, male: np.ndarray) -> Manifest:
        """Return the same recordings with other genders: the probabilities that the speakers are male, (N,)."""
        return Manifest(self.frame.assign(gender=[str(float(p)) for p in male]), self.class_names, self.corpus)

    @property
    def dimensions(self) -> np.ndarray | None:
        """Whether valence, arousal and dominance are high, shape (N, 3), float32: 1 for a rating above 0.5, else 0.

        NaN stands where a rating is unknown. None if no recording has any of the three.

        Raises:
            DataError: a rating is neither unknown nor a number in 0..1.
        """
        known = [name for name in DIMENSIONS if name in self.frame.columns and self.frame[name].ne("").any()]
        if not known:
            return None
        high = np.full((len(self), len(DIMENSIONS)), np.nan, np.float32)
        for name in known:
            ratings = [
                rating(text, f"{path}: the {name}")
                for text, path in zip(self.frame[name], self.frame["path"], strict=True)
            ]
            high[:, DIMENSIONS.index(name)] = [np.nan if np.isnan(value) else value > _HIGH for value in ratings]
        return high

    def column(self, name: str) -> np.ndarray:
        """Return one column as an array of strings, shape (N,)."""
        return self.frame[name].to_numpy(dtype=str)

    def select(self, indices: Sequence[int] | np.ndarray) -> Manifest:
        """Return the rows at ``indices`` (positions, in that order) as a manifest of its own."""
        return Manifest(self.frame.iloc[np.asarray(indices)].reset_index(drop=True), self.class_names, self.corpus)

    def with_classes(self, class_names: Sequence[str]) -> Manifest:
        """Keep the rows of ``class_names`` only, ordered as those names are.

        Raises:
            UnknownNameError: a name is not a class of this manifest.
            DataError: no recording is left.
        """
        for name in class_names:
            if name not in self.class_names:
                raise unknown_name(f"class of {self.corpus}", name, self.class_names)
        order = {name: index for index, name in enumerate(class_names)}
        kept = self.frame[self.frame["label"].isin(list(class_names))]
        kept = kept.sort_values("label", key=lambda column: column.map(order), kind="stable")
        return Manifest(kept.reset_index(drop=True), tuple(class_names), self.corpus)

    def labelled(self, class_names: Sequence[str]) -> Manifest:
        """Return the same recordings under other classes, for a model with more classes than occur here.

        Raises:
            UnknownNameError: a label is not one of ``class_names``.
        """
        return Manifest(self.frame, tuple(class_names), self.corpus)

    def with_target(self, column: str) -> Manifest:
        """Return the same recordings labelled by another column, for example by speaker or text.

        The rows keep their order, so a random protocol with the same seed splits both tasks alike: a network
        pretrained on speakers was not trained on the test recordings of the emotions.

        Args:
            column: the column whose values are the classes: ``"speaker"``, ``"text"``, ``"gender"``, ``"session"``,
                ``"intensity"`` or a further one that the table has. ``"label"`` returns the manifest itself.

        Returns:
            The recordings, their labels the column's values, the classes those values in natural order.

        Raises:
            UnknownNameError: there is no such column.
            DataError: the column is unknown for some recordings or has one value only.
        """
        if column == "label":
            return self
        offered = [name for name in self.frame.columns if name != "path"]
        if column not in offered:
            raise unknown_name(f"target of {self.corpus}", column, offered)
        labels = self.column(column)
        n_unknown = int(np.sum(labels == ""))
        if n_unknown:
            raise DataError(
                f"{n_unknown} of {len(self)} recordings of {self.corpus} have no {column}; fill that column of the "
                "manifest, leave those recordings out or choose another target."
            )
        found = in_natural_order(labels)
        if len(found) < 2:
            raise DataError(
                f"All {len(self)} recordings of {self.corpus} have the {column} {found[0]!r}, a single class; "
                "add recordings of another or choose another target."
            )
        return Manifest(self.frame.assign(label=labels), tuple(found), self.corpus)


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which ``a2`` comes before ``a10``."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


def in_natural_order(texts: Iterable[str]) -> list[str]:
    """Return the different ones among ``texts``, ``a2`` before ``a10``."""
    return sorted(set(map(str, texts)), key=lambda text: (natural_key(text), text))


def rating(text: str, what: str = "The rating") -> float:
    """Return a rating of valence, arousal or dominance as a number in 0..1; NaN for the empty text, unknown.

    Args:
        text: the number, as in a manifest.
        what: its name, for error messages.

    Raises:
        DataError: anything else.
    """
    if text == "":
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise DataError(f"{what} is {text!r}; give a rating in 0..1 (above {_HIGH} is high) or nothing if unknown.")
    return value
