"""A manifest: one row per recording, whatever the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serzoo.errors import DataError, unknown_name
from serzoo.labels import check_class_names, male_probability

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("path", "label", "speaker", "gender", "text", "session", "intensity")
"""Columns of every manifest. ``path`` and ``label`` are always filled; the others hold ``""`` where unknown."""


@dataclass(frozen=True)
class Manifest:
    """The recordings of a corpus in a fixed order.

    Args:
        frame: a table with the columns :data:`COLUMNS` (more are kept), all strings, index 0..N-1.
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
        """The recordings' paths in order, cut to as few last parts as tell all of them apart, joined by ``/``.

        What is written about recordings calls them so: the names are the same wherever the corpus lies.
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
        """Return the same recordings under other classes, for a model that knows more than occur here.

        Raises:
            UnknownNameError: a label is not one of ``class_names``.
        """
        return Manifest(self.frame, tuple(class_names), self.corpus)
