"""A trained classical classifier: predict, save and load. Its input is the mean of a clip's features over the frames.

A file is a skops archive: a zip of arrays and a description of types, without pickle. ``serzoo.json`` in it names the
classifier, and loading creates only the types of which that classifier consists.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serzoo import __version__
from serzoo.classical.estimators import (
    CLASSICAL_CLASSIFIERS,
    CLASSICAL_SUFFIX,
    complete_arguments,
    make_estimator,
    trusted_types,
)
from serzoo.data.examples import Examples
from serzoo.errors import ConfigError, FeatureError, MissingExtraError, WeightsError
from serzoo.features.spec import EmbeddingSpec, FeatureSpec, spec_from_dict
from serzoo.files import local_path, write_whole
from serzoo.labels import check_class_names

CLASSICAL_MODEL_FILE = f"model{CLASSICAL_SUFFIX}"
"""Name of a classical classifier's file in the folder of a fold."""

_CARD, _MAX_CARD_BYTES = "serzoo.json", 1_000_000


@dataclass(frozen=True, eq=False)
class ClassicalClassifier:
    """A trained classical classifier.

    Args:
        name: a name of :data:`serzoo.classical.estimators.CLASSICAL_CLASSIFIERS`.
        arguments: all its arguments.
        class_names: the classes in order; those missing in the training part have probability 0.
        feature_spec: its features, averaged over frames.
        width: number of values of such a mean.
        learned: indices of the classes in the training part, ascending.
        estimator: the trained scikit-learn estimator.
    """

    name: str
    arguments: Mapping[str, Any]
    class_names: tuple[str, ...]
    feature_spec: FeatureSpec
    width: int
    learned: tuple[int, ...]
    estimator: Any

    def predict_probabilities(self, examples: Examples) -> np.ndarray:
        """Return the probabilities of clips, (N, n_classes) float64, each row with a sum of 1.

        For an SVC without calibration they are the softmax of its one-versus-rest decision values. They rank the
        classes as ``SVC.predict`` does, but are no calibrated probabilities: of predictions with 0.6, not 60 % need be
        correct, and with many classes all values are close together.

        Args:
            examples: clips with features of ``feature_spec``.

        Raises:
            FeatureError: vectors of another width.
            WeightsError: a probability is NaN.
        """
        vectors = clip_vectors(examples)
        if vectors.shape[1] != self.width:
            raise FeatureError(
                f"{self.name} takes vectors of {self.width} values, but those of the data have {vectors.shape[1]}; "
                "extract the features of its training."
            )
        return self._probabilities(vectors)

    @property
    def needs_vector_table(self) -> bool:
        """Whether its features are rows of a table (``vectors:``), so that it cannot predict new recordings."""
        return isinstance(self.feature_spec, EmbeddingSpec) and self.feature_spec.source_kind == "vectors"

    def save(self, path: str | Path) -> Path:
        """Write the classifier with its class names and feature spec; :func:`load_classical` reads the file.

        Args:
            path: a name that ends in ``.skops``; an existing file is replaced when the new one is complete.

        Raises:
            ConfigError: another suffix.
        """
        import skops.io

        target = local_path(path)
        if target.suffix != CLASSICAL_SUFFIX:
            raise ConfigError(f"{path} does not end in .skops, the suffix of classical classifiers; rename it.")
        content = io.BytesIO(skops.io.dumps(self.estimator, compression=zipfile.ZIP_DEFLATED))
        card = {
            "serzoo": __version__,
            "classifier": self.name,
            "arguments": dict(self.arguments),
            "class_names": list(self.class_names),
            "feature_spec": self.feature_spec.to_dict(),
            "width": self.width,
            "learned": list(self.learned),
        }
        with zipfile.ZipFile(content, "a") as archive:
            archive.writestr(_CARD, json.dumps(card, indent=2))
        write_whole(target, content.getvalue())
        return target

    def _probabilities(self, vectors: np.ndarray) -> np.ndarray:
        from scipy.special import softmax

        if self.arguments["calibrate"] or not CLASSICAL_CLASSIFIERS.get(self.name).by_margin:
            of_learned = self.estimator.predict_proba(vectors)
        else:
            margins = np.asarray(self.estimator.decision_function(vectors), np.float64)
            if margins.ndim == 1:  # for two classes scikit-learn returns the margin of the second only
                margins = np.stack([np.zeros_like(margins), margins], axis=1)
            of_learned = softmax(margins, axis=1)
        probabilities = np.zeros((len(vectors), len(self.class_names)))
        probabilities[:, list(self.learned)] = of_learned
        if not np.isfinite(probabilities).all():
            raise WeightsError(f"{self.name} returns NaN; its training data or these features have too large values.")
        return probabilities


def clip_vectors(examples: Examples) -> np.ndarray:
    """Return the features of each clip averaged over its frames and flattened, (N, width) float64.

    Frames of zeros are padding and do not count. In a clip of several segments, a frame in two of them counts twice.
    """
    frames = examples.features.reshape(*examples.features.shape[:2], -1)
    starts = np.cumsum(examples.counts) - examples.counts
    sums = np.add.reduceat(frames.sum(axis=1, dtype=np.float64), starts, axis=0)
    n_frames = np.add.reduceat(frames.any(axis=2).sum(axis=1), starts)
    return sums / np.maximum(n_frames, 1)[:, None]


# Files ----------------------------------------------------------------------------------------------------------------


def load_classical(source: str | Path) -> ClassicalClassifier:
    """Load a classical classifier; no code in a file is run.

    Args:
        source: a ``.skops`` file written by serzoo, or the folder of a run's fold.

    Raises:
        WeightsError: the file does not exist, is damaged, or was not written by serzoo.
        MissingExtraError: the classifier's library is not installed.
    """
    path = classical_file(local_path(source))
    try:
        card = _read_card(path)
        settings = complete_arguments(card["classifier"], card["arguments"])
        CLASSICAL_CLASSIFIERS.get(card["classifier"]).load()
        model = ClassicalClassifier(
            name=card["classifier"],
            arguments=settings,
            class_names=check_class_names(card["class_names"]),
            feature_spec=spec_from_dict(card["feature_spec"]),
            width=card["width"],
            learned=tuple(card["learned"]),
            estimator=_read_estimator(path, card["classifier"], settings, card["width"]),
        )
        model._probabilities(np.zeros((1, model.width)))
    except (MissingExtraError, _NotOursError):
        raise
    except Exception as error:  # scikit-learn, skops and zlib fail in many ways on a damaged file
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise WeightsError(f"{path} is damaged ({reason:.200}); download it or train it again.") from None
    return model


class _NotOursError(WeightsError):
    """The file contains something other than a classical classifier of serzoo."""


def classical_file(path: Path) -> Path:
    """Return the file of a path: the path itself, or the classifier in the folder of a fold."""
    if path.is_dir():
        file = path / CLASSICAL_MODEL_FILE
        folds = sorted(str(found.parent) for found in path.glob(f"*/{CLASSICAL_MODEL_FILE}"))
        hint = f"choose a fold: {', '.join(folds)}" if folds else "give the folder of a finished fold"
        if not file.is_file():
            raise WeightsError(f"Folder {path} has no {CLASSICAL_MODEL_FILE}; {hint}.")
        return file
    if not path.is_file():
        raise WeightsError(f"Classifier {path!s:.200} does not exist; give a .skops file or the folder of a fold.")
    return path


def _read_card(path: Path) -> dict[str, Any]:
    """Return the description in a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(_CARD).file_size > _MAX_CARD_BYTES:
                raise _NotOursError(
                    f"{path} has a {_CARD} of more than {_MAX_CARD_BYTES} bytes; give a file that serzoo wrote."
                )
            return json.loads(archive.read(_CARD))
    except (KeyError, zipfile.BadZipFile) as error:
        found = "no zip archive" if isinstance(error, zipfile.BadZipFile) else f"an archive without {_CARD}"
        raise _NotOursError(
            f"{path} is {found}, not a classical classifier of serzoo; give a complete .skops file that serzoo wrote."
        ) from None


def _read_estimator(path: Path, name: str, settings: Mapping[str, Any], width: int) -> Any:
    """Return the trained estimator, after comparing its types with those of a new one of the same name."""
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        estimator = skops.io.load(path, trusted=trusted_types(name, settings))
    except UntrustedTypesFoundException:
        foreign = sorted(set(skops.io.get_untrusted_types(file=path)) - set(trusted_types(name, settings)))
        raise _NotOursError(
            f"{path} contains {', '.join(foreign):.200}, types that {name} does not have; it is not loaded."
        ) from None
    expected, found = _outline(make_estimator(name, settings)), _outline(estimator)
    if found != expected:
        raise _NotOursError(
            f"{path} contains {' of '.join(found):.200}, not {' of '.join(expected)}; it is not loaded."
        )
    classifier = estimator
    while _parts(classifier):
        classifier = _parts(classifier)[-1]
    for decision_tree in getattr(classifier, "estimators_", ()):
        _check_tree(decision_tree.tree_, width)
    return estimator


def _outline(estimator: Any) -> list[str]:
    """Return the types of an estimator and its parts, outermost first."""
    name = f"{type(estimator).__module__}.{type(estimator).__name__}"
    return [name, *(found for part in _parts(estimator) for found in _outline(part))]


def _parts(estimator: Any) -> list[Any]:
    """Return the parts of an estimator: the classifier of a calibration, the steps of a pipeline."""
    if hasattr(estimator, "calibrated_classifiers_"):
        (calibrated,) = estimator.calibrated_classifiers_
        return [calibrated.estimator]
    if hasattr(estimator, "steps"):
        return [step for _, step in estimator.steps]
    return [estimator.estimator] if hasattr(estimator, "cv") else []


def _check_tree(tree: Any, width: int) -> None:
    """Raise ValueError if prediction would follow a branch out of the tree's memory or in a circle."""
    inner = np.flatnonzero(tree.children_left != -1)
    for children in (tree.children_left[inner], tree.children_right[inner]):
        if not ((children > inner) & (children < tree.node_count)).all():
            raise ValueError("a branch of a tree leads out of it")
    if not ((tree.feature[inner] >= 0) & (tree.feature[inner] < width)).all():
        raise ValueError("a tree splits by a value that the vectors do not have")
