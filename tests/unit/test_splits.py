from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from serzoo.data import load_corpus
from serzoo.data.manifest import COLUMNS, Manifest
from serzoo.data.protocols import INNER, Protocol, get_protocol, protocol_names
from serzoo.data.splits import Fold, cross_corpus, with_validation
from serzoo.errors import DataError, SerzooWarning, UnknownNameError

UNKNOWN = dict.fromkeys(COLUMNS, "")
RAVDESS_ACTORS = [f"{actor:02d}" for actor in range(1, 25)]
IEMOCAP_SPEAKERS = [f"Ses0{session}_{gender}" for session in range(1, 6) for gender in "FM"]


def manifest_of(speakers: list[str], labels: tuple[str, ...] = ("angry", "sad"), corpus: str = "custom") -> Manifest:
    """Every speaker says two texts with every label; sessions are the part of the name before ``_``."""
    rows = [
        {
            "path": f"{label}/{speaker}-{text}.wav",
            "label": label,
            "speaker": speaker,
            "text": text,
            "session": speaker.split("_")[0] if "_" in speaker else "",
        }
        for label in labels
        for speaker in speakers
        for text in ("t1", "t2")
    ]
    return Manifest(pd.DataFrame([UNKNOWN | row for row in rows]), labels, corpus)


RAVDESS = manifest_of(RAVDESS_ACTORS, ("angry", "calm", "fear", "happy", "neutral", "sad"), "ravdess")
IEMOCAP = manifest_of(IEMOCAP_SPEAKERS, ("angry", "happy", "neutral", "sad"), "iemocap")
PROTOCOLS = {
    "random10-seed46-v1": RAVDESS,
    "random5-seed0-v1": RAVDESS,
    "random70-20-10-seed3-v1": RAVDESS,
    "speaker70-20-10-seed3-v1": RAVDESS,
    "actor70-20-10-v1": RAVDESS,
    "loso-v1": RAVDESS,
    "emobox6-v1": RAVDESS,
    "luna5-v1": RAVDESS,
    "loso8-1-1-v1": IEMOCAP,
    "iemocap5-sessions-v1": IEMOCAP,
    "cross-shared5-v1": cross_corpus(RAVDESS, IEMOCAP),
    "cross-pooled10-seed3-v1": cross_corpus(RAVDESS, IEMOCAP),
}
ONE_SPLIT = ("random70-20-10", "speaker70-20-10", "actor70-20-10", "cross-shared5")


def speakers_of(manifest: Manifest, indices: np.ndarray) -> list[str]:
    return sorted(set(manifest.column("speaker")[indices]))


def test_every_family_is_tried_below() -> None:
    families = [name for name in protocol_names() if not name.startswith(INNER)]
    assert {name.replace("K", "10").replace("S", "46") for name in families} == {
        name.replace("seed0", "seed46").replace("seed3", "seed46") for name in PROTOCOLS
    } - {"random5-seed46-v1"}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_parts_are_disjoint_and_cover_the_manifest(name: str) -> None:
    manifest = PROTOCOLS[name]
    folds = get_protocol(name).folds(manifest)
    for fold in folds:
        everything = np.concatenate(list(fold.parts().values()))
        assert sorted(everything) == list(range(len(manifest)))
        assert all((np.diff(indices) > 0).all() for indices in fold.parts().values())
    if not name.startswith(ONE_SPLIT):
        assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(manifest)))
    assert len({fold.name for fold in folds}) == len(folds)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_speaker_independent_means_no_shared_speaker(name: str) -> None:
    manifest, protocol = PROTOCOLS[name], get_protocol(name)
    disjoint = all(
        not set(speakers_of(manifest, fold.train)) & set(speakers_of(manifest, indices))
        for fold in protocol.folds(manifest)
        for part, indices in fold.parts().items()
        if part != "train"
    )
    assert disjoint == protocol.speaker_independent


@pytest.mark.parametrize("name", PROTOCOLS)
def test_folds_are_the_same_every_time(name: str) -> None:
    first, second = (get_protocol(name).folds(PROTOCOLS[name]) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        for part, indices in one.parts().items():
            np.testing.assert_array_equal(indices, other.parts()[part])


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if get_protocol(name).speaker_independent])
def test_speaker_folds_do_not_depend_on_the_order_of_the_manifest(name: str) -> None:
    manifest = PROTOCOLS[name]
    shuffled = manifest.select(np.random.default_rng(0).permutation(len(manifest)))
    for one, other in zip(get_protocol(name).folds(manifest), get_protocol(name).folds(shuffled), strict=True):
        assert one.name == other.name
        for part, indices in one.parts().items():
            assert sorted(manifest.column("path")[indices]) == sorted(shuffled.column("path")[other.parts()[part]])


@pytest.mark.parametrize("n_folds", [5, 10])
@pytest.mark.parametrize("seed", [1, 46])
def test_random_folds_are_the_papers_kfold(n_folds: int, seed: int) -> None:
    folds = get_protocol(f"random{n_folds}-seed{seed}-v1").folds(RAVDESS)
    expected = KFold(n_splits=n_folds, shuffle=True, random_state=seed).split(np.zeros((len(RAVDESS), 1)))
    for fold, (train, test) in zip(folds, expected, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.test, test)


def test_random10_seed46_on_20_recordings() -> None:
    """Written down, so that a change of scikit-learn or NumPy shows."""
    folds = get_protocol("random10-seed46-v1").folds(manifest_of(["a", "b", "c", "d", "e"]))
    assert [fold.test.tolist() for fold in folds] == [
        [1, 3],
        [4, 10],
        [12, 19],
        [13, 15],
        [9, 14],
        [6, 7],
        [0, 18],
        [2, 17],
        [11, 16],
        [5, 8],
    ]


@pytest.mark.parametrize(
    ("name", "test_actors"),
    [
        (
            "emobox6-v1",
            ["01 11 20 21", "04 10 12 14", "08 09 19 23", "03 05 07 24", "02 15 16 18", "06 13 17 22"],
        ),
        (
            "luna5-v1",
            ["02 05 14 15 16", "03 06 07 13 18", "10 11 12 19 20", "08 17 21 23 24", "01 04 09 22"],
        ),
        ("actor70-20-10-v1", ["23 24"]),
    ],
)
def test_published_ravdess_folds(name: str, test_actors: list[str]) -> None:
    folds = get_protocol(name).folds(RAVDESS)
    assert [" ".join(speakers_of(RAVDESS, fold.test)) for fold in folds] == test_actors


def test_actor_split_is_17_5_2() -> None:
    (fold,) = get_protocol("actor70-20-10-v1").folds(RAVDESS)
    assert speakers_of(RAVDESS, fold.train) == RAVDESS_ACTORS[:17]
    assert speakers_of(RAVDESS, fold.validation) == RAVDESS_ACTORS[17:22]


@pytest.mark.parametrize("seed", [0, 7])
def test_speaker_split_of_24_is_17_5_2_too(seed: int) -> None:
    (fold,) = get_protocol(f"speaker70-20-10-seed{seed}").folds(RAVDESS)
    assert [len(speakers_of(RAVDESS, indices)) for indices in (fold.train, fold.validation, fold.test)] == [17, 5, 2]


@given(st.integers(3, 500), st.integers(0, 2**30 - 1))
@settings(max_examples=25)
def test_random_70_20_10_sizes(n_recordings: int, seed: int) -> None:
    frame = pd.DataFrame({column: [""] * n_recordings for column in COLUMNS}).assign(label="a")
    (fold,) = get_protocol(f"random70-20-10-seed{seed % 10**9}-v1").folds(Manifest(frame, ("a", "b")))
    assert len(fold.validation) == max(1, round(0.2 * n_recordings))
    assert len(fold.test) == max(1, round(0.1 * n_recordings))
    assert len(fold.train) + len(fold.validation) + len(fold.test) == n_recordings


def test_loso_leaves_each_speaker_out_in_natural_order() -> None:
    manifest = manifest_of(["s10", "s2", "s1"])
    folds = get_protocol("loso").folds(manifest)
    assert [fold.name for fold in folds] == ["fold01-speaker-s1", "fold02-speaker-s2", "fold03-speaker-s10"]
    assert [speakers_of(manifest, fold.test) for fold in folds] == [["s1"], ["s2"], ["s10"]]


def test_fold_names_are_file_names() -> None:
    folds = get_protocol("loso").folds(manifest_of(["../a b", "c:d"]))
    assert [fold.name for fold in folds] == ["fold01-speaker-.._a_b", "fold02-speaker-c_d"]


def test_acrnn_validates_on_the_partner_of_the_session() -> None:
    for fold in get_protocol("loso8-1-1").folds(IEMOCAP):
        (test,), (validation,) = speakers_of(IEMOCAP, fold.test), speakers_of(IEMOCAP, fold.validation)
        assert test[:5] == validation[:5]
        assert len(speakers_of(IEMOCAP, fold.train)) == 8


def test_acrnn_validates_on_the_next_speaker_without_sessions() -> None:
    emodb = manifest_of(["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"])
    folds = get_protocol("loso8-1-1").folds(emodb)
    assert [(*speakers_of(emodb, fold.test), *speakers_of(emodb, fold.validation)) for fold in folds][-2:] == [
        ("15", "16"),
        ("16", "03"),
    ]


def test_sessions_are_left_out_whole() -> None:
    folds = get_protocol("iemocap5-sessions").folds(IEMOCAP)
    assert [speakers_of(IEMOCAP, fold.test) for fold in folds] == [
        [f"Ses0{session}_F", f"Ses0{session}_M"] for session in range(1, 6)
    ]


def test_name_without_version_is_the_newest() -> None:
    assert get_protocol("random10-seed46").name == "random10-seed46-v1"
    assert get_protocol("loso").name == "loso-v1"


def test_summary_has_its_numbers() -> None:
    assert get_protocol("random7-seed3").summary.startswith("shuffled 7-fold over the recordings in manifest order")
    assert ", seed 3," in get_protocol("random7-seed3").summary


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("rndom10-seed46", "randomK-seedS-v1"),
        ("random10", "randomK-seedS-v1"),
        ("random1-seed4", "randomK-seedS-v1"),
        ("random10-seed046", "randomK-seedS-v1"),
        ("emobox", "emobox6-v1"),
        ("loso-v2", "loso-v1"),
    ],
)
def test_unknown_protocol_names_the_nearest_and_lists_all(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'") as caught:
        get_protocol(name)
    assert all(family in str(caught.value) for family in protocol_names())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "speakers", "message"),
    [
        ("random10-seed0", ["a", "b"], "8 recordings cannot be split into 10 folds"),
        ("loso", ["a", ""], "4 of 8 recordings of custom have no speaker, but protocol loso-v1 needs it"),
        ("loso", ["a"], "at least 2; custom has only 'a'"),
        ("loso8-1-1", ["a", "b"], "2 speakers; loso8-1-1-v1 needs 10"),
        ("iemocap5-sessions", ["S1_F", "S2_F"], "needs IEMOCAP's 5"),
        ("iemocap5-sessions", ["S1_F", "S2_F", "S3_F", "S4_F", "x"], "needs IEMOCAP's 5"),
        ("emobox6", RAVDESS_ACTORS[:23], "lacks 24 and has none besides"),
        ("luna5", [*RAVDESS_ACTORS, "25"], "lacks none and has 25 besides"),
        ("actor70-20-10", ["a", "b", "01"], "lacks 02, 03, .* and has a, b besides"),
        ("speaker70-20-10-seed0", ["a", "b"], r"custom has 2 speakers \(a, b\); .* need 3 or more; use loso-v1"),
        ("actor70-20-10", [f"s{n}" for n in range(1, 15)], r"but 14 speakers \(s1, s2, .*, s12, \.\.\.\); use all"),
        ("cross-shared5", ["a", "b"], "need two, joined by serzoo.data.splits.cross_corpus"),
        ("cross-pooled2-seed0", ["a", "b"], "need two, joined by serzoo.data.splits.cross_corpus"),
    ],
)
def test_manifests_that_do_not_fit_are_refused(name: str, speakers: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        get_protocol(name).folds(manifest_of(speakers))


@pytest.fixture
def tess(tmp_path: Path) -> Manifest:
    """Both women say two words with every emotion."""
    for speaker, word, emotion in product(("OAF", "YAF"), ("back", "bar"), ("angry", "fear", "ps", "neutral")):
        (tmp_path / f"{speaker}_{word}_{emotion}.wav").touch()
    with pytest.warns(SerzooWarning, match="no recording of disgust, happy, sad"):
        return load_corpus("tess", tmp_path)


@pytest.mark.parametrize(
    ("name", "message", "instead"),
    [
        (
            "speaker70-20-10-seed7-v1",
            r"^tess has 2 speakers \(OAF, YAF\); training, validation and test need 3 or more; use [^\n]*$",
            ("loso-v1", "random70-20-10-seed7-v1"),
        ),
        (
            "actor70-20-10-v1",
            r"^The protocol is for RAVDESS's 24 actors; tess has none of them but 2 speakers \(OAF, YAF\); [^\n]*$",
            ("loso-v1", "random70-20-10-seed0-v1"),
        ),
    ],
)
def test_three_parts_of_two_speakers_are_refused_and_others_named(
    tess: Manifest, name: str, message: str, instead: tuple[str, ...]
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        get_protocol(name).folds(tess)
    for other in instead:
        assert other in str(caught.value)
        assert len(get_protocol(other).folds(tess)) == (2 if other == "loso-v1" else 1)


def test_three_parts_of_two_recordings_are_refused() -> None:
    with pytest.raises(DataError, match="custom has 2 recordings; training, validation and test need 3 or more"):
        get_protocol("random70-20-10-seed0").folds(manifest_of(["a"]).select([0, 1]))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_inner_protocols_leave_the_test_parts_out_and_score_some_of_training(name: str) -> None:
    manifest, outer, inner = PROTOCOLS[name], get_protocol(name), get_protocol(INNER + name)
    assert (inner.name, inner.speaker_independent) == (INNER + name, outer.speaker_independent)
    for whole, part in zip(outer.folds(manifest), inner.folds(manifest), strict=True):
        assert part.name == whole.name
        assert part.validation is None
        known = whole.train if whole.validation is None else np.concatenate([whole.train, whole.validation])
        assert sorted(np.concatenate([part.train, part.test])) == sorted(known)
        if whole.validation is not None:
            np.testing.assert_array_equal(part.test, whole.validation)
        if inner.speaker_independent:
            assert not set(speakers_of(manifest, part.train)) & set(speakers_of(manifest, part.test))


def test_inner_protocols_hold_out_a_fifth_of_the_speakers_or_a_tenth_of_the_recordings() -> None:
    speakers = [speakers_of(RAVDESS, fold.test) for fold in get_protocol("inner-emobox6-v1").folds(RAVDESS)]
    assert [len(fold) for fold in speakers] == [4] * 6
    for fold in get_protocol("inner-random10-seed46-v1").folds(RAVDESS):
        assert len(fold.test) == round(0.1 * (len(fold.train) + len(fold.test)))


def test_inner_protocols_are_versioned_as_their_outer_ones() -> None:
    assert get_protocol("inner-emobox6").name == "inner-emobox6-v1"
    assert "emobox6-v1 without its test parts" in get_protocol("inner-emobox6").summary
    with pytest.raises(UnknownNameError, match="Did you mean 'emobox6-v1'"):
        get_protocol("inner-emobox")


def test_random_protocols_need_no_speakers() -> None:
    assert len(get_protocol("random5-seed0").folds(manifest_of(["", ""]))) == 5


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([0, 1], [1, 2], "two parts"),
        ([], [1], "train part .* is empty"),
        ([0], [], "test part"),
        ([0, 0], [1], "twice"),
    ],
)
def test_impossible_folds_are_refused(train: list[int], test: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Fold("fold01", np.array(train, dtype=int), np.array(test, dtype=int))


@given(seed=st.integers(0, 1000), fraction=st.floats(0.01, 0.9), fold=st.integers(0, 5))
@settings(max_examples=25)
def test_validation_is_carved_out_by_speaker(seed: int, fraction: float, fold: int) -> None:
    before = get_protocol("emobox6").folds(RAVDESS)[fold]
    after = with_validation(before, RAVDESS, fraction, seed)
    np.testing.assert_array_equal(after.test, before.test)
    assert sorted([*after.train, *after.validation]) == before.train.tolist()
    validation = speakers_of(RAVDESS, after.validation)
    assert not set(validation) & set(speakers_of(RAVDESS, after.train))
    assert len(validation) == max(1, round(fraction * 20))


def test_validation_does_not_depend_on_the_order_of_the_manifest() -> None:
    shuffled = RAVDESS.select(np.random.default_rng(0).permutation(len(RAVDESS)))
    chosen = [
        speakers_of(manifest, with_validation(get_protocol("emobox6").folds(manifest)[0], manifest, seed=5).validation)
        for manifest in (RAVDESS, shuffled)
    ]
    assert chosen[0] == chosen[1]
    assert chosen[0] != speakers_of(
        RAVDESS, with_validation(get_protocol("emobox6").folds(RAVDESS)[0], RAVDESS).validation
    )


def test_validation_of_a_random_fold_is_unknown_to_training() -> None:
    for fold in get_protocol("random10-seed46").folds(RAVDESS):
        carved = with_validation(fold, RAVDESS)
        assert not set(speakers_of(RAVDESS, carved.train)) & set(speakers_of(RAVDESS, carved.validation))


def test_a_validation_part_that_exists_is_kept() -> None:
    (fold,) = get_protocol("actor70-20-10").folds(RAVDESS)
    assert with_validation(fold, RAVDESS) is fold


def test_validation_needs_known_speakers_two_of_them_and_a_fraction() -> None:
    two = manifest_of(["a", "b"])
    with pytest.raises(DataError, match="trains on 1 speakers"):
        with_validation(get_protocol("loso").folds(two)[0], two)
    unknown = manifest_of(["", "b"])
    with pytest.raises(DataError, match="have no speaker"):
        with_validation(get_protocol("random5-seed0").folds(unknown)[0], unknown)
    with pytest.raises(DataError, match=r"fraction is 1\.5"):
        with_validation(get_protocol("emobox6").folds(RAVDESS)[0], RAVDESS, fraction=1.5)


def test_cross_corpus_keeps_the_shared_classes_and_tells_speakers_apart() -> None:
    emodb = manifest_of(["03", "08"], ("angry", "boredom", "happy", "sad"), "emodb")
    joined = cross_corpus(RAVDESS, emodb)
    assert joined.corpus == "ravdess-to-emodb"
    assert joined.class_names == ("angry", "happy", "sad")
    assert {"ravdess/03", "emodb/03"} <= set(joined.column("speaker"))
    (fold,) = get_protocol("cross-shared5").folds(joined)
    assert speakers_of(joined, fold.test) == ["emodb/03", "emodb/08"]
    assert len(fold.train) == 24 * 3 * 2
    assert set(joined.column("session")) == {""}


def test_pooled_folds_test_on_speakers_of_both_corpora() -> None:
    both = cross_corpus(RAVDESS, IEMOCAP)
    folds = get_protocol("cross-pooled5-seed3-v1").folds(both)
    counts = [
        [sum(name.startswith(corpus) for name in speakers_of(both, fold.test)) for fold in folds]
        for corpus in ("ravdess/", "iemocap/")
    ]
    assert counts == [[5, 5, 5, 5, 4], [2] * 5]
    other = get_protocol("cross-pooled5-seed4-v1").folds(both)
    assert speakers_of(both, folds[0].test) != speakers_of(both, other[0].test)
    with pytest.raises(DataError, match=r"ravdess-to-iemocap has 10 speakers \(.*\), too few for 11 folds.*use fewer"):
        get_protocol("cross-pooled11-seed3-v1").folds(both)


def test_cross_corpus_of_five_class_corpora_has_the_five() -> None:
    labels = ("angry", "fear", "happy", "neutral", "sad")
    other = manifest_of(["m1"], (*labels, "surprise"), "emovo")
    assert cross_corpus(RAVDESS, other).class_names == labels
    assert len(cross_corpus(RAVDESS, other)) == (24 + 1) * 2 * 5


def test_cross_corpus_refuses_one_corpus_twice_and_strangers() -> None:
    with pytest.raises(DataError, match="two different corpora"):
        cross_corpus(RAVDESS, RAVDESS)
    with pytest.raises(DataError, match="share 1 of the classes"):
        cross_corpus(RAVDESS, manifest_of(["a"], ("angry", "boredom"), "other"))


@pytest.mark.recordings
def test_real_ravdess_has_144_test_recordings_a_fold(ravdess_root: object) -> None:
    manifest = load_corpus("ravdess", ravdess_root)  # type: ignore[arg-type]
    protocol: Protocol = get_protocol("random10-seed46")
    assert [len(fold.test) for fold in protocol.folds(manifest)] == [144] * 10
    assert [len(fold.test) for fold in get_protocol("emobox6").folds(manifest)] == [240] * 6
