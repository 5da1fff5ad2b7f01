"""One gradient step of many fits at once: what is lost, and where to go.

    loss = miss^2 + shortfall mean over the course of max(0, 1 - output)^2 + burden mean share of amounts

The miss is that of VTA output from its target (`target.relative_miss`), relative to it: of the cohort for a shared regimen, of
each subject for personal ones. Two set points make plateaus: what is reached at the end is flat on both sides of the
saddle. But subjects cross it at different doses, so that a cohort's mean slopes where a subject's is a step; and the
shortfall sees how far output rises before it falls back.

Starts are lanes of one cohort, lane = start x subjects + subject, and run in one course. Their losses are independent,
so the gradient of the sum holds the gradient of each; and Adam works number by number. Each start may weigh the burden
in its own way.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.custom_derivatives import linear_call
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from ...kernels import entry_point
from ..fitting import regimen
from ..fitting.regimen import RegimenLeaf
from ..simulation.batching import repeat_arm, repeat_cohort, with_neuron
from ..simulation.course import course
from .problem import FreeValues, RegimenProblem
from .target import SAVE_EVERY, relative_miss

MAX_GRADIENT_NORM = 1.0  # largest norm of a start's gradient, which near a saddle grows as fast as trajectories part
ADAM = optax.scale_by_adam(b1=0.9, b2=0.95)  # forgets a steep place within tens of steps


class AdamState(eqx.Module):
    """Where the starts are, and the best that each has found.

    A column is a subject in personal fits; shared fits have one.

    Attributes:
        free: unconstrained values of the fitted leaves.
        moments: of Adam.
        best, slope: unconstrained values of least loss, those within tolerance first, and the gradient there.
        loss, reached: of the best.
        resting: steps since the last gain of a hundredth.
        bad: subjects that were ever not finite, and are left out there.
        blind: leaves by which the derivative of a subject's loss was ever not finite; there it does not count.
    """

    free: FreeValues
    moments: PyTree
    best: FreeValues
    slope: FreeValues
    loss: Float[Array, "start column"]
    reached: Float[Array, "start column"]
    resting: Int[Array, "start column"]
    bad: Bool[Array, "start subject"]
    blind: Bool[Array, "leaf start subject"]


def init_adam_state(free: FreeValues, subjects: int) -> AdamState:
    """A search that has made no step from `free`."""
    shape = free[0].shape[-2:]
    nowhere = jnp.full(shape, jnp.inf, free[0].dtype)
    zeros = jax.tree.map(jnp.zeros_like, free)
    none = jnp.zeros((len(free), shape[0], subjects), bool)
    return AdamState(free, ADAM.init(free), free, zeros, nowhere, nowhere, jnp.zeros(shape, jnp.int32), none[0], none)


@entry_point
def take_adam_step(search: AdamState, problem: RegimenProblem, rate: Float[Array, ""]) -> AdamState:
    """Judge where every start is, and move each down its own gradient at a learning rate of `rate`."""
    unseen = jnp.zeros(search.blind.shape, search.loss.dtype)
    lost = jax.value_and_grad(_total_loss, argnums=(0, 1), has_aux=True)
    (_, (loss, reached, bad)), (slope, blind) = lost(search.free, unseen, problem)
    slope = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0), slope)
    squares = sum(jnp.square(g).reshape(-1, *loss.shape).sum(axis=0) for g in slope)
    shorten = 1 / jnp.maximum(1, jnp.sqrt(squares) / MAX_GRADIENT_NORM)
    clipped = jax.tree.map(lambda g: g * _add_dose_axes(shorten, g), slope)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
        downhill, moments = ADAM.update(clipped, search.moments)
    onward = regimen.project_times(jax.tree.map(lambda u, move: u - rate * move, search.free, downhill), problem.leaves)
    here = AdamState(onward, moments, search.free, slope, loss, reached, jnp.zeros_like(search.resting), bad, blind > 0)
    return update_best(here, search, problem.goal.within)


def update_best(here: AdamState, before: AdamState, tolerance: Float[Array, ""]) -> AdamState:
    """Where `here` has come, with the best of both: within tolerance first, then of least loss."""
    within, was_within = (abs(of.reached - 1) < tolerance for of in (here, before))
    better = jnp.where(within == was_within, here.loss < before.loss, within)
    gained = better & ((within != was_within) | (here.loss < 0.99 * before.loss))
    found = update_best_where(better, here, before)
    return eqx.tree_at(lambda s: s.resting, found, jnp.where(gained, 0, before.resting + 1))


def update_best_where(chosen: Bool[Array, "start column"], here: AdamState, before: AdamState) -> AdamState:
    """Where `here` has come, with its best where that is chosen, and that of `before` elsewhere."""
    choose = lambda new, old: jax.tree.map(lambda a, b: jnp.where(_add_dose_axes(chosen, a), a, b), new, old)
    return AdamState(
        free=here.free,
        moments=here.moments,
        best=choose(here.best, before.best),
        slope=choose(here.slope, before.slope),
        loss=choose(here.loss, before.loss),
        reached=choose(here.reached, before.reached),
        resting=before.resting,
        bad=here.bad | before.bad,
        blind=here.blind | before.blind,
    )


def _total_loss(free: FreeValues, unseen: Float[Array, "leaf start subject"], problem: RegimenProblem):
    """Sum of all losses; and the losses and what is reached, (start, column), and who is bad, (start, subject).

    `unseen` is nothing; its derivative is 1 where that by a leaf is not finite in a lane.
    """
    found = _compute_losses(regimen.leaf_values(free, problem.leaves, problem.arm), unseen, problem)
    loss, reached, _ = found
    return jnp.where(jnp.isfinite(reached), loss, 0).sum(), found


@entry_point
def compute_ratio_to_target(
    values: FreeValues, problem: RegimenProblem
) -> tuple[Float[Array, "start column"], Bool[Array, "start subject"]]:
    """What a regimen reaches, relative to the target, and which subjects are not finite; no bound is asked."""
    unseen = jnp.zeros((len(values), values[0].shape[-2], len(problem.cohort)), values[0].dtype)
    _, reached, bad = _compute_losses(values, unseen, problem)
    return reached, bad


def _compute_losses(values: FreeValues, unseen: Float[Array, "leaf start subject"], problem: RegimenProblem):
    """Loss of a regimen and what it reaches, (start, column), and who is bad, (start, subject)."""
    output = _vta_outputs(values, unseen, problem) / problem.goal.wanted[None]
    good = jnp.isfinite(output).all(axis=-1)
    output = jnp.where(good[..., None], output, 1)

    square, reached = relative_miss(output, good, problem.goal, problem.every, problem.over_cohort)
    lacking = jnp.square(jnp.maximum(1 - output, 0)).mean(axis=-1)
    known = good
    if not problem.personal:
        lacking = _mean_over_subjects(lacking, good)
        known = good.any(axis=-1, keepdims=True)
    loss = square + problem.shortfall * lacking + problem.burden * compute_burden(values, problem.leaves)
    loss, reached = (jnp.where(known, value, jnp.inf) for value in (loss, reached))
    return loss, reached, ~good


def _vta_outputs(values, unseen, problem: RegimenProblem) -> Float[Array, "start subject saved"]:
    """VTA output (Hz) of every subject from every start."""
    starts, subjects = values[0].shape[-2], len(problem.cohort)
    cohort = with_neuron(repeat_cohort(problem.cohort, starts), problem.neuron)

    def lanes(value, unseen):
        each = jnp.broadcast_to(value, (*value.shape[:-1], subjects))
        return _mask_nonfinite_gradient(each.reshape(*value.shape[:-2], starts * subjects), unseen.reshape(-1))

    each = [lanes(value, nothing) for value, nothing in zip(values, unseen, strict=True)]
    arm = regimen.with_leaf_values(repeat_arm(problem.arm, starts), problem.leaves, each)
    found = course(cohort, arm, problem.days, save_every=SAVE_EVERY, record=("vta_output",), plan=problem.plan)
    return found["vta_output"].reshape(starts, subjects, -1)


def compute_burden(values: FreeValues, leaves: tuple[RegimenLeaf, ...]) -> Float[Array, "start column"]:
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


def _add_dose_axes(value: Shaped[Array, "start column"], like: Array) -> Array:
    """`value` with leading axes for the doses of a leaf."""
    return value.reshape((1,) * (like.ndim - value.ndim) + value.shape)


def _mask_nonfinite_gradient(x: Array, unseen: Float[Array, " lane"]) -> Array:
    """The same; but lanes whose derivative is not finite do not pass it on to the regimen that others share.

    The derivative by `unseen` tells which lanes these are. Linear, so that it is known forwards too.
    """
    unseen = unseen + 0 * x.reshape(-1, x.shape[-1])[0]  # not without a tangent, which `linear_call` cannot take
    return linear_call(lambda _, given: given[0], _mask_nonfinite_cotangent, (), (x, unseen))


def _mask_nonfinite_cotangent(_, g: Array) -> tuple[Array, Array]:
    finite = jnp.isfinite(g)
    wrong = ~finite.reshape(-1, g.shape[-1]).all(axis=0)
    return jnp.where(finite, g, 0), wrong.astype(g.dtype)
