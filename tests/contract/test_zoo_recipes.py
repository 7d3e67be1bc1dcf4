"""What every recipe of the zoo must satisfy; new ones are found by their file."""

from dataclasses import dataclass
from functools import cache

import pandas as pd
import pytest
from shapes import weights_without_values

from serzoo.classical.estimators import CLASSICAL_CLASSIFIERS, complete_arguments, make_estimator
from serzoo.data.corpora.corpus import CORPORA
from serzoo.data.manifest import COLUMNS, Manifest
from serzoo.data.protocols import get_protocol
from serzoo.data.splits import cross_corpus
from serzoo.experiments.setup import prepare_recipe
from serzoo.features.spec import EmbeddingSpec, FeatureSpec, LogMelSpec, STFTSpec
from serzoo.labels import SHARED_LABELS
from serzoo.models import MODELS
from serzoo.recipes import Recipe, config_folder, list_recipes, load_recipe, read_recipe
from serzoo.settings import (
    AntiTransferConfig,
    OptimizerConfig,
    ReconstructionConfig,
    TrainingConfig,
    WaveformAugmentConfig,
)
from serzoo.zoo import build

EVERY_RECIPE = pytest.mark.parametrize("name", list_recipes())
OF_NETWORKS = [name for name in list_recipes() if load_recipe(name).model.name in MODELS]
OF_SIMPLE = [name for name in list_recipes() if load_recipe(name).model.name in CLASSICAL_CLASSIFIERS]

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


REAL = [name for name in list_recipes() if name.startswith("vgg16-")]
QUATERNION = [name for name in list_recipes() if name.startswith("qvgg16-")]
VGG_PROTOCOLS = {"actors": "actor70-20-10-v1", "random": "random70-20-10-seed0-v1"}
PRETRAINING = {
    "actors": {"s": "ravdess-speaker17", "w": "fsdd-word"},
    "random": {"s": "ravdess-speaker", "w": "fsdd-word"},
}
"""By split of RAVDESS, the recipe that trains what a letter of Guizzo et al. stands for, without its model's name."""


def manifest_of(corpus: str) -> Manifest:
    """Every speaker of a corpus says two texts in every emotion, or a word twice; no file is there."""
    known = CORPORA.get(corpus)
    speakers = known.speaker_counts or {f"{number:02d}": 0 for number in range(1, 11)}
    of_emotions = known.classes_are == "emotions"
    rows = [
        {
            "path": f"{label}-{speaker}-{take}.wav",
            "label": label,
            "speaker": speaker,
            "text": take if of_emotions else label,
        }
        for label in known.class_names
        for speaker in speakers
        for take in ("t1", "t2")
    ]
    return Manifest(pd.DataFrame(rows).reindex(columns=list(COLUMNS), fill_value=""), known.class_names, corpus)


def manifest_for(recipe: Recipe) -> Manifest:
    manifest = manifest_of(recipe.corpus)
    if recipe.test_corpus is not None:
        manifest = cross_corpus(manifest, manifest_of(recipe.test_corpus))
    manifest = manifest.with_target(recipe.target)
    return manifest if recipe.class_names is None else manifest.with_classes(recipe.class_names)


@dataclass(frozen=True)
class Built:
    """What is to be seen of a model once it is built."""

    class_names: tuple[str, ...]
    feature_spec: FeatureSpec
    features_shape: tuple[int | None, ...]
    output_shape: tuple[int | None, ...]
    n_parameters: int
    n_feature_layers: int


@cache
def build_once(model: str, arguments: tuple, class_names: tuple[str, ...], features: FeatureSpec) -> Built:
    """Build what several recipes train, once."""
    with weights_without_values():
        built = build(model, class_names=class_names, feature_spec=features, **dict(arguments))
    return Built(
        built.class_names,
        built.feature_spec,
        built.features_shape,
        built.output_shape,
        built.count_params(),
        len(built.feature_layers),
    )


def built_for(recipe: Recipe) -> Built:
    arguments = tuple(sorted(recipe.model.arguments.items()))
    return build_once(recipe.model.name, arguments, manifest_for(recipe).class_names, recipe.features)


@EVERY_RECIPE
def test_recipe_is_called_as_its_file_is_and_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert name.split("-")[0] == recipe.model.name
    for text in (recipe.summary, recipe.source):
        assert 10 < len(text) < 140


@EVERY_RECIPE
def test_the_names_in_a_recipe_exist_and_go_together(name: str) -> None:
    assert prepare_recipe(name) == load_recipe(name)


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


@pytest.mark.parametrize("name", OF_NETWORKS)
def test_model_builds_for_its_corpus(name: str) -> None:
    recipe = load_recipe(name)
    class_names = manifest_for(recipe).class_names
    model = built_for(recipe)
    assert model.class_names == class_names
    assert model.feature_spec == recipe.features
    assert model.features_shape == (None, *recipe.features.frame_shape)
    assert model.output_shape == (None, len(class_names))
    if name in PARAMETERS:
        assert model.n_parameters == PARAMETERS[name]


@pytest.mark.parametrize("name", OF_SIMPLE)
def test_simple_classifier_is_made_as_the_recipe_says(name: str) -> None:
    recipe = load_recipe(name)
    settings = complete_arguments(recipe.model.name, recipe.model.arguments)
    made = make_estimator(recipe.model.name, settings, recipe.training.seed)
    assert type(made) is CLASSICAL_CLASSIFIERS.get(recipe.model.name).load()
    assert {key: made.get_params()[key] for key in recipe.model.arguments} == recipe.model.arguments


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


ANTI_TRANSFER = [name for name in list_recipes() if load_recipe(name).anti_transfer is not None]
EVERY_ANTI_TRANSFER = pytest.mark.parametrize("name", ANTI_TRANSFER)


def pretraining_of(recipe: Recipe) -> list[Recipe]:
    """The recipes whose runs, in their usual folders, the pretrained networks are taken from."""
    recipes = []
    for path in recipe.anti_transfer.pretrained:
        folder, name, fold = path.split("/")
        assert (folder, fold) == ("runs", "fold01"), path
        recipes.append(load_recipe(name))
    return recipes


@EVERY_ANTI_TRANSFER
def test_what_anti_transfer_is_against_is_trained_by_a_recipe_alike(name: str) -> None:
    recipe = load_recipe(name)
    for pretrained in pretraining_of(recipe):
        assert pretrained.target != recipe.target
        assert pretrained.model == recipe.model
        lengths = ("n_samples", "segment_frames")
        heard = [
            {key: value for key, value in one.features.to_dict().items() if key not in lengths}
            for one in (pretrained, recipe)
        ]
        assert heard[0] == heard[1]
        folds = get_protocol(pretrained.protocol).folds(manifest_for(pretrained))
        assert [fold.name for fold in folds] == ["fold01"], "a protocol of one fold, whose folder the path names"
    assert max(recipe.anti_transfer.layers) <= built_for(recipe).n_feature_layers


@EVERY_ANTI_TRANSFER
def test_what_anti_transfer_is_against_has_not_trained_on_the_test_part(name: str) -> None:
    recipe = load_recipe(name)
    manifest = manifest_for(recipe)
    (fold,) = get_protocol(recipe.protocol).folds(manifest)
    held_out = {manifest.names[row] for row in fold.test}
    for pretrained in pretraining_of(recipe):
        if pretrained.corpus != recipe.corpus:
            continue
        others = manifest_for(pretrained)
        (other,) = get_protocol(pretrained.protocol).folds(others)
        assert held_out.isdisjoint(others.names[row] for row in other.train)
        if get_protocol(recipe.protocol).speaker_independent:
            tested = set(manifest.column("speaker")[fold.test])
            assert tested.isdisjoint(others.column("speaker")), "not a clip of a test speaker, in whatever part"


@pytest.mark.parametrize("name", REAL + QUATERNION)
def test_vgg16_as_published(name: str) -> None:
    """Guizzo et al., section 3.1: Adam at 1e-5, batches of 20, patience of 20 epochs on the validation loss."""
    recipe = load_recipe(name)
    words = recipe.corpus == "fsdd"
    assert recipe.training == TrainingConfig(
        OptimizerConfig("adam", learning_rate=1e-5),
        batch_size=20,
        epochs=500,
        label_smoothing=0.0,
        selection="best-validation-loss",
        patience=20,
        seed=0,
        jit_compile=False,
        waveform_augment=WaveformAugmentConfig(shift=0.4) if words else None,
    )
    assert recipe.features == (STFTSpec(n_samples=64_000) if words else STFTSpec(segment_frames=501))
    assert recipe.features.n_frames == 501, "4 seconds either way"
    assert recipe.model.arguments == {}
    assert (recipe.repeats, recipe.initial, recipe.rh_emo, recipe.test_corpus) == (1, None, None, None)
    _, _, kind, *_ = name.split("-")
    assert recipe.protocol == VGG_PROTOCOLS.get(kind, VGG_PROTOCOLS["random"])


@pytest.mark.parametrize("name", REAL + QUATERNION)
def test_vgg16_tells_emotions_or_what_it_is_pretrained_on(name: str) -> None:
    recipe = load_recipe(name)
    _, corpus, kind, *rest = name.split("-")
    assert recipe.corpus == corpus
    assert recipe.target == {"word": "text", "speaker": "speaker", "speaker17": "speaker"}.get(kind, "label")
    assert recipe.class_names == (tuple(f"{actor:02d}" for actor in range(1, 18)) if kind == "speaker17" else None)
    if not rest:
        assert recipe.anti_transfer is None
        return
    at, letters = rest
    assert at == "at"
    paths = tuple(f"runs/{recipe.model.name}-{PRETRAINING[kind][letter]}/fold01" for letter in letters)
    assert recipe.anti_transfer == AntiTransferConfig(paths, layers=(2,), beta=1.0)


def test_every_vgg16_recipe_is_there_for_both_networks() -> None:
    assert len(REAL) > 0
    assert [f"q{name}" for name in REAL] == QUATERNION


@pytest.mark.parametrize("name", REAL)
def test_real_and_quaternion_recipes_differ_in_the_network_only(name: str) -> None:
    real, quaternion = load_recipe(name), load_recipe(f"q{name}")
    changes = {"name": real.name, "summary": real.summary, "source": real.source, "model.name": "vgg16"}
    if quaternion.anti_transfer is not None:
        paths = quaternion.anti_transfer.pretrained
        changes["anti_transfer.pretrained"] = [path.replace("runs/qvgg16", "runs/vgg16") for path in paths]
        assert all("runs/qvgg16" in path for path in paths)
    assert quaternion.model.name == "qvgg16"
    assert quaternion.override(changes) == real
    assert quaternion.summary.replace("Quaternion VGG16", "VGG16") == real.summary


def test_rh_emo_trains_in_the_published_stages() -> None:
    recipe = load_recipe("rh_emo-ravdess-actors")
    adam = {rate: OptimizerConfig("adam", learning_rate=rate) for rate in (1e-3, 1e-6)}
    assert recipe.rh_emo.reconstruction == ReconstructionConfig(adam[1e-3], batch_size=50, epochs=500, patience=100)
    assert recipe.training == TrainingConfig(
        adam[1e-6],
        batch_size=20,
        epochs=500,
        label_smoothing=0.0,
        selection="best-validation-loss",
        patience=30,
        jit_compile=False,
    )
    terms = recipe.rh_emo
    assert (terms.alpha, terms.beta, terms.beta_class, terms.beta_vad) == (1.0, 0.01, 1.0, 100.0)
    assert recipe.features == STFTSpec(segment_frames=501)
    assert recipe.protocol == "actor70-20-10-v1"


@pytest.mark.parametrize(("source", "width"), [("mel", 80), ("mfcc", 39)])
def test_svc_as_published(source: str, width: int) -> None:
    """Stanea et al., section III: C 10, gamma 0.001, no word of scaling, averages over time, five folds."""
    recipe = load_recipe(f"svc-ravdess-{source}")
    settings = complete_arguments(recipe.model.name, recipe.model.arguments)
    assert recipe.model.name == "svc"
    assert (settings["C"], settings["gamma"], settings["kernel"]) == (10, 0.001, "rbf")
    assert (settings["scale"], settings["calibrate"]) == (False, False)
    assert recipe.features == EmbeddingSpec(source=source, width=width, sample_rate=22_050)
    assert (recipe.corpus, recipe.protocol, recipe.class_names) == ("ravdess", "random5-seed0-v1", None)


def test_quickstart_recipe_chooses_and_tests_on_unknown_speakers() -> None:
    recipe = load_recipe("timnet-synthetic")
    assert recipe.corpus == "synthetic"
    assert get_protocol(recipe.protocol).speaker_independent
    assert recipe.training.selection == "best-validation-uar"


def test_every_model_has_a_recipe_and_every_recipe_a_model() -> None:
    named = {load_recipe(name).model.name for name in list_recipes()}
    assert set(MODELS) <= named <= set(MODELS) | set(CLASSICAL_CLASSIFIERS)
    assert {path.suffix for path in config_folder().iterdir()} == {".yaml"}
