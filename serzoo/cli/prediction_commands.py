"""``serzoo predict`` and ``serzoo evaluate``: a trained model on recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serzoo.cli.listing import PANEL, card_line
from serzoo.cli.options import (
    MODELS_HELP,
    CorpusName,
    CorpusRoot,
    Json,
    ModelSource,
    Quiet,
    WeightsRecipe,
    load_model,
)
from serzoo.cli.printing import json_text, scores_text
from serzoo.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from serzoo.predictions import Prediction

app = typer.Typer()


@app.command("predict", rich_help_panel=PANEL)
def predict_files(
    sources: Annotated[list[Path], typer.Argument(metavar="FILES", help="Audio files, or folders of them.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help=f"{MODELS_HELP} Without it, the default pretrained weights."),
    ] = None,
    recipe: WeightsRecipe = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Confidence, 0..1, below which the label is 'unknown'. Default: that of the model card."),
    ] = None,
    gender: Annotated[
        str | None,
        typer.Option(
            help="For models with a gender input: male, female, the probability of male, or a gender classifier "
            "(gender-ravdess, or a .skops file)."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the predictions to a .json or .csv file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Classify the emotion in recordings.

    Prints the label and the confidence for each recording; the label is
    'unknown' below the threshold. A recording longer than twice the model's
    clips is classified in windows, printed as a timeline.
    """
    from serzoo.weights.store import default_pretrained

    if output is not None and output.suffix not in (".json", ".csv"):
        raise ConfigError(f"--output {output} ends in {output.suffix or 'nothing'}; use .json or .csv.")
    model = default_pretrained() if model is None else model
    classifier = load_model(model, recipe)
    from serzoo.files import write_whole
    from serzoo.predictions import to_csv, to_json

    if classifier.card is not None:
        typer.echo(f"Model: {classifier.card.name} ({card_line(classifier.card)})", err=True)
    if classifier.model.takes_gender and gender is None:
        raise ConfigError(
            f"{model} takes the speaker's gender; add --gender male, --gender female, the probability of male, such as "
            "--gender 0.8, or a gender classifier: --gender gender-ravdess."
        )
    errors: list[AudioError] = []
    predictions = classifier.predict_files(sources, gender=gender, threshold=threshold, on_error=errors.append)
    if output is not None:
        write_whole(output, to_csv(predictions) if output.suffix == ".csv" else to_json(predictions))
    typer.echo(to_json(predictions) if as_json else "\n".join(map(_prediction_text, predictions)))
    for error in errors:
        typer.echo(f"error: {error}", err=True)
    raise typer.Exit(2 if errors else 0)


def _prediction_text(prediction: Prediction) -> str:
    """Return a line for the clip, one for each window of a long one, and its warnings."""
    perhaps = "" if prediction.label == prediction.top else f"perhaps {prediction.top}, "
    lines = [f"{prediction.name}: {prediction.label} ({perhaps}{prediction.confidence:.0%})"]
    lines += [f"  {part.start:7.1f} s - {part.end:7.1f} s  {part.label}" for part in prediction.timeline]
    return "\n".join(lines + [f"  warning: {warning}" for warning in prediction.warnings])


@app.command("evaluate", rich_help_panel=PANEL)
def evaluate_model(
    model: ModelSource,
    corpus: CorpusName,
    root: CorpusRoot,
    recipe: WeightsRecipe = None,
    shared_classes: Annotated[
        bool, typer.Option("--shared-classes", help="Leave out recordings whose class the model does not have.")
    ] = False,
    target: Annotated[
        str, typer.Option(help="Column of the corpus that the model predicts: label, speaker, text ...")
    ] = "label",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a trained model on a corpus.

    Prints UAR (the mean of the classes' recalls), WAR (accuracy) and the
    recall of each class. The scores are too high for new recordings if the
    model was trained on these recordings or their speakers. The model may
    predict classes that the corpus does not have; these predictions count
    as errors.
    """
    classifier = load_model(model, recipe)
    from serzoo.data import load_corpus
    from serzoo.training.evaluate import evaluate

    manifest = load_corpus(corpus, root).with_target(target)
    if shared_classes:
        manifest = manifest.with_classes([name for name in classifier.class_names if name in manifest.class_names])
    scores = evaluate(classifier, manifest, progress=not quiet)
    typer.echo(json_text(scores.to_dict()) if as_json else scores_text(scores))
    typer.echo("Protocol: none; the model may have been trained on these recordings or their speakers.", err=True)
