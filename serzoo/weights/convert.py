"""The papers' own weight files: TIM-Net's HDF5 files and TBDM-Net states saved as ``.npz``.

Both formats name their arrays: a table maps these names to the weights of our model, and the model's sizes follow from
the arrays' shapes. No code in a file is run.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from serzoo.errors import WeightsError
from serzoo.features.spec import FeatureSpec
from serzoo.files import local_path
from serzoo.models.base import EMBEDDING, SERModel
from serzoo.models.tbdm import TBDMNet
from serzoo.models.timnet import TIMNet

Arrays = dict[str, np.ndarray]

_Sizes = Mapping[str, tuple[str, int, int]]
"""The array that shows each of a model's sizes, its number of dimensions, and the dimension of that size."""

_PYTORCH_NORMALIZATION = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def published_network(
    name: str,
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    feature_spec: FeatureSpec | None = None,
    classifier_activation: str | None = "softmax",
) -> SERModel:
    """Build the network of a paper's weight file.

    Args:
        name: ``"timnet"`` for a weight file of the published program, or ``"tbdm"`` for an ``.npz`` file of a PyTorch
            state's arrays under their names in the published program, with or without the prefix ``state/``.
        path: the file.
        class_names: names of the outputs, in the order of the training.
        feature_spec: the features of the training.
        classifier_activation: ``"softmax"``, or None for logits, as TBDM-Net's program returns them.

    Raises:
        WeightsError: the file is missing or damaged, is not of this network, or has another number of classes.
    """
    kind, read, sizes, layers_of = _FORMATS[name]
    arrays = read(path)

    def found(key: str) -> np.ndarray:
        if key not in arrays:
            raise WeightsError(f"{path} lacks {key}; give a complete weight file.")
        return arrays[key]

    arguments = {}
    for size, (key, rank, axis) in sizes.items():
        shape = found(key).shape
        if len(shape) != rank:
            raise WeightsError(f"{path}: {key} has shape {shape} instead of {rank} dimensions; the file is damaged.")
        arguments[size] = shape[axis]
    n_classes = arguments["n_classes"]
    if class_names is not None and n_classes != len(class_names):
        raise WeightsError(
            f"{path} has weights for {n_classes} classes but {len(class_names)} are given; "
            f"give {n_classes} classes, named in the order of the training."
        )
    model = kind(
        **arguments, classifier_activation=classifier_activation, class_names=class_names, feature_spec=feature_spec
    )
    layers = layers_of(arguments["n_blocks"])
    for weight in model.weights:
        layer, _, variable = weight.path.rpartition("/")
        key, shape = f"{layers[layer]}/{variable}", tuple(weight.shape)
        array = found(key)
        if array.shape != shape:
            raise WeightsError(
                f"{path}: {key} has shape {array.shape} where the model needs {shape}; build it to match."
            )
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise WeightsError(f"{path}: {key} does not hold finite floating-point numbers; the file is damaged.")
        weight.assign(array)
    return model


def read_timnet_hdf5(path: str | Path) -> Arrays:
    """Read a weight file as TIM-Net's program writes it (legacy Keras HDF5).

    Returns:
        The arrays as ``layer/variable``, for example ``"conv1d_2/kernel"``. The numbers of the layers of each kind
        start at the first, without a number, whatever the program had built before.

    Raises:
        WeightsError: the file is missing or is not HDF5.
    """
    arrays: Arrays = {}

    def collect(name: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset):
            arrays["/".join(f"/{name}".removesuffix(":0").split("/")[-2:])] = np.asarray(node[()])

    with _readable(path, "HDF5 file; give a complete weight file of TIM-Net") as file, h5py.File(file) as root:
        root.visititems(collect)
    return _renumbered(arrays)


def read_tbdm_npz(path: str | Path) -> Arrays:
    """Read a TBDM-Net's PyTorch state from an ``.npz`` file.

    Returns:
        The arrays as ``layer/variable`` with the published layers' names and Keras's variable names,
        for example ``"tan_layers_fwd_1.0.conv_1_1/kernel"``, and in Keras's layout, (kernel, in, out).

    Raises:
        WeightsError: the file is missing, is not an ``.npz`` archive, or holds pickled objects.
    """
    with _readable(path, ".npz archive of numbers; write it with numpy.savez") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with archive:
            state = {name.removeprefix("state/"): np.asarray(archive[name]) for name in archive.files}
    return {_keras_name(name): array.T if name.endswith(".weight") else array for name, array in state.items()}


@contextmanager
def _readable(path: str | Path, kind: str) -> Iterator[Path]:
    """Yield the path of a weight file; errors of reading it become one line."""
    file = local_path(path)
    if not file.is_file():
        raise WeightsError(f"Weight file {path} does not exist; give the path of a file.")
    try:
        yield file
    except Exception as error:  # a damaged file raises errors of many kinds
        raise WeightsError(f"{path} is not a readable {kind}.") from error


def _timnet_layers(n_blocks: int) -> dict[str, str]:
    """Return the name in a TIM-Net file of each layer of our model that has weights."""
    layers = {"forward_entry": "conv1d", "backward_entry": "conv1d_1", EMBEDDING: "weight_layer", "classifier": "dense"}
    sub_blocks = itertools.product(range(1, n_blocks + 1), ("forward", "backward"), (1, 2))
    for number, (block, direction, part) in enumerate(sub_blocks):
        layers[f"{direction}_block_{block}/conv_{part}"] = _numbered("conv1d", number + 2)
        layers[f"{direction}_block_{block}/norm_{part}"] = _numbered("batch_normalization", number)
    return layers


def _tbdm_layers(n_blocks: int) -> dict[str, str]:
    """Return the name in a TBDM-Net state of each layer of our model that has weights."""
    layers = {EMBEDDING: "weight_layer", "classifier": "fc"}
    for block in range(1, n_blocks + 1):
        for direction, theirs in (("forward", "tan_layers_fwd_1"), ("backward", "tan_layers_bkwd_1")):
            for part in (1, 2):
                layers[f"{direction}_block_{block}/conv_{part}"] = f"{theirs}.{block - 1}.conv_{part}_1"
                layers[f"{direction}_block_{block}/norm_{part}"] = f"{theirs}.{block - 1}.bn_{part}_1"
        layers[f"reduction_{block}_conv"] = f"dimensionality_reduction_layers.{block - 1}.conv"
        layers[f"reduction_{block}_norm"] = f"dimensionality_reduction_layers.{block - 1}.bn"
    return layers


_FORMATS: Mapping[str, tuple[Any, Callable[[str | Path], Arrays], _Sizes, Callable[[int], dict[str, str]]]] = {
    "timnet": (
        TIMNet,
        read_timnet_hdf5,
        {
            "n_classes": ("dense/bias", 1, 0),
            "n_features": ("conv1d/kernel", 3, 1),
            "filters": ("conv1d/kernel", 3, 2),
            "n_blocks": ("weight_layer/kernel", 2, 0),
            "kernel_size": ("conv1d_2/kernel", 3, 0),
        },
        _timnet_layers,
    ),
    "tbdm": (
        TBDMNet,
        read_tbdm_npz,
        {
            "filters": ("fc/kernel", 2, 0),
            "n_classes": ("fc/kernel", 2, 1),
            "kernel_size": ("tan_layers_fwd_1.0.conv_1_1/kernel", 3, 0),
            "n_features": ("tan_layers_fwd_1.0.conv_1_1/kernel", 3, 1),
            "n_blocks": ("weight_layer/kernel", 2, 0),
        },
        _tbdm_layers,
    ),
}
"""Class, reader, sizes and layers of each network; the layers are named in the file, given the number of blocks."""


def _renumbered(arrays: Arrays) -> Arrays:
    """Number the layers of each kind from 0: Keras continues its numbers from model to model in one process."""
    parts = {name: re.split(r"(?:_(\d+))?/", name, maxsplit=1) for name in arrays}
    first: dict[str, int] = {}
    for kind, number, _ in parts.values():
        first[kind] = min(int(number or 0), first.get(kind, int(number or 0)))
    return {
        f"{_numbered(kind, int(number or 0) - first[kind])}/{variable}": arrays[name]
        for name, (kind, number, variable) in parts.items()
    }


def _numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def _keras_name(name: str) -> str:
    """Turn ``layer.variable`` into ``layer/variable`` with Keras's name of the variable."""
    layer, _, variable = name.rpartition(".")
    is_normalization = layer.rpartition(".")[2].startswith("bn")
    return f"{layer}/{(_PYTORCH_NORMALIZATION if is_normalization else {'weight': 'kernel'}).get(variable, variable)}"
