"""Integration schemes for stochastic differential equations dx = drift(x) dt + noise, elementwise.

`noise` is the scaled increment: for additive noise of strength `sigma` it is `sigma * sqrt(dt) * z`
with a standard normal `z`. Time is in the unit of `dt`; a rate is in its inverse.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

Number = Float[Array, "..."] | float | int
Drift = Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]


def euler_maruyama(drift: Drift, x: Float[Array, "*shape"], dt: Number, noise: Number = 0.0) -> Float[Array, "*shape"]:
    """Euler-Maruyama: x + drift(x) dt + noise. First order, and of strong order 1 with additive noise."""
    return x + drift(x) * dt + noise


def heun(drift: Drift, x: Float[Array, "*shape"], dt: Number, noise: Number = 0.0) -> Float[Array, "*shape"]:
    """Heun's trapezoid: x + (drift(x) + drift(y)) dt / 2 + noise, at y = x + drift(x) dt + noise.

    Second order without noise. The noise is given, the same at x and at y: for additive noise.
    Reference: Kloeden & Platen, Numerical solution of stochastic differential equations, 1992, chapter 15.
    """
    before = drift(x)
    after = drift(x + before * dt + noise)
    return x + (before + after) * (dt / 2) + noise


def exponential_step(x: Float[Array, "*shape"], steady: Number, rate: Number, dt: Number) -> Float[Array, "*shape"]:
    """Exact solution of dx/dt = rate (steady - x): steady + (x - steady) exp(-rate dt).

    Exponential Euler when `steady` and `rate` depend on the state and are constant during the step. At rate 0, x
    stays. Written with expm1: in single precision exp(-rate dt) has no digits left at 1e-7.
    """
    return x - (steady - x) * jnp.expm1(-rate * dt)


def exponential_euler(x: Float[Array, "*shape"], drift: Number, rate: Number, dt: Number) -> Float[Array, "*shape"]:
    """Exponential Euler from the drift rate (steady - x), with one division and no exponential: for `rate dt` < 1/2.

        x + drift dt (1 - exp(-k))/k,   k = rate dt,   exp(-k) = (12 - 6 k + k^2)/(12 + 6 k + k^2)

    The relative error of the Pade approximant of second order is k^4/720: 1e-7 at k = 1/10, 9e-5 at 1/2. It
    stays stable beyond, and defined at rate 0. Reference: Moler & Van Loan, SIAM Review 45 (2003), method 2.
    """
    k = rate * dt
    return x + drift * (12 * dt) / (12 + k * (6 + k))


def exponential_rosenbrock(
    x: Float[Array, "*shape"], drift: Number, slope: Number, dt: Number
) -> Float[Array, "*shape"]:
    """X + dt phi(slope dt) drift, phi(z) = (exp(z) - 1)/z: exact where the drift is linear in x.

    Second order, and stable however steeply the drift falls. Reference: Pope, An exponential method of integration of
    ordinary differential equations, 1963.

    Args:
        x: the variable.
        drift: dx/dt at x.
        slope: d(drift)/dx at x.
        dt: length of the step.
    """
    z = jnp.asarray(slope * dt)
    small = jnp.abs(z) < 1e-3
    return x + dt * drift * jnp.where(small, 1.0 + z / 2, jnp.expm1(z) / jnp.where(small, 1.0, z))


def ornstein_uhlenbeck(
    x: Float[Array, "*shape"],
    z: Float[Array, "*shape"],
    tau: Number,
    sd: Number,
    dt: Number,
) -> Float[Array, "*shape"]:
    """Exact step of the Ornstein-Uhlenbeck process dx = -x dt / tau + sd sqrt(2 / tau) dW.

    x exp(-dt / tau) + sd sqrt(1 - exp(-2 dt / tau)) z, for a standard normal `z` and any `dt`: the stationary standard
    deviation is `sd`, the correlation time `tau`.
    """
    return x * jnp.exp(-dt / tau) + sd * jnp.sqrt(-jnp.expm1(-2 * dt / tau)) * z
