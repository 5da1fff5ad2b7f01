"""Figures that are read without a caption: a trial, and a moment of one subject."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...model.interventions import Placebo
from ...simulation.moment import Event, Moment
from ..arms import WEEK_10_STRESS, standard_arms
from ..runtime.files import replace_atomically
from . import labels
from .results import ArmResult, RestoredRegimen, TrialResult

INK, FAINT, SHADE = "#222222", "#8C8C8C", "#F3E3D3"
HEADING_LEFT = 0.03  # of the figure's width, where headings begin
EVALUATION_DAY = 63.0  # day, week 9: the last visit before stress returns
OUTCOME_MARKERS = {"drive": "o", "liking": "D", "mood": "s"}
# How a fit ended, in words; see `fit.Restoration`.
STATUS_LABELS = {
    "reached": "target reached",
    "steps": "still on its way",
    "bounds": "held back by its bounds",
    "plateau": "hardly comes nearer",
}
EVENT_SHADES = {"current": "#DCE6F2", "reward": "#DDF0E6", "aversive": "#F6DEDA"}
# The same manner for figures made by hand: `plt.rcParams.update(STYLE)`.
STYLE: dict[str, Any] = {
    "figure.dpi": 72,
    "figure.constrained_layout.use": True,
    "font.size": 12,
    "text.color": INK,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 14,
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": INK,
    "lines.linewidth": 2.2,
    "legend.frameon": False,
}


def save_figure(figure: Figure, path: Path, dots: int = 160) -> None:
    """Write a figure as a whole; the ending of `path` says in which format."""
    with replace_atomically(path) as partial:
        figure.savefig(partial, dpi=dots, facecolor="white")


def plot_trial(trial: TrialResult, path: Path) -> None:
    """A trial on one page: VTA output over the weeks, what it does to people at week 9, and the regimens fitted."""
    figure = _new_figure(13.5, 10.5)
    upper = figure.add_gridspec(
        2, 1, height_ratios=(3.2, 1.0), hspace=0.04, left=0.1, right=0.8, top=0.905, bottom=0.415
    )
    lower = figure.add_gridspec(
        1, 2, width_ratios=(1.15, 1.0), wspace=0.14, left=0.185, right=0.97, top=0.32, bottom=0.06
    )
    course = figure.add_subplot(upper[0])
    doses = figure.add_subplot(upper[1], sharex=course)
    _plot_courses(course, list(trial.arms.values()))
    _plot_dose_times(doses, list(trial.arms))
    _plot_outcomes(figure.add_subplot(lower[0]), list(trial.arms.values()))
    _plot_regimens(figure.add_subplot(lower[1]), list(trial.restore.values()))
    figure.text(HEADING_LEFT, 0.96, f"{_trial_weeks(trial):g} weeks of treatment, simulated", size=17, weight="bold")
    if subjects := trial.provenance.get("subjects"):
        words = f"{subjects} virtual depressed subjects, each simulated under every arm"
        figure.text(0.97, 0.96, words, ha="right", color=FAINT, size=10.5)
    save_figure(figure, path)


def plot_moment(moment: Moment, path: Path, events: Sequence[Event] = (), title: str = "") -> None:
    """The circuit over seconds, from the habenula down to dopamine, for the first subject of `moment`."""
    traces = (
        ("habenula", "LHb output", "Hz", 1.0, "#8F3A73"),
        ("rmtg", "RMTg rate", "Hz", 1.0, "#D55E00"),
        ("active", "active DA neurons", "%", 100.0, "#0072B2"),
        ("rate", "their rate", "Hz", 1.0, "#0072B2"),
        ("dopamine", "NAc dopamine", "nM", 1000.0, "#009E73"),
    )
    figure = _new_figure(10.5, 8.0)
    grid = figure.add_gridspec(len(traces), 1, left=0.09, right=0.82, top=0.86, bottom=0.08, hspace=0.18)
    seconds = np.asarray(moment.t) / 1000
    first = None
    for i, (name, words, unit, scale, colour) in enumerate(traces):
        axes = figure.add_subplot(grid[i], sharex=first)
        first = first or axes
        values = scale * np.asarray(moment.record[name])[0]
        axes.plot(seconds, values, color=colour, linewidth=1.1)
        axes.set_xlim(0, seconds[-1])
        axes.set_ylim(0, 100 if unit == "%" else 1.12 * max(float(np.nanmax(values)), 1e-3))
        _remove_frame(axes, bottom=i == len(traces) - 1)
        axes.set_ylabel(unit)
        axes.text(1.015, 0.62, words, transform=axes.transAxes, color=colour, weight="bold", va="center")
        axes.text(1.015, 0.36, f"mean {np.mean(values):.3g} {unit}", transform=axes.transAxes, color=FAINT, va="center")
        _shade_events(axes, events, named=i == 0)
        axes.set_xlabel("time, s" if i == len(traces) - 1 else "")
    figure.align_ylabels()
    figure.text(0.09, 0.955, title or "A moment of one subject", size=15, weight="bold")
    figure.text(0.09, 0.922, describe_firing_modes(moment), color=FAINT)
    save_figure(figure, path)


def describe_firing_modes(moment: Moment) -> str:
    """The firing modes of the first subject's LHb neurons in one line."""
    modes = moment.modes
    shares = {"silent": modes.silent, "tonic": modes.tonic, "bursting": modes.bursting}
    words = ", ".join(f"{100 * float(share[0]):.0f} % {name}" for name, share in shares.items())
    return f"LHb neurons: {words}; {float(modes.rate[0]):.2g} Hz at {float(modes.potential[0]):.0f} mV"


def spread_labels(targets: Sequence[float], distance: float) -> np.ndarray:
    """Positions of labels, in the order of `targets`, at least `distance` apart and as near to them as can be.

    >>> spread_labels([0.0, 0.0, 5.0], 1.0).tolist()
    [-0.5, 0.5, 5.0]
    """
    order = np.argsort(targets, kind="stable")
    wanted = np.asarray(targets, float)[order] - distance * np.arange(len(order))
    blocks: list[list[float]] = []  # least squares under an order: neighbours that collide share their mean
    for value in wanted:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    placed = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks]) + distance * np.arange(
        len(order)
    )
    return placed[np.argsort(order, kind="stable")]


def _new_figure(width: float, height: float) -> Figure:
    """A figure of its own: no global state, no window."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _plot_courses(axes: Axes, arms: Sequence[ArmResult]) -> None:
    """VTA output over the weeks, with bands, each line named at its end."""
    end = max(arm.day[-1] for arm in arms) / 7
    start = next((arm for arm in arms if arm.name == "placebo"), arms[0]).mean["vta_output"][0]
    for arm in arms:
        label, seen = labels.label_of(arm.name), _visit_indices(arm)
        style: dict[str, Any] = {"linewidth": 1.2, "linestyle": (0, (4, 2))} if label.contrast else {"linewidth": 2.2}
        week = arm.day[seen] / 7
        if not label.contrast:  # its band is that of the arm beside it
            axes.fill_between(week, arm.vta_low[seen], arm.vta_high[seen], color=label.colour, alpha=0.18, linewidth=0)
        axes.plot(week, arm.mean["vta_output"][seen], color=label.colour, **style)
    axes.set_xlim(-0.012 * end, end)  # room for what happens in the first hours
    low = min(np.nanmin(arm.mean["vta_output"]) for arm in arms)
    high = max(np.nanmax(arm.mean["vta_output"]) for arm in arms)
    axes.set_ylim(min(low - 0.12, 0.4), max(high + 0.1, 1.12))
    for level, words in ((1.0, "healthy"), (start, "before\ntreatment")):
        axes.axhline(level, color=FAINT, linewidth=0.9, linestyle=":", zorder=0)
        place: dict[str, Any] = dict(
            xycoords=axes.get_yaxis_transform(), textcoords="offset points", ha="right", va="center"
        )
        axes.annotate(words, (0, level), (-32, 0), color=INK, **place)
    _shade_stress(axes, end, named=True)
    _label_line_ends(axes, arms, end)
    _remove_frame(axes, bottom=False)
    _add_heading(axes, "Dopamine output of the VTA, relative to health, at the daily visit: mean with 95 % interval")


def _visit_indices(arm: ArmResult) -> np.ndarray:
    """Records of the first day and one a day from then on, at the hour of day 0: tablets rise and fall in between."""
    daily = np.abs(arm.day - np.round(arm.day)) < 1e-3
    return (arm.day <= 1) | daily


def _label_line_ends(axes: Axes, arms: Sequence[ArmResult], end: float) -> None:
    """Write each arm's name beside the end of its line; names that would collide move apart and keep a thread."""
    bottom, top = axes.get_ylim()
    ends = [float(arm.mean["vta_output"][-1]) for arm in arms]
    places = spread_labels(ends, 0.062 * (top - bottom))
    places -= max(float(np.max(places)) - (top - 0.01), 0) + min(float(np.min(places)) - (bottom + 0.01), 0)
    for arm, at, place in zip(arms, ends, places, strict=True):
        label = labels.label_of(arm.name)
        thread = {
            "arrowstyle": "-",
            "color": label.colour,
            "linewidth": 0.7,
            "shrinkA": 1,
            "shrinkB": 0,
            "relpos": (0, 0.5),
        }
        axes.annotate(
            label.text,
            (end, at),
            (end * 1.025, place),
            color=label.colour,
            size=9.5 if label.contrast else 10.5,
            style="italic" if label.contrast else "normal",
            weight="normal" if label.contrast else "bold",
            va="center",
            arrowprops=thread,
            annotation_clip=False,
        )


def _plot_dose_times(axes: Axes, arms: Sequence[str]) -> None:
    """When each arm is treated: a mark for an infusion or session, a bar for tablets every day."""
    end = axes.get_xlim()[1]
    shown = [name for name in labels.sort_arms(arms) if name != "placebo" and not labels.label_of(name).contrast]
    for row, name in enumerate(shown):
        colour = labels.label_of(name).colour
        for intervention in standard_arms().get(name, ()):
            if isinstance(intervention, Placebo):  # visits are those of all arms
                continue
            stop = getattr(intervention, "stop", None)
            times = getattr(intervention, "day", getattr(intervention, "times", None))
            if times is not None:
                weeks = np.asarray(times) / 7
                axes.plot(weeks[weeks <= end], np.full((weeks <= end).sum(), row), "|", color=colour, ms=7, mew=1.6)
            elif stop is not None:
                axes.plot([0, min(float(stop) / 7, end)], [row, row], color=colour, linewidth=3.5, alpha=0.6)
        axes.annotate(
            labels.label_of(name).text, (end * 1.025, row), color=colour, size=8.5, va="center", annotation_clip=False
        )
    axes.set_ylim(max(len(shown), 1) - 0.4, -0.8)
    axes.set_yticks([])
    _shade_stress(axes, end, named=False)
    _remove_frame(axes)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("weeks of treatment")
    axes.set_ylabel("doses and\nsessions", rotation=0, ha="right", va="center", labelpad=10)
    axes.set_xticks(range(0, int(end) + 1, 1 if end <= 16 else 4))


def _plot_outcomes(axes: Axes, arms: Sequence[ArmResult]) -> None:
    """Drive, liking and mood of each arm, before stress returns."""
    ordered = [arm for name in labels.sort_arms([arm.name for arm in arms]) for arm in arms if arm.name == name]
    day = min(EVALUATION_DAY, *(float(arm.day[-1]) for arm in arms))
    colours = {"drive": "#0072B2", "liking": "#E69F00", "mood": "#CC79A7"}
    for row, arm in enumerate(ordered):
        values = [float(arm.mean[name][arm.at(day)]) for name in OUTCOME_MARKERS]
        axes.plot([min(values), max(values)], [row, row], color="#DDDDDD", linewidth=1.5, zorder=1)
        for (name, marker), value in zip(OUTCOME_MARKERS.items(), values, strict=True):
            axes.plot(value, row, marker, color=colours[name], ms=8, mec="white", mew=0.8, zorder=2)
    axes.axvline(1, color=FAINT, linewidth=0.9, linestyle=":", zorder=0)
    for i, (name, sign) in enumerate(zip(OUTCOME_MARKERS, "●◆■", strict=True)):
        place = (1 - 0.17 * (2 - i), 1.045)
        axes.annotate(f"{sign} {name}", place, xycoords="axes fraction", ha="right", color=colours[name], weight="bold")
    axes.set_ylim(len(ordered) - 0.5, -0.7)
    axes.set_yticks(range(len(ordered)), [labels.label_of(arm.name).text for arm in ordered])
    _remove_frame(axes)
    axes.tick_params(axis="y", length=0)
    for tick, arm in zip(axes.get_yticklabels(), ordered, strict=True):
        tick.set_color(labels.label_of(arm.name).colour)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("relative to health (dotted line)")
    _add_heading(axes, f"Drive, liking and mood at week {day / 7:g}")


def _plot_regimens(axes: Axes, found: Sequence[RestoredRegimen]) -> None:
    """Where the cohort stands without a regimen, where the fitted one brings it, and where it was to go."""
    _add_heading(axes, "Regimens found by gradient")
    _remove_frame(axes)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    if not found:
        axes.text(0.5, 0.5, "none was fitted", transform=axes.transAxes, ha="center", color=FAINT)
        axes.set_xticks([])
        return
    for row, each in enumerate(found):
        colour = labels.label_of(each.name).colour
        axes.plot(each.starts, np.full(len(each.starts), row + 0.17), "|", color=colour, alpha=0.55, ms=9, mew=1.3)
        axes.annotate(
            "", (each.after, row), (each.before, row), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2.4}
        )
        axes.plot(each.before, row, "o", color="white", mec=colour, mew=1.8, ms=8)
        axes.plot([each.target] * 2, [row - 0.3, row + 0.3], color=INK, linewidth=1.6)
        beside = max(each.after, each.target)  # clear of the target's line
        for value, at, place in ((each.before, each.before, "right"), (each.after, beside, "left")):
            shift = -9 if place == "right" else 9
            axes.annotate(f"{value:.2f}", (at, row), (shift, 0), textcoords="offset points", ha=place, va="center")
        words = f"{labels.label_of(each.name).text}: {STATUS_LABELS.get(each.status, each.status)}"
        axes.annotate(words, (each.before, row), (-5, 13), textcoords="offset points", color=colour, weight="bold")
    axes.annotate("target", (found[0].target, -0.3), (0, 3), textcoords="offset points", ha="center", color=INK)
    axes.text(0, 0.01, "thin ticks: where each start of the fit ended", transform=axes.transAxes, color=FAINT, size=9)
    axes.set_ylim(len(found) - 0.35, -0.75)
    every = [value for each in found for value in (each.before, each.after, each.target, *each.starts)]
    room = 0.18 * (max(every) - min(every) + 0.05)
    axes.set_xlim(min(every) - room, max(every) + room)
    axes.set_xlabel("mean VTA output, relative to health")


def _shade_stress(axes: Axes, end: float, named: bool) -> None:
    begin, days = float(WEEK_10_STRESS.start) / 7, float(WEEK_10_STRESS.days) / 7
    if begin >= end:
        return
    axes.axvspan(begin, min(begin + days, end), color=SHADE, zorder=-1, linewidth=0)
    if named:
        middle = begin + min(days, end - begin) / 2
        axes.text(middle, 0.985, "stress\nagain", transform=axes.get_xaxis_transform(), ha="center", va="top", size=9)
        axes.texts[-1].set_color("#9A5B1E")


def _shade_events(axes: Axes, events: Iterable[Event], named: bool) -> None:
    for event in events:
        begin, lasts = (float(np.ravel(value)[0]) / 1000 for value in (event.at, event.lasts))
        axes.axvspan(begin, begin + lasts, color=EVENT_SHADES[event.kind], zorder=0, linewidth=0)
        if named:
            size = float(np.ravel(event.size)[0])
            axes.annotate(
                f"{event.kind} {size:+g}", (begin, 1.03), xycoords=axes.get_xaxis_transform(), size=9, color=INK
            )


def _add_heading(axes: Axes, words: str) -> None:
    """A heading at the left edge of the page or, in its right half, of the axes."""
    left = axes.get_position().x0
    assert axes.figure is not None
    axes.figure.text(
        HEADING_LEFT if left < 0.3 else left, axes.get_position().y1 + 0.014, words, size=12, weight="bold"
    )


def _remove_frame(axes: Axes, bottom: bool = True) -> None:
    """Only the lines that carry a scale."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9, bottom=bottom, labelbottom=bottom)
    axes.spines["bottom"].set_visible(bottom)


def _trial_weeks(trial: TrialResult) -> float:
    return max(float(arm.day[-1]) for arm in trial.arms.values()) / 7
