"""Train, use, save and load simple classifiers, which take the features averaged over frames as one vector.

A file is a skops archive: a zip of arrays and of a description that names types, of which loading makes only those that
the classifier it says it is consists of. There is no pickle in it. ``serzoo.json`` in it says what it is.
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
    class_probabilities,
    complete_arguments,
    make_estimator,
    trusted_types,
)
from serzoo.data.examples import Examples
from serzoo.errors import (
    ConfigError,
    FeatureError,
    MissingExtraError,
    WeightsError,
)
from serzoo.features.spec import FeatureSpec, spec_from_dict
from serzoo.files import local_path, write_whole
from serzoo.labels import check_class_names

CLASSICAL_MODEL_FILE = f"model{CLASSICAL_SUFFIX}"
"""The file of a simple classifier, in the folder of a fold."""

_CARD, _MAX_CARD_BYTES = "serzoo.json", 1_000_000


@dataclass(frozen=True, eq=False)
class ClassicalClassifier:
    """A trained simple classifier.

    Args:
        name: of :data:`serzoo.classical.estimators.CLASSICAL_CLASSIFIERS`.
        arguments: all of them.
        class_names: what it tells apart, in order; also classes that its training part lacked, which it never answers.
        feature_spec: the features whose means over frames it takes.
        width: values of such a mean.
        learned: positions of the classes that were in its training part, ascending.
        estimator: of scikit-learn, trained.
    """

    name: str
    arguments: Mapping[str, Any]
    class_names: tuple[str, ...]
    feature_spec: FeatureSpec
    width: int
    learned: tuple[int, ...]
    estimator: Any

    def predict_probabilities(self, examples: Examples) -> np.ndarray:
        """Return the probabilities of clips, (N, n_classes) float64.

        Those of an SVC without ``calibrate`` are not calibrated; see
        :func:`serzoo.classical.estimators.class_probabilities`.

        Args:
            examples: features of the classifier's kind.

        Raises:
            FeatureError: vectors of another width.
            WeightsError: an answer is NaN.
        """
        vectors = clip_vectors(examples)
        if vectors.shape[1] != self.width:
            raise FeatureError(
                f"{self.name} takes vectors of {self.width} values, the data's have {vectors.shape[1]}; "
                "extract the features that it was trained on."
            )
        return self._answers(vectors)

    def save(self, path: str | Path) -> Path:
        """Write the classifier with its class names and feature spec to a file that :func:`load_classical` reads.

        Args:
            path: a name that ends in ``.skops``; an old file is replaced once the new one is whole.

        Raises:
            ConfigError: another ending.
        """
        import skops.io

        target = local_path(path)
        if target.suffix != CLASSICAL_SUFFIX:
            raise ConfigError(f"{path} does not end in .skops, the format of simple classifiers; name it so.")
        content = io.BytesIO(skops.io.dumps(self.estimator, compression=zipfile.ZIP_DEFLATED))
        with zipfile.ZipFile(content, "a") as archive:
            archive.writestr(_CARD, json.dumps(self._card(), indent=2))
        write_whole(target, content.getvalue())
        return target

    def _answers(self, vectors: np.ndarray) -> np.ndarray:
        answers = np.zeros((len(vectors), len(self.class_names)))
        answers[:, list(self.learned)] = class_probabilities(self.name, self.arguments, self.estimator, vectors)
        if not np.isfinite(answers).all():
            raise WeightsError(
                f"{self.name} answers with NaN; the values it was trained on or asked about are too large."
            )
        return answers

    def _card(self) -> dict[str, object]:
        return {
            "serzoo": __version__,
            "classifier": self.name,
            "arguments": dict(self.arguments),
            "class_names": list(self.class_names),
            "feature_spec": self.feature_spec.to_dict(),
            "width": self.width,
            "learned": list(self.learned),
        }


def clip_vectors(examples: Examples) -> np.ndarray:
    """Return each clip's features averaged over its frames and flattened, (N, width) float64.

    A frame of nothing but zeros is padding and does not count. Of a clip in several segments all frames count, one in
    two segments twice.
    """
    frames = examples.features.reshape(*examples.features.shape[:2], -1)
    starts = np.cumsum(examples.counts) - examples.counts
    sums = np.add.reduceat(frames.sum(axis=1, dtype=np.float64), starts, axis=0)
    n_frames = np.add.reduceat(frames.any(axis=2).sum(axis=1), starts)
    return sums / np.maximum(n_frames, 1)[:, None]


# Files ----------------------------------------------------------------------------------------------------------------


def load_classical(source: str | Path) -> ClassicalClassifier:
    """Load a simple classifier. No code in a file is run.

    Args:
        source: a ``.skops`` file of serzoo, or the folder of a run's fold.

    Raises:
        WeightsError: there is no such file, or it is damaged or none of serzoo's.
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
        model._answers(np.zeros((1, model.width)))
    except (MissingExtraError, _NotOursError):
        raise
    except Exception as error:  # whatever scikit-learn, skops or zlib make of a damaged file
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise WeightsError(f"{path} is damaged ({reason:.200}); get it again or train it anew.") from None
    return model


class _NotOursError(WeightsError):
    """A file that holds something else than a simple classifier of serzoo."""


def classical_file(path: Path) -> Path:
    """Return the file that a path, itself or a fold's folder, stands for."""
    if path.is_dir():
        file = path / CLASSICAL_MODEL_FILE
        folds = sorted(str(found.parent) for found in path.glob(f"*/{CLASSICAL_MODEL_FILE}"))
        hint = f"choose a fold: {', '.join(folds)}" if folds else "give the folder of a fold that is done"
        if not file.is_file():
            raise WeightsError(f"Folder {path} holds no {CLASSICAL_MODEL_FILE}; {hint}.")
        return file
    if not path.is_file():
        raise WeightsError(f"Classifier {path!s:.200} does not exist; give a .skops file or the folder of a fold.")
    return path


def _read_card(path: Path) -> dict[str, Any]:
    """Return what a file says that it holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(_CARD).file_size > _MAX_CARD_BYTES:
                raise _NotOursError(f"{path} has a {_CARD} of more than {_MAX_CARD_BYTES} bytes; serzoo wrote none so.")
            return json.loads(archive.read(_CARD))
    except (KeyError, zipfile.BadZipFile) as error:
        found = "no zip archive" if isinstance(error, zipfile.BadZipFile) else f"an archive without {_CARD}"
        raise _NotOursError(
            f"{path} is no simple classifier of serzoo but {found}; give a .skops file that serzoo wrote, whole."
        ) from None


def _read_estimator(path: Path, name: str, settings: Mapping[str, Any], width: int) -> Any:
    """Return the trained estimator, which must consist of what the classifier's own consists of."""
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        estimator = skops.io.load(path, trusted=trusted_types(name, settings))
    except UntrustedTypesFoundException:
        foreign = sorted(set(skops.io.get_untrusted_types(file=path)) - set(trusted_types(name, settings)))
        raise _NotOursError(
            f"{path} holds {', '.join(foreign):.200}, which {name} does not consist of; it is not loaded."
        ) from None
    expected, found = _outline(make_estimator(name, settings)), _outline(estimator)
    if found != expected:
        raise _NotOursError(f"{path} holds {' of '.join(found):.200}, not {' of '.join(expected)}; it is not loaded.")
    for decision_tree in getattr(_innermost(estimator), "estimators_", ()):
        _check_tree(decision_tree.tree_, width)
    return estimator


def _outline(estimator: Any) -> list[str]:
    """Return the types that an estimator consists of, outermost first."""
    name = f"{type(estimator).__module__}.{type(estimator).__name__}"
    return [name, *(found for part in _parts(estimator) for found in _outline(part))]


def _parts(estimator: Any) -> list[Any]:
    """Return what an estimator consists of: a calibration of one classifier, a pipeline of its steps."""
    if hasattr(estimator, "calibrated_classifiers_"):
        (calibrated,) = estimator.calibrated_classifiers_
        return [calibrated.estimator]
    if hasattr(estimator, "steps"):
        return [step for _, step in estimator.steps]
    return [estimator.estimator] if hasattr(estimator, "cv") else []


def _innermost(estimator: Any) -> Any:
    parts = _parts(estimator)
    return _innermost(parts[-1]) if parts else estimator


def _check_tree(tree: Any, width: int) -> None:
    """Raise ValueError if following a tree's branches would leave its memory or never end."""
    inner = np.flatnonzero(tree.children_left != -1)
    for children in (tree.children_left[inner], tree.children_right[inner]):
        if not ((children > inner) & (children < tree.node_count)).all():
            raise ValueError("a tree's branches lead nowhere")
    if not ((tree.feature[inner] >= 0) & (tree.feature[inner] < width)).all():
        raise ValueError("a tree asks for values that there are not")
