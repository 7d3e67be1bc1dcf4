"""``serzoo benchmark``: a small model measured in a process of its own, and errors of one line."""

import json

import pytest

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS

TINY_RECIPE = """
name: tiny
corpus: synthetic
model: {name: embedding_dnn, arguments: {n_features: 80}}
features: {kind: embedding, source: mel, width: 80, sample_rate: 22050}
protocol: loso-v1
training: {batch_size: 4, jit_compile: false}
"""


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.mark.slow
def test_a_model_is_measured_and_printed_as_json(run, recipe_file):
    code, out, err = run("benchmark", recipe_file, "--repeats", "1", "--batch", "3", "--set", "name=small", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["model"], found["recipe"], found["batch_size"], found["n_frames"]) == ("embedding_dnn", "small", 3, 1)
    assert found["prediction_flops"] == 2 * (80 * 40 + 40 * 20 + 20 * 10 + 10 * 8)
    assert found["step_memory"] >= found["prediction_memory"] >= found["idle_memory"] > 10_000_000
    assert min(found["times_the_bound"], found["prediction_seconds"], *found["step_seconds"]) > 0
    assert found["real_time_factor"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tbmd"], "Did you mean 'tbdm'?"),
        (["timnet", "--batch", "0"], "batch_size is 0; it must be an integer of at least 1."),
        (["timnet", "--set", "model.arguments.n_blocks"], "is not key=value"),
        ([CLASSICAL_CLASSIFIERS.names()[0]], "is a classical classifier and has no training steps"),
    ],
)
def test_errors_are_one_line(run, arguments, message):
    code, out, err = run("benchmark", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
