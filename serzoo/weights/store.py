"""The pretrained sets that come with the package: a file of weights, and beside it a card that says what it is.

A card is strict YAML. What it says of its file is checked whenever the file is loaded by name: the size, the SHA-256,
and the answer to a synthetic clip that is made anew each time, which also shows whether the packages that are
installed compute what those of the training did.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from serzoo import strict_yaml
from serzoo.errors import ConfigError, SerzooError, WeightsError, unknown_name
from serzoo.files import moved_into_place

if typing.TYPE_CHECKING:
    import numpy as np

FILES = Path(__file__).with_name("files")
"""Where the pretrained sets are: cards ``NAME.yaml``, each beside the file that it names."""

TOLERANCE = 1e-5
"""How far an answer to the fixed input may be from the card's."""


@dataclass(frozen=True)
class Card:
    """What is known of a pretrained set.

    Args:
        kind: what it does: ``"gender"``.
        summary: one line.
        file: the name of its file, which lies beside the card.
        bytes: size of its file.
        sha256: of its file, hexadecimal.
        corpus: what it was trained on.
        source: where the corpus comes from.
        licence: of the corpus, and so of what was trained on it.
        protocol: how the scores were found.
        scores: in 0..1, by name; of several folds a list.
        class_names: what it tells apart, in the order of its answers.
        feature_spec: what it takes; :func:`serzoo.features.spec.spec_from_dict` reads it.
        versions: of the packages that it was trained and tested with.
        input: arguments of :func:`serzoo.data.synthetic.synthesize`, which make the fixed input.
        output: the answer to it, a probability per class.
    """

    kind: str
    summary: str
    file: str
    bytes: int
    sha256: str
    corpus: str
    source: str
    licence: str
    protocol: str
    scores: Mapping[str, Any]
    class_names: tuple[str, ...]
    feature_spec: Mapping[str, Any]
    versions: Mapping[str, str]
    input: Mapping[str, Any]
    output: tuple[float, ...]


def list_pretrained() -> list[str]:
    """Return the names of the pretrained sets that come with the package."""
    return sorted(path.stem for path in FILES.glob("*.yaml"))


def pretrained_card(name: str) -> Card:
    """Return the card of a pretrained set; its file is not looked at.

    Args:
        name: one of :func:`list_pretrained`.

    Raises:
        UnknownNameError: there is none of this name; the message names the nearest.
        WeightsError: the card is damaged.
    """
    known = list_pretrained()
    if name not in known:
        raise unknown_name("pretrained set", name, known)
    return read_card(FILES / f"{name}.yaml")


def pretrained_file(name: str) -> tuple[Card, Path]:
    """Return the card and the file of a pretrained set, once the file is found to be the card's.

    Whoever loads the file should hand the result to :func:`check_output`.

    Args:
        name: one of :func:`list_pretrained`.

    Raises:
        UnknownNameError: there is none of this name; the message names the nearest.
        WeightsError: the card is damaged, or the file is missing or another one.
    """
    card = pretrained_card(name)
    path = FILES / card.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}); install serzoo again.") from None
    if len(content) != card.bytes:
        raise WeightsError(f"{path} has {len(content)} bytes, its card says {card.bytes}; install serzoo again.")
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        raise WeightsError(
            f"{path} has the SHA-256 {found[:12]}..., its card says {card.sha256[:12]}...; install serzoo again."
        )
    return card, path


def check_output(name: str, card: Card, answer: Callable[[np.ndarray, int], Sequence[float]]) -> None:
    """Raise unless what was loaded answers as its card says.

    Args:
        name: of the pretrained set.
        card: its card.
        answer: takes a waveform, (n_samples,) float32, and its sample rate in Hz, and gives a probability per class.

    Raises:
        WeightsError: an answer is more than :data:`TOLERANCE` from the card's; the message names the packages that
            have another version than the card has.
    """
    found = fixed_output(card.input, answer)
    if len(found) == len(card.output) and all(map(_close, found, card.output)):
        return
    others = [f"{package}=={kept}" for package, kept in card.versions.items() if installed_version(package) != kept]
    raise WeightsError(
        f"{name} answers {_shown(found)} to its fixed input, its card says {_shown(card.output)}; "
        + (f"it was made with {' '.join(others)}: install these." if others else "install serzoo again.")
    )


def fixed_output(
    arguments: Mapping[str, Any], answer: Callable[[np.ndarray, int], Sequence[float]]
) -> tuple[float, ...]:
    """Return the answer to the synthetic clip that ``arguments`` make; see :class:`Card` and :func:`check_output`.

    Raises:
        WeightsError: no clip can be made of the arguments.
    """
    from serzoo.data.synthetic import synthesize

    try:
        waveform, sample_rate = synthesize(**arguments), arguments["sample_rate"]
    except (SerzooError, TypeError, KeyError) as error:
        raise WeightsError(f"No fixed input can be made of the card's arguments ({error}); correct them.") from None
    return tuple(map(float, answer(waveform, sample_rate)))


def installed_version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# Files ----------------------------------------------------------------------------------------------------------------


def read_card(path: Path) -> Card:
    """Read a card.

    Raises:
        WeightsError: the file cannot be read, or is no card.
    """
    try:
        values = strict_yaml.read(path)
    except ConfigError as error:
        raise WeightsError(str(error)) from None
    hints = typing.get_type_hints(Card)
    wrong = sorted(set(hints) ^ set(values)) if isinstance(values, dict) else ["all of it"]
    if wrong:
        raise WeightsError(f"{path} is no card of a pretrained set; missing or unknown is {', '.join(wrong):.200}.")
    for key, hint in hints.items():
        if not _is_a(hint, values[key]):
            raise WeightsError(f"{path} is damaged: {key} is {values[key]!r:.80}; get it again.")
    fields: dict[str, Any] = json.loads(json.dumps(values))  # without the lines of the keys
    fields |= {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
    return Card(**fields)


def card_path(file: Path) -> Path:
    """Return where the card of a file belongs.

    Raises:
        ConfigError: something else than a card is there.
    """
    path = file.expanduser().with_suffix(".yaml")
    if path.exists():
        try:
            read_card(path)
        except WeightsError:
            raise ConfigError(
                f"{path} is no card, and that of {file.name} would replace it; give the file another name."
            ) from None
    return path


def save_with_card(file: Path, save: Callable[[Path], object], describe: Callable[[int, str], Card]) -> Path:
    """Write a file and its card, or neither.

    Args:
        file: the file; an old one, and its card, are replaced.
        save: writes the file at a path of the same name.
        describe: makes the card from the file's size in bytes and its SHA-256.

    Returns:
        Where the card is.

    Raises:
        ConfigError: something else than a card is in the card's place.
    """
    card = card_path(file)
    with moved_into_place(card) as card_part:
        part = card_part.with_name(file.name)
        save(part)
        content = part.read_bytes()
        described = asdict(describe(len(content), hashlib.sha256(content).hexdigest()))
        lists = {key: list(value) for key, value in described.items() if isinstance(value, tuple)}
        card_part.write_text(strict_yaml.dump({**described, **lists}), encoding="utf-8")
        os.replace(part, file)
    return card


def _is_a(hint: Any, value: object) -> bool:
    """Return whether a value of a card is of a field's type, as YAML has it."""
    kind = typing.get_origin(hint) or hint
    if kind is tuple:
        return isinstance(value, list) and all(_is_a(typing.get_args(hint)[0], item) for item in value)
    return isinstance(value, (int, float) if kind is float else kind)


def _close(found: float, expected: float) -> bool:
    return math.isclose(found, expected, rel_tol=0, abs_tol=TOLERANCE)


def _shown(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6f}" for value in values)
