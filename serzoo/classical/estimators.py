"""Simple classifiers: what scikit-learn and XGBoost offer, on one vector per recording.

They stand beside the networks: a recipe may name one as its model. This module knows their names and arguments and
makes them; :mod:`serzoo.classical.model` trains, saves and loads them. The libraries are imported when one is made.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from serzoo.checks import COUNT, FLAG, NOT_NEGATIVE, POSITIVE, Allowed, ListOf, Number, OneOf, check
from serzoo.errors import MissingExtraError, unknown_name
from serzoo.registry import Registry

CLASSICAL_SUFFIX = ".skops"
"""Ending of the files of simple classifiers, which :mod:`serzoo.classical.model` reads."""

Splits = Sequence[tuple[np.ndarray, np.ndarray]]
"""Positions (training part, held-out part), the held-out parts covering everything once."""

_CALIBRATION_TYPES = ("sklearn.calibration._CalibratedClassifier", "sklearn.calibration._SigmoidCalibration")


@dataclass(frozen=True)
class Setting:
    """An argument of a simple classifier.

    Args:
        default: what it is unless a recipe says otherwise.
        allowed: the values that it may have.
    """

    default: object
    allowed: Allowed


@dataclass(frozen=True)
class ClassicalEntry:
    """What is known of a simple classifier before its library is imported.

    Args:
        target: module and class.
        summary: one line.
        settings: its arguments by name, those of every simple classifier left out.
        fixed: arguments that are not a user's to choose.
        by_margin: it tells how far a vector is on the side of each class, and no probabilities unless calibrated.
        extra: the extra of serzoo that its library comes with; empty for the core.
        types: what a saved one holds beyond what skops trusts by itself.
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
            raise MissingExtraError(
                f"{name} needs {self.extra}, which is not installed; run: pip install 'serzoo[{self.extra}]'"
            ) from None


def complete_arguments(name: str, arguments: Mapping[str, object] = MappingProxyType({})) -> dict[str, Any]:
    """Return all arguments of a simple classifier, the given ones and the defaults of the others.

    Args:
        name: of the classifier.
        arguments: some of its arguments, by name.

    Raises:
        UnknownNameError: no such classifier or argument, with the nearest match.
        ConfigError: a value of the wrong type or out of range.
    """
    settings = {**CLASSICAL_CLASSIFIERS.get(name).settings, **_OF_ALL}
    for key, value in arguments.items():
        if key not in settings:
            raise unknown_name(f"argument of {name}", key, settings)
        check(f"{key} of {name}", value, settings[key].allowed)
    return {key: arguments.get(key, setting.default) for key, setting in settings.items()}


def make_estimator(name: str, arguments: Mapping[str, Any], seed: int = 0, splits: Splits | None = None) -> Any:
    """Return an untrained scikit-learn estimator: the classifier, behind a scaler and in a calibration if asked for.

    Args:
        name: of the classifier.
        arguments: all of them, as :func:`complete_arguments` returns them.
        seed: of whatever it draws, in ``0..2^32 - 1``.
        splits: of the training part, for the calibration.

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

        # the classifier hears the whole training part; it is calibrated on answers of others, each trained on a split
        estimator = CalibratedClassifierCV(estimator, method="sigmoid", cv=splits, n_jobs=1, ensemble=False)
    return estimator


def class_probabilities(name: str, arguments: Mapping[str, Any], estimator: Any, vectors: np.ndarray) -> np.ndarray:
    """Return what a trained estimator says of vectors, (N, n_classes) float64, each row with a sum of 1.

    Those of an SVC that is not calibrated are the softmax of its one-versus-rest decision values. They rank the classes
    as ``SVC.predict`` does, the largest one its answer, but they are not calibrated: 0.6 does not mean right in 6 of 10
    cases, and with many classes all of them are flat.

    Args:
        name: of the classifier.
        arguments: all of them, as :func:`complete_arguments` returns them.
        estimator: trained, of :func:`make_estimator`.
        vectors: one per recording, (N, width).
    """
    from scipy.special import softmax

    if arguments["calibrate"] or not CLASSICAL_CLASSIFIERS.get(name).by_margin:
        return np.asarray(estimator.predict_proba(vectors), np.float64)
    margins = np.asarray(estimator.decision_function(vectors), np.float64)
    if margins.ndim == 1:  # of two classes scikit-learn gives the second one's margin alone
        margins = np.stack([np.zeros_like(margins), margins], axis=1)
    return softmax(margins, axis=1)


def trusted_types(name: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return the types that a saved classifier may hold beyond those that skops trusts by itself."""
    return [*CLASSICAL_CLASSIFIERS.get(name).types, *(_CALIBRATION_TYPES if arguments["calibrate"] else ())]


# Arguments ------------------------------------------------------------------------------------------------------------


_OF_ALL: Mapping[str, Setting] = {"scale": Setting(False, FLAG), "calibrate": Setting(False, FLAG)}
"""Arguments of every simple classifier: ``scale`` brings each value of the vectors to zero mean and unit variance over
the training part, ``calibrate`` fits Platt's sigmoids to answers about speakers whom whoever answers had not heard."""

_SHARE = Number(above=0, at_most=1)
_CLASS_WEIGHT = Setting(None, OneOf((None, "balanced")))


CLASSICAL_CLASSIFIERS: Registry[ClassicalEntry] = Registry("simple classifier")
CLASSICAL_CLASSIFIERS.register(
    "svc",
    ClassicalEntry(
        "sklearn.svm:SVC",
        "support vector machine with C 10 and gamma 0.001, as in the study of frozen representations",
        {
            "C": Setting(10.0, POSITIVE),
            "gamma": Setting(0.001, POSITIVE | OneOf(("scale", "auto"))),
            "kernel": Setting("rbf", OneOf(("rbf", "linear", "poly", "sigmoid"))),
            "class_weight": _CLASS_WEIGHT,
        },
        # votes that are equal are decided by the margins, so that the probabilities' largest is the answer
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
            "hidden_layer_sizes": Setting((100,), ListOf(COUNT)),
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
            "max_depth": Setting(None, COUNT | OneOf((None,))),
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
