"""Writing files and folders: whole or not at all, through links, into pipes; and paths as people write them."""

import os
import threading

import pytest

from serzoo.errors import SerzooError
from serzoo.files import local_path, moved_into_place, write_whole


def fill(folder, **texts):
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text)


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_folder_is_replaced_whole(tmp_path):
    fill(tmp_path / "run", old="1", both="2")
    with moved_into_place(tmp_path / "run", replace_folder=True) as part:
        fill(part, new="3", both="4")
    assert contents(tmp_path / "run") == {"new": "3", "both": "4"}
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("failing", [1, 2])
def test_what_cannot_be_replaced_stays_whole(tmp_path, monkeypatch, failing):
    fill(tmp_path / "run", old="1", both="2")
    replace, calls = os.replace, []

    def break_off(source, target):
        calls.append(source)
        if len(calls) == failing:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", break_off)
    with pytest.raises(KeyboardInterrupt), moved_into_place(tmp_path / "run", replace_folder=True) as part:
        fill(part, new="3")
    assert contents(tmp_path / "run") == {"old": "1", "both": "2"}
    assert os.listdir(tmp_path) == ["run"]


def test_a_folder_in_use_is_not_replaced_unasked(tmp_path):
    fill(tmp_path / "run", old="1")
    with pytest.raises(OSError, match="not empty"), moved_into_place(tmp_path / "run") as part:
        fill(part, new="3")
    assert contents(tmp_path / "run") == {"old": "1"}


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "link.md").symlink_to(tmp_path / "pages" / "page.md")
    for text in ("first", "second"):
        write_whole(tmp_path / "link.md", text)
        assert (tmp_path / "pages" / "page.md").read_text() == text
    assert (tmp_path / "link.md").is_symlink()


def test_a_pipe_is_written_to(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, "text")
    reader.join(timeout=10)
    assert read == [b"text"]
    assert pipe.is_fifo()


def test_a_home_folder_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/x") == tmp_path / "x"
    assert local_path("a/~") == local_path(local_path("a/~"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~nobody-of-this-name/x", "'~nobody-of-this-name/x' begins with no user's home folder; write the path out."),
        ("a\0b", r"'a\x00b' is not a path; leave the NUL out."),
    ],
)
def test_what_is_no_path_is_one_line(path, message):
    with pytest.raises(SerzooError) as error:
        local_path(path)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "command",
    [("compare", "~nobody-here/a", "b"), ("keep", "~nobody-here/a", "b"), ("predict", "~nobody-here/a.wav"),
     ("data", "verify", "ravdess", "~nobody-here"), ("report", "~nobody-here"), ("cv", "~nobody-here/a.yaml")],
    ids=lambda command: command[0],
)  # fmt: skip
def test_every_command_says_so(run, command):
    code, _, err = run(*command)
    assert (code, err.count("error: ")) == (2, 1), err
    assert "begins with no user's home folder" in err
