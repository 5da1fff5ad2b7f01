"""Fit: the regimen that brings VTA output back to a target, found by gradient.

    restore(cohort, Recalibration.weekly(), over=("intensity", "times"))

Several starts descend at once (`descent` holds the loss and its reasons); what comes back says where each has come to,
and why if it is not the target.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..kernels import Plan
from . import interventions, regimen, validation
from .cohort import Cohort
from .conditions import healthy_output
from .constraints import constrain, unconstrain
from .descent import SAVE_EVERY, TOLERANCE, Problem, Search, Task, advance, begin, better_of, within_window
from .interventions import PER_DOSE, Arm, Intervention, as_arm
from .lanes import without_neuron
from .regimen import Leaf, find_leaves
from .simulate import course
from .verdict import MARGIN, sentence, statuses, utmost

WELL_WITHIN = TOLERANCE / 4  # miss at which a start has nothing left to gain but a smaller burden
PATIENCE = 8  # steps without gain after which it rests
_PLAN = Plan(backend="scan", block=12)  # compiles soonest, and holds a few hundred lanes in cache


@dataclasses.dataclass(frozen=True)
class Restoration:
    """A regimen found by gradient, and how well it does. VTA output is in Hz, a mean over the window.

    Attributes:
        arm: as given, with the fitted leaves of the best start (of each subject's best in personal fits).
        fitted: by name, the fitted values; in personal fits with a last axis of subjects.
        target: asked for.
        before: cohort's mean without the arm.
        after: cohort's mean under the fitted arm.
        starts: cohort's mean reached from each start.
        losses: of each start; mean over subjects in personal fits.
        status: "reached" (within 2 %), "bounds" (no amount within the bounds reaches it, at the times found),
            "plateau" (hardly any slope, off the target), "steps" (more was to be gained) or "failed" (not finite).
            In personal fits the commonest among subjects who did not reach it, if any.
        reason: the same in a sentence.
        failures: (start, subject's number) whose numbers stopped being finite; they are left out.
        steps: gradient steps made.
        each: in personal fits, VTA output of every subject under its own regimen.
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
    failures: tuple[tuple[int, int], ...]
    steps: int
    each: np.ndarray | None = None
    statuses: tuple[str, ...] | None = None


def restore(
    cohort: Cohort,
    arm: Intervention | Arm,
    target: float | None = None,
    *,
    over: Sequence[str] = ("intensity", "times"),
    days: float = 63.0,
    window: tuple[float, float] | None = None,
    personal: bool = False,
    starts: int = 10,
    steps: int = 80,
    learning_rate: float = 0.5,
    burden: float = 0.0001,
    shortfall: float = 0.02,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    seed: int = 0,
    plan: Plan = _PLAN,
    progress: Callable[[int, int], None] | None = None,
) -> Restoration:
    """Find values of some leaves of `arm` that bring VTA output to `target`.

    Args:
        cohort: subjects as they are on day 0. A few dozen determine a shared regimen: `cohort[:48]`.
        arm: an intervention, or several; leaves that are not fitted stay as given.
        target: Hz; the typical healthy subject's by default. The mean of a healthy cohort lies a little below.
        over: leaves to fit, by field ("mg_per_kg") or, where interventions share it, by class too ("Ketamine.day").
        days: length of the course, whole days.
        window: first and last day over which output is judged; the last week by default.
        personal: a regimen for each subject instead of one for all.
        starts: how many: the arm as given, moved into the bounds, and random values within them.
        steps: most gradient steps; fewer are made once every start rests within the target.
        learning_rate: of Adam, falling to 0 by a cosine; a step moves a leaf by up to a quarter of it times its width.
        burden: weight of the doses, as shares of their bounds; times are no burden.
        shortfall: weight of what subjects lack on the way.
        bounds: by name as in `over`, narrower than the intervention's own.
        seed: of the random starts.
        plan: how to use the hardware. "scan" compiles soonest; "tiled" holds less in memory for thousands of lanes
            (starts times subjects).
        progress: called with the numbers of gradient steps made and at most.

    Raises:
        TypeError: what is no intervention.
        ValueError: names that are unknown or ambiguous, impossible numbers; see also `validation.check_course`.
    """
    arm = as_arm(arm)
    window = (max(days - 7.0, 0.0), days) if window is None else window
    target = healthy_output() if target is None else target
    validation.check_course(cohort, arm, days, 0.0, SAVE_EVERY)
    _check(target, window, days, {"starts": starts, "steps": steps}, [learning_rate, burden, shortfall])
    leaves = find_leaves(arm, over, bounds or {}, days)
    _check_shared(arm, () if personal else leaves)

    bare, neuron = without_neuron(cohort)
    task = Task(leaves, neuron, days, window, personal, plan)
    number = lambda value: jnp.asarray(value, jnp.result_type(float))
    problem = Problem(bare, arm, number(target), number(shortfall), number(burden))

    search, made = begin(_starts(arm, leaves, starts, len(cohort) if personal else 1, seed), len(cohort)), 0
    while made < steps and not _settled(search, burden):
        rate = learning_rate * (1 + np.cos(np.pi * made / steps)) / 2
        search, made = advance(search, problem, number(rate), task), made + 1
        if progress is not None:
            progress(made, steps)
    search, at_utmost = _probe(search, problem, task)
    untreated = course(cohort, (), days, save_every=SAVE_EVERY, record=("vta_output",), plan=plan)
    before = np.asarray(untreated["vta_output"])[:, within_window(days, window)].mean(axis=1)
    return _result(search, at_utmost, cohort, problem, task, float(before[np.isfinite(before)].mean()), made)


def _starts(arm: Arm, leaves: tuple[Leaf, ...], starts: int, columns: int, seed: int):
    """Unconstrained values of every leaf, (*dose, start, column): the arm as given, then uniform in bounds."""
    generator, free = np.random.default_rng(seed), []
    for leaf in leaves:
        given = np.asarray(leaf.of(arm))
        doses = given.shape[: leaf.field in PER_DOSE]
        given = np.broadcast_to(given.reshape(*doses, 1, -1), (*doses, 1, columns))
        drawn = generator.uniform(leaf.interval.low, leaf.interval.high, (*doses, starts - 1, 1))
        drawn = np.broadcast_to(drawn, (*doses, starts - 1, columns))  # a subject's fit is the same in any cohort
        free.append(jnp.asarray(np.concatenate([given, drawn], axis=-2), jnp.result_type(float)))
    return unconstrain(tuple(free), tuple(leaf.interval for leaf in leaves), margin=MARGIN)


def _settled(search: Search, burden: float) -> bool:
    """Whether every start has reached the target and has nothing more to gain."""
    miss, resting = abs(np.asarray(search.reached) - 1), np.asarray(search.resting) >= PATIENCE
    content = (miss < WELL_WITHIN) & (resting | (burden == 0))
    return bool((content | ((miss < TOLERANCE) & resting)).all())


def _probe(search: Search, problem: Problem, task: Task) -> tuple[Search, np.ndarray]:
    """Where starts missed the target, what the bounds allow: see `verdict.utmost`. The better place is kept."""
    missed = abs(np.asarray(search.reached) - 1) >= TOLERANCE
    if not (missed.any() and any(leaf.is_amount for leaf in task.leaves)):
        return search, np.full(missed.shape, np.nan)
    place = utmost(search, task.leaves, float(problem.burden))
    nowhere = jnp.full_like(search.loss, jnp.inf)
    unseen = eqx.tree_at(lambda s: (s.loss, s.reached), place, (nowhere, nowhere))
    seen = advance(unseen, problem, jnp.zeros((), search.loss.dtype), task)
    return better_of(seen, search), np.where(missed, np.asarray(seen.reached), np.nan)


def _result(
    search: Search, at_utmost, cohort: Cohort, problem: Problem, task: Task, before: float, made: int
) -> Restoration:
    """The best start of every column, and what is to be said of it."""
    loss, reached, bad = (np.asarray(leaf) for leaf in (search.loss, search.reached, search.bad))
    best = np.argmin(loss + 1e6 * (abs(reached - 1) >= TOLERANCE), axis=0)  # those within the target first
    columns = np.arange(len(best))
    choose = lambda leaf: np.asarray(leaf)[..., best, columns]
    values = [choose(value) for value in constrain(search.best, tuple(leaf.interval for leaf in task.leaves))]
    found = reached[best, columns]
    each = tuple(statuses(search, at_utmost, task.leaves, float(problem.burden))[best, columns])
    fitted = values if task.personal else [value[..., 0] for value in values]
    target = float(problem.target)
    status = Counter([s for s in each if s != "reached"] or ["reached"]).most_common(1)[0][0]
    failures = tuple((int(start), int(cohort.subject[subject])) for start, subject in np.argwhere(bad))
    return Restoration(
        arm=regimen.replace(problem.arm, task.leaves, [jnp.asarray(value) for value in fitted]),
        fitted={leaf.name: value for leaf, value in zip(task.leaves, fitted, strict=True)},
        target=target,
        before=before,
        after=target * _mean(found),
        starts=target * np.array([_mean(row) for row in reached]),
        losses=np.array([_mean(row) for row in loss]),
        status=status,
        reason=_reason(status, each, target * _mean(found), target, made, task, failures),
        failures=failures,
        steps=made,
        each=target * found if task.personal else None,
        statuses=each if task.personal else None,
    )


def _reason(status: str, each, after: float, target: float, made: int, task: Task, failures) -> str:
    """The status in a sentence, with what is to be said of subjects."""
    said = sentence(status, " and ".join(leaf.name for leaf in task.leaves), after, target, made)
    if task.personal:
        said = f"{each.count('reached')} of {len(each)} subjects reach the target; in the mean, {said}"
    if failures:
        start, subject = failures[0]
        said += f"; {len(failures)} lives were not finite and are left out, subject {subject} from start {start} first"
    return said + "."


def _mean(values: np.ndarray) -> float:
    """Mean of those that are finite; not a number if none is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _check(target: float, window, days: float, counts: dict[str, int], weights: list[float]) -> None:
    if not 0 < target < np.inf:
        raise ValueError(f"{target=} must be a positive number of Hz.")
    if not (len(window) == 2 and 0 <= window[0] < window[1] <= days and within_window(days, window).any()):
        raise ValueError(f"{window=} must be a first and a last day within the course's {days:g}, a day or more apart.")
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    for name, value in zip(("learning_rate", "burden", "shortfall"), weights, strict=True):
        if not 0 <= value < np.inf:
            raise ValueError(f"{name}={value} must be 0 or a positive number.")


def _check_shared(arm: Arm, leaves: tuple[Leaf, ...]) -> None:
    own = interventions.personal(arm)
    for leaf in leaves:
        if leaf.of(own):
            raise ValueError(f"{leaf.name} has one value per subject: fit it with personal=True, or give one for all.")
