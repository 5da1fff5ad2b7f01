"""Pavlovian conditioning: cues that foretell a reward or an air puff, as a pair of pure functions for one subject.

    reset(task, z) -> state             before the first trial; z are standard normals, one for each trial
    step(task, state, u) -> state       the outcome of the trial and the cue of the next; u are two uniforms on 0 to 1

After a cue, a reward of some magnitude comes with some probability, and an air puff with another (Matsumoto & Hikosaka
2007, 2009); nothing that the subject does changes either. Cues come in random order, each once in every round of all of
them. From the trial `flip` on, the cues change places: the first pays as the last did.

Reward is in units of the full reward, an air puff in those of a strong one: the units of the fast clock's events.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int, UInt

from ...kernels import channel_keys, entry_point, normals_at_step

CONDITIONING_NOISE_STREAM = 0x7061766C  # tells the noise of cues and outcomes from all other
ORDER_CHANNEL, REWARD_CHANNEL, PUFF_CHANNEL = range(3)  # channels of that noise
NO_FLIP_TRIAL = 2**31 - 1  # the trial of a flip that does not come

PerCue = Float[Array, "cue *#subject"]


class PavlovianTask(eqx.Module):
    """What the cues mean.

    Attributes:
        probability: of reward, by cue; one value for all subjects, or one per subject.
        magnitude: of that reward, 1 the full one.
        puff: probability of an air puff, by cue.
        flip: trial from which the cues have changed places.
    """

    probability: PerCue
    magnitude: PerCue
    puff: PerCue
    flip: Int[Array, "*#subject"]


class PavlovianState(eqx.Module):
    """Where a subject is in its trials.

    Attributes:
        cue: the cue that is shown.
        reward, puff: what came of the trial before, 0 before the first.
        trial: number of the present one, from 0.
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
    """What subjects were shown, and what came of it; from `schedule_trials`, or your own.

    Attributes:
        cue: number of the cue, from 0; negative where there was no trial.
        reward: magnitude of the reward that came, 0 for none.
        puff: strength of the air puff that came, 0 for none.
    """

    cue: Int[Array, "subject trial"]
    reward: Float[Array, "subject trial"]
    puff: Float[Array, "subject trial"]

    def __init__(self, cue: Any, reward: Any, puff: Any = 0.0):
        """Takes what NumPy takes; one number stands for all trials."""
        number = lambda value: jnp.asarray(value, jnp.result_type(float))
        self.cue = jnp.asarray(cue, jnp.int32)
        self.reward, self.puff = (
            jnp.full(self.cue.shape, each) if each.ndim == 0 else each for each in (number(reward), number(puff))
        )


def pavlovian(
    probability: Any, *, magnitude: Any = 1.0, puff: Any = 0.0, flip: Int[ArrayLike, "*#subject"] | None = None
) -> PavlovianTask:
    """An experiment whose cues foretell reward with `probability`, one number for each cue.

    Args:
        probability: of reward, (cue,) or (cue, subject).
        magnitude: of that reward, 1 the full one; one for all cues, or as `probability`.
        puff: probability of an air puff; one for all cues, or as `probability`.
        flip: trial, from 0, at which the cues change places; never by default. One for all, or one per subject.

    Raises:
        ValueError: shapes that do not agree, probabilities beyond 0 and 1, magnitudes that are negative or not finite.

    >>> pavlovian([1.0, 0.0], flip=30).magnitude.tolist()
    [1.0, 1.0]
    """
    likely, size, harm = (jnp.asarray(value, jnp.result_type(float)) for value in (probability, magnitude, puff))
    try:
        shape = np.broadcast_shapes(likely.shape, size.shape, harm.shape)
    except ValueError:
        shape = ()
    if len(shape) not in (1, 2) or not min(shape):
        raise ValueError(
            f"probability {likely.shape}, magnitude {size.shape} and puff {harm.shape}: give one value for each cue, "
            "(cue,), or for each cue and subject, (cue, subject)."
        )
    for name, value, most in (("probability", likely, 1), ("puff", harm, 1), ("magnitude", size, np.inf)):
        if isinstance(value, Tracer):
            continue
        shown = np.asarray(value)
        if (wrong := ~((shown >= 0) & (shown <= most) & np.isfinite(shown))).any():
            raise ValueError(f"{name} = {shown[wrong][0]:g} must lie between 0 and {most:g}, and be finite.")
    when = jnp.asarray(NO_FLIP_TRIAL if flip is None else flip, jnp.int32)
    if not isinstance(when, Tracer) and (np.asarray(when) < 0).any():
        raise ValueError(f"flip={np.asarray(when).min()} must be a trial, counted from 0.")
    likely, size, harm = (jnp.broadcast_to(value, shape) for value in (likely, size, harm))
    return PavlovianTask(likely, size, harm, when)


def reset_conditioning(task: PavlovianTask, z: Float[Array, " trial"]) -> PavlovianState:
    """All cues in random order, round after round, in the order that `z` gives; `task` is one subject's."""
    cues = task.probability.shape[0]
    rounds = -(-len(z) // cues)
    padded = jnp.pad(z, (0, rounds * cues - len(z)), mode="wrap").reshape(rounds, cues)
    order = jnp.argsort(padded, axis=1).astype(jnp.int32).reshape(-1)
    zero = jnp.zeros((), z.dtype)
    return PavlovianState(order[0], zero, zero, jnp.int32(0), zero + 1, order[: len(z)])


def step_conditioning(task: PavlovianTask, state: PavlovianState, u: Float[Array, " 2"]) -> PavlovianState:
    """What comes of the cue that is shown, and the next cue."""
    cues = task.probability.shape[0]
    pays_as = jnp.where(state.trial >= task.flip, cues - 1 - state.cue, state.cue)
    reward = jnp.where(u[0] < task.probability[pays_as], task.magnitude[pays_as], 0)
    puff = (u[1] < task.puff[pays_as]).astype(u.dtype)
    after = state.trial + 1
    is_open = (after < len(state.order)).astype(u.dtype)
    return PavlovianState(
        state.order[jnp.minimum(after, len(state.order) - 1)], reward, puff, after, is_open, state.order
    )


def schedule_trials(
    task: PavlovianTask, trials: int, subject: UInt[Array, " subject"], seed: UInt[ArrayLike, ""] | int = 0
) -> Trials:
    """Cues and outcomes of all `trials` for each `subject`, whose number and the `seed` name them.

    Raises:
        ValueError: no trials, or a task of another number of subjects.
    """
    if trials < 1:
        raise ValueError(f"{trials=} must be at least 1.")
    own = {leaf.shape[-1] for leaf in (task.probability, task.magnitude, task.puff) if leaf.ndim == 2}
    own |= {leaf.shape[0] for leaf in (task.flip,) if leaf.ndim}
    if wrong := own - {len(subject)}:
        raise ValueError(f"a task of {sorted(wrong)} subjects for {len(subject)}: give one for all, or one for each.")
    return _draw_trials(task, trials, subject, jnp.asarray(seed, jnp.uint32) ^ jnp.uint32(CONDITIONING_NOISE_STREAM))


@entry_point
def _draw_trials(task: PavlovianTask, trials: int, subject, seed) -> Trials:
    number = jnp.arange(trials, dtype=jnp.int32)
    dtype = task.probability.dtype
    keys = channel_keys(seed, 3)
    z = jax.vmap(lambda trial: normals_at_step(keys, subject, trial, dtype))(number)  # (trial, channel, subject)
    axes = jax.tree.map(lambda leaf: -1 if leaf.shape[-1:] == subject.shape and leaf.ndim == 2 else None, task)
    axes = eqx.tree_at(lambda t: t.flip, axes, 0 if task.flip.ndim else None, is_leaf=lambda x: x is None)

    def live(task, z):
        def trial(state, u):
            after = step_conditioning(task, state, u)
            return after, (state.cue, after.reward, after.puff)

        chances = jax.scipy.stats.norm.cdf(z[:, (REWARD_CHANNEL, PUFF_CHANNEL)])
        return jax.lax.scan(trial, reset_conditioning(task, z[:, ORDER_CHANNEL]), chances)[1]

    return Trials(*jax.vmap(live, (axes, 2))(task, z))
