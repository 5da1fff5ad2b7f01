"""The time loop as `lax.scan`: many steps of one pure function on arrays whose last axis is lanes, one for each subject.

    saves x (blocks x (steps))

Once a block, normals are drawn, statistics merged, lanes checked for non-finite numbers, and the reverse pass
checkpointed. `integrate` runs this loop over all lanes or tile by tile; `pallas_gpu.kernel` has the same loop as a kernel.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Int, PyTree

from .autodiff.residuals import replace_value, residuals_at, restore_residuals
from .loop_spec import (
    BlockCarry,
    Carry,
    Layout,
    Loop,
    NoiseSource,
    Operands,
    end_block,
    finalise_statistics,
    init_block,
    init_carry,
    update_statistics,
)
from .noise import normal_pairs
from .xla_cpu.hoist import is_hoistable

# Scans up to this length keep all carries for the reverse pass. Longer ones are split into two levels.
_MAX_FLAT_LENGTH = 128


def run_scan(
    loop: Loop, operands: Operands, state: PyTree, inputs: PyTree, start: Int[Array, ""], *, residuals: PyTree = None
) -> Any:
    """Advance `state` by `loop.steps` steps from step `start`.

    Args:
        loop: what the run does.
        operands: what every step reads.
        state: leaves with lanes last.
        inputs: leaves with a first axis of steps.
        start: number of the first step.
        residuals: of an earlier run with `loop.keep_residuals`. A reverse pass then need not repeat that run.

    Returns:
        state, samples (leaves with a first axis `saves`), statistics by name, nonfinite_at; with `loop.keep_residuals`, a
        pair of these and the residuals.
    """

    def step(state, step_inputs, z, j):
        return loop.step(state, operands.shared, operands.per_subject, step_inputs, z, j)

    subjects = operands.noise.subjects
    first_inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), inputs)
    output, compact = trace_step_output(step, state, first_inputs, operands.noise, start, loop.single_call)
    loop = loop if compact else loop._replace(layout=Layout.PLAIN)
    # A block spans several saves, or a save several blocks.
    shape = (loop.saves // loop.saves_per_block, loop.blocks)
    begins = start + loop.block_steps * jnp.arange(math.prod(shape), dtype=jnp.int32).reshape(shape)
    inputs = jax.tree.map(lambda x: x.reshape(*shape, loop.block_steps, *x.shape[1:]), inputs)
    xs = (begins, inputs, residuals or (None, None))
    carry, (samples, kept) = _scan_blocks(loop, operands, init_carry(loop, state, output, subjects.shape), xs)
    if loop.saves_per_block > 1:
        samples = jax.tree.map(lambda x: x.reshape(loop.saves, *x.shape[3:]), samples)
    results = carry.state, samples, finalise_statistics(loop, carry.totals), carry.nonfinite_at
    return (results, kept) if loop.keep_residuals else results


def _scan_blocks(loop: Loop, operands: Operands, carry: Carry, xs: PyTree) -> tuple[Carry, tuple[PyTree, PyTree]]:
    """Scan over saves and over the blocks within each. `xs` are (first step, inputs, residuals) of every block."""
    has_residuals = bool(jax.tree.leaves(xs[2]))
    # With residuals at hand no carry is computed again, so that there is nothing to checkpoint above the blocks.
    scan = lax.scan if has_residuals else nested_checkpoint_scan

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def block(carry: Carry, xs: PyTree):
        return _advance_block(loop, operands, carry, xs)

    def block_with_residuals(carry: Carry, xs: PyTree):
        begin, inputs, (block_residuals, step_residuals) = xs
        carry = restore_residuals(loop, carry, block_residuals) if has_residuals else carry
        kept = residuals_at(loop, carry) if loop.keep_residuals else None
        carry, (samples, kept_steps) = block(carry, (begin, inputs, step_residuals))
        return carry, (samples, (kept, kept_steps))

    def save(carry: Carry, xs: PyTree):
        carry, (samples, kept) = scan(block_with_residuals, carry, xs)
        if loop.saves_per_block == 1:
            samples = _record_sample(loop, carry.state, carry.output)
        return carry, (samples, kept)

    return scan(save, carry, xs)


def _advance_block(loop: Loop, operands: Operands, carry: Carry, xs: PyTree) -> tuple[Carry, tuple[PyTree, PyTree]]:
    """Advance by one block. `xs` are its first step, the inputs of its steps, and their residuals if it has any.

    Returns:
        The carry; the samples of the saves within the block, and the residuals of its steps where they are kept.
    """
    begin, inputs, residuals = xs
    advance = _make_step(loop, operands, begin)

    def record(block: BlockCarry) -> PyTree:
        return None if loop.saves_per_block == 1 else _record_sample(loop, block.state, block.output)

    def advance_and_record(block: BlockCarry, xs: PyTree):
        block, kept = advance(block, xs)
        return block, (record(block), kept)

    def advance_until_save(block: BlockCarry, xs: PyTree):
        block, kept = lax.scan(advance, block, xs)
        return block, (record(block), kept)

    if loop.layout is Layout.REMAT:  # one flat scan: from nested ones, residuals would be copied level by level
        body, shape, every = advance_and_record, (loop.block_steps,), loop.block
    else:
        body, shape, every = advance_until_save, (loop.saves_per_block, loop.block), 1
    numbers = begin + jnp.arange(math.prod(shape), dtype=jnp.int32).reshape(shape)
    inputs, residuals = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), (inputs, residuals))
    block, (samples, kept) = lax.scan(body, init_block(loop, carry), (numbers, inputs, residuals))
    samples = jax.tree.map(lambda x: x[every - 1 :: every], samples)
    kept = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(shape) :]), kept)
    return end_block(loop, carry, block, begin + loop.block_steps), (samples, kept)


def _make_step(loop: Loop, operands: Operands, begin: Int[Array, ""]) -> Callable:
    """The body of the scan over the steps of the block that starts at step `begin`.

    The normals of the whole block are drawn here, at once.
    """
    noise = operands.noise
    # One pair of normals serves the steps 2i and 2i + 1, wherever the block begins.
    first_pair = begin >> 1
    numbers = first_pair + jnp.arange(loop.block_steps // 2 + 1, dtype=jnp.int32)
    pairs = normal_pairs(noise.keys, noise.subjects, numbers, noise.dtype)
    pairs = pairs if noise.keys.size else None

    def step(state, shared, per_subject, inputs, pairs, index, j):
        z = None if pairs is None else _select_normals(pairs, index, j, noise.dtype)
        return loop.step(state, shared, per_subject, inputs, z, j)

    step = jax.checkpoint(step, prevent_cse=False) if loop.layout is Layout.REMAT else step

    def advance(block: BlockCarry, xs: PyTree):
        j, inputs, residuals = xs
        before = block.state if residuals is None else replace_value(block.state, residuals)
        keeps = loop.keep_residuals and loop.store_every_state
        kept = eqx.filter(before, eqx.is_inexact_array) if keeps else None
        state, output = step(before, operands.shared, operands.per_subject, inputs, pairs, (j >> 1) - first_pair, j)
        return BlockCarry(state, output, update_statistics(loop, block.sums, state, output)), kept

    return advance


def _record_sample(loop: Loop, state: PyTree, output: PyTree) -> PyTree:
    """What a save records; None without `loop.sample`."""
    return None if loop.sample is None else loop.sample(state, output)


def _select_normals(
    pairs: Complex[Array, "pairs channels lanes"], index: Int[Array, ""], j: Int[Array, ""], dtype: Any
) -> Array:
    """The normals of step `j`, one half of a pair. A product instead of a branch reads both halves in one pass."""
    odd = (j & 1).astype(dtype)
    pair = lax.dynamic_index_in_dim(pairs, index, keepdims=False)
    return pair.real * (1 - odd) + pair.imag * odd


def nested_checkpoint_scan(body: Callable, carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
    """`lax.scan` whose reverse pass keeps about the square root of all carries when there are many.

    The length is split into two factors and the inner scan checkpointed. A prime length is not split.
    """
    length = jax.tree.leaves(xs)[0].shape[0]
    inner = largest_divisor(length, math.isqrt(length))
    if length <= _MAX_FLAT_LENGTH or inner == 1:
        return lax.scan(body, carry, xs)
    group = jax.checkpoint(lambda carry, xs: lax.scan(body, carry, xs), prevent_cse=False)
    carry, ys = lax.scan(group, carry, jax.tree.map(lambda x: x.reshape(-1, inner, *x.shape[1:]), xs))
    return carry, jax.tree.map(lambda y: y.reshape(length, *y.shape[2:]), ys)


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is at most `most`, or 1."""
    return max((i for i in range(1, most + 1) if number % i == 0), default=1)


def trace_step_output(
    step: Callable, state: PyTree, inputs: PyTree, noise: NoiseSource, start: Int[Array, ""], single_call: bool = False
) -> tuple[PyTree, bool]:
    """The shapes of a step's output, and whether XLA for CPU can compile the step as a single call.

    Raises:
        ValueError: the step returns a state of another structure, shape or dtype than it got.
    """
    channels, lanes = noise.keys.size, noise.subjects.size
    z = jax.ShapeDtypeStruct((channels, lanes), noise.dtype) if channels else None
    traced, (after, output) = jax.make_jaxpr(step, return_shape=True)(state, inputs, z, start)
    before = jax.eval_shape(lambda: state)
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise ValueError(f"A step got a state {jax.tree.structure(before)} but returned {jax.tree.structure(after)}.")
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            name = jax.tree_util.keystr(path) or "state"
            was, became = f"{old.dtype}{old.shape}", f"{new.dtype}{new.shape}"
            raise ValueError(f"A step got {name} as {was}, lanes padded to whole vectors, but returned {became}.")
    return output, is_hoistable(traced.jaxpr, products=single_call)
