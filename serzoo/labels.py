"""The names of emotions and genders used throughout, whatever a corpus calls them."""

from collections.abc import Sequence

from serzoo.errors import DataError, unknown_name

CANONICAL_LABELS = (
    "angry", "boredom", "calm", "disgust", "excited", "fear",
    "frustrated", "happy", "neutral", "sad", "surprise",
)  # fmt: skip

SHARED_LABELS = ("angry", "fear", "happy", "neutral", "sad")
"""The five classes that CASIA, EMO-DB, EMOVO, RAVDESS and SAVEE share (TIM-Net, section 3.2)."""

EMOTION, DIMENSIONS = "emotion", ("valence", "arousal", "dominance")
"""The outputs that a network may be trained on: the class, and whether each of three ratings is high."""

UNKNOWN = "unknown"
"""The prediction if no class reaches the threshold; reserved, so no class of pretrained weights has this name."""

MALE, FEMALE = "male", "female"
_MALE_PROBABILITIES = {MALE: 1.0, "m": 1.0, FEMALE: 0.0, "f": 0.0}


def male_probability(gender: object, whose: str = "The speaker's") -> float:
    """Return a gender as models take it: the probability that the speaker is male.

    Args:
        gender: ``"male"``, ``"female"``, their first letters, in capitals or not; or a number in 0..1 (also as text)
            if it is uncertain.
        whose: the words before "gender" in the error message.

    Raises:
        DataError: anything else; an unknown gender, NaN, None or the empty text, is refused too.
    """
    named = gender.strip().lower() if isinstance(gender, str) else None
    try:
        probability = _MALE_PROBABILITIES[named] if named in _MALE_PROBABILITIES else float(gender)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        probability = float("nan")
    if isinstance(gender, bool) or not 0 <= probability <= 1:
        given = "unknown" if gender is None or named == "" else repr(gender)
        raise DataError(
            f"{whose} gender is {given}; give 'male', 'female' or the probability of male in 0..1, "
            "or use a model without gender."
        )
    return probability


def check_class_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return ``class_names`` as a tuple after checking that they can name a classifier's outputs.

    Raises:
        DataError: fewer than two names, an empty one, or one that occurs twice.
    """
    if isinstance(class_names, str):
        raise DataError(f"Class names are {class_names!r}; give a list of names, for example ['angry', 'sad'].")
    names = tuple(class_names)
    if len(names) < 2:
        raise DataError(f"A classifier needs at least 2 classes, got {list(names)}; add recordings of another class.")
    if not all(isinstance(name, str) and name for name in names):
        raise DataError(f"Class names must be non-empty strings, got {list(names)}.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"Class names occur twice: {', '.join(repeated)}; each class needs a name of its own.")
    return names


def label_index(label: str, class_names: Sequence[str]) -> int:
    """Return the position of ``label`` in ``class_names``.

    Raises:
        UnknownNameError: the label is not one of the classes.
    """
    try:
        return list(class_names).index(label)
    except ValueError:
        raise unknown_name("label", label, class_names) from None
