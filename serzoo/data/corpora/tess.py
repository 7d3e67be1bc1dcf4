"""TESS: two English-speaking women, 200 words, seven emotions (Pichora-Fuller and Dupuis, 2020)."""

import re
from pathlib import PurePath
from typing import ClassVar

from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording
from serzoo.labels import FEMALE

_NAME = re.compile(r"(?P<speaker>OAF?|YAF)_(?P<word>[A-Za-z\-]+)_(?P<emotion>angry|disgust|fear|happy|neutral|ps|sad)")
_PLEASANT_SURPRISE = "ps"


class Tess(Corpus):
    """All 2800 recordings; the folders are named differently from copy to copy, the files are not."""

    name = "tess"
    title = "TESS"
    class_names = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    licence = "CC BY-NC-ND 4.0"
    source = "https://doi.org/10.5683/SP2/E8H2MF"
    layout = "OAF_angry/OAF_back_angry.wav"
    sample_rates = (24_414, 96_000)  # 96 kHz: OAF_food_fear.wav alone
    class_counts: ClassVar = dict.fromkeys(class_names, 400)
    speaker_counts: ClassVar = {"OAF": 1400, "YAF": 1400}

    def parse(self, path: PurePath) -> Recording:
        """Read a name such as ``OAF_back_angry``: speaker (``OA``, too, is OAF), word, emotion."""
        fields = self.match(_NAME, path)
        speaker = "YAF" if fields["speaker"] == "YAF" else "OAF"
        word, emotion = fields["word"].lower(), fields["emotion"]
        return Recording(
            label="surprise" if emotion == _PLEASANT_SURPRISE else emotion,
            speaker=speaker,
            gender=FEMALE,
            text=word,
            utterance=f"{speaker}_{word}_{emotion}",
        )


CORPORA.register("tess", Tess())
