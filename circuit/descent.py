"""One gradient step of many fits at once: what is lost, and where to go.

    loss = (reached - 1)^2 + shortfall mean over the course of max(0, 1 - output)^2 + burden mean share of amounts

`reached` is VTA output over a window of the course, relative to the target: of the cohort's mean for a shared regimen,
of each subject for personal ones. Two set points make plateaus: what is reached at the end is flat on both sides of the
saddle. But subjects cross it at different doses, so that a cohort's mean slopes where a subject's is a step; and the
shortfall sees how far output rises before it falls back.

Starts are lanes of one cohort, lane = start x subjects + subject, and run in one course. Their losses are independent,
so the gradient of the sum holds the gradient of each; and Adam works number by number.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from ..kernels import Plan, entry_point
from . import regimen
from .cohort import Cohort
from .constraints import constrain
from .interventions import Arm
from .lanes import Kept, tiled, tiled_arm, with_neuron
from .regimen import Leaf
from .simulate import course

SAVE_EVERY = 24  # h: output is judged once a day, at the same time of day
TOLERANCE = 0.02  # relative miss within which a target counts as reached
CLIP = 1.0  # largest norm of a start's gradient, which near a saddle grows as fast as trajectories part
ADAM = optax.scale_by_adam(b1=0.9, b2=0.95)  # forgets a steep place within tens of steps

Free = tuple[Float[Array, "*dose start column"], ...]


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked for, apart from its numbers; a new one is a new compilation.

    Attributes:
        leaves: to be fitted.
        neuron: the constants of the LHb neuron, see `lanes`.
        days: length of the course.
        window: first and last day over which output is judged.
        personal: whether every subject has a regimen of its own.
        plan: how to use the hardware.
    """

    leaves: tuple[Leaf, ...]
    neuron: Kept
    days: float
    window: tuple[float, float]
    personal: bool
    plan: Plan


class Problem(eqx.Module):
    """The numbers of a task.

    Attributes:
        cohort: subjects, without their neuron.
        arm: as given.
        target: Hz.
        shortfall, burden: weights in the loss.
    """

    cohort: Cohort
    arm: Arm
    target: Float[Array, ""]
    shortfall: Float[Array, ""]
    burden: Float[Array, ""]


class Search(eqx.Module):
    """Where the starts are, and the best that each has found.

    A column is a subject in personal fits; shared fits have one.

    Attributes:
        free: unconstrained values of the fitted leaves.
        moments: of Adam.
        best, slope: unconstrained values of least loss, those within tolerance first, and the gradient there.
        loss, reached: of the best.
        resting: steps since the last gain of a hundredth.
        bad: subjects that were ever not finite, and are left out there.
    """

    free: Free
    moments: PyTree
    best: Free
    slope: Free
    loss: Float[Array, "start column"]
    reached: Float[Array, "start column"]
    resting: Int[Array, "start column"]
    bad: Bool[Array, "start subject"]


def begin(free: Free, subjects: int) -> Search:
    """A search that has made no step from `free`."""
    shape = free[0].shape[-2:]
    nowhere = jnp.full(shape, jnp.inf, free[0].dtype)
    zeros = jax.tree.map(jnp.zeros_like, free)
    none = jnp.zeros((shape[0], subjects), bool)
    return Search(free, ADAM.init(free), free, zeros, nowhere, nowhere, jnp.zeros(shape, jnp.int32), none)


@entry_point
def advance(search: Search, problem: Problem, rate: Float[Array, ""], task: Task) -> Search:
    """Judge where every start is, and move each down its own gradient at a learning rate of `rate`."""
    (_, (loss, reached, bad)), slope = jax.value_and_grad(_lost, has_aux=True)(search.free, problem, task)
    slope = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0), slope)
    squares = sum(jnp.square(g).reshape(-1, *loss.shape).sum(axis=0) for g in slope)
    shorten = 1 / jnp.maximum(1, jnp.sqrt(squares) / CLIP)
    clipped = jax.tree.map(lambda g: g * _over_doses(shorten, g), slope)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
        downhill, moments = ADAM.update(clipped, search.moments)
    onward = jax.tree.map(lambda u, move: u - rate * move, search.free, downhill)
    here = Search(onward, moments, search.free, slope, loss, reached, jnp.zeros_like(search.resting), bad)
    return better_of(here, search)


def better_of(here: Search, before: Search) -> Search:
    """Where `here` has come, with the best of both: within tolerance first, then of least loss."""
    within, was_within = (abs(of.reached - 1) < TOLERANCE for of in (here, before))
    better = jnp.where(within == was_within, here.loss < before.loss, within)
    gained = better & ((within != was_within) | (here.loss < 0.99 * before.loss))
    choose = lambda new, old: jax.tree.map(lambda a, b: jnp.where(_over_doses(better, a), a, b), new, old)
    return Search(
        free=here.free,
        moments=here.moments,
        best=choose(here.best, before.best),
        slope=choose(here.slope, before.slope),
        loss=choose(here.loss, before.loss),
        reached=choose(here.reached, before.reached),
        resting=jnp.where(gained, 0, before.resting + 1),
        bad=here.bad | before.bad,
    )


def _lost(free: Free, problem: Problem, task: Task):
    """Sum of all losses; and the losses and what is reached, (start, column), and who is bad, (start, subject)."""
    values = constrain(free, tuple(leaf.interval for leaf in task.leaves))
    starts, subjects = free[0].shape[-2], len(problem.cohort)
    output = _outputs(values, problem, task, starts, subjects) / problem.target
    good = jnp.isfinite(output).all(axis=-1)
    output = jnp.where(good[..., None], output, 1)

    inside = within_window(task.days, task.window)
    reached = output[..., inside].mean(axis=-1)
    lacking = jnp.square(jnp.maximum(1 - output, 0)).mean(axis=-1)
    known = good
    if not task.personal:
        reached, lacking = (_mean_over_subjects(value, good) for value in (reached, lacking))
        known = good.any(axis=-1, keepdims=True)
    loss = jnp.square(reached - 1) + problem.shortfall * lacking + problem.burden * _burden(values, task.leaves)
    loss, reached = (jnp.where(known, value, jnp.inf) for value in (loss, reached))
    return jnp.where(known, loss, 0).sum(), (loss, reached, ~good)


def _outputs(values, problem: Problem, task: Task, starts: int, subjects: int) -> Float[Array, "start subject saved"]:
    """VTA output (Hz) of every subject from every start."""
    cohort = with_neuron(tiled(problem.cohort, starts), task.neuron)

    def lanes(value):
        each = jnp.broadcast_to(value, (*value.shape[:-1], subjects))
        return _drop_bad(each.reshape(*value.shape[:-2], starts * subjects))

    arm = regimen.replace(tiled_arm(problem.arm, starts), task.leaves, [lanes(value) for value in values])
    found = course(cohort, arm, task.days, save_every=SAVE_EVERY, record=("vta_output",), plan=task.plan)
    return found["vta_output"].reshape(starts, subjects, -1)


def within_window(days: float, window: tuple[float, float]) -> Bool[np.ndarray, " saved"]:
    """Which records of a course lie in the window: after its first day, up to its last."""
    day = np.arange(1, round(days * 24) // SAVE_EVERY + 1) * SAVE_EVERY / 24
    return (day > window[0]) & (day <= window[1])


def _burden(values: Free, leaves: tuple[Leaf, ...]) -> Float[Array, "start column"]:
    """Amounts as shares of their bounds: a mean over the doses of each leaf, then over leaves."""
    shares = [
        ((value - leaf.interval.low) / leaf.interval.width).reshape(-1, *value.shape[-2:]).mean(axis=0)
        for value, leaf in zip(values, leaves, strict=True)
        if leaf.is_amount
    ]
    nothing = jnp.zeros(values[0].shape[-2:], values[0].dtype)
    return sum(shares, nothing) / max(len(shares), 1)


def _mean_over_subjects(value: Array, good: Array) -> Float[Array, "start 1"]:
    count = jnp.maximum(good.sum(axis=-1, keepdims=True), 1).astype(value.dtype)
    return jnp.where(good, value, 0).sum(axis=-1, keepdims=True) / count


def _over_doses(value: Shaped[Array, "start column"], like: Array) -> Array:
    """`value` with leading axes for the doses of a leaf."""
    return value.reshape((1,) * (like.ndim - value.ndim) + value.shape)


@jax.custom_vjp
def _drop_bad(x: Array) -> Array:
    """The same; but lanes whose derivative is not finite do not pass it on to the regimen that others share."""
    return x


_drop_bad.defvjp(lambda x: (x, None), lambda _, g: (jnp.where(jnp.isfinite(g), g, 0),))
