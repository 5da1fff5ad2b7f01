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
from .choices import Choices
from .effort import Effort

MOST_INNER = 6  # levels between the lowest and the highest beyond which each feels like what it is


class Offers(eqx.Module):
    """Choices in the form that a fit computes with.

    Attributes:
        slopes: of the logit in each preference, where levels feel like what they are.
        inner: change of those slopes as an inner level, neither the lowest nor the highest, feels greater by 1.
        trial: 0 at the first one.
        accepted: 1 or 0.
        known: 1 where a choice was made, 0 elsewhere.
    """

    slopes: Float[Array, "*subject preference trial"]
    inner: Float[Array, "*subject preference level trial"]
    trial: Float[Array, "*subject trial"]
    accepted: Float[Array, "*subject trial"]
    known: Float[Array, "*subject trial"]


class Population(eqx.Module):
    """How preferences are spread over people, and what people share.

    Attributes:
        mean: of each preference.
        root: lower Cholesky factor of their covariance.
        early: the preferences by which everyone judges at the first trial, before the effort has been felt.
        felt: levels; by how much each inner level feels greater than it is.
        naive: share by which one's own preferences do not yet count at the first trial.
        fade: log of the trials over which that wears off to 1/e.
        lapse: logit of the share of choices made without regard to the offer.
    """

    mean: Float[Array, " preference"]
    root: Float[Array, "preference preference"]
    early: Float[Array, " preference"]
    felt: Float[Array, " level"]
    naive: Float[Array, ""]
    fade: Float[Array, ""]
    lapse: Float[Array, ""]


class Places(eqx.Module):
    """Where each subject's nodes lie: around `centre`, spread by `root`, a lower Cholesky factor."""

    centre: Float[Array, "*subject preference"]
    root: Float[Array, "*subject preference preference"]


def slopes(population: Population, offers: Offers) -> Float[Array, "preference trial"]:
    """Of the logit of one subject's offers in each preference, at levels as they are felt."""
    return offers.slopes + (population.felt[None, :, None] * offers.inner).sum(axis=1)


def freshness(population: Population, offers: Offers) -> Float[Array, "*subject trial"]:
    """How new the task is: 1 at the first trial, and falling."""
    return effort.freshness(offers.trial, jnp.exp(population.fade))


def logits(own: Float[Array, " preference"], population: Population, offers: Offers) -> Float[Array, " trial"]:
    """Logit of acceptance of one subject's offers (no axis of subjects) under its `own` preferences."""
    along = slopes(population, offers)
    return effort.at_first(own @ along, population.early @ along, freshness(population, offers), population.naive)


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


def inner_levels(values: np.ndarray) -> np.ndarray:
    """The levels between the lowest and the highest of `values`; none where there are more than `MOST_INNER`."""
    inner = np.unique(values)[1:-1]
    return inner if len(inner) <= MOST_INNER else inner[:0]


def offers_of(fields: tuple[str, ...], choices: Choices, p: Effort) -> Offers:
    """Choices as a fit of the preferences named by `fields` takes them."""
    slopes = {
        "bias": np.ones_like(choices.effort),
        "reward": choices.reward - float(p.reference_reward),
        "effort": float(p.reference_effort) - choices.effort,
    }
    inner = []
    for name, sign in (("reward", 1.0), ("effort", -1.0)):
        values = getattr(choices, name)
        for level in inner_levels(values[choices.known]) if name in fields else ():
            inner.append([sign * (values == level) * (field == name) for field in fields])
    bent = np.array(inner, float).reshape(-1, len(fields), *choices.effort.shape).transpose(2, 1, 0, 3)
    made = lambda value: jnp.asarray(value, jnp.result_type(float))
    return Offers(
        slopes=made(np.stack([slopes[name] for name in fields], axis=1)),
        inner=made(bent),
        trial=made(np.broadcast_to(np.arange(choices.effort.shape[1]), choices.effort.shape)),
        accepted=made(choices.accepted),
        known=made(choices.known),
    )
