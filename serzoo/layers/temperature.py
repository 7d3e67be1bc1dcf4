"""Temperature scaling, so that a prediction's probability matches its accuracy."""

from __future__ import annotations

from typing import Any

from keras import ops

FLOOR = 5e-7
"""Lower bound of a probability: temperatures are fitted on predictions written with six digits."""


def at_temperature(probabilities: Any, temperature: float) -> Any:
    """Return the softmax of the probabilities' logarithms over a temperature (Guo et al., ICML 2017, section 4.2).

    The logarithms are the network's logits up to a constant that cancels in the softmax. The order of the classes does
    not change. Temperature 1 keeps the probabilities, higher ones flatten them, lower ones sharpen them.

    Args:
        probabilities: (..., n_classes), each row with a sum of 1, array or tensor.
        temperature: above 0.

    Returns:
        A tensor (..., n_classes).
    """
    return ops.softmax(ops.log(ops.maximum(probabilities, FLOOR)) / temperature, axis=-1)
