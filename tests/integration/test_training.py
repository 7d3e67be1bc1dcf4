"""fit, evaluate and cross_validate on the synthetic corpus."""

import dataclasses
import json
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

import serzoo
from serzoo import plots
from serzoo.data import load_corpus
from serzoo.data.cache import FeatureCache
from serzoo.data.examples import Examples
from serzoo.errors import ConfigError, DataError, FeatureError, WeightsError
from serzoo.experiments.cross_validate import cross_validate
from serzoo.experiments.run_folder import score_predictions
from serzoo.experiments.setup import load_manifest
from serzoo.features.spec import MFCCSpec
from serzoo.metrics import Scores
from serzoo.recipes import Recipe
from serzoo.settings import ModelConfig, OptimizerConfig, TrainingConfig
from serzoo.training import callbacks, compiling
from serzoo.training.callbacks import FitSession
from serzoo.training.evaluate import evaluate, predict_probabilities
from serzoo.training.fit import fit
from serzoo.training.objectives import PREDICTION, Objective, TrainingNetwork

SPEC = MFCCSpec(sample_rate=16_000, n_samples=16_000, n_mfcc=13)
SMALL = {"n_blocks": 1, "filters": 8, "backward": False}
"""A network that is traced in little time; these tests train many."""

CLASSES = ("angry", "happy", "sad")
FOLDS = ("fold01-speaker-01", "fold03-speaker-03")
TRAINING = TrainingConfig(batch_size=16, epochs=4, seed=3, jit_compile=False)
LONG = dataclasses.replace(TRAINING, batch_size=6, epochs=50)  # enough steps for the moving statistics to settle


pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return FeatureCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def examples():
    """Three classes that differ in the mean of one coefficient."""
    rng = np.random.default_rng(0)
    targets = np.arange(60) % 3
    features = rng.standard_normal((60, 20, 13)).astype(np.float32)
    features[:, :, 0] += 2 * targets[:, None]
    return Examples(features, targets, CLASSES)


def small_model(examples, seed=0, **arguments):
    keras.utils.set_random_seed(seed)
    return serzoo.build("timnet", class_names=examples.class_names, feature_spec=SPEC, **SMALL, **arguments)


def recipe(**training):
    return Recipe(
        name="small",
        corpus="synthetic",
        model=ModelConfig("timnet", SMALL),
        features=SPEC,
        protocol="loso-v1",
        training=dataclasses.replace(TRAINING, epochs=2, **training),
    )


@pytest.mark.jax
def test_fit_learns_and_returns_a_history(examples):
    model = small_model(examples)
    history = fit(model, examples, training=LONG, progress=False)
    assert history.selected_epoch == len(history.records) == LONG.epochs
    assert history.column("loss")[-1] < history.column("loss")[0]
    assert evaluate(model, examples).uar > 0.9


def test_arrays_serve_as_data(examples):
    model = small_model(examples)
    history = fit(model, (examples.features, examples.targets), training=TRAINING, progress=False)
    assert len(history.records) == 4
    assert evaluate(model, (examples.features, examples.targets)) == evaluate(model, examples)


@pytest.mark.jax
def test_the_same_seed_gives_the_same_weights(examples):
    first, second = small_model(examples), small_model(examples)
    for model in (first, second):
        fit(model, examples, training=TRAINING, progress=False)
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.jax
@pytest.mark.parametrize("selection", ["last-epoch", "best-train-war"])
def test_an_interrupted_training_resumes_to_the_same_numbers(examples, tmp_path, monkeypatch, selection):
    training = dataclasses.replace(TRAINING, epochs=6, selection=selection)
    whole = small_model(examples)
    expected = fit(whole, examples, training=training, progress=False)

    monkeypatch.setattr(callbacks, "_SAVE_EVERY_SECONDS", 0.0)
    save = callbacks.FitSession._save

    def save_then_stop(self, *arguments):
        save(self, *arguments)
        if len(self.records) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.FitSession, "_save", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        fit(small_model(examples), examples, training=training, run_folder=tmp_path, progress=False)
    monkeypatch.setattr(callbacks.FitSession, "_save", save)

    resumed = small_model(examples, seed=99)  # the initial weights of the new process do not matter
    history = fit(resumed, examples, training=training, run_folder=tmp_path, progress=False)
    assert history == expected
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_finished_training_is_not_repeated(examples, tmp_path):
    first = small_model(examples)
    history = fit(first, examples, training=TRAINING, run_folder=tmp_path, progress=False)
    again = small_model(examples, seed=99)
    assert fit(again, examples, training=TRAINING, run_folder=tmp_path, progress=False) == history
    np.testing.assert_array_equal(again.get_weights()[0], first.get_weights()[0])


def test_a_state_of_other_settings_is_refused(examples, tmp_path):
    fit(small_model(examples), examples, training=TRAINING, run_folder=tmp_path, progress=False)
    other = dataclasses.replace(TRAINING, label_smoothing=0.2)
    with pytest.raises(DataError, match=r"state\.npz belongs to a training with other settings"):
        fit(small_model(examples), examples, training=other, run_folder=tmp_path, progress=False)


@pytest.mark.parametrize("damage", ["not really", "empty", "no meta", "no keys"])
def test_a_damaged_state_is_named(examples, tmp_path, damage):
    path = tmp_path / "state.npz"
    if damage.startswith("no "):
        np.savez(path, **({"meta": "{}"} if damage == "no keys" else {"other": 1}))
    if damage in {"not really", "empty"}:
        path.write_bytes(b"PK\x03\x04 not really" if damage == "not really" else b"")
    with pytest.raises(DataError, match=r"state\.npz: damaged training state"):
        fit(small_model(examples), examples, training=TRAINING, run_folder=tmp_path, progress=False)


@pytest.mark.jax
def test_the_best_validation_epoch_is_kept(examples):
    training = dataclasses.replace(TRAINING, epochs=8, selection="best-validation-uar")
    validation = examples.select(np.arange(0, 60, 3) + np.arange(20) % 3)
    model = small_model(examples)
    history = fit(model, examples, validation_data=validation, training=training, progress=False)
    uars = history.column("validation_uar")
    assert history.selected_epoch == int(np.argmax(uars)) + 1
    assert evaluate(model, validation).uar == pytest.approx(max(uars))


# Early stopping -------------------------------------------------------------------------------------------------------

PATIENT = dataclasses.replace(
    TRAINING, optimizer=OptimizerConfig(learning_rate=5e-3), epochs=60, selection="best-validation-loss", patience=3
)
BETTER = {"best-validation-loss": np.argmin, "best-validation-uar": np.argmax, "best-train-war": np.argmax}
"""By rule, the function that finds the first best epoch."""


@pytest.fixture(scope="module")
def misleading(examples):
    """A validation part on which the model gets worse after some epochs."""
    part = examples.select(np.arange(0, 60, 4))
    return dataclasses.replace(part, targets=(part.targets + np.arange(15) % 2) % 3)


@dataclasses.dataclass(frozen=True, eq=False)
class Scripted(Objective):
    """Cross-entropy, with given losses of the validation part."""

    losses: tuple[float, ...]
    term_names = ("classes",)

    def outputs(self, model):
        return {PREDICTION: model.output}

    def terms(self, targets, outputs, sample_weight):
        return (keras.ops.mean(keras.ops.categorical_crossentropy(targets, outputs[PREDICTION])),)

    def fingerprint(self):
        return str(self.losses).encode()

    def held_out_loss(self, network, examples, probabilities):
        return self.losses[int(network.optimizer.iterations) // 4 - 1]  # 60 clips in batches of 16


def test_each_epoch_has_its_learning_rate(examples):
    model, used = small_model(examples), []
    training = dataclasses.replace(TRAINING, schedule="cosine", warmup_epochs=1)

    class Probe(FitSession):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch, logs)
            used.append(float(self.model.optimizer.learning_rate))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serzoo.training.fit.FitSession", Probe)
        history = fit(model, examples, training=training, progress=False)
    assert used == pytest.approx([training.learning_rate(epoch) for epoch in range(4)], rel=1e-6)
    assert len(set(used)) == 4
    assert set(history.records[0]) == {"loss", "war"}


def monitoring(examples, training):
    """A session without a training, to record made-up epochs."""
    return FitSession(small_model(examples), training, examples, {"validation": examples}, None)


class ScriptedWithDimensions(Scripted):
    takes_dimensions = True


@pytest.mark.parametrize("setting", [{"mixup": 0.4}, {"class_weights": True}])
def test_settings_for_classes_only_are_refused_with_dimensions(examples, setting):
    training = dataclasses.replace(TRAINING, **setting)
    with pytest.raises(ConfigError, match=rf"^training\.{next(iter(setting))} .* classes only, not dimensions"):
        fit(small_model(examples), examples, training=training, objective=ScriptedWithDimensions((1.0,)))


def same_weights(first, second):
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("selection", BETTER)
def test_a_training_stops_when_it_runs_out_of_patience_and_keeps_the_best_epoch(examples, misleading, selection):
    training = dataclasses.replace(PATIENT, selection=selection)
    model = small_model(examples)
    history = fit(model, examples, validation_data=misleading, training=training, progress=False)
    monitored = history.column(selection.removeprefix("best-").replace("-", "_"))
    assert history.selected_epoch == BETTER[selection](monitored) + 1
    assert len(history.records) == history.selected_epoch + training.patience < training.epochs

    until_then = dataclasses.replace(training, epochs=history.selected_epoch, selection="last-epoch", patience=None)
    other = small_model(examples)
    fit(other, examples, validation_data=misleading, training=until_then, progress=False)
    same_weights(model, other)
    np.testing.assert_array_equal(*(predict_probabilities(one, examples) for one in (model, other)))


@pytest.mark.parametrize(
    ("losses", "best", "n_epochs"),
    [
        ((3, 2, np.nan, 2, 2.5, 1), 2, 5),
        ((np.nan, np.nan, 3, 4, 5, 6, 1), 3, 6),
        ((1, 1, 1, 1, 0), 1, 4),
        ((5, 4, 3, 2, 1), 5, 5),
        ((2, 3, 4, 1, 5), 4, 5),
        ((-1, -2, -2.5, np.inf, -3), 5, 5),
        ((np.nan,) * 6, 0, 4),
    ],
)
@pytest.mark.parametrize("sign", [1, -1], ids=["loss", "score"])
def test_losses_and_scores_by_hand(examples, losses, best, n_epochs, sign):
    """Patience 3: of equal epochs the first is kept, and NaN is never the best."""
    rule = "best-validation-loss" if sign == 1 else "best-validation-uar"
    session, epoch = monitoring(examples, TrainingConfig(selection=rule, patience=3)), 0
    session.set_model(SimpleNamespace(get_weights=lambda: [epoch]))
    for epoch in range(len(losses)):
        session.record({session.monitor: sign * losses[epoch]})
        if session.is_over:
            break
    assert (session.best_epoch + 1, epoch + 1) == (best, n_epochs)
    assert session.best_weights == ([best - 1] if best else [])


def test_without_patience_nothing_stops(examples):
    session = monitoring(examples, TrainingConfig(selection="best-validation-loss", epochs=2000))
    session.set_model(SimpleNamespace(get_weights=list))
    for loss in [1.0, *[2.0] * 1000]:
        session.record({"validation_loss": loss})
        assert not session.is_over
    assert session.best_epoch == 0


def test_an_objectives_own_losses_are_compared(examples):
    losses = (3, 2, np.nan, 2, 2.5, 1)
    training = dataclasses.replace(PATIENT, epochs=len(losses))
    common = {"validation_data": examples, "training": training, "progress": False}
    history = fit(small_model(examples), examples, objective=Scripted(losses), **common)
    assert (history.selected_epoch, len(history.records)) == (2, 5)
    np.testing.assert_array_equal(history.column("validation_loss"), losses[:5])


@pytest.mark.parametrize("patience", [2, None])
def test_a_training_without_a_finite_loss_is_refused(examples, tmp_path, patience):
    training = dataclasses.replace(PATIENT, epochs=4, patience=patience)
    for _ in range(2):  # the second time from the state of the first
        with pytest.raises(WeightsError, match=r"^timnet has no epoch with a finite validation_loss: .*learning_rate"):
            fit(
                small_model(examples),
                examples,
                validation_data=examples,
                training=training,
                objective=Scripted((np.nan,) * 4),
                run_folder=tmp_path,
                progress=False,
            )


def test_a_training_that_stopped_early_is_not_continued(examples, misleading, tmp_path, monkeypatch):
    common = {"validation_data": misleading, "training": PATIENT, "run_folder": tmp_path, "progress": False}
    first = small_model(examples)
    history = fit(first, examples, **common)
    assert len(history.records) < PATIENT.epochs
    monkeypatch.setattr(keras.Model, "fit", None)
    again = small_model(examples, seed=99)
    assert fit(again, examples, **common) == history
    same_weights(again, first)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 2], ids=lambda after: f"{after} epochs after the best")
def test_an_interruption_does_not_change_when_a_training_stops(examples, misleading, tmp_path, monkeypatch, after):
    common = {"validation_data": misleading, "training": PATIENT, "progress": False}
    whole = small_model(examples)
    expected = fit(whole, examples, **common)

    monkeypatch.setattr(callbacks, "_SAVE_EVERY_SECONDS", 0.0)
    save = callbacks.FitSession._save

    def save_then_stop(self, *arguments):
        save(self, *arguments)
        if len(self.records) == expected.selected_epoch + after:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.FitSession, "_save", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        fit(small_model(examples), examples, run_folder=tmp_path, **common)
    monkeypatch.setattr(callbacks.FitSession, "_save", save)
    resumed = small_model(examples, seed=99)
    assert fit(resumed, examples, run_folder=tmp_path, **common) == expected
    same_weights(resumed, whole)


@pytest.mark.parametrize("activation", ["softmax", None])
def test_the_validation_loss_is_the_cross_entropy_of_whole_clips(examples, misleading, activation):
    counts = np.array([1, 2, 3] * 5)
    features = np.repeat(misleading.features, counts, axis=0)
    features[1:] += np.random.default_rng(0).normal(size=(len(features) - 1, 1, 13)).astype(np.float32)
    held_out = Examples(features, misleading.targets, CLASSES, segment_counts=counts)
    model = small_model(examples, classifier_activation=activation)
    history = fit(model, examples, validation_data=held_out, training=PATIENT, progress=False)
    probabilities = predict_probabilities(model, held_out)
    assert probabilities.shape == (15, 3)
    expected = -np.log(probabilities[np.arange(15), held_out.targets]).mean()
    assert history.selected["validation_loss"] == pytest.approx(expected, rel=1e-5)
    assert history.selected["validation_uar"] == evaluate(model, held_out).uar


def test_the_network_in_training_is_the_model(examples):
    """An objective of cross-entropy alone gives the same training as no objective."""
    training = dataclasses.replace(TRAINING, label_smoothing=0.0)
    plain, with_objective = small_model(examples), small_model(examples)
    histories = [
        fit(plain, examples, training=training, progress=False),
        fit(with_objective, examples, training=training, objective=Scripted(()), progress=False),
    ]
    for name in ("loss", "war"):
        np.testing.assert_allclose(histories[1].column(name), histories[0].column(name), rtol=1e-4)
    np.testing.assert_allclose(histories[1].column("classes"), histories[0].column("loss"), rtol=1e-4)
    for one, other in zip(plain.get_weights(), with_objective.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    assert TrainingNetwork(plain, Scripted(())).get_weights()[0].shape == plain.get_weights()[0].shape


@pytest.mark.parametrize(
    ("selection", "parts", "message"),
    [
        ("best-validation-uar", {}, "needs validation_data"),
        ("leaky-best-test-war", {}, "needs test_data"),
        ("last-epoch", {"test_data"}, "only for the rule leaky-best-test-war"),
    ],
)
def test_a_rule_gets_the_parts_it_needs_and_no_test_part_otherwise(examples, selection, parts, message):
    training = dataclasses.replace(TRAINING, selection=selection)
    with pytest.raises(ConfigError, match=message):
        fit(small_model(examples), examples, training=training, progress=False, **dict.fromkeys(parts, examples))


def test_settings_of_a_wrong_type_are_refused(examples):
    with pytest.raises(ConfigError, match=r"give serzoo\.TrainingConfig"):
        fit(small_model(examples), examples, training={"epochs": 1}, progress=False)


def test_data_that_does_not_fit_the_model_is_refused(examples):
    model = small_model(examples)
    with pytest.raises(FeatureError, match=r"takes any x 13 values .*, the data has 5 x 7"):
        evaluate(model, (np.zeros((2, 5, 7)), [0, 1]))
    with pytest.raises(DataError, match=r"classes \(a, b, c\) are not the model's \(angry, happy, sad\)"):
        evaluate(model, Examples(examples.features, examples.targets, ("a", "b", "c")))


def test_one_hot_targets_are_refused(examples):
    with pytest.raises(DataError, match=r"60 clips but targets of shape \(60, 3\); give one class index per clip"):
        evaluate(small_model(examples), (examples.features, examples.one_hot()))


def test_a_diverged_model_is_not_scored(examples):
    model = small_model(examples)
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    with pytest.raises(WeightsError, match="timnet predicts NaN"):
        evaluate(model, examples)


def test_an_interruption_stops_the_progress_bar(examples, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.FitSession, "on_epoch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(small_model(examples), examples, training=TRAINING)
    refreshing = [thread for thread in threading.enumerate() if type(thread).__name__ == "_RefreshThread"]
    for thread in refreshing:
        thread.join(timeout=30)  # a stopped one ends when it is scheduled next
    assert not any(thread.is_alive() for thread in refreshing)


def test_a_state_of_another_validation_part_is_refused(examples, tmp_path):
    training = dataclasses.replace(TRAINING, selection="best-validation-uar")
    common = {"training": training, "run_folder": tmp_path, "progress": False}
    fit(small_model(examples), examples, validation_data=examples.select([0, 1, 2]), **common)
    with pytest.raises(DataError, match="belongs to a training with other settings"):
        fit(small_model(examples), examples, validation_data=examples.select([3, 4, 5]), **common)


@pytest.mark.jax
def test_logits_are_trained_and_scored_as_probabilities_are(examples):
    model = small_model(examples, classifier_activation=None)
    fit(model, examples, training=LONG, progress=False)
    assert evaluate(model, examples).uar > 0.9


@pytest.fixture(scope="module")
def finished(synthetic_root, cache, tmp_path_factory):
    """A run folder of two folds with plots, their report and the number of networks that were compiled."""
    compiled, compile_network = [], compiling.compile_network
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("cross_validate.plot_confusion", "folds.plot_embedding", "folds.plot_history"):
            patch.setattr(f"serzoo.experiments.{name}", getattr(plots, name.partition(".")[2]))  # not no_plots' ones
        patch.setattr(compiling, "compile_network", lambda *given: compiled.append(compile_network(*given)))
        report = cross_validate(
            recipe(), data_root=synthetic_root, run_folder=folder, folds=[1, 3], cache=cache, progress=False
        )
    return folder, report, len(compiled)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run folder."""
    return shutil.copytree(finished[0], tmp_path / "copied")


def test_cross_validation_writes_a_run_folder(finished):
    run, report, n_compiled = finished
    assert n_compiled == 1  # for both folds
    assert not report.complete
    assert report.fold_names == FOLDS
    for name in ("recipe.yaml", "data.json", "leakage.json", "report.json", "plots/confusion.png"):
        assert (run / name).stat().st_size > 0
    for fold in report.fold_names:
        written = {path.name for path in (run / fold).iterdir()}
        assert written >= {"predictions.csv", "environment.json", "history.csv", "model.keras", "embedding.npy"}
        assert "tensorboard" in written
        assert "state.npz" not in written
        assert (run / "plots" / f"{fold}-curves.png").exists()
        assert (run / "plots" / f"{fold}-tsne.png").exists()
    assert json.loads((run / "report.json").read_text())["protocol"] == "loso-v1"


def test_cross_validation_resumes_from_a_run_folder(finished, copied, synthetic_root, cache, monkeypatch):
    monkeypatch.delattr("serzoo.experiments.stages.fit")
    common = {"data_root": synthetic_root, "cache": cache, "progress": False}
    again = cross_validate(recipe(), run_folder=copied, folds=[1, 3], **common)
    assert again.summary == finished[1].summary
    assert json.loads((copied / "report.json").read_text())["protocol"] == "loso-v1"


@pytest.mark.slow
def test_a_manifest_takes_the_place_of_the_corpus(finished, synthetic_root, cache, tmp_path):
    manifest = load_corpus("synthetic", synthetic_root)
    common = {"cache": cache, "progress": False, "folds": [1]}
    report = cross_validate(recipe(), data=manifest, run_folder=tmp_path / "same", **common)
    assert report.summary.folds == finished[1].summary.folds[:1]

    own = dataclasses.replace(manifest, corpus="own")
    assert cross_validate(recipe(), data=own, run_folder=tmp_path / "own", **common).summary == report.summary
    assert "corpus: own\n" in (tmp_path / "own" / "recipe.yaml").read_text()
    again = cross_validate(recipe(), data=own, run_folder=tmp_path / "own", **common)
    assert again.summary == report.summary
    with pytest.raises(ConfigError, match="data is given for small, and so is another folder"):
        cross_validate(recipe(), data=own, data_root=synthetic_root, run_folder=tmp_path / "both", **common)
    assert not (tmp_path / "both").exists()


def test_scores_follow_from_the_predictions_file(finished):
    run, report, _ = finished
    path = run / report.fold_names[0] / "predictions.csv"
    table = pd.read_csv(path)
    names = list(report.summary.pooled.class_names)
    probabilities = table[[f"p_{name}" for name in names]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert [names[index] for index in probabilities.argmax(axis=1)] == table["prediction"].tolist()
    by_hand = Scores.from_predictions(
        [names.index(label) for label in table["label"]], probabilities.argmax(axis=1), names
    )
    assert score_predictions(path, names) == by_hand
    assert report.summary.folds[0] == (by_hand,)


SEEDS = (3, 4)


def recalls(path):
    """The recall of each class that occurs, from a predictions file, computed without serzoo."""
    table = pd.read_csv(path, keep_default_na=False)
    return (table["label"] == table["prediction"]).groupby(table["label"]).mean()


@pytest.mark.slow
def test_an_interrupted_fold_reports_the_finished_seeds_and_resumes_with_the_others(
    synthetic_root, cache, tmp_path, monkeypatch
):
    trained = []

    def fit_once(*arguments, **settings):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append((settings["title"], settings["training"].seed))
        return fit(*arguments, **settings)

    run, repeated = tmp_path / "run", dataclasses.replace(recipe(), repeats=2)
    common = {"data_root": synthetic_root, "folds": [3], "cache": cache, "progress": False}
    monkeypatch.setattr("serzoo.experiments.stages.fit", fit_once)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(repeated, run_folder=run, **common)
    assert trained == [("fold03-speaker-03", 3)]
    assert json.loads((run / "report.json").read_text())["run_names"] == [["fold03-speaker-03"]]

    trained.clear()
    report = cross_validate(repeated, run_folder=run, **common)
    assert trained == [("fold03-speaker-03-seed4", 4)]
    assert report.runs == {"fold03-speaker-03": ("fold03-speaker-03", "fold03-speaker-03-seed4")}
    assert report.chosen == report.runs["fold03-speaker-03"]
    assert not report.complete

    once = cross_validate(recipe(), run_folder=run, **common)
    assert once.runs == {"fold03-speaker-03": ("fold03-speaker-03",)}, (
        "what is trained serves a recipe of one seed, too"
    )

    trained.clear()
    alone = cross_validate(recipe(seed=4), run_folder=tmp_path / "alone", **common)
    assert alone.chosen == ("fold03-speaker-03",)
    predictions = [
        folder / "predictions.csv" for folder in (tmp_path / "alone" / alone.chosen[0], run / report.chosen[1])
    ]
    assert predictions[0].read_bytes() == predictions[1].read_bytes()


@pytest.mark.slow
def test_scores_of_seeds_are_averaged_before_those_of_folds(synthetic_root, cache, tmp_path, monkeypatch):
    validated = {}

    def remember(*arguments, **settings):
        validated[settings["title"]] = settings["validation_data"].features
        return fit(*arguments, **settings)

    monkeypatch.setattr("serzoo.experiments.stages.fit", remember)
    repeated = dataclasses.replace(recipe(selection="best-validation-uar"), repeats=2, class_names=CLASSES)
    common = {"data_root": synthetic_root, "run_folder": tmp_path, "cache": cache, "progress": False}
    report = cross_validate(repeated, folds=[1, 3], **common)

    names = [[fold, f"{fold}-seed{SEEDS[1]}"] for fold in FOLDS]
    assert list(validated) == [names[0][0], names[1][0], names[0][1], names[1][1]]
    uars = np.array([[recalls(tmp_path / name / "predictions.csv").mean() for name in runs] for runs in names])
    assert report.summary.mean["uar"] == pytest.approx(uars.mean())
    assert report.summary.std["uar"] == pytest.approx(uars.mean(axis=1).std())
    assert report.summary.pooled.n == 2 * 2 * 24
    stored = json.loads((tmp_path / "report.json").read_text())
    assert (stored["fold_names"], stored["run_names"]) == (list(FOLDS), names)
    np.testing.assert_allclose([[run["uar"] for run in runs] for runs in stored["scores"]["folds"]], uars)
    for first, second in names:
        np.testing.assert_array_equal(validated[first], validated[second])
        assert (tmp_path / first / "predictions.csv").read_bytes() != (
            tmp_path / second / "predictions.csv"
        ).read_bytes()

    text = str(report)
    assert "(2 folds, 4 runs, n=96)" in text
    assert "Each fold is the mean over seeds 3 to 4." in text
    assert "2 of 8 folds only." in text
    assert "runs of these folds" not in text
    (tmp_path / names[1][0] / "predictions.csv").unlink()
    part = cross_validate(repeated, folds=[1], **common)
    assert part.summary.mean["uar"] == pytest.approx((uars[0].mean() + uars[1, 1]) / 2)
    assert "3 of the 4 runs of these folds only." in str(part)


def test_a_run_folder_of_other_settings_is_refused(synthetic_root, cache, copied):
    common = {"data_root": synthetic_root, "run_folder": copied, "folds": [1], "cache": cache, "progress": False}
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        cross_validate(recipe(), changes={"training.epochs": 3}, **common)


@pytest.mark.slow
def test_the_validation_part_shares_no_speaker_with_training(synthetic_root, cache, tmp_path):
    settings = recipe(selection="best-validation-uar", validation_fraction=0.34)
    common = {"data_root": synthetic_root, "cache": cache, "progress": False}
    report = cross_validate(settings, run_folder=tmp_path, folds=[1], **common)
    overlaps = {(overlap.seen, overlap.scored): overlap for overlap in report.leakage.overlaps}
    validation = overlaps["train", "validation"]
    assert validation.speakers == ()
    assert len(validation.scored_speakers) == 2
    history = pd.read_csv(tmp_path / report.fold_names[0] / "history.csv")
    assert {"validation_uar", "validation_war"} <= set(history.columns)


def test_the_report_covers_all_finished_folds(synthetic_root, cache, copied):
    shutil.rmtree(copied / FOLDS[0])
    common = {"data_root": synthetic_root, "run_folder": copied, "cache": cache, "progress": False}
    report = cross_validate(recipe(), folds=[1], **common)
    assert report.chosen == FOLDS[:1]
    assert report.fold_names == FOLDS
    assert len(report.summary.folds) == len(json.loads((copied / "report.json").read_text())["scores"]["folds"]) == 2


@pytest.mark.parametrize("damage", ["a row less", "another fold's"])
def test_a_fold_with_predictions_of_other_clips_is_not_finished(synthetic_root, cache, copied, damage):
    common = {"data_root": synthetic_root, "run_folder": copied, "folds": [1, 3], "cache": cache, "progress": False}
    before = (copied / "report.json").read_bytes()
    first, second = (copied / name / "predictions.csv" for name in FOLDS)
    kept = (
        second.read_text() if damage == "another fold's" else first.read_text().rpartition("\n")[0].rpartition("\n")[0]
    )
    first.write_text(kept)
    with pytest.raises(
        DataError, match=r"not the fold's test recordings\); delete its folder to train that fold again"
    ):
        cross_validate(recipe(), **common)
    assert (copied / "report.json").read_bytes() == before


def test_a_run_folder_of_other_recordings_is_refused(synthetic_root, cache, copied, tmp_path):
    fewer = shutil.copytree(synthetic_root, tmp_path / "fewer")
    next(fewer.rglob("*.wav")).unlink()
    with pytest.raises(ConfigError, match=r"holds a run with other recordings or pretrained weights \(see"):
        cross_validate(recipe(), data_root=fewer, run_folder=copied, folds=[1], cache=cache, progress=False)


@pytest.mark.slow
@pytest.mark.jax
def test_logits_are_written_as_probabilities(synthetic_root, cache, tmp_path):
    settings = dataclasses.replace(recipe(), model=ModelConfig("timnet", {**SMALL, "classifier_activation": None}))
    report = cross_validate(
        settings, data_root=synthetic_root, run_folder=tmp_path, folds=[1], cache=cache, progress=False
    )
    table = pd.read_csv(tmp_path / report.chosen[0] / "predictions.csv").filter(like="p_")
    assert table.min().min() >= 0
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-4)


@pytest.mark.slow
def test_the_leaky_rule_is_named_and_keeps_the_best_test_epoch(synthetic_root, cache, tmp_path):
    settings = recipe(selection="leaky-best-test-war")
    common = {"data_root": synthetic_root, "cache": cache, "progress": False}
    report = cross_validate(settings, run_folder=tmp_path, folds=[1], **common)
    history = pd.read_csv(tmp_path / report.chosen[0] / "history.csv")
    assert report.summary.mean["war"] == pytest.approx(history["test_war"].max())
    assert "selection leaky-best-test-war" in str(report)


@pytest.mark.slow
def test_training_on_one_corpus_and_testing_on_another(cache, tmp_path):
    from serzoo.data.synthetic import write_corpus

    for corpus in ("ravdess", "emodb"):
        write_corpus(tmp_path / corpus, corpus, n_speakers=2)
    settings = dataclasses.replace(recipe(), corpus="ravdess", test_corpus="emodb", protocol="cross-shared5-v1")
    report = cross_validate(
        settings, data_root=tmp_path / "ravdess", test_data_root=tmp_path / "emodb", run_folder=tmp_path / "run",
        cache=cache, progress=False,
    )  # fmt: skip
    assert report.complete
    assert report.summary.pooled.class_names == ("angry", "fear", "happy", "neutral", "sad")
    assert report.summary.pooled.n == 20


INTERRUPTED = """
import sys
from serzoo.training import callbacks
from serzoo.experiments.cross_validate import cross_validate
callbacks._SAVE_EVERY_SECONDS = 0.0
cross_validate(sys.argv[1], data_root=sys.argv[2], run_folder=sys.argv[3], folds=[1], progress=False)
"""


@pytest.mark.slow
def test_a_killed_cross_validation_resumes_in_a_new_process_to_the_same_numbers(synthetic_root, tmp_path):
    import time

    config = tmp_path / "config.yaml"
    config.write_text(recipe(jit_compile=True).override({"training.epochs": 40}).to_yaml())

    def start(folder):
        command = [sys.executable, "-c", INTERRUPTED, str(config), str(synthetic_root), str(folder)]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    killed, state = start(tmp_path / "killed"), tmp_path / "killed" / "fold01-speaker-01" / "state.npz"
    while not state.exists():
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    assert state.exists(), "it was killed before its end"
    assert start(tmp_path / "killed").wait() == 0
    for name in ("predictions.csv", "history.csv"):
        paths = [tmp_path / run / "fold01-speaker-01" / name for run in ("whole", "killed")]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_score_states_speaker_dependence(finished, synthetic_root, cache, tmp_path):
    common = {"data_root": synthetic_root, "folds": [1], "cache": cache, "progress": False}
    dependent = dataclasses.replace(recipe(), protocol="random10-seed46-v1")
    text = str(cross_validate(dependent, run_folder=tmp_path, **common))
    assert "speaker-DEPENDENT" in text
    assert "1 of 10 folds only" in text
    assert "speaker-independent" in str(finished[1])


def test_a_loaded_classifier_is_evaluated_and_trained(examples, tmp_path):
    path = serzoo.Classifier(small_model(examples)).save(tmp_path / "model.keras")
    classifier = serzoo.load(path)
    fit(classifier, examples, training=TRAINING, progress=False)
    assert evaluate(classifier, examples) == evaluate(classifier.model, examples)


@pytest.mark.parametrize("folds", [[0], [9], []])
def test_a_missing_fold_is_refused(synthetic_root, cache, tmp_path, folds):
    with pytest.raises(ConfigError, match="loso-v1; choose from 1 to 8"):
        cross_validate(
            recipe(), data_root=synthetic_root, run_folder=tmp_path, folds=folds, cache=cache, progress=False
        )


def test_a_test_corpus_is_required_only_by_cross_corpus_recipes(synthetic_root):
    with pytest.raises(ConfigError, match="does not take a test corpus"):
        load_manifest(recipe(), synthetic_root, synthetic_root)
    with pytest.raises(ConfigError, match="needs a test corpus"):
        load_manifest(dataclasses.replace(recipe(), test_corpus="emodb"), synthetic_root)


def test_waveform_augmentation_trains_from_the_recordings(synthetic_root):
    from serzoo.settings import WaveformAugmentConfig

    manifest = load_corpus("synthetic", synthetic_root)
    model = serzoo.build("timnet", class_names=manifest.class_names, feature_spec=SPEC, **SMALL)
    training = dataclasses.replace(TRAINING, epochs=1, waveform_augment=WaveformAugmentConfig(gain_db=3.0))
    history = fit(model, manifest.select(range(20)), training=training, progress=False)
    assert np.isfinite(history.column("loss")).all()
    with pytest.raises(ConfigError, match="needs recordings"):
        fit(model, (np.zeros((20, 32, 13)), np.zeros(20, int)), training=training, progress=False)
