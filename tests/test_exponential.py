"""The fast exponential: how far it is from the true one, its polynomial, its derivative, and its edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.kernels import exponential, logistic
from habenula.kernels.exponential import LARGEST, POLYNOMIAL


@pytest.mark.parametrize("transform", [lambda function: function, jax.jit], ids=["plain", "compiled"])
def test_error_over_the_whole_range(transform):
    """Compiled too: compilers rearrange sums, and with them what rounds."""
    x = np.linspace(-LARGEST, LARGEST, 1_000_001).astype(np.float32)
    error = np.asarray(transform(exponential)(jnp.asarray(x)), float) / np.exp(x.astype(float)) - 1
    assert (np.abs(error) < 2.5e-7 + 7e-8 * np.abs(x)).all()


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
    assert POLYNOMIAL[0] == 1
    assert np.abs(terms @ POLYNOMIAL[1:] - rest).max() < 1.02 * error.max() < 1e-7


def test_edges():
    x = jnp.array([0.0, 1e3, -1e3, np.inf, -np.inf, np.nan])
    assert np.asarray(exponential(x))[0] == 1
    assert np.isfinite(np.asarray(exponential(x))[:5]).all()  # held at the largest and the smallest
    assert np.isnan(np.asarray(exponential(x))[5])  # bad numbers stay bad
    assert logistic(jnp.array([-1e3, 0.0, 1e3])).tolist() == [pytest.approx(0, abs=1e-37), 0.5, 1.0]


def test_double_precision_is_the_library(float64):
    x = jnp.linspace(-700.0, 700.0, 1001)
    np.testing.assert_array_equal(exponential(x), jnp.exp(x))


@pytest.mark.parametrize("function", [exponential, logistic])
def test_derivatives(float64, function):
    x = jnp.linspace(-9.0, 9.0, 37)
    numeric = (function(x + 1e-5) - function(x - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jvp(function, (x,), (jnp.ones_like(x),))[1], numeric, rtol=1e-7)
    np.testing.assert_allclose(jax.vmap(jax.grad(function))(x), numeric, rtol=1e-7)
    single = jax.vmap(jax.grad(function))(x.astype(jnp.float32))
    np.testing.assert_allclose(single, numeric, rtol=3e-6)
