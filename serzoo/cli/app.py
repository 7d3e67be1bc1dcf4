"""The program ``serzoo``. Its commands import heavy packages when they run, so that ``serzoo --help`` is fast."""

from __future__ import annotations

from typing import Annotated

import typer

from serzoo import __version__
from serzoo.cli import data_commands, model_commands, results_commands, training_commands, use_commands

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Speech emotion recognition in Keras: classify recordings, train models and compare their results.",
    epilog="Start with: serzoo predict FILE. A recipe sets the model, features, corpus, protocol and training "
    "settings of an experiment. A protocol divides a corpus into training and test parts (folds). A run folder holds "
    "the models and results of a recipe. serzoo list shows all names.",
)
for commands in (use_commands, training_commands, results_commands, model_commands):
    app.add_typer(commands.app)
app.add_typer(training_commands.study, name="study", rich_help_panel=training_commands.PANEL)
app.add_typer(data_commands.data, name="data", rich_help_panel=data_commands.PANEL)
app.add_typer(data_commands.features, name="features", rich_help_panel=data_commands.PANEL)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"serzoo {__version__}")
        raise typer.Exit
