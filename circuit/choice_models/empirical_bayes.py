"""Empirical Bayes: the population that maximises the penalised marginal likelihood of choices, by Newton's method.

Each round evaluates all choices at the current population (`marginal_likelihood.e_step`) and moves the population by

    (I_c - I_m)^-1 s        s: score; I_c: complete-data information; I_m: missing information

which is Newton's step with the score and the information of the observed choices (Louis 1982). Shares of missing information
are clipped at `MAX_MISSING_SHARE`, so that the step always leads uphill. With all shares set to 0, a round would be one of
gradient EM (Lange 1995).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...kernels import entry_point
from ..behaviour import effort
from . import marginal_likelihood
from .marginal_likelihood import ChoiceDesign, ChoicePopulation, EStep, QuadratureNodes

WEAK_PRIOR_SD = 10.0  # logit; s.d. of the prior around 0 of raw estimates: it bounds them and does little else
SCORING_STEPS = 40  # steps of Fisher scoring for raw estimates
MAX_SCORING_STEP = 2.0  # logit; longest step of Fisher scoring
MAX_MISSING_SHARE = 0.97  # largest share of missing information in a Newton step
MAX_MOVE = 0.5  # largest move of a parameter in a round, in s.d. of the population, or of the prior if it is shared
LAPSE_PRIOR = (-4.6, 1.5)  # logit: mean and s.d. of the prior on the lapse rate, 0.05 to 17 %
EARLY_PRIOR, NAIVE_PRIOR = (0.0, 3.0), (0.0, 1.0)  # mean and s.d. of the priors on early preferences and their weight
FADE_PRIOR = (2.3, 1.0)  # log trials: mean and s.d. of the prior on the decay of that weight, 1.4 to 70 trials
INNER_LEVEL_PRIOR = (0.0, 0.5)  # levels: mean and s.d. of the prior on how much greater an inner level is perceived


class SubjectModes(NamedTuple):
    """Posterior mode of each subject's preferences, and the information there.

    Attributes:
        value: the modes.
        information: expected information, prior included.
    """

    value: Float[Array, "subject preference"]
    information: Float[Array, "subject preference preference"]


def initialise_population(design: ChoiceDesign) -> tuple[ChoicePopulation, QuadratureNodes]:
    """Start of the search: moments of estimates under the weak prior, and nodes around each subject's posterior mode."""
    subjects, size, dtype = len(design.accepted), design.slopes.shape[1], design.slopes.dtype
    zeros, inner = np.zeros(size), np.zeros(design.inner.shape[2])
    values = (zeros, WEAK_PRIOR_SD * np.eye(size), zeros, inner, 0.0, FADE_PRIOR[0], LAPSE_PRIOR[0])
    weak = ChoicePopulation(*(jnp.asarray(value, dtype) for value in values))
    modes = np.asarray(_posterior_modes(jnp.zeros((subjects, size), dtype), weak, design).value, float)
    sd = np.diag(np.maximum(modes.std(axis=0), 0.1))
    moments = (jnp.asarray(modes.mean(axis=0), dtype), jnp.asarray(sd, dtype))
    population = eqx.tree_at(lambda q: (q.mean, q.cholesky), weak, moments)
    centre, information = _posterior_modes(jnp.asarray(modes, dtype), population, design)
    cholesky = np.linalg.cholesky(np.linalg.inv(np.asarray(information, float)))
    return population, QuadratureNodes(centre, jnp.asarray(cholesky, dtype))


def weak_prior_estimates(population: ChoicePopulation, design: ChoiceDesign) -> tuple[np.ndarray, np.ndarray]:
    """Raw estimates, under the weak prior and the shared parameters, and standard errors; both (subject, preference)."""
    size, dtype = len(population.mean), population.mean.dtype
    prior = (jnp.zeros(size, dtype), jnp.asarray(WEAK_PRIOR_SD * np.eye(size), dtype))
    weak = eqx.tree_at(lambda q: (q.mean, q.cholesky), population, prior)
    modes = _posterior_modes(jnp.zeros((len(design.accepted), size), dtype), weak, design)
    variances = np.diagonal(np.linalg.inv(np.asarray(modes.information, float)), axis1=1, axis2=2)
    return np.asarray(modes.value, float), np.sqrt(variances)


@entry_point
def penalised_e_step(
    population: ChoicePopulation, design: ChoiceDesign, nodes: QuadratureNodes, nodes_per_axis: int
) -> EStep:
    """`marginal_likelihood.e_step` with the prior of shared parameters in the score and the complete information."""
    step = marginal_likelihood.e_step(population, design, nodes, nodes_per_axis)
    shared = marginal_likelihood.shared_parameters(population)
    mean, sd = jnp.asarray(shared_prior(population), shared.dtype).T
    prior_score, prior_information = jnp.zeros_like(step.score), jnp.zeros_like(step.score)
    prior_score = prior_score.at[-len(shared) :].set((shared - mean) / sd**2)
    prior_information = prior_information.at[-len(shared) :].set(sd**-2)
    penalised = (step.score - prior_score, step.complete_information + jnp.diag(prior_information))
    return eqx.tree_at(lambda step: (step.score, step.complete_information), step, penalised)


class NewtonStep(eqx.Module):
    """The last step, and the fraction of Newton's step that is taken: halved after an overshoot."""

    step: Float[Array, " parameter"]
    share: Float[Array, ""]


def initial_newton_step(e_step: EStep) -> NewtonStep:
    """Record of no step yet."""
    return NewtonStep(jnp.zeros_like(e_step.score), jnp.asarray(1.0, e_step.score.dtype))


@entry_point
def take_newton_step(
    population: ChoicePopulation, e_step: EStep, last: NewtonStep
) -> tuple[ChoicePopulation, NewtonStep, Float[Array, ""]]:
    """Take a damped Newton step; also its largest move, in s.d. of the population, or of the prior if shared."""
    directions, missing = _missing_information(e_step)
    step = directions @ ((directions.T @ e_step.score) / (1 - jnp.clip(missing, 0, MAX_MISSING_SHARE)))
    overshot = last.step @ e_step.score < 0  # uphill is back
    share = jnp.where(overshot, last.share / 2, jnp.minimum(1.2 * last.share, 1.0))
    step = share * step
    size, shared = len(population.mean), marginal_likelihood.shared_parameters(population)
    lower = np.tril_indices(size)
    unbounded = jnp.split(step, (size, size + len(lower[0])))
    scale = jnp.asarray(shared_prior(population)[:, 1], shared.dtype)
    longest = jnp.max(jnp.abs(jnp.concatenate([*unbounded[:2], unbounded[2] / scale])))
    mean, entries, shared_step = (part / jnp.maximum(1, longest / MAX_MOVE) for part in unbounded)
    factor = jnp.zeros_like(population.cholesky).at[lower].set(entries)
    factor = factor + jnp.diag(jnp.exp(jnp.diagonal(factor)) - jnp.diagonal(factor))  # keeps every s.d. positive
    before = (population.mean, population.cholesky)
    after = (population.mean + population.cholesky @ mean, population.cholesky @ factor)
    sd = jnp.sqrt(jnp.square(population.cholesky).sum(axis=1))
    moves = [jnp.abs(new - old).reshape(size, -1) / sd[:, None] for new, old in zip(after, before, strict=True)]
    largest = jnp.max(jnp.concatenate([move.reshape(-1) for move in (*moves, jnp.abs(shared_step) / scale)]))
    moved = marginal_likelihood.with_shared_parameters(population, shared + shared_step)
    return (
        eqx.tree_at(lambda q: (q.mean, q.cholesky), moved, after),
        NewtonStep(jnp.concatenate([mean, entries, shared_step]), share),
        largest,
    )


@entry_point
def predict_choices(
    population: ChoicePopulation, design: ChoiceDesign, e_step: EStep, nodes_per_axis: int
) -> tuple[Float[Array, " subject"], Float[Array, "subject trial"]]:
    """Log-likelihood of each subject's choices at its posterior mean, and posterior predictive P(accept) of each offer."""
    at_mean = jax.vmap(marginal_likelihood.choice_log_likelihood, (0, None, 0))(e_step.mean, population, design)
    return at_mean, marginal_likelihood.predict_acceptance(population, design, e_step.nodes, nodes_per_axis)


def shared_prior(population: ChoicePopulation) -> Float[np.ndarray, "shared 2"]:
    """Mean and s.d. of the normal prior of each shared parameter."""
    return np.array(
        [EARLY_PRIOR] * len(population.mean)
        + [INNER_LEVEL_PRIOR] * len(population.level_shift)
        + [NAIVE_PRIOR, FADE_PRIOR, LAPSE_PRIOR]
    )


def _missing_information(e_step: EStep) -> tuple[Float[Array, "parameter direction"], Float[Array, " direction"]]:
    """Directions in which the complete information is 1, and the share of it that is missing along each."""
    cholesky = jnp.linalg.cholesky(e_step.complete_information)
    half = jax.scipy.linalg.solve_triangular(cholesky, e_step.missing_information, lower=True)
    share, vectors = jnp.linalg.eigh(jax.scipy.linalg.solve_triangular(cholesky, half.T, lower=True))
    return jax.scipy.linalg.solve_triangular(cholesky.T, vectors, lower=False), share


@entry_point
def _posterior_modes(
    start: Float[Array, "subject preference"], population: ChoicePopulation, design: ChoiceDesign
) -> SubjectModes:
    """Posterior mode of each subject's preferences by Fisher scoring."""
    precision = jnp.linalg.inv(population.cholesky @ population.cholesky.T)
    lapse = jax.nn.sigmoid(population.lapse)

    def derivatives(preferences, design: ChoiceDesign):
        """Score and expected information of one subject's log posterior."""
        logit = marginal_likelihood.choice_logits(preferences, population, design)
        novelty = marginal_likelihood.novelty_by_trial(population, design)
        slopes = (1 - population.naive * novelty)[None] * marginal_likelihood.logit_slopes(population, design)
        accept = effort.acceptance_probability(logit, lapse)
        d_accept = (1 - lapse) * jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit)  # dP(accept) / d logit
        residual = design.known * (design.accepted - accept) * d_accept / (accept * (1 - accept))
        weight = design.known * d_accept * d_accept / (accept * (1 - accept))
        score = (slopes * residual[None]).sum(axis=-1) - precision @ (preferences - population.mean)
        information = (slopes[:, None] * slopes[None] * weight[None, None]).sum(axis=-1) + precision
        return score, information

    def scoring_step(_, preferences):
        score, information = jax.vmap(derivatives, 0)(preferences, design)
        move = jnp.linalg.solve(information, score[..., None])[..., 0]
        length = jnp.sqrt(jnp.square(move).sum(axis=-1, keepdims=True))
        return preferences + move / jnp.maximum(1, length / MAX_SCORING_STEP)

    modes = jax.lax.fori_loop(0, SCORING_STEPS, scoring_step, start)
    return SubjectModes(modes, jax.vmap(derivatives, 0)(modes, design)[1])
