"""Pretrained sets: those that come with the package, and those in folders, at addresses and on the hub.

A set is a file of weights, and a card that says what it is. What the card says of the file is checked whenever the
set is loaded: the size, the SHA-256, and the answer to a synthetic clip that is made anew each time, which also shows
whether the packages that are installed compute what those of the training did.
"""

from __future__ import annotations

import hashlib
import math
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from serzoo.errors import ConfigError, UnknownNameError, WeightsError, unknown_name
from serzoo.files import local_path, moved_into_place
from serzoo.weights import fetch
from serzoo.weights.cards import KINDS, SUFFIX, Card, card_text, check_name, read_card
from serzoo.weights.check_clips import read_check_clip

if typing.TYPE_CHECKING:
    import numpy as np

FILES = Path(__file__).with_name("files")
"""Where the pretrained sets of the package are: cards ``NAME.yaml``, each beside its file unless it says an address."""

DEFAULT = "dense_tcn.ravdess_v1"
"""The set that tells emotions where none is named."""

TOLERANCE = 1e-5
"""How far an answer to the fixed input may be from the card's."""


def list_pretrained(kind: str | None = None) -> list[str]:
    """Return the names of the pretrained sets that come with the package.

    Args:
        kind: what they are to tell, ``"emotion"`` or ``"gender"``; None for all.

    Raises:
        UnknownNameError: another kind.
    """
    if kind is not None and kind not in KINDS:
        raise unknown_name("kind of pretrained set", kind, KINDS)
    names = sorted(path.stem for path in FILES.glob(f"*{SUFFIX}"))
    return names if kind is None else [name for name in names if pretrained_card(name).kind == kind]


def default_pretrained() -> str:
    """Return the name of the set that tells emotions where none is named.

    Raises:
        ConfigError: it does not come with the package.
    """
    if DEFAULT not in list_pretrained():
        raise ConfigError("No pretrained set of emotions comes with this serzoo; name a model (--model).")
    return DEFAULT


def pretrained_card(name: str) -> Card:
    """Return the card of a pretrained set of the package; its file is not looked at.

    Args:
        name: one of :func:`list_pretrained`.

    Raises:
        UnknownNameError: there is none of this name; the message names the nearest.
        WeightsError: the card is damaged.
    """
    path = FILES / f"{name}{SUFFIX}"
    if not path.is_file() or path.parent != FILES:
        raise no_such_set("pretrained set", name, list_pretrained())
    return read_card(path)


def no_such_set(what: str, name: object, known: Sequence[str]) -> UnknownNameError:
    """Return the error for a name that is no pretrained set's, with the nearest match if there are any.

    Args:
        what: was asked for, in the singular.
        name: what was given.
        known: the sets that would have been accepted.
    """
    if known:
        return unknown_name(what, name, known)
    return UnknownNameError(
        f"Unknown {what} {str(name)!r:.200}; none comes with this serzoo: give the folder or the address of one "
        "(hf://user/repository/NAME), or train a model (serzoo train)."
    )


def is_pretrained(source: str | Path) -> bool:
    """Return whether a model's name or place is that of a pretrained set, or is meant to be.

    A name of the package takes precedence over a file or folder that is called so.
    """
    if isinstance(source, str) and (source in list_pretrained() or "://" in source):
        return True
    path = local_path(source)
    return path.suffix == SUFFIX or (path.is_dir() and bool(str(source)) and bool(_cards_in(path)))


def pretrained_file(source: str | Path) -> tuple[Card, Path]:
    """Return the card and the file of a pretrained set, once the file is found to be the card's.

    Whoever loads the file should hand the result to :func:`check_output`.

    Args:
        source: one of :func:`list_pretrained`; a card, ``NAME.yaml``, or a folder that holds one with its file; the
            address of a card; or ``hf://user/repository/NAME``, perhaps with ``@REVISION`` behind it. What is fetched
            is kept in the cache folder.

    Raises:
        UnknownNameError: there is none of this name; the message names the nearest.
        WeightsError: the card is damaged, the file is missing or another one, or cannot be fetched.
    """
    if fetch.is_remote(source):
        card, path = fetch.fetch_set(str(source))
    else:
        place = _local_card(source)
        card = read_card(place)
        path = place.with_name(card.file)
        if card.url is not None and not path.exists():
            path = fetch.fetch_file(card, card.url)
    _check_file(card, path)
    return card, path


def check_output(card: Card, answer: Callable[[np.ndarray, int], Sequence[float]]) -> None:
    """Raise unless what was loaded answers as its card says.

    Args:
        card: the set's card.
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
        f"{card.name} answers {_shown(found)} to its fixed input, its card says {_shown(card.output)}; "
        + (f"it was made with {' '.join(others)}: install these." if others else "get it again.")
    )


def fixed_output(
    arguments: Mapping[str, Any], answer: Callable[[np.ndarray, int], Sequence[float]]
) -> tuple[float, ...]:
    """Return the probabilities for the check clip that ``arguments`` name; see :mod:`serzoo.weights.check_clips`.

    Raises:
        WeightsError: they name no check clip.
    """
    return tuple(map(float, answer(*read_check_clip(arguments))))


def installed_version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# Files ----------------------------------------------------------------------------------------------------------------


def card_path(file: Path) -> Path:
    """Return where the card of a file of weights belongs.

    Raises:
        ConfigError: something else than a card is there.
        WeightsError: the file is called as no set can be.
    """
    path = local_path(file).with_name(f"{check_name(set_name(file))}{SUFFIX}")
    if path.exists():
        try:
            read_card(path)
        except WeightsError:
            raise ConfigError(
                f"{path} is no card, and that of {file.name} would replace it; give the file another name."
            ) from None
    return path


def set_name(file: Path) -> str:
    """Return the name of the set that a file of weights belongs to."""
    suffix = next((card.suffix for card in KINDS.values() if file.name.endswith(card.suffix)), file.suffix)
    return file.name.removesuffix(suffix)


def save_with_card(
    file: Path,
    save: Callable[[Path], object],
    describe: Callable[[int, str], Card],
    check: Callable[[Path], object] | None = None,
) -> Path:
    """Write a file and its card, or neither.

    Args:
        file: the file; an old one, and its card, are replaced.
        save: writes the file at a path of the same name.
        describe: makes the card from the file's size in bytes and its SHA-256.
        check: takes the path of the card, its file beside it, and raises if they cannot be used; None checks nothing.

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
        described = describe(len(content), hashlib.sha256(content).hexdigest())
        card_part.write_text(card_text(described), encoding="utf-8")
        if check is not None:
            check(card_part)
        os.replace(part, file)
    return card


def _local_card(source: str | Path) -> Path:
    """Return the card that a name, a card, its ``file://`` address or a folder stands for."""
    if isinstance(source, str):
        if source.startswith("file://"):
            return _local_card(Path(url2pathname(_path_of(source))))
        if source in list_pretrained():
            return FILES / f"{source}{SUFFIX}"
    path = local_path(source)
    if path.suffix == SUFFIX:
        return path
    cards = _cards_in(path) if path.is_dir() else []
    if not cards:
        raise no_such_set("pretrained set", source, list_pretrained())
    if len(cards) > 1:
        raise WeightsError(f"Folder {path} holds several sets; name one: {', '.join(map(str, cards)):.300}.")
    return cards[0]


def _path_of(url: str) -> str:
    """Return the path of a ``file://`` address."""
    try:
        return urlsplit(url).path
    except ValueError:
        raise WeightsError(f"{url!r:.200} is no address of a set's card or folder; give file:///...") from None


def _cards_in(folder: Path) -> list[Path]:
    """Return the cards in a folder that stand beside their files."""
    return [
        path
        for path in sorted(folder.glob(f"*{SUFFIX}"))
        if any(path.with_name(path.stem + card.suffix).is_file() for card in KINDS.values())
    ]


def _check_file(card: Card, path: Path) -> None:
    """Raise WeightsError unless a file has the size and the SHA-256 of its card."""
    remedy = "install serzoo again" if path.parent == FILES else "get it again"
    try:
        n_bytes = path.stat().st_size
        found = hashlib.sha256(path.read_bytes()).hexdigest() if n_bytes == card.bytes else ""
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror}); {remedy}.") from None
    if n_bytes != card.bytes:
        raise WeightsError(f"{path} has {n_bytes} bytes, its card says {card.bytes}; {remedy}.")
    if found != card.sha256:
        raise WeightsError(f"{path} has the SHA-256 {found[:12]}..., its card says {card.sha256[:12]}...; {remedy}.")


def _close(found: float, expected: float) -> bool:
    return math.isclose(found, expected, rel_tol=0, abs_tol=TOLERANCE)


def _shown(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6f}" for value in values)
