"""Save a gender classifier together with its model card."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from serzoo import __version__
from serzoo.classical.gender_classifier import gender_distribution
from serzoo.classical.model import ClassicalClassifier
from serzoo.data.corpora.corpus import CORPORA
from serzoo.data.manifest import Manifest
from serzoo.features.spec import EmbeddingSpec
from serzoo.files import local_path
from serzoo.metrics import Summary
from serzoo.training.train_gender import GenderReport
from serzoo.weights.cards import GenderCard
from serzoo.weights.check_clips import GENDER_CLIP
from serzoo.weights.store import check_clip_output, installed_version, save_with_card, set_name

_PACKAGES = ("numpy", "scipy", "librosa", "soxr", "scikit-learn", "skops")

_PACKAGES_OF = {"hf": ("torch", "transformers"), "onnx": ("onnxruntime",), "xgboost": ("xgboost", "xgboost-cpu")}


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
    spec = model.feature_spec
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
    """Return the versions of the packages that a classifier's predictions depend on."""
    spec = model.feature_spec
    source = spec.source_kind if isinstance(spec, EmbeddingSpec) else ""
    names = [*_PACKAGES, *_PACKAGES_OF.get(source, ()), *_PACKAGES_OF.get(model.name, ())]
    known = {name: installed_version(name) for name in names}
    return {"serzoo": __version__, **{name: version for name, version in known.items() if version}}
