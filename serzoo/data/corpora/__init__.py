"""The corpora serzoo knows, one file each. Importing this package registers them all."""

from serzoo.data.corpora import (
    casia,  # noqa: F401
    cremad,  # noqa: F401
    emodb,  # noqa: F401
    emovo,  # noqa: F401
    fsdd,  # noqa: F401
    iemocap,  # noqa: F401
    librispeech,  # noqa: F401
    nemo,  # noqa: F401
    ravdess,  # noqa: F401
    savee,  # noqa: F401
    tess,  # noqa: F401
)
from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording

__all__ = ["CORPORA", "Corpus", "Recording"]
