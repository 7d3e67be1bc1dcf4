"""Compile networks for training, and keep one compiled for the next training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import keras

from serzoo.errors import ConfigError
from serzoo.layers.temporal import blocks_among
from serzoo.memory import keep_freed_memory
from serzoo.models.base import SERModel
from serzoo.settings import FLOAT32, OptimizerConfig, TrainingConfig


def compile_network(network: keras.Model, model: SERModel, training: TrainingConfig) -> None:
    """Compile ``network``, which is ``model`` itself or a training network around it.

    The model itself is compiled with cross-entropy and WAR; a training network computes its own loss.

    Raises:
        ConfigError: the settings' precision does not apply to the model.
    """
    keep_freed_memory()
    set_precision(model, training.precision)
    losses: dict[str, Any] = {}
    if network is model:  # smoothed targets come from the pipeline
        losses["loss"] = keras.losses.CategoricalCrossentropy(from_logits=model.classifier_activation is None)
        losses["metrics"] = [keras.metrics.CategoricalAccuracy(name="war")]
    jit_compile = training.jit_compile or keras.backend.backend() == "jax"  # JAX is 30 times slower without
    network.compile(optimizer=_optimizer(training.optimizer, network), jit_compile=jit_compile, **losses)
    if network is not model:
        model.compile(jit_compile=jit_compile)  # to predict held-out parts


def set_precision(model: SERModel, precision: str) -> None:
    """Set the precision of the products in the model's dilated blocks during training.

    Raises:
        ConfigError: the precision is not float32, and the model has no dilated blocks.
    """
    blocks = blocks_among(model.layers)
    if precision != FLOAT32 and not blocks:
        raise ConfigError(
            f"training.precision is {precision}, but {model.name} has no dilated blocks (timnet and tbdm have); "
            "leave it out."
        )
    for block in blocks:
        block.product_dtype = None if precision == FLOAT32 else precision


class ModelPool:
    """Holds a compiled network that trainings of equal models share, one after another.

    XLA compiles a training step for as long as several epochs take, and never frees the result. Folds that each
    compile their own network pay this time and memory per fold; with a pool only the weights change between folds.
    """

    def __init__(self) -> None:
        self._settings = ""
        self._network: SERModel | None = None
        self._variables: list[Any] = []
        self._embedding: keras.Model | None = None

    def compiled(self, model: SERModel, training: TrainingConfig) -> SERModel:
        """Return a compiled network with the weights and random states of ``model`` and a fresh optimiser."""
        settings = json.dumps(
            [model.get_config(), str(training.optimizer), training.jit_compile, training.precision], default=str
        )
        if self._network is None or settings != self._settings:
            self._network = model.without_training_state()
            self._variables = list(self._network.variables)  # compiling adds those of optimiser and metrics
            compile_network(self._network, self._network, training)
            self._embedding = self._network.embedding_model()
            self._settings = settings
        _copy(model.variables, self._variables)
        _copy(_optimizer(training.optimizer, model).variables, self._network.optimizer.variables)
        return self._network

    def for_prediction(self, model: SERModel) -> tuple[SERModel, keras.Model]:
        """Return a network with the weights of ``model`` and its ``embedding_model``.

        If the pooled network equals ``model``, it is returned with these weights: it is compiled already.
        """
        if self._network is None or self._embedding is None or self._network.get_config() != model.get_config():
            return model, model.embedding_model()
        _copy(model.variables, self._variables)
        return self._network, self._embedding


def _copy(sources: Sequence[Any], targets: Sequence[Any]) -> None:
    """Copy the values of variables by way of NumPy: JAX deletes arrays that were donated to a training step."""
    for source, target in zip(sources, targets, strict=True):
        target.assign(keras.ops.convert_to_numpy(source))


def _optimizer(config: OptimizerConfig, network: keras.Model) -> keras.optimizers.Optimizer:
    """Return a new optimiser for the network's weights."""
    kind = {"adam": keras.optimizers.Adam, "nadam": keras.optimizers.Nadam}[config.name]
    settings = {name: getattr(config, name) for name in ("learning_rate", "beta_1", "beta_2", "epsilon")}
    optimizer = kind(**settings, weight_decay=config.weight_decay or None)
    optimizer.build(network.trainable_variables)
    return optimizer
