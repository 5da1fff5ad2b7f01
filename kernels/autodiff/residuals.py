"""Residuals of the time loop: what a run stores so that its reverse pass need not begin with another run."""

import equinox as eqx
import jax
from jaxtyping import PyTree

from ..loop_spec import Carry, Loop


def residuals_at(loop: Loop, carry: Carry) -> PyTree:
    """The floating part of a block's carry on which its derivative depends.

    Linear statistics are left out, and the state too where every step stores its own (`loop.store_every_state`).
    """
    totals = {name: carry.totals[name] for name, (statistic, _) in loop.statistics.items() if not statistic.linear}
    return eqx.filter((None if loop.store_every_state else carry.state, totals), eqx.is_inexact_array)


def restore_residuals(loop: Loop, carry: Carry, residuals: PyTree) -> Carry:
    """`carry` with the numbers of its residuals; cotangents pass through to `carry`."""
    state, totals = residuals
    state = carry.state if loop.store_every_state else replace_value(carry.state, state)
    totals = replace_value({name: carry.totals[name] for name in totals}, totals)
    return carry._replace(state=state, totals=carry.totals | totals)


def replace_value(tree: PyTree, residuals: PyTree) -> PyTree:
    """`tree` with the floating leaves of `residuals`; their cotangents pass through to `tree`."""
    floating, rest = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(_straight_through(floating, residuals), rest)


@jax.custom_vjp
def _straight_through(tree: PyTree, residuals: PyTree) -> PyTree:
    return residuals


_straight_through.defvjp(lambda tree, residuals: (residuals, None), lambda _, cotangent: (cotangent, None))
