"""Keras loads models and layers of serzoo in a fresh process, after ``import serzoo`` and nothing else of serzoo."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from test_models import SMALL

import serzoo
from serzoo.layers.pooling import AttentiveStatistics
from serzoo.models import MODELS

LOAD = """
for path in sys.argv[1:]:
    print(type(keras.models.load_model(path)).__name__)
"""

ORDERS = {
    "serzoo first": "import sys, serzoo\nassert 'keras' not in sys.modules\nimport keras",
    "keras first": "import sys, keras, serzoo",
    "a layer of serzoo first": "import sys, serzoo.layers.pooling, keras",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[Path, str]:
    """Saved models, by path, with the names of their classes: each model of the zoo, and one of Keras with a layer."""
    folder = tmp_path_factory.mktemp("files")
    models = {name: serzoo.build(name, n_classes=3, **SMALL.get(name, {})) for name in MODELS}
    models["sequential"] = keras.Sequential([keras.Input((10, 4)), AttentiveStatistics(), keras.layers.Dense(3)])
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
    return {folder / f"{name}.keras": type(model).__name__ for name, model in models.items()}


@pytest.mark.parametrize(
    "order", ["serzoo first", *(pytest.param(order, marks=pytest.mark.slow) for order in [*ORDERS][1:])]
)
def test_load_model_finds_the_classes(files, order):
    code = ORDERS[order] + LOAD
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, env=environment
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == list(files.values())


def test_unknown_classes_stay_unknown():
    assert keras.saving.get_registered_object("serzoo>TIMNot") is None
    assert keras.saving.get_registered_object("serzoo>TIMNet") is MODELS.get("timnet").load()


@pytest.mark.parametrize("name", list(MODELS))
def test_frozen_layers_stay_frozen(name, tmp_path):
    model = serzoo.build(name, n_classes=3, **SMALL.get(name, {}))
    assert "frozen" not in model.get_config()
    kept = next(layer.name for layer in model.layers if layer.trainable_weights)
    model.get_layer(kept).trainable = False
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.name for layer in loaded.layers if not layer.trainable] == [kept]
    assert len(loaded.trainable_weights) == len(model.trainable_weights)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", list(MODELS))
def test_probabilities_are_float32_under_mixed_precision(name, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = serzoo.build(name, n_classes=3, **SMALL.get(name, {}))
        n_frames = model.max_frames or max(20, model.min_frames)
        shapes = {each.name: each.shape for each in model.inputs}
        inputs = [
            np.ones((2, n_frames, *shape[2:]) if len(shape) > 2 else (2, 1), np.float32) for shape in shapes.values()
        ]
        outputs = keras.ops.convert_to_numpy(
            model(dict(zip(shapes, inputs, strict=True)) if len(inputs) > 1 else inputs[0])
        )
    finally:
        keras.config.set_dtype_policy(before)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-6)
