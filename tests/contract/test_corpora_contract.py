"""What every corpus must satisfy. Each is found by its registration and its list in tests/fixtures/corpora."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serzoo.data.corpora.corpus import CORPORA, Corpus, MisnamedFileError, Recording
from serzoo.errors import DataError, SerzooWarning
from serzoo.labels import CANONICAL_LABELS, FEMALE, MALE

LISTS = Path(__file__).parents[1] / "fixtures" / "corpora"
PUBLISHED = [name for name in CORPORA if (LISTS / f"{name}.txt").exists()]
SKIPPED, MISNAMED = "-", "!"


@dataclass(frozen=True)
class Line:
    """One line of a corpus's list: a path and what it must be read as."""

    path: str
    label: str
    values: tuple[str, ...]


def read_list(corpus: str) -> list[Line]:
    lines = (LISTS / f"{corpus}.txt").read_text(encoding="utf-8").splitlines()
    fields = (line.split("\t") for line in lines if not line.startswith("#"))
    return [Line(path, label, (*rest, *[""] * (5 - len(rest)))) for path, label, *rest in fields]


@cache
def prepared(name: str) -> Corpus:
    """The corpus, with the made-up label files beside its list if it needs any."""
    corpus, labels = CORPORA.get(name), LISTS / name
    return corpus.prepare(labels) if labels.is_dir() else corpus


def fields(recording: Recording) -> tuple[str, ...]:
    return recording.speaker, recording.gender, recording.text, recording.session, recording.intensity


def speakers(corpus: Corpus, name: str) -> set[str]:
    """All speakers: published, of the corpus it is a selection of, or those in its list."""
    published = corpus.speaker_counts or CORPORA.get(name.split("-")[0]).speaker_counts
    return set(published) or {line.values[0] for line in read_list(name) if line.label not in (SKIPPED, MISNAMED)}


LINES = [pytest.param(name, line, id=f"{name}-{line.path}") for name in PUBLISHED for line in read_list(name)]


def test_the_eight_corpora_are_there():
    assert {"casia", "cremad", "emodb", "emovo", "iemocap", "ravdess", "savee", "tess"} <= set(PUBLISHED)
    assert {"fsdd", "iemocap-improvised", "nemo"} <= set(PUBLISHED)
    assert {name for name in CORPORA if CORPORA.get(name).class_counts} <= set(PUBLISHED)


@pytest.mark.parametrize(("name", "line"), LINES)
def test_file_name_is_read_as_listed(name, line):
    corpus, path = prepared(name), PurePosixPath(line.path)
    if line.label == MISNAMED:
        with pytest.raises(MisnamedFileError, match=r"^[^\n]+$"):
            corpus.parse(path)
    elif line.label == SKIPPED:
        assert corpus.parse(path) is None
    else:
        recording = corpus.parse(path)
        assert (recording.label, *fields(recording)) == (line.label, *line.values)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_facts_agree_with_each_other(name):
    corpus = CORPORA.get(name)
    assert corpus.name == name
    assert set(corpus.class_counts) in (set(), set(corpus.class_names))
    assert corpus.classes_are != "emotions" or set(corpus.class_names) <= set(CANONICAL_LABELS)
    assert sum(corpus.speaker_counts.values()) in (0, sum(corpus.class_counts.values()))
    assert sum(corpus.channel_counts.values()) in (0, sum(corpus.class_counts.values()))
    assert all(rate > 0 for rate in corpus.sample_rates)
    for text in (corpus.title, corpus.classes_are, corpus.licence, corpus.source, corpus.layout):
        assert text
        assert "\n" not in text
    assert corpus.source.startswith("http")


@pytest.mark.parametrize("name", PUBLISHED)
def test_list_covers_the_grammar(name):
    lines = read_list(name)
    recordings = [line for line in lines if line.label not in (SKIPPED, MISNAMED)]
    corpus = CORPORA.get(name)
    assert {line.label for line in recordings} == set(corpus.class_names)
    assert {line.values[0] for line in recordings} <= speakers(corpus, name)
    assert {line.values[1] for line in recordings} <= {MALE, FEMALE}
    assert any(line.label == MISNAMED for line in lines)
    assert {Path(line.path).suffix.lower() for line in recordings} == {".wav", ".flac"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_tree_on_disk_becomes_an_ordered_manifest(name, tmp_path):
    lines = read_list(name)
    for path in (LISTS / name).rglob("*.txt"):
        copy = tmp_path / path.relative_to(LISTS / name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    for line in lines:
        path = tmp_path / line.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.with_name(f"._{path.name}").touch()

    with pytest.warns(SerzooWarning, match=f"{sum(line.label == MISNAMED for line in lines)} audio files"):
        manifest = CORPORA.get(name).load(tmp_path)

    expected = {str(tmp_path / line.path): line for line in lines if line.label not in (SKIPPED, MISNAMED)}
    assert set(manifest.frame["path"]) == set(expected)
    for row in manifest.frame.itertuples():
        line = expected[row.path]
        assert (row.label, row.speaker, row.gender, row.text, row.session, row.intensity) == (line.label, *line.values)
    assert manifest.corpus == name
    assert manifest.class_names == CORPORA.get(name).class_names
    assert list(manifest.targets) == sorted(manifest.targets)


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_and_empty_folders_are_explained(name, tmp_path):
    with pytest.raises(DataError, match=r"^Folder .*nowhere does not exist; give the folder[^\n]*$"):
        CORPORA.get(name).load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"^[^\n]*(No .* recordings under|holds no folder Session1)[^\n]*$"):
        CORPORA.get(name).load(tmp_path)


@pytest.mark.parametrize("name", PUBLISHED)
@given(text=st.text(max_size=40))
def test_any_string_is_parsed_or_refused(name, text):
    parses_or_refuses(name, text)


@pytest.mark.parametrize("name", PUBLISHED)
@given(data=st.data())
def test_near_misses_are_parsed_or_refused(name, data):
    path = data.draw(st.sampled_from([line.path for line in read_list(name)]))
    position = data.draw(st.integers(0, len(path)))
    n_removed = data.draw(st.integers(0, 2))
    inserted = data.draw(st.text(st.sampled_from("0159aAfFmMxX-_/.²٣ſ"), max_size=2))
    parses_or_refuses(name, path[:position] + inserted + path[position + n_removed :])


def parses_or_refuses(name: str, text: str) -> None:
    corpus = prepared(name)
    try:
        recording = corpus.parse(PurePosixPath(text))
    except MisnamedFileError:
        return
    if recording is not None:
        assert recording.label in corpus.class_names
        assert recording.speaker in speakers(corpus, name)
        assert recording.gender in (MALE, FEMALE)
