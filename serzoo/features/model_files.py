"""The files of an embedding source, a pretrained network or a table of vectors, and a hash of their content."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from serzoo.errors import MissingExtraError, WeightsError
from serzoo.files import local_path

_HUB_ID = r"\w[\w.-]*(/[\w.-]+)?"

_HUB_TIMEOUT = 5.0  # seconds

_MODEL_FILES = ("*.json", "*.safetensors")

_EXTRAS = {"hf": "huggingface", "onnx": "onnx"}
"""The extra of serzoo that installs the packages for a kind of source."""

_READING = threading.Lock()  # threads that read recordings would download or hash the same files


def source_fingerprint(source: str) -> str:
    """Return a content hash of the source's files, or the commit of a hub id.

    A file is hashed again only when its size or modification time has changed.

    Args:
        source: as in :class:`~serzoo.features.spec.EmbeddingSpec`; the fingerprint of a source without files is empty.

    Raises:
        WeightsError: the model or table does not exist, or a hub id cannot be downloaded.
        MissingExtraError: a package that reads the source is not installed.
    """
    kind, _, name = source.partition(":")
    if kind == "hf":
        folder, commit = model_folder(name)
        return commit or _hash_files([file for pattern in _MODEL_FILES for file in folder.glob(pattern)])
    if kind == "onnx":
        return _hash_files(_graph_files(source_file(source)))
    if kind == "vectors":
        return _hash_files([source_file(source)])
    return ""


def source_file(source: str) -> Path:
    """Return the file of ``onnx:FILE`` or ``vectors:FILE``; raise WeightsError if there is none."""
    path = local_path(source.partition(":")[2])
    if not path.is_file():
        raise WeightsError(f"{source}: file {path} does not exist; correct the path in source.")
    return path


def model_folder(name: str) -> tuple[Path, str]:
    """Return the folder of a Hugging Face model and, for a hub id, its commit (empty for a local folder).

    A model in the Hub's cache is used without looking for a newer version; otherwise its ``.json`` and
    ``.safetensors`` files are downloaded.

    Args:
        name: a folder, or a hub id such as ``facebook/hubert-base-ls960``.

    Raises:
        WeightsError: no such folder, and no such model that can be downloaded from the Hub.
        MissingExtraError: the packages of the extra ``huggingface`` are not installed.
    """
    folder = local_path(name)
    if folder.is_dir():
        return folder, ""
    if re.fullmatch(_HUB_ID, name) is None:
        raise WeightsError(f"hf:{name}: folder {folder} does not exist; give a folder, or a hub id such as user/model.")
    with _READING:
        snapshot = _snapshot(name)
    return snapshot, snapshot.name


@lru_cache(maxsize=8)
def _snapshot(hub_id: str) -> Path:
    """Return the folder of a hub id's files in the Hub's cache; its name is the commit."""
    require_extra("hf", "transformers", "torch")
    from huggingface_hub import snapshot_download

    try:
        kept = Path(snapshot_download(hub_id, allow_patterns=list(_MODEL_FILES), local_files_only=True))
    except Exception:  # not in the cache; several libraries raise errors of their own
        kept = None
    if kept is not None and any(kept.glob("*.safetensors")):
        return kept
    try:
        _check_hub(hub_id)
        return Path(snapshot_download(hub_id, allow_patterns=list(_MODEL_FILES)))
    except Exception as error:
        raise WeightsError(
            f"hf:{hub_id} is no folder, and downloading it from the Hugging Face Hub failed ({type(error).__name__}); "
            "check the name and the connection, or download the model elsewhere and give its folder."
        ) from None


def _check_hub(hub_id: str) -> None:
    """Raise an error unless the Hub confirms within :data:`_HUB_TIMEOUT` that the model exists.

    The request runs in a thread of its own: ``snapshot_download`` has no time limit, and neither has the look-up of a
    host name.
    """
    from huggingface_hub import HfApi

    outcome: Future[object] = Future()

    def request() -> None:
        try:
            outcome.set_result(HfApi().model_info(hub_id, timeout=_HUB_TIMEOUT))
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=request, daemon=True).start()
    outcome.result(timeout=_HUB_TIMEOUT)


def require_extra(kind: str, *packages: str) -> None:
    """Raise MissingExtraError unless the packages that a kind of source, ``hf`` or ``onnx``, needs are installed."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(f"{kind}: embeddings need {package}; run: pip install 'serzoo[{_EXTRAS[kind]}]'")


def _graph_files(path: Path) -> list[Path]:
    """Return the file of an ONNX graph and the files of its weights, separate in large graphs."""
    require_extra("onnx", "onnx")
    with _READING:
        named = [path.parent / name for name in _external_data(path, *_state(path))]
    return [*named, *(file for file in path.parent.iterdir() if file.name.startswith(path.name))]


@lru_cache(maxsize=16)
def _external_data(path: Path, size: int, time: int) -> frozenset[str]:
    """Return the names of the files that a graph stores tensors in; none for a file that is no graph."""
    del size, time
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception:  # damaged, or in a format of onnxruntime alone: the network raises when it is loaded
        return frozenset()
    return frozenset(ExternalDataInfo(tensor).location for tensor in _tensors(graph) if uses_external_data(tensor))


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield the stored tensors of an ONNX graph, those of its subgraphs (branches, loops) included."""
    yield from graph.initializer
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for subgraph in (attribute.g, *attribute.graphs):
            yield from _tensors(subgraph)


def _hash_files(paths: Iterable[Path]) -> str:
    """Return one hash of the names and contents of files."""
    with _READING:
        hashes = [(path.name, _hash_file(path, *_state(path))) for path in sorted(set(paths)) if path.is_file()]
    return hashlib.sha256(repr(hashes).encode()).hexdigest()


def _state(path: Path) -> tuple[int, int]:
    """Return size and modification time of a file, the keys of everything cached about its content."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=256)
def _hash_file(path: Path, size: int, time: int) -> str:
    """Return the hash of a file; size and time are there for the cache alone."""
    del size, time
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
