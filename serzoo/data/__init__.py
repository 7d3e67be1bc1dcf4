"""Corpora, manifests, splits, caching and the tf.data pipeline.

:func:`load_corpus` is the usual way in; nothing here imports TensorFlow except
:mod:`serzoo.data.pipeline`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from serzoo.data import sources, synthetic  # noqa: F401  (each registers corpora)
from serzoo.data.corpora import CORPORA
from serzoo.data.manifest import Manifest
from serzoo.data.splits import cross_corpus
from serzoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from serzoo.config import Recipe

__all__ = ["CORPORA", "Manifest", "load_corpus", "load_manifest"]


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


def load_manifest(
    recipe: Recipe, data_root: str | Path | None = None, test_data_root: str | Path | None = None
) -> Manifest:
    """Return the recordings that a recipe is about.

    Args:
        recipe: names the corpus, the test corpus if there is one, what is to be told, and perhaps a choice of classes.
        data_root: the corpus's folder; None for the built-in one.
        test_data_root: the test corpus's folder.

    Raises:
        ConfigError: the test corpus's folder is missing, or given without need.
        DataError: a corpus cannot be used.
    """
    if (recipe.test_corpus is None) != (test_data_root is None):
        needed = "needs" if test_data_root is None else "does not take"
        raise ConfigError(
            f"{recipe.name} {needed} a test corpus folder (test_data_root=..., --test-data FOLDER); "
            f"its test_corpus is {recipe.test_corpus or 'not set'}."
        )
    manifest = load_corpus(recipe.corpus, data_root)
    if recipe.test_corpus is not None:
        manifest = cross_corpus(manifest, load_corpus(recipe.test_corpus, test_data_root))
    manifest = manifest.with_target(recipe.target)
    return manifest if recipe.class_names is None else manifest.with_classes(recipe.class_names)
