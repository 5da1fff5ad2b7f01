"""What a fit of regimens is asked, checked and in numbers: which leaves, towards what, from where."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from ...kernels import Plan
from ..fitting import regimen
from ..fitting.bijections import unconstrain_tree
from ..fitting.dose_spacing import Limits
from ..fitting.regimen import RegimenLeaf, find_leaves
from ..model import interventions
from ..model.interventions import PER_DOSE_FIELDS, Arm, Intervention, as_arm
from ..model.slow_clock import QUICK_COMPILE_PLAN
from ..simulation import validation
from ..simulation.batching import without_neuron
from ..simulation.cohort import Cohort
from ..simulation.conditions import as_healthy, healthy_output
from ..simulation.course import DEFAULT_PLAN, course
from .diagnosis import BOUND_MARGIN
from .gradient_step import FreeValues, Problem, Task
from .target import SAVE_EVERY, Target, TargetArrays, as_target, check_cohort_criterion, relative_miss

# Gradients through so many subject-hours are sooner made in tiles, which compile 2 to 7 s longer and save 1 to 3 us
# a subject-hour.
MIN_TILED_SUBJECT_HOURS = 4e6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How a regimen is searched for; each as `fit.restore` explains it.

    Attributes:
        over: names of the leaves to fit.
        days: length of the course.
        over_cohort: for whom; None where every subject has a regimen of its own.
        burdens: weights of the doses, each with its own starts.
        shortfall: weight of what subjects lack on the way.
        starts, steps, learning_rate: how many, how many at most, and how far each step goes at first.
        bounds, limits: what the doses keep to.
        seed: of the random starts.
        plan: how to use the hardware; None to choose by the length of the work.
        progress: called with the numbers of steps made and at most.

    Raises:
        ValueError: numbers with which no search can begin.
    """

    over: Sequence[str]
    days: float
    over_cohort: str | float | None
    burdens: tuple[float, ...]
    shortfall: float
    starts: int
    steps: int
    learning_rate: float
    bounds: Mapping[str, tuple[float, float]]
    limits: Limits | Mapping[str, Limits] | None
    seed: int
    plan: Plan | None
    progress: Callable[[int, int], None] | None

    def __post_init__(self):
        for name in ("starts", "steps"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        weights = [("learning_rate", self.learning_rate), ("shortfall", self.shortfall)]
        for name, value in weights + [("burden", each) for each in self.burdens]:
            if not 0 <= value < np.inf:
                raise ValueError(f"{name}={value} must be 0 or a positive number.")

    def plan_for(self, subjects: int) -> Plan:
        """How to use the hardware: as told, or in tiles where all gradients together live through many hours."""
        lives = subjects * self.starts * len(self.burdens)
        return self.plan or (
            DEFAULT_PLAN if lives * 24 * self.days * self.steps > MIN_TILED_SUBJECT_HOURS else QUICK_COMPILE_PLAN
        )


@dataclasses.dataclass(frozen=True)
class Question:
    """What a fit is asked.

    Attributes:
        cohort: as given.
        problem, task: see `descent`.
        widest: the leaves with the intervention's own bounds, the widest that could be asked for; limits hold.
        starts: free numbers to begin with.
        target: Hz, a mean over the days that are judged; (subject,) or one.
        before: of the cohort without the arm, relative to the target; (subject,) or one.
    """

    cohort: Cohort
    problem: Problem
    task: Task
    widest: tuple[RegimenLeaf, ...]
    starts: FreeValues
    target: np.ndarray
    before: np.ndarray


def make_regimen_problem(
    cohort: Cohort,
    arm: Intervention | Arm,
    target: float | Target | None,
    window: tuple[float, float] | None,
    options: Options,
    *,
    nearest_first: bool = True,
) -> Question:
    """The question in numbers, as many starts for each weight of the burden as are asked for.

    Unless `nearest_first`, to be within the tolerance counts no more than the loss says.

    Raises:
        TypeError, ValueError: see `fit.restore`.
    """
    arm, target, days = as_arm(arm), as_target(target, window), options.days
    over_cohort, starts = options.over_cohort, options.starts
    validation.check_course(cohort, arm, days, 0.0, SAVE_EVERY)
    plan = options.plan_for(len(cohort))
    judged = target.judged(days)
    check_cohort_criterion("mean" if over_cohort is None else over_cohort, over_cohort is None)
    last = days if target.until is None else min(days, target.until)
    if last <= regimen.LATEST_TIME_MARGIN:
        raise ValueError(f"{target.until=} leaves no time to treat before the stress; let it begin later.")
    leaves, widest = (find_leaves(arm, options.over, within, last, options.limits) for within in (options.bounds, {}))
    own = interventions.per_subject_mask(arm)
    for leaf in leaves:
        if over_cohort is not None and leaf.of(own):
            raise ValueError(f"{leaf.name} has one value per subject: fit it with personal=True, or give one for all.")
    arm = regimen.sort_doses(arm, leaves)

    number = lambda value: jnp.asarray(value, jnp.result_type(float))
    live = lambda people: np.asarray(
        course(people, (), days, save_every=SAVE_EVERY, record=("vta_output",), plan=plan)["vta_output"]
    )
    healthy = healthy_output()
    if over_cohort is None and target.output is None:  # each subject's own health, with the same everyday life
        well = live(as_healthy(cohort))[:, judged].mean(axis=1)
        healthy = np.where(np.isfinite(well), well, healthy)
    goal = TargetArrays(
        number(target.wanted(days, healthy)), number(judged * 1.0), number(target.within if nearest_first else 0.0)
    )
    bare, neuron = without_neuron(cohort)
    task = Task(leaves, neuron, days, target.every, over_cohort, plan)
    burden = number(np.repeat(options.burdens, starts)[:, None])
    problem = Problem(bare, arm, goal, number(options.shortfall), burden)
    free = _draw_starts(arm, leaves, starts, len(cohort) if task.personal else 1, options.seed)
    free = tuple(jnp.concatenate([each] * len(options.burdens), axis=-2) for each in free)

    relative = number(live(cohort)) / goal.wanted
    good = jnp.isfinite(relative).all(axis=-1)
    relative = jnp.where(good[:, None], relative, 1)[None]
    _, before = relative_miss(relative, good[None], goal, task.every, over_cohort)
    asked = np.asarray(goal.wanted)[:, judged].mean(axis=1)
    return Question(cohort, problem, task, widest, free, asked, np.asarray(before)[0])


def _draw_starts(arm: Arm, leaves: tuple[RegimenLeaf, ...], starts: int, columns: int, seed: int) -> FreeValues:
    """Free numbers of every leaf, (*dose, start, column): the arm as given, then uniform in bounds."""
    generator, found = np.random.default_rng(seed), []
    for leaf in leaves:
        given = np.asarray(leaf.of(arm))
        doses = given.shape[: leaf.field in PER_DOSE_FIELDS]
        given = np.broadcast_to(given.reshape(*doses, 1, -1), (*doses, 1, columns))
        drawn = generator.uniform(leaf.interval.low, leaf.interval.high, (*doses, starts - 1, 1))
        drawn = np.broadcast_to(drawn, (*doses, starts - 1, columns))  # a subject's fit is the same in any cohort
        found.append(jnp.asarray(np.concatenate([given, drawn], axis=-2), jnp.result_type(float)))
    return unconstrain_tree(tuple(found), tuple(leaf.interval for leaf in leaves), margin=BOUND_MARGIN)
