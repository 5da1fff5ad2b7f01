"""Effort tasks as pure functions of one subject, and the simulation of many subjects in one.

    reset(z) -> state                              before the first trial; z: standard normals, one per trial
    step(state, accepted, seconds, u) -> state     after a choice that took `seconds`; u: uniform on 0 to 1

A state holds the present offer: `effort` and `reward` in levels, a `label`, and whether the task is still `open`.

*Staircases* (Mehrhof & Nord 2024): offers of four efforts and four rewards, accepted or declined (declining pays one
point). Sixteen staircases of four trials each, in random order, one starting at each combination. Accepting raises the
effort or lowers the reward by a level, declining does the opposite. Which of the two is random; at a border it is the
possible one, at the corner neither.

*EEfRT*, the Effort Expenditure for Rewards Task (Treadway et al. 2009): an easy task (30 presses in 7 s for $1.00) or a hard
one (98 to 100 presses in 21 s for $1.24 to 4.30), paid with a displayed probability of .12, .50 or .88, for twenty minutes.
`accepted` means the hard task; levels are those of its extra effort and extra expected reward.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, UInt

from ...kernels import channel_keys, entry_point, normals_at_step
from ..data import constants
from . import effort
from .choices import Choices
from .effort import EffortConstants, Preferences

LEVEL_COUNT = 4  # of effort and of reward
STAIRCASE_COUNT, TRIALS_PER_STAIRCASE = LEVEL_COUNT * LEVEL_COUNT, 4
ORDER_CHANNEL, CHOICE_CHANNEL, LATENCY_CHANNEL, MOVE_CHANNEL = range(4)  # of the noise


class EffortTask(NamedTuple):
    """An effort task for one subject.

    Attributes:
        trials: largest number of trials.
        reset, step: see the module.
        labels: whether labels name staircases.
    """

    trials: int
    reset: Callable[[Float[Array, " trial"]], Any]
    step: Callable[[Any, Float[Array, ""], Float[Array, ""], Float[Array, ""]], Any]
    labels: bool


class StaircaseState(eqx.Module):
    """State of the staircases of one subject.

    Attributes:
        effort, reward: levels of the present offer.
        label: staircase of the present trial.
        open: 1 while there are trials left.
        trial: number of the present trial, from 0.
        order: staircase of each trial.
        efforts, rewards: present levels of each staircase.
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
    """Adaptive staircases of effort and reward offers (Mehrhof & Nord 2024): 64 trials.

    >>> import habenula as hb
    >>> hb.behaviour.staircases().trials
    64
    """
    return EffortTask(STAIRCASE_COUNT * TRIALS_PER_STAIRCASE, _reset_staircases, step_staircase, True)


def _reset_staircases(z: Float[Array, " trial"]) -> StaircaseState:
    """Staircases at their initial levels, in the random order given by `z`."""
    order = jnp.argsort(z).astype(jnp.int32) % STAIRCASE_COUNT
    cell = jnp.arange(STAIRCASE_COUNT, dtype=jnp.int32)
    efforts, rewards = ((index + 1).astype(z.dtype) for index in (cell // LEVEL_COUNT, cell % LEVEL_COUNT))
    return _staircase_state(jnp.int32(0), order, efforts, rewards)


def _staircase_state(
    trial: Int[Array, ""],
    order: Int[Array, " trial"],
    efforts: Float[Array, " staircase"],
    rewards: Float[Array, " staircase"],
) -> StaircaseState:
    label = order[jnp.minimum(trial, len(order) - 1)]
    is_open = (trial < len(order)).astype(efforts.dtype)
    return StaircaseState(efforts[label], rewards[label], label, is_open, trial, order, efforts, rewards)


def step_staircase(
    state: StaircaseState, accepted: Float[Array, ""], seconds: Float[Array, ""], u: Float[Array, ""]
) -> StaircaseState:
    """Move the present staircase by a level: less favourable after accepting, more after declining."""
    harder = 2 * accepted - 1
    effort_next, reward_next = state.effort + harder, state.reward - harder
    effort_can, reward_can = (((level >= 1) & (level <= LEVEL_COUNT)) for level in (effort_next, reward_next))
    by_effort = effort_can & ((u < 0.5) | ~reward_can)
    by_reward = reward_can & ~by_effort
    efforts = state.efforts.at[state.label].set(jnp.where(by_effort, effort_next, state.effort))
    rewards = state.rewards.at[state.label].set(jnp.where(by_reward, reward_next, state.reward))
    return _staircase_state(state.trial + 1, state.order, efforts, rewards)


class EefrtState(eqx.Module):
    """State of the EEfRT of one subject.

    Attributes:
        effort, reward: levels of the extra effort and extra expected reward of the hard task.
        label: 0, 1 or 2 for a probability of .12, .50 or .88.
        open: 1 until the twenty minutes are over.
        trial: number of the present trial, from 0.
        clock: s since the beginning.
        probability: that the task is paid.
        magnitude: dollars for the hard task.
        earned: dollars, expected.
        z: standard normals that determine the offers.
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


def eefrt(**replaced: float) -> EffortTask:
    """Effort Expenditure for Rewards Task (EEfRT; Treadway et al. 2009) with its published constants.

    Args:
        replaced: constants to replace, by their names in section `eefrt.*` of the table, such as `hard_presses`.

    Raises:
        ValueError: the task has no such constant.

    >>> import habenula as hb
    >>> hb.behaviour.eefrt().trials, hb.behaviour.eefrt(duration=60.0).trials
    (110, 6)
    """
    p = constants.section_values("eefrt")
    if unknown := sorted(set(replaced) - set(p)):
        raise ValueError(f"the EEfRT has no constants {unknown}; choose from {sorted(p)}.")
    p = p | replaced
    trials = int(p["duration"] / (p["easy_seconds"] + p["pause"])) + 1

    def offer(trial, clock, earned, z) -> EefrtState:
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
        return offer(jnp.int32(0), zero, zero, z)

    def step(state: EefrtState, accepted, seconds, u) -> EefrtState:
        work = jnp.where(accepted > 0, p["hard_seconds"], p["easy_seconds"])
        decision = jnp.minimum(seconds, p["decision"])
        paid = state.open * state.probability * jnp.where(accepted > 0, state.magnitude, p["easy_reward"])
        return offer(state.trial + 1, state.clock + decision + work + p["pause"], state.earned + paid, state.z)

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
    """Simulate choices of many subjects in an effort task, each with its own offers, choices and latencies.

    A subject's trials depend on (`seed`, its number) and its preferences, not on the number of subjects.

    Args:
        task: `staircases()` or `eefrt()`.
        preferences: under the circuit (`effort.modulate_preferences`); scalars, or one value per subject.
        subjects: number of subjects; needed if all preferences are scalars.
        rmtg: Hz. Rate of the RMTg, which lengthens latencies; by default the healthy one.
        seed: of offers and choices.
        constants: shared by all people; by default the package's.

    Returns:
        `Choices` of (subject, trial); trials after the end of a task are marked as not made.

    Raises:
        ValueError: numbers of subjects that are missing, below 1, or disagree.

    >>> import jax.numpy as jnp
    >>> import habenula as hb
    >>> preferences = hb.behaviour.Preferences(jnp.asarray(1.0), jnp.asarray(1.2), jnp.asarray(1.2))
    >>> choices = hb.behaviour.run_task(hb.behaviour.staircases(), preferences, subjects=3, seed=1)
    >>> choices.effort.shape, choices.trials
    ((3, 64), 192)
    """
    p = effort.effort_constants() if constants is None else constants
    preferences = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(float)), preferences)
    rate = p.reference_rmtg if rmtg is None else jnp.asarray(rmtg, jnp.result_type(float))
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves((preferences, rate)) if leaf.ndim}
    lengths |= set() if subjects is None else {subjects}
    if len(lengths) != 1 or min(lengths) < 1:
        raise ValueError(f"numbers of subjects {sorted(lengths)}: give one, at least 1, for all.")
    count = lengths.pop()
    by_subject = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count,)), (preferences, rate))
    number = jnp.arange(count, dtype=jnp.uint32)
    return _as_choices(_run_trials(task, *by_subject, number, channel_keys(seed, 4), p), task.labels)


class TrialRecord(NamedTuple):
    """Offer, choice and latency (s) of each trial; `label` and `open` as in the state of the task."""

    effort: Float[Array, "trial subject"]
    reward: Float[Array, "trial subject"]
    accepted: Float[Array, "trial subject"]
    latency: Float[Array, "trial subject"]
    label: Int[Array, "trial subject"]
    open: Float[Array, "trial subject"]


def _as_choices(record: TrialRecord, has_staircases: bool) -> Choices:
    effort, reward, accepted, latency, labels, is_open = (np.asarray(values).T for values in record)
    known = is_open > 0
    repeated = [(labels[:, :t] == labels[:, t : t + 1]).any(axis=1) for t in range(labels.shape[1])]
    first = ~np.stack(repeated, axis=1)
    return Choices(
        subject=tuple(str(i + 1) for i in range(len(labels))),
        effort=np.where(known, effort, 0).astype(float),
        reward=np.where(known, reward, 0).astype(float),
        accepted=np.where(known, accepted, 0).astype(float),
        known=known,
        first=first & known & has_staircases,
        latency=np.where(known, latency, np.nan).astype(float),
        staircase=np.where(known, labels.astype(str), "").astype(object) if has_staircases else None,
    )


@entry_point
def _run_trials(
    task: EffortTask,
    preferences: Preferences,
    rmtg: Float[Array, " subject"],
    number: UInt[Array, " subject"],
    keys: UInt[Array, "..."],
    p: EffortConstants,
) -> TrialRecord:
    """Every trial of every subject, (trial, subject)."""
    trials = jnp.arange(task.trials, dtype=jnp.int32)
    z = jax.vmap(lambda trial: normals_at_step(keys, number, trial, rmtg.dtype))(trials)  # (trial, channel, subject)
    uniform = jax.scipy.stats.norm.cdf(z)

    def run_subject(preferences: Preferences, rmtg, z, uniform) -> TrialRecord:
        def trial(state, noise):
            t, z, u = noise
            value, early_value = (
                effort.subjective_value(state.effort, state.reward, weights, p)
                for weights in (preferences, effort.early_preferences(p))
            )
            logit = effort.acceptance_logit(value, early_value, effort.task_novelty(t, p.fade), p.naive)
            accepted = (u[CHOICE_CHANNEL] < effort.acceptance_probability(logit, p.lapse)).astype(z.dtype)
            latency = jnp.exp(effort.log_latency_mean(logit, rmtg, p) + p.latency_spread * z[LATENCY_CHANNEL])
            record = TrialRecord(state.effort, state.reward, accepted, latency, state.label, state.open)
            return task.step(state, accepted, latency, u[MOVE_CHANNEL]), record

        return jax.lax.scan(trial, task.reset(z[:, ORDER_CHANNEL]), (trials.astype(z.dtype), z, uniform))[1]

    return jax.vmap(run_subject, (0, 0, 2, 2), 1)(preferences, rmtg, z, uniform)
