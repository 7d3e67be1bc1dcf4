"""The commands. Heavy packages are imported inside them, so that ``serzoo --help`` answers at once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serzoo import __version__
from serzoo.cli.quiet import import_tensorflow_quietly
from serzoo.errors import AudioError, ConfigError, WeightsError, unknown_name

if TYPE_CHECKING:
    from serzoo.classifier import Prediction
    from serzoo.data.corpora.corpus import Corpus
    from serzoo.metrics import Scores
    from serzoo.weights.cards import Card

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Speech emotion recognition, in Keras.",
)
data = typer.Typer(no_args_is_help=True, help="Look after recordings.")
features = typer.Typer(no_args_is_help=True, help="Look after cached features.")
study = typer.Typer(no_args_is_help=True, help="Compare what a paper compares.")
app.add_typer(data, name="data")
app.add_typer(features, name="features")
app.add_typer(study, name="study")

Config = Annotated[str, typer.Argument(help="A config's name (serzoo list) or a YAML file.")]
DataRoot = Annotated[Path | None, typer.Option("--data", help="Folder of the recordings.")]
TestDataRoot = Annotated[
    Path | None, typer.Option("--test-data", help="Folder of the test corpus, for cross-corpus configs.")
]
RunFolderOption = Annotated[Path | None, typer.Option("--run", help="Run folder; default runs/<config>.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a value: training.epochs=2. Repeatable.")]
_SOURCES_HELP = "mfcc, mel, hf:NAME, onnx:FILE or vectors:FILE; one vector per recording."
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
_MODELS_HELP = (
    "A pretrained set (name, card, address, hf://...), a .keras file, a fold's folder, or papers' .hdf5, .npz."
)
Model = Annotated[str, typer.Argument(help=_MODELS_HELP)]
RecipeOption = Annotated[
    str | None, typer.Option("--config", help="Config that names the classes and features of .hdf5 and .npz weights.")
]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"serzoo {__version__}")
        raise typer.Exit


@app.command("list")
def list_everything() -> None:
    """List models, pretrained sets, corpora, protocols and configs."""
    from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
    from serzoo.data.corpora.corpus import CORPORA
    from serzoo.data.splits import protocol_names
    from serzoo.models import MODELS
    from serzoo.recipes import list_recipes
    from serzoo.weights.store import list_pretrained, pretrained_card

    cards = {name: pretrained_card(name) for name in list_pretrained()}
    _table("Models", {name: MODELS.get(name).summary for name in MODELS})
    _table("Simple classifiers", {name: CLASSICAL_CLASSIFIERS.get(name).summary for name in CLASSICAL_CLASSIFIERS})
    _table("Pretrained", {name: _card_text(card) for name, card in cards.items()})
    _table("Corpora", {name: _corpus_text(CORPORA.get(name)) for name in CORPORA})
    _table("Protocols", protocol_names())
    _table("Configs", {name: _summary(name) for name in list_recipes()})


@app.command("describe")
def describe_model(name: Annotated[str, typer.Argument(help="A model's name.")]) -> None:
    """Say what a model is, which arguments it takes and which configs use it."""
    import_tensorflow_quietly()
    from serzoo.zoo import describe

    known = describe(name)
    typer.echo(f"{known['name']}: {known['summary']}\n{known['source']}\n")
    _table("Arguments", {key: repr(default) for key, default in known["arguments"].items()})
    _table("Configs", dict.fromkeys(known["recipes"], ""))


@data.command("verify")
def verify_corpus(
    corpus: Annotated[str, typer.Argument(help="A corpus's name, or 'folder' or 'csv'.")],
    root: Annotated[Path, typer.Argument(help="Its folder, or the CSV file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Check a corpus against what is known of it; exit code 1 if something is wrong with it."""
    from serzoo.data.verify import verify

    report = verify(corpus, root, progress=not quiet)
    typer.echo(_json(report.to_dict()) if as_json else str(report))
    raise typer.Exit(0 if report.ok else 1)


@data.command("synthesize")
def synthesize_corpus(
    root: Annotated[Path, typer.Argument(help="Folder to write to.")],
    corpus: Annotated[str, typer.Option(help="Whose file names to use.")] = "ravdess",
    speakers: Annotated[int, typer.Option(help="How many speakers.")] = 2,
    texts: Annotated[int, typer.Option(help="How many texts.")] = 2,
    takes: Annotated[int, typer.Option(help="How often each speaker says each text with each emotion.")] = 1,
    seed: Annotated[int, typer.Option(help="Of all random choices.")] = 0,
) -> None:
    """Write a synthetic corpus of speech-like clips under a corpus's file names."""
    from serzoo.data.synthetic import write_corpus

    typer.echo(write_corpus(root, corpus, speakers, texts, takes, seed))


@data.command("words")
def cut_words_out(
    root: Annotated[Path, typer.Argument(help="LibriSpeech, or one of its subsets.")],
    alignments: Annotated[Path, typer.Argument(help="CSV file with the columns utterance, word, start and end.")],
    target: Annotated[Path, typer.Argument(help="Folder to write to, new or empty.")],
    words: Annotated[int, typer.Option(help="How many words, the most frequent ones.")] = 1000,
    quiet: Quiet = False,
) -> None:
    """Cut single words out of LibriSpeech and write the table of them, a corpus 'csv' to pretrain on."""
    from serzoo.data.words import cut_words

    typer.echo(cut_words(root, alignments, target, n_words=words, progress=not quiet))


@features.command("extract")
def extract_features(
    config: Config, data_root: DataRoot = None, test_data_root: TestDataRoot = None, quiet: Quiet = False
) -> None:
    """Fill the cache with the features that a config needs."""
    from serzoo.data.cache import FeatureCache
    from serzoo.experiments.setup import load_manifest, prepare_recipe

    recipe = prepare_recipe(config)
    manifest = load_manifest(recipe, data_root, test_data_root)
    cache = FeatureCache()
    counts = cache.fill(manifest.paths, recipe.features, progress=not quiet)
    lengths = sorted(set(counts))
    frames = f"{lengths[0]} frames" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]} frames"
    frame = " x ".join(map(str, recipe.features.frame_shape))
    typer.echo(f"{len(counts)} clips, {frames}, {frame} values per frame, in {cache.folder}")


@features.command("size")
def cache_size() -> None:
    """Say where the cache is and how much it holds."""
    from serzoo.data.cache import FeatureCache

    cache = FeatureCache()
    entries, size = cache.size()
    typer.echo(f"{cache.folder}: {entries} clips, {size / 1e6:.1f} MB")


@features.command("clear")
def clear_cache() -> None:
    """Delete all cached features."""
    from serzoo.data.cache import FeatureCache

    FeatureCache().clear()


@app.command("train")
def train_model(
    config: Config,
    data_root: DataRoot = None,
    test_data_root: TestDataRoot = None,
    fold: Annotated[int | None, typer.Option(help="The fold to train and score, from 1; default 1.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Train on all recordings instead, and score none: a model to use.")
    ] = False,
    run_folder: RunFolderOption = None,
    change: Changes = None,
    quiet: Quiet = False,
) -> None:
    """Train on one fold of a config's protocol, once, score its test part and keep the model."""
    from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS

    if everything:
        _train_all(config, data_root, test_data_root, fold, run_folder, change, quiet)
        return
    changes = ["repeats=1", *(change or [])]
    report = _cross_validate(
        config, data_root, test_data_root, [1 if fold is None else fold], run_folder, changes, quiet
    )
    ending = "skops" if report.recipe.model.name in CLASSICAL_CLASSIFIERS else "keras"
    model = report.folder / report.chosen[0] / f"model.{ending}"
    if not model.exists():
        raise WeightsError(
            f"{model} was removed since its fold was trained; delete the fold's folder to train it again."
        )
    typer.echo(f"Model: {model}")


def _train_all(
    config: str,
    data_root: Path | None,
    test_data_root: Path | None,
    fold: int | None,
    run_folder: Path | None,
    changes: list[str] | None,
    quiet: bool,
) -> None:
    """Train on all recordings and say where the model is."""
    if fold is not None:
        raise ConfigError(f"--all trains on all recordings, --fold {fold} leaves some out; choose one.")
    import_tensorflow_quietly()
    from serzoo.experiments.train_all import train_all

    model = train_all(
        config,
        data_root=data_root,
        test_data_root=test_data_root,
        run_folder=run_folder,
        changes=dict(map(_change, changes or [])),
        progress=not quiet,
    )
    typer.echo(f"Model: {model}")


@app.command("cv")
def cross_validate_config(
    config: Config,
    data_root: DataRoot = None,
    test_data_root: TestDataRoot = None,
    folds: Annotated[str | None, typer.Option(help="Which folds, for example 1,2 or 1-5; default all.")] = None,
    run_folder: RunFolderOption = None,
    change: Changes = None,
    gender: Annotated[
        str | None,
        typer.Option(help="Compare ways to use the speaker's gender: all, or names such as split:M,split:F."),
    ] = None,
    weighting: Annotated[
        str, typer.Option(help="What the post-hoc systems weight by gender: posteriors or logits.")
    ] = "posteriors",
    at_once: Annotated[
        int | None,
        typer.Option(
            help="Folds to train at the same time, in processes or, on JAX, as one program; chosen unless given."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train and score a config on the folds of its protocol; an interrupted run goes on."""
    if gender is None:
        _cross_validate(config, data_root, test_data_root, _numbers(folds), run_folder, change, quiet, at_once)
        return
    import_tensorflow_quietly()
    from serzoo.experiments.gender_systems import cross_validate_systems

    found = cross_validate_systems(
        config,
        None if gender == "all" else [name.strip() for name in gender.split(",")],
        weighting=weighting,
        data_root=data_root,
        test_data_root=test_data_root,
        run_folder=run_folder,
        folds=_numbers(folds),
        changes=dict(map(_change, change or [])),
        at_once=at_once,
        progress=not quiet,
    )
    typer.echo(f"{found}\nRun folder: {found.folder}")


@study.command("frozen")
def study_frozen_representations(
    corpora: Annotated[list[str], typer.Option("--corpus", help="NAME=FOLDER. Repeatable.")],
    sources: Annotated[list[str], typer.Option("--features", help=f"{_SOURCES_HELP} Repeatable.")],
    classifiers: Annotated[
        list[str] | None, typer.Option("--classifier", help="embedding_dnn or a simple classifier. Repeatable.")
    ] = None,
    scale: Annotated[str, typer.Option(help="Bring values to mean 0 and deviation 1: no, yes or both.")] = "no",
    protocol: Annotated[str, typer.Option(help="The folds.")] = "random5-seed0-v1",
    seed: Annotated[int, typer.Option(help="Of every classifier.")] = 0,
    change: Changes = None,
    jobs: Annotated[int | None, typer.Option(help="Processes; one per core unless given.")] = None,
    run_folder: Annotated[Path, typer.Option("--run", help="Where the results go.")] = Path("runs/frozen"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Cross-validate classifiers on frozen representations of corpora, and print the table."""
    import_tensorflow_quietly()
    from serzoo.data.vectors import embedding_spec
    from serzoo.experiments.studies import NETWORK, study_frozen

    scalings = {"no": (False,), "yes": (True,), "both": (False, True)}
    if scale not in scalings:
        raise unknown_name("value of --scale", scale, scalings)
    folders = dict(text.partition("=")[::2] for text in corpora)
    for name, folder in folders.items():
        if not folder:
            raise ConfigError(f"--corpus {name} names no folder; write --corpus {name}=FOLDER.")
    found = study_frozen(
        folders,
        [embedding_spec(source) for source in sources],
        classifiers or ("svc", NETWORK),
        scaled=scalings[scale],
        protocol=protocol,
        seed=seed,
        changes=dict(map(_change, change or [])),
        run_folder=run_folder,
        jobs=jobs,
        progress=not quiet,
    )
    typer.echo(_json({"rows": found.table()}) if as_json else str(found))
    typer.echo(f"Run folders: {run_folder}", err=True)


@app.command("gender")
def classify_genders(
    corpus: Annotated[str, typer.Argument(help="A corpus's name, or 'folder' or 'csv'.")],
    root: Annotated[Path, typer.Argument(help="Its folder, or the CSV file.")],
    classifier: Annotated[str, typer.Option(help="A simple classifier (serzoo list).")] = "svc",
    source: Annotated[str, typer.Option("--features", help=_SOURCES_HELP)] = "mfcc",
    folds: Annotated[int, typer.Option(help="How many speaker-disjoint folds.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the folds and the classifier.")] = 0,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Change an argument of the classifier: scale=false. Repeatable.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Train on all recordings too, and keep that as a .skops file with its card.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Score this .skops file or pretrained classifier instead of training.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a classifier of speakers' genders and score it on speakers it has not heard."""
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
        raise ConfigError(f"--save {save} needs a name that ends in .skops, and no --model, which trains nothing.")
    if save is not None:
        card_path(save)  # where something else stands in the card's place, that shows before anything is trained
    manifest = load_corpus(corpus, root)
    if model is not None:
        scores = score_gender(model, manifest, progress=not quiet)
        typer.echo(_json(scores.to_dict()) if as_json else _scores_text(scores))
        typer.echo("Protocol: none; serzoo cannot know whether these speakers were in training.", err=True)
        return
    spec, arguments = embedding_spec(source), dict(map(_change, change or []))
    report = cross_validate_gender(
        manifest, spec, classifier, n_folds=folds, arguments=arguments, seed=seed, progress=not quiet
    )
    typer.echo(_json(report.to_dict()) if as_json else str(report))
    if save is not None:
        trained = train_gender_classifier(manifest, spec, classifier, arguments=arguments, seed=seed)
        card = save_gender_classifier(trained, save, manifest, report)
        typer.echo(f"Model: {save}\nCard: {card or 'none, since vectors from a table cannot be checked'}", err=as_json)


@app.command("evaluate")
def evaluate_model(
    model: Model,
    corpus: Annotated[str, typer.Argument(help="A corpus's name, or 'folder' or 'csv'.")],
    root: Annotated[Path, typer.Argument(help="Its folder, or the CSV file.")],
    config: RecipeOption = None,
    shared_classes: Annotated[
        bool, typer.Option("--shared-classes", help="Leave out recordings of classes the model does not know.")
    ] = False,
    target: Annotated[str, typer.Option(help="What the model tells: label, speaker, text ...")] = "label",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Score a trained model on a corpus. The recordings it was trained on do not count as a test.

    The model answers with any of its classes, also with those that the corpus does not have.
    """
    import_tensorflow_quietly()
    from serzoo.data import load_corpus
    from serzoo.training.evaluate import evaluate

    classifier = _load(model, config)
    manifest = load_corpus(corpus, root).with_target(target)
    if shared_classes:
        manifest = manifest.with_classes([name for name in classifier.class_names if name in manifest.class_names])
    scores = evaluate(classifier, manifest, progress=not quiet)
    typer.echo(_json(scores.to_dict()) if as_json else _scores_text(scores))
    typer.echo("Protocol: none; serzoo cannot know whether these speakers or recordings were in training.", err=True)


@app.command("predict")
def predict_files(
    sources: Annotated[list[Path], typer.Argument(help="Audio files or folders.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help=f"{_MODELS_HELP} The usual pretrained set unless given.")
    ] = None,
    config: RecipeOption = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Confidence, 0..1, that an answer needs; 0 takes any. A pretrained set has its own."),
    ] = None,
    gender: Annotated[
        str | None,
        typer.Option(
            help="Speaker's gender where the model takes it: male, female, probability of male, or a classifier that "
            "hears it: a pretrained one's name or a .skops file."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to a .json or .csv file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which emotion recordings carry; long ones get a timeline.

    A pretrained set answers unknown where it is not sure enough.
    """
    from serzoo.weights.store import default_pretrained

    model = default_pretrained() if model is None else model
    import_tensorflow_quietly()
    from serzoo.classifier import to_csv, to_json
    from serzoo.files import write_whole

    if output is not None and output.suffix not in (".json", ".csv"):
        raise ConfigError(f"--output {output} ends in {output.suffix or 'nothing'}; use .json or .csv.")
    classifier = _load(model, config)
    if classifier.card is not None:
        typer.echo(f"Model: {classifier.card.name}, {_card_text(classifier.card)}", err=True)
    if classifier.model.takes_gender and gender is None:
        raise ConfigError(
            f"{model} takes the speaker's gender; add --gender male, --gender female or the probability of male, "
            "such as --gender 0.8, or --gender gender-ravdess for a classifier to tell it."
        )
    errors: list[AudioError] = []
    predictions = classifier.predict_files(sources, gender=gender, threshold=threshold, on_error=errors.append)
    if output is not None:
        write_whole(output, to_csv(predictions) if output.suffix == ".csv" else to_json(predictions))
    typer.echo(to_json(predictions) if as_json else "\n".join(map(_prediction_text, predictions)))
    for error in errors:
        typer.echo(f"error: {error}", err=True)
    raise typer.Exit(2 if errors else 0)


@app.command("package")
def package_weights(
    model: Annotated[str, typer.Argument(help="A .keras file or a fold's folder.")],
    name: Annotated[str, typer.Option(help="Of the set: MODEL.CORPUS_v1.")],
    scores: Annotated[
        list[Path], typer.Option(help="Run folder of a cross-validation of the same kind of model. Repeatable.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path(),
    threshold: Annotated[float, typer.Option(help="Calibrated confidence that an answer needs, 0..1.")] = 0.5,
    summary: Annotated[str | None, typer.Option(help="One line; model and corpora unless given.")] = None,
    trained_on: Annotated[str | None, typer.Option(help="What it has heard, if its folder does not say.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights; that of the corpora unless given.")] = None,
) -> None:
    """Make a pretrained set of a model: its weights, and a card with scores, calibration and licence."""
    import_tensorflow_quietly()
    from serzoo.experiments.packaging import package
    from serzoo.weights.cards import read_card

    texts = {"summary": summary, "trained_on": trained_on, "licence": licence}
    card = package(model, name, scores, out, threshold=threshold, **texts)
    typer.echo(f"{read_card(card)}\nCard: {card}")


@app.command("export")
def export_model(
    model: Model,
    folder: Annotated[Path, typer.Argument(help="Folder to write to.")],
    config: RecipeOption = None,
    export_format: Annotated[str, typer.Option("--format", help="saved_model or litert.")] = "saved_model",
    overwrite: Annotated[bool, typer.Option(help="Replace the folder.")] = False,
) -> None:
    """Export a model that takes a waveform and answers with a label, and check it by reloading."""
    from serzoo.exporters import export

    typer.echo(export(_load(model, config), folder, format=export_format, overwrite=overwrite))


@app.command("report")
def report_results(
    folder: Annotated[Path, typer.Argument(help="Run folders and the ledger that names them: docs/results.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the page to this file; with --check, compare it.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; compare reports and page with the predictions.")
    ] = False,
) -> None:
    """Write the page of all results in a folder, every number computed from the predictions kept there.

    With --check, exit code 1 and a line for each number, run folder or line of the page that does not follow from them;
    if all do, it names the files that nothing can be compared with.
    """
    from serzoo.files import write_whole
    from serzoo.results.check import not_checked, problems
    from serzoo.results.page import make_page

    if check:
        found = problems(folder, output)
        beside = ", ".join(not_checked(folder)) or "nothing"
        right = f"{folder}: reports and page follow from the predictions. Not checked: {beside}."
        typer.echo("\n".join(found) if found else right)
        raise typer.Exit(1 if found else 0)
    page = make_page(folder)
    if output is None:
        typer.echo(page, nl=False)
    else:
        write_whole(output, page)


@app.command("compare")
def compare_two_runs(
    first: Annotated[Path, typer.Argument(help="A run folder.")],
    second: Annotated[Path, typer.Argument(help="Another, tested on the same clips.")],
    shared_folds: Annotated[
        bool, typer.Option("--shared-folds", help="Compare on the folds that both have done, if these differ.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether two runs differ: the second minus the first, interval and p over speakers."""
    from serzoo.experiments.compare_runs import compare_runs
    from serzoo.experiments.stored_run import StoredRun

    found = compare_runs(StoredRun.open(first), StoredRun.open(second), shared_folds=shared_folds)
    typer.echo(_json(found.to_dict()) if as_json else str(found))


@app.command("keep")
def keep_run(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a folder of run folders.")],
    target: Annotated[Path, typer.Argument(help="Where the copy goes: docs/results/NAME.")],
    overwrite: Annotated[
        bool, typer.Option(help="Replace an earlier copy of the same runs; never another folder.")
    ] = False,
) -> None:
    """Copy of a run what its results can be checked from: settings, reports, compressed predictions; no models."""
    from serzoo.results.keep import keep

    files = keep(run_folder, target, overwrite=overwrite)
    typer.echo(f"{target}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e3:.0f} kB")


@app.command("convert")
def convert_weights(
    model: Model,
    target: Annotated[Path, typer.Argument(help="The .keras file to write.")],
    config: RecipeOption = None,
) -> None:
    """Turn the papers' own weight files (.hdf5 of TIM-Net, .npz of TBDM-Net) into a .keras file."""
    if target.suffix != ".keras":
        raise ConfigError(f"{target} ends in {target.suffix or 'nothing'}; name a .keras file.")
    _load(model, config).save(target)
    typer.echo(target)


@app.command("benchmark")
def benchmark_model(
    model: Annotated[str, typer.Argument(help="A model's or config's name, a YAML file, a .keras file or a fold.")],
    batch: Annotated[int | None, typer.Option(help="Clips of a training step; as in the config unless given.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a clip; as the features have unless given.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of a clip, instead of --frames.")] = None,
    jit: Annotated[bool | None, typer.Option(help="Compile with XLA, or not; as in the config unless given.")] = None,
    repeats: Annotated[int, typer.Option(help="Training steps after the first, a minute of them at most.")] = 5,
    change: Changes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure what a model costs: operations, memory and time, against what the machine can do.

    A model's name stands for its first config. Half a minute; acrnn, tbdm and vgg16 take minutes and up to 7 GB
    with their configs' batches, and less of both with a smaller --batch.
    """
    from serzoo.profiling import profile

    found = profile(
        model,
        batch_size=batch,
        n_frames=frames,
        seconds=seconds,
        jit_compile=jit,
        repeats=repeats,
        changes=dict(map(_change, change or [])),
    )
    typer.echo(_json(found.to_dict()) if as_json else str(found))


def _cross_validate(
    config: str,
    data_root: Path | None,
    test_data_root: Path | None,
    folds: list[int] | None,
    run_folder: Path | None,
    changes: list[str] | None,
    quiet: bool,
    at_once: int | None = None,
) -> Any:
    """Run the folds, print the report and return it."""
    import_tensorflow_quietly()
    from serzoo.experiments.cross_validate import cross_validate

    report = cross_validate(
        config,
        data_root=data_root,
        test_data_root=test_data_root,
        run_folder=run_folder,
        folds=folds,
        changes=dict(map(_change, changes or [])),
        at_once=at_once,
        progress=not quiet,
    )
    typer.echo(f"{report}\nRun folder: {report.folder}")
    return report


def _load(model: str, config: str | None) -> Any:
    import_tensorflow_quietly()
    from serzoo.zoo import load

    return load(model, recipe=config)


def _change(text: str) -> tuple[str, object]:
    """Read ``key=value``; the value is YAML, as in a config."""
    from serzoo.strict_yaml import parse

    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {text!r} is not key=value; for example --set training.epochs=2")
    return key, parse(value, f"--set {key}")


def _numbers(text: str | None) -> list[int] | None:
    """Read ``1,2`` or ``1-5``."""
    if text is None:
        return None
    spans = [re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip()) for part in text.split(",")]
    numbers = [n for span in spans if span for n in range(int(span[1]), int(span[2] or span[1]) + 1)]
    if None in spans or not numbers:
        raise ConfigError(f"--folds {text!r} is not a list of folds; for example 1,2 or 1-5.")
    return numbers


def _summary(config: str) -> str:
    """Return a built-in config's summary; to read all configs whole takes longer than all else that is listed."""
    from serzoo.recipes import config_folder, load_recipe
    from serzoo.strict_yaml import parse

    path = config_folder() / f"{config}.yaml"
    with path.open(encoding="utf-8") as lines:
        line = next((line for line in lines if line.startswith("summary:")), None)
    return load_recipe(config).summary if line is None else parse(line, str(path))["summary"]


def _corpus_text(corpus: Corpus) -> str:
    """Return what is fixed of a corpus; where the recordings tell the classes, that is their layout."""
    classes = f"{len(corpus.class_names)} {corpus.classes_are}" if corpus.class_names else corpus.layout
    return f"{classes}, {corpus.licence}" if corpus.licence else classes


def _card_text(card: Card) -> str:
    """Return what a pretrained set is and under which terms it may be used."""
    return f"{card.summary}; {card.licence}"


def _prediction_text(prediction: Prediction) -> str:
    """Return a line for the clip, one for each window of a long one, and its warnings."""
    perhaps = "" if prediction.label == prediction.top else f"perhaps {prediction.top}, "
    lines = [f"{prediction.name}: {prediction.label} ({perhaps}{prediction.confidence:.0%})"]
    lines += [f"  {part.start:7.1f} s - {part.end:7.1f} s  {part.label}" for part in prediction.timeline]
    return "\n".join(lines + [f"  warning: {warning}" for warning in prediction.warnings])


def _scores_text(scores: Scores) -> str:
    recalls = {
        name: "no recordings" if value is None else f"recall {value:.1%}" for name, value in scores.recall.items()
    }
    width = max(map(len, recalls))
    return "\n".join([str(scores), *(f"  {name:<{width}}  {text}" for name, text in recalls.items())])


def _table(title: str, rows: dict[str, str]) -> None:
    typer.echo(title)
    width = max(map(len, rows), default=0)
    for name, text in rows.items():
        typer.echo(f"  {name:<{width}}  {text}".rstrip())
    typer.echo()


def _json(values: dict[str, object]) -> str:
    return json.dumps(values, indent=2)
