"""``serzoo compare``, ``keep`` and ``report``: the results of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serzoo.cli.options import Json
from serzoo.cli.printing import json_text

PANEL = "Results"

app = typer.Typer()


@app.command("compare", rich_help_panel=PANEL)
def compare_two_runs(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help="A run folder.")],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help="Another run folder, tested on the same clips.")],
    shared_folds: Annotated[
        bool,
        typer.Option(
            "--shared-folds",
            help="Compare only the folds that both runs have. Without it, different folds are an error.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Test whether the scores of two runs differ.

    Prints the UAR and WAR of the second run minus those of the first, with
    95 % confidence intervals (bootstrap over speakers) and p-values
    (permutation test over speakers).
    """
    from serzoo.experiments.compare_runs import compare_runs
    from serzoo.experiments.stored_run import StoredRun

    found = compare_runs(StoredRun.open(first), StoredRun.open(second), shared_folds=shared_folds)
    typer.echo(json_text(found.to_dict()) if as_json else str(found))


@app.command("keep", rich_help_panel=PANEL)
def keep_run(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a folder of run folders.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Folder for the copy, such as docs/results/NAME.")],
    overwrite: Annotated[
        bool, typer.Option(help="Replace an earlier copy of the same runs. A folder with anything else is an error.")
    ] = False,
) -> None:
    """Copy the settings, scores and predictions of a run without its models.

    serzoo report --check and serzoo compare read the copy.
    """
    from serzoo.results.keep import keep

    files = keep(run_folder, target, overwrite=overwrite)
    typer.echo(f"{target}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e3:.0f} kB")


@app.command("report", rich_help_panel=PANEL)
def report_results(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Folder of run folders, such as docs/results, with a ledger.yaml (title and command of each run).",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File for the page. Default: print it. With --check, the page to check; default: FOLDER.md.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check the scores and the page against the predictions, and write nothing.")
    ] = False,
) -> None:
    """Write a page of results, with every score computed from the stored predictions.

    With --check, prints each score, run folder or line of the page that
    does not agree with the predictions. The exit code is then 1.
    """
    from serzoo.files import write_whole
    from serzoo.results.check import not_checked, problems
    from serzoo.results.page import make_page

    if check:
        found = problems(folder, output)
        unchecked = ", ".join(not_checked(folder)) or "nothing"
        right = f"{folder}: reports and page follow from the predictions. Not checked: {unchecked}."
        typer.echo("\n".join(found) if found else right)
        raise typer.Exit(1 if found else 0)
    page = make_page(folder)
    if output is None:
        typer.echo(page, nl=False)
    else:
        write_whole(output, page)
