"""Pictures of a result: learning curves, confusion matrix, t-SNE of the fused representation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serzoo.files import write_whole
from serzoo.metrics import Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from serzoo.training.fit import History

_MARKERS = "osD^vP*Xdph"

_RUNNING = {"loss": "training, with dropout", "war": "training WAR, with dropout"}
"""Columns that Keras averages over the training batches of an epoch; the others are computed after it."""


def plot_history(history: History, path: Path) -> None:
    """Draw the loss with its terms, and all scores, over the epochs; a line marks the kept epoch."""
    epochs = np.arange(1, len(history.records) + 1)
    marker = "o" if len(epochs) == 1 else None  # one point makes no visible line
    figure = _figure(9, 3.5)
    loss, score = figure.subplots(1, 2)
    for name in history.records[-1]:
        label = _RUNNING.get(name, name.replace("_", " ").replace("uar", "UAR").replace("war", "WAR"))
        axes = score if name.endswith(("uar", "war")) else loss
        axes.plot(epochs, history.column(name), label=label, marker=marker)
    for axes, title in ((loss, "Loss"), (score, "Score")):
        axes.axvline(history.selected_epoch, color="grey", linestyle=":", label="kept epoch")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)  # below, so that it hides no curve
    score.set_ylim(0, 1.02)
    _save(figure, path)


def plot_confusion(scores: Scores, path: Path, title: str = "") -> None:
    """Draw the confusion matrix in percent of each true class; the diagonal has the recalls."""
    counts = np.asarray(scores.confusion)
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.4 + 0.65 * len(scores.class_names)
    figure = _figure(size, size)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(*share.shape):
        colour = "white" if share[row, column] > 50 else "black"
        axes.text(column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=colour)
    ticks = np.arange(len(scores.class_names))
    axes.set_xticks(ticks, scores.class_names, rotation=45, ha="right")
    axes.set_yticks(ticks, scores.class_names)
    axes.set(xlabel="predicted", ylabel="true")
    figure.suptitle(f"{title}\n{scores}, cells in % of the true class".lstrip(), fontsize=9)
    _save(figure, path)


def plot_embedding(embedding: np.ndarray, targets: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draw the t-SNE of representations (N, width), coloured by class, as in TIM-Net's figure 3.

    With fewer than five clips there are no neighbourhoods to show, and no picture is made.
    """
    from sklearn.manifold import TSNE

    if len(embedding) < 5:
        return
    perplexity = min(30.0, (len(embedding) - 1) / 3)
    start: Any = "pca" if embedding.shape[1] > 1 else "random"  # one value has no second component to start from
    points = TSNE(perplexity=perplexity, init=start, random_state=0).fit_transform(embedding)
    figure = _figure(6, 5)
    axes = figure.subplots()
    for index, name in enumerate(class_names):
        chosen = points[targets == index]
        marker = _MARKERS[index % len(_MARKERS)]  # classes differ in more than colour
        axes.scatter(chosen[:, 0], chosen[:, 1], s=22, label=name, color=f"C{index % 10}", marker=marker)
    axes.set(xticks=[], yticks=[], title=f"t-SNE of the fused representation, {len(embedding)} test clips")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    """Return a figure that needs no display and leaves pyplot's state alone."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_whole(path, buffer.getvalue())
