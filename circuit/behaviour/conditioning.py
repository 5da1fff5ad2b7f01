"""Pavlovian conditioning: cues that predict a reward or an air puff, as pure functions of one subject.

    reset(task, z) -> state             before the first trial; z: standard normals, one per trial
    step(task, state, u) -> state       outcome of the trial and next cue; u: two uniforms on 0 to 1

Each cue is followed by a reward with some probability, and by an air puff with another (Matsumoto & Hikosaka 2007, 2009).
Outcomes do not depend on responses. Cues come in rounds: every round shows each cue once, in random order. At a reversal the
contingencies are exchanged: the first cue is paid like the last, and so on.

Rewards are in units of the full reward, air puffs in units of a strong one. Events of the fast clock have the same units.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int, UInt

from ...kernels import channel_keys, entry_point, normals_at_step

CONDITIONING_NOISE_STREAM = 0x7061766C  # separates the noise of cues and outcomes from all other noise
ORDER_CHANNEL, REWARD_CHANNEL, PUFF_CHANNEL = range(3)  # of that noise
NO_REVERSAL = 2**31 - 1  # a trial that is never reached

PerCue = Float[Array, "cue *#subject"]


class PavlovianTask(eqx.Module):
    """Contingencies of a conditioning experiment; one value for all subjects, or one per subject.

    Attributes:
        probability: of reward, by cue.
        magnitude: of that reward; 1 is the full reward.
        puff: probability of an air puff, by cue.
        reversal: first trial with exchanged contingencies.
    """

    probability: PerCue
    magnitude: PerCue
    puff: PerCue
    reversal: Int[Array, "*#subject"]


class PavlovianState(eqx.Module):
    """State of the experiment of one subject.

    Attributes:
        cue: number of the present cue.
        reward, puff: outcome of the previous trial, 0 before the first.
        trial: number of the present trial, from 0.
        open: 1 while there are trials left.
        order: cue of each trial.
    """

    cue: Int[Array, ""]
    reward: Float[Array, ""]
    puff: Float[Array, ""]
    trial: Int[Array, ""]
    open: Float[Array, ""]
    order: Int[Array, " trial"]


class Trials(eqx.Module):
    """Cues and outcomes of conditioning trials; from `schedule_trials`, or your own data.

    Attributes:
        cue: number of the cue, from 0; negative if there was no trial.
        reward: magnitude of the delivered reward, 0 for none.
        puff: strength of the delivered air puff, 0 for none.

    >>> import habenula as hb
    >>> hb.behaviour.Trials(cue=[[0, 1]], reward=[[1.0, 0.0]]).puff.tolist()
    [[0.0, 0.0]]
    """

    cue: Int[Array, "subject trial"]
    reward: Float[Array, "subject trial"]
    puff: Float[Array, "subject trial"]

    def __init__(self, cue: Any, reward: Any, puff: Any = 0.0):
        """From anything NumPy can convert; a scalar stands for all trials."""
        self.cue = jnp.asarray(cue, jnp.int32)
        reward, puff = (jnp.asarray(value, jnp.result_type(float)) for value in (reward, puff))
        self.reward, self.puff = (
            jnp.full(self.cue.shape, value) if value.ndim == 0 else value for value in (reward, puff)
        )


def pavlovian(
    probability: Any, *, magnitude: Any = 1.0, puff: Any = 0.0, reversal: Int[ArrayLike, "*#subject"] | None = None
) -> PavlovianTask:
    """Pavlovian conditioning experiment: probability, magnitude and reversal of rewards and air puffs by cue.

    Args:
        probability: of reward, (cue,) or (cue, subject).
        magnitude: of that reward, 1 for the full reward; one for all cues, or shaped like `probability`.
        puff: probability of an air puff; one for all cues, or shaped like `probability`.
        reversal: first trial, from 0, with exchanged contingencies; by default none. One for all, or one per subject.

    Raises:
        ValueError: shapes that do not agree, probabilities outside 0 to 1, magnitudes that are negative or not finite.

    References:
        Matsumoto & Hikosaka (2007, 2009).

    >>> import habenula as hb
    >>> hb.behaviour.pavlovian([1.0, 0.5, 0.0], reversal=30).magnitude.tolist()
    [1.0, 1.0, 1.0]
    """
    probability, magnitude, puff = (
        jnp.asarray(value, jnp.result_type(float)) for value in (probability, magnitude, puff)
    )
    try:
        shape = np.broadcast_shapes(probability.shape, magnitude.shape, puff.shape)
    except ValueError:
        shape = ()
    if len(shape) not in (1, 2) or not min(shape):
        raise ValueError(
            f"probability {probability.shape}, magnitude {magnitude.shape} and puff {puff.shape}: give one value for each cue, "
            "(cue,), or for each cue and subject, (cue, subject)."
        )
    for name, value, most in (("probability", probability, 1), ("puff", puff, 1), ("magnitude", magnitude, np.inf)):
        if isinstance(value, Tracer):
            continue
        values = np.asarray(value)
        if (wrong := ~((values >= 0) & (values <= most) & np.isfinite(values))).any():
            raise ValueError(f"{name} = {values[wrong][0]:g} must lie between 0 and {most:g}, and be finite.")
    when = jnp.asarray(NO_REVERSAL if reversal is None else reversal, jnp.int32)
    if not isinstance(when, Tracer) and (np.asarray(when) < 0).any():
        raise ValueError(f"reversal={np.asarray(when).min()} must be a trial, counted from 0.")
    probability, magnitude, puff = (jnp.broadcast_to(value, shape) for value in (probability, magnitude, puff))
    return PavlovianTask(probability, magnitude, puff, when)


def reset_conditioning(task: PavlovianTask, z: Float[Array, " trial"]) -> PavlovianState:
    """State before the first trial: rounds of all cues, in the random order given by `z`; `task` is that of one subject."""
    cues = task.probability.shape[0]
    rounds = -(-len(z) // cues)
    padded = jnp.pad(z, (0, rounds * cues - len(z)), mode="wrap").reshape(rounds, cues)
    order = jnp.argsort(padded, axis=1).astype(jnp.int32).reshape(-1)
    zero = jnp.zeros((), z.dtype)
    return PavlovianState(order[0], zero, zero, jnp.int32(0), zero + 1, order[: len(z)])


def step_conditioning(task: PavlovianTask, state: PavlovianState, u: Float[Array, " 2"]) -> PavlovianState:
    """Deliver the outcome of the present cue and show the next one."""
    cues = task.probability.shape[0]
    paid_as = jnp.where(state.trial >= task.reversal, cues - 1 - state.cue, state.cue)
    reward = jnp.where(u[0] < task.probability[paid_as], task.magnitude[paid_as], 0)
    puff = (u[1] < task.puff[paid_as]).astype(u.dtype)
    after = state.trial + 1
    is_open = (after < len(state.order)).astype(u.dtype)
    return PavlovianState(
        state.order[jnp.minimum(after, len(state.order) - 1)], reward, puff, after, is_open, state.order
    )


def schedule_trials(
    task: PavlovianTask, trials: int, subject: UInt[Array, " subject"], seed: UInt[ArrayLike, ""] | int = 0
) -> Trials:
    """Draw cues and outcomes of conditioning trials.

    Args:
        task: from `pavlovian`.
        trials: number of trials.
        subject: numbers of the subjects. A subject's trials depend on its number and the seed only.
        seed: of cues and outcomes.

    Returns:
        `Trials` of (subject, trial).

    Raises:
        ValueError: no trials, or a task of another number of subjects.

    >>> import jax.numpy as jnp
    >>> import habenula as hb
    >>> task = hb.behaviour.pavlovian([1.0, 0.0])
    >>> trials = hb.behaviour.schedule_trials(task, 4, jnp.arange(2, dtype=jnp.uint32), seed=1)
    >>> bool(((trials.reward > 0) == (trials.cue == 0)).all())  # cue 0 is always paid, cue 1 never
    True
    """
    if trials < 1:
        raise ValueError(f"{trials=} must be at least 1.")
    subjects = {leaf.shape[-1] for leaf in (task.probability, task.magnitude, task.puff) if leaf.ndim == 2}
    subjects |= {leaf.shape[0] for leaf in (task.reversal,) if leaf.ndim}
    if wrong := subjects - {len(subject)}:
        raise ValueError(
            f"a task of {sorted(wrong)} subjects for {len(subject)}: give one value for all, or one per subject."
        )
    return _draw_trials(task, trials, subject, jnp.asarray(seed, jnp.uint32) ^ jnp.uint32(CONDITIONING_NOISE_STREAM))


@entry_point
def _draw_trials(task: PavlovianTask, trials: int, subject: UInt[Array, " subject"], seed: UInt[Array, ""]) -> Trials:
    number = jnp.arange(trials, dtype=jnp.int32)
    dtype = task.probability.dtype
    keys = channel_keys(seed, 3)
    z = jax.vmap(lambda trial: normals_at_step(keys, subject, trial, dtype))(number)  # (trial, channel, subject)
    axes = jax.tree.map(lambda leaf: -1 if leaf.shape[-1:] == subject.shape and leaf.ndim == 2 else None, task)
    axes = eqx.tree_at(lambda t: t.reversal, axes, 0 if task.reversal.ndim else None, is_leaf=lambda x: x is None)

    def run_subject(task, z):
        def trial(state, u):
            after = step_conditioning(task, state, u)
            return after, (state.cue, after.reward, after.puff)

        uniform = jax.scipy.stats.norm.cdf(z[:, (REWARD_CHANNEL, PUFF_CHANNEL)])
        return jax.lax.scan(trial, reset_conditioning(task, z[:, ORDER_CHANNEL]), uniform)[1]

    return Trials(*jax.vmap(run_subject, (axes, 2))(task, z))
