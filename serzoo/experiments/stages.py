"""Train a recipe's model in stages, and choose the feature layer of anti-transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from serzoo.data.manifest import Manifest
from serzoo.errors import ConfigError, SerzooError, WeightsError, unknown_name
from serzoo.experiments.run_folder import write_table
from serzoo.models.base import SERModel
from serzoo.models.rh_emo import RHEmo
from serzoo.recipes import Recipe
from serzoo.settings import InitialWeights, TrainingConfig
from serzoo.training.anti_transfer import AntiTransfer
from serzoo.training.compiling import set_precision
from serzoo.training.fit import History, fit
from serzoo.training.objectives import Objective
from serzoo.training.precise_batch_norm import check_has_batch_norm
from serzoo.training.rh_emo_stages import EmotionalReconstruction
from serzoo.zoo import build, check_arguments, load


@dataclass(frozen=True)
class Stage:
    """A stage of a training; it starts from the selected weights of the stage before.

    Without an objective the loss is the cross-entropy of the classes. The name is that of its folder below the fold's;
    the last stage has none and uses the fold's own.
    """

    training: TrainingConfig
    objective: Objective | None = None
    name: str = ""


def build_model(recipe: Recipe, manifest: Manifest) -> SERModel:
    """Return the recipe's model for the manifest's classes, with weights initialised by the recipe's seed.

    Raises:
        UnknownNameError: the model has no such argument.
        ConfigError: an argument is out of range.
        WeightsError: the initial weights cannot be read or do not fit.
    """
    check_arguments(recipe.model.name, recipe.model.arguments)
    keras.backend.clear_session()
    keras.utils.set_random_seed(recipe.training.seed)
    model = build(
        recipe.model.name,
        class_names=manifest.class_names,
        feature_spec=recipe.features,
        **recipe.model.arguments,
    )
    if recipe.initial is not None:
        take_weights(model, recipe.initial)
    return model


def take_weights(model: SERModel, initial: InitialWeights) -> None:
    """Copy the weights of layers of a trained model to the layers of the same names in ``model``.

    Raises:
        ConfigError: the trained model is of another kind, and no layers are named.
        UnknownNameError: one of the models has no such layer, or there is no such file.
        WeightsError: a layer's weights have other shapes, or the file cannot be read.
    """
    source = _load(initial.model, "initial.model")
    if initial.layers is None and type(source) is not type(model):
        raise ConfigError(
            f"initial.model {initial.model} is a {source.name}, but the model to train is a {model.name}; "
            "name the layers to copy in initial.layers."
        )
    for name in initial.layers or [layer.name for layer in model.layers]:
        theirs, own = (_layer(network, name).get_weights() for network in (source, model))
        shapes = [[weights.shape for weights in layer] for layer in (theirs, own)]
        if shapes[0] != shapes[1]:
            raise WeightsError(
                f"Layer {name!r} of {initial.model} has weights of shapes {shapes[0]}, {model.name}'s {shapes[1]}; "
                "name the layers to copy in initial.layers, or build the model with the same arguments."
            )
        _layer(model, name).set_weights(theirs)


def _layer(network: SERModel, name: str) -> keras.layers.Layer:
    layers = {layer.name: layer for layer in network.layers}
    if name not in layers:
        raise unknown_name(f"layer of {network.name}", name, layers)
    return layers[name]


def check_stages(recipe: Recipe, model: SERModel) -> None:
    """Raise SerzooError if a stage of the recipe's training is impossible; nothing is trained.

    Raises:
        ConfigError: networks of different structure, no such feature layer, RH-Emo's stages for another model, or
            ``precision`` or ``precise_norm`` for a model without such layers.
        UnknownNameError, WeightsError: a pretrained network cannot be read.
    """
    set_precision(model, recipe.training.precision)
    if recipe.training.precise_norm:
        check_has_batch_norm(model)
    pretrained = _pretrained(recipe)
    for layer in _layers(recipe):
        for stage in _stages(recipe, model, pretrained, layer):
            if stage.objective is not None:
                stage.objective.check(model)


def train(
    recipe: Recipe, manifest: Manifest, folder: Path, *, title: str, **fit_arguments: Any
) -> tuple[SERModel, History]:
    """Train the recipe's model in stages; of several anti-transfer layers keep the best on the validation part.

    Args:
        recipe: the recipe.
        manifest: the recordings.
        folder: the fold's folder. It has a folder for each layer and for each stage but the last, with the state to
            resume from and the history; ``layers.csv`` compares the layers.
        title: name of the training in progress bars.
        fit_arguments: further arguments of :func:`serzoo.training.fit.fit`, ``x`` among them.

    Returns:
        The trained model and the history of its last stage.
    """
    pretrained = _pretrained(recipe)

    def train_stages(layer: int | None, folder: Path, title: str) -> tuple[SERModel, History]:
        model = build_model(recipe, manifest)
        for stage in _stages(recipe, model, pretrained, layer):
            history = fit(
                model,
                training=stage.training,
                objective=stage.objective,
                run_folder=folder / stage.name,
                title=f"{title} {stage.name}".rstrip(),
                **fit_arguments,
            )
            if stage.name:
                write_table(folder / stage.name / "history.csv", history.table())
        return model, history

    first, *others = _layers(recipe)
    if not others:
        return train_stages(first, folder, title)
    rows: list[dict[str, Any]] = []
    kept: tuple[int | None, SERModel, History] | None = None  # one model at a time: thirteen may not fit into memory
    for layer in (first, *others):
        place = folder / f"layer{layer:02d}"
        model, history = train_stages(layer, place, f"{title} layer {layer}")
        write_table(place / "history.csv", history.table())
        scores = {score: history.selected[score] for score in ("validation_war", "validation_uar", "validation_loss")}
        rows.append({"layer": layer, "epoch": history.selected_epoch, **scores})
        if kept is None or scores["validation_war"] > kept[2].selected["validation_war"]:
            kept = layer, model, history
    assert kept is not None  # there is a first layer
    write_table(folder / "layers.csv", [{**row, "kept": row["layer"] == kept[0]} for row in rows])
    return kept[1:]


def _layers(recipe: Recipe) -> tuple[int | None, ...]:
    """Return the feature layers of anti-transfer; (None,) without anti-transfer."""
    return (None,) if recipe.anti_transfer is None else recipe.anti_transfer.layers


def _pretrained(recipe: Recipe) -> list[SERModel]:
    """Return the networks to train against, in order."""
    sources = () if recipe.anti_transfer is None else recipe.anti_transfer.pretrained
    return [_load(source, "anti_transfer.pretrained") for source in sources]


def _load(source: str, setting: str) -> SERModel:
    """Return a trained model; an error message starts with the setting that names it."""
    try:
        return load(source).model
    except SerzooError as error:
        raise type(error)(f"{setting}: {error}") from None


def _stages(recipe: Recipe, model: SERModel, pretrained: Sequence[SERModel], layer: int | None) -> list[Stage]:
    """Return the stages of a recipe's training, in order."""
    if recipe.anti_transfer is not None and layer is not None:
        objectives = [AntiTransfer(network, layer, recipe.anti_transfer.beta) for network in pretrained]
        names = [*(f"against{number}" for number in range(1, len(objectives))), ""]
        return [Stage(recipe.training, *own) for own in zip(objectives, names, strict=True)]
    settings = recipe.rh_emo
    if settings is None:
        return [Stage(recipe.training)]
    if not isinstance(model, RHEmo):
        raise ConfigError(f"rh_emo is set, but the model is {model.name}; leave it out or set model.name to rh_emo.")
    weights = {name: getattr(settings, name) for name in ("alpha", "beta", "beta_class", "beta_vad")}
    recognition = EmotionalReconstruction(model.training_network(), **weights)  # both stages train one network
    first = replace(recipe.training, **vars(settings.reconstruction))
    return [Stage(first, replace(recognition, beta=0.0), "reconstruction"), Stage(recipe.training, recognition)]
