"""Temperature scaling, which makes probabilities as sure as they are right."""

from __future__ import annotations

from typing import Any

from keras import ops

FLOOR = 5e-7
"""Probabilities below this count as this: temperatures are fitted on predictions that are written with six digits."""


def at_temperature(probabilities: Any, temperature: float) -> Any:
    """Return the softmax of the probabilities' logarithms over a temperature (Guo et al., ICML 2017, section 4.2).

    The logarithms are the network's logits up to a constant, which the softmax does not see. The order of the classes
    stays. The network's own certainty is at temperature 1, less of it above and more below.

    Args:
        probabilities: (..., n_classes), each row with a sum of 1, array or tensor.
        temperature: above 0.

    Returns:
        A tensor (..., n_classes).
    """
    return ops.softmax(ops.log(ops.maximum(probabilities, FLOOR)) / temperature, axis=-1)
