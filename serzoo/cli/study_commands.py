"""``serzoo study``: the comparisons of papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serzoo.cli.options import FEATURES_HELP, ArgumentChanges, Json, Quiet, read_changes
from serzoo.cli.printing import json_text
from serzoo.cli.quiet import import_tensorflow_quietly
from serzoo.errors import ConfigError, unknown_name

SCALINGS = {"no": (False,), "yes": (True,), "both": (False, True)}
"""The values of ``--scale``."""

study = typer.Typer(no_args_is_help=True, help="Repeat the comparisons of papers.")


@study.command("frozen")
def study_frozen_representations(
    corpora: Annotated[
        list[str], typer.Option("--corpus", metavar="NAME=FOLDER", help="A corpus and its folder. Repeatable.")
    ],
    sources: Annotated[list[str], typer.Option("--features", help=f"{FEATURES_HELP} Repeatable.")],
    classifiers: Annotated[
        list[str] | None,
        typer.Option("--classifier", help="embedding_dnn or a classical classifier (serzoo list). Repeatable."),
    ] = None,
    scale: Annotated[
        str, typer.Option(help="Standardise the vectors to mean 0 and deviation 1: no, yes or both.")
    ] = "no",
    protocol: Annotated[str, typer.Option(help="Protocol that defines the folds (serzoo list).")] = "random5-seed0-v1",
    seed: Annotated[int, typer.Option(help="Random seed of the classifiers.")] = 0,
    change: ArgumentChanges = None,
    jobs: Annotated[int | None, typer.Option(help="Number of processes; default: one per core.")] = None,
    run_folder: Annotated[Path, typer.Option("--run", help="Folder for the results.")] = Path("runs/frozen"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Cross-validate classifiers on frozen (untrained) representations, and print a table of scores."""
    import_tensorflow_quietly()
    from serzoo.data.vectors import embedding_spec
    from serzoo.experiments.studies import NETWORK, study_frozen

    if scale not in SCALINGS:
        raise unknown_name("value of --scale", scale, SCALINGS)
    found = study_frozen(
        _corpus_folders(corpora),
        [embedding_spec(source) for source in sources],
        classifiers or ("svc", NETWORK),
        scaled=SCALINGS[scale],
        protocol=protocol,
        seed=seed,
        changes=read_changes(change),
        run_folder=run_folder,
        jobs=jobs,
        progress=not quiet,
    )
    typer.echo(json_text({"rows": found.table()}) if as_json else str(found))
    typer.echo(f"Run folders: {run_folder}", err=True)


def _corpus_folders(texts: list[str]) -> dict[str, str]:
    """Read the values of ``--corpus``."""
    folders = dict(text.partition("=")[::2] for text in texts)
    for name, folder in folders.items():
        if not folder:
            raise ConfigError(f"--corpus {name} names no folder; write --corpus {name}=FOLDER.")
    return folders
