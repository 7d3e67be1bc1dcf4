"""Gender classifiers: load one by name or file, and predict the gender of speakers.

:mod:`serzoo.training.train_gender` trains and scores them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from serzoo.classical.estimators import CLASSICAL_SUFFIX
from serzoo.classical.model import ClassicalClassifier, classical_file, load_classical
from serzoo.data import audio
from serzoo.data.cache import FeatureCache
from serzoo.data.clips import recordings_in
from serzoo.data.examples import Examples, load_examples
from serzoo.data.manifest import COLUMNS, Manifest
from serzoo.errors import AudioError, ConfigError, FeatureError, WeightsError
from serzoo.features.extract import extract
from serzoo.features.segments import cut_segments
from serzoo.files import local_path
from serzoo.labels import FEMALE, MALE
from serzoo.weights.cards import GenderCard, expect
from serzoo.weights.store import check_output, list_pretrained, pretrained_file

GENDERS = (FEMALE, MALE)
"""The classes in order; P(male) is the probability of the second."""


def load_gender_classifier(source: ClassicalClassifier | str | Path) -> ClassicalClassifier:
    """Load a gender classifier.

    Args:
        source: a name of pretrained weights (:func:`serzoo.list_pretrained`), before any file or folder of that name;
            a ``.skops`` file; the folder of a run's fold; or a loaded classifier.

    Raises:
        UnknownNameError: no pretrained weights, file or folder have this name.
        WeightsError: the file is damaged or does not match its model card, or the classes are not the genders.
    """
    if _is_name(source):
        card, path = pretrained_file(str(source))
        card = expect(card, GenderCard)
        model = load_gender_classifier(path)
        check_output(card, partial(gender_distribution, model))
        return model
    model = source if isinstance(source, ClassicalClassifier) else load_classical(source)
    if model.class_names != GENDERS:
        raise WeightsError(
            f"{model.name if model is source else source} has the classes {', '.join(model.class_names):.200}, "
            f"not {' and '.join(GENDERS)}; give a gender classifier (serzoo gender trains one)."
        )
    return model


def gender_classifier_file(source: str) -> Path:
    """Return the file that :func:`load_gender_classifier` loads."""
    return pretrained_file(source)[1] if _is_name(source) else classical_file(local_path(source))


def find_gender_classifier(gender: object) -> ClassicalClassifier | None:
    """Load the classifier given in place of a gender; return None for a gender.

    Args:
        gender: a path, a loaded classifier, or text: a path with a folder in it, a ``.skops`` file or the name of a
            pretrained classifier. Text close to such a name is treated as a misspelt name, not as a gender.

    Raises:
        SerzooError: as :func:`load_gender_classifier`.
    """
    if isinstance(gender, str):
        is_path = Path(gender).name != gender or gender.endswith(CLASSICAL_SUFFIX)
        is_source = is_path or bool(difflib.get_close_matches(gender, list_pretrained("gender")))
        return load_gender_classifier(gender) if is_source else None
    return load_gender_classifier(gender) if isinstance(gender, Path | ClassicalClassifier) else None


def predict_gender(model: ClassicalClassifier, waveform: np.ndarray, sample_rate: int, name: str = "array") -> float:
    """Return P(male) of one recording, in 0..1, equal to that of :func:`gender_probabilities` for its file.

    Args:
        model: a gender classifier.
        waveform: one channel, (n_samples,), floats, full scale at -1 and 1.
        sample_rate: in Hz.
        name: name of the recording in error messages.

    Raises:
        AudioError: the recording is too short for the classifier's features.
        ConfigError: the classifier takes vectors computed elsewhere.
        SerzooError: the network that computes its features cannot be used.
    """
    spec = model.feature_spec
    if model.needs_vector_table:
        raise ConfigError(
            "The gender classifier takes vectors of a table and cannot predict a recording; use one trained on "
            "features of recordings, such as mfcc."
        )
    try:
        features = extract(audio.resample(waveform, sample_rate, spec.sample_rate), spec)
    except FeatureError as error:
        raise AudioError(f"{name}: {error}") from None
    parts = features[None] if spec.segment_frames is None else cut_segments(features, spec.segment_frames)
    clip = Examples(parts, np.zeros(1, np.int64), GENDERS, segment_counts=np.array([len(parts)]))
    return float(male_probabilities(model, clip)[0])


def gender_probabilities(
    model: ClassicalClassifier | str | Path,
    recordings: Manifest | str | Path | Iterable[str | Path],
    *,
    cache: FeatureCache | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Return P(male) of each recording, (N,) float32, in 0..1.

    Args:
        model: a gender classifier, its name, file or folder; see :func:`load_gender_classifier`.
        recordings: a manifest (its genders are not used), or audio files and folders.
        cache: cache of features; None for the default folder.
        progress: show a progress bar.

    Raises:
        SerzooError: as :func:`load_gender_classifier`, or a recording cannot be read, or there are none.
    """
    loaded = load_gender_classifier(model)
    manifest = recordings if isinstance(recordings, Manifest) else _unlabelled(recordings)
    return male_probabilities(loaded, load_examples(manifest, loaded.feature_spec, cache=cache, progress=progress))


def male_probabilities(model: ClassicalClassifier, examples: Examples) -> np.ndarray:
    """Return P(male) of each clip, (N,) float32, in 0..1."""
    return model.predict_probabilities(examples)[:, GENDERS.index(MALE)].astype(np.float32)


def decided(male: np.ndarray) -> np.ndarray:
    """Return whether each P(male) is predicted as male: above 0.5."""
    return male > 0.5


def _is_name(source: object) -> bool:
    """Return whether ``source`` is the name of a pretrained classifier, or can only be meant as one."""
    if not isinstance(source, str):
        return False
    path = local_path(source)
    return source in list_pretrained() or not (path.suffix == CLASSICAL_SUFFIX or path.name != source or path.exists())


def gender_distribution(model: ClassicalClassifier, waveform: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """Return the probabilities of both :data:`GENDERS` for a recording."""
    male = predict_gender(model, waveform, sample_rate)
    return 1 - male, male


def _unlabelled(recordings: str | Path | Iterable[str | Path]) -> Manifest:
    """Return audio files, and those in folders, as a manifest without genders; its labels are placeholders."""
    import pandas as pd

    sources = [recordings] if isinstance(recordings, str | Path) else recordings
    paths = [str(path) for source in sources for path in recordings_in(source)]
    columns = {**dict.fromkeys(COLUMNS, ""), "path": paths, "label": FEMALE}
    return Manifest(pd.DataFrame(columns, index=range(len(paths))), GENDERS, "the list of recordings")
