"""Posteriors sampled by NumPyro and blackjax from `log_density`, against importance sampling and the approximation of a fit.

A dose is hidden from the fit, and everyone's clearance, from two days after an infusion. NumPyro runs in chains side by
side: r-hat (Gelman & Rubin 1992) and the effective sample size are what it says of them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from people import strained

from habenula.circuit.inference.free_parameters import with_values
from habenula.circuit.inference.likelihood import log_density
from habenula.circuit.inference.observations import Gaussian, Observed, simulate_observations
from habenula.circuit.inference.recover import recover
from habenula.circuit.model.interventions import Ketamine

pytestmark = pytest.mark.slow

HOURS = (6 / 24, 0.5, 1.0, 2.0)
CHAINS, WARM, DRAWS = 4, 100, 250


@pytest.fixture(scope="module")
def density():
    """The density, and where and how wide the fit says that it is: dose, and clearances of three people."""
    people, planned = (
        strained(3),
        [Observed("block", HOURS, Gaussian(0.01)), Observed("vta_output", HOURS, Gaussian(0.1))],
    )
    data = simulate_observations(people, (Ketamine(0.8, 0.0),), planned, seed=1)
    typical, arm = with_values(people, (Ketamine(0.4, 0.0),), {"clearance": 1.0})
    over, prior = {"mg_per_kg": "shared", "clearance": "subject"}, {"clearance": (1.0, 0.05)}
    found = recover(typical, arm, data, over, prior=prior, everyday="known", starts=2, steps=12)
    assert found.status == "converged", found.reason
    mode = {"mg_per_kg": found.free[0, :1], "clearance": found.free[:, 1]}
    sd = {"mg_per_kg": np.sqrt(found.covariance[0, :1, 0]), "clearance": np.sqrt(found.covariance[:, 1, 1])}
    return log_density(found.question), mode, sd


@pytest.fixture(scope="module")
def exact(density):
    """Means and standard deviations, with their Monte-Carlo errors, by importance sampling (draws from a wide Student)."""
    function, mode, sd = density[0].function, *(ravel_pytree(each)[0] for each in density[1:])
    _, unravel = ravel_pytree(density[0].initial)
    generator, degrees, count = np.random.default_rng(0), 5, 4000
    z = generator.normal(size=(count, len(mode))) * np.sqrt(degrees / generator.chisquare(degrees, size=(count, 1)))
    at = np.asarray(mode) + 1.2 * np.asarray(sd) * z
    many = jax.jit(jax.vmap(lambda row: function(unravel(row))))
    log = np.concatenate([np.asarray(many(jnp.asarray(part, jnp.float32)), float) for part in np.split(at, 8)])
    log += (degrees + len(mode)) / 2 * np.log1p(np.square(z).sum(axis=1) / degrees)
    weight = np.exp(log - log.max()) / np.exp(log - log.max()).sum()
    mean = weight @ at
    spread = np.sqrt(weight @ np.square(at - mean))
    size = 1 / np.square(weight).sum()
    print(f"importance sampling: effective size {size:.0f} of {count}; mean {mean}, sd {spread}")
    assert size > 400
    return mean, spread, size


def agrees(name, draws, density, exact):
    """Draws (chain, draw, number) have the posterior's mean and spread within their Monte-Carlo error."""
    diagnostics = pytest.importorskip("numpyro.diagnostics")
    size, r_hat = diagnostics.effective_sample_size(draws), diagnostics.split_gelman_rubin(draws)
    mean, sd, true_mean, true_sd, true_size = draws.mean(axis=(0, 1)), draws.std(axis=(0, 1)), *exact
    mode, fisher = (np.asarray(ravel_pytree(each)[0]) for each in density[1:])
    print(f"{name}: mean {mean}, sd {sd}, r-hat {r_hat}, effective size {size}; the fit: {mode} with {fisher}")
    assert (r_hat < 1.05).all()
    assert (size > 100).all()
    assert (abs(mean - true_mean) < 5 * true_sd * np.sqrt(1 / size + 1 / true_size)).all()
    # A standard deviation from n draws errs by sd / sqrt(2 n), in tails like these by somewhat more.
    assert (abs(sd / true_sd - 1) < 5 * np.sqrt(1 / size + 1 / true_size)).all()
    # The fit's normal approximation, which a posterior that is skewed does not meet.
    assert (abs(mean - mode) < 0.5 * fisher).all()
    assert (abs(sd / fisher - 1) < 0.25).all()


def starts(density):
    """Places for chains to begin at, drawn from the fit's approximation."""
    generator = np.random.default_rng(1)
    drawn = lambda mode, sd: jnp.asarray(mode + sd * generator.normal(size=(CHAINS, len(mode))), jnp.float32)
    return {name: drawn(density[1][name], density[2][name]) for name in density[0].initial}


def in_a_row(draws):
    """Positions (chain, draw, ...) as (chain, draw, number), in the order of `ravel_pytree`."""
    return np.concatenate([np.asarray(draws[name]).reshape(CHAINS, DRAWS, -1) for name in sorted(draws)], axis=-1)


def test_numpyro_samples_the_posterior(density, exact):
    infer = pytest.importorskip("numpyro.infer")
    kernel = infer.NUTS(potential_fn=lambda position: -density[0].function(position), max_tree_depth=4)
    options = {"num_warmup": WARM, "num_samples": DRAWS, "num_chains": CHAINS, "chain_method": "vectorized"}
    chains = infer.MCMC(kernel, progress_bar=False, **options)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # NumPyro's own arithmetic
        chains.run(jax.random.key(0), init_params=starts(density))
        draws = in_a_row(chains.get_samples(group_by_chain=True))
    agrees("NumPyro", draws, density, exact)


def test_blackjax_samples_the_posterior(density, exact):
    """Each chain warms up by itself, with a full metric: dose and clearances hang together."""
    blackjax = pytest.importorskip("blackjax")
    function = density[0].function
    warm = blackjax.window_adaptation(blackjax.nuts, function, is_mass_matrix_diagonal=False, max_num_doublings=4)

    def chain(key, at):
        first, second = jax.random.split(key)
        (state, tuned), _ = warm.run(first, at, WARM)
        step = blackjax.nuts(function, **tuned).step
        onward = lambda state, key: (lambda state, _: (state, state.position))(*step(key, state))
        return jax.lax.scan(onward, state, jax.random.split(second, DRAWS))[1]

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # blackjax's own arithmetic
        draws = in_a_row(jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(2), CHAINS), starts(density)))
    agrees("blackjax", draws, density, exact)
