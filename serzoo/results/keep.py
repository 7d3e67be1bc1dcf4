"""Keeping a run for good: what a result can be checked from, and nothing else."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

from serzoo.errors import DataError
from serzoo.experiments.run_folder import stored
from serzoo.experiments.stored_run import StoredRun, differences, read_json, run_folders
from serzoo.files import local_path, moved_into_place
from serzoo.recipes import read_recipe

_OF_RUNS = frozenset(
    {"recipe.yaml", "data.json", "report.json", "leakage.json", "system.json", "systems.json", "table.md"}
)
"""Files of a run folder, and of a study or of the gender systems above several."""

_OF_FOLDS = frozenset({"environment.json"})
_COMPRESSED = frozenset({"predictions.csv", "history.csv", "layers.csv"})

_NOT_REPLACED = "it is not replaced, so choose another name or delete it yourself."


def keep(source: Path, target: Path, *, overwrite: bool = False) -> list[Path]:
    """Copy what is kept of a run folder: settings, reports, versions, and, compressed, predictions and histories.

    Neither models, embeddings, logs and plots nor lists of what was heard.

    Args:
        source: the run folder, or a folder of run folders; those of their folds that the reports count are kept.
        target: where the copy goes.
        overwrite: replace an earlier copy of the same runs, which may have had fewer folds.

    Returns:
        The files that were written. The same run gives the same bytes.

    Raises:
        DataError: ``source`` holds no run, or one whose predictions contradict its report; or ``target`` is there, or
            within ``source``; or what is to be replaced is more than an earlier copy.
    """
    source, target = local_path(source), local_path(target)
    if target.exists() and not (overwrite and target.is_dir() and not target.is_symlink()):
        raise DataError(f"{target} is there already; choose another name or add --overwrite.")
    if target.resolve().is_relative_to(source.resolve()) or source.resolve().is_relative_to(target.resolve()):
        raise DataError(f"{target} and {source} are one within the other; choose another target.")
    if target.exists():
        _check_replaceable(source, target)
    files = list(_kept(source))
    with moved_into_place(target, replace_folder=True) as part:
        for path in files:
            _copy(path, part / path.relative_to(source))
    return sorted(path for path in target.rglob("*") if path.is_file())


def _check_replaceable(source: Path, target: Path) -> None:
    """Raise DataError unless a folder holds what a copy of these runs would, and nothing else."""
    written = _OF_RUNS | _OF_FOLDS | {f"{name}.gz" for name in _COMPRESSED}
    for path in sorted(target.rglob("*")):
        if path.is_symlink() or not (path.is_dir() or path.name in written):
            raise DataError(f"{target} holds {path.relative_to(target)}, which keep does not write; {_NOT_REPLACED}")
    there, new = ({path.relative_to(folder) for path in run_folders(folder)} for folder in (target, source))
    for lost in sorted(there - new):
        raise DataError(f"{target} holds the run {lost}, which {source} does not; {_NOT_REPLACED}")
    for run in sorted(there):
        _check_same_run(source / run, target / run)


def _check_same_run(new: Path, old: Path) -> None:
    """Raise DataError unless two folders are of the same recipe and recordings, and the new one has all of the old."""
    for name, read in (("recipe.yaml", read_recipe), ("data.json", read_json)):
        if (old / name).exists() and not ((new / name).exists() and read(new / name) == read(old / name)):
            raise DataError(f"{old} is a run with another {name} than {new}; {_NOT_REPLACED}")
    for lost in sorted(set(StoredRun.open(old).runs) - set(StoredRun.open(new).runs)):
        raise DataError(f"{old} holds {lost}, which {new} does not; {_NOT_REPLACED}")


def _kept(source: Path) -> Iterator[Path]:
    """Yield the files to keep."""
    folders = run_folders(source)
    if not folders:
        raise DataError(f"{source} holds no report.json; give a run folder, or a folder of run folders.")
    if source not in folders:
        yield from _named(source, _OF_RUNS)
    for folder in folders:
        run = StoredRun.open(folder)
        for problem in differences(run, str(folder)):
            raise DataError(f"{problem}; nothing was kept.")
        yield from _named(folder, _OF_RUNS)
        for fold in run.runs:
            places = [folder / fold, *sorted(path for path in (folder / fold).rglob("*") if path.is_dir())]
            for place in places:
                yield from _named(place, _OF_FOLDS)
                yield from (path for name in sorted(_COMPRESSED) if (path := stored(place / name)).is_file())


def _named(folder: Path, names: frozenset[str] | set[str]) -> Iterator[Path]:
    """Yield those files of a folder that are called so."""
    yield from (folder / name for name in sorted(names) if (folder / name).is_file())


def _copy(path: Path, target: Path) -> None:
    """Copy a file, compressed if it is a table."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.name in _COMPRESSED:
        packed = gzip.compress(path.read_bytes(), 9, mtime=0)  # without the time, so that the bytes are the same again
        target.with_name(f"{path.name}.gz").write_bytes(packed)
    else:
        shutil.copyfile(path, target)
