"""What a run does, and what passes from one block of its steps to the next, or is kept of it for the reverse pass."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from .statistics import MeasuredStatistic


class Loop(NamedTuple):
    """What one run does, apart from its numbers. See `integrate` for the functions.

    Attributes:
        step: advances all lanes by one step.
        sample: what to record at each save; None records nothing.
        statistics: what to accumulate at every step, by name.
        saves: how many times `sample` is recorded.
        blocks: blocks between two saves.
        block: steps of one block.
        together: how many blocks that are each as long as a save make one of that many saves; divides `saves`.
        even: whether every block is known to begin at an even step and to end at one: then no normal is made in vain.
        whole: whether all of it will be one piece of machine code, if that may be: see `hoist.hoisted`.
        each: whether what a reverse pass keeps of a run is the state before each step, or that before each block, from
            which it then makes those within it.
    """

    step: Callable
    sample: Callable | None
    statistics: dict[str, MeasuredStatistic]
    saves: int
    blocks: int
    block: int
    together: int = 1
    even: bool = False
    whole: bool = False
    each: bool = False

    @property
    def steps(self) -> int:
        """The length of the run."""
        return self.saves * self.blocks * self.block


class Carry(NamedTuple):
    """What passes from one block to the next.

    Attributes:
        state: where the lanes are now.
        output: what the last step put out.
        totals: accumulators of the statistics, by name.
        bad: -1, or the number of steps done at the end of the first block that left a lane non-finite.
    """

    state: PyTree
    output: PyTree
    totals: dict[str, Any]
    bad: Int[Array, " lanes"]


def init_carry(loop: Loop, state: PyTree, output: PyTree, lanes: tuple[int, ...]) -> Carry:
    """Before the first step, which will put out something like `output`."""
    output = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), output)
    return Carry(state, output, init_statistics(loop, state, output), jnp.full(lanes, -1, jnp.int32))


def init_block(loop: Loop, carry: Carry) -> tuple[PyTree, PyTree, dict[str, PyTree]]:
    """State, output and accumulators at the beginning of a block."""
    return carry.state, jax.tree.map(jnp.zeros_like, carry.output), init_statistics(loop, carry.state, carry.output)


def update_statistics(loop: Loop, sums: dict[str, PyTree], state: PyTree, output: PyTree) -> dict[str, PyTree]:
    """The accumulators of a block with one more step."""
    return {
        name: statistic.update(sums[name], measure(state, output))
        for name, (statistic, measure) in loop.statistics.items()
    }


def end_block(loop: Loop, carry: Carry, state: PyTree, output: PyTree, sums: dict[str, PyTree], end) -> Carry:
    """What passes on from a block that began at `carry` and went up to step `end`."""
    totals = {name: statistic.merge(carry.totals[name], sums[name]) for name, (statistic, _) in loop.statistics.items()}
    return Carry(state, output, totals, jnp.where((carry.bad < 0) & ~finite_lanes(state), end, carry.bad))


def finalise_statistics(loop: Loop, totals: dict[str, PyTree]) -> dict[str, PyTree]:
    """Statistics by name."""
    return {name: statistic.result(totals[name]) for name, (statistic, _) in loop.statistics.items()}


def finite_lanes(state: PyTree) -> Bool[Array, "*lanes"]:
    """Whether every floating leaf is finite, lane by lane; plainly true where there is none."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    strange = [(~jnp.isfinite(leaf)).sum(axis=tuple(range(leaf.ndim - 1)), dtype=jnp.int32) for leaf in leaves]
    return functools.reduce(jnp.add, strange, jnp.int32(0)) == 0  # counted: kernels cannot join truths along an axis


def init_statistics(loop: Loop, state: PyTree, output: PyTree) -> dict[str, PyTree]:
    """Fresh accumulators, by name."""
    return {
        name: statistic.init(jax.eval_shape(measure, state, output))
        for name, (statistic, measure) in loop.statistics.items()
    }


def residuals_at(loop: Loop, carry: Carry) -> PyTree:
    """The floating part of what a block begins with and its derivative depends on: not of sums, which are linear.

    Nor of the state where `each` step keeps its own.
    """
    totals = {name: carry.totals[name] for name, (statistic, _) in loop.statistics.items() if not statistic.linear}
    return eqx.filter((None if loop.each else carry.state, totals), eqx.is_inexact_array)


def restore_residuals(loop: Loop, carry: Carry, held: PyTree) -> Carry:
    """`carry` with what was held in its place: the same numbers, and the derivative of what they were."""
    state, totals = held
    state = carry.state if loop.each else replace_value(carry.state, state)
    totals = replace_value({name: carry.totals[name] for name in totals}, totals)
    return carry._replace(state=state, totals=carry.totals | totals)


def replace_value(now: PyTree, held: PyTree) -> PyTree:
    """`now`, whose floating part has the numbers that are `held`, and hands its derivative back to what it was."""
    moving, rest = eqx.partition(now, eqx.is_inexact_array)
    return eqx.combine(_straight_through(moving, held), rest)


@jax.custom_vjp
def _straight_through(now: PyTree, held: PyTree) -> PyTree:
    return held


_straight_through.defvjp(lambda now, held: (held, None), lambda _, cotangent: (cotangent, None))
