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
        str, typer.Option("--format", help="saved_model (TensorFlow) or litert (LiteRT, for phones and boards).")
    ] = "saved_model",
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier export in the folder.")] = False,
) -> None:
    """Export a model for use without serzoo: it takes a waveform and returns probabilities.

    The export is loaded again and compared with the model before it is
    kept.
    """
    from serzoo.exporters import export

    typer.echo(export(load_model(model, recipe), folder, format=export_format, overwrite=overwrite))


@app.command("convert", rich_help_panel=PANEL)
def convert_weights(
    model: ModelSource,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The .keras file to write.")],
    recipe: WeightsRecipe = None,
) -> None:
    """Convert weights to a .keras file: the papers' .hdf5 (TIM-Net) and .npz (TBDM-Net), or pretrained weights."""
    if target.suffix != ".keras":
        raise ConfigError(f"{target} ends in {target.suffix or 'nothing'}; name a .keras file.")
    load_model(model, recipe).save(target)
    typer.echo(target)


@app.command("package", rich_help_panel=PANEL)
def package_weights(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A .keras file or the folder of a run's fold.")],
    name: Annotated[str, typer.Option(help="Name of the pretrained weights: MODEL.CORPUS_v1.")],
    scores: Annotated[list[Path], typer.Option(help="Run folder of a cross-validation of the same model. Repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path(),
    threshold: Annotated[
        float, typer.Option(help="Calibrated confidence, 0..1, below which the label is 'unknown'.")
    ] = 0.5,
    summary: Annotated[str | None, typer.Option(help="One line; default: model and corpora.")] = None,
    trained_on: Annotated[
        str | None, typer.Option(help="Training recordings, if the model's folder does not state them.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights; default: that of the corpora.")] = None,
) -> None:
    """Package a model as pretrained weights: a weights file and a model card with scores, calibration and licence.

    Scores and calibration are computed from the cross-validation's
    predictions.
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
            metavar="MODEL", help="Name of a model or recipe, a YAML file, a .keras file or the folder of a run's fold."
        ),
    ],
    batch: Annotated[int | None, typer.Option(help="Clips per training step; default: the recipe's.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames per clip; default: those of the features.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of a clip, instead of --frames.")] = None,
    jit: Annotated[bool | None, typer.Option(help="Compile with XLA or not; default: as in the recipe.")] = None,
    repeats: Annotated[int, typer.Option(help="Training steps to time after the first, for a minute at most.")] = 5,
    change: Changes = None,
    as_json: Json = False,
) -> None:
    """Measure the operations, memory and time of a model, next to the limits of this machine.

    A model's name stands for its first recipe. The measurement takes half a
    minute; acrnn, tbdm and vgg16 take minutes and up to 7 GB of memory with
    the batches of their recipes, less with a smaller --batch.
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
