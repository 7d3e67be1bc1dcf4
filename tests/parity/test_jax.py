"""Models, layers and weight files on Keras's JAX backend: their own tests, run there."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="the other tests of this run are on JAX already")
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed (pip install serzoo[jax])")
@pytest.mark.parametrize(
    "file",
    [
        "parity/test_golden.py",
        "parity/test_acrnn.py",
        "parity/test_rh_emo.py",
        "unit/test_layers.py",
        "unit/test_frontend.py",
        "unit/test_segments.py",
        "unit/test_attention.py",
        "unit/test_normalization.py",
        "unit/test_quaternion.py",
        "unit/test_anti_transfer.py",
        "contract/test_models.py",
    ],
)
def test_backend_agnostic_tests_pass_on_jax(file):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", str(TESTS / file)],
        cwd=TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert "passed" in run.stdout
