"""A small matrix times lanes: the ordinary product in every respect, and arithmetic where a loop is hoisted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.kernels import Plan, has_hoisted_call, integrate, matmul
from habenula.kernels.xla_cpu.hoist import hoisted, is_hoistable, lower_matmuls_to_loops
from habenula.kernels.xla_cpu.matmul import matmul_by_columns

LANES = 16
GENERATOR = np.random.default_rng(3)


def plain(matrix, x):
    return jnp.einsum("oi,i...->o...", matrix, x, precision="highest")


def numbers(*shape, dtype=np.float32):
    return jnp.asarray(GENERATOR.normal(size=shape).astype(dtype))


@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (8, 4), (4, 6), (32, 8), (5, 7)], ids=str)
@pytest.mark.parametrize("lanes", [(), (LANES,), (2, LANES)], ids=str)
def test_both_ways_are_the_product(shape, lanes):
    matrix, x = numbers(*shape), numbers(shape[1], *lanes)
    expected = np.einsum("oi,i...->o...", np.asarray(matrix, np.float64), np.asarray(x, np.float64))
    scale = np.einsum("oi,i...->o...", np.abs(matrix), np.abs(x))
    for found in (
        matmul(matrix, x),
        jax.jit(matmul)(matrix, x),
        matmul_by_columns(matrix, x),
        hoisted(matmul)(matrix, x),
    ):
        assert found.shape == expected.shape
        assert np.all(np.abs(found - expected) <= 4e-7 * scale)


@pytest.mark.parametrize("derive", [jax.grad, jax.hessian, jax.jacrev, jax.jacfwd], ids=lambda derive: derive.__name__)
@pytest.mark.parametrize("by", [0, 1], ids=["matrix", "lanes"])
def test_derivatives_are_those_of_a_product(float64, derive, by):
    at = (numbers(3, 4, dtype=np.float64), numbers(4, 2, LANES, dtype=np.float64))
    loss = lambda function: lambda *at: jnp.sum(jnp.sin(function(*at)) ** 2)
    found, expected = (derive(loss(f), argnums=by)(*at) for f in (matmul, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_batches_of_either():
    matrices, xs = numbers(5, 3, 4), numbers(4, 5, LANES)
    found = jax.vmap(matmul, in_axes=(0, 1))(matrices, xs)
    np.testing.assert_allclose(found, jax.vmap(plain, in_axes=(0, 1))(matrices, xs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shapes", [((3, 4), (5, 2)), ((3,), (3,)), ((3, 4), ())], ids=str)
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="cannot be multiplied"):
        matmul(*(jnp.ones(shape) for shape in shapes))


@pytest.mark.slow
def test_a_step_with_a_product_is_hoisted_and_its_gradient_too():
    matrix = 0.4 * numbers(4, 4)

    def final(matrix, state, plan):
        advance = lambda x, matrix, own, inputs, z, j: (jnp.tanh(matmul(matrix, x)) + 0.1 * z, None)
        subjects = jnp.arange(2 * LANES, dtype=jnp.uint32)
        found = integrate(advance, state, steps=8, subjects=subjects, shared=matrix, channels=1, plan=plan)
        return jnp.sum(found.state**2)

    state, plans = numbers(4, 2 * LANES), [Plan("tiled", tile=LANES, block=4), Plan("scan", block=4)]
    by_state = lambda plan: jax.jit(jax.value_and_grad(lambda x: final(matrix, x, plan)))
    tiled, scanned = (by_state(plan)(state) for plan in plans)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), tiled, scanned)
    forward = jax.jit(lambda x: final(matrix, x, plans[0])).lower(state).compile().as_text()
    assert has_hoisted_call(forward)
    backward = by_state(plans[0]).lower(state).compile().as_text()
    assert len([line for line in backward.splitlines() if has_hoisted_call(line)]) == 2, "the run, and its derivative"
    # By the matrix itself, a derivative sums over lanes: that is for the library, and everything else stays right.
    by_matrix = lambda plan: jax.grad(lambda matrix: final(matrix, state, plan))(matrix)
    np.testing.assert_allclose(by_matrix(plans[0]), by_matrix(plans[1]), rtol=2e-5, atol=1e-5)


def test_it_is_foreign_to_a_call_until_it_is_a_loop():
    traced = jax.make_jaxpr(matmul)(jnp.ones((4, 4)), jnp.ones((4, LANES))).jaxpr
    assert not is_hoistable(traced)
    assert is_hoistable(lower_matmuls_to_loops(traced))
