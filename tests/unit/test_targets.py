"""What is to be recognised: emotions, or else speakers and words to pretrain on; and ratings beside the emotion."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serzoo.data import load_corpus
from serzoo.data.manifest import COLUMNS, Manifest, rating
from serzoo.data.protocols import get_protocol
from serzoo.data.sources import from_csv, to_csv
from serzoo.data.verify import verify
from serzoo.errors import DataError, SerzooWarning, UnknownNameError


def manifest_of(n: int = 6, **columns: list[str]) -> Manifest:
    """As many recordings, angry and sad in turn; columns that are not given are unknown."""
    frame = pd.DataFrame({"path": [f"{index}.wav" for index in range(n)], "label": (["angry", "sad"] * n)[:n]})
    frame = frame.assign(**columns)
    return Manifest(frame.reindex(columns=list(dict.fromkeys((*COLUMNS, *frame))), fill_value=""), ("angry", "sad"))


# Targets


def test_any_column_can_be_the_label():
    manifest = manifest_of(speaker=["s10", "s2", "s2", "s10", "s1", "s1"], mood=["b", "a", "b", "a", "a", "b"])
    speakers = manifest.with_target("speaker")
    assert speakers.class_names == ("s1", "s2", "s10")
    assert speakers.targets.tolist() == [2, 1, 1, 2, 0, 0]
    assert speakers.paths == manifest.paths
    assert speakers.corpus == manifest.corpus
    assert manifest.with_target("mood").targets.tolist() == [1, 0, 1, 0, 0, 1]
    assert manifest.class_names == ("angry", "sad")
    assert manifest.frame["label"].tolist() == ["angry", "sad"] * 3


def test_the_label_is_the_manifest_itself():
    manifest = manifest_of()
    assert manifest.with_target("label") is manifest


def test_values_that_count_alike_are_in_a_fixed_order():
    for names in (["1", "01"], ["01", "1"]):
        assert manifest_of(2, speaker=names).with_target("speaker").class_names == ("01", "1")


@given(speakers=st.lists(st.sampled_from(["a", "b", "c10", "c9"]), min_size=10, max_size=40), seed=st.integers(0, 99))
def test_a_random_protocol_cuts_every_task_at_the_same_recordings(speakers, seed):
    manifest = manifest_of(len(speakers), speaker=[*speakers[:-2], "a", "b"])
    task = manifest.with_target("speaker")
    assert [task.class_names[target] for target in task.targets] == manifest.frame["speaker"].tolist()
    for name in (f"random70-20-10-seed{seed}", f"random5-seed{seed}"):
        for mine, other in zip(get_protocol(name).folds(manifest), get_protocol(name).folds(task), strict=True):
            assert mine.parts().keys() == other.parts().keys()
            for part, indices in mine.parts().items():
                np.testing.assert_array_equal(indices, other.parts()[part])


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        ("speakr", UnknownNameError, r"Unknown target of custom 'speakr'\. Did you mean 'speaker'\? Known: .*text\.$"),
        ("path", UnknownNameError, "Unknown target of custom 'path'"),
        ("text", DataError, "6 of 6 recordings of custom have no text; fill that column of the manifest, leave"),
        ("speaker", DataError, "2 of 6 recordings of custom have no speaker; fill"),
        (
            "gender",
            DataError,
            "All 6 recordings of custom have the gender 'male', a single class; add .*or choose another",
        ),
    ],
)
def test_targets_that_are_refused(column, error, message):
    manifest = manifest_of(speaker=["a", "b", "", "a", "", "b"], gender=["male"] * 6)
    with pytest.raises(error, match=message) as caught:
        manifest.with_target(column)
    assert "\n" not in str(caught.value)


# Ratings


def test_ratings_above_a_half_are_high():
    ratings = {"valence": ["0", "0.5", "0.500001", "1", "", "1e-1"], "dominance": ["", "", "", "", "", "0.9"]}
    nan = np.nan
    dimensions = manifest_of(**ratings).dimensions
    assert (dimensions.dtype, dimensions.shape) == (np.float32, (6, 3))
    np.testing.assert_array_equal(dimensions[:, 0], [0, 0, 1, 1, nan, 0])
    np.testing.assert_array_equal(dimensions[:, 1], [nan] * 6)
    np.testing.assert_array_equal(dimensions[:, 2], [nan] * 5 + [1])


@pytest.mark.parametrize("columns", [{}, {"valence": [""] * 6}, dict.fromkeys(("valence", "arousal"), [""] * 6)])
def test_no_rating_means_no_dimensions(columns):
    assert manifest_of(**columns).dimensions is None


@pytest.mark.parametrize("text", ["1.01", "-0.1", "nan", "inf", "high", "0,5", " "])
def test_ratings_out_of_range_name_the_recording(text):
    with pytest.raises(DataError, match=rf"3\.wav: the arousal is '{text}'; give a rating in 0\.\.1"):
        _ = manifest_of(arousal=["0.1", "", "0.2", text, "", "0.3"]).dimensions


@given(st.integers(0, 10**5))
def test_every_share_is_a_rating(share):
    assert rating(f"{share / 10**5:g}") == share / 10**5


def test_an_unknown_rating_is_nan():
    assert np.isnan(rating(""))


def test_a_table_may_have_ratings(tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).touch()
    table = tmp_path / "rated.csv"
    table.write_text("path,label,arousal,valence\na.wav,sad,0.2,\nb.wav,angry,0.75,0.5\n")
    manifest = from_csv(table)
    np.testing.assert_array_equal(manifest.dimensions, [[np.nan, 0, np.nan], [0, 1, np.nan]])
    to_csv(manifest, tmp_path / "again.csv")
    np.testing.assert_array_equal(load_corpus("csv", tmp_path / "again.csv").dimensions, manifest.dimensions)
    table.write_text("path,label,arousal,valence\na.wav,sad,0.2,\nb.wav,angry,4.0,0.5\n")
    with pytest.raises(DataError, match=r"rated\.csv line 3: the arousal is '4\.0'; give a rating in 0\.\.1"):
        from_csv(table)


def test_a_misspelt_column_of_ratings_is_mentioned(tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).touch()
    (tmp_path / "rated.csv").write_text("path,label,Arousal\na.wav,sad,0.2\nb.wav,angry,0.75\n")
    with pytest.warns(SerzooWarning, match="'Arousal' is kept but not used; call it 'arousal'"):
        assert from_csv(tmp_path / "rated.csv").dimensions is None


# Real recordings


@pytest.mark.recordings
def test_spoken_digits_are_tasks_of_words_and_of_speakers(fsdd_root):
    manifest = load_corpus("fsdd", fsdd_root)
    assert len(manifest) == 900
    assert manifest.class_names == tuple("0123456789")
    words, speakers = manifest.with_target("text"), manifest.with_target("speaker")
    assert np.bincount(words.targets).tolist() == [90] * 10
    assert np.array_equal(words.targets, manifest.targets)
    assert speakers.class_names == ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    assert np.bincount(speakers.targets).tolist() == [150] * 6
    with pytest.raises(DataError, match="All 900 recordings of fsdd have the gender 'male'"):
        manifest.with_target("gender")


@pytest.mark.recordings
def test_part_of_the_spoken_digits_is_usable_and_said_to_be_part(fsdd_root):
    report = verify("fsdd", fsdd_root)
    assert report.ok
    assert dict(report.sample_rates) == {8000: 900}
    assert {problem.kind for problem in report.problems if problem.severity == "warning"} >= {
        "class count", "speaker count",
    }  # fmt: skip
