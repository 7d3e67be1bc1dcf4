"""Tell women's voices from men's: train and score simple classifiers of the speaker's gender.

Systems that take the gender of a speaker, or choose a model by it, need somebody to tell them. Whoever does should not
have heard the speaker: everything here splits recordings by speakers.

Source: Striletchi, Striletchi and Stan, "TBDM-Net", 2024, section 3.5 and table 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from serzoo import __version__
from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS, Splits, complete_arguments
from serzoo.classical.gender_classifier import (
    GENDERS,
    both_probabilities,
    decided,
    gender_probabilities,
    load_gender_classifier,
    male_probabilities,
    takes_vectors,
)
from serzoo.classical.model import ClassicalClassifier
from serzoo.data.cache import FeatureCache
from serzoo.data.corpora.corpus import CORPORA
from serzoo.data.examples import Examples, load_examples
from serzoo.data.manifest import Manifest, in_natural_order
from serzoo.data.splits import Fold
from serzoo.data.vectors import embedding_spec
from serzoo.errors import DataError
from serzoo.features.spec import EmbeddingSpec, FeatureSpec
from serzoo.files import local_path
from serzoo.labels import male_probability
from serzoo.metrics import Scores, Summary, summarise
from serzoo.settings import BINARY, GOLDEN, GenderConfig
from serzoo.training.train_classical import check_classical, check_training_part, speaker_splits, train_classical
from serzoo.weights.cards import GenderCard
from serzoo.weights.check_clips import GENDER_CLIP
from serzoo.weights.store import fixed_output, installed_version, save_with_card, set_name

DEFAULT_ARGUMENTS: Mapping[str, object] = MappingProxyType({"scale": True, "calibrate": True})
"""Unlike in recipes: these probabilities are handed on as such, and gamma 0.001 is right for scaled values."""

_PARTS = 5


@dataclass(frozen=True, eq=False)
class GenderReport:
    """The outcome of :func:`cross_validate_gender`.

    Args:
        folds: no speaker is on both sides of one; together their test parts are all recordings.
        test_speakers: of each fold.
        summary: scores of each fold, mean and standard deviation, and pooled scores.
        male: P(male) of each recording, from the classifier that had not heard its speaker, (N,) float32.
        classifier: which one.
        seed: of the folds and of the classifier.
    """

    folds: tuple[Fold, ...]
    test_speakers: tuple[tuple[str, ...], ...]
    summary: Summary
    male: np.ndarray
    classifier: str
    seed: int

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain data, without the recordings' probabilities."""
        return {
            "classifier": self.classifier,
            "speaker_independent": True,
            "seed": self.seed,
            "test_speakers": {fold.name: list(who) for fold, who in zip(self.folds, self.test_speakers, strict=True)},
            "scores": self.summary.to_dict(),
        }

    def __str__(self) -> str:
        rows = zip(self.folds, self.summary.folds, self.test_speakers, strict=True)
        lines = [f"{fold.name}: {_accuracy(run)}  speakers {', '.join(who)}" for fold, (run,), who in rows]
        overall = f"{self.classifier}: {_accuracy(self.summary.pooled)}, all folds together"
        protocol = f"Protocol: {len(self.folds)} speaker-disjoint folds, seed {self.seed}."
        return "\n".join([*lines, overall, protocol])


@dataclass(frozen=True, eq=False)
class FoldGenders:
    """What a classifier of genders says of the recordings of a fold.

    Args:
        male: P(male) of each recording of the manifest, (N,) float32, NaN for those that are in no part of the fold.
        seen: those speakers of the test part who are in the training part too, as a speaker-dependent protocol has
            it. For them, and only for them, the classifier answers about a voice that it knows.
    """

    male: np.ndarray
    seen: tuple[str, ...]


def gender_manifest(manifest: Manifest) -> Manifest:
    """Return the same recordings, to be told apart by their speakers' gender: ``female`` and ``male``.

    Raises:
        DataError: a gender is unknown, is only a probability, or all are the same; or a speaker has two.
    """
    pairs = zip(manifest.frame["gender"], manifest.paths, strict=True)
    named = manifest.frame.assign(gender=[_gender_name(gender, path) for gender, path in pairs])
    task = replace(manifest, frame=named).with_target("gender")
    speakers = task.column("speaker")
    women, men = (set(speakers[task.column("label") == gender]) - {""} for gender in GENDERS)
    if women & men:
        raise DataError(
            f"Speaker {in_natural_order(women & men)[0]} of {manifest.corpus} is female in some recordings and male in "
            "others; correct the manifest's gender or speaker column."
        )
    return task


def train_gender_classifier(
    manifest: Manifest,
    spec: FeatureSpec,
    classifier: str = "svc",
    *,
    arguments: Mapping[str, object] = MappingProxyType({}),
    seed: int = 0,
    cache: FeatureCache | None = None,
    progress: bool = False,
) -> ClassicalClassifier:
    """Train a classifier of genders on all recordings of a manifest.

    Args:
        manifest: recordings with known genders and, for the calibration, known speakers.
        spec: the features; their mean over frames is what the classifier takes.
        classifier: a simple classifier.
        arguments: its arguments that are not to be the defaults, which here scale and calibrate.
        seed: of whatever it draws.
        cache: where features are kept; None for the default folder.
        progress: show a progress bar.

    Returns:
        The classifier; :meth:`~serzoo.classical.model.ClassicalClassifier.save` keeps it.

    Raises:
        DataError: a gender is unknown or all are the same, or there are too few speakers to calibrate.
        SerzooError: no such classifier or argument, or a recording that cannot be read.
    """
    settings = _settings(classifier, arguments)
    task = gender_manifest(manifest)
    examples = load_examples(task, spec, cache=cache, progress=progress)
    return _train(task, examples, spec, classifier, settings, seed)


def score_gender(
    model: ClassicalClassifier | str | Path,
    manifest: Manifest,
    *,
    cache: FeatureCache | None = None,
    progress: bool = False,
) -> Scores:
    """Score a classifier of genders on recordings whose genders are known; those of one gender alone serve too.

    Raises:
        DataError: a gender is unknown.
        SerzooError: as :func:`gender_probabilities`.
    """
    targets = np.array([GENDERS.index(_gender_name(*pair)) for pair in _known_genders(manifest)])
    return _score(targets, gender_probabilities(model, manifest, cache=cache, progress=progress))


def cross_validate_gender(
    manifest: Manifest,
    spec: FeatureSpec,
    classifier: str = "svc",
    *,
    n_folds: int = 5,
    arguments: Mapping[str, object] = MappingProxyType({}),
    seed: int = 0,
    cache: FeatureCache | None = None,
    progress: bool = False,
) -> GenderReport:
    """Train and score a classifier of genders on folds that share no speaker; each part has both genders.

    Args:
        manifest: recordings with known genders and speakers.
        spec: the features.
        classifier: a simple classifier.
        n_folds: how many folds, at least 2 and at most the speakers of the rarer gender.
        arguments: as in :func:`train_gender_classifier`.
        seed: of the folds and of the classifier.
        cache: where features are kept; None for the default folder.
        progress: show a progress bar.

    Raises:
        DataError: as in :func:`train_gender_classifier`, and too few speakers for the folds.
    """
    settings = _settings(classifier, arguments)
    task = gender_manifest(manifest)
    speakers = task.column("speaker")
    folds = _speaker_folds(task, n_folds, seed)
    check_classical(classifier, settings, task, folds)
    examples = load_examples(task, spec, cache=cache, progress=progress)
    male = np.empty(len(task), np.float32)
    for fold in folds:
        model = _train(task.select(fold.train), examples.select(fold.train), spec, classifier, settings, seed)
        male[fold.test] = male_probabilities(model, examples.select(fold.test))
    return GenderReport(
        folds=tuple(folds),
        test_speakers=tuple(tuple(in_natural_order(speakers[fold.test])) for fold in folds),
        summary=summarise([[_score(task.targets[fold.test], male[fold.test])] for fold in folds]),
        male=male,
        classifier=classifier,
        seed=seed,
    )


def fold_genders(
    manifest: Manifest,
    spec: FeatureSpec,
    fold: Fold,
    classifier: str = "svc",
    *,
    arguments: Mapping[str, object] = MappingProxyType({}),
    seed: int = 0,
    cache: FeatureCache | None = None,
    progress: bool = False,
) -> FoldGenders:
    """Say how male the voices of a fold sound, for training and for testing a system that takes genders.

    Recordings of the test and validation parts are judged by a classifier of the training part. Those of the training
    part are judged by others, each of which has heard all of that part but a few speakers, whom it judges: so the
    system trains on probabilities as doubtful as those that it will be tested on. Genders of the test and validation
    parts are not looked at.

    Args:
        manifest: all recordings; those of the training part with known genders and speakers.
        spec: the classifier's features, which need not be the system's.
        fold: of the manifest, of any protocol.
        classifier: a simple classifier.
        arguments: as in :func:`train_gender_classifier`.
        seed: of the classifier, and of which speakers of the training part go together.
        cache: where features are kept; None for the default folder.
        progress: show a progress bar.

    Raises:
        DataError: as in :func:`train_gender_classifier`, about the training part.
    """
    settings = _settings(classifier, arguments)
    task = gender_manifest(manifest.select(fold.train))
    splits = _splits(task, _PARTS, seed)
    examples = load_examples(manifest, spec, cache=cache, progress=progress)
    training = replace(examples.select(fold.train), targets=task.targets, class_names=task.class_names)
    male = np.full(len(manifest), np.nan, np.float32)
    for known, unknown in splits:
        model = _train(task.select(known), training.select(known), spec, classifier, settings, seed)
        male[fold.train[unknown]] = male_probabilities(model, training.select(unknown))
    model = _train(task, training, spec, classifier, settings, seed)
    for part in (fold.test, fold.validation):
        if part is not None:
            male[part] = male_probabilities(model, examples.select(part))
    speakers = manifest.column("speaker")
    seen = in_natural_order(set(speakers[fold.test]) & set(speakers[fold.train]))
    return FoldGenders(male, tuple(seen))


def gender_inputs(
    manifest: Manifest, settings: GenderConfig, fold: Fold, seed: int = 0, *, cache: FeatureCache | None = None
) -> np.ndarray:
    """Return what a model is told of the genders in a fold, (N,) float32, in 0..1: 1 for male.

    Of recordings in no part of the fold it is told 0.5, which nobody hears.

    Args:
        manifest: all recordings.
        settings: who tells, and whether it is a decision or a probability.
        fold: of the manifest.
        seed: of the classifier.
        cache: where features are kept; None for the default folder.

    Raises:
        SerzooError: as :func:`fold_genders`; a gender is unknown that the corpus should state.
    """
    if settings.source == GOLDEN:
        return manifest.genders
    if settings.classifier in CLASSICAL_CLASSIFIERS:
        spec = embedding_spec(settings.features)
        told = fold_genders(
            manifest, spec, fold, settings.classifier, arguments=settings.arguments, seed=seed, cache=cache
        )
        male = np.nan_to_num(told.male, nan=0.5)
    else:
        male = gender_probabilities(settings.classifier, manifest, cache=cache)
    return decided(male).astype(np.float32) if settings.source == BINARY else male


def check_gender_inputs(manifest: Manifest, settings: GenderConfig, folds: Sequence[Fold]) -> None:
    """Raise SerzooError unless :func:`gender_inputs` can tell the genders in these folds; nothing is trained."""
    if settings.source == GOLDEN:
        return
    if settings.classifier not in CLASSICAL_CLASSIFIERS:
        load_gender_classifier(settings.classifier)
        return
    embedding_spec(settings.features)
    CLASSICAL_CLASSIFIERS.get(settings.classifier).load()
    arguments = _settings(settings.classifier, settings.arguments)
    for fold in folds:
        task = gender_manifest(manifest.select(fold.train))
        check_training_part(arguments, task.targets, task.column("speaker"), GENDERS)
        _check_speakers(task, fold.name, 3 if arguments["calibrate"] else 2)


def _check_speakers(task: Manifest, fold: str, needed: int) -> None:
    """Raise DataError unless a training part has speakers enough to leave some of each gender out of it.

    Args:
        task: the training part, labelled by gender.
        fold: its fold, for the error message.
        needed: speakers of each gender; with fewer no split of them serves, whatever the seed.
    """
    speakers = task.column("speaker")
    for index, gender in enumerate(GENDERS):
        found = len(set(speakers[task.targets == index]) - {""})
        if found < needed or "" in speakers:
            unknown = " and others are unknown" if "" in speakers else ""
            raise DataError(
                f"The training part of {fold} has {found} {gender} speaker{'s' if found != 1 else ''}{unknown}; its "
                f"recordings are judged by classifiers that have not heard their speaker, which needs {needed} known "
                "ones of each gender"
                + (" (2 with gender.arguments.calibrate set to false)." if needed > 2 else "; add speakers.")
            )


def _settings(classifier: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """Return all arguments of a classifier; a wrong one shows before a recording is read."""
    return complete_arguments(classifier, {**DEFAULT_ARGUMENTS, **arguments})


def _train(
    task: Manifest,
    examples: Examples,
    spec: FeatureSpec,
    classifier: str,
    settings: Mapping[str, object],
    seed: int,
) -> ClassicalClassifier:
    return train_classical(classifier, settings, examples, spec, speakers=task.column("speaker"), seed=seed)


def _score(targets: np.ndarray, male: np.ndarray) -> Scores:
    """Score P(male) against gold genders."""
    return Scores.from_predictions(targets, decided(male).astype(np.int64), GENDERS)


def _splits(task: Manifest, n_splits: int, seed: int) -> Splits:
    return speaker_splits(task.targets, task.column("speaker"), task.class_names, n_splits, seed=seed)


def _speaker_folds(task: Manifest, n_folds: int, seed: int) -> list[Fold]:
    if isinstance(n_folds, bool) or not isinstance(n_folds, int) or n_folds < 2:
        raise DataError(f"The number of folds is {n_folds!r}; give a whole number, 2 or above.")
    splits = _splits(task, n_folds, seed)
    if len(splits) < n_folds:
        raise DataError(
            f"{n_folds} speaker-disjoint folds need {n_folds} speakers of each gender, and {task.corpus} has "
            f"{len(splits)} of one; ask for {len(splits)} folds."
        )
    return [Fold(f"fold{number:02d}", *split) for number, split in enumerate(splits, start=1)]


def _known_genders(manifest: Manifest) -> list[tuple[str, Path]]:
    """Return each recording's gender and path.

    Raises:
        DataError: a gender is unknown.
    """
    genders = manifest.frame["gender"]
    n_unknown = int(genders.eq("").sum())
    if n_unknown:
        raise DataError(
            f"{n_unknown} of {len(manifest)} recordings of {manifest.corpus} have no gender; fill that column of the "
            "manifest or leave those recordings out."
        )
    return list(zip(genders, manifest.paths, strict=True))


def _gender_name(gender: str, path: Path) -> str:
    """Return a gender of a manifest under its usual name; unknown stays unknown."""
    if gender == "":
        return ""
    probability = male_probability(gender, f"{path}: the speaker's")
    if probability not in (0.0, 1.0):
        raise DataError(f"{path}: the speaker's gender is {gender!r}; a classifier learns from 'male' or 'female'.")
    return GENDERS[int(probability)]


def _accuracy(scores: Scores) -> str:
    return f"accuracy {100 * scores.war:.2f}  UAR {100 * scores.uar:.2f}  (n={scores.n})"


_PACKAGES = ("numpy", "scipy", "librosa", "soxr", "scikit-learn", "skops")

_PACKAGES_OF = {"hf": ("torch", "transformers"), "onnx": ("onnxruntime",), "xgboost": ("xgboost", "xgboost-cpu")}


def save_gender_classifier(
    model: ClassicalClassifier, path: str | Path, manifest: Manifest, report: GenderReport
) -> Path | None:
    """Write a classifier of genders, and beside it the card that says what it is.

    Args:
        model: trained on all recordings of the manifest.
        path: a name that ends in ``.skops``; the card's is the same with the ending ``.yaml``. Old ones are replaced.
        manifest: the recordings.
        report: of the cross-validation of the same classifier on them.

    Returns:
        Where the card is; None for a classifier of vectors that were computed elsewhere. It has no card, since it
        cannot hear the fixed input.

    Raises:
        ConfigError: another ending, or something else than a card is in the card's place.
    """
    target = local_path(path)
    if takes_vectors(model):
        model.save(target)
        return None
    spec = model.feature_spec
    corpus = CORPORA.get(manifest.corpus) if manifest.corpus in CORPORA else None
    output = fixed_output(GENDER_CLIP, partial(both_probabilities, model))

    def card(n_bytes: int, sha256: str) -> GenderCard:
        return GenderCard(
            name=set_name(target),
            summary=f"tells women's voices from men's, {model.name} on {getattr(spec, 'source', spec.kind)} features",
            bytes=n_bytes,
            sha256=sha256,
            corpus=manifest.corpus,
            source=corpus.source if corpus else "",
            licence=corpus.licence if corpus else "",
            protocol=f"{len(report.folds)} speaker-disjoint folds, seed {report.seed}; this one has heard all speakers",
            scores=_card_scores(report.summary),
            class_names=model.class_names,
            feature_spec=spec.to_dict(),
            versions=_versions(model),
            input=dict(GENDER_CLIP),
            output=output,
        )

    return save_with_card(target, model.save, card)


def _card_scores(summary: Summary) -> dict[str, object]:
    pooled = summary.pooled
    return {
        "accuracy": round(pooled.war, 6),
        "uar": round(pooled.uar, 6),
        "n": pooled.n,
        "accuracy_of_folds": [round(run.war, 6) for (run,) in summary.folds],
    }


def _versions(model: ClassicalClassifier) -> dict[str, str]:
    """Return the versions of the packages that a classifier's answers depend on."""
    spec = model.feature_spec
    source = spec.source_kind if isinstance(spec, EmbeddingSpec) else ""
    names = [*_PACKAGES, *_PACKAGES_OF.get(source, ()), *_PACKAGES_OF.get(model.name, ())]
    known = {name: installed_version(name) for name in names}
    return {"serzoo": __version__, **{name: version for name, version in known.items() if version}}
