"""Random changes of spectrograms in training that imitate another speaker, speed, distance or channel."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from serzoo.checks import NOT_NEGATIVE, check, integer
from serzoo.layers.recorded import RecordedLayer


@keras.saving.register_keras_serializable("serzoo")
class SpectrogramAugment(RecordedLayer):
    """Stretches and shifts each log-mel spectrogram in time and over the bands, amplifies it, and masks parts of it.

    Takes log-mel spectrograms, (batch, n_frames, n_bands), and returns the same shape; outside training it returns its
    input. Each clip has its own random changes, uniform within plus and minus the bounds. All of it runs in the graph:
    recordings are decoded once, and every backend computes the same.

    A shift over mel bands raises or lowers pitch and formants together; a stretch moves higher ones further, as a
    shorter or longer vocal tract does. Places outside the spectrogram repeat the frame or band at its edge.

    Args:
        strength: factor of the bounds and widths below; 0 changes nothing.
        time_stretch: largest change of speed, as a natural logarithm: 0.2 is 0.82 to 1.22 times as fast.
        time_shift: largest shift, in frames.
        band_stretch: largest stretch over the bands, as a natural logarithm.
        band_shift: largest shift, in bands.
        gain: largest change of the level, in the unit of the spectrogram.
        time_masks: number of stretches of frames replaced by the clip's mean.
        time_width: frames of the widest of them.
        band_masks: number of groups of neighbouring bands replaced by the clip's mean.
        band_width: bands of the widest of them.
        seed: of the random changes; None for a random one.

    Raises:
        ConfigError: a bound is not a finite number of at least 0, or a number or width of masks is not whole.

    Source: Jaitly and Hinton, "Vocal Tract Length Perturbation", 2013; Ko et al., "Audio Augmentation for Speech
    Recognition", Interspeech 2015 (speed); Park et al., "SpecAugment", Interspeech 2019 (masks).
    """

    def __init__(
        self,
        *,
        strength: float = 1.0,
        time_stretch: float = 0.2,
        time_shift: float = 20.0,
        band_stretch: float = 0.05,
        band_shift: float = 2.0,
        gain: float = 0.5,
        time_masks: int = 2,
        time_width: int = 30,
        band_masks: int = 2,
        band_width: int = 8,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.settings = {key: value for key, value in self.arguments.items() if key not in ("strength", "seed", "name")}
        for argument, value in self.settings.items():
            whole = argument.endswith(("masks", "width"))
            check(argument, value, integer(at_least=0) if whole else NOT_NEGATIVE)
        check("strength", strength, NOT_NEGATIVE)
        self.strength = strength
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the changed spectrograms, (batch, n_frames, n_bands)."""
        if not (training and self.strength):
            return inputs
        settings, (_, n_frames, n_bands) = self._scaled(), ops.shape(inputs)
        frames = self._places(inputs, n_frames, settings["time_stretch"], settings["time_shift"])
        bands = self._places(inputs, n_bands, settings["band_stretch"], settings["band_shift"])
        warped = _interpolated(ops.swapaxes(_interpolated(inputs, frames), 1, 2), bands)
        louder = ops.swapaxes(warped, 1, 2) + self._draw(inputs, 1, settings["gain"])[:, None]
        kept_frames = self._kept(inputs, n_frames, settings["time_masks"], settings["time_width"])
        kept_bands = self._kept(inputs, n_bands, settings["band_masks"], settings["band_width"])
        kept = ops.logical_and(kept_frames[:, :, None], kept_bands[:, None])
        return ops.where(kept, louder, ops.mean(louder, axis=(1, 2), keepdims=True))

    def _scaled(self) -> dict[str, Any]:
        """Return the settings times the strength, except the numbers of masks."""
        scaled = {name: self.strength * value for name, value in self.settings.items() if not name.endswith("masks")}
        widths = {name: round(value) for name, value in scaled.items() if name.endswith("width")}
        return {**self.settings, **scaled, **widths}

    def _places(self, inputs: Any, size: Any, stretch: float, shift: float) -> Any:
        """Return the source place of each of ``size`` values, (batch, size), within 0..size - 1."""
        last = ops.cast(size - 1, inputs.dtype)
        centred = ops.cast(ops.arange(size), inputs.dtype) - last / 2
        moved = centred * ops.exp(self._draw(inputs, 1, stretch)) + self._draw(inputs, 1, shift) + last / 2
        return ops.clip(moved, 0, last)

    def _kept(self, inputs: Any, size: Any, n_masks: int, width: int) -> Any:
        """Return True for each of ``size`` places that no mask covers, (batch, size)."""
        width = ops.minimum(width, size)
        widths = ops.floor((0.5 + self._draw(inputs, n_masks, 0.5)) * (ops.cast(width, inputs.dtype) + 1))
        starts = ops.floor((0.5 + self._draw(inputs, n_masks, 0.5)) * (ops.cast(size, inputs.dtype) - widths + 1))
        places = ops.cast(ops.arange(size), inputs.dtype)
        starts, ends = starts[:, :, None], (starts + widths)[:, :, None]
        return ops.logical_not(ops.any(ops.logical_and(places >= starts, places < ends), axis=1))

    def _draw(self, inputs: Any, count: int, bound: float) -> Any:
        """Return numbers between ``-bound`` and ``bound``, (batch, count)."""
        shape = (ops.shape(inputs)[0], count)
        return bound * (2 * keras.random.uniform(shape, dtype=inputs.dtype, seed=self.seed_generator) - 1)


def _interpolated(inputs: Any, places: Any) -> Any:
    """Interpolate (batch, size, channels) linearly at the places (batch, n), within 0..size - 1, along axis 1.

    The result is a product with a matrix of hat functions, (batch, n, size).
    """
    known = ops.cast(ops.arange(ops.shape(inputs)[1]), inputs.dtype)
    return ops.matmul(ops.relu(1 - ops.abs(places[:, :, None] - known)), inputs)
