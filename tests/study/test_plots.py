"""Figures are made, are not blank, and say what they must."""

import jax.numpy as jnp
import numpy as np
import pytest
from fake_trial import trial
from matplotlib.figure import Figure
from matplotlib.image import imread

from habenula.circuit.model.interventions import Recalibration
from habenula.circuit.model.lateral_habenula import FiringModes
from habenula.circuit.optimisation.pareto import Front, FrontPoint
from habenula.circuit.simulation.moment import Event, Moment
from habenula.circuit.study import arms
from habenula.circuit.study.reporting import circuit_diagram, labels, plot_front, plots


def picture(path) -> np.ndarray:
    """Pixels, as numbers from 0 to 1."""
    return imread(path)[..., :3]


def test_every_arm_of_the_trial_has_a_label():
    assert set(labels.ARM_LABELS) == set(arms.standard_arms())


def test_a_trial_fills_its_page(tmp_path):
    plots.plot_trial(trial(), tmp_path / "deep" / "trial.png")
    pixels = picture(tmp_path / "deep" / "trial.png")
    assert pixels.shape[0] > 1000
    ink = pixels.min(axis=2) < 0.9
    for part in (ink[:900, :1500], ink[:900, 1600:], ink[1100:, :1200], ink[1100:, 1300:]):  # lines, names, panels
        assert part.mean() > 0.005
    assert not ink[:, :8].any(), "something runs off the left edge"
    assert not ink[:, -8:].any(), "something runs off the right edge"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["trial.png"]


def test_a_short_trial_of_one_arm_without_fits(tmp_path):
    plots.plot_trial(trial(weeks=1, arms=["placebo"], fitted=False), tmp_path / "trial.png")
    assert picture(tmp_path / "trial.png").min() < 0.5


def test_bars_are_of_tablets_alone():
    """Visits have a first and a last day too, but all arms have them."""
    figure = Figure()
    axes = figure.subplots()
    axes.set_xlim(0, 12)
    plots._plot_dose_times(axes, ["placebo", "ssri", "ketamine_once"])
    bars = [line for line in axes.lines if line.get_marker() != "|"]
    assert [np.asarray(line.get_xydata()).tolist() for line in bars] == [
        [[0, 0], [12, 0]]
    ]  # the SSRI's, in the first row


def test_a_moment(tmp_path):
    t = jnp.arange(1.0, 2001.0)
    record = {
        name: jnp.sin(t / 50)[None] + 2 for name in ("habenula", "rmtg", "active", "rate", "vta_output", "dopamine")
    }
    one = jnp.ones(1)
    modes = FiringModes(0.5 * one, 0.4 * one, 0.1 * one, 1.2 * one, -48 * one, -60 * one, 6 * one)
    seen = Moment(t, record, {name: value.mean(axis=1) for name, value in record.items()}, modes, one > 0)
    quiet, shaded = tmp_path / "quiet.png", tmp_path / "shaded.png"
    plots.plot_moment(seen, quiet)
    plots.plot_moment(seen, shaded, (Event("aversive", 500.0, 300.0),), "An air puff")
    assert np.abs(picture(quiet) - picture(shaded)).mean() > 1e-3
    assert plots.describe_firing_modes(seen) == "LHb neurons: 50 % silent, 40 % tonic, 10 % bursting; 1.2 Hz at -48 mV"


def test_the_circuit_is_drawn_the_same_every_time(tmp_path):
    for name in ("one.svg", "two.svg"):
        circuit_diagram.draw_circuit(tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


@pytest.mark.parametrize("targets", [[0.5], [0.5, 0.5, 0.5], [0.9, 0.1, 0.52, 0.5, 0.11]])
def test_labels_keep_their_distance_and_their_order(targets):
    placed = plots.spread_labels(targets, 0.06)
    assert np.all(np.diff(np.sort(placed)) >= 0.06 - 1e-9)
    assert np.argsort(placed).tolist() == np.argsort(targets, kind="stable").tolist()
    assert np.mean(placed) == pytest.approx(np.mean(targets))


def test_a_figure_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "trial.nonsense"
    path.write_text("old")
    with pytest.raises(ValueError, match="nonsense"):
        plots.plot_trial(trial(weeks=1), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_front_shows_its_points_its_regimens_and_what_they_beat(tmp_path):
    point = lambda burden, output: FrontPoint(
        0.1,
        burden,
        output,
        1 - output / 4,
        {},
        (Recalibration([0.0, 3.0, 9.0], [burden, 2 * burden, 4.0 * burden]),),
        {},
    )
    points = tuple(point(burden, output) for burden, output in ((0.05, 2.9), (0.3, 3.6), (0.8, 3.9)))
    front = lambda dominated: Front(points, 4.0, 2.4, dominated, (), 9, "a reason")
    plots_of = {}
    for name, dominated in (("bare", ()), ("beaten", ((0.1, 0.6, 3.0),))):
        plot_front.plot_front(front(dominated), tmp_path / f"{name}.png")
        plots_of[name] = picture(tmp_path / f"{name}.png")
    ink = plots_of["bare"].min(axis=2) < 0.9
    for part in (ink[:, : ink.shape[1] // 2], ink[:, ink.shape[1] // 2 :]):
        assert part.mean() > 0.005
    assert not ink[:, :8].any()
    assert not ink[:, -8:].any()
    assert np.abs(plots_of["bare"] - plots_of["beaten"]).mean() > 1e-4
    with pytest.raises(ValueError, match="no points to draw: a reason"):
        plot_front.plot_front(Front((), 4.0, 2.4, (), (), 9, "a reason"), tmp_path / "none.png")
