"""What a ledger says of each run that its folder does not hold: strict YAML, read into dataclasses."""

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
"""A ledger's name, in the folder that holds the run folders it speaks of."""


@dataclass(frozen=True)
class Row:
    """One run folder.

    Args:
        title: what the tables call it.
        run: the run folder, relative to the ledger's.
        command: what makes it.
        hardware: what it was made on, and in what time.
        published: a name of :data:`serzoo.experiments.published_figures.PUBLISHED`, what it is held against; None for nothing.
        gap: the reason for what lies between both, in a sentence or two; needed where something is published.
        more: Markdown that leads on, such as a link.
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
        """The folder below which its runs are."""
        return self.run


@dataclass(frozen=True)
class StudyEntry:
    """A folder of run folders that one command made.

    Args:
        title: of its tables.
        folder: relative to the ledger's.
        command: what makes it.
        hardware: what it was made on, and in what time.
        published: for some of its run folders, relative to ``folder``, what they are held against; these come first, in
            this order.
        gap: the reason for what lies between both; needed where something is published.
        more: Markdown that leads on, such as a link.
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
        question: what the comparison is to tell.
        first: a run folder, relative to the ledger's.
        second: another, whose score minus the first's is the difference.
        shared_folds: compare on those folds that both have done, instead of refusing runs of different folds.
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
    """What was not run.

    Args:
        title: what it would be.
        command: what would make it.
        cost: an estimate of the time it takes, and where.
        published: a name of :data:`serzoo.experiments.published_figures.PUBLISHED`, what it would be held against.
        reason: why it was not run, or what it needs.
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
        not_run: what is missing.
    """

    rows: tuple[Row, ...] = ()
    studies: tuple[StudyEntry, ...] = ()
    pairs: tuple[Pair, ...] = ()
    not_run: tuple[NotRun, ...] = ()

    @property
    def entries(self) -> tuple[Row | StudyEntry, ...]:
        """What names run folders: rows, then studies."""
        return (*self.rows, *self.studies)

    def __post_init__(self) -> None:
        folders = [entry.folder for entry in self.entries]
        twice = {folder for folder in folders if folders.count(folder) > 1}
        if twice:
            raise ConfigError(f"{min(twice)} is named by two rows; keep one.")
        commands = {entry.command for entry in self.entries}
        for missing in self.not_run:
            if missing.command in commands:
                raise ConfigError(f"{missing.title} is not_run, but a row has its command; take one out.")


def read_ledger(path: Path) -> Ledger:
    """Read a ledger.

    Raises:
        UnknownNameError: an unknown key or published figure, with the nearest match.
        ConfigError: there is no such file, it cannot be read or is not strict YAML, or an entry lacks something or has
            it in a wrong form.
    """
    if not path.exists():
        what = f"has no {path.name}" if path.parent.is_dir() else "is no folder"
        raise ConfigError(
            f"{path.parent} {what}; give a folder of run folders with its {LEDGER}, such as docs/results."
        )
    return build(Ledger, strict_yaml.read(path), Place(str(path)))


def _check_folder(folder: str) -> None:
    """Raise unless a folder's name stays below the ledger's folder."""
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ConfigError(f"{folder!r} is no run folder beside the ledger; give its name.")


def _check_published(names: list[str], gap: str) -> None:
    for name in names:
        if name not in PUBLISHED:
            raise unknown_name("published result", name, PUBLISHED)
    if names and not gap:
        raise ConfigError("published is set and gap is not; say in a sentence what lies between both.")
