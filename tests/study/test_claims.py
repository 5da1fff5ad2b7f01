"""The claims emerge: each effect is there, and goes when the mechanism that carries it is taken out."""

import dataclasses
from functools import partial

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from people import PLAIN

from habenula.circuit.model.interventions import SSRI, Ketamine, Methylphenidate, Recalibration, Stress
from habenula.circuit.simulation import conditions
from habenula.circuit.simulation import course as course_module
from habenula.circuit.simulation.cohort import get_leaf
from habenula.circuit.simulation.conditions import depressed, healthy
from habenula.circuit.study.arms import AFTERNOON_HOUR

N = 48
draw, course = partial(conditions.draw, plan=PLAIN), partial(course_module.course, plan=PLAIN)


@pytest.fixture(scope="module")
def ill():
    return draw(depressed(), N, seed=9)


@pytest.fixture(scope="module")
def well():
    return course(draw(healthy(), N, seed=9), (), 7.0)


def without(cohort, **changes):
    """The same subjects with constants changed: dotted paths with `__` for the dot."""
    for path, value in changes.items():
        path = path.replace("__", ".")
        like = get_leaf(cohort.parameters, path)
        new = jnp.full_like(like, value)
        cohort = eqx.tree_at(lambda c, path=path: get_leaf(c.parameters, path), cohort, new)
    return cohort


def mean(seen, quantity, day):
    index = int(np.argmin(np.abs(np.asarray(seen.day) - day)))
    return float(np.mean(np.asarray(seen[quantity])[:, index]))


def gain(cohort, arm, day, quantity="vta_output", days=28.0):
    return mean(course(cohort, arm, days), quantity, day) - mean(course(cohort, (), days), quantity, day)


def test_depression_lowers_the_number_of_active_neurons_and_not_their_rate(ill, well):
    seen = course(ill, (), 7.0)
    assert mean(seen, "active", 7) < 0.75 * mean(well, "active", 7)
    assert 0.8 < mean(seen, "rate", 7) / mean(well, "rate", 7) < 1.25
    assert mean(seen, "burst", 7) > 2 * mean(well, "burst", 7)


def test_ketamine_outlasts_its_plasma_by_trapping_and_by_the_loop(ill):
    """Kept for a day by channels that shut around it, and by prefrontal control that returns with dopamine."""
    once = (Ketamine(0.5, 0.0),)
    early, day = (gain(ill, once, t, days=4.0) for t in (4 / 24, 1.0))
    assert early > 0.25
    assert day > 0.5 * early
    free = without(ill, block__trapping=0.0)
    assert gain(free, once, 1.0, days=4.0) < 0.1 * day
    uncontrolled = without(ill, plasticity__control_time=1e6)  # control stays as depression left it
    assert gain(uncontrolled, once, 1.0, days=4.0) < 0.3 * day


def test_one_dose_of_ketamine_wears_off(ill):
    once = (Ketamine(0.5, 0.0),)
    assert gain(ill, once, 3.0) > 0.5 * gain(ill, once, 1.0)
    assert gain(ill, once, 14.0) < 0.5 * gain(ill, once, 1.0)


def test_recalibration_needs_the_synapse_to_be_active(ill):
    live = (Recalibration.weekly(start=AFTERNOON_HOUR),)
    rest = (Recalibration.weekly(start=AFTERNOON_HOUR, challenge=0.0),)
    effect = gain(ill, live, 42.0, days=42.0)
    assert effect > 0.5
    assert gain(ill, rest, 42.0, days=42.0) < effect / 3
    ungated = without(ill, plasticity__depression_gate=0.0)
    assert gain(ungated, rest, 42.0, days=42.0) > 0.9 * gain(ungated, live, 42.0, days=42.0)


@pytest.mark.slow
def test_a_silent_habenula_cannot_be_recalibrated(ill):
    """A session an hour after ketamine depresses the synapse far less than the same session without it."""
    session, dose = Recalibration([0.05], 1.0), Ketamine(0.5, 0.0)
    gain = lambda *arm: float(np.mean(np.asarray(course(ill, arm, 3.0, record=("gain",))["gain"])[:, -1]))
    assert gain(dose) - gain(dose, session) < 0.5 * (gain() - gain(session))


def test_reuptake_blockers_are_capped_by_autoreceptors(ill):
    arm = lambda mg: (Methylphenidate([mg, mg], [22.0, 2.0]),)
    first = gain(ill, arm(30.0), 7.0, "drive", 7.0)
    second = gain(ill, arm(60.0), 7.0, "drive", 7.0) - first
    assert first > 0.02
    assert second < 0.5 * first
    assert gain(ill, arm(30.0), 7.0, "dopamine", 7.0) > 0
    uncapped = without(ill, dopamine__autoreceptor=0.0)
    relative = lambda people: (
        gain(people, arm(20.0), 7.0, "dopamine", 7.0) / mean(course(people, (), 7.0), "dopamine", 7)
    )
    assert relative(uncapped) > 1.3 * relative(ill)


def test_the_state_outlives_the_stress_by_the_loop(ill, well):
    later = course(ill, (), 60.0, save_every=24)
    assert mean(later, "vta_output", 60) < 0.7 * mean(well, "vta_output", 7)
    cut = without(ill, plasticity__feedback=0.0)
    assert mean(course(cut, (), 60.0, save_every=24), "vta_output", 60) > 0.9 * mean(well, "vta_output", 7)


def test_brief_stress_decays_and_chronic_stress_stays():
    susceptible = dataclasses.replace(healthy(), shifts=(("plasticity.susceptibility", 2.0),))
    people = draw(susceptible, N, seed=4)
    after = lambda days: mean(course(people, (Stress(days=days),), days + 60.0, save_every=24), "vta_output", days + 60)
    quiet = mean(course(people, (), 7.0), "vta_output", 7)
    assert after(5.0) > 0.95 * quiet
    assert after(28.0) < 0.75 * quiet


def test_an_ssri_lifts_mood_late_and_leaves_the_gate(ill):
    arm = (SSRI(10.0),)
    mood = [gain(ill, arm, day, "mood") for day in (7.0, 28.0)]
    assert mood[1] > 0.1
    assert mood[0] < 0.5 * mood[1]
    untreated = mean(course(ill, (), 28.0), "vta_output", 28)
    assert abs(gain(ill, arm, 28.0)) < 0.1 * untreated
    assert gain(ill, arm, 28.0, "liking") < 0  # blunting
