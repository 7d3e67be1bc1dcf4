"""Each kind of problem is made on purpose and found; the real recordings have the known ones and no other."""

import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serzoo.data.corpora.corpus import CORPORA
from serzoo.data.sources import from_csv
from serzoo.data.verify import Problem, VerifyReport, verify
from serzoo.errors import DataError, UnknownNameError

SAVEE_NAMES = [
    f"{speaker}/{emotion}{number:02d}.wav"
    for speaker, emotion in product(("DC", "JE", "JK", "KL"), ("a", "d", "f", "h", "n", "sa", "su"))
    for number in range(1, 31 if emotion == "n" else 16)
]
EMOVO_NAMES = [
    f"{speaker}/{emotion}-{speaker}-{text}.flac"
    for emotion, speaker, text in product(
        ("neu", "dis", "gio", "pau", "rab", "sor", "tri"),
        ("f1", "f2", "f3", "m1", "m2", "m3"),
        ("b1", "b2", "b3", "l1", "l2", "l3", "l4", "n1", "n2", "n3", "n4", "n5", "d1", "d2"),
    )
]


def record(path: Path, seed: int = 0, rate: int = 16_000, channels: int = 1, n_samples: int = 100) -> Path:
    """Write noise that no other seed has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (n_samples, channels))
    soundfile.write(path, noise, rate, subtype="PCM_16")
    return path


def problem(report: VerifyReport, kind: str) -> Problem:
    """The only problem of a kind."""
    (found,) = [item for item in report.problems if item.kind == kind]
    return found


def kinds(report: VerifyReport) -> list[str]:
    return [item.kind for item in report.problems]


@pytest.fixture(scope="session")
def whole_savee(tmp_path_factory):
    """All 480 names of SAVEE with a little noise each."""
    root = tmp_path_factory.mktemp("savee")
    for seed, name in enumerate(SAVEE_NAMES):
        record(root / name, seed, rate=44_100)
    return root


@pytest.fixture
def savee(whole_savee, tmp_path):
    """A copy to damage."""
    return Path(shutil.copytree(whole_savee, tmp_path / "savee"))


def test_whole_corpus_has_no_problem(whole_savee):
    report = verify("savee", whole_savee)
    assert report.problems == ()
    assert report.ok
    assert report.n_recordings == 480
    assert report.class_counts == CORPORA.get("savee").class_counts
    assert list(report.class_counts) == list(CORPORA.get("savee").class_names)
    assert report.speaker_counts == {"DC": 120, "JE": 120, "JK": 120, "KL": 120}
    assert report.sample_rates == {44_100: 480}
    assert report.channels == {1: 480}
    assert report.seconds == pytest.approx(480 * 100 / 44_100)
    assert str(report).endswith("0 errors, 0 warnings, 0 notes")


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message", "remedy"),
    [
        (
            lambda path: write(path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
            "git-lfs stub",
            "git lfs",
        ),
        (lambda path: write(path, b""), "empty", "et it again"),
        (lambda path: write(path, b"not audio but a text\n" * 9), "cannot be decoded", "onvert it"),
        (lambda path: write(path, path.read_bytes()[:-50]), "cut off", "et it again"),
        (lambda path: write(path, path.read_bytes()[:30]), "cut off", "et it again"),
        (lambda path: soundfile.write(path, np.full(9, np.nan), 44_100, subtype="FLOAT"), "NaN", "leave it out"),
        (lambda path: soundfile.write(path, np.zeros(0), 44_100), "no samples", "eave it out"),
    ],
)
def test_unusable_files_are_errors(savee, damage, message, remedy):
    for name in ("DC/a01.wav", "KL/su15.wav"):
        damage(savee / name)
    report = verify("savee", savee)
    assert not report.ok
    assert kinds(report) == ["unusable"]
    assert message in report.problems[0].message
    assert remedy in report.problems[0].remedy
    assert report.problems[0].files == ("DC/a01.wav", "KL/su15.wav")
    assert str(savee) not in report.problems[0].message
    assert report.n_recordings == 480
    assert sum(report.sample_rates.values()) == 478


def test_cut_off_flac_is_an_error(tmp_path):
    path = record(tmp_path / "wav" / "03a01Wa.flac", n_samples=20_000)
    write(path, path.read_bytes()[:10_000])
    report = verify("emodb", tmp_path)
    assert problem(report, "unusable").files == ("wav/03a01Wa.flac",)


def test_missing_recordings_are_counted(savee):
    for name in ("DC/a01.wav", "DC/a02.wav", "KL/su15.wav"):
        (savee / name).unlink()
    report = verify("savee", savee)
    assert report.ok
    assert kinds(report) == ["class count", "speaker count"]
    assert "differ from the published numbers: angry 58 of 60, surprise 59 of 60." in report.problems[0].message
    assert "DC 118 of 120, KL 119 of 120." in report.problems[1].message
    assert "http://kahlan.eps.surrey.ac.uk/savee/" in report.problems[0].remedy


def test_recordings_too_many_are_counted(savee):
    record(savee / "DC" / "a16.wav", seed=1000, rate=44_100)
    report = verify("savee", savee)
    assert "angry 61 of 60" in problem(report, "class count").message
    assert "DC 121 of 120" in problem(report, "speaker count").message


def test_absent_classes_and_speakers_are_named(savee):
    shutil.rmtree(savee / "JK")
    report = verify("savee", savee)
    assert problem(report, "speaker absent").message == (
        "1 of 4 speakers without any recording: JK (120 published); loading gives the other 3."
    )
    for path in savee.rglob("su*.wav"):
        path.unlink()
    report = verify("savee", savee)
    assert problem(report, "class absent").message == (
        "1 of 7 classes without any recording: surprise (60 published); loading gives the other 6."
    )
    assert "speaker absent" not in kinds(report)


def test_many_differences_are_shortened(tmp_path):
    codes = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
    for actor in range(1001, 1092):
        record(tmp_path / f"{actor}_TIE_{codes[actor % 6]}_XX.wav", seed=actor)
    message = problem(verify("cremad", tmp_path), "speaker count").message
    assert message.startswith("Recordings per speaker differ from the published numbers: 1001 1 of 82, 1002 1 of 81, ")
    assert message.endswith("1012 1 of 82 and 79 more.")


def test_same_audio_twice(savee):
    shutil.copy(savee / "DC" / "a01.wav", savee / "DC" / "a02.wav")
    samples, rate = soundfile.read(savee / "JE" / "n01.wav")
    (savee / "JE" / "n02.wav").unlink()
    soundfile.write(savee / "JE" / "n02.flac", samples, rate, subtype="PCM_16")
    report = verify("savee", savee)
    assert report.ok
    assert kinds(report) == ["duplicate", "duplicate"]
    assert {item.files for item in report.problems} == {("DC/a01.wav", "DC/a02.wav"), ("JE/n01.wav", "JE/n02.flac")}
    assert report.problems[0].message == "2 files hold the same audio, labelled angry."
    assert "random split" in report.problems[0].remedy


def test_same_audio_under_two_labels_is_an_error(savee):
    shutil.copy(savee / "DC" / "a01.wav", savee / "KL" / "h03.wav")
    report = verify("savee", savee)
    assert not report.ok
    assert problem(report, "contradiction").message == "2 files hold the same audio, labelled angry and happy."
    assert problem(report, "contradiction").files == ("DC/a01.wav", "KL/h03.wav")


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_silence_is_no_duplicate(savee, level):
    for name in ("DC/a01.wav", "DC/a02.wav"):
        soundfile.write(savee / name, np.full(100, level), 44_100)
    report = verify("savee", savee)
    assert kinds(report) == ["silent"]
    assert report.problems[0].message == "2 files of silence."
    assert report.problems[0].files == ("DC/a01.wav", "DC/a02.wav")


def test_misnamed_files_are_listed(savee):
    for name in ("DC/a1.wav", "DC/b01.wav", "a01.flac"):
        record(savee / name, seed=2000, rate=44_100)
    (savee / "DC" / "notes.txt").touch()
    (savee / "DC" / "._a01.wav").touch()
    report = verify("savee", savee)
    assert kinds(report) == ["misnamed"]
    assert report.problems[0].files == ("DC/a1.wav", "DC/b01.wav", "a01.flac")
    assert report.problems[0].message.startswith("3 files not named as SAVEE's are")


def test_second_copies_are_listed(savee):
    shutil.copytree(savee / "DC", savee / "copy" / "DC")
    samples, rate = soundfile.read(savee / "KL" / "a01.wav")
    soundfile.write(savee / "KL" / "a01.flac", samples, rate)
    report = verify("savee", savee)
    assert kinds(report) == ["repeated"]
    assert report.problems[0].message.startswith("121 files with the name of another recording")
    assert report.problems[0].files[0] == "KL/a01.wav"
    assert report.problems[0].files[1] == "copy/DC/a01.wav"
    assert report.n_recordings == 480


def test_other_sample_rates_are_listed(savee):
    record(savee / "DC" / "a01.wav", seed=3000, rate=16_000)
    report = verify("savee", savee)
    assert kinds(report) == ["sample rate"]
    assert report.problems[0].message == "1 file at 16000 Hz; published at 44100 Hz."
    assert report.problems[0].severity == "warning"
    assert report.sample_rates == {16_000: 1, 44_100: 479}


def test_skipped_files_are_no_problem(tmp_path):
    for seed, name in enumerate(("03-01-05-01-01-01-01", "03-02-05-01-01-01-01", "01-01-05-01-01-01-01")):
        record(tmp_path / f"{name}.wav", seed, rate=48_000)
    report = verify("ravdess", tmp_path)
    assert (report.n_recordings, report.n_skipped) == (1, 2)
    assert "misnamed" not in kinds(report)


def test_channels_of_emovo(tmp_path):
    for seed, name in enumerate(EMOVO_NAMES):
        record(tmp_path / name, seed, rate=48_000, channels=2 if seed else 1, n_samples=20)
    report = verify("emovo", tmp_path)
    (found,) = report.problems
    assert (found.severity, found.kind) == ("note", "channels")
    assert found.message == "1 mono, 587 stereo (as published)."
    assert found.files == (EMOVO_NAMES[0],)


def test_channels_that_were_mixed_down(tmp_path):
    for seed, name in enumerate(EMOVO_NAMES[:84]):
        record(tmp_path / name, seed, rate=48_000)
    found = problem(verify("emovo", tmp_path), "channels")
    assert found.message == "84 mono (published: 1 mono, 587 stereo)."
    assert found.files == ()


# Nothing there


def test_other_corpus_is_recognised(whole_savee):
    report = verify("emodb", whole_savee)
    assert not report.ok
    assert kinds(report) == ["nothing found"]
    assert report.problems[0].message == "No recording of EMO-DB; the files there: 480 named as SAVEE's are."
    assert report.problems[0].remedy == f"Run: serzoo data verify savee {whole_savee}"


def test_archive_that_was_not_unpacked_is_mentioned(tmp_path):
    for name in ("a.zip", "b.ZIP", "README"):
        (tmp_path / name).touch()
    found = problem(verify("tess", tmp_path), "nothing found")
    assert found.message == "No recording of TESS; the files there: 2 .zip, 1 bare."
    assert "OAF_angry/OAF_back_angry.wav" in found.remedy
    assert "https://doi.org/10.5683/SP2/E8H2MF" in found.remedy


def test_empty_folder_is_a_finding(tmp_path):
    for corpus in ("tess", "folder"):
        assert problem(verify(corpus, tmp_path), "nothing found").message.endswith("the files there: none.")


def test_missing_folder_and_unknown_corpus_are_errors(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        verify("tess", tmp_path / "nowhere")
    with pytest.raises(UnknownNameError, match=r"Unknown corpus 'ravdes'\. Did you mean 'ravdess'\?"):
        verify("ravdes", tmp_path)
    with pytest.raises(DataError, match="holds no folder Session1"):
        verify("iemocap", tmp_path)


# One's own recordings


def test_folders(tmp_path):
    for seed, name in enumerate(("sad/1.wav", "sad/2.wav", "sad/3.wav", "angry/1.wav", "angry/2.flac")):
        record(tmp_path / name, seed, rate=8_000 if seed == 0 else 16_000)
    record(tmp_path / "loose.wav", seed=9)
    write(tmp_path / "angry" / "1.wav", b"")
    report = verify("folder", tmp_path)
    assert [(item.severity, item.kind) for item in report.problems] == [
        ("error", "unusable"), ("warning", "misnamed"), ("note", "sample rate"), ("note", "class balance"),
        ("note", "speaker unknown"),
    ]  # fmt: skip
    assert problem(report, "sample rate").message == "Sample rates differ: 1 at 8000 Hz, 3 at 16000 Hz."
    assert problem(report, "class balance").message == (
        "Recordings per class: angry 2, sad 3; the largest has 1.5 times the smallest."
    )
    assert problem(report, "speaker unknown").message == "5 of 5 recordings without a speaker."
    assert report.class_counts == {"angry": 2, "sad": 3}


def test_one_class_is_an_error(tmp_path):
    record(tmp_path / "sad" / "1.wav")
    report = verify("folder", tmp_path)
    assert not report.ok
    assert problem(report, "one class").message == "All recordings are of the class 'sad'."


def test_table(tmp_path):
    for seed, name in enumerate("abc"):
        record(tmp_path / "audio" / f"{name}.wav", seed, channels=2 if name == "c" else 1)
    path = tmp_path / "calls.csv"
    path.write_text("path,label,speaker\naudio/a.wav,sad,1\naudio/b.wav,angry,\naudio/c.wav,angry,2\n")
    report = verify("csv", path)
    assert report.n_recordings == len(from_csv(path)) == 3
    assert kinds(report) == ["channels", "class balance", "speaker unknown"]
    assert problem(report, "channels").files == ("audio/c.wav",)
    assert problem(report, "channels").message == "2 mono, 1 stereo (mixed)."
    assert report.speaker_counts == {"": 1, "1": 1, "2": 1}
    assert "2 known speakers" in str(report)


# The report


def test_report_is_plain_data_and_plain_text(savee):
    for number in range(1, 8):
        write(savee / "DC" / f"a{number:02d}.wav", b"")
    report = verify("savee", savee)
    data = json.loads(json.dumps(report.to_dict()))
    assert data["ok"] is False
    assert data["class_counts"]["neutral"] == 120
    assert data["problems"][0]["files"] == [f"DC/a0{number}.wav" for number in range(1, 8)]
    assert str(report).splitlines() == [
        f"SAVEE in {savee}: 480 recordings, 7 classes, 4 known speakers, 0.0 min",
        "error: 7 files unusable: each is empty (0 bytes).",
        *[f"    DC/a0{number}.wav" for number in range(1, 6)],
        "    and 2 more",
        "    -> Get it again.",
        "1 error, 0 warnings, 0 notes",
    ]


def test_progress_bar_goes_to_standard_error(whole_savee, capfd):
    verify("savee", whole_savee, progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Decoding" in shown.err
    verify("savee", whole_savee)
    assert capfd.readouterr() == ("", "")


# Real recordings


@pytest.mark.slow
@pytest.mark.recordings
def test_real_ravdess(ravdess_root):
    report = verify("ravdess", ravdess_root)
    assert [(item.severity, item.kind) for item in report.problems] == [("warning", "duplicate"), ("note", "channels")]
    duplicate, channels = report.problems
    assert duplicate.files == (
        "Actor_07/03-01-03-01-02-01-07.flac",
        "Actor_07/03-01-03-01-02-02-07.flac",
    )
    assert channels.message == "1435 mono, 5 stereo (as published)."
    assert channels.files == (
        "Actor_01/03-01-02-01-01-02-01.flac",
        "Actor_01/03-01-08-01-02-02-01.flac",
        "Actor_05/03-01-02-01-02-02-05.flac",
        "Actor_20/03-01-03-01-02-01-20.flac",
        "Actor_20/03-01-06-01-01-02-20.flac",
    )
    assert report.ok
    assert report.n_recordings == 1440
    assert report.sample_rates == {48_000: 1440}


@pytest.mark.recordings
def test_real_emodb_lacks_three_classes(emodb_root):
    report = verify("emodb", emodb_root)
    assert report.ok
    assert kinds(report) == ["class absent"]
    assert report.problems[0].message == (
        "3 of 7 classes without any recording: boredom (81 published), disgust (46 published), fear (69 published); "
        "loading gives the other 4."
    )
    assert report.class_counts == {"angry": 127, "happy": 71, "neutral": 79, "sad": 62}
    assert report.n_recordings == 339
