"""Noise models against scipy, and data that mean nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from habenula.circuit.inference.observations import (
    Binomial,
    Gaussian,
    Observed,
    Ordinal,
    Poisson,
    align_observations,
    record_schedule,
)

CUTS = np.array([0.2, 0.5, 0.9])


def ordinal_shares(expected):
    below = np.concatenate([[0.0], stats.logistic.cdf(CUTS, expected, 0.1), [1.0]])
    return np.diff(below)


MODELS = {
    "gaussian": (Gaussian(0.3), lambda value, expected: stats.norm.logpdf(value, expected, 0.3), 1.3),
    "poisson": (Poisson(2.0), lambda value, expected: stats.poisson.logpmf(value, 2.0 * expected), 1.4),
    "bernoulli": (Binomial(), lambda value, expected: stats.bernoulli.logpmf(value, expected), 0.3),
    "binomial": (Binomial(8), lambda value, expected: stats.binom.logpmf(value, 8, expected), 0.3),
    "ordinal": (Ordinal(CUTS, 0.1), lambda value, expected: np.log(ordinal_shares(expected)[int(value)]), 0.4),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("float64")
def test_the_likelihood_is_that_of_scipy(name):
    _, of_scipy, expected = MODELS[name]
    noise = {"gaussian": Gaussian(0.3), "poisson": Poisson(2.0), "bernoulli": Binomial(), "binomial": Binomial(8)}.get(
        name, Ordinal(CUTS, 0.1)
    )
    for value in (0.0, 1.0) if name in ("bernoulli", "gaussian") else (0.0, 1.0, 2.0, 3.0):
        ours = noise.log_likelihood(jnp.full((1, 1), value), jnp.full((1, 1), expected))
        np.testing.assert_allclose(ours, of_scipy(value, expected), rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_draws_have_the_slope_of_mean_zero_and_the_variance_of_the_information(name):
    """Both are what the Fisher information means: the score has mean 0, and its variance is the information."""
    noise, _, expected = MODELS[name]
    value = noise.drawn(np.full((200, 100), expected), np.random.default_rng(0))
    at = jnp.full(value.shape, expected, jnp.float32)
    number = jnp.asarray(value, jnp.float32)
    score = np.asarray(jax.grad(lambda of: noise.log_likelihood(number, of).sum())(at), float).ravel()
    information = float(noise.information(at)[0, 0])
    count = score.size
    assert abs(score.mean()) < 5 * np.sqrt(information / count)
    squares = np.square(score)
    assert abs(squares.mean() - information) < 5 * squares.std() / np.sqrt(count)


def test_records_lie_on_the_hours_that_the_days_have_in_common():
    assert record_schedule([Observed("mood", (7, 14), Gaussian(1.0)), Observed("drive", 28, Gaussian(1.0))]) == (
        28 * 24,
        7 * 24,
    )
    assert record_schedule([Observed("mood", (1 + 4 / 24, 2), Gaussian(1.0))]) == (48, 4)


VALUE = np.ones((2, 2))


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        ((), "at least one Observed"),
        (Observed("vta", (1, 2), Gaussian(1.0), VALUE), "cannot observe 'vta'"),
        (Observed("mood", (0, 2), Gaussian(1.0), VALUE), r"day=\(0.0, 2.0\) must be days above 0"),
        (Observed("mood", (1, 1.01), Gaussian(1.0), VALUE), "whole hours"),
        (Observed("mood", (1, 1), Gaussian(1.0), VALUE), "a day twice"),
        (Observed("mood", (1, 2), Gaussian(0.0), VALUE), "sd=0 must be a positive number"),
        (Observed("mood", (1, 2), Gaussian([1.0, 1.0, 1.0]), VALUE), r"noise sd of shape \(3,\)"),
        (Observed("mood", (1, 2), Poisson(-1.0), VALUE), "exposure=-1"),
        (Observed("mood", (1, 2), Binomial(1.5), VALUE), "trials=1.5 must be whole"),
        (Observed("mood", (1, 2), Ordinal([1.0, 0.5]), VALUE), r"cuts=\[1.0, 0.5\] must rise"),
        (Observed("mood", (1, 2, 3), Gaussian(1.0), VALUE), r"shape \(2, 2\); expected \(2, 3\)"),
        (Observed("mood", (1, 2), Gaussian(1.0), [[1, 1], [1, np.inf]]), "inf of subject 1 on day 2 is impossible"),
        (
            Observed("mood", (1, 2), Poisson(), [[1, 1], [-3, 1]]),
            "-3 of subject 1 on day 1 is impossible under Poisson",
        ),
        (Observed("mood", (1, 2), Poisson(), [[1, 1.5], [3, 1]]), "1.5 of subject 0 on day 2 is impossible"),
        (
            Observed("mood", (1, 2), Binomial(2), [[1, 3], [0, 1]]),
            "3 of subject 0 on day 2 is impossible under Binomial",
        ),
        (
            Observed("mood", (1, 2), Ordinal([0.5]), [[1, 0], [2, 1]]),
            "2 of subject 1 on day 1 is impossible under Ordinal",
        ),
    ],
)
def test_data_that_mean_nothing_are_refused(observed, message):
    with pytest.raises(ValueError, match=message):
        align_observations(observed, subjects=2)
