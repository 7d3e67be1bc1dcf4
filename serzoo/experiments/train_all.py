"""Train a recipe on all recordings; the model has no scores of its own, a cross-validation estimates them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.data.cache import FeatureCache
from serzoo.data.examples import load_examples
from serzoo.data.leakage import hash_contents
from serzoo.errors import ConfigError
from serzoo.experiments.folds import forget_states, gender_settings, weight_files, write_model
from serzoo.experiments.run_folder import RunFolder, describe_data
from serzoo.experiments.setup import load_manifest, prepare_recipe
from serzoo.experiments.stages import build_model, check_stages, train
from serzoo.recipes import Recipe
from serzoo.settings import GOLDEN, LEAKY_RULE, VALIDATION_RULES

ALL_RECORDINGS = "all"
"""Name of the folder, next to those of folds."""


def train_all(
    config: str | Path | Recipe,
    *,
    data_root: str | Path | None = None,
    test_data_root: str | Path | None = None,
    run_folder: str | Path | None = None,
    changes: Mapping[str, object] | None = None,
    cache: FeatureCache | None = None,
    progress: bool = True,
) -> Path:
    """Train a recipe on all recordings of its corpus, or of both corpora of a cross-corpus recipe.

    Called again with the same run folder, an interrupted training resumes. The arguments are those of
    :func:`serzoo.cross_validate`, whose run folder may be the same.

    Returns:
        The path of the model, ``all/model.keras`` in the run folder.

    Raises:
        ConfigError: the recipe has a classical classifier, or needs held-out recordings.
        SerzooError: the recipe, the recordings or the run folder cannot be used.
    """
    recipe = replace(prepare_recipe(config, changes), repeats=1)
    if recipe.model.name in CLASSICAL_CLASSIFIERS:
        raise ConfigError(f"{recipe.model.name} is a classical classifier; only networks train on all recordings.")
    rule, genders = recipe.training.selection, gender_settings(recipe)
    if rule in (*VALIDATION_RULES, LEAKY_RULE):
        raise ConfigError(
            f"training.selection is {rule}, but no recordings are held out; set it to last-epoch, and training.epochs "
            "to the number of epochs that the folds kept."
        )
    if genders.source != GOLDEN:
        raise ConfigError(f"gender.source is {genders.source}, but its classifier needs a fold; set it to {GOLDEN}.")
    if genders.train_on != "all":
        raise ConfigError(f"gender.train_on is {genders.train_on}, but all recordings are used; set it to all.")
    manifest = load_manifest(recipe, data_root, test_data_root)
    model = build_model(recipe, manifest)
    check_stages(recipe, model)
    hashes = hash_contents(manifest, cache)
    examples = load_examples(manifest, recipe.features, with_gender=model.takes_gender, cache=cache, progress=progress)
    data = describe_data(manifest, hashes, weight_files(recipe), recipe)
    run = RunFolder.open(run_folder or Path("runs") / recipe.name, recipe, data)
    folder = run.path / ALL_RECORDINGS
    if not ((folder / "model.keras").exists() and (folder / "environment.json").exists()):  # which is written last
        trained, history = train(
            recipe,
            manifest,
            folder,
            x=examples if recipe.training.waveform_augment is None else manifest,
            cache=cache,
            progress=progress,
            title=ALL_RECORDINGS,
        )
        write_model(recipe, run, ALL_RECORDINGS, trained, history, hashes)
        forget_states(folder)
    return folder / "model.keras"
