"""Corpora whose file names state everything, each described in a YAML file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

from serzoo import strict_yaml
from serzoo.data.corpora.corpus import Corpus, Recording
from serzoo.labels import FEMALE, MALE


class NamedCorpus(Corpus):
    """A corpus that a YAML file describes; ``docs/adding-a-corpus.md`` explains the keys.

    Args:
        description: the file; its name is that of the corpus.
    """

    def __init__(self, description: Path) -> None:
        facts = strict_yaml.read(description)
        self.name = description.stem
        self.title, self.licence, self.source, self.layout = (
            facts[key] for key in ("title", "licence", "source", "layout")
        )
        self.classes_are = facts.get("classes_are", Corpus.classes_are)
        self.labels = facts["labels"]
        self.class_names = tuple(sorted(self.labels.values()))
        genders = {"men": MALE, "women": FEMALE}
        self.genders = {name: genders[key] for key in genders for name in facts.get(key, "").split()}
        self.sample_rates = tuple(facts["sample_rates"])
        self.class_counts = _counts(facts.get("class_counts"), self.class_names)
        self.speaker_counts = _counts(facts.get("speaker_counts"), sorted(self.genders))
        self.channel_counts = {int(number): count for number, count in facts.get("channel_counts", {}).items()}
        self._intensities = facts.get("intensities", {})
        self._aliases, self._selected = facts.get("aliases", {}), facts.get("selected", {})
        self._any_case = facts.get("any_case", "").split()
        self._text, self._utterance = facts.get("text", "{text}"), facts.get("utterance", "")
        speakers = [*self.genders, *self._aliases.get("speaker", ())]
        codes = {"speaker": speakers, "label": self.labels, "intensity": self._intensities}
        self._fields = {name: "|".join(known) for name, known in codes.items()} | facts["fields"]
        self._patterns = {template: self._pattern(template) for template in facts["file_names"]}

    def parse(self, path: PurePath) -> Recording | None:
        """Read the metadata in the name of a file; see :meth:`Corpus.parse`."""
        fields = self._read(path)
        if any(fields[name] != value for name, value in self._selected.items()):
            return None
        return Recording(
            label=self.labels[fields["label"]],
            speaker=fields["speaker"],
            gender=self.genders[fields["speaker"]],
            text=self._text.format_map(fields),
            intensity=self._intensities.get(fields["intensity"], ""),
            utterance=self._utterance.format_map(fields),
        )

    def _read(self, path: PurePath) -> dict[str, str]:
        """Return the fields in a name, ``""`` for those that its template lacks."""
        parts = (*path.parent.parts, path.stem)
        for template, pattern in self._patterns.items():
            found = pattern.fullmatch("/".join(parts[-1 - template.count("/") :]))
            if found is not None:
                fields = dict.fromkeys(self._fields, "") | found.groupdict()
                fields.update({name: fields[name].lower() for name in self._any_case})
                return {name: self._aliases.get(name, {}).get(text, text) for name, text in fields.items()}
        raise self.misnamed(path)

    def _pattern(self, template: str) -> re.Pattern[str]:
        """Return the pattern of the names that a template such as ``{speaker}_{label}`` stands for."""
        pieces = re.split(r"{(\w+)}", template)
        for index, piece in enumerate(pieces):
            flag = "i:" if piece in self._any_case else ":"
            pieces[index] = f"(?P<{piece}>(?{flag}{self._fields[piece]}))" if index % 2 else re.escape(piece)
        return re.compile("".join(pieces), re.ASCII)


def _counts(given: Mapping[str, int] | None, names: Iterable[str]) -> dict[str, int]:
    """Return the number of each name: its own, or that of ``each``."""
    return {name: given[name if name in given else "each"] for name in names} if given else {}
