"""Words cut out of a made-up LibriSpeech: which, where, and what is refused."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from serzoo.cli.app import app
from serzoo.data import load_corpus
from serzoo.data.words import cut_words
from serzoo.errors import AudioError, DataError, SerzooError, SerzooWarning

RATE = 16_000
UTTERANCES = {"103-1240-0000": 1.0, "103-1241-0001": 0.5, "19-198-0003": 0.75}
"""Seconds of each utterance."""

ROWS = [
    ("103-1240-0000", "", "0.0", "0.05"),
    ("103-1240-0000", "THE", "0.05", "0.2"),
    ("103-1240-0000", "BROOK", "0.2", "0.50003"),
    ("103-1240-0000", "the", "0.75", "1.0"),
    ("103-1241-0001", "AND", "0.1", "0.3"),
    ("103-1241-0001", "it's", "0.3", "0.4"),
    ("19-198-0003", "and", "0.5", "0.75"),
    ("19-198-0003", "BROOK", "0.0", "0.25"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two readers, three utterances of noise."""
    folder = tmp_path_factory.mktemp("LibriSpeech")
    (folder / "SPEAKERS.TXT").write_text("103 | F | train-clean-100 | 25 | Anna\n19 | M | train-clean-100 | 25 | Jo\n")
    rng = np.random.default_rng(0)
    for name, seconds in UTTERANCES.items():
        path = folder / "train-clean-100" / name.split("-")[0] / name.split("-")[1] / f"{name}.flac"
        path.parent.mkdir(parents=True)
        soundfile.write(path, rng.integers(-(2**15), 2**15, round(RATE * seconds), np.int16), RATE, subtype="PCM_16")
    return folder


def table(folder: Path, rows: list[tuple[str, ...]] = ROWS) -> Path:
    path = folder / "alignments.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("utterance", "word", "start", "end"), *rows])
    return path


def samples(root: Path, utterance: str) -> np.ndarray:
    return soundfile.read(next(root.rglob(f"{utterance}.flac")), dtype="int16")[0]


def test_words_are_cut_at_exact_samples_and_listed(root, tmp_path):
    written = cut_words(root, table(tmp_path), tmp_path / "words", n_words=3)
    assert written == tmp_path / "words" / "words.csv"
    manifest = load_corpus("csv", written)
    assert manifest.class_names == ("and", "brook", "the")
    rows = manifest.frame[["label", "text", "speaker", "gender", "session"]].to_numpy().tolist()
    found = dict(zip([path.relative_to(tmp_path / "words").as_posix() for path in manifest.paths], rows, strict=True))
    assert found == {
        "103/1241/103-1241-0001-000.flac": ["and", "and", "103", "female", "1241"],
        "19/198/19-198-0003-001.flac": ["and", "and", "19", "male", "198"],
        "103/1240/103-1240-0000-001.flac": ["brook", "brook", "103", "female", "1240"],
        "19/198/19-198-0003-000.flac": ["brook", "brook", "19", "male", "198"],
        "103/1240/103-1240-0000-000.flac": ["the", "the", "103", "female", "1240"],
        "103/1240/103-1240-0000-002.flac": ["the", "the", "103", "female", "1240"],
    }
    for name, start, stop in (("103-1240-0000-001", 3200, 8000), ("103-1240-0000-002", 12_000, 16_000)):
        info = soundfile.info(tmp_path / "words" / "103" / "1240" / f"{name}.flac")
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", RATE, 1)
        word = soundfile.read(tmp_path / "words" / "103" / "1240" / f"{name}.flac", dtype="int16")[0]
        np.testing.assert_array_equal(word, samples(root, "103-1240-0000")[start:stop])
    assert len(list((tmp_path / "words").rglob("*.flac"))) == 6


def test_words_are_tasks_of_speakers_too(root, tmp_path):
    manifest = load_corpus("csv", cut_words(root, table(tmp_path), tmp_path / "words", n_words=3))
    assert manifest.with_target("speaker").class_names == ("19", "103")
    assert manifest.with_target("text").targets.tolist() == manifest.targets.tolist()


@pytest.mark.parametrize(("n_words", "words"), [(2, {"and", "brook"}), (3, {"and", "brook", "the"})])
def test_of_equally_frequent_words_the_alphabetically_first_are_taken(root, tmp_path, n_words, words):
    written = cut_words(root, table(tmp_path), tmp_path / "words", n_words=n_words)
    assert set(load_corpus("csv", written).class_names) == words


def test_fewer_words_than_asked_for_are_all_cut_with_a_warning(root, tmp_path):
    with pytest.warns(SerzooWarning, match="has 4 different words where 1000 are asked for; all of them are cut"):
        written = cut_words(root, table(tmp_path), tmp_path / "words")
    assert load_corpus("csv", written).class_names == ("and", "brook", "it's", "the")


def test_a_subset_will_do_and_rows_come_in_any_order(root, tmp_path):
    first = cut_words(root, table(tmp_path), tmp_path / "first", n_words=3)
    second = cut_words(root / "train-clean-100", table(tmp_path, ROWS[::-1]), tmp_path / "second", n_words=3)
    assert first.read_bytes() == second.read_bytes()


def test_an_empty_target_is_filled_and_a_full_one_kept(root, tmp_path):
    target = tmp_path / "words"
    target.mkdir()
    before = cut_words(root, table(tmp_path), target, n_words=3).read_bytes()
    with pytest.raises(DataError, match=r"words holds the words of words\.csv already; remove it or name another fold"):
        cut_words(root, table(tmp_path, ROWS[:6]), target, n_words=2)
    assert (target / "words.csv").read_bytes() == before
    (tmp_path / "file").touch()
    for occupied in (root, tmp_path / "file"):
        with pytest.raises(DataError, match="is not a new or empty folder"):
            cut_words(root, table(tmp_path), occupied, n_words=3)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cuts_that_touch_put_the_utterance_together_again(root, tmp_path_factory, data):
    """Words from end to end of an utterance, drawn of two: their samples one after another are the recording's."""
    folder = tmp_path_factory.mktemp("cuts")
    n_samples = round(RATE * UTTERANCES["103-1240-0000"])
    inner = data.draw(st.sets(st.integers(1, n_samples - 1), min_size=1, max_size=8))
    borders = [0, *sorted(inner), n_samples]
    words = ["a", "b", *data.draw(st.lists(st.sampled_from("ab"), min_size=len(borders), max_size=len(borders)))]
    rows = [
        ("103-1240-0000", word, str(start / RATE), str(stop / RATE))
        for word, start, stop in zip(words, borders, borders[1:], strict=False)
    ]
    manifest = load_corpus("csv", cut_words(root, table(folder, rows), folder / "words", n_words=2))
    assert Counter(manifest.frame["label"]) == Counter(word for _, word, _, _ in rows)
    pieces = [soundfile.read(path, dtype="int16")[0] for path in sorted(manifest.paths)]
    np.testing.assert_array_equal(np.concatenate(pieces), samples(root, "103-1240-0000"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("103-1240-0000", "the", "0.5", "0.5")], r"line 10: 'the' runs from '0\.5' to '0\.5'; give seconds .* start"),
        ([("103-1240-0000", "the", "0.6", "0.5")], r"line 10: 'the' runs from '0\.6' to '0\.5'"),
        ([("103-1240-0000", "the", "-0.1", "0.5")], r"line 10: 'the' runs from '-0\.1'"),
        ([("103-1240-0000", "the", "0.6", "soon")], r"line 10: 'the' runs from '0\.6' to 'soon'"),
        ([("103-1240-0000", "the", "nan", "0.5")], "line 10: 'the' runs from 'nan'"),
        ([("103-1240-0000", "the", "0.5", "inf")], r"line 10: 'the' runs from '0\.5' to 'inf'"),
        ([("103-1240-0000", "the", "0.9", "1.0001")], r"line 10: 'the' ends at 1\.0001 s, its recording 103-.* at 1 s"),
        ([("103-1240-0000", "the", "0.9", "0.90001")], r"line 10: 'the' holds no sample of 103-1240-0000\.flac at 16"),
        ([("103-1240-0000", "and", "0.05", "0.1")], r"lines 3 and 10: two words of 103-1240-0000 start at 0\.05 s"),
        ([("103-1240-0000", "and", "0.05")], "line 10 has 3 values, its header 4"),
        (
            [("26-495-0000", "and", "0", "1"), ("", "the", "0", "1")],
            r"2 of 5 utterances have no recording in .* \(first: line 10, '26-495-0000'\); give the folder",
        ),
    ],
)
def test_alignments_that_are_refused_leave_nothing(root, tmp_path, rows, message):
    alignments = table(tmp_path, [*ROWS, *rows])
    with pytest.raises(DataError, match=message) as caught:
        cut_words(root, alignments, tmp_path / "words", n_words=3)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [alignments]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("utterance,word,begin,end\na,b,0,1\n", "has no column 'start'. Its header names: utterance, word, begin, end"),
        ("utterance,word,start,end\n", "only a header; it needs a header with utterance, word, start and end, and"),
        ("utterance,word,start,end\nu,the,0,1\nu,The,1,2\n", "has the one word 'the'; a task needs at least 2"),
        ("utterance,word,start,end\nu,,0,1\n", "has no word; a task needs at least 2"),
    ],
)
def test_tables_that_are_refused(root, tmp_path, text, message):
    (tmp_path / "alignments.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        cut_words(root, tmp_path / "alignments.csv", tmp_path / "words")


def test_a_missing_table_and_too_few_words_are_refused(root, tmp_path):
    with pytest.raises(DataError, match=r"no\.csv does not exist; give a CSV file with the columns utterance, word, s"):
        cut_words(root, tmp_path / "no.csv", tmp_path / "words")
    with pytest.raises(DataError, match="number of words is 1; a task needs at least 2"):
        cut_words(root, table(tmp_path), tmp_path / "words", n_words=1)


def test_a_broken_recording_leaves_nothing(root, tmp_path):
    broken = tmp_path / "LibriSpeech" / "19" / "198" / "19-198-0003.flac"
    broken.parent.mkdir(parents=True)
    whole = next(root.rglob("19-198-0003.flac")).read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    alignments = table(tmp_path, ROWS[-2:])
    with (
        pytest.warns(SerzooWarning, match=r"no SPEAKERS\.TXT"),
        pytest.raises(AudioError, match=r"19-198-0003\.flac"),
    ):
        cut_words(tmp_path / "LibriSpeech", alignments, tmp_path / "words", n_words=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LibriSpeech", "alignments.csv"]


def test_the_command_cuts_and_says_where(root, tmp_path):
    arguments = ["data", "words", str(root), str(table(tmp_path)), str(tmp_path / "words"), "--words", "2"]
    done = CliRunner().invoke(app, [*arguments, "--quiet"])
    assert done.exit_code == 0
    assert done.stdout.strip() == str(tmp_path / "words" / "words.csv")
    assert len(load_corpus("csv", done.stdout.strip())) == 4
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, SerzooError)
