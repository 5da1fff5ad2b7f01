"""Statistics computed while a simulation runs, so that no trajectory has to be stored.

Every statistic is four pure functions on an accumulator, a tree of arrays in the shape of the measured quantity:

    init(like) -> acc      update(acc, x) -> acc      merge(a, b) -> acc      result(acc) -> what was asked for

`merge` joins two stretches of time and `init` is its neutral element. The time loop fills a fresh accumulator for each short block of
steps and merges it into the total: sums in two levels, which keep single precision over millions of steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree, Shaped


class Statistic(Protocol):
    """What the time loop needs of a statistic."""

    def init(self, like: jax.ShapeDtypeStruct | Array) -> PyTree:
        """The accumulator of no steps at all, for a quantity of this shape and dtype."""
        ...

    def update(self, acc: PyTree, x: Array) -> PyTree:
        """The accumulator with one more step."""
        ...

    def merge(self, a: PyTree, b: PyTree) -> PyTree:
        """The accumulator of two stretches, in either order."""
        ...

    def result(self, acc: PyTree) -> Array:
        """The statistic itself."""
        ...


Measured = tuple[Statistic, Callable[[PyTree, PyTree], Shaped[Array, "..."]]]


class Moments(NamedTuple):
    """How many steps, their mean, and the sum of squared distances from that mean."""

    count: Int[Array, ""]
    mean: Float[Array, "..."]
    spread: Float[Array, "..."]


@dataclass(frozen=True)
class Mean:
    """Average over steps, in the unit of the quantity."""

    def init(self, like):
        return jnp.int32(0), jnp.zeros(like.shape, like.dtype)

    def update(self, acc, x):
        count, total = acc
        return count + 1, total + x

    def merge(self, a, b):
        return jax.tree.map(jnp.add, a, b)

    def result(self, acc):
        count, total = acc
        return total / jnp.maximum(count, 1).astype(total.dtype)


@dataclass(frozen=True)
class Variance:
    """Variance over steps (division by their number), in the squared unit of the quantity.

    Welford's update and the merge of Chan, Golub & LeVeque (1979): distances are taken from the mean, never the difference of
    two large squares, so a small fluctuation on a large offset survives single precision.
    """

    def init(self, like):
        zero = jnp.zeros(like.shape, like.dtype)
        return Moments(jnp.int32(0), zero, zero)

    def update(self, acc, x):
        count = acc.count + 1
        distance = x - acc.mean
        mean = acc.mean + distance * (1 / count.astype(x.dtype))
        return Moments(count, mean, acc.spread + distance * (x - mean))

    def merge(self, a, b):
        count = a.count + b.count
        share = b.count.astype(b.mean.dtype) / jnp.maximum(count, 1).astype(b.mean.dtype)
        distance = b.mean - a.mean
        between = distance * distance * (share * a.count.astype(b.mean.dtype))
        return Moments(count, a.mean + distance * share, a.spread + b.spread + between)

    def result(self, acc):
        return acc.spread / jnp.maximum(acc.count, 1).astype(acc.spread.dtype)


@dataclass(frozen=True)
class Maximum:
    """Largest value over steps; minus infinity over no steps."""

    def init(self, like):
        return jnp.full(like.shape, -jnp.inf, like.dtype)

    def update(self, acc, x):
        return jnp.maximum(acc, x)

    def merge(self, a, b):
        return jnp.maximum(a, b)

    def result(self, acc):
        return acc


@dataclass(frozen=True)
class Histogram:
    """Number of steps in each bin: int32, with a first axis of bins.

    Bin i holds edges[i] <= x < edges[i + 1]; values outside all edges are not counted. It costs one comparison a bin and step, and
    no scattered writes, which the compiled loop could not contain.

    Attributes:
        edges: ascending, in the unit of the quantity.
    """

    edges: tuple[float, ...]

    def __post_init__(self):
        edges = tuple(float(edge) for edge in self.edges)
        if len(edges) < 2 or any(low >= high for low, high in zip(edges, edges[1:], strict=False)):
            raise ValueError(f"A histogram needs at least two ascending edges, not {edges}.")
        object.__setattr__(self, "edges", edges)

    def init(self, like):
        return jnp.zeros((len(self.edges) - 1, *like.shape), jnp.int32)

    def update(self, acc, x):
        above = x[None] >= jnp.asarray(self.edges, x.dtype).reshape((-1,) + (1,) * x.ndim)
        return acc + (above[:-1] & ~above[1:]).astype(jnp.int32)

    def merge(self, a, b):
        return a + b

    def result(self, acc):
        return acc
