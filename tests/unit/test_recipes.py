import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import serzoo
from serzoo import list_pretrained, strict_yaml
from serzoo.errors import ConfigError, SerzooError, UnknownNameError
from serzoo.experiments.setup import prepare_recipe
from serzoo.features.spec import LogMelSpec, MFCCSpec
from serzoo.recipes import Recipe, config_folder, list_recipes, load_recipe, read_recipe, recipe_from_dict
from serzoo.settings import (
    AntiTransferConfig,
    InitialWeights,
    ModelConfig,
    OptimizerConfig,
    ReconstructionConfig,
    RHEmoConfig,
    SpecAugmentConfig,
    TrainingConfig,
    WaveformAugmentConfig,
)

REPOSITORY = Path(__file__).resolve().parents[2]

TEXT = """\
name: my-recipe
corpus: ravdess
model:
  name: timnet
  arguments: {n_blocks: 3, backward: false}
features:
  kind: mfcc
  n_samples: 110000
protocol: random10-seed46-v1
training:
  optimizer: {name: adam, learning_rate: 1e-3, epsilon: 1E-8}
  epochs: 500
  waveform_augment: {gain_db: 6, noise_snr_db: null}
class_names: [angry, sad]
"""

RECIPE = Recipe(
    name="my-recipe",
    corpus="ravdess",
    model=ModelConfig("timnet", {"n_blocks": 3, "backward": False}),
    protocol="random10-seed46-v1",
    features=MFCCSpec(n_samples=110_000),
    training=TrainingConfig(
        optimizer=OptimizerConfig("adam", learning_rate=0.001, epsilon=1e-8),
        epochs=500,
        waveform_augment=WaveformAugmentConfig(gain_db=6.0),
    ),
    class_names=("angry", "sad"),
)


def message(error: pytest.ExceptionInfo[SerzooError]) -> str:
    """Return the error's message after checking that it is one line of bearable length."""
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def fails_with(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(SerzooError) as error:
        read_recipe(path)
    text = message(error)
    assert text.startswith(str(path))
    return text.removeprefix(str(path))


# Recipes --------------------------------------------------------------------------------------------------------------


def test_every_value_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    assert load_recipe(path) == read_recipe(path) == RECIPE
    assert isinstance(read_recipe(path).training.waveform_augment.gain_db, float)


def test_a_recipe_survives_being_written(tmp_path: Path) -> None:
    path = tmp_path / "again.yaml"
    path.write_text(RECIPE.to_yaml())
    assert read_recipe(path) == RECIPE
    assert recipe_from_dict(RECIPE.to_dict()) == RECIPE


def test_a_recipe_that_is_loaded_already_is_returned() -> None:
    assert load_recipe(RECIPE) is RECIPE


@pytest.mark.parametrize("name", ["timnet-ravdes", "timnet/ravdess"])
def test_unknown_recipe(name: str) -> None:
    with pytest.raises(UnknownNameError, match="Known: timnet-ravdess, "):
        load_recipe(name)


def test_a_recipe_without_a_name() -> None:
    with pytest.raises(UnknownNameError, match=r"^Unknown recipe ''\. Known: .* more\.$"):
        load_recipe("")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read") as error:
        load_recipe(tmp_path / "none.yaml")
    message(error)
    with pytest.raises(ConfigError, match="directory"):
        read_recipe(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "place", "what"),
    [
        ("epochs: 500", "epochz: 500", " line 12, training.epochz: ", "Unknown key 'epochz'. Did you mean 'epochs'?"),
        ("corpus:", "korpus:", " line 2, korpus: ", "Did you mean 'corpus'?"),
        ("n_samples", "n_sample", " line 8, features.n_sample: ", "Did you mean 'n_samples'?"),
        ("epsilon", "eps", " line 11, training.optimizer.eps: ", "Unknown key 'eps'"),
        ("corpus: ravdess\n", "", ": ", "the key 'corpus' is missing"),
        ("name: timnet\n", "", " line 3, model: ", "the key 'name' is missing"),
        ("epochs: 500", "epochs: '500'", " line 12: ", "training.epochs is '500'; it must be an integer of at least 1"),
        ("epochs: 500", "epochs: 5.0", " line 12: ", "training.epochs is 5.0; it must be an integer of at least 1"),
        ("epochs: 500", "epochs: true", " line 12: ", "training.epochs is True; it must be an integer of at least 1"),
        ("epochs: 500", "epochs: 0", " line 12: ", "training.epochs is 0; it must be an integer of at least 1"),
        (
            "epochs: 500",
            "batch_size: -1",
            " line 12: ",
            "training.batch_size is -1; it must be an integer of at least 1",
        ),
        (
            "epochs: 500",
            "seed: -1",
            " line 12: ",
            "training.seed is -1; it must be an integer of at least 0 and below 4294967296",
        ),
        (
            "epochs: 500",
            "seed: 4294967296",
            " line 12: ",
            "training.seed is 4294967296; it must be an integer of at least 0 and below 4294967296",
        ),
        (
            "epochs: 500",
            "label_smoothing: 1",
            " line 12: ",
            "training.label_smoothing is 1; it must be a number of at least 0 and below 1",
        ),
        (
            "epochs: 500",
            "validation_fraction: 0",
            " line 12: ",
            "training.validation_fraction is 0; it must be a number above 0 and below 1",
        ),
        ("epochs: 500", "selection: last", " line 12, training.selection: ", "Did you mean 'last-epoch'?"),
        ("epochs: 500", "jit_compile: 1", " line 12: ", "training.jit_compile is 1; it must be true or false"),
        (
            "epochs: 500",
            "class_weights: yes",
            " line 12: ",
            "training.class_weights is 'yes'; it must be true or false",
        ),
        ("epochs: 500", "class_weight: true", " line 12, training.class_weight: ", "Did you mean 'class_weights'?"),
        (
            "corpus: ravdess",
            "corpus: ravdess\nrepeats: 0",
            " line 3: ",
            "repeats is 0; it must be an integer of at least 1",
        ),
        (
            "corpus: ravdess",
            "corpus: ravdess\nrepeats: five",
            " line 3: ",
            "repeats is 'five'; it must be an integer of at least 1",
        ),
        (
            "epochs: 500",
            "spec_augment: {time_masks: -1}",
            " line 12: ",
            "training.spec_augment.time_masks is -1; it must be an integer of at least 0",
        ),
        ("epochs: 500", "optimizer: 5", " line 12: ", "the key 'optimizer' occurs twice"),
        ("name: adam", "name: adm", " line 11, training.optimizer.name: ", "Did you mean 'adam'?"),
        ("1e-3", "0", " line 11: ", "training.optimizer.learning_rate is 0; it must be a number above 0"),
        ("1e-3", "-1e-3", " line 11: ", "training.optimizer.learning_rate is -0.001; it must be a number above 0"),
        ("1e-3", "1e999", " line 11: ", "training.optimizer.learning_rate is inf; it must be a number above 0"),
        (
            "1e-3",
            "9" * 400,
            " line 11: ",
            "training.optimizer.learning_rate is 999",
        ),
        ("1e-3", ".nan", " line 11: ", "training.optimizer.learning_rate is '.nan'; it must be a number above 0"),
        ("1e-3", "fast", " line 11: ", "training.optimizer.learning_rate is 'fast'; it must be a number above 0"),
        (
            "1e-3",
            "1e-3, beta_1: 1",
            " line 11: ",
            "training.optimizer.beta_1 is 1; it must be a number of at least 0 and below 1",
        ),
        (
            "gain_db: 6",
            "gain_db: -6",
            " line 13: ",
            "training.waveform_augment.gain_db is -6; it must be a number of at least 0",
        ),
        ("gain_db: 6", "shift: 2", " line 13: ", "training.waveform_augment.shift is 2; it must be a number in 0..1"),
        (
            "{n_blocks: 3, backward: false}",
            "3",
            " line 5: ",
            "model.arguments is 3; it must be a set of keys and values",
        ),
        (
            "110000",
            "110k",
            " line 8: ",
            "features.n_samples is '110k'; it must be an integer of at least 1, or None (null in YAML)",
        ),
        (
            "110000",
            "0",
            " line 8: ",
            "features.n_samples is 0; it must be an integer of at least 1, or None (null in YAML)",
        ),
        ("kind: mfcc", "kind: mfc", " line 7, features.kind: ", "Did you mean 'mfcc'?"),
        ("kind: mfcc", "kind: [mfcc]", " line 7, features.kind: ", "Unknown feature kind"),
        ("my-recipe", "../mine", ": ", "name is '../mine'; use letters"),
        ("my-recipe", "''", ": ", "name is ''; use letters"),
        ("my-recipe", "7", " line 1: ", "name is 7; it must be text (in quotes if it looks like a number)"),
        ("epochs: 500", "precision: bfloat15", " line 12, training.precision: ", "Did you mean 'bfloat16'?"),
        (
            "epochs: 500",
            "precise_norm: often",
            " line 12: ",
            "training.precise_norm is 'often'; it must be true or false",
        ),
        ("[angry, sad]", "angry", " line 14: ", "class_names is 'angry'; it must be a list, or None (null in YAML)"),
        (
            "[angry, sad]",
            "[1, 2]",
            " line 14: ",
            "class_names is 1; it must be text (in quotes if it looks like a number)",
        ),
        (
            TEXT[TEXT.index("  kind") : TEXT.index("protocol")],
            "",
            " line 6: ",
            "features is None; it must be a set of keys and values",
        ),
        (TEXT, "", ": ", "the document is None; it must be a set of keys and values"),
        (TEXT, "- 1", ": ", "the document is [1]; it must be a set of keys and values"),
        (TEXT, "x" * 9999, ": ", "the document is 'xxx"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, place: str, what: str) -> None:
    assert old in TEXT
    text = fails_with(tmp_path, TEXT.replace(old, new, 1))
    assert text.startswith(place)
    assert what in text


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("name: timnet", "name: timnett", "Unknown model 'timnett'. Did you mean 'timnet'?"),
        ("corpus: ravdess", "corpus: radvess", "Unknown corpus 'radvess'. Did you mean 'ravdess'?"),
        ("corpus: ravdess", "corpus: ravdess\ntest_corpus: emobd", "Did you mean 'emodb'?"),
        ("corpus: ravdess", "corpus: ravdess\ntest_corpus: emodb", "does not take a test_corpus"),
        ("random10-seed46-v1", "cross-shared5-v1", "protocol cross-shared5-v1 needs a test_corpus"),
        ("random10-seed46-v1", "inner-cross-shared5-v1", "inner-cross-shared5-v1 needs a test_corpus"),
        ("random10-seed46-v1", "loso-v2", "Did you mean 'loso-v1'?"),
    ],
)
def test_names_are_checked_where_an_experiment_starts(tmp_path: Path, old: str, new: str, what: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace(old, new, 1))
    assert read_recipe(path).name == "my-recipe"
    with pytest.raises(SerzooError) as error:
        prepare_recipe(path)
    assert message(error).startswith("my-recipe: ")
    assert what in message(error)


# Recipes that extend others -------------------------------------------------------------------------------------------


def write(folder: Path, **texts: str) -> Path:
    """Write recipes by name and return the file of the last one."""
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{name}.yaml"


def test_a_recipe_extends_one_of_the_zoo(tmp_path: Path) -> None:
    text = "name: mine\nextends: timnet-ravdess\nmodel: {arguments: {n_blocks: 3}}\ntraining: {epochs: 2}\n"
    recipe, base = read_recipe(write(tmp_path, mine=text)), load_recipe("timnet-ravdess")
    changes = {"name": "mine", "summary": "", "source": "", "model.arguments.n_blocks": 3, "training.epochs": 2}
    assert recipe == base.override(changes)
    assert recipe_from_dict(recipe.to_dict()) == recipe
    assert "extends" not in recipe.to_dict()


def test_a_recipe_extends_a_file_in_its_folder(tmp_path: Path) -> None:
    first = "name: first\nextends: my-recipe.yaml\ntraining: {waveform_augment: {shift: 0.5}, optimizer: {name: nadam}}"
    second = "name: second\nextends: first.yaml\nclass_names: null\nmodel: {arguments: {dropout: 0.2}}\n"
    recipe = read_recipe(write(tmp_path, **{"my-recipe": TEXT, "first": first, "second": second}))
    assert recipe == RECIPE.override(
        {
            "name": "second",
            "summary": "",
            "source": "",
            "class_names": None,
            "model.arguments.dropout": 0.2,
            "training.waveform_augment.shift": 0.5,
            "training.optimizer.name": "nadam",
        }
    )


def test_features_of_another_kind_inherit_nothing(tmp_path: Path) -> None:
    text = "name: mine\nextends: my-recipe.yaml\nfeatures: {kind: logmel, segment_frames: 300}\n"
    recipe = read_recipe(write(tmp_path, **{"my-recipe": TEXT, "mine": text}))
    assert recipe.features == LogMelSpec(segment_frames=300)


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("extends: my-recipe.yaml\n", ": ", "the key 'name' is missing"),
        ("name: mine\nextends: timnet-ravdes\n", " line 2, extends: ", "Did you mean 'timnet-ravdess'?"),
        ("name: mine\nextends: ../my-recipe.yaml\n", " line 2, extends: ", "Unknown recipe to extend"),
        ("name: mine\nextends: [timnet-ravdess]\n", " line 2, extends: ", "Unknown recipe to extend"),
        ("name: mine\nextends: mine.yaml\n", " line 2, extends: ", "mine.yaml extends this recipe in turn"),
        ("name: mine\nextends: my-recipe.yaml\nepochs: 2\n", " line 3, epochs: ", "Unknown key 'epochs'"),
        ("name: mine\nextends: my-recipe.yaml\nmodel: 3\n", " line 3: ", "model is 3; it must be"),
        (
            "name: mine\nextends: my-recipe.yaml\n\ntraining: {epochs: 0}\n",
            " line 4: ",
            "training.epochs is 0; it must be an integer of at least 1",
        ),
    ],
)
def test_a_mistake_in_what_extends_is_named(tmp_path: Path, text: str, place: str, what: str) -> None:
    write(tmp_path, **{"my-recipe": TEXT})
    found = fails_with(tmp_path, text)
    assert found.startswith(place)
    assert what in found


def test_a_mistake_in_the_extended_recipe_is_named_with_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, base=TEXT.replace("epochs: 500", "epochs: 0"), mine="name: mine\nextends: base.yaml\n")
    with pytest.raises(ConfigError, match=r"base\.yaml line 12: training\.epochs is 0"):
        read_recipe(path)
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        read_recipe(write(tmp_path, mine="name: mine\nextends: none.yaml\n"))


def test_recipes_extend_in_one_direction_and_few_steps(tmp_path: Path) -> None:
    circle = {name: f"name: {name}\nextends: {other}.yaml\n" for name, other in ("ab", "ba")}
    with pytest.raises(ConfigError, match=r"a\.yaml line 2, extends: b\.yaml extends this recipe in turn"):
        read_recipe(write(tmp_path, **circle))
    steps = {f"step{n}": f"name: step{n}\nextends: step{n - 1}.yaml\n" for n in range(1, 6)}
    write(tmp_path, step0=TEXT, **steps)
    assert read_recipe(tmp_path / "step4.yaml").training == RECIPE.training
    with pytest.raises(ConfigError, match="more than 4 recipes extend each other"):
        read_recipe(tmp_path / "step5.yaml")


def test_codes_in_quotes_and_codes_with_a_leading_zero_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace("[angry, sad]", "['01', 02, '3', no, 2023-06-04, 1:30]"))
    assert read_recipe(path).class_names == ("01", "02", "3", "no", "2023-06-04", "1:30")


LOGMEL_TEXT = TEXT.replace(
    "kind: mfcc\n  n_samples: 110000", "kind: logmel\n  segment_frames: 300\n  preemphasis: 0.97"
)


def test_log_mel_features_are_read_as_such(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(LOGMEL_TEXT)
    recipe = read_recipe(path)
    assert recipe == replace(RECIPE, features=LogMelSpec(segment_frames=300, preemphasis=0.97))
    assert recipe.to_dict()["features"]["kind"] == "logmel"
    assert recipe_from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("old", "new", "place", "what"),
    [
        ("segment_frames", "segment_frame", " line 8, features.segment_frame: ", "Did you mean 'segment_frames'?"),
        ("segment_frames", "n_mfcc", " line 8, features.n_mfcc: ", "Unknown key 'n_mfcc'"),
        (
            "300",
            "3e2",
            " line 8: ",
            "features.segment_frames is 300.0; it must be an integer of at least 1, or None (null in YAML)",
        ),
        (
            "300",
            "0",
            " line 8: ",
            "features.segment_frames is 0; it must be an integer of at least 1, or None (null in YAML)",
        ),
        ("0.97", "1", " line 9: ", "features.preemphasis is 1; it must be a number of at least 0 and below 1"),
        ("0.97", "0.97\n  window: haming", " line 10, features.window: ", "Did you mean 'hamming'?"),
        ("kind: logmel", "kind: lgmel", " line 7, features.kind: ", "Did you mean 'logmel'?"),
        ("  kind: logmel\n", "", " line 8, features.preemphasis: ", "Unknown key 'preemphasis'"),
    ],
)
def test_a_mistake_in_log_mel_features_is_named(tmp_path: Path, old: str, new: str, place: str, what: str) -> None:
    assert old in LOGMEL_TEXT
    text = fails_with(tmp_path, LOGMEL_TEXT.replace(old, new, 1))
    assert text.startswith(place)
    assert what in text


STAGES_TEXT = (
    TEXT.replace("  epochs: 500", "  selection: best-validation-loss\n  patience: 20\n  epochs: 500")
    + """\
target: speaker
initial:
  model: runs/a/fold01
  layers: [encoder]
anti_transfer:
  pretrained: [runs/b/fold01, c.keras]
  layers: [2, 5]
  beta: 3
"""
)
RH_EMO_TEXT = (
    TEXT.replace("  epochs: 500", "  selection: best-validation-loss\n  epochs: 500")
    + """\
rh_emo:
  reconstruction: {epochs: 7, batch_size: 3, patience: 2}
  beta_class: 0
"""
)


def test_what_a_training_starts_from_and_is_against_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(STAGES_TEXT)
    recipe = read_recipe(path)
    assert recipe == replace(
        RECIPE,
        training=replace(RECIPE.training, selection="best-validation-loss", patience=20),
        target="speaker",
        initial=InitialWeights("runs/a/fold01", ("encoder",)),
        anti_transfer=AntiTransferConfig(("runs/b/fold01", "c.keras"), (2, 5), 3.0),
    )
    assert recipe.weight_files == ("runs/a/fold01", "runs/b/fold01", "c.keras")
    assert recipe_from_dict(recipe.to_dict()) == recipe
    path.write_text(recipe.to_yaml())
    assert read_recipe(path) == recipe


def test_the_stages_of_rh_emo_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(RH_EMO_TEXT)
    recipe = read_recipe(path)
    first = ReconstructionConfig(epochs=7, batch_size=3, patience=2)
    assert recipe == replace(
        RECIPE,
        training=replace(RECIPE.training, selection="best-validation-loss"),
        rh_emo=RHEmoConfig(first, alpha=1.0, beta=0.01, beta_class=0.0, beta_vad=100.0),
    )
    path.write_text(recipe.to_yaml())
    assert read_recipe(path) == recipe


def test_what_is_not_named_is_off() -> None:
    assert RECIPE.training.patience is None
    assert (RECIPE.target, RECIPE.initial, RECIPE.anti_transfer, RECIPE.rh_emo) == ("label", None, None, None)
    assert RECIPE.weight_files == ()
    assert InitialWeights("a").layers is None
    assert AntiTransferConfig(("a",)) == AntiTransferConfig(("a",), layers=(2,), beta=1.0)


@pytest.mark.parametrize(
    ("old", "new", "place", "what"),
    [
        (
            "patience: 20",
            "patience: 0",
            " line 13: ",
            "training.patience is 0; it must be an integer of at least 1, or None (null in YAML)",
        ),
        (
            "patience: 20",
            "patience: 2.5",
            " line 13: ",
            "training.patience is 2.5; it must be an integer of at least 1, or None (null in YAML)",
        ),
        ("patience: 20", "patiance: 20", " line 13, training.patiance: ", "Did you mean 'patience'?"),
        (
            "best-validation-loss",
            "last-epoch",
            " line 10, training: ",
            "patience is 20, but no epoch is better than another under last-epoch; choose another selection or",
        ),
        (
            "best-validation-loss",
            "best-validation-los",
            " line 12, training.selection: ",
            "Did you mean 'best-validation-loss'?",
        ),
        (
            "target: speaker",
            "target: 5",
            " line 17: ",
            "target is 5; it must be text (in quotes if it looks like a number)",
        ),
        ("  model: runs/a/fold01\n", "", " line 18, initial: ", "the key 'model' is missing"),
        (
            "[encoder]",
            "[]",
            " line 20: ",
            "initial.layers is []; it must be a list of one or more values, each text, or None",
        ),
        (
            "[encoder]",
            "encoder",
            " line 20: ",
            "initial.layers is 'encoder'; it must be a list of one or more values, each text, or None",
        ),
        ("layers: [encoder]", "layer: x", " line 20, initial.layer: ", "Did you mean 'layers'?"),
        (
            "[runs/b/fold01, c.keras]",
            "[]",
            " line 22: ",
            "anti_transfer.pretrained is []; it must be a list of one or more values, each text",
        ),
        (
            "[runs/b/fold01, c.keras]",
            "b",
            " line 22: ",
            "anti_transfer.pretrained is 'b'; it must be a list of one or more values, each text",
        ),
        (
            "[2, 5]",
            "[]",
            " line 23: ",
            "anti_transfer.layers is []; it must be a list of one or more different values",
        ),
        (
            "[2, 5]",
            "[0]",
            " line 23: ",
            "anti_transfer.layers is [0]; it must be a list of one or more different values",
        ),
        (
            "[2, 5]",
            "[5, 2, 5]",
            " line 23: ",
            "anti_transfer.layers is [5, 2, 5]; it must be a list of one or more different values",
        ),
        ("[2, 5]", "[two]", " line 23: ", "anti_transfer.layers is 'two'; it must be an integer"),
        ("beta: 3", "beta: 0", " line 24: ", "anti_transfer.beta is 0; it must be a number above 0"),
        ("beta: 3", "beta: 1e999", " line 24: ", "anti_transfer.beta is inf; it must be a number above 0"),
        ("beta: 3", "betta: 3", " line 24, anti_transfer.betta: ", "Did you mean 'beta'?"),
        (
            "best-validation-loss\n  patience: 20",
            "last-epoch",
            ": ",
            "anti_transfer.layers names 2 layers, of which one is chosen on the validation part; set",
        ),
        ("best-validation-loss", "leaky-best-test-war", ": ", "anti_transfer.layers names 2 layers"),
        ("target: speaker", "rh_emo: {}", ": ", "anti_transfer and rh_emo are both set"),
    ],
)
def test_a_mistake_in_stages_is_named(tmp_path: Path, old: str, new: str, place: str, what: str) -> None:
    assert old in STAGES_TEXT
    text = fails_with(tmp_path, STAGES_TEXT.replace(old, new, 1))
    assert text.startswith(place)
    assert what in text


@pytest.mark.parametrize(
    ("old", "new", "place", "what"),
    [
        ("beta_class: 0", "beta_class: -1", " line 18: ", "rh_emo.beta_class is -1; it must be a number of at least 0"),
        ("beta_class: 0", "beta: 0", " line 18: ", "rh_emo.beta is 0; it must be a number above 0"),
        ("beta_class: 0", "alpha: 0", " line 18: ", "rh_emo.alpha is 0; it must be a number above 0"),
        ("beta_class: 0", "beta_vda: 0", " line 18, rh_emo.beta_vda: ", "Did you mean 'beta_vad'?"),
        (
            "epochs: 7",
            "epochs: 0",
            " line 17: ",
            "rh_emo.reconstruction.epochs is 0; it must be an integer of at least 1",
        ),
        ("epochs: 7", "epoch: 7", " line 17, rh_emo.reconstruction.epoch: ", "Did you mean 'epochs'?"),
        (
            "batch_size: 3",
            "batch_size: 0",
            " line 17: ",
            "rh_emo.reconstruction.batch_size is 0; it must be an integer of at least 1",
        ),
        (
            "patience: 2",
            "patience: 0",
            " line 17: ",
            "rh_emo.reconstruction.patience is 0; it must be an integer of at least 1, or None (null in YAML)",
        ),
        ("patience: 2", "selection: last-epoch", " line 17, rh_emo.reconstruction.selection: ", "Unknown key"),
        ("best-validation-loss", "last-epoch", ": ", "rh_emo.reconstruction.patience is 2, but training.selection is"),
        ("best-validation-loss", "best-validation-uar", ": ", "RH-Emo's first stage classifies nothing; set it to"),
        ("best-validation-loss", "leaky-best-test-war", ": ", "RH-Emo's first stage classifies nothing; set it to"),
        ("best-validation-loss", "best-train-war", ": ", "RH-Emo's first stage classifies nothing; set it to"),
        (
            "  epochs: 500",
            "  class_weights: true",
            ": ",
            "training.class_weights is true, but RH-Emo's loss is of more",
        ),
    ],
)
def test_a_mistake_in_the_stages_of_rh_emo_is_named(tmp_path: Path, old: str, new: str, place: str, what: str) -> None:
    assert old in RH_EMO_TEXT
    text = fails_with(tmp_path, RH_EMO_TEXT.replace(old, new, 1))
    assert text.startswith(place)
    assert what in text


def test_a_training_of_one_layer_may_keep_the_last_epoch() -> None:
    recipe = replace(RECIPE, anti_transfer=AntiTransferConfig(("a.keras",), layers=(3,)))
    assert recipe.training.selection == "last-epoch"
    assert recipe.weight_files == ("a.keras",)


# Overriding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("training.epochs", 2, replace(RECIPE, training=replace(RECIPE.training, epochs=2))),
        ("protocol", "loso-v1", replace(RECIPE, protocol="loso-v1")),
        (
            "model.arguments.n_blocks",
            4,
            replace(RECIPE, model=ModelConfig("timnet", {"n_blocks": 4, "backward": False})),
        ),
        ("model.arguments", {}, replace(RECIPE, model=ModelConfig("timnet"))),
        ("features.n_samples", None, replace(RECIPE, features=MFCCSpec())),
        ("training.waveform_augment", None, replace(RECIPE, training=replace(RECIPE.training, waveform_augment=None))),
        (
            "training.spec_augment.time_masks",
            2,
            replace(RECIPE, training=replace(RECIPE.training, spec_augment=SpecAugmentConfig(time_masks=2))),
        ),
        ("anti_transfer.pretrained", ["a.keras"], replace(RECIPE, anti_transfer=AntiTransferConfig(("a.keras",)))),
        ("initial.model", "a.keras", replace(RECIPE, initial=InitialWeights("a.keras"))),
        (
            "rh_emo.reconstruction.epochs",
            9,
            replace(RECIPE, rh_emo=RHEmoConfig(ReconstructionConfig(epochs=9))),
        ),
    ],
)
def test_override(key: str, value: object, expected: Recipe) -> None:
    before = RECIPE.to_dict()
    assert RECIPE.override({key: value}) == expected
    assert RECIPE.to_dict() == before


def test_overriding_nothing_changes_nothing() -> None:
    assert RECIPE.override({}) == RECIPE


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("training.epoch", 2, r"override, training\.epoch: Unknown key 'epoch'\. Did you mean 'epochs'"),
        ("trainin.epochs", 2, r"override, trainin: Unknown key 'trainin'\. Did you mean 'training'"),
        ("training.epochs", "2", r"override: training\.epochs is '2'; it must be an integer of at least 1"),
        ("training.epochs", 0, r"override: training\.epochs is 0;"),
        ("training", 5, r"override: training is 5; it must be a set of keys and values"),
        ("name.first", 1, r"override: name is {'first': 1}; it must be text"),
        ("", 1, r"Unknown key ''"),
        ("anti_transfer.layers", [3], r"override, anti_transfer: the key 'pretrained' is missing"),
        ("training.patience", 5, r"override, training: patience is 5, but no epoch is better"),
    ],
)
def test_bad_override(key: str, value: object, what: str) -> None:
    with pytest.raises(SerzooError, match=what) as error:
        RECIPE.override({key: value})
    message(error)


# Strict YAML ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E5", 100_000.0), ("-2.5e+2", -250.0), (".5", 0.5), ("1.", 1.0), ("0", 0), ("-7", -7),
        ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("01", "01"), ("'01'", "01"), ("1_000", "1_000"), ("0x1F", "0x1F"), ("0o7", "0o7"), ("1:30", "1:30"),
        ("yes", "yes"), ("no", "no"), ("off", "off"), ("True", "True"), (".inf", ".inf"), (".nan", ".nan"),
        ("2023-06-04", "2023-06-04"), ("<<", "<<"), ("=", "="), ("'1e-3'", "1e-3"), ("1e", "1e"), ("e5", "e5"),
    ],
)  # fmt: skip
def test_plain_values(text: str, value: object) -> None:
    found = strict_yaml.parse(f"key: {text}", "test")["key"]
    assert found == value
    assert type(found) is type(value)


PRINTABLE = st.text(st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\x85\u2028\u2029"), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | PRINTABLE
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PRINTABLE, inner, max_size=3)
)


@given(st.dictionaries(PRINTABLE | st.sampled_from(["1e3", "01", "no", "null", "-", "<<"]), VALUES, max_size=4))
def test_what_is_dumped_is_read_back(values: dict[str, object]) -> None:
    assert strict_yaml.parse(strict_yaml.dump(values), "test") == values


def test_lines_are_known() -> None:
    values = strict_yaml.parse("a: 1\n\nb:\n  c: 2\n  d: {e: 3}\n", "test")
    assert values.lines == {"a": 1, "b": 3}
    assert values["b"].lines == {"c": 4, "d": 5}
    assert values["b"]["d"].lines == {"e": 5}


LAUGHS = "a: &a [ha, ha]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}]\n" for old, new in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (LAUGHS, r" line 1: .*anchor or alias 'a' is not allowed"),
        ("a: 1\nb: *a", r" line 2: .*anchor or alias 'a'"),
        ("a: !!str 1", r" line 1: .*tag 'tag:yaml.org,2002:str' is not allowed"),
        ("%TAG ! x:\n---\na: !foo 1", r" line 3: .*tag 'x:foo'"),
        ("a: 1\nb: 2\na: 3", r" line 3: .*key 'a' occurs twice"),
        ("a: {b: 1, 'b': 2}", r" line 1: .*key 'b' occurs twice"),
        ("1: 2", r" line 1: .*key 1 is not text; quote it"),
        ("[a]: 2", r" line 1: .*key \['a'\] is not text"),
        ("a:\n\tb: 1", r" line 2: .*'\\t' that cannot start any token"),
        ("a: b: c", r" line 1: .*mapping values are not allowed here"),
        ("a: 'b", r" line 1: .*unexpected end of stream"),
        ("a: 1\n--- 2", r" line 2: .*another document"),
        ("[" * 90_000, r" line 1: .*nested more than 20 levels"),
        ("{a: " * 20_000, r" line 1: .*nested more than 20 levels"),
        ("\n".join(" " * depth + "a:" for depth in range(300)), r" line 20: .*nested more than 20 levels"),
        ("a: " + "9" * 5000, r": not strict YAML \(Exceeds the limit"),
        ("# comment\n" * 10_001, r" is larger than 100000 bytes"),
        (b"a: \xff", r" is not UTF-8 \(invalid start byte at byte 3\)"),
        (b"\x7fELF\x02\x01\x01\x00\x00", r": not a text file \(special characters are not allowed"),
        ("a: 1".encode("utf-16"), r" is not UTF-8"),
    ],
)
def test_what_is_not_strict_is_refused(tmp_path: Path, content: str | bytes, what: str) -> None:
    assert re.search(f"^{what}", fails_with(tmp_path, content))


@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.system", "!!python/object/new:os.system", "!<tag:yaml.org,2002:python/name:os.system>"],
)
def test_a_file_cannot_run_code(tmp_path: Path, tag: str) -> None:
    text = fails_with(tmp_path, f"name: {tag} ['touch {tmp_path}/executed']")
    assert "is not allowed" in text
    assert not (tmp_path / "executed").exists()


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert read_recipe(path) == RECIPE


# Where the recipes are ------------------------------------------------------------------------------------------------

SHOW_FOLDER = "from serzoo.recipes import config_folder, list_recipes; print(config_folder(), len(list_recipes()))"


def run(folder: Path, code: str) -> str:
    """Run Python with the packages of this environment and ``folder`` before them, whatever else is installed."""
    packages = [str(folder), sysconfig.get_path("purelib")]
    start = f"import site, sys; sys.path[:0] = {packages}; site.addsitedir({str(folder)!r})"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", "-c", f"{start}; {code}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, tiny_set: Path) -> Path:
    """A copy of the repository, so that building leaves no trace in it; with a pretrained set more."""
    folder = tmp_path_factory.mktemp("source") / "checkout"
    folder.mkdir()
    for name in ("serzoo", "zoo_configs"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    shutil.copytree(tiny_set, folder / "serzoo" / "weights" / "files", dirs_exist_ok=True)
    return folder


def build(source: Path, hook: str) -> Path:
    """Build a wheel by one of setuptools' hooks and return the folder that it is unpacked into."""
    target = source.parent / hook
    code = f"import setuptools.build_meta; setuptools.build_meta.{hook}({str(target)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=source)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target / "site")
    return target / "site"


def test_checkout() -> None:
    assert config_folder() == REPOSITORY / "zoo_configs"
    assert list_recipes() == sorted(path.stem for path in (REPOSITORY / "zoo_configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def site(source: Path) -> Path:
    """The folder that an installed wheel is in."""
    return build(source, "build_wheel")


def test_wheel(source: Path, site: Path) -> None:
    assert run(site, SHOW_FOLDER) == f"{site / 'serzoo' / 'zoo_configs'} {len(list_recipes())}"
    homes = {"serzoo": site / "serzoo", "zoo_configs": site / "serzoo" / "zoo_configs"}
    files = [(name, file.relative_to(source / name)) for name in homes for file in (source / name).rglob("*.*")]
    missing = [f"{name}/{file}" for name, file in files if not (homes[name] / file).is_file()]
    assert missing == [], "add them to packages or package_data in setup.cfg"
    check = (
        "from serzoo.weights import store; print([store.pretrained_file(name)[1] for name in store.list_pretrained()])"
    )
    assert str(site / "serzoo" / "weights" / "files" / "gender-ravdess.skops") in run(site, check)


def test_a_wheel_says_under_which_licences_its_parts_are(source: Path, site: Path) -> None:
    (about,) = site.glob("serzoo-*.dist-info")
    assert "License-Expression: Apache-2.0 AND CC-BY-NC-SA-4.0\n" in (about / "METADATA").read_text()
    for licence in (Path("serzoo", part, "files", "LICENSE") for part in ("data", "weights")):
        for path in (site / licence, about / "licenses" / licence):
            assert path.read_bytes() == (source / licence).read_bytes()
    assert (about / "licenses" / "LICENSE").read_bytes() == (source / "LICENSE").read_bytes()


@pytest.mark.slow
def test_pretrained_sets_load_from_a_wheel(site: Path) -> None:
    """Each answers as its card says, or it would not load."""
    code = "import serzoo; print(*(serzoo.load(name).card.name for name in serzoo.list_pretrained('emotion')))"
    assert run(site, code).split() == sorted([*list_pretrained("emotion"), "timnet.tiny_v1"])


def test_editable_install(source: Path) -> None:
    site = build(source, "build_editable")
    assert run(site, SHOW_FOLDER) == f"{source / 'zoo_configs'} {len(list_recipes())}"
    assert run(site, "import serzoo; print(serzoo.__version__)") == serzoo.__version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": "2"}, "epochs is '2'; it must be an integer of at least 1"),
        ({"epochs": 1.5}, "epochs is 1.5; it must be an integer"),
        ({"epochs": True}, "epochs is True; it must be an integer"),
        ({"jit_compile": "no"}, "jit_compile is 'no'; it must be true or false"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; it must be a set of keys and values"),
    ],
)
def test_settings_made_in_python_are_held_to_the_same_types(arguments, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repeats": "2"}, "repeats is '2'; it must be an integer of at least 1"),
        ({"repeats": 0}, "repeats is 0; it must be an integer of at least 1"),
        ({"repeats": 2, "training": TrainingConfig(seed=2**32 - 1)}, "all seeds are below 2"),
        ({"features": "logmel"}, "features is 'logmel'; it must be a set of keys and values"),
    ],
)
def test_a_recipe_made_in_python_is_held_to_the_same_rules(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(RECIPE, **changes)


def test_each_repeat_has_a_seed_of_its_own():
    assert RECIPE.repeats == 1
    assert RECIPE.seeds == (0,)
    assert RECIPE.override({"repeats": 3, "training.seed": 46}).seeds == (46, 47, 48)


def test_plain_data_serves_for_nested_settings():
    assert TrainingConfig(optimizer={"name": "nadam"}).optimizer == OptimizerConfig(name="nadam")


def test_the_learning_rate_warms_up_and_falls_along_half_a_cosine():
    optimizer = OptimizerConfig(learning_rate=0.1)
    training = TrainingConfig(optimizer, epochs=12, schedule="cosine", warmup_epochs=3)
    rates = [training.learning_rate(epoch) for epoch in range(12)]
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[3 + 3] == pytest.approx(0.075)  # a third of the way: (1 + cos 60) / 2
    assert 0 < rates[-1] < 0.005
    constant = TrainingConfig(optimizer, epochs=3)
    assert [constant.learning_rate(epoch) for epoch in range(3)] == [0.1] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.schedule": "cosin"}, "Unknown schedule 'cosin'. Did you mean 'cosine'"),
        ({"training.warmup_epochs": 2, "training.epochs": 2}, "warmup_epochs is 2; it must be below epochs, 2"),
        ({"training.mixup": -0.1}, "mixup is -0.1; it must be a number of at least 0"),
        (
            {"training.optimizer.weight_decay": 1.0},
            "weight_decay is 1.0; it must be a number of at least 0 and below 1",
        ),
        (
            {"training.mixup": 0.2, "training.waveform_augment.shift": 0.1},
            "mixup and waveform_augment are both set, but mixup mixes features; leave one of them out",
        ),
    ],
)
def test_settings_of_schedule_mixup_and_decay_are_checked(changes, message):
    with pytest.raises(SerzooError, match=re.escape(message)):
        RECIPE.override(changes)
