"""Lanes over two CPU devices: the same derivatives, progress in order, and a way out where there are too few."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.kernels import Mean, Plan, integrate

LANES = 64


def run(plan, **options):
    """The mean path of noisy lanes, as a function of what is shared and what is their own."""

    def of(shared, own):
        found = integrate(
            lambda state, shared, own, inputs, z, j: (state + 0.1 * (jnp.tanh(shared * state) - own + z[0]), None),
            jnp.zeros(LANES),
            steps=12,
            subjects=jnp.arange(LANES),
            shared=shared,
            per_subject=own,
            channels=1,
            statistics={"mean": (Mean(), lambda state, out: state)},
            plan=plan,
            **options,
        )
        return found.statistics["mean"]

    return of


def squares(plan):
    return lambda *arguments: (run(plan)(*arguments) ** 2).sum()


@functools.cache
def problem():
    """Arguments and their gradient on one device."""
    arguments = (jnp.float32(0.7), jnp.linspace(-1, 1, LANES))
    return arguments, jax.jit(jax.grad(squares(Plan("tiled", tile=16)), (0, 1)))(*arguments)


@pytest.mark.parametrize("backend", ["tiled", "scan"])
def test_gradient_on_two_devices(backend):
    arguments, expected = problem()
    shared, own = jax.jit(jax.grad(squares(Plan(backend, tile=16, devices=2)), (0, 1)))(*arguments)
    np.testing.assert_allclose(shared, expected[0], rtol=1e-5)  # a sum over lanes, in another order
    np.testing.assert_allclose(own, expected[1], rtol=1e-5, atol=1e-7)


def test_forward_derivative_on_two_devices():
    arguments, expected = problem()
    tangents = (jnp.float32(1.0), jnp.ones(LANES))
    _, found = jax.jit(lambda *a: jax.jvp(squares(Plan("tiled", tile=16, devices=2)), arguments, a))(*tangents)
    np.testing.assert_allclose(found, expected[0] + expected[1].sum(), rtol=1e-4)


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (Plan("tiled", tile=16), [(1, 4), (2, 4), (3, 4), (4, 4)]),
        (Plan("tiled", tile=16, devices=2), [(2, 4), (4, 4)]),
        (Plan("scan"), [(1, 1)]),
    ],
)
def test_progress_is_told_while_it_runs(plan, told):
    seen = []
    jax.jit(run(plan, progress=lambda done, total: seen.append((done, total))))(1.0, jnp.zeros(LANES))
    jax.effects_barrier()
    assert seen == told


def test_progress_is_of_the_run_and_not_of_its_derivative():
    seen = []
    loss = lambda own: (
        run(Plan("tiled", tile=16), progress=lambda done, total: seen.append(done))(1.0, own) ** 2
    ).sum()
    jax.jit(jax.grad(loss))(jnp.zeros(LANES))
    jax.effects_barrier()
    assert seen == [1, 2, 3, 4]


def test_too_many_devices():
    with pytest.raises(ValueError, match=r"devices=99, but JAX sees 2.*'jax_num_cpu_devices', 99"):
        run(Plan("tiled", devices=99))(1.0, jnp.zeros(LANES))
