"""Times apart and amounts of a day: kept to exactly whatever the free numbers, and with true gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradient_check import check
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from habenula.circuit.fitting.dose_spacing import SPACING_SLACK, Limits, SpacedTimes, limit_daily_amount

quick = settings(max_examples=60, deadline=None)


numbers = st.lists(st.floats(-1e3, 1e3, width=32), min_size=18, max_size=18)
rules = st.tuples(
    st.integers(0, 240).map(lambda eighths: eighths / 8),
    st.integers(8, 640).map(lambda eighths: eighths / 8),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    st.sampled_from([None, 1, 2, 3]),
)


def with_room(rule, free) -> tuple[SpacedTimes, np.ndarray]:
    """Rules, if they leave room, and free numbers of two starts."""
    low, span, doses, interval, per_week = rule
    try:
        return SpacedTimes(low, low + span, doses, interval, per_week), np.array(free, np.float32).reshape(9, 2)[:doses]
    except ValueError:
        assume(False)
        raise


@quick
@given(rules, numbers)
def test_no_free_number_breaks_a_rule(rule, free):
    spaced, free = with_room(rule, free)
    times = np.sort(spaced.constrain(jnp.asarray(free)), axis=0)
    assert (times >= np.float32(spaced.low)).all()
    assert (times <= np.float32(spaced.high)).all()
    assert (np.diff(times, axis=0) >= spaced.interval).all(), "to the last digit"
    often = spaced.per_week or len(times)
    assert (times[often:] - times[:-often] >= 7).all()
    assert spaced.holds(times)


@quick
@given(rules, numbers)
def test_what_keeps_the_rules_stays_where_it_is(rule, free):
    """Whatever the order of the doses: there and back, and given as it is wished, but for the slack between neighbours."""
    spaced, free = with_room(rule, free)
    with jax.enable_x64(True):
        times = spaced.constrain(jnp.asarray(free, float))
        near = spaced.doses * SPACING_SLACK + 2e-6 * spaced.width
        np.testing.assert_allclose(spaced.constrain(spaced.unconstrain(times)), times, atol=near, rtol=0)
        back = spaced.apart(spaced.unconstrain(times))
        np.testing.assert_allclose(spaced.constrain(back), times, atol=2 * near, rtol=0)


def test_a_dose_pushes_those_in_its_way_and_each_moves_freely_afterwards():
    spaced = SpacedTimes(0.0, 20.0, 3, 2.0)
    wishes = spaced.unconstrain(jnp.asarray([[5.0], [5.5], [12.0]]))
    np.testing.assert_allclose(spaced.constrain(wishes)[:, 0], [5, 7, 12], atol=2e-2)
    slope = jax.jacobian(lambda free: spaced.constrain(free)[:, 0])(wishes)[:, :, 0]
    assert (np.diag(slope) > 1).all()
    np.testing.assert_allclose(slope - np.diag(np.diag(slope)), 0, atol=1e-9)
    pushed = np.asarray(spaced.constrain(wishes.at[0].add(0.1)))[:, 0]
    assert pushed[0] > 5.3
    assert pushed[1] - pushed[0] == pytest.approx(2, abs=1e-3)
    assert pushed[2] == pytest.approx(12, abs=2e-2)


def test_all_that_is_allowed_can_be_reached():
    """The earliest and the latest regimen, by hand: two a week, a day apart, in three weeks."""
    spaced = SpacedTimes(0.0, 21.0, 5, 1.0, 2)
    ends = [np.asarray(spaced.constrain(jnp.full(5, end)))[:] for end in (-40.0, 40.0)]
    np.testing.assert_allclose(ends[0], [0, 1, 7, 8, 14], atol=1e-3)
    np.testing.assert_allclose(ends[1], [7, 13, 14, 20, 21], atol=1e-3)


def test_sessions_that_were_piled_up_are_pulled_apart():
    """What a fit without a rule once found: several sessions on one day."""
    piled = jnp.asarray([0.0576, 1.04, 0.215, 1.73, 0.296, 17.9, 20.1, 1.07, 11.9, 20.2, 20.5, 19.8])
    spaced = SpacedTimes(0.0, 21.0, 12, 1.0)
    times = np.sort(spaced.constrain(spaced.unconstrain(piled, margin=1e-3)))
    assert (np.diff(times) >= 1).all()
    assert (times[:6] < 6.2).all()
    assert (times[-4:] > 17).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "rule", [SpacedTimes(0.0, 40.0, 6, 1.0, 2), SpacedTimes(3.0, 20.0, 4, 2.0), SpacedTimes(0.0, 9.0, 3, 0.0)]
)
def test_slopes_of_times(rule):
    free = jnp.asarray(np.random.default_rng(2).normal(size=(rule.doses, 3)))
    weight = jnp.asarray(np.random.default_rng(3).normal(size=free.shape))
    check(lambda free: (jnp.sin(rule.constrain(free)) * weight).sum(), free)


@quick
@given(
    st.lists(st.tuples(st.floats(0.0, 4.0), st.floats(0.0, 9.0)), min_size=1, max_size=8),
    st.floats(0.05, 5.0),
)
def test_no_day_holds_more_than_it_may(doses, most):
    amounts, times = (np.array(each, np.float32) for each in zip(*doses, strict=True))
    kept = np.asarray(limit_daily_amount(jnp.asarray(amounts), jnp.asarray(times), most), float)
    assert (kept <= amounts + 1e-6).all()
    for begin in times:
        assert kept[(times >= begin) & (times < begin + 1)].sum() <= most * (1 + 1e-5)


def test_a_day_of_little_is_left_alone_and_days_apart_do_not_count_together():
    amounts, times = jnp.asarray([1.0, 1.0, 1.0]), jnp.asarray([0.0, 3.0, 6.0])
    np.testing.assert_allclose(limit_daily_amount(amounts, times, 3.0), 1.0, rtol=1e-4)
    np.testing.assert_allclose(limit_daily_amount(amounts, times * 0.1, 3.0), 2.0 ** (-1 / 8), rtol=1e-5)


@pytest.mark.usefixtures("float64")
def test_slopes_of_amounts_of_a_day():
    generator = np.random.default_rng(4)
    given = {"amounts": jnp.asarray(generator.uniform(0.2, 2, 5)), "times": jnp.asarray(generator.uniform(0, 4, 5))}
    weight = jnp.asarray(generator.normal(size=5))
    check(lambda given: (limit_daily_amount(given["amounts"], given["times"], 1.5) * weight).sum(), given)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"interval": -1.0}, r"interval=-1.0 must be 0 or"),
        ({"per_week": 0}, r"per_week=0 must be a whole number"),
        ({"per_day": float("nan")}, r"per_day=nan must be a positive amount"),
    ],
)
def test_limits_that_mean_nothing_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        Limits(**numbers)


def test_three_a_week_with_no_day_between_is_as_dense_as_it_is_said():
    spaced = SpacedTimes(0.0, 60.0, 12, 1.0, 3)
    earliest = np.asarray(spaced.constrain(jnp.full(12, -40.0)))
    weeks = [list(group) for _, group in itertools.groupby(earliest, lambda day: int(day + 1e-2) // 7)]
    assert [len(week) for week in weeks] == [3, 3, 3, 3]
