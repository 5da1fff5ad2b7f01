"""Derivatives for functions that are not executed where they are written: in one compiled call, or tile by tile.

JAX would differentiate *through* such an execution, and lose it: the compiled call falls apart and every intermediate
value is stored. Here the derivative of an executed function is the execution of its derivative.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax.custom_derivatives import SymbolicZero, linear_call
from jaxtyping import PyTree

Function = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]
Execution = Callable[[Function], Function]


class Kept(NamedTuple):
    """A function that leaves something behind, with which its reverse derivative need not begin by computing it again.

    Attributes:
        keep: `(shared, laned) -> (out, held)`, `held` with lanes last.
        resume: `(shared, laned, held) -> out`, the same function as it is differentiated then.
        fits: whether so much may be held, told by the shapes of `held`.
    """

    keep: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]
    resume: Callable[[PyTree, PyTree, PyTree], PyTree]
    fits: Callable[[PyTree], bool]


def differentiable(
    function: Callable[[PyTree, PyTree], PyTree],
    execute: Execution,
    derive: Execution | None = None,
    derived: Callable[[PyTree, PyTree], PyTree] | None = None,
    kept: Kept | None = None,
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
        kept: how it is differentiated in reverse with what its execution left behind, if it can.
    """
    derive = execute if derive is None else derive
    derived = function if derived is None else derived

    @jax.custom_jvp
    def executed(shared: PyTree, laned: PyTree) -> PyTree:
        return execute(lambda shared, laned: (function(shared, laned), ()))(shared, laned)[0]

    def rule(primals, tangents):
        moves = jax.tree.map(_moves, tangents, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
        moving, still = eqx.partition(primals, moves)
        resume, held = (lambda shared, laned, _: derived(shared, laned)), ()
        if kept is not None and kept.fits(jax.eval_shape(kept.keep, *primals)[1]):
            resume = kept.resume
            out, held = execute(lambda shared, laned: (kept.keep(shared, laned), ()))(*primals)[0]
        else:
            out = executed(*primals)
        smooth = _pushed_and_pulled((derived, resume), derive, moving, still, held, eqx.filter(tangents, moves))
        counts = eqx.filter(out, eqx.is_inexact_array, inverse=True)
        return out, eqx.combine(smooth, jax.tree.map(lambda x: np.zeros(x.shape, jax.dtypes.float0), counts))

    executed.defjvp(rule, symbolic_zeros=True)
    return executed


def _moves(tangent) -> bool:
    """Whether an argument is being differentiated at all: constants and integers are not."""
    return not isinstance(tangent, SymbolicZero) and tangent.dtype != jax.dtypes.float0


def _pushed_and_pulled(functions, derive: Execution, moving, still, held, tangents) -> PyTree:
    """The tangents of the floating results, as a linear map that knows its own transpose.

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
        of = smooth(forth, shared[1], laned[1])
        return jax.jvp(of, (shared[0], laned[0]), (shared[-1], laned[-1]))[1], ()

    def pull(shared, laned):
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

    return linear_call(forwards, backwards, (moving, still, ((), held)), tangents)
