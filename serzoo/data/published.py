"""Reading the feature files that TIM-Net's authors publish, without executing the pickle inside."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from serzoo.errors import FeatureError
from serzoo.files import local_path

_NUMBERS = frozenset({"b1", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})
_BYTE_ORDERS = ("<", ">", "|", "=")


@dataclass(frozen=True)
class PublishedFeatures:
    """The content of one feature file.

    Args:
        x: (N, n_frames, n_features) float32 MFCC frames, not normalised.
        y: (N, n_classes) float32, one-hot.
    """

    x: np.ndarray
    y: np.ndarray

    @property
    def targets(self) -> np.ndarray:
        """Class indices, (N,) int64."""
        return self.y.argmax(axis=1)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.y.shape[1]


def read_feature_dict(path: str | Path) -> PublishedFeatures:
    """Read a ``.npy`` file that holds the pickled dictionary ``{"x": features, "y": one-hot labels}``.

    The pickle is read by an interpreter that accepts NumPy arrays only and makes inert records of them. The records
    are checked before they become arrays; no function or class that the file names is looked up or called.

    Args:
        path: a file such as ``MFCC/RAVDESS.npy`` of the TIM-Net repository.

    Raises:
        FeatureError: the file is missing, damaged, names anything but NumPy arrays, or holds other arrays
            than (N, n_frames, n_features) finite numbers and (N, n_classes) one-hot rows.
    """
    path = local_path(path)
    try:
        with path.open("rb") as file:
            content = _unpickle(path, file)
    except OSError as error:
        raise FeatureError(f"{path} cannot be read ({error.strerror}); give an .npy feature file.") from None
    if not isinstance(content, dict) or not {"x", "y"} <= content.keys():
        raise FeatureError(f'{path} does not hold a dictionary with "x" and "y"; it is not a feature file of TIM-Net.')
    x, y = (_to_array(path, key, content[key]) for key in ("x", "y"))
    if x.ndim != 3 or y.ndim != 2 or len(x) != len(y) or 0 in x.shape or y.shape[1] < 2:
        raise FeatureError(
            f"{path} holds x of shape {x.shape} and y of shape {y.shape}; "
            "expected (N, n_frames, n_features) and (N, n_classes)."
        )
    if not np.isfinite(x).all():
        raise FeatureError(f"{path}: 'x' holds NaN or infinite values; get the file again.")
    if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
        raise FeatureError(f"{path}: 'y' is not one-hot; every row must hold one 1 and zeros.")
    return PublishedFeatures(x.astype(np.float32), y.astype(np.float32))


class _Record:
    """Placeholder of a NumPy object in the pickle: it stores the arguments and calls nothing."""

    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Record):
    """An array; its state is (version, shape, dtype, Fortran order, data)."""


class _Dtype(_Record):
    """A dtype; its first argument is a code such as ``f8``, its state (version, byte order, ...)."""


class _Latin1(_Record):
    """Bytes as pickle protocol 2 writes them: a string to encode."""


_KNOWN: dict[tuple[str, str], type[_Record]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # NumPy 2
    ("numpy", "ndarray"): _Record,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Latin1,
}


class _ForbiddenGlobalError(Exception):
    """The pickle names something that is not part of a NumPy array."""


class _ArrayUnpickler(pickle._Unpickler):
    """The unpickler written in Python: the one in C can be made to fill the memory by a few bytes."""

    def find_class(self, module: str, name: str) -> type[_Record]:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise _ForbiddenGlobalError(f"{module}.{name}") from None


def _unpickle(path: Path, file: BinaryIO) -> Any:
    """Return the one object that an object array without dimensions holds."""
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(version)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception:
        raise FeatureError(f'{path} is not an .npy file; give one that holds a dictionary "x", "y".') from None
    if not dtype.hasobject or shape != ():
        raise FeatureError(f'{path} holds a {dtype} array of shape {shape}, not a dictionary "x", "y".')
    try:
        array = _ArrayUnpickler(file).load()
        _, _, _, _, (content,) = array.state
        return content
    except _ForbiddenGlobalError as error:
        raise FeatureError(
            f"{path} refers to {error}, but an array needs no such object; nothing was run. Do not use this file."
        ) from None
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        raise FeatureError(f"{path} is damaged ({type(error).__name__} while reading); get it again.") from None


def _to_array(path: Path, key: str, record: Any) -> np.ndarray:
    """Make the array that a record describes."""
    try:
        _, shape, kind, fortran_order, data = record.state
        code, byte_order = kind.arguments[0], kind.state[1]
        if isinstance(data, _Latin1):
            data = data.arguments[0].encode("latin1")
        if not (isinstance(record, _Array) and isinstance(kind, _Dtype)):
            raise TypeError(type(record))
        if code not in _NUMBERS or byte_order not in _BYTE_ORDERS or min(shape, default=0) < 0:
            raise ValueError(code)
        dtype = np.dtype(byte_order + code)
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError(shape)
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")
    except Exception:  # see above
        raise FeatureError(f"{path}: {key!r} is not a complete array of numbers; get the file again.") from None
