"""Build models by name, load trained ones, and describe the models of the zoo."""

from __future__ import annotations

import inspect
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serzoo.classical.estimators import CLASSICAL_SUFFIX
from serzoo.errors import ConfigError, FeatureError, SerzooError, UnknownNameError, WeightsError, unknown_name
from serzoo.features.spec import spec_from_dict
from serzoo.files import local_path
from serzoo.labels import MALE
from serzoo.models import MODELS

if TYPE_CHECKING:
    from serzoo.classifier import Classifier
    from serzoo.features.spec import FeatureSpec
    from serzoo.models.base import SERModel
    from serzoo.recipes import Recipe

WEIGHT_FILES = {".hdf5": "timnet", ".npz": "tbdm"}
"""The papers' own weight files that :func:`load` reads: ending, and name of the model."""

_MAX_CONFIG_BYTES = 1_000_000

_FRAME_SIZES = ("n_features", "n_channels")
"""The arguments for the size of a frame, axis by axis; not every model has both."""

_COMMON = ("n_classes", "class_names", "feature_spec")


def list_models() -> list[str]:
    """Return the names of the models, for :func:`build`."""
    return MODELS.names()


def build(
    name: str,
    /,
    n_classes: int | None = None,
    *,
    class_names: Sequence[str] | None = None,
    feature_spec: FeatureSpec | Mapping[str, object] | None = None,
    **arguments: Any,
) -> SERModel:
    """Build a model with fresh weights.

    Args:
        name: one of :func:`list_models`.
        n_classes: width of the output; optional with ``class_names``.
        class_names: names of the outputs, in order.
        feature_spec: the features that the model will take; they set the size of a frame unless it is given.
        arguments: the architecture's own arguments; ``serzoo describe NAME`` lists them.

    Returns:
        A Keras model that maps frames (batch, time, n_features), or (batch, time, n_features, n_channels),
        to probabilities (batch, n_classes).

    Raises:
        UnknownNameError: an unknown model or argument, with the nearest match.
        ConfigError: an argument out of range, or neither ``n_classes`` nor ``class_names``.
        FeatureError: features whose frames have another number of axes than the model's.
    """
    entry = MODELS.get(name)
    check_arguments(name, arguments)
    if n_classes is None and class_names is None:
        raise ConfigError(f"{name} needs n_classes or class_names; for example serzoo.build({name!r}, n_classes=7).")
    if n_classes is None:
        n_classes = len(class_names or ())
    n_classes = int(n_classes) if isinstance(n_classes, np.integer) else n_classes  # len(np.unique(...)) and the like
    if isinstance(feature_spec, Mapping):
        feature_spec = spec_from_dict(feature_spec)
    arguments = full_arguments(name, feature_spec, arguments)
    model: Callable[..., SERModel] = entry.load()
    return model(n_classes=n_classes, class_names=class_names, feature_spec=feature_spec, **arguments)


def full_arguments(name: str, spec: FeatureSpec | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return all of an architecture's own arguments: the given ones, completed as :func:`build` does.

    Args:
        name: one of :func:`list_models`.
        spec: the features; they set the size of a frame unless it is given. None for the default size.
        arguments: the given arguments.

    Raises:
        FeatureError: features whose frames have another number of axes than the model's.
    """
    of_frames = {} if spec is None else _frame_arguments(name, spec)
    return {**builder_arguments(name), **of_frames, **arguments}


def _frame_arguments(name: str, spec: FeatureSpec) -> dict[str, Any]:
    """Return the arguments that set a model's frame size to that of its features."""
    allowed = builder_arguments(name)
    sizes = [argument for argument in _FRAME_SIZES if argument in allowed]
    if len(sizes) != len(spec.frame_shape):
        raise FeatureError(
            f"{name} takes frames of {' x '.join(sizes)}, {spec.kind} features have frames of "
            f"{' x '.join(map(str, spec.frame_shape))} values; choose features of another kind, or another model."
        )
    return dict(zip(sizes, spec.frame_shape, strict=True))


def check_arguments(name: str, arguments: Iterable[str]) -> None:
    """Raise UnknownNameError, with the nearest match, unless the model ``name`` takes all these arguments."""
    allowed = builder_arguments(name)
    for argument in arguments:
        if argument not in allowed:
            raise unknown_name(f"argument of {name}", argument, [*allowed, *_COMMON])


def builder_arguments(name: str) -> dict[str, object]:
    """Return the arguments of a model and their defaults, without those that all models have."""
    parameters = inspect.signature(MODELS.get(name).load().__init__).parameters
    return {
        key: parameter.default
        for key, parameter in parameters.items()
        if key not in ("self", "name", *_COMMON)  # the Keras name stays the architecture's
    }


def describe(name: str) -> dict[str, Any]:
    """Return a model's ``name``, ``summary``, ``source``, ``arguments`` with defaults, and ``recipes`` that use it.

    Raises:
        UnknownNameError: an unknown model, with the nearest match.
    """
    from serzoo.recipes import list_recipes, load_recipe

    entry = MODELS.get(name)
    recipes = [recipe for recipe in list_recipes() if load_recipe(recipe).model.name == name]
    return {
        "name": name,
        "summary": entry.summary,
        "source": entry.source,
        "arguments": builder_arguments(name),
        "recipes": recipes,
    }


def load(
    source: str | Path,
    *,
    recipe: str | Path | Recipe | None = None,
    class_names: Sequence[str] | None = None,
    feature_spec: FeatureSpec | Mapping[str, object] | None = None,
) -> Classifier:
    """Load a trained model for classifying recordings. No code from a file is run.

    Args:
        source: pretrained weights, compared with their model card (:mod:`serzoo.weights.store`): a name of
            :func:`serzoo.list_pretrained`, a card or its folder, ``https://.../NAME.yaml`` or
            ``hf://user/repository/NAME[@REVISION]``. Or a ``.keras`` file of serzoo, the folder of a run's fold, a
            weight file of TIM-Net's program (``.hdf5``) or a TBDM-Net state (``.npz``).
        recipe: the recipe that the weights were trained with. It sets the class names and features for files without
            them, such as the papers' weight files.
        class_names: names of the outputs in the order of the training; takes precedence over the recipe's.
        feature_spec: the features of the training; takes precedence over the recipe's.

    Raises:
        UnknownNameError: unknown weights or no such file; the message has the nearest.
        WeightsError: the file is damaged, is none of these, or does not fit the recipe, class names or features; or
            pretrained weights differ from their card or cannot be downloaded.
        ConfigError: class names or features are missing; or they are given for pretrained weights, whose card has them.
    """
    from serzoo.classifier import Classifier
    from serzoo.weights.store import is_pretrained, list_pretrained, unknown_weights

    if is_pretrained(source):
        if (recipe, class_names, feature_spec) != (None, None, None):
            raise ConfigError(
                f"The model card of {source} has class names and features; load it without other arguments."
            )
        return _load_pretrained(source)
    if _is_name(source):
        raise unknown_weights("model file or pretrained weights", source, list_pretrained("emotion"))
    path = model_file(source)
    if isinstance(feature_spec, Mapping):
        feature_spec = spec_from_dict(feature_spec)
    if recipe is not None:
        class_names, feature_spec = _from_recipe(recipe, path, class_names, feature_spec)
    if path.suffix == ".keras":
        return Classifier(_completed(_read_keras(path), path, class_names, feature_spec))
    if class_names is None or feature_spec is None:
        raise ConfigError(
            f"{path} has weights only; give the recipe of their training, such as recipe='timnet-ravdess', or "
            "class_names=[...] and feature_spec=MFCCSpec(n_samples=...)."
        )
    from serzoo.weights.convert import published_network

    name = WEIGHT_FILES[path.suffix]
    return Classifier(published_network(name, path, class_names=class_names, feature_spec=feature_spec))


def _load_pretrained(source: str | Path) -> Classifier:
    """Build the network of a card, read its weights and compare its probabilities with the card's."""
    from serzoo.classifier import Classifier
    from serzoo.weights.arrays import check_size, read_weights
    from serzoo.weights.cards import EmotionCard, expect
    from serzoo.weights.store import check_output, pretrained_file

    card, path = pretrained_file(source)
    card = expect(card, EmotionCard)
    try:
        spec = spec_from_dict(card.feature_spec)
        build_network = partial(
            build, card.model.name, class_names=card.class_names, feature_spec=spec, **card.model.arguments
        )
        check_size(build_network, card.bytes)
        model = build_network()
    except (SerzooError, TypeError, ValueError, OverflowError) as error:
        reason = _first_line(error)
        raise WeightsError(
            f"The network of the card of {card.name} cannot be built ({reason}); get the card again."
        ) from None
    read_weights(model, path)
    classifier = Classifier(model, card)
    check_output(card, partial(predict_check_clip, classifier))
    return classifier


def predict_check_clip(classifier: Classifier, waveform: np.ndarray, sample_rate: int) -> tuple[float, ...]:
    """Return a classifier's probabilities for a check clip, with the gender input "male" where it takes one.

    Args:
        classifier: of pretrained weights.
        waveform: (n_samples,), floats in -1..1.
        sample_rate: in Hz.
    """
    gender = MALE if classifier.model.takes_gender else None
    return tuple(classifier.predict_waveform(waveform, sample_rate, gender=gender).probabilities.values())


def _is_name(source: str | Path) -> bool:
    """Return whether ``source`` can only be a name of pretrained weights: no folder, no ending, and no such file."""
    path = Path(source)
    endings = (".keras", CLASSICAL_SUFFIX, *WEIGHT_FILES)
    return path.name == source and path.suffix not in endings and not local_path(path).exists()


def model_file(source: str | Path) -> Path:
    """Return the model file that ``source`` is, or that the fold folder ``source`` contains.

    Raises:
        UnknownNameError: no such file; the message has the nearest.
        WeightsError: it is not a model file.
    """
    path = local_path(source)
    if path.is_dir() and str(source):
        return _model_in_folder(path)
    if not path.is_file():
        siblings = path.parent.iterdir() if path.parent.is_dir() else ()
        models = [str(file) for file in siblings if file.suffix in (".keras", *WEIGHT_FILES)]
        if models:
            raise unknown_name("model file", path, models)
        raise UnknownNameError(
            f"Model file {source!s:.200} does not exist, and its folder has no other; check the path."
        )
    if path.suffix == CLASSICAL_SUFFIX:
        raise _is_classical(path)
    if path.suffix not in (".keras", *WEIGHT_FILES):
        raise WeightsError(
            f"{path} is not a model file; give a serzoo model (.keras), TIM-Net weights (.hdf5) or a TBDM-Net state "
            "(.npz)."
        )
    return path


def _is_classical(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} is a classical classifier, not a network; load it with serzoo.classical.model.load_classical, or "
        "score a gender classifier with serzoo gender --model."
    )


def _model_in_folder(folder: Path) -> Path:
    path = folder / "model.keras"
    classical = path.with_suffix(CLASSICAL_SUFFIX)
    if classical.is_file():
        raise _is_classical(classical)
    if not path.is_file():
        folds = sorted(str(file.parent) for file in folder.glob("*/model.keras"))
        hint = f"choose a fold: {', '.join(folds)}" if folds else "give the folder of a finished fold"
        raise WeightsError(f"Folder {folder} holds no model.keras; {hint}.")
    return path


def _from_recipe(
    name: str | Path | Recipe, path: Path, class_names: Sequence[str] | None, spec: FeatureSpec | None
) -> tuple[Sequence[str] | None, FeatureSpec]:
    """Return class names and features, from the recipe where they are not given."""
    from serzoo.data.corpora.corpus import CORPORA
    from serzoo.recipes import load_recipe

    recipe = load_recipe(name)
    model = WEIGHT_FILES.get(path.suffix, recipe.model.name)
    if model != recipe.model.name:
        raise WeightsError(
            f"{path} has {model} weights, {recipe.name} is a recipe for {recipe.model.name}; choose another."
        )
    of_corpus = CORPORA.get(recipe.corpus).class_names if recipe.target == "label" else None
    return class_names or recipe.class_names or of_corpus, spec or recipe.features


def _read_keras(path: Path) -> SERModel:
    """Read a model of the zoo; any other file is refused before Keras reads it."""
    import keras

    _check_is_ours(path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, zipfile.BadZipFile, SerzooError) as error:
        raise WeightsError(f"{path} is damaged ({_first_line(error)}); get it again or train it again.") from None


def _check_is_ours(path: Path) -> None:
    """Raise unless the file's config names a model class of the zoo: by another class a file could run code."""
    import keras

    classes = [MODELS.get(name).load() for name in MODELS]
    allowed = [(model.__name__, keras.saving.get_registered_name(model)) for model in classes]
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("config.json").file_size > _MAX_CONFIG_BYTES:
                raise ValueError("its config is too large")
            config = json.loads(archive.read("config.json"))
    except (OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} is not a complete .keras file ({_first_line(error)}); get it again.") from None
    found = (config.get("class_name"), config.get("registered_name")) if isinstance(config, dict) else (None, None)
    if found not in allowed:
        raise WeightsError(
            f"{path} has a {str(found[0])[:80]!r}, not a model of serzoo; allowed are {', '.join(MODELS)}."
        )


def _completed(model: SERModel, path: Path, class_names: Sequence[str] | None, spec: FeatureSpec | None) -> SERModel:
    """Return the model with class names and features added; those that it has must equal the given ones."""
    if class_names is None and spec is None:
        return model
    names = None if class_names is None else tuple(class_names)
    for what, given, own in (("class names", names, model.class_names), ("features", spec, model.feature_spec)):
        if None not in (given, own) and given != own:
            raise WeightsError(f"{path} has the {what} {own}, not {given}; load it without them.")
    if names is not None and len(names) != model.n_classes:
        raise WeightsError(
            f"{path} has {model.n_classes} classes but {len(names)} class names are given; name each class."
        )
    added = {"class_names": names or model.class_names, "feature_spec": spec or model.feature_spec}
    complete = type(model).from_config({**model.get_config(), **added})
    complete.set_weights(model.get_weights())
    return complete


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
