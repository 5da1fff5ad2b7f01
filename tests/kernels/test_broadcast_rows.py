"""One number a lane for all rows: a broadcast in every respect, whose sums in reverse are compiled apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.kernels import broadcast_rows

ROWS, LANES = 4, 16
WEIGHTS = jnp.arange(1.0, ROWS * LANES + 1).reshape(ROWS, LANES)


def plain(x, rows):
    return jnp.broadcast_to(x[None], (rows, *x.shape))


def loss(function, x):
    return jnp.sum(jnp.sin(function(x, ROWS)) * WEIGHTS.astype(x.dtype))


@pytest.fixture
def x():
    return jnp.linspace(0.1, 1.5, LANES)


@pytest.mark.parametrize("derive", [jax.grad, jax.hessian, jax.jacrev, jax.jacfwd], ids=lambda derive: derive.__name__)
def test_derivatives_are_those_of_a_broadcast(float64, x, derive):
    x = x.astype(jnp.float64)
    found, expected = (derive(lambda x, f=f: loss(f, x))(x) for f in (broadcast_rows, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jax.jit(derive(lambda x: loss(broadcast_rows, x)))(x), expected, rtol=1e-12, atol=1e-12)


def test_batches(x):
    xs = jnp.stack([x, 2 * x, -x], axis=1)
    both = [
        jax.vmap(lambda x, f=f: (f(x, ROWS), *jax.value_and_grad(lambda x: loss(f, x))(x)), in_axes=1)(xs)
        for f in (broadcast_rows, plain)
    ]
    for found, expected in zip(*both, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_directions_in_batches(x):
    push = lambda f: jax.vmap(lambda dx: jax.jvp(lambda x: f(x, ROWS), (x,), (dx,))[1])(jnp.eye(LANES))
    np.testing.assert_array_equal(push(broadcast_rows), push(plain))


def test_the_sum_is_compiled_apart(x):
    compiled = jax.jit(jax.grad(lambda x: loss(broadcast_rows, x))).lower(x).compile().as_text()
    assert any(" call(" in line and "xla_cpu_small_call" in line for line in compiled.splitlines())
    without = jax.jit(jax.grad(lambda x: loss(plain, x))).lower(x).compile().as_text()
    assert not any(" call(" in line and "xla_cpu_small_call" in line for line in without.splitlines())
