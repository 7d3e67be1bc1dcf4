"""Pretrained weights: those that come with the package, and those in folders, at addresses and on the Hugging Face hub.

Pretrained weights are a weights file and a model card. Whenever they are loaded, the file's size and SHA-256 must be
those of the card, and so must the model's probabilities for a check clip. The latter also shows whether the installed
packages compute the same as those of the training.
"""

from __future__ import annotations

import hashlib
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
"""Folder of the package's pretrained weights: cards ``NAME.yaml``, each with its file next to it or its address."""

DEFAULT = "dense_tcn.ravdess_v1"
"""The emotion weights used where no model is named."""

TOLERANCE = 1e-5
"""Largest allowed difference between a probability for the check clip and that of the card."""


def list_pretrained(kind: str | None = None) -> list[str]:
    """Return the names of the pretrained weights that come with the package.

    Args:
        kind: ``"emotion"`` or ``"gender"``, to list those that classify it; None for all.

    Raises:
        UnknownNameError: another kind.
    """
    if kind is not None and kind not in KINDS:
        raise unknown_name("kind of pretrained weights", kind, KINDS)
    names = sorted(path.stem for path in FILES.glob(f"*{SUFFIX}"))
    return names if kind is None else [name for name in names if pretrained_card(name).kind == kind]


def default_pretrained() -> str:
    """Return the name of the emotion weights used where no model is named.

    Raises:
        ConfigError: they do not come with this package.
    """
    if DEFAULT not in list_pretrained():
        raise ConfigError("No pretrained emotion weights come with this serzoo; name a model (--model).")
    return DEFAULT


def pretrained_card(name: str) -> Card:
    """Return the card of the package's pretrained weights, without checking their file.

    Args:
        name: one of :func:`list_pretrained`.

    Raises:
        UnknownNameError: an unknown name; the message has the nearest.
        WeightsError: the card is damaged.
    """
    path = FILES / f"{name}{SUFFIX}"
    if not path.is_file() or path.parent != FILES:
        raise unknown_weights("pretrained weights", name, list_pretrained())
    return read_card(path)


def unknown_weights(kind: str, name: object, known: Sequence[str]) -> UnknownNameError:
    """Return the error for an unknown name, with the nearest of the ``known`` ones if there are any."""
    if known:
        return unknown_name(kind, name, known)
    return UnknownNameError(
        f"Unknown {kind} {str(name)!r:.200}; none come with this serzoo: give a folder or an address "
        "(hf://user/repository/NAME), or train a model (serzoo train)."
    )


def is_pretrained(source: str | Path) -> bool:
    """Return whether ``source`` is, or is meant as, the name, card, folder or address of pretrained weights.

    A name of the package takes precedence over a file or folder of the same name.
    """
    if isinstance(source, str) and (source in list_pretrained() or "://" in source):
        return True
    path = local_path(source)
    return path.suffix == SUFFIX or (path.is_dir() and bool(str(source)) and bool(_cards_in(path)))


def pretrained_file(source: str | Path) -> tuple[Card, Path]:
    """Return the card and the file of pretrained weights, after comparing the file with the card.

    The caller passes the loaded model to :func:`check_output`.

    Args:
        source: one of :func:`list_pretrained`; a card, ``NAME.yaml``, or a folder with one card and its file; the
            address of a card; or ``hf://user/repository/NAME[@REVISION]``. Downloads are kept in the cache folder.

    Raises:
        UnknownNameError: an unknown name; the message has the nearest.
        WeightsError: the card is damaged, or the file is missing, cannot be downloaded or is not that of the card.
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


def check_output(card: Card, predict: Callable[[np.ndarray, int], Sequence[float]]) -> None:
    """Compare a loaded model's probabilities for the check clip with those of its card.

    Args:
        card: the model card.
        predict: takes a waveform, (n_samples,) float32, and its sample rate in Hz, and returns a probability per class.

    Raises:
        WeightsError: a probability differs by more than :data:`TOLERANCE`; the message names the packages whose
            version is not that of the card.
    """
    found = check_clip_output(card.input, predict)
    if len(found) == len(card.output) and all(
        abs(value - stated) <= TOLERANCE for value, stated in zip(found, card.output, strict=True)
    ):
        return
    others = [f"{package}=={kept}" for package, kept in card.versions.items() if installed_version(package) != kept]
    raise WeightsError(
        f"{card.name} returns {_shown(found)} for its check clip, its card states {_shown(card.output)}; "
        + (f"it was made with {' '.join(others)}: install these." if others else "get it again.")
    )


def check_clip_output(
    arguments: Mapping[str, Any], predict: Callable[[np.ndarray, int], Sequence[float]]
) -> tuple[float, ...]:
    """Return the probabilities for the check clip that ``arguments`` name; see :mod:`serzoo.weights.check_clips`.

    Raises:
        WeightsError: they name no check clip.
    """
    return tuple(map(float, predict(*read_check_clip(arguments))))


def installed_version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# Files ----------------------------------------------------------------------------------------------------------------


def card_path(file: Path) -> Path:
    """Return the path for the card of a weights file.

    Raises:
        ConfigError: the path is taken by a file that is not a card.
        WeightsError: the file's name is not valid for pretrained weights.
    """
    path = local_path(file).with_name(f"{check_name(set_name(file))}{SUFFIX}")
    if path.exists():
        try:
            read_card(path)
        except WeightsError:
            raise ConfigError(
                f"{path} is not a model card, and the card of {file.name} would replace it; choose another file name."
            ) from None
    return path


def set_name(file: Path) -> str:
    """Return the name of the pretrained weights in a file."""
    suffix = next((card.suffix for card in KINDS.values() if file.name.endswith(card.suffix)), file.suffix)
    return file.name.removesuffix(suffix)


def save_with_card(
    file: Path,
    save: Callable[[Path], object],
    describe: Callable[[int, str], Card],
    check: Callable[[Path], object] | None = None,
) -> Path:
    """Write a weights file and its card, or neither.

    Args:
        file: the weights file; an existing one, and its card, are replaced.
        save: writes the weights to a path.
        describe: makes the card from the file's size in bytes and its SHA-256.
        check: takes the path of the card, with the file next to it, and raises if they cannot be used; None for no
            check.

    Returns:
        The path of the card.

    Raises:
        ConfigError: the card's path is taken by a file that is not a card.
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
    """Return the path of the card for a name, a card, a ``file://`` address or a folder."""
    if isinstance(source, str):
        if source.startswith("file://"):
            try:
                return _local_card(Path(url2pathname(urlsplit(source).path)))
            except ValueError:
                raise WeightsError(
                    f"{source!r:.200} is not the address of a card or folder; give file:///..."
                ) from None
        if source in list_pretrained():
            return FILES / f"{source}{SUFFIX}"
    path = local_path(source)
    if path.suffix == SUFFIX:
        return path
    cards = _cards_in(path) if path.is_dir() else []
    if not cards:
        raise unknown_weights("pretrained weights", source, list_pretrained())
    if len(cards) > 1:
        raise WeightsError(f"Folder {path} holds several model cards; name one: {', '.join(map(str, cards)):.300}.")
    return cards[0]


def _cards_in(folder: Path) -> list[Path]:
    """Return the cards in a folder that have their files next to them."""
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
        raise WeightsError(f"{path} has {n_bytes} bytes, its card states {card.bytes}; {remedy}.")
    if found != card.sha256:
        raise WeightsError(f"{path} has the SHA-256 {found[:12]}..., its card states {card.sha256[:12]}...; {remedy}.")


def _shown(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6f}" for value in values)
