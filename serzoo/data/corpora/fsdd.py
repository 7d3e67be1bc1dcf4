"""Free Spoken Digit Dataset: six men, ten English digits, fifty takes of each (Jackson et al., 2018)."""

import re
from pathlib import PurePath
from typing import ClassVar

from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording
from serzoo.labels import MALE

_SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
_NAME = re.compile(rf"(?P<digit>[0-9])_(?P<speaker>{'|'.join(_SPEAKERS)})_(?P<take>[0-9]|[1-4][0-9])")


class Fsdd(Corpus):
    """All 3000 recordings of the release with six speakers; a task to pretrain on, not one of emotions.

    The class is the word that is said; :meth:`~serzoo.data.manifest.Manifest.with_target` makes it the speaker.
    The corpus's own metadata has all six as men.
    """

    name = "fsdd"
    title = "Free Spoken Digit Dataset"
    class_names = tuple("0123456789")
    classes_are = "digits"
    licence = "CC BY-SA 4.0"
    source = "https://github.com/Jakobovski/free-spoken-digit-dataset"
    layout = "recordings/7_jackson_32.wav"
    sample_rates = (8_000,)
    class_counts: ClassVar = dict.fromkeys(class_names, 300)
    speaker_counts: ClassVar = dict.fromkeys(_SPEAKERS, 500)

    def parse(self, path: PurePath) -> Recording:
        """Read a name such as ``7_jackson_32``: digit, speaker, take."""
        fields = self.match(_NAME, path)
        return Recording(label=fields["digit"], speaker=fields["speaker"], gender=MALE, text=fields["digit"])


CORPORA.register("fsdd", Fsdd())
