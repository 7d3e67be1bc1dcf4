"""Keeping a run: the files from which its results can be checked, and nothing else."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serzoo.errors import DataError
from serzoo.experiments.run_check import differences
from serzoo.experiments.run_folder import KEPT, PREDICTIONS, read_table, run_name, same_training
from serzoo.experiments.stored_run import StoredRun, run_folders
from serzoo.files import local_path, moved_into_place

if TYPE_CHECKING:
    import pandas as pd

_TABLE = f"{PREDICTIONS}.gz"
_OF_STUDIES = ("systems.json", "table.md")
_NOT_REPLACED = "it is not replaced; choose another name or delete it yourself."


def keep(source: Path, target: Path, *, overwrite: bool = False) -> list[Path]:
    """Copy a run in the kept form: ``run.json`` and one compressed table of all folds' and seeds' predictions.

    ``run.json`` holds recipe, data description, leakage, report, environments and the histories of all epochs. Models,
    embeddings, logs, plots and provenance are left out, and so are folds that the report does not count.

    Args:
        source: the run folder, or a folder of run folders, in either form.
        target: the folder to write.
        overwrite: replace an earlier copy of the same runs, which may have had fewer folds.

    Returns:
        The files that were written. The same run gives the same bytes.

    Raises:
        DataError: ``source`` holds no run, or one whose predictions contradict its report; ``target`` exists, or lies
            within ``source``; or the folder to replace is not an earlier copy.
    """
    source, target = local_path(source), local_path(target)
    if target.exists() and not (overwrite and target.is_dir() and not target.is_symlink()):
        raise DataError(f"{target} is there already; choose another name or add --overwrite.")
    if target.resolve().is_relative_to(source.resolve()) or source.resolve().is_relative_to(target.resolve()):
        raise DataError(f"{target} and {source} are one within the other; choose another target.")
    folders = run_folders(source)
    if not folders:
        raise DataError(f"{source} holds no report.json; give a run folder, or a folder of run folders.")
    if target.exists():
        _check_replaceable(source, target)
    with moved_into_place(target, replace_folder=True) as part:
        for folder in folders:
            _write(StoredRun.open(folder), part / folder.relative_to(source))
        for name in _OF_STUDIES if source not in folders else ():
            if (source / name).is_file():
                shutil.copyfile(source / name, part / name)
    return sorted(path for path in target.rglob("*") if path.is_file())


def _check_replaceable(source: Path, target: Path) -> None:
    """Raise DataError unless a folder holds an earlier copy of these runs, without further folds, and nothing else."""
    written = {KEPT, _TABLE, *_OF_STUDIES}
    for path in sorted(target.rglob("*")):
        if path.is_symlink() or not (path.is_dir() or path.name in written):
            raise DataError(
                f"{target} holds {path.relative_to(target)}, a file that keep does not write; {_NOT_REPLACED}"
            )
    old_runs, new_runs = ({path.relative_to(folder) for path in run_folders(folder)} for folder in (target, source))
    for run in sorted(old_runs - new_runs):
        raise DataError(f"{target} holds the run {run}, missing in {source}; {_NOT_REPLACED}")
    for run in sorted(old_runs):
        new, old = StoredRun.open(source / run), StoredRun.open(target / run)
        if not old.derived:
            same_recipe = same_training(new.trained_recipe(), old.trained_recipe())
            for name, same in (("recipe", same_recipe), ("data", new.part("data") == old.part("data"))):
                if not same:
                    raise DataError(f"{old.path} is a run with another {name} than {new.path}; {_NOT_REPLACED}")
        for lost in sorted(set(old.runs) - set(new.runs)):
            raise DataError(f"{old.path} holds {lost}, missing in {new.path}; {_NOT_REPLACED}")


def _write(run: StoredRun, folder: Path) -> None:
    """Write a run in the kept form.

    Raises:
        DataError: its predictions contradict its report, or its runs are not named by fold and seed.
    """
    for problem in differences(run, str(run.path)):
        raise DataError(f"{problem}; nothing was kept.")
    folder.mkdir(parents=True)
    (folder / KEPT).write_text(_json(_content(run)), encoding="utf-8")
    text = _predictions(run).to_csv(index=False, lineterminator="\n")
    # without the time of writing, so that the same predictions give the same bytes
    (folder / _TABLE).write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def _content(run: StoredRun) -> dict[str, Any]:
    """Return the content of ``run.json``; ``data`` is missing and ``system`` present if the run is derived."""
    environments: list[dict[str, Any]] = []
    for name, environment in run.environments.items():
        same = next((one for one in environments if one["environment"] == environment), None)
        if same is None:
            environments.append(same := {"runs": [], "environment": environment})
        same["runs"].append(name)
    origin = {"system": run.part("system")} if run.derived else {"data": run.part("data")}
    return {
        "recipe": run.recipe,
        **origin,
        "report": {key: value for key, value in run.report.items() if key not in ("recipe", "leakage")},
        "leakage": run.report["leakage"],
        "environments": environments,
        "histories": dict(run.histories),
    }


def _predictions(run: StoredRun) -> pd.DataFrame:
    """Return the rows of all folds and seeds, every cell as it was written."""
    import pandas as pd

    if run.kept is not None:
        return read_table(run.path / PREDICTIONS, str)
    tables = []
    for fold, names in run.folds.items():
        seeds = {run_name(fold, seed, run.seeds[0]): seed for seed in run.seeds}
        for name in names:
            if name not in seeds:
                raise DataError(f"{run.path / name} is not named {fold} or {fold}-seedN by a seed; nothing was kept.")
            table = read_table(run.path / name / PREDICTIONS, str)
            table.insert(0, "fold", fold)
            table.insert(1, "seed", seeds[name])
            tables.append(table)
    return pd.concat(tables)


def _json(values: dict[str, Any]) -> str:
    """Return JSON with a line for each key, and each list of plain values on one line."""

    def on_one_line(found: re.Match[str]) -> str:
        # only line breaks between values change: within a string JSON writes them as \\n
        return re.sub(r"(^\[)?\n *(\]$)?", lambda broken: (broken[1] or "") + (broken[2] or "") or " ", found[0])

    return re.sub(r"\[[^\[\]{}]*\]", on_one_line, json.dumps(values, indent=1)) + "\n"
