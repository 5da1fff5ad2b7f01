"""The marginal likelihood of choices: each subject's preferences integrated out over the population.

    log p(choices of a subject | population) = log of the integral of p(choices | preferences) N(preferences; mean, covariance)

by Gauss-Hermite quadrature on a grid that lies where the subject's posterior does: its nodes are placed by the posterior's
own mean and covariance, found in the round before (Naylor & Smith 1982). For nodes where they are, everything is smooth,
and differentiable forwards and in reverse in every number of the population. The same nodes carry posterior means,
covariances, predictions, and the population's score and information (`e_step`).
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..behaviour import effort
from ..behaviour.choices import Choices
from ..behaviour.effort import EffortConstants

SUBJECTS_PER_BATCH = 2  # subjects looked at side by side: their nodes and trials stay in the cache
PLACEMENT_ROUNDS = 3  # of nodes before each look
MAX_INNER_LEVELS = 6  # levels between the lowest and the highest beyond which each feels like what it is


class ChoiceDesign(eqx.Module):
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


class ChoicePopulation(eqx.Module):
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


class QuadratureNodes(eqx.Module):
    """Where each subject's nodes lie: around `centre`, spread by `root`, a lower Cholesky factor."""

    centre: Float[Array, "*subject preference"]
    root: Float[Array, "*subject preference preference"]


class EStep(eqx.Module):
    """What all choices say of a population, at one population, and of every subject under it.

    Numbers are the population's own in units of its spread, and then what people share (`shared_parameters`): a change m of
    the mean means `root m`, a change A of the root, lower triangular and row by row, `root A`.

    Attributes:
        places: where the nodes lay.
        mean: of each subject's posterior.
        covariance: of the same.
        log_marginal: of each subject's choices.
        score: slope of the log marginal likelihood of all choices.
        complete: information that there would be, were every subject's preferences known.
        missing: how much of it is not there, as they are not (Louis 1982).
    """

    places: QuadratureNodes
    mean: Float[Array, "subject preference"]
    covariance: Float[Array, "subject preference preference"]
    log_marginal: Float[Array, " subject"]
    score: Float[Array, " number"]
    complete: Float[Array, "number number"]
    missing: Float[Array, "number number"]


def shared_parameters(population: ChoicePopulation) -> Float[Array, " shared"]:
    """What people share, in a row: `early`, `felt`, `naive`, `fade`, `lapse`."""
    singles = jnp.stack([population.naive, population.fade, population.lapse])
    return jnp.concatenate([population.early, population.felt, singles])


def with_shared_parameters(population: ChoicePopulation, numbers: Float[Array, " shared"]) -> ChoicePopulation:
    """The population with other `shared` numbers."""
    early, felt = numbers[: len(population.mean)], numbers[len(population.mean) : -3]
    where = lambda q: (q.early, q.felt, q.naive, q.fade, q.lapse)
    return eqx.tree_at(where, population, (early, felt, *numbers[-3:]))


def logit_slopes(population: ChoicePopulation, offers: ChoiceDesign) -> Float[Array, "preference trial"]:
    """Of the logit of one subject's offers in each preference, at levels as they are felt."""
    return offers.slopes + (population.felt[None, :, None] * offers.inner).sum(axis=1)


def novelty_by_trial(population: ChoicePopulation, offers: ChoiceDesign) -> Float[Array, "*subject trial"]:
    """How new the task is: 1 at the first trial, and falling."""
    return effort.task_novelty(offers.trial, jnp.exp(population.fade))


def choice_logits(
    own: Float[Array, " preference"], population: ChoicePopulation, offers: ChoiceDesign
) -> Float[Array, " trial"]:
    """Logit of acceptance of one subject's offers (no axis of subjects) under its `own` preferences."""
    along = logit_slopes(population, offers)
    return effort.acceptance_logit(
        own @ along, population.early @ along, novelty_by_trial(population, offers), population.naive
    )


def choice_log_likelihood(
    own: Float[Array, " preference"], population: ChoicePopulation, offers: ChoiceDesign
) -> Float[Array, ""]:
    """Log-probability of one subject's choices under its `own` preferences."""
    logit = choice_logits(own, population, offers)
    each = effort.log_choice_probability(offers.accepted, logit, jax.nn.sigmoid(population.lapse))
    return (offers.known * each).sum()


def log_marginal_likelihood(
    population: ChoicePopulation, offers: ChoiceDesign, places: QuadratureNodes, rule: int = 5
) -> Float[Array, " subject"]:
    """Log marginal likelihood of each subject's choices; `rule` nodes along each preference."""
    return jax.nn.logsumexp(_log_weights(population, offers, places, rule)[1], axis=-1)


def e_step(population: ChoicePopulation, offers: ChoiceDesign, places: QuadratureNodes, rule: int = 5) -> EStep:
    """Posteriors of all subjects, and the population's score and information, from the same nodes, which are placed first.

    The score is the posterior mean of the score that there would be were preferences known, and the information the mean
    of that one's less its covariance (Louis 1982, equations 3.1 and 3.2). Choices enter it with the information that is
    expected of them.
    """
    of = functools.partial(_subject_e_step, population, rule=rule)
    places, mean, covariance, log_marginal, *sums = jax.lax.map(
        lambda each: of(*each), (offers, places), batch_size=SUBJECTS_PER_BATCH
    )
    score, shared_information, missing = (each.sum(axis=0) for each in sums)
    size = len(population.mean)
    row, column = np.tril_indices(size)
    own = jnp.asarray(np.concatenate([np.ones(size), 1.0 + (row == column)]) * len(mean), score.dtype)
    complete = jax.scipy.linalg.block_diag(jnp.diag(own), shared_information)
    return EStep(places, mean, covariance, log_marginal, score, complete, missing)


def _subject_e_step(population: ChoicePopulation, offers: ChoiceDesign, places: QuadratureNodes, rule: int):
    """Of one subject: what `e_step` gives of it, and its part in the sums: score, information of what is shared, missing."""

    def nearer(_, places):
        nodes, masses = _subject_log_weights(population, offers, places, rule)
        mean, covariance = _posterior_moments(nodes, masses)
        # Halfway: skewed posteriors would throw their nodes to and fro.
        return QuadratureNodes((places.centre + mean) / 2, (places.root + _jittered_cholesky(covariance)) / 2)

    places = jax.lax.fori_loop(0, PLACEMENT_ROUNDS, nearer, places)
    nodes, masses = _subject_log_weights(population, offers, places, rule)
    mean, covariance = _posterior_moments(nodes, masses)
    share = jax.nn.softmax(masses)

    away = jax.scipy.linalg.solve_triangular(population.root, (nodes - population.mean[None]).T, lower=True).T
    row, column = np.tril_indices(len(population.mean))
    spread = away[:, row] * away[:, column] - jnp.asarray(row == column, away.dtype)[None]

    accept = lambda to: _acceptance_by_node(nodes, with_shared_parameters(population, to), offers)
    now = shared_parameters(population)
    p, rise = accept(now), jax.jacfwd(accept)(now)  # (node, trial), (node, trial, shared)
    weight = offers.known[None] / (p * (1 - p))
    surprise = ((offers.accepted[None] - p) * weight)[..., None] * rise
    each = jnp.concatenate([away, spread, surprise.sum(axis=1)], axis=1)  # (node, number)
    score = (share[:, None] * each).sum(axis=0)
    off = each - score[None]
    missing = (share[:, None] * off).T @ off
    flat = rise.reshape(-1, rise.shape[-1])
    information = ((share[:, None] * weight).reshape(-1)[:, None] * flat).T @ flat
    return places, mean, covariance, jax.nn.logsumexp(masses), score, information, missing


def _posterior_moments(nodes: Float[Array, "node preference"], masses: Float[Array, " node"]):
    """Mean and covariance of one subject's posterior."""
    share = jax.nn.softmax(masses)
    mean = (share[:, None] * nodes).sum(axis=0)
    apart = nodes - mean[None]
    return mean, (share[:, None, None] * apart[:, :, None] * apart[:, None, :]).sum(axis=0)


def _jittered_cholesky(covariance: Float[Array, "preference preference"]) -> Float[Array, "preference preference"]:
    """Of a covariance that rounding or a spread of nothing may have left singular."""
    size = len(covariance)
    return jnp.linalg.cholesky(covariance + (1e-5 * jnp.trace(covariance) / size + 1e-8) * jnp.eye(size))


def _acceptance_by_node(nodes, population: ChoicePopulation, offers: ChoiceDesign) -> Float[Array, "node trial"]:
    """P(accept) of each offer to one subject, were its preferences those of each node."""
    logit = jax.vmap(lambda own: choice_logits(own, population, offers))(nodes)
    return effort.acceptance_probability(logit, jax.nn.sigmoid(population.lapse))


def predict_acceptance(
    population: ChoicePopulation, offers: ChoiceDesign, places: QuadratureNodes, rule: int = 5
) -> Float[Array, "subject trial"]:
    """P(accept) of each offer, a mean over the subject's posterior."""

    def of(places, offers):
        nodes, masses = _subject_log_weights(population, offers, places, rule)
        return (jax.nn.softmax(masses)[:, None] * _acceptance_by_node(nodes, population, offers)).sum(axis=0)

    return jax.vmap(of)(places, offers)


def _log_weights(population: ChoicePopulation, offers: ChoiceDesign, places: QuadratureNodes, rule: int):
    """Nodes (subject, node, preference), and the log of what each contributes to the integral (subject, node)."""
    return jax.vmap(lambda places, offers: _subject_log_weights(population, offers, places, rule))(places, offers)


def _subject_log_weights(population: ChoicePopulation, offers: ChoiceDesign, places: QuadratureNodes, rule: int):
    """The same for one subject."""
    z, weight = (jnp.asarray(each, places.centre.dtype) for each in _quadrature_grid(rule, places.centre.shape[-1]))
    nodes = places.centre[None] + (places.root[None] * z[:, None, :]).sum(axis=-1)
    away = jax.scipy.linalg.solve_triangular(population.root, (nodes - population.mean[None]).T, lower=True)
    prior = -0.5 * jnp.square(away).sum(axis=0) - _half_log_determinant(population.root)
    density = -0.5 * jnp.square(z).sum(axis=-1) - _half_log_determinant(
        places.root
    )  # of the normal that the nodes stand for
    inside = jax.vmap(lambda own: choice_log_likelihood(own, population, offers))(nodes)
    return nodes, inside + prior - density + weight


def _half_log_determinant(root: Float[Array, "preference preference"]) -> Float[Array, ""]:
    return jnp.log(jnp.diagonal(root)).sum()


@functools.cache
def _quadrature_grid(rule: int, preferences: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of a product rule for a standard normal (node, preference), and the logs of their weights."""
    at, weight = np.polynomial.hermite_e.hermegauss(rule)
    z = np.stack(np.meshgrid(*[at] * preferences, indexing="ij"), axis=-1).reshape(-1, preferences)
    weights = np.stack(np.meshgrid(*[weight / weight.sum()] * preferences, indexing="ij"), axis=-1)
    return z, np.log(weights.reshape(-1, preferences)).sum(axis=-1)


def inner_levels(values: np.ndarray) -> np.ndarray:
    """The levels between the lowest and the highest of `values`; none where there are more than `MAX_INNER_LEVELS`."""
    inner = np.unique(values)[1:-1]
    return inner if len(inner) <= MAX_INNER_LEVELS else inner[:0]


def make_choice_design(fields: tuple[str, ...], choices: Choices, p: EffortConstants) -> ChoiceDesign:
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
    return ChoiceDesign(
        slopes=made(np.stack([slopes[name] for name in fields], axis=1)),
        inner=made(bent),
        trial=made(np.broadcast_to(np.arange(choices.effort.shape[1]), choices.effort.shape)),
        accepted=made(choices.accepted),
        known=made(choices.known),
    )
