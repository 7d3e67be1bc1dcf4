"""Each corpus's full list of names gives the published counts; layouts, order and absent classes."""

from collections import Counter
from collections.abc import Iterable
from itertools import product
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serzoo.data.corpora.corpus import CORPORA, Recording, build_manifest
from serzoo.data.corpora.iemocap import Iemocap, IemocapImprovised, Labels
from serzoo.data.manifest import COLUMNS, natural_key
from serzoo.data.protocols import get_protocol
from serzoo.data.verify import verify
from serzoo.errors import DataError, SerzooWarning

RAVDESS_NAMES = [
    f"Actor_{actor:02d}/03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}.wav"
    for actor in range(1, 25)
    for emotion in range(1, 9)
    for intensity, statement, repetition in product((1, 2), (1, 2), (1, 2))
    if (emotion, intensity) != (1, 2)
]
EMOVO_NAMES = [
    f"EMOVO/{speaker}/{emotion}-{speaker}-{text}.wav"
    for emotion, speaker, text in product(
        ("neu", "dis", "gio", "pau", "rab", "sor", "tri"),
        ("f1", "f2", "f3", "m1", "m2", "m3"),
        ("b1", "b2", "b3", "l1", "l2", "l3", "l4", "n1", "n2", "n3", "n4", "n5", "d1", "d2"),
    )
]
SAVEE_NAMES = [
    f"AudioData/{speaker}/{emotion}{number:02d}.wav"
    for speaker, emotion in product(("DC", "JE", "JK", "KL"), ("a", "d", "f", "h", "n", "sa", "su"))
    for number in range(1, 31 if emotion == "n" else 16)
]
CASIA_NAMES = [
    f"{speaker}/{emotion}/{number}.wav"
    for speaker, emotion, number in product(
        ("liuchanhg", "wangzhe", "zhaoquanyin", "ZhaoZuoxiang"),
        ("angry", "fear", "happy", "neutral", "sad", "surprise"),
        range(201, 251),
    )
]
TESS_NAMES = [
    f"{speaker}_{emotion}/{speaker}_{first}{second}_{emotion}.wav"
    for speaker, emotion, first, second in product(
        ("OAF", "YAF"),
        ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad"),
        "abcdefghij",
        "abcdefghijklmnopqrst",
    )
]
FSDD_NAMES = [
    f"recordings/{digit}_{speaker}_{take}.wav"
    for digit, speaker, take in product(
        range(10), ("george", "jackson", "lucas", "nicolas", "theo", "yweweler"), range(50)
    )
]


def cremad_names() -> Iterable[str]:
    """Sentence IEO at three levels except neutral, the others at none; five actors miss one sentence or file."""
    emotions = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
    others = ("TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
    for actor in range(1001, 1092):
        yield from (f"{actor}_IEO_{e}_{level}" for e in emotions if e != "NEU" for level in ("LO", "MD", "HI"))
        yield f"{actor}_IEO_NEU_XX"
        for sentence, emotion in product(others, emotions):
            lacks_sentence = actor in (1008, 1009, 1019) and sentence == "WSI"
            lacks_file = actor in (1002, 1076) and (sentence, emotion) == ("MTI", "NEU")
            if not (lacks_sentence or lacks_file):
                yield f"{actor}_{sentence}_{emotion}_XX"


def emodb_names() -> Iterable[str]:
    """Names of the grammar that meet the published totals per class and per speaker."""
    texts = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
    emotions = {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "T": 62, "N": 79}
    speakers = [s for s, n in CORPORA.get("emodb").speaker_counts.items() for _ in range(n)]
    codes = [code for code, n in emotions.items() for _ in range(n)]
    seen: Counter[tuple[str, str]] = Counter()
    for speaker, code in zip(speakers, codes[::2] + codes[1::2], strict=True):
        number = seen[speaker, code]
        seen[speaker, code] += 1
        yield f"wav/{speaker}{texts[number % 10]}{code}{'abcdef'[number // 10]}.wav"


FULL_LISTS = {
    "casia": CASIA_NAMES,
    "cremad": [f"AudioWAV/{name}.wav" for name in cremad_names()],
    "emodb": list(emodb_names()),
    "emovo": EMOVO_NAMES,
    "fsdd": FSDD_NAMES,
    "ravdess": RAVDESS_NAMES,
    "savee": SAVEE_NAMES,
    "tess": TESS_NAMES,
}
TOTALS = {
    "casia": 1200, "cremad": 7442, "emodb": 535, "emovo": 588, "fsdd": 3000, "ravdess": 1440, "savee": 480,
    "tess": 2800,
}  # fmt: skip


def plant(root: Path, names: Iterable[str]) -> Path:
    """Make empty files: names are all that loading reads."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize("name", FULL_LISTS)
def test_full_list_gives_the_published_counts(name):
    corpus = CORPORA.get(name)
    recordings = [corpus.parse(PurePosixPath(path)) for path in FULL_LISTS[name]]
    assert len(recordings) == TOTALS[name] == sum(corpus.class_counts.values())
    assert Counter(recording.label for recording in recordings) == corpus.class_counts
    assert Counter(recording.speaker for recording in recordings) == corpus.speaker_counts


@pytest.mark.parametrize(
    ("name", "men", "women"),
    [
        ("casia", 2, 2),
        ("cremad", 48, 43),
        ("emodb", 5, 5),
        ("emovo", 3, 3),
        ("fsdd", 6, 0),
        ("ravdess", 12, 12),
        ("savee", 4, 0),
    ],
)
def test_men_and_women_are_as_published(name, men, women):
    corpus = CORPORA.get(name)
    recordings = [corpus.parse(PurePosixPath(path)) for path in FULL_LISTS[name]]
    genders = Counter(gender for _, gender in {(recording.speaker, recording.gender) for recording in recordings})
    assert genders == Counter({"male": men, "female": women})


@pytest.mark.parametrize(
    ("name", "n_texts"),
    [
        ("casia", 50),
        ("cremad", 12),
        ("emodb", 10),
        ("emovo", 14),
        ("fsdd", 10),
        ("ravdess", 2),
        ("savee", 120),
        ("tess", 200),
    ],
)
def test_texts_are_as_published(name, n_texts):
    corpus = CORPORA.get(name)
    assert len({corpus.parse(PurePosixPath(path)).text for path in FULL_LISTS[name]}) == n_texts


def test_cremad_asks_for_a_level_in_one_sentence_only():
    corpus = CORPORA.get("cremad")
    recordings = [corpus.parse(PurePosixPath(path)) for path in FULL_LISTS["cremad"]]
    levels = Counter(recording.intensity for recording in recordings)
    assert (levels["low"], levels["medium"], levels["high"]) == (455, 455, 455)
    assert {recording.text for recording in recordings if recording.intensity} == {"IEO"}


def test_ravdess_is_ordered_by_class_then_by_natural_name(tmp_path):
    manifest = CORPORA.get("ravdess").load(plant(tmp_path, reversed(RAVDESS_NAMES)))
    codes = {"angry": "05", "calm": "02", "disgust": "07", "fear": "06", "happy": "03", "neutral": "01", "sad": "04"}
    codes["surprise"] = "08"
    names = [path.name for path in manifest.paths]
    expected = [
        name
        for label in manifest.class_names
        for name in sorted(Path(path).name for path in RAVDESS_NAMES if f"/03-01-{codes[label]}-" in path)
    ]
    assert manifest.class_names == ("angry", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    assert names == expected
    assert names[:2] == ["03-01-05-01-01-01-01.wav", "03-01-05-01-01-01-02.wav"]
    assert names[192] == "03-01-02-01-01-01-01.wav"


def flat_savee(name: str) -> str:
    _, speaker, file = name.split("/")
    return f"{speaker}_{file}"


def flat_casia(name: str) -> str:
    speaker, emotion, file = name.split("/")
    return f"{emotion}/{file.removesuffix('.wav')}-{emotion}-{speaker.upper()}.flac"


@pytest.mark.parametrize(("name", "flatten"), [("savee", flat_savee), ("casia", flat_casia)])
def test_manifest_is_the_same_in_both_layouts(name, flatten, tmp_path):
    corpus = CORPORA.get(name)
    nested = corpus.load(plant(tmp_path / "nested", FULL_LISTS[name]))
    flat = corpus.load(plant(tmp_path / "flat", map(flatten, FULL_LISTS[name])))
    columns = ["label", "speaker", "gender", "text"]
    assert nested.frame[columns].equals(flat.frame[columns])
    assert not nested.frame[columns].duplicated().any()


def test_wav_and_flac_trees_load_alike(tmp_path):
    corpus = CORPORA.get("emodb")
    wav = corpus.load(plant(tmp_path / "wav", FULL_LISTS["emodb"]))
    flac = corpus.load(plant(tmp_path / "flac", (name.replace(".wav", ".FLAC") for name in FULL_LISTS["emodb"])))
    assert [path.stem for path in wav.paths] == [path.stem for path in flac.paths]


def test_linked_folders_are_followed_and_hidden_ones_left_out(tmp_path):
    plant(tmp_path / "disk", RAVDESS_NAMES)
    (tmp_path / "links").mkdir()
    for folder in (tmp_path / "disk").iterdir():
        (tmp_path / "links" / folder.name).symlink_to(folder)
    plant(tmp_path / "links", [".cache/Actor_01/03-01-05-01-01-01-01.wav", "Actor_01/.03-01-05-01-01-01-01.wav"])
    assert len(CORPORA.get("ravdess").load(tmp_path / "links")) == 1440


def test_a_second_copy_is_left_out_with_a_warning(tmp_path):
    names = [*RAVDESS_NAMES, *(f"copied/{name}" for name in RAVDESS_NAMES[:7]), RAVDESS_NAMES[0].replace("wav", "flac")]
    with pytest.warns(SerzooWarning, match="RAVDESS: 8 audio files under .* repeat a recording"):
        manifest = CORPORA.get("ravdess").load(plant(tmp_path, names))
    assert len(manifest) == 1440


def test_older_cremad_name_is_the_same_utterance(tmp_path):
    scan = CORPORA.get("cremad").scan(plant(tmp_path, ["1040_ITH_SAD_X.wav", "1040_ITH_SAD_XX.wav"]))
    assert len(scan.recordings) == len(scan.repeated) == 1


def test_absent_classes_are_left_out_with_a_warning(tmp_path):
    names = [name for name in FULL_LISTS["emodb"] if Path(name).stem[5] in "WFNT"]
    with pytest.warns(SerzooWarning, match="EMO-DB: no recording of boredom, disgust, fear; .*other 4 of 7 classes"):
        manifest = CORPORA.get("emodb").load(plant(tmp_path, names))
    assert manifest.class_names == ("angry", "happy", "neutral", "sad")
    assert sorted(set(manifest.targets.tolist())) == [0, 1, 2, 3]


def test_one_class_is_refused(tmp_path):
    names = [name for name in RAVDESS_NAMES if "03-01-05" in name]
    with pytest.warns(SerzooWarning), pytest.raises(DataError, match="at least 2 classes, got \\['angry'\\]"):
        CORPORA.get("ravdess").load(plant(tmp_path, names))


def test_root_that_is_a_file_is_refused(tmp_path):
    file = tmp_path / "ravdess.zip"
    file.touch()
    with pytest.raises(DataError, match=r"ravdess\.zip is a file; give the folder"):
        CORPORA.get("ravdess").load(file)


def test_other_corpus_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"No EMO-DB recordings .*1440 audio files have other names.*data verify emodb"):
        CORPORA.get("emodb").load(plant(tmp_path, RAVDESS_NAMES))


# IEMOCAP, whose labels are not in its file names

SESSIONS = {  # angry, happy and excited, neutral, sad, said by the woman
    1: (229, 278, 384, 194, 528),
    2: (137, 327, 362, 197, 481),
    3: (240, 286, 320, 305, 522),
    4: (327, 303, 258, 143, 528),
    5: (170, 442, 384, 245, 590),
}
OTHERS = {"fru": 1849, "xxx": 2507, "sur": 107, "fea": 40, "oth": 3, "dis": 2}


def write_iemocap(root: Path) -> None:
    """All 10,039 utterances in made-up dialogs with the published totals per session, class and speaker."""
    n_happy = 595
    others = [code for code, count in OTHERS.items() for _ in range(count)]
    for session, (angry, happy, neutral, sad, by_woman) in SESSIONS.items():
        plain = min(happy, n_happy)
        n_happy -= plain
        codes = ["ang"] * angry + ["hap"] * plain + ["exc"] * (happy - plain) + ["neu"] * neutral + ["sad"] * sad
        genders = ["F"] * by_woman + ["M"] * (len(codes) - by_woman)
        share = others[session - 1 :: 5]
        turns = list(zip(codes + share, genders + ["M"] * len(share), strict=True))
        for start in range(0, len(turns), 500):
            kind = "impro" if start else "script01_"
            write_dialog(
                root, f"Ses0{session}F_{kind}{f'{start // 500:02d}' if start else 1}", turns[start : start + 500]
            )


def write_dialog(root: Path, dialog: str, turns: list[tuple[str, str]]) -> None:
    session = root / f"Session{dialog[4]}"
    names = [f"{dialog}_{gender}{number:03d}" for number, (_, gender) in enumerate(turns)]
    plant(session / "sentences" / "wav" / dialog, [f"{name}.wav" for name in names])
    plant(session / "dialog" / "wav", [f"{dialog}.wav"])
    lines = [
        f"[{number}.0000 - {number}.9000]\t{name}\t{code}\t[2.5000, 2.5000, 2.5000]\nC-E1:\tAnger;\t()\n"
        for number, (name, (code, _)) in enumerate(zip(names, turns, strict=True))
    ]
    labels = session / "dialog" / "EmoEvaluation"
    (labels / "Categorical").mkdir(parents=True, exist_ok=True)
    (labels / f"{dialog}.txt").write_text(
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n" + "\n".join(lines)
    )
    (labels / f"._{dialog}.txt").write_bytes(b"[\x00\x05 resource fork")
    (labels / "Categorical" / f"{dialog}_e1_cat.txt").write_text("[not read]")


def test_iemocap_gives_the_published_counts(tmp_path):
    write_iemocap(tmp_path)
    scan = Iemocap().scan(tmp_path)
    manifest = build_manifest(scan.recordings, Iemocap.class_names, "iemocap")
    assert len(manifest) == 5531
    assert len(scan.skipped) == 10_039 - 5531 + len(list(tmp_path.glob("*/dialog/wav/*.wav")))
    assert not scan.misnamed
    assert dict(Counter(manifest.frame["label"])) == Iemocap.class_counts
    assert dict(Counter(manifest.frame["speaker"])) == Iemocap.speaker_counts
    assert dict(Counter(manifest.frame["session"])) == {"1": 1085, "2": 1023, "3": 1151, "4": 1031, "5": 1241}
    assert set(manifest.frame[manifest.frame["text"].str.startswith("script")]["text"]) == {"script01_1"}
    improvised = manifest.frame[~manifest.frame["text"].str.startswith("script")]
    assert improvised.groupby("text")["session"].nunique().max() == 1


def test_iemocap_speaker_is_not_who_wore_the_markers():
    corpus = Iemocap({"Ses02F_impro03_M007": Labels("exc")})
    recording = corpus.parse(PurePosixPath("Ses02F_impro03_M007.wav"))
    assert recording == Recording("happy", "Ses02_M", "male", "Ses02F_impro03", "2")


def rated_dialog(root: Path, *triples: str) -> Path:
    """A dialog whose utterances, angry and sad in turn, have these valences, activations and dominances."""
    write_dialog(root, "Ses01F_impro01", [("ang", "F"), ("sad", "M")] * (len(triples) // 2))
    path = root / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    parts = path.read_text().split("[2.5000, 2.5000, 2.5000]")
    path.write_text("".join(text + triple for text, triple in zip(parts, [*triples, ""], strict=True)))
    return path


def test_iemocap_ratings_are_shares_of_five(tmp_path):
    rated_dialog(tmp_path, "[2.5000, 2.5001, 5.0000]", "[1.0000, 3.6667, 0.5000]", "[5.5000, 2, 2.4999]", "[3, 3, 3]")
    with pytest.warns(SerzooWarning, match="no recording of happy, neutral"):
        frame = Iemocap().load(tmp_path).frame
    assert frame["path"].str[-8:-4].tolist() == ["F000", "F002", "M001", "M003"]
    assert frame["valence"].tolist() == ["0.5", "1", "0.2", "0.6"]
    assert frame["arousal"].tolist() == ["0.50002", "0.4", "0.73334", "0.6"]
    assert frame["dominance"].tolist() == ["1", "0.49998", "0.1", "0.6"]


@pytest.mark.parametrize("triple", ["[2.5, 2.5]", "[2.5, x, 2.5]", "[-1.0, 2.5, 2.5]", "[nan, 2.5, 2.5]", "[]"])
def test_iemocap_ratings_that_are_none_name_file_and_line(tmp_path, triple):
    rated_dialog(tmp_path, "[3, 3, 3]", triple)
    with pytest.raises(DataError, match=r"Ses01F_impro01\.txt line 6: .* has no label of IEMOCAP and three ratings"):
        Iemocap().load(tmp_path)


def test_only_rated_corpora_have_columns_of_ratings(tmp_path):
    emodb = CORPORA.get("emodb").load(plant(tmp_path, FULL_LISTS["emodb"]))
    assert list(emodb.frame.columns) == list(COLUMNS)
    recordings = [(Path("a.wav"), Recording("sad")), (Path("b.wav"), Recording("angry", arousal="0.7"))]
    rated = build_manifest(recordings, ("angry", "sad"), "custom").frame
    assert list(rated.columns) == [*COLUMNS, "valence", "arousal", "dominance"]
    assert rated["arousal"].tolist() == ["0.7", ""]


def test_iemocap_without_labels_is_explained(tmp_path):
    plant(tmp_path, ["Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"])
    with pytest.raises(DataError, match=r"Session1/dialog/EmoEvaluation is missing or holds no \.txt file; copy it"):
        Iemocap().load(tmp_path)


def test_iemocap_unknown_label_names_file_and_line(tmp_path):
    write_dialog(tmp_path, "Ses01F_impro01", [("ang", "F"), ("joy", "M")])
    with pytest.raises(
        DataError,
        match=r"Ses01F_impro01\.txt line 6: .*joy.* has no label of IEMOCAP and three ratings; known .* ang, dis",
    ):
        Iemocap().load(tmp_path)


def test_iemocap_cut_off_label_file_names_file_and_line(tmp_path):
    write_dialog(tmp_path, "Ses01F_impro01", [("ang", "F"), ("sad", "M")])
    path = tmp_path / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    path.write_text(path.read_text()[:-60])
    with pytest.raises(DataError, match=r"Ses01F_impro01\.txt line 6: "):
        Iemocap().load(tmp_path)


IMPROVISED = {"ang": 289, "hap": 284, "exc": 663, "neu": 1099, "sad": 608, "fru": 200, "xxx": 300, "sur": 41}
"""Improvised utterances per emotion code; those of the last three are made up."""


@pytest.fixture(scope="module")
def improvised_root(tmp_path_factory):
    """The improvised dialogs of all ten speakers, with scripted ones beside them, at the real places; no sound."""
    root = tmp_path_factory.mktemp("iemocap")
    codes = [code for code, count in IMPROVISED.items() for _ in range(count)]
    for session in range(1, 6):
        share = codes[session - 1 :: 5]
        turns = list(zip(share, "FMM" * len(share), strict=False))  # two thirds by men
        write_dialog(root, f"Ses0{session}F_impro01", turns[: len(turns) // 2])
        write_dialog(root, f"Ses0{session}M_impro05a", turns[len(turns) // 2 :])
        write_dialog(root, f"Ses0{session}F_script01_1", [(code, "F") for code in ("ang", "hap", "exc", "neu", "sad")])
    return root


def test_improvised_iemocap_gives_the_published_counts(improvised_root):
    scan = IemocapImprovised().scan(improvised_root)
    n_named = len(list(improvised_root.glob("Session*/**/*.wav")))
    assert (len(scan.recordings), len(scan.skipped), len(scan.misnamed)) == (2280, n_named - 2280, 0)
    manifest = CORPORA.get("iemocap-improvised").load(improvised_root)
    assert Counter(manifest.frame["label"]) == {"neutral": 1099, "sad": 608, "angry": 289, "happy": 284}
    assert manifest.class_names == ("angry", "happy", "neutral", "sad")
    assert set(manifest.frame["speaker"]) == set(Iemocap.speaker_counts)
    for path, speaker, gender, text in zip(
        manifest.paths, *(manifest.frame[name] for name in ("speaker", "gender", "text")), strict=True
    ):
        assert "_impro" in path.stem
        assert speaker == f"{path.stem[:5]}_{path.stem[-4]}"
        assert gender == {"F": "female", "M": "male"}[path.stem[-4]]
        assert text == path.parent.name


def test_both_selections_of_iemocap_differ_in_the_scripts_and_the_excited(improvised_root):
    both = [corpus.load(improvised_root) for corpus in (Iemocap(), IemocapImprovised())]
    assert [len(manifest) for manifest in both] == [2280 + 663 + 5 * 5, 2280]
    everything, improvised = (set(manifest.names) for manifest in both)
    assert improvised < everything


def test_improvised_iemocap_is_held_against_its_counts(improvised_root, tmp_path):
    def class_problems(root):
        found = verify("iemocap-improvised", root).problems
        return [problem.message for problem in found if problem.kind in ("class count", "class absent")]

    assert class_problems(improvised_root) == []
    write_dialog(tmp_path, "Ses01F_impro01", [("ang", "F"), ("neu", "M"), ("sad", "M"), ("exc", "M")])
    assert class_problems(tmp_path) == [
        "1 of 4 classes without any recording: happy (284 published); loading gives the other 3.",
        "Recordings per class differ from the published numbers: angry 1 of 289, neutral 1 of 1099, sad 1 of 608.",
    ]


def test_acrnn_folds_of_improvised_iemocap(improvised_root):
    manifest = IemocapImprovised().load(improvised_root)
    speakers, sessions = manifest.column("speaker"), manifest.column("session")
    folds = get_protocol("loso8-1-1-v1").folds(manifest)
    assert [fold.name for fold in folds] == [
        f"fold{number:02d}-speaker-{speaker}" for number, speaker in enumerate(Iemocap.speaker_counts, start=1)
    ]
    assert [set(speakers[fold.test]) for fold in folds] == [{speaker} for speaker in Iemocap.speaker_counts]
    for fold in folds:
        (test,), (validation,) = set(speakers[fold.test]), set(speakers[fold.validation])
        assert test != validation
        assert set(sessions[fold.test]) == set(sessions[fold.validation]) == {test[4]}
        assert set(speakers[fold.train]) == set(Iemocap.speaker_counts) - {test, validation}
        assert len(fold.train) + len(fold.validation) + len(fold.test) == 2280


# LibriSpeech, whose classes are whoever is there

SPEAKERS = """; Some pipe(|) separated metadata about the readers
;ID  |SEX| SUBSET           |MINUTES| NAME
19   | F | train-clean-100  | 25.19 | Anna
103  | F | train-clean-100  | 25.01 | Ka|ren
26   | M | dev-clean        | 25.08 | Denys
"""
UTTERANCES = [
    "train-clean-100/103/1240/103-1240-0000.flac",
    "train-clean-100/103/1240/103-1240-0010.flac",
    "train-clean-100/103/1241/103-1241-0002.flac",
    "train-clean-100/19/198/19-198-0000.flac",
    "dev-clean/26/495/26-495-0003.flac",
]


@pytest.fixture
def librispeech_root(tmp_path):
    """Five utterances of three readers; one chapter has a transcript."""
    root = plant(tmp_path / "LibriSpeech", [*UTTERANCES, "README.TXT"])
    (root / "SPEAKERS.TXT").write_text(SPEAKERS)
    transcript = root / "train-clean-100/103/1240/103-1240.trans.txt"
    transcript.write_text("103-1240-0000 CHAPTER ONE\n103-1240-0010 IT'S A BROOK\n")
    return root


def test_librispeech_is_labelled_by_its_readers(librispeech_root):
    manifest = CORPORA.get("librispeech").load(librispeech_root)
    assert manifest.class_names == ("19", "26", "103")
    assert manifest.names == ["19-198-0000.flac", "26-495-0003.flac", *(Path(name).name for name in UTTERANCES[:3])]
    assert manifest.frame["label"].tolist() == manifest.frame["speaker"].tolist() == ["19", "26", "103", "103", "103"]
    assert manifest.frame["gender"].tolist() == ["female", "male", "female", "female", "female"]
    assert manifest.frame["session"].tolist() == ["198", "495", "1240", "1240", "1241"]
    assert manifest.frame["text"].tolist() == ["", "", "CHAPTER ONE", "IT'S A BROOK", ""]


@pytest.mark.parametrize(("place", "classes"), [("..", ("19", "26", "103")), ("train-clean-100", ("19", "103"))])
def test_librispeech_loads_from_above_and_from_a_subset(librispeech_root, place, classes):
    manifest = CORPORA.get("librispeech").load(librispeech_root / place)
    assert manifest.class_names == classes
    assert set(manifest.frame["gender"]) <= {"female", "male"}


def test_librispeech_without_its_table_has_no_genders(librispeech_root):
    (librispeech_root / "SPEAKERS.TXT").unlink()
    with pytest.warns(SerzooWarning, match=r"LibriSpeech: no SPEAKERS\.TXT in .*; the readers' genders are unknown"):
        manifest = CORPORA.get("librispeech").load(librispeech_root)
    assert set(manifest.frame["gender"]) == {""}


def test_librispeech_leaves_other_names_out(librispeech_root):
    plant(librispeech_root, ["train-clean-100/19/198/19-198-1.flac", "intro.wav"])
    with pytest.warns(SerzooWarning, match=r"LibriSpeech: 2 audio files .* are not named as its files are"):
        assert len(CORPORA.get("librispeech").load(librispeech_root)) == 5


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        (
            "SPEAKERS.TXT",
            "27 | X | dev-clean | 8 | Kim",
            r"SPEAKERS\.TXT line 6: '27 \| X .* reader's number and F",
        ),
        ("SPEAKERS.TXT", "F | 27 | dev-clean | 8 | Kim", r"SPEAKERS\.TXT line 6"),
        ("SPEAKERS.TXT", "27", r"SPEAKERS\.TXT line 6"),
        ("train-clean-100/103/1240/103-1240.trans.txt", "AND SO", r"1240\.trans\.txt line 3: 'AND SO' does not begin"),
    ],
)
def test_librispeech_tables_that_are_refused(librispeech_root, file, line, message):
    with (librispeech_root / file).open("a") as extended:
        extended.write(f"{line}\n")
    with pytest.raises(DataError, match=message) as caught:
        CORPORA.get("librispeech").load(librispeech_root)
    assert "\n" not in str(caught.value)


def test_librispeech_of_one_reader_is_refused(librispeech_root):
    with pytest.raises(DataError, match="at least 2 classes, got \\['26'\\]"):
        CORPORA.get("librispeech").load(librispeech_root / "dev-clean")


# Order


def test_natural_order_counts():
    assert sorted(["a10", "a2", "a1", "b", "10", "9"], key=natural_key) == ["9", "10", "a1", "a2", "a10", "b"]


@given(st.lists(st.text(st.sampled_from("a9.²٣½ "), max_size=6)))
def test_natural_order_takes_any_text(texts):
    assert Counter(sorted(texts, key=natural_key)) == Counter(texts)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.text(st.characters(categories=["L"]), max_size=5))
def test_natural_order_compares_numbers(first, second, prefix):
    assert (natural_key(f"{prefix}{first}") < natural_key(f"{prefix}{second}")) == (first < second)


@given(st.permutations([(Path(f"{label}/{n}.wav"), Recording(label)) for label in ("sad", "angry") for n in range(12)]))
def test_order_of_a_manifest_does_not_depend_on_the_disk(rows):
    manifest = build_manifest(rows, ("sad", "angry"), "custom")
    assert list(manifest.frame["path"]) == [f"{label}/{n}.wav" for label in ("sad", "angry") for n in range(12)]


# Real recordings


@pytest.mark.recordings
def test_real_ravdess_is_complete(ravdess_root):
    manifest = CORPORA.get("ravdess").load(ravdess_root)
    assert [path.stem for path in manifest.paths] == [
        path.stem for path in build_manifest(
            [(Path(name), CORPORA.get("ravdess").parse(PurePosixPath(name))) for name in RAVDESS_NAMES],
            manifest.class_names, "ravdess",
        ).paths
    ]  # fmt: skip


@pytest.mark.recordings
def test_real_emodb_has_four_of_its_classes(emodb_root):
    with pytest.warns(SerzooWarning, match="no recording of boredom, disgust, fear"):
        manifest = CORPORA.get("emodb").load(emodb_root)
    assert len(manifest) == 339
    assert Counter(manifest.frame["label"]) == {"angry": 127, "happy": 71, "neutral": 79, "sad": 62}
    assert manifest.class_names == ("angry", "happy", "neutral", "sad")
    assert len(set(manifest.frame["speaker"])) == 10
