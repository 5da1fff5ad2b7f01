"""The figure of `habenula fit`: acceptance observed and predicted, and the preferences of every subject."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..commands.fit_choices import PREFERENCE_UNITS, ChoiceReport
from . import plots

LEVEL_COLOURS = ("#0072B2", "#009E73", "#E69F00", "#D55E00", "#8F3A73", "#222222")
HISTOGRAM_BINS = 30
LABEL_DISTANCE = 0.045  # share accepted, between names of lines


def plot_choices_fit(found: ChoiceReport, path: Path) -> None:
    """Acceptance by reward, a line for each effort, and how each preference is spread over subjects."""
    names = list(found.fit.shrunk)
    page = Figure(figsize=(12.0, 5.6))
    FigureCanvasAgg(page)
    grid = page.add_gridspec(
        len(names), 2, width_ratios=(1.5, 1), left=0.07, right=0.97, top=0.84, bottom=0.11, hspace=0.75
    )
    _plot_acceptance(page.add_subplot(grid[:, 0]), found)
    for row, name in enumerate(names):
        _plot_preference(page.add_subplot(grid[row, 1]), found, name)
    words = f"{len(found.choices)} subjects, {found.choices.trials} choices"
    page.text(0.03, 0.94, f"Effort for reward: {words}", size=15, weight="bold")
    plots.save_figure(page, path)


def _plot_acceptance(axes: Axes, found: ChoiceReport) -> None:
    """Observed shares with two standard errors as dots, predicted ones as lines."""
    efforts = sorted({cell.effort for cell in found.cells})
    lines = [[cell for cell in found.cells if cell.effort == effort] for effort in efforts]
    places = plots.spread_labels([cells[-1].predicted for cells in lines], LABEL_DISTANCE)
    for i, (effort, cells) in enumerate(zip(efforts, lines, strict=True)):
        colour = LEVEL_COLOURS[i % len(LEVEL_COLOURS)]
        reward, observed, predicted, offers = (
            np.array([getattr(cell, name) for cell in cells]) for name in ("reward", "observed", "predicted", "offers")
        )
        error = 2 * np.sqrt(observed * (1 - observed) / offers)
        axes.errorbar(reward, observed, error, fmt="o", color=colour, ms=6, elinewidth=1)
        axes.plot(reward, predicted, color=colour, linewidth=1.8)
        axes.annotate(
            f"effort {effort:g}", (reward[-1], places[i]), (9, 0), textcoords="offset points", color=colour, va="center"
        )
    if efforts:
        axes.set_xticks(sorted({cell.reward for cell in found.cells}))
    else:
        axes.text(0.5, 0.5, "too many different offers to show", transform=axes.transAxes, ha="center")
    axes.margins(x=0.13)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("reward, level")
    axes.set_ylabel("share accepted")
    kind = "first trial of each staircase" if found.choices.first.any() else "all trials"
    axes.set_title(f"Offers accepted ({kind}): dots observed, lines fitted", loc="left", size=11)
    axes.spines[["top", "right"]].set_visible(False)


def _plot_preference(axes: Axes, found: ChoiceReport, name: str) -> None:
    """Shrunk estimates of all subjects, and the population that they come from."""
    value, spread = found.fit.shrunk[name].value, found.fit.population[name]
    value = value[np.isfinite(value)]
    axes.hist(value, HISTOGRAM_BINS, density=True, color="#BFD4E6")
    x = np.linspace(spread.mean - 3 * spread.sd, spread.mean + 3 * spread.sd, 200)
    density = np.exp(-0.5 * ((x - spread.mean) / spread.sd) ** 2) / (spread.sd * np.sqrt(2 * np.pi))
    axes.plot(x, density, color="#222222", linewidth=1.3)
    axes.set_yticks([])
    axes.set_title(f"{name}, {PREFERENCE_UNITS[name]}: subjects (shrunk) and population", loc="left", size=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
