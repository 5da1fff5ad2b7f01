"""Which numbers are fitted, and the limits that a regimen of several interventions keeps to."""

import jax.numpy as jnp
import numpy as np
import pytest

from habenula.circuit.fitting.dose_spacing import Limits, SpacedTimes
from habenula.circuit.fitting.regimen import find_leaves, leaf_values, sort_doses
from habenula.circuit.model.interventions import SSRI, Ketamine, Methylphenidate, Recalibration, Stress


def free_of(leaves, doses, starts=2):
    return tuple(jnp.asarray(np.random.default_rng(i).normal(size=(doses, starts, 1)) * 4) for i in range(len(leaves)))


def test_limits_of_two_interventions_by_name():
    arm = (Ketamine(np.full(4, 0.5), np.arange(4) * 3.0), Recalibration(np.arange(4) * 2.0))
    limits = {"Ketamine": Limits(per_week=1), "Recalibration": Limits(interval=0.0, per_day=1.5)}
    over = ("mg_per_kg", "day", "intensity", "times")
    leaves = find_leaves((arm[0], Recalibration(np.arange(4) * 2.0, np.ones(4))), over, {}, 40.0, limits)
    mg, day, intensity, times = (np.asarray(value)[:, 0, 0] for value in leaf_values(free_of(leaves, 4), leaves, arm))
    assert (np.diff(np.sort(day)) >= 7).all()
    assert mg.max() <= 2
    assert not isinstance(leaves[3].interval, SpacedTimes)
    for begin in times:
        assert intensity[(times >= begin) & (times < begin + 1)].sum() <= 1.5


def test_by_default_infusions_are_two_days_apart_and_sessions_one():
    for intervention, field, least in (
        (Ketamine(0.5, [0.0, 3.0]), "day", 2.0),
        (Recalibration([0.0, 2.0]), "times", 1.0),
    ):
        (leaf,) = find_leaves((intervention,), field, {}, 20.0)
        assert leaf.interval == SpacedTimes(0.0, 20.0 - 1 / 24, 2, least)
    (alone,) = find_leaves((Ketamine(0.5, 0.0),), "day", {}, 20.0)
    assert not isinstance(alone.interval, SpacedTimes)


def test_most_of_a_day_is_a_bound_where_there_is_one_dose_a_day():
    infusions, tablets = (Ketamine([0.5, 0.5], [0.0, 3.0]),), (Methylphenidate([30.0, 30.0], [0.0, 4.0]),)
    for arm, name in (((SSRI(),), "mg_per_day"), (infusions, "mg_per_kg")):
        (leaf,) = find_leaves(arm, name, {}, 20.0, Limits(per_day=1.5))
        assert leaf.interval.high == 1.5
    (leaf,) = find_leaves(tablets, "mg", {}, 20.0, Limits(per_day=60.0))
    (mg,) = leaf_values((jnp.full((2, 1, 1), 20.0),), (leaf,), tablets)
    assert 55 < mg.sum() <= 60


def test_doses_come_in_the_order_of_their_times_with_what_belongs_to_them():
    arm = (Stress(), Ketamine([0.1, 0.2, 0.3], [9.0, 1.0, 5.0], [40.0, 50.0, 60.0]))
    leaves = find_leaves(arm, ("day",), {}, 20.0)
    ordered = vars(sort_doses(arm, leaves)[1])
    np.testing.assert_allclose(ordered["day"], [1, 5, 9])
    np.testing.assert_allclose(ordered["mg_per_kg"], [0.2, 0.3, 0.1])
    np.testing.assert_allclose(ordered["minutes"], [50, 60, 40])
    own = (Ketamine([0.1, 0.2], np.array([[9.0, 1.0], [5.0, 4.0]])),)  # of two subjects
    ordered = vars(sort_doses(own, find_leaves(own, ("day",), {}, 20.0))[0])
    np.testing.assert_allclose(ordered["day"], [[5, 1], [9, 4]])
    np.testing.assert_allclose(ordered["mg_per_kg"], [[0.2, 0.1], [0.1, 0.2]])


TWICE, TABLETS = (Recalibration([0.0, 0.4]),), (Methylphenidate(),)


@pytest.mark.parametrize(
    ("arm", "over", "limits", "message"),
    [
        (
            TWICE,
            "times",
            {"Ketamine": Limits()},
            r"limits for \['Ketamine'\], which are not in the arm; .* Recalibration",
        ),
        (TWICE, "intensity", Limits(interval=1.0), r"Recalibration.times breaks Limits\(interval=1.0.*fit 'times' too"),
        (TWICE, "times", Limits(per_day=0.5), r"per_day=0.5 of Recalibration .* only where 'intensity' is fitted"),
        (TWICE, "times", Limits(interval=40.0), r"2 doses at least 40 d apart take 40.*give fewer"),
        ((*TWICE, Ketamine()), "times", Limits(per_day=1.0), r"is in the unit of one of Recalibration and Ketamine"),
        (TABLETS, "mg", {"Methylphenidate": Limits(per_week=3)}, r"Methylphenidate has no times of doses"),
        ((SSRI(),), "mg_per_day", Limits(interval=1.0), r"SSRI has no times of doses"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(arm, over, limits, message):
    with pytest.raises(ValueError, match=message):
        find_leaves(arm, (over,), {}, 30.0, limits)
