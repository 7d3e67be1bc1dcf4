"""Pretrained sets from elsewhere: fetched once, checked, and kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from serzoo.errors import WeightsError
from serzoo.files import moved_into_place
from serzoo.weights.cards import SUFFIX, Card, is_address, is_local, read_card

if TYPE_CHECKING:
    import requests

HUB = "https://huggingface.co/{user}/{repository}/resolve/{revision}/{name}" + SUFFIX
"""Where the card of ``hf://user/repository/name@revision`` is."""

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
            address; or ``hf://user/repository/NAME``, with ``@REVISION`` behind it for another than ``main``.

    Raises:
        WeightsError: the address is none, nobody answers, or the answer is no card or not the file of its card.
    """
    url = card_address(source)
    card = _fetch_card(url)
    place = card.url or urljoin(url, card.file)
    _check_step(url, place)
    return card, fetch_file(card, place)


def card_address(source: str) -> str:
    """Return the address of a card, that of a hub id included.

    Raises:
        WeightsError: ``source`` is neither.
    """
    found = _HUB_ID.fullmatch(source)
    if found:
        return HUB.format_map({**found.groupdict(), "revision": found["revision"] or "main"})
    if not is_address(source) or not _CARD_NAME.fullmatch(PurePosixPath(urlsplit(source).path).name):
        raise WeightsError(
            f"{source!r:.200} is no place of a pretrained set; give https://.../NAME{SUFFIX} or "
            "hf://user/repository/NAME."
        )
    return source


def fetch_file(card: Card, url: str) -> Path:
    """Return the file that a card is about, fetched unless it is there already; what is not the card's is not kept.

    Raises:
        WeightsError: nobody answers, or with something else.
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
    """Fetch ``url``, of so many bytes at most, as ``path`` unless a file of this hash is there."""
    import pooch
    import requests

    def download(address: str, file: str, _: object) -> None:
        _download(address, Path(file), n_bytes)

    pooch.get_logger().setLevel("WARNING")  # it would announce every file
    try:
        pooch.retrieve(url, known_hash, fname=path.name, path=path.parent, downloader=download)
    except requests.HTTPError as error:
        answer = str(error).partition(" for url")[0]
        raise WeightsError(f"{url} cannot be fetched ({answer}); check the address.") from None
    except (requests.RequestException, OSError, UnicodeError) as error:
        raise WeightsError(
            f"{url} cannot be fetched ({type(error).__name__}); check the connection, or give a folder that holds the "
            "set's card and file."
        ) from None
    except ValueError:  # pooch's, for another hash
        raise WeightsError(
            f"{url} gives another file than the set's card says, which was not kept; try again, or ask who offers it."
        ) from None


def _download(url: str, path: Path, n_bytes: int) -> None:
    """Write what is at ``url`` as ``path``.

    Raises:
        WeightsError: it is longer than ``n_bytes``, or comes from an address that nothing may be fetched from.
        requests.RequestException: nobody answers, or with an error, or stops half-way.
    """
    with _opened(url) as answer, path.open("wb") as file:
        answer.raise_for_status()
        left = n_bytes
        for chunk in answer.iter_content(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise WeightsError(f"{url} gives more than {n_bytes} bytes, which was not kept; ask who offers it.")
            file.write(chunk)


@contextlib.contextmanager
def _opened(url: str) -> Iterator[requests.Response]:
    """Yield the answer to ``url``; no address that it is moved to is asked before it is found to be allowed."""
    import requests

    whole = {"Accept-Encoding": "identity"}  # what is packed may be a thousand times as long
    address = url
    with requests.Session() as session:
        for _ in range(_MAX_MOVES + 1):
            with session.get(address, stream=True, timeout=_TIMEOUT, headers=whole, allow_redirects=False) as answer:
                if not answer.is_redirect:
                    yield answer
                    return
                address = urljoin(address, answer.headers["Location"])
                _check_step(url, address)
    raise WeightsError(f"{url} is moved more than {_MAX_MOVES} times; ask who offers it.")


def _check_step(url: str, address: str) -> None:
    """Raise WeightsError unless ``url`` may lead to ``address``: by https, or from this machine to itself."""
    if not is_address(address) or (is_local(address) and not is_local(url)):
        raise WeightsError(f"{url} leads to {address:.200}, which is not https; ask who offers it.")
