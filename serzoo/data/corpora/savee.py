"""SAVEE: four English men, seven emotions (Haq and Jackson, 2011)."""

import re
from pathlib import PurePath
from typing import ClassVar

from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording
from serzoo.labels import MALE

_SPEAKERS = ("DC", "JE", "JK", "KL")
_NAME = re.compile(rf"(?:(?P<speaker>{'|'.join(_SPEAKERS)})_)?(?P<emotion>sa|su|a|d|f|h|n)(?P<number>[0-9]{{2}})")
_EMOTIONS = {
    "a": "angry", "d": "disgust", "f": "fear", "h": "happy", "n": "neutral", "sa": "sad", "su": "surprise",
}  # fmt: skip


class Savee(Corpus):
    """All 480 recordings, in a folder per speaker or in one with the speaker's initials in each name."""

    name = "savee"
    title = "SAVEE"
    class_names = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    licence = "free for research after registration"
    source = "http://kahlan.eps.surrey.ac.uk/savee/"
    layout = "AudioData/DC/a01.wav or DC_a01.wav"
    sample_rates = (44_100,)
    class_counts: ClassVar = {label: 120 if label == "neutral" else 60 for label in class_names}
    speaker_counts: ClassVar = dict.fromkeys(_SPEAKERS, 120)

    def parse(self, path: PurePath) -> Recording:
        """Read a name such as ``DC_a01``, or ``a01`` in the folder ``DC``; the number is the sentence."""
        fields = self.match(_NAME, path)
        speaker = fields["speaker"] or path.parent.name
        if speaker not in _SPEAKERS:
            raise self.misnamed(path)
        text = fields["emotion"] + fields["number"]
        return Recording(
            label=_EMOTIONS[fields["emotion"]],
            speaker=speaker,
            gender=MALE,
            text=text,
            utterance=f"{speaker}_{text}",
        )


CORPORA.register("savee", Savee())
