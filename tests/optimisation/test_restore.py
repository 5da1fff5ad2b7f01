"""Restoring VTA output by gradient: small cohorts, short courses, easy targets; the full claim runs with -m nightly."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import saturating
from fit_options import grouped
from people import strained

from habenula.circuit.fitting.bijections import Interval
from habenula.circuit.fitting.dose_spacing import Limits
from habenula.circuit.fitting.regimen import RegimenLeaf, leaf_values
from habenula.circuit.model.interventions import Ketamine, Recalibration, Stress
from habenula.circuit.optimisation import gradient_step, problem
from habenula.circuit.optimisation.diagnosis import (
    active_bound_point,
    bound_gradients,
    classify_starts,
    extreme_point,
    relax_bounds,
)
from habenula.circuit.optimisation.gradient_step import init_adam_state
from habenula.circuit.optimisation.restore import restore
from habenula.circuit.optimisation.settings import Multistart, RegimenLoss, choose_fit_plan
from habenula.circuit.optimisation.target import Target
from habenula.circuit.simulation.conditions import as_healthy, depressed, draw, healthy, healthy_output
from habenula.circuit.simulation.course import course
from habenula.kernels import Plan

DAYS = 14.0
SHORT = dict(days=DAYS, starts=4, steps=25, window=(10.0, 14.0))


def sessions(count: int = 4) -> Recalibration:
    return Recalibration(np.arange(count) * 2.0, np.ones(count))


@pytest.fixture(scope="module")
def ill():
    return draw(depressed(), 8, seed=1)


@pytest.fixture(scope="module")
def target(ill):
    """What a known regimen reaches, so that the target can be reached."""
    known = Recalibration(np.array([1.0, 3.0, 5.0, 7.0]), np.array([2.5, 2.0, 2.0, 1.5]))
    return mean_over_window(ill, (known,))


@pytest.fixture(scope="module")
def shared_fit(ill, target):
    return restore(ill, sessions(), target, **grouped(burden=0.0, **SHORT))


def mean_over_window(people, arm) -> float:
    found = course(people, arm, DAYS, save_every=24, record=("vta_output",))
    return float(np.asarray(found["vta_output"])[:, 10:].mean())


def test_every_start_reaches_the_target(shared_fit, target):
    assert shared_fit.status == "reached", shared_fit.reason
    assert (abs(shared_fit.starts / target - 1) < 0.02).sum() >= 3
    assert shared_fit.before < target
    assert not shared_fit.failures


def test_the_arm_does_what_the_fit_says(ill, shared_fit):
    assert mean_over_window(ill, shared_fit.arm) == pytest.approx(shared_fit.after, rel=1e-3)
    assert mean_over_window(ill, ()) == pytest.approx(shared_fit.before, rel=1e-3)
    np.testing.assert_array_equal(shared_fit.fitted["times"], shared_fit.arm[0].times)


def test_bounds_hold(shared_fit):
    times, intensity = shared_fit.fitted["times"], shared_fit.fitted["intensity"]
    assert (times >= 0).all()
    assert (times < DAYS).all()
    assert (intensity >= 0).all()
    assert (intensity <= 4).all()


@pytest.mark.slow
def test_a_burden_lowers_the_doses(ill, target):
    ample = Recalibration(np.arange(4) * 2.0, np.full(4, 3.0))
    options = SHORT | {"starts": 1, "over": "intensity", "learning_rate": 0.25}
    free, sparing = (restore(ill, ample, target, **grouped(burden=burden, **options)) for burden in (0.0, 0.1))
    assert free.status == sparing.status == "reached"
    assert sparing.fitted["intensity"].sum() < 0.99 * free.fitted["intensity"].sum()


INTENSITY, TIMES = (
    RegimenLeaf("intensity", 0, "intensity", Interval(0.0, 4.0)),
    RegimenLeaf("times", 0, "times", Interval(0.0, 13.0)),
)
LEAVES = (INTENSITY, TIMES)
ARM = (sessions(2),)
MIDDLE, HIGH, LOW = 0.0, 5.0, -5.0  # unconstrained
NOBODY_LOOKED = None


def ended(reached, free, slope):
    """A search of one start and one subject, over two doses, that rests where the intensity slopes so."""
    best, slopes = ((jnp.full((2, 1, 1), of), jnp.zeros((2, 1, 1))) for of in (free, slope))
    began = init_adam_state(best, subjects=1)
    at = lambda search: (search.slope, search.loss, search.reached)
    return eqx.tree_at(at, began, (slopes, jnp.ones((1, 1)), jnp.full((1, 1), reached)))


STEEP, FLAT = 1e-3, 1e-9  # at a bound, where a slope in free numbers is 150 times that by the share of the width


@pytest.mark.parametrize(
    ("reached", "free", "slope", "most", "wider", "status"),
    [
        (0.99, MIDDLE, 0.1, NOBODY_LOOKED, NOBODY_LOOKED, "reached"),
        (np.inf, MIDDLE, 0.0, NOBODY_LOOKED, NOBODY_LOOKED, "failed"),
        (0.7, MIDDLE, FLAT, NOBODY_LOOKED, NOBODY_LOOKED, "plateau"),
        (0.7, MIDDLE, -0.1, NOBODY_LOOKED, NOBODY_LOOKED, "steps"),
        (0.7, MIDDLE, -0.1, 1.1, 1.2, "steps"),  # the most would be too much
        (0.7, MIDDLE, -FLAT, 1.1, 1.2, "steps"),
        (0.7, MIDDLE, -0.1, 0.4, 0.3, "steps"),  # the most is worse
        (0.7, MIDDLE, -0.1, 0.9, 0.99, "bounds"),  # the most is not enough, and more is
        (0.7, MIDDLE, -0.1, 0.9, 1.5, "bounds"),  # or more than that
        (0.7, MIDDLE, -0.1, 0.9, 0.96, "bounds"),  # or nearer by more than half
        (0.7, MIDDLE, -0.1, 0.9, 0.94, "plateau"),  # or by less: as well as can be
        (0.7, MIDDLE, -0.1, 0.9, 0.5, "plateau"),  # or worse
        (0.7, MIDDLE, -0.1, 0.9, np.nan, "plateau"),
        (0.7, MIDDLE, -0.1, 0.9, NOBODY_LOOKED, "plateau"),
        (1.3, MIDDLE, 0.1, 1.1, 1.03, "bounds"),
        (1.3, MIDDLE, 0.1, 1.1, 1.08, "plateau"),
        (0.7, HIGH, -STEEP, 0.7, 0.9, "bounds"),  # the most is there already
        (0.7, MIDDLE, -1e-3, 0.7, 0.71, "plateau"),  # the most changes nothing
        (0.7, HIGH, -STEEP, NOBODY_LOOKED, 0.9, "bounds"),  # times alone
        (0.7, HIGH, -STEEP, NOBODY_LOOKED, 0.71, "plateau"),
        (0.7, HIGH, STEEP, NOBODY_LOOKED, NOBODY_LOOKED, "steps"),  # downhill is inward
    ],
)
def test_statuses(reached, free, slope, most, wider, status):
    here = bound_gradients(ended(reached, free, slope), LEAVES, ARM)
    looked = [None if seen is None else np.full((1, 1), seen) for seen in (most, wider)]
    assert classify_starts(np.full((1, 1), reached), 0.02, here, *looked) == [[status]]


def test_beyond_narrow_bounds_is_the_same_regimen_with_what_stands_at_them_at_wider_ones():
    narrow = (dataclasses.replace(INTENSITY, interval=Interval(1.0, 2.0)), TIMES)
    kept = narrow[0].interval.constrain(jnp.asarray(MIDDLE))
    for free, amount in ((HIGH, 4.0), (LOW, 0.0), (MIDDLE, kept)):
        moved = relax_bounds(ended(0.7, free, 0.1), narrow, LEAVES)
        np.testing.assert_allclose(INTENSITY.interval.constrain(moved[0]), amount, atol=5e-3)
        np.testing.assert_allclose(moved[1], MIDDLE, atol=1e-6)  # times have no wider bounds


def test_amounts_that_a_day_holds_back_stand_at_a_bound():
    """Far beyond what a day may hold, the free number hardly moves the amount: its slope is by the amount itself."""
    held = dataclasses.replace(INTENSITY, per_day=0.5)
    arm = (Recalibration(np.array([1.0, 1.2]), np.ones(2)),)
    search = ended(0.7, MIDDLE, -1e-4)
    found = bound_gradients(search, (held, TIMES), arm)
    plain = bound_gradients(search, LEAVES, arm)
    kept = leaf_values(search.best, (held, TIMES), arm)[0] / leaf_values(search.best, LEAVES, arm)[0]
    assert (kept < 0.2).all()
    assert (found.room[:2] == 0).all()
    assert (found.pull[:2] < 100 * plain.pull[:2]).all()


def test_the_corner_puts_amounts_at_the_bound_downhill_and_leaves_times():
    up, down = (active_bound_point(ended(0.7, MIDDLE, slope), LEAVES) for slope in (-0.1, 0.1))
    np.testing.assert_allclose(INTENSITY.interval.constrain(up[0]), 4.0, rtol=2e-3)
    np.testing.assert_allclose(INTENSITY.interval.constrain(down[0]), 0.0, atol=5e-3)
    np.testing.assert_array_equal(up[1], MIDDLE)


def test_the_utmost_is_all_that_may_be_where_too_little_was_reached_and_the_least_where_too_much():
    for reached, amount in ((0.7, 4.0), (1.3, 0.0)):
        for when, time in ((-1.0, 0.0), (0.0, 6.5), (1.0, 13.0)):
            free = extreme_point(ended(reached, MIDDLE, 0.1), LEAVES, when)
            np.testing.assert_allclose(INTENSITY.interval.constrain(free[0]), amount, atol=5e-3)
            np.testing.assert_allclose(TIMES.interval.constrain(free[1]), time, atol=2e-2)


def test_a_target_that_no_dose_reaches_is_not_the_bounds_fault(ill):
    found = restore(ill, sessions(), 50.0, **grouped(burden=0.0, **SHORT | {"steps": 2}))
    assert found.status == "plateau", found.reason
    np.testing.assert_allclose(found.fitted["intensity"], 4.0, rtol=2e-3)


@pytest.mark.nightly
def test_bounds_that_forbid_the_target(ill):
    options = SHORT | {"burden": 0.0, "learning_rate": 1.0}
    tight = restore(ill, sessions(), over="intensity", bounds={"intensity": (0.0, 0.02)}, **grouped(**options))
    assert tight.status == "bounds", tight.reason
    assert "seen with intensity from 0 to 4; widen them" in tight.reason
    assert (tight.fitted["intensity"] <= np.float32(0.02)).all()


@pytest.mark.nightly
def test_what_changes_nothing_is_a_plateau(ill):
    nothing = Recalibration(np.array([1.0]), np.array([0.0]), challenge=0.0)
    found = restore(ill, nothing, over="times", **grouped(**SHORT | {"steps": 2}))
    assert found.status == "plateau", found.reason


@pytest.mark.slow
def test_personal_regimens(ill):
    """By default towards what each would have been: half of these could never come to the typical subject's output."""
    found = restore(ill, sessions(), over="intensity", personal=True, **grouped(**SHORT))
    assert found.fitted["intensity"].shape == (4, 8)
    assert found.statuses.count("reached") >= 4, found.reason
    assert found.reason.startswith(f"{found.statuses.count('reached')} of 8 subjects reach their target; in the ")
    assert found.each.shape == found.targets.shape == (8,)
    assert np.ptp(found.targets) > 0.2
    well = course(as_healthy(ill), (), DAYS, save_every=24, record=("vta_output",))
    np.testing.assert_allclose(found.targets, np.asarray(well["vta_output"])[:, 10:].mean(axis=1), rtol=1e-5)


@pytest.mark.nightly
def test_who_is_as_well_as_can_be_is_not_held_back_by_bounds():
    """The typical subject's output is out of reach for people whose own healthy output is lower, at any dose."""
    people = draw(depressed(), 16, seed=1)
    options = dict(days=28.0, bounds={"intensity": (0.0, 2.0)}, personal=True, search=Multistart(starts=2, steps=24))
    own = restore(people, Recalibration.weekly(12), **options)
    assert own.statuses.count("reached") >= 14, own.reason
    found = restore(people, Recalibration.weekly(12), healthy_output(), **options)
    low = own.targets < 0.97 * healthy_output()
    assert low.sum() >= 4
    for i in np.flatnonzero(low):
        assert found.statuses[i] in ("plateau", "bounds"), "never one that says more steps would do"
    as_well = [found.statuses[i] for i in np.flatnonzero(low & (found.each > 0.985 * own.targets))]
    assert as_well.count("plateau") > as_well.count("bounds"), as_well
    assert found.statuses.count("reached") >= 9, "among them who only needed sessions earlier"


def test_a_second_call_does_not_compile(ill, target):
    few = SHORT | {"steps": 1}
    restore(ill, sessions(), target, **grouped(**few))
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    restore(draw(depressed(), 8, seed=2), sessions(), 0.9 * target, **grouped(burden=0.02, **few))
    assert not compiled


@pytest.mark.parametrize(
    ("subjects", "plan", "backend"), [(8, None, "scan"), (512, None, "auto"), (512, Plan("scan"), "scan")]
)
def test_long_fits_run_in_tiles_unless_told_otherwise(subjects, plan, backend):
    plan = choose_fit_plan(plan, subjects, days=28.0, search=Multistart(starts=1, steps=80))
    assert plan.backend == backend


def test_progress_counts_steps(ill, target):
    seen = []
    restore(
        ill,
        sessions(),
        target,
        progress=lambda done, most: seen.append((done, most)),
        **grouped(**SHORT | {"steps": 2}),
    )
    assert seen == [(1, 2), (2, 2)]


KETAMINE = Ketamine(np.array([0.5, 0.5]), np.array([0.0, 3.0]))


@pytest.mark.parametrize(
    ("arm", "options", "message"),
    [
        (KETAMINE, {}, r"over='intensity' is no leaf of the arm; choose from Ketamine.mg_per_kg, Ketamine.day"),
        ((KETAMINE, KETAMINE), {"over": "day"}, r"over='day' is ambiguous; .*Ketamine\[0\].day"),
        (KETAMINE, {"over": ()}, r"at least one leaf"),
        (KETAMINE, {"over": ("day", "Ketamine.day")}, r"none twice"),
        (KETAMINE, {"over": "day", "target": -1.0}, r"target=-1 must be a positive number of Hz"),
        (KETAMINE, {"over": "day", "window": (13.0, 20.0)}, r"window=\(13.0, 20.0\) must be"),
        (KETAMINE, {"over": "mg_per_kg", "bounds": {"mg_per_kg": (0.0, 9.0)}}, r"between 0 and 2"),
        (KETAMINE, {"over": "mg_per_kg", "bounds": {"day": (0.0, 1.0)}}, r"which are not fitted"),
        (Ketamine(np.array([0.5]), np.array([20.0])), {"over": "day"}, r"outside the course"),
        (Ketamine(np.full((1, 8), 0.5)), {"over": "mg_per_kg"}, r"one value per subject: fit it with personal=True"),
        (KETAMINE, {"over": "day", "target": Target.mean(), "window": (1.0, 2.0)}, r"window=.* beside a Target"),
        (KETAMINE, {"over": "day", "loss": RegimenLoss(over_cohort=2.0)}, r"over_cohort=2.0 must be"),
        (KETAMINE, {"over": "day", "limits": Limits(per_week=1), "days": 7.0}, r"take 7.* but there are 6.95833"),
        (
            (KETAMINE, Stress(1.0, 0.02, 3.0)),
            {"over": "day", "target": Target.after_stress(Stress(1.0, 0.02, 3.0), days=5)},
            r"target.until=.* leaves no time to treat before the stress",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_compiled(ill, monkeypatch, arm, options, message):
    monkeypatch.setattr(gradient_step, "course", None)
    monkeypatch.setattr(problem, "course", None)
    with pytest.raises(ValueError, match=message):
        restore(ill, arm, **{"days": DAYS} | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": 0}, r"starts=0 must be at least 1"),
        ({"steps": 0}, r"steps=0 must be at least 1"),
        ({"learning_rate": -1.0}, r"learning_rate=-1.0 must be 0 or a positive number"),
        ({"burden": float("nan")}, r"burden=nan must be"),
        ({"shortfall": float("inf")}, r"shortfall=inf must be"),
    ],
)
def test_search_and_loss_refuse_impossible_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        grouped(**options)


def some(monkeypatch, *arm, stand_in=saturating.course, **options):
    """A fit of three people whose output is known in closed form; see `saturating`."""
    monkeypatch.setattr(gradient_step, "course", stand_in)
    monkeypatch.setattr(problem, "course", stand_in)
    options = dict(over="intensity", days=8.0, starts=2, steps=60, burden=0.0, shortfall=0.0) | options
    found = restore(strained(3), arm, **grouped(**options))
    lived = saturating.course(strained(3), found.arm, 8.0, save_every=24, record=(), plan=None)["vta_output"][:, 0]
    return found, np.asarray(lived) / saturating.HEALTH


@pytest.mark.slow
def test_the_worst_off_come_to_the_target_where_they_count(monkeypatch):
    reached = {}
    for cohort in ("mean", 0.5, "worst tenth"):
        found, reached[cohort] = some(
            monkeypatch, Recalibration([0.0, 2.0]), target=0.9 * saturating.HEALTH, over_cohort=cohort
        )
        assert found.status == "reached", found.reason
    assert reached["mean"].mean() == pytest.approx(0.9, abs=0.02)
    assert np.median(reached[0.5]) == pytest.approx(0.9, abs=0.03)
    assert reached["worst tenth"].min() == pytest.approx(0.9, abs=0.02)
    assert found.before == pytest.approx(saturating.HEALTH * 0.3, rel=1e-5), "the worst, untreated"


def test_treatment_ends_before_the_stress_that_it_is_to_outlast(monkeypatch):
    arm = (Recalibration([0.0, 2.0, 6.0]), Stress(1.0, 4.0, 1.0))
    asked = Target.after_stress(arm, 0.9 * saturating.HEALTH, days=2)
    found, _ = some(monkeypatch, *arm, target=asked, over=("intensity", "times"))
    assert found.fitted["times"].max() <= 4 - 1 / 24
    assert (np.diff(found.fitted["times"]) >= 1).all()
    assert vars(found.arm[1])["days"] == 1.0


@pytest.mark.slow
def test_late_sessions_are_not_held_back_by_the_bounds_of_their_intensity(monkeypatch):
    """The most that these allow is too little at the times given, but not at the earliest."""
    options = dict(stand_in=saturating.early_course, days=9.0, starts=1, steps=1, over=("intensity", "times"))
    found, _ = some(monkeypatch, Recalibration([7.0, 8.0], [3.0, 3.0]), target=0.8 * saturating.HEALTH, **options)
    assert found.status == "steps", found.reason
    early, _ = some(monkeypatch, Recalibration([7.0, 8.0], [3.0, 3.0]), target=3 * saturating.HEALTH, **options)
    assert early.status == "plateau", early.reason
    assert early.fitted["times"].max() < 2, "brought forward all the same"


@pytest.mark.parametrize(
    ("high", "target", "status"),
    [
        (0.1, 0.85, "bounds"),  # the bounds of sessions themselves allow more than this
        (2.0, 1.2, "plateau"),  # doubled, sessions would come nearer by less than half
        (4.0, 1.2, "plateau"),  # no more may be given
    ],
)
def test_wider_bounds_are_looked_at_before_they_are_advised(monkeypatch, high, target, status):
    found, _ = some(
        monkeypatch,
        Recalibration([0.0, 2.0]),
        target=target * saturating.HEALTH,
        bounds={"intensity": (0.0, high)},
    )
    assert found.status == status, found.reason
    most = saturating.HEALTH * (1 - 0.6 * np.exp(-saturating.SLOPE))  # 0.6 is what three people lack in the mean
    assert f"{most:.2f} Hz is the furthest that was seen with intensity from 0 to 4" in found.reason
    assert (found.fitted["intensity"] <= np.float32(high)).all()


def test_bounds_of_times_are_looked_at_too(monkeypatch):
    """Sessions are worth the more, the earlier they are: the first rests at its bound, the second a day later."""
    options = dict(stand_in=saturating.early_course, days=9.0, over="times", bounds={"times": (5.0, 8.0)})
    found, _ = some(monkeypatch, Recalibration([6.0, 7.0], [3.0, 3.0]), target=0.95 * saturating.HEALTH, **options)
    assert found.status == "bounds", found.reason
    most = saturating.HEALTH * (1 - 0.5 * np.exp(-saturating.SLOPE * 0.75 * (1 - (0 + 6) / 2 / 9)))
    assert f"{most:.2f} Hz is the furthest that was seen with times from 0 to" in found.reason


def test_limits_hold_in_what_is_found(monkeypatch):
    limits = Limits(interval=0.0, per_week=3, per_day=2.0)
    arm = Recalibration([0.0, 0.2, 0.4, 0.6, 7.2], np.full(5, 4.0))
    found, _ = some(monkeypatch, arm, target=1.5 * saturating.HEALTH, over=("intensity", "times"), limits=limits)
    times, intensity = found.fitted["times"], found.fitted["intensity"]
    assert (times[3:] - times[:-3] >= 7).all()
    assert times.max() < 8
    for first in times:
        assert intensity[(times >= first) & (times < first + 1)].sum() <= 2 * (1 + 1e-6)
    np.testing.assert_array_equal(vars(found.arm[0])["times"], times)


@pytest.mark.nightly
def test_a_response_comes_in_time_and_stays(ill):
    """Sessions of up to twice the standard, each day's mean within a tenth of health from day 14 on."""
    asked = Target.response(by=14, within=0.1)
    found = restore(ill, Recalibration.weekly(12), asked, days=28.0, search=Multistart(starts=2, steps=40))
    assert found.status == "reached", found.reason
    lived = course(ill, found.arm, 28.0, save_every=24, record=("vta_output",))
    daily = np.asarray(lived["vta_output"]).mean(axis=0) / healthy_output()
    assert (abs(daily[13:] - 1) < 0.1).all()
    assert abs(daily[:5] - 1).max() > 0.1


@pytest.mark.nightly
def test_what_outlasts_a_stress(ill):
    """Treatment that is asked to last leaves more after a later stress than the untreated have, and ends before it."""
    arm = (Recalibration.weekly(9), Stress(1.0, 28.0, 5.0))
    found = restore(ill, arm, Target.after_stress(arm, days=7), days=42.0, search=Multistart(starts=2, steps=30))
    assert found.fitted["times"].max() < 28
    assert found.after > found.before + 0.5
    lived = course(ill, found.arm, 42.0, save_every=24, record=("vta_output",))
    assert float(lived["vta_output"][:, 33:40].mean()) == pytest.approx(found.after, rel=1e-3)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("arm", "over"),
    [
        (lambda: Recalibration.weekly(), ("intensity", "times")),
        (lambda: Ketamine(np.full(8, 0.5), np.arange(8) * 3.5), ("mg_per_kg", "day")),
    ],
)
def test_a_depressed_cohort_returns_to_health_from_nine_of_ten_starts(arm, over):
    options = dict(save_every=24, record=("vta_output",))
    target = float(course(draw(healthy(), 16, seed=1), (), 63.0, **options)["vta_output"][:, -7:].mean())
    found = restore(draw(depressed(), 16, seed=1), arm(), target, over=over)
    reached = abs(found.starts / target - 1) < 0.02
    assert reached.sum() >= 9, (found.reason, found.starts)
