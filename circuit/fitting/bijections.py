"""Bounds on numbers that are fitted, as bijections between an interval and the whole line.

Applied at the edge of fitting only: the optimiser walks freely among `free` numbers, and what the model sees always
lies within its bounds. A tree of numbers has a tree of intervals of the same shape beside it.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

BOUND_MARGIN = 1e-3  # share of the width by which starting values, and points at a bound, keep away from it
DEFAULT_MARGIN = 1e-6  # share of the width by which a number at a bound is moved inside, where its gradient is alive


@dataclasses.dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, either of which may be infinite. Not a tree: it is itself a leaf, and static.

        both finite    x = low + (high - low) sigmoid(free)
        low alone      x = low + softplus(free)
        high alone     x = high - softplus(-free)
        none           x = free

    With both, a unit of `free` is up to a quarter of the width for every leaf alike: one learning rate suits them all.

    Raises:
        ValueError: nothing lies between the bounds, or one is not a number.
    """

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self):
        if not self.low < self.high:
            raise ValueError(f"low={self.low:g} must lie below high={self.high:g}.")

    @property
    def width(self) -> float:
        """From bound to bound; infinite where one is missing."""
        return self.high - self.low

    def constrain(self, free: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The number within bounds; rising in `free`."""
        if math.isfinite(self.width):
            inside = self.low + self.width * jax.nn.sigmoid(free)
            return jnp.clip(inside, self.low, self.high)  # rounding may pass a bound by its last digit
        if math.isfinite(self.low):
            return self.low + jax.nn.softplus(free)
        if math.isfinite(self.high):
            return self.high - jax.nn.softplus(-free)
        return free

    def unconstrain(self, x: Float[Array, "*shape"], margin: float = DEFAULT_MARGIN) -> Float[Array, "*shape"]:
        """The inverse; a number at a bound, or beyond it, counts as `margin` within (a share of a finite width)."""
        if math.isfinite(self.width):
            share = jnp.clip((x - self.low) / self.width, margin, 1 - margin)
            return jnp.log(share) - jnp.log1p(-share)
        if math.isfinite(self.low):
            return _inverse_softplus(jnp.maximum(x - self.low, margin))
        if math.isfinite(self.high):
            return -_inverse_softplus(jnp.maximum(self.high - x, margin))
        return x


@dataclasses.dataclass(frozen=True)
class Positive:
    """Numbers above 0 without a natural unit: x = exp(free), so that a unit of `free` is a factor of e. Static."""

    low: float = 0.0
    high: float = math.inf

    def constrain(self, free: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The positive number; rising in `free`."""
        return jnp.exp(free)

    def unconstrain(self, x: Float[Array, "*shape"], margin: float = DEFAULT_MARGIN) -> Float[Array, "*shape"]:
        """The inverse; what is not positive counts as the least normal number."""
        return jnp.log(jnp.maximum(x, jnp.finfo(x.dtype).tiny))


def constrain_tree(free: PyTree, intervals: PyTree) -> PyTree:
    """Each leaf of `free` within the interval at its place in `intervals`."""
    return jax.tree.map(lambda interval, leaf: interval.constrain(leaf), intervals, free)


def unconstrain_tree(x: PyTree, intervals: PyTree, margin: float = DEFAULT_MARGIN) -> PyTree:
    """The inverse of `constrain_tree`; see `Interval.unconstrain` for numbers at a bound."""
    return jax.tree.map(lambda interval, leaf: interval.unconstrain(leaf, margin), intervals, x)


def _inverse_softplus(x: Array) -> Array:
    """log(exp(x) - 1), for positive x, without overflow."""
    return x + jnp.log(-jnp.expm1(-x))
