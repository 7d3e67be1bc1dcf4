"""The command line: ``serzoo --help``."""

from __future__ import annotations

import sys
import warnings

from serzoo.errors import SerzooError, SerzooWarning

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line; a user's mistake prints one line on stderr and exits with code 2."""
    warnings.showwarning = _show_warning
    warnings.simplefilter("always", SerzooWarning)
    from serzoo.cli.app import app

    try:
        app()
    except SerzooError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:  # a full disk, a folder without permission
        print(f"error: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except SystemExit as stop:
        if stop.code == EXIT_INTERRUPTED:  # typer's exit code after Ctrl-C
            print("interrupted; the same command continues a training where it stopped", file=sys.stderr)
        raise


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Print serzoo's own warnings as one line, and none of other packages."""
    if issubclass(category, SerzooWarning):
        print(f"warning: {message}", file=sys.stderr)
