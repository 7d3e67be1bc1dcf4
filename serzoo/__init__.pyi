from . import data as data
from .classifier import Classifier as Classifier
from .errors import SerzooError as SerzooError
from .experiments.cross_validate import cross_validate as cross_validate
from .exporters import export as export
from .features.spec import LogMelSpec as LogMelSpec
from .features.spec import MFCCSpec as MFCCSpec
from .recipes import Recipe as Recipe
from .recipes import load_recipe as load_recipe
from .settings import TrainingConfig as TrainingConfig
from .training.evaluate import evaluate as evaluate
from .training.fit import fit as fit
from .weights.store import list_pretrained as list_pretrained
from .zoo import build as build
from .zoo import describe as describe
from .zoo import list_models as list_models
from .zoo import load as load

__version__: str
