"""Packaging pretrained weights: the arrays, and a model card with scores from a cross-validation."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS
from serzoo.classifier import Classifier
from serzoo.data.corpora.corpus import CORPORA
from serzoo.data.protocols import get_protocol
from serzoo.errors import ConfigError, DataError, SerzooWarning, WeightsError
from serzoo.experiments.calibration import MAJORITY, calibrate
from serzoo.experiments.provenance import read_provenance
from serzoo.experiments.run_check import differences
from serzoo.experiments.stored_run import StoredRun, read_json
from serzoo.experiments.train_all import ALL_RECORDINGS
from serzoo.files import local_path
from serzoo.labels import UNKNOWN
from serzoo.metrics import Scores, Summary, summarise
from serzoo.models import MODELS
from serzoo.models.base import SERModel
from serzoo.recipes import Recipe, read_recipe
from serzoo.settings import GOLDEN, ModelConfig
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
    """The predictions of a cross-validation on its test parts.

    Args:
        recipe: the recipe of the trainings.
        protocol: name, kind and selection rule in words.
        folds: for each fold the scores of its runs, one per seed.
        class_names: the classes, in order.
        probabilities: of all runs' test clips, (N, n_classes).
        targets: class indices, (N,).
        clips: corpus and name of each clip, (N,).
        fold_numbers: the fold of each row, from 0 on, (N,).
    """

    recipe: Recipe
    protocol: str
    folds: tuple[tuple[Scores, ...], ...]
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    targets: np.ndarray
    clips: np.ndarray
    fold_numbers: np.ndarray


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
    held_out = [read_held_out(local_path(folder)) for folder in scores]
    if not held_out:
        raise ConfigError(f"{name} needs scores of a cross-validation; give its run folder (--scores RUN).")
    own = _own_recipe(path)
    for found in held_out:
        _check_same(network, path, found)
        _check_same_training(own, path, found.recipe)
        _warn_of_seen_speakers(found)
    target = local_path(out) / f"{name}{EmotionCard.suffix}"
    _check_name(name, network, target)
    recipes = [*([own] if own else []), *(found.recipe for found in held_out)]
    _check_origin(recipes, trained_on, licence)
    corpora = _corpora(recipes)
    known: dict[str, Any] = {
        "name": name,
        "summary": summary or _summary(network, corpora),
        "trained_on": trained_on or _trained_on(path, own),
        **_origin(corpora, licence),
        **_scores_and_calibration(held_out, threshold),
        **_build_of(network),
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
        DataError: the folder has no report, or none of networks, or its predictions contradict it.
    """
    stored = StoredRun.open(folder)
    for problem in differences(stored, str(folder)):
        raise DataError(f"{problem}; its scores cannot be used.")
    recipe, class_names = stored.trained_recipe(), stored.class_names
    protocol = get_protocol(recipe.protocol)
    kind = "speaker-independent" if protocol.speaker_independent else "speaker-DEPENDENT"
    runs_of_folds = [[_read_run(stored, name) for name in names] for names in stored.folds.values()]
    read = [run for fold in runs_of_folds for run in fold]
    done = f"{len(stored.folds)} of {stored.report['n_folds']} folds"
    lengths = [sum(len(run.targets) for run in fold) for fold in runs_of_folds]
    tested_on = "+".join(_corpora([recipe])) if protocol.tests_on_both else recipe.test_corpus or recipe.corpus
    return HeldOut(
        recipe=recipe,
        protocol=f"{recipe.protocol} ({kind}) of {recipe.name}, {done}, selection {recipe.training.selection}",
        folds=tuple(
            tuple(Scores.from_predictions(run.targets, run.predictions, class_names) for run in fold)
            for fold in runs_of_folds
        ),
        class_names=class_names,
        probabilities=np.concatenate([run.probabilities for run in read]),
        targets=np.concatenate([run.targets for run in read]),
        clips=np.array([f"{tested_on}/{clip}" for run in read for clip in run.clips]),
        fold_numbers=np.repeat(np.arange(len(lengths)), lengths),
    )


def registered_name(network: SERModel) -> str:
    """Return the name of a network's architecture, as :func:`serzoo.build` takes it."""
    return next(name for name in MODELS if MODELS.get(name).load() is type(network))


class _HeldOutRun(NamedTuple):
    """Test clips of a run: names, true and predicted classes, (N,), and probabilities, (N, n_classes)."""

    clips: list[str]
    targets: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray


def _read_run(stored: StoredRun, name: str) -> _HeldOutRun:
    """Return a run's predictions on its test part.

    Raises:
        DataError: they are without probabilities.
    """
    table, columns = stored.tables[name], [f"p_{label}" for label in stored.class_names]
    if not set(columns) <= set(table):
        raise DataError(f"{stored.predictions_file(name)} has no probabilities of {name}; train that fold again.")
    probabilities = table[columns].to_numpy(np.float64)
    targets, predictions = stored.indices(name)
    return _HeldOutRun(
        table["clip"].tolist(), targets, predictions, probabilities / probabilities.sum(axis=1, keepdims=True)
    )


def _check_same(network: SERModel, path: Path, held_out: HeldOut) -> None:
    """Raise WeightsError unless a cross-validation is of networks like this one."""
    recipe, own = held_out.recipe, _arguments(network)
    _compare(
        recipe,
        path,
        {
            "model": (recipe.model.name, registered_name(network)),
            "classes": (held_out.class_names, network.class_names),
            "features": (recipe.features, network.feature_spec),
        },
    )
    scored = full_arguments(recipe.model.name, recipe.features, recipe.model.arguments)
    _compare(recipe, path, {name: (_plain(value), own.get(name)) for name, value in scored.items()})


def _check_same_training(own: Recipe | None, path: Path, scored: Recipe) -> None:
    """Raise WeightsError unless a model in a run folder was trained like the scored ones, on the same corpora.

    A training on two corpora is scored in both directions.
    """
    if own is not None:
        theirs, ours = (_settings(recipe) for recipe in (scored, own))
        _compare(scored, path, {name: (theirs.get(name), ours.get(name)) for name in {**theirs, **ours}})


def _compare(recipe: Recipe, path: Path, pairs: Mapping[str, tuple[object, object]]) -> None:
    """Raise WeightsError unless the scored network and the model have equal values, by name."""
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise WeightsError(
                f"{recipe.name} was scored with {name} {theirs}, but {path} has {ours}; give its own run."
            )


def _settings(recipe: Recipe) -> dict[str, object]:
    """Return all settings of a training but network, features and seeds, by dotted keys."""
    values = recipe.to_dict()
    training = {key: value for key, value in values["training"].items() if key not in _NO_DIFFERENCE}
    stages = {key: values[key] for key in ("target", "initial", "anti_transfer", "rh_emo", "gender")}
    return {
        "corpora": sorted(_corpora([recipe])),
        **_dotted({"training": training}),
        **_dotted(stages),
    }


def _dotted(values: Mapping[str, Any]) -> dict[str, object]:
    """Return nested values under keys like ``training.optimizer.name``."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        inner = _dotted({f"{key}.{name}": each for name, each in value.items()}) if isinstance(value, Mapping) else {}
        flat |= inner or {key: value}
    return flat


def _warn_of_seen_speakers(held_out: HeldOut) -> None:
    """Warn if the test speakers were in training, as a user's speakers are not."""
    if not get_protocol(held_out.recipe.protocol).speaker_independent:
        text = f"{held_out.recipe.protocol} tests on seen speakers, so confidences will be too high for other speakers"
        warnings.warn(f"{text}; give scores of a speaker-independent protocol", SerzooWarning, stacklevel=3)


def _check_name(name: str, network: SERModel, target: Path) -> None:
    """Raise ConfigError unless pretrained weights may have this name."""
    architecture = registered_name(network)
    if not re.fullmatch(re.escape(architecture) + r"\.[a-z0-9_]+_v[0-9]+", name):
        raise ConfigError(f"{name!r:.80} is no name for weights of {architecture}; use {architecture}.<corpus>_v1.")
    if target.exists() or card_path(target).exists():
        raise ConfigError(f"{target} exists, and published weights never change; raise the number after _v.")
    if UNKNOWN in (network.class_names or ()):
        raise ConfigError(f"A class is named {UNKNOWN!r}, the label below the threshold; rename it.")


def _own_recipe(path: Path) -> Recipe | None:
    """Return the recipe of a model file's run folder; None if it is in none."""
    file = path.parent.parent / "recipe.yaml"
    return read_recipe(file) if file.is_file() else None


def _check_origin(recipes: Sequence[Recipe], trained_on: str | None, licence: str | None) -> None:
    """Raise ConfigError if trainings used other networks, and training recordings or licence are not given."""
    others = dict.fromkeys(name for recipe in recipes for name in _other_models(recipe))
    if others and not (trained_on and licence):
        raise ConfigError(
            f"The training used {', '.join(others)}, whose training recordings are not in its run folder; give all "
            "training recordings and the licence of the weights (--trained-on TEXT --licence TEXT)."
        )


def _other_models(recipe: Recipe) -> tuple[str, ...]:
    """Return the trained models that a training depends on, as the recipe names them."""
    gender = recipe.gender
    if gender is None or gender.source == GOLDEN or gender.classifier in CLASSICAL_CLASSIFIERS:
        return recipe.weight_files
    return (*recipe.weight_files, gender.classifier)


def _corpora(recipes: Sequence[Recipe]) -> list[str]:
    """Return the distinct corpora that the recipes train or test on, in order."""
    named = [name for recipe in recipes for name in (recipe.corpus, recipe.test_corpus) if name]
    return list(dict.fromkeys(named))


def _title(corpus: str) -> str:
    return CORPORA.get(corpus).title if corpus in CORPORA else corpus


def _summary(network: SERModel, corpora: Sequence[str]) -> str:
    return f"{registered_name(network)} on {' and '.join(map(_title, corpora))}, {network.n_classes} classes"


def _origin(corpora: Sequence[str], licence: str | None) -> dict[str, object]:
    """Return a card's corpus, source and licence; of several corpora joined."""
    known = {name: CORPORA.get(name) for name in corpora if name in CORPORA}
    stated = licence or _joined({name: corpus.licence for name, corpus in known.items()})
    if not licence and not all(name in known and known[name].licence for name in corpora):
        raise ConfigError(f"The licence of {' and '.join(corpora)} is not known; give that of the weights (--licence).")
    source = _joined({name: corpus.source for name, corpus in known.items()})
    return {"corpus": "+".join(corpora), "source": source, "licence": stated}


def _joined(texts: Mapping[str, str]) -> str:
    """Return the only text, or all of them with the titles of their corpora."""
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{_title(name)}: {text}" for name, text in texts.items())


def _scores_and_calibration(held_out: Sequence[HeldOut], threshold: float) -> dict[str, object]:
    """Return a card's protocol, scores and calibration."""
    summary = summarise([fold for found in held_out for fold in found.folds])
    first_folds = np.cumsum([0, *(len(found.folds) for found in held_out[:-1])])
    calibration = calibrate(
        np.concatenate([found.probabilities for found in held_out]),
        np.concatenate([found.targets for found in held_out]),
        np.concatenate([found.clips for found in held_out]),
        np.concatenate([first + found.fold_numbers for first, found in zip(first_folds, held_out, strict=True)]),
        threshold,
    )
    return {
        "protocol": "; ".join(found.protocol for found in held_out),
        "scores": _card_scores(summary, calibration.n),
        "calibration": _rounded(calibration),
    }


def _card_scores(summary: Summary, n_recordings: int) -> dict[str, object]:
    """Return mean and standard deviation over folds, and each fold's UAR and WAR, averaged over its seeds."""
    of_folds = {
        f"{name}_of_folds": [round(float(np.mean([getattr(run, name) for run in runs])), 6) for runs in summary.folds]
        for name in ("uar", "war")
    }
    mean = {name: round(value, 6) for name, value in summary.mean.items()}
    std = {f"{name}_std": round(value, 6) for name, value in summary.std.items()}
    return {**mean, **std, "n": n_recordings, **of_folds}


def _rounded(calibration: Calibration) -> Calibration:
    return Calibration(**{name: round(value, 6) for name, value in asdict(calibration).items()})


def _build_of(network: SERModel) -> dict[str, object]:
    """Return a card's description of the network, and the input of its output check."""
    assert network.feature_spec is not None  # serzoo.load returns no network without one
    return {
        "model": ModelConfig(registered_name(network), _arguments(network)),
        "class_names": network.class_names,
        "feature_spec": network.feature_spec.to_dict(),
        "versions": {name: found for name in _packages() if (found := installed_version(name))},
        "input": dict(EMOTION_CLIP),
    }


def _packages() -> tuple[str, ...]:
    return (*_PACKAGES, keras.backend.backend())


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
    corpora = " and ".join(_corpora([recipe]))
    if recipe.class_names or recipe.test_corpus:
        corpora += " that have its classes"
    if path.parent.name == ALL_RECORDINGS:
        return f"all {n_files} recordings of {corpora}"
    # some corpora have several files with the same audio
    different = f"{len(provenance)} recordings, those of the same audio counted once, of the {n_files} of {corpora}"
    return f"{different}: {path.parent.name} of {recipe.name} under {recipe.protocol}"
