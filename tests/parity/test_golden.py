"""The published models' numbers: what their programs compute from given weights, and how many weights there are."""

from pathlib import Path

import numpy as np
import pytest

from serzoo.models.tbdm import TBDMNet
from serzoo.models.timnet import TIMNet
from serzoo.weights.convert import published_network

pytestmark = pytest.mark.jax

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-5


@pytest.mark.parametrize("name", ["tim_net_d8", "tim_net_d10"])
def test_timnet_reproduces_the_published_program(name):
    model = published_network("timnet", GOLDEN / f"{name}.hdf5")
    with np.load(GOLDEN / f"{name}.npz") as golden:
        probabilities = model.predict(golden["x"], verbose=0)
        embedding = model.embedding_model().predict(golden["x"], verbose=0)
        np.testing.assert_allclose(probabilities, golden["probabilities"], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(embedding, golden["embedding"], rtol=0, atol=TOLERANCE)


def test_tbdm_reproduces_the_published_program():
    model = published_network("tbdm", GOLDEN / "tbdm_net_f8.npz", classifier_activation=None)
    with np.load(GOLDEN / "tbdm_net_f8.npz") as golden:
        logits = model.predict(golden["x"], verbose=0)
        np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("n_blocks", "n_classes", "count"), [(8, 8, 107_032), (10, 4, 132_770)])
def test_timnet_parameter_count(n_blocks, n_classes, count):
    """The published counts hold the moving statistics of the batch normalisations."""
    assert TIMNet(n_classes=n_classes, n_blocks=n_blocks).count_params() == count


def test_tbdm_parameter_count():
    """The published count is of trained weights, without moving statistics (20,124 numbers)."""
    model = TBDMNet(n_classes=8)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 16_821_416
    assert model.count_params() == 16_841_540
