"""The examples run, with few epochs."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

import serzoo
from serzoo.data.synthetic_voice import synthesize

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_states_how_to_run_it(path):
    text = path.read_text()
    assert len(text.splitlines()) < 60
    assert f"examples/{path.name}" in text.split('"""')[1]


@pytest.mark.slow
def test_own_recordings(tmp_path, capsys):
    for label in ("angry", "sad"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for take in range(8):
            soundfile.write(
                tmp_path / "clips" / label / f"{take}.wav", synthesize(label, "a", "male", "1", take), 16_000
            )
    example("own_recordings").main(tmp_path / "clips", tmp_path / "run", epochs=2)
    out = capsys.readouterr().out
    assert "UAR" in out
    assert "0.wav" in out


def test_a_long_recording_gets_a_timeline(tmp_path, capsys):
    spec = serzoo.MFCCSpec(n_samples=11_025)
    model = serzoo.build("timnet", class_names=("angry", "sad"), feature_spec=spec, n_blocks=2, filters=4)
    serzoo.Classifier(model).save(tmp_path / "model.keras")
    soundfile.write(tmp_path / "long.wav", 0.1 * np.random.default_rng(0).standard_normal(4 * 16_000), 16_000)
    example("long_recording").main(tmp_path / "model.keras", tmp_path / "long.wav")
    assert "0.0 s to" in capsys.readouterr().out
    assert json.loads((tmp_path / "long.json").read_text())[0]["timeline"]


@pytest.mark.slow
def test_quickstart(tmp_path, capsys, monkeypatch):
    shorten(monkeypatch)
    example("quickstart").main(tmp_path)
    out = capsys.readouterr().out
    assert "6 of 16 are correct" in out
    assert "speaker-independent: 0 of 1 test speakers are in training" in out
    war = float(re.search(r"WAR (\S+)", out)[1])
    assert f"{war * 60 / 100:.0f} of 60 test clips are correct" in out
    assert (tmp_path / "exported" / "saved_model.pb").exists()


@pytest.mark.slow
def test_compare_protocols(tmp_path, capsys):
    example("compare_protocols").main(tmp_path, epochs=1)
    out = capsys.readouterr().out
    assert "speaker-DEPENDENT" in out
    assert "on unseen speakers" in out


def shorten(monkeypatch):
    """Limit cross-validations to two epochs."""
    cross_validate = serzoo.cross_validate
    monkeypatch.setattr(
        serzoo,
        "cross_validate",
        lambda *arguments, **options: cross_validate(*arguments, **options, changes={"training.epochs": 2}),
    )
