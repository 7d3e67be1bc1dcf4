"""The tf.data pipeline: order, smoothing, the two routes and the augmentation."""

import dataclasses

import numpy as np
import pytest
import soundfile

from serzoo.data import pipeline
from serzoo.data.cache import FeatureCache
from serzoo.data.corpora.corpus import Recording, build_manifest
from serzoo.data.epochs import epoch_mixture, epoch_order
from serzoo.data.examples import Examples, load_examples
from serzoo.errors import ConfigError, MissingExtraError
from serzoo.features.extract import extract
from serzoo.features.spec import MFCCSpec
from serzoo.settings import SpecAugmentConfig, TrainingConfig, WaveformAugmentConfig

CLASSES = ("angry", "happy", "sad")
SPEC = MFCCSpec(n_samples=4410)
N_CLIPS = 10


def training(**changes):
    return dataclasses.replace(TrainingConfig(batch_size=4, epochs=3, seed=5), **changes)


@pytest.fixture(scope="module")
def examples():
    """Clips whose first value is their number, so that batches can be traced."""
    features = np.zeros((N_CLIPS, 6, 5), np.float32) + np.arange(N_CLIPS, dtype=np.float32)[:, None, None]
    return Examples(features, np.arange(N_CLIPS) % 3, CLASSES)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(N_CLIPS):
        path = folder / f"{index}.wav"
        rate = 16_000 if index % 2 else 44_100
        soundfile.write(path, 0.1 * rng.standard_normal(rate // 4), rate)
        rows.append((path, Recording(label=CLASSES[index % 3], speaker=str(index))))
    return build_manifest(rows, CLASSES, "custom")


def order_of(dataset):
    return [batch[:, 0, 0].astype(int).tolist() for batch, _ in dataset.as_numpy_iterator()]


def test_each_epoch_shows_every_clip_once_in_its_own_order(examples):
    batches = order_of(pipeline.training_dataset(examples, training()))
    assert [len(batch) for batch in batches] == [4, 4, 2] * 3
    epochs = [[*batches[start], *batches[start + 1], *batches[start + 2]] for start in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(N_CLIPS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_resumed_training_sees_what_it_would_have_seen(examples):
    whole = order_of(pipeline.training_dataset(examples, training()))
    assert order_of(pipeline.training_dataset(examples, training(), first_epoch=1)) == whole[3:]


def test_the_seed_decides_the_order(examples):
    first, again, other = (
        order_of(pipeline.training_dataset(examples, training(seed=seed, epochs=1))) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_targets_follow_their_clips_and_only_training_targets_are_smoothed(examples):
    for batch, hot in pipeline.training_dataset(examples, training(label_smoothing=0.3)).as_numpy_iterator():
        assert (hot.argmax(axis=1) == batch[:, 0, 0].astype(int) % 3).all()
        np.testing.assert_allclose(np.sort(hot, axis=1), [[0.1, 0.1, 0.8]] * len(hot), atol=1e-6)
    assert set(examples.one_hot().ravel()) == {0.0, 1.0}


def test_both_routes_give_the_same_batches(manifest, tmp_path):
    cached = load_examples(manifest, SPEC, cache=FeatureCache(tmp_path))
    from_cache = pipeline.training_dataset(cached, training(epochs=1)).as_numpy_iterator()
    from_audio = pipeline.waveform_dataset(manifest, SPEC, training(epochs=1)).as_numpy_iterator()
    for (features, hot), (decoded, hot_too) in zip(from_cache, from_audio, strict=True):
        np.testing.assert_allclose(decoded, features, atol=2e-3)
        np.testing.assert_array_equal(hot, hot_too)


def test_cached_features_are_the_reference(manifest, tmp_path):
    from serzoo.data import audio

    cached = load_examples(manifest, SPEC, cache=FeatureCache(tmp_path))
    waveform, _ = audio.read(manifest.paths[3], SPEC.sample_rate)
    np.testing.assert_array_equal(cached.features[3], extract(waveform, SPEC))


def test_waveform_augmentation_changes_every_epoch_and_repeats_with_the_seed(manifest):
    config = WaveformAugmentConfig(gain_db=6.0, noise_snr_db=20.0, shift=0.2)
    settings = training(epochs=2, batch_size=N_CLIPS, waveform_augment=config)
    first, second = (batch for batch, _ in pipeline.waveform_dataset(manifest, SPEC, settings).as_numpy_iterator())
    resumed = next(pipeline.waveform_dataset(manifest, SPEC, settings, first_epoch=1).as_numpy_iterator())[0]
    np.testing.assert_array_equal(resumed, second)
    assert not np.allclose(np.sort(first[:, 0, 0]), np.sort(second[:, 0, 0]))


def test_augmentation_does_what_it_says():
    import tensorflow as tf

    tone = tf.constant(np.sin(np.arange(2000) / 7).astype(np.float32))
    seed = tf.constant([3, 4], tf.int64)
    louder = pipeline._augment_waveform(tone, seed, WaveformAugmentConfig(gain_db=6.0)).numpy()
    gain = 20 * np.log10(np.linalg.norm(louder) / np.linalg.norm(tone))
    assert 0 < abs(gain) <= 6
    shifted = pipeline._augment_waveform(tone, seed, WaveformAugmentConfig(shift=0.5)).numpy()
    np.testing.assert_allclose(np.sort(shifted), np.sort(tone.numpy()))
    assert not np.allclose(shifted, tone)
    noisy = pipeline._augment_waveform(tone, seed, WaveformAugmentConfig(noise_snr_db=10.0)).numpy()
    snr = 10 * np.log10(np.var(tone.numpy()) / np.var(noisy - tone.numpy()))
    assert 9.5 < snr < 30.5


def test_mixtures_hold_clips_targets_and_genders_in_the_same_shares():
    features = np.arange(6, dtype=np.float32)[:, None, None] + np.zeros((6, 2, 5), np.float32)
    clips = Examples(features, np.array([0, 1, 2, 0, 1, 2]), CLASSES, np.arange(6, dtype=np.float32) / 5)
    settings = training(epochs=2, label_smoothing=0.0, mixup=0.4)
    batches = list(pipeline.training_dataset(clips, settings).as_numpy_iterator())
    assert [len(hot) for _, hot in batches] == [4, 2] * 2
    for epoch, halves in enumerate((batches[:2], batches[2:])):
        order, (partners, shares) = epoch_order(6, 5, epoch), epoch_mixture(6, 5, epoch, 0.4)
        value = (shares * np.arange(6) + (1 - shares) * partners)[order]
        hot = shares[:, None] * clips.one_hot() + (1 - shares)[:, None] * clips.one_hot()[partners]
        mixed = {name: np.concatenate([inputs[name] for inputs, _ in halves]) for name in ("features", "gender")}
        np.testing.assert_allclose(mixed["features"][:, 1, 3], value, rtol=1e-6)
        np.testing.assert_allclose(mixed["gender"][:, 0], value / 5, rtol=1e-6)
        np.testing.assert_allclose(np.concatenate([targets for _, targets in halves]), hot[order], rtol=1e-6)


def test_batches_are_of_segments_with_their_clips_targets_and_genders():
    counts = np.array([1, 3, 2])
    clip = np.repeat(np.arange(3), counts)
    features = np.zeros((6, 2, 5), np.float32) + np.arange(6, dtype=np.float32)[:, None, None]
    cut = Examples(features, np.array([2, 0, 1]), CLASSES, np.array([0.0, 1.0, 0.3], np.float32), counts)
    seen = []
    for inputs, hot in pipeline.training_dataset(cut, training(epochs=1, label_smoothing=0.0)).as_numpy_iterator():
        segments = inputs["features"][:, 0, 0].astype(int)
        seen += segments.tolist()
        np.testing.assert_array_equal(hot.argmax(axis=1), cut.targets[clip[segments]])
        np.testing.assert_array_equal(inputs["gender"], cut.genders[clip[segments]][:, None])
    assert sorted(seen) == list(range(6))


def test_decoded_batches_carry_genders_too(manifest):
    frame = manifest.frame.assign(gender=["male", "female"] * 5)
    told = dataclasses.replace(manifest, frame=frame)
    batches = pipeline.waveform_dataset(told, SPEC, training(epochs=1), with_gender=True).as_numpy_iterator()
    plain = pipeline.waveform_dataset(manifest, SPEC, training(epochs=1)).as_numpy_iterator()
    order = load_examples(manifest, SPEC).features
    for (inputs, _), (features, _) in zip(batches, plain, strict=True):
        np.testing.assert_array_equal(inputs["features"], features)
        clips = [int(np.abs(order - clip).max(axis=(1, 2)).argmin()) for clip in features]
        np.testing.assert_array_equal(inputs["gender"][:, 0], [1.0 if clip % 2 == 0 else 0.0 for clip in clips])


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_spec_augment_masks_all_channels_of_a_band(shape):
    ones = Examples(np.ones((N_CLIPS, *shape), np.float32), np.arange(N_CLIPS) % 3, CLASSES)
    config = SpecAugmentConfig(time_masks=1, time_width=2, feature_masks=1, feature_width=2)
    dataset = pipeline.training_dataset(ones, training(spec_augment=config, epochs=1))
    masked = np.concatenate([batch for batch, _ in dataset.as_numpy_iterator()])
    flat = masked.reshape(N_CLIPS, 6, 5, -1)
    assert (flat == flat[..., :1]).all()
    frames, bands = flat[..., 0].any(axis=2), flat[..., 0].any(axis=1)
    np.testing.assert_array_equal(flat[..., 0], frames[:, :, None] & bands[:, None, :])
    assert not frames.all()
    assert not bands.all()


def test_masks_put_the_neutral_value_in_the_place_of_features():
    ones = Examples(np.ones((N_CLIPS, 6, 5, 3), np.float32), np.arange(N_CLIPS) % 3, CLASSES)
    neutral = np.arange(15, dtype=np.float32).reshape(5, 3) + 2
    config = SpecAugmentConfig(time_masks=1, time_width=2, feature_masks=1, feature_width=2)
    dataset = pipeline.training_dataset(ones, training(spec_augment=config, epochs=1), neutral=neutral)
    masked = np.concatenate([batch for batch, _ in dataset.as_numpy_iterator()])
    assert ((masked == 1) | (masked == neutral)).all()
    assert (masked != 1).any()


def test_spec_augment_masks_no_more_than_its_widths(examples):
    config = SpecAugmentConfig(time_masks=1, time_width=2, feature_masks=1, feature_width=1)
    ones = Examples(np.ones((N_CLIPS, 6, 5), np.float32), examples.targets, CLASSES)
    dataset = pipeline.training_dataset(ones, training(spec_augment=config))
    masked = np.concatenate([batch for batch, _ in dataset.as_numpy_iterator()])
    empty_frames = (masked == 0).all(axis=2).sum(axis=1)
    empty_values = (masked == 0).all(axis=1).sum(axis=1)
    assert set(np.unique(masked)) == {0.0, 1.0}
    assert empty_frames.max() == 2
    assert empty_values.max() == 1
    assert len(np.unique(masked, axis=0)) > 5, "every clip has masks of its own"


def test_tfio_says_how_to_install_it(manifest):
    pytest.importorskip("tensorflow")
    try:
        import tensorflow_io  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"pip install 'serzoo\[tfio\]'"):
            pipeline.waveform_dataset(manifest, SPEC, training(), decoder="tfio")


def test_an_unknown_decoder_is_refused(manifest):
    with pytest.raises(ConfigError, match="decoder is 'ffmpeg'; it must be one of"):
        pipeline.waveform_dataset(manifest, SPEC, training(), decoder="ffmpeg")


def test_features_of_free_length_cannot_be_batched(manifest):
    with pytest.raises(ConfigError, match=r"n_samples and features\.segment_frames are not set"):
        load_examples(manifest, MFCCSpec())
    with pytest.raises(ConfigError, match="n_samples is not set"):
        pipeline.waveform_dataset(manifest, MFCCSpec(), training())


def test_waveforms_are_not_augmented_in_segments(manifest):
    with pytest.raises(ConfigError, match=r"leave features\.segment_frames out"):
        pipeline.waveform_dataset(manifest, MFCCSpec(segment_frames=5), training())
