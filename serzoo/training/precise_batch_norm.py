"""Moving statistics of batch normalisation, taken anew for the weights that a training leaves."""

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
            f"training.precise_norm is true, but {model.name} has no batch normalisation with statistics to take anew; "
            "leave it out."
        )


def recompute_batch_norm(model: keras.Model, examples: Examples, *, batch_size: int, seed: int) -> None:
    """Replace the moving statistics of batch normalisation by the mean of those of all batches of ``examples``.

    While weights are trained the statistics follow them with the last batches of an epoch, so they are noisy, and late
    by as much as the weights move in a few steps. Here the weights stay. Batches go through the model as in training,
    with its dropout and its own augmentation, but neither mixed nor masked; one that is not full is left out, unless
    there is no other.

    Args:
        model: whose statistics are replaced; layers that are not trainable keep theirs.
        examples: the training part.
        batch_size: segments per batch.
        seed: of the order of the segments.

    Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, 2021, section 3 (PreciseBN).
    """
    layers = _normalizing(model)
    momenta = [layer.momentum for layer in layers]
    inputs, order = examples.inputs(), epoch_order(examples.n_segments, seed, 0)
    n_batches = max(len(order) // batch_size, 1)
    try:
        for number in range(n_batches):
            for layer in layers:
                layer.momentum = number / (number + 1)  # makes the moving statistic a running mean
            rows = order[number * batch_size : (number + 1) * batch_size]
            batch = keras.tree.map_structure(lambda values, rows=rows: values[rows], inputs)
            model(batch, training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _normalizing(model: keras.Model) -> list[Any]:
    """Return the layers of ``model``, at whatever depth, that keep moving statistics."""
    layers = model._flatten_layers(include_self=False)  # which Keras has no public name for
    return [layer for layer in layers if hasattr(layer, "moving_mean") and layer.trainable]
