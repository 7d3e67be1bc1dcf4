"""The text that commands print."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from serzoo.metrics import Scores


def print_table(title: str, rows: Mapping[str, str]) -> None:
    """Print a title, an indented line per row, and an empty line."""
    typer.echo(title)
    width = max(map(len, rows), default=0)
    for name, text in rows.items():
        typer.echo(f"  {name:<{width}}  {text}".rstrip())
    typer.echo()


def json_text(values: Mapping[str, object]) -> str:
    """Return plain data as indented JSON."""
    return json.dumps(values, indent=2)


def scores_text(scores: Scores) -> str:
    """Return a line with the scores, and a line per class with its recall."""
    recalls = {
        name: "no recordings" if value is None else f"recall {value:.1%}" for name, value in scores.recall.items()
    }
    width = max(map(len, recalls))
    return "\n".join([str(scores), *(f"  {name:<{width}}  {text}" for name, text in recalls.items())])
