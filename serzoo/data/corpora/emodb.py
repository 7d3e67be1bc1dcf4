"""EMO-DB: ten German actors, ten sentences, seven emotions (Burkhardt et al., 2005)."""

import re
from pathlib import PurePath
from typing import ClassVar

from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording
from serzoo.labels import FEMALE, MALE

_NAME = re.compile(
    r"(?P<speaker>03|08|09|1[0-6])(?P<text>a0[12457]|b0[1239]|b10)(?P<emotion>[WLEAFTN])(?P<version>[a-f]?)"
)
_EMOTIONS = {
    "W": "angry", "L": "boredom", "E": "disgust", "A": "fear", "F": "happy", "T": "sad", "N": "neutral",
}  # fmt: skip
_MEN = ("03", "10", "11", "12", "15")


class EmoDB(Corpus):
    """All 535 recordings; speaker 08 has none of disgust."""

    name = "emodb"
    title = "EMO-DB"
    class_names = ("angry", "boredom", "disgust", "fear", "happy", "neutral", "sad")
    licence = "free for research (Burkhardt et al., 2005)"
    source = "http://emodb.bilderbar.info/"
    layout = "wav/03a01Fa.wav"
    sample_rates = (16_000,)
    class_counts: ClassVar = {
        "angry": 127, "boredom": 81, "disgust": 46, "fear": 69, "happy": 71, "neutral": 79, "sad": 62,
    }  # fmt: skip
    speaker_counts: ClassVar = {
        "03": 49, "08": 58, "09": 43, "10": 38, "11": 55, "12": 35, "13": 61, "14": 69, "15": 56, "16": 71,
    }  # fmt: skip

    def parse(self, path: PurePath) -> Recording:
        """Read a name such as ``03a01Fa``: speaker, sentence, emotion (in German), version."""
        fields = self.match(_NAME, path)
        return Recording(
            label=_EMOTIONS[fields["emotion"]],
            speaker=fields["speaker"],
            gender=MALE if fields["speaker"] in _MEN else FEMALE,
            text=fields["text"],
        )


CORPORA.register("emodb", EmoDB())
