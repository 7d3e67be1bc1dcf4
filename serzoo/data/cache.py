"""Features kept on disk under the audio's content and the feature spec, so that no stale value can come back."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from serzoo.data import audio
from serzoo.errors import AudioError, DataError, FeatureError
from serzoo.features import reference
from serzoo.features.spec import FeatureSpec
from serzoo.files import write_whole

_CHECKSUM_BYTES = hashlib.sha256().digest_size
_ENTRIES = f"??/{'?' * 64}-{'?' * 16}.npy"


class FeatureCache:
    """Extracts each recording once and keeps the result.

    An entry is a ``.npy`` file with a SHA-256 of itself behind it (``numpy.load`` reads it as any other).
    Entries are moved into place whole, so that several processes may fill one folder.

    Args:
        folder: where the entries are; None for ``$SERZOO_CACHE/features`` or, if that is not set,
            ``serzoo/features`` in the user's cache folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = default_folder() if folder is None else Path(folder).expanduser()

    def features(
        self,
        paths: Sequence[str | Path],
        spec: FeatureSpec,
        *,
        progress: bool | None = None,
        workers: int | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Return the features of recordings, computing those that are not there yet.

        Args:
            paths: the recordings.
            spec: the features.
            progress: show a progress bar on stderr; None if stderr is a terminal.
            workers: threads; None for one per CPU core. No more clips than that are decoded at a time.

        Returns:
            (len(paths), n_frames, *spec.frame_shape) float32 if all recordings have as many frames (``spec.n_samples``
            is set, or the feature is an embedding), otherwise a list of (n_frames, *spec.frame_shape) arrays; in the
            order of ``paths``. They are not cut into segments.

        Raises:
            AudioError: a recording cannot be read; the first such one in order is named.
            DataError: the cache cannot be written.
            SerzooError: the network of an embedding cannot be used.
        """
        from threadpoolctl import threadpool_limits

        # each clip has a thread of its own already; BLAS's on top of them cost 3 to 9 times the time
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            clips = pool.map(lambda path: self.clip(path, spec), paths)
            shown = _with_progress(clips, len(paths), sys.stderr.isatty() if progress is None else progress)
            if spec.n_frames is None or spec.segment_frames is not None:
                return list(shown)
            stacked = np.empty((len(paths), spec.n_frames, *spec.frame_shape), np.float32)
            for row, clip in zip(stacked, shown, strict=True):
                row[:] = clip
            return stacked

    def clip(self, path: str | Path, spec: FeatureSpec) -> np.ndarray:
        """Return one recording's features, (n_frames, *spec.frame_shape) float32.

        Raises:
            AudioError: the recording cannot be read, or is too short for a frame.
            DataError: the cache cannot be written.
            SerzooError: the network of an embedding cannot be used.
        """
        audio.probe(path)
        entry = self._entry(Path(path).expanduser(), spec)
        kept = _load(entry)
        if kept is not None:
            return kept
        waveform, _ = audio.read(path, spec.sample_rate)
        try:
            computed = reference.extract(waveform, spec)
        except FeatureError as error:
            raise AudioError(f"{path}: {error}") from None
        self._store(entry, computed)
        return computed

    def size(self) -> tuple[int, int]:
        """Return the number of entries and their bytes in all."""
        sizes = [entry.stat().st_size for entry in self.folder.glob(_ENTRIES)]
        return len(sizes), sum(sizes)

    def clear(self) -> None:
        """Remove all entries."""
        for entry in self.folder.glob(_ENTRIES):
            entry.unlink(missing_ok=True)

    def _entry(self, path: Path, spec: FeatureSpec) -> Path:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        return self.folder / content[:2] / f"{content}-{spec.digest()}.npy"

    def _store(self, entry: Path, values: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        body = buffer.getvalue()
        try:
            write_whole(entry, body + hashlib.sha256(body).digest())
        except OSError as error:
            raise DataError(
                f"The feature cache {self.folder} cannot be written ({error.strerror}); "
                "make room there or set SERZOO_CACHE to another folder."
            ) from None


def default_folder() -> Path:
    """Return the folder for features below ``$SERZOO_CACHE``, ``$XDG_CACHE_HOME/serzoo`` or ``~/.cache/serzoo``."""
    own = os.environ.get("SERZOO_CACHE")
    if own:
        return Path(own).expanduser() / "features"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "serzoo" / "features"


def _load(entry: Path) -> np.ndarray | None:
    """Return what an entry holds, or None if it is absent or damaged."""
    try:
        content = entry.read_bytes()
    except OSError:
        return None
    body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if hashlib.sha256(body).digest() != checksum:
        return None
    return np.load(io.BytesIO(body), allow_pickle=False)


def _with_progress(clips: Iterator[np.ndarray], total: int, shown: bool) -> Iterator[np.ndarray]:
    if not shown:
        return clips
    from rich.console import Console
    from rich.progress import track

    return iter(track(clips, "Features", total=total, console=Console(stderr=True)))
