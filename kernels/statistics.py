"""Online statistics, computed while a simulation runs, so that no trajectory has to be stored.

Every statistic is four pure functions on an accumulator, a tree of arrays in the shape of the measured quantity:

    init(like) -> acc      update(acc, x) -> acc      merge(a, b) -> acc      result(acc) -> value

`merge` joins two intervals of time and `init` is its neutral element. The time loop fills a fresh accumulator for each
short block of steps and merges it into the total: sums in two levels, which keep single precision over millions of
steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

ArrayOrShape = Array | jax.ShapeDtypeStruct


@runtime_checkable
class Statistic(Protocol):
    """Interface of a statistic.

    Attributes:
        linear: whether the derivatives of `merge` do not depend on what is merged, as of sums.
    """

    linear: ClassVar[bool]

    def init(self, like: ArrayOrShape) -> PyTree:
        """The accumulator of no steps at all, for a quantity of this shape and dtype."""
        ...

    def update(self, acc: PyTree, x: Array) -> PyTree:
        """The accumulator with one more step."""
        ...

    def merge(self, a: PyTree, b: PyTree) -> PyTree:
        """The accumulator of two intervals, in either order."""
        ...

    def result(self, acc: PyTree) -> Array:
        """The statistic itself."""
        ...


MeasuredStatistic = tuple[Statistic, Callable[[PyTree, PyTree], Array]]


class MomentAccumulator(NamedTuple):
    """Number of steps, their mean, and the sum of squared distances from that mean."""

    steps: Int[Array, ""]
    mean: Float[Array, "*shape"]
    spread: Float[Array, "*shape"]


@dataclass(frozen=True)
class Mean:
    """Average over steps, in the unit of the quantity; 0 over no steps."""

    linear: ClassVar[bool] = True

    def init(self, like: ArrayOrShape) -> tuple[Array, Array]:
        """A count and a sum, both 0."""
        return jnp.int32(0), jnp.zeros(like.shape, like.dtype)

    def update(self, acc: tuple[Array, Array], x: Array) -> tuple[Array, Array]:
        """Add one step."""
        count, total = acc
        return count + 1, total + x

    def merge(self, a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
        """Counts and sums add."""
        return a[0] + b[0], a[1] + b[1]

    def result(self, acc: tuple[Array, Array]) -> Array:
        """The sum divided by the count."""
        count, total = acc
        return total / jnp.maximum(count, 1).astype(total.dtype)


@dataclass(frozen=True)
class Variance:
    """Variance over steps (division by their number), in the squared unit of the quantity; 0 over no steps.

    Distances are taken from the mean, never the difference of two large squares, so that a small fluctuation on a large
    offset survives single precision. With n = n_a + n_b steps and d = mean_b - mean_a,

        mean = mean_a + d n_b / n        spread = spread_a + spread_b + d^2 n_a n_b / n

    References: Welford, Technometrics 4 (1962); Chan, Golub & LeVeque, The American Statistician 37 (1983).
    """

    linear: ClassVar[bool] = False

    def init(self, like: ArrayOrShape) -> MomentAccumulator:
        """No steps, no mean, no spread."""
        zero = jnp.zeros(like.shape, like.dtype)
        return MomentAccumulator(jnp.int32(0), zero, zero)

    def update(self, acc: MomentAccumulator, x: Array) -> MomentAccumulator:
        """The merge with a single step, whose mean is `x`."""
        count = acc.steps + 1
        distance = x - acc.mean
        mean = acc.mean + distance * (1 / count.astype(x.dtype))
        return MomentAccumulator(count, mean, acc.spread + distance * (x - mean))

    def merge(self, a: MomentAccumulator, b: MomentAccumulator) -> MomentAccumulator:
        """The parallel formula of the class docstring."""
        count = a.steps + b.steps
        share = b.steps.astype(b.mean.dtype) / jnp.maximum(count, 1).astype(b.mean.dtype)
        distance = b.mean - a.mean
        between = distance * distance * (share * a.steps.astype(b.mean.dtype))
        return MomentAccumulator(count, a.mean + distance * share, a.spread + b.spread + between)

    def result(self, acc: MomentAccumulator) -> Array:
        """The spread divided by the count."""
        return acc.spread / jnp.maximum(acc.steps, 1).astype(acc.spread.dtype)


@dataclass(frozen=True)
class Maximum:
    """Largest value over steps; minus infinity over no steps, NaN if any value was NaN."""

    linear: ClassVar[bool] = False

    def init(self, like: ArrayOrShape) -> Array:
        """Minus infinity."""
        return jnp.full(like.shape, -jnp.inf, like.dtype)

    def update(self, acc: Array, x: Array) -> Array:
        """The larger."""
        return jnp.maximum(acc, x)

    def merge(self, a: Array, b: Array) -> Array:
        """The larger."""
        return jnp.maximum(a, b)

    def result(self, acc: Array) -> Array:
        """The largest so far."""
        return acc


@dataclass(frozen=True)
class Histogram:
    """Number of steps in each bin: int32, with a first axis of bins.

    Bin i holds edges[i] <= x < edges[i + 1]; values outside all edges are not counted. It costs one comparison for each
    bin and step, and no scatter, which a hoisted loop cannot contain.

    Attributes:
        edges: ascending, in the unit of the quantity.
    """

    linear: ClassVar[bool] = True
    edges: tuple[float, ...]

    def __post_init__(self):
        if len(self.edges) < 2 or any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError(f"A histogram needs at least two ascending edges, not {self.edges}.")

    def init(self, like: ArrayOrShape) -> Array:
        """Empty bins."""
        return jnp.zeros((len(self.edges) - 1, *like.shape), jnp.int32)

    def update(self, acc: Array, x: Array) -> Array:
        """One more in the bin of each lane."""
        above = x[None] >= jnp.asarray(self.edges, x.dtype).reshape((-1,) + (1,) * x.ndim)
        return acc + (above[:-1] & ~above[1:]).astype(jnp.int32)

    def merge(self, a: Array, b: Array) -> Array:
        """Bins add."""
        return a + b

    def result(self, acc: Array) -> Array:
        """The counts."""
        return acc
