"""Trainings in stages, with anti-transfer, from initial weights and for other targets, through cross_validate."""

import dataclasses
import hashlib
import json
import shutil
from contextlib import contextmanager

import keras
import numpy as np
import pandas as pd
import pytest

import serzoo
from serzoo import strict_yaml
from serzoo.classifier import Classifier
from serzoo.data.cache import FeatureCache
from serzoo.data.examples import Examples, load_examples
from serzoo.data.synthetic import write_corpus
from serzoo.errors import ConfigError, DataError, SerzooError, UnknownNameError, WeightsError
from serzoo.experiments import stages
from serzoo.experiments.cross_validate import cross_validate
from serzoo.experiments.run_folder import RunFolder
from serzoo.experiments.setup import load_manifest
from serzoo.experiments.stages import build_model, take_weights
from serzoo.features.spec import MFCCSpec, STFTSpec
from serzoo.labels import DIMENSIONS
from serzoo.recipes import Recipe, load_recipe
from serzoo.settings import (
    AntiTransferConfig,
    InitialWeights,
    ModelConfig,
    OptimizerConfig,
    ReconstructionConfig,
    RHEmoConfig,
    TrainingConfig,
)
from serzoo.training import callbacks
from serzoo.training.evaluate import predict_probabilities
from serzoo.training.fit import History, fit
from serzoo.training.objectives import TrainingNetwork
from serzoo.training.rh_emo_stages import EmotionalReconstruction

CLASSES = ("angry", "sad")
SMALL = {"n_blocks": 3, "filters": 4, "dropout": 0.2, "backward": False}
FEATURES = MFCCSpec(sample_rate=16_000, n_samples=8_000, n_mfcc=6)
PICTURE = STFTSpec(sample_rate=16_000, n_samples=1_984, hop_length=64, window_length=128, n_bins=64)
TINY_RH_EMO = {"n_frames_padded": 32, "head_width": 4, "dropout": 0.0}
TRAINING = TrainingConfig(
    OptimizerConfig(learning_rate=5e-3), batch_size=4, epochs=3, label_smoothing=0.0,
    selection="best-validation-loss", seed=5, jit_compile=False,
)  # fmt: skip
FOLD = "fold01"
LATER_KEYS = ("target", "initial", "anti_transfer", "rh_emo")
"""Keys that recipes of earlier versions do not have."""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_plots")]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Five speakers say two texts with each emotion; there are no ratings of valence, arousal and dominance."""
    folder = tmp_path_factory.mktemp("corpus") / "ravdess"
    return write_corpus(folder, "ravdess", n_speakers=5, n_texts=2)


@pytest.fixture(scope="module")
def validate(root, tmp_path_factory):
    """Cross-validate a recipe; returns the fold's folder."""
    cache = FeatureCache(tmp_path_factory.mktemp("cache"))

    def run(recipe, folder, **changes):
        named = {key.replace("__", "."): value for key, value in changes.items()}
        report = cross_validate(recipe, data_root=root, run_folder=folder, changes=named, cache=cache, progress=False)
        assert report.fold_names == (FOLD,)
        return folder / FOLD

    return run


def recipe(**changes):
    basis = Recipe(
        name="small",
        corpus="ravdess",
        model=ModelConfig("timnet", SMALL),
        features=FEATURES,
        protocol="speaker70-20-10-seed0-v1",
        training=TRAINING,
        class_names=CLASSES,
    )
    return dataclasses.replace(basis, **changes)


def task(target, **changes):
    """A recipe with another target than emotions."""
    return recipe(
        name=target, target=target, class_names=None, protocol="random70-20-10-seed0-v1",
        training=dataclasses.replace(TRAINING, epochs=1), **changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(validate, tmp_path_factory):
    """The folds of two networks, one trained on speakers and one on texts."""
    folder = tmp_path_factory.mktemp("pretrained")
    return tuple(str(validate(task(target), folder / target)) for target in ("speaker", "text"))


def against(paths, *, layers=(1,), beta=5.0, **changes):
    return recipe(anti_transfer=AntiTransferConfig(tuple(map(str, paths)), layers, beta), **changes)


def rh_emo(**changes):
    """Both stages of RH-Emo on spectrograms of 31 frames and 64 bins."""
    first = ReconstructionConfig(OptimizerConfig(learning_rate=2e-2), batch_size=4, epochs=4)
    return recipe(
        model=ModelConfig("rh_emo", TINY_RH_EMO), features=PICTURE, rh_emo=RHEmoConfig(first, beta=0.5),
        training=dataclasses.replace(TRAINING, epochs=2), **changes,
    )  # fmt: skip


@dataclasses.dataclass
class Seen:
    """The arguments and results of a call of fit."""

    title: str
    settings: dict
    before: list
    after: list
    network: list
    """Weights of the objective's own network, if it has one, before and after."""
    history: History


@contextmanager
def spying():
    """Record the calls of fit, in order."""
    calls = []

    def spy(model, **settings):
        network = getattr(settings["objective"], "network", model)
        before, own = model.get_weights(), network.get_weights()
        history = fit(model, **settings)
        calls.append(
            Seen(settings["title"], settings, before, model.get_weights(), [own, network.get_weights()], history)
        )
        return history

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "fit", spy)
        yield calls


@pytest.fixture(scope="module")
def single(validate, pretrained, tmp_path_factory):
    """Against the speakers, at the first layer."""
    return validate(against(pretrained[:1]), tmp_path_factory.mktemp("single") / "run")


@pytest.fixture(scope="module")
def dual(validate, pretrained, tmp_path_factory):
    """Speakers, then texts, with dropout, which has a random state of its own; the fold and the calls of fit."""
    with spying() as calls:
        return validate(against(pretrained), tmp_path_factory.mktemp("dual") / "run"), calls


@pytest.fixture(scope="module")
def in_two_stages(validate, tmp_path_factory):
    """The fold and the calls of fit."""
    with spying() as calls:
        return validate(rh_emo(), tmp_path_factory.mktemp("rh_emo") / "run"), calls


@pytest.fixture(scope="module")
def manifest(root):
    return load_manifest(recipe(), root)


def results(fold):
    """Everything that must be the same after an interruption: all tables except machine-dependent values."""
    return {path.relative_to(fold).as_posix(): path.read_bytes() for path in sorted(fold.rglob("*.csv"))}


def weights_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def selected(history):
    """The record of the epoch with the lowest validation loss, from a table."""
    return history.loc[history["validation_loss"].idxmin()]


@pytest.fixture
def interrupt(monkeypatch):
    """Stop the next training after its second epoch, in the stage whose state is kept at this place in the fold."""

    def arm(place):
        monkeypatch.setattr(callbacks, "_SAVE_EVERY_SECONDS", 0.0)
        save = callbacks.FitSession._save

        def save_then_stop(self, path):
            save(self, path)
            if path.as_posix().endswith(f"{FOLD}/{place}state.npz") and len(self.records) == 2:
                monkeypatch.setattr(callbacks.FitSession, "_save", save)
                raise KeyboardInterrupt

        monkeypatch.setattr(callbacks.FitSession, "_save", save_then_stop)

    return arm


def refused(validate, recipe, folder, error, match):
    """A refused run writes nothing, and the error is one line."""
    with pytest.raises(error, match=match) as caught:
        validate(recipe, folder)
    assert isinstance(caught.value, SerzooError)
    assert "\n" not in str(caught.value)
    assert not folder.exists(), "nothing is left behind"


# Against one network --------------------------------------------------------------------------------------------------


def test_against_one_network(single, pretrained):
    fold = single
    history = pd.read_csv(fold / "history.csv")
    assert {"epoch", "loss", "cross_entropy", "anti_transfer", "war", "validation_loss"} <= set(history.columns)
    np.testing.assert_allclose(history["loss"], history["cross_entropy"] + history["anti_transfer"], rtol=1e-4)
    assert (history["anti_transfer"] > 0).all()
    assert not list(fold.rglob("state.npz"))
    assert not list(fold.glob("against*")), "the only stage is the fold's own"
    assert not (fold / "layers.csv").exists()


def test_the_model_is_saved_without_the_other_network(single, manifest):
    model = serzoo.load(single).model
    plain = serzoo.build("timnet", class_names=CLASSES, feature_spec=FEATURES, **SMALL)
    assert [weight.shape for weight in model.get_weights()] == [weight.shape for weight in plain.get_weights()]
    table = pd.read_csv(single / "predictions.csv")
    tested = manifest.select([manifest.names.index(name) for name in table["clip"]])
    probabilities = predict_probabilities(model, load_examples(tested, FEATURES))
    np.testing.assert_allclose(probabilities, table[["p_angry", "p_sad"]], atol=1e-5)


def test_the_report_counts_test_recordings_seen_by_the_pretrained_network(single, pretrained):
    (source,) = pretrained[:1]
    own, theirs = (set(pd.read_csv(f"{fold}/predictions.csv")["clip"]) for fold in (single, source))
    report = json.loads((single.parent / "report.json").read_text())
    assert report["seen"] == {source: len(own - theirs)}
    assert 0 < len(own - theirs) < len(own)


def test_the_run_folder_names_the_weights_and_refuses_others_in_their_place(validate, pretrained, tmp_path):
    networks = tmp_path / "speaker", tmp_path / "text"
    for source, network in zip(pretrained, networks, strict=True):
        shutil.copytree(source, network)
    run = tmp_path / "run"
    settings = against(networks[:1]).override({"training.epochs": 1})
    fold = validate(settings, run)
    hashed = hashlib.sha256((networks[0] / "model.keras").read_bytes()).hexdigest()
    assert json.loads((run / "data.json").read_text())["weights"] == {str(networks[0]): hashed}
    before = results(fold)
    shutil.copy(networks[1] / "model.keras", networks[0] / "model.keras")
    with pytest.raises(
        ConfigError, match=r"holds a run with other recordings or pretrained weights \(see data\.json there\)"
    ):
        validate(settings, run)
    assert results(fold) == before
    assert json.loads((run / "data.json").read_text())["weights"] == {str(networks[0]): hashed}


def test_initial_weights_are_named_too(validate, pretrained, tmp_path):
    settings = recipe(initial=InitialWeights(pretrained[0], ("forward_block_1",)))
    validate(settings, tmp_path, training__epochs=1)
    assert list(json.loads((tmp_path / "data.json").read_text())["weights"]) == [pretrained[0]]


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        (
            {"paths": ["nowhere/fold01"]},
            UnknownNameError,
            r"^anti_transfer\.pretrained: Model file nowhere/fold01 does not",
        ),
        ({"layers": (5,)}, ConfigError, r"^feature layer 5 was asked for; timnet has 3, numbered from 1\.$"),
        ({"layers": (1, 9)}, ConfigError, r"^feature layer 9 was asked for"),
        (
            {"model": ModelConfig("timnet", {**SMALL, "filters": 5})},
            ConfigError,
            r"of different structure up to feature layer 1 \(filters 5 and 4\)",
        ),
        ({"model": ModelConfig("tbdm", SMALL)}, ConfigError, r"^Anti-transfer between TBDMNet and TIMNet|TBDM"),
        ({"features": dataclasses.replace(FEATURES, top_db=60.0)}, ConfigError, r"with different features"),
    ],
)
def test_unsuitable_pretrained_networks_are_refused(validate, pretrained, tmp_path, changes, error, match):
    changes = {"paths": pretrained[:1], **changes}
    refused(validate, against(**changes), tmp_path / "run", error, match)


# Against two networks -------------------------------------------------------------------------------------------------


def test_the_second_stage_starts_from_the_selected_weights_of_the_first(pretrained, dual):
    fold, calls = dual
    first, second = calls
    assert (first.title, second.title) == (f"{FOLD} against1", FOLD)
    for call, path in zip(calls, pretrained, strict=True):
        weights_equal(call.settings["objective"].pretrained.get_weights(), serzoo.load(path).model.get_weights())
        assert "test_data" not in call.settings
    weights_equal(second.before, first.after)
    assert any((one != other).any() for one, other in zip(second.before, first.before, strict=True))
    weights_equal(second.after, serzoo.load(fold).model.get_weights())

    assert first.settings["run_folder"] == fold / "against1"
    tables = [pd.read_csv(fold / name) for name in ("against1/history.csv", "history.csv")]
    for table, call in zip(tables, calls, strict=True):
        np.testing.assert_allclose(table["validation_loss"], call.history.column("validation_loss"))
        assert table["epoch"].tolist() == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["against1/", ""], ids=["first", "second"])
def test_an_interruption_in_either_stage_does_not_change_the_numbers(
    validate, pretrained, dual, interrupt, tmp_path, place
):
    interrupt(place)
    with pytest.raises(KeyboardInterrupt):
        validate(against(pretrained), tmp_path)
    states = {path.relative_to(tmp_path / FOLD).as_posix() for path in tmp_path.rglob("state.npz")}
    assert states == {"against1/state.npz", f"{place}state.npz"}
    assert results(validate(against(pretrained), tmp_path)) == results(dual[0])
    assert not list(tmp_path.rglob("state.npz"))


# At several layers ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_of_several_layers_the_best_on_the_validation_part_is_kept(validate, pretrained, single, interrupt, tmp_path):
    """Each is trained as if it were the only one, also if the training is interrupted in the second."""
    both = against(pretrained[:1], layers=(1, 3))
    folders = {1: single, 3: validate(against(pretrained[:1], layers=(3,)), tmp_path / "alone")}
    run = tmp_path / "run"
    interrupt("layer03/")
    with pytest.raises(KeyboardInterrupt):
        validate(both, run)
    assert (run / FOLD / "layer01" / "history.csv").exists()
    assert not (run / FOLD / "layers.csv").exists()
    fold = validate(both, run)

    alone = {layer: selected(pd.read_csv(folder / "history.csv")) for layer, folder in folders.items()}
    table = pd.read_csv(fold / "layers.csv").set_index("layer")
    assert table.index.tolist() == [1, 3]
    for layer, row in alone.items():
        assert (fold / f"layer{layer:02d}" / "history.csv").read_bytes() == (
            folders[layer] / "history.csv"
        ).read_bytes()
        for name in ("epoch", "validation_war", "validation_uar", "validation_loss"):
            assert table.loc[layer, name] == pytest.approx(row[name])
    best = table["validation_war"].idxmax()
    assert table["kept"].tolist() == [layer == best for layer in (1, 3)]
    for name in ("history.csv", "predictions.csv"):
        assert (fold / name).read_bytes() == (folders[best] / name).read_bytes()
    weights_equal(*(serzoo.load(folder).model.get_weights() for folder in (fold, folders[best])))
    assert not list(run.rglob("state.npz"))


@pytest.mark.parametrize(
    ("wars", "best"), [((0.5, 0.7, 0.6), 2), ((0.7, 0.7, 0.1), 1), ((0.0, 0.1, 0.1), 2), ((0.1, 0.2, 0.3), 3)]
)
def test_the_layer_is_chosen_by_validation_war_alone(monkeypatch, root, pretrained, tmp_path, wars, best):
    """Loss, training scores and other scores do not matter; of equal layers the first is kept."""
    by_layer = dict(zip((1, 2, 3), wars, strict=True))

    def pretend(model, *, objective, **settings):
        war, layer = by_layer[objective.layer], objective.layer
        assert settings["run_folder"] == tmp_path / f"layer{layer:02d}"
        model.get_layer("classifier").bias.assign(keras.ops.full((2,), float(layer)))
        records = [
            {"validation_war": 1.0, "validation_uar": 1.0, "validation_loss": 9.0, "war": 0.0, "test_war": 1.0 - war},
            {"validation_war": war, "validation_uar": 1.0 - war, "validation_loss": war, "war": 1.0 - war},
        ]
        return History(tuple(records), 2)

    monkeypatch.setattr(stages, "fit", pretend)
    settings = against(pretrained[:1], layers=(1, 2, 3))
    model, history = stages.train(settings, load_manifest(settings, root), tmp_path, x=None, title="fold")
    assert history.selected["validation_war"] == by_layer[best]
    np.testing.assert_array_equal(model.get_layer("classifier").get_weights()[1], [best, best])
    table = pd.read_csv(tmp_path / "layers.csv")
    assert table.to_dict("list") == {
        "layer": [1, 2, 3],
        "epoch": [2, 2, 2],
        "validation_war": list(wars),
        "validation_uar": [pytest.approx(1.0 - war) for war in wars],
        "validation_loss": list(wars),
        "kept": [layer == best for layer in (1, 2, 3)],
    }


@pytest.mark.slow
def test_finished_layers_are_not_trained_again(validate, pretrained, monkeypatch, tmp_path):
    both = against(pretrained[:1], layers=(1, 3)).override({"training.epochs": 1})
    titles = []

    def stop_before_second(model, **settings):
        if settings["objective"].layer == 3:
            raise KeyboardInterrupt
        titles.append(settings["title"])
        return fit(model, **settings)

    monkeypatch.setattr(stages, "fit", stop_before_second)
    with pytest.raises(KeyboardInterrupt):
        validate(both, tmp_path)
    monkeypatch.setattr(stages, "fit", fit)
    trained = []
    train = TrainingNetwork.fit
    monkeypatch.setattr(
        TrainingNetwork, "fit", lambda self, *a, **k: trained.append(self.objective.layer) or train(self, *a, **k)
    )
    validate(both, tmp_path)
    assert trained == [3]
    assert titles == [f"{FOLD} layer 1"]


# Run folders of earlier versions --------------------------------------------------------------------------------------


def earlier(settings):
    """The recipe file of an earlier version, without the later keys."""
    values = settings.to_dict()
    for key in LATER_KEYS:
        assert values.pop(key) in (None, "label")
    assert values["training"].pop("patience") is None
    return strict_yaml.dump(values)


def test_a_run_folder_of_an_earlier_version_is_continued(validate, monkeypatch, tmp_path):
    settings = recipe(training=dataclasses.replace(TRAINING, epochs=1))
    fold = validate(settings, tmp_path)
    before = results(fold)
    path = tmp_path / "recipe.yaml"
    written = path.read_text()
    path.write_text(earlier(settings))
    monkeypatch.delattr(stages, "fit")
    assert results(validate(settings, tmp_path)) == before
    assert path.read_text() == written
    assert "weights" not in json.loads((tmp_path / "data.json").read_text())

    path.write_text(earlier(settings))
    for key, value in [("training__patience", 3), ("training__seed", 6), ("name", "x")]:
        with pytest.raises(ConfigError, match=r"holds a run with other settings \(see recipe\.yaml there\)"):
            validate(settings, tmp_path, **{key: value})
    assert path.read_text() == earlier(settings), "what is refused is left as it is"


@pytest.mark.parametrize("content", [b"", b"\xff", b"name: small\n", b"- 1\n", b"name: small\nname: other\n"])
def test_a_damaged_recipe_file_is_another_recipe(tmp_path, content):
    RunFolder.open(tmp_path, recipe(), {})
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        RunFolder.open(tmp_path, recipe(), {})
    assert (tmp_path / "recipe.yaml").read_bytes() == content


def test_data_descriptions_are_compared_exactly(tmp_path):
    RunFolder.open(tmp_path, recipe(), {"weights": {"a": "1"}})
    for data in ({}, {"weights": {"a": "2"}}, {"weights": {"b": "1"}}):
        with pytest.raises(ConfigError, match=r"\(see data\.json there\)"):
            RunFolder.open(tmp_path, recipe(), data)


# Weights to start from ------------------------------------------------------------------------------------------------


def saved(model, folder, name="model.keras"):
    return str(Classifier(model).save(folder / name))


def randomised(model, seed=0):
    """Change every weight and moving statistic; variances and scales remain positive."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 1.0, weight.shape).astype(weight.dtype) for weight in model.get_weights()])
    return model


def test_a_training_starts_from_all_weights(manifest, tmp_path):
    source = randomised(build_model(recipe(), manifest))
    model = build_model(recipe(initial=InitialWeights(saved(source, tmp_path))), manifest)
    weights_equal(model.get_weights(), source.get_weights())


def test_a_training_starts_from_the_weights_of_some_layers(manifest, tmp_path):
    fresh = build_model(recipe(), manifest)
    source = randomised(build_model(recipe(), manifest))
    named = [layer.name for layer in fresh.layers if layer.get_weights()][1::2]
    model = build_model(recipe(initial=InitialWeights(saved(source, tmp_path), tuple(named))), manifest)
    for layer in model.layers:
        expected = source if layer.name in named else fresh
        weights_equal(layer.get_weights(), expected.get_layer(layer.name).get_weights())
    assert 0 < len(named) < len(model.layers)


QVGG = {"width": 1 / 16, "n_frames_padded": 256, "normalization": None, "dropout": 0.0}


@pytest.mark.parametrize("train_embedding", [True, False], ids=["trainable", "frozen"])
def test_an_embedding_goes_into_another_network(manifest, tmp_path, train_embedding):
    """The encoder has the same output, and trains only if it is not frozen."""
    spec = {"class_names": CLASSES, "feature_spec": PICTURE}
    source = randomised(serzoo.build("rh_emo", **spec, **{**TINY_RH_EMO, "normalization": None}))
    settings = recipe(
        model=ModelConfig("qvgg16", {**QVGG, "train_embedding": train_embedding}), features=PICTURE,
        initial=InitialWeights(saved(source, tmp_path), ("encoder",)),
    )  # fmt: skip
    model = build_model(settings, manifest)
    rng = np.random.default_rng(0)
    pictures = rng.uniform(size=(2, 32, 64, 1)).astype(np.float32)
    outputs = [np.asarray(network.get_layer("encoder")(pictures)) for network in (source, model)]
    np.testing.assert_array_equal(*outputs)

    before = model.get_layer("encoder").get_weights()
    training = dataclasses.replace(TRAINING, epochs=1, selection="last-epoch")
    features = rng.uniform(size=(4, 32, 64, 1)).astype(np.float32)
    fit(model, (features, np.arange(4) % 2), training=training, progress=False)
    after = model.get_layer("encoder").get_weights()
    changed = [bool((one != other).any()) for one, other in zip(before, after, strict=True)]
    assert any(changed) == train_embedding
    assert not any("encoder" in weight.path for weight in model.trainable_weights) or train_embedding


def test_unsuitable_initial_weights_are_refused_before_anything_is_written(validate, manifest, tmp_path):
    wider = serzoo.build("timnet", class_names=CLASSES, feature_spec=FEATURES, **{**SMALL, "filters": 5})
    deeper = serzoo.build("timnet", class_names=CLASSES, feature_spec=FEATURES, **{**SMALL, "n_blocks": 1})
    paths = saved(wider, tmp_path, "wider.keras"), saved(deeper, tmp_path, "deeper.keras")
    name = next(layer.name for layer in wider.layers if layer.get_weights())
    (tmp_path / "damaged.keras").write_bytes(b"PK not really")
    (tmp_path / "empty").mkdir()
    for initial, error, match in [
        (InitialWeights(paths[0]), WeightsError, rf"^Layer '{name}' of .*wider\.keras has weights of shapes \["),
        (InitialWeights(paths[0], (name,)), WeightsError, r"name the layers to copy in initial\.layers"),
        (InitialWeights(paths[0], (name + "s",)), UnknownNameError, f"Did you mean '{name}'"),
        (InitialWeights(paths[1], ("forward_block_2",)), UnknownNameError, r"^Unknown layer of timnet 'forward_bl"),
        (InitialWeights(paths[1]), UnknownNameError, "Unknown layer of timnet"),
        (InitialWeights(str(tmp_path / "widr.keras")), UnknownNameError, r"Did you mean '.*wider\.keras'"),
        (InitialWeights(str(tmp_path / "empty")), WeightsError, r"holds no model\.keras"),
        (InitialWeights(str(tmp_path / "damaged.keras")), WeightsError, r"is not a complete \.keras file"),
    ]:
        refused(validate, recipe(initial=initial), tmp_path / "run", error, match)


def test_no_weights_are_copied_from_a_refused_layer(manifest, tmp_path):
    model = build_model(recipe(), manifest)
    source = randomised(serzoo.build("timnet", class_names=(*CLASSES, "x"), feature_spec=FEATURES, **SMALL))
    before = model.get_weights()
    with pytest.raises(WeightsError, match=r"^Layer 'classifier' of .*, timnet's \[\(\d+, 2\), \(2,\)\]"):
        take_weights(model, InitialWeights(saved(source, tmp_path)))
    assert len(before) == len(model.get_weights())


# RH-Emo ---------------------------------------------------------------------------------------------------------------


def test_rh_emo_in_two_stages(in_two_stages):
    """Reconstruction alone, then all terms; there are no ratings of valence, arousal and dominance."""
    fold, _ = in_two_stages
    first, second = (pd.read_csv(fold / name) for name in ("reconstruction/history.csv", "history.csv"))
    assert set(first.columns) >= {"epoch", "loss", "reconstruction", "validation_loss"}
    assert not {"classes", "dimensions", "war"} & set(first.columns)
    np.testing.assert_allclose(first["loss"], first["reconstruction"], rtol=1e-5)
    assert first["reconstruction"].iloc[-1] < first["reconstruction"].iloc[0]
    assert first["validation_loss"].iloc[-1] < first["validation_loss"].iloc[0]

    terms = second[["reconstruction", "classes", "dimensions"]]
    np.testing.assert_allclose(second["loss"], terms.sum(axis=1), rtol=1e-5)
    assert (terms["dimensions"] == 0).all()
    assert (terms["classes"] > 0).all()
    assert np.isfinite(second.to_numpy()).all()
    assert second["reconstruction"].iloc[0] < first["reconstruction"].iloc[0]
    assert not list(fold.rglob("state.npz"))


def test_rh_emo_is_saved_as_the_classifier(in_two_stages):
    model = serzoo.load(in_two_stages[0]).model
    assert (model.name, model.class_names) == ("rh_emo", CLASSES)
    assert model.normalization.is_adapted
    assert not any("decoder" in weight.path or "valence" in weight.path for weight in model.weights)


def test_rh_emos_second_stage_starts_from_the_firsts_encoder_and_decoder(in_two_stages):
    _, calls = in_two_stages
    first, second = calls
    assert (first.title, second.title) == (f"{FOLD} reconstruction", FOLD)
    objectives = [call.settings["objective"] for call in calls]
    assert (objectives[0].beta, objectives[1].beta) == (0.0, 0.5)
    assert objectives[0].network is objectives[1].network
    weights_equal(second.network[0], first.network[1])
    names = [weight.path for weight in objectives[0].network.weights]
    changed = {
        name for name, one, other in zip(names, first.network[0], first.network[1], strict=True) if (one != other).any()
    }
    assert any("encoder" in name for name in changed)
    assert any("decoder" in name for name in changed)
    heads = ("dense", "embedding", "classifier", *DIMENSIONS)
    assert not any(name.startswith(heads) for name in changed), "no head learns in the first stage"
    assert first.settings["training"].seed == second.settings["training"].seed == TRAINING.seed


@pytest.mark.slow
@pytest.mark.parametrize("place", ["reconstruction/", ""], ids=["first", "second"])
def test_rh_emo_is_interrupted_in_either_stage(validate, in_two_stages, interrupt, tmp_path, place):
    interrupt(place)
    with pytest.raises(KeyboardInterrupt):
        validate(rh_emo(), tmp_path)
    assert results(validate(rh_emo(), tmp_path)) == results(in_two_stages[0])


def test_the_validation_loss_of_rh_emo_is_the_whole_loss():
    """A mean over segments of all terms; unknown ratings are left out."""
    model = serzoo.build("rh_emo", class_names=CLASSES, n_features=8, **TINY_RH_EMO)
    rng = np.random.default_rng(0)
    ratings = np.array([[1, np.nan, 0], [0, np.nan, 0], [1, np.nan, np.nan], [np.nan] * 3], np.float32)
    held_out = Examples(
        rng.uniform(size=(7, 30, 8, 1)).astype(np.float32), np.array([0, 1, 0, 1]), CLASSES,
        segment_counts=np.array([1, 2, 3, 1]), dimensions=ratings,
    )  # fmt: skip
    objective = EmotionalReconstruction(model.training_network(), 2.0, 0.5, 3.0, 10.0)
    training = dataclasses.replace(TRAINING, epochs=2)
    history = fit(model, held_out, validation_data=held_out, training=training, objective=objective, progress=False)
    outputs = {name: np.asarray(value) for name, value in objective.network(held_out.features).items()}
    repeated = np.repeat(np.arange(4), held_out.counts)

    def cross_entropy(target, output):
        return -(target * np.log(output) + (1 - target) * np.log(1 - output))

    expected = 2.0 * cross_entropy(outputs["spectrogram"], outputs["reconstruction"]).mean()
    of_target = outputs["emotion"][np.arange(7), held_out.targets[repeated]]
    expected += 0.5 * 3.0 * -np.log(of_target).mean()
    for column, name in enumerate(DIMENSIONS):
        known = ~np.isnan(ratings[repeated, column])
        losses = cross_entropy(ratings[repeated, column][known], outputs[name][known, 0])
        expected += 0.5 * 10.0 * (losses.mean() if known.any() else 0.0)
    assert history.selected["validation_loss"] == pytest.approx(expected, rel=1e-4)
    assert (np.array(history.column("dimensions")) > 0).all()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"model": ModelConfig("timnet", SMALL), "features": FEATURES},
            r"^rh_emo is set, but the model is timnet; leave it out or set model\.name to rh_emo\.$",
        ),
        ({"training": dataclasses.replace(TRAINING, class_weights=True)}, r"^training\.class_weights is true, but RH"),
        ({"training": dataclasses.replace(TRAINING, selection="best-train-war")}, r"first stage classifies nothing"),
    ],
    ids=["another model", "class weights", "another rule"],
)
def test_unsuitable_settings_of_rh_emo_are_refused(validate, tmp_path, changes, match):
    with pytest.raises(ConfigError, match=match) as caught:
        validate(dataclasses.replace(rh_emo(), **changes), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists(), "nothing is left behind"


def test_rh_emo_without_its_stages_trains_the_classifier_alone(validate, tmp_path):
    fold = validate(dataclasses.replace(rh_emo(), rh_emo=None), tmp_path, training__epochs=1)
    assert "reconstruction" not in pd.read_csv(fold / "history.csv").columns
    assert not (fold / "reconstruction").exists()


# Other targets --------------------------------------------------------------------------------------------------------


def test_speakers_and_texts_are_classified(pretrained):
    for fold, classes in zip(pretrained, (("01", "02", "03", "04", "05"), None), strict=True):
        model = serzoo.load(fold).model
        table = pd.read_csv(f"{fold}/predictions.csv", dtype=str)
        if classes is not None:
            assert model.class_names == classes
            assert (table["label"] == table["speaker"]).all()
        assert model.n_classes == len(model.class_names) == table.filter(like="p_").shape[1]
        assert set(table["label"]) | set(table["prediction"]) <= set(model.class_names)
        assert set(table["label"]).isdisjoint(CLASSES)
    assert serzoo.load(pretrained[1]).model.n_classes == 2


def test_a_choice_of_speakers_is_classified(validate, tmp_path):
    chosen = dataclasses.replace(task("speaker"), class_names=("04", "02"))
    table = pd.read_csv(validate(chosen, tmp_path) / "predictions.csv", dtype=str)
    assert serzoo.load(tmp_path / FOLD).model.class_names == ("04", "02")
    assert set(table["speaker"]) <= {"04", "02"}
    assert json.loads((tmp_path / "data.json").read_text())["n_recordings"] == 2 * 8 * 2


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"target": "speker"}, UnknownNameError, r"^Unknown target of ravdess 'speker'\. Did you mean 'speaker'"),
        ({"target": "session"}, DataError, r"recordings of ravdess have no session; fill that column"),
        ({"target": "intensity"}, DataError, r"^All 80 recordings of ravdess have the intensity '.*single class"),
        ({"class_names": ("01",)}, SerzooError, r"class"),
        ({"class_names": ("01", "9")}, UnknownNameError, r"^Unknown class of ravdess '9'"),
        ({"class_names": CLASSES}, UnknownNameError, r"^Unknown class of ravdess 'angry'"),
    ],
)
def test_unsuitable_targets_are_refused(validate, tmp_path, changes, error, match):
    refused(validate, dataclasses.replace(task("speaker"), **changes), tmp_path / "run", error, match)


def test_a_network_of_speakers_is_reloaded_by_its_recipe(pretrained, tmp_path):
    path = tmp_path / "speaker.yaml"
    path.write_text(task("speaker").to_yaml())
    assert load_recipe(path).target == "speaker"
    assert serzoo.load(pretrained[0], recipe=path).class_names == serzoo.load(pretrained[0]).class_names
