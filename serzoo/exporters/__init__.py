"""Export classifiers in formats that run without serzoo. TensorFlow is imported only by the formats that need it."""

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
"""The module of each format.

Its ``write(classifier, folder)`` writes a new folder and compares it with the model; ExportError says why it cannot.
``describe(classifier)`` returns the metadata of the format.
"""

METADATA = "metadata.json"
"""The file with class names, features, endpoints and versions, next to the exported model."""


def export(
    model: Classifier | SERModel, folder: str | Path, format: str = "saved_model", *, overwrite: bool = False
) -> Path:
    """Export a classifier to a folder, for programs that run without serzoo.

    The export takes whole waveforms and returns probabilities. A model of fixed length classifies the centre of the
    waveform, so the caller cuts long recordings into windows; a model of segments classifies all of it, cut in the
    graph. Probabilities of pretrained weights are calibrated in the graph. Their threshold is in the metadata and left
    to the caller.

    Before the folder is moved into place, the export is loaded again and compared with the model: within 1e-5 given
    features, within 1e-4 given waveforms (:mod:`serzoo.exporters.compare`).

    Args:
        model: the result of :func:`serzoo.load`, or a model with class names and a feature spec.
        folder: the folder to write; it must not exist, or be empty.
        format: a name of :data:`FORMATS`: ``"saved_model"`` for batches in TensorFlow, with labels; ``"litert"`` for
            one recording at a time in any LiteRT runtime, a single small file.
        overwrite: replace an earlier export in the folder.

    Returns:
        The folder.

    Raises:
        UnknownNameError: an unknown format, with the nearest match.
        ConfigError: the model has no class names or no feature spec.
        WeightsError: the model normalises its features and has no statistics for it.
        ExportError: the folder is in use, the Keras backend cannot write the format, the format has no operation for
            a part of the model, or the export does not reproduce the model. Nothing is left behind.
    """
    from serzoo.classifier import Classifier

    if format not in FORMATS:
        raise unknown_name("export format", format, FORMATS)
    if isinstance(model, (str, Path)):
        raise ExportError(f"{model} is a path; load it first: serzoo.export(serzoo.load({str(model)!r}), ...).")
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    target = local_path(folder)
    if target.exists() and not target.is_dir():
        raise ExportError(f"{target} is a file; give a folder that does not exist yet.")
    if target.exists() and any(target.iterdir()):
        if not overwrite:
            raise ExportError(f"Folder {target} is not empty; choose another or set overwrite=True.")
        if not (target / METADATA).is_file():  # a mistyped path must not delete other data
            raise ExportError(f"Folder {target} holds no earlier export, so it is not overwritten; choose another.")
    writer = importlib.import_module(FORMATS[format])
    with moved_into_place(target, replace_folder=True) as part:
        writer.write(classifier, part)
        metadata = {"format": format, **_description(classifier), **writer.describe(classifier)}
        (part / METADATA).write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def _description(classifier: Classifier) -> dict[str, object]:
    """Return the metadata that all formats share, as plain data."""
    import keras

    import serzoo

    card, described = classifier.card, {}
    if card is not None:
        described["pretrained"] = {name: getattr(card, name) for name in ("name", "licence", "source")}
        described["pretrained"]["threshold"] = card.calibration.threshold
    return {
        "model": classifier.model.name,
        "class_names": list(classifier.class_names),
        "sample_rate": classifier.feature_spec.sample_rate,
        "feature_spec": classifier.feature_spec.to_dict(),
        **described,
        "versions": {"serzoo": serzoo.__version__, "keras": keras.__version__},
    }
