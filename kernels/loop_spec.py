"""What a run of the time loop does (`Loop`), what it reads (`Operands`), and the carry of its scans (`Carry`)."""

import enum
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree, UInt32

from .statistics import MeasuredStatistic


class Layout(enum.Enum):
    """How the steps of a block are laid out as code. The numbers are the same.

    Attributes:
        PLAIN: one step after the other.
        REMAT: for derivatives. The reverse pass computes each step again instead of storing its intermediate values.
    """

    PLAIN = enum.auto()
    REMAT = enum.auto()


class Loop(NamedTuple):
    """What one run does, apart from its numbers. See `integrate` for the functions.

    Attributes:
        step: advances all lanes by one step.
        sample: what to record at each save; None records nothing.
        statistics: what to accumulate at every step, by name.
        saves: how many times `sample` is recorded.
        blocks: blocks between two saves.
        block: steps of one block.
        saves_per_block: saves that are merged into one block, where a block is as long as a save; divides `saves`.
        single_call: whether the run is compiled as a single call if possible; see `hoist.hoisted`.
        store_every_state: whether the residuals are the states before every step, or those before every block, from
            which the reverse pass computes the steps again.
        layout: of the steps, if they can be compiled as a single call; else PLAIN.
        keep_residuals: whether the run also returns its residuals.
    """

    step: Callable
    sample: Callable | None
    statistics: dict[str, MeasuredStatistic]
    saves: int
    blocks: int
    block: int
    saves_per_block: int = 1
    single_call: bool = False
    store_every_state: bool = False
    layout: Layout = Layout.PLAIN
    keep_residuals: bool = False

    @property
    def steps(self) -> int:
        """The length of the run."""
        return self.saves * self.blocks * self.block

    @property
    def block_steps(self) -> int:
        """Steps of one block, merged saves included."""
        return self.saves_per_block * self.block


class NoiseSource(NamedTuple):
    """What the normals of a run depend on beside the step: keys of the channels, numbers of the subjects, the dtype."""

    keys: UInt32[Array, " channels"]
    subjects: UInt32[Array, " lanes"]
    dtype: Any


class Operands(NamedTuple):
    """What every step of a run reads.

    Attributes:
        shared: common to all lanes.
        per_subject: leaves with lanes last.
        noise: where the normals come from.
    """

    shared: PyTree
    per_subject: PyTree
    noise: NoiseSource


class Carry(NamedTuple):
    """The carry of the scan over blocks.

    Attributes:
        state: of all lanes.
        output: of the last step.
        totals: accumulators of the statistics, by name.
        nonfinite_at: -1, or the number of steps done at the end of the first block after which a lane was non-finite.
    """

    state: PyTree
    output: PyTree
    totals: dict[str, Any]
    nonfinite_at: Int[Array, " lanes"]


class BlockCarry(NamedTuple):
    """The carry of the scan over the steps of one block.

    Attributes:
        state: of all lanes.
        output: of the last step.
        sums: accumulators of this block, by name of the statistic.
    """

    state: PyTree
    output: PyTree
    sums: dict[str, PyTree]


def init_carry(loop: Loop, state: PyTree, output: PyTree, lanes: tuple[int, ...]) -> Carry:
    """The carry before the first step. `output` has the shapes of a step's output."""
    output = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), output)
    return Carry(state, output, init_statistics(loop, state, output), jnp.full(lanes, -1, jnp.int32))


def init_block(loop: Loop, carry: Carry) -> BlockCarry:
    """The carry at the beginning of a block."""
    output = jax.tree.map(jnp.zeros_like, carry.output)
    return BlockCarry(carry.state, output, init_statistics(loop, carry.state, carry.output))


def end_block(loop: Loop, carry: Carry, block: BlockCarry, end: Int[Array, ""]) -> Carry:
    """Merge a block that ends at step `end` into the carry that it began with."""
    totals = {
        name: statistic.merge(carry.totals[name], block.sums[name]) for name, (statistic, _) in loop.statistics.items()
    }
    nonfinite_at = jnp.where((carry.nonfinite_at < 0) & ~finite_lanes(block.state), end, carry.nonfinite_at)
    return Carry(block.state, block.output, totals, nonfinite_at)


def init_statistics(loop: Loop, state: PyTree, output: PyTree) -> dict[str, PyTree]:
    """Empty accumulators, by name."""
    return {
        name: statistic.init(jax.eval_shape(measure, state, output))
        for name, (statistic, measure) in loop.statistics.items()
    }


def update_statistics(loop: Loop, sums: dict[str, PyTree], state: PyTree, output: PyTree) -> dict[str, PyTree]:
    """The accumulators after one more step."""
    return {
        name: statistic.update(sums[name], measure(state, output))
        for name, (statistic, measure) in loop.statistics.items()
    }


def finalise_statistics(loop: Loop, totals: dict[str, PyTree]) -> dict[str, PyTree]:
    """Results of the statistics, by name."""
    return {name: statistic.result(totals[name]) for name, (statistic, _) in loop.statistics.items()}


def finite_lanes(state: PyTree) -> Bool[Array, "*lanes"]:
    """Whether all floating leaves are finite, lane by lane."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    # Counted and not `all`: Pallas kernels cannot reduce booleans along an axis.
    nonfinite = [(~jnp.isfinite(leaf)).sum(axis=tuple(range(leaf.ndim - 1)), dtype=jnp.int32) for leaf in leaves]
    return functools.reduce(jnp.add, nonfinite, jnp.int32(0)) == 0
