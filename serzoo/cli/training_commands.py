"""``serzoo train``, ``cv``, ``gender`` and ``study``: train models and score them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serzoo.cli.options import (
    FEATURES_HELP,
    ArgumentChanges,
    Changes,
    CorpusName,
    CorpusRoot,
    DataRoot,
    Json,
    Quiet,
    RecipeName,
    RunFolder,
    TestDataRoot,
    read_changes,
    read_folds,
)
from serzoo.cli.printing import json_text, scores_text
from serzoo.cli.quiet import import_tensorflow_quietly
from serzoo.errors import ConfigError, WeightsError, unknown_name

if TYPE_CHECKING:
    from serzoo.experiments.cross_validate import Report

PANEL = "Train and score"

SCALINGS = {"no": (False,), "yes": (True,), "both": (False, True)}
"""The values of ``--scale``."""

app = typer.Typer()
study = typer.Typer(no_args_is_help=True, help="Repeat comparisons from papers.")


@app.command("train", rich_help_panel=PANEL)
def train_model(
    recipe: RecipeName,
    data_root: DataRoot = None,
    test_data_root: TestDataRoot = None,
    fold: Annotated[int | None, typer.Option(help="Number of the fold, from 1. Default: 1.")] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Train on all recordings, without a test part. Not for classical classifiers, nor for a selection on "
            "held-out recordings (docs/protocols.md).",
        ),
    ] = False,
    run_folder: RunFolder = None,
    change: Changes = None,
    quiet: Quiet = False,
) -> None:
    """Train a recipe's model on one fold, score it on the fold's test part and save it.

    A fold divides the corpus into a training part and a test part. The
    recipe's protocol defines the folds. Prints the scores and the path of
    the model; serzoo predict --model takes this path.
    """
    if everything and fold is not None:
        raise ConfigError(f"--all trains on all recordings, --fold {fold} leaves some out; choose one.")
    if everything:
        import_tensorflow_quietly()
        from serzoo.experiments.train_all import train_all

        model = train_all(recipe, **_settings(data_root, test_data_root, run_folder, change, quiet))
    else:
        changes = ["repeats=1", *(change or [])]
        settings = _settings(data_root, test_data_root, run_folder, changes, quiet)
        model = _kept_model(_cross_validate(recipe, folds=[1 if fold is None else fold], **settings))
    typer.echo(f"Model: {model}")


def _kept_model(report: Report) -> Path:
    """Return the path of the model of a report's fold, unless it was removed after the training."""
    from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS

    ending = "skops" if report.recipe.model.name in CLASSICAL_CLASSIFIERS else "keras"
    model = report.folder / report.chosen[0] / f"model.{ending}"
    if not model.exists():
        raise WeightsError(
            f"{model} was removed since its fold was trained; delete the fold's folder to train it again."
        )
    return model


@app.command("cv", rich_help_panel=PANEL)
def cross_validate_recipe(
    recipe: RecipeName,
    data_root: DataRoot = None,
    test_data_root: TestDataRoot = None,
    folds: Annotated[str | None, typer.Option(help="Numbers of the folds, such as 1,2 or 1-5. Default: all.")] = None,
    run_folder: RunFolder = None,
    change: Changes = None,
    gender: Annotated[
        str | None,
        typer.Option(
            help="Train and score systems that use the speaker's gender (docs/gender.md) on the same folds: all, or "
            "names such as split:M,split:F."
        ),
    ] = None,
    weighting: Annotated[
        str,
        typer.Option(
            help="How the post-hoc systems of --gender average the models for men and women: posteriors (class "
            "probabilities) or logits."
        ),
    ] = "posteriors",
    at_once: Annotated[
        int | None,
        typer.Option(help="Number of folds to train at the same time. Default: chosen for the model and the machine."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Cross-validate a recipe: train and score a model on each fold of its protocol.

    Prints the mean and standard deviation of the scores over the folds. The
    same command continues an interrupted run.
    """
    settings = _settings(data_root, test_data_root, run_folder, change, quiet)
    settings |= {"folds": read_folds(folds), "at_once": at_once}
    if gender is None:
        _cross_validate(recipe, **settings)
        return
    import_tensorflow_quietly()
    from serzoo.experiments.gender_study import cross_validate_systems

    systems = None if gender == "all" else [name.strip() for name in gender.split(",")]
    found = cross_validate_systems(recipe, systems, weighting=weighting, **settings)
    typer.echo(f"{found}\nRun folder: {found.folder}")


def _settings(
    data_root: Path | None, test_data_root: Path | None, run_folder: Path | None, change: list[str] | None, quiet: bool
) -> dict[str, Any]:
    """Return the options that all trainings have, as keyword arguments."""
    return {
        "data_root": data_root,
        "test_data_root": test_data_root,
        "run_folder": run_folder,
        "changes": read_changes(change),
        "progress": not quiet,
    }


def _cross_validate(recipe: str, **settings: Any) -> Report:
    """Train the folds, print the report and return it."""
    import_tensorflow_quietly()
    from serzoo.experiments.cross_validate import cross_validate

    report = cross_validate(recipe, **settings)
    typer.echo(f"{report}\nRun folder: {report.folder}")
    return report


@app.command("gender", rich_help_panel=PANEL)
def classify_genders(
    corpus: CorpusName,
    root: CorpusRoot,
    classifier: Annotated[str, typer.Option(help="Name of a classical classifier (serzoo list).")] = "svc",
    source: Annotated[str, typer.Option("--features", help=FEATURES_HELP)] = "mfcc",
    folds: Annotated[int, typer.Option(help="Number of folds; no speaker is in two folds.")] = 5,
    seed: Annotated[int, typer.Option(help="Random seed of the folds and the classifier.")] = 0,
    change: ArgumentChanges = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Also train on all recordings, and save that classifier to a .skops file with a model card."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Score this .skops file or pretrained classifier (gender-ravdess) instead of training one."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a classifier of the speaker's gender and score it on unseen speakers."""
    from serzoo.data import load_corpus
    from serzoo.data.vectors import embedding_spec
    from serzoo.training.train_gender import (
        cross_validate_gender,
        save_gender_classifier,
        score_gender,
        train_gender_classifier,
    )
    from serzoo.weights.store import card_path

    if save is not None and (model is not None or save.suffix != ".skops"):
        raise ConfigError(f"--save {save} needs a name that ends in .skops, and no --model.")
    if save is not None:
        card_path(save)  # a file in the card's place is refused before the training, not after it
    manifest = load_corpus(corpus, root)
    if model is not None:
        scores = score_gender(model, manifest, progress=not quiet)
        typer.echo(json_text(scores.to_dict()) if as_json else scores_text(scores))
        typer.echo("Protocol: none; the classifier may have been trained on these speakers.", err=True)
        return
    spec, arguments = embedding_spec(source), read_changes(change)
    report = cross_validate_gender(
        manifest, spec, classifier, n_folds=folds, arguments=arguments, seed=seed, progress=not quiet
    )
    typer.echo(json_text(report.to_dict()) if as_json else str(report))
    if save is not None:
        trained = train_gender_classifier(manifest, spec, classifier, arguments=arguments, seed=seed)
        card = save_gender_classifier(trained, save, manifest, report)
        typer.echo(f"Model: {save}\nCard: {card or 'none, since vectors from a table cannot be checked'}", err=as_json)


@study.command("frozen")
def study_frozen_representations(
    corpora: Annotated[
        list[str], typer.Option("--corpus", metavar="NAME=FOLDER", help="Name and folder of a corpus. Repeatable.")
    ],
    sources: Annotated[list[str], typer.Option("--features", help=f"{FEATURES_HELP} Repeatable.")],
    classifiers: Annotated[
        list[str] | None,
        typer.Option(
            "--classifier",
            help="embedding_dnn or a classical classifier (serzoo list). Repeatable. Default: svc and embedding_dnn.",
        ),
    ] = None,
    scale: Annotated[
        str, typer.Option(help="Standardise the vectors to mean 0 and standard deviation 1: no, yes or both.")
    ] = "no",
    protocol: Annotated[str, typer.Option(help="Protocol that defines the folds (serzoo list).")] = "random5-seed0-v1",
    seed: Annotated[int, typer.Option(help="Random seed of the classifiers.")] = 0,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a value of all recipes, such as training.epochs=2. Repeatable."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Number of processes. Default: one per core.")] = None,
    run_folder: Annotated[
        Path, typer.Option("--run", help="Folder for models and results, with a run folder per row and corpus.")
    ] = Path("runs/frozen"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Cross-validate classifiers on frozen representations, and print a table of scores.

    A frozen representation is a vector per recording, such as averaged
    MFCCs or the embedding of a pretrained network that is not trained
    further.
    """
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
