"""Streaming statistics against numpy, however time is divided."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from habenula.kernels import Histogram, Maximum, Mean, Variance

EDGES = (-1.5, -0.5, 0.0, 2.0)

STATISTICS = {
    "mean": (Mean(), lambda x: x.mean(0)),
    "variance": (Variance(), lambda x: x.var(0)),
    "maximum": (Maximum(), lambda x: x.max(0)),
    "histogram": (
        Histogram(EDGES),
        lambda x: np.stack([((x >= low) & (x < high)).sum(0) for low, high in pairwise(EDGES)]),
    ),
}


@pytest.fixture(scope="module")
def x():
    """Steps, neurons, lanes."""
    return np.random.default_rng(1).normal(0.3, 1, (97, 2, 5)).astype(np.float32)


def accumulate(statistic, x):
    update = lambda acc, row: (statistic.update(acc, row), None)
    return lax.scan(update, statistic.init(jax.ShapeDtypeStruct(x.shape[1:], x.dtype)), jnp.asarray(x))[0]


@pytest.mark.parametrize("name", STATISTICS)
def test_against_numpy(x, name):
    statistic, exact = STATISTICS[name]
    np.testing.assert_allclose(statistic.result(accumulate(statistic, x)), exact(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", STATISTICS)
def test_merging_is_associative_and_equal_to_one_pass(x, name):
    statistic, exact = STATISTICS[name]
    a, b, c = (accumulate(statistic, part) for part in np.split(x, [10, 41]))
    left = statistic.result(statistic.merge(statistic.merge(a, b), c))
    right = statistic.result(statistic.merge(a, statistic.merge(b, c)))
    np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(left, exact(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", STATISTICS)
def test_no_steps_are_neutral(x, name):
    statistic, _ = STATISTICS[name]
    acc, none = accumulate(statistic, x), statistic.init(jnp.asarray(x[0]))
    for merged in (statistic.merge(acc, none), statistic.merge(none, acc)):
        assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(merged), jax.tree.leaves(acc), strict=True))
    assert not np.isnan(statistic.result(statistic.merge(none, none))).any()


def test_single_precision_survives_a_million_steps():
    """A fluctuation of 1 on an offset of 1000, in blocks as the time loop makes them."""
    x = np.random.default_rng(2).normal(1000, 1, (2**15, 32)).astype(np.float32)
    for statistic, exact in (STATISTICS["mean"], STATISTICS["variance"]):
        block = lambda total, rows, statistic=statistic: (statistic.merge(total, accumulate(statistic, rows)), None)
        total = lax.scan(block, statistic.init(jax.ShapeDtypeStruct((), x.dtype)), jnp.asarray(x))[0]
        # Rounding of sqrt(2^15) random merges at half a unit in the last place of 1000 n, or of the spread.
        expected = exact(x.astype(np.float64).ravel())
        assert abs(float(statistic.result(total)) / expected - 1) < 6 * 2**7.5 * 2.0**-24


def test_derivatives(x):
    for name in ("mean", "variance"):
        statistic, _ = STATISTICS[name]
        slope = jax.grad(lambda x, statistic=statistic: statistic.result(accumulate(statistic, x)).sum())(
            jnp.asarray(x)
        )
        expected = np.ones_like(x) / len(x) if name == "mean" else 2 * (x - x.mean(0)) / len(x)
        np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("edges", [(1.0,), (0.0, 0.0), (1.0, 0.0)])
def test_bad_edges(edges):
    with pytest.raises(ValueError, match="ascending"):
        Histogram(edges)
