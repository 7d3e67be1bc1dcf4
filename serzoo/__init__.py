"""serzoo: a Keras model zoo for speech emotion recognition.

The public names are listed in ``__init__.pyi`` and imported when they are first used, so that ``import serzoo`` loads
neither TensorFlow nor Keras.
"""

import lazy_loader

from serzoo.keras_names import find_on_demand

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

find_on_demand()
