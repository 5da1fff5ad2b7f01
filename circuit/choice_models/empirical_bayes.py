"""The search for the population whose people most probably made these choices, with nodes that follow it.

Each round looks at all choices from where the population stands (`marginal.e_step`) and moves it by

    (I_c - I_m)^-1 s        s: score; I_c: information if preferences were known; I_m: what of it is missing

which is Newton's step, by the score and the information of the observed choices (Louis 1982). Along directions in which
nearly all information is missing, it is held to `MAX_MISSING_SHARE`, so that it always leads uphill; were all shares of missing
information taken as 0, each round would be one of expectation and maximisation (Lange 1995).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...kernels import entry_point
from ..behaviour import effort
from . import marginal_likelihood
from .marginal_likelihood import ChoiceDesign, ChoicePopulation, EStep, QuadratureNodes

WEAK_PRIOR_SD = (
    10.0  # logit; s.d. of the prior around 0 under which raw estimates are found: it bounds them, and hardly more
)
SCORING_STEPS = 40  # steps of Fisher scoring for raw estimates
MAX_SCORING_STEP = 2.0  # logit; longest scoring step
MAX_MISSING_SHARE = 0.97  # share of information missing that is believed
MAX_MOVE = 0.5  # move of a number in a round, in units of the spread, or of the prior's for what people share
LAPSE_PRIOR = (-4.6, 1.5)  # logit: mean and s.d. of the prior on the lapse, 0.05 to 17 %
EARLY_PRIOR, NAIVE_PRIOR = (0.0, 3.0), (0.0, 1.0)  # the same of the expectation and of its share
FADE_PRIOR = (2.3, 1.0)  # log of trials: the same of how long it lasts, 1.4 to 70 trials
INNER_LEVEL_PRIOR = (
    0.0,
    0.5,
)  # of the distance between neighbours: the same of by how much an inner level feels greater than it is


def initialise_population(offers: ChoiceDesign) -> tuple[ChoicePopulation, QuadratureNodes]:
    """A population like what subjects show without its help, and nodes around each one's mode under it."""
    subjects, size, dtype = len(offers.accepted), offers.slopes.shape[1], offers.slopes.dtype
    number = lambda value: jnp.asarray(value, dtype)
    zeros, inner = np.zeros(size), np.zeros(offers.inner.shape[2])
    shared = map(number, (zeros, inner, 0.0, FADE_PRIOR[0], LAPSE_PRIOR[0]))
    nobody = ChoicePopulation(number(zeros), number(WEAK_PRIOR_SD * np.eye(size)), *shared)
    own = np.asarray(_posterior_modes(number(np.zeros((subjects, size))), nobody, offers)[0], float)
    spread = np.diag(np.maximum(own.std(axis=0), 0.1))
    population = eqx.tree_at(lambda q: (q.mean, q.root), nobody, (number(own.mean(axis=0)), number(spread)))
    centre, information = _posterior_modes(number(own), population, offers)
    root = np.linalg.cholesky(np.linalg.inv(np.asarray(information, float)))
    return population, QuadratureNodes(centre, number(root))


def weak_prior_estimates(population: ChoicePopulation, offers: ChoiceDesign) -> tuple[np.ndarray, np.ndarray]:
    """Estimates under the weak prior, given what people share, and their standard errors; (subject, preference)."""
    size, dtype = len(population.mean), population.mean.dtype
    nobody = (jnp.zeros(size, dtype), jnp.asarray(WEAK_PRIOR_SD * np.eye(size), dtype))
    weak = eqx.tree_at(lambda q: (q.mean, q.root), population, nobody)
    at, information = _posterior_modes(jnp.zeros((len(offers.accepted), size), dtype), weak, offers)
    variances = np.diagonal(np.linalg.inv(np.asarray(information, float)), axis1=1, axis2=2)
    return np.asarray(at, float), np.sqrt(variances)


@entry_point
def penalised_e_step(population: ChoicePopulation, offers: ChoiceDesign, places: QuadratureNodes, rule: int) -> EStep:
    """See `marginal.e_step`; the prior of what people share is in the score and in the complete information."""
    seen, now = (
        marginal_likelihood.e_step(population, offers, places, rule),
        marginal_likelihood.shared_parameters(population),
    )
    mean, sd = jnp.asarray(shared_prior(population), now.dtype).T
    away, known = jnp.zeros_like(seen.score), jnp.zeros_like(seen.score)
    away = away.at[-len(now) :].set((now - mean) / sd**2)
    known = known.at[-len(now) :].set(sd**-2)
    to = (seen.score - away, seen.complete + jnp.diag(known))
    return eqx.tree_at(lambda seen: (seen.score, seen.complete), seen, to)


class NewtonStep(eqx.Module):
    """The last round's step, and the share of Newton's step that is taken: less after a step too far."""

    step: Float[Array, " number"]
    share: Float[Array, ""]


def initial_newton_step(seen: EStep) -> NewtonStep:
    """Before the first round."""
    return NewtonStep(jnp.zeros_like(seen.score), jnp.asarray(1.0, seen.score.dtype))


@entry_point
def take_newton_step(
    population: ChoicePopulation, seen: EStep, last: NewtonStep
) -> tuple[ChoicePopulation, NewtonStep, Float[Array, ""]]:
    """A round's step, and its length: in standard deviations of people, and of the prior of what they share."""
    along, missing = _missing_information(seen)
    step = along @ ((along.T @ seen.score) / (1 - jnp.clip(missing, 0, MAX_MISSING_SHARE)))
    too_far = last.step @ seen.score < 0  # uphill is back
    share = jnp.where(too_far, last.share / 2, jnp.minimum(1.2 * last.share, 1.0))
    step = share * step
    size, now = len(population.mean), marginal_likelihood.shared_parameters(population)
    lower = np.tril_indices(size)
    unbounded = jnp.split(step, (size, size + len(lower[0])))
    scale = jnp.asarray(shared_prior(population)[:, 1], now.dtype)
    longest = jnp.max(jnp.abs(jnp.concatenate([*unbounded[:2], unbounded[2] / scale])))
    mean, entries, rest = (each / jnp.maximum(1, longest / MAX_MOVE) for each in unbounded)
    turn = jnp.zeros_like(population.root).at[lower].set(entries)
    turn = turn + jnp.diag(jnp.exp(jnp.diagonal(turn)) - jnp.diagonal(turn))  # no spread falls below 0
    at = (population.mean, population.root)
    to = (population.mean + population.root @ mean, population.root @ turn)
    sd = jnp.sqrt(jnp.square(population.root).sum(axis=1))
    moves = [jnp.abs(after - before).reshape(size, -1) / sd[:, None] for after, before in zip(to, at, strict=True)]
    moved = jnp.max(jnp.concatenate([each.reshape(-1) for each in (*moves, jnp.abs(rest) / scale)]))
    stride = NewtonStep(jnp.concatenate([mean, entries, rest]), share)
    return (
        eqx.tree_at(lambda q: (q.mean, q.root), marginal_likelihood.with_shared_parameters(population, now + rest), to),
        stride,
        moved,
    )


@entry_point
def predict_choices(population: ChoicePopulation, offers: ChoiceDesign, seen: EStep, rule: int):
    """Log-likelihood of each subject's choices at its posterior mean, and P(accept) of each offer over its posterior."""
    at_mean = jax.vmap(marginal_likelihood.choice_log_likelihood, (0, None, 0))(seen.mean, population, offers)
    return at_mean, marginal_likelihood.predict_acceptance(population, offers, seen.places, rule)


def shared_prior(population: ChoicePopulation) -> Float[np.ndarray, "shared 2"]:
    """Mean and s.d. of the prior of what people share."""
    return np.array(
        [EARLY_PRIOR] * len(population.mean)
        + [INNER_LEVEL_PRIOR] * len(population.felt)
        + [NAIVE_PRIOR, FADE_PRIOR, LAPSE_PRIOR]
    )


def _missing_information(seen: EStep):
    root = jnp.linalg.cholesky(seen.complete)
    half = jax.scipy.linalg.solve_triangular(root, seen.missing, lower=True)
    share, turn = jnp.linalg.eigh(jax.scipy.linalg.solve_triangular(root, half.T, lower=True))
    return jax.scipy.linalg.solve_triangular(root.T, turn, lower=False), share


@entry_point
def _posterior_modes(start: Float[Array, "subject preference"], population: ChoicePopulation, offers: ChoiceDesign):
    """Each subject's most probable preferences by Fisher scoring, and the information there."""
    precision = jnp.linalg.inv(population.root @ population.root.T)
    lapse = jax.nn.sigmoid(population.lapse)

    def one(own, offers: ChoiceDesign):
        logit = marginal_likelihood.choice_logits(own, population, offers)
        fresh = marginal_likelihood.novelty_by_trial(population, offers)
        slopes = (1 - population.naive * fresh)[None] * marginal_likelihood.logit_slopes(population, offers)
        accept = effort.acceptance_probability(logit, lapse)
        rise = (1 - lapse) * jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit)  # of P(accept) with the logit
        surprise = offers.known * (offers.accepted - accept) * rise / (accept * (1 - accept))
        weight = offers.known * rise * rise / (accept * (1 - accept))
        score = (slopes * surprise[None]).sum(axis=-1) - precision @ (own - population.mean)
        information = (slopes[:, None] * slopes[None] * weight[None, None]).sum(axis=-1) + precision
        return score, information

    def step(_, at):
        score, information = jax.vmap(one, 0)(at, offers)
        move = jnp.linalg.solve(information, score[..., None])[..., 0]
        length = jnp.sqrt(jnp.square(move).sum(axis=-1, keepdims=True))
        return at + move / jnp.maximum(1, length / MAX_SCORING_STEP)

    at = jax.lax.fori_loop(0, SCORING_STEPS, step, start)
    return at, jax.vmap(one, 0)(at, offers)[1]
