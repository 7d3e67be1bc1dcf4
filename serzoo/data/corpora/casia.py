"""CASIA: four Mandarin speakers, fifty sentences, six emotions; the 1200 recordings that circulate freely."""

import re
from pathlib import PurePath
from typing import ClassVar

from serzoo.data.corpora.corpus import CORPORA, Corpus, Recording
from serzoo.labels import FEMALE, MALE

# Two men and two women are certain (TIM-Net, table 1); which name is whose rests on one third-party project.
_GENDERS = {"liuchanhg": FEMALE, "wangzhe": MALE, "zhaoquanyin": FEMALE, "zhaozuoxiang": MALE}
_SPEAKER = f"(?P<speaker>{'|'.join(_GENDERS)})"
_EMOTION = "(?P<emotion>angry|fear|happy|neutral|sad|surprise)"
_IN_FOLDERS = re.compile(rf"{_SPEAKER}/{_EMOTION}/(?P<text>20[1-9]|2[1-4][0-9]|250)", re.IGNORECASE | re.ASCII)
_FLATTENED = re.compile(rf"(?P<text>[0-9]{{3}})-{_EMOTION}-{_SPEAKER}", re.IGNORECASE | re.ASCII)


class Casia(Corpus):
    """The subset in which all speakers say the same fifty sentences in all emotions; case is ignored."""

    name = "casia"
    title = "CASIA"
    class_names = ("angry", "fear", "happy", "neutral", "sad", "surprise")
    licence = "not stated with the 1200-file subset; the full corpus is licensed by ChineseLDC"
    source = "http://www.chineseldc.org/ (Chinese emotional speech corpus, Institute of Automation)"
    layout = "liuchanhg/angry/201.wav or angry/201-angry-liuchanhg.wav"
    sample_rates = (16_000,)
    class_counts: ClassVar = dict.fromkeys(class_names, 200)
    speaker_counts: ClassVar = dict.fromkeys(_GENDERS, 300)

    def parse(self, path: PurePath) -> Recording:
        """Read a name such as ``201-angry-liuchanhg``, or ``201`` in the folder ``liuchanhg/angry``."""
        in_folders = "/".join((*path.parent.parts[-2:], path.stem))
        found = _FLATTENED.fullmatch(path.stem) or _IN_FOLDERS.fullmatch(in_folders)
        if found is None:
            raise self.misnamed(path)
        text, emotion, speaker = (found[name].lower() for name in ("text", "emotion", "speaker"))
        return Recording(
            label=emotion,
            speaker=speaker,
            gender=_GENDERS[speaker],
            text=text,
            utterance=f"{text}-{emotion}-{speaker}",
        )


CORPORA.register("casia", Casia())
