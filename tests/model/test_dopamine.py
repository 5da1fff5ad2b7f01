"""Downstream of the habenula: two outputs of the VTA, uptake, autoreceptors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habenula.circuit.model import dopamine as da


@settings(deadline=None, max_examples=50)
@given(number=st.floats(0.01, 1.0), occupancy=st.floats(0.0, 0.95))
def test_steady_dopamine_balances_release_and_uptake(number, occupancy):
    p = da.dopamine_constants()
    number, occupancy = jnp.asarray(number, jnp.float32), jnp.asarray(occupancy, jnp.float32)
    concentration, rate = da.steady_state_dopamine(number, occupancy, p)
    released = p.release * number * rate
    np.testing.assert_allclose(released, da.dopamine_uptake(concentration, occupancy, p), rtol=2e-3)
    assert concentration > 0


def test_the_fast_clock_settles_where_the_slow_clock_starts():
    p = da.dopamine_constants()
    output = jnp.array([0.5, 2.0, 4.0])
    nothing = jnp.zeros(3)
    begin = da.resting_dopamine_state(output, nothing, p)
    state = begin
    advance = jax.jit(lambda state: da.step_dopamine(state, output, nothing, nothing, p, 0.25)[0])
    for _ in range(400):
        state = advance(state)
    for name in ("rmtg", "rmtg_average", "dopamine"):
        np.testing.assert_allclose(getattr(state, name), getattr(begin, name), rtol=1e-3)


def test_number_follows_the_average_and_rate_the_departure():
    p = da.dopamine_constants()
    quiet, loud = jnp.asarray(15.0), jnp.asarray(25.0)
    assert da.active_fraction(quiet, p) > da.active_fraction(loud, p)
    level = jnp.asarray(0.02)
    assert da.firing_rate(level, jnp.asarray(0.0), p) > da.firing_rate(level, jnp.asarray(5.0), p)
    assert da.firing_rate(level, jnp.asarray(1e3), p) < 0.01  # silenced, not negative
    assert da.firing_rate(level, jnp.asarray(1e3), p) >= 0


def test_blocking_uptake_raises_dopamine_and_autoreceptors_hold_it_back():
    p = da.dopamine_constants()
    number = jnp.asarray(0.5)
    rise = lambda p: float(
        da.steady_state_dopamine(number, jnp.asarray(0.7), p)[0]
        / da.steady_state_dopamine(number, jnp.asarray(0.0), p)[0]
    )
    without = da.Dopamine(**(vars(p) | {"autoreceptor": jnp.asarray(0.0)}))
    assert 1.2 < rise(p) < 0.8 * rise(without)
    assert float(da.steady_state_dopamine(number, jnp.asarray(0.7), p)[1]) < float(
        da.steady_state_dopamine(number, jnp.asarray(0.0), p)[1]
    )


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_gradient_of_steady_dopamine(float64, mode):
    p = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), da.dopamine_constants())
    f = lambda x: da.steady_state_dopamine(x[0], x[1], p)[0] * 1e3
    x, direction = jnp.array([0.6, 0.3]), jnp.array([0.3, -0.7])
    exact = jax.jvp(f, (x,), (direction,))[1] if mode == "forward" else jax.grad(f)(x) @ direction
    numeric = (f(x + 1e-6 * direction) - f(x - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(exact, numeric, rtol=1e-7)
