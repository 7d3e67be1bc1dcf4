"""``serzoo export``, ``convert``, ``package`` and ``benchmark``: trained models as files, and their cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serzoo.cli.options import Changes, Json, ModelSource, WeightsRecipe, load_model, read_changes
from serzoo.cli.printing import json_text
from serzoo.cli.quiet import import_tensorflow_quietly
from serzoo.errors import ConfigError

PANEL = "Deploy and measure"

app = typer.Typer()


@app.command("export", rich_help_panel=PANEL)
def export_model(
    model: ModelSource,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write to.")],
    recipe: WeightsRecipe = None,
    export_format: Annotated[
        str,
        typer.Option("--format", help="saved_model (TensorFlow) or litert (LiteRT, for mobile and embedded devices)."),
    ] = "saved_model",
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier export in FOLDER.")] = False,
) -> None:
    """Export a model for use without serzoo: it takes a waveform and returns probabilities.

    The export is loaded, and its probabilities are compared with those of
    the model. If they differ, no export is written.
    """
    from serzoo.exporters import export

    typer.echo(export(load_model(model, recipe), folder, format=export_format, overwrite=overwrite))


@app.command("convert", rich_help_panel=PANEL)
def convert_weights(
    model: ModelSource,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The .keras file to write.")],
    recipe: WeightsRecipe = None,
) -> None:
    """Convert pretrained or published weights to a .keras file."""
    if target.suffix != ".keras":
        raise ConfigError(f"{target} ends in {target.suffix or 'nothing'}; name a .keras file.")
    load_model(model, recipe).save(target)
    typer.echo(target)


@app.command("package", rich_help_panel=PANEL)
def package_weights(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A .keras file or the folder of a trained fold.")],
    name: Annotated[
        str, typer.Option(help="Name of the pretrained weights, MODEL.CORPUS_vNUMBER, such as timnet.emodb_v1.")
    ],
    scores: Annotated[
        list[Path], typer.Option(help="Run folder of a cross-validation of the same model (serzoo cv). Repeatable.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path(),
    threshold: Annotated[
        float, typer.Option(help="Confidence threshold, 0 to 1; below it, the label is 'unknown'.")
    ] = 0.5,
    summary: Annotated[
        str | None, typer.Option(help="One line for the model card. Default: model and corpora.")
    ] = None,
    trained_on: Annotated[
        str | None,
        typer.Option(
            help="Description of the training recordings. Required if MODEL is not in a run folder, or if its "
            "training used other networks."
        ),
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights. Default: that of the corpora.")] = None,
) -> None:
    """Package a model as pretrained weights: a weights file and a model card with scores, calibration and licence.

    Scores, and the calibration of the probabilities, are computed from the
    test predictions of the cross-validation.
    """
    import_tensorflow_quietly()
    from serzoo.experiments.packaging import package
    from serzoo.weights.cards import read_card

    texts = {"summary": summary, "trained_on": trained_on, "licence": licence}
    card = package(model, name, scores, out, threshold=threshold, **texts)
    typer.echo(f"{read_card(card)}\nCard: {card}")


@app.command("benchmark", rich_help_panel=PANEL)
def benchmark_model(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Name of a model or recipe, the YAML file of a recipe, a .keras file or the folder of a trained fold.",
        ),
    ],
    batch: Annotated[int | None, typer.Option(help="Clips per training step. Default: that of the recipe.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames per clip. Default: that of the recipe.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of a clip in seconds, instead of --frames.")] = None,
    jit: Annotated[bool | None, typer.Option(help="Compile with XLA or not. Default: as in the recipe.")] = None,
    repeats: Annotated[
        int,
        typer.Option(help="Number of training steps to time, in at most a minute. The first step is timed separately."),
    ] = 5,
    change: Changes = None,
    as_json: Json = False,
) -> None:
    """Measure the operations, memory and time of a model, and the speed of this machine.

    The name of a model selects its first recipe in serzoo list. The
    measurement takes half a minute. For acrnn, tbdm and vgg16 it takes
    minutes and up to 7 GB of memory; a smaller --batch needs less.
    """
    from serzoo.profiling import profile

    found = profile(
        model,
        batch_size=batch,
        n_frames=frames,
        seconds=seconds,
        jit_compile=jit,
        repeats=repeats,
        changes=read_changes(change),
    )
    typer.echo(json_text(found.to_dict()) if as_json else str(found))
