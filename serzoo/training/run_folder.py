"""The run folder: everything a result can be checked and continued from.

::

    recipe.yaml        the recipe with every value spelt out
    environment.json   versions, backend, platform
    leakage.json       what training and test parts share
    fold01/            one folder per fold
      state.npz        to resume from; gone when the fold is done
      tensorboard/     the fold's logs
      history.csv      loss and scores of each epoch
      embedding.npy    the fused representation of each test clip
      model.keras      the model that was scored, with class names and feature spec
      predictions.csv  label and probabilities of each test clip; written last
    report.json        scores of each fold, mean, standard deviation, pooled
    plots/             curves, confusion matrix, t-SNE
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serzoo.config import Recipe
from serzoo.errors import ConfigError, DataError
from serzoo.files import write_whole
from serzoo.metrics import Scores

if TYPE_CHECKING:
    import pandas as pd

_RECORDED_PACKAGES = ("serzoo", "keras", "tensorflow", "jax", "numpy", "librosa", "soundfile", "soxr", "scikit-learn")


@dataclass(frozen=True)
class RunFolder:
    """A run folder on disk.

    Args:
        path: the folder.
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path, recipe: Recipe) -> RunFolder:
        """Create the folder, or continue one that was made with the same recipe.

        Raises:
            ConfigError: the folder holds another recipe's run.
        """
        run = cls(Path(path).expanduser())
        kept = run.path / "recipe.yaml"
        text = recipe.to_yaml()
        if kept.exists() and kept.read_text(encoding="utf-8") != text:
            raise ConfigError(
                f"{run.path} holds a run with other settings (see recipe.yaml there); "
                "choose another run folder or delete it."
            )
        write_whole(kept, text)
        write_whole(run.path / "environment.json", _json(environment()))
        return run

    def fold(self, name: str) -> Path:
        """Return the folder of a fold."""
        return self.path / name

    def write_json(self, name: str, values: Mapping[str, object]) -> None:
        """Write plain data as ``name``."""
        write_whole(self.path / name, _json(values))

    def write_predictions(self, fold: str, table: pd.DataFrame) -> None:
        """Write a fold's predictions; their presence is what marks the fold as done."""
        write_whole(self.fold(fold) / "predictions.csv", table.to_csv(index=False, lineterminator="\n"))

    def read_scores(self, fold: str, class_names: Sequence[str]) -> Scores | None:
        """Score a fold from its predictions file; None if the fold is not done.

        Raises:
            DataError: the file is damaged or of other classes.
        """
        path = self.fold(fold) / "predictions.csv"
        return score_predictions(path, class_names) if path.exists() else None


def score_predictions(path: Path, class_names: Sequence[str]) -> Scores:
    """Compute the scores from a predictions file (columns ``label`` and ``prediction``).

    Raises:
        DataError: the file lacks a column or names another class.
    """
    import pandas as pd

    table = pd.read_csv(path, dtype=str)
    lookup = {name: index for index, name in enumerate(class_names)}
    try:
        targets, predictions = ([lookup[label] for label in table[column]] for column in ("label", "prediction"))
    except KeyError as error:
        raise DataError(
            f"{path}: no column or class {error}; was it written by another run? Delete its fold folder."
        ) from None
    return Scores.from_predictions(np.array(targets), np.array(predictions), class_names)


def environment() -> dict[str, object]:
    """Return the versions that a result depends on; packages that are not installed are left out."""
    import keras

    versions = {}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "backend": keras.backend.backend(),
        "packages": versions,
    }


def _json(values: Mapping[str, object]) -> str:
    return json.dumps(values, indent=2) + "\n"
