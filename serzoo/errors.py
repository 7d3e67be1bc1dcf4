"""Errors meant for the user: one line that says what was given, what is allowed and what to do.

Every error the package raises on purpose derives from :class:`SerzooError`; the command line
prints its message and exits with code 2. Anything else that escapes is a bug of serzoo.
"""

import difflib
from collections.abc import Iterable

_SHOWN = 24  # more names than this do not help whoever misspelt one


class SerzooError(Exception):
    """Base of all errors that serzoo raises on purpose."""


class UnknownNameError(SerzooError):
    """A name that no registry, config or corpus knows."""


class ConfigError(SerzooError):
    """A recipe that cannot be read or does not make sense."""


class DataError(SerzooError):
    """A corpus, manifest or split that cannot be used as asked."""


class AudioError(DataError):
    """A recording that cannot be decoded or holds nothing usable."""


class FeatureError(SerzooError):
    """Features whose shape, file or specification does not fit."""


class WeightsError(SerzooError):
    """Weights that are missing, damaged or do not fit the model."""


class ExportError(SerzooError):
    """An export that cannot be written or does not reproduce the model."""


class MissingExtraError(SerzooError):
    """An optional package that is not installed."""


def unknown_name(kind: str, name: object, allowed: Iterable[str]) -> UnknownNameError:
    """Return the error for ``name``, with the nearest match first and then what is allowed.

    Of more than 24 names the error has the twelve nearest ones, and says how many there are.

    Args:
        kind: what was asked for, in the singular, for example ``"model"``.
        name: what was given.
        allowed: the names that would have been accepted.
    """
    names = sorted(allowed)
    near = _nearest(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if len(names) > _SHOWN:
        nearest = _nearest(str(name), names, n=_SHOWN // 2, cutoff=0)
        known = f"{', '.join(nearest)} and {len(names) - len(nearest)} more"
    else:
        known = ", ".join(names) or "none"
    return UnknownNameError(f"Unknown {kind} {str(name)!r}.{hint} Known: {known}.")


def _nearest(name: str, names: Iterable[str], n: int, cutoff: float) -> list[str]:
    """Return the ``n`` names most like ``name``, at least ``cutoff`` in 0..1, whatever their case, nearest first."""
    folded = {known.lower(): known for known in names}
    return [folded[near] for near in difflib.get_close_matches(name.lower(), folded, n=n, cutoff=cutoff)]


class SerzooWarning(UserWarning):
    """Something the user should know that does not stop the work."""
