"""Checking that a ledger, its run folders and its page agree."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff
from functools import cache
from pathlib import Path

from serzoo.errors import SerzooError
from serzoo.experiments.run_check import differences
from serzoo.experiments.run_folder import KEPT, PREDICTIONS
from serzoo.experiments.stored_run import REPORT, StoredRun, run_folders
from serzoo.results.entries import LEDGER, read_ledger
from serzoo.results.page import Opener, make_page, with_name

_CHECKED = frozenset({LEDGER, PREDICTIONS, REPORT, KEPT, "leakage.json", "recipe.yaml"})


def page_of(folder: Path) -> Path:
    """Return the path of a results folder's page: ``docs/results.md`` for ``docs/results``."""
    named = with_name(folder)
    return named.with_name(f"{named.name}.md")


def problems(folder: Path, page: Path | None = None) -> list[str]:
    """Return a line for everything in a results folder that does not follow from its predictions.

    Args:
        folder: the ledger and its run folders.
        page: the page to check; None for :func:`page_of` the folder.

    Returns:
        Scores that the predictions do not give, missing predictions, run folders without a row and rows without a run
        folder. If there are none, the lines of the page that are not those of a new page.

    Raises:
        ConfigError: the ledger cannot be read.
    """
    open_run, folder = cache(StoredRun.open), with_name(folder)
    found = [*_of_folders(folder), *_of_runs(folder, open_run)]
    return found or list(_of_page(folder, page_of(folder) if page is None else page, open_run))


def not_checked(folder: Path) -> list[str]:
    """Return the names of files, and of parts of ``run.json``, that cannot be computed from the predictions, sorted."""
    names = {path.name.removesuffix(".gz") for path in folder.rglob("*") if path.is_file()}
    if KEPT in names:
        names |= {f"{part} in {KEPT}" for part in ("data", "environments", "histories", "system")}
    return sorted(names - _CHECKED)


def _of_folders(folder: Path) -> Iterator[str]:
    """Yield a line for each run folder without a row or with two, and for each row without a run folder."""
    ledger = read_ledger(folder / LEDGER)
    runs = {path.relative_to(folder) for path in run_folders(folder)}
    named = [entry.folder for entry in ledger.entries]
    rows = {name: {run for run in runs if run.is_relative_to(name)} for name in named}
    for name in (name for name, own in rows.items() if not own):
        yield f"{name}: has a row, but no run folder"
    for run in sorted(runs):
        names = [name for name, own in rows.items() if run in own]
        if not names:
            yield f"{run.as_posix()}: has no row in {LEDGER}"
        if len(names) > 1:
            yield f"{run.as_posix()}: has two rows, {names[0]} and {names[1]}"


def _of_runs(folder: Path, open_run: Opener) -> Iterator[str]:
    """Yield a line for each contradiction within a run."""
    for path in run_folders(folder):
        name = path.relative_to(folder).as_posix()
        try:
            yield from differences(open_run(path), name)
        except SerzooError as error:
            yield f"{name}: {error}"


def _of_page(folder: Path, page: Path, open_run: Opener) -> Iterator[str]:
    """Yield the lines of the page that differ from those of a new page."""
    try:
        new = make_page(folder, open_run)
        old = page.read_bytes().decode()
    except (SerzooError, OSError, UnicodeDecodeError) as error:
        yield f"{page}: {error}"
        return
    _, _, *lines = list(unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)) or ["---", "+++"]
    for line in lines:  # the first two lines are file names; skipped by position, as lines of the page may begin alike
        if not line.startswith("@@"):
            yield f"{page.name}: {'it has' if line[0] == '-' else 'it should have'} {line[1:]}"
    if old != new and old.splitlines() == new.splitlines():
        yield f"{page.name}: its line ends or its last line differ; write it again"
