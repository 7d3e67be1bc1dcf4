"""The weights of networks as HDF5 files that hold arrays and nothing else."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras

from serzoo.errors import WeightsError
from serzoo.models.base import SERModel

_ONE_AT_A_TIME = threading.RLock()  # of those who count weights


def write_weights(model: SERModel, path: Path) -> None:
    """Write a network's weights, without an optimiser, as a ``.weights.h5`` file of Keras."""
    model.without_training_state().save_weights(path)


@contextmanager
def at_most(n_bytes: int) -> Iterator[None]:
    """Build no network in this block whose float32 weights take more than this; it is stopped before they are made.

    Raises:
        WeightsError: a network would have more.
    """
    builder, left = threading.get_ident(), n_bytes

    def add_known_weight(layer: keras.layers.Layer, *args: Any, **settings: Any) -> Any:
        nonlocal left
        shape = settings.get("shape", args[0] if args else None)
        if threading.get_ident() == builder:
            left -= 4 * math.prod((shape,) if isinstance(shape, int) else shape or ())
            if left < 0:
                raise WeightsError(f"its weights take more than the {n_bytes} bytes of its file")
        return add_weight(layer, *args, **settings)

    with _ONE_AT_A_TIME:
        add_weight = keras.layers.Layer.add_weight
        keras.layers.Layer.add_weight = add_known_weight
        try:
            yield
        finally:
            keras.layers.Layer.add_weight = add_weight


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

    Links to other files, or to other names, and arrays kept in other files are refused, which could make a secret of
    somebody's into weights, or a few bytes into gigabytes.
    """
    with h5py.File(path, "r") as file:
        arrays = list(_arrays(file))
        if any(array.external or array.is_virtual for array in arrays):
            raise ValueError("it refers to other files")
        found, expected = sorted(array.shape for array in arrays), sorted(tuple(each.shape) for each in model.weights)
    if found != expected:
        raise ValueError(f"{len(found)} arrays of {_size(found)} values, not {len(expected)} of {_size(expected)}")


def _arrays(file: h5py.File) -> Iterator[h5py.Dataset]:
    """Yield all arrays of a file, which must be a tree: what has two names could be its own parent."""
    groups, seen = [file["/"]], {h5py.h5o.get_info(file.id).addr}
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{group.name.rstrip('/')}/{name} is a link")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                raise ValueError(f"{item.name} has two names")
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu" and item.shape is not None:
                yield item
            else:
                raise ValueError(f"{item.name} holds no numbers")


def _size(shapes: list[tuple[int, ...]]) -> int:
    total = 0
    for shape in shapes:
        count = 1
        for size in shape:
            count *= size
        total += count
    return total
