"""A front of benefit against burden as a picture: what each regimen brings, and what it is."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...fitting.regimen import schedule_field
from ...optimisation.pareto import Front, FrontPoint
from .plots import FAINT, INK, save_figure

COLOUR, LARGEST = "#009E73", 15.0  # of a dot, in points, for the largest amount


def plot_front(front: Front, path: Path, title: str = "") -> None:
    """VTA output against burden, and beside it the doses of every regimen on the front.

    Raises:
        ValueError: a front without a point.
    """
    if not front.points:
        raise ValueError(f"the front has no points to draw: {front.reason}")
    figure = Figure(figsize=(12.5, 5.4))
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1, 2, width_ratios=(1, 1.25), wspace=0.13, left=0.07, right=0.975, top=0.83, bottom=0.12)
    _plot_benefit(figure.add_subplot(grid[0]), front)
    _plot_regimens(figure.add_subplot(grid[1]), front)
    figure.text(0.07, 0.925, title or "What more treatment is worth", size=15, weight="bold", color=INK)
    save_figure(figure, path)


def _plot_benefit(axes: Axes, front: Front) -> None:
    """Output, as a share of the target, over the burden; what was found and is dominated in grey."""
    burden = 100 * np.array([point.burden for point in front.points])
    output = np.array([point.output for point in front.points]) / front.target
    axes.axhline(1, color=INK, linewidth=1.2)
    axes.annotate("target", (1, 1), (0, 4), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right")
    axes.plot(np.append(0, burden), np.append(front.untreated / front.target, output), color=COLOUR, linewidth=1.4)
    axes.plot(burden, output, "o", color=COLOUR, ms=8, mec="white", mew=0.8)
    axes.plot(0, front.untreated / front.target, "o", color="white", mec=FAINT, mew=1.6, ms=8, clip_on=False)
    axes.annotate("untreated", (0, front.untreated / front.target), (10, -3), textcoords="offset points", color=FAINT)
    if front.dominated:
        _, more, less = np.array(front.dominated).T
        axes.plot(100 * more, less / front.target, "x", color=FAINT, ms=6, zorder=0)
        words = "x  found, but another brings as much with less"
        axes.text(1, 0.03, words, transform=axes.transAxes, ha="right", color=FAINT, size=9)
    axes.set_xlim(0, max(1.06 * burden.max(), 1))
    axes.set_xlabel("burden: doses as % of their bounds")
    axes.set_title("VTA output, target = 1", loc="left", size=12, weight="bold", color=INK)
    axes.spines[["top", "right"]].set_visible(False)


def _plot_regimens(axes: Axes, front: Front) -> None:
    """A row for each regimen, the least burden below; the area of a dot is the amount."""
    rows = [_dose_times_and_amounts(point) for point in front.points]
    largest = max(float(amount.max()) for _, amount in rows) or 1.0
    for row, (day, amount) in enumerate(rows):
        axes.plot([0, 1], [row, row], color="#E6E6E6", linewidth=0.8, zorder=0, transform=axes.get_yaxis_transform())
        axes.scatter(
            day, np.full(len(day), row), (LARGEST**2) * amount / largest, color=COLOUR, linewidths=0, alpha=0.85
        )
    axes.set_yticks(range(len(rows)), [f"{100 * point.burden:.0f} %" for point in front.points])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlim(left=-0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("day")
    words = f"Regimens by burden: doses as dots, the largest {largest:.2g}"
    axes.set_title(words, loc="left", size=12, weight="bold", color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _dose_times_and_amounts(point: FrontPoint) -> tuple[np.ndarray, np.ndarray]:
    """Days and amounts of the doses of the arm's first intervention that has days of doses."""
    for intervention in point.arm:
        clock = schedule_field(intervention)
        if clock is not None:
            day = np.asarray(getattr(intervention, clock), float)
            amount = np.asarray(getattr(intervention, type(intervention).strength), float)
            return day, np.broadcast_to(amount, day.shape)
    return np.zeros(1), np.array([point.burden])
