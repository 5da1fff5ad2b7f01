"""The time loop: many steps of one pure function on arrays whose last axis is lanes, one lane per subject.

    saves x (blocks x (steps)): normals are made, statistics merged and the reverse pass checkpointed once a block.

This file is the only loop there is. `integrate` runs it whole, or tile by tile inside one compiled function, forwards
or differentiated; each of them computes the same numbers.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Int, PyTree, UInt32

from .carry import (
    Carry,
    Loop,
    end_block,
    finalise_statistics,
    init_block,
    init_carry,
    replace_value,
    residuals_at,
    restore_residuals,
    update_statistics,
)
from .noise import normal_pairs
from .xla_cpu.hoist import is_hoistable, outlined

_MAX_FLAT_LENGTH = (
    128  # scans up to this length keep all carries for the reverse pass; longer ones are split in two levels
)
# Numbers of a lane's state up to which turns gain nothing: copies are cheap, and one step compiles sooner than two.
_MAX_PLAIN_STATE_SIZE = 32


class NoiseSource(NamedTuple):
    """What the normals of a run are a function of, beside the step: channels' keys, subjects' numbers and the dtype."""

    keys: UInt32[Array, " channels"]
    subjects: UInt32[Array, " lanes"]
    dtype: Any


def run_scan(
    loop: Loop,
    state: PyTree,
    shared: PyTree,
    own: PyTree,
    inputs: PyTree,
    noise: NoiseSource,
    start: Int[Array, ""],
    *,
    forwards: bool = True,
    keep: bool = False,
    kept: PyTree = None,
):
    """Advance `state` by `loop.steps` steps from step `start`; laid out for a run `forwards`, or for its derivatives.

    Returns:
        state, samples (leaves with a first axis `saves`), statistics by name, bad; with `keep`, a pair of these and of what
        blocks, or steps, began with. Handed in again as `kept`, a reverse pass need not make the whole run to find it.
    """
    step = lambda state, now, z, j: loop.step(state, shared, own, now, z, j)
    now = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), inputs)
    output, compact = trace_step_output(step, state, now, noise, start, loop.whole)
    layout = _choose_layout(state, noise.subjects.size, forwards) if compact else "plain"
    carry = init_carry(loop, state, output, noise.subjects.shape)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def block(carry, begins, inputs, within):
        return _advance_block(loop, shared, own, noise, layout, keep, carry, begins, inputs, within)

    def recorded(carry: Carry, now):
        begins, inputs, (before, within) = now
        carry = carry if kept is None else restore_residuals(loop, carry, before)
        held = residuals_at(loop, carry) if keep else None
        carry, (samples, steps) = block(carry, begins, inputs, within)
        return carry, (samples, (held, steps))

    def save(carry: Carry, now):
        carry, (samples, held) = along(recorded, carry, now)
        return carry, (_record_sample(loop, carry.state, carry.output) if loop.together == 1 else samples, held)

    along = nested_checkpoint_scan if kept is None else lax.scan
    shape, length = (loop.saves // loop.together, loop.blocks), loop.together * loop.block
    begins = start + length * jnp.arange(math.prod(shape), dtype=jnp.int32).reshape(shape)
    inputs = jax.tree.map(lambda x: x.reshape(*shape, length, *x.shape[1:]), inputs)
    carry, (samples, held) = along(save, carry, (begins, inputs, kept or (None, None)))
    if loop.together > 1:
        samples = jax.tree.map(lambda x: x.reshape(loop.saves, *x.shape[3:]), samples)
    found = carry.state, samples, finalise_statistics(loop, carry.totals), carry.bad
    return (found, held) if keep else found


def _choose_layout(state: PyTree, lanes: int, forwards: bool) -> str:
    """That of steps which are one piece of machine code; see `_advance_block`."""
    if not forwards:
        return "again"
    numbers = sum(leaf.size for leaf in jax.tree.leaves(state))
    return "turns" if numbers > _MAX_PLAIN_STATE_SIZE * lanes else "plain"


def _advance_block(
    loop: Loop,
    shared: PyTree,
    own: PyTree,
    noise: NoiseSource,
    layout: str,
    keep: bool,
    carry: Carry,
    begin: Int[Array, ""],
    inputs: PyTree,
    within: PyTree,
) -> tuple[Carry, tuple[PyTree, PyTree]]:
    """Advance by one block from step `begin`, with the normals of all its steps made at once. Records the saves within it.

    With `keep`, where `loop.each`, also what its steps began with, which is handed in again as `within`.

    Layouts, for steps that may be one piece of machine code: in "turns" of two steps each, large states go to and fro between
    two places and need not be copied; "again", for derivatives, computes each step once more where the reverse pass needs it,
    as to store what it held would cost more. Others are "plain".
    """
    turn = 2 if layout == "turns" and loop.block % 2 == 0 else 1
    first = begin >> 1  # a pair of normals serves the steps 2i and 2i + 1, wherever the block begins
    number = first + jnp.arange(loop.together * loop.block // 2 + (not loop.even), dtype=jnp.int32)
    pairs = normal_pairs(noise.keys, noise.subjects, number, noise.dtype)

    def step(state, shared, own, inputs, pairs, at, j):
        z = None if pairs is None else _select_normals(pairs, at, j, noise.dtype)
        return loop.step(state, shared, own, inputs, z, j)

    step = jax.checkpoint(step, prevent_cse=False) if layout == "again" else step

    def advance(carried, shared, own, inputs, pairs, at, j):
        state, output = step(carried[0], shared, own, inputs, pairs, at, j)
        return state, output, update_statistics(loop, carried[2], state, output)

    advance = outlined(advance) if turn > 1 else advance

    record = lambda carried: None if loop.together == 1 else _record_sample(loop, *carried[:2])

    def advance_turn(carried, now):
        begin, *now = now
        held = []
        for i in range(turn):
            inputs, within = jax.tree.map(lambda x, i=i: x[i], now)
            carried = carried if within is None else (replace_value(carried[0], within), *carried[1:])
            held.append(eqx.filter(carried[0], eqx.is_inexact_array) if keep and loop.each else None)
            j = begin + i
            carried = advance(carried, shared, own, inputs, pairs if noise.keys.size else None, (j >> 1) - first, j)
        return carried, jax.tree.map(lambda *x: jnp.stack(x), *held)

    def advance_and_record(carried, now):
        carried, held = advance_turn(carried, now)
        return carried, (record(carried), held)

    def until_save(carried, now):
        carried, held = lax.scan(advance_turn, carried, now)
        return carried, (record(carried), held)

    if layout == "again":  # of loops within loops, what the reverse pass keeps would be copied from one to the other
        along, shape, every = advance_and_record, (loop.together * loop.block,), loop.block
    else:
        along, shape, every = until_save, (loop.together, loop.block // turn), 1
    begins = begin + turn * jnp.arange(math.prod(shape), dtype=jnp.int32).reshape(shape)
    inputs, within = jax.tree.map(lambda x: x.reshape(*shape, turn, *x.shape[1:]), (inputs, within))
    carried, (samples, held) = lax.scan(along, init_block(loop, carry), (begins, inputs, within))
    samples = jax.tree.map(lambda x: x[every - 1 :: every], samples)
    held = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(shape) + 1 :]), held)
    return end_block(loop, carry, *carried, begin + loop.together * loop.block), (samples, held)


def _record_sample(loop: Loop, state: PyTree, output: PyTree) -> PyTree:
    """What is recorded, if anything."""
    return None if loop.sample is None else loop.sample(state, output)


def _select_normals(pairs: Complex[Array, "pairs channels lanes"], at: Int[Array, ""], j: Int[Array, ""], dtype):
    """Those of step `j`, in one half of one pair. A product is no branch: it reads both halves, side by side, in one pass."""
    odd = (j & 1).astype(dtype)
    pair = lax.dynamic_index_in_dim(pairs, at, keepdims=False)
    return pair.real * (1 - odd) + pair.imag * odd


def nested_checkpoint_scan(body: Callable, carry: PyTree, xs: PyTree) -> tuple[PyTree, PyTree]:
    """`lax.scan`, whose reverse pass keeps about the square root of all carries when there are many.

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
    step: Callable, state: PyTree, inputs: PyTree, noise: NoiseSource, start: Int[Array, ""], whole: bool = False
) -> tuple[PyTree, bool]:
    """The shapes of what one step puts out, and whether all of it may be one piece of machine code, as the `whole` run is.

    Raises:
        ValueError: it does not hand back a state like the one it got.
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
    return output, is_hoistable(traced.jaxpr, products=whole)
