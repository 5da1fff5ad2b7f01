"""Set points: three for a typical susceptible subject, one without the loop, and what they are."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.circuit.model.parameters import typical
from habenula.circuit.model.slow_clock import SlowState
from habenula.circuit.simulation.cohort import Cohort
from habenula.circuit.simulation.course import course
from habenula.circuit.simulation.fixed_points import fixed_points


def with_plasticity(**changes):
    p = typical()
    changed = vars(p.plasticity) | {name: jnp.asarray(value) for name, value in changes.items()}
    return eqx.tree_at(lambda p: p.plasticity, p, type(p.plasticity)(**changed))


@pytest.fixture(scope="module")
def susceptible():
    return with_plasticity(susceptibility=1.35)  # two spreads above the typical one


@pytest.fixture(scope="module")
def points(susceptible):
    return fixed_points(susceptible)


def test_two_stable_points_with_a_saddle_between(points):
    assert [point.kind for point in points] == ["stable", "saddle", "stable"]
    healthy, saddle, ill = (point.output for point in points)
    assert healthy > saddle > ill
    assert ill < 0.75 * healthy
    assert sum(rate.real > 0 for rate in points[1].rates) == 1


def test_the_reference_is_the_typical_healthy_point():
    p = typical()
    np.testing.assert_allclose(fixed_points(p)[0].output, p.motivation.reference_output, rtol=5e-3)


def test_without_the_loop_there_is_one():
    assert [point.kind for point in fixed_points(with_plasticity(feedback=0.0))] == ["stable"]


def test_under_lasting_stress_only_the_ill_one_remains(susceptible):
    under = fixed_points(susceptible, stress=1.0)
    assert [point.kind for point in under] == ["stable"]
    assert under[0].output < 0.6 * float(susceptible.motivation.reference_output)


def test_stable_points_stay_and_saddles_are_left(susceptible, points):
    calm = eqx.tree_at(lambda p: p.synapses.everyday_spread, susceptible, jnp.asarray(0.0))
    for point in points:
        pushed = [point.state.gain - 0.02, point.state.gain + 0.02]
        states = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), point.state)
        states = SlowState(**(vars(states) | {"gain": jnp.concatenate(pushed)}))
        cohort = Cohort(jnp.zeros(2, jnp.uint32), calm, states, jnp.uint32(0))
        end = np.asarray(course(cohort, (), 180.0, save_every=24)["vta_output"])[:, -1]
        if point.kind == "stable":
            np.testing.assert_allclose(end, point.output, rtol=0.03)
        else:
            np.testing.assert_allclose(end, [points[0].output, points[2].output], rtol=0.05)


def test_one_subject_at_a_time(susceptible):
    two = eqx.tree_at(lambda p: p.clearance, susceptible, jnp.ones(2))
    with pytest.raises(ValueError, match="parameters of 2 subjects"):
        fixed_points(two)
