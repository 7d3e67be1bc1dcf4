"""Errors meant for the user: one line with the given value, the allowed ones and the remedy.

Every error the package raises on purpose derives from :class:`SerzooError`; the command line
prints its message and exits with code 2. Anything else that escapes is a bug of serzoo.
"""

import difflib
from collections.abc import Iterable

_SHOWN = 24  # a longer list of names does not help


class SerzooError(Exception):
    """Base of all errors that serzoo raises on purpose."""


class UnknownNameError(SerzooError):
    """A name that is in no registry, recipe or corpus."""


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
    """Return the error for ``name``, with the nearest match and the allowed names.

    Of more than 24 names the error lists the twelve nearest, and the number of the others.

    Args:
        kind: of the name, in the singular, for example ``"model"``.
        name: the given one.
        allowed: the known names.
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
