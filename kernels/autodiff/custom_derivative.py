"""Derivatives of functions that are executed elsewhere than where they are written: in one compiled call, or tile by tile.

JAX would differentiate *through* such an execution: the compiled call would fall apart and every intermediate value would
be stored. Here the derivative of an executed function is the execution of its derivative:

    tangents   = execute(jvp of function)
    cotangents = execute(vjp of function)

The second is the transpose of the first, so `jax.jvp`, `jax.linearize`, `jax.vjp` and `jax.grad` work in the floating
leaves. Batching of derivatives (`jax.vmap`) and second derivatives do not.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, PyTree

from .linear_map import apply_linear_map

# (shared, laned) -> (laned, total): leaves of `laned` have lanes last, `total` is summed over lanes.
LanedFunction = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]
# From such a function to one that computes the same, however its lanes are divided.
Executor = Callable[[LanedFunction], LanedFunction]
# For each leaf of (shared, laned): its tangent; the index of the row, counted without the axis of lanes, whose tangent is 1
# while that of all others is 0; or None for a leaf without tangent.
TangentDirection = Sequence[Any]
# (shared, laned, directions) -> the tangents of a function's floating results in each direction, as trees.
Jvps = Callable[[PyTree, PyTree, Sequence[TangentDirection]], list[PyTree]]


class ResidualPolicy(NamedTuple):
    """A function that can return residuals, with which its reverse pass need not compute it again.

    Attributes:
        keep: `(shared, laned) -> (out, residuals)`, leaves of `residuals` with lanes last.
        resume: `(shared, laned, residuals) -> out`, the function as the reverse pass differentiates it.
        fits: whether residuals of these shapes may be kept.
    """

    keep: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]
    resume: Callable[[PyTree, PyTree, PyTree], PyTree]
    fits: Callable[[PyTree], bool]


class _Linearisation(NamedTuple):
    """The derivative of a function at a point.

    Attributes:
        out: the function's result.
        residuals: what `pull` reads beside the arguments.
        push: from arguments and tangents to `(tangents of the result, ())`.
        pull: from arguments and cotangents of the result to the arguments' cotangents `(laned, shared)`.
    """

    out: PyTree
    residuals: PyTree
    push: LanedFunction
    pull: LanedFunction


class _Shared(NamedTuple):
    """The shared arguments within a derivative; `tangents` is () where there are none."""

    diff: PyTree
    nondiff: PyTree
    tangents: PyTree = ()


class _Laned(NamedTuple):
    """The laned arguments within a derivative. `tangents` are the results' cotangents in a reverse pass."""

    diff: PyTree
    nondiff: PyTree
    residuals: PyTree
    tangents: PyTree


def tiled_derivative(
    function: Callable[[PyTree, PyTree], PyTree],
    execute: Executor,
    *,
    derive: Executor | None = None,
    differentiated: Callable[[PyTree, PyTree], PyTree] | None = None,
    residuals: ResidualPolicy | None = None,
) -> Callable[[PyTree, PyTree], PyTree]:
    """`function(shared, laned)` carried out by `execute`, its derivatives by `derive`, in reverse with its residuals.

    Args:
        function: pure. Its second argument and its result are trees whose leaves have lanes last.
        execute: carries out the function.
        derive: carries out its derivatives; `execute` if not given.
        differentiated: the same function in the form that is differentiated, if that is another.
        residuals: what the reverse pass may keep of the function, if anything.
    """
    derive = execute if derive is None else derive
    differentiated = function if differentiated is None else differentiated

    def linearise(executed: Callable, primals: tuple) -> _Linearisation:
        push = partial(_jvp, differentiated)
        if residuals is None or not residuals.fits(jax.eval_shape(residuals.keep, *primals)[1]):
            return _Linearisation(executed(*primals), (), push, partial(_vjp, differentiated))
        run_and_keep = residuals.keep
        keep = lambda shared, laned: (run_and_keep(shared, laned), ())
        out, kept = execute(keep)(*primals)[0]
        return _Linearisation(out, kept, push, partial(_vjp_with_residuals, residuals.resume))

    return _define_derivative(function, execute, derive, linearise)


def fused_derivative(
    function: Callable[[PyTree, PyTree], PyTree],
    execute: Executor,
    *,
    jvps: Jvps,
    max_directions: int,
    derive: Executor | None = None,
) -> Callable[[PyTree, PyTree], PyTree]:
    """`function(shared, laned)` carried out by `execute`, with its derivative in few directions made of `jvps`.

    Args:
        function: pure. Its second argument and its result are trees whose leaves have lanes last.
        execute: carries out the function.
        jvps: its tangents in several directions at once.
        max_directions: directions up to which cotangents are made of tangents. A direction is one number that is shared,
            or one row of a laned leaf, as lanes are independent. Beyond, the function's vjp is taken.
        derive: carries out its derivatives; `execute` if not given.
    """

    def push(shared: _Shared, laned: _Laned) -> tuple[PyTree, PyTree]:
        direction = _flatten_direction(shared, laned, (shared.tangents, laned.tangents))
        return jvps(*_combine_primals(shared, laned), [direction])[0], ()

    def pull(shared: _Shared, laned: _Laned) -> tuple[PyTree, PyTree]:
        if sum(_count_directions(shared.diff, laned.diff)) <= max_directions:
            return _cotangents_by_forward_mode(jvps, shared, laned)
        return _vjp(function, shared, laned)

    def linearise(executed: Callable, primals: tuple) -> _Linearisation:
        return _Linearisation(executed(*primals), (), push, pull)

    return _define_derivative(function, execute, execute if derive is None else derive, linearise)


def _define_derivative(
    function: Callable[[PyTree, PyTree], PyTree],
    execute: Executor,
    derive: Executor,
    linearise: Callable[[Callable, tuple], _Linearisation],
) -> Callable[[PyTree, PyTree], PyTree]:
    """`function` carried out by `execute`, with the derivative that `linearise` gives carried out by `derive`."""

    @jax.custom_jvp
    def executed(shared: PyTree, laned: PyTree) -> PyTree:
        return execute(lambda shared, laned: (function(shared, laned), ()))(shared, laned)[0]

    def rule(primals, tangents):
        has_tangent = jax.tree.map(_is_differentiated, tangents, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
        linear = linearise(executed, primals)
        point = (*eqx.partition(primals, has_tangent), linear.residuals)
        floating, integers = eqx.partition(linear.out, eqx.is_inexact_array)
        floating = _apply_derivative(linear, derive, point, eqx.filter(tangents, has_tangent), floating)
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, jax.dtypes.float0), integers)
        return linear.out, eqx.combine(floating, zeros)

    executed.defjvp(rule, symbolic_zeros=True)
    return executed


def _is_differentiated(tangent: Any) -> bool:
    """Whether an argument has a tangent: constants and integers have none."""
    return not isinstance(tangent, SymbolicZero) and tangent.dtype != jax.dtypes.float0


def _apply_derivative(linear: _Linearisation, derive: Executor, point: tuple, tangents: tuple, like: PyTree) -> PyTree:
    """The tangents of the floating results, shaped `like` them, as a linear map with a transpose of its own.

    `point` is where the derivative is taken: (diff, nondiff, residuals). The first two and `tangents` are pairs
    (shared, laned).
    """

    def forward(point: tuple, tangents: tuple) -> PyTree:
        (shared, laned), (shared_rest, laned_rest), residuals = point
        shared_in = _Shared(shared, shared_rest, tangents[0])
        return derive(linear.push)(shared_in, _Laned(laned, laned_rest, residuals, tangents[1]))[0]

    def backward(point: tuple, cotangents: PyTree) -> tuple[PyTree, PyTree]:
        (shared, laned), (shared_rest, laned_rest), residuals = point
        laned_in = _Laned(laned, laned_rest, residuals, cotangents)
        per_lane, total = derive(linear.pull)(_Shared(shared, shared_rest), laned_in)
        return total, per_lane

    return apply_linear_map(forward, backward, point, tangents, like)


def _floating_part(function: Callable, shared: _Shared, laned: _Laned, *more: PyTree) -> Callable:
    """The floating results of `function` as a function of what is differentiated."""

    def floating(shared_diff: PyTree, laned_diff: PyTree) -> PyTree:
        out = function(eqx.combine(shared_diff, shared.nondiff), eqx.combine(laned_diff, laned.nondiff), *more)
        return eqx.filter(out, eqx.is_inexact_array)

    return floating


def _jvp(function: Callable, shared: _Shared, laned: _Laned) -> tuple[PyTree, PyTree]:
    """Tangents of the floating results."""
    floating = _floating_part(function, shared, laned)
    return jax.jvp(floating, (shared.diff, laned.diff), (shared.tangents, laned.tangents))[1], ()


def _vjp(function: Callable, shared: _Shared, laned: _Laned, *more: PyTree) -> tuple[PyTree, PyTree]:
    """Cotangents (laned, shared) of what is differentiated."""
    _, pull = jax.vjp(_floating_part(function, shared, laned, *more), shared.diff, laned.diff)
    total, per_lane = pull(laned.tangents)
    return per_lane, total


def _vjp_with_residuals(resume: Callable, shared: _Shared, laned: _Laned) -> tuple[PyTree, PyTree]:
    """The same, with the residuals of the function handed in."""
    return _vjp(resume, shared, laned, laned.residuals)


def _combine_primals(shared: _Shared, laned: _Laned) -> tuple[PyTree, PyTree]:
    return eqx.combine(shared.diff, shared.nondiff), eqx.combine(laned.diff, laned.nondiff)


def _flatten_direction(shared: _Shared, laned: _Laned, tangents: tuple) -> list:
    """A pair of trees of tangents, None for leaves without one, as a direction."""
    structure = jax.tree.structure(_combine_primals(shared, laned))
    return structure.flatten_up_to(tangents)


def _count_directions(shared: PyTree, laned: PyTree) -> list[int]:
    """How many directions each differentiated leaf has."""
    return [x.size for x in jax.tree.leaves(shared)] + [x.size // x.shape[-1] for x in jax.tree.leaves(laned)]


def _cotangents_by_forward_mode(jvps: Jvps, shared: _Shared, laned: _Laned) -> tuple[PyTree, PyTree]:
    """Cotangents (laned, shared): products of the results' cotangents with the tangents in every direction."""
    leaves, structure = jax.tree.flatten((shared.diff, laned.diff))
    rows, shared_count = _count_directions(shared.diff, laned.diff), len(jax.tree.leaves(shared.diff))
    units = [(leaf, row) for leaf, count in enumerate(rows) for row in range(count)]

    def unit_direction(leaf: int, row: int) -> list:
        tree = jax.tree.unflatten(structure, [row if i == leaf else None for i in range(len(rows))])
        return _flatten_direction(shared, laned, tree)

    tangents = jvps(*_combine_primals(shared, laned), [unit_direction(*unit) for unit in units])
    cotangent = jax.tree.leaves(laned.tangents)
    by_leaf: list[list[Array]] = [[] for _ in rows]
    for (leaf, _), tangent in zip(units, tangents, strict=True):
        products = [x * dx for x, dx in zip(cotangent, jax.tree.leaves(tangent), strict=True)]
        by_lane: Any = sum(x.sum(axis=tuple(range(x.ndim - 1))) for x in products)
        by_leaf[leaf].append(by_lane.sum() if leaf < shared_count else by_lane)
    stacked = [jnp.stack(rows).reshape(like.shape) for rows, like in zip(by_leaf, leaves, strict=True)]
    total, per_lane = jax.tree.unflatten(structure, stacked)
    return per_lane, total
