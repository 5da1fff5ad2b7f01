"""What is asked of VTA output, day by day and over a cohort, against sums done by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from gradient_check import check

from habenula.circuit.model.interventions import Recalibration, Stress
from habenula.circuit.optimisation.target import (
    Target,
    TargetArrays,
    aggregate_subjects,
    check_cohort_criterion,
    relative_miss,
    saved_days,
)

DAYS = 30.0
LATER = Stress(1.0, 14.0, 4.0)


def number(value):
    return jnp.asarray(value, jnp.result_type(float))


def goal(target, days=DAYS, healthy=4.0):
    return TargetArrays(number(target.wanted(days, healthy)), number(target.judged(days) * 1.0), number(target.within))


@pytest.mark.parametrize(
    ("target", "first", "last"),
    [
        (Target.mean(), 24, 30),
        (Target.mean(3.0, (10.0, 12.0)), 11, 12),
        (Target.response(by=14), 14, 30),
        (Target.response(by=14, stay=5), 14, 19),
        (Target.after_stress((Recalibration([0.0]), LATER), days=7), 19, 25),
    ],
)
def test_days_that_are_looked_at(target, first, last):
    np.testing.assert_array_equal(saved_days(DAYS)[target.judged(DAYS)], np.arange(first, last + 1))


def test_a_trajectory_is_asked_for_on_its_days_and_is_straight_between():
    target = Target.trajectory((5, 10, 20), (2.0, 3.0, 4.0))
    assert saved_days(DAYS)[target.judged(DAYS)].tolist() == [5, 10, 20]
    wanted = target.wanted(DAYS, 9.0)[0]
    np.testing.assert_allclose(wanted[[0, 4, 6, 9, 14, 29]], [2, 2, 2.4, 3, 3.5, 4])


def test_after_a_stress_treatment_is_over():
    assert Target.after_stress((Recalibration([0.0]), Stress(1.0, 2.0, 4.0), LATER)).until == 14
    assert Target.mean().until is None


def test_a_mean_is_judged_by_its_mean_and_a_response_on_its_worst_day():
    output = jnp.ones((1, 2, 30)).at[:, :, 20].set(0.7)  # day 21
    good = jnp.ones((1, 2), bool)
    square, reached = relative_miss(output, good, goal(Target.mean(4.0, (20.0, 30.0))), False, "mean")
    np.testing.assert_allclose(reached, [[0.97]], rtol=1e-6)
    np.testing.assert_allclose(square, [[0.0009]], rtol=1e-5)
    square, reached = relative_miss(output, good, goal(Target.response(by=21)), True, "mean")
    np.testing.assert_allclose(reached, [[0.7]], rtol=1e-6)
    np.testing.assert_allclose(square, [[0.09 / 10]], rtol=1e-5)
    _, reached = relative_miss(output, good, goal(Target.response(by=22)), True, "mean")
    np.testing.assert_allclose(reached, [[1.0]], rtol=1e-6)


def test_each_subject_is_judged_alone_where_there_is_no_cohort():
    output = jnp.ones((3, 2, 30)) * jnp.asarray([0.9, 1.2])[None, :, None]
    square, reached = relative_miss(output, jnp.ones((3, 2), bool), goal(Target.mean()), False, None)
    np.testing.assert_allclose(reached, np.tile([0.9, 1.2], (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(square, np.tile([0.01, 0.04], (3, 1)), rtol=1e-5)


VALUE = np.random.default_rng(1).uniform(0.2, 1.1, (2, 40, 3))


@pytest.mark.parametrize("left_out", [0, 9])
def test_over_subjects(left_out):
    """The mean, the mean of the lowest tenth, and quantiles, of those who count."""
    good = np.ones((2, 40), bool)
    good[:, :left_out] = False
    value = number(np.where(good[..., None], VALUE, 1.0))  # what is not finite stands as 1 and does not count
    find = lambda cohort: np.asarray(aggregate_subjects(value, jnp.asarray(good), cohort))[:, 0]
    kept = np.sort(VALUE[:, left_out:], axis=1)
    np.testing.assert_allclose(find("mean"), kept.mean(axis=1), rtol=1e-5)
    count = kept.shape[1]
    tail, share = np.zeros((2, 3)), count / 10
    for rank in range(count):
        tail += min(max(share - rank, 0), 1) * kept[:, rank]
    np.testing.assert_allclose(find("worst tenth"), tail / share, rtol=1e-5)
    for q in (0.1, 0.5, 0.8):
        error = 6 * np.sqrt(q * (1 - q) / count) * 0.9  # standard error of a quantile where the density is 1 / 0.9
        assert (abs(find(q) - np.quantile(kept, q, axis=1)) < error / 2).all()


def test_quantiles_come_in_order_and_move_with_all_subjects():
    value, good = number(VALUE), jnp.ones((2, 40), bool)
    found = [np.asarray(aggregate_subjects(value, good, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
    assert (np.diff(found, axis=0) > 0).all()
    np.testing.assert_allclose(aggregate_subjects(value + 0.3, good, 0.25), found[1] + 0.3, rtol=1e-5)


def test_the_worst_tenth_of_three_is_the_worst():
    value = number([[[0.7], [0.3], [0.9]]])
    assert float(aggregate_subjects(value, jnp.ones((1, 3), bool), "worst tenth")[0, 0, 0]) == pytest.approx(0.3)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("cohort", ["mean", "worst tenth", 0.3])
def test_slopes_over_subjects(cohort):
    weight = jnp.asarray(np.random.default_rng(2).normal(size=(2, 1, 3)))
    good = jnp.ones((2, 40), bool).at[0, 3].set(False)
    check(lambda value: (aggregate_subjects(value, good, cohort) * weight).sum(), jnp.asarray(VALUE))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("every", [False, True])
def test_slopes_of_a_judgement(every):
    output = jnp.asarray(np.random.default_rng(3).uniform(0.5, 1.2, (2, 5, 30)))
    asked = goal(Target.response(by=20) if every else Target.mean())
    loss = lambda output: sum(part.sum() for part in relative_miss(output, jnp.ones((2, 5), bool), asked, every, 0.4))
    check(loss, output)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Target.mean(-1.0), r"target=-1 must be a positive"),
        (lambda: Target.mean(4.0, within=2.0), r"within=2 must lie between 0 and 1"),
        (lambda: Target.trajectory((7, 14), (3.0,)), r"1 levels for 2 days"),
        (lambda: Target.trajectory((7.5,), (3.0,)), r"days=\(7.5,\) must be whole"),
        (lambda: Target.trajectory((14, 7), (3.0, 4.0)), r"must rise"),
        (lambda: Target.trajectory((40,), (3.0,)).judged(DAYS), r"days=\(40.0,\) reach beyond the course"),
        (lambda: Target.response(by=31).judged(DAYS), r"window=\(30.0, 30.0\) must be"),
        (lambda: Target.after_stress(LATER, days=20).judged(DAYS), r"window=\(18.0, 38.0\) must be"),
        (lambda: Target.after_stress(Recalibration([0.0])), r"needs an arm with a Stress"),
        (lambda: check_cohort_criterion("best", False), r"over_cohort='best' must be 'mean', 'worst tenth'"),
        (lambda: check_cohort_criterion(1.0, False), r"over_cohort=1.0 must be"),
        (lambda: check_cohort_criterion(0.1, True), r"personal fits look at each subject"),
    ],
)
def test_what_cannot_be_asked_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
