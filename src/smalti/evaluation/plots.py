"""Graphs. The only file that knows matplotlib."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from smalti.draw.fonts import drawable, fonts_for
from smalti.labels import LabelSet
from smalti.metrics.difficulty import ErrorRanking

Rows = Sequence[Mapping[str, float]]
ATTENTION = ("coarse_right", "attention_mean", "attention_where_wrong", "attention_auc")
"""Columns that only the history of a network with attention has."""
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "text.parse_math": False,  # a class name may contain "$"
}


def plot_history(rows: Rows) -> bytes:
    """Loss, accuracy and learning rate for each epoch of a `history.csv`, as PNG."""
    with mpl.rc_context(STYLE):
        watched = {key: key.replace("_", " ") for key in ATTENTION if any(key in row for row in rows)}
        figure = Figure(figsize=(14.0 if watched else 10.5, 3.2), layout="constrained")
        loss, accuracy, rate, *more = figure.subplots(1, 4 if watched else 3)
        _draw(loss, rows, {"train_loss": "training", "validation_loss": "validation"}, "Loss")
        columns = {"pixel_accuracy": "pixel accuracy", "miou": "mIoU", "box_map50": "box mAP"}
        measured = {k: v for k, v in columns.items() if any(not math.isnan(row.get(k, math.nan)) for row in rows)}
        _draw(accuracy, rows, measured, "Validation accuracy")
        accuracy.set_ylim(0, 1)
        _draw(rate, rows, {"learning_rate": "learning rate"}, "Learning rate")
        rate.set_ylim(bottom=0)
        for axes in more:
            _draw(axes, rows, watched, "Attention, training pictures")
            axes.set_ylim(0, 1)
        return _png(figure)


def _style(texts: Sequence[str]) -> dict[Any, Any]:
    """`STYLE`, with fonts for whatever the texts have beyond ASCII; texts must be `drawable`."""
    if all(text.isascii() for text in texts):
        return STYLE
    known = {entry.fname for entry in fontManager.ttflist}
    families = [*mpl.rcParams["font.family"]]
    for path in map(str, fonts_for(*texts)):
        if path not in known:
            fontManager.addfont(path)
        families.append(FontProperties(fname=path).get_name())
    return {**STYLE, "font.family": families}


def _draw(axes: Axes, rows: Rows, columns: Mapping[str, str], title: str) -> None:
    for column, name in columns.items():
        points = [(r["epoch"], r[column]) for r in rows if not math.isnan(r.get(column, math.nan))]
        last = f" (last {points[-1][1]:.3g})" if points else " (not measured)"
        axes.plot([p[0] for p in points], [p[1] for p in points], marker="o", markersize=3, label=name + last)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.set_xlim(0.5, max((r["epoch"] for r in rows), default=1) + 0.5)  # a single epoch has no range of its own
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if columns:
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, "not measured yet", transform=axes.transAxes, ha="center", color="grey")


def plot_confusion(counts: Tensor, labels: LabelSet) -> bytes:
    """What each true class (row) was taken for, in percent of its pixels, as PNG."""
    shown = counts[:, :-1].numpy() if not counts[:, -1].any() else counts.numpy()
    rows = [drawable(name) for name in labels.names]
    names = [*rows, "no answer"][: shown.shape[1]]
    share = 100 * shown / np.maximum(counts.numpy().sum(1, keepdims=True), 1)
    with mpl.rc_context({**_style(rows), "axes.grid": False}):
        side = max(4.0, 0.45 * len(labels) + 1.8)
        figure = Figure(figsize=(side + 0.6, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), rows)
        axes.set_xlabel("answer")
        axes.set_ylabel("truth")
        axes.set_title("Share of each true class, %")
        if len(labels) <= 25:
            for (row, column), value in np.ndenumerate(share):
                if value >= 0.5:
                    color = "white" if value > 55 else "black"
                    axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=color)
        return _png(figure)


def plot_risk_coverage(rankings: Mapping[str, ErrorRanking]) -> bytes:
    """Accuracy of the pixels that are kept when those with the highest scores are left out, as PNG.

    The dashed line is what leaving out the wrong pixels first would give.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        lowest = 1.0
        for name, ranking in rankings.items():
            coverage, accuracy = ranking.curve()
            axes.plot([100 * c for c in coverage], [100 * a for a in accuracy], label=f"without the {name}")
            lowest = min(lowest, *(a for c, a in zip(coverage, accuracy, strict=True) if c > 0.02), accuracy[-1])
        whole = accuracy[-1]
        kept = np.linspace(0.02, 1, 99)
        axes.plot(100 * kept, 100 * np.minimum(1, whole / kept), "k--", linewidth=0.8, label="a perfect order")
        axes.axhline(100 * whole, color="grey", linewidth=0.8, label=f"all pixels: {100 * whole:.1f} %")
        axes.set_ylim(100 * lowest - 1, 100.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel("pixels kept, %")
        axes.set_ylabel("right among them, %")
        axes.set_title("Leaving out the doubtful pixels")
        axes.legend(frameon=False, loc="lower left")
        return _png(figure)


def plot_trimap(miou: Mapping[int, float], whole: float | None) -> bytes:
    """MIoU of the pixels near a border of the truth, by how near (in pixels), as PNG; `whole` = of all pixels."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(list(miou), list(miou.values()), marker="o", markersize=4, label="pixels near a border")
        for width, value in miou.items():
            axes.annotate(f"{value:.3f}", (width, value), (0, 6), textcoords="offset points", ha="center", fontsize=7)
        if whole is not None:
            axes.axhline(whole, color="grey", linewidth=0.8, label=f"all pixels: {whole:.3f}")
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(list(miou), [str(width) for width in miou])
        axes.set_ylim(0, 1)
        axes.set_xlabel("within so many pixels of a border")
        axes.set_ylabel("mIoU")
        axes.set_title("Near the borders")
        axes.legend(frameon=False, loc="lower right")
        return _png(figure)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One row of a comparison: mean and spread of its difference to the baseline, and the paper's; NaN = unknown."""

    name: str
    mean: float
    spread: float = math.nan
    reported: float = math.nan


def plot_differences(panels: Mapping[str, Sequence[Difference]]) -> bytes:
    """For each panel (a metric) the rows' differences to the baseline, with the spread over seeds, as PNG."""
    rows = max(len(panel) for panel in panels.values())
    titles = [drawable(title) for title in panels]
    names = [drawable(row.name) for row in next(iter(panels.values()))]
    with mpl.rc_context(_style([*titles, *names])):
        figure = Figure(figsize=(4.2 * len(panels) + 2.2, 0.3 * rows + 1.3), layout="constrained")
        for number, (title, panel) in enumerate(zip(titles, panels.values(), strict=True)):
            axes = figure.add_subplot(1, len(panels), number + 1)
            places = np.arange(len(panel))[::-1]
            spreads = [0.0 if math.isnan(row.spread) else row.spread for row in panel]
            axes.errorbar(
                [row.mean for row in panel], places, xerr=spreads, fmt="o", markersize=5, capsize=3, label="ours"
            )
            if not all(math.isnan(row.reported) for row in panel):
                axes.plot(
                    [row.reported for row in panel], places, "D", markersize=5, markerfacecolor="none", label="paper"
                )
            axes.axvline(0, color="black", linewidth=0.8)
            axes.set_yticks(places, names if number == 0 else [""] * len(panel))
            axes.set_title(title)
            axes.set_xlabel("difference to the baseline, points")
            axes.legend(frameon=False, loc="best")
        return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white")
    return buffer.getvalue()
