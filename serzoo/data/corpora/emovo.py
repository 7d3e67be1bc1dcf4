"""EMOVO: six Italian actors, fourteen sentences, seven emotions (Costantini et al., 2014)."""

import re
from pathlib import PurePath
from typing import ClassVar

from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording
from serzoo.labels import FEMALE, MALE

_NAME = re.compile(
    r"(?P<emotion>neu|dis|gio|pau|rab|sor|tri)-(?P<speaker>[fm][1-3])-(?P<text>b[1-3]|l[1-4]|n[1-5]|d[12])"
)
_EMOTIONS = {
    "neu": "neutral", "dis": "disgust", "gio": "happy", "pau": "fear",
    "rab": "angry", "sor": "surprise", "tri": "sad",
}  # fmt: skip


class Emovo(Corpus):
    """All 588 recordings; every actor says every sentence in every emotion."""

    name = "emovo"
    title = "EMOVO"
    class_names = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    licence = "free to download, no licence stated (Costantini et al., 2014)"
    source = "http://www.lrec-conf.org/proceedings/lrec2014/summaries/591.html (the paper names the download)"
    layout = "EMOVO/f1/rab-f1-b1.wav"
    sample_rates = (48_000,)
    class_counts: ClassVar = dict.fromkeys(class_names, 84)
    speaker_counts: ClassVar = dict.fromkeys(("f1", "f2", "f3", "m1", "m2", "m3"), 98)
    channel_counts: ClassVar = {1: 1, 2: 587}

    def parse(self, path: PurePath) -> Recording:
        """Read a name such as ``rab-f1-b1``: emotion (in Italian), actor, sentence."""
        fields = self.match(_NAME, path)
        return Recording(
            label=_EMOTIONS[fields["emotion"]],
            speaker=fields["speaker"],
            gender=MALE if fields["speaker"].startswith("m") else FEMALE,
            text=fields["text"],
        )


CORPORA.register("emovo", Emovo())
