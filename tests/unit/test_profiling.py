"""The cost of a model: the record, its table, and the errors before any measurement."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import serzoo
from serzoo import TrainingConfig
from serzoo.errors import ConfigError, FeatureError, UnknownNameError
from serzoo.features.spec import EmbeddingSpec, LogMelSpec, MFCCSpec, STFTSpec
from serzoo.models import MODELS
from serzoo.profiling import Ceilings, ProductRate, Profile, benchmark, measuring, profile
from serzoo.profiling.benchmark import first_recipe

PROFILE = Profile(
    model="timnet",
    recipe="timnet-ravdess",
    backend="tensorflow",
    versions={"keras": "3.15.1"},
    device="CPU",
    cpu="a processor",
    threads=2,
    jit_compile=True,
    batch_size=64,
    n_frames=215,
    frame_shape=(39,),
    clip_seconds=5.0,
    parameters=107_032,
    trainable=104_536,
    prediction_flops=45_000_000,
    step_flops=9_000_000_000,
    step_traffic=160_000_000,
    idle_memory=800_000_000,
    prediction_memory=1_100_000_000,
    step_memory=1_900_000_000,
    device_memory=None,
    prediction_seconds=0.005,
    waveform_seconds=0.008,
    first_step_seconds=19.0,
    step_seconds=(0.5, 0.4, 0.9),
    ceilings=Ceilings(180.0, 32.0, (ProductRate((1, 13_760, 78, 39), 55.0),)),
)


def test_the_lower_bound_is_the_longer_of_computing_and_moving_data() -> None:
    assert PROFILE.step_bound == pytest.approx(9 / 180)
    assert PROFILE.times_the_bound == pytest.approx(10)
    moving = replace(PROFILE, step_traffic=3_200_000_000)
    assert moving.step_bound == pytest.approx(0.1)
    assert "bound by memory" in str(moving)


def test_plain_data_include_derived_figures() -> None:
    plain = PROFILE.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["step_median"], plain["real_time_factor"]) == (0.5, 1000.0)
    assert plain["waveform_real_time_factor"] == 625.0
    assert plain["ceilings"]["products"] == [{"shape": [1, 13_760, 78, 39], "gflops": 55.0}]


def test_the_table_names_machine_and_figures() -> None:
    text = str(PROFILE)
    for part in (
        "timnet, recipe timnet-ravdess",
        "keras 3.15.1",
        "a processor, 2 threads",
        "107,032",
        "10.0 times 50 ms, bound by products",
        "1.90 GB, 1.10 GB above an idle process",
        "5 ms, 1,000 times real time",
        "13760 x 78 x 39",
    ):
        assert part in text
    silent = str(replace(PROFILE, waveform_seconds=None, clip_seconds=None, device_memory=12_000_000))
    assert "real time" not in silent
    assert "device memory" in silent


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("timnt", {}, UnknownNameError, "Unknown model or recipe 'timnt'. Did you mean 'timnet'?"),
        ("svc", {}, ConfigError, "svc is a classical classifier and has no training steps"),
        ("svc-ravdess-mel", {}, ConfigError, "svc is a classical classifier and has no training steps"),
        ("vgg16-fsdd-word", {}, ConfigError, "The classes of vgg16-fsdd-word depend on its recordings; set them"),
        ("nowhere.keras", {}, UnknownNameError, "Model file nowhere.keras does not exist"),
        ("timnet", {"batch_size": 0}, ConfigError, "batch_size is 0; it must be an integer of at least 1."),
        ("timnet", {"repeats": 0}, ConfigError, "repeats is 0"),
        ("timnet", {"seconds": 0.0}, ConfigError, "seconds is 0.0; give a length above 0"),
        ("timnet", {"seconds": 1.0, "n_frames": 9}, ConfigError, "leave out n_frames"),
        ("timnet", {"changes": {"model.nam": 1}}, UnknownNameError, "nam"),
    ],
)
def test_errors_before_measuring_are_one_line(model, options, error, message, monkeypatch) -> None:
    monkeypatch.setattr("serzoo.profiling.benchmark._measure_apart", lambda *job: pytest.fail(f"started with {job}"))
    with pytest.raises(error) as caught:
        profile(model, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_alone_point_to_their_model(tmp_path: Path) -> None:
    (tmp_path / "state.npz").write_bytes(b"")
    with pytest.raises(ConfigError, match="name it: tbdm"):
        profile(tmp_path / "state.npz")


def killed(*_: object) -> None:
    signal.raise_signal(signal.SIGKILL)


def exhausted(*_: object) -> None:
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 10 bytes")


@pytest.mark.slow  # starts a process
def test_a_killed_process_is_one_line(monkeypatch) -> None:
    monkeypatch.setattr("serzoo.profiling.benchmark._measure", killed)
    with pytest.raises(ConfigError, match=r"A signal ended the benchmark.*choose a smaller batch"):
        profile("timnet", batch_size=10**9)


def test_a_batch_beyond_the_memory_is_one_line(monkeypatch) -> None:
    monkeypatch.setattr(measuring, "measure", exhausted)
    with pytest.raises(ConfigError, match=r"does not fit into memory; choose a smaller batch"):
        benchmark._measure()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_recipe_to_benchmark(name: str) -> None:
    assert first_recipe(name).model.name == name


@pytest.mark.parametrize("spec", [MFCCSpec(), MFCCSpec(n_samples=111_000), LogMelSpec(segment_frames=300), STFTSpec()])
@pytest.mark.parametrize("n_frames", [2, 3, 216, 300, 501])
def test_a_clip_has_as_many_samples_as_its_frames_take(spec, n_frames: int) -> None:
    assert spec.frames_in(measuring._samples_in(spec, n_frames)) == n_frames


def test_some_clips_are_too_short_for_any_recording() -> None:
    assert measuring._samples_in(STFTSpec(), 1) is None
    assert measuring._samples_in(EmbeddingSpec(source="mel", width=80, sample_rate=22_050), 1) is None


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply and copy little."""
    for name, value in (("_SQUARE", 64), ("_COPIED_BYTES", 1_000_000), ("_PRODUCT_BYTES", 100_000)):
        monkeypatch.setattr(measuring, name, value)


def test_ceilings_are_measured(hurried) -> None:
    found = measuring.measure_ceilings([(2, 10**9, 3, 4)])
    assert found.matmul_gflops >= found.products[0].gflops > 0
    assert found.copy_gbytes > 0
    assert found.products[0].shape == (2, 100_000 // 32, 3, 4), "as many rows as fit"


@pytest.fixture(scope="module")
def gender_model():
    small = {"n_convs": 1, "filters": [2, 2], "projection": 4, "lstm_units": 2}
    return serzoo.build("acrnn", 4, feature_spec=LogMelSpec(segment_frames=20), **small)


def test_a_model_with_gender_input_predicts_and_trains(hurried, gender_model) -> None:
    found = measuring._predictions(gender_model, 20, False)
    assert found["clip_seconds"] == pytest.approx(0.215, abs=0.01)
    assert min(found["prediction_seconds"], found["waveform_seconds"], found["prediction_memory"]) > 0
    assert measuring._training_step(gender_model, TrainingConfig(jit_compile=False, batch_size=2), 20)()[0] > 0
    inputs = measuring._inputs(gender_model, np.zeros((2, 20, 40, 3), np.float32))
    assert {name: array.shape for name, array in inputs.items()} == {"features": (2, 20, 40, 3), "gender": (2, 1)}


@pytest.mark.parametrize(("length", "frames"), [({}, 20), ({"n_frames": 30}, 30), ({"seconds": 0.2}, 19)])
def test_clips_have_the_requested_length(gender_model, length, frames) -> None:
    assert measuring._clip_frames(gender_model, **{"n_frames": None, "seconds": None, **length}) == frames


def test_clips_of_a_wrong_length_raise() -> None:
    model = serzoo.build("timnet", 4, n_frames=20, n_blocks=1, filters=2)
    with pytest.raises(FeatureError, match="timnet takes 20 x 39 values"):
        measuring._clip_frames(model, 21, None)
    with pytest.raises(ConfigError, match="leave seconds out"):
        measuring._clip_frames(model, None, 1.0)
