"""Precise batch norm: recompute the statistics of batch normalisation for the final weights of a training."""

from __future__ import annotations

from typing import Any

import keras

from serzoo.data.epochs import epoch_order
from serzoo.data.examples import Examples
from serzoo.errors import ConfigError


def check_has_batch_norm(model: keras.Model) -> None:
    """Raise ConfigError unless some layer of ``model`` keeps moving statistics."""
    if not _normalizing(model):
        raise ConfigError(
            f"training.precise_norm is true, but {model.name} has no batch normalisation with moving statistics; "
            "leave it out."
        )


def recompute_batch_norm(model: keras.Model, examples: Examples, *, batch_size: int, seed: int) -> None:
    """Replace the moving statistics of batch normalisation by their mean over all batches of ``examples``.

    Moving statistics mostly reflect the last batches of an epoch, so they are noisy, and they lag behind the weights,
    which change at every step. Here the weights are fixed. Batches pass through the model in training mode, with
    dropout and the model's own augmentation, but without mixup and masks. An incomplete last batch is left out, unless
    it is the only one.

    Args:
        model: trained; layers that are not trainable keep their statistics.
        examples: the training part.
        batch_size: segments per batch.
        seed: seed of the order of the segments.

    Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, 2021, section 3 (PreciseBN).
    """
    layers = _normalizing(model)
    momenta = [layer.momentum for layer in layers]
    inputs, order = examples.inputs(), epoch_order(examples.n_segments, seed, 0)
    n_batches = max(len(order) // batch_size, 1)
    try:
        for number in range(n_batches):
            for layer in layers:
                # With momentum n / (n + 1) the exponential average of Keras is the plain mean of batches 0 to n.
                layer.momentum = number / (number + 1)
            rows = order[number * batch_size : (number + 1) * batch_size]
            batch = keras.tree.map_structure(lambda values, rows=rows: values[rows], inputs)
            model(batch, training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _normalizing(model: keras.Model) -> list[Any]:
    """Return the layers of ``model``, nested ones included, that keep moving statistics."""
    layers = model._flatten_layers(include_self=False)  # Keras has no public function for nested layers
    return [layer for layer in layers if hasattr(layer, "moving_mean") and layer.trainable]
