"""Runs that carry tangents along: the derivative of a loop in a few directions is a loop.

    d(state)[n + 1] = step'(state[n], parameters) (d(state)[n], d(parameters))

Nothing is stored and nothing computed backwards, so that a kernel can do it in its registers, as it does the run itself. The
price is that of the run for every direction, less what they share: worth it for few directions, of which any number of lanes
has its own, as no lane moves another.
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

from ..carry import Loop
from ..scan_loop import NoiseSource
from ..statistics import Statistic
from .custom_derivative import Jvps, TangentDirection, with_custom_derivative

# By instructions counted (`benchmarks/run.py resources`): six tangents of a population of neurons cost as much as five runs
# and fill 202 of a thread's 255 registers. Two such kernels cost what a run computed backwards does, at the least.
TANGENTS_PER_KERNEL = 6  # tangents that one kernel carries
MAX_FORWARD_DIRECTIONS = 2 * TANGENTS_PER_KERNEL  # directions up to which a gradient is made of tangents

Tangents = list[Any]  # for each leaf of some tree, its tangent, the number of its row that alone moves, or None


class Dual(NamedTuple):
    """Something with its tangents.

    Attributes:
        value: a tree.
        moves: one for each direction.
    """

    value: PyTree
    moves: list[Tangents]


def loop_jvps(loop: Loop, prepare: Callable | None, run: Callable, noise_dtype: Callable) -> Jvps:
    """The tangents of `run(loop, ...)` in several directions at once, a few in each of its calls; see `derivative.Pushes`.

    Args:
        loop: what a run does.
        prepare: makes the inputs of all steps of what is shared and what lanes have of their own, see `integrate`.
        run: carries a loop out, as `loop.run`.
        noise_dtype: of the state.
    """

    def of_all(common: PyTree, laned: PyTree, directions: Sequence[TangentDirection]) -> list[PyTree]:
        groups = [directions[i : i + TANGENTS_PER_KERNEL] for i in range(0, len(directions), TANGENTS_PER_KERNEL)]
        return [tangent for group in groups for tangent in of_group(common, laned, group)]

    def of_group(common: PyTree, laned: PyTree, group: Sequence[TangentDirection]) -> list[PyTree]:
        (shared, keys, start), (state, own, subjects) = common, laned
        by_part = [_split_direction(each, (*common, *laned)) for each in group]
        shared_moves, state_moves, own_moves = ([parts[i] for parts in by_part] for i in (0, 3, 4))
        inputs = _dual_inputs(prepare, shared, own, shared_moves, own_moves)
        begin = Dual(state, [_zero_tangents(state, moves) for moves in state_moves])
        carried = with_tangents(loop, _row_numbers(shared_moves), _row_numbers(own_moves))
        noise = NoiseSource(keys, subjects, noise_dtype(state))
        arrays = lambda value, moves: Dual(value, [[_tangent_array(x) for x in each] for each in moves])
        out = run(carried, begin, arrays(shared, shared_moves), arrays(own, own_moves), inputs, noise, start)
        state, samples, statistics, bad = out
        samples = Dual(None, [[]] * len(group)) if samples is None else samples
        values = state.value, samples.value, {name: each.value for name, each in statistics.items()}, bad
        flat = lambda i: [state.moves[i], samples.moves[i], *(statistics[name].moves[i] for name in sorted(statistics))]
        structure = jax.tree.structure(values)
        return [jax.tree.unflatten(structure, [*chain(*flat(i)), None]) for i in range(len(group))]

    return of_all


def grad_by_forward_mode(
    function: Callable[[PyTree, PyTree], PyTree], few: int = TANGENTS_PER_KERNEL
) -> Callable[[PyTree, PyTree], PyTree]:
    """`function(shared, laned)`, in which runs may follow each other, with a gradient made of tangents in few directions.

    The state with which a second run begins has as many directions as it has numbers, though all of them move with few. So
    the gradient of that run alone is made backwards; that of both together need not be. Each direction is a call of its own.

    Args:
        function: of trees, the second and what it returns with lanes last. What is differentiated must be among them.
        few: directions up to which it is so.
    """

    def of_all(shared: PyTree, laned: PyTree, directions: Sequence[TangentDirection]) -> list[PyTree]:
        parted = [_split_direction(each, (shared, laned)) for each in directions]
        moves = [
            _instantiate_tangents(shared, a, a, laned=False) + _instantiate_tangents(laned, b, b, laned=True)
            for a, b in parted
        ]
        out, onward = _value_and_jvps(function, (shared, laned), moves)
        return [jax.tree.unflatten(jax.tree.structure(out), each) for each in onward]

    return with_custom_derivative(function, lambda function: function, pushes=of_all, few=few)


def with_tangents(loop: Loop, shared_numbers: list[Tangents], own_numbers: list[Tangents]) -> Loop:
    """`loop` with tangents: of all that a step takes and gives, it takes and gives a `Dual`, of as many directions.

    Args:
        loop: to be differentiated.
        shared_numbers: for each direction and each leaf of what is shared, the number of its row that alone moves, or None.
            So told, and not by an array, a kernel's compiler knows it.
        own_numbers: the same of what lanes have of their own.
    """
    count = len(shared_numbers)

    def step(state: Dual, shared: Dual, own: Dual, inputs: Dual, z, j):
        of = lambda state, shared, own, inputs: loop.step(state, shared, own, inputs, z, j)
        values = state.value, shared.value, own.value, inputs.value
        moves = [
            state.moves[i]
            + _instantiate_tangents(shared.value, shared.moves[i], shared_numbers[i], laned=False)
            + _instantiate_tangents(own.value, own.moves[i], own_numbers[i], laned=True)
            + inputs.moves[i]
            for i in range(count)
        ]
        (after, output), onward = _value_and_jvps(of, values, moves)
        leaves = len(jax.tree.leaves(after))
        return Dual(after, [each[:leaves] for each in onward]), Dual(output, [each[leaves:] for each in onward])

    def seen(function: Callable) -> Callable:
        of = lambda state, output: Dual(
            *_value_and_jvps(
                function,
                (state.value, output.value),
                [a + b for a, b in zip(state.moves, output.moves, strict=True)],
            )
        )
        return of

    statistics = {
        name: (_DualStatistic(statistic, count), seen(measure))
        for name, (statistic, measure) in loop.statistics.items()
    }
    return loop._replace(step=step, sample=None if loop.sample is None else seen(loop.sample), statistics=statistics)


class _DualStatistic(NamedTuple):
    """A statistic with its tangents."""

    statistic: Statistic
    directions: int

    def init(self, like: Dual) -> Dual:
        acc = self.statistic.init(like.value)
        return Dual(acc, [_zero_tangents(acc, [None] * len(jax.tree.leaves(acc)))] * self.directions)

    def update(self, acc: Dual, x: Dual) -> Dual:
        return self._pushed(self.statistic.update, acc, x)

    def merge(self, a: Dual, b: Dual) -> Dual:
        return self._pushed(self.statistic.merge, a, b)

    def result(self, acc: Dual) -> Dual:
        return self._pushed(self.statistic.result, acc)

    def _pushed(self, function: Callable, *arguments: Dual) -> Dual:
        moves = [list(chain(*(each.moves[i] for each in arguments))) for i in range(self.directions)]
        return Dual(*_value_and_jvps(function, tuple(each.value for each in arguments), moves))


def _value_and_jvps(function: Callable, arguments: tuple, moves: list[Tangents]) -> tuple[PyTree, list[Tangents]]:
    """What `function` gives, and its tangents in every direction, None for what has none.

    One direction after the other, each by the leaves that move in it: what is 0 is not computed, and the compiler sees that
    the function itself is the same.
    """
    leaves, structure = jax.tree.flatten(arguments)
    out, onward = None, []
    for each in moves:
        moving = [i for i, move in enumerate(each) if move is not None]

        def of(*moved, moving=moving):
            places = dict(zip(moving, moved, strict=True))
            return function(*jax.tree.unflatten(structure, [places.get(i, x) for i, x in enumerate(leaves)]))

        if moving:
            out, tangent = jax.jvp(of, [leaves[i] for i in moving], [each[i] for i in moving])
            flat = [None if x.dtype == jax.dtypes.float0 else x for x in jax.tree.leaves(tangent)]
        else:
            out = of()
            flat = _zero_tangents(out, [None] * len(jax.tree.leaves(out)))
        onward.append(flat)
    return out, onward


def _split_direction(direction: TangentDirection, parts: tuple) -> list[Tangents]:
    """A direction, part by part."""
    flat, parted = iter(direction), []
    for part in parts:
        parted.append([next(flat) for _ in jax.tree.leaves(part)])
    return parted


def _zero_tangents(tree: PyTree, moves: Tangents) -> Tangents:
    """The tangents of all floating leaves, 0 where none is told."""
    floating = lambda x: jnp.issubdtype(x.dtype, jnp.inexact)
    filled = _instantiate_tangents(tree, moves, moves, laned=True)
    return [
        jnp.zeros(x.shape, x.dtype) if move is None and floating(x) else move
        for x, move in zip(jax.tree.leaves(tree), filled, strict=True)
    ]


def _instantiate_tangents(tree: PyTree, arrays: Tangents, numbers: Tangents, *, laned: bool) -> Tangents:
    """Tangents told as arrays, or by the number of a row."""
    return [
        _unit_tangent(x, number, laned) if isinstance(number, int) else _tangent_array(array)
        for x, array, number in zip(jax.tree.leaves(tree), arrays, numbers, strict=True)
    ]


def _unit_tangent(like: Array, number: int, laned: bool) -> Array:
    """1 in one row of a leaf, for all of its lanes if it has them, and 0 elsewhere."""
    rows = like.shape[: like.ndim - 1] if laned else like.shape
    if math.prod(rows) == 1:
        return jnp.ones(like.shape, like.dtype)
    place = jnp.zeros(like.shape, jnp.int32)
    for axis, length in enumerate(rows):
        place = place * length + lax.broadcasted_iota(jnp.int32, like.shape, axis)
    return (place == number).astype(like.dtype)


def _row_numbers(moves: list[Tangents]) -> list[Tangents]:
    return [[x if isinstance(x, int) else None for x in each] for each in moves]


def _tangent_array(move: Any) -> Array | None:
    return None if isinstance(move, int) else move


def _dual_inputs(prepare, shared: PyTree, own: PyTree, shared_moves: list[Tangents], own_moves: list[Tangents]) -> Dual:
    """Inputs of all steps, and their tangents where a direction reaches them."""
    if prepare is None:
        return Dual(None, [[] for _ in shared_moves])
    moves = [
        _instantiate_tangents(shared, a, a, laned=False) + _instantiate_tangents(own, b, b, laned=True)
        for a, b in zip(shared_moves, own_moves, strict=True)
    ]
    inputs, tangents = _value_and_jvps(prepare, (shared, own), moves)
    reached = _leaf_dependencies(prepare, shared, own)
    seen = lambda each, by: any(move is not None and reads for move, reads in zip(each, by, strict=True))
    return Dual(
        inputs,
        [
            [x if seen(each, by) else None for x, by in zip(onward, reached, strict=True)]
            for each, onward in zip(moves, tangents, strict=True)
        ],
    )


def _leaf_dependencies(function: Callable, *arguments: PyTree) -> list[list[bool]]:
    """For each leaf of the result, which leaves of the arguments it depends on."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    outs = range(len(jaxpr.outvars))
    return [dce_jaxpr(jaxpr, [i == out for i in outs])[1] for out in outs]
