"""One step of a differential equation, dx = drift(x) dt + noise: elementwise, on arrays of any shape.

`noise` is the finished increment, already scaled: for additive noise of strength `sigma` it is `sigma * sqrt(dt) * z` with
a standard normal `z`. Time is in the unit of `dt`; a rate is in its inverse.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

Drift = Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]


def euler_maruyama(drift: Drift, x: Float[Array, "*shape"], dt: ArrayLike, noise: ArrayLike = 0.0) -> Float[Array, "*shape"]:
    """x + drift(x) dt + noise. First order without noise, strong order 1 with additive noise."""
    return x + drift(x) * dt + noise


def heun(drift: Drift, x: Float[Array, "*shape"], dt: ArrayLike, noise: ArrayLike = 0.0) -> Float[Array, "*shape"]:
    """x + (drift(x) + drift(y)) dt / 2 + noise, at y = x + drift(x) dt + noise. Second order without noise.

    With multiplicative noise it converges to the Stratonovich solution only if `noise` is averaged over x and y too; here it is
    given, so use it for additive noise. Reference: Kloeden & Platen, Numerical solution of SDEs, 1992, chapter 15.
    """
    before = drift(x)
    after = drift(x + before * dt + noise)
    return x + (before + after) * (dt / 2) + noise


def exponential_step(
    x: Float[Array, "*shape"], steady: Float[ArrayLike, "*#shape"], rate: Float[ArrayLike, "*#shape"], dt: ArrayLike
) -> Float[Array, "*shape"]:
    """Exact solution of dx/dt = rate (steady - x): steady + (x - steady) exp(-rate dt).

    Exponential Euler when `steady` and `rate` themselves depend on the state and are held for the step. At rate 0, x stays.
    Written as x plus a share of the distance, so that a small rate does not lose digits.
    """
    return x - (steady - x) * jnp.expm1(-rate * dt)


def ornstein_uhlenbeck(
    x: Float[Array, "*shape"],
    z: Float[Array, "*shape"],
    tau: Float[ArrayLike, "*#shape"],
    sd: Float[ArrayLike, "*#shape"],
    dt: ArrayLike,
) -> Float[Array, "*shape"]:
    """Exact step of the Ornstein-Uhlenbeck process dx = -x dt / tau + sd sqrt(2 / tau) dW, for a standard normal `z`.

    x exp(-dt / tau) + sd sqrt(1 - exp(-2 dt / tau)) z: stationary standard deviation `sd`, correlation time `tau`, any `dt`.
    """
    return x * jnp.exp(-dt / tau) + sd * jnp.sqrt(-jnp.expm1(-2 * dt / tau)) * z
