"""The corpora serzoo knows, one file each. Importing this package registers them all."""

from pathlib import Path

from serzoo.data.corpora import iemocap, librispeech  # noqa: F401  (each registers its own)
from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording
from serzoo.data.corpora.named import NamedCorpus

__all__ = ["CORPORA", "Corpus", "Recording"]

for _description in sorted(Path(__file__).parent.glob("*.yaml")):
    CORPORA.register(_description.stem, NamedCorpus(_description))
