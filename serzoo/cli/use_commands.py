"""Commands that use models: ``serzoo predict``, ``evaluate``, ``list`` and ``describe``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from serzoo.cli.printing import json_text, print_table, scores_text
from serzoo.cli.quiet import import_tensorflow_quietly
from serzoo.errors import AudioError, ConfigError, UnknownNameError, unknown_name

if TYPE_CHECKING:
    from serzoo.data.corpora.corpus import Corpus
    from serzoo.predictions import Prediction
    from serzoo.weights.cards import Card

PANEL = "Use a model"

app = typer.Typer()


@app.command("predict", rich_help_panel=PANEL)
def predict_files(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILES", help="Audio files, or folders (searched with subfolders).")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help=f"{MODELS_HELP} Default: the pretrained weights dense_tcn.ravdess_v1."),
    ] = None,
    recipe: WeightsRecipe = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Confidence threshold, 0 to 1; 0 never gives 'unknown'. Default: that of the model card, or 0 "
            "without a card."
        ),
    ] = None,
    gender: Annotated[
        str | None,
        typer.Option(
            help="Speaker's gender, for models with a gender input: male, female, the probability of male (0 to 1), "
            "or a gender classifier (gender-ravdess, or a .skops file)."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the predictions to a .json or .csv file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Classify the emotion in recordings.

    Prints the label and the confidence, the probability of the most
    probable class, for each recording. The label is 'unknown' if the
    confidence is below the threshold. A recording longer than twice the
    model's clip length is cut into half-overlapping windows, and the label
    of each window is printed too. The exit code is 2 if a recording cannot
    be read.
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
        bool, typer.Option("--shared-classes", help="Leave out recordings of classes that the model does not have.")
    ] = False,
    target: Annotated[
        str, typer.Option(help="Column of the corpus that the model predicts: label (the emotion), speaker, text ...")
    ] = "label",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a trained model on a corpus.

    Prints UAR (unweighted average recall, the mean of the recalls of the
    classes), WAR (weighted average recall, the accuracy) and the recall of
    each class. If the model was trained on these recordings or their
    speakers, the scores are too high for new recordings. Predictions of
    classes that the corpus does not have count as errors.
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


@app.command("list", rich_help_panel=PANEL)
def list_everything() -> None:
    """List models, classical classifiers, pretrained weights, corpora, protocols and recipes."""
    from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
    from serzoo.data.corpora.corpus import CORPORA
    from serzoo.data.protocols import protocol_names
    from serzoo.models import MODELS
    from serzoo.recipes import list_recipes
    from serzoo.weights.store import list_pretrained, pretrained_card

    cards = {name: pretrained_card(name) for name in list_pretrained()}
    print_table("Models", {name: MODELS.get(name).summary for name in MODELS})
    print_table(
        "Classical classifiers", {name: CLASSICAL_CLASSIFIERS.get(name).summary for name in CLASSICAL_CLASSIFIERS}
    )
    print_table("Pretrained weights", {name: card_line(card) for name, card in cards.items()})
    print_table("Corpora", {name: _corpus_line(CORPORA.get(name)) for name in CORPORA})
    print_table("Protocols", protocol_names())
    print_table("Recipes", {name: recipe_summary(name) for name in list_recipes()})


@app.command("describe", rich_help_panel=PANEL)
def describe_anything(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Any name that serzoo list shows, or the YAML file of a recipe.")
    ],
) -> None:
    """Show the details of a model, classical classifier, pretrained weights, corpus, protocol or recipe.

    Prints the arguments, defaults and recipes of a model, the model card of
    pretrained weights, or all values of a recipe as YAML, with inherited
    values and defaults.
    """
    from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
    from serzoo.data.corpora.corpus import CORPORA
    from serzoo.data.protocols import protocol_names
    from serzoo.models import MODELS
    from serzoo.recipes import list_recipes
    from serzoo.weights.store import list_pretrained, pretrained_card

    kinds: list[tuple[list[str], Callable[[str], None]]] = [
        (MODELS.names(), _describe_model),
        (CLASSICAL_CLASSIFIERS.names(), _describe_classical),
        (list_pretrained(), lambda name: typer.echo(pretrained_card(name))),
        (CORPORA.names(), _describe_corpus),
        (list_recipes(), _describe_recipe),
        (list(protocol_names()), _describe_protocol),
    ]
    for names, describe in kinds:
        if name in names:
            describe(name)
            return
    if name.endswith((".yaml", ".yml")):
        _describe_recipe(name)
        return
    try:
        _describe_protocol(name)  # its name may have numbers where the list has letters
    except UnknownNameError:
        raise unknown_name("name", name, [known for names, _ in kinds for known in names]) from None


def _describe_model(name: str) -> None:
    import_tensorflow_quietly()
    from serzoo.zoo import describe

    known = describe(name)
    typer.echo(f"{name}: {known['summary']}\n{known['source']}\n")
    print_table("Arguments", {key: repr(default) for key, default in known["arguments"].items()})
    print_table("Recipes", {recipe: recipe_summary(recipe) for recipe in known["recipes"]})


def _describe_classical(name: str) -> None:
    from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS, complete_arguments

    typer.echo(f"{name}: {CLASSICAL_CLASSIFIERS.get(name).summary}\n")
    print_table("Arguments", {key: repr(default) for key, default in complete_arguments(name).items()})


def _describe_corpus(name: str) -> None:
    from serzoo.data.corpora.corpus import CORPORA

    corpus = CORPORA.get(name)
    counts = [f"{label} {corpus.class_counts[label]}" for label in corpus.class_names if label in corpus.class_counts]
    rows = {
        corpus.classes_are.capitalize(): ", ".join(counts or corpus.class_names) or "those of your recordings",
        "Recordings": str(sum(corpus.class_counts.values()) or ""),
        "Speakers": str(len(corpus.speaker_counts) or ""),
        "Layout": corpus.layout,
        "Source": corpus.source,
        "Licence": corpus.licence,
    }
    print_table(f"{name}: {corpus.title}", {key: text for key, text in rows.items() if text})


def _describe_protocol(name: str) -> None:
    from serzoo.data.protocols import get_protocol, protocol_names

    families = protocol_names()
    if name in families:
        typer.echo(f"{name}: {families[name]}")
        return
    protocol = get_protocol(name)
    kind = "speaker-independent" if protocol.speaker_independent else "speakers may be in training and test parts"
    typer.echo(f"{protocol.name}: {protocol.summary} ({kind})")


def _describe_recipe(name: str) -> None:
    from serzoo.recipes import load_recipe

    typer.echo(load_recipe(name).to_yaml(), nl=False)


def recipe_summary(name: str) -> str:
    """Return a built-in recipe's summary. Reading only its line keeps ``serzoo list`` fast."""
    from serzoo.recipes import config_folder, load_recipe
    from serzoo.strict_yaml import parse

    path = config_folder() / f"{name}.yaml"
    with path.open(encoding="utf-8") as lines:
        line = next((line for line in lines if line.startswith("summary:")), None)
    return load_recipe(name).summary if line is None else parse(line, str(path))["summary"]


def card_line(card: Card) -> str:
    """Return the summary and licence of pretrained weights."""
    return f"{card.summary}; {card.licence}"


def _corpus_line(corpus: Corpus) -> str:
    """Return the number of classes and the licence; the layout where the classes are those of the recordings."""
    classes = f"{len(corpus.class_names)} {corpus.classes_are}" if corpus.class_names else corpus.layout
    return f"{classes}, {corpus.licence}" if corpus.licence else classes
