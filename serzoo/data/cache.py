"""Features stored on disk under hashes of the file's bytes and of the spec, so that stale ones are never read."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import soundfile

from serzoo.data import audio
from serzoo.data.workers import in_order, with_progress
from serzoo.errors import AudioError, DataError, FeatureError
from serzoo.features.extract import extract
from serzoo.features.spec import FeatureSpec
from serzoo.features.threads import single_threaded_blas
from serzoo.files import local_path
from serzoo.memory import keep_freed_memory

_CHECKSUM_BYTES = hashlib.sha256().digest_size
_ENTRIES = f"??/{'?' * 64}-{'?' * 16}.npy"
_HASHES = f"??/{'?' * 64}-{'?' * 16}.sha256"

_HEADERS = threading.Lock()
"""Held while NumPy reads the header of an array: it uses Python's parser, not thread-safe before 3.12 (gh-106905)."""


class FeatureCache:
    """Extracts the features of each recording once and stores them.

    An entry is a ``.npy`` file with a SHA-256 of itself behind it (``numpy.load`` reads it as any other).
    Entries are moved into place whole, so that several processes may fill one folder. Content hashes are stored
    next to them, as 32 bytes with a checksum.

    Args:
        folder: where the entries are; None for ``$SERZOO_CACHE/features`` or, if that is not set,
            ``serzoo/features`` in the user's cache folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = default_folder() if folder is None else local_path(folder)

    def features(
        self,
        paths: Sequence[str | Path],
        spec: FeatureSpec,
        *,
        progress: bool | None = None,
        workers: int | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Return the features of recordings; those that are not stored are computed.

        Args:
            paths: the recordings.
            spec: the features.
            progress: show a progress bar on stderr; None if stderr is a terminal.
            workers: threads; None for one per CPU core that the process may use. As many clips
                are decoded at a time, and at most twice as many, besides the result, are in memory.

        Returns:
            (len(paths), n_frames, *spec.frame_shape) float32 if all recordings have as many frames (``spec.n_samples``
            is set, or the feature is an embedding), otherwise a list of (n_frames, *spec.frame_shape) arrays; in the
            order of ``paths``. They are not cut into segments.

        Raises:
            AudioError: a recording cannot be read; the first such one in order is named.
            DataError: the cache cannot be written.
            SerzooError: the network of an embedding cannot be used.
        """
        with self._clips(paths, spec, progress, workers) as clips:
            if spec.n_frames is None or spec.segment_frames is not None:
                return list(clips)
            stacked = np.empty((len(paths), spec.n_frames, *spec.frame_shape), np.float32)
            for row, clip in zip(stacked, clips, strict=True):
                row[:] = clip
            return stacked

    def fill(
        self,
        paths: Sequence[str | Path],
        spec: FeatureSpec,
        *,
        progress: bool | None = None,
        workers: int | None = None,
    ) -> list[int]:
        """Compute and store the features that are not stored, without returning them.

        The arguments and errors are those of :meth:`features`.

        Returns:
            Each recording's number of frames, in the order of ``paths``.
        """
        with self._clips(paths, spec, progress, workers) as clips:
            return [len(clip) for clip in clips]

    def clip(self, path: str | Path, spec: FeatureSpec) -> np.ndarray:
        """Return one recording's features, (n_frames, *spec.frame_shape) float32.

        Raises:
            AudioError: the recording cannot be read, or is too short for a frame.
            DataError: the cache cannot be written.
            SerzooError: the network of an embedding cannot be used.
        """
        entry = self._place(_file_hash(path), spec.digest(), "npy")
        kept = _load(entry)
        if kept is not None:
            with _HEADERS:
                return np.load(io.BytesIO(kept), allow_pickle=False)
        waveform, _ = audio.read(path, spec.sample_rate)
        try:
            computed = extract(waveform, spec)
        except FeatureError as error:
            raise AudioError(f"{path}: {error}") from None
        buffer = io.BytesIO()
        np.save(buffer, computed, allow_pickle=False)
        self._store(entry, buffer.getvalue())
        return computed

    def content_hashes(self, paths: Sequence[str | Path], *, workers: int | None = None) -> list[str]:
        """Return :func:`serzoo.data.audio.content_hash` of each recording.

        A hash is stored under the file's bytes and libsndfile's version, so that a changed file never has an old one.
        If the cache cannot be written, every call decodes all recordings.

        Args:
            paths: the recordings.
            workers: as in :meth:`features`.

        Raises:
            AudioError: a recording cannot be read; the first such one in order is named.
        """
        return list(in_order(self._content_hash, paths, workers))

    def _content_hash(self, path: str | Path) -> str:
        decoder = hashlib.sha256(soundfile.__libsndfile_version__.encode()).hexdigest()[:16]
        entry = self._place(_file_hash(path), decoder, "sha256")
        kept = _load(entry)
        if kept is not None:
            return kept.hex()
        computed = audio.content_hash(path)
        with suppress(DataError):  # the hash is known without the cache, too
            self._store(entry, bytes.fromhex(computed))
        return computed

    def size(self) -> tuple[int, int]:
        """Return the number of clips with stored features, and the bytes of all entries."""
        sizes, of_hashes = ([one.stat().st_size for one in self.folder.glob(what)] for what in (_ENTRIES, _HASHES))
        return len(sizes), sum(sizes) + sum(of_hashes)

    def clear(self) -> None:
        """Remove all entries."""
        for what in (_ENTRIES, _HASHES):
            for entry in self.folder.glob(what):
                entry.unlink(missing_ok=True)

    @contextmanager
    def _clips(
        self, paths: Sequence[str | Path], spec: FeatureSpec, progress: bool | None, workers: int | None
    ) -> Iterator[Iterator[np.ndarray]]:
        keep_freed_memory()
        # one thread per clip is enough: BLAS threads on top of them made it 3 to 9 times slower
        with single_threaded_blas():
            clips = in_order(lambda path: self.clip(path, spec), paths, workers)
            shown = sys.stderr.isatty() if progress is None else progress
            yield with_progress(clips, "Features", len(paths), shown)

    def _place(self, file_hash: str, maker: str, suffix: str) -> Path:
        return self.folder / file_hash[:2] / f"{file_hash}-{maker}.{suffix}"

    def _store(self, entry: Path, body: bytes) -> None:
        """Write an entry whole or not at all; without a scratch folder, which would take as long as decoding."""
        part = entry.with_name(f".{entry.name}-{os.getpid()}-{threading.get_ident()}.part")
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_bytes(body + hashlib.sha256(body).digest())
                os.replace(part, entry)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise DataError(
                f"The feature cache {self.folder} cannot be written ({error.strerror}); "
                "make room there or set SERZOO_CACHE to another folder."
            ) from None


def default_folder() -> Path:
    """Return the folder for features below ``$SERZOO_CACHE``, ``$XDG_CACHE_HOME/serzoo`` or ``~/.cache/serzoo``."""
    own = os.environ.get("SERZOO_CACHE")
    if own:
        return local_path(own) / "features"
    return local_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "serzoo" / "features"


def _file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits."""
    path = local_path(path)
    with suppress(OSError):
        if stat.S_ISREG(path.stat().st_mode):  # a pipe or device might never end
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    audio.probe(path)  # raises with the reason
    raise AudioError(f"{path} cannot be read; check its permissions.")


def _load(entry: Path) -> bytes | None:
    """Return the content of an entry, or None if it is absent or damaged."""
    try:
        content = entry.read_bytes()
    except OSError:
        return None
    body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    return body if hashlib.sha256(body).digest() == checksum else None
