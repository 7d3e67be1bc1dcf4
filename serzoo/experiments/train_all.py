"""Train a recipe on all recordings: a model to use, whose worth a cross-validation tells."""

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
"""Name of the folder, beside those of folds."""


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
    """Train a recipe on all recordings of its corpus, or of both of a cross-corpus recipe; nothing is left to score.

    An interrupted training goes on where it stopped when called again with the same run folder.

    Args:
        config: a recipe's name, a YAML file or a recipe.
        data_root: the corpus's folder; None only for the built-in synthetic corpus.
        test_data_root: the test corpus's folder, for cross-corpus recipes.
        run_folder: where ``all/`` goes, which may be the cross-validation's; None for ``runs/<recipe name>``.
        changes: values to replace in the recipe.
        cache: where features are kept; None for the default folder.
        progress: show progress bars.

    Returns:
        The model, ``all/model.keras`` in the run folder.

    Raises:
        ConfigError: the recipe is about a simple classifier, or needs recordings that are not trained on.
        SerzooError: anything else wrong with the recipe, the recordings or the run folder.
    """
    recipe = replace(prepare_recipe(config, changes), repeats=1)
    _check(recipe)
    manifest = load_manifest(recipe, data_root, test_data_root)
    model = build_model(recipe, manifest)
    check_stages(recipe, model)
    hashes = hash_contents(manifest, cache)
    examples = load_examples(manifest, recipe.features, with_gender=model.takes_gender, cache=cache, progress=progress)
    data = describe_data(manifest, hashes, weight_files(recipe), recipe)
    run = RunFolder.open(run_folder or Path("runs") / recipe.name, recipe, data)
    file, written_last = (run.fold(ALL_RECORDINGS) / name for name in ("model.keras", "environment.json"))
    if not (file.exists() and written_last.exists()):
        augmented = recipe.training.waveform_augment is not None
        trained, history = train(
            recipe,
            manifest,
            run.fold(ALL_RECORDINGS),
            data=manifest if augmented else examples,
            cache=cache,
            progress=progress,
            title=ALL_RECORDINGS,
        )
        write_model(recipe, run, ALL_RECORDINGS, trained, history, hashes)
        forget_states(run.fold(ALL_RECORDINGS))
    return file


def _check(recipe: Recipe) -> None:
    """Raise ConfigError unless the recipe can be trained without recordings to hold out."""
    if recipe.model.name in CLASSICAL_CLASSIFIERS:
        raise ConfigError(
            f"{recipe.model.name} is a simple classifier, and only networks train so; train a fold of it."
        )
    rule = recipe.training.selection
    if rule in (*VALIDATION_RULES, LEAKY_RULE):
        raise ConfigError(
            f"training.selection is {rule}, which scores recordings that are not trained on, and there are none; "
            "set it to last-epoch, and training.epochs to what the folds kept."
        )
    genders = gender_settings(recipe)
    if genders.source != GOLDEN:
        raise ConfigError(f"gender.source is {genders.source}, whose classifier is of a fold; set it to {GOLDEN}.")
    if genders.train_on != "all":
        raise ConfigError(f"gender.train_on is {genders.train_on}, which leaves recordings out; set it to all.")
