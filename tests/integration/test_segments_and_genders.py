"""Segments, genders and statistics with a small ACRNN, from recordings to an export."""

import dataclasses
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
import soundfile
import tensorflow as tf

import serzoo
from serzoo.data import load_corpus
from serzoo.data.cache import FeatureCache
from serzoo.data.examples import Examples, load_examples
from serzoo.data.protocols import get_protocol
from serzoo.data.splits import with_validation
from serzoo.errors import AudioError, ConfigError, DataError, FeatureError, WeightsError
from serzoo.experiments.cross_validate import cross_validate
from serzoo.features.segments import pool_segments
from serzoo.features.spec import LogMelSpec, MFCCSpec
from serzoo.recipes import Recipe
from serzoo.settings import ModelConfig, OptimizerConfig, TrainingConfig, WaveformAugmentConfig
from serzoo.training import callbacks
from serzoo.training.evaluate import embed, evaluate, predict_probabilities
from serzoo.training.fit import fit

SPEC = LogMelSpec(n_mels=8, segment_frames=250)  # the synthetic clips last 2 to 3.6 s: one segment, or two
SMALL = {"n_convs": 2, "filters": [4, 6], "projection": 8, "lstm_units": 4, "dense_units": 6, "attention_width": 5}
TRAINING = TrainingConfig(
    optimizer=OptimizerConfig("nadam", learning_rate=3e-3), batch_size=16, epochs=3, seed=1, jit_compile=False
)
RATE = 16_000


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return FeatureCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def manifest(synthetic_root):
    return load_corpus("synthetic", synthetic_root).with_classes(("angry", "happy", "sad"))


@pytest.fixture(scope="module")
def examples(manifest, cache):
    return load_examples(manifest, SPEC, with_gender=True, cache=cache)


def small_model(class_names, **arguments):
    keras.utils.set_random_seed(3)
    return serzoo.build("acrnn", class_names=class_names, **{"feature_spec": SPEC, **SMALL, **arguments})


@pytest.fixture(scope="module")
def trained(manifest, cache):
    model = small_model(manifest.class_names)
    fit(model, manifest, training=TRAINING, cache=cache, progress=False)
    return model


@pytest.fixture(scope="module")
def classifier(trained):
    return serzoo.Classifier(trained)


def noise(seconds=1.0, seed=0):
    random = np.random.default_rng(seed)
    return (0.1 * random.standard_normal(round(RATE * seconds)) * np.linspace(0.2, 1, round(RATE * seconds))).astype(
        "f"
    )


def values(prediction):
    return np.array(list(prediction.probabilities.values()))


# Training and scoring -------------------------------------------------------------------------------------------------


def test_examples_have_segments_and_genders(examples, manifest):
    assert (examples.counts > 1).any()
    assert set(zip(manifest.column("gender"), examples.genders.tolist(), strict=True)) == {("male", 1.0), ("female", 0)}


def test_statistics_are_those_of_the_training_parts_real_frames(trained, examples):
    frames = examples.features.reshape(-1, 8, 3)
    real = frames[frames.any(axis=(1, 2))].astype(np.float64)
    assert len(real) < len(frames), "some segments are padded"
    layer = trained.normalization
    assert int(layer.n_frames.numpy()) == len(real)
    np.testing.assert_allclose(layer.mean.numpy(), real.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.std.numpy(), real.std(axis=0), rtol=1e-5)


def test_training_on_segments_learns(trained, examples):
    untrained = small_model(trained.class_names)
    untrained.normalization.adapt(examples.features)
    assert evaluate(trained, examples).uar > max(0.45, evaluate(untrained, examples).uar)


@pytest.mark.slow
def test_held_out_parts_leave_the_statistics_alone(examples):
    first, other = examples.select(np.arange(0, 16)), examples.select(np.arange(40, 60))
    alone, held_out = small_model(examples.class_names), small_model(examples.class_names)
    once = dataclasses.replace(TRAINING, epochs=1)
    fit(alone, first, training=once, progress=False)
    fit(held_out, first, validation_data=other, training=once, progress=False)
    for one, two in zip(alone.get_weights(), held_out.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_further_training_keeps_the_statistics(trained, examples):
    model = trained.without_training_state()
    kept = model.normalization.mean.numpy()
    fit(model, examples.select(np.arange(10)), training=dataclasses.replace(TRAINING, epochs=1), progress=False)
    np.testing.assert_array_equal(model.normalization.mean.numpy(), kept)


def test_a_clip_is_scored_by_the_maxima_of_its_segments(trained, examples):
    segments = np.asarray(trained.predict(examples.inputs(), verbose=0))
    expected = pool_segments(segments, examples.counts)
    np.testing.assert_allclose(predict_probabilities(trained, examples), expected, atol=1e-6)
    clip = int(np.argmax(examples.counts))
    start = int(examples.counts[:clip].sum())
    maxima = segments[start : start + examples.counts[clip]].max(axis=0)
    np.testing.assert_allclose(predict_probabilities(trained, examples)[clip], maxima / maxima.sum(), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_scores_do_not_depend_on_how_files_are_batched(trained, examples, batch_size):
    chosen = np.random.default_rng(0).permutation(len(examples))[:24]
    together = predict_probabilities(trained, examples)
    shuffled = predict_probabilities(trained, examples.select(chosen), batch_size)
    np.testing.assert_allclose(shuffled, together[chosen], rtol=0, atol=1e-6)


def test_logits_are_pooled_as_probabilities(trained, examples):
    logits = small_model(trained.class_names, classifier_activation=None)
    logits.set_weights(trained.get_weights())
    np.testing.assert_allclose(
        predict_probabilities(logits, examples), predict_probabilities(trained, examples), atol=1e-6
    )


def test_a_clip_is_embedded_as_the_mean_of_its_segments(trained, examples):
    vectors = np.asarray(trained.embedding_model().predict(examples.inputs(), verbose=0))
    clips = np.split(vectors, np.cumsum(examples.counts)[:-1])
    np.testing.assert_allclose(embed(trained, examples), [clip.mean(axis=0) for clip in clips], atol=1e-6)


def test_the_output_changes_with_gender(trained, examples):
    def embedded(gender):
        clips = dataclasses.replace(examples, genders=np.full(len(examples), gender, np.float32))
        layer = keras.Model(trained.input, trained.get_layer("gender_vector").output)
        return np.asarray(layer.predict(clips.inputs(), verbose=0))

    female, male = embedded(0), embedded(1)
    assert np.abs(male - female).max() > 1e-3
    np.testing.assert_allclose(embedded(0.3), 0.7 * female + 0.3 * male, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timnet", "tbdm", "acrnn"])
def test_any_model_takes_segments(name, manifest, cache):
    spec, arguments = {
        "acrnn": (SPEC, {**SMALL, "gender": False}),
    }.get(name, (MFCCSpec(n_mfcc=5, segment_frames=40), {"n_blocks": 2, "filters": 4}))
    few = manifest.select(np.arange(0, len(manifest), 5))
    model = serzoo.build(name, class_names=few.class_names, feature_spec=spec, **arguments)
    fit(model, few, training=dataclasses.replace(TRAINING, epochs=1), cache=cache, progress=False)
    assert load_examples(few, spec, cache=cache).counts.max() > 1
    assert evaluate(model, few).n == len(few)
    prediction = serzoo.Classifier(model).predict(few.paths[0])
    np.testing.assert_allclose(values(prediction).sum(), 1, atol=1e-6)


@pytest.mark.slow
def test_an_interrupted_training_resumes_with_its_statistics(examples, tmp_path, monkeypatch):
    few = examples.select(np.arange(0, len(examples), 12))
    whole, halves, resumed = (small_model(examples.class_names) for _ in range(3))
    fit(whole, few, training=TRAINING, progress=False)

    class Stop(Exception):
        pass

    def save_and_stop(state, *arguments):
        save(state, *arguments)
        raise Stop

    save = callbacks.FitSession._save
    monkeypatch.setattr(callbacks, "_SAVE_EVERY_SECONDS", 0)
    monkeypatch.setattr(callbacks.FitSession, "_save", save_and_stop)
    with pytest.raises(Stop):
        fit(halves, few, training=TRAINING, run_folder=tmp_path, progress=False)
    monkeypatch.setattr(callbacks.FitSession, "_save", save)
    fit(resumed, few, training=TRAINING, run_folder=tmp_path, progress=False)
    for one, two in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_class_weights_are_balanced_over_segments(examples, monkeypatch):
    from sklearn.utils.class_weight import compute_class_weight

    model = small_model(examples.class_names)
    given = {}
    monkeypatch.setattr(type(model), "fit", lambda self, *_, **settings: given.update(settings))
    some = examples.select(np.r_[0:30, 64:84, 128:134])
    fit(model, some, training=dataclasses.replace(TRAINING, class_weights=True), progress=False)
    targets = np.repeat(some.targets, some.counts)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets)
    assert len(set(expected)) == 3
    np.testing.assert_allclose([given["class_weight"][index] for index in range(3)], expected)


def test_a_refused_training_leaves_no_statistics(examples, manifest, tmp_path):
    model = small_model(examples.class_names)
    refused = (
        {"training": dataclasses.replace(TRAINING, selection="best-validation-uar")},
        {"training": dataclasses.replace(TRAINING, waveform_augment=WaveformAugmentConfig(gain_db=3.0))},
        {"training": TRAINING, "test_data": examples},
    )
    for arguments in refused:
        with pytest.raises(ConfigError):
            fit(model, examples, progress=False, **arguments)
        assert not model.normalization.is_adapted


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"training.waveform_augment.gain_db": 3.0}, ConfigError, r"set features\.n_samples"),
        ({"features.segment_frames": 1}, FeatureError, "at least 2 frames, the recipe's features have 1"),
    ],
)
def test_a_refused_recipe_leaves_no_run_folder(synthetic_root, tmp_path, changes, error, message):
    changes = {"corpus": "synthetic", "protocol": "loso-v1", "model.arguments": SMALL, **changes}
    with pytest.raises(error, match=message):
        cross_validate("acrnn-emodb", data_root=synthetic_root, run_folder=tmp_path / "run", changes=changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_cross_validation_takes_statistics_from_the_training_part_alone(synthetic_root, cache, tmp_path):
    recipe = Recipe(
        name="small",
        corpus="synthetic",
        model=ModelConfig("acrnn", SMALL),
        protocol="loso-v1",
        features=SPEC,
        training=dataclasses.replace(TRAINING, epochs=1, selection="best-validation-uar"),
        class_names=("angry", "happy", "sad"),
    )
    cross_validate(recipe, data_root=synthetic_root, run_folder=tmp_path, folds=[2], cache=cache, progress=False)
    manifest = load_corpus("synthetic", synthetic_root).with_classes(recipe.class_names)
    fold = with_validation(get_protocol("loso-v1").folds(manifest)[1], manifest, 0.2, TRAINING.seed)
    trained_on = load_examples(manifest, SPEC, with_gender=True, cache=cache).select(fold.train)
    expected = small_model(recipe.class_names).normalization
    expected.adapt(trained_on.features)
    (model_file,) = tmp_path.glob("fold02*/model.keras")
    kept = serzoo.load(model_file).model.normalization
    for kept_weight, expected_weight in zip(kept.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(kept_weight.numpy(), expected_weight.numpy())


# Errors --------------------------------------------------------------------------------------------------


def test_a_manifest_without_genders_names_the_recording(manifest, cache):
    unknown = dataclasses.replace(manifest, frame=manifest.frame.assign(gender=""))
    model = small_model(manifest.class_names)
    with pytest.raises(DataError, match=r"wav: the speaker's gender is unknown; give 'male', 'female' or"):
        fit(model, unknown, training=TRAINING, cache=cache, progress=False)


def test_examples_without_genders_are_refused(trained, examples):
    plain = dataclasses.replace(examples, genders=None)
    with pytest.raises(DataError, match=r"acrnn takes the speaker's gender, the data has none; give \{'features'"):
        evaluate(trained, plain)
    without = small_model(examples.class_names, gender=False)
    with pytest.raises(DataError, match="does not take the speaker's gender, the data has genders; give the features"):
        fit(without, examples, training=TRAINING, progress=False)


def test_arrays_with_genders_serve_as_data(trained, examples):
    single = examples.select(np.flatnonzero(examples.counts == 1)[:12])
    inputs = {"features": single.features, "gender": single.genders}
    assert evaluate(trained, (inputs, single.targets)) == evaluate(trained, single)
    with pytest.raises(DataError, match="inputs are named 'features', 'sex'; name them"):
        evaluate(trained, ({"features": single.features, "sex": single.genders}, single.targets))
    names = ["male" if gender else "female" for gender in single.genders]
    assert evaluate(trained, ({**inputs, "gender": names}, single.targets)) == evaluate(trained, single)
    with pytest.raises(DataError, match=r"Clip 0: the speaker's gender is .* in 0\.\.1"):
        evaluate(trained, ({**inputs, "gender": single.genders + 1.5}, single.targets))


def test_a_model_without_statistics_does_not_predict(examples, tmp_path):
    model = small_model(examples.class_names)
    message = "acrnn has no statistics of a training part to normalise features with"
    with pytest.raises(WeightsError, match=message):
        evaluate(model, examples)
    model.save(tmp_path / "model.keras")
    for use in (serzoo.load, lambda _: serzoo.Classifier(model), lambda _: serzoo.export(model, tmp_path / "out")):
        with pytest.raises(WeightsError, match=message):
            use(tmp_path / "model.keras")
    assert not (tmp_path / "out").exists()


def test_weights_without_statistics_are_refused(trained, tmp_path):
    trained.save(tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as whole, zipfile.ZipFile(tmp_path / "cut.keras", "w") as cut:
        for name in whole.namelist():
            if name == "model.weights.h5":
                (tmp_path / "weights.h5").write_bytes(whole.read(name))
                with h5py.File(tmp_path / "weights.h5", "a") as weights:
                    del weights["layers/frame_normalization/vars"]
                    weights.create_group("layers/frame_normalization/vars")
                cut.write(tmp_path / "weights.h5", name)
            else:
                cut.writestr(name, whole.read(name))
    with pytest.raises(WeightsError, match=r"cut\.keras is damaged \(.*normalization.*\); get it again"):
        serzoo.load(tmp_path / "cut.keras")


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("timnet", SPEC, "timnet takes frames of n_features, logmel features have frames of 8 x 3 values"),
        ("acrnn", MFCCSpec(), "acrnn takes frames of n_features x n_channels, mfcc features have frames of 39 values"),
    ],
)
def test_features_of_another_kind_are_refused(name, spec, message):
    with pytest.raises(FeatureError, match=message):
        serzoo.build(name, n_classes=4, feature_spec=spec)


def test_features_of_another_size_are_refused(trained, examples):
    narrow = dataclasses.replace(examples, features=examples.features[:, :, :5])
    with pytest.raises(FeatureError, match=r"acrnn takes any x 8 x 3 values .*, the data has 250 x 5 x 3"):
        evaluate(trained, narrow)


def test_clips_of_too_few_frames_are_refused(trained, examples):
    short = Examples(examples.features[:3, :1], np.arange(3), examples.class_names, np.zeros(3, np.float32))
    with pytest.raises(FeatureError, match="acrnn takes clips of at least 2 frames, the data has 1"):
        evaluate(trained, short)


# Recordings -----------------------------------------------------------------------------------------------------------


def test_a_recording_is_predicted_as_it_is_scored(classifier, manifest, cache):
    some = manifest.select([0, 20, 40])
    examples = load_examples(some, SPEC, with_gender=True, cache=cache)
    predictions = classifier.predict(some.paths, gender=some.column("gender").tolist())
    for prediction, expected in zip(predictions, predict_probabilities(classifier.model, examples), strict=True):
        np.testing.assert_allclose(values(prediction), expected, rtol=0, atol=1e-5)


def test_a_long_recording_has_a_timeline_of_its_segments(classifier):
    prediction = classifier.predict(noise(6.0), RATE, gender="female")
    # 599 frames: segments start at 0, 250 and 349, and take 2.5 s
    assert [segment.start for segment in prediction.timeline] == pytest.approx([0, 2.5, 3.49])
    assert [segment.end for segment in prediction.timeline] == pytest.approx([2.5, 5.0, 5.99])
    maxima = np.max([values(segment) for segment in prediction.timeline], axis=0)
    np.testing.assert_allclose(values(prediction), maxima / maxima.sum(), atol=1e-9)
    assert prediction.warnings == ()


def test_a_short_recording_is_one_segment(classifier):
    assert classifier.predict(noise(0.2), RATE, gender=0.5).timeline == ()


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_prediction_does_not_depend_on_the_batch(classifier, tmp_path, batch_size):
    paths = [tmp_path / f"{index}.wav" for index in range(4)]
    for index, path in enumerate(paths):
        soundfile.write(path, noise(0.5 + 2 * index, index), RATE)
    genders = ["male", "female", 0.5, "0.1"]
    together = classifier.predict(paths, gender=genders, batch_size=batch_size)
    for path, gender, prediction in zip(paths, genders, together, strict=True):
        alone = classifier.predict(path, gender=gender)
        np.testing.assert_allclose(values(prediction), values(alone), rtol=0, atol=1e-6)


def test_gender_may_be_a_name_or_its_probability(classifier):
    def probabilities(gender):
        return values(classifier.predict(noise(), RATE, gender=gender))

    np.testing.assert_array_equal(probabilities("male"), probabilities(1))
    np.testing.assert_array_equal(probabilities("male"), probabilities(np.float32(1)))
    for male in (np.array([1.0]), np.array([[1.0]], np.float32), np.int64(1), tf.constant([1.0]), "M", " Male ", "1"):
        np.testing.assert_array_equal(probabilities("male"), probabilities(male))
    np.testing.assert_array_equal(probabilities("female"), probabilities(0.0))
    assert np.abs(probabilities("male") - probabilities("female")).max() > 1e-5


@pytest.mark.parametrize("gender", [None, "", "woman", -0.1, 1.5, float("nan"), "nan", True, {"male"}, {"a": 1}])
def test_an_invalid_gender_is_refused(classifier, gender):
    with pytest.raises(DataError, match=r"array: the speaker's gender is .*; give 'male', 'female' or the probability"):
        classifier.predict(noise(), RATE, gender=gender)


def test_the_number_of_genders_must_fit_the_recordings(classifier, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(), RATE)
    with pytest.raises(DataError, match="2 genders for 1 recordings; give one for all, or one for each"):
        classifier.predict_files([tmp_path], gender=["male", "female"])


def test_a_model_without_gender_input_refuses_a_gender(examples):
    model = small_model(examples.class_names, gender=False)
    model.normalization.adapt(examples.features)
    classifier = serzoo.Classifier(model)
    assert set(classifier.predict(noise(), RATE).probabilities) == set(examples.class_names)
    with pytest.raises(ConfigError, match="acrnn does not take the speaker's gender; leave gender out"):
        classifier.predict(noise(), RATE, gender="male")


def test_windows_are_refused_for_models_of_segments(classifier):
    for windows in (True, False):
        with pytest.raises(ConfigError, match=f"windows={windows} is for models of fixed length; this one takes"):
            classifier.predict(noise(), RATE, gender="male", windows=windows)


def test_silent_segments_are_warned_of(classifier):
    parts = [noise(2.5), np.zeros(3 * RATE, np.float32), noise(2.0)]
    prediction = classifier.predict(np.concatenate(parts), RATE, gender="male")
    assert prediction.warnings == ("1 of 3 segments are digital silence and count like speech",)


def test_a_recording_shorter_than_a_frame_is_refused(examples):
    spec = dataclasses.replace(SPEC, window_length=4096, n_fft=4096)
    model = small_model(examples.class_names, feature_spec=spec)
    model.normalization.adapt(examples.features)
    with pytest.raises(AudioError, match=r"array: .*2400.*4096"):
        serzoo.Classifier(model).predict(noise(0.15), RATE, gender="male")


# Export ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    return serzoo.export(classifier, tmp_path_factory.mktemp("export") / "model")


@pytest.fixture(scope="module")
def signatures(exported):
    return tf.saved_model.load(str(exported)).signatures


def ask(signature, **inputs):
    return signature(**{name: tf.constant(value) for name, value in inputs.items()})["probabilities"].numpy()


@pytest.mark.parametrize("seconds", [0.01, 0.2, 2.5125, 4.0, 6.3])
@pytest.mark.parametrize("gender", [0.0, 0.4, 1.0])
def test_export_takes_a_waveform_and_a_gender(signatures, classifier, seconds, gender):
    waveforms = np.stack([noise(seconds, seed) for seed in range(2)])
    genders = np.array([gender, 1 - gender], np.float32)
    outputs = ask(signatures["serving_default"], waveform=waveforms, gender=genders)
    if seconds >= 0.1:  # the classifier refuses shorter recordings
        expected = [
            values(classifier.predict(wave, RATE, gender=float(p))) for wave, p in zip(waveforms, genders, strict=True)
        ]
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-6)


def test_export_cuts_whole_features(signatures, examples, trained):
    parts, genders = examples.features[:3], np.array([0.25], np.float32)
    outputs = ask(signatures["features"], features=np.concatenate(parts)[None], gender=genders)
    clip = Examples(parts, np.zeros(1, np.int64), trained.class_names, genders, segment_counts=np.array([3]))
    np.testing.assert_allclose(outputs, predict_probabilities(trained, clip), rtol=0, atol=1e-5)


@pytest.mark.parametrize("gender", [-0.01, 1.01, float("nan")])
def test_export_refuses_a_gender_out_of_range(signatures, gender):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"gender holds a value outside 0\.\.1"):
        ask(signatures["serving_default"], waveform=noise()[None], gender=np.array([gender], np.float32))


def test_export_refuses_fewer_genders_than_recordings(signatures):
    with pytest.raises(tf.errors.InvalidArgumentError, match="one number per recording"):
        ask(signatures["serving_default"], waveform=np.stack([noise()] * 3), gender=np.zeros(1, np.float32))


@pytest.mark.parametrize("changes", [{"segment_frames": 3}, {"segment_frames": None, "n_samples": 1000}])
def test_export_of_short_inputs_is_verified_too(examples, tmp_path, changes):
    model = small_model(examples.class_names, feature_spec=dataclasses.replace(SPEC, **changes), gender=False)
    model.normalization.adapt(examples.features)
    assert (serzoo.export(model, tmp_path / "out") / "metadata.json").exists()


def test_an_export_lists_its_inputs(exported):
    metadata = json.loads((exported / "metadata.json").read_text())
    assert metadata["signatures"]["serving_default"]["gender"] == "float32 (batch,), probability of male, 0..1"
    assert metadata["signatures"]["features"]["features"] == "float32 (batch, n_frames, 8, 3)"
    assert metadata["feature_spec"]["segment_frames"] == 250
    assert "do not pad" in metadata["caution"]


def test_saved_classifier_loads_with_its_statistics(classifier, tmp_path):
    loaded = serzoo.load(classifier.save(tmp_path / "model.keras"))
    expected = classifier.predict(noise(), RATE, gender="male")
    assert loaded.predict(noise(), RATE, gender="male").probabilities == expected.probabilities
