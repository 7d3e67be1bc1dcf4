"""TIM-Net and TBDM-Net as a user would write them: of stock Keras layers, and in PyTorch.

The benchmark of the training step compares serzoo with them. They have as many weights as serzoo's models and the same
results: the mean over time, the gate and the sums are operations of the graph.
"""

from collections.abc import Callable
from typing import Any

import keras

N_FEATURES, DROPOUT = 39, 0.1
TIMNET_BLOCKS, TBDM_BLOCKS = 8, 6
MOMENTUM, EPSILON = 0.9, 1e-5


class WeightedSum(keras.layers.Layer):
    """Sum of (batch, scales, channels) over the scales, by learned weights."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(shape=(input_shape[1], 1), name="kernel")

    def call(self, inputs: Any) -> Any:
        return keras.ops.sum(inputs * self.kernel, axis=1)


def stock_timnet(n_frames: int, n_classes: int = 8) -> keras.Model:
    """Return TIM-Net of ``Conv1D``, ``BatchNormalization``, ``ReLU`` and ``SpatialDropout1D``."""

    def sub_block(frames: Any, dilation_rate: int) -> Any:
        frames = keras.layers.Conv1D(N_FEATURES, 2, dilation_rate=dilation_rate, padding="causal")(frames)
        frames = keras.layers.ReLU()(keras.layers.BatchNormalization()(frames))
        return keras.layers.SpatialDropout1D(DROPOUT)(frames)

    def direction(frames: Any) -> list[Any]:
        states, state = [], keras.layers.Conv1D(N_FEATURES, 1)(frames)
        for dilation_rate in (2**index for index in range(TIMNET_BLOCKS)):
            gate = keras.layers.Activation("sigmoid")(sub_block(sub_block(state, dilation_rate), dilation_rate))
            state = keras.layers.Multiply()([state, gate])
            states.append(state)
        return states

    return _classifier(n_frames, n_classes, direction, keras.layers.GlobalAveragePooling1D())


def stock_tbdm(n_frames: int, n_classes: int = 8) -> keras.Model:
    """Return TBDM-Net of ``Conv1D``, ``BatchNormalization`` and GELU, with a dropout over frames."""

    def sub_block(frames: Any, dilation_rate: int) -> Any:
        convolution = keras.layers.Conv1D(
            frames.shape[-1], 2, dilation_rate=dilation_rate, padding="same", use_bias=False
        )
        frames = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON)(convolution(frames))
        frames = keras.layers.Activation("gelu")(frames)
        return keras.layers.Dropout(DROPOUT, noise_shape=(None, None, 1))(frames)

    def direction(state: Any) -> list[Any]:
        states = []
        for dilation_rate in (2**index for index in range(TBDM_BLOCKS)):
            gate = keras.layers.Activation("sigmoid")(sub_block(sub_block(state, dilation_rate), dilation_rate))
            state = keras.layers.Concatenate()([keras.layers.Multiply()([state, gate]), state])
            states.append(state)
        return states

    def scale(state: Any) -> Any:
        reduced = keras.layers.Conv1D(N_FEATURES, 1, use_bias=False)(state)
        reduced = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON)(reduced)
        return keras.layers.GlobalAveragePooling1D()(keras.layers.ReLU()(reduced))

    return _classifier(n_frames, n_classes, direction, scale)


def _classifier(
    n_frames: int, n_classes: int, direction: Callable[[Any], list[Any]], scale: Callable[[Any], Any]
) -> keras.Model:
    inputs = keras.Input((n_frames, N_FEATURES))
    forward, backward = direction(inputs), direction(keras.ops.flip(inputs, axis=1))
    scales = [scale(keras.layers.Add()(pair)) for pair in zip(forward, backward, strict=True)]
    fused = WeightedSum()(keras.ops.stack(scales, axis=1))
    return keras.Model(inputs, keras.layers.Dense(n_classes, activation="softmax")(fused))


def torch_tbdm(n_classes: int = 8) -> Any:
    """Return TBDM-Net as a PyTorch module from (batch, time, 39) to logits."""
    import torch
    from torch import nn

    class SubBlock(nn.Module):
        def __init__(self, channels: int, dilation: int) -> None:
            super().__init__()
            self.convolution = nn.Conv1d(channels, channels, 2, dilation=dilation, padding="same", bias=False)
            self.normalization = nn.BatchNorm1d(channels)
            self.dropout = nn.Dropout1d(DROPOUT)  # zeroes whole rows of its last axis: frames

        def forward(self, frames: Any) -> Any:
            hidden = self.normalization(self.convolution(frames.transpose(1, 2)))
            return self.dropout(nn.functional.gelu(hidden).transpose(1, 2))

    def stack() -> Any:
        widths = [(N_FEATURES * 2**index, 2**index) for index in range(TBDM_BLOCKS)]
        return nn.ModuleList(nn.Sequential(SubBlock(*width), SubBlock(*width)) for width in widths)

    def reduction(channels: int) -> Any:
        return nn.Sequential(nn.Conv1d(channels, N_FEATURES, 1, bias=False), nn.BatchNorm1d(N_FEATURES), nn.ReLU())

    def run(state: Any, blocks: Any) -> list[Any]:
        states = []
        for block in blocks:
            state = torch.cat([state * torch.sigmoid(block(state)), state], dim=2)
            states.append(state)
        return states

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.forward_blocks, self.backward_blocks = stack(), stack()
            self.reductions = nn.ModuleList(reduction(2 * N_FEATURES * 2**index) for index in range(TBDM_BLOCKS))
            self.weights = nn.Parameter(torch.rand(TBDM_BLOCKS, 1))
            self.head = nn.Linear(N_FEATURES, n_classes)

        def forward(self, frames: Any) -> Any:
            states = zip(run(frames, self.forward_blocks), run(frames.flip(1), self.backward_blocks), strict=True)
            sums = ((ahead + back).transpose(1, 2) for ahead, back in states)
            scales = [reduce(one).mean(dim=2) for reduce, one in zip(self.reductions, sums, strict=True)]
            return self.head((torch.stack(scales, dim=1) * self.weights).sum(dim=1))

    return Network()
