"""Examples: features, targets and genders of recordings in memory, cut into segments if the spec sets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from serzoo.data.cache import FeatureCache
from serzoo.data.manifest import Manifest
from serzoo.data.vectors import load_vectors
from serzoo.errors import ConfigError, DataError, FeatureError
from serzoo.features.segments import cut_segments
from serzoo.features.spec import EmbeddingSpec
from serzoo.labels import DIMENSIONS, EMOTION

if TYPE_CHECKING:
    from serzoo.features.spec import FeatureSpec


@dataclass(frozen=True)
class Examples:
    """Clips as a model takes them, each in one or more segments.

    Args:
        features: of all segments, (n_segments, n_frames, ...), float32; those of a clip are neighbours.
        targets: class indices, one per clip, (N,), int64.
        class_names: of the indices.
        genders: for models that take them, the probability that each clip's speaker is male, (N,), in 0..1.
        segment_counts: segments of each clip, (N,), each at least 1; None for one each.
        dimensions: how high each clip's valence, arousal and dominance are, (N, 3), in 0..1, NaN where unknown;
            None where none is known.

    Raises:
        FeatureError: features that are empty, not one row per segment, or not finite.
        DataError: targets, genders, counts or dimensions of another shape or out of range.
    """

    features: np.ndarray
    targets: np.ndarray
    class_names: tuple[str, ...]
    genders: np.ndarray | None = None
    segment_counts: np.ndarray | None = None
    dimensions: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.features.ndim < 3 or len(self.features) == 0:
            raise FeatureError(
                f"Features have shape {self.features.shape}; expected (segments, frames, values of a frame), not empty."
            )
        self._check_counts()
        if self.targets.shape != (len(self),):
            raise DataError(
                f"{len(self)} clips but targets of shape {self.targets.shape}; "
                "give one class index per clip (of one-hot rows, their argmax)."
            )
        if self.targets.min() < 0 or self.targets.max() >= len(self.class_names):
            raise DataError(
                f"Targets run from {self.targets.min()} to {self.targets.max()}; "
                f"{len(self.class_names)} classes allow 0..{len(self.class_names) - 1}."
            )
        wanted = f"{len(self)} probabilities of male, one per clip"
        self._check_shares("Genders", self.genders, (len(self),), wanted, "probabilities of male, each in 0..1")
        shape = (len(self), len(DIMENSIONS))
        wanted = f"{shape}, {', '.join(DIMENSIONS)} of each clip"
        self._check_shares("Dimensions", self.dimensions, shape, wanted, "values in 0..1, NaN where one is unknown")
        finite = np.isfinite(self.features).all(axis=tuple(range(1, self.features.ndim)))
        if not finite.all():
            bad = int(np.repeat(np.arange(len(self)), self.counts)[np.argmin(finite)])
            raise FeatureError(f"The features of clip {bad} hold NaN or infinite values; check that recording.")

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.counts)

    @property
    def n_segments(self) -> int:
        """Number of segments of all clips."""
        return len(self.features)

    @cached_property
    def counts(self) -> np.ndarray:
        """Segments of each clip, (N,), int64."""
        if self.segment_counts is None:
            return np.ones(len(self.features), np.int64)
        return np.asarray(self.segment_counts, np.int64)

    def inputs(self) -> Any:
        """Return the inputs of a network, a row per segment; see :func:`network_inputs`."""
        genders = None if self.genders is None else np.repeat(self.genders, self.counts)
        return network_inputs(self.features, genders)

    def segments_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows of the features that are the segments of the clips at ``indices``, in that order."""
        starts = np.cumsum(self.counts) - self.counts
        counts = self.counts[indices]
        # first segment of each chosen clip, repeated, plus 0, 1, 2, ... within the clip: 5 5 5 + 0 1 2
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(starts[indices], counts) + offsets

    def select(self, indices: Sequence[int] | np.ndarray) -> Examples:
        """Return the clips at ``indices``, in that order."""
        return Examples(
            self.features[self.segments_of(indices)],
            self.targets[indices],
            self.class_names,
            genders=None if self.genders is None else self.genders[indices],
            segment_counts=None if self.segment_counts is None else self.counts[indices],
            dimensions=None if self.dimensions is None else self.dimensions[indices],
        )

    def one_hot(self, smoothing: float = 0.0) -> np.ndarray:
        """Return the targets as (N, n_classes) float32, smoothed towards the uniform distribution."""
        n_classes = len(self.class_names)
        hot = np.eye(n_classes, dtype=np.float32)[self.targets]
        return hot * np.float32(1 - smoothing) + np.float32(smoothing / n_classes)

    def _check_counts(self) -> None:
        if self.segment_counts is None:
            return
        given = np.asarray(self.segment_counts)
        if not np.issubdtype(given.dtype, np.integer) or given.ndim != 1 or (given < 1).any():
            raise DataError(
                f"Segment counts are {given.dtype} of shape {given.shape}; give integers of at least 1, one per clip."
            )
        if given.sum() != len(self.features):
            raise DataError(
                f"Segment counts add up to {given.sum()} for {len(self.features)} segments; make them agree."
            )

    def _check_shares(self, name: str, values: Any, shape: tuple[int, ...], wanted: str, allowed: str) -> None:
        """Check genders or dimensions, if given: numbers in 0..1, of which dimensions may be NaN."""
        if values is None:
            return
        values = np.asarray(values)
        if values.shape != shape:
            raise DataError(f"{name} have shape {values.shape}; give {wanted}.")
        known = values if name == "Genders" else values[~np.isnan(values)]
        if not ((known >= 0) & (known <= 1)).all():
            raise DataError(f"{name} run from {known.min()} to {known.max()}; give {allowed}.")


def network_inputs(features: Any, genders: Any | None) -> Any:
    """Return the inputs of a network, for arrays and tensors alike.

    Args:
        features: (batch, n_frames, ...).
        genders: (batch,), or None for a network that does not take them.

    Returns:
        The features alone, or a dictionary of ``features`` and ``gender``, (batch, 1).
    """
    return features if genders is None else {"features": features, "gender": genders[:, None]}


def mixed(own: Any, others: Any, shares: Any) -> Any:
    """Return rows mixed with others, for arrays and tensors alike.

    Args:
        own: (batch, ...).
        others: as ``own``.
        shares: of ``own`` in the mixtures, (batch,).
    """
    shares = shares[(slice(None), *[None] * (len(own.shape) - 1))]
    return own * shares + others * (1 - shares)


def network_targets(examples: Examples, smoothing: float = 0.0, with_dimensions: bool = False) -> Any:
    """Return the training targets of a network, one row per clip.

    Args:
        examples: the clips.
        smoothing: of the classes, towards the uniform distribution.
        with_dimensions: for networks that predict valence, arousal and dominance too.

    Returns:
        Classes, (N, n_classes), float32; with dimensions a dictionary of them (``"emotion"``) and of ``"valence"``,
        ``"arousal"`` and ``"dominance"``, (N, 1): 1 where high, 0 where not, NaN where unknown.
    """
    classes = examples.one_hot(smoothing)
    if not with_dimensions:
        return classes
    known = examples.dimensions
    values = np.full((len(examples), len(DIMENSIONS)), np.nan) if known is None else known
    return {EMOTION: classes} | {name: values[:, [column]].astype(np.float32) for column, name in enumerate(DIMENSIONS)}


def load_examples(
    manifest: Manifest,
    spec: FeatureSpec,
    *,
    with_gender: bool = False,
    cache: FeatureCache | None = None,
    progress: bool = False,
) -> Examples:
    """Extract the features of every recording, or take them from the cache, and cut them into segments.

    Args:
        manifest: the recordings.
        spec: the features; ``n_samples`` or ``segment_frames`` must be set so that batches have one length. Of an
            embedding, every recording has one frame; vectors computed elsewhere are looked up by name.
        with_gender: take the speakers' genders too.
        cache: where features are kept; None uses the default folder.
        progress: show a progress bar.

    Raises:
        ConfigError: the spec keeps each clip's own length.
        DataError: a gender is asked for and unknown, or a rating is out of range.
        AudioError: a recording cannot be read; the message names it.
        SerzooError: an embedding's network or vectors cannot be used.
    """
    if spec.n_frames is None:
        raise ConfigError(
            "features.n_samples and features.segment_frames are not set; training in batches needs one length: "
            "set one of them."
        )
    genders = manifest.genders if with_gender else None
    dimensions = manifest.dimensions
    clips: np.ndarray | list[np.ndarray]
    if isinstance(spec, EmbeddingSpec) and spec.source_kind == "vectors":
        clips = load_vectors(manifest, spec)
    else:
        spec.digest()  # raises here, once, if the network of an embedding is missing, instead of in every thread
        clips = (cache or FeatureCache()).features(manifest.paths, spec, progress=progress)
    if spec.segment_frames is None:
        return Examples(np.asarray(clips), manifest.targets, manifest.class_names, genders, dimensions=dimensions)
    segments = [cut_segments(clip, spec.segment_frames) for clip in clips]
    counts = np.array([len(clip) for clip in segments])
    return Examples(np.concatenate(segments), manifest.targets, manifest.class_names, genders, counts, dimensions)
