"""Pretrained weights from the web: downloaded once, checked, and kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin, urlsplit

from serzoo.errors import WeightsError
from serzoo.files import moved_into_place
from serzoo.weights.cards import SUFFIX, Card, is_address, is_local, read_card

HUB = "https://huggingface.co/{user}/{repository}/resolve/{revision}/{name}" + SUFFIX
"""Address of the card of ``hf://user/repository/name@revision``."""

_HUB_ID = re.compile(
    r"hf://(?P<user>\w[\w.-]*)/(?P<repository>\w[\w.-]*)/(?P<name>\w[\w.+-]*?)"
    rf"(?:{re.escape(SUFFIX)})?(?:@(?P<revision>\w[\w.-]*))?",
    re.ASCII,
)
_CARD_NAME = re.compile(r"[\w+-][\w.+-]*" + re.escape(SUFFIX), re.ASCII)
_TIMEOUT = 10  # seconds without a byte
_MAX_CARD = 1_000_000  # bytes
_CHUNK = 2**16
_MAX_MOVES = 5


def is_remote(source: object) -> bool:
    """Return whether ``source`` is, or is meant as, a web address or hub id."""
    return isinstance(source, str) and "://" in source and not source.startswith("file://")


def cache_folder() -> Path:
    """Return the folder of downloaded weights, below ``$SERZOO_CACHE`` or ``serzoo`` in the user's cache folder."""
    from serzoo.data.cache import default_folder

    return default_folder().with_name("pretrained")


def fetch_set(source: str) -> tuple[Card, Path]:
    """Return the card and the file of pretrained weights, downloaded unless they are in the cache.

    Weights never change under their name, so a card is downloaded once.

    Args:
        source: the address of a card, ``https://.../NAME.yaml``, with its file next to it unless the card has another
            address; or ``hf://user/repository/NAME``, with ``@REVISION`` for a revision other than ``main``.

    Raises:
        WeightsError: an invalid address, a failed download, or a download that is not a card or not the card's file.
    """
    url = card_address(source)
    card = _fetch_card(url)
    place = card.url or urljoin(url, card.file)
    _check_step(url, place)
    return card, fetch_file(card, place)


def card_address(source: str) -> str:
    """Return the address of a card; ``source`` may be a hub id.

    Raises:
        WeightsError: ``source`` is neither.
    """
    found = _HUB_ID.fullmatch(source)
    if found:
        return HUB.format_map({**found.groupdict(), "revision": found["revision"] or "main"})
    if not is_address(source) or not _CARD_NAME.fullmatch(PurePosixPath(urlsplit(source).path).name):
        raise WeightsError(
            f"{source!r:.200} is not an address of pretrained weights; give https://.../NAME{SUFFIX} or "
            "hf://user/repository/NAME."
        )
    return source


def fetch_file(card: Card, url: str) -> Path:
    """Return a card's weights file, downloaded unless it is in the cache; another file is not kept.

    Raises:
        WeightsError: the download fails or is another file.
    """
    path = cache_folder() / card.sha256[:16] / card.file
    with _no_empty_folder(path.parent):
        _retrieve(url, f"sha256:{card.sha256}", path, card.bytes)
    return path


def _fetch_card(url: str) -> Card:
    name = PurePosixPath(urlsplit(url).path).name
    path = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    if not path.exists():
        with _no_empty_folder(path.parent), moved_into_place(path) as part:
            _retrieve(url, None, part, _MAX_CARD)
            try:
                read_card(part)
            except WeightsError as error:
                raise WeightsError(str(error).replace(str(part), url)) from None
    return read_card(path)


@contextlib.contextmanager
def _no_empty_folder(folder: Path) -> Iterator[None]:
    """Remove a folder that is empty after an error."""
    try:
        yield
    except WeightsError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise


def _retrieve(url: str, known_hash: str | None, path: Path, n_bytes: int) -> None:
    """Download at most ``n_bytes`` from ``url`` to ``path``, unless a file with this hash is there."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # not a line for every file
    try:
        pooch.retrieve(
            url,
            known_hash,
            fname=path.name,
            path=path.parent,
            downloader=lambda address, file, _: _download(address, Path(file), n_bytes),
        )
    except requests.HTTPError as error:
        reason = str(error).partition(" for url")[0]
        raise WeightsError(f"{url} cannot be downloaded ({reason}); check the address.") from None
    except (requests.RequestException, OSError, UnicodeError) as error:
        raise WeightsError(
            f"{url} cannot be downloaded ({type(error).__name__}); check the connection, or give a folder with the "
            "model card and the weights file."
        ) from None
    except ValueError:  # pooch's, for another hash
        raise WeightsError(
            f"{url} is not the file of its model card and was not kept; try again, or contact its publisher."
        ) from None


def _download(url: str, path: Path, n_bytes: int) -> None:
    """Download ``url`` to ``path``; each redirection is checked before it is followed.

    Raises:
        WeightsError: it is longer than ``n_bytes``, or is redirected too often or to an address that is not allowed.
        requests.RequestException: no response, an error, or an incomplete download.
    """
    import requests

    headers = {"Accept-Encoding": "identity"}  # compressed content could be a thousand times as long once unpacked
    options: dict[str, Any] = {"stream": True, "timeout": _TIMEOUT, "headers": headers, "allow_redirects": False}
    address = url
    with requests.Session() as session, path.open("wb") as file:
        for _ in range(_MAX_MOVES + 1):
            with session.get(address, **options) as response:
                response.raise_for_status()
                if not response.is_redirect:
                    for chunk in response.iter_content(_CHUNK):
                        if file.tell() + len(chunk) > n_bytes:
                            raise WeightsError(
                                f"{url} has more than {n_bytes} bytes and was not kept; contact its publisher."
                            )
                        file.write(chunk)
                    return
                address = urljoin(address, response.headers["Location"])
                _check_step(url, address)
    raise WeightsError(f"{url} is redirected more than {_MAX_MOVES} times; contact its publisher.")


def _check_step(url: str, address: str) -> None:
    """Raise WeightsError unless ``url`` may lead to ``address``: by https, or from this machine to itself."""
    if not is_address(address) or (is_local(address) and not is_local(url)):
        raise WeightsError(f"{url} leads to {address:.200}, which is not https; contact its publisher.")
