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


@dataclass(frozen=True)
class Setting:
    """Default and allowed values of an argument of a classical classifier."""

    default: object
    allowed: Allowed


@dataclass(frozen=True)
class ClassicalEntry:
    """A classical classifier, described without importing its library.

    Args:
        target: module and class.
        summary: one line.
        settings: its arguments by name, without those common to all.
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

    Args:
        name: name of the classifier.
        arguments: some of its arguments.

    Raises:
        UnknownNameError: no such classifier or argument; the message names the nearest match.
        ConfigError: a value of the wrong type or out of range.
    """
    settings = {**CLASSICAL_CLASSIFIERS.get(name).settings, **_OF_ALL}
    for key, value in arguments.items():
        if key not in settings:
            raise unknown_name(f"argument of {name}", key, settings)
        check(f"{key} of {name}", value, settings[key].allowed)
    return {key: arguments.get(key, setting.default) for key, setting in settings.items()}


def make_estimator(name: str, arguments: Mapping[str, Any], seed: int = 0, splits: Splits | None = None) -> Any:
    """Return an untrained scikit-learn estimator: the classifier, with scaling and calibration if they are set.

    Args:
        name: name of the classifier.
        arguments: all its arguments, as :func:`complete_arguments` returns them.
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


def class_probabilities(name: str, arguments: Mapping[str, Any], estimator: Any, vectors: np.ndarray) -> np.ndarray:
    """Return the class probabilities of vectors, (N, n_classes) float64, each row with a sum of 1.

    For an SVC without calibration they are the softmax of its one-versus-rest decision values. They rank the classes as
    ``SVC.predict`` does, but are no calibrated probabilities: of predictions with 0.6, not 60 % need be correct, and
    with many classes all values are close together.

    Args:
        name: name of the classifier.
        arguments: all its arguments, as :func:`complete_arguments` returns them.
        estimator: a trained estimator of :func:`make_estimator`.
        vectors: one per recording, (N, width).
    """
    from scipy.special import softmax

    if arguments["calibrate"] or not CLASSICAL_CLASSIFIERS.get(name).by_margin:
        return np.asarray(estimator.predict_proba(vectors), np.float64)
    margins = np.asarray(estimator.decision_function(vectors), np.float64)
    if margins.ndim == 1:  # for two classes scikit-learn returns the margin of the second only
        margins = np.stack([np.zeros_like(margins), margins], axis=1)
    return softmax(margins, axis=1)


def trusted_types(name: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return the types that a saved classifier may contain in addition to those that skops trusts by default."""
    return [*CLASSICAL_CLASSIFIERS.get(name).types, *(_CALIBRATION_TYPES if arguments["calibrate"] else ())]


# Arguments ------------------------------------------------------------------------------------------------------------


_OF_ALL: Mapping[str, Setting] = {"scale": Setting(False, FLAG), "calibrate": Setting(False, FLAG)}
"""Arguments of every classical classifier: ``scale`` standardises each value of the vectors over the training part,
``calibrate`` fits Platt's sigmoids to out-of-fold predictions on unseen speakers."""

_SHARE = real(above=0, at_most=1)
_CLASS_WEIGHT = Setting(None, one_of((None, "balanced")))


CLASSICAL_CLASSIFIERS: Registry[ClassicalEntry] = Registry("classical classifier")
CLASSICAL_CLASSIFIERS.register(
    "svc",
    ClassicalEntry(
        "sklearn.svm:SVC",
        "support vector machine with C 10 and gamma 0.001, as in the study of frozen representations",
        {
            "C": Setting(10.0, POSITIVE),
            "gamma": Setting(0.001, POSITIVE | one_of(("scale", "auto"))),
            "kernel": Setting("rbf", one_of(("rbf", "linear", "poly", "sigmoid"))),
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
        {"C": Setting(1.0, POSITIVE), "max_iter": Setting(1000, COUNT), "class_weight": _CLASS_WEIGHT},
    ),
)
CLASSICAL_CLASSIFIERS.register(
    "mlp",
    ClassicalEntry(
        "sklearn.neural_network:MLPClassifier",
        "perceptron with one hidden layer of 100 units, trained by Adam",
        {
            "hidden_layer_sizes": Setting((100,), list_of(COUNT)),
            "alpha": Setting(1e-4, NOT_NEGATIVE),
            "learning_rate_init": Setting(1e-3, POSITIVE),
            "max_iter": Setting(1000, COUNT),
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
            "n_estimators": Setting(100, COUNT),
            "max_depth": Setting(None, COUNT | one_of((None,))),
            "min_samples_leaf": Setting(1, COUNT),
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
            "n_estimators": Setting(100, COUNT),
            "max_depth": Setting(6, COUNT),
            "learning_rate": Setting(0.3, _SHARE),
            "subsample": Setting(1.0, _SHARE),
            "colsample_bytree": Setting(1.0, _SHARE),
            "reg_lambda": Setting(1.0, NOT_NEGATIVE),
        },
        fixed={"n_jobs": 1, "verbosity": 0},
        extra="xgboost",
        types=("xgboost.core.Booster", "xgboost.sklearn.XGBClassifier"),
    ),
)
