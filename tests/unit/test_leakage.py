import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from serzoo.data.cache import FeatureCache
from serzoo.data.leakage import check_leakage, hash_contents
from serzoo.data.manifest import COLUMNS, Manifest
from serzoo.data.protocols import get_protocol
from serzoo.data.splits import Fold, with_validation
from serzoo.errors import DataError

UNKNOWN = dict.fromkeys(COLUMNS, "")


def manifest_of(rows: str) -> Manifest:
    """Rows like ``"anna:hello bert:bye"``: speaker and text, with ``-`` for unknown."""
    table = [
        {"path": f"{index}.wav", "label": "sad", **dict(zip(("speaker", "text"), row.split(":"), strict=True))}
        for index, row in enumerate(rows.replace("-", "").split())
    ]
    return Manifest(pd.DataFrame([UNKNOWN | row for row in table]), ("angry", "sad"))


def fold(train: list[int], test: list[int], validation: list[int] | None = None) -> Fold:
    return Fold("fold01", np.array(train), np.array(test), None if validation is None else np.array(validation))


def test_line_for_a_speaker_dependent_split() -> None:
    manifest = manifest_of("anna:hello anna:bye bert:hello bert:bye")
    report = check_leakage(manifest, fold([0, 3], [1, 2]), ["x", "y", "x", "z"])
    assert str(report) == (
        "speaker-dependent: 2 of 2 test speakers are in training; texts shared: 2 of 2; duplicates: 1 pair"
    )
    assert report.duplicates == (("0.wav", "2.wav"),)
    assert report.speaker_independent is False


def test_line_for_a_speaker_independent_split() -> None:
    manifest = manifest_of("anna:hello anna:bye bert:hello bert:what")
    report = check_leakage(manifest, fold([0, 1], [2, 3]))
    assert str(report) == (
        "speaker-independent: 0 of 1 test speakers are in training; texts shared: 1 of 2; duplicates: not checked"
    )
    assert report.speaker_independent is True
    assert report.duplicates is None


def test_unknown_speakers_are_neither_shared_nor_proof_of_independence() -> None:
    report = check_leakage(manifest_of("-:- -:- bert:- carl:-"), fold([0, 2], [1, 3]), list("abcd"))
    assert str(report) == "speakers unknown for 2 of 4 recordings; texts unknown; duplicates: no pairs"
    assert report.speaker_independent is None


def test_validation_part_is_compared_with_both_others() -> None:
    manifest = manifest_of("anna:a bert:a anna:b carl:a bert:b")
    report = check_leakage(manifest, fold(train=[0, 1], test=[3, 4], validation=[2]))
    shared = {(overlap.seen, overlap.scored): overlap.speakers for overlap in report.overlaps}
    assert shared == {("train", "test"): ("bert",), ("train", "validation"): ("anna",), ("validation", "test"): ()}
    assert str(report).endswith("; validation speakers: 1, 1 in training, 0 in test")


def test_counts_are_over_all_folds_and_each_pair_counts_once() -> None:
    manifest = manifest_of("anna:a anna:b bert:a bert:b")
    folds = [fold([0, 1, 2], [3]), fold([1, 2, 3], [0])]
    report = check_leakage(manifest, folds, ["same", "x", "y", "same"])
    assert str(report).startswith("speaker-dependent: 2 of 2 test speakers are in training; texts shared: 2 of 2")
    assert report.duplicates == (("0.wav", "3.wav"),)


def test_duplicates_within_one_part_do_not_leak() -> None:
    manifest = manifest_of("anna:a anna:b bert:a bert:b")
    assert check_leakage(manifest, fold([0, 1], [2, 3]), ["same", "same", "y", "z"]).duplicates == ()


def test_report_is_json() -> None:
    manifest = manifest_of("anna:a anna:b bert:a bert:b")
    stored = json.loads(json.dumps(check_leakage(manifest, fold([0, 1], [2, 3]), list("abca")).to_dict()))
    assert stored["duplicates"] == [["0.wav", "3.wav"]]
    assert stored["overlaps"][0]["texts"] == ["a", "b"]
    assert stored["summary"].startswith("speaker-independent")


def test_broken_promise_stops() -> None:
    manifest = manifest_of("anna:a bert:a anna:b bert:b")
    loso = get_protocol("loso")
    assert check_leakage(manifest, loso.folds(manifest), protocol=loso).speaker_independent
    with pytest.raises(
        DataError, match="loso-v1 is speaker-independent, but fold01 has speaker anna in both train and"
    ):
        check_leakage(manifest, fold([0, 1], [2]), protocol=loso)
    with pytest.raises(DataError, match="bert in both validation and test"):
        check_leakage(manifest, fold(train=[0], test=[1], validation=[3]), protocol=loso)


def test_sessions_that_share_a_speaker_stop() -> None:
    """The speaker misread off the recording's name, as many IEMOCAP toolkits do."""
    rows = [
        {
            "path": f"{session}{index}",
            "label": "sad",
            "speaker": "same" if session < 3 else f"{session}",
            "session": f"{session}",
        }
        for session in range(1, 6)
        for index in range(2)
    ]
    manifest = Manifest(pd.DataFrame([UNKNOWN | row for row in rows]), ("angry", "sad"))
    protocol = get_protocol("iemocap5-sessions")
    with pytest.raises(DataError, match="speaker same in both train and test"):
        check_leakage(manifest, protocol.folds(manifest), protocol=protocol)


def test_speaker_dependent_protocol_may_share_speakers() -> None:
    manifest = manifest_of("anna:a bert:a anna:b bert:b anna:c")
    protocol = get_protocol("random5-seed0")
    assert not check_leakage(manifest, protocol.folds(manifest), protocol=protocol).speaker_independent


def test_one_hash_per_recording() -> None:
    with pytest.raises(DataError, match="2 content hashes for 4 recordings"):
        check_leakage(manifest_of("a:a a:b b:a b:b"), fold([0, 1], [2, 3]), ["x", "y"])


def test_same_audio_under_another_name_and_format_is_found(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-3000, 3000, (3, 800)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", noise[0], 8000)
    soundfile.write(tmp_path / "b.wav", noise[1], 8000)
    soundfile.write(tmp_path / "c.flac", noise[0], 8000)
    rows = [{"path": str(tmp_path / name), "label": "sad"} for name in ("a.wav", "b.wav", "c.flac")]
    manifest = Manifest(pd.DataFrame([UNKNOWN | row for row in rows]), ("angry", "sad"))
    hashes = hash_contents(manifest, FeatureCache(tmp_path / "cache"))
    assert len(list((tmp_path / "cache").rglob("*.sha256"))) == 3
    assert hashes == hash_contents(manifest, FeatureCache(tmp_path / "cache")) == hash_contents(manifest)
    assert hashes[0] == hashes[2] != hashes[1]
    report = check_leakage(manifest, fold([0, 1], [2]), hashes)
    assert [Path(path).name for path in report.duplicates[0]] == ["a.wav", "c.flac"]


@pytest.mark.recordings
def test_real_ravdess_leaks_one_recording_in_the_papers_folds(ravdess_root: Path) -> None:
    from serzoo.data import load_corpus

    manifest = load_corpus("ravdess", ravdess_root)
    actor_7 = np.flatnonzero(manifest.column("speaker") == "07")
    hashes = np.arange(len(manifest)).astype(str)
    hashes[actor_7] = hash_contents(manifest.select(actor_7))
    report = check_leakage(manifest, get_protocol("random10-seed46").folds(manifest), hashes.tolist())
    assert str(report) == (
        "speaker-dependent: 24 of 24 test speakers are in training; texts shared: 2 of 2; duplicates: 1 pair"
    )
    assert [Path(path).stem for path in report.duplicates[0]] == ["03-01-03-01-02-01-07", "03-01-03-01-02-02-07"]
    emobox = get_protocol("emobox6")
    folds = [with_validation(one, manifest) for one in emobox.folds(manifest)]
    assert check_leakage(manifest, folds, hashes.tolist(), emobox).duplicates == ()


def test_duplicates_are_named_alike_wherever_the_corpus_lies(tmp_path: Path) -> None:
    rows = [{"path": str(tmp_path / name), "label": "sad"} for name in ("one/1.wav", "two/1.wav", "two/2.wav")]
    manifest = Manifest(pd.DataFrame(rows).reindex(columns=COLUMNS, fill_value=""), ("happy", "sad"))
    assert manifest.names == ["one/1.wav", "two/1.wav", "two/2.wav"]
    assert check_leakage(manifest, fold([0], [1, 2]), ["x", "x", "y"]).duplicates == (("one/1.wav", "two/1.wav"),)
    assert manifest.select([0, 2]).names == ["1.wav", "2.wav"]
