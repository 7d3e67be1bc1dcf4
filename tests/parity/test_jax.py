"""Models, layers and weight files on Keras's JAX backend: their own tests, run there."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

TESTS = Path(__file__).resolve().parents[1]


NOT_ON_JAX = pytest.mark.skipif(keras.backend.backend() == "jax", reason="all tests of this run are on JAX already")
WITH_JAX = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="JAX is not installed (pip install serzoo[jax])"
)


@pytest.mark.slow
@NOT_ON_JAX
@WITH_JAX
@pytest.mark.parametrize(
    "file",
    [
        "contract/test_models.py",  # first, since it takes longest
        "parity/test_golden.py",
        "parity/test_acrnn.py",
        "unit/test_layers.py",
        "unit/test_temporal_training.py",
        "unit/test_frontend.py",
        "unit/test_segments.py",
        "unit/test_attention.py",
        "unit/test_normalization.py",
        "unit/test_quaternion.py",
    ],
)
def test_backend_agnostic_tests_pass_on_jax(file):
    run_on_jax(file)


@pytest.mark.slow
@NOT_ON_JAX
@WITH_JAX
@pytest.mark.parametrize(
    ("file", "selection"),
    [
        ("unit/test_anti_transfer.py", "facts or gradient or identical"),
        ("parity/test_jax_folds.py", "not vgg16 and not rh_emo and not tbdm"),  # the others' layers compile sooner
        ("unit/test_classifier.py", "threads_may_share"),
        ("contract/test_pretrained.py", "answers or survives"),
        ("parity/test_rh_emo.py", "not mixed and not ratings and not logits"),
    ],
)
def test_tests_without_training_pass_on_jax(file, selection):
    """Training is left out: JAX compiles it for each model, in minutes."""
    run_on_jax(file, "-k", selection)


def run_on_jax(file, *selection):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", str(TESTS / file), *selection],
        cwd=TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert "passed" in run.stdout
