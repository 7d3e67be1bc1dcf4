"""CREMA-D: 91 English-speaking actors, twelve sentences, six emotions (Cao et al., 2014)."""

import re
from pathlib import PurePath
from typing import ClassVar

from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording
from serzoo.labels import FEMALE, MALE

_NAME = re.compile(
    r"(?P<speaker>10(?:0[1-9]|[1-8][0-9]|9[01]))_(?P<sentence>IEO|TIE|IOM|IWW|TAI|MTI|IWL|ITH|DFA|ITS|TSI|WSI)_"
    r"(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>LO|MD|HI|XX?)"
)
_EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
_INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high"}
_MEN = frozenset((
    1001, 1005, 1011, *range(1014, 1018), 1019, 1022, 1023, 1026, 1027, *range(1031, 1037), *range(1038, 1043), 1044,
    1045, 1048, 1050, 1051, 1057, 1059, 1062, *range(1064, 1072), 1077, 1080, 1081, 1083, *range(1085, 1089), 1090,
))  # fmt: skip


class CremaD(Corpus):
    """All 7442 recordings under the emotion their actors intended, not the one that listeners perceived."""

    name = "cremad"
    title = "CREMA-D"
    class_names = ("angry", "disgust", "fear", "happy", "neutral", "sad")
    licence = "Open Database License 1.0"
    source = "https://github.com/CheyneyComputerScience/CREMA-D (needs git-lfs)"
    layout = "AudioWAV/1001_DFA_ANG_XX.wav"
    sample_rates = (16_000,)
    class_counts: ClassVar = {label: 1087 if label == "neutral" else 1271 for label in class_names}
    speaker_counts: ClassVar = {
        **{str(actor): 82 for actor in range(1001, 1092)},
        **{"1002": 81, "1076": 81, "1008": 76, "1009": 76, "1019": 76},
    }

    def parse(self, path: PurePath) -> Recording:
        """Read a name such as ``1001_IEO_ANG_HI``: actor, sentence, emotion, level (``XX``, once ``X``: any)."""
        fields = self.match(_NAME, path)
        return Recording(
            label=_EMOTIONS[fields["emotion"]],
            speaker=fields["speaker"],
            gender=MALE if int(fields["speaker"]) in _MEN else FEMALE,
            text=fields["sentence"],
            intensity=_INTENSITIES.get(fields["level"], ""),
            utterance=path.stem if fields["level"] != "X" else f"{path.stem}X",
        )


CORPORA.register("cremad", CremaD())
