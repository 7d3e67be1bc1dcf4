"""Fixtures shared by all tests."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile("serzoo", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("serzoo")

for threads in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # pytest-xdist already runs a process per core


def pytest_collection_finish() -> None:
    """Collect garbage rarely: tracing makes so many objects that a fifth of the time goes into looking at all of them.

    The objects of the imported libraries, a million, are never looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


REPOSITORY = Path(__file__).resolve().parents[1]
RECORDINGS = Path(os.environ.get("SERZOO_DATA", REPOSITORY.parent / "shared" / "data"))


def _recordings(folder: str) -> Path:
    root = RECORDINGS / folder
    if not root.is_dir():
        pytest.skip(f"no recordings at {root}; set SERZOO_DATA to the folder that holds {folder}/")
    return root


@pytest.fixture(scope="session")
def ravdess_root() -> Path:
    """All 1440 speech files of RAVDESS, flac."""
    return _recordings("ravdess")


@pytest.fixture(scope="session")
def emodb_root() -> Path:
    """339 files of EMO-DB in four classes, flac."""
    return _recordings("emodb_4class")


@pytest.fixture(scope="session")
def fsdd_root() -> Path:
    """Takes 0 to 14 of the Free Spoken Digit Dataset, 900 files, flac."""
    return _recordings("fsdd")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the built-in synthetic corpus is kept."""
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pretrained weights timnet.tiny_v1: a small untrained TIM-Net, and a made-up calibration."""
    import dataclasses
    from functools import partial

    import keras

    from serzoo.classifier import Classifier
    from serzoo.data.corpora.corpus import CORPORA
    from serzoo.features.spec import MFCCSpec
    from serzoo.settings import ModelConfig
    from serzoo.weights.arrays import write_weights
    from serzoo.weights.cards import Calibration, EmotionCard
    from serzoo.weights.check_clips import EMOTION_CLIP
    from serzoo.weights.store import check_clip_output, save_with_card
    from serzoo.zoo import build, predict_check_clip

    keras.utils.set_random_seed(1)
    arguments = {"n_blocks": 2, "filters": 4, "n_features": 13}
    spec = MFCCSpec(sample_rate=8_000, n_samples=8_000, n_mfcc=13, n_mels=40)
    model = build("timnet", class_names=("angry", "happy", "sad"), feature_spec=spec, **arguments)

    def describe(n_bytes: int, sha256: str) -> EmotionCard:
        card = EmotionCard(
            name="timnet.tiny_v1",
            summary="untrained",
            bytes=n_bytes,
            sha256=sha256,
            corpus="synthetic",
            source=CORPORA.get("synthetic").source,
            licence=CORPORA.get("synthetic").licence,
            protocol="none",
            scores={"uar": 0.34, "war": 0.33, "uar_of_folds": [0.34]},
            class_names=("angry", "happy", "sad"),
            feature_spec=spec.to_dict(),
            versions={"keras": keras.__version__},
            input=dict(EMOTION_CLIP),
            output=(),
            model=ModelConfig("timnet", arguments),
            trained_on="nothing",
            calibration=Calibration(2.5, 0.3, 0.1, 0.75, 0.6, 0.7, 100),
        )
        return dataclasses.replace(
            card, output=check_clip_output(card.input, partial(predict_check_clip, Classifier(model, card)))
        )

    folder = tmp_path_factory.mktemp("sets")
    save_with_card(folder / "timnet.tiny_v1.weights.h5", partial(write_weights, model), describe)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """Run ``serzoo`` with these arguments; gives the exit code, stdout and stderr."""
    from serzoo.cli import main

    def run_main(*arguments: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["serzoo", *map(str, arguments)])
        monkeypatch.setattr("warnings.showwarning", None)  # main() sets it; this puts the old one back
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run_main


@pytest.fixture(scope="module")
def no_plots() -> Iterator[None]:
    """Draw nothing in cross-validations, whose pictures are tested elsewhere and cost more than small trainings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("cross_validate.plot_confusion", "folds.plot_embedding", "folds.plot_history"):
            patch.setattr(f"serzoo.experiments.{name}", lambda *_, **__: None)
        yield
