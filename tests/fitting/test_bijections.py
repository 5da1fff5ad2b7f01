"""Bounds as bijections: there and back, never outside, and with a gradient everywhere."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habenula.circuit.fitting.bijections import Interval, constrain_tree, unconstrain_tree

bound = st.floats(-1e3, 1e3)
intervals = st.one_of(
    st.builds(lambda low, width: Interval(low, low + width), bound, st.floats(1e-2, 1e3)),
    st.builds(lambda low: Interval(low=low), bound),
    st.builds(lambda high: Interval(high=high), bound),
    st.just(Interval()),
)
quick = settings(max_examples=100, deadline=None)


@quick
@given(intervals, st.floats(-8, 8))
def test_there_and_back(interval, free):
    with jax.enable_x64(True):
        free = jnp.asarray(free)
        back = interval.unconstrain(interval.constrain(free))
    scale = max(abs(bound) for bound in (interval.low, interval.high, 1.0) if math.isfinite(bound))
    slope = math.exp(-abs(free)) / 4  # of x by `free`, per unit of width, at least
    width = interval.width if math.isfinite(interval.width) else 1.0
    assert abs(back - free) < 1e-14 * scale / (slope * min(width, 1.0)) + 1e-12


@quick
@given(intervals, st.floats(-1e4, 1e4, width=32))
def test_never_out_of_bounds_and_always_with_a_finite_gradient(interval, free):
    x, slope = jax.value_and_grad(interval.constrain)(jnp.float32(free))
    assert np.float32(interval.low) <= x <= np.float32(interval.high)
    assert np.isfinite(slope)
    assert slope >= 0


@quick
@given(intervals, st.booleans())
def test_a_number_at_its_bound_can_leave_it(interval, above):
    end = interval.high if above else interval.low
    if not math.isfinite(end):
        return
    free = interval.unconstrain(jnp.float32(end), margin=1e-3)
    slope = jax.grad(interval.constrain)(free)
    assert np.isfinite(free)
    assert slope > 1e-4 * (interval.width if math.isfinite(interval.width) else 1.0)


def test_trees_of_one_shape():
    tree = {"dose": jnp.array([0.5, 1.0]), "time": (jnp.array(3.0),)}
    bounds = {"dose": Interval(0.0, 2.0), "time": (Interval(low=0.0),)}
    free = unconstrain_tree(tree, bounds)
    back = constrain_tree(free, bounds)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), back, tree)
    assert free["dose"][1] == 0  # the middle of the interval is the middle of the line


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0)])
def test_an_empty_interval_is_refused(low, high):
    with pytest.raises(ValueError, match=r"must lie below"):
        Interval(low, high)
