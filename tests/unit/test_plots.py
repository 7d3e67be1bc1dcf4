"""Pictures that are drawn of odd data."""

import matplotlib.image
import numpy as np
import pytest

from serzoo import plots
from serzoo.plots import plot_embedding, plot_history
from serzoo.training.fit import History


@pytest.mark.parametrize("width", [1, 2, 5])
def test_representations_of_any_width_are_drawn(tmp_path, width):
    values = np.random.default_rng(0).normal(size=(12, width)).astype("float32")
    plot_embedding(values, np.arange(12) % 2, ("a", "b"), tmp_path / "tsne.png")
    assert np.ptp(matplotlib.image.imread(tmp_path / "tsne.png")) > 0.5


@pytest.mark.parametrize("n_epochs", [1, 2])
def test_a_curve_of_one_epoch_can_be_seen(tmp_path, n_epochs):
    plot_history(History(({"loss": 1.0, "war": 0.5},) * n_epochs, selected_epoch=1), tmp_path / "curves.png")
    picture = matplotlib.image.imread(tmp_path / "curves.png")[:, :, :3]
    blue = np.abs(picture - np.array([31, 119, 180]) / 255).max(axis=-1) < 0.05
    in_axes = blue[: int(0.75 * len(blue))]  # below are the legends
    assert in_axes.sum() > 40


@pytest.mark.parametrize("n_epochs", [1, 2, 30])
def test_epochs_are_counted_in_whole_numbers(tmp_path, monkeypatch, n_epochs):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    plot_history(History(({"loss": 1.0, "war": 0.5},) * n_epochs, selected_epoch=1), tmp_path / "curves.png")
    for axes in figures[0].axes:
        ticks = axes.get_xticks()
        assert len(ticks) >= 1
        assert np.all(ticks == np.round(ticks))


def test_of_few_clips_no_picture_is_made(tmp_path):
    plot_embedding(np.ones((4, 2), "float32"), np.arange(4) % 2, ("a", "b"), tmp_path / "tsne.png")
    assert not list(tmp_path.iterdir())
