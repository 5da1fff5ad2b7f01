"""Many starts towards a target, step by step, and a watch on what stops being finite on the way."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..fitting import failures as failure_records
from ..fitting import regimen
from ..fitting.failures import FitFailure
from ..fitting.regimen import RegimenLeaf
from .gradient_step import (
    AdamState,
    compute_ratio_to_target,
    init_adam_state,
    take_adam_step,
)
from .problem import FreeValues, RegimenProblem
from .settings import Multistart

CONVERGED_TOLERANCE_SHARE = (
    0.25  # of the tolerance: miss at which a start has nothing left to gain but a smaller burden
)
PATIENCE = 8  # steps without gain after which it rests


class NonfiniteLog:
    """Records, after each step, simulations that have newly become non-finite, so that they can be replayed."""

    def __init__(self, problem: RegimenProblem):
        self.problem, self.failures = problem, []
        shape = (problem.starts[0].shape[-2], len(problem.cohort))
        self._bad, self._blind = np.zeros(shape, bool), np.zeros((len(problem.starts), *shape), bool)

    def see(
        self, free: FreeValues, search: AdamState, step: int, leaves: tuple[RegimenLeaf, ...] | None = None
    ) -> None:
        """What `free` has led to, as step number `step` was made; of leaves with other bounds, if so."""
        bad, blind = np.asarray(search.bad), np.asarray(search.blind)
        new = bad & ~self._bad
        new_blind = blind & ~self._blind & ~bad & ~self._bad
        if new.any() or new_blind.any():
            values = regimen.leaf_values(free, leaves or self.problem.leaves, self.problem.arm)
            values = [np.asarray(value) for value in values]
            for start, index in np.argwhere(new):
                self._keep(values, int(start), int(index), step, ())
            for start, index in np.argwhere(new_blind.any(axis=0)):
                names = [leaf.name for leaf, at in zip(self.problem.leaves, new_blind, strict=True) if at[start, index]]
                self._keep(values, int(start), int(index), step, names)
        self._bad, self._blind = self._bad | bad, self._blind | blind

    def _keep(self, values, start: int, index: int, step: int, blind_by: Sequence[str]) -> None:
        problem = self.problem
        cohort = problem.subjects
        its = [value[..., start, index if problem.personal else 0] for value in values]
        arm = regimen.with_leaf_values(
            failure_records.select_subject(self.problem.arm, index), problem.leaves, [jnp.asarray(v) for v in its]
        )
        if blind_by:
            failure = failure_records.nonfinite_gradient(cohort, index, arm, problem.days, start, step, blind_by)
        else:
            look = len(self.failures) < failure_records.MAX_REPLAYS
            failure = failure_records.nonfinite_value(cohort, index, arm, problem.days, start, step, problem.plan, look)
        self.failures.append(failure)


def run_gradient_descent(
    problem: RegimenProblem,
    search: Multistart,
    has_finished: Callable[[AdamState, RegimenProblem], bool],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[AdamState, int, NonfiniteLog]:
    """Adam from all starts, with a cosine learning rate, until `has_finished`; state, steps made, and what diverged."""
    state, made, log = init_adam_state(problem.starts, len(problem.cohort)), 0, NonfiniteLog(problem)
    while made < search.steps and not has_finished(state, problem):
        rate = search.learning_rate * (1 + np.cos(np.pi * made / search.steps)) / 2
        free, state = state.free, take_adam_step(state, problem, _as_scalar(rate, state))
        log.see(free, state, made)
        made += 1
        if progress is not None:
            progress(made, search.steps)
    return state, made, log


def evaluate_point(search: AdamState, free: FreeValues, problem: RegimenProblem) -> AdamState:
    """A search that has seen `free` alone: its loss, what it reaches, its slope."""
    nowhere = jnp.full_like(search.loss, jnp.inf)
    unseen = eqx.tree_at(lambda s: (s.free, s.loss, s.reached), search, (free, nowhere, nowhere))
    return take_adam_step(unseen, problem, _as_scalar(0.0, search))


def evaluate_within_bounds(
    search: AdamState, free: FreeValues, problem: RegimenProblem, leaves: tuple[RegimenLeaf, ...]
) -> AdamState:
    """A search that has seen `free` numbers of `leaves` with wider bounds: what it reaches, without a slope."""
    reached, bad = compute_ratio_to_target(regimen.leaf_values(free, leaves, problem.arm), problem)
    return eqx.tree_at(lambda s: (s.reached, s.bad), search, (reached, bad))


def has_reached_target(search: AdamState, problem: RegimenProblem) -> bool:
    """Whether every start has reached the target and has nothing more to gain."""
    miss, resting = abs(np.asarray(search.reached) - 1), np.asarray(search.resting) >= PATIENCE
    tolerance = float(problem.goal.within)
    content = (miss < CONVERGED_TOLERANCE_SHARE * tolerance) & (resting | (np.asarray(problem.burden) == 0))
    return bool((content | ((miss < tolerance) & resting)).all())


def has_stopped_improving(search: AdamState, problem: RegimenProblem) -> bool:
    """Whether no start has anything more to gain, and has not had for twice as long: neighbours on a front are close."""
    return bool((np.asarray(search.resting) >= 2 * PATIENCE).all())


def describe_failures(failures: Sequence[FitFailure]) -> str:
    """What is to be said of them in the reason of a fit; nothing if there are none."""
    if not failures:
        return ""
    lives = len({(each.start, each.subject) for each in failures})
    return f"; {lives} simulations became non-finite and are left out there, first {failures[0]}"


def _as_scalar(value: float, search: AdamState):
    return jnp.asarray(value, search.loss.dtype)
