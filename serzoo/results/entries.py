"""The ledger: title, command, machine and notes of each run; strict YAML, read into dataclasses.

``docs/results/ledger.yaml`` describes the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from serzoo import strict_yaml
from serzoo.errors import ConfigError, unknown_name
from serzoo.experiments.published_figures import PUBLISHED
from serzoo.strict_data import Place, build

LEDGER = "ledger.yaml"
"""A ledger's file name; its run folders are in the same folder."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Runs that one command made on one machine, in the time that ``hardware`` states; ``more`` may have links.

    ``published`` names results to compare with, in :data:`serzoo.experiments.published_figures.PUBLISHED`; ``gap`` is
    the reason for the difference, in a sentence or two.
    """

    title: str
    command: str
    hardware: str
    gap: str = ""
    more: str = ""


@dataclass(frozen=True, kw_only=True)
class Row(Entry):
    """A single run folder, ``run``, relative to the ledger's."""

    run: str
    published: str | None = None

    def __post_init__(self) -> None:
        _check_folder(self.run)
        _check_published([self.published] if self.published else [], self.gap)

    @property
    def folder(self) -> str:
        """The folder of its runs."""
        return self.run


@dataclass(frozen=True, kw_only=True)
class StudyEntry(Entry):
    """A folder of run folders; those with a published result come first, in the order of ``published``."""

    folder: str
    published: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        _check_folder(self.folder)
        _check_published(list(self.published.values()), self.gap)


@dataclass(frozen=True)
class Pair:
    """Two run folders to compare, the second minus the first; ``shared_folds`` as :func:`compare_runs` takes it."""

    question: str
    first: str
    second: str
    shared_folds: bool = False

    def __post_init__(self) -> None:
        _check_folder(self.first)
        _check_folder(self.second)


@dataclass(frozen=True)
class NotRun:
    """A run that was not made, with an estimate of its time and machine, and why, or its requirements."""

    title: str
    command: str
    cost: str
    published: str | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        _check_published([self.published] if self.published else [], "none needed")


@dataclass(frozen=True)
class Ledger:
    """All entries, in the order of the page."""

    rows: tuple[Row, ...] = ()
    studies: tuple[StudyEntry, ...] = ()
    pairs: tuple[Pair, ...] = ()
    not_run: tuple[NotRun, ...] = ()

    @property
    def entries(self) -> tuple[Row | StudyEntry, ...]:
        """The entries with run folders: rows, then studies."""
        return (*self.rows, *self.studies)

    def __post_init__(self) -> None:
        folders = [entry.folder for entry in self.entries]
        twice = {folder for folder in folders if folders.count(folder) > 1}
        if twice:
            raise ConfigError(f"{min(twice)} has two rows; keep one.")
        commands = {entry.command for entry in self.entries}
        for missing in self.not_run:
            if missing.command in commands:
                raise ConfigError(f"{missing.title} is in not_run, but a row has its command; remove one.")


def read_ledger(path: Path) -> Ledger:
    """Read a ledger.

    Raises:
        UnknownNameError: an unknown key or published figure, with the nearest match.
        ConfigError: the file is missing, cannot be read or is not strict YAML, or an entry has a missing or malformed
            value.
    """
    if not path.exists():
        problem = f"has no {path.name}" if path.parent.is_dir() else "is no folder"
        raise ConfigError(
            f"{path.parent} {problem}; give a folder with {LEDGER} and run folders, such as docs/results."
        )
    return build(Ledger, strict_yaml.read(path), Place(str(path)))


def _check_folder(folder: str) -> None:
    """Raise ConfigError unless a path stays below the ledger's folder."""
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ConfigError(f"{folder!r} is no folder below the ledger's; give a relative path.")


def _check_published(names: list[str], gap: str) -> None:
    for name in names:
        if name not in PUBLISHED:
            raise unknown_name("published result", name, PUBLISHED)
    if names and not gap:
        raise ConfigError("published needs a gap; give the reason for the difference in a sentence.")
