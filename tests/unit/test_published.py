import io
import os
import pickle
import struct

import numpy as np
import pytest

from serzoo.data.published import read_feature_dict
from serzoo.errors import FeatureError

X = np.random.default_rng(0).standard_normal((6, 5, 39))
TARGETS = np.array([0, 1, 2, 3, 3, 0])
Y = np.eye(4)[TARGETS]


def header():
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    return buffer.getvalue()


def write(path, content, protocol=4, old_names=False):
    """Write what ``numpy.save`` writes for an object, with the module names of NumPy 1 or 2."""
    body = pickle.dumps(np.array(content, dtype=object), protocol=protocol)
    if old_names:
        short, old, new = b"\x8c\x16numpy._core.multiarray", b"numpy.core.multiarray", b"numpy._core.multiarray"
        body = body.replace(short, b"\x8c\x15" + old).replace(new, old)
        body = refit_frame(body)
    path.write_bytes(header() + body)
    return path


def refit_frame(body):
    """Correct the length that protocol 4 writes before its first frame."""
    if body[2:3] != b"\x95":
        return body
    return body[:3] + struct.pack("<Q", struct.unpack("<Q", body[3:11])[0] - 1) + body[11:]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "RAVDESS.npy"


@pytest.mark.parametrize("old_names", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_files_of_every_numpy(path, protocol, old_names):
    features = read_feature_dict(write(path, {"x": X, "y": Y}, protocol, old_names))
    assert (b"numpy.core.multiarray" in path.read_bytes()) == old_names
    assert features.x.dtype == features.y.dtype == np.float32
    np.testing.assert_array_equal(features.x, X.astype(np.float32))
    np.testing.assert_array_equal(features.y, Y)
    np.testing.assert_array_equal(features.targets, TARGETS)
    assert features.n_classes == 4


def test_a_file_written_by_numpy_save(path):
    np.save(path, {"x": X.astype(np.float32), "y": Y.astype(np.uint8)})
    features = read_feature_dict(path)
    np.testing.assert_array_equal(features.x, X.astype(np.float32))
    np.testing.assert_array_equal(features.targets, TARGETS)


@pytest.mark.parametrize("x", [np.asfortranarray(X), X.astype(">f8"), X[:, ::-1], X.astype(np.float16)])
def test_memory_layouts(path, x):
    np.testing.assert_array_equal(read_feature_dict(write(path, {"x": x, "y": Y})).x, x.astype(np.float32))


class Call:
    """An object whose pickle calls a function when read."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def trap(tmp_path):
    return f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "name"),
    [(exec, r"builtins\.exec"), (eval, r"builtins\.eval"), (os.system, r"(posix|nt)\.system")],
)
def test_nothing_is_run(path, tmp_path, protocol, function, name):
    code = f"touch {tmp_path}/ran" if function is os.system else trap(tmp_path)
    code = f"exec({code!r})" if function is eval else code
    name = name.replace("builtins", "__builtin__") if protocol < 3 else name
    body = pickle.dumps(np.array({"x": Call(function, code), "y": Y}, dtype=object), protocol)
    path.write_bytes(header() + body)
    with pytest.raises(FeatureError, match=rf"RAVDESS\.npy refers to {name}, .*nothing was run"):
        read_feature_dict(path)
    assert not (tmp_path / "ran").exists()
    np.load(path, allow_pickle=True)  # the trap works
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "build",
    [
        lambda trap: trap,
        lambda trap: {"x": X, "y": Y, "more": trap},
        lambda trap: {"x": [np.array([trap], dtype=object)], "y": Y},
        lambda trap: {"x": X, "y": Y, ("key", trap): 0},
    ],
    ids=["alone", "beside", "in an object array", "in a key"],
)
def test_nothing_is_run_wherever_it_hides(path, tmp_path, build):
    write(path, build(Call(exec, trap(tmp_path))))
    with pytest.raises(FeatureError, match=r"refers to builtins\.exec"):
        read_feature_dict(path)
    assert not (tmp_path / "ran").exists()


def stack_global(module, name):
    def text(value):
        return b"\x8c" + bytes([len(value)]) + value.encode()

    return b"\x80\x04" + text(module) + text(name) + b"\x93."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "core.multiarray._reconstruct"),
        ("numpy", "ndarray.__subclasses__"),
        ("numpy.core", "multiarray._reconstruct"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("_codecs", "decode"),
        ("builtins", "getattr"),
    ],
)
def test_no_other_name_is_looked_up(path, module, name):
    for body in (stack_global(module, name), f"c{module}\n{name}\n.".encode()):
        path.write_bytes(header() + body)
        with pytest.raises(FeatureError, match=f"refers to {module}.{name}"):
            read_feature_dict(path)


HOSTILE = {
    "a memo of 2 ** 31 entries": b"\x80\x04}r\xff\xff\xff\x7f.",
    "bytes of 2 ** 62": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
    "a bytearray of 2 ** 62": b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".",
    "a frame of 2 ** 62": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b".",
    "a persistent id": b"Psecret\n.",
    "an extension code": b"\x80\x02\x82\x01.",
    "nothing": b"",
    "an unknown opcode": b"\xff.",
    "state for a class": b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00ab.",
    "a list": b"\x80\x02].",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(path, name):
    path.write_bytes(header() + HOSTILE[name])
    with pytest.raises(FeatureError, match=r"RAVDESS\.npy is damaged \(.*get it again"):
        read_feature_dict(path)


class Stored:
    """An array with a state of the test's choice."""

    def __init__(self, shape, dtype, data):
        self.state = (1, shape, dtype, False, data)

    def __reduce__(self):
        reconstruct, arguments, _ = np.zeros(1).__reduce__()
        return reconstruct, arguments, self.state


@pytest.mark.parametrize(
    "x",
    [
        Stored((10**9, 10**9, 39), np.dtype("f8"), b"\0" * 8),
        Stored((-1, -1, 8), np.dtype("f8"), b"\0" * 64),
        Stored((1, 1, 2**64), np.dtype("f8"), b""),
        Stored((1, 1, 1), np.dtype("O"), b"\x41" * 8),
        Stored((1, 1, 1), np.dtype("O"), [1]),
        Stored((1, 1, 1), np.dtype([("a", "O")]), b"\x41" * 8),
        Stored((1, 1, 2), np.dtype("c8"), b"\0" * 16),
        Stored((1, 1, 2), np.dtype("U1"), b"\0" * 8),
        Stored("abc", np.dtype("f8"), b"\0" * 8),
        Stored((6, 5, 39), "f8", b""),
        np.array([X, None], dtype=object),
        [[1.0]],
        None,
    ],
)
def test_arrays_that_are_none(path, x):
    with pytest.raises(FeatureError, match=r"RAVDESS\.npy: 'x' is not a complete array of numbers"):
        read_feature_dict(write(path, {"x": x, "y": Y}))


@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.1, 0.3, 0.6, 0.999])
def test_truncated_files(path, fraction):
    content = write(path, {"x": X, "y": Y}).read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(FeatureError, match=r"RAVDESS\.npy (is not an \.npy file|is damaged)"):
        read_feature_dict(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": X}, 'does not hold a dictionary with "x" and "y"'),
        ([X, Y], 'does not hold a dictionary with "x" and "y"'),
        ({"x": X[:5], "y": Y}, r"x of shape \(5, 5, 39\) and y of shape \(6, 4\)"),
        ({"x": X[0], "y": Y}, r"x of shape \(5, 39\)"),
        ({"x": X[:0], "y": Y[:0]}, r"x of shape \(0, 5, 39\)"),
        ({"x": X, "y": TARGETS}, r"y of shape \(6,\)"),
        ({"x": X, "y": Y * 2}, "'y' is not one-hot"),
        ({"x": X, "y": np.ones_like(Y)}, "'y' is not one-hot"),
        ({"x": X, "y": np.zeros_like(Y)}, "'y' is not one-hot"),
        ({"x": np.where(X > 2, np.nan, X), "y": Y}, "'x' holds NaN or infinite values"),
    ],
)
def test_other_contents(path, content, message):
    if isinstance(content, list):
        holder = np.empty((), dtype=object)
        holder[()] = content
        content = holder
    with pytest.raises(FeatureError, match=message):
        read_feature_dict(write(path, content))


def test_other_files(path, tmp_path):
    with pytest.raises(FeatureError, match=r"RAVDESS\.npy cannot be read \(No such file"):
        read_feature_dict(path)
    with pytest.raises(FeatureError, match=r"cannot be read \(Is a directory"):
        read_feature_dict(tmp_path)
    np.save(path, X)
    with pytest.raises(FeatureError, match=r"holds a float64 array of shape \(6, 5, 39\), not a dictionary"):
        read_feature_dict(path)
    path.write_text("x,y\n")
    with pytest.raises(FeatureError, match=r"is not an \.npy file"):
        read_feature_dict(path)
