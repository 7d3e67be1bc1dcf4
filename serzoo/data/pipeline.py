"""tf.data pipelines: from a manifest and a feature spec to batches.

Two routes lead to the same batches. The usual one takes features from the cache
(:func:`serzoo.data.examples.load_examples`) and draws batches from memory (:func:`training_dataset`). The other
decodes the recordings in every epoch (:func:`waveform_dataset`), as waveform augmentation needs.
In both, the order of the clips and every random change are functions of the seed, the epoch and the clip alone
(:mod:`serzoo.data.epochs`), so a training that resumes at epoch 100 continues as if uninterrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from serzoo.checks import check, one_of
from serzoo.data import audio
from serzoo.data.epochs import epoch_masks, epoch_mixture, epoch_order
from serzoo.data.examples import Examples, mixed, network_inputs, network_targets
from serzoo.data.manifest import Manifest
from serzoo.errors import ConfigError, DataError, FeatureError, MissingExtraError
from serzoo.features.extract import extract
from serzoo.features.reference import fit_length
from serzoo.settings import SpecAugmentConfig, TrainingConfig, WaveformAugmentConfig

if TYPE_CHECKING:
    from serzoo.features.spec import FeatureSpec

_NOISE = 0
"""Random stream of a clip's noise in an epoch, folded into its seed."""


def training_dataset(
    examples: Examples,
    training: TrainingConfig,
    first_epoch: int = 0,
    *,
    neutral: np.ndarray | float = 0.0,
    with_dimensions: bool = False,
) -> tf.data.Dataset:
    """Return the batches of all epochs from ``first_epoch`` on, one after another.

    Segments are shuffled and batched; an uncut clip is one segment. Only these targets are smoothed, not those of
    validation and test.

    Args:
        examples: the training part.
        training: batch size, epochs, seed, smoothing, mixtures and masks.
        first_epoch: where to start.
        neutral: the value of masked features, broadcastable to a frame.
        with_dimensions: whether the targets include valence, arousal and dominance.

    Returns:
        A dataset of ``training.epochs - first_epoch`` times ``ceil(n_segments / batch_size)`` batches of
        what :func:`serzoo.data.examples.network_inputs` gives, with :func:`~serzoo.data.examples.network_targets`.
    """
    features = tf.constant(examples.features)
    targets = network_targets(examples, training.label_smoothing, with_dimensions)
    targets = tf.nest.map_structure(lambda rows: tf.constant(np.repeat(rows, examples.counts, axis=0)), targets)
    genders = [] if examples.genders is None else [tf.constant(np.repeat(examples.genders, examples.counts))]

    def gather(indices: Any, epoch: Any) -> tuple[Any, Any]:
        batch, expected, *chosen = rows = _rows([features, targets, *genders], indices)
        if training.mixup:
            partners, shares = _mixture(indices, epoch, examples.n_segments, training)
            others = _rows([features, targets, *genders], partners)
            batch, expected, *chosen = tf.nest.map_structure(partial(mixed, shares=shares), rows, others)
        if training.spec_augment is not None:
            batch = _spec_augment(batch, indices, epoch, training.seed, training.spec_augment, neutral)
        return network_inputs(batch, *chosen or [None]), expected

    return _prefetched(_index_batches(examples.n_segments, training, first_epoch).map(gather))


def collected(dataset: tf.data.Dataset, rank: int) -> tuple[Any, np.ndarray]:
    """Return all inputs and class indices of a dataset of one pass over batches of (inputs, targets).

    Args:
        dataset: the inputs are features, or a mapping with ``features`` and ``gender``; the targets class
            indices, (n,), or one-hot rows, (n, n_classes).
        rank: number of axes of a batch of features.

    Raises:
        DataError: the elements are no such pairs, or there are none, or no end of them.
        FeatureError: the features have another number of axes.
    """
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise DataError("The dataset's elements are not pairs (features, targets); give such pairs, in batches.")
    features = spec[0]["features"] if isinstance(spec[0], Mapping) else spec[0]
    if features.shape.rank != rank:
        raise FeatureError(
            f"The dataset's features have {features.shape.rank} axes, the model takes {rank} with the batch; "
            "call dataset.batch(64) if it has single clips."
        )
    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise DataError("The dataset has no end; leave out repeat().")
    batches = list(dataset.as_numpy_iterator())
    if not batches:
        raise DataError("The dataset is empty; give at least one batch.")
    inputs, targets = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)
    return inputs, targets.argmax(axis=1) if targets.ndim == 2 else targets


def smoothed(dataset: tf.data.Dataset, n_classes: int, smoothing: float) -> tf.data.Dataset:
    """Return a dataset's batches with the targets as smoothed one-hot rows.

    Args:
        dataset: as :func:`collected` takes it.
        n_classes: width of the rows.
        smoothing: as in :meth:`serzoo.data.examples.Examples.one_hot`.
    """

    def smooth(inputs: Any, targets: Any) -> tuple[Any, Any]:
        hot = tf.one_hot(targets, n_classes) if targets.shape.rank == 1 else tf.cast(targets, tf.float32)
        return inputs, hot * np.float32(1 - smoothing) + np.float32(smoothing / n_classes)

    return dataset.map(smooth)


def waveform_dataset(
    manifest: Manifest,
    spec: FeatureSpec,
    training: TrainingConfig,
    *,
    with_gender: bool = False,
    first_epoch: int = 0,
    neutral: np.ndarray | float = 0.0,
    with_dimensions: bool = False,
    decoder: str = "soundfile",
) -> tf.data.Dataset:
    """Return the batches of :func:`training_dataset`, decoded and augmented in every epoch.

    Args:
        manifest: the recordings.
        spec: the features; ``n_samples`` must be set and ``segment_frames`` not.
        training: batch size, epochs, seed, smoothing and augmentation.
        with_gender: give the speakers' genders too.
        first_epoch: where to start.
        neutral: as :func:`training_dataset` takes it.
        with_dimensions: whether the targets include valence, arousal and dominance.
        decoder: ``"soundfile"`` (with soxr, as librosa does) or ``"tfio"``, tensorflow-io's in-graph
            decoding and resampling, whose samples differ slightly from librosa's.

    Raises:
        ConfigError: clips without a common length, or segments, or an unknown decoder.
        DataError: a gender is asked for and unknown.
        MissingExtraError: ``"tfio"`` without tensorflow-io.
    """
    if spec.segment_frames is not None:
        raise ConfigError("training.waveform_augment changes whole clips; leave features.segment_frames out.")
    genders = tf.constant(manifest.genders) if with_gender else None
    placeholder = Examples(
        np.zeros((len(manifest), 1, 1), np.float32),
        manifest.targets,
        manifest.class_names,
        dimensions=manifest.dimensions,
    )
    targets = network_targets(placeholder, training.label_smoothing, with_dimensions)
    targets = tf.nest.map_structure(tf.constant, targets)
    if spec.n_samples is None:
        raise ConfigError("features.n_samples is not set; batches of waveforms need one length for all clips.")
    check("decoder", decoder, one_of(tuple(_DECODERS)))
    decode = _DECODERS[decoder](manifest.paths, spec.sample_rate, spec.n_samples)

    def clip(index: Any, epoch: Any) -> tuple[Any, Any, Any]:
        waveform = decode(index)
        if training.waveform_augment is not None:
            # a pair of integers that is different for every clip of every epoch
            seed = tf.stack([tf.cast(epoch, tf.int64) + (training.seed << 20), tf.cast(index, tf.int64)])
            waveform = _augment_waveform(waveform, seed, training.waveform_augment)
        return waveform, index, epoch

    transform = _batch_features(spec)

    def batch(waveforms: Any, indices: Any, epochs: Any) -> tuple[Any, Any]:
        features = transform(waveforms)
        if training.spec_augment is not None:
            features = _spec_augment(features, indices, epochs[0], training.seed, training.spec_augment, neutral)
        chosen = None if genders is None else tf.gather(genders, indices)
        return network_inputs(features, chosen), _rows(targets, indices)

    order = _index_batches(len(manifest), training, first_epoch)
    # Epochs are batched one by one, so that each ends with its own, possibly smaller, batch.
    dataset = order.flat_map(
        lambda indices, epoch: (
            tf.data.Dataset.from_tensor_slices(indices)
            .map(lambda index: clip(index, epoch), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .batch(training.batch_size)
        )
    )
    return _prefetched(dataset.map(batch))


def _rows(arrays: Any, indices: Any) -> Any:
    return tf.nest.map_structure(lambda rows: tf.gather(rows, indices), arrays)


def _mixture(indices: Any, epoch: Any, n_segments: int, training: TrainingConfig) -> tuple[Any, Any]:
    """Return what segments are mixed with in an epoch, and their own shares, (n,) each."""

    def mixture(chosen: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        partners, shares = epoch_mixture(n_segments, training.seed, int(number), training.mixup)
        return partners[chosen], shares[chosen]

    partners, shares = tf.numpy_function(mixture, [indices, epoch], (tf.int64, tf.float32), stateful=False)
    return tf.ensure_shape(partners, [None]), tf.ensure_shape(shares, [None])


def _index_batches(n_segments: int, training: TrainingConfig, first_epoch: int) -> tf.data.Dataset:
    """Return (indices, epoch) per batch; each epoch is a permutation decided by the seed and the epoch."""

    def order(epoch: int) -> np.ndarray:
        return epoch_order(n_segments, training.seed, int(epoch))

    def epoch_batches(epoch: Any) -> tf.data.Dataset:
        positions = tf.ensure_shape(tf.numpy_function(order, [epoch], tf.int64, stateful=False), [n_segments])
        return tf.data.Dataset.from_tensor_slices(positions).batch(training.batch_size).map(lambda part: (part, epoch))

    return tf.data.Dataset.range(first_epoch, training.epochs).flat_map(epoch_batches)


def _prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetch with autotuning off: its start-up costs more than it gains on small in-memory data."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(2).with_options(options)


def _soundfile_decoder(paths: Sequence[Path], sample_rate: int, n_samples: int) -> Any:
    """Return the function from a clip's index to its waveform of ``n_samples`` samples."""

    def read(index: int) -> np.ndarray:
        return fit_length(audio.read(paths[index], sample_rate)[0], n_samples)

    def decode(index: Any) -> Any:
        waveform = tf.numpy_function(read, [index], tf.float32, stateful=False)
        waveform.set_shape([n_samples])
        return waveform

    return decode


def _tfio_decoder(paths: Sequence[Path], sample_rate: int, n_samples: int) -> Any:
    """Return tensorflow-io's decoder: wav and flac, mixed to mono and resampled inside the graph.

    Its ``AudioIOTensor`` mixes up clips that are read in parallel, so the stateless decoding
    operations are used; they do not return the sample rate, so it is read beforehand.
    """
    try:
        import tensorflow_io as tfio
    except ImportError:
        raise MissingExtraError("decoder 'tfio' needs tensorflow-io; run: pip install 'serzoo[tfio]'") from None
    names = tf.constant([str(path) for path in paths])
    rates = tf.constant([audio.probe(path).sample_rate for path in paths], tf.int64)
    is_flac = tf.constant([path.suffix.lower() == ".flac" for path in paths])

    def decode(index: Any) -> Any:
        content, rate = tf.io.read_file(names[index]), rates[index]
        samples = tf.cond(
            is_flac[index],
            lambda: tfio.audio.decode_flac(content, dtype=tf.int16),
            lambda: tfio.audio.decode_wav(content, dtype=tf.int16),
        )
        waveform = tf.reduce_mean(tf.cast(samples, tf.float32) / 32768.0, axis=1)
        # Its resampler filters even where the rates agree, so it is asked only where they differ.
        waveform = tf.cond(
            rate == sample_rate, lambda: waveform, lambda: tfio.audio.resample(waveform, rate, sample_rate)
        )
        missing = n_samples - tf.shape(waveform)[0]  # as fit_length, in the graph
        start, left = tf.maximum(-missing, 0) // 2, tf.maximum(missing, 0) // 2
        fitted = tf.pad(waveform[start : start + n_samples], [[left, tf.maximum(missing, 0) - left]])
        return tf.ensure_shape(fitted, [n_samples])

    return decode


_DECODERS = {"soundfile": _soundfile_decoder, "tfio": _tfio_decoder}


def _batch_features(spec: FeatureSpec) -> Any:
    """Return the function from waveforms (batch, n_samples) to features.

    On TensorFlow it is the Keras front end, inside the graph; Keras layers of another backend
    cannot run in tf.data, so there the reference computes the same numbers.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        from serzoo.features.frontend import front_end

        return front_end(spec)

    def reference(waveforms: np.ndarray) -> np.ndarray:
        return np.stack([extract(waveform, spec) for waveform in waveforms])

    def transform(waveforms: Any) -> Any:
        features = tf.numpy_function(reference, [waveforms], tf.float32, stateful=False)
        features.set_shape([None, spec.n_frames, *spec.frame_shape])
        return features

    return transform


def _augment_waveform(waveform: Any, seed: Any, config: WaveformAugmentConfig) -> Any:
    """Shift, add noise to and amplify one waveform (n_samples,), in that order."""
    draw = tf.random.stateless_uniform([3], seed)
    n_samples = tf.shape(waveform)[0]
    if config.shift > 0:
        offset = (draw[0] * 2 - 1) * config.shift * tf.cast(n_samples, tf.float32)
        waveform = tf.roll(waveform, tf.cast(offset, tf.int32), axis=0)
    if config.noise_snr_db is not None:
        snr_db = config.noise_snr_db + 20.0 * draw[1]
        level = tf.sqrt(tf.reduce_mean(waveform**2)) * 10.0 ** (-snr_db / 20.0)
        waveform += level * tf.random.stateless_normal([n_samples], tf.random.fold_in(seed, _NOISE))
    if config.gain_db > 0:
        waveform *= 10.0 ** ((draw[2] * 2 - 1) * config.gain_db / 20.0)
    return waveform


def _spec_augment(
    features: Any, indices: Any, epoch: Any, seed: int, config: SpecAugmentConfig, neutral: np.ndarray | float
) -> Any:
    """Mask every clip of a batch (batch, n_frames, n_features, ...) with its own random bands."""
    n_frames, n_features = features.shape[1:3]

    def masks(chosen: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        return epoch_masks(chosen, (n_frames, n_features), seed, int(number), config)

    frames, values = tf.numpy_function(masks, [indices, epoch], (tf.bool, tf.bool), stateful=False)
    kept = tf.ensure_shape(frames, [None, n_frames])[:, :, None] & tf.ensure_shape(values, [None, n_features])[:, None]
    kept = tf.reshape(kept, [-1, n_frames, n_features] + [1] * (features.shape.rank - 3))
    return tf.where(kept, features, neutral)
