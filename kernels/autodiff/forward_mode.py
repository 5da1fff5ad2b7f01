"""Forward mode of the time loop: a run that carries tangents in a few directions.

    d(state)[n + 1] = step'(state[n], parameters) (d(state)[n], d(parameters))

Nothing is stored and nothing computed backwards, so that a kernel can do it in registers, as the run itself. Each direction
costs about one run: worth it for few directions. A direction holds for any number of lanes, as lanes are independent.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, PyTree

from ..loop_spec import Loop, NoiseSource, Operands
from ..statistics import Statistic
from .custom_derivative import Jvps, TangentDirection, fused_derivative

# By instructions counted (`benchmarks/run.py resources`): six tangents of a population of neurons cost as much as five runs
# and fill 202 of a thread's 255 registers. Two such kernels cost what a run computed backwards does, at the least.
TANGENTS_PER_KERNEL = 6  # tangents that one kernel carries
MAX_FORWARD_DIRECTIONS = 2 * TANGENTS_PER_KERNEL  # directions up to which a gradient is made of tangents

Tangents = list[Any]  # for each leaf of a tree: its tangent, the index of the row whose tangent is 1, or None


class Dual(NamedTuple):
    """A value with its tangents.

    Attributes:
        value: a tree.
        tangents: one for each direction.
    """

    value: PyTree
    tangents: list[Tangents]


def loop_jvps(loop: Loop, prepare: Callable | None, run: Callable, noise_dtype: Callable) -> Jvps:
    """The tangents of `run(loop, ...)` in several directions, `TANGENTS_PER_KERNEL` in each call of `run`.

    Args:
        loop: what a run does.
        prepare: makes the inputs of all steps, see `integrate`.
        run: carries a loop out, as `run_scan`.
        noise_dtype: from the state to the dtype of the normals.
    """

    def jvps(common: PyTree, laned: PyTree, directions: Sequence[TangentDirection]) -> list[PyTree]:
        groups = [directions[i : i + TANGENTS_PER_KERNEL] for i in range(0, len(directions), TANGENTS_PER_KERNEL)]
        return [tangent for group in groups for tangent in group_jvps(common, laned, group)]

    def group_jvps(common: PyTree, laned: PyTree, group: Sequence[TangentDirection]) -> list[PyTree]:
        (shared, keys, start), (state, per_subject, subjects) = common, laned
        by_part = [_split_direction(direction, (*common, *laned)) for direction in group]
        shared_tangents, state_tangents, subject_tangents = ([parts[i] for parts in by_part] for i in (0, 3, 4))
        inputs = _dual_inputs(prepare, Dual(shared, shared_tangents), Dual(per_subject, subject_tangents))
        begin = Dual(state, [_zero_tangents(state, tangents) for tangents in state_tangents])
        dual_loop = with_tangents(loop, _row_numbers(shared_tangents), _row_numbers(subject_tangents))
        noise = NoiseSource(keys, subjects, noise_dtype(state))
        operands = Operands(_array_dual(shared, shared_tangents), _array_dual(per_subject, subject_tangents), noise)
        return _unpack_tangents(run(dual_loop, operands, begin, inputs, start), len(group))

    return jvps


def _array_dual(value: PyTree, tangents: list[Tangents]) -> Dual:
    """The tangents that are arrays; those that are row numbers are known to the step already."""
    return Dual(value, [[_tangent_array(x) for x in direction] for direction in tangents])


def _unpack_tangents(out: tuple, count: int) -> list[PyTree]:
    """The tangents of a run's results in each of `count` directions, as trees like the results."""
    state, samples, statistics, nonfinite_at = out
    samples = Dual(None, [[]] * count) if samples is None else samples
    values = state.value, samples.value, {name: dual.value for name, dual in statistics.items()}, nonfinite_at
    structure = jax.tree.structure(values)
    parts = (state, samples, *(statistics[name] for name in sorted(statistics)))
    return [jax.tree.unflatten(structure, [*chain(*(part.tangents[i] for part in parts)), None]) for i in range(count)]


def grad_by_forward_mode(
    function: Callable[[PyTree, PyTree], PyTree], max_directions: int = TANGENTS_PER_KERNEL
) -> Callable[[PyTree, PyTree], PyTree]:
    """`function(shared, laned)` whose gradient in few directions is made of tangents, through runs that follow each other.

    The state with which a second run begins has as many directions as numbers, though all of them depend on few parameters.
    The second run alone would be differentiated in reverse; both together need not be. Each direction is a call of its own.

    Args:
        function: of trees, the second and the result with lanes last. What is differentiated must be among them.
        max_directions: directions up to which the gradient is made of tangents.
    """

    def jvps(shared: PyTree, laned: PyTree, directions: Sequence[TangentDirection]) -> list[PyTree]:
        split = [_split_direction(direction, (shared, laned)) for direction in directions]
        tangents = [
            _instantiate_tangents(shared, a, a, laned=False) + _instantiate_tangents(laned, b, b, laned=True)
            for a, b in split
        ]
        out, out_tangents = _value_and_jvps(function, (shared, laned), tangents)
        return [jax.tree.unflatten(jax.tree.structure(out), direction) for direction in out_tangents]

    return fused_derivative(function, lambda function: function, jvps=jvps, max_directions=max_directions)


def with_tangents(loop: Loop, shared_numbers: list[Tangents], subject_numbers: list[Tangents]) -> Loop:
    """`loop` with tangents: all that a step takes and returns becomes a `Dual` of as many directions.

    Args:
        loop: to be differentiated.
        shared_numbers: for each direction and each shared leaf, the index of the row whose tangent is 1, or None. As a
            Python integer it is known to a kernel's compiler.
        subject_numbers: the same for the leaves per subject.
    """
    count = len(shared_numbers)

    def step(state: Dual, shared: Dual, per_subject: Dual, inputs: Dual, z, j):
        def plain_step(state, shared, per_subject, inputs):
            return loop.step(state, shared, per_subject, inputs, z, j)

        values = state.value, shared.value, per_subject.value, inputs.value
        tangents = [
            state.tangents[i]
            + _instantiate_tangents(shared.value, shared.tangents[i], shared_numbers[i], laned=False)
            + _instantiate_tangents(per_subject.value, per_subject.tangents[i], subject_numbers[i], laned=True)
            + inputs.tangents[i]
            for i in range(count)
        ]
        (after, output), out_tangents = _value_and_jvps(plain_step, values, tangents)
        leaves = len(jax.tree.leaves(after))
        after = Dual(after, [direction[:leaves] for direction in out_tangents])
        return after, Dual(output, [direction[leaves:] for direction in out_tangents])

    def with_directions(function: Callable) -> Callable:
        def dual_function(state: Dual, output: Dual) -> Dual:
            tangents = [a + b for a, b in zip(state.tangents, output.tangents, strict=True)]
            return Dual(*_value_and_jvps(function, (state.value, output.value), tangents))

        return dual_function

    statistics = {
        name: (_DualStatistic(statistic, count), with_directions(measure))
        for name, (statistic, measure) in loop.statistics.items()
    }
    sample = None if loop.sample is None else with_directions(loop.sample)
    return loop._replace(step=step, sample=sample, statistics=statistics)


class _DualStatistic(NamedTuple):
    """A statistic with its tangents."""

    statistic: Statistic
    directions: int

    def init(self, like: Dual) -> Dual:
        acc = self.statistic.init(like.value)
        return Dual(acc, [_zero_tangents(acc, [None] * len(jax.tree.leaves(acc)))] * self.directions)

    def update(self, acc: Dual, x: Dual) -> Dual:
        return self._apply(self.statistic.update, acc, x)

    def merge(self, a: Dual, b: Dual) -> Dual:
        return self._apply(self.statistic.merge, a, b)

    def result(self, acc: Dual) -> Dual:
        return self._apply(self.statistic.result, acc)

    def _apply(self, function: Callable, *arguments: Dual) -> Dual:
        tangents = [list(chain(*(dual.tangents[i] for dual in arguments))) for i in range(self.directions)]
        return Dual(*_value_and_jvps(function, tuple(dual.value for dual in arguments), tangents))


def _value_and_jvps(function: Callable, arguments: tuple, tangents: list[Tangents]) -> tuple[PyTree, list[Tangents]]:
    """The value of `function` and its tangents in every direction, None for integer results.

    Each direction is pushed by the leaves that have a tangent in it. What is 0 is then not computed, and the compiler
    merges the repeated evaluations of the function itself.
    """
    leaves, structure = jax.tree.flatten(arguments)
    out, out_tangents = None, []
    for direction in tangents:
        indices = [i for i, tangent in enumerate(direction) if tangent is not None]

        def of_differentiated(*differentiated, indices=indices):
            values = dict(zip(indices, differentiated, strict=True))
            return function(*jax.tree.unflatten(structure, [values.get(i, x) for i, x in enumerate(leaves)]))

        if indices:
            primals, pushed = [leaves[i] for i in indices], [direction[i] for i in indices]
            out, tangent = jax.jvp(of_differentiated, primals, pushed)
            flat = [None if x.dtype == jax.dtypes.float0 else x for x in jax.tree.leaves(tangent)]
        else:
            out = of_differentiated()
            flat = _zero_tangents(out, [None] * len(jax.tree.leaves(out)))
        out_tangents.append(flat)
    return out, out_tangents


def _split_direction(direction: TangentDirection, parts: tuple) -> list[Tangents]:
    """A direction, part by part."""
    remaining = iter(direction)
    return [[next(remaining) for _ in jax.tree.leaves(part)] for part in parts]


def _zero_tangents(tree: PyTree, tangents: Tangents) -> Tangents:
    """The tangents of all floating leaves, 0 where `tangents` has None."""

    def is_floating(x: Array) -> bool:
        return jnp.issubdtype(x.dtype, jnp.inexact)

    arrays = _instantiate_tangents(tree, tangents, tangents, laned=True)
    return [
        jnp.zeros(x.shape, x.dtype) if tangent is None and is_floating(x) else tangent
        for x, tangent in zip(jax.tree.leaves(tree), arrays, strict=True)
    ]


def _instantiate_tangents(tree: PyTree, arrays: Tangents, numbers: Tangents, *, laned: bool) -> Tangents:
    """Tangents as arrays, of directions given as arrays or as the index of a row."""
    return [
        _unit_tangent(x, number, laned) if isinstance(number, int) else _tangent_array(array)
        for x, array, number in zip(jax.tree.leaves(tree), arrays, numbers, strict=True)
    ]


def _unit_tangent(like: Array, number: int, laned: bool) -> Array:
    """1 in one row of a leaf, in all lanes if it has them, and 0 elsewhere."""
    rows = like.shape[: like.ndim - 1] if laned else like.shape
    if math.prod(rows) == 1:
        return jnp.ones(like.shape, like.dtype)
    index = jnp.zeros(like.shape, jnp.int32)
    for axis, length in enumerate(rows):
        index = index * length + lax.broadcasted_iota(jnp.int32, like.shape, axis)
    return (index == number).astype(like.dtype)


def _row_numbers(tangents: list[Tangents]) -> list[Tangents]:
    return [[x if isinstance(x, int) else None for x in direction] for direction in tangents]


def _tangent_array(tangent: Any) -> Array | None:
    return None if isinstance(tangent, int) else tangent


def _dual_inputs(prepare: Callable | None, shared: Dual, per_subject: Dual) -> Dual:
    """Inputs of all steps, with tangents for the leaves that depend on what has a tangent."""
    if prepare is None:
        return Dual(None, [[] for _ in shared.tangents])
    tangents = [
        _instantiate_tangents(shared.value, a, a, laned=False)
        + _instantiate_tangents(per_subject.value, b, b, laned=True)
        for a, b in zip(shared.tangents, per_subject.tangents, strict=True)
    ]
    inputs, input_tangents = _value_and_jvps(prepare, (shared.value, per_subject.value), tangents)
    dependencies = _leaf_dependencies(prepare, shared.value, per_subject.value)

    def depends(direction: Tangents, reads: list[bool]) -> bool:
        return any(tangent is not None and read for tangent, read in zip(direction, reads, strict=True))

    filtered = [
        [x if depends(direction, reads) else None for x, reads in zip(pushed, dependencies, strict=True)]
        for direction, pushed in zip(tangents, input_tangents, strict=True)
    ]
    return Dual(inputs, filtered)


def _leaf_dependencies(function: Callable, *arguments: PyTree) -> list[list[bool]]:
    """For each leaf of the result, which leaves of the arguments it depends on."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    outs = range(len(jaxpr.outvars))
    return [dce_jaxpr(jaxpr, [i == out for i in outs])[1] for out in outs]
