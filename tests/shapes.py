"""Networks of full size for tests of their shapes."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def weights_without_values() -> Iterator[None]:
    """Build models in this block whose weights have shapes alone; the values of a VGG16 would take 660 MB."""
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        keras.utils.clear_session()  # forgets the weights that wait for their values
