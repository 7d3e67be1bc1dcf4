"""Pretrained sets from elsewhere: fetched once, checked, and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from urllib.parse import urljoin, urlsplit

from serzoo.errors import WeightsError
from serzoo.files import moved_into_place
from serzoo.weights.cards import SUFFIX, Card, read_card

HUB = "https://huggingface.co/{user}/{repository}/resolve/main/{name}" + SUFFIX
"""Where the card of ``hf://user/repository/name`` is."""

_HUB_ID = re.compile(r"hf://(?P<user>[\w.-]+)/(?P<repository>[\w.-]+)/(?P<name>[\w.+-]+)", re.ASCII)
_CARD_NAME = re.compile(r"[\w+-][\w.+-]*" + re.escape(SUFFIX), re.ASCII)
_TIMEOUT = 10  # seconds without a byte


def is_remote(source: object) -> bool:
    """Return whether ``source`` is an address or a hub id, or is meant as one."""
    return isinstance(source, str) and "://" in source and not source.startswith("file://")


def cache_folder() -> Path:
    """Return the folder for sets below ``$SERZOO_CACHE``, or ``serzoo`` in the user's cache folder."""
    from serzoo.data.cache import default_folder

    return default_folder().with_name("pretrained")


def fetch_set(source: str) -> tuple[Card, Path]:
    """Return the card and the file of a set, both fetched unless they are there already.

    A set never changes under its name, so its card is asked for once.

    Args:
        source: the address of a card, ``https://.../NAME.yaml``, beside which its file is unless the card names another
            address; or ``hf://user/repository/NAME``.

    Raises:
        WeightsError: the address is none, nobody answers, or the answer is no card or not the file of its card.
    """
    url = card_address(source)
    card = _fetch_card(url)
    return card, fetch_file(card, card.url or urljoin(url, card.file))


def card_address(source: str) -> str:
    """Return the address of a card, that of a hub id included.

    Raises:
        WeightsError: ``source`` is neither.
    """
    found = _HUB_ID.fullmatch(source.removesuffix(SUFFIX))
    if found:
        return HUB.format_map(found.groupdict())
    is_card = _CARD_NAME.fullmatch(PurePosixPath(urlsplit(source).path).name)
    if not source.startswith(("https://", "http://")) or not is_card:
        raise WeightsError(
            f"{source:.200} is no place of a pretrained set; give https://.../NAME{SUFFIX} or hf://user/repository/NAME."
        )
    return source


def fetch_file(card: Card, url: str) -> Path:
    """Return the file that a card is about, fetched unless it is there already; what is not the card's is not kept.

    Raises:
        WeightsError: nobody answers, or with something else.
    """
    path = cache_folder() / card.sha256[:16] / card.file
    _retrieve(url, f"sha256:{card.sha256}", path)
    return path


def _fetch_card(url: str) -> Card:
    name = PurePosixPath(urlsplit(url).path).name
    path = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    if not path.exists():
        with moved_into_place(path) as part:
            _retrieve(url, None, part)
            try:
                read_card(part)
            except WeightsError as error:
                raise WeightsError(str(error).replace(str(part), url)) from None
    return read_card(path)


def _retrieve(url: str, known_hash: str | None, path: Path) -> None:
    """Fetch ``url`` as ``path`` unless a file of this hash is there."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # it would announce every file
    try:
        pooch.retrieve(
            url, known_hash, fname=path.name, path=path.parent, downloader=pooch.HTTPDownloader(timeout=_TIMEOUT)
        )
    except requests.HTTPError as error:
        answer = str(error).partition(" for url")[0]
        raise WeightsError(f"{url} cannot be fetched ({answer}); check the address.") from None
    except (requests.RequestException, OSError) as error:
        raise WeightsError(
            f"{url} cannot be fetched ({type(error).__name__}); check the connection, or give a folder that holds the "
            "set's card and file."
        ) from None
    except ValueError:  # pooch's, for another hash
        raise WeightsError(
            f"{url} gives another file than the set's card says, which was not kept; try again, or ask who offers it."
        ) from None
