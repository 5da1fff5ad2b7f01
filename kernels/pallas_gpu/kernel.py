"""The time loop as one Pallas kernel: all steps of a few lanes stay in the registers of a GPU.

The plain loop launches several kernels a step and moves every state through memory. Here one kernel makes all steps of a
few lanes, draws their noise, updates statistics, and writes out every k-th step. `_call_pallas` compiles the body through
Triton, or interprets it on any device. Mosaic, the other GPU compiler of Pallas, does not accept this body (jax 0.10.1).

A step may contain what Triton supports or `lowering_rules` rewrites: arithmetic, comparisons, `where`, sums over an axis,
broadcasts, matrix products, stacks and single rows. It may not contain sorts, scatters or other indexing. All axes must be
powers of two.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, ArrayLike, Int, PyTree

from ..jaxpr_rewrite import RewriteRule, rewrite_jaxpr
from ..loop_spec import (
    BlockCarry,
    Carry,
    Loop,
    NoiseSource,
    Operands,
    end_block,
    finalise_statistics,
    init_block,
    init_carry,
    update_statistics,
)
from ..noise import normal_pair
from ..scan_loop import trace_step_output
from ..xla_cpu.hoist import outlined
from .lowering_rules import pallas_rule, ptx_rule

_WARP_THREADS = 32  # lanes of a kernel, as a rule: the threads of a warp exchange numbers without synchronisation
_INTERPRETED_LANES = 128  # lanes of an interpreted kernel: whole vectors, as in the other loops
_MAX_NUMBERS_PER_THREAD = 2  # numbers of one leaf of the state that a thread keeps
_MAX_WARPS = 32  # of one kernel


@dataclasses.dataclass(frozen=True)
class ClosedFunction:
    """A function with the arrays that it closed over as arguments, because kernels may not capture arrays.

    Attributes:
        call: `call(arrays, leaves of all arguments, None for what is not read) -> tree`.
        arrays: what it closed over.
        read: which leaves of its arguments it reads.
        like: shapes of its result.
    """

    call: Callable[[Sequence[Array], Sequence[Array | None]], PyTree]
    arrays: list
    read: list[bool]
    like: PyTree


class KernelParts(NamedTuple):
    """What a kernel calls.

    Attributes:
        functions: a step, what is recorded, and the end of a block.
        carry: of the scan over blocks, as shapes.
        output: of a step, as shapes.
    """

    functions: tuple[ClosedFunction, ClosedFunction, ClosedFunction]
    carry: Carry
    output: PyTree


@dataclasses.dataclass(frozen=True)
class KernelOperand:
    """An array as kernels see it.

    Attributes:
        array: with one axis at least; a mere shape for what is returned.
        block: its shape within one kernel.
        laned: whether its last axis is divided among kernels.
        number: whether a kernel sees a number.
        over_steps: 1 where the first axis is steps, of which one is read at a time; else 0.
    """

    array: Any
    block: tuple[int, ...]
    laned: bool
    number: bool
    over_steps: int = 0

    @property
    def spec(self) -> pl.BlockSpec:
        """Which part the i-th kernel sees."""
        before = (0,) * (len(self.block) - 1)
        return pl.BlockSpec(self.block, lambda i: (*before, i if self.laned else 0))

    @property
    def at(self):
        """The index of its value."""
        return 0 if self.number else ...

    @property
    def one_step(self) -> jax.ShapeDtypeStruct:
        """What one step sees of it."""
        return jax.ShapeDtypeStruct(self.block[1:], self.array.dtype)


def run_fused_kernel(
    loop: Loop, operands: Operands, state: PyTree, inputs: PyTree, start: Int[Array, ""], *, interpret: bool = False
) -> tuple:
    """`run_scan` as kernels; `interpret` computes their body on any device, slowly.

    Raises:
        ValueError: an axis of what a step reads is no power of two.
    """
    (keys, subjects, dtype), all_lanes = operands.noise, operands.noise.subjects.size
    lanes, warps = _lanes_and_warps(state, all_lanes, _INTERPRETED_LANES if interpret else _WARP_THREADS)
    steps = [_stepwise_operand(x, all_lanes, lanes) for x in jax.tree.leaves(inputs)]
    step_inputs = jax.tree.unflatten(jax.tree.structure(inputs), [operand.one_step for operand in steps])
    rule = pallas_rule if interpret else ptx_rule
    parts = _trace_parts(rule, loop, operands, (state, step_inputs, start), lanes)
    step, sample, _ = parts.functions

    constant = [
        *jax.tree.leaves(jax.tree.map(_shared_operand, operands.shared)),
        *jax.tree.leaves(_laned_operands(operands.per_subject, lanes)),
    ]
    begins = len(step.read) - len(constant) - len(steps)
    used = [x if read else None for x, read in zip([*constant, *steps], step.read[begins:], strict=True)]
    into = {
        "state": _laned_operands(state, lanes),
        "constant": used[: len(constant)],
        "steps": used[len(constant) :],
        "closed_over": tuple(jax.tree.map(_shared_operand, function.arrays) for function in parts.functions),
        "noise": (_shared_operand(keys), _laned_operand(subjects, lanes)) if keys.size else None,
        "start": _shared_operand(start),
    }
    out = {
        "carry": jax.tree.map(lambda x: _output_operand(x, all_lanes, lanes), parts.carry),
        "samples": jax.tree.map(lambda x: _output_operand(x, all_lanes, lanes, loop.saves), sample.like),
    }
    body = _kernel_body(loop, parts, into, out, dtype)
    after = _call_pallas(body, into, out, all_lanes // lanes, warps, interpret)
    carry: Carry = after["carry"]
    totals = jax.tree.map(lambda place, x: x[0] if place.number else x, out["carry"].totals, carry.totals)
    return carry.state, after["samples"], finalise_statistics(loop, totals), carry.nonfinite_at


def _trace_parts(rule: RewriteRule, loop: Loop, operands: Operands, point: tuple, lanes: int) -> KernelParts:
    """Trace what a kernel calls, for so many lanes. `point` is (state, inputs of one step, start)."""
    (state, step_inputs, start), (shared, per_subject, noise) = point, operands
    state, per_subject, subjects = _with_lanes((state, per_subject, noise.subjects), lanes)
    z = jax.ShapeDtypeStruct((noise.keys.size, lanes), noise.dtype) if noise.keys.size else None

    def plain_step(state, step_inputs, z, j):
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), per_subject)
        return loop.step(state, shared, zeros, step_inputs, z, j)

    def advance(state, sums, z, j, shared, per_subject, step_inputs):
        state, output = loop.step(state, shared, per_subject, step_inputs, z, j)
        return BlockCarry(state, output, update_statistics(loop, sums, state, output))

    few = NoiseSource(noise.keys, subjects, noise.dtype)
    output, compact = trace_step_output(plain_step, state, step_inputs, few, start)
    carry = jax.eval_shape(partial(init_carry, loop, lanes=(lanes,)), state, output)
    arguments = carry.state, carry.totals, z, start, shared, per_subject, step_inputs
    step = _convert_closure(rule, outlined(advance) if compact else advance, *arguments)
    sample = _convert_closure(rule, loop.sample or (lambda state, output: None), carry.state, output)
    block = BlockCarry(carry.state, output, carry.totals)
    end = _convert_closure(rule, partial(end_block, loop), carry, block, start)
    return KernelParts((step, sample, end), carry, output)


def _kernel_body(loop: Loop, parts: KernelParts, into: dict, out: dict, dtype: Any) -> Callable:
    """All steps of a few lanes, as a function of references (read, written) laid out like `into` and `out`."""
    step_function, sample_function, end_function = parts.functions

    def body(given, returned):
        def read(name: str) -> Any:
            return jax.tree.map(lambda place, ref: ref[place.at], into[name], given[name])

        constant, closed_over, start, noise = read("constant"), read("closed_over"), read("start"), read("noise")

        def draw_pair(j):
            return normal_pair(noise[0], noise[1], j >> 1, dtype)

        def step(i, carried):
            (state, _, sums), odd = carried
            j, z = start + i, ()
            if noise:  # a pair serves steps 2i and 2i + 1
                z, odd = lax.cond(j & 1 == 0, lambda: draw_pair(j), lambda: (odd, odd))
                z = (z,)
            step_inputs = [None if ref is None else ref[i] for ref in given["steps"]]
            leaves = (*jax.tree.leaves((state, sums)), *z, j, *constant, *step_inputs)
            return step_function.call(closed_over[0], leaves), odd

        def block(number, carried):
            carry, odd = carried
            begin = number * loop.block
            after, odd = lax.fori_loop(begin, begin + loop.block, step, (init_block(loop, carry), odd))
            ended = carry, after, start + begin + loop.block
            return end_function.call(closed_over[2], jax.tree.leaves(ended)), odd

        def save(number, carried):
            begin = number * loop.blocks
            carry, odd = lax.fori_loop(begin, begin + loop.blocks, block, carried)
            sample = sample_function.call(closed_over[1], jax.tree.leaves((carry.state, carry.output)))
            for ref, value in zip(jax.tree.leaves(returned["samples"]), jax.tree.leaves(sample), strict=True):
                ref[number] = value
            return carry, odd

        odd = draw_pair(start)[1] if noise else None  # for a run that starts at an odd step
        carried = (init_carry(loop, read("state"), parts.output, parts.carry.nonfinite_at.shape), odd)
        carry, _ = lax.fori_loop(jnp.int32(0), jnp.int32(loop.saves), save, carried)
        jax.tree.map(lambda place, ref, x: ref.__setitem__(place.at, x), out["carry"], returned["carry"], carry)

    return body


def _convert_closure(rule: RewriteRule, function: Callable, *like: PyTree) -> ClosedFunction:
    """`function` rewritten by `rule`, with the arrays that it closes over as arguments."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*like)
    jaxpr = closed.jaxpr.replace(invars=[*closed.jaxpr.constvars, *closed.jaxpr.invars], constvars=[])
    jaxpr, used = dce_jaxpr(rewrite_jaxpr(jaxpr, rule), [True] * len(jaxpr.outvars))
    count, structure = len(closed.consts), jax.tree.structure(shapes)
    computed = jaxpr_as_fun(ClosedJaxpr(jaxpr, ()))

    def call(arrays, leaves):
        read = [x for x, needed in zip(leaves, used[count:], strict=True) if needed]
        return jax.tree.unflatten(structure, computed(*arrays, *read))

    return ClosedFunction(
        call, [x for x, needed in zip(closed.consts, used, strict=False) if needed], used[count:], shapes
    )


def _lanes_and_warps(state: PyTree, whole: int, numbers: int) -> tuple[int, int]:
    """Lanes of one kernel, a divisor of all lanes with about so many numbers of a leaf; and its warps."""
    widest = max((leaf.size // whole for leaf in jax.tree.leaves(state)), default=1)
    lanes = math.gcd(whole, _floor_power_of_two(numbers // widest))
    return lanes, min(_floor_power_of_two(lanes * widest // (_MAX_NUMBERS_PER_THREAD * _WARP_THREADS)), _MAX_WARPS)


def _floor_power_of_two(most: int) -> int:
    """The largest power of two up to `most`, at least 1."""
    return 1 << max(most, 1).bit_length() - 1


def _check_powers_of_two(operands: Sequence[KernelOperand]) -> None:
    """Raise a readable error where Triton would fail."""
    for each in operands:
        if any(length & (length - 1) for length in each.block[each.over_steps :]):
            raise ValueError(
                f"backend='fused' needs powers of two, but a step reads an array of shape {each.array.shape}: pad it, "
                "or take backend='scan'."
            )


def _shared_operand(x: ArrayLike) -> KernelOperand:
    x = jnp.asarray(x)
    return KernelOperand(jnp.atleast_1d(x), x.shape or (1,), laned=False, number=x.ndim == 0)


def _laned_operands(tree: PyTree, lanes: int) -> PyTree:
    return jax.tree.map(lambda x: _laned_operand(x, lanes), tree)


def _with_lanes(tree: PyTree, lanes: int) -> PyTree:
    """Shapes of the same tree with so many lanes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*x.shape[:-1], lanes), x.dtype), tree)


def _laned_operand(x: Array, lanes: int) -> KernelOperand:
    return KernelOperand(x, (*x.shape[:-1], lanes), laned=True, number=False)


def _stepwise_operand(x: Array, whole: int, lanes: int) -> KernelOperand:
    """An input with a first axis of steps, with or without lanes."""
    if x.ndim > 1 and x.shape[-1] == whole:
        return KernelOperand(x, (*x.shape[:-1], lanes), laned=True, number=False, over_steps=1)
    return KernelOperand(x, x.shape, laned=False, number=False, over_steps=1)


def _output_operand(like: jax.ShapeDtypeStruct, whole: int, lanes: int, saves: int | None = None) -> KernelOperand:
    """The shape of what kernels return: their lanes, or one number each."""
    first = () if saves is None else (saves,)
    block, number = (first + (like.shape or (1,))), not like.shape
    shape = (*block[:-1], whole // lanes * block[-1])
    return KernelOperand(jax.ShapeDtypeStruct(shape, like.dtype), block, laned=True, number=number)


def _call_pallas(body: Callable, into: PyTree, out: PyTree, kernels: int, warps: int, interpret: bool) -> PyTree:
    """Run `body(references in, references out)` once for each kernel. The only place that calls Pallas."""
    given, returned = jax.tree.leaves(into), jax.tree.leaves(out)
    structures = jax.tree.structure(into), jax.tree.structure(out)

    def kernel(*refs):
        parts = refs[: len(given)], refs[len(given) :]
        body(*(jax.tree.unflatten(structure, part) for structure, part in zip(structures, parts, strict=True)))

    options: dict[str, Any] = {"interpret": True}
    if not interpret:
        from jax.experimental.pallas import triton  # here, because it imports a compiler that CPUs do not need

        _check_powers_of_two(given)
        options = {"compiler_params": triton.CompilerParams(num_warps=warps, num_stages=1)}
    call = pl.pallas_call(
        kernel,
        grid=(kernels,),
        in_specs=[each.spec for each in given],
        out_specs=[each.spec for each in returned],
        out_shape=[each.array for each in returned],
        **options,
    )
    return jax.tree.unflatten(structures[1], call(*(each.array for each in given)))
