"""The papers' own weight files: TIM-Net's HDF5 files and TBDM-Net states saved as ``.npz``.

Both formats name their arrays: a table maps these names to the weights of our model, and the model's sizes follow from
the arrays' shapes. No code in a file is run.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
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

_PYTORCH_KERNELS = {"weight": "kernel"}
_PYTORCH_NORMALIZATION = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def timnet_from_hdf5(
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    feature_spec: FeatureSpec | None = None,
    classifier_activation: str | None = "softmax",
) -> TIMNet:
    """Build the TIM-Net of a published weight file.

    Args:
        path: a weight file of the published program.
        class_names: names of the outputs, in the order of the training.
        feature_spec: the features of the training.
        classifier_activation: ``"softmax"``, or None for logits.

    Raises:
        WeightsError: the file is missing or damaged, is not a TIM-Net's, or has another number of classes.
    """
    arrays = read_timnet_hdf5(path)
    (n_classes,) = _shape(path, arrays, "dense/bias", rank=1)
    _, n_features, filters = _shape(path, arrays, "conv1d/kernel", rank=3)
    sizes: dict[str, Any] = {
        "n_classes": n_classes,
        "n_features": n_features,
        "n_blocks": _shape(path, arrays, "weight_layer/kernel", rank=2)[0],
        "filters": filters,
        "kernel_size": _shape(path, arrays, "conv1d_2/kernel", rank=3)[0],
    }
    _check_n_classes(path, n_classes, class_names)
    model = TIMNet(
        **sizes, classifier_activation=classifier_activation, class_names=class_names, feature_spec=feature_spec
    )
    _fill(model, path, arrays, _timnet_layers(sizes["n_blocks"]))
    return model


def tbdm_from_npz(
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    feature_spec: FeatureSpec | None = None,
    classifier_activation: str | None = "softmax",
) -> TBDMNet:
    """Build the TBDM-Net of a PyTorch state in an ``.npz`` file.

    Args:
        path: the state's arrays under their names in the published program, with or without the prefix ``state/``.
        class_names: names of the outputs, in the order of the training.
        feature_spec: the features of the training.
        classifier_activation: ``"softmax"``, or None for logits, as the published program returns them.

    Raises:
        WeightsError: the file is missing or damaged, is not a TBDM-Net's, or has another number of classes.
    """
    arrays = read_tbdm_npz(path)
    filters, n_classes = _shape(path, arrays, "fc/kernel", rank=2)
    kernel_size, n_features, _ = _shape(path, arrays, "tan_layers_fwd_1.0.conv_1_1/kernel", rank=3)
    sizes: dict[str, Any] = {
        "n_classes": n_classes,
        "n_features": n_features,
        "n_blocks": _shape(path, arrays, "weight_layer/kernel", rank=2)[0],
        "filters": filters,
        "kernel_size": kernel_size,
    }
    _check_n_classes(path, n_classes, class_names)
    model = TBDMNet(
        **sizes, classifier_activation=classifier_activation, class_names=class_names, feature_spec=feature_spec
    )
    _fill(model, path, arrays, _tbdm_layers(sizes["n_blocks"]))
    return model


def load_timnet_hdf5(model: TIMNet, path: str | Path) -> None:
    """Fill ``model`` from a published TIM-Net weight file.

    Raises:
        WeightsError: the file is missing or damaged, or does not fit the model; the model is then unchanged.
    """
    arrays = read_timnet_hdf5(path)
    _check_n_classes(path, _shape(path, arrays, "dense/bias", rank=1)[0], range(model.n_classes))
    _fill(model, path, arrays, _timnet_layers(model.arguments["n_blocks"]))


def load_tbdm_npz(model: TBDMNet, path: str | Path) -> None:
    """Fill ``model`` from a TBDM-Net's PyTorch state.

    Raises:
        WeightsError: the file is missing or damaged, or does not fit the model; the model is then unchanged.
    """
    arrays = read_tbdm_npz(path)
    _check_n_classes(path, _shape(path, arrays, "fc/bias", rank=1)[0], range(model.n_classes))
    _fill(model, path, arrays, _tbdm_layers(model.arguments["n_blocks"]))


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
            layer, _, variable = name.removesuffix(":0").rpartition("/")
            arrays[f"{layer.rpartition('/')[2]}/{variable}"] = np.asarray(node[()])

    file = _existing(path)
    try:
        with h5py.File(file) as root:
            root.visititems(collect)
    except Exception as error:  # a damaged file raises errors of many kinds
        raise WeightsError(f"{path} is not a readable HDF5 file; give a complete weight file of TIM-Net.") from error
    return _renumbered(arrays)


def read_tbdm_npz(path: str | Path) -> Arrays:
    """Read a TBDM-Net's PyTorch state from an ``.npz`` file.

    Returns:
        The arrays as ``layer/variable`` with the published layers' names and Keras's variable names,
        for example ``"tan_layers_fwd_1.0.conv_1_1/kernel"``, and in Keras's layout, (kernel, in, out).

    Raises:
        WeightsError: the file is missing, is not an ``.npz`` archive, or holds pickled objects.
    """
    file = _existing(path)
    try:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with archive:
            state = {name.removeprefix("state/"): np.asarray(archive[name]) for name in archive.files}
    except Exception as error:  # a damaged archive raises errors of many kinds
        raise WeightsError(f"{path} is not a readable .npz archive of numbers; write it with numpy.savez.") from error
    return {_keras_name(name): array.T if name.endswith(".weight") else array for name, array in state.items()}


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


def _fill(model: SERModel, path: str | Path, arrays: Arrays, layers: Mapping[str, str]) -> None:
    """Assign every weight of ``model``, after a check that all of them fit."""
    owners = [weight.path.rpartition("/") for weight in model.weights]
    if {layer for layer, _, _ in owners} != set(layers):
        raise WeightsError(
            f"{path} holds a complete {type(model).__name__}, but the model {model.name!r} lacks parts of it; "
            "leave backward, multi_scale and dynamic_fusion on."
        )
    names = [f"{layers[layer]}/{variable}" for layer, _, variable in owners]
    values = [
        _values(path, arrays, name, tuple(weight.shape)) for name, weight in zip(names, model.weights, strict=True)
    ]
    for weight, value in zip(model.weights, values, strict=True):
        weight.assign(value)


def _values(path: str | Path, arrays: Arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in arrays:
        raise WeightsError(f"{path} lacks {name}; give a complete weight file.")
    array = arrays[name]
    if array.shape != shape:
        raise WeightsError(f"{path}: {name} has shape {array.shape} where the model needs {shape}; build it to match.")
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise WeightsError(f"{path}: {name} does not hold finite floating-point numbers; the file is damaged.")
    return array


def _shape(path: str | Path, arrays: Arrays, name: str, rank: int) -> tuple[int, ...]:
    """Return the shape of an array, which must have ``rank`` dimensions."""
    if name not in arrays:
        raise WeightsError(f"{path} lacks {name}; give a complete weight file.")
    shape = arrays[name].shape
    if len(shape) != rank:
        raise WeightsError(f"{path}: {name} has shape {shape} instead of {rank} dimensions; the file is damaged.")
    return shape


def _check_n_classes(path: str | Path, found: int, classes: Sequence[object] | None) -> None:
    if classes is not None and found != len(classes):
        raise WeightsError(
            f"{path} has weights for {found} classes but {len(classes)} are given; "
            f"give {found} classes, named in the order of the training."
        )


def _existing(path: str | Path) -> Path:
    file = local_path(path)
    if not file.is_file():
        raise WeightsError(f"Weight file {path} does not exist; give the path of a file.")
    return file


def _renumbered(arrays: Arrays) -> Arrays:
    """Number the layers of each kind from 0: Keras continues its numbers from model to model in one process."""
    numbers = {name: _kind_and_number(name.partition("/")[0]) for name in arrays}
    first: dict[str, int] = {}
    for kind, number in numbers.values():
        first[kind] = min(number, first.get(kind, number))
    return {
        f"{_numbered(kind, number - first[kind])}/{name.partition('/')[2]}": arrays[name]
        for name, (kind, number) in numbers.items()
    }


def _kind_and_number(layer: str) -> tuple[str, int]:
    kind, _, number = layer.rpartition("_")
    return (kind, int(number)) if kind and number.isdecimal() else (layer, 0)


def _numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def _keras_name(name: str) -> str:
    """Turn ``layer.variable`` into ``layer/variable`` with Keras's name of the variable."""
    layer, _, variable = name.rpartition(".")
    is_normalization = layer.rpartition(".")[2].startswith("bn")
    return f"{layer}/{(_PYTORCH_NORMALIZATION if is_normalization else _PYTORCH_KERNELS).get(variable, variable)}"
