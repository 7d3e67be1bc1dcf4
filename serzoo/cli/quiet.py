"""Start TensorFlow without the notes of its native code."""

import importlib.util
import os

from serzoo.experiments.processes import stderr_closed


def import_tensorflow_quietly() -> None:
    """Import TensorFlow and find its devices with stderr closed; from then on it logs errors only.

    Call it before the first import of Keras, because Keras imports TensorFlow. Without TensorFlow, for Keras on JAX,
    nothing happens. Errors of the import are raised.
    """
    if importlib.util.find_spec("tensorflow") is None:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with stderr_closed():
        import tensorflow

        tensorflow.config.list_physical_devices()  # prints a note where there is no GPU
        tensorflow.get_logger().setLevel("ERROR")
