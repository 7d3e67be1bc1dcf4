"""Corpora, manifests, splits, caching and the tf.data pipeline.

:func:`load_corpus` is the usual way in; nothing here imports TensorFlow except
:mod:`serzoo.data.pipeline`.
"""

from __future__ import annotations

from pathlib import Path

from serzoo.data import sources, synthetic  # noqa: F401  (each registers corpora)
from serzoo.data.corpora.corpus import CORPORA
from serzoo.data.manifest import Manifest
from serzoo.errors import DataError

__all__ = ["CORPORA", "Manifest", "load_corpus", "sample_clips"]

_SAMPLE_CLIPS = Path(__file__).with_name("files") / "ravdess"


def load_corpus(name: str, root: str | Path | None = None) -> Manifest:
    """Scan a corpus on disk.

    Args:
        name: a corpus that ``serzoo list`` names, or ``"folder"`` (a sub-folder per class) or ``"csv"``
            (a table with the columns ``path`` and ``label``).
        root: the folder that holds its recordings, or the table; None for the built-in ``"synthetic"``.

    Returns:
        One row per recording, ordered by class and natural file name.

    Raises:
        UnknownNameError: no such corpus.
        DataError: the folder is missing or holds no recording of the corpus.
    """
    corpus = CORPORA.get(name)
    folder = root if root is not None else corpus.default_root()
    if folder is None:
        origin = f" Get it from {corpus.source}." if corpus.source else ""
        raise DataError(f"No place is given for {corpus.title}; say where it is (data_root=..., --data PATH).{origin}")
    return corpus.load(folder)


def sample_clips() -> Manifest:
    """Return sixteen recordings that come with the package: each emotion of RAVDESS by one man and one woman.

    They are the speech clips of actors 01 and 20 with normal intensity, first statement and first repetition,
    48 kHz, 3 to 4 seconds each. The pretrained ``timnet.ravdess_v2`` was not trained on these actors.

    Their licence is CC BY-NC-SA 4.0 (Livingstone and Russo, 2018); ``serzoo/data/files/LICENSE`` has the attribution.

    Returns:
        One row per recording with path, label, speaker, gender, text and intensity, ordered as by :func:`load_corpus`.
    """
    return load_corpus("ravdess", _SAMPLE_CLIPS)
