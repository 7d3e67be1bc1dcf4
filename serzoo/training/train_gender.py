"""Train, score and save classical classifiers of the speaker's gender.

A system that takes the speaker's gender, or chooses a model by it, needs a gender for unseen speakers. All splits here
are by speaker, so that a classifier is scored on, and predicts, unseen speakers only.

Source: Striletchi, Striletchi and Stan, "TBDM-Net", 2024, section 3.5 and table 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np

from serzoo import __version__
from serzoo.checks import check, integer
from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS, Splits, complete_arguments
from serzoo.classical.gender_classifier import (
    GENDERS,
    decided,
    gender_distribution,
    gender_probabilities,
    load_gender_classifier,
    male_probabilities,
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
from serzoo.weights.store import check_clip_output, installed_version, save_with_card, set_name

DEFAULT_ARGUMENTS: Mapping[str, object] = MappingProxyType({"scale": True, "calibrate": True})
"""Unlike in recipes: the probabilities are inputs of other models, and gamma 0.001 suits scaled values."""

_PARTS = 5

_PACKAGES = ("numpy", "scipy", "librosa", "soxr", "scikit-learn", "skops")
_PACKAGES_OF = {"hf": ("torch", "transformers"), "onnx": ("onnxruntime",), "xgboost": ("xgboost", "xgboost-cpu")}


@dataclass(frozen=True, eq=False)
class GenderReport:
    """The outcome of :func:`cross_validate_gender`.

    Args:
        folds: speaker-disjoint folds; together their test parts are all recordings.
        test_speakers: the test speakers of each fold.
        summary: scores of each fold, mean and standard deviation, and pooled scores.
        male: P(male) of each recording, from a classifier trained on other speakers, (N,) float32.
        classifier: name of the classifier.
        seed: seed of the folds and of the classifier.
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
        def accuracy(scores: Scores) -> str:
            return f"accuracy {100 * scores.war:.2f}  UAR {100 * scores.uar:.2f}  (n={scores.n})"

        rows = zip(self.folds, self.summary.folds, self.test_speakers, strict=True)
        lines = [f"{fold.name}: {accuracy(run)}  speakers {', '.join(who)}" for fold, (run,), who in rows]
        overall = f"{self.classifier}: {accuracy(self.summary.pooled)}, all folds pooled"
        protocol = f"Protocol: {len(self.folds)} speaker-disjoint folds, seed {self.seed}."
        return "\n".join([*lines, overall, protocol])


@dataclass(frozen=True, eq=False)
class FoldGenders:
    """Predicted genders of the recordings of a fold.

    Args:
        male: P(male) of each recording of the manifest, (N,) float32; NaN outside the parts of the fold.
        seen: test speakers who are in the training part too, under a speaker-dependent protocol. The classifier was
            trained on them.
    """

    male: np.ndarray
    seen: tuple[str, ...]


def gender_manifest(manifest: Manifest) -> Manifest:
    """Return the same recordings with their speakers' gender, ``female`` or ``male``, as label.

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
    """Train a gender classifier on all recordings of a manifest.

    Args:
        manifest: recordings with known genders and, for the calibration, known speakers.
        spec: the features; the classifier takes their mean over frames.
        classifier: name of a classical classifier.
        arguments: its arguments; by default it scales its inputs and calibrates its probabilities.
        seed: seed of its random numbers.
        cache: cache of features; None for the default folder.
        progress: show a progress bar.

    Raises:
        DataError: a gender is unknown or all are the same, or there are too few speakers to calibrate.
        SerzooError: no such classifier or argument, or a recording that cannot be read.
    """
    settings = _settings(classifier, arguments)
    task = gender_manifest(manifest)
    examples = load_examples(task, spec, cache=cache, progress=progress)
    return train_classical(classifier, settings, examples, spec, speakers=task.column("speaker"), seed=seed)


def score_gender(
    model: ClassicalClassifier | str | Path,
    manifest: Manifest,
    *,
    cache: FeatureCache | None = None,
    progress: bool = False,
) -> Scores:
    """Score a gender classifier on recordings with known genders; all may be of one gender.

    Raises:
        DataError: a gender is unknown.
        SerzooError: as :func:`gender_probabilities`.
    """
    n_unknown = int(manifest.frame["gender"].eq("").sum())
    if n_unknown:
        raise DataError(
            f"{n_unknown} of {len(manifest)} recordings of {manifest.corpus} have no gender; fill that column of the "
            "manifest or leave those recordings out."
        )
    pairs = zip(manifest.frame["gender"], manifest.paths, strict=True)
    targets = np.array([GENDERS.index(_gender_name(*pair)) for pair in pairs])
    male = gender_probabilities(model, manifest, cache=cache, progress=progress)
    return Scores.from_predictions(targets, decided(male).astype(np.int64), GENDERS)


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
    """Cross-validate a gender classifier on speaker-disjoint folds; each part has both genders.

    The arguments are those of :func:`train_gender_classifier`; ``n_folds`` is at least 2 and at most the number of
    speakers of the rarer gender.

    Raises:
        DataError: as in :func:`train_gender_classifier`, or too few speakers for the folds.
    """
    settings = _settings(classifier, arguments)
    task = gender_manifest(manifest)
    speakers = task.column("speaker")
    check("n_folds", n_folds, integer(at_least=2), DataError)
    splits = speaker_splits(task.targets, speakers, task.class_names, n_folds, seed=seed)
    if len(splits) < n_folds:
        raise DataError(
            f"{n_folds} speaker-disjoint folds need {n_folds} speakers of each gender, but {task.corpus} has only "
            f"{len(splits)} of one gender; choose {len(splits)} folds."
        )
    folds = [Fold(f"fold{number:02d}", *split) for number, split in enumerate(splits, start=1)]
    check_classical(classifier, settings, task, folds)
    examples = load_examples(task, spec, cache=cache, progress=progress)
    train = partial(train_classical, classifier, settings, spec=spec, seed=seed)
    male = _out_of_fold(train, examples, speakers, splits)
    predicted = decided(male).astype(np.int64)
    parts = [fold.test for fold in folds]
    return GenderReport(
        folds=tuple(folds),
        test_speakers=tuple(tuple(in_natural_order(speakers[part])) for part in parts),
        summary=summarise([[Scores.from_predictions(task.targets[part], predicted[part], GENDERS)] for part in parts]),
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
    """Predict P(male) for the recordings of a fold, to train and test a system with gender input.

    The test and validation parts are predicted by a classifier trained on the training part. Recordings of the
    training part get out-of-fold predictions by speaker, so that the system trains on probabilities with errors like
    those it is tested with. The genders of the test and validation parts are not used.

    Args:
        manifest: all recordings; those of the training part with known genders and speakers.
        spec: the classifier's features; they may differ from the system's.
        fold: a fold of the manifest, of any protocol. The arguments that are not described here are those of
            :func:`train_gender_classifier`.

    Raises:
        DataError: as in :func:`train_gender_classifier`, about the training part.
    """
    settings = _settings(classifier, arguments)
    task = gender_manifest(manifest.select(fold.train))
    speakers = manifest.column("speaker")
    splits = speaker_splits(task.targets, speakers[fold.train], task.class_names, _PARTS, seed=seed)
    examples = load_examples(manifest, spec, cache=cache, progress=progress)
    training = replace(examples.select(fold.train), targets=task.targets, class_names=task.class_names)
    train = partial(train_classical, classifier, settings, spec=spec, seed=seed)
    male = np.full(len(manifest), np.nan, np.float32)
    male[fold.train] = _out_of_fold(train, training, speakers[fold.train], splits)
    model = train(training, speakers=speakers[fold.train])
    for part in (fold.test, fold.validation):
        if part is not None:
            male[part] = male_probabilities(model, examples.select(part))
    return FoldGenders(male, tuple(in_natural_order(set(speakers[fold.test]) & set(speakers[fold.train]))))


def gender_inputs(
    manifest: Manifest, settings: GenderConfig, fold: Fold, seed: int = 0, *, cache: FeatureCache | None = None
) -> np.ndarray:
    """Return the gender input of a model for a fold, (N,) float32, from 0 (female) to 1 (male).

    Recordings outside the parts of the fold get 0.5; they are neither trained on nor scored.

    Raises:
        SerzooError: as :func:`fold_genders`; or the source is the corpus and a gender is unknown.
    """
    if settings.source == GOLDEN:
        return manifest.genders
    if settings.classifier in CLASSICAL_CLASSIFIERS:
        spec = embedding_spec(settings.features)
        predicted = fold_genders(
            manifest, spec, fold, settings.classifier, arguments=settings.arguments, seed=seed, cache=cache
        )
        male = np.nan_to_num(predicted.male, nan=0.5)
    else:
        male = gender_probabilities(settings.classifier, manifest, cache=cache)
    return decided(male).astype(np.float32) if settings.source == BINARY else male


def check_gender_inputs(manifest: Manifest, settings: GenderConfig, folds: Sequence[Fold]) -> None:
    """Raise SerzooError unless :func:`gender_inputs` can predict the genders in these folds; nothing is trained."""
    if settings.source == GOLDEN:
        return
    if settings.classifier not in CLASSICAL_CLASSIFIERS:
        load_gender_classifier(settings.classifier)
        return
    embedding_spec(settings.features)
    CLASSICAL_CLASSIFIERS.get(settings.classifier).load()
    arguments = _settings(settings.classifier, settings.arguments)
    needed = 3 if arguments["calibrate"] else 2
    for fold in folds:
        task = gender_manifest(manifest.select(fold.train))
        speakers = task.column("speaker")
        check_training_part(arguments, task.targets, speakers, GENDERS)
        for index, gender in enumerate(GENDERS):
            found = len(set(speakers[task.targets == index]) - {""})
            if found < needed or "" in speakers:
                unknown = " and others are unknown" if "" in speakers else ""
                raise DataError(
                    f"The training part of {fold.name} has {found} {gender} speaker{'s' if found != 1 else ''}{unknown}"
                    f"; out-of-fold predictions of gender need {needed} known speakers of each gender"
                    + (" (2 with gender.arguments.calibrate set to false)." if needed > 2 else "; add speakers.")
                )


def save_gender_classifier(
    model: ClassicalClassifier, path: str | Path, manifest: Manifest, report: GenderReport
) -> Path | None:
    """Write a gender classifier and its model card.

    Args:
        model: the classifier, trained on all recordings of the manifest.
        path: a name that ends in ``.skops``; the card gets the same name with ``.yaml``. Existing files are replaced.
        manifest: the recordings.
        report: the cross-validation of the same classifier on them.

    Returns:
        The path of the card; None for a classifier of vectors that were computed elsewhere. It has no card, since its
        output for the fixed clip cannot be computed.

    Raises:
        ConfigError: another ending, or the card would replace a file that is not a card.
    """
    target = local_path(path)
    if model.needs_vector_table:
        model.save(target)
        return None
    spec, pooled = model.feature_spec, report.summary.pooled
    corpus = CORPORA.get(manifest.corpus) if manifest.corpus in CORPORA else None
    output = check_clip_output(GENDER_CLIP, partial(gender_distribution, model))

    def card(n_bytes: int, sha256: str) -> GenderCard:
        return GenderCard(
            name=set_name(target),
            summary=f"speaker gender, {model.name} on {getattr(spec, 'source', spec.kind)} features",
            bytes=n_bytes,
            sha256=sha256,
            corpus=manifest.corpus,
            source=corpus.source if corpus else "",
            licence=corpus.licence if corpus else "",
            protocol=f"{len(report.folds)} speaker-disjoint folds, seed {report.seed}; trained on all speakers",
            scores={
                "accuracy": round(pooled.war, 6),
                "uar": round(pooled.uar, 6),
                "n": pooled.n,
                "accuracy_of_folds": [round(run.war, 6) for (run,) in report.summary.folds],
            },
            class_names=model.class_names,
            feature_spec=spec.to_dict(),
            versions=_versions(model),
            input=dict(GENDER_CLIP),
            output=output,
        )

    return save_with_card(target, model.save, card)


def _versions(model: ClassicalClassifier) -> dict[str, str]:
    """Return the versions of the packages that a classifier's predictions depend on."""
    spec = model.feature_spec
    source = spec.source_kind if isinstance(spec, EmbeddingSpec) else ""
    names = [*_PACKAGES, *_PACKAGES_OF.get(source, ()), *_PACKAGES_OF.get(model.name, ())]
    known = {name: installed_version(name) for name in names}
    return {"serzoo": __version__, **{name: version for name, version in known.items() if version}}


def _settings(classifier: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """Return all arguments of a classifier; a wrong one is refused before a recording is read."""
    return complete_arguments(classifier, {**DEFAULT_ARGUMENTS, **arguments})


def _out_of_fold(
    train: Callable[..., ClassicalClassifier], examples: Examples, speakers: np.ndarray, splits: Splits
) -> np.ndarray:
    """Return P(male) of each recording, (N,) float32, from a classifier trained on the other side of its split."""
    male = np.empty(len(examples), np.float32)
    for known, unknown in splits:
        model = train(examples.select(known), speakers=speakers[known])
        male[unknown] = male_probabilities(model, examples.select(unknown))
    return male


def _gender_name(gender: str, path: Path) -> str:
    """Return ``"male"`` or ``"female"`` for a gender of a manifest in any spelling; unknown ("") stays unknown."""
    if gender == "":
        return ""
    probability = male_probability(gender, f"{path}: the speaker's")
    if probability not in (0.0, 1.0):
        raise DataError(f"{path}: the speaker's gender is {gender!r}; a classifier trains on 'male' and 'female'.")
    return GENDERS[int(probability)]
