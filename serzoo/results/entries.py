"""The ledger: title, command, machine and notes of each run; strict YAML, read into dataclasses."""

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


@dataclass(frozen=True)
class Row:
    """One run folder.

    Args:
        title: its name in the tables.
        run: the run folder, relative to the ledger's.
        command: the command that makes it.
        hardware: the machine, and the time it took.
        published: the result to compare with, a name in
            :data:`serzoo.experiments.published_figures.PUBLISHED`; None for none.
        gap: the reason for the difference, in a sentence or two; needed with ``published``.
        more: a note or a link, in Markdown.
    """

    title: str
    run: str
    command: str
    hardware: str
    published: str | None = None
    gap: str = ""
    more: str = ""

    def __post_init__(self) -> None:
        _check_folder(self.run)
        _check_published([self.published] if self.published else [], self.gap)

    @property
    def folder(self) -> str:
        """The folder of its runs."""
        return self.run


@dataclass(frozen=True)
class StudyEntry:
    """A folder of run folders, made by one command.

    Args:
        title: the heading of its tables.
        folder: relative to the ledger's.
        command: as in :class:`Row`, and so are hardware, gap and more.
        hardware: the machine, and the time it took.
        published: results to compare with, by run folder relative to ``folder``; these come first, in this order.
        gap: the reason for the differences.
        more: a note or a link.
    """

    title: str
    folder: str
    command: str
    hardware: str
    published: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    gap: str = ""
    more: str = ""

    def __post_init__(self) -> None:
        _check_folder(self.folder)
        _check_published(list(self.published.values()), self.gap)


@dataclass(frozen=True)
class Pair:
    """Two run folders to compare on their test clips.

    Args:
        question: the question that the comparison is about.
        first: a run folder, relative to the ledger's.
        second: another; the difference is its score minus the first's.
        shared_folds: compare on the folds that both have done, instead of refusing runs of different folds.
    """

    question: str
    first: str
    second: str
    shared_folds: bool = False

    def __post_init__(self) -> None:
        _check_folder(self.first)
        _check_folder(self.second)


@dataclass(frozen=True)
class NotRun:
    """A run that was not made.

    Args:
        title: its name in the table.
        command: the command that would make it.
        cost: an estimate of the time it takes, and on which machine.
        published: the result it would be compared with, as in :class:`Row`.
        reason: why it was not run, or its requirements.
    """

    title: str
    command: str
    cost: str
    published: str | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        _check_published([self.published] if self.published else [], "none needed")


@dataclass(frozen=True)
class Ledger:
    """All entries, in the order of the page.

    Args:
        rows: single runs.
        studies: runs that belong together.
        pairs: comparisons.
        not_run: runs that were not made.
    """

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
