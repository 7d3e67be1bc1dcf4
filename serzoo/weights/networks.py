"""The weights of networks as HDF5 files that hold arrays and nothing else."""

from __future__ import annotations

from pathlib import Path

import h5py

from serzoo.errors import WeightsError
from serzoo.models.base import SERModel


def write_weights(model: SERModel, path: Path) -> None:
    """Write a network's weights, without an optimiser, as a ``.weights.h5`` file of Keras."""
    model.without_training_state().save_weights(path)


def read_weights(model: SERModel, path: Path) -> None:
    """Give a network the weights of a file. Nothing but arrays of its shapes is read, and nothing is run.

    Args:
        model: as built, of the architecture of the file.
        path: a ``.weights.h5`` file of Keras, of this network alone, without an optimiser.

    Raises:
        WeightsError: the file is no such file, or its arrays are not those of the network.
    """
    try:
        _check_arrays(model, path)
        model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise WeightsError(f"{path} does not hold the weights of its card's {model.name} ({reason:.200}).") from None


def _check_arrays(model: SERModel, path: Path) -> None:
    """Raise ValueError unless the arrays in the file are as many and as large as the network's.

    Links are not followed and arrays kept in other files are refused, which could make a secret of somebody's into
    weights, or a few bytes into gigabytes.
    """
    arrays = []
    with h5py.File(path, "r") as file:
        file.visititems(lambda _, item: arrays.append(item) if isinstance(item, h5py.Dataset) else None)
        if any(array.external or array.is_virtual for array in arrays):
            raise ValueError("it refers to other files")
        found, expected = sorted(array.shape for array in arrays), sorted(tuple(each.shape) for each in model.weights)
    if found != expected:
        raise ValueError(f"{len(found)} arrays of {_size(found)} values, not {len(expected)} of {_size(expected)}")


def _size(shapes: list[tuple[int, ...]]) -> int:
    total = 0
    for shape in shapes:
        count = 1
        for size in shape:
            count *= size
        total += count
    return total
