"""What every recipe of the zoo must satisfy; new ones are found by their file."""

import pandas as pd
import pytest

from serzoo.config import OptimizerConfig, Recipe, TrainingConfig, config_folder, list_recipes, load_recipe, read_recipe
from serzoo.data import CORPORA
from serzoo.data.manifest import COLUMNS, Manifest
from serzoo.data.splits import cross_corpus, get_protocol
from serzoo.features.spec import LogMelSpec
from serzoo.labels import SHARED_LABELS
from serzoo.models import MODELS
from serzoo.zoo import build

EVERY_RECIPE = pytest.mark.parametrize("name", list_recipes())

N_CLASSES = {"casia": 6, "emodb": 7, "emovo": 7, "iemocap": 4, "ravdess": 8, "savee": 7}
N_SAMPLES = {
    "casia": 88_000, "emodb": 96_000, "emovo": 96_000, "iemocap": 310_000, "ravdess": 110_000, "savee": 130_000,
}  # fmt: skip
N_FRAMES = {"casia": 172, "emodb": 188, "emovo": 188, "iemocap": 606, "ravdess": 215, "savee": 254}
TIMNET_SEEDS = {"casia": 32, "emodb": 46, "emovo": 1, "iemocap": 16, "ravdess": 46, "savee": 44}
"""Published settings of both papers, by corpus."""

PARAMETERS = {"timnet-ravdess": 107_032, "timnet-iemocap": 132_770}

ACRNN = {
    "acrnn-iemocap": ("iemocap-improvised", "loso8-1-1-v1", 5, 50),
    "acrnn-iemocap-pooling": ("iemocap-improvised", "loso8-1-1-v1", 5, 50),
    "acrnn-emodb": ("emodb", "loso8-1-1-v1", 5, 100),
    "acrnn-ravdess-emobox": ("ravdess", "emobox6-v1", 1, 50),
}
"""Corpus, protocol, seeds per fold and epochs of ACRNN's recipes; the paper does not say how many epochs."""

ADAM = OptimizerConfig("adam", learning_rate=1e-3, beta_1=0.93, beta_2=0.98, epsilon=1e-8)
EVERY_CORPUS = pytest.mark.parametrize("corpus", N_CLASSES)


def manifest_of(corpus: str) -> Manifest:
    """Every speaker of a corpus says two texts in every emotion; no file is there."""
    known = CORPORA.get(corpus)
    speakers = known.speaker_counts or {f"{number:02d}": 0 for number in range(1, 11)}
    rows = [
        {"path": f"{label}-{speaker}-{text}.wav", "label": label, "speaker": speaker, "text": text}
        for label in known.class_names
        for speaker in speakers
        for text in ("t1", "t2")
    ]
    return Manifest(pd.DataFrame(rows).reindex(columns=list(COLUMNS), fill_value=""), known.class_names, corpus)


def manifest_for(recipe: Recipe) -> Manifest:
    manifest = manifest_of(recipe.corpus)
    if recipe.test_corpus is not None:
        manifest = cross_corpus(manifest, manifest_of(recipe.test_corpus))
    return manifest if recipe.class_names is None else manifest.with_classes(recipe.class_names)


@EVERY_RECIPE
def test_recipe_is_called_as_its_file_is_and_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert name.split("-")[0] == recipe.model.name
    for text in (recipe.summary, recipe.source):
        assert 10 < len(text) < 140


@EVERY_RECIPE
def test_recipe_survives_being_written(name: str, tmp_path) -> None:
    recipe = load_recipe(name)
    path = tmp_path / "again.yaml"
    path.write_text(recipe.to_yaml())
    assert read_recipe(path) == recipe
    assert recipe.override({}) == recipe


@EVERY_RECIPE
def test_what_the_network_takes_has_one_length(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.features.n_frames is not None
    if recipe.features.kind == "mfcc" and recipe.corpus in N_FRAMES:
        assert recipe.features.n_samples == N_SAMPLES[recipe.corpus]
        assert recipe.features.n_frames == N_FRAMES[recipe.corpus]


@EVERY_RECIPE
def test_model_builds_for_its_corpus(name: str) -> None:
    recipe = load_recipe(name)
    class_names = manifest_for(recipe).class_names
    model = build(recipe.model.name, class_names=class_names, feature_spec=recipe.features, **recipe.model.arguments)
    assert model.class_names == class_names
    assert model.feature_spec == recipe.features
    assert model.features_shape == (None, *recipe.features.frame_shape)
    assert model.output_shape == (None, len(class_names))
    if name in PARAMETERS:
        assert model.count_params() == PARAMETERS[name]


@EVERY_RECIPE
def test_protocol_splits_its_corpus(name: str) -> None:
    recipe = load_recipe(name)
    protocol, manifest = get_protocol(recipe.protocol), manifest_for(recipe)
    assert protocol.name == recipe.protocol
    speakers = manifest.column("speaker")
    for fold in protocol.folds(manifest):
        shared = set(speakers[fold.train]) & set(speakers[fold.test])
        assert bool(shared) != protocol.speaker_independent


@EVERY_RECIPE
def test_summary_warns_of_known_speakers_and_name_of_selection_on_test(name: str) -> None:
    recipe = load_recipe(name)
    assert ("speaker-dependent" in recipe.summary) != get_protocol(recipe.protocol).speaker_independent
    assert ("leaky" in name) == recipe.training.selection.startswith("leaky")


@EVERY_CORPUS
def test_timnet_as_published(corpus: str) -> None:
    recipe, seed = load_recipe(f"timnet-{corpus}"), TIMNET_SEEDS[corpus]
    assert recipe.corpus == corpus
    assert recipe.model.name == "timnet"
    assert recipe.model.arguments == ({"n_blocks": 10} if corpus == "iemocap" else {})
    assert recipe.protocol == f"random10-seed{seed}-v1"
    assert recipe.training == TrainingConfig(ADAM, 64, 500, 0.1, "last-epoch", seed=seed)
    assert recipe.class_names is None
    assert len(CORPORA.get(corpus).class_names) == N_CLASSES[corpus]


@EVERY_CORPUS
def test_tbdm_as_published(corpus: str) -> None:
    recipe = load_recipe(f"tbdm-{corpus}")
    assert recipe.corpus == corpus
    assert recipe.model.name == "tbdm"
    assert recipe.model.arguments == {}
    assert recipe.protocol == "random10-seed46-v1"
    assert recipe.training == TrainingConfig(ADAM, 64, 300, 0.1, "last-epoch", seed=46)
    assert recipe.class_names is None


@pytest.mark.parametrize("name", ACRNN)
def test_acrnn_as_published(name: str) -> None:
    corpus, protocol, repeats, epochs = ACRNN[name]
    recipe = load_recipe(name)
    nadam = OptimizerConfig("nadam", learning_rate=1e-4, beta_1=0.9)
    training = TrainingConfig(nadam, 40, epochs, 0.0, selection="best-validation-uar", seed=0, jit_compile=False)
    assert (recipe.corpus, recipe.protocol, recipe.repeats, recipe.training) == (corpus, protocol, repeats, training)
    assert recipe.features == LogMelSpec(segment_frames=300)
    assert recipe.model.name == "acrnn"
    assert recipe.model.arguments == ({"attention": "pooling"} if name.endswith("pooling") else {})
    assert recipe.class_names is None


def test_acrnn_models_differ_in_the_attention_only() -> None:
    second, first = load_recipe("acrnn-iemocap"), load_recipe("acrnn-iemocap-pooling")
    texts = {"name": second.name, "summary": second.summary, "source": second.source}
    assert first.override({**texts, "model.arguments": {}}) == second


def test_tbdm_bt_differs_in_the_selection_only() -> None:
    last, best = load_recipe("tbdm-ravdess"), load_recipe("tbdm-ravdess-bt")
    same = {"name": last.name, "summary": last.summary, "source": last.source, "training.selection": "last-epoch"}
    assert best.training.selection == "best-train-war"
    assert best.override(same) == last


@pytest.mark.parametrize(("source", "target"), [("ravdess", "emodb"), ("emodb", "ravdess")])
def test_cross_corpus(source: str, target: str) -> None:
    recipe = load_recipe(f"timnet-cross-{source}-{target}")
    assert (recipe.corpus, recipe.test_corpus) == (source, target)
    assert manifest_for(recipe).class_names == SHARED_LABELS


def test_quickstart_recipe_chooses_and_tests_on_unknown_speakers() -> None:
    recipe = load_recipe("timnet-synthetic")
    assert recipe.corpus == "synthetic"
    assert get_protocol(recipe.protocol).speaker_independent
    assert recipe.training.selection == "best-validation-uar"


def test_every_model_has_a_recipe_and_every_recipe_a_model() -> None:
    assert {load_recipe(name).model.name for name in list_recipes()} == set(MODELS)
    assert {path.suffix for path in config_folder().iterdir()} == {".yaml"}
