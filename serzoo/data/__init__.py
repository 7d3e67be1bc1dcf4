"""Corpora, manifests, splits, caching and the tf.data pipeline.

``serzoo.data.load_corpus`` is the usual way in; nothing here imports TensorFlow
except :mod:`serzoo.data.pipeline`.
"""

from pathlib import Path

from serzoo.data.corpora import CORPORA
from serzoo.data.manifest import Manifest

__all__ = ["Manifest", "load_corpus"]


def load_corpus(name: str, root: str | Path) -> Manifest:
    """Scan a corpus on disk.

    Args:
        name: a name of ``serzoo list --corpora``, for example ``"ravdess"``.
        root: the folder that holds its recordings.

    Returns:
        One row per recording, ordered by class and natural file name.

    Raises:
        UnknownNameError: no such corpus.
        DataError: the folder is missing or holds no recording of the corpus.
    """
    return CORPORA.get(name).load(root)
