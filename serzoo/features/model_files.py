"""The files behind embeddings: where a source's network or table lies, and a hash of its content."""

from __future__ import annotations

import hashlib
import queue
import re
import threading
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from serzoo.errors import MissingExtraError, WeightsError
from serzoo.files import local_path

_HUB_ID = r"\w[\w.-]*(/[\w.-]+)?"

_HUB_PATIENCE = 5.0  # seconds within which the Hub must say that it has a model

_MODEL_FILES = ("*.json", "*.safetensors")

_WEIGHT_FILE = rb"\n\x08location\x12([\x80-\xff]?[\x00-\x7f])"  # in a graph: a key, and its value's length

_READING = threading.Lock()


def source_fingerprint(source: str) -> str:
    """Return what tells the model behind a source from others: a hash of its files, or the commit of a hub id.

    A file is read again only when its size or time has changed.

    Args:
        source: as in :class:`~serzoo.features.spec.EmbeddingSpec`; those without a file have an empty fingerprint.

    Raises:
        WeightsError: the model or table is not there, or a hub id cannot be had.
        MissingExtraError: a hub id is asked for, and the package that knows the Hub is not installed.
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
    """Return the file that a source names.

    Args:
        source: ``onnx:FILE`` or ``vectors:FILE``.

    Raises:
        WeightsError: there is no such file.
    """
    path = local_path(source.partition(":")[2])
    if not path.is_file():
        raise WeightsError(f"{source}: there is no file {path}; correct the path in source.")
    return path


def model_folder(name: str) -> tuple[Path, str]:
    """Return the folder of a Hugging Face model and, for a hub id, its commit (empty for a folder of one's own).

    A model that is in the Hub's cache is taken from there, without asking whether there is a newer one; otherwise
    its ``.json`` and ``.safetensors`` files are downloaded.

    Args:
        name: a folder, or a hub id such as ``facebook/hubert-base-ls960``.

    Raises:
        WeightsError: no such folder, and not to be had from the Hub.
        MissingExtraError: the package that knows the Hub is not installed.
    """
    folder = local_path(name)
    if folder.is_dir():
        return folder, ""
    if re.fullmatch(_HUB_ID, name) is None:
        raise WeightsError(f"hf:{name}: there is no folder {folder}; give a folder, or a hub id such as user/model.")
    with _READING:
        snapshot = _snapshot(name)
    return snapshot, snapshot.name


@lru_cache(maxsize=8)
def _snapshot(hub_id: str) -> Path:
    """Return the folder of a hub id's files in the Hub's cache; its name is the commit."""
    require_extra("huggingface", "transformers", "torch")
    from huggingface_hub import snapshot_download

    try:
        kept = Path(snapshot_download(hub_id, allow_patterns=list(_MODEL_FILES), local_files_only=True))
    except Exception:  # not in the cache; networks fail with the exceptions of several libraries
        kept = None
    if kept is not None and any(kept.glob("*.safetensors")):
        return kept
    try:
        _ask_hub(hub_id)
        return Path(snapshot_download(hub_id, allow_patterns=list(_MODEL_FILES)))
    except Exception as error:
        raise WeightsError(
            f"hf:{hub_id} is no folder, and cannot be had from the Hugging Face Hub ({type(error).__name__}); check "
            "the name and the network, or download the model elsewhere and give its folder."
        ) from None


def _ask_hub(hub_id: str) -> None:
    """Raise whatever is wrong unless the Hub says in time that it has a model.

    ``snapshot_download`` waits for that without limit, and so does the look-up of a host's name.
    """
    from huggingface_hub import HfApi

    answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            HfApi().model_info(hub_id, timeout=_HUB_PATIENCE)
        except Exception as error:
            answers.put(error)
        else:
            answers.put(None)

    threading.Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=_HUB_PATIENCE)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error


def require_extra(extra: str, *packages: str) -> None:
    """Raise MissingExtraError unless the packages of an extra are installed."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(f"{package} is not installed, which runs this network: pip install serzoo[{extra}]")


def _graph_files(path: Path) -> list[Path]:
    """Return a graph's file and those beside it that hold its weights, as those of a large graph do."""
    with _READING:
        named = {path.parent / name for name in _weight_files(path, *_state(path))}
    return [*named, *(file for file in path.parent.iterdir() if file.name.startswith(path.name))]


@lru_cache(maxsize=16)
def _weight_files(path: Path, size: int, time: int) -> tuple[str, ...]:
    """Return what a graph calls its files of weights; text that only looks so names no file, as a rule."""
    del size, time
    content = path.read_bytes()
    names: set[str] = set()
    for found in re.finditer(_WEIGHT_FILE, content):
        low, *high = found[1]
        length = low if not high else (low & 0x7F) + 128 * high[0]
        names.add(content[found.end() : found.end() + length].decode(errors="replace"))
    return tuple(names)


def _hash_files(paths: Iterable[Path]) -> str:
    """Return one hash of files, their names included."""
    with _READING:
        hashes = [(path.name, _hash_file(path, *_state(path))) for path in sorted(set(paths)) if path.is_file()]
    return hashlib.sha256(repr(hashes).encode()).hexdigest()


def _state(path: Path) -> tuple[int, int]:
    """Return size and time of a file, which change with its content."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=256)
def _hash_file(path: Path, size: int, time: int) -> str:
    """Return the hash of a file in the state that its size and time stand for."""
    del size, time
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
