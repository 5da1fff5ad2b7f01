"""The marginal likelihood of choices: each subject's preferences integrated out over the population.

    log p(choices of a subject | population) = log of the integral of p(choices | preferences) N(preferences; mean, covariance)

by Gauss-Hermite quadrature on a grid that lies where the subject's posterior does: its nodes are placed by the posterior's
own mean and covariance, found in the round before (Naylor & Smith 1982). For nodes where they are, everything is smooth,
and differentiable forwards and in reverse in every number of the population. The same nodes carry posterior means,
covariances, and predictions.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import effort
from .effort import Effort


class Offers(eqx.Module):
    """Choices in the form that a fit computes with.

    Attributes:
        slopes: of the logit in each preference.
        fresh: 1 at the first trial, and falling as the task becomes familiar.
        accepted: 1 or 0.
        known: 1 where a choice was made, 0 elsewhere.
    """

    slopes: Float[Array, "*subject preference trial"]
    fresh: Float[Array, "*subject trial"]
    accepted: Float[Array, "*subject trial"]
    known: Float[Array, "*subject trial"]


class Population(eqx.Module):
    """How preferences are spread over people, and what people share.

    Attributes:
        mean: of each preference.
        root: lower Cholesky factor of their covariance.
        early: the preferences by which everyone judges at the first trial, before the effort has been felt.
        naive: share by which one's own do not yet count there.
        lapse: logit of the share of choices made without regard to the offer.
    """

    mean: Float[Array, " preference"]
    root: Float[Array, "preference preference"]
    early: Float[Array, " preference"]
    naive: Float[Array, ""]
    lapse: Float[Array, ""]


class Places(eqx.Module):
    """Where each subject's nodes lie: around `centre`, spread by `root`, a lower Cholesky factor."""

    centre: Float[Array, "*subject preference"]
    root: Float[Array, "*subject preference preference"]


def logits(own: Float[Array, " preference"], population: Population, offers: Offers) -> Float[Array, " trial"]:
    """Logit of acceptance of one subject's offers (no axis of subjects) under its `own` preferences."""
    weighed, expected = own @ offers.slopes, population.early @ offers.slopes
    return effort.at_first(weighed, expected, offers.fresh, population.naive)


def log_likelihood(own: Float[Array, " preference"], population: Population, offers: Offers) -> Float[Array, ""]:
    """Log-probability of one subject's choices under its `own` preferences."""
    logit = logits(own, population, offers)
    each = effort.log_choice(offers.accepted, logit, jax.nn.sigmoid(population.lapse))
    return (offers.known * each).sum()


def log_marginal(population: Population, offers: Offers, places: Places, rule: int = 5) -> Float[Array, " subject"]:
    """Log marginal likelihood of each subject's choices; `rule` nodes along each preference."""
    return jax.nn.logsumexp(_log_masses(population, offers, places, rule)[1], axis=-1)


def posterior(population: Population, offers: Offers, places: Places, rule: int = 5):
    """Each subject's posterior: mean (subject, preference), covariance, and log marginal likelihood (subject,)."""
    nodes, masses = _log_masses(population, offers, places, rule)
    share = jax.nn.softmax(masses, axis=-1)
    mean = (share[..., None] * nodes).sum(axis=1)
    apart = nodes - mean[:, None]
    covariance = (share[..., None, None] * apart[..., :, None] * apart[..., None, :]).sum(axis=1)
    return mean, covariance, jax.nn.logsumexp(masses, axis=-1)


def predicted(population: Population, offers: Offers, places: Places, rule: int = 5) -> Float[Array, "subject trial"]:
    """P(accept) of each offer, a mean over the subject's posterior."""

    def of(places, offers):
        nodes, masses = _subject(population, offers, places, rule)
        logit = jax.vmap(lambda own: logits(own, population, offers))(nodes)
        each = effort.acceptance(logit, jax.nn.sigmoid(population.lapse))
        return (jax.nn.softmax(masses)[:, None] * each).sum(axis=0)

    return jax.vmap(of)(places, offers)


def _log_masses(population: Population, offers: Offers, places: Places, rule: int):
    """Nodes (subject, node, preference), and the log of what each contributes to the integral (subject, node)."""
    return jax.vmap(lambda places, offers: _subject(population, offers, places, rule))(places, offers)


def _subject(population: Population, offers: Offers, places: Places, rule: int):
    """The same for one subject."""
    z, weight = (jnp.asarray(each, places.centre.dtype) for each in _grid(rule, places.centre.shape[-1]))
    nodes = places.centre[None] + (places.root[None] * z[:, None, :]).sum(axis=-1)
    away = jax.scipy.linalg.solve_triangular(population.root, (nodes - population.mean[None]).T, lower=True)
    prior = -0.5 * jnp.square(away).sum(axis=0) - _log_volume(population.root)
    density = -0.5 * jnp.square(z).sum(axis=-1) - _log_volume(places.root)  # of the normal that the nodes stand for
    inside = jax.vmap(lambda own: log_likelihood(own, population, offers))(nodes)
    return nodes, inside + prior - density + weight


def _log_volume(root: Float[Array, "preference preference"]) -> Float[Array, ""]:
    return jnp.log(jnp.diagonal(root)).sum()


@functools.cache
def _grid(rule: int, preferences: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of a product rule for a standard normal (node, preference), and the logs of their weights."""
    at, weight = np.polynomial.hermite_e.hermegauss(rule)
    z = np.stack(np.meshgrid(*[at] * preferences, indexing="ij"), axis=-1).reshape(-1, preferences)
    weights = np.stack(np.meshgrid(*[weight / weight.sum()] * preferences, indexing="ij"), axis=-1)
    return z, np.log(weights.reshape(-1, preferences)).sum(axis=-1)


def offers_of(
    fields: tuple[str, ...], levels: dict[str, np.ndarray], accepted: np.ndarray, known: np.ndarray, p: Effort
) -> Offers:
    """The slopes of the logit in the preferences named by `fields`, at offers with `levels` of effort and reward."""
    slopes = {
        "bias": np.ones_like(accepted),
        "reward": levels["reward"] - float(p.reference_reward),
        "effort": float(p.reference_effort) - levels["effort"],
    }
    trial = jnp.arange(accepted.shape[1]).astype(jnp.result_type(float))
    fresh = jnp.broadcast_to(effort.freshness(trial, p), accepted.shape)
    made = lambda value: jnp.asarray(value, jnp.result_type(float))
    return Offers(made(np.stack([slopes[name] for name in fields], axis=1)), fresh, made(accepted), made(known))
