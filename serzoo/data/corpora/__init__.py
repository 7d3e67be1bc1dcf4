"""The corpora serzoo knows, one file each. Importing this package registers them all."""

from serzoo.data.corpora import ravdess  # noqa: F401
from serzoo.data.corpora.base import CORPORA, Corpus, Recording

__all__ = ["CORPORA", "Corpus", "Recording"]
