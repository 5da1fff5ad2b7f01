"""Derivatives for functions that are not executed where they are written: in one compiled call, or tile by tile.

JAX would differentiate *through* such an execution, and lose it: the compiled call falls apart and every intermediate
value is stored. Here the derivative of an executed function is the execution of its derivative.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import PyTree

from .linear_map import apply_linear_map

LanedFunction = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]
Executor = Callable[[LanedFunction], LanedFunction]
# For each leaf of (shared, laned): its tangent; the number of the row, of all rows without the axis of lanes, that alone moves,
# by 1; or None for what does not move.
TangentDirection = Sequence[Any]
# (shared, laned, directions) -> the tangents of a function's floating results in each of them, as trees.
Jvps = Callable[[PyTree, PyTree, Sequence[TangentDirection]], list[PyTree]]


class ResidualPolicy(NamedTuple):
    """A function that leaves something behind, with which its reverse derivative need not begin by computing it again.

    Attributes:
        keep: `(shared, laned) -> (out, held)`, `held` with lanes last.
        resume: `(shared, laned, held) -> out`, the same function as it is differentiated then.
        fits: whether so much may be held, told by the shapes of `held`.
    """

    keep: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]
    resume: Callable[[PyTree, PyTree, PyTree], PyTree]
    fits: Callable[[PyTree], bool]


def with_custom_derivative(
    function: Callable[[PyTree, PyTree], PyTree],
    execute: Executor,
    derive: Executor | None = None,
    derived: Callable[[PyTree, PyTree], PyTree] | None = None,
    pushes: Jvps | None = None,
    few: int = 0,
    kept: ResidualPolicy | None = None,
) -> Callable[[PyTree, PyTree], PyTree]:
    """`function(shared, laned)`, carried out by `execute`, with its derivatives carried out by `derive`.

        tangents   = derive(jvp of function)
        cotangents = derive(vjp of function)

    The second is the transpose of the first, which is a linear map; so `jax.jvp`, `jax.linearize`, `jax.vjp` and
    `jax.grad` work, in the floating leaves. Batching a derivative (`jax.vmap`) does not, nor a second derivative.

    Args:
        function: pure. Its second argument and its result are trees whose leaves have lanes last.
        execute: takes a function `(shared, laned) -> (laned, total)` and returns one that computes the same, `total`
            being summed over lanes, however they are divided.
        derive: the same for derivatives, if in another way.
        derived: the same function as it is best differentiated, if that is another.
        pushes: its tangents in several directions at once, if that is not `derived`'s jvp.
        few: how many directions there may be at most for cotangents to be made of tangents in all of them: a direction is
            a number that is shared, or a row of something laned, as lanes do not move each other. By default none.
        kept: how it is differentiated in reverse with what its execution left behind, if it can.
    """
    derive = execute if derive is None else derive
    derived = function if derived is None else derived

    @jax.custom_jvp
    def executed(shared: PyTree, laned: PyTree) -> PyTree:
        return execute(lambda shared, laned: (function(shared, laned), ()))(shared, laned)[0]

    def rule(primals, tangents):
        moves = jax.tree.map(_is_differentiated, tangents, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
        moving, still = eqx.partition(primals, moves)
        resume, held = (lambda shared, laned, _: derived(shared, laned)), ()
        if kept is not None and kept.fits(jax.eval_shape(kept.keep, *primals)[1]):
            keep, resume = kept.keep, kept.resume
            out, held = execute(lambda shared, laned: (keep(shared, laned), ()))(*primals)[0]
        else:
            out = executed(*primals)
        tangents = eqx.filter(tangents, moves)
        smooth, counts = eqx.partition(out, eqx.is_inexact_array)
        smooth = _transposable_jvp((derived, resume), derive, moving, still, held, tangents, smooth, pushes, few)
        return out, eqx.combine(smooth, jax.tree.map(lambda x: np.zeros(x.shape, jax.dtypes.float0), counts))

    executed.defjvp(rule, symbolic_zeros=True)
    return executed


def _is_differentiated(tangent) -> bool:
    """Whether an argument is being differentiated at all: constants and integers are not."""
    return not isinstance(tangent, SymbolicZero) and tangent.dtype != jax.dtypes.float0


def _transposable_jvp(
    functions, derive: Executor, moving, still, held, tangents, like: PyTree, pushes: Jvps | None, few: int
) -> PyTree:
    """The tangents of the floating results, `like` them, as a linear map that knows its own transpose.

    Each of `moving`, `still` and `tangents` is a pair (shared, laned); `functions` are one for tangents and one for
    cotangents, which takes what is `held` too.
    """
    forth, back = functions

    def smooth(function, still_shared, still_laned, *held):
        def of(moving_shared, moving_laned):
            out = function(eqx.combine(moving_shared, still_shared), eqx.combine(moving_laned, still_laned), *held)
            return eqx.filter(out, eqx.is_inexact_array)

        return of

    def push(shared, laned):
        if pushes is not None:
            direction = _flatten_direction((shared, laned), (shared[-1], laned[-1]))
            return pushes(*_combine_primals(shared, laned), [direction])[0], ()
        of = smooth(forth, shared[1], laned[1])
        return jax.jvp(of, (shared[0], laned[0]), (shared[-1], laned[-1]))[1], ()

    def pull(shared, laned):
        if pushes is not None and sum(_count_directions(shared[0], laned[0])) <= few:
            return _cotangents_by_forward_mode(pushes, shared, laned)
        _, pulled = jax.vjp(smooth(back, shared[1], laned[1], laned[2]), shared[0], laned[0])
        total, own = pulled(laned[-1])
        return own, total

    def forwards(residuals, tangents):
        shared, laned = zip(*residuals, tangents, strict=True)
        return derive(push)(shared, laned)[0]

    def backwards(residuals, cotangent):
        shared, laned = zip(*residuals, strict=True)
        own, total = derive(pull)(shared, (*laned, cotangent))
        return total, own

    return apply_linear_map(forwards, backwards, (moving, still, ((), held)), tangents, like)


def _combine_primals(shared, laned) -> tuple[PyTree, PyTree]:
    return eqx.combine(*shared[:2]), eqx.combine(*laned[:2])


def _flatten_direction(parts, moves) -> list:
    """`moves`, a pair of trees with None for what does not move, as a direction."""
    structure = jax.tree.structure(_combine_primals(*parts))
    return structure.flatten_up_to(moves)


def _count_directions(shared: PyTree, laned: PyTree) -> list[int]:
    """How many directions there are, leaf by leaf of what moves."""
    return [x.size for x in jax.tree.leaves(shared)] + [x.size // x.shape[-1] for x in jax.tree.leaves(laned)]


def _cotangents_by_forward_mode(pushes: Jvps, shared, laned) -> tuple[PyTree, PyTree]:
    """Cotangents (laned, total) of what moves: products of the results' with the tangents in every direction."""
    moving, structure = jax.tree.flatten((shared[0], laned[0]))
    rows, common = _count_directions(shared[0], laned[0]), len(jax.tree.leaves(shared[0]))
    units = [(leaf, row) for leaf, count in enumerate(rows) for row in range(count)]
    one = lambda leaf, row: jax.tree.unflatten(structure, [row if i == leaf else None for i in range(len(rows))])
    directions = [_flatten_direction((shared, laned), one(*unit)) for unit in units]
    cotangent = jax.tree.leaves(laned[-1])
    found: list[list] = [[] for _ in rows]
    for (leaf, _), tangent in zip(units, pushes(*_combine_primals(shared, laned), directions), strict=True):
        products = [x * dx for x, dx in zip(cotangent, jax.tree.leaves(tangent), strict=True)]
        by_lane: Any = sum(x.sum(axis=tuple(range(x.ndim - 1))) for x in products)
        found[leaf].append(by_lane.sum() if leaf < common else by_lane)
    total, own = jax.tree.unflatten(
        structure, [jnp.stack(x).reshape(like.shape) for x, like in zip(found, moving, strict=True)]
    )
    return own, total
