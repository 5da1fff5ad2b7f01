"""The circuit in one picture, for the README: `python -m habenula.circuit.study.reporting.circuit_diagram docs/circuit.svg`."""

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ..runtime.files import replace_atomically
from . import labels

INK, FAINT = "#222222", "#6E6E6E"
EXCITES, INHIBITS, LOOP = "#222222", "#B2182B", "#8A5A00"
DASH_PATTERN = (0, (4, 2))

# Name: centre, size, fill, title, and what it is in words. One unit is one inch.
REGION_POSITIONS = {
    "world": ((1.05, 3.1), (1.5, 1.1), "#F2F2F2", "The world", "losses, threats,\nstress"),
    "pfc": ((2.75, 5.0), (1.7, 0.95), "#E8EEF7", "PFC", "top-down control"),
    "lhb": ((4.0, 3.1), (1.9, 1.3), "#F3E4EF", "LHb", "anti-reward centre:\nsilent, tonic, bursting"),
    "rmtg": ((6.55, 3.1), (1.4, 1.1), "#FBE9DF", "RMTg", "GABA neurons"),
    "vta": ((8.85, 3.1), (1.6, 1.3), "#E3EEF8", "VTA", "how many DA cells\nfire, and how fast"),
    "nac": ((11.25, 3.1), (1.6, 1.3), "#E2F3EC", "NAc", "dopamine: release,\nreuptake (DAT)"),
    "behaviour": ((13.45, 3.1), (1.3, 1.1), "#F2F2F2", "Drive", "is it worth\nthe effort?"),
    "mood": ((13.45, 5.0), (1.3, 0.95), "#F2F2F2", "Mood", "and liking"),
}

# Treatment: where its tag stands, where it points, and what it does there.
INTERVENTION_ARROWS = {
    "ketamine_once": ((5.3, 4.75), (4.62, 3.78), "Ketamine", "blocks NMDA receptors:\nbursts stop"),
    "recalibration": ((4.35, 1.45), (2.72, 2.98), "Recalibration", "depresses the synapse (LTD)\nwhile it is active"),
    "bupropion": ((9.9, 1.45), (10.85, 2.42), "Bupropion, methylphenidate", "block dopamine reuptake"),
    "ssri": ((10.9, 5.0), (12.77, 5.0), "SSRI", "blocks serotonin\nreuptake"),
}


def draw_circuit(path: Path) -> None:
    """Draw the loop from the habenula to drive and back, and where each treatment acts."""
    figure = Figure(figsize=(14.4, 6.0))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 14.4)
    axes.set_ylim(-0.05, 5.95)
    axes.axis("off")
    for name in REGION_POSITIONS:
        _draw_region(axes, name)
    _draw_projections(axes)
    _draw_feedback(axes)
    for name in INTERVENTION_ARROWS:
        _draw_intervention(axes, name)
    _draw_legend(axes)
    # The same drawing is the same file, whenever it is made.
    with mpl.rc_context({"svg.hashsalt": "habenula"}), replace_atomically(path) as partial:
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(partial, dpi=110, facecolor="white", metadata=metadata)


def _draw_region(axes: Axes, name: str) -> None:
    (x, y), (width, height), fill, title, words = REGION_POSITIONS[name]
    box = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.14",
        fc=fill,
        ec=INK,
        lw=1.2,
    )
    axes.add_patch(box)
    axes.text(x, y + height / 2 - 0.27, title, ha="center", va="center", size=14, weight="bold", color=INK)
    axes.text(x, y - 0.14, words, ha="center", va="center", size=9.5, color=INK, linespacing=1.15)


def _draw_projections(axes: Axes) -> None:
    _draw_arrow(axes, (1.85, 3.1), (2.98, 3.1), EXCITES)
    _draw_arrow(axes, (4.97, 3.1), (5.8, 3.1), EXCITES)
    _draw_arrow(axes, (7.3, 3.1), (7.98, 3.1), INHIBITS, bar=True)
    _draw_arrow(axes, (9.7, 3.1), (10.4, 3.1), EXCITES)
    _draw_arrow(axes, (12.1, 3.1), (12.75, 3.1), EXCITES)
    _draw_arrow(axes, (2.4, 4.5), (2.4, 3.25), INHIBITS, bar=True)
    _draw_arrow(axes, (6.55, 1.75), (6.55, 2.5), EXCITES)
    axes.text(6.55, 1.58, "pain has its own way in", size=9.5, color=FAINT, ha="center", va="center")


def _draw_feedback(axes: Axes) -> None:
    """What makes the state feed itself."""
    axes.plot([11.8, 11.8, 2.4], [2.4, 0.5, 0.5], color=LOOP, lw=2.2, linestyle=DASH_PATTERN, zorder=0)
    _draw_arrow(axes, (2.4, 0.5), (2.4, 3.02), LOOP, dashed=True)
    words = "too little dopamine, and stress: habenular synapses strengthen, prefrontal control weakens"
    axes.text(7.1, 0.22, words, ha="center", va="center", size=10.5, color=LOOP, weight="bold")


def _draw_intervention(axes: Axes, name: str) -> None:
    (x, y), (to_x, to_y), title, words = INTERVENTION_ARROWS[name]
    colour = labels.label_of(name).colour
    box = {"boxstyle": "round,pad=0.3", "fc": "white", "ec": colour, "lw": 1.8}
    arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "shrinkA": 2, "shrinkB": 0}
    axes.annotate(
        f"$\\bf{{{title.replace(' ', chr(92) + ' ')}}}$\n{words}",
        (to_x, to_y),
        (x, y),
        ha="center",
        va="center",
        size=9.5,
        color=INK,
        linespacing=1.2,
        bbox=box,
        arrowprops=arrow,
        zorder=5,
    )


def _draw_arrow(axes: Axes, start, end, colour: str, *, bar=False, dashed=False) -> None:
    style = "|-|,widthA=0,widthB=5" if bar else "-|>,head_length=7,head_width=4"
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle=style,
            color=colour,
            lw=2.2,
            linestyle=DASH_PATTERN if dashed else "-",
            zorder=1,
            shrinkA=0,
            shrinkB=1,
        )
    )


def _draw_legend(axes: Axes) -> None:
    for x, colour, bar, words in ((0.35, EXCITES, False, "excites"), (2.0, INHIBITS, True, "inhibits")):
        _draw_arrow(axes, (x, 5.7), (x + 0.5, 5.7), colour, bar=bar)
        axes.text(x + 0.65, 5.7, words, va="center", size=9.5, color=FAINT)
    _draw_arrow(axes, (3.75, 5.7), (4.25, 5.7), LOOP, dashed=True)
    axes.text(4.4, 5.7, "keeps the state going, over weeks", va="center", size=9.5, color=FAINT)


if __name__ == "__main__":
    draw_circuit(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/circuit.svg"))
