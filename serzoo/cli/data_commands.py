"""``serzoo data`` and ``serzoo features``: corpora and the cache of features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serzoo.cli.options import CorpusName, CorpusRoot, DataRoot, Json, Quiet, RecipeName, TestDataRoot
from serzoo.cli.printing import json_text

PANEL = "Data"

data = typer.Typer(no_args_is_help=True, help="Check or create corpora.")
features = typer.Typer(no_args_is_help=True, help="Fill or clear the cache of features, or print its size.")


@data.command("verify")
def verify_corpus(corpus: CorpusName, root: CorpusRoot, as_json: Json = False, quiet: Quiet = False) -> None:
    """Check a corpus for missing, damaged, repeated and misnamed files.

    The exit code is 1 if there are errors.
    """
    from serzoo.data.verify import verify

    report = verify(corpus, root, progress=not quiet)
    typer.echo(json_text(report.to_dict()) if as_json else str(report))
    raise typer.Exit(0 if report.ok else 1)


@data.command("synthesize")
def synthesize_corpus(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="New or empty folder to write to.")],
    corpus: Annotated[str, typer.Option(help="Corpus whose classes and file names are imitated.")] = "ravdess",
    speakers: Annotated[int, typer.Option(help="Number of speakers.")] = 2,
    texts: Annotated[int, typer.Option(help="Number of different sentences.")] = 2,
    takes: Annotated[int, typer.Option(help="Clips per speaker, sentence and emotion.")] = 1,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Write a small corpus of synthetic speech, to try serzoo without recordings."""
    from serzoo.data.synthetic import write_corpus

    typer.echo(write_corpus(root, corpus, speakers, texts, takes, seed))


@data.command("words")
def cut_words_out(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of LibriSpeech or one of its subsets.")],
    alignments: Annotated[
        Path,
        typer.Argument(
            metavar="ALIGNMENTS", help="CSV file with the columns utterance, word, start and end (in seconds)."
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="New or empty folder to write to.")],
    words: Annotated[int, typer.Option(help="Number of different words. The most frequent ones are taken.")] = 1000,
    quiet: Quiet = False,
) -> None:
    """Cut LibriSpeech into clips of single words, a corpus for pretraining.

    Also writes words.csv, a table of the clips for the corpus 'csv'.
    """
    from serzoo.data.words import cut_words

    typer.echo(cut_words(root, alignments, target, n_words=words, progress=not quiet))


@features.command("extract")
def extract_features(
    recipe_name: RecipeName, data_root: DataRoot = None, test_data_root: TestDataRoot = None, quiet: Quiet = False
) -> None:
    """Compute the features of a recipe for all recordings, and store them in the cache for later trainings."""
    from serzoo.data.cache import FeatureCache
    from serzoo.experiments.setup import load_manifest, prepare_recipe

    recipe = prepare_recipe(recipe_name)
    manifest = load_manifest(recipe, data_root, test_data_root)
    cache = FeatureCache()
    counts = cache.fill(manifest.paths, recipe.features, progress=not quiet)
    lengths = sorted(set(counts))
    frames = f"{lengths[0]} frames" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]} frames"
    frame = " x ".join(map(str, recipe.features.frame_shape))
    typer.echo(f"{len(counts)} clips, {frames}, {frame} values per frame, in {cache.folder}")


@features.command("size")
def cache_size() -> None:
    """Print the folder of the cache, the number of clips in it and its size."""
    from serzoo.data.cache import FeatureCache

    cache = FeatureCache()
    entries, size = cache.size()
    typer.echo(f"{cache.folder}: {entries} clips, {size / 1e6:.1f} MB")


@features.command("clear")
def clear_cache() -> None:
    """Delete all cached features."""
    from serzoo.data.cache import FeatureCache

    FeatureCache().clear()
