"""Marginal likelihood of choices: each subject's preferences integrated out by adaptive Gauss-Hermite quadrature.

    log p(choices | population) = log of the integral over preferences of p(choices | preferences) N(preferences; mean, cov)

Each subject has its own grid, centred and scaled by the mean and covariance of its posterior from the round before (Naylor &
Smith 1982). With the nodes fixed, everything is smooth and differentiable, forward and reverse, in all parameters of the
population. The same nodes give posterior means, covariances, predictions, and the score and the information of the
population (`e_step`).
"""

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..behaviour import effort
from ..behaviour.choices import Choices
from ..behaviour.effort import EffortConstants

SUBJECTS_PER_BATCH = 2  # subjects evaluated together: their nodes and trials stay in the cache
PLACEMENT_ROUNDS = 3  # updates of the nodes in each E-step
MAX_INNER_LEVELS = 6  # beyond so many levels between the lowest and the highest, levels are perceived as they are


class ChoiceDesign(eqx.Module):
    """Offers and choices as arrays for the fit: the design matrix of the logit, and the responses.

    Attributes:
        slopes: of the logit in each preference, with levels perceived as they are.
        inner: change of these slopes when an inner level (neither lowest nor highest) is perceived 1 greater.
        trial: 0 for the first.
        accepted: 1 or 0.
        known: 1 where a choice was made, 0 elsewhere.
    """

    slopes: Float[Array, "*subject preference trial"]
    inner: Float[Array, "*subject preference level trial"]
    trial: Float[Array, "*subject trial"]
    accepted: Float[Array, "*subject trial"]
    known: Float[Array, "*subject trial"]


class ChoicePopulation(eqx.Module):
    """Distribution of preferences over people, and the parameters that all people share.

    Attributes:
        mean: population mean of each preference.
        cholesky: lower Cholesky factor of the population covariance.
        early: preferences by which everyone judges the first trial.
        level_shift: levels. How much greater each inner level is perceived than it is.
        naive: weight of `early` at the first trial.
        fade: log of the number of trials over which this weight falls to 1/e.
        lapse: logit of the lapse rate.
    """

    mean: Float[Array, " preference"]
    cholesky: Float[Array, "preference preference"]
    early: Float[Array, " preference"]
    level_shift: Float[Array, " level"]
    naive: Float[Array, ""]
    fade: Float[Array, ""]
    lapse: Float[Array, ""]


class QuadratureNodes(eqx.Module):
    """Position of each subject's quadrature nodes: `centre` and the lower Cholesky factor of their covariance."""

    centre: Float[Array, "*subject preference"]
    cholesky: Float[Array, "*subject preference preference"]


class EStep(eqx.Module):
    """Posteriors of all subjects under a population, and the population's score and information.

    Score and information are in scaled parameters: those of the population in units of its spread, then the shared ones
    (`shared_parameters`). A change m of the mean stands for `cholesky m`; a change A of the Cholesky factor (lower
    triangular, row by row) for `cholesky A`.

    Attributes:
        nodes: the quadrature nodes that were used.
        mean: posterior mean of each subject.
        covariance: posterior covariance of each subject.
        log_marginal: log marginal likelihood of each subject's choices.
        score: gradient of the log marginal likelihood of all choices.
        complete_information: expected information if preferences were observed.
        missing_information: information lost because they are not (Louis 1982).
    """

    nodes: QuadratureNodes
    mean: Float[Array, "subject preference"]
    covariance: Float[Array, "subject preference preference"]
    log_marginal: Float[Array, " subject"]
    score: Float[Array, " parameter"]
    complete_information: Float[Array, "parameter parameter"]
    missing_information: Float[Array, "parameter parameter"]


def shared_parameters(population: ChoicePopulation) -> Float[Array, " shared"]:
    """The shared parameters as one vector: `early`, `level_shift`, `naive`, `fade`, `lapse`."""
    scalars = jnp.stack([population.naive, population.fade, population.lapse])
    return jnp.concatenate([population.early, population.level_shift, scalars])


def with_shared_parameters(population: ChoicePopulation, values: Float[Array, " shared"]) -> ChoicePopulation:
    """The population with its shared parameters replaced by `values`."""
    early, shift = values[: len(population.mean)], values[len(population.mean) : -3]
    where = lambda q: (q.early, q.level_shift, q.naive, q.fade, q.lapse)
    return eqx.tree_at(where, population, (early, shift, *values[-3:]))


def logit_slopes(population: ChoicePopulation, design: ChoiceDesign) -> Float[Array, "preference trial"]:
    """Slopes of one subject's logit in each preference, at perceived levels."""
    return design.slopes + (population.level_shift[None, :, None] * design.inner).sum(axis=1)


def novelty_by_trial(population: ChoicePopulation, design: ChoiceDesign) -> Float[Array, "*subject trial"]:
    """Novelty of the task in each trial: 1 at the first, then decaying."""
    return effort.task_novelty(design.trial, jnp.exp(population.fade))


def choice_logits(
    preferences: Float[Array, " preference"], population: ChoicePopulation, design: ChoiceDesign
) -> Float[Array, " trial"]:
    """Logit of acceptance of one subject's offers under its `preferences`; `design` has no subject axis."""
    slopes = logit_slopes(population, design)
    return effort.acceptance_logit(
        preferences @ slopes, population.early @ slopes, novelty_by_trial(population, design), population.naive
    )


def choice_log_likelihood(
    preferences: Float[Array, " preference"], population: ChoicePopulation, design: ChoiceDesign
) -> Float[Array, ""]:
    """Log-likelihood of one subject's choices under its `preferences`."""
    logit = choice_logits(preferences, population, design)
    log_probability = effort.log_choice_probability(design.accepted, logit, jax.nn.sigmoid(population.lapse))
    return (design.known * log_probability).sum()


def log_marginal_likelihood(
    population: ChoicePopulation, design: ChoiceDesign, nodes: QuadratureNodes, nodes_per_axis: int = 5
) -> Float[Array, " subject"]:
    """Log marginal likelihood of each subject's choices, preferences integrated out."""

    def subject_log_likelihood(nodes: QuadratureNodes, design: ChoiceDesign) -> Float[Array, ""]:
        return jax.nn.logsumexp(_log_weights(population, design, nodes, nodes_per_axis)[1])

    return jax.vmap(subject_log_likelihood)(nodes, design)


def e_step(
    population: ChoicePopulation, design: ChoiceDesign, nodes: QuadratureNodes, nodes_per_axis: int = 5
) -> EStep:
    """Posteriors of all subjects, and the population's score and information; nodes are updated first.

    The score is the posterior mean of the complete-data score. The observed information is the complete one less the
    posterior covariance of that score (Louis 1982, equations 3.1 and 3.2). Choices enter with their expected information.
    """
    subject_e_step = functools.partial(_subject_e_step, population, nodes_per_axis=nodes_per_axis)
    subject = jax.lax.map(lambda at: subject_e_step(*at), (design, nodes), batch_size=SUBJECTS_PER_BATCH)
    score, shared_information, missing = (
        part.sum(axis=0) for part in (subject.score, subject.shared_information, subject.missing_information)
    )
    size = len(population.mean)
    row, column = np.tril_indices(size)
    # Of a normal distribution in units of its own spread: 1 for a mean or a covariance, 2 for a variance, per subject.
    normal = np.concatenate([np.ones(size), 1.0 + (row == column)]) * len(subject.mean)
    complete = jax.scipy.linalg.block_diag(jnp.diag(jnp.asarray(normal, score.dtype)), shared_information)
    return EStep(subject.nodes, subject.mean, subject.covariance, subject.log_marginal, score, complete, missing)


class _SubjectEStep(NamedTuple):
    """E-step of one subject: its posterior, and its terms in the sums over subjects."""

    nodes: QuadratureNodes
    mean: Float[Array, " preference"]
    covariance: Float[Array, "preference preference"]
    log_marginal: Float[Array, ""]
    score: Float[Array, " parameter"]
    shared_information: Float[Array, "shared shared"]
    missing_information: Float[Array, "parameter parameter"]


def _subject_e_step(
    population: ChoicePopulation, design: ChoiceDesign, nodes: QuadratureNodes, nodes_per_axis: int
) -> _SubjectEStep:
    nodes = _adapt_nodes(population, design, nodes, nodes_per_axis)
    points, log_weights = _log_weights(population, design, nodes, nodes_per_axis)
    mean, covariance = _posterior_moments(points, log_weights)
    posterior = jax.nn.softmax(log_weights)

    z = jax.scipy.linalg.solve_triangular(population.cholesky, (points - population.mean[None]).T, lower=True).T
    row, column = np.tril_indices(len(population.mean))
    cholesky_score = z[:, row] * z[:, column] - jnp.asarray(row == column, z.dtype)[None]

    def accept(values: Float[Array, " shared"]) -> Float[Array, "node trial"]:
        return _acceptance_by_node(points, with_shared_parameters(population, values), design)

    shared = shared_parameters(population)
    p, gradient = accept(shared), jax.jacfwd(accept)(shared)  # (node, trial), (node, trial, shared)
    precision = design.known[None] / (p * (1 - p))
    shared_score = ((design.accepted[None] - p) * precision)[..., None] * gradient
    complete_score = jnp.concatenate([z, cholesky_score, shared_score.sum(axis=1)], axis=1)  # (node, parameter)
    score = (posterior[:, None] * complete_score).sum(axis=0)
    deviation = complete_score - score[None]
    missing = (posterior[:, None] * deviation).T @ deviation
    flat = gradient.reshape(-1, gradient.shape[-1])
    information = ((posterior[:, None] * precision).reshape(-1)[:, None] * flat).T @ flat
    return _SubjectEStep(nodes, mean, covariance, jax.nn.logsumexp(log_weights), score, information, missing)


def _adapt_nodes(
    population: ChoicePopulation, design: ChoiceDesign, nodes: QuadratureNodes, nodes_per_axis: int
) -> QuadratureNodes:
    """Move one subject's nodes towards its posterior, half of the way in each round: full moves oscillate if it is skewed."""

    def update(_, nodes: QuadratureNodes) -> QuadratureNodes:
        points, log_weights = _log_weights(population, design, nodes, nodes_per_axis)
        mean, covariance = _posterior_moments(points, log_weights)
        return QuadratureNodes((nodes.centre + mean) / 2, (nodes.cholesky + _jittered_cholesky(covariance)) / 2)

    return jax.lax.fori_loop(0, PLACEMENT_ROUNDS, update, nodes)


def _posterior_moments(
    points: Float[Array, "node preference"], log_weights: Float[Array, " node"]
) -> tuple[Float[Array, " preference"], Float[Array, "preference preference"]]:
    """Mean and covariance of one subject's posterior."""
    posterior = jax.nn.softmax(log_weights)
    mean = (posterior[:, None] * points).sum(axis=0)
    deviation = points - mean[None]
    return mean, (posterior[:, None, None] * deviation[:, :, None] * deviation[:, None, :]).sum(axis=0)


def _jittered_cholesky(covariance: Float[Array, "preference preference"]) -> Float[Array, "preference preference"]:
    """Cholesky factor of a covariance that rounding or a spread of zero may have made singular."""
    size = len(covariance)
    return jnp.linalg.cholesky(covariance + (1e-5 * jnp.trace(covariance) / size + 1e-8) * jnp.eye(size))


def _acceptance_by_node(
    points: Float[Array, "node preference"], population: ChoicePopulation, design: ChoiceDesign
) -> Float[Array, "node trial"]:
    """P(accept) of one subject's offers with the preferences of each node."""
    logit = jax.vmap(lambda preferences: choice_logits(preferences, population, design))(points)
    return effort.acceptance_probability(logit, jax.nn.sigmoid(population.lapse))


def predict_acceptance(
    population: ChoicePopulation, design: ChoiceDesign, nodes: QuadratureNodes, nodes_per_axis: int = 5
) -> Float[Array, "subject trial"]:
    """Posterior predictive P(accept) of each offer."""

    def predict(nodes: QuadratureNodes, design: ChoiceDesign) -> Float[Array, " trial"]:
        points, log_weights = _log_weights(population, design, nodes, nodes_per_axis)
        return (jax.nn.softmax(log_weights)[:, None] * _acceptance_by_node(points, population, design)).sum(axis=0)

    return jax.vmap(predict)(nodes, design)


def _log_weights(
    population: ChoicePopulation, design: ChoiceDesign, nodes: QuadratureNodes, nodes_per_axis: int
) -> tuple[Float[Array, "node preference"], Float[Array, " node"]]:
    """Nodes of one subject, and the log of the contribution of each to the integral."""
    z, log_rule = (
        jnp.asarray(values, nodes.centre.dtype) for values in _quadrature_grid(nodes_per_axis, nodes.centre.shape[-1])
    )
    points = nodes.centre[None] + (nodes.cholesky[None] * z[:, None, :]).sum(axis=-1)
    scaled = jax.scipy.linalg.solve_triangular(population.cholesky, (points - population.mean[None]).T, lower=True)
    log_prior = -0.5 * jnp.square(scaled).sum(axis=0) - _half_log_determinant(population.cholesky)
    log_proposal = -0.5 * jnp.square(z).sum(axis=-1) - _half_log_determinant(nodes.cholesky)
    log_likelihood = jax.vmap(lambda preferences: choice_log_likelihood(preferences, population, design))(points)
    return points, log_likelihood + log_prior - log_proposal + log_rule


def _half_log_determinant(cholesky: Float[Array, "preference preference"]) -> Float[Array, ""]:
    return jnp.log(jnp.diagonal(cholesky)).sum()


@functools.cache
def _quadrature_grid(nodes_per_axis: int, preferences: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of the product Gauss-Hermite rule for a standard normal, (node, preference), and their log weights."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes_per_axis)
    z = np.stack(np.meshgrid(*[points] * preferences, indexing="ij"), axis=-1).reshape(-1, preferences)
    products = np.stack(np.meshgrid(*[weights / weights.sum()] * preferences, indexing="ij"), axis=-1)
    return z, np.log(products.reshape(-1, preferences)).sum(axis=-1)


def inner_levels(values: np.ndarray) -> np.ndarray:
    """Levels between the lowest and the highest of `values`; none where there are more than `MAX_INNER_LEVELS`."""
    inner = np.unique(values)[1:-1]
    return inner if len(inner) <= MAX_INNER_LEVELS else inner[:0]


def make_choice_design(preferences: tuple[str, ...], choices: Choices, p: EffortConstants) -> ChoiceDesign:
    """Design of a fit of the named `preferences` to `choices`."""
    slopes = {
        "bias": np.ones_like(choices.effort),
        "reward": choices.reward - float(p.reference_reward),
        "effort": float(p.reference_effort) - choices.effort,
    }
    inner = []
    for name, sign in (("reward", 1.0), ("effort", -1.0)):
        values = getattr(choices, name)
        for level in inner_levels(values[choices.known]) if name in preferences else ():
            inner.append([sign * (values == level) * (field == name) for field in preferences])
    by_level = np.array(inner, float).reshape(-1, len(preferences), *choices.effort.shape).transpose(2, 1, 0, 3)
    as_float = functools.partial(jnp.asarray, dtype=jnp.result_type(float))
    return ChoiceDesign(
        slopes=as_float(np.stack([slopes[name] for name in preferences], axis=1)),
        inner=as_float(by_level),
        trial=as_float(np.broadcast_to(np.arange(choices.effort.shape[1]), choices.effort.shape)),
        accepted=as_float(choices.accepted),
        known=as_float(choices.known),
    )
