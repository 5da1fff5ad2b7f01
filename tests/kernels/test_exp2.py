"""Powers of two, and exponentials by them: how far from the true ones; their polynomial, derivatives, and bad numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.kernels import exp2, exp_ratio
from habenula.kernels.xla_cpu.exp2 import EXP2_COEFFICIENTS, MAX_EXPONENT


@pytest.mark.parametrize("transform", [lambda function: function, jax.jit], ids=["plain", "compiled"])
def test_error_over_the_whole_range(transform):
    """Compiled too: compilers rearrange sums, and with them what rounds."""
    y = np.linspace(-MAX_EXPONENT, MAX_EXPONENT, 1_000_001).astype(np.float32)
    error = np.asarray(transform(exp2)(jnp.asarray(y)), float) / np.exp2(y.astype(float)) - 1
    assert (np.abs(error) < 2.5e-7).all()


@pytest.mark.parametrize("slope", [0.5, 3.0, -16.0])
def test_error_of_exponentials(slope):
    """Their argument is rounded once more, which counts where it is large."""
    x = np.linspace(-80.0, 80.0, 100_001)
    distance = (x * slope).astype(np.float32)
    error = (
        np.asarray(jax.jit(exp_ratio)(jnp.asarray(distance), jnp.float32(slope)), float) / np.exp(distance / slope) - 1
    )
    assert (np.abs(error) < 2.5e-7 + 1.3e-7 * np.abs(x)).all()


def test_no_polynomial_of_its_degree_is_much_better():
    """Least squares in relative error, weighted until the largest error is smallest (Lawson 1961)."""
    f = np.cos(np.pi * (np.arange(800) + 0.5) / 800) / 2
    terms = f[:, None] ** np.arange(1, 6) / np.exp2(f)[:, None]
    rest, weight, error = 1 - 1 / np.exp2(f), np.ones_like(f), np.ones_like(f)
    for _ in range(300):
        root = np.sqrt(weight)
        best = np.linalg.lstsq(terms * root[:, None], rest * root, rcond=None)[0]
        error = np.abs(terms @ best - rest)
        weight *= error / error.max() + 1e-3
    assert EXP2_COEFFICIENTS[0] == 1
    assert np.abs(terms @ EXP2_COEFFICIENTS[1:] - rest).max() < 1.02 * error.max() < 1e-7


def test_bad_numbers_stay_bad():
    assert np.isnan(np.asarray(exp2(jnp.array([np.nan, 0.0])))).tolist() == [True, False]
    assert exp2(jnp.array([0.0, 1.0, -1.0, 100.0])).tolist() == [1.0, 2.0, 0.5, 2.0**100]


def test_double_precision_is_the_library(float64):
    y = jnp.linspace(-700.0, 700.0, 1001)
    np.testing.assert_array_equal(exp2(y), jnp.exp2(y))


@pytest.mark.parametrize(
    "function", [exp2, lambda x: exp_ratio(x, -2.5), lambda x: exp_ratio(jnp.ones_like(x), 1 + x * x)], ids=range(3)
)
def test_derivatives(float64, function):
    x = jnp.linspace(-9.0, 9.0, 37)
    numeric = (function(x + 1e-5) - function(x - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jvp(function, (x,), (jnp.ones_like(x),))[1], numeric, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(jax.vmap(jax.grad(function))(x), numeric, rtol=1e-7, atol=1e-9)
    single = jax.vmap(jax.grad(function))(x.astype(jnp.float32))
    np.testing.assert_allclose(single, numeric, rtol=3e-6, atol=1e-6)
