"""TIM-Net: temporal-aware bi-direction multi-scale network (Ye et al., ICASSP 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras

from serzoo.checks import one_of
from serzoo.features.spec import FeatureSpec
from serzoo.layers.fusion import fuse_scales
from serzoo.layers.temporal import DilatedConvBlock, TemporalAwareBlock, blocks_among, sum_directions
from serzoo.models.base import EMBEDDING, DilatedNetwork, classifier_layer, with_gender_columns

BLOCKS = {"tab": TemporalAwareBlock, "tcn": DilatedConvBlock}
"""Kinds of blocks; ``"tcn"`` is the paper's first ablation."""


@keras.saving.register_keras_serializable("serzoo")
class TIMNet(DilatedNetwork):
    """Two stacks of temporal-aware blocks, over the frames and over the frames reversed in time.

    Each pair of blocks gives one time scale: the mean over time of the sum of both outputs. The
    scales are fused by learned weights into the utterance's representation for the classifier.

    Takes MFCC frames without normalisation, (batch, n_frames, n_features), and returns class
    probabilities, (batch, n_classes). Padding counts as frames, in the mean and in the reversal.

    Args, besides those of :class:`~serzoo.models.base.SERModel`:
        n_features: values per frame.
        n_blocks: blocks per direction; block j has dilation rate 2^(j-1). 8 in the paper, 10 for IEMOCAP.
        filters: channels of every block.
        kernel_size: taps of the dilated convolutions.
        dropout: share of channels zeroed in training, in [0, 1).
        activation: ``"relu"`` or ``"gelu"``, in the blocks.
        backward: False leaves out the reversed direction.
        multi_scale: False keeps only the last scale, without fusion.
        dynamic_fusion: False averages the scales.
        block: ``"tab"``, or ``"tcn"`` for plain dilated convolutions without the gate.
        gender_columns: as in :func:`~serzoo.models.base.with_gender_columns`.

    Source: Ye et al., "Temporal Modeling Matters: A Novel Temporal Emotional Modeling Approach for
    Speech Emotion Recognition", ICASSP 2023; where the paper is silent, the published program.
    """

    def __init__(
        self,
        *,
        n_classes: int,
        n_features: int = 39,
        n_frames: int | None = None,
        n_blocks: int = 8,
        filters: int = 39,
        kernel_size: int = 2,
        dropout: float = 0.1,
        activation: str = "relu",
        backward: bool = True,
        multi_scale: bool = True,
        dynamic_fusion: bool = True,
        block: str = "tab",
        gender_columns: int = 0,
        classifier_activation: str | None = "softmax",
        class_names: Sequence[str] | None = None,
        feature_spec: FeatureSpec | Mapping[str, object] | None = None,
        name: str = "timnet",
    ) -> None:
        self.check_arguments(block=one_of(tuple(BLOCKS)))

        make_block = partial(BLOCKS[block], kernel_size=kernel_size, activation=activation, dropout=dropout)
        features = keras.Input((n_frames, n_features), name="features")
        inputs, frames = with_gender_columns(features, features, gender_columns)
        stack = partial(_stack, filters=filters, n_blocks=n_blocks, make_block=make_block)
        states = sum_directions(frames, stack, backward)
        if not multi_scale:
            states = states[-1:]
        scales = [keras.ops.mean(state, axis=1) for state in states]
        learned = keras.initializers.RandomUniform(-0.05, 0.05) if multi_scale and dynamic_fusion else None
        embedding = fuse_scales(scales, initializer=learned, name=EMBEDDING)
        outputs = classifier_layer(n_classes, classifier_activation)(embedding)
        super().__init__(inputs, outputs, class_names=class_names, feature_spec=feature_spec, name=name)

    def make_train_function(self, force: bool = False) -> Any:
        """Make the training step, with the blocks' fast way if XLA compiles it."""
        for layer in blocks_among(self.layers):
            layer.compiled = bool(self.jit_compile)
        return super().make_train_function(force)


def _stack(
    frames: Any, direction: str, filters: int, n_blocks: int, make_block: Callable[..., keras.layers.Layer]
) -> list[Any]:
    """Return the outputs of one direction's blocks, each (batch, time, filters)."""
    state = keras.layers.Conv1D(filters, 1, name=f"{direction}_entry")(frames)
    states = []
    for number in range(1, n_blocks + 1):
        state = make_block(dilation_rate=2 ** (number - 1), name=f"{direction}_block_{number}")(state)
        states.append(state)
    return states
