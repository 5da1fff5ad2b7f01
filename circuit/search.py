"""Many starts towards a target, step by step, and a watch on what stops being finite on the way."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..kernels import Plan
from . import interventions, regimen, replay, validation
from .cohort import Cohort
from .conditions import as_healthy, healthy_output
from .constraints import unconstrain
from .descent import Free, Problem, Search, Task, advance, begin, reached_by
from .interventions import PER_DOSE, Arm
from .lanes import without_neuron
from .objective import SAVE_EVERY, Goal, Target, check_cohort, judge
from .regimen import Leaf, find_leaves
from .replay import Failure
from .simulate import course
from .spacing import Limits
from .verdict import MARGIN

WELL_WITHIN = 0.25  # of the tolerance: miss at which a start has nothing left to gain but a smaller burden
PATIENCE = 8  # steps without gain after which it rests
PLAN = Plan(backend="scan", block=12)  # compiles soonest, and holds a few hundred lanes in cache


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
    widest: tuple[Leaf, ...]
    starts: Free
    target: np.ndarray
    before: np.ndarray


def ask(
    cohort: Cohort,
    arm: Arm,
    target: Target,
    *,
    over: Sequence[str],
    days: float,
    over_cohort: str | float | None,
    weights: Sequence[float],
    shortfall: float,
    starts: int,
    bounds: Mapping[str, tuple[float, float]],
    limits: Limits | Mapping[str, Limits] | None,
    seed: int,
    plan: Plan,
    nearest_first: bool = True,
) -> Question:
    """The question in numbers, `starts` of it for each weight of the burden.

    Unless `nearest_first`, to be within the tolerance counts no more than the loss says.

    Raises:
        TypeError, ValueError: see `fit.restore`.
    """
    validation.check_course(cohort, arm, days, 0.0, SAVE_EVERY)
    judged = target.judged(days)
    check_cohort("mean" if over_cohort is None else over_cohort, over_cohort is None)
    last = days if target.until is None else min(days, target.until)
    if last <= regimen.LAST:
        raise ValueError(f"{target.until=} leaves no time to treat before the stress; let it begin later.")
    leaves, widest = (find_leaves(arm, over, within, last, limits) for within in (bounds, {}))
    own = interventions.personal(arm)
    for leaf in leaves:
        if over_cohort is not None and leaf.of(own):
            raise ValueError(f"{leaf.name} has one value per subject: fit it with personal=True, or give one for all.")
    arm = regimen.in_order(arm, leaves)

    number = lambda value: jnp.asarray(value, jnp.result_type(float))
    live = lambda people: np.asarray(
        course(people, (), days, save_every=SAVE_EVERY, record=("vta_output",), plan=plan)["vta_output"]
    )
    healthy = healthy_output()
    if over_cohort is None and target.output is None:  # each subject's own health, with the same everyday life
        well = live(as_healthy(cohort))[:, judged].mean(axis=1)
        healthy = np.where(np.isfinite(well), well, healthy)
    goal = Goal(
        number(target.wanted(days, healthy)), number(judged * 1.0), number(target.within if nearest_first else 0.0)
    )
    bare, neuron = without_neuron(cohort)
    task = Task(leaves, neuron, days, target.every, over_cohort, plan)
    burden = number(np.repeat(weights, starts)[:, None])
    problem = Problem(bare, arm, goal, number(shortfall), burden)
    free = _starts(arm, leaves, starts, len(cohort) if task.personal else 1, seed)
    free = tuple(jnp.concatenate([each] * len(weights), axis=-2) for each in free)

    relative = number(live(cohort)) / goal.wanted
    good = jnp.isfinite(relative).all(axis=-1)
    relative = jnp.where(good[:, None], relative, 1)[None]
    _, before = judge(relative, good[None], goal, task.every, over_cohort)
    asked = np.asarray(goal.wanted)[:, judged].mean(axis=1)
    return Question(cohort, problem, task, widest, free, asked, np.asarray(before)[0])


def _starts(arm: Arm, leaves: tuple[Leaf, ...], starts: int, columns: int, seed: int) -> Free:
    """Free numbers of every leaf, (*dose, start, column): the arm as given, then uniform in bounds."""
    generator, found = np.random.default_rng(seed), []
    for leaf in leaves:
        given = np.asarray(leaf.of(arm))
        doses = given.shape[: leaf.field in PER_DOSE]
        given = np.broadcast_to(given.reshape(*doses, 1, -1), (*doses, 1, columns))
        drawn = generator.uniform(leaf.interval.low, leaf.interval.high, (*doses, starts - 1, 1))
        drawn = np.broadcast_to(drawn, (*doses, starts - 1, columns))  # a subject's fit is the same in any cohort
        found.append(jnp.asarray(np.concatenate([given, drawn], axis=-2), jnp.result_type(float)))
    return unconstrain(tuple(found), tuple(leaf.interval for leaf in leaves), margin=MARGIN)


class Watch:
    """Looks after each step at what has newly stopped being finite, and keeps it so that it can be lived again."""

    def __init__(self, question: Question):
        self.question, self.failures = question, []
        shape = (question.starts[0].shape[-2], len(question.cohort))
        self._bad, self._blind = np.zeros(shape, bool), np.zeros((len(question.starts), *shape), bool)

    def see(self, free: Free, search: Search, step: int, leaves: tuple[Leaf, ...] | None = None) -> None:
        """What `free` has led to, as step number `step` was made; of leaves with other bounds, if so."""
        bad, blind = np.asarray(search.bad), np.asarray(search.blind)
        new = bad & ~self._bad
        new_blind = blind & ~self._blind & ~bad & ~self._bad
        if new.any() or new_blind.any():
            values = regimen.values_of(free, leaves or self.question.task.leaves, self.question.problem.arm)
            values = [np.asarray(value) for value in values]
            for start, index in np.argwhere(new):
                self._keep(values, int(start), int(index), step, ())
            for start, index in np.argwhere(new_blind.any(axis=0)):
                names = [
                    leaf.name for leaf, at in zip(self.question.task.leaves, new_blind, strict=True) if at[start, index]
                ]
                self._keep(values, int(start), int(index), step, names)
        self._bad, self._blind = self._bad | bad, self._blind | blind

    def _keep(self, values, start: int, index: int, step: int, blind_by: Sequence[str]) -> None:
        cohort, task = self.question.cohort, self.question.task
        its = [value[..., start, index if task.personal else 0] for value in values]
        arm = regimen.replace(
            replay.alone(self.question.problem.arm, index), task.leaves, [jnp.asarray(v) for v in its]
        )
        if blind_by:
            failure = replay.backward(cohort, index, arm, task.days, start, step, blind_by)
        else:
            look = len(self.failures) < replay.LOOKED_AT
            failure = replay.forward(cohort, index, arm, task.days, start, step, task.plan, look)
        self.failures.append(failure)


def descend(
    question: Question,
    steps: int,
    learning_rate: float,
    progress: Callable[[int, int], None] | None,
    settled: Callable[[Search, Problem], bool],
) -> tuple[Search, int, Watch]:
    """Steps at a rate that falls to 0 by a cosine, until all is settled; where that ended, after how many, and the watch."""
    search, made, watch = begin(question.starts, len(question.cohort)), 0, Watch(question)
    while made < steps and not settled(search, question.problem):
        rate = learning_rate * (1 + np.cos(np.pi * made / steps)) / 2
        free, search = search.free, advance(search, question.problem, _number(rate, search), question.task)
        watch.see(free, search, made)
        made += 1
        if progress is not None:
            progress(made, steps)
    return search, made, watch


def look(search: Search, free: Free, problem: Problem, task: Task) -> Search:
    """A search that has seen `free` alone: its loss, what it reaches, its slope."""
    nowhere = jnp.full_like(search.loss, jnp.inf)
    unseen = eqx.tree_at(lambda s: (s.free, s.loss, s.reached), search, (free, nowhere, nowhere))
    return advance(unseen, problem, _number(0.0, search), task)


def look_beyond(search: Search, free: Free, problem: Problem, task: Task, leaves: tuple[Leaf, ...]) -> Search:
    """A search that has seen `free` numbers of `leaves` with wider bounds: what it reaches, without a slope."""
    reached, bad = reached_by(regimen.values_of(free, leaves, problem.arm), problem, task)
    return eqx.tree_at(lambda s: (s.reached, s.bad), search, (reached, bad))


def rests_within(search: Search, problem: Problem) -> bool:
    """Whether every start has reached the target and has nothing more to gain."""
    miss, resting = abs(np.asarray(search.reached) - 1), np.asarray(search.resting) >= PATIENCE
    tolerance = float(problem.goal.within)
    content = (miss < WELL_WITHIN * tolerance) & (resting | (np.asarray(problem.burden) == 0))
    return bool((content | ((miss < tolerance) & resting)).all())


def rests(search: Search, problem: Problem) -> bool:
    """Whether no start has anything more to gain, and has not had for twice as long: neighbours on a front are close."""
    return bool((np.asarray(search.resting) >= 2 * PATIENCE).all())


def failed_of(failures: Sequence[Failure]) -> str:
    """What is to be said of them in the reason of a fit; nothing if there are none."""
    if not failures:
        return ""
    lives = len({(each.start, each.subject) for each in failures})
    return f"; {lives} lives were not finite and are left out there, first {failures[0]}"


def _number(value: float, search: Search):
    return jnp.asarray(value, search.loss.dtype)
