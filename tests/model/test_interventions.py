"""What can be done to a subject: windows, doses, combination, and what is refused at the door."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habenula.circuit.model import interventions as act
from habenula.circuit.model.parameters import typical
from habenula.circuit.model.trapping_block import SAMPLES_PER_STEP
from habenula.circuit.simulation.validation import check_intervention
from habenula.circuit.study.arms import align_arms, select_doses_within, standard_arms

HOURS = jnp.arange(24.0 * 8)


@settings(deadline=None, max_examples=60)
@given(start=st.floats(0.0, 150.0), duration=st.floats(0.3, 30.0))
def test_a_window_holds_its_duration_wherever_it_begins(start, duration):
    share = act.smooth_window(HOURS, 1.0, jnp.asarray(start), jnp.asarray(duration))
    np.testing.assert_allclose(share.sum(), duration, rtol=1e-4)
    assert share.min() >= 0
    assert share.max() <= 1 + 1e-6


@pytest.mark.parametrize("start", [5.0, 5.25, 5.6])
def test_a_window_is_smooth_in_its_beginning_also_on_the_hour(float64, start):
    weights = jnp.cos(jnp.arange(24.0))
    f = lambda start: weights @ act.smooth_window(jnp.arange(24.0), 1.0, start, jnp.asarray(1.0))
    start = jnp.asarray(start)
    numeric = (f(start + 1e-5) - f(start - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(f)(start), numeric, atol=1e-4)


ZERO = [
    act.Stress(severity=0.0, days=3.0),
    act.Placebo(per_week=0.0),
    act.Ketamine(0.0, 1.0),
    act.SSRI(0.0),
    act.Bupropion(0.0),
    act.Methylphenidate(0.0),
    act.Recalibration([1.0], 0.0, 0.0),
]


@pytest.mark.parametrize("nothing", ZERO, ids=lambda nothing: type(nothing).__name__)
def test_a_dose_of_zero_is_no_drug(nothing):
    given = act.compute_arm_inputs((nothing,), HOURS, 1.0, typical())
    for name, values in vars(given).items():
        if values is not None and name != "session":  # the time passes in a session, and nothing happens
            np.testing.assert_array_equal(values, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("visits", [act.Placebo(), act.Placebo(2.0, start=1.3, stop=5.2)], ids=["weekly", "some days"])
def test_expectation_is_a_leaky_sum_of_visits(visits):
    """Against its equation, in steps of a hundredth of an hour; visits that last for days instead of weeks too."""
    for days in (42.0, 2.0):
        p = eqx.tree_at(lambda p: p.motivation.visit_time, typical(), jnp.asarray(24 * days))
        level, expected, fine = 0.0, [], 0.01
        for hour in np.arange(len(HOURS)):
            levels = []
            for t in hour + fine * (np.arange(100) + 0.5):
                seen = 24 * visits.start <= t < 24 * visits.stop
                visited = float(visits.per_week) / 168 if seen else 0.0
                change = fine * (float(p.motivation.visit_lift) * visited - level / (24 * days))
                levels.append(level + change / 2)
                level += change
            expected.append(np.mean(levels))
        found = act.compute_arm_inputs((visits,), HOURS, 1.0, p).expectation
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6)


def test_visits_may_be_each_subjects_own():
    """As may be what they do to it: a shared schedule, people's own constants, and the other way round."""
    p = typical()
    own = eqx.tree_at(lambda p: p.motivation.visit_lift, p, p.motivation.visit_lift * jnp.array([1.0, 0.5, 0.0]))
    alone = act.compute_arm_inputs((act.Placebo(start=1.0),), HOURS, 1.0, p).expectation
    for arm, of in ((act.Placebo(start=1.0), own), (act.Placebo([1.0, 0.5, 0.0], start=1.0), p)):
        found = act.compute_arm_inputs((arm,), HOURS, 1.0, of).expectation
        np.testing.assert_allclose(found, np.outer(alone, [1.0, 0.5, 0.0]), rtol=1e-5, atol=1e-7)
    later = act.compute_arm_inputs((act.Placebo(start=[1.0, 3.0]),), HOURS, 1.0, p).expectation
    np.testing.assert_allclose(later[:, 0], alone, rtol=1e-5)
    np.testing.assert_allclose(later[48:, 1], alone[:-48], rtol=1e-3, atol=1e-7)


def test_two_infusions_add_and_two_blockers_compete():
    p = typical()
    one, other = act.Ketamine(0.5, 1.0), act.Ketamine(0.3, 1.5)
    both = act.compute_arm_inputs((one, other), HOURS, 1.0, p).ketamine
    apart = sum(act.compute_arm_inputs((each,), HOURS, 1.0, p).ketamine for each in (one, other))
    np.testing.assert_allclose(both, apart, rtol=1e-6)
    bupropion, tablets = act.Bupropion(300.0), act.Methylphenidate(20.0)
    occupied = [
        act.compute_arm_inputs(arm, HOURS, 1.0, p).dat for arm in ((bupropion,), (tablets,), (bupropion, tablets))
    ]
    assert (occupied[2] <= occupied[0] + occupied[1] + 1e-6).all()
    assert (occupied[2] >= jnp.maximum(occupied[0], occupied[1]) - 1e-6).all()


def test_one_dose_for_all_or_one_for_each():
    p = typical()
    shared = act.compute_arm_inputs((act.Ketamine([0.5], [1.0]),), HOURS, 1.0, p).ketamine
    each = act.compute_arm_inputs((act.Ketamine([[0.5, 0.25, 0.0]], [[1.0, 1.0, 1.0]]),), HOURS, 1.0, p).ketamine
    assert each.shape == (len(HOURS), SAMPLES_PER_STEP, 3)
    np.testing.assert_allclose(each[..., 0], shared, rtol=1e-6)
    np.testing.assert_allclose(each[..., 1], shared / 2, rtol=1e-6)
    np.testing.assert_array_equal(each[..., 2], 0.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (act.Ketamine(-0.5), r"Ketamine.mg_per_kg = -0.5 must lie between 0 and 2"),
        (act.Ketamine(float("nan")), r"Ketamine.mg_per_kg = nan must be a finite number"),
        (act.Ketamine(0.5, 40.0), r"Ketamine.day = 40 lies outside the course, which ends on day 28"),
        (act.Ketamine([0.5, 0.5, 0.5], [1.0, 2.0]), r"unequal numbers of doses"),
        (act.SSRI([10.0, 20.0]), r"SSRI.mg_per_day has shape \(2,\)"),
        (act.SSRI(10.0, start=9.0, stop=3.0), r"stops on day"),
        (act.Recalibration([1.0], -1.0), r"Recalibration.intensity = -1"),
    ],
)
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        check_intervention(wrong, 28.0, 5)


@pytest.mark.slow
def test_aligned_arms_share_a_shape_and_give_what_they_gave():
    p, arms = typical(), {name: select_doses_within(arm, 7.0) for name, arm in standard_arms().items()}
    aligned = align_arms(arms)
    shapes = {str(jax.tree.map(jnp.shape, arm)) for arm in aligned.values()}
    assert len(shapes) == 1
    for name, arm in arms.items():
        before, after = (act.compute_arm_inputs(each, HOURS, 1.0, p) for each in (arm, aligned[name]))
        for channel, values in vars(after).items():
            if values is None:
                continue
            expected = getattr(before, channel)
            if channel in ("session", "challenge"):  # a session of no intensity and no challenge is no session
                continue
            expected = jnp.zeros_like(values) if expected is None else expected
            np.testing.assert_allclose(values, expected, atol=1e-6, err_msg=f"{name} {channel}")


def test_weekly_sessions_are_checked():
    assert act.Recalibration.weekly(6, 3).times.tolist() == [0.0, 2.0, 4.0, 7.0, 9.0, 11.0]
    with pytest.raises(ValueError, match="sessions=0"):
        act.Recalibration.weekly(0)
