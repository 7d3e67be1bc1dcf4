"""Networks made ready to be trained, and kept so for the next training."""

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
    """Give a model, or the network it is trained in, its optimiser, and to the model itself cross-entropy and WAR.

    Raises:
        ConfigError: the model has nothing that could be of the settings' precision.
    """
    keep_freed_memory()
    set_precision(model, training.precision)
    losses: dict[str, Any] = {}
    if network is model:  # smoothed targets come from the pipeline
        losses["loss"] = keras.losses.CategoricalCrossentropy(from_logits=model.classifier_activation is None)
        losses["metrics"] = [keras.metrics.CategoricalAccuracy(name="war")]
    jit_compile = training.jit_compile or keras.backend.backend() == "jax"  # which is 30 times slower without
    network.compile(optimizer=_optimizer(training.optimizer, network), jit_compile=jit_compile, **losses)
    if network is not model:
        model.compile(jit_compile=jit_compile)  # to predict held-out parts


def set_precision(model: SERModel, precision: str) -> None:
    """Tell the model's dilated blocks what to compute their products in while training.

    Raises:
        ConfigError: it has none, and the precision is not the usual one.
    """
    blocks = blocks_among(model.layers)
    if precision != FLOAT32 and not blocks:
        raise ConfigError(
            f"training.precision is {precision}, but {model.name} has no dilated blocks to compute so, as timnet and "
            "tbdm have; leave it out."
        )
    for block in blocks:
        block.product_dtype = None if precision == FLOAT32 else precision


class ModelPool:
    """A compiled network that trainings of models alike take turns in.

    XLA compiles a training step for as long as several epochs take, and what it made is never given back. Folds that
    each compile their own pay for it one by one, in memory too; on the model_pool they differ in their weights alone.
    """

    def __init__(self) -> None:
        self._settings = ""
        self._network: SERModel | None = None
        self._variables: list[Any] = []
        self._embedding: keras.Model | None = None

    def compiled(self, model: SERModel, training: TrainingConfig) -> SERModel:
        """Return a compiled network with the weights and random states of ``model``, as if nobody had trained it.

        Args:
            model: not compiled itself.
            training: the settings.
        """
        settings = json.dumps(
            [model.get_config(), str(training.optimizer), training.jit_compile, training.precision], default=str
        )
        if self._network is None or settings != self._settings:
            self._network = model.without_training_state()
            self._variables = list(self._network.variables)  # before there are those of optimiser and metrics
            compile_network(self._network, self._network, training)
            self._embedding = self._network.embedding_model()
            self._settings = settings
        _copy(model.variables, self._variables)
        _copy(_optimizer(training.optimizer, model).variables, self._network.optimizer.variables)
        return self._network

    def answering(self, model: SERModel) -> tuple[SERModel, keras.Model]:
        """Return networks that answer as ``model`` does and as its ``embedding_model`` does.

        They are the ones that were lent last, compiled already, if those are alike.
        """
        if self._network is None or self._embedding is None or self._network.get_config() != model.get_config():
            return model, model.embedding_model()
        _copy(model.variables, self._variables)
        return self._network, self._embedding


def _copy(sources: Sequence[Any], targets: Sequence[Any]) -> None:
    """Give variables the values of others, as arrays of their own: JAX deletes what a training step has used up."""
    for source, target in zip(sources, targets, strict=True):
        target.assign(keras.ops.convert_to_numpy(source))


def _optimizer(config: OptimizerConfig, network: keras.Model) -> keras.optimizers.Optimizer:
    """Return a new optimiser of the network's weights."""
    kind = {"adam": keras.optimizers.Adam, "nadam": keras.optimizers.Nadam}[config.name]
    settings = {name: getattr(config, name) for name in ("learning_rate", "beta_1", "beta_2", "epsilon")}
    optimizer = kind(**settings, weight_decay=config.weight_decay or None)
    optimizer.build(network.trainable_variables)
    return optimizer
