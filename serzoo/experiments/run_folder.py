"""The run folder: everything needed to check a result, and to continue an interrupted run.

::

    recipe.yaml        the recipe with all values, except the number of seeds
    data.json          the recordings: corpus, number, classes, and a hash of their metadata and audio; hashes of the
                       trained models that the training uses, and of the files that embeddings come from
    fold01/            one folder per fold; with further seeds also fold01-seed47, fold01-seed48, ...
      state.npz        the state to resume from; deleted when the training is done
      tensorboard/     logs, unless it was trained with other folds as one program
      history.csv      loss and scores of each epoch
      against1/ ...    history of a stage before the last
      layers.csv       validation scores of each anti-transfer layer tried, in layer02/ and so on
      embedding.npy    the fused representation of each test clip
      model.keras      the scored model, with class names and feature spec; a classical classifier has model.skops
                       instead, and neither logs, history nor representation
      provenance.txt   hashes of the training and validation recordings
      environment.json versions, backend, platform
      predictions.csv  label and probabilities of each test clip; written last
    report.json        scores of the finished runs: each, mean and standard deviation over folds, pooled
    leakage.json       speakers, texts and audio shared by training, validation and test parts
    plots/             curves, confusion matrix, t-SNE

Tables may be compressed (``predictions.csv.gz``). :mod:`serzoo.results.keep` writes a run in two files.
"""

from __future__ import annotations

import hashlib
import json
import platform
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.data.manifest import Manifest
from serzoo.errors import ConfigError, DataError, SerzooError
from serzoo.features.model_files import source_fingerprint
from serzoo.features.spec import EmbeddingSpec
from serzoo.files import local_path, write_whole
from serzoo.labels import DIMENSIONS
from serzoo.metrics import Scores
from serzoo.recipes import Recipe, read_recipe
from serzoo.settings import GOLDEN
from serzoo.weights.store import installed_version

if TYPE_CHECKING:
    import pandas as pd

PREDICTIONS = "predictions.csv"
"""Label and probabilities of each test clip of a fold."""

KEPT = "run.json"
"""A kept run without its predictions (:mod:`serzoo.results.keep`)."""

_RECORDED_PACKAGES = (
    "serzoo", "keras", "tensorflow", "jax", "numpy", "librosa", "soundfile", "soxr", "scikit-learn", "skops", "xgboost",
    "xgboost-cpu", "torch", "transformers", "onnxruntime",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """A run folder on disk."""

    path: Path

    @classmethod
    def open(cls, path: str | Path, recipe: Recipe, data: Mapping[str, object]) -> RunFolder:
        """Create the folder, or continue one that was made with the same recipe and :func:`describe_data`.

        Raises:
            ConfigError: the folder holds a run of another recipe or of other recordings, or a kept run.
        """
        run = cls(local_path(path))
        if (run.path / KEPT).exists():
            raise ConfigError(f"{run.path} is a kept run ({KEPT}), not a run folder to train in; choose another.")
        own = {"recipe.yaml": recipe.to_yaml(), "data.json": _json(data)}
        for name, text in own.items():
            kept = run.path / name
            if kept.exists() and kept.read_bytes() != text.encode() and not _has_recipe(kept, recipe):
                other = "other settings" if name == "recipe.yaml" else _other(kept, data)
                raise ConfigError(
                    f"{run.path} holds a run with {other} (see {name} there); choose another run folder or delete it."
                )
        for name, text in own.items():
            write_whole(run.path / name, text)
        return run

    def write_json(self, name: str, values: Mapping[str, object]) -> None:
        """Write plain data as ``name``."""
        write_whole(self.path / name, _json(values))

    def write_predictions(self, fold: str, table: pd.DataFrame) -> None:
        """Write a fold's predictions; their presence marks it as done."""
        write_table(self.path / fold / PREDICTIONS, table)

    def read_scores(
        self, folds: Iterable[str], class_names: Sequence[str], clips: list[tuple[str, str]] | None = None
    ) -> dict[str, Scores]:
        """Score the finished ones of ``folds``, names of folders; see :func:`score_predictions`."""
        paths = {fold: stored(self.path / fold / PREDICTIONS) for fold in folds}
        return {fold: score_predictions(path, class_names, clips) for fold, path in paths.items() if path.exists()}


def write_table(path: Path, rows: Sequence[Mapping[str, object]] | pd.DataFrame) -> None:
    """Write a table, or rows with the same keys, as CSV."""
    import pandas as pd

    write_whole(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    path.with_name(f"{path.name}.gz").unlink(missing_ok=True)  # else two versions of one table


def stored(path: Path) -> Path:
    """Return the path of a table, which may be compressed: ``path``, or with ``.gz`` if only that exists."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.exists() and not path.exists() else path


def read_table(path: Path, dtype: Any = None) -> pd.DataFrame:
    """Return a table of a run folder, which may be compressed; ``dtype`` as :func:`pandas.read_csv` takes it.

    Raises:
        DataError: the file is missing or damaged.
    """
    import pandas as pd

    path = stored(path)
    try:
        return pd.read_csv(path, dtype=dtype, keep_default_na=False)  # a class may be named None
    except FileNotFoundError:
        raise DataError(f"{path} is missing; train that fold again.") from None
    except (ValueError, EOFError, OSError, zlib.error):  # raised by pandas and gzip on other bytes
        raise damaged(path, "no table") from None


def read_predictions(folder: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return the predictions of a finished fold, or of a kept run with the further ``columns``, from its folder.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = folder / PREDICTIONS
    table = read_table(path, dict.fromkeys(("fold", "seed", "clip", "speaker", "label", "prediction"), str))
    for name in (*columns, "clip", "speaker", "label", "prediction"):
        if name not in table:
            raise damaged(stored(path), f"no column {name}")
    for column in table.filter(regex="^p_").select_dtypes(exclude="number"):
        raise damaged(stored(path), f"not only numbers in the column {column}")
    return table


def run_name(fold: str, seed: int | str, first_seed: int) -> str:
    """Return the name of the folder of a fold and seed; the first seed is not part of it."""
    return fold if str(seed) == str(first_seed) else f"{fold}-seed{seed}"


def score_predictions(path: Path, class_names: Sequence[str], clips: list[tuple[str, str]] | None = None) -> Scores:
    """Compute scores from a file of predictions (columns ``label`` and ``prediction``), compressed or not.

    Args:
        path: the file.
        class_names: the classes, in order.
        clips: the expected names and labels, in order; None to skip this check.

    Raises:
        DataError: the file lacks a column, or has other classes or clips.
    """
    table = read_table(path, str)
    targets, predictions = class_indices(table, path, class_names)
    if clips is not None and ("clip" not in table or list(zip(table["clip"], table["label"], strict=True)) != clips):
        raise damaged(path, "not the fold's test recordings")
    return Scores.from_predictions(targets, predictions, class_names)


def class_indices(table: pd.DataFrame, path: Path, class_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the true and the predicted class indices in a table of predictions from ``path``, each (N,).

    Raises:
        DataError: a column is missing, a class is unknown, or there are no rows.
    """
    lookup = {name: index for index, name in enumerate(class_names)}
    try:
        targets, predictions = (
            np.array([lookup[name] for name in table[key].tolist()]) for key in ("label", "prediction")
        )
    except KeyError as error:
        raise damaged(path, f"no column or class {error}") from None
    if not len(targets):
        raise DataError(f"{path} holds no predictions; delete its folder to train that fold again.")
    return targets, predictions


def damaged(path: Path, reason: str) -> DataError:
    """Return the error for a file that a run cannot have written."""
    return DataError(f"{path} is damaged or of another run ({reason}); delete its folder to train that fold again.")


def _other(path: Path, data: Mapping[str, object]) -> str:
    """Describe the difference between the stored description of the data and a new one."""
    try:
        kept = {**json.loads(path.read_bytes())}
    except (ValueError, TypeError):  # edited by hand
        kept = {}
    embeddings_alone = {**kept, "embeddings": None} == {**data, "embeddings": None}
    return "embeddings by another network or table" if embeddings_alone else "other recordings or pretrained weights"


def _has_recipe(path: Path, recipe: Recipe) -> bool:
    """Return whether a file is of this recipe, perhaps written by an earlier version, without later keys."""
    try:
        return path.name == "recipe.yaml" and same_training(read_recipe(path), recipe)
    except SerzooError:
        return False


def same_training(one: Recipe, other: Recipe) -> bool:
    """Return whether two recipes are equal but for the number of seeds and the texts that describe them."""
    return one == replace(other, repeats=one.repeats, summary=one.summary, source=one.source)


def describe_data(
    manifest: Manifest, content_hashes: Sequence[str], weight_files: Mapping[str, Path], recipe: Recipe
) -> dict[str, object]:
    """Return a description of a run's data, as plain data: it changes if recordings, weights or embeddings do.

    Args:
        manifest: the recordings.
        content_hashes: of their audio, in order.
        weight_files: the trained models that the training uses, by their names in the recipe.
        recipe: the recipe; if its embeddings come from files, a hash of these is included.

    Raises:
        WeightsError: these files are missing.
    """
    known = ("label", "speaker", "gender", "session", *(name for name in DIMENSIONS if name in manifest.frame.columns))
    columns = [manifest.column(name) for name in known]
    rows = zip(manifest.names, *columns, content_hashes, strict=True)
    digest = hashlib.sha256("\n".join("\t".join(map(str, row)) for row in rows).encode())
    described = {
        "corpus": manifest.corpus,
        "n_recordings": len(manifest),
        "class_names": list(manifest.class_names),
        "sha256": digest.hexdigest(),
    }
    weights = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in weight_files.items()}
    sources = [recipe.features.source] if isinstance(recipe.features, EmbeddingSpec) else []
    gender = recipe.gender
    if gender is not None and gender.source != GOLDEN and gender.classifier in CLASSICAL_CLASSIFIERS:
        sources.append(gender.features)
    embeddings = {source: content for source in sources if (content := source_fingerprint(source))}
    files = {"weights": weights, "embeddings": embeddings}
    return {**described, **{name: hashes for name, hashes in files.items() if hashes}}


def environment() -> dict[str, object]:
    """Return the versions that a result depends on, of installed packages."""
    import keras

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "backend": keras.backend.backend(),
        "packages": {name: version for name in _RECORDED_PACKAGES if (version := installed_version(name))},
    }


def _json(values: Mapping[str, object]) -> str:
    return json.dumps(values, indent=2) + "\n"
