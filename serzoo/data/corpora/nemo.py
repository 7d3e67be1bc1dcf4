"""nEMO: nine Polish-speaking actors, ninety sentences, six emotions (Christop, 2024)."""

import re
from pathlib import PurePath

from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording
from serzoo.labels import FEMALE, MALE

_SPEAKERS = {
    "EB0": FEMALE, "IC0": FEMALE, "KD0": FEMALE, "KS0": MALE, "MK0": FEMALE,
    "MP0": MALE, "SM0": MALE, "TP0": MALE, "WR0": MALE,
}  # fmt: skip
_EMOTIONS = {
    "anger": "angry", "fear": "fear", "happiness": "happy", "neutral": "neutral", "sadness": "sad",
    "surprised": "surprise",
}  # fmt: skip
_NAME = re.compile(rf"(?P<speaker>{'|'.join(_SPEAKERS)})_(?P<emotion>{'|'.join(_EMOTIONS)})_(?P<sentence>[1-9][0-9]?)")


class Nemo(Corpus):
    """All recordings. The file names state everything; ``data.tsv``, which holds the sentences, is not read."""

    name = "nemo"
    title = "nEMO"
    class_names = ("angry", "fear", "happy", "neutral", "sad", "surprise")
    licence = "CC BY-NC-SA 4.0"
    source = "https://huggingface.co/datasets/amu-cai/nEMO"
    layout = "samples/EB0_anger_10.wav"
    sample_rates = (24_000,)  # no counts of the whole corpus: its paper states their sum alone

    def parse(self, path: PurePath) -> Recording:
        """Read a name such as ``EB0_anger_10``: speaker, emotion, sentence."""
        fields = self.match(_NAME, path)
        return Recording(
            label=_EMOTIONS[fields["emotion"]],
            speaker=fields["speaker"],
            gender=_SPEAKERS[fields["speaker"]],
            text=fields["sentence"],
        )


CORPORA.register("nemo", Nemo())
