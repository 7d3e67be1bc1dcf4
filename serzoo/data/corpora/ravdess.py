"""RAVDESS speech: 24 English-speaking actors, two sentences, eight emotions (Livingstone and Russo, 2018)."""

import re
from pathlib import PurePath
from typing import ClassVar

from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording
from serzoo.labels import FEMALE, MALE

_NAME = re.compile(
    r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])-"
    r"(?P<statement>0[12])-(?P<repetition>0[12])-(?P<actor>0[1-9]|1[0-9]|2[0-4])"
)
_EMOTIONS = {
    "01": "neutral", "02": "calm", "03": "happy", "04": "sad",
    "05": "angry", "06": "fear", "07": "disgust", "08": "surprise",
}  # fmt: skip
_INTENSITIES = {"01": "normal", "02": "strong"}
_AUDIO_ONLY, _SPEECH = "03", "01"


class Ravdess(Corpus):
    """Audio-only speech files; songs and the video's sound tracks (the same audio) are left out."""

    name = "ravdess"
    title = "RAVDESS"
    class_names = ("angry", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    licence = "CC BY-NC-SA 4.0"
    source = "https://zenodo.org/records/1188976 (Audio_Speech_Actors_01-24.zip)"
    layout = "Actor_01/03-01-05-01-02-01-01.wav"
    sample_rates = (48_000,)
    class_counts: ClassVar = {label: 96 if label == "neutral" else 192 for label in class_names}
    speaker_counts: ClassVar = {f"{actor:02d}": 60 for actor in range(1, 25)}
    channel_counts: ClassVar = {1: 1435, 2: 5}

    def parse(self, path: PurePath) -> Recording | None:
        """Read a name such as ``03-01-05-01-02-01-01``; odd actors are men."""
        fields = self.match(_NAME, path)
        if fields["modality"] != _AUDIO_ONLY or fields["channel"] != _SPEECH:
            return None
        return Recording(
            label=_EMOTIONS[fields["emotion"]],
            speaker=fields["actor"],
            gender=MALE if int(fields["actor"]) % 2 else FEMALE,
            text=fields["statement"],
            intensity=_INTENSITIES[fields["intensity"]],
        )


CORPORA.register("ravdess", Ravdess())
