"""The front of benefit against burden: against a closed form, and with -m nightly on the circuit itself."""

import numpy as np
import pytest
import saturating
from fit_options import grouped
from people import strained
from saturating import HEALTH, LACKING, SLOPE

from habenula.circuit.fitting.dose_spacing import Limits
from habenula.circuit.model.interventions import Recalibration
from habenula.circuit.optimisation import gradient_step, problem
from habenula.circuit.optimisation.pareto import _nondominated_lanes, pareto
from habenula.circuit.optimisation.settings import Multistart
from habenula.circuit.simulation.conditions import depressed, draw
from habenula.circuit.simulation.course import course

WEIGHTS = (0.01, 0.03, 0.1, 0.3)


@pytest.fixture(scope="module")
def front():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient_step, "course", saturating.course_of_equals)
        patch.setattr(problem, "course", saturating.course_of_equals)
        told = []
        found = pareto(
            strained(3),
            Recalibration([0.0, 2.0], [0.5, 0.5]),
            HEALTH,
            over="intensity",
            days=5.0,
            weights=WEIGHTS,
            search=Multistart(starts=2, steps=120),
            progress=lambda done, most: told.append((done, most)),
        )
    return found, told


def best_share(weight):
    """Where miss^2 + weight share, with miss = LACKING exp(-SLOPE share), is least."""
    return np.log(2 * LACKING**2 * SLOPE / weight) / (2 * SLOPE)


def test_points_lie_where_they_must(front):
    found, _ = front
    assert {point.weight for point in found.points} == set(WEIGHTS)
    for weight in WEIGHTS:
        ends = [point for point in found.points if point.weight == weight]
        best = min(ends, key=lambda point: point.miss**2 + weight * point.burden)
        assert best.burden == pytest.approx(best_share(weight), abs=0.01)
    assert (np.diff([point.burden for point in found.points]) > 0).all()
    assert (np.diff([point.miss for point in found.points]) < 0).all()
    for point in found.points:
        assert point.miss == pytest.approx(LACKING * np.exp(-SLOPE * point.burden), rel=1e-4)
        assert point.output == pytest.approx(HEALTH * (1 - point.miss), rel=1e-5)
        assert point.amounts["intensity"] == pytest.approx(8 * point.burden, rel=1e-4)
        np.testing.assert_array_equal(point.arm[0].intensity, point.fitted["intensity"])
    assert found.untreated == pytest.approx(HEALTH * (1 - LACKING))
    assert found.target == HEALTH
    assert "dominate" in found.reason


def test_the_least_burden_that_comes_so_near(front):
    found, _ = front
    nearest = found.points[-1].miss
    assert found.least(2 * nearest).burden <= found.points[-1].burden
    assert found.least(nearest / 2) is None


def test_all_weights_are_lanes_of_one_search(front):
    found, told = front
    assert len(told) == found.steps <= 120
    assert len(found.points) + len(found.dominated) == 2 * len(WEIGHTS)
    assert not found.failures


def test_what_another_dominates_is_left_out():
    burden = np.array([0.1, 0.2, 0.2, 0.3, 0.4, 0.4])
    miss = np.array([0.5, 0.6, 0.3, 0.2999, np.inf, 0.1])
    assert _nondominated_lanes(burden, miss) == ([0, 2, 5], [1, 3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": ()}, r"weights=\(\) must be positive"),
        ({"weights": (0.1, 0.0)}, r"must be positive numbers"),
        ({"over_cohort": "best"}, r"over_cohort='best' must be"),
        ({"limits": Limits(interval=90.0)}, r"give fewer"),
    ],
)
def test_bad_input_is_refused(monkeypatch, options, message):
    monkeypatch.setattr(problem, "course", None)
    with pytest.raises(ValueError, match=message):
        pareto(strained(2), Recalibration.weekly(), **grouped(**options))


@pytest.mark.nightly
def test_the_front_of_sessions():
    """More sessions bring more, in order, and each point does what it says."""
    ill, options = draw(depressed(), 8, seed=1), dict(days=28.0, search=Multistart(starts=2, steps=30))
    found = pareto(ill, Recalibration.weekly(6), weights=(1e-3, 1e-2, 1e-1, 1.0), **options)
    assert len(found.points) >= 3
    assert (np.diff([point.burden for point in found.points]) > 0).all()
    assert (np.diff([point.miss for point in found.points]) < 0).all()
    for point in found.points:
        assert (np.diff(point.fitted["times"]) >= 1).all()
        lived = course(ill, point.arm, 28.0, save_every=24, record=("vta_output",))
        assert float(lived["vta_output"][:, 21:].mean()) == pytest.approx(point.output, rel=1e-3)
