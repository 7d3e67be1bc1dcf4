"""Model cards and the store: packaged weights match their cards, and others are refused in one line.

Emotion weights have further tests in tests/contract/test_pretrained.py.
"""

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io

import serzoo
from serzoo import strict_yaml
from serzoo.classical.estimators import trusted_types
from serzoo.classical.gender_classifier import GENDERS, load_gender_classifier
from serzoo.data.corpora.corpus import CORPORA
from serzoo.errors import ConfigError, UnknownNameError, WeightsError
from serzoo.features.spec import spec_from_dict
from serzoo.weights import cards, store
from serzoo.weights.cards import GenderCard
from serzoo.weights.check_clips import EMOTION_CLIP, GENDER_CLIP, read_check_clip

NAME = "gender-ravdess"
CARD = GenderCard(
    name="model",
    summary="the same for all speakers",
    bytes=0,
    sha256=64 * "0",
    corpus="ravdess",
    source="",
    licence="CC0",
    protocol="none",
    scores={"accuracy": 0.5},
    class_names=GENDERS,
    feature_spec={"kind": "mfcc"},
    versions={"numpy": np.__version__},
    input=dict(GENDER_CLIP),
    output=(0.25, 0.75),
)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A copy of the store that may be damaged."""
    folder = tmp_path / "files"
    shutil.copytree(store.FILES, folder)
    monkeypatch.setattr(store, "FILES", folder)
    return folder


def change_card(folder, **changes):
    path = folder / f"{NAME}.yaml"
    values = json.loads(json.dumps(strict_yaml.read(path))) | changes
    path.write_text(strict_yaml.dump({key: value for key, value in values.items() if value is not None}))


def refused(error=WeightsError, name=NAME):
    with pytest.raises(error) as caught:
        load_gender_classifier(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Weights of the package -----------------------------------------------------------------------------------------------


def test_the_folder_holds_cards_their_weights_and_the_check_clips_only():
    assert NAME in serzoo.list_pretrained("gender")
    found = [store.pretrained_card(name) for name in serzoo.list_pretrained()]
    named = {f"{card.name}.yaml" for card in found} | {card.file for card in found if card.url is None}
    named |= {"LICENSE", "check-happy-male.wav", "check-neutral-female.wav"}
    assert {path.name for path in store.FILES.iterdir()} == named


@pytest.mark.parametrize("name", serzoo.list_pretrained("gender"))
def test_a_pretrained_gender_classifier_matches_its_card(name):
    card, path = store.pretrained_file(name)
    model = load_gender_classifier(name)  # which checks the fixed output
    assert (card.kind, card.class_names, model.class_names) == ("gender", GENDERS, GENDERS)
    assert spec_from_dict(card.feature_spec) == model.feature_spec
    assert card.licence == CORPORA.get(card.corpus).licence
    assert card.source == CORPORA.get(card.corpus).source
    assert "speaker-disjoint" in card.protocol
    assert 0.9 < card.scores["accuracy"] <= 1
    assert 0.001 < min(card.output) < 0.5, "a probability at 0 or 1 would not change with the features"
    assert path.stat().st_size < 200_000
    assert {"serzoo", "numpy", "librosa", "scikit-learn"} <= set(card.versions)


@pytest.mark.parametrize("name", serzoo.list_pretrained("gender"))
def test_a_pretrained_classifier_holds_no_code(name):
    _, path = store.pretrained_file(name)
    with zipfile.ZipFile(path) as archive:
        assert {Path(member).suffix for member in archive.namelist()} <= {".json", ".npy"}
    model = load_gender_classifier(name)
    assert set(skops.io.get_untrusted_types(file=path)) <= set(trusted_types(model.name, model.arguments))


def test_a_name_is_one_wherever_it_is_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()
    assert load_gender_classifier(NAME).class_names == GENDERS
    for path in (Path(NAME), f"./{NAME}"):
        with pytest.raises(WeightsError, match=r"has no model\.skops"):
            load_gender_classifier(path)


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gender-ravdes", "Did you mean 'gender-ravdess'? "),
        ("xyz", ""),
        ("timnet.ravdess_v", "Did you mean 'timnet.ravdess_v2'? "),
    ],
)
def test_an_unknown_name_comes_with_the_nearest(name, hint):
    message = refused(UnknownNameError, name)
    assert message.startswith(f"Unknown pretrained weights {name!r}. {hint}Known: ")
    assert NAME in message


def test_a_changed_file_is_refused(files):
    path = files / f"{NAME}.skops"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "gender-ravdess.skops has the SHA-256 " in refused()


def test_a_file_of_another_size_is_refused(files):
    path = files / f"{NAME}.skops"
    n_bytes = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"0")
    assert f"has {n_bytes + 1} bytes, its card states {n_bytes}; install serzoo again" in refused()


def test_a_missing_file_is_refused(files):
    (files / f"{NAME}.skops").unlink()
    assert "gender-ravdess.skops cannot be read (No such file or directory)" in refused()


def test_probabilities_other_than_the_cards_are_refused(files):
    female, male = store.pretrained_card(NAME).output
    change_card(files, output=[female - 0.9e-5, male + 0.9e-5])
    load_gender_classifier(NAME)
    change_card(files, output=[female - 1.1e-5, male + 1.1e-5])
    message = refused()
    assert message.startswith(f"{NAME} returns {female:.6f}, {male:.6f} for its check clip, its card states ")
    assert message.endswith("; get it again.")
    change_card(files, output=[female, male, 0.0])
    assert "its card states" in refused()


def test_a_difference_names_packages_of_other_versions(files):
    change_card(files, output=[0.5, 0.5], versions={"librosa": "0.0.1", "numpy": np.__version__, "torrch": "2"})
    assert refused().endswith("it was made with librosa==0.0.1 torrch==2: install these.")


@pytest.mark.parametrize("clip", [EMOTION_CLIP, GENDER_CLIP], ids=["emotion", "gender"])
def test_the_check_is_on_the_clip_that_the_card_names(clip):
    card, received = dataclasses.replace(CARD, input=dict(clip)), []
    store.check_output(card, lambda *given: received.append(given) or (0.25, 0.75))
    ((waveform, sample_rate),) = received
    assert (waveform.dtype, sample_rate) == (np.float32, 48_000)
    # the file is a 32-bit float copy of the synthetic clip, whose last bits differ from machine to machine
    np.testing.assert_allclose(waveform, serzoo.data.synthetic_voice.synthesize(**clip), rtol=0, atol=1e-6)
    with pytest.raises(WeightsError, match=r"model returns nan, 0\.750000"):
        store.check_output(card, lambda *_: (float("nan"), 0.75))


def test_only_the_two_check_clips_can_be_read():
    with pytest.raises(
        WeightsError, match=r"^input is \{'label': 'sad'\}; it must name one of serzoo's check clips\.$"
    ):
        read_check_clip({"label": "sad"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": None}, "is not a valid model card (card: the key 'licence' is missing; add it); get"),
        ({"note": "x"}, "is not a valid model card (card, note: Unknown key 'note'. Did you mean 'name'?"),
        ({"bytes": "many"}, "(card: bytes is 'many'; it must be an integer); get it again."),
        ({"bytes": True}, "(card: bytes is True; it must be an integer)"),
        ({"kind": "mood"}, "is not a valid model card (its kind is 'mood', not emotion or gender); get it again."),
        ({"kind": None}, "its kind is None"),
        ({"name": "gender-other"}, "gender-ravdess.yaml is the card of gender-other; rename it to gender-other.yaml."),
        ({"name": "../gender"}, "(card: name is '../gender'; it must be ASCII letters"),
        ({"sha256": "abc"}, "(card: sha256 is 'abc'; it must be 64 hexadecimal digits); get it"),
        ({"url": "file:///etc/passwd"}, "(card: url is 'file:///etc/passwd'; it must be an address"),
        ({"url": 7}, "(card: url is 7; it must be text (in quotes if it looks like a number), or None (null in YAML))"),
        ({"output": ["a", "b"]}, "(card: output is 'a'; it must be a number)"),
        ({"class_names": "female"}, "(card: class_names is 'female'; it must be a list)"),
        ({"versions": {"numpy": 2.4}}, "(card: versions.numpy is 2."),
        ({"input": {"label": "sad"}}, "(card: input is {'label': 'sad'}; it must be one of the clips of"),
        ({"input": {**CARD.input, "label": "glad"}}, "(card: input is {'label': 'glad', "),
    ],
)
def test_a_damaged_card_is_refused(files, changes, message):
    change_card(files, **changes)
    assert message in refused()


def test_a_card_that_is_not_yaml_is_refused(files):
    for text, message in (("a: !b", "not strict YAML"), ("7", "is not a valid model card (it holds 7, no keys)")):
        (files / f"{NAME}.yaml").write_text(text)
        assert message in refused()


def test_a_gender_card_of_another_classifier_is_refused(files, monkeypatch):
    other = dataclasses.replace(load_gender_classifier(NAME), class_names=("sad", "happy"))
    card = store.save_with_card(
        files / "other.skops",
        other.save,
        lambda n, sha: dataclasses.replace(CARD, name="other", bytes=n, sha256=sha),
    )
    assert card == files / "other.yaml"
    assert "has the classes sad, happy, not female and male" in refused(name="other")
    with pytest.raises(WeightsError, match="logistic_regression has the classes sad, happy, not"):
        load_gender_classifier(other)


# Writing --------------------------------------------------------------------------------------------------------------


def write(file, content=b"abc", card=CARD, check=None):
    def describe(n_bytes, sha256):
        return dataclasses.replace(card, name=store.set_name(file), bytes=n_bytes, sha256=sha256)

    return store.save_with_card(file, lambda path: path.write_bytes(content), describe, check)


def test_a_card_is_read_as_it_was_written(tmp_path):
    path = write(tmp_path / "new" / "model.bin")
    card = cards.read_card(path)
    assert card == dataclasses.replace(CARD, bytes=3, sha256=card.sha256)
    assert card.sha256.startswith("ba7816bf8f01cfea"), "SHA-256 of abc"
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.bin", "model.yaml"]


def test_nothing_half_written_stays(tmp_path):
    def fail(*_):
        raise WeightsError("no")

    for save, describe in ((fail, None), (lambda path: path.write_bytes(b"new"), fail)):
        with pytest.raises(WeightsError, match=r"^no$"):
            store.save_with_card(tmp_path / "model.bin", save, describe)
        assert list(tmp_path.iterdir()) == []
    card = write(tmp_path / "model.bin")
    kept = card.read_bytes()
    with pytest.raises(WeightsError, match=r"^no$"):
        store.save_with_card(tmp_path / "model.bin", lambda path: path.write_bytes(b"new"), fail)
    assert ((tmp_path / "model.bin").read_bytes(), card.read_bytes()) == (b"abc", kept)


def test_unusable_weights_are_not_written(tmp_path):
    def check(card):
        assert sorted(path.name for path in card.parent.iterdir()) == ["model.bin", "model.yaml"]
        raise WeightsError("not what it should be")

    with pytest.raises(WeightsError, match="not what it should be"):
        write(tmp_path / "model.bin", check=check)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "name"), [("a.b_v1.weights.h5", "a.b_v1"), ("gender.skops", "gender"), ("x.y.bin", "x.y")]
)
def test_weights_are_named_after_their_file(tmp_path, file, name):
    assert write(tmp_path / file) == tmp_path / f"{name}.yaml"
    assert cards.read_card(tmp_path / f"{name}.yaml").name == name


def test_a_file_with_an_invalid_name_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"name is 'my model'; it must be ASCII letters"):
        write(tmp_path / "my model.bin")


def test_a_card_replaces_only_a_card(tmp_path):
    write(tmp_path / "model.bin")
    write(tmp_path / "model.bin", b"abcd")
    assert cards.read_card(tmp_path / "model.yaml").bytes == 4
    (tmp_path / "model.yaml").write_text("name: my-recipe\n")
    with pytest.raises(
        ConfigError, match=r"model\.yaml is not a model card, and the card of model\.bin would replace it; choose"
    ):
        write(tmp_path / "model.bin")
    assert (tmp_path / "model.yaml").read_text() == "name: my-recipe\n"
