"""The base class of all models of the zoo, and checks of their arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from types import MappingProxyType
from typing import Any

import keras

from serzoo.checks import COUNT, FLAG, FRACTION, Allowed, check, integer, one_of
from serzoo.errors import ConfigError, DataError, FeatureError, WeightsError
from serzoo.features.spec import FeatureSpec, spec_from_dict
from serzoo.labels import check_class_names
from serzoo.layers.gender import GENDER_COLUMNS, GenderColumns
from serzoo.layers.normalization import Normalization
from serzoo.layers.recorded import RecordsArguments, output_dtype

EMBEDDING = "embedding"
"""Name of the layer whose output is the utterance's fused representation."""

PYTORCH_NORM: Mapping[str, Any] = MappingProxyType({"momentum": 0.9, "epsilon": 1e-5})
"""Settings of batch normalisation: PyTorch's defaults in Keras terms."""

FEATURES, GENDER = "features", "gender"
"""Names of the inputs of a model with gender input."""


def classifier_layer(
    n_classes: int, activation: str | None, *, name: str = "classifier", **arguments: Any
) -> keras.layers.Dense:
    """Return a model's last layer. Its outputs are float32, also under mixed precision."""
    return keras.layers.Dense(n_classes, activation=activation, name=name, dtype=output_dtype(), **arguments)


class SERModel(RecordsArguments, keras.Model):
    """A functional Keras graph with class names and a feature spec.

    A subclass builds ``inputs`` and ``outputs`` from its arguments, all of them keywords, and names the layer before
    its head :data:`EMBEDDING`. Every subclass takes ``class_names``, ``feature_spec`` and ``name`` as below, and

    * ``n_classes``: outputs, at least 2;
    * ``n_frames``: frames per clip; None takes any number that the model can take;
    * ``dropout``: share of values zeroed in training, in [0, 1);
    * ``classifier_activation``: ``"softmax"``, or None for logits.

    Args:
        inputs: the symbolic features, (batch, time, ...); or, for a model with gender, a dictionary of
            them (``"features"``) and of the probability that the speaker is male (``"gender"``, (batch, 1)).
        outputs: symbolic class probabilities (or logits), (batch, n_classes).
        class_names: names of the outputs in order, or None for a model without names yet.
        feature_spec: the features the model takes, or None; plain data is accepted too.
        name: Keras name of the model.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the class names do not fit ``n_classes``.
    """

    min_frames = 1
    """Fewest frames of a clip."""

    max_frames: int | None = None
    """Most frames of a clip, or None for any number."""

    feature_layers: tuple[str, ...] = ()
    """Names of the layers whose maps, (batch, ..., channels), anti-transfer learning compares, in their order."""

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        *,
        class_names: Sequence[str] | None = None,
        feature_spec: FeatureSpec | Mapping[str, object] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(inputs, outputs, name=name)
        self.max_frames = self.arguments.get("n_frames_padded", self.max_frames)
        if isinstance(feature_spec, Mapping):
            feature_spec = spec_from_dict(feature_spec)
        self.feature_spec = feature_spec
        self.class_names = None if class_names is None else check_class_names(class_names)
        if self.class_names is not None and len(self.class_names) != self.n_classes:
            raise DataError(
                f"{len(self.class_names)} class names were given for {self.n_classes} classes; give one name per class."
            )

    def check_arguments(self, **allowed: Allowed) -> None:
        """Check the arguments that all models have, and others.

        Args:
            allowed: the allowed values of other arguments, by name.

        Raises:
            ConfigError: a value is not allowed, or there are more frames than ``n_frames_padded``.
        """
        common = {
            "n_classes": integer(at_least=2),
            "n_frames": integer(at_least=self.min_frames) | one_of((None,)),
            "dropout": FRACTION,
            "classifier_activation": one_of(("softmax", None)),
        }
        for name, values in {**common, **allowed}.items():
            check(name, self.arguments[name], values)
        n_frames, padded = self.arguments["n_frames"], self.arguments.get("n_frames_padded")
        if None not in (n_frames, padded) and n_frames > padded:
            raise ConfigError(f"n_frames is {n_frames}; it must be at most n_frames_padded, {padded}.")

    @property
    def n_classes(self) -> int:
        """Width of the output layer."""
        return int(self.output_shape[-1])

    @property
    def takes_gender(self) -> bool:
        """Whether the inputs are a dictionary of features and gender instead of features alone."""
        return isinstance(self.input, Mapping)

    @property
    def features_input(self) -> Any:
        """The symbolic features, (batch, n_frames, ...): the whole input or a part of it."""
        return self.input[FEATURES] if self.takes_gender else self.input

    @property
    def features_shape(self) -> tuple[int | None, ...]:
        """Shape of a clip's features, (n_frames, ...); n_frames is None where any number is allowed."""
        return tuple(self.features_input.shape[1:])

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of one frame of the features, for example (39,) for MFCCs."""
        return tuple(int(size) for size in self.features_shape[1:] if size is not None)

    @property
    def normalization(self) -> Normalization | None:
        """The layer that normalises features by the training part's statistics, or None."""
        return next((layer for layer in self.layers if isinstance(layer, Normalization)), None)

    def check_statistics(self) -> None:
        """Raise WeightsError if the model normalises its features but has no statistics yet."""
        if self.normalization is not None and not self.normalization.is_adapted:
            raise WeightsError(
                f"{self.name} has no statistics of a training part to normalise features with; "
                "train it with serzoo.fit, or load trained weights."
            )

    @property
    def classifier_activation(self) -> str | None:
        """``"softmax"`` if the outputs are probabilities, None if they are logits."""
        return self.arguments["classifier_activation"]

    def embedding_model(self) -> keras.Model:
        """Return a model with the same weights that returns the fused representation, (batch, width)."""
        return keras.Model(self.input, self.get_layer(EMBEDDING).output, name=f"{self.name}_embedding")

    def feature_map(self, number: int) -> Any:
        """Return the symbolic output of a feature layer, (batch, ..., channels).

        ``keras.Model(model.input, model.feature_map(2))`` computes it, with the model's weights.

        Args:
            number: of the layer in :attr:`feature_layers`, from 1 on.

        Raises:
            ConfigError: there is no feature layer of that number.
        """
        count = len(self.feature_layers)
        if isinstance(number, bool) or not isinstance(number, Integral) or not 1 <= number <= count:
            raise ConfigError(f"feature layer {number!r} was asked for; {self.name} has {count}, numbered from 1.")
        return self.get_layer(self.feature_layers[number - 1]).output

    def without_training_state(self) -> SERModel:
        """Return a copy with the same weights and no optimiser: its variables take twice the model's size."""
        copy = self.from_config(self.get_config())
        copy.set_weights(self.get_weights())
        return copy

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the model, and the names of its frozen layers, if it has any."""
        frozen = [layer.name for layer in self.layers if not layer.trainable]
        return {
            **self.arguments,
            "n_classes": self.n_classes,
            "class_names": None if self.class_names is None else list(self.class_names),
            "feature_spec": None if self.feature_spec is None else self.feature_spec.to_dict(),
            **({"frozen": frozen} if frozen else {}),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: object = None) -> SERModel:
        """Rebuild the model from :meth:`get_config`'s result."""
        del custom_objects
        arguments = dict(config)
        frozen = arguments.pop("frozen", ())
        model = cls(**arguments)
        for name in frozen:
            model.get_layer(name).trainable = False
        return model


class DilatedNetwork(SERModel):
    """A model of stacked dilated blocks over the frames and, if ``backward``, others over the frames reversed."""

    def __init__(self, inputs: Any, outputs: Any, **options: Any) -> None:
        super().__init__(inputs, outputs, **options)
        directions = ("forward", "backward") if self.arguments["backward"] else ("forward",)
        numbers = range(1, self.arguments["n_blocks"] + 1)
        self.feature_layers = tuple(f"{direction}_block_{number}" for direction in directions for number in numbers)

    def check_arguments(self, **allowed: Allowed) -> None:
        """Check also the arguments that only these models have in common."""
        counts = dict.fromkeys(("n_features", "n_blocks", "filters", "kernel_size"), COUNT)
        flags = dict.fromkeys(("backward", "multi_scale", "dynamic_fusion"), FLAG)
        super().check_arguments(**counts, **flags, activation=one_of(("relu", "gelu")), **allowed)


def check_features_shape(model: SERModel, shape: Sequence[int | None], given: str) -> None:
    """Raise FeatureError unless the model takes clips of this shape.

    Args:
        model: any model.
        shape: (n_frames, ...) of a clip's features; n_frames is None where clips differ in length.
        given: subject and verb of the error message: ``"the data has"``.
    """
    expected = model.features_shape
    if len(shape) != len(expected) or any(
        size not in (None, other) for size, other in zip(expected, shape, strict=True)
    ):
        sizes = [" x ".join("any" if size is None else str(size) for size in each) for each in (expected, shape)]
        raise FeatureError(
            f"{model.name} takes {sizes[0]} values (frames x values of a frame), {given} {sizes[1]}; "
            "use the features it was built for."
        )
    if shape[0] is not None and shape[0] < model.min_frames:
        raise FeatureError(
            f"{model.name} takes clips of at least {model.min_frames} frames, {given} {shape[0]}; use longer ones."
        )
    if None not in (shape[0], model.max_frames) and shape[0] > model.max_frames:  # type: ignore[operator]
        raise FeatureError(
            f"{model.name} takes clips of at most {model.max_frames} frames, {given} {shape[0]}; "
            "cut recordings into segments (features.segment_frames)."
        )


def with_gender_columns(inputs: Any, frames: Any, columns: int) -> tuple[Any, Any]:
    """Return a model's inputs and frames, with the speaker's gender appended if ``columns`` is not 0.

    Args:
        inputs: the symbolic features, (batch, time, n_features).
        frames: the frames to append the columns to: ``inputs``, or a function of them.
        columns: 0 for none, 1 for the probability that the speaker is male, 2 for those of female and of male. With
            columns, the inputs are a dictionary of ``features`` and ``gender``, (batch, 1).

    Raises:
        ConfigError: another number of columns.
    """
    check("gender_columns", columns, one_of(GENDER_COLUMNS))
    if not columns:
        return inputs, frames
    male = keras.Input((1,), name=GENDER)
    return {FEATURES: inputs, GENDER: male}, GenderColumns(columns=columns, name="gender_columns")(frames, male)
