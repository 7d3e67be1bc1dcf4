"""Pictures that are drawn of odd data."""

import matplotlib.image
import numpy as np
import pytest

from serzoo.report.plots import plot_embedding


@pytest.mark.parametrize("width", [1, 2, 5])
def test_representations_of_any_width_are_drawn(tmp_path, width):
    values = np.random.default_rng(0).normal(size=(12, width)).astype("float32")
    plot_embedding(values, np.arange(12) % 2, ("a", "b"), tmp_path / "tsne.png")
    assert np.ptp(matplotlib.image.imread(tmp_path / "tsne.png")) > 0.5


def test_of_few_clips_no_picture_is_made(tmp_path):
    plot_embedding(np.ones((4, 2), "float32"), np.arange(4) % 2, ("a", "b"), tmp_path / "tsne.png")
    assert not list(tmp_path.iterdir())
