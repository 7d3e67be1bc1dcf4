"""The sixteen recordings that come with the package: chosen by rule, complete, small, and unseen by the quickstart."""

from pathlib import Path

import numpy as np
import pytest

import serzoo
from serzoo.data import audio
from serzoo.data.protocols import get_protocol
from serzoo.weights.store import pretrained_card

FOLDER = Path(serzoo.data.__file__).parent / "files"


@pytest.fixture(scope="module")
def clips():
    return serzoo.data.sample_clips()


def test_each_class_once_by_a_man_and_a_woman(clips):
    frame = clips.frame
    assert clips.corpus == "ravdess"
    assert list(frame["label"][::2]) == list(frame["label"][1::2]) == list(clips.class_names)
    assert set(zip(frame["speaker"], frame["gender"], strict=True)) == {("01", "male"), ("20", "female")}


def test_selected_by_rule(clips):
    """Normal intensity, first statement, first repetition; every file of the folder is one of them."""
    expected = {f"03-01-{e:02d}-01-01-01-{actor}.flac" for e in range(1, 9) for actor in ("01", "20")}
    assert {path.name for path in FOLDER.rglob("*.flac")} == expected == {path.name for path in clips.paths}


def test_audio_is_the_published_one(clips):
    for path in clips.paths:
        waveform, sample_rate = audio.read(path)
        assert (sample_rate, waveform.ndim) == (48_000, 1)
        assert 2.94 <= len(waveform) / sample_rate <= 5.27
        assert 0.01 < np.abs(waveform).max() <= 1
    assert sum(path.stat().st_size for path in clips.paths) < 2_000_000


def test_licence_names_authors_and_terms():
    text = (FOLDER / "LICENSE").read_text()
    assert all(words in text for words in ("Livingstone", "Russo", "CC-BY-NC-SA-4.0", "e0196391", "without loss"))


def test_quickstart_weights_were_trained_without_these_actors(clips):
    card = pretrained_card("timnet.ravdess_v2")
    assert card.trained_on.endswith("fold01 of timnet-ravdess-emobox under emobox6-v1")
    assert set(clips.column("speaker")) < set(get_protocol("emobox6-v1").split.keywords["groups"][0])
