"""Arguments and options that several commands share, and the reading of their values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serzoo.cli.quiet import import_tensorflow_quietly
from serzoo.errors import ConfigError
from serzoo.strict_yaml import parse

if TYPE_CHECKING:
    from serzoo.classifier import Classifier

MODELS_HELP = (
    "Pretrained weights (a name from serzoo list, or the path, https:// or hf:// address of a model card), a .keras "
    "file, the folder of a trained fold (runs/RECIPE/fold01), or published weights of TIM-Net (.hdf5) or TBDM-Net "
    "(.npz)."
)
FEATURES_HELP = (
    "Vector that represents a recording: mfcc or mel (mean over time), hf:NAME (a Hugging Face model), onnx:FILE (an "
    "ONNX model) or vectors:FILE (a table in .npz or .csv)."
)

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a recipe (serzoo list) or path of a YAML file.")
]
ModelSource = Annotated[str, typer.Argument(metavar="MODEL", help=MODELS_HELP)]
WeightsRecipe = Annotated[
    str | None,
    typer.Option("--recipe", help="Recipe with the class names and features. Required for .hdf5 and .npz weights."),
]
CorpusName = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help="Name of a corpus (serzoo list). For your own recordings: 'folder' (a subfolder per class) "
        "or 'csv' (a table with the columns path and label).",
    ),
]
CorpusRoot = Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the corpus; the CSV file for 'csv'.")]
DataRoot = Annotated[
    Path | None, typer.Option("--data", help="Folder of the recipe's corpus; not needed for the corpus 'synthetic'.")
]
TestDataRoot = Annotated[
    Path | None, typer.Option("--test-data", help="Folder of the second corpus, for recipes with two.")
]
RunFolder = Annotated[
    Path | None, typer.Option("--run", help="Folder for models and results (the run folder). Default: runs/RECIPE.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the recipe (serzoo describe RECIPE shows all), such as training.epochs=2. Repeatable.",
    ),
]
ArgumentChanges = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change an argument of the classifier (serzoo describe NAME), such as scale=false. Repeatable.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bars.")]


def read_changes(texts: Iterable[str] | None) -> dict[str, object]:
    """Parse the values of ``--set``, ``key=value`` each; the value is YAML, as in a recipe.

    Raises:
        ConfigError: no ``key=``, or a value that is no YAML.
    """
    changes: dict[str, object] = {}
    for text in texts or ():
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set {text!r} is not key=value; for example --set training.epochs=2")
        changes[key] = parse(value, f"--set {key}")
    return changes


def read_folds(text: str | None) -> list[int] | None:
    """Parse the fold numbers of ``--folds``, such as ``1,2`` or ``1-5``; None stands for all folds.

    Raises:
        ConfigError: another format.
    """
    if text is None:
        return None
    spans = [re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip()) for part in text.split(",")]
    numbers = [n for span in spans if span for n in range(int(span[1]), int(span[2] or span[1]) + 1)]
    if None in spans or not numbers:
        raise ConfigError(f"--folds {text!r} is not a list of folds; for example 1,2 or 1-5.")
    return numbers


def load_model(model: str, recipe: str | None) -> Classifier:
    """Load the model that MODEL and ``--recipe`` name."""
    import_tensorflow_quietly()
    from serzoo.zoo import load

    return load(model, recipe=recipe)
