"""Fit: the regimen that brings VTA output back to a target, found by gradient.

    restore(cohort, Recalibration.weekly(), over=("intensity", "times"))
    restore(cohort, arm, Target.response(by=14), limits=Limits(per_week=3), loss=RegimenLoss(over_cohort="worst tenth"))

Several starts descend at once (`multistart`; `gradient_step` holds the loss and its reasons). The result says what each
reached, and why if that is not the target.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ...kernels import Plan
from ..fitting import regimen
from ..fitting.dose_spacing import Limits
from ..fitting.failures import FitFailure
from ..fitting.regimen import leaf_values
from ..model.interventions import Arm, Intervention
from ..simulation.cohort import Cohort
from .diagnosis import (
    active_bound_point,
    bound_gradients,
    classify_starts,
    describe_furthest_output,
    describe_status,
    extreme_point,
    relax_bounds,
)
from .gradient_step import AdamState, update_best, update_best_where
from .multistart import (
    NonfiniteLog,
    describe_failures,
    evaluate_point,
    evaluate_within_bounds,
    has_reached_target,
    run_gradient_descent,
)
from .problem import RegimenProblem, make_regimen_problem
from .settings import Multistart, RegimenLoss
from .target import Target, as_target

DEFAULT_SEARCH, DEFAULT_LOSS = Multistart(), RegimenLoss()


@dataclasses.dataclass(frozen=True)
class Restoration:
    """A regimen found by gradient, and how well it does. VTA output is in Hz, a mean over the days that are judged.

    Where each of several days is asked for, what is reached is that of the worst day, relative to the target's mean; for a
    quantile or the worst tenth of a cohort, it is theirs.

    Attributes:
        arm: as given, with the fitted leaves of the best start (of each subject's best in personal fits); doses whose
            times are fitted are in their order.
        fitted: by name, the fitted values; in personal fits with a last axis of subjects.
        target: asked for; a mean over subjects.
        before: cohort's mean without the arm.
        after: cohort's mean under the fitted arm.
        starts: cohort's mean reached from each start.
        losses: of each start; mean over subjects in personal fits.
        status: "reached" (within the tolerance), "bounds" (no amount within the bounds reaches it, at the times found,
            the earliest or the latest, and with the intervention's own bounds output was seen to come nearer by half of
            the miss), "plateau" (hardly any slope, off the target; or output as near as any dose brings it), "steps" (more
            was to be gained) or "failed" (not finite). In personal fits the commonest among subjects who did not reach it,
            if any.
        reason: the same in a sentence.
        failures: simulations during the search that became non-finite, or whose gradient did, each with a line of Python
            that replays it; they are left out there.
        steps: gradient steps made.
        each: in personal fits, VTA output of every subject under its own regimen.
        targets: in personal fits, every subject's own.
        statuses: in personal fits, the status of every subject.
    """

    arm: Arm
    fitted: dict[str, np.ndarray]
    target: float
    before: float
    after: float
    starts: np.ndarray
    losses: np.ndarray
    status: str
    reason: str
    failures: tuple[FitFailure, ...]
    steps: int
    each: np.ndarray | None = None
    targets: np.ndarray | None = None
    statuses: tuple[str, ...] | None = None


def restore(
    cohort: Cohort,
    arm: Intervention | Arm,
    target: float | Target | None = None,
    *,
    over: Sequence[str] = ("intensity", "times"),
    days: float = 63.0,
    window: tuple[float, float] | None = None,
    personal: bool = False,
    search: Multistart = DEFAULT_SEARCH,
    loss: RegimenLoss = DEFAULT_LOSS,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    limits: Limits | Mapping[str, Limits] | None = None,
    plan: Plan | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Restoration:
    """Find values of some leaves of `arm` that bring VTA output to `target`.

    Args:
        cohort: subjects as they are on day 0. A few dozen determine a shared regimen: `cohort[:48]`.
        arm: an intervention, or several; leaves that are not fitted stay as given.
        target: Hz, as a mean over a window; or a `Target`, for several days, for a response or for what outlasts a stress.
            Its level by default is the typical healthy subject's (the mean of a healthy cohort lies a little below), and
            in personal fits what each subject's own output would be, had it never fallen ill.
        over: leaves to fit, by field ("mg_per_kg") or, where interventions share it, by class too ("Ketamine.day").
        days: length of the course, whole days.
        window: first and last day over which output is judged, where `target` is no `Target`; the last week by default.
        personal: a regimen for each subject instead of one for all; `loss.over_cohort` is then ignored.
        search: starts, gradient steps, learning rate and seed.
        loss: weights of burden and shortfall, and how subjects are aggregated.
        bounds: by name as in `over`, narrower than the intervention's own.
        limits: intervals between doses, doses a week and amounts a day that the regimen keeps to exactly; of all
            interventions with times of doses, or by class. Fitted times keep the intervention's `least_interval` unless
            limits say otherwise: a day between sessions, two between infusions.
        plan: how to use the hardware. By default long fits run in tiles, which take some 5 s more to compile and make each
            step of a fit in a half to a quarter of the time, and short ones as they compile soonest.
        progress: called with the numbers of gradient steps made and at most.

    Raises:
        TypeError: what is no intervention.
        ValueError: names that are unknown or ambiguous, impossible numbers, limits that leave no room; see also
            `validation.check_course`.
    """
    problem = make_regimen_problem(
        cohort,
        arm,
        as_target(target, window),
        over=over,
        days=days,
        search=search,
        loss=dataclasses.replace(loss, over_cohort=None) if personal else loss,
        bounds=bounds,
        limits=limits,
        plan=plan,
    )
    state, made, log = run_gradient_descent(problem, search, has_reached_target, progress)
    state, status, furthest = _diagnose_starts(state, problem, log, made)
    return _make_restoration(state, status, furthest, problem, tuple(log.failures), made)


def _diagnose_starts(
    search: AdamState, problem: RegimenProblem, watch: NonfiniteLog, made: int
) -> tuple[AdamState, np.ndarray, np.ndarray | None]:
    """The search, what stopped every start, and what the furthest regimen reaches that was looked at, if any was.

    The search has the corner of the bounds where that is better; the others are (start, column). Starts that missed are
    looked at once more where they rest; with their amounts at the bounds that the slopes there point to; with the most of
    all, at their times, as early and as late as can be; and the furthest of these at wider bounds.
    """
    tolerance = problem.tolerance
    missed = abs(np.asarray(search.reached) - 1) >= tolerance
    if not missed.any():
        return search, np.full(missed.shape, "reached", object), None
    alone = eqx.tree_at(lambda p: (p.shortfall, p.burden), problem, replace_fn=jnp.zeros_like)
    here = evaluate_point(search, search.best, alone)
    kept, place, most = search, here, None
    if any(leaf.is_amount for leaf in problem.leaves):
        place = _evaluate_extreme_points(here, problem, alone, watch, made)
        most = np.asarray(place.reached)
        again = evaluate_point(search, place.best, problem)
        again = eqx.tree_at(lambda s: s.loss, again, jnp.where(missed, again.loss, jnp.inf))
        kept = update_best(again, search, problem.goal.within)
    wider = most
    if problem.widest != problem.leaves:
        free = relax_bounds(place, problem.leaves, problem.widest)
        seen = evaluate_within_bounds(place, free, problem, problem.widest)
        watch.see(free, seen, made, problem.widest)
        wider = np.asarray(seen.reached)
    slopes = bound_gradients(here, problem.leaves, problem.arm)
    found = classify_starts(np.asarray(kept.reached), tolerance, slopes, most, wider)
    elsewhere = (found == "reached").any(axis=0)  # bounds within which another start reached it do not forbid it
    return kept, np.where((found == "bounds") & elsewhere, "plateau", found), wider


def _evaluate_extreme_points(
    here: AdamState, problem: RegimenProblem, alone: RegimenProblem, watch: NonfiniteLog, made: int
) -> AdamState:
    """Of all places where the amounts are at their bounds, the one furthest towards the target from `here`, or past it."""
    leaves = problem.leaves
    when = (0.0,) if all(leaf.is_amount for leaf in leaves) else (0.0, -1.0, 1.0)
    place = None
    for free in (active_bound_point(here, leaves), *(extreme_point(here, leaves, times) for times in when)):
        seen = evaluate_point(here, free, alone)
        watch.see(free, seen, made)
        if place is None:
            place = seen
        else:
            further = (jnp.sign(1 - here.reached) * (seen.reached - place.reached) > 0) & jnp.isfinite(seen.reached)
            place = update_best_where(further, seen, place)
    assert place is not None
    return place


def _make_restoration(
    search: AdamState,
    stopped: np.ndarray,
    furthest: np.ndarray | None,
    problem: RegimenProblem,
    failures: tuple[FitFailure, ...],
    made: int,
) -> Restoration:
    """The best start of every column, and what is to be said of it."""
    tolerance = problem.tolerance
    loss, reached = np.asarray(search.loss), np.asarray(search.reached)
    best = np.argmin(loss + 1e6 * (abs(reached - 1) >= tolerance), axis=0)  # those within the target first
    columns = np.arange(len(best))
    values = [np.asarray(of)[..., best, columns] for of in leaf_values(search.best, problem.leaves, problem.arm)]
    fitted = [jnp.asarray(value if problem.personal else value[..., 0]) for value in values]
    arm = regimen.sort_doses(regimen.with_leaf_values(problem.arm, problem.leaves, fitted), problem.leaves)
    each, target = tuple(stopped[best, columns]), problem.target_output
    status = Counter([s for s in each if s != "reached"] or ["reached"]).most_common(1)[0][0]
    after = target * reached[best, columns]
    seen = None if furthest is None else target * furthest[best, columns]
    return Restoration(
        arm=arm,
        fitted={leaf.name: np.asarray(leaf.of(arm)) for leaf in problem.leaves},
        target=float(target.mean()),
        before=_finite_mean(target * problem.untreated),
        after=_finite_mean(after),
        starts=np.array([_finite_mean(target * row) for row in reached]),
        losses=np.array([_finite_mean(row) for row in loss]),
        status=status,
        reason=_describe_restoration(status, each, after, seen, problem, made) + describe_failures(failures) + ".",
        failures=failures,
        steps=made,
        each=after if problem.personal else None,
        targets=np.broadcast_to(target, columns.shape) if problem.personal else None,
        statuses=each if problem.personal else None,
    )


def _describe_restoration(
    status: str, each: tuple[str, ...], after: np.ndarray, seen: np.ndarray | None, problem: RegimenProblem, made: int
) -> str:
    """The status in a sentence without its full stop, with what is to be said of subjects: of those who have it, a mean."""
    those = np.array(each) == status
    could = [
        leaf.name for leaf, wide in zip(problem.leaves, problem.widest, strict=True) if leaf.interval != wide.interval
    ]
    names = " and ".join(could if status == "bounds" else [leaf.name for leaf in problem.leaves])
    over = lambda values: _finite_mean(np.broadcast_to(values, those.shape)[those])
    furthest = None if seen is None else describe_furthest_output(over(seen), problem.leaves, problem.widest)
    within = float(problem.goal.within)
    said = describe_status(status, names, over(after), over(problem.target_output), within, made, furthest)
    if len(each) == 1:
        return said
    everyone, reach = f"{len(each):,} subjects reach their target", each.count("reached")
    if reach == len(each):
        return f"all {everyone}; in the mean, {said}"
    others = len(each) - reach
    if others == 1:
        return f"{reach:,} of {everyone}; in the other, {said}"
    whom = "the others" if those.sum() == others else f"{those.sum():,} of the other {others:,}"
    return f"{reach:,} of {everyone}; in the mean of {whom}, {said}"


def _finite_mean(values: np.ndarray) -> float:
    """Mean of those that are finite; not a number if none is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
