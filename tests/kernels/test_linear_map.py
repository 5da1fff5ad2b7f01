"""A linear map told both ways: right in both, and traced in one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.kernels.autodiff.linear_map import apply_linear_map

X, DX = jnp.asarray([1.0, -2.0, 3.0]), jnp.asarray([0.5, 1.0, -1.0])


@pytest.fixture
def cubes():
    """x^3 as its derivative is told, and which ways were traced."""
    traced = []

    def forth(x, moves):
        traced.append("forth")
        return {"cube": 3 * x**2 * moves[0]}

    def back(x, cotangents):
        traced.append("back")
        return (3 * x**2 * cotangents["cube"],)

    @jax.custom_jvp
    def cube(x):
        return {"cube": x**3}

    @cube.defjvp
    def _(primals, tangents):
        (x,), out = primals, cube(*primals)
        return out, apply_linear_map(forth, back, x, tangents, out)

    return cube, traced


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gradient_traces_the_way_back_only(cubes, compiled):
    cube, traced = cubes
    gradient = jax.grad(lambda x: cube(x)["cube"].sum())
    np.testing.assert_allclose((jax.jit(gradient) if compiled else gradient)(X), 3 * X**2)
    assert traced == ["back"]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_tangent_traces_the_way_forth_only(cubes, compiled):
    cube, traced = cubes
    push = lambda dx: jax.jvp(cube, (X,), (dx,))[1]["cube"]
    np.testing.assert_allclose((jax.jit(push) if compiled else push)(DX), 3 * X**2 * DX)
    assert set(traced) == {"forth"}


def test_its_transpose_and_a_checkpoint(cubes):
    cube, _ = cubes
    value, pull = jax.vjp(jax.checkpoint(cube), X)
    np.testing.assert_allclose(pull(value)[0], 3 * X**5)
    _, push = jax.linearize(cube, X)
    np.testing.assert_allclose(jax.linear_transpose(push, X)({"cube": DX})[0], push(DX)["cube"])


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: jax.jacfwd(f)(X),
        lambda f: jax.jvp(lambda x: jax.jvp(f, (x,), (DX,))[1], (X,), (DX,)),
    ],
    ids=["all directions at once", "second derivative"],
)
def test_what_it_cannot_do_is_said_with_the_way_out(cubes, transform):
    with pytest.raises(NotImplementedError, match='choose backend="scan"'):
        transform(lambda x: cubes[0](x)["cube"].sum())
