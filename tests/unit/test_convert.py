"""Reading the papers' weight files: what fits is loaded, what does not is refused in one line, and nothing is run."""

import pickle
import shutil
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from serzoo.errors import DataError, WeightsError
from serzoo.features.spec import MFCCSpec
from serzoo.weights.convert import published_network, read_tbdm_npz, read_timnet_hdf5

timnet_from_hdf5, tbdm_from_npz = partial(published_network, "timnet"), partial(published_network, "tbdm")

GOLDEN = Path(__file__).resolve().parents[1] / "parity" / "golden"
TIMNET, TBDM = GOLDEN / "tim_net_d8.hdf5", GOLDEN / "tbdm_net_f8.npz"
EIGHT = ("angry", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")


@pytest.fixture
def timnet_file(tmp_path):
    """A copy of the published weights to damage."""
    return Path(shutil.copy(TIMNET, tmp_path / "weights.hdf5"))


@pytest.fixture
def save_state(tmp_path):
    """A function that writes the golden TBDM-Net state with some arrays replaced (None leaves one out)."""

    def save(replaced):
        with np.load(TBDM) as golden:
            arrays = {name: golden[name] for name in golden.files} | replaced
        path = tmp_path / "state.npz"
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    return save


def refusal(function, *arguments, **options):
    """Return the message of the WeightsError that the call must raise."""
    with pytest.raises(WeightsError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_sizes_come_from_the_hdf5_file():
    model = timnet_from_hdf5(GOLDEN / "tim_net_d10.hdf5")
    sizes = ("n_classes", "n_features", "n_frames", "n_blocks", "filters", "kernel_size")
    assert [model.get_config()[size] for size in sizes] == [4, 39, None, 10, 39, 2]


def test_sizes_come_from_the_npz_file():
    model = tbdm_from_npz(TBDM)
    sizes = ("n_classes", "n_features", "n_frames", "n_blocks", "filters", "kernel_size")
    assert [model.get_config()[size] for size in sizes] == [8, 8, None, 6, 8, 2]


@pytest.mark.parametrize(("build", "path"), [(timnet_from_hdf5, TIMNET), (tbdm_from_npz, TBDM)])
def test_names_and_features_are_kept(build, path):
    model = build(str(path), class_names=EIGHT, feature_spec=MFCCSpec(n_samples=110_000))
    assert model.class_names == EIGHT
    assert model.feature_spec == MFCCSpec(n_samples=110_000)


def test_hdf5_arrays_by_name():
    arrays = read_timnet_hdf5(TIMNET)
    assert len(arrays) == 34 * 2 + 32 * 4 + 3
    assert arrays["conv1d/kernel"].shape == (1, 39, 39)
    assert arrays["batch_normalization_31/moving_variance"].shape == (39,)
    assert arrays["weight_layer/kernel"].shape == (8, 1)


def test_npz_arrays_in_keras_names_and_layout():
    arrays = read_tbdm_npz(TBDM)
    with np.load(TBDM) as golden:
        published = golden["state/tan_layers_bkwd_1.2.conv_2_1.weight"]
        for tap in (0, 1):
            np.testing.assert_array_equal(arrays["tan_layers_bkwd_1.2.conv_2_1/kernel"][tap], published[:, :, tap].T)
        np.testing.assert_array_equal(
            arrays["tan_layers_bkwd_1.2.bn_2_1/moving_variance"], golden["state/tan_layers_bkwd_1.2.bn_2_1.running_var"]
        )


def test_layers_may_count_on_from_an_earlier_model(timnet_file):
    with h5py.File(timnet_file, "r+") as file:
        for number in reversed(range(34)):
            old, new = f"conv1d_{number}" if number else "conv1d", f"conv1d_{number + 34}"
            file.move(old, new)
            file[new].move(old, new)
    moved, original = read_timnet_hdf5(timnet_file), read_timnet_hdf5(TIMNET)
    assert moved.keys() == original.keys()
    assert all(np.array_equal(moved[name], original[name]) for name in original)


def test_state_may_have_plain_names_and_more_than_the_model_uses(tmp_path):
    with np.load(TBDM) as golden:
        state = {name.removeprefix("state/"): golden[name] for name in golden.files if name.startswith("state/")}
    unused = {"tan_layers_fwd_1.0.linear.weight": np.zeros((215, 215), "float32")}
    np.savez(tmp_path / "plain.npz", **state, **unused)
    expected, found = tbdm_from_npz(TBDM).get_weights(), tbdm_from_npz(tmp_path / "plain.npz").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("build", [timnet_from_hdf5, tbdm_from_npz])
def test_missing_file_is_named(build, tmp_path):
    for path in (tmp_path / "none.bin", tmp_path):
        assert refusal(build, path) == f"Weight file {path} does not exist; give the path of a file."


@pytest.mark.parametrize(
    ("build", "source", "kind"), [(timnet_from_hdf5, TIMNET, "HDF5 file"), (tbdm_from_npz, TBDM, ".npz archive")]
)
@pytest.mark.parametrize("content", ["empty", "text", "first half", "pickle"])
def test_file_of_another_kind_is_refused(build, source, kind, content, tmp_path):
    whole = source.read_bytes()
    contents = {
        "empty": b"",
        "text": b"conv1d,1,2,3\n" * 100,
        "first half": whole[: len(whole) // 2],
        "pickle": pickle.dumps({"conv1d": [1.0]}),
    }
    path = tmp_path / "weights.bin"
    path.write_bytes(contents[content])
    message = refusal(build, path)
    assert message.startswith(f"{path} is not a readable {kind}")


def test_single_array_is_no_state(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    assert "is not a readable .npz archive" in refusal(tbdm_from_npz, tmp_path / "array.npy")


def test_hdf5_file_of_something_else_is_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.zeros(3)
    assert refusal(timnet_from_hdf5, tmp_path / "other.h5").endswith("lacks dense/bias; give a complete weight file.")


@pytest.mark.parametrize(
    "name", ["conv1d_7", "batch_normalization_31", "weight_layer", "dense", "conv1d_3/conv1d_3/bias:0"]
)
def test_missing_hdf5_layer_is_named(name, timnet_file):
    with h5py.File(timnet_file, "r+") as file:
        del file[name]
    message = refusal(timnet_from_hdf5, timnet_file)
    assert message.startswith(f"{timnet_file} lacks {name.partition('/')[0]}/")


@pytest.mark.parametrize(
    "value",
    [np.full((39,), np.nan, "float32"), np.arange(39), np.array([b"text"] * 39)],
    ids=["nan", "integers", "text"],
)
def test_hdf5_values_must_be_finite_numbers(value, timnet_file):
    with h5py.File(timnet_file, "r+") as file:
        del file["conv1d_9/conv1d_9/bias:0"]
        file["conv1d_9/conv1d_9/bias:0"] = value
    message = refusal(timnet_from_hdf5, timnet_file)
    assert message.startswith(f"{timnet_file}: conv1d_9/bias does not hold finite floating-point numbers")


def test_shape_mismatch_names_both_shapes(timnet_file):
    with h5py.File(timnet_file, "r+") as file:
        del file["conv1d_9/conv1d_9/kernel:0"]
        file["conv1d_9/conv1d_9/kernel:0"] = np.zeros((2, 39, 40), "float32")
    message = refusal(timnet_from_hdf5, timnet_file)
    assert f"{timnet_file}: conv1d_9/kernel has shape (2, 39, 40) where the model needs (2, 39, 39)" in message


def test_wrong_rank_is_refused_before_a_model_is_built(timnet_file, save_state):
    with h5py.File(timnet_file, "r+") as file:
        del file["weight_layer/weight_layer/kernel:0"]
        file["weight_layer/weight_layer/kernel:0"] = np.zeros(8, "float32")
    assert "weight_layer/kernel has shape (8,) instead of 2 dimensions" in refusal(timnet_from_hdf5, timnet_file)
    state = save_state({"state/weight_layer.kernel": np.zeros(6, "float32")})
    assert "weight_layer/kernel has shape (6,) instead of 2 dimensions" in refusal(tbdm_from_npz, state)


@pytest.mark.parametrize(("build", "path"), [(timnet_from_hdf5, TIMNET), (tbdm_from_npz, TBDM)])
def test_class_names_must_be_as_many_as_the_weights_have(build, path):
    message = refusal(build, path, class_names=EIGHT[:7])
    assert message.startswith(f"{path} has weights for 8 classes but 7 are given; give 8 classes")
    with pytest.raises(DataError, match="occur twice: angry"):
        build(path, class_names=("angry", *EIGHT[:7]))


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [
        ({"state/fc.bias": None}, "lacks fc/bias"),
        ({"state/tan_layers_bkwd_1.5.conv_2_1.weight": None}, "lacks tan_layers_bkwd_1.5.conv_2_1/kernel"),
        ({"state/fc.weight": np.zeros((8, 9), "float32")}, "reduction"),
        ({"state/fc.bias": np.full(8, np.inf, "float32")}, "fc/bias does not hold finite floating-point numbers"),
    ],
    ids=["no bias", "no convolution", "other width", "infinite"],
)
def test_state_that_does_not_fit_is_refused(replaced, reason, save_state):
    assert reason in refusal(tbdm_from_npz, save_state(replaced))


class Hostile:
    """Unpickling an instance writes a file."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (Path.touch, (Path(self.marker),))


@pytest.mark.parametrize("where", ["array", "file"])
def test_pickles_are_never_executed(where, tmp_path, save_state):
    marker, path = tmp_path / "executed", tmp_path / "state.npz"
    pickled = pickle.dumps(Hostile(marker))
    if where == "array":
        path = save_state({"state/fc.weight": np.array([Hostile(marker)], dtype=object)})
    else:
        path.write_bytes(pickled)
    assert "is not a readable .npz archive of numbers" in refusal(tbdm_from_npz, path)
    assert not marker.exists()
    pickle.loads(pickled)
    assert marker.exists(), "the trap does not work, so the test shows nothing"
