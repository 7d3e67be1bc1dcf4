"""Recordings of one's own: folders and tables, what is read and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

import serzoo.data.sources as sources
from serzoo.data.corpora.corpus import CORPORA
from serzoo.data.manifest import COLUMNS
from serzoo.data.sources import from_csv, from_folders, to_csv
from serzoo.errors import DataError, SerzooWarning, UnknownNameError


def plant(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.fixture
def calls(tmp_path):
    """A folder with three recordings for tables to name."""
    return plant(tmp_path, "a.wav", "b.wav", "sub/c.flac")


def table(folder: Path, text: str | bytes) -> Path:
    path = folder / "calls.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Folders


def test_folders_are_classes(tmp_path):
    root = plant(tmp_path / "mine", "sad/10.wav", "sad/9.WAV", "angry/x/2.flac", "angry/1.mp3", "notes/readme.txt")
    manifest = from_folders(root)
    assert manifest.class_names == ("angry", "sad")
    assert [path.relative_to(root).as_posix() for path in manifest.paths] == [
        "angry/1.mp3", "angry/x/2.flac", "sad/9.WAV", "sad/10.wav",
    ]  # fmt: skip
    assert manifest.corpus == "mine"
    assert set(manifest.frame["speaker"]) == {""}
    assert list(manifest.frame.columns) == list(COLUMNS)


def test_folders_in_a_given_class_order(tmp_path):
    root = plant(tmp_path, "sad/1.wav", "angry/1.wav")
    manifest = from_folders(root, class_names=["sad", "calm", "angry"])
    assert manifest.class_names == ("sad", "calm", "angry")
    assert manifest.targets.tolist() == [0, 2]


def test_same_names_in_different_classes_are_different_recordings(tmp_path):
    assert len(from_folders(plant(tmp_path, "sad/1.wav", "angry/1.wav", "angry/s1/1.wav"))) == 3


def test_file_outside_the_class_folders_is_left_out(tmp_path):
    with pytest.warns(SerzooWarning, match=r"1 audio files .*first: loose\.wav"):
        assert len(from_folders(plant(tmp_path, "sad/1.wav", "angry/1.wav", "loose.wav"))) == 2


@pytest.mark.parametrize(
    ("files", "class_names", "message"),
    [
        ([], None, r"No folder-per-class recordings under .*; expected <class>/<any name>\.wav"),
        (["1.wav", "2.wav"], None, r"No folder-per-class recordings .*2 audio files have other names"),
        (["sad/1.wav"], None, r"at least 2 classes, got \['sad'\]"),
        (["sad/1.wav", "angri/1.wav"], ["sad", "angry"], r"'angri'\. Did you mean 'angry'\?"),
    ],
)
def test_folders_that_are_refused(tmp_path, files, class_names, message):
    with pytest.raises((DataError, UnknownNameError), match=message) as caught:
        from_folders(plant(tmp_path, *files), class_names)
    assert "\n" not in str(caught.value)


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        from_folders(tmp_path / "nowhere")


# Tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_table_is_read(calls, delimiter, start, line_end):
    rows = [("label", "path", "speaker", "mood"), ("sad", "b.wav", "03", "NA"), ("angry", " sub/c.flac", "", "1")]
    text = line_end.join(delimiter.join(row) for row in rows) + line_end + line_end
    manifest = from_csv(table(calls, start + text.encode()))
    assert manifest.class_names == ("angry", "sad")
    assert manifest.corpus == "calls"
    assert manifest.paths == [calls / "b.wav", calls / "sub" / "c.flac"]
    assert list(manifest.frame.columns) == [*COLUMNS, "mood"]
    assert manifest.frame["speaker"].tolist() == ["03", ""]
    assert manifest.frame["mood"].tolist() == ["NA", "1"]
    assert set(manifest.frame["session"]) == {""}


def test_quotes_keep_commas_and_line_ends(calls):
    plant(calls, "d, 1.wav")
    manifest = from_csv(table(calls, 'path,label,text\n"d, 1.wav",sad,"yes,\nno"\na.wav,angry,hm\n'))
    assert manifest.paths == [calls / "d, 1.wav", calls / "a.wav"]
    assert manifest.frame["text"].tolist() == ["yes,\nno", "hm"]


def test_table_keeps_its_order_and_takes_root_and_absolute_paths(calls, tmp_path_factory):
    elsewhere = table(tmp_path_factory.mktemp("elsewhere"), f"path,label\n{calls / 'b.wav'},sad\na.wav,angry\n")
    manifest = from_csv(elsewhere, root=calls, class_names=("sad", "calm", "angry"))
    assert manifest.paths == [calls / "b.wav", calls / "a.wav"]
    assert manifest.targets.tolist() == [0, 2]


def test_one_class_is_enough_where_the_classes_are_given(calls):
    manifest = from_csv(table(calls, "path,label\na.wav,sad\n"), class_names=("angry", "sad"))
    assert manifest.targets.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds nothing; it needs a header"),
        ("path,label\n\n , \n", "holds only a header"),
        ("a.wav,sad\nb.wav,angry\n", r"has no column 'path'\. Its header names: a\.wav, sad"),
        ("Path,label\na.wav,sad\n", r"has no column 'path'\. Did you mean 'path' by 'Path'\?"),
        ("path,labels\na.wav,sad\n", r"has no column 'label'\. Did you mean 'label' by 'labels'\?"),
        ("path|label\na.wav|sad\n", r"has no column 'path'\. .*path\|label"),
        ("path,label,label\na.wav,sad,sad\n", "has the column 'label' twice"),
        ("path,label\na.wav,sad,angry\n", "line 2 has 3 values, its header 2"),
        ("path,label\na.wav,sad\nb.wav\n", "line 3 has 1 values, its header 2"),
        ('path,label\n"a.wav,sad\n', "is not valid CSV"),
        ("path,label\na.wav,sad\nb.wav,sad\n", "has the one class 'sad'; a classifier needs at least 2"),
        ("path,label\na.wav,sad\nb.wav, \nsub/c.flac,\n", r"2 of 3 rows have no label \(first: line 3, 'b\.wav'\)"),
        ("path,label\na.wav,sad\n,angry\n", r"1 of 2 rows have no path \(first: line 3, ''\)"),
        (
            "path,label\na.wav,sad\nx.wav,angry\ny.wav,sad\n",
            r"2 of 3 rows have a path that is no file in .*line 3, 'x\.wav'",
        ),
        ("path,label\nsub,sad\na.wav,angry\n", "1 of 2 rows have a path that is no file in"),
        ("path,label\na.wav,sad\nsub/../a.wav,angry\n", r"1 of 2 rows have a path that an earlier row has .*line 3"),
        ("path,label\na.wav,tr\u00fcb\n".encode("latin-1"), r"is not UTF-8 \(byte 0xfc at 19\); save it as UTF-8"),
    ],
)
def test_tables_that_are_refused(calls, text, message):
    with pytest.raises(DataError, match=message) as caught:
        from_csv(table(calls, text))
    assert "\n" not in str(caught.value)
    assert "calls.csv" in str(caught.value)


@pytest.mark.parametrize(("name", "message"), [("nowhere.csv", "does not exist"), ("sub", "is a folder")])
def test_table_that_is_no_file_is_refused(calls, name, message):
    with pytest.raises(DataError, match=f"Table .*{name} {message}; give a CSV file"):
        from_csv(calls / name)


def test_missing_root_is_refused(calls):
    with pytest.raises(DataError, match="nowhere does not exist"):
        from_csv(table(calls, "path,label\na.wav,sad\nb.wav,angry\n"), root=calls / "nowhere")


def test_label_that_is_no_class_is_refused(calls):
    path = table(calls, "path,label\na.wav,sad\nb.wav,angri\n")
    with pytest.raises(UnknownNameError, match=r"label in calls 'angri'\. Did you mean 'angry'\?"):
        from_csv(path, class_names=("angry", "sad"))


@pytest.mark.parametrize("column", ["Speaker", "speaker_id", "speakers"])
def test_nearly_right_optional_column_is_mentioned(calls, column):
    path = table(calls, f"path,label,{column}\na.wav,sad,1\nb.wav,angry,2\n")
    with pytest.warns(SerzooWarning, match=f"'{column}' is kept but not used; call it 'speaker'"):
        manifest = from_csv(path)
    assert manifest.frame[column].tolist() == ["1", "2"]


# Round trip


def test_table_of_a_corpus_reads_back_as_it_was(tmp_path):
    root = plant(tmp_path / "emodb", *(f"wav/{speaker}a01{code}.wav" for speaker in ("03", "08") for code in "WLEAFTN"))
    manifest = CORPORA.get("emodb").load(root)
    to_csv(manifest, tmp_path / "emodb.csv")
    read = from_csv(tmp_path / "emodb.csv")
    assert_frame_equal(read.frame, manifest.frame)
    assert (read.class_names, read.corpus) == (manifest.class_names, manifest.corpus)


def test_order_and_further_columns_survive(calls):
    text = 'path,label,speaker,mood\na.wav,sad,03,"x;y"\nsub/c.flac,sad,04,\nb.wav,angry,03," z\t"\n'
    manifest = from_csv(table(calls, text), class_names=("sad", "angry")).select(np.array([2, 0, 1]))
    to_csv(manifest, calls / "out.csv")
    assert_frame_equal(from_csv(calls / "out.csv", class_names=("sad", "angry")).frame, manifest.frame)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(str.strip), min_size=2, max_size=2))
def test_any_text_survives(tmp_path_factory, texts):
    folder = plant(tmp_path_factory.mktemp("any"), "a.wav", "b.wav")
    manifest = from_csv(table(folder, "path,label\na.wav,sad\nb.wav,angry\n"))
    manifest.frame["text"] = texts
    to_csv(manifest, folder / "out.csv")
    assert from_csv(folder / "out.csv").frame["text"].tolist() == texts


def test_relative_manifest_paths_are_written_for_another_folder(calls, monkeypatch):
    plant(calls / "angry", "1.wav")
    plant(calls / "sad", "1.wav")
    monkeypatch.chdir(calls)
    with pytest.warns(SerzooWarning, match="2 audio files"):
        manifest = from_folders(".")
    (calls / "lists").mkdir()
    to_csv(manifest, "lists/out.csv")
    to_csv(manifest, "out.csv")
    assert str(calls / "angry" / "1.wav") in (calls / "lists" / "out.csv").read_text()
    assert "\nangry/1.wav,angry" in (calls / "out.csv").read_text()
    assert len(from_csv(calls / "lists" / "out.csv")) == 3


def test_writing_replaces_at_once_and_leaves_nothing_behind(calls):
    manifest = from_csv(table(calls, "path,label\na.wav,sad\nb.wav,angry\n"))
    to_csv(manifest, calls / "calls.csv")
    assert sorted(path.name for path in calls.iterdir()) == ["a.wav", "b.wav", "calls.csv", "sub"]
    with pytest.raises(DataError, match=r"a\.wav/out\.csv cannot be written \("):
        to_csv(manifest, calls / "a.wav" / "out.csv")


# By name


def test_both_are_registered(calls):
    path = table(calls, "path,label,speaker\na.wav,sad,1\nb.wav,angry,2\n")
    assert CORPORA.get("csv").load(path).frame.equals(from_csv(path).frame)
    root = plant(calls / "classes", "sad/1.wav", "angry/1.wav")
    assert CORPORA.get("folder").load(root).frame.equals(from_folders(root).frame)
    assert sources.ClassFolders.class_counts == {}
