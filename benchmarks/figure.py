"""The figure of speed: steps of LHb neurons in a second on one core, by engine, from committed rows."""

from collections.abc import Sequence
from pathlib import Path

CASE = "lhb one core"
LABELS = {"c-tuned": "hand-optimised C", "c": "plain C", "scan": "plain JAX", "brian2": "Brian2", "numpy": "NumPy"}


def latest_rates(rows: Sequence[dict[str, str]]) -> tuple[str, dict[str, float]]:
    """The device of the last row of the case, and by engine its last rate there, in million neuron-steps/s.

    Raises:
        ValueError: there is no such row.
    """
    rows = [row for row in rows if row["case"] == CASE]
    if not rows:
        raise ValueError(f"there is no row of the case {CASE!r}: python benchmarks/run.py lhb")
    device = rows[-1]["device"]
    return device, {row["engine"]: float(row["rate"]) for row in rows if row["device"] == device}


def write_figure(rows: Sequence[dict[str, str]], path: Path) -> None:
    """Bars by engine, the fastest on top; the same bytes for the same rows."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    device, rates = latest_rates(rows)
    names = sorted(rates, key=lambda name: rates[name])
    with pyplot.rc_context({"svg.hashsalt": "habenula", "svg.fonttype": "none", "font.size": 10}):
        figure, axes = pyplot.subplots(figsize=(7, 0.32 * len(names) + 0.9), layout="constrained")
        colours = ["#1f6f9f" if name == "habenula" else "#b8c4cc" for name in names]
        axes.barh([LABELS.get(name, name) for name in names], [rates[name] for name in names], color=colours)
        for place, name in enumerate(names):
            axes.annotate(f" {rates[name]:.3g}", (rates[name], place), va="center")
        axes.set_xlabel("million neuron-steps a second")
        axes.set_title(f"LHb neurons, one core of {device.partition(',')[0]}", loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.1)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
