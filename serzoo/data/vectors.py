"""Embeddings computed elsewhere, looked up by the names of a manifest's recordings."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from serzoo.data.manifest import Manifest
from serzoo.errors import FeatureError, unknown_name
from serzoo.features.embeddings import check_width, measure_network
from serzoo.features.model_files import source_file
from serzoo.features.spec import SIGNAL_SOURCES, EmbeddingSpec

NAME_COLUMN = "clip"
"""First column of a CSV file of vectors."""

_ARRAYS = ("names", "vectors")
_SHOWN = 3


def load_vectors(manifest: Manifest, spec: EmbeddingSpec) -> np.ndarray:
    """Return the vectors of a manifest's recordings from the file that ``spec.source`` names.

    The file is an ``.npz`` with the arrays ``names``, (N,) text, and ``vectors``, (N, width) numbers; or a CSV whose
    first column, ``clip``, holds the names and whose others hold the values. Names are those of
    :attr:`~serzoo.data.manifest.Manifest.names`; further ones are left out.

    Args:
        manifest: the recordings, whose files are not read.
        spec: of the source ``vectors:FILE``.

    Returns:
        (len(manifest), 1, spec.width) float32, in the order of the manifest.

    Raises:
        WeightsError: there is no such file.
        FeatureError: the file is not such a table, names a recording twice or lacks one, or holds NaN.
        ConfigError: the vectors have another width.
        UnknownNameError: the file's ending is neither ``.npz`` nor ``.csv``.
    """
    path = source_file(spec.source)
    names, vectors = _read(path)
    check_width(vectors.shape[1], spec)
    rows = _rows(path, names.tolist(), manifest.names)
    chosen = vectors[rows].astype(np.float32)
    finite = np.isfinite(chosen).all(axis=1)
    if not finite.all():
        bad = [manifest.names[index] for index in np.flatnonzero(~finite)]
        raise FeatureError(f"{path}: vectors hold NaN or infinite values ({_list(bad)}); compute them again.")
    return chosen[:, np.newaxis]


def embedding_spec(source: str, *, sample_rate: int | None = None, layer: int | None = None) -> EmbeddingSpec:
    """Return the spec of a source, with the width of its vectors and the sample rate that it has itself.

    A network is loaded to see them, a table is read.

    Args:
        source: as in :class:`~serzoo.features.spec.EmbeddingSpec`.
        sample_rate: in Hz; None for the source's own, or 16,000 where it does not say.
        layer: of ``hf:`` networks, the hidden state; None for the output.

    Raises:
        SerzooError: an unknown source, or one that cannot be read.
    """
    kind = source.partition(":")[0]
    width, rate = SIGNAL_SOURCES.get(kind, (1, 16_000))
    spec = EmbeddingSpec(
        source=source, width=width, sample_rate=rate if sample_rate is None else sample_rate, layer=layer
    )
    if kind in SIGNAL_SOURCES:
        return spec
    if kind == "vectors":
        return replace(spec, width=_read(source_file(source))[1].shape[1])
    width, rate = measure_network(source, sample_rate, layer)
    return replace(spec, width=width, sample_rate=rate)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return names, (N,), and vectors, (N, width), of a file."""
    readers = {".npz": _read_npz, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise unknown_name("ending of a file of vectors", path.suffix, readers)
    names, vectors = readers[path.suffix.lower()](path)
    if vectors.ndim != 2 or names.shape != vectors.shape[:1]:
        raise FeatureError(
            f"{path}: names have the shape {names.shape} and vectors {vectors.shape}; give (N,) and (N, width)."
        )
    if vectors.size == 0:
        raise FeatureError(f"{path} holds {len(vectors)} vectors of {vectors.shape[1]} values; give at least one each.")
    return names, vectors


def _rows(path: Path, names: Sequence[str], clips: Sequence[str]) -> list[int]:
    """Return where in ``names`` each of ``clips`` is."""
    places = {name: row for row, name in enumerate(names)}
    if len(places) < len(names):
        twice = [name for row, name in enumerate(names) if places[name] != row]
        raise FeatureError(f"{path} names recordings more than once ({_list(twice)}); keep one vector of each.")
    missing = [clip for clip in clips if clip not in places]
    if missing:
        raise FeatureError(
            f"{path} lacks the vectors of {len(missing)} of {len(clips)} recordings ({_list(missing)}); "
            "add them under these names."
        )
    return [places[clip] for clip in clips]


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names, vectors = (archive[name] for name in _ARRAYS)
    except KeyError:
        raise FeatureError(f"{path} lacks an array; save it with np.savez(FILE, names=..., vectors=...).") from None
    except (ValueError, TypeError, OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        line = str(error).partition("\n")[0].rstrip(".")
        raise FeatureError(
            f"{path} cannot be read as .npz ({line}); save text and numbers, no Python objects, "
            "with np.savez(FILE, names=..., vectors=...)."
        ) from None
    if names.dtype.kind != "U" or vectors.dtype.kind not in "fiu":
        raise FeatureError(f"{path}: names are {names.dtype} and vectors {vectors.dtype}; give text and numbers.")
    return names, vectors


def _read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype={NAME_COLUMN: str}, keep_default_na=False, na_values={})
        values = table.iloc[:, 1:].astype(np.float64)
    except ValueError as error:  # pandas' own errors among them
        line = str(error).strip().partition("\n")[0].rstrip(".")
        raise FeatureError(f"{path} cannot be read as CSV ({line}); give names, then numbers, in UTF-8.") from None
    if table.columns[0] != NAME_COLUMN:
        raise FeatureError(f"{path}: the first column is {table.columns[0]!r}; call it {NAME_COLUMN!r}.")
    if not isinstance(table.index, pd.RangeIndex):  # what pandas makes of values that no column is named for
        raise FeatureError(f"{path} has rows longer than its first line; name a column for each value.")
    return table[NAME_COLUMN].to_numpy(dtype=object), values.to_numpy()


def _list(names: Sequence[str]) -> str:
    """Return the first few names."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
