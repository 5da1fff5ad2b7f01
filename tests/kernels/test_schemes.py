"""Every scheme against closed forms: error, order of convergence, exactness where it is promised, and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from habenula.kernels import (
    channel_keys,
    euler_maruyama,
    exponential_euler,
    exponential_rosenbrock,
    exponential_step,
    heun,
    normals_at_step,
    ornstein_uhlenbeck,
)

ROTATION = np.array([[0.0, -1.0], [1.0, 0.0]])

PROBLEMS = {  # drift, start, solution at time 1
    "decay": (lambda x: -x, [1.0, -2.0], [np.exp(-1.0), -2 * np.exp(-1.0)]),
    "logistic": (lambda x: x * (1 - x), [0.1, 2.0], [1 / (1 + 9 * np.exp(-1)), 1 / (1 - np.exp(-1) / 2)]),
    "rotation": (lambda x: jnp.asarray(ROTATION) @ x, [1.0, 0.0], [np.cos(1.0), np.sin(1.0)]),
}

SCHEMES = {  # scheme, order
    "euler_maruyama": (euler_maruyama, 1),
    "heun": (heun, 2),
    # Exponential Euler on drift(x) = rate (steady - x) with rate 1: first order, and exact for the decay.
    "exponential_step": (lambda drift, x, dt: exponential_step(x, x + drift(x), 1.0, dt), 1),
}


def error(scheme, problem, steps):
    drift, start, end = PROBLEMS[problem]
    step = SCHEMES[scheme][0]
    x = lax.fori_loop(0, steps, lambda _, x: step(drift, x, 1 / steps), jnp.array(start))
    return float(jnp.abs(x - jnp.array(end)).max())


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_error_and_order(float64, scheme, problem):
    order = SCHEMES[scheme][1]
    coarse, fine = error(scheme, problem, 128), error(scheme, problem, 256)
    if (scheme, problem) == ("exponential_step", "decay"):
        assert fine < 1e-14
        return
    assert fine < 256.0**-order  # the derivatives of all problems are at most about 1
    # The ratio of errors is 2^order (1 + c dt), with c of order one: the measured order is off by about c dt.
    assert abs(np.log2(coarse / fine) - order) < 4 / 128


def test_rosenbrock_error_and_order(float64):
    """Of one variable, as its slope is a number: the logistic equation, from either side."""

    def error(steps):
        advance = lambda _, x: exponential_rosenbrock(x, x * (1 - x), 1 - 2 * x, 1 / steps)
        return jnp.abs(lax.fori_loop(0, steps, advance, jnp.asarray(PROBLEMS["logistic"][1])) - exact).max()

    exact = jnp.asarray(PROBLEMS["logistic"][2])
    coarse, fine = float(error(128)), float(error(256))
    assert fine < 256.0**-2
    assert abs(np.log2(coarse / fine) - 2) < 4 / 128


@pytest.mark.parametrize("dt", [1e-5, 1.0, 1e3])
def test_rosenbrock_is_exact_for_a_straight_drift(float64, dt):
    x, steady, rate = jnp.array([3.0, -1.0, 0.5]), jnp.array([1.0, 2.0, 0.5]), jnp.array([0.2, 5.0, 1.0])
    after = exponential_rosenbrock(x, rate * (steady - x), -rate, dt)
    np.testing.assert_allclose(after, exponential_step(x, steady, rate, dt), rtol=1e-9)


@pytest.mark.parametrize("dt", [1e-3, 1.0, 1e3])
def test_relaxation_is_exact_for_any_step(float64, dt):
    x, steady, rate = jnp.array([3.0, -1.0, 0.5]), jnp.array([1.0, 2.0, 0.5]), jnp.array([0.2, 5.0, 1.0])
    exact = steady + (x - steady) * np.exp(-np.asarray(rate) * dt)
    np.testing.assert_allclose(exponential_step(x, steady, rate, dt), exact, rtol=1e-14)


def test_relaxation_at_rate_zero_stays_and_has_a_slope():
    x = jnp.array([3.0, -1.0])
    assert np.array_equal(exponential_step(x, 7.0, 0.0, 0.5), x)
    slope = jax.grad(lambda rate: exponential_step(x, 7.0, rate, 0.5).sum())(0.0)
    np.testing.assert_allclose(slope, 0.5 * (7 - 3 + 7 + 1), rtol=1e-6)


def test_relaxation_keeps_small_rates_in_single_precision():
    moved = exponential_step(jnp.zeros(1, jnp.float32), 1.0, 1e-7, 1.0)
    np.testing.assert_allclose(moved, 1e-7, rtol=1e-6)  # 1 - exp(-1e-7) in float32 would be 1.19e-7


def paths(update, steps, lanes=2**14):
    """The last two states of many paths from 0."""
    keys, subjects = channel_keys(11, 1), jnp.arange(lanes, dtype=jnp.uint32)

    def step(carry, j):
        x = carry[1]
        return (x, update(x, normals_at_step(keys, subjects, j)[0])), None

    return lax.scan(step, (jnp.zeros(lanes), jnp.zeros(lanes)), jnp.arange(steps))[0]


@pytest.mark.parametrize("dt", [0.5, 5.0, 50.0])
def test_ornstein_uhlenbeck_is_exact_for_any_step(dt):
    tau, sd, steps = 5.0, 3.0, 40
    before, after = map(np.asarray, paths(lambda x, z: ornstein_uhlenbeck(x, z, tau, sd, dt), steps))
    variance = sd**2 * (1 - np.exp(-2 * steps * dt / tau))
    memory = np.exp(-dt / tau)
    assert abs(after.mean()) < 6 * np.sqrt(variance / after.size)
    assert abs((after**2).mean() - variance) < 6 * variance * np.sqrt(2 / after.size)
    before_variance = sd**2 * (1 - np.exp(-2 * (steps - 1) * dt / tau))
    spread = np.sqrt(variance * before_variance + (memory * before_variance) ** 2)  # of a product of two normals
    assert abs((before * after).mean() - memory * before_variance) < 6 * spread / np.sqrt(after.size)


@pytest.mark.parametrize(
    ("scheme", "memory", "gain"),
    [
        (euler_maruyama, lambda h: 1 - h, lambda h: 1.0),
        (heun, lambda h: 1 - h + h**2 / 2, lambda h: 1 - h / 2),
    ],
)
def test_additive_noise_has_the_variance_of_the_scheme(scheme, memory, gain):
    h, sigma, steps = 0.2, 0.7, 60
    _, after = paths(lambda x, z: scheme(lambda x: -x, x, h, sigma * np.sqrt(h) * z), steps)
    variance = (sigma * gain(h)) ** 2 * h / (1 - memory(h) ** 2)  # x' = memory x + gain noise
    assert abs(float((after**2).mean()) - variance) < 6 * variance * np.sqrt(2 / after.size)


@pytest.mark.parametrize(("k", "share"), [(0.0, 1e-15), (0.01, 2e-11), (0.1, 1.5e-7), (0.25, 6e-6), (0.5, 9e-5)])
def test_exponential_euler_is_the_exact_step_to_a_share_of_the_fourth_power(float64, k, share):
    x, steady = jnp.array(-50.0), jnp.array(-20.0)
    exact = exponential_step(x, steady, jnp.array(4 * k), 0.25) - x
    found = exponential_euler(x, 4 * k * (steady - x), jnp.array(4 * k), 0.25) - x
    np.testing.assert_allclose(found, exact, rtol=share, atol=1e-13)


@pytest.mark.parametrize("k", [2.0, 10.0, 1e3, 1e6])
def test_exponential_euler_is_stable_at_any_rate(k):
    multiplier = 1 + exponential_euler(jnp.array(0.0), jnp.array(-k), jnp.array(k), 1.0)  # of a distance of 1
    assert abs(float(multiplier)) <= 1
