"""The classical classifiers by name: scikit-learn and XGBoost estimators on one vector per recording.

A recipe may name one as its model. Their libraries are imported when an estimator is made.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from serzoo.checks import COUNT, FLAG, NOT_NEGATIVE, POSITIVE, Allowed, check, list_of, one_of, real
from serzoo.errors import MissingExtraError, unknown_name
from serzoo.registry import Registry

CLASSICAL_SUFFIX = ".skops"
"""Suffix of the files of :mod:`serzoo.classical.model`."""

Splits = Sequence[tuple[np.ndarray, np.ndarray]]
"""Indices of training and held-out clips of each split; each clip is held out once."""

_CALIBRATION_TYPES = ("sklearn.calibration._CalibratedClassifier", "sklearn.calibration._SigmoidCalibration")


Setting = tuple[object, Allowed]
"""Default and allowed values of an argument."""


@dataclass(frozen=True)
class ClassicalEntry:
    """A classical classifier, described without importing its library.

    Args:
        target: module and class.
        summary: one line.
        settings: its arguments by name, without those of :data:`_OF_ALL`.
        fixed: arguments that users cannot change.
        by_margin: whether it returns a decision value per class, and probabilities only if calibrated.
        extra: the extra of serzoo that installs its library; empty for a core dependency.
        types: types in its saved files that skops does not trust by default.
    """

    target: str
    summary: str
    settings: Mapping[str, Setting]
    fixed: Mapping[str, object] = field(default_factory=dict)
    by_margin: bool = False
    extra: str = ""
    types: tuple[str, ...] = ()

    def load(self) -> type:
        """Import and return its class.

        Raises:
            MissingExtraError: its library is not installed.
        """
        module, _, name = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError:
            if not self.extra:
                raise
            raise MissingExtraError(f"{name} needs {self.extra}; run: pip install 'serzoo[{self.extra}]'") from None


def complete_arguments(name: str, arguments: Mapping[str, object] = MappingProxyType({})) -> dict[str, Any]:
    """Return all arguments of a classical classifier: the given ones, and defaults for the others.

    Raises:
        UnknownNameError: no such classifier or argument; the message names the nearest match.
        ConfigError: a value of the wrong type or out of range.
    """
    settings = {**CLASSICAL_CLASSIFIERS.get(name).settings, **_OF_ALL}
    for key, value in arguments.items():
        if key not in settings:
            raise unknown_name(f"argument of {name}", key, settings)
        check(f"{key} of {name}", value, settings[key][1])
    return {key: arguments.get(key, default) for key, (default, _) in settings.items()}


def make_estimator(name: str, arguments: Mapping[str, Any], seed: int = 0, splits: Splits | None = None) -> Any:
    """Return an untrained scikit-learn estimator: the classifier, with scaling and calibration if they are set.

    Args:
        name: name of the classifier.
        arguments: all its arguments (:func:`complete_arguments`).
        seed: seed of its random numbers, in ``0..2^32 - 1``.
        splits: splits of the training part, for the calibration.

    Raises:
        MissingExtraError: its library is not installed.
    """
    entry = CLASSICAL_CLASSIFIERS.get(name)
    own = {key: value for key, value in arguments.items() if key not in _OF_ALL}
    estimator = entry.load()(**own, **entry.fixed, random_state=seed)
    if arguments["scale"]:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        estimator = make_pipeline(StandardScaler(), estimator)
    if arguments["calibrate"]:
        from sklearn.calibration import CalibratedClassifierCV

        # ensemble=False: one classifier trained on the whole training part, its sigmoids fitted to out-of-fold outputs
        estimator = CalibratedClassifierCV(estimator, method="sigmoid", cv=splits, n_jobs=1, ensemble=False)
    return estimator


def trusted_types(name: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return the types that a saved classifier may contain in addition to those that skops trusts by default."""
    return [*CLASSICAL_CLASSIFIERS.get(name).types, *(_CALIBRATION_TYPES if arguments["calibrate"] else ())]


# Arguments ------------------------------------------------------------------------------------------------------------


_OF_ALL: Mapping[str, Setting] = {"scale": (False, FLAG), "calibrate": (False, FLAG)}
"""Arguments of every classical classifier: ``scale`` standardises each value of the vectors over the training part,
``calibrate`` fits Platt's sigmoids to out-of-fold predictions on unseen speakers."""

_SHARE = real(above=0, at_most=1)
_CLASS_WEIGHT = (None, one_of((None, "balanced")))


CLASSICAL_CLASSIFIERS: Registry[ClassicalEntry] = Registry("classical classifier")
CLASSICAL_CLASSIFIERS.register(
    "svc",
    ClassicalEntry(
        "sklearn.svm:SVC",
        "support vector machine with C 10 and gamma 0.001, as in the study of frozen representations",
        {
            "C": (10.0, POSITIVE),
            "gamma": (0.001, POSITIVE | one_of(("scale", "auto"))),
            "kernel": ("rbf", one_of(("rbf", "linear", "poly", "sigmoid"))),
            "class_weight": _CLASS_WEIGHT,
        },
        # Margins decide between classes of equal votes, so that the most probable class is the predicted one.
        fixed={"decision_function_shape": "ovr", "break_ties": True},
        by_margin=True,
    ),
)
CLASSICAL_CLASSIFIERS.register(
    "logistic_regression",
    ClassicalEntry(
        "sklearn.linear_model:LogisticRegression",
        "multinomial logistic regression, L2-regularised",
        {"C": (1.0, POSITIVE), "max_iter": (1000, COUNT), "class_weight": _CLASS_WEIGHT},
    ),
)
CLASSICAL_CLASSIFIERS.register(
    "mlp",
    ClassicalEntry(
        "sklearn.neural_network:MLPClassifier",
        "perceptron with one hidden layer of 100 units, trained by Adam",
        {
            "hidden_layer_sizes": ((100,), list_of(COUNT)),
            "alpha": (1e-4, NOT_NEGATIVE),
            "learning_rate_init": (1e-3, POSITIVE),
            "max_iter": (1000, COUNT),
        },
        types=("sklearn.neural_network._stochastic_optimizers.AdamOptimizer",),
    ),
)
CLASSICAL_CLASSIFIERS.register(
    "random_forest",
    ClassicalEntry(
        "sklearn.ensemble:RandomForestClassifier",
        "random forest of 100 trees",
        {
            "n_estimators": (100, COUNT),
            "max_depth": (None, COUNT | one_of((None,))),
            "min_samples_leaf": (1, COUNT),
            "class_weight": _CLASS_WEIGHT,
        },
        fixed={"n_jobs": 1},
        types=("sklearn.tree._tree.Tree",),
    ),
)
CLASSICAL_CLASSIFIERS.register(
    "xgboost",
    ClassicalEntry(
        "xgboost:XGBClassifier",
        "gradient-boosted trees; needs the extra xgboost",
        {
            "n_estimators": (100, COUNT),
            "max_depth": (6, COUNT),
            "learning_rate": (0.3, _SHARE),
            "subsample": (1.0, _SHARE),
            "colsample_bytree": (1.0, _SHARE),
            "reg_lambda": (1.0, NOT_NEGATIVE),
        },
        fixed={"n_jobs": 1, "verbosity": 0},
        extra="xgboost",
        types=("xgboost.core.Booster", "xgboost.sklearn.XGBClassifier"),
    ),
)
