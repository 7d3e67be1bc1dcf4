"""Importing TensorFlow without the notes its native code prints at start."""

import os
import sys


def import_tensorflow_quietly() -> None:
    """Import TensorFlow with the process's stderr closed; errors of the import itself still raise."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept, silent = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silent, 2)
        import tensorflow  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(silent)
        os.close(kept)
