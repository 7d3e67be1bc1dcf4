"""The weights of networks as HDF5 files of arrays alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import keras

from serzoo.errors import WeightsError
from serzoo.models.base import SERModel

_REPETITIONS = ("n_blocks", "n_convs", "members")
"""Arguments that multiply a network's layers. They are checked first, since even layers without weights take time."""

_BYTES_PER_ARRAY = 256
"""An HDF5 file takes more than this for each array: headers and the array's group."""


def write_weights(model: SERModel, path: Path) -> None:
    """Write a network's weights, without an optimiser, as a ``.weights.h5`` file of Keras."""
    model.without_training_state().save_weights(path)


def check_size(build: partial[SERModel], n_bytes: int) -> None:
    """Refuse a network whose float32 weights take more than ``n_bytes``, before any of them is allocated.

    Args:
        build: builds the network; its keywords are the model's arguments.
        n_bytes: size of the file that holds the weights.

    Raises:
        WeightsError: the network has more weights than the file can hold.
    """
    repetitions = [build.keywords.get(name) for name in _REPETITIONS]
    n_layers = math.prod(count for count in repetitions if isinstance(count, int))
    # In a stateless scope Keras creates no variable but keeps a list of them, per thread, and would create them all at
    # the end of the thread's next such scope. The list ends with a thread of its own.
    with ThreadPoolExecutor(1) as thread:
        if n_layers * _BYTES_PER_ARRAY > n_bytes or 4 * thread.submit(_count_weights, build).result() > n_bytes:
            raise WeightsError(f"its weights take more than the {n_bytes} bytes of its file")


def _count_weights(build: Callable[[], SERModel]) -> int:
    """Return the number of weights of a network without creating them."""
    with keras.StatelessScope(initialize_variables=False):
        return sum(math.prod(weight.shape) for weight in build().weights)


def read_weights(model: SERModel, path: Path) -> None:
    """Set a network's weights from a file. Only arrays of the network's shapes are read; no code is run.

    Args:
        model: as built, of the architecture of the file.
        path: a ``.weights.h5`` file of Keras, of this network alone, without an optimiser.

    Raises:
        WeightsError: the file is of another format, or its arrays do not fit the network.
    """
    try:
        _check_arrays(model, path)
        model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise WeightsError(f"{path} does not hold the weights of its card's {model.name} ({reason:.200}).") from None


def _check_arrays(model: SERModel, path: Path) -> None:
    """Raise ValueError unless the arrays in the file are as many and as large as the network's.

    Links and arrays stored in other files are refused: they could read a private file into the weights, or expand a
    few bytes to gigabytes.
    """
    with h5py.File(path, "r") as file:
        arrays = list(_arrays(file))
        if any(array.external or array.is_virtual for array in arrays):
            raise ValueError("it refers to other files")
        found, expected = sorted(array.shape for array in arrays), sorted(tuple(each.shape) for each in model.weights)
    if found != expected:
        raise ValueError(f"{len(found)} arrays of {_size(found)} values, not {len(expected)} of {_size(expected)}")


def _arrays(file: h5py.File) -> Iterator[h5py.Dataset]:
    """Yield all arrays of a file. It must be a tree: a group with two names could contain itself."""
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
    return sum(math.prod(shape) for shape in shapes)
