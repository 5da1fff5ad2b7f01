"""The time loop as one kernel: all steps of a few lanes in the registers of an accelerator, nothing stored in between.

A plain loop launches several kernels a step and carries every state through memory. Here a few lanes make all their
steps in one kernel, with the noise made inside, statistics streamed, and every k-th step written out. The body knows no
accelerator; `_call_pallas` hands it to Pallas, which compiles it through Triton for GPUs, or computes it on any device. Mosaic,
Pallas's other compiler for GPUs, would belong there too, but does not take it: one of its lowerings lacks shifts and tests
for finite numbers, the other copies whole warpgroups of numbers only, and so no single one (jax 0.10.1); since jax 0.11
`pallas_call` does not offer it.

A step may hold what compilers of kernels know, or `dialect` puts in their words: arithmetic, comparisons, choices, sums
over an axis, broadcasts, products of matrices, stacks and single rows; not sorts, scatters or other indexing of values.
The axes of all that it reads and computes must be powers of two.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, ArrayLike, Int, PyTree

from ..carry import Carry, Loop, end_block, finalise_statistics, init_block, init_carry, update_statistics
from ..jaxpr_rewrite import RewriteRule, rewrite_jaxpr
from ..noise import normal_pair
from ..scan_loop import NoiseSource, trace_step_output
from ..xla_cpu.hoist import outlined
from .lowering_rules import pallas_rule, ptx_rule

_WARP_THREADS = 32  # threads of a GPU that go in step, and exchange numbers without waiting: one kernel, as a rule
_INTERPRETED_LANES = (
    128  # the same without a GPU: whole vectors of lanes, which go through the instructions of other loops
)
_MAX_NUMBERS_PER_THREAD = 2  # numbers of one leaf of the state that a thread holds at most
_MAX_WARPS = 32  # warps of one kernel


@dataclasses.dataclass(frozen=True)
class ClosedFunction:
    """A function that holds no arrays of its own, for kernels may not.

    Attributes:
        call: `call(held, leaves of all arguments, None for what is not read) -> tree`.
        held: the arrays that it held.
        read: which leaves of its arguments matter.
        like: what it returns, as shapes.
    """

    call: Callable[[Sequence[Array], Sequence[Array | None]], PyTree]
    held: list
    read: list[bool]
    like: PyTree


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
    loop: Loop,
    state: PyTree,
    shared: PyTree,
    own: PyTree,
    inputs: PyTree,
    noise: NoiseSource,
    start: Int[Array, ""],
    *,
    interpret: bool = False,
):
    """As `loop.run`, which says what is asked for; `interpret` computes the kernels' body on whatever device there is.

    Raises:
        ValueError: an axis of what a step reads is no power of two.
    """
    (keys, subjects, dtype), whole = noise, noise.subjects.size
    lanes, warps = _lanes_and_warps(state, whole, _INTERPRETED_LANES if interpret else _WARP_THREADS)
    few = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct((*x.shape[:-1], lanes), x.dtype), tree)
    common = lambda tree: jax.tree.map(_shared_operand, tree)
    laned = lambda tree: jax.tree.map(lambda x: _laned_operand(x, lanes), tree)
    streams = [_stepwise_operand(x, whole, lanes) for x in jax.tree.leaves(inputs)]
    now = jax.tree.unflatten(jax.tree.structure(inputs), [each.one_step for each in streams])
    z = jax.ShapeDtypeStruct((keys.size, lanes), dtype) if keys.size else None

    def plain(state, now, z, j):
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), few(own))
        return loop.step(state, shared, nothing, now, z, j)

    def advance(state, sums, z, j, shared, own, now):
        state, output = loop.step(state, shared, own, now, z, j)
        return state, output, update_statistics(loop, sums, state, output)

    output, compact = trace_step_output(plain, few(state), now, NoiseSource(keys, few(subjects), dtype), start)
    first = jax.eval_shape(partial(init_carry, loop, lanes=(lanes,)), few(state), output)
    rule = pallas_rule if interpret else ptx_rule
    moving = _convert_closure(
        rule, outlined(advance) if compact else advance, first.state, first.totals, z, start, shared, few(own), now
    )
    seeing = _convert_closure(rule, loop.sample or (lambda state, output: None), first.state, output)
    ending = _convert_closure(rule, partial(end_block, loop), first, first.state, output, first.totals, start)

    still = [*jax.tree.leaves(common(shared)), *jax.tree.leaves(laned(own))]
    begins = len(moving.read) - len(still) - len(streams)
    used = [each if read else None for each, read in zip([*still, *streams], moving.read[begins:], strict=True)]
    into = {
        "state": laned(state),
        "still": used[: len(still)],
        "streams": used[len(still) :],
        "held": (common(moving.held), common(seeing.held), common(ending.held)),
        "noise": (_shared_operand(keys), _laned_operand(subjects, lanes)) if keys.size else None,
        "start": _shared_operand(start),
    }
    out = {
        "carry": jax.tree.map(lambda x: _output_operand(x, whole, lanes), first),
        "samples": jax.tree.map(lambda x: _output_operand(x, whole, lanes, loop.saves), seeing.like),
    }
    body = _kernel_body(loop, (moving, seeing, ending), into, out, output, (lanes,), dtype)
    after = _call_pallas(body, into, out, whole // lanes, warps, interpret)
    carry: Carry = after["carry"]
    totals = jax.tree.map(lambda place, x: x[0] if place.number else x, out["carry"].totals, carry.totals)
    return carry.state, after["samples"], finalise_statistics(loop, totals), carry.bad


def _kernel_body(
    loop: Loop,
    parts: tuple[ClosedFunction, ClosedFunction, ClosedFunction],
    into: dict,
    out: dict,
    output: PyTree,
    lanes,
    dtype,
):
    """All steps of a few lanes, as a function of references (read, written) laid out like `into` and `out`.

    Its `parts` are a step, what is recorded, and the end of a block.
    """
    moving, seeing, ending = parts

    def body(given, returned):
        read = lambda name: jax.tree.map(lambda place, ref: ref[place.at], into[name], given[name])
        still, held, start, noise = read("still"), read("held"), read("start"), read("noise")
        pair = lambda j: normal_pair(noise[0], noise[1], j >> 1, dtype)

        def step(i, carried):
            (state, _, sums), odd = carried
            j, z = start + i, ()
            if noise:  # a pair serves steps 2i and 2i + 1
                z, odd = lax.cond(j & 1 == 0, lambda: pair(j), lambda: (odd, odd))
                z = (z,)
            now = [None if ref is None else ref[i] for ref in given["streams"]]
            return moving.call(held[0], (*jax.tree.leaves((state, sums)), *z, j, *still, *now)), odd

        def block(number, carried):
            carry, odd = carried
            begins = number * loop.block
            (state, output, sums), odd = lax.fori_loop(
                begins, begins + loop.block, step, (init_block(loop, carry), odd)
            )
            ended = carry, state, output, sums, start + begins + loop.block
            return ending.call(held[2], jax.tree.leaves(ended)), odd

        def save(number, carried):
            begins = number * loop.blocks
            carry, odd = lax.fori_loop(begins, begins + loop.blocks, block, carried)
            seen = jax.tree.leaves(seeing.call(held[1], jax.tree.leaves((carry.state, carry.output))))
            for ref, value in zip(jax.tree.leaves(returned["samples"]), seen, strict=True):
                ref[number] = value
            return carry, odd

        odd = pair(start)[1] if noise else None  # for a run that starts at an odd step
        carried = (init_carry(loop, read("state"), output, lanes), odd)
        carry, _ = lax.fori_loop(jnp.int32(0), jnp.int32(loop.saves), save, carried)
        jax.tree.map(lambda place, ref, x: ref.__setitem__(place.at, x), out["carry"], returned["carry"], carry)

    return body


def _convert_closure(rule: RewriteRule, function: Callable, *like: PyTree) -> ClosedFunction:
    """`function` in the words of a `rule`, with the arrays that it holds as arguments, and what it reads of the others."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*like)
    jaxpr = closed.jaxpr.replace(invars=[*closed.jaxpr.constvars, *closed.jaxpr.invars], constvars=[])
    jaxpr, used = dce_jaxpr(rewrite_jaxpr(jaxpr, rule), [True] * len(jaxpr.outvars))
    count, structure = len(closed.consts), jax.tree.structure(shapes)
    computed = jaxpr_as_fun(ClosedJaxpr(jaxpr, ()))

    def call(held, flat):
        read = [x for x, needed in zip(flat, used[count:], strict=True) if needed]
        return jax.tree.unflatten(structure, computed(*held, *read))

    return ClosedFunction(
        call, [x for x, needed in zip(closed.consts, used, strict=False) if needed], used[count:], shapes
    )


def _lanes_and_warps(state: PyTree, whole: int, numbers: int) -> tuple[int, int]:
    """Lanes of one kernel, with so many numbers of a leaf, and dividing all lanes; and its warps, several for large lanes."""
    widest = max((leaf.size // whole for leaf in jax.tree.leaves(state)), default=1)
    lanes = math.gcd(whole, _floor_power_of_two(numbers // widest))
    return lanes, min(_floor_power_of_two(lanes * widest // (_MAX_NUMBERS_PER_THREAD * _WARP_THREADS)), _MAX_WARPS)


def _floor_power_of_two(most: int) -> int:
    """The largest power of two up to `most`, at least 1."""
    return 1 << max(most, 1).bit_length() - 1


def _check_powers_of_two(operands: Sequence[KernelOperand]) -> None:
    """Raise where compilers of kernels would, with a name for it."""
    for each in operands:
        if any(length & (length - 1) for length in each.block[each.over_steps :]):
            raise ValueError(
                f"backend='fused' needs powers of two, but a step reads an array of shape {each.array.shape}: pad it, "
                "or take backend='scan'."
            )


def _shared_operand(x: ArrayLike) -> KernelOperand:
    x = jnp.asarray(x)
    return KernelOperand(jnp.atleast_1d(x), x.shape or (1,), laned=False, number=x.ndim == 0)


def _laned_operand(x: Array, lanes: int) -> KernelOperand:
    return KernelOperand(x, (*x.shape[:-1], lanes), laned=True, number=False)


def _stepwise_operand(x: Array, whole: int, lanes: int) -> KernelOperand:
    """Something for each step: for each lane, or for all of them."""
    if x.ndim > 1 and x.shape[-1] == whole:
        return KernelOperand(x, (*x.shape[:-1], lanes), laned=True, number=False, over_steps=1)
    return KernelOperand(x, x.shape, laned=False, number=False, over_steps=1)


def _output_operand(like: jax.ShapeDtypeStruct, whole: int, lanes: int, saves: int | None = None) -> KernelOperand:
    """Room for what kernels return: the lanes of each, or a number from each."""
    first = () if saves is None else (saves,)
    block, number = (first + (like.shape or (1,))), not like.shape
    shape = (*block[:-1], whole // lanes * block[-1])
    return KernelOperand(jax.ShapeDtypeStruct(shape, like.dtype), block, laned=True, number=number)


def _call_pallas(body: Callable, into: PyTree, out: PyTree, kernels: int, warps: int, interpret: bool) -> PyTree:
    """Run `body(references in, references out)` once for each kernel. The only place that knows a compiler of kernels."""
    given, returned = jax.tree.leaves(into), jax.tree.leaves(out)
    structures = jax.tree.structure(into), jax.tree.structure(out)

    def kernel(*refs):
        parts = refs[: len(given)], refs[len(given) :]
        body(*(jax.tree.unflatten(structure, part) for structure, part in zip(structures, parts, strict=True)))

    options: dict[str, Any] = {"interpret": True}
    if not interpret:
        from jax.experimental.pallas import triton  # imports a compiler that processors do not need

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
