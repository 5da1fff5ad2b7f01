"""Effort tasks, each a pair of pure functions for one subject, and the life of many subjects in one of them.

    reset(z) -> state                              before the first trial; z are standard normals, one for each trial
    step(state, accepted, seconds, u) -> state     after a choice that took `seconds`; u is uniform on 0 to 1

A state shows what is offered now: `effort` and `reward` in levels, `label`, and whether the task is still `open`.

*Staircases* (Mehrhof & Nord 2024): offers of four efforts and four rewards, accepted or declined (declining pays one
point). Sixteen staircases of four trials, in random order, begin at one cell each; accepting raises the effort or lowers
the reward, declining the opposite; which of the two is random, the only possible one at a border, none at the corner.

*EEfRT* (Treadway et al. 2009): an easy task (30 presses in 7 s for $1.00) or a hard one (98 to 100 presses in 21 s for
$1.24 to 4.30), either paid with a probability of .12, .50 or .88 that is shown, for twenty minutes. Accepted is the hard
one; its levels are those of what it adds to the easy one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ...kernels import channel_keys, entry_point, normals_at_step
from ..data import constants
from . import effort
from .choices import Choices
from .effort import EffortConstants, Preferences

LEVEL_COUNT = 4  # of effort and of reward
STAIRCASE_COUNT, TRIALS_PER_STAIRCASE = LEVEL_COUNT * LEVEL_COUNT, 4
ORDER_CHANNEL, CHOICE_CHANNEL, LATENCY_CHANNEL, MOVE_CHANNEL = range(4)  # channels of noise


class EffortTask(NamedTuple):
    """A task for one subject.

    Attributes:
        trials: most that there can be.
        reset, step: see the module.
        labels: whether trials belong to staircases.
    """

    trials: int
    reset: Callable[[Float[Array, " trial"]], Any]
    step: Callable[[Any, Float[Array, ""], Float[Array, ""], Float[Array, ""]], Any]
    labels: bool


class StaircaseState(eqx.Module):
    """Where a subject is in its staircases.

    Attributes:
        effort, reward: levels on offer.
        label: staircase of the present trial.
        open: 1 while there are trials left.
        trial: number of the present one, from 0.
        order: staircase of each trial.
        efforts, rewards: where each staircase is.
    """

    effort: Float[Array, ""]
    reward: Float[Array, ""]
    label: Int[Array, ""]
    open: Float[Array, ""]
    trial: Int[Array, ""]
    order: Int[Array, " trial"]
    efforts: Float[Array, " staircase"]
    rewards: Float[Array, " staircase"]


def staircases() -> EffortTask:
    """The adaptive staircases of Mehrhof & Nord (2024)."""
    return EffortTask(STAIRCASE_COUNT * TRIALS_PER_STAIRCASE, _reset_staircases, step_staircase, True)


def _reset_staircases(z: Float[Array, " trial"]) -> StaircaseState:
    """Sixteen staircases at their cells, in the order that `z` gives."""
    order = jnp.argsort(z).astype(jnp.int32) % STAIRCASE_COUNT
    cell = jnp.arange(STAIRCASE_COUNT, dtype=jnp.int32)
    efforts, rewards = ((each + 1).astype(z.dtype) for each in (cell // LEVEL_COUNT, cell % LEVEL_COUNT))
    return _staircase_state(jnp.int32(0), order, efforts, rewards)


def _staircase_state(trial, order, efforts, rewards) -> StaircaseState:
    label = order[jnp.minimum(trial, len(order) - 1)]
    is_open = (trial < len(order)).astype(efforts.dtype)
    return StaircaseState(efforts[label], rewards[label], label, is_open, trial, order, efforts, rewards)


def step_staircase(
    state: StaircaseState, accepted: Float[Array, ""], seconds: Float[Array, ""], u: Float[Array, ""]
) -> StaircaseState:
    """Move the present staircase by a level: dearer after accepting, cheaper after declining."""
    harder = 2 * accepted - 1
    effort_next, reward_next = state.effort + harder, state.reward - harder
    effort_can, reward_can = (((each >= 1) & (each <= LEVEL_COUNT)) for each in (effort_next, reward_next))
    by_effort = effort_can & ((u < 0.5) | ~reward_can)
    by_reward = reward_can & ~by_effort
    efforts = state.efforts.at[state.label].set(jnp.where(by_effort, effort_next, state.effort))
    rewards = state.rewards.at[state.label].set(jnp.where(by_reward, reward_next, state.reward))
    return _staircase_state(state.trial + 1, state.order, efforts, rewards)


class EefrtState(eqx.Module):
    """Where a subject is in the EEfRT.

    Attributes:
        effort, reward: levels of what the hard task adds.
        label: 0, 1 or 2: probability .12, .50 or .88.
        open: 1 while the twenty minutes last.
        trial: number of the present one, from 0.
        clock: s since the beginning.
        probability: that the task is paid.
        magnitude: dollars for the hard task.
        earned: dollars, by expectation.
        z: normals that name the offers to come.
    """

    effort: Float[Array, ""]
    reward: Float[Array, ""]
    label: Int[Array, ""]
    open: Float[Array, ""]
    trial: Int[Array, ""]
    clock: Float[Array, ""]
    probability: Float[Array, ""]
    magnitude: Float[Array, ""]
    earned: Float[Array, ""]
    z: Float[Array, " trial"]


def eefrt(**changed: float) -> EffortTask:
    """The Effort Expenditure for Rewards Task with its published constants.

    Args:
        changed: constants that differ, by their names in section `eefrt.*` of the table, such as `hard_presses`.

    Raises:
        ValueError: the task has no such constant.
    """
    p = constants.section_values("eefrt")
    if unknown := sorted(set(changed) - set(p)):
        raise ValueError(f"the EEfRT has no constants {unknown}; choose from {sorted(p)}.")
    p = p | changed
    trials = int(p["duration"] / (p["easy_seconds"] + p["pause"])) + 1

    def at(trial, clock, earned, z) -> EefrtState:
        index = jnp.minimum(trial, len(z) - 1)
        share = jax.scipy.stats.norm.cdf(z[index])
        label = jnp.minimum((3 * share).astype(jnp.int32), 2)
        probability = jnp.stack([jnp.asarray(p[name], z.dtype) for name in ("unlikely", "even", "likely")])[label]
        magnitude = p["hard_least"] + (3 * share - label.astype(z.dtype)) * (p["hard_most"] - p["hard_least"])
        reward = 1 + p["levels_per_dollar"] * probability * (magnitude - p["easy_reward"])
        level = jnp.asarray(1 + p["levels_per_press"] * (p["hard_presses"] - p["easy_presses"]), z.dtype)
        is_open = (clock < p["duration"]).astype(z.dtype)
        return EefrtState(level, reward, label, is_open, trial, clock, probability, magnitude, earned, z)

    def reset(z: Float[Array, " trial"]) -> EefrtState:
        zero = jnp.zeros((), z.dtype)
        return at(jnp.int32(0), zero, zero, z)

    def step(state: EefrtState, accepted, seconds, u) -> EefrtState:
        work = jnp.where(accepted > 0, p["hard_seconds"], p["easy_seconds"])
        decided = jnp.minimum(seconds, p["decision"])
        paid = state.open * state.probability * jnp.where(accepted > 0, state.magnitude, p["easy_reward"])
        return at(state.trial + 1, state.clock + decided + work + p["pause"], state.earned + paid, state.z)

    return EffortTask(trials, reset, step, False)


def run_task(
    task: EffortTask,
    preferences: Preferences,
    *,
    subjects: int | None = None,
    rmtg: Float[ArrayLike, "*subject"] | None = None,
    seed: int = 0,
    constants: EffortConstants | None = None,
) -> Choices:
    """Let many subjects do a task, each with its own offers, choices and latencies.

    A subject's life depends on (`seed`, its number) and its own preferences, not on how many there are.

    Args:
        task: `staircases()` or `eefrt()`.
        preferences: as they are under the circuit (`effort.governed`): scalars, or one value per subject.
        subjects: how many; needed where all preferences are scalars.
        rmtg: Hz. Rate of the RMTg, which makes latencies longer; the healthy one by default.
        seed: names offers and choices.
        constants: what people share; the package's by default.

    Raises:
        ValueError: numbers of subjects that do not agree, or none.
    """
    p = effort.effort_constants() if constants is None else constants
    preferences = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(float)), preferences)
    rate = p.reference_rmtg if rmtg is None else jnp.asarray(rmtg, jnp.result_type(float))
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves((preferences, rate)) if leaf.ndim}
    lengths |= set() if subjects is None else {subjects}
    if len(lengths) != 1 or min(lengths) < 1:
        raise ValueError(f"numbers of subjects {sorted(lengths)}: give one, at least 1, for all.")
    count = lengths.pop()
    each = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count,)), (preferences, rate))
    number = jnp.arange(count, dtype=jnp.uint32)
    lived = {
        name: np.asarray(value).T for name, value in _run_trials(task, *each, number, channel_keys(seed, 4), p).items()
    }
    known, labels = lived["open"] > 0, lived["label"]
    begun = [(labels[:, :t] == labels[:, t : t + 1]).any(axis=1) for t in range(labels.shape[1])]
    first = ~np.stack(begun, axis=1)
    return Choices(
        subject=tuple(str(i + 1) for i in range(count)),
        effort=np.where(known, lived["effort"], 0).astype(float),
        reward=np.where(known, lived["reward"], 0).astype(float),
        accepted=np.where(known, lived["accepted"], 0).astype(float),
        known=known,
        first=first & known & task.labels,
        latency=np.where(known, lived["latency"], np.nan).astype(float),
        staircase=np.where(known, labels.astype(str), "").astype(object) if task.labels else None,
    )


@entry_point
def _run_trials(task: EffortTask, preferences: Preferences, rmtg, number, keys, p: EffortConstants) -> dict[str, Array]:
    """Every trial of every subject, (trial, subject)."""
    trials = jnp.arange(task.trials, dtype=jnp.int32)
    z = jax.vmap(lambda trial: normals_at_step(keys, number, trial, rmtg.dtype))(trials)  # (trial, channel, subject)
    uniform = jax.scipy.stats.norm.cdf(z)

    def live(preferences: Preferences, rmtg, z, uniform):
        def trial(state, at):
            t, z, u = at
            own, expected = (
                effort.subjective_value(state.effort, state.reward, each, p)
                for each in (preferences, effort.early_preferences(p))
            )
            logit = effort.acceptance_logit(own, expected, effort.task_novelty(t, p.fade), p.naive)
            accepted = (u[CHOICE_CHANNEL] < effort.acceptance_probability(logit, p.lapse)).astype(z.dtype)
            latency = jnp.exp(effort.log_latency_mean(logit, rmtg, p) + p.latency_spread * z[LATENCY_CHANNEL])
            seen = {"effort": state.effort, "reward": state.reward, "accepted": accepted, "latency": latency}
            seen |= {"label": state.label, "open": state.open}
            return task.step(state, accepted, latency, u[MOVE_CHANNEL]), seen

        return jax.lax.scan(trial, task.reset(z[:, ORDER_CHANNEL]), (trials.astype(z.dtype), z, uniform))[1]

    return jax.vmap(live, (0, 0, 2, 2), 1)(preferences, rmtg, z, uniform)
