"""Packaging pretrained weights: the arrays, and a model card with scores from a cross-validation."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from serzoo.classifier import Classifier
from serzoo.data.corpora.corpus import CORPORA
from serzoo.errors import ConfigError, DataError, SerzooWarning, WeightsError
from serzoo.experiments.calibration import MAJORITY, calibrate
from serzoo.experiments.folds import other_models
from serzoo.experiments.provenance import read_provenance
from serzoo.experiments.run_check import differences
from serzoo.experiments.stored_run import StoredRun, read_json
from serzoo.experiments.train_all import ALL_RECORDINGS
from serzoo.files import local_path
from serzoo.labels import UNKNOWN
from serzoo.metrics import summarise
from serzoo.models import MODELS
from serzoo.models.base import SERModel
from serzoo.recipes import Recipe, read_recipe
from serzoo.settings import ModelConfig
from serzoo.weights.arrays import write_weights
from serzoo.weights.cards import Calibration, EmotionCard
from serzoo.weights.check_clips import EMOTION_CLIP
from serzoo.weights.store import card_path, check_clip_output, installed_version, save_with_card
from serzoo.zoo import full_arguments, load, model_file, predict_check_clip

_PACKAGES = ("serzoo", "keras", "numpy", "librosa", "soxr")
_NO_DIFFERENCE = ("seed", "jit_compile")
_COMMON = ("name", "n_classes", "class_names", "feature_spec")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A cross-validation and its predictions on its test parts.

    Args:
        run: the cross-validation.
        recipe: the recipe of its trainings.
        clips: for each run and test clip ``fold``, ``clip`` (corpus and name), ``target`` (the class index) and the
            probability of each class (``p_`` and its name).
    """

    run: StoredRun
    recipe: Recipe
    clips: pd.DataFrame


def package(
    model: str | Path,
    name: str,
    scores: Sequence[str | Path],
    out: str | Path = ".",
    *,
    threshold: float = MAJORITY,
    summary: str | None = None,
    trained_on: str | None = None,
    licence: str | None = None,
) -> Path:
    """Write pretrained weights, ``NAME.weights.h5``, with their model card ``NAME.yaml``, and load them as a check.

    Scores, temperature and coverage of the threshold come from held-out predictions of networks of the same kind. A
    model trained on all recordings has no held-out ones itself, so these are the best estimate. Networks are of the
    same kind if architecture, features, classes, training settings and corpora are the same; protocol and seed may
    differ, and of two corpora the one to train on.

    Args:
        model: a ``.keras`` file or a fold's folder.
        name: of the weights, ``<model>.<corpus>_v<number>``.
        scores: runs of cross-validations of the same model, features and classes, as training or as ``serzoo keep``
            writes them. The predictions of several are pooled.
        out: the folder to write to.
        threshold: the calibrated confidence, 0..1, below which the classifier returns ``unknown``.
        summary: one line; None for model and corpora.
        trained_on: the training recordings in words; None for those of the model's run folder. Needed if the training
            used other networks, as the folder does not list theirs.
        licence: of the weights; None for that of the corpora. Needed in the same case.

    Returns:
        The path of the card.

    Raises:
        ConfigError: the name is malformed or taken; or the training recordings or their licence are not known.
        WeightsError: there is no model, or the cross-validations are of another kind of model.
        DataError: a run is missing or damaged; or all scores are of one fold.
    """
    path, network = model_file(model), load(model).model
    own_recipe = path.parent.parent / "recipe.yaml"
    own = read_recipe(own_recipe) if own_recipe.is_file() else None
    held_out = [read_held_out(local_path(folder)) for folder in scores]
    if not held_out:
        raise ConfigError(f"{name} needs scores of a cross-validation; give its run folder (--scores RUN).")
    for found in held_out:
        for setting, theirs, ours in _settings(network, own, found):
            if theirs != ours:
                raise WeightsError(
                    f"{found.recipe.name} was scored with {setting} {theirs}, but {path} has {ours}; give its own run."
                )
        if not found.run.protocol.speaker_independent:
            warnings.warn(
                f"{found.recipe.protocol} tests on seen speakers, so confidences will be too high for other speakers; "
                "give scores of a speaker-independent protocol",
                SerzooWarning,
                stacklevel=2,
            )
    target = local_path(out) / f"{name}{EmotionCard.suffix}"
    _check_name(name, network, target)
    recipes = [*([own] if own else []), *(found.recipe for found in held_out)]
    others = dict.fromkeys(other for recipe in recipes for other in other_models(recipe))
    if others and not (trained_on and licence):
        raise ConfigError(
            f"The training used {', '.join(others)}, whose training recordings are not in its run folder; give all "
            "training recordings and the licence of the weights (--trained-on TEXT --licence TEXT)."
        )
    corpora = _corpora(*recipes)
    architecture = _architecture(network)
    titles = " and ".join(CORPORA.get(corpus).title if corpus in CORPORA else corpus for corpus in corpora)
    known: dict[str, Any] = {
        "name": name,
        "summary": summary or f"{architecture} on {titles}, {network.n_classes} classes",
        "trained_on": trained_on or _trained_on(path, own),
        **_origin(corpora, licence),
        **_scores_and_calibration(held_out, threshold),
        "model": ModelConfig(architecture, _arguments(network)),
        "class_names": network.class_names,
        "feature_spec": network.feature_spec.to_dict(),  # type: ignore[union-attr]  # load gives none without
        "versions": {
            package: version
            for package in (*_PACKAGES, keras.backend.backend())
            if (version := installed_version(package))
        },
        "input": dict(EMOTION_CLIP),
    }

    def describe(n_bytes: int, sha256: str) -> EmotionCard:
        card = EmotionCard(**known, bytes=n_bytes, sha256=sha256, output=())
        return replace(
            card, output=check_clip_output(card.input, partial(predict_check_clip, Classifier(network, card)))
        )

    return save_with_card(target, partial(write_weights, network), describe, check=load)


def read_held_out(folder: Path) -> HeldOut:
    """Read a cross-validation's predictions on its test parts.

    Raises:
        DataError: the folder has no report, or one of no training, or its predictions contradict it or are without
            probabilities.
    """
    run = StoredRun.open(folder)
    for problem in differences(run, str(folder)):
        raise DataError(f"{problem}; its scores cannot be used.")
    recipe, columns = run.trained_recipe(), [f"p_{label}" for label in run.class_names]
    tested_on = "+".join(_corpora(recipe)) if run.protocol.tests_on_both else recipe.test_corpus or recipe.corpus
    parts = []
    for fold, name in ((fold, name) for fold, names in run.folds.items() for name in names):
        table = run.tables[name]
        if not set(columns) <= set(table):
            raise DataError(f"{run.predictions_file(name)} has no probabilities of {name}; train that fold again.")
        probabilities = table[columns].div(table[columns].sum(axis=1), axis=0)
        clips, targets = f"{tested_on}/" + table["clip"], run.indices[name][0]
        parts.append(probabilities.assign(fold=f"{folder} {fold}", clip=clips, target=targets))
    return HeldOut(run, recipe, pd.concat(parts))


def _settings(network: SERModel, own: Recipe | None, found: HeldOut) -> Iterator[tuple[str, object, object]]:
    """Yield the settings of a scored network and of the one to package that must be equal: name, theirs, ours.

    Without the own recipe these are of the network alone. A training on two corpora is scored in both directions.
    """
    recipe, arguments = found.recipe, _arguments(network)
    yield "model", recipe.model.name, _architecture(network)
    yield "classes", found.run.class_names, network.class_names
    yield "features", recipe.features, network.feature_spec
    for name, value in full_arguments(recipe.model.name, recipe.features, recipe.model.arguments).items():
        yield name, _plain(value), arguments.get(name)
    theirs, ours = ({} if one is None else _training(one) for one in (recipe if own else None, own))
    for name in {**theirs, **ours}:
        yield name, theirs.get(name), ours.get(name)


def _training(recipe: Recipe) -> dict[str, object]:
    """Return all settings of a training but network, features and seeds, by dotted keys."""
    values = recipe.to_dict()
    training = {key: value for key, value in values["training"].items() if key not in _NO_DIFFERENCE}
    stages = {key: values[key] for key in ("target", "initial", "anti_transfer", "rh_emo", "gender")}
    settings = {"corpora": sorted(_corpora(recipe)), "training": training, **stages}
    return {str(key): value for key, value in pd.json_normalize(settings).iloc[0].items()}


def _check_name(name: str, network: SERModel, target: Path) -> None:
    """Raise ConfigError unless pretrained weights may have this name."""
    architecture = _architecture(network)
    if not re.fullmatch(re.escape(architecture) + r"\.[a-z0-9_]+_v[0-9]+", name):
        raise ConfigError(f"{name!r:.80} is no name for weights of {architecture}; use {architecture}.<corpus>_v1.")
    if target.exists() or card_path(target).exists():
        raise ConfigError(f"{target} exists, and published weights never change; raise the number after _v.")
    if UNKNOWN in (network.class_names or ()):
        raise ConfigError(f"A class is named {UNKNOWN!r}, the label below the threshold; rename it.")


def _corpora(*recipes: Recipe) -> list[str]:
    """Return the distinct corpora that the recipes train or test on, in order."""
    return list(dict.fromkeys(name for recipe in recipes for name in (recipe.corpus, recipe.test_corpus) if name))


def _origin(corpora: Sequence[str], licence: str | None) -> dict[str, object]:
    """Return a card's corpus, source and licence; of several corpora joined."""
    known = {name: CORPORA.get(name) for name in corpora if name in CORPORA}
    if not licence and not all(name in known and known[name].licence for name in corpora):
        raise ConfigError(f"The licence of {' and '.join(corpora)} is not known; give that of the weights (--licence).")
    titles = [f"{corpus.title}: " if len(known) > 1 else "" for corpus in known.values()]
    joined = {
        key: "; ".join(title + getattr(corpus, key) for title, corpus in zip(titles, known.values(), strict=True))
        for key in ("source", "licence")
    }
    return {"corpus": "+".join(corpora), **joined, **({"licence": licence} if licence else {})}


def _scores_and_calibration(held_out: Sequence[HeldOut], threshold: float) -> dict[str, object]:
    """Return a card's protocol, scores and calibration.

    The scores are mean and standard deviation over folds, and each fold's UAR and WAR, averaged over its seeds.
    """
    summary = summarise([runs for found in held_out for runs in found.run.summary.folds])
    clips = pd.concat([found.clips for found in held_out])
    targets, names, folds = (clips.pop(column).to_numpy() for column in ("target", "clip", "fold"))
    calibration = calibrate(clips.to_numpy(), targets, names, folds, threshold)
    scores: dict[str, Any] = {
        **summary.mean,
        **{f"{name}_std": value for name, value in summary.std.items()},
        "n": calibration.n,
        **{
            f"{name}_of_folds": [float(np.mean([getattr(run, name) for run in runs])) for runs in summary.folds]
            for name in ("uar", "war")
        },
    }
    protocols = [
        f"{found.run.protocol.described} of {found.recipe.name}, "
        f"{len(found.run.folds)} of {found.run.report['n_folds']} folds, selection {found.recipe.training.selection}"
        for found in held_out
    ]
    return {
        "protocol": "; ".join(protocols),
        "scores": {name: np.round(value, 6).tolist() for name, value in scores.items()},
        "calibration": Calibration(**{name: round(value, 6) for name, value in asdict(calibration).items()}),
    }


def _architecture(network: SERModel) -> str:
    """Return the name of a network's architecture, as :func:`serzoo.build` takes it."""
    return next(name for name in MODELS if MODELS.get(name).load() is type(network))


def _arguments(network: SERModel) -> dict[str, Any]:
    """Return all arguments of an architecture, so that a later change of defaults does not change the card."""
    return {key: _plain(value) for key, value in network.get_config().items() if key not in _COMMON}


def _plain(value: Any) -> Any:
    """Return a value in the form of a card: lists for tuples."""
    return json.loads(json.dumps(value))


def _trained_on(path: Path, recipe: Recipe | None) -> str:
    """Describe the training recordings of a model file, from its run folder."""
    provenance, run = read_provenance(path), path.parent.parent
    try:
        n_files = read_json(run / "data.json")["n_recordings"]
    except (DataError, KeyError):
        provenance = None
    if provenance is None or recipe is None:
        raise ConfigError(f"{path} is not in a run folder; describe its training recordings (--trained-on TEXT).")
    corpora = " and ".join(_corpora(recipe))
    if recipe.class_names or recipe.test_corpus:
        corpora += " that have its classes"
    if path.parent.name == ALL_RECORDINGS:
        return f"all {n_files} recordings of {corpora}"
    # some corpora have several files with the same audio
    different = f"{len(provenance)} recordings, those of the same audio counted once, of the {n_files} of {corpora}"
    return f"{different}: {path.parent.name} of {recipe.name} under {recipe.protocol}"
