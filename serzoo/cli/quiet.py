"""Starting TensorFlow without the notes its native code prints."""

import importlib.util
import os
import sys


def import_tensorflow_quietly() -> None:
    """Import TensorFlow and find its devices with stderr closed, and let it log errors only from then on.

    Where TensorFlow is not installed nothing happens, since Keras may run on JAX. Errors of the import itself raise.

    Call it before anything that imports Keras, which imports TensorFlow too.
    """
    if importlib.util.find_spec("tensorflow") is None:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept, silent = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silent, 2)
        import tensorflow

        tensorflow.config.list_physical_devices()  # looks for a GPU, and says so where there is none
        tensorflow.get_logger().setLevel("ERROR")
    finally:
        os.dup2(kept, 2)
        os.close(silent)
        os.close(kept)
