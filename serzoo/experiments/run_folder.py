"""The run folder: everything a result can be checked and continued from.

::

    recipe.yaml        the recipe with every value spelt out, but for how often each fold is trained
    data.json          which recordings: corpus, number, classes and a hash of what is known of them and of their audio;
                       and hashes of trained models that the training starts from or is held against, and of the files
                       that embeddings come from
    fold01/            one folder per fold; with further seeds also fold01-seed47, fold01-seed48, ...
      state.npz        to resume from; gone when the training is done
      tensorboard/     its logs, unless it was trained with others as one program
      history.csv      loss and scores of each epoch
      against1/ ...    history of a stage before the last
      layers.csv       validation scores of each anti-transfer layer that was tried, in layer02/ and so on
      embedding.npy    the fused representation of each test clip
      model.keras      the model that was scored, with class names and feature spec; of a simple classifier, which has
                       neither logs, history nor representation, model.skops
      provenance.txt        hashes of the recordings it was trained and validated on
      environment.json versions, backend, platform
      predictions.csv  label and probabilities of each test clip; written last
    report.json        scores of the runs done so far: each, mean and standard deviation over folds, pooled
    leakage.json       what their training, validation and test parts share
    plots/             curves, confusion matrix, t-SNE

A run folder that is kept for good (:mod:`serzoo.results.keep`) has ``predictions.csv.gz`` and ``history.csv.gz``
instead, and neither models, logs, embeddings nor plots.
"""

from __future__ import annotations

import hashlib
import json
import platform
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
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

if TYPE_CHECKING:
    import pandas as pd

PREDICTIONS = "predictions.csv"
"""Label and probabilities of each test clip of a fold."""

KEPT = "run.json"
"""In the form that ``serzoo keep`` writes (:mod:`serzoo.results.keep`): everything but the predictions."""

TEXT_COLUMNS = dict.fromkeys(("fold", "seed", "clip", "speaker", "label", "prediction"), str)
"""Types of those columns of predictions that are text even if they look like numbers."""

_RECORDED_PACKAGES = (
    "serzoo", "keras", "tensorflow", "jax", "numpy", "librosa", "soundfile", "soxr", "scikit-learn", "skops", "xgboost",
    "xgboost-cpu", "torch", "transformers", "onnxruntime",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """A run folder on disk.

    Args:
        path: the folder.
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path, recipe: Recipe, data: Mapping[str, object]) -> RunFolder:
        """Create the folder, or continue one that was made with the same recipe and recordings.

        Args:
            path: the folder.
            recipe: what is trained.
            data: which recordings, as :func:`describe_data` tells.

        Raises:
            ConfigError: the folder holds a run of another recipe or of other recordings.
        """
        run = cls(local_path(path))
        if (run.path / KEPT).exists():
            raise ConfigError(f"{run.path} is a kept run ({KEPT}), not a run folder to train in; choose another.")
        own = {"recipe.yaml": recipe.to_yaml(), "data.json": _json(data)}
        for name, text in own.items():
            kept = run.path / name
            if kept.exists() and kept.read_bytes() != text.encode() and not _says(kept, recipe):
                what = "other settings" if name == "recipe.yaml" else _other(kept, data)
                raise ConfigError(
                    f"{run.path} holds a run with {what} (see {name} there); choose another run folder or delete it."
                )
        for name, text in own.items():
            write_whole(run.path / name, text)
        return run

    def fold(self, name: str) -> Path:
        """Return the folder of a fold, or of a fold and seed."""
        return self.path / name

    def write_json(self, name: str, values: Mapping[str, object]) -> None:
        """Write plain data as ``name``."""
        write_whole(self.path / name, _json(values))

    def write_predictions(self, fold: str, table: pd.DataFrame) -> None:
        """Write a fold's predictions; their presence is what marks it as done."""
        _write_frame(self.fold(fold) / PREDICTIONS, table)

    def read_scores(
        self, folds: Iterable[str], class_names: Sequence[str], clips: list[tuple[str, str]] | None = None
    ) -> dict[str, Scores]:
        """Score those of ``folds`` that are done from their predictions files.

        Args:
            folds: names of folders, one per fold and seed.
            class_names: the classes, in order.
            clips: name and label of each recording that they are tested on, in order; None if that is not known.

        Raises:
            DataError: a file is damaged, or of other classes or recordings.
        """
        paths = {fold: stored(self.fold(fold) / PREDICTIONS) for fold in folds}
        return {fold: score_predictions(path, class_names, clips) for fold, path in paths.items() if path.exists()}


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows of one form as CSV."""
    import pandas as pd

    _write_frame(path, pd.DataFrame(rows))


def _write_frame(path: Path, table: pd.DataFrame) -> None:
    write_whole(path, table.to_csv(index=False, lineterminator="\n"))
    _compressed(path).unlink(missing_ok=True)  # of a run folder that was kept


def stored(path: Path) -> Path:
    """Return where a table is: at ``path``, or compressed beside it, as run folders that are kept have it."""
    packed = _compressed(path)
    return packed if packed.exists() and not path.exists() else path


def _compressed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def read_table(path: Path, dtype: Any = None) -> pd.DataFrame:
    """Return a table of a run folder, compressed or not.

    Args:
        path: the file, uncompressed.
        dtype: the columns' types, as :func:`pandas.read_csv` takes them; None for what their values look like.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    import pandas as pd

    path = stored(path)
    try:
        return pd.read_csv(path, dtype=dtype, keep_default_na=False)  # a class may be called None
    except FileNotFoundError:
        raise DataError(f"{path} is missing; train that fold again.") from None
    except (ValueError, EOFError, OSError, zlib.error):  # what pandas and gzip make of other bytes
        raise damaged(path, "no table") from None


def read_predictions(folder: Path) -> pd.DataFrame:
    """Return the predictions in the folder of a fold that is done, texts as texts.

    Raises:
        DataError: there are none, or the file is damaged.
    """
    return read_table(folder / PREDICTIONS, TEXT_COLUMNS)


def run_name(fold: str, seed: int | str, first_seed: int) -> str:
    """Return the name of the folder in which a fold is trained with a seed; further seeds come after the first."""
    return fold if str(seed) == str(first_seed) else f"{fold}-seed{seed}"


def score_predictions(path: Path, class_names: Sequence[str], clips: list[tuple[str, str]] | None = None) -> Scores:
    """Compute the scores from a predictions file (columns ``label`` and ``prediction``), compressed or not.

    Args:
        path: the file.
        class_names: the classes, in order.
        clips: name and label of each recording that it must be about, in order; None for whatever it is about.

    Raises:
        DataError: the file lacks a column, names another class, or is about other recordings.
    """
    table = read_table(path, str)
    targets, predictions = class_indices(table, path, class_names)
    if clips is not None and ("clip" not in table or list(zip(table["clip"], table["label"], strict=True)) != clips):
        raise damaged(path, "not the fold's test recordings")
    return Scores.from_predictions(targets, predictions, class_names)


def class_indices(table: pd.DataFrame, path: Path, class_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the true and the predicted class indices in a table of predictions, each (N,).

    Args:
        table: with the columns ``label`` and ``prediction``.
        path: where it was read, for messages.
        class_names: the classes, in order.

    Raises:
        DataError: a column is missing, a class unknown, or there is no row.
    """
    lookup = {name: index for index, name in enumerate(class_names)}
    try:
        targets, predictions = (np.array([lookup[name] for name in table[key]]) for key in ("label", "prediction"))
    except KeyError as error:
        raise damaged(path, f"no column or class {error}") from None
    if not len(targets):
        raise DataError(f"{path} holds no predictions; delete its folder to train that fold again.")
    return targets, predictions


def damaged(path: Path, reason: str) -> DataError:
    """Return the error for a file that is not what a run writes."""
    return DataError(f"{path} is damaged or of another run ({reason}); delete its folder to train that fold again.")


def _other(path: Path, data: Mapping[str, object]) -> str:
    """Return what differs between a kept description of the recordings and a new one."""
    try:
        kept = {**json.loads(path.read_bytes())}
    except (ValueError, TypeError):  # somebody has edited it
        kept = {}
    embeddings_alone = {**kept, "embeddings": None} == {**data, "embeddings": None}
    return "embeddings by another network or table" if embeddings_alone else "other recordings or pretrained weights"


def _says(path: Path, recipe: Recipe) -> bool:
    """Return whether a file holds this recipe, perhaps as an earlier version wrote it, without later keys."""
    try:
        return path.name == "recipe.yaml" and read_recipe(path) == recipe
    except SerzooError:
        return False


def describe_data(
    manifest: Manifest,
    content_hashes: Sequence[str],
    weight_files: Mapping[str, Path] = MappingProxyType({}),
    recipe: Recipe | None = None,
) -> dict[str, object]:
    """Return what recordings a run is about, as plain data that differs whenever they do.

    Args:
        manifest: the recordings.
        content_hashes: of each recording's audio, in order.
        weight_files: trained models that the run starts from or is held against, by the recipe's names for them.
        recipe: what is trained; where its embeddings come from files, their content is part of the description.

    Raises:
        WeightsError: those files are not there.
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
    embeddings = {source: source_fingerprint(source) for source in _embedding_sources(recipe)}
    beside = {"weights": weights, "embeddings": {source: content for source, content in embeddings.items() if content}}
    return {**described, **{name: hashes for name, hashes in beside.items() if hashes}}


def _embedding_sources(recipe: Recipe | None) -> list[str]:
    """Return where the embeddings of a recipe come from: its own, and those that the speakers' genders are told by."""
    if recipe is None:
        return []
    own = [recipe.features.source] if isinstance(recipe.features, EmbeddingSpec) else []
    gender = recipe.gender
    told = (
        []
        if gender is None or gender.source == GOLDEN or gender.classifier not in CLASSICAL_CLASSIFIERS
        else [gender.features]
    )
    return [*own, *told]


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
