"""IEMOCAP: ten English-speaking actors in five sessions of two, scripted and improvised (Busso et al., 2008)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import NamedTuple

from serzoo.data.corpora.corpus import CORPORA, Corpus, MisnamedFileError, Recording
from serzoo.errors import DataError
from serzoo.labels import DIMENSIONS, FEMALE, MALE

_DIALOG = r"Ses0(?P<session>[1-5])(?P<mocap>[FM])_(?P<kind>impro|script)(?P<scene>[0-9]{2}(?:_[0-9])?)(?P<part>[ab]?)"
_DIALOG_NAME = re.compile(_DIALOG)
_UTTERANCE_NAME = re.compile(rf"(?P<dialog>{_DIALOG})_(?P<gender>[FM])(?P<turn>[0-9]{{3}})")
_RATING = r"[0-9]+(?:\.[0-9]+)?"
_LABEL_LINE = re.compile(
    r"\[[0-9.]+ - [0-9.]+\]\t(?P<utterance>\S+)\t(?P<emotion>[a-z]+)\t"
    rf"\[(?P<valence>{_RATING}), (?P<arousal>{_RATING}), (?P<dominance>{_RATING})\]"
)
_HIGHEST = 5
_GENDERS = {"F": FEMALE, "M": MALE}
_EMOTIONS = ("ang", "dis", "exc", "fea", "fru", "hap", "neu", "oth", "sad", "sur", "xxx")


class Labels(NamedTuple):
    """The emotion code that most raters chose (``xxx``: none), and their mean ratings in 0..1; ``""`` if unknown."""

    emotion: str
    valence: str = ""
    arousal: str = ""
    dominance: str = ""


class Iemocap(Corpus):
    """The standard four classes, excited merged into happy: 5531 of 10,039 utterances.

    An utterance's speaker is the *last* letter of its name; the one after the session number is
    the actor with the markers. ``text`` is ``script01_1`` for a script, the same in every session, and
    ``Ses01F_impro01`` for an improvised dialog, whose words occur once.
    Valence, arousal (activation) and dominance are the raters' means on the scale of 1 to 5, divided by 5.

    Args:
        labels: by utterance, as :meth:`prepare` reads them.

    Attributes:
        kinds: which dialogs are selected, ``script`` and ``impro``.
    """

    name = "iemocap"
    title = "IEMOCAP"
    class_names = ("angry", "happy", "neutral", "sad")
    licence = "for research, by request"
    source = "https://sail.usc.edu/iemocap/"
    layout = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    sample_rates = (16_000,)
    class_counts = MappingProxyType({"angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084})
    speaker_counts: Mapping[str, int] = MappingProxyType({
        "Ses01_F": 528, "Ses01_M": 557, "Ses02_F": 481, "Ses02_M": 542, "Ses03_F": 522,
        "Ses03_M": 629, "Ses04_F": 528, "Ses04_M": 503, "Ses05_F": 590, "Ses05_M": 651,
    })  # fmt: skip
    labels = MappingProxyType({"ang": "angry", "exc": "happy", "hap": "happy", "neu": "neutral", "sad": "sad"})
    genders = MappingProxyType({speaker: _GENDERS[speaker[-1]] for speaker in speaker_counts})
    kinds: tuple[str, ...] = ("script", "impro")

    def __init__(self, labels: Mapping[str, Labels] = MappingProxyType({})) -> None:
        self._labels = labels

    def prepare(self, root: Path) -> Iemocap:
        """Read the labels from ``Session*/dialog/EmoEvaluation/*.txt`` at ``root`` or below.

        Raises:
            DataError: no session, a session without label files, or a label line that cannot be read.
        """
        sessions = sorted(path for path in root.rglob("Session[1-5]") if path.is_dir())
        if not sessions:
            raise DataError(f"{root} holds no folder Session1 ... Session5; give IEMOCAP's root: {self.layout}.")
        labels: dict[str, Labels] = {}
        for session in sessions:
            folder = session / "dialog" / "EmoEvaluation"
            files = sorted(path for path in folder.glob("*.txt") if not path.name.startswith("."))
            if not files:
                raise DataError(
                    f"{folder} is missing or holds no .txt file; copy it from the release: IEMOCAP's labels are there."
                )
            for path in files:
                labels.update(_read_labels(path))
        return type(self)(labels)

    def parse(self, path: PurePath) -> Recording | None:
        """Read a name such as ``Ses01F_impro01_F000`` and look up its label; None for a whole dialog."""
        if _DIALOG_NAME.fullmatch(path.stem):
            return None
        fields = self.match(_UTTERANCE_NAME, path)
        found = self._labels.get(path.stem)
        if found is None:
            raise MisnamedFileError(f"{path}: its session's EmoEvaluation files have no label for it.")
        if found.emotion not in self.labels or fields["kind"] not in self.kinds:
            return None
        return Recording(
            label=self.labels[found.emotion],
            speaker=f"Ses0{fields['session']}_{fields['gender']}",
            gender=_GENDERS[fields["gender"]],
            text=f"script{fields['scene']}" if fields["kind"] == "script" else fields["dialog"],
            session=fields["session"],
            valence=found.valence,
            arousal=found.arousal,
            dominance=found.dominance,
        )


class IemocapImprovised(Iemocap):
    """Four classes of the improvised dialogs, excited left out: the 2280 utterances of ACRNN (Chen et al., 2018).

    Speakers share no script in them. Nothing is published about how many each speaks.
    """

    name = "iemocap-improvised"
    title = "IEMOCAP improvised"
    class_counts = MappingProxyType({"angry": 289, "happy": 284, "neutral": 1099, "sad": 608})
    speaker_counts = MappingProxyType({})
    labels = MappingProxyType({"ang": "angry", "hap": "happy", "neu": "neutral", "sad": "sad"})
    kinds = ("impro",)


def _read_labels(path: Path) -> dict[str, Labels]:
    """Return the labels of one dialog by utterance; lines that start with ``[`` hold them."""
    labels = {}
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), start=1):
        if not line.startswith("["):
            continue
        found = _LABEL_LINE.fullmatch(line.strip())
        if found is None or found["emotion"] not in _EMOTIONS:
            raise DataError(
                f"{path} line {number}: {line.strip()!r} has no label of IEMOCAP and three ratings; known labels are "
                f"{', '.join(_EMOTIONS)}."
            )
        # a mean as a share of the highest; a rater's slip beyond the scale counts as its end
        ratings = (f"{min(float(found[name]) / _HIGHEST, 1):g}" for name in DIMENSIONS)
        labels[found["utterance"]] = Labels(found["emotion"], *ratings)
    return labels


CORPORA.register("iemocap", Iemocap())
CORPORA.register("iemocap-improvised", IemocapImprovised())
