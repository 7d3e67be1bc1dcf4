"""Fixtures shared by all tests."""

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
            patch.setattr(f"serzoo.training.{name}", lambda *_, **__: None)
        yield
