"""Make a pretrained set: a network's weights, and a card that says what a cross-validation found of its kind."""

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
    """What a cross-validation said of recordings that were held out.

    Args:
        recipe: what was trained.
        protocol: how, in words.
        folds: for each fold the scores of its runs, one per seed.
        class_names: the classes, in order.
        probabilities: of all runs' recordings, (N, n_classes).
        targets: their class indices, (N,).
        clips: which recording each is, with its corpus, (N,).
        fold_numbers: which fold each is of, from 0 on, (N,).
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
    """Write a pretrained set, ``NAME.weights.h5`` and its card ``NAME.yaml``, and load it as whoever uses it will.

    Scores, temperature and what the threshold is worth come from held-out predictions of networks of the same kind; if
    the model has heard more recordings than these had, they are what is known of it. Networks are of the same kind if
    architecture, features, classes and training are the same, on the same corpora; protocol and seed may differ, and of
    two corpora which one is trained on.

    Args:
        model: a ``.keras`` file or a fold's folder.
        name: of the set, ``<model>.<corpus>_v<number>``.
        scores: run folders of cross-validations of the same model, features and classes, predictions kept as they are
            or compressed. What several say is taken together.
        out: the folder to write to.
        threshold: the calibrated confidence, 0..1, below which the set answers ``unknown``.
        summary: one line; None for model and corpora.
        trained_on: what these weights have heard; None for what the model's run folder says, which is not enough where
            the training started from other networks, or was held against them.
        licence: of the weights; None for that of the corpora, under the same condition.

    Returns:
        The card.

    Raises:
        ConfigError: a name of another form, or taken; what the weights have heard, or their licence, is not known.
        WeightsError: no model, or one that the cross-validations are not about.
        DataError: a run folder is not one, or damaged; or all scores are of one fold.
    """
    path, network = model_file(model), load(model).model
    held_out = [read_held_out(local_path(folder)) for folder in scores]
    if not held_out:
        raise ConfigError(f"No cross-validation says what {name} is worth; name its run folder (--scores RUN).")
    own = _own_recipe(path)
    for found in held_out:
        _check_same(network, path, found)
        _check_same_training(own, path, found.recipe)
        _warn_of_known_speakers(found)
    target = local_path(out) / f"{name}{EmotionCard.suffix}"
    _check_name(name, network, target)
    recipes = [*([own] if own else []), *(found.recipe for found in held_out)]
    _check_others_are_told(recipes, trained_on, licence)
    corpora = _corpora(recipes)
    known: dict[str, Any] = {
        "name": name,
        "summary": summary or _summary(network, corpora),
        "trained_on": trained_on or _trained_on(path, own),
        **_origin(corpora, licence),
        **_worth(held_out, threshold),
        **_build_of(network),
    }

    def describe(n_bytes: int, sha256: str) -> EmotionCard:
        card = EmotionCard(**known, bytes=n_bytes, sha256=sha256, output=())
        return replace(
            card, output=check_clip_output(card.input, partial(predict_check_clip, Classifier(network, card)))
        )

    return save_with_card(target, partial(write_weights, network), describe, check=load)


def read_held_out(folder: Path) -> HeldOut:
    """Read what a cross-validation's run folder says of its test parts.

    Raises:
        DataError: the folder has no report of networks' predictions, or they contradict it.
    """
    stored = StoredRun.open(folder)
    for problem in differences(stored, str(folder)):
        raise DataError(f"{problem}; no set can be made of it.")
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
    """Return the name that :func:`serzoo.build` knows a network's architecture by."""
    return next(name for name in MODELS if MODELS.get(name).load() is type(network))


class _HeldOutRun(NamedTuple):
    """Recordings of a run's test part, their true and their predicted classes, each (N,); probabilities (N, C)."""

    clips: list[str]
    targets: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray


def _read_run(stored: StoredRun, name: str) -> _HeldOutRun:
    """Return what a run says of its test part.

    Raises:
        DataError: it has predictions alone.
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
    """Raise WeightsError unless a cross-validation is about networks like this one."""
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
    """Raise WeightsError unless a model in a run folder was trained as those that were scored, on the same corpora.

    A training on two corpora is scored in both directions.
    """
    if own is not None:
        theirs, ours = (_settings(recipe) for recipe in (scored, own))
        _compare(scored, path, {name: (theirs.get(name), ours.get(name)) for name in {**theirs, **ours}})


def _compare(recipe: Recipe, path: Path, pairs: Mapping[str, tuple[object, object]]) -> None:
    """Raise WeightsError unless what is scored is what the model has, by name."""
    for what, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise WeightsError(
                f"{recipe.name} was scored with {what} {theirs}, but {path} has {ours}; give its own run."
            )


def _settings(recipe: Recipe) -> dict[str, object]:
    """Return what decides on the training besides network and features, by dotted keys; seeds left out."""
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


def _warn_of_known_speakers(held_out: HeldOut) -> None:
    """Warn where the held-out speakers were in training, since those of whoever uses the set are not."""
    if not get_protocol(held_out.recipe.protocol).speaker_independent:
        text = f"{held_out.recipe.protocol} tests on speakers of the training, so confidences will promise too much of"
        warnings.warn(f"{text} others; give scores of a speaker-independent protocol", SerzooWarning, stacklevel=3)


def _check_name(name: str, network: SERModel, target: Path) -> None:
    """Raise ConfigError unless a set may have this name."""
    architecture = registered_name(network)
    if not re.fullmatch(re.escape(architecture) + r"\.[a-z0-9_]+_v[0-9]+", name):
        raise ConfigError(f"{name!r:.80} is no name for weights of {architecture}; call it {architecture}.<corpus>_v1.")
    if target.exists() or card_path(target).exists():
        raise ConfigError(f"{target} exists, and a set never changes under its name; raise the number behind _v.")
    if UNKNOWN in (network.class_names or ()):
        raise ConfigError(f"A class is called {UNKNOWN!r}, as the answer is that a set does not know; rename it.")


def _own_recipe(path: Path) -> Recipe | None:
    """Return the recipe of the run that a model file is of, or None if it is of none."""
    file = path.parent.parent / "recipe.yaml"
    return read_recipe(file) if file.is_file() else None


def _check_others_are_told(recipes: Sequence[Recipe], trained_on: str | None, licence: str | None) -> None:
    """Raise ConfigError if trainings made use of other networks and what these had heard is not told."""
    others = dict.fromkeys(name for recipe in recipes for name in _other_models(recipe))
    if others and not (trained_on and licence):
        raise ConfigError(
            f"The training made use of {', '.join(others)}, whose recordings are not in its run folder; say what all "
            "of it has heard, and under which licence the weights are (--trained-on TEXT --licence TEXT)."
        )


def _other_models(recipe: Recipe) -> tuple[str, ...]:
    """Return the trained models that a training depends on, as the recipe names them."""
    gender = recipe.gender
    told = gender is not None and gender.source != GOLDEN and gender.classifier not in CLASSICAL_CLASSIFIERS
    return (*recipe.weight_files, gender.classifier) if gender is not None and told else recipe.weight_files


def _corpora(recipes: Sequence[Recipe]) -> list[str]:
    """Return the corpora that some recipe trains or tests on, each once, in order."""
    named = [name for recipe in recipes for name in (recipe.corpus, recipe.test_corpus) if name]
    return list(dict.fromkeys(named))


def _title(corpus: str) -> str:
    return CORPORA.get(corpus).title if corpus in CORPORA else corpus


def _summary(network: SERModel, corpora: Sequence[str]) -> str:
    return f"{registered_name(network)} on {' and '.join(map(_title, corpora))}, {network.n_classes} classes"


def _origin(corpora: Sequence[str], licence: str | None) -> dict[str, object]:
    """Return what a card says of the recordings, joined where they are of several corpora."""
    known = {name: CORPORA.get(name) for name in corpora if name in CORPORA}
    stated = licence or _joined({name: corpus.licence for name, corpus in known.items()})
    if not licence and not all(name in known and known[name].licence for name in corpora):
        raise ConfigError(f"The licence of {' and '.join(corpora)} is not known; say that of the weights (--licence).")
    source = _joined({name: corpus.source for name, corpus in known.items()})
    return {"corpus": "+".join(corpora), "source": source, "licence": stated}


def _joined(texts: Mapping[str, str]) -> str:
    """Return the only text, or all of them under the titles of their corpora."""
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{_title(name)}: {text}" for name, text in texts.items())


def _worth(held_out: Sequence[HeldOut], threshold: float) -> dict[str, object]:
    """Return what a card says of the set's answers."""
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
    """Return mean and deviation over folds, and each fold's UAR and WAR, the mean over its seeds."""
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
    """Return what a card says of the network itself, and what it is tested with."""
    assert network.feature_spec is not None  # serzoo.load gives no network without
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
    """Return all arguments of a network's architecture, so that later defaults do not change it."""
    return {key: _plain(value) for key, value in network.get_config().items() if key not in _COMMON}


def _plain(value: Any) -> Any:
    """Return a value as a card has it, lists for tuples."""
    return json.loads(json.dumps(value))


def _trained_on(path: Path, recipe: Recipe | None) -> str:
    """Say what a model file's run folder tells of the recordings that the weights have heard."""
    heard, run = read_provenance(path), path.parent.parent
    try:
        n_files = read_json(run / "data.json")["n_recordings"]
    except (DataError, KeyError):
        heard = None
    if heard is None or recipe is None:
        raise ConfigError(f"{path} is not in a run folder, so say what it has heard (--trained-on TEXT).")
    corpora = " and ".join(_corpora([recipe]))
    if recipe.class_names or recipe.test_corpus:
        corpora += " that have its classes"
    if path.parent.name == ALL_RECORDINGS:
        return f"all {n_files} recordings of {corpora}"
    # corpora have files of the same audio, which is heard once however often it is there
    different = f"{len(heard)} recordings, those of the same audio counted once, of the {n_files} of {corpora}"
    return f"{different}: {path.parent.name} of {recipe.name} under {recipe.protocol}"
