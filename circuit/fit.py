"""Fit: the regimen that brings VTA output back to a target, found by gradient.

    loss = (reached - 1)^2 + shortfall mean over the course of max(0, 1 - output)^2 + burden share of the largest doses

with `reached` the VTA output over a window at the end of the course, relative to the target: of the cohort's mean for one
shared regimen, of each subject for personal ones. Two set points make plateaus: what is reached at the end is flat on both
sides of the saddle. Subjects cross it at different doses, so a cohort's mean is smooth where a subject's is a step; and the
shortfall term sees how far output rises before it falls back. A continuation from a softened circuit was not needed.

Starts, and in personal fits subjects, are lanes of one cohort: all of them run in one course per gradient step. Their losses are
independent, so the gradient of the sum is the gradient of each; and Adam works number by number.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PyTree

from ..kernels import Plan, entry_point
from . import validation
from .cohort import Cohort
from .conditions import healthy_output
from .constraints import Interval, constrain, unconstrain
from .interventions import Arm, Intervention, personal
from .simulate import course
from .verdict import TOLERANCE, judge

SAVE_EVERY = 24  # h: output is judged once a day, at the same time of day
MARGIN = 1e-3  # starts keep this share of the width from their bounds
WELL_WITHIN = 0.005  # relative miss at which a start has nothing left to gain but a smaller burden
PATIENCE = 8  # steps without gain after which a start that has reached the target rests
CLIP = 1.0  # largest norm of a start's gradient: near the saddle it grows as fast as trajectories part
TIMES = frozenset({"times", "day", "hour", "start", "stop", "days"})  # leaves that are no burden


@dataclasses.dataclass(frozen=True)
class Restoration:
    """A regimen found by gradient, and how well it does. VTA output is in Hz, a mean over the window.

    Attributes:
        arm: the best start: the arm as given, with the fitted leaves.
        fitted: by name, the fitted values; in personal fits with a last axis of subjects.
        target: asked for.
        before: cohort's mean without the arm.
        after: cohort's mean under the fitted arm.
        starts: cohort's mean reached from each start.
        losses: of each start; mean over subjects in personal fits.
        status: "reached" (within 2 %), "bounds" (the fitted leaves press against bounds that keep the target out of reach),
            "plateau" (no gradient away from the target), "steps" (there was more to gain), or "failed" (not finite).
            In personal fits, that of most subjects whose target is not reached, if any.
        reason: the same in a sentence.
        failures: (start, subject's number) whose numbers stopped being finite; these are left out.
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


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A leaf to be fitted: `field` of the intervention at `position` in the arm, within `interval`."""

    name: str
    position: int
    field: str
    interval: Interval

    def of(self, arm: Arm) -> Array:
        """Its value in an arm."""
        return getattr(arm[self.position], self.field)


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked for, apart from its numbers. Neuron: its constants are static, for the transfer function is made for one set."""

    leaves: tuple[Leaf, ...]
    neuron: tuple
    days: float
    window: tuple[float, float]
    personal: bool
    starts: int
    plan: Plan


class Problem(eqx.Module):
    """The numbers of a task: subjects (without their neuron), arm, target (Hz) and weights of the loss."""

    cohort: Cohort
    arm: Arm
    target: Float[Array, ""]
    shortfall: Float[Array, ""]
    burden: Float[Array, ""]


class Search(eqx.Module):
    """Where the starts are, and the best that each has found. `column` is 1 in shared fits, subjects in personal ones.

    Attributes:
        free: unconstrained values of the fitted leaves.
        moments: of Adam.
        best: unconstrained values, and gradient there.
        loss, reached: of the best; `reached` relative to the target.
        resting: steps since the last gain.
        bad: lanes that were not finite.
    """

    free: tuple[Float[Array, "*dose start column"], ...]
    moments: PyTree
    best: tuple[tuple[Float[Array, "*dose start column"], ...], tuple[Float[Array, "*dose start column"], ...]]
    loss: Float[Array, "start column"]
    reached: Float[Array, "start column"]
    resting: Float[Array, "start column"]
    bad: Bool[Array, "start subject"]


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
    steps: int = 60,
    learning_rate: float = 0.15,
    burden: float = 0.01,
    shortfall: float = 0.02,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    seed: int = 0,
    plan: Plan = Plan(backend="scan"),
    progress: Callable[[int, int], None] | None = None,
) -> Restoration:
    """Find values of some leaves of `arm` that bring VTA output to `target`.

    Args:
        cohort: subjects as they are on day 0. A few dozen determine a shared regimen; `cohort[:48]` takes some.
        arm: an intervention, or several; leaves that are not fitted stay as given.
        target: Hz; the typical healthy subject's by default.
        over: leaves to fit, by field ("mg_per_kg") or, where two interventions share it, by class too ("Ketamine.day").
        days: length of the course.
        window: first and last day over which output is judged; the last week by default.
        personal: one regimen for each subject instead of one for all.
        starts: how many, from the arm as given and from random values within bounds.
        steps: most gradient steps; fewer are made once every start rests within the target.
        learning_rate: of Adam, falling to 0 by a cosine; a step moves a leaf by up to a quarter of it times its width.
        burden: weight of the doses, as shares of their bounds, a mean over amounts; times are no burden.
        shortfall: weight of what subjects lack on the way.
        bounds: by name as in `over`, narrower than the intervention's own.
        seed: of the random starts.
        plan: how to use the hardware. "tiled" compiles longer and is for more lanes (starts times subjects) than memory holds.
        progress: called with the numbers of gradient steps done and at most.

    Raises:
        TypeError, ValueError: names that are unknown or ambiguous, impossible numbers, and see `validation.check_course`.
    """
    arm = (arm,) if isinstance(arm, Intervention) else tuple(arm)
    window = (max(days - 7.0, 0.0), days) if window is None else window
    target = healthy_output() if target is None else float(target)
    validation.check_course(cohort, arm, days, 0.0, SAVE_EVERY)
    _check(target, window, days, starts, steps, learning_rate, burden, shortfall)
    leaves = find_leaves(arm, over, bounds or {}, days)
    if not personal:
        _check_shared(arm, leaves)

    neuron, structure = jax.tree.flatten(cohort.parameters.neuron)
    task = Task(leaves, (structure, tuple(map(float, neuron))), days, window, personal, starts, plan)
    number = lambda value: jnp.asarray(value, jnp.result_type(float))
    bare = eqx.tree_at(lambda c: c.parameters.neuron, cohort, None)
    problem = Problem(bare, arm, number(target), number(shortfall), number(burden))

    search, made = _begin(problem, task, len(cohort), seed), 0
    while made < steps and not _settled(search, burden):
        rate = learning_rate * (1 + np.cos(np.pi * made / steps)) / 2
        search, made = _advance(search, problem, number(rate), task), made + 1
        if progress is not None:
            progress(made, steps)
    before = _untreated(cohort, days, window, plan)
    return _result(search, problem, task, before, made)


def find_leaves(
    arm: Arm, over: Sequence[str], bounds: Mapping[str, tuple[float, float]], days: float
) -> tuple[Leaf, ...]:
    """The leaves called `over`, with their bounds: those of the intervention, cut to the course, or narrower ones.

    Raises:
        ValueError: a name that fits no leaf or several, or twice; bounds that are impossible or of no fitted leaf.
    """
    choices = _choices(arm)
    over = (over,) if isinstance(over, str) else tuple(over)
    listed = ", ".join(choices)
    found = []
    for name in over:
        fits = [full for full in choices if name in (full, full.rpartition(".")[2])]
        if len(fits) != 1:
            raise ValueError(f"over={name!r} is {'ambiguous' if fits else 'no leaf of the arm'}; choose from {listed}.")
        found.append((name, *choices[fits[0]]))
    if not found or len({place for _, *place in map(tuple, found) for place in [tuple(place)]}) < len(found):
        raise ValueError(f"over={over} must name at least one leaf, and none twice; choose from {listed}.")
    if strange := set(bounds) - set(over):
        raise ValueError(f"bounds for {sorted(strange)}, which are not fitted; over={over}.")
    return tuple(Leaf(*leaf, _interval(arm, *leaf, bounds.get(leaf[0]), days)) for leaf in found)


def _choices(arm: Arm) -> dict[str, tuple[int, str]]:
    """Every leaf of an arm by its full name: class and field, with a number where the class comes twice."""
    kinds = [type(intervention).__name__ for intervention in arm]
    label = lambda i: kinds[i] if kinds.count(kinds[i]) == 1 else f"{kinds[i]}[{kinds[:i].count(kinds[i])}]"
    return {f"{label(i)}.{field}": (i, field) for i in range(len(arm)) for field in type(arm[i]).bounds}


def _interval(arm: Arm, name: str, position: int, field: str, asked: tuple[float, float] | None, days: float) -> Interval:
    low, high = type(arm[position]).bounds[field]
    if field in TIMES - {"hour"}:
        high = min(high, days - 1 / 24)
    if asked is None:
        return Interval(low, high)
    if not low <= asked[0] < asked[1] <= high:
        raise ValueError(f"bounds[{name!r}] = {tuple(asked)} must rise, and lie between {low:g} and {high:g}.")
    return Interval(float(asked[0]), float(asked[1]))


def _check(target, window, days, starts, steps, learning_rate, burden, shortfall) -> None:
    if not 0 < target < np.inf:
        raise ValueError(f"{target=} Hz must be a positive number.")
    if not 0 <= window[0] < window[1] <= days or not (_inside(days, window)).any():
        raise ValueError(f"{window=} must be (first day, last day) within the {days:g} days and hold the end of a day.")
    for name, value in {"starts": starts, "steps": steps}.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    for name, value in {"learning_rate": learning_rate, "burden": burden, "shortfall": shortfall}.items():
        if not 0 <= value < np.inf:
            raise ValueError(f"{name}={value} must be 0 or a positive number.")


def _check_shared(arm: Arm, leaves: tuple[Leaf, ...]) -> None:
    own = personal(arm)
    for leaf in leaves:
        if leaf.of(own):
            raise ValueError(
                f"{leaf.name} holds one value per subject; fit it with personal=True, or give one value for all."
            )


def _inside(days: float, window: tuple[float, float]) -> np.ndarray:
    """Which records of a course lie within the window."""
    day = np.arange(1, round(days * 24) // SAVE_EVERY + 1) * SAVE_EVERY / 24
    return (day > window[0]) & (day <= window[1])
