"""The random changes of a training part in an epoch: order of the segments, mixup partners, SpecAugment masks.

All are functions of the seed, the epoch and the segment alone, in NumPy. So tf.data and the JAX program that trains
many folds draw the same numbers, and a training that resumes at epoch 100 continues as if uninterrupted.
"""

from __future__ import annotations

import numpy as np

from serzoo.settings import SpecAugmentConfig

_MASKS, _MIXTURE = 1, 2
"""Random streams; that of the order has no number."""


def steps_per_epoch(n_segments: int, batch_size: int) -> int:
    """Return the number of batches in an epoch; the last one may be smaller."""
    return -(-n_segments // batch_size)


def epoch_order(n_segments: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the segments in an epoch, counted from 0: a permutation, (n_segments,), int64."""
    return np.random.default_rng((seed, epoch)).permutation(n_segments)


def epoch_mixture(n_segments: int, seed: int, epoch: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mixup partner of each segment in an epoch, and the segment's own share of the mixture.

    Args:
        n_segments: of the training part.
        seed: of the training.
        epoch: counted from 0.
        alpha: both parameters of the Beta distribution of the shares, greater than 0.

    Returns:
        The other segment, a permutation, (n_segments,), int64; and the own share, (n_segments,), float32 in 0.5..1.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, with a share for each segment.
    """
    random = np.random.default_rng((seed, epoch, _MIXTURE))
    partners, shares = random.permutation(n_segments), random.beta(alpha, alpha, n_segments)
    return partners, np.maximum(shares, 1 - shares).astype(np.float32)


def epoch_masks(
    indices: np.ndarray, sizes: tuple[int, int], seed: int, epoch: int, config: SpecAugmentConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames and features of segments that SpecAugment leaves unmasked in an epoch.

    Each mask hides a band at a random place, of a random width from 0 to the configured one.

    Args:
        indices: of the segments, (n,).
        sizes: frames of a segment, features of a frame.
        seed: of the training.
        epoch: counted from 0.
        config: number and widths of the masks.

    Returns:
        Booleans, (n, n_frames) and (n, n_features).
    """
    n_masks = config.time_masks + config.feature_masks
    # Drawn for all segments up to the last index, so that a segment's masks do not depend on the others in its batch.
    draws = np.random.default_rng((seed, epoch, _MASKS)).random((indices.max(initial=0) + 1, n_masks, 2))[indices]
    of_time, of_features = np.split(draws, [config.time_masks], axis=1)
    n_frames, n_features = sizes
    return _outside(of_time, n_frames, config.time_width), _outside(of_features, n_features, config.feature_width)


def _outside(draws: np.ndarray, size: int, width: int) -> np.ndarray:
    """Return the places outside all bands, (n, size); ``draws``, (n, n_masks, 2) in [0, 1), set widths and starts."""
    widths = (draws[..., 0] * (width + 1)).astype(np.int64)
    starts = (draws[..., 1] * (np.maximum(size - widths, 0) + 1)).astype(np.int64)
    places = np.arange(size)
    hidden = (places >= starts[..., None]) & (places < (starts + widths)[..., None])
    return ~hidden.any(axis=1)
