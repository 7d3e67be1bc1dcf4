"""Write classifiers in formats that run without serzoo; TensorFlow is imported only for the formats that need it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from serzoo.errors import ExportError, unknown_name
from serzoo.files import local_path, moved_into_place

if TYPE_CHECKING:
    from serzoo.classifier import Classifier
    from serzoo.models.base import SERModel

FORMATS = {"saved_model": "serzoo.exporters.saved_model", "litert": "serzoo.exporters.litert"}
"""The module of each format, which offers ``write(classifier, folder)`` and ``describe(classifier)``."""

METADATA = "metadata.json"
"""Beside the exported model: class names, features, endpoints and versions as plain data."""


def export(
    model: Classifier | SERModel, folder: str | Path, format: str = "saved_model", *, overwrite: bool = False
) -> Path:
    """Write a classifier as a folder that other programs run.

    The export is loaded again and compared with the model before it is moved into place: its answers to
    features must agree within 1e-5, its answers to waveforms within the front end's tolerance. It
    answers to whole waveforms: a model of fixed length hears their centre, and windows over long recordings are the
    caller's; one of segments hears all, cut in the graph. The probabilities of a pretrained set are calibrated in the
    graph; below which one to answer ``unknown`` is the caller's, and stands in the metadata.

    Args:
        model: what :func:`serzoo.load` returns, or a model with class names and a feature spec.
        folder: where the export goes; it must not exist, or be empty.
        format: a name of :data:`FORMATS`: ``"saved_model"`` answers batches, with labels, in TensorFlow; ``"litert"``
            is one small file that answers one recording at a time, with probabilities, in any LiteRT runtime.
        overwrite: replace an earlier export in the folder.

    Returns:
        The folder.

    Raises:
        UnknownNameError: no such format.
        ConfigError: the model has no class names or no feature spec.
        WeightsError: the model normalises its features and has no statistics to do so.
        ExportError: the folder is in use, the Keras backend cannot write the format, the format has no operation for
            a part of the model, or the export does not reproduce the model; nothing is left behind.
    """
    from serzoo.classifier import Classifier

    if format not in FORMATS:
        raise unknown_name("export format", format, FORMATS)
    if isinstance(model, (str, Path)):
        raise ExportError(f"{model} is a path; load it first: serzoo.export(serzoo.load({str(model)!r}), ...).")
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    target = local_path(folder)
    _check_target(target, overwrite)
    writer = importlib.import_module(FORMATS[format])
    with moved_into_place(target, replace_folder=True) as part:
        writer.write(classifier, part)
        metadata = {"format": format, **_description(classifier), **writer.describe(classifier)}
        (part / METADATA).write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise ExportError(f"{target} is a file; give a folder that does not exist yet.")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise ExportError(f"Folder {target} is not empty; choose another or say overwrite=True.")
    if not (target / METADATA).is_file():  # a slip of the hand must not delete somebody's data
        raise ExportError(f"Folder {target} holds no earlier export, so it is not overwritten; choose another.")


def _description(classifier: Classifier) -> dict[str, object]:
    """Return what every export is described by, as plain data."""
    import keras

    import serzoo

    return {
        "model": classifier.model.name,
        "class_names": list(classifier.class_names),
        "sample_rate": classifier.feature_spec.sample_rate,
        "feature_spec": classifier.feature_spec.to_dict(),
        **_pretrained(classifier),
        "versions": {"serzoo": serzoo.__version__, "keras": keras.__version__},
    }


def _pretrained(classifier: Classifier) -> dict[str, object]:
    """Return what the card of a pretrained set says that whoever runs the export must know."""
    card = classifier.card
    if card is None:
        return {}
    known = {"name": card.name, "licence": card.licence, "source": card.source}
    return {"pretrained": {**known, "threshold": card.calibration.threshold}}
