"""Fit people's choices: the preferences of every subject and of the population they come from, in one call.

    fit = fit_choices(read("choices.csv"))

Empirical Bayes by expectation and maximisation: every subject's posterior on its own grid (`marginal`), then the
population's mean and covariance from their moments, and a scoring step in what people share: what each inner level feels
like, what the first trials expect, and lapses. Each subject comes with two estimates: `raw` from its own choices, with
hardly any prior, and `shrunk`, its posterior mean, which leans towards the population the more, the less the subject's
choices say. What the data cannot see is said before (`identifiability`).
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..kernels import entry_point
from . import effort, identifiability, marginal
from .choices import Choices
from .effort import Effort
from .identifiability import Verdict
from .marginal import Offers, Places, Population

WEAK = 10.0  # logit; s.d. of the prior around 0 under which raw estimates are found: it bounds them, and hardly more
SCORING = 40  # steps of Fisher scoring for raw estimates
FARTHEST = 2.0  # logit; longest scoring step
STILL = {3: 1e-2, 5: 4e-3}  # change of the population in a round, in units of its spread, below which it stands still
MOST_RATIO, LEAP = 0.97, 0.5  # ratio of successive rounds that is believed; longest leap, in units of the spread
COARSE, FINE = 3, 5  # nodes along each preference: until the population stands still, and from then on
LAPSE = (-4.6, 1.5)  # logit: mean and s.d. of the prior on the lapse, 0.05 to 17 %
EARLY, NAIVE = (0.0, 3.0), (0.0, 1.0)  # the same of the expectation and of its share
FADE = (2.3, 1.0)  # log of trials: the same of how long it lasts, 1.4 to 70 trials
FELT = (0.0, 0.5)  # of the distance between neighbours: the same of by how much an inner level feels greater than it is
NORMAL_95 = 1.959964
BLOCK = 6  # rounds between reports of progress


@dataclasses.dataclass(frozen=True)
class Estimates:
    """One value for each subject.

    Attributes:
        value: the estimates.
        error: their standard errors: from the curvature (raw), of the posterior (shrunk).
    """

    value: Float[np.ndarray, " subject"]
    error: Float[np.ndarray, " subject"]

    @property
    def low(self) -> np.ndarray:
        """Lower end of the 95 % interval."""
        return self.value - NORMAL_95 * self.error

    @property
    def high(self) -> np.ndarray:
        """Upper end of the 95 % interval."""
        return self.value + NORMAL_95 * self.error


@dataclasses.dataclass(frozen=True)
class Spread:
    """How one preference, or what people share, is spread over the population.

    Attributes:
        mean: of the population.
        sd: over people; 0 for what they share.
        low, high: 95 % interval of the mean.
        sd_error: standard error of `sd`.
    """

    mean: float
    sd: float
    low: float
    high: float
    sd_error: float = 0.0


@dataclasses.dataclass(frozen=True)
class ChoiceFit:
    """Preferences of every subject and of their population.

    Attributes:
        subject: name of each.
        identifiable: by preference, what the offers and choices can tell; known before the fit.
        raw: by preference, each subject's own estimate.
        shrunk: by preference, each subject's posterior mean.
        reliability: by preference, share of the population's variance that the posterior means carry; its root is the
            greatest correlation that estimates can have with the truth.
        population: by preference, and what people share: `effort_2` and the like (what an inner level feels like),
            `early_*`, `naive`, `fade`, `lapse`; see `effort`.
        correlation: of preferences over the population.
        predicted: P(accept) of each offer, a mean over the subject's posterior.
        log_likelihood: of each subject's choices at its shrunk estimates.
        log_marginal: of all choices, preferences integrated out.
        status: of each subject: "fitted"; "one-sided" (always the same choice: its estimates lean on the population);
            "empty" (no choice at all); "failed" (not finite).
        rounds: of expectation and maximisation.
        converged: whether the population stood still at the end.
    """

    subject: tuple[str, ...]
    identifiable: dict[str, Verdict]
    raw: dict[str, Estimates]
    shrunk: dict[str, Estimates]
    reliability: dict[str, float]
    population: dict[str, Spread]
    correlation: Float[np.ndarray, "preference preference"]
    predicted: Float[np.ndarray, "subject trial"]
    log_likelihood: Float[np.ndarray, " subject"]
    log_marginal: float
    status: tuple[str, ...]
    rounds: int
    converged: bool


def fit_choices(
    choices: Choices,
    *,
    rounds: int = 150,
    constants: Effort | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ChoiceFit:
    """Estimate the preferences of all subjects and of their population from accepted and declined offers.

    Offers may depend on earlier choices, as in a staircase: given those, they carry nothing more about preferences.

    Args:
        choices: from `choices.read` or a simulation.
        rounds: of expectation and maximisation, at most.
        constants: the reference offer; the package's by default.
        progress: called with the numbers of rounds made and at most.

    Raises:
        ValueError: fewer than two subjects, fewer than one round, no choices, or every choice the same.
    """
    _check(choices, rounds)
    p = effort.effort() if constants is None else constants
    verdicts = identifiability.judge(choices, p)
    names = tuple(name for name, verdict in verdicts.items() if verdict.identifiable)
    offers = marginal.offers_of(names, choices, p)
    population, places = _begin(offers)
    made, converged = 0, False
    for rule in (COARSE, FINE):
        converged = False
        while made < rounds and not converged:
            block = min(BLOCK, rounds - made)
            population, places, moved = _rounds(population, places, offers, block, rule)
            made += block
            converged = bool(moved < STILL[rule])
            if progress:
                progress(made, rounds)
    if progress:
        progress(rounds, rounds)
    found = _conclude(population, places, offers)
    return _assembled(choices, verdicts, names, _raw(population, offers), population, found, made, converged)


@entry_point
def _raw(population: Population, offers: Offers):
    """Estimates under the weak prior, given what people share, and their standard errors; (subject, preference)."""
    size = len(population.mean)
    nobody = (jnp.zeros(size), WEAK * jnp.eye(size))
    weak = eqx.tree_at(lambda q: (q.mean, q.root), population, nobody)
    at, information = _scored(jnp.zeros((offers.accepted.shape[0], size)), weak, offers)
    return at, jnp.sqrt(jnp.diagonal(jnp.linalg.inv(information), axis1=1, axis2=2))


def _scored(start: Float[Array, "subject preference"], population: Population, offers: Offers):
    """Each subject's most probable preferences by Fisher scoring, and the information there."""
    precision = jnp.linalg.inv(population.root @ population.root.T)
    lapse = jax.nn.sigmoid(population.lapse)

    def one(own, offers: Offers):
        logit = marginal.logits(own, population, offers)
        fresh = marginal.freshness(population, offers)
        slopes = (1 - population.naive * fresh)[None] * marginal.slopes(population, offers)
        accept = effort.acceptance(logit, lapse)
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
        return at + move / jnp.maximum(1, length / FARTHEST)

    at = jax.lax.fori_loop(0, SCORING, step, start)
    return at, jax.vmap(one, 0)(at, offers)[1]


@entry_point
def _begin(offers: Offers) -> tuple[Population, Places]:
    """A population like what subjects show without its help, and nodes around each one's mode under it."""
    size, inner = offers.slopes.shape[1], offers.inner.shape[2]
    number = jnp.asarray
    zeros = jnp.zeros(size)
    nobody = Population(
        zeros, WEAK * jnp.eye(size), zeros, jnp.zeros(inner), number(0.0), number(FADE[0]), number(LAPSE[0])
    )
    raw, _ = _scored(jnp.zeros((offers.accepted.shape[0], size)), nobody, offers)
    spread = jnp.maximum(raw.std(axis=0), 0.1)
    population = eqx.tree_at(lambda q: (q.mean, q.root), nobody, (raw.mean(axis=0), jnp.diag(spread)))
    centre, information = _scored(raw, population, offers)
    return population, Places(centre, jnp.linalg.cholesky(jnp.linalg.inv(information)))


@entry_point
def _rounds(population: Population, places: Places, offers: Offers, count: int, rule: int):
    """`count` rounds of expectation and maximisation, a leap to where they tend, and the last round's change."""

    def step(_, at):
        _, population, places = at
        mean, covariance, _ = marginal.posterior(population, offers, places, rule)
        centre = mean.mean(axis=0)
        apart = mean - centre[None]
        total = (covariance + apart[:, :, None] * apart[:, None, :]).mean(axis=0)
        after = _with_shared(population, _share(population, offers, places, rule))
        after = eqx.tree_at(lambda q: (q.mean, q.root), after, (centre, _cholesky(total)))
        half = Places((places.centre + mean) / 2, (places.root + _cholesky(covariance)) / 2)
        return population, after, half  # nodes go halfway: skewed posteriors would throw theirs to and fro

    before, last, places = jax.lax.fori_loop(0, count - 1, step, (population, population, places))
    _, now, places = step(0, (before, last, places))
    first, second = _apart(last, before), _apart(now, last)
    ratio = jnp.clip((first @ second) / (first @ first + 1e-12), 0.0, MOST_RATIO)  # of one step to the one before
    moved = jnp.max(jnp.abs(second))
    leap = jnp.minimum(ratio / (1 - ratio), LEAP / (moved + 1e-12))  # what is left of a geometric series (Aitken 1926)
    return jax.tree.map(lambda now, last: now + leap * (now - last), now, last), places, moved


def _apart(after: Population, before: Population) -> Float[Array, " number"]:
    """The way from one population to another, in units of the spread."""
    scale = jnp.diagonal(after.root)
    mean, root = (after.mean - before.mean) / scale, (after.root - before.root) / scale[:, None]
    return jnp.concatenate([mean, root.reshape(-1), _shared(after) - _shared(before)])


def _shared(population: Population) -> Float[Array, " shared"]:
    """What people share, in a row."""
    singles = jnp.stack([population.naive, population.fade, population.lapse])
    return jnp.concatenate([population.early, population.felt, singles])


def _with_shared(population: Population, shared: Float[Array, " shared"]) -> Population:
    early, felt = shared[: len(population.mean)], shared[len(population.mean) : -3]
    where = lambda q: (q.early, q.felt, q.naive, q.fade, q.lapse)
    return eqx.tree_at(where, population, (early, felt, *shared[-3:]))


def _prior(population: Population) -> Float[np.ndarray, "shared 2"]:
    """Mean and s.d. of the prior of what people share."""
    return np.array([EARLY] * len(population.mean) + [FELT] * len(population.felt) + [NAIVE, FADE, LAPSE])


def _share(population: Population, offers: Offers, places: Places, rule: int) -> Float[Array, " shared"]:
    """Half a scoring step in what people share; whole ones swing about the optimum."""
    now = _shared(population)
    scores = jax.jacfwd(lambda to: marginal.log_marginal(_with_shared(population, to), offers, places, rule))(now)
    mean, sd = jnp.asarray(_prior(population), now.dtype).T
    slope = scores.sum(axis=0) - (now - mean) / sd**2
    information = (scores[:, :, None] * scores[:, None, :]).sum(axis=0) + jnp.diag(sd**-2)
    return now + jnp.clip(jnp.linalg.solve(information, slope) / 2, -0.5, 0.5)


@entry_point
def _conclude(population: Population, places: Places, offers: Offers):
    """Posteriors, predictions, log-likelihoods and the covariance of the population's numbers."""
    mean, covariance, log_marginal = marginal.posterior(population, offers, places, FINE)
    at_mean = jax.vmap(marginal.log_likelihood, (0, None, 0))(mean, population, offers)
    lower = np.tril_indices(len(population.mean))

    size, entries = len(population.mean), len(lower[0])

    def of(numbers):
        means, entered, shared = numbers[:size], numbers[size : size + entries], numbers[size + entries :]
        at = (means, jnp.zeros_like(population.root).at[lower].set(entered))
        moved = eqx.tree_at(lambda q: (q.mean, q.root), _with_shared(population, shared), at)
        return marginal.log_marginal(moved, offers, places, FINE)

    scores = jax.jacfwd(of)(jnp.concatenate([population.mean, population.root[lower], _shared(population)]))
    information = (scores[:, :, None] * scores[:, None, :]).sum(axis=0)
    return mean, covariance, log_marginal, at_mean, marginal.predicted(population, offers, places, FINE), information


def _cholesky(covariance: Float[Array, "*lane preference preference"]) -> Float[Array, "*lane preference preference"]:
    """Of a covariance that rounding or a spread of nothing may have left singular."""
    size = covariance.shape[-1]
    scale = jnp.trace(covariance, axis1=-2, axis2=-1)[..., None, None] / size
    return jnp.linalg.cholesky(covariance + (1e-5 * scale + 1e-8) * jnp.broadcast_to(jnp.eye(size), covariance.shape))


def _check(choices: Choices, rounds: int) -> None:
    if len(choices) < 2:
        raise ValueError(f"{len(choices)} subject: a population has at least 2.")
    if rounds < 1:
        raise ValueError(f"{rounds=} must be at least 1.")
    made = choices.accepted[choices.known]
    if not made.size:
        raise ValueError("no choice was made: every trial is missed.")
    if np.ptp(made) == 0:
        raise ValueError(f"all {made.size} choices are {made[0]:.0f}: there is no preference to be seen in them.")


def _assembled(choices, verdicts, names, raw, population, found, made, converged) -> ChoiceFit:
    """The result in plain NumPy, by name."""
    mean, covariance, log_marginal, at_mean, predicted, information = (np.asarray(each, float) for each in found)
    root = np.asarray(population.root, float)
    total = root @ root.T
    sd = np.sqrt(np.diag(total))
    error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return ChoiceFit(
        subject=choices.subject,
        identifiable=verdicts,
        raw={
            name: Estimates(np.asarray(raw[0], float)[:, i], np.asarray(raw[1], float)[:, i])
            for i, name in enumerate(names)
        },
        shrunk={name: Estimates(mean[:, i], error[:, i]) for i, name in enumerate(names)},
        reliability={name: float(mean[:, i].var() / total[i, i]) for i, name in enumerate(names)},
        population=_spreads(choices, names, population, total, information),
        correlation=total / np.outer(sd, sd),
        predicted=predicted,
        log_likelihood=at_mean,
        log_marginal=float(log_marginal.sum()),
        status=_statuses(choices, mean),
        rounds=made,
        converged=converged,
    )


def _spreads(choices, names, population: Population, total: np.ndarray, information: np.ndarray) -> dict[str, Spread]:
    """Means and spreads of the population with their errors; the fade in trials, the lapse as a share."""
    levels = {
        f"{name}_{level:g}": float(level)
        for name in ("reward", "effort")
        if name in names
        for level in marginal.inner_levels(getattr(choices, name)[choices.known])
    }
    shared = (*(f"early_{name}" for name in names), *levels, "naive", "fade", "lapse")
    known = np.zeros(len(information))
    known[-len(shared) :] = _prior(population)[:, 1] ** -2
    covariance = np.linalg.pinv(information + np.diag(known))
    errors, size = np.sqrt(np.diag(covariance)), len(names)
    root, lower = np.asarray(population.root, float), np.tril_indices(size)
    found = {}
    for i, name in enumerate(names):
        slope = np.where(lower[0] == i, root[lower], 0) / np.sqrt(total[i, i])  # of the s.d. in the root's entries
        entries = slice(size, size + len(slope))
        sd_error = float(np.sqrt(slope @ covariance[entries, entries] @ slope))
        at = float(population.mean[i])
        half = NORMAL_95 * errors[i]
        found[name] = Spread(at, float(np.sqrt(total[i, i])), float(at - half), float(at + half), sd_error)
    outward = {"fade": np.exp, "lapse": lambda logit: 1 / (1 + np.exp(-logit))}
    for name, at, error in zip(shared, np.asarray(_shared(population), float), errors[-len(shared) :], strict=True):
        numbers = np.array([at, at - NORMAL_95 * error, at + NORMAL_95 * error])
        mean, low, high = outward[name](numbers) if name in outward else numbers + levels.get(name, 0.0)
        found[name] = Spread(float(mean), 0.0, float(low), float(high))
    return found


def _statuses(choices: Choices, mean: np.ndarray) -> tuple[str, ...]:
    made = choices.known.sum(axis=1)
    accepted = (choices.accepted * choices.known).sum(axis=1)
    status = np.full(len(made), "fitted", object)
    status[(accepted == 0) | (accepted == made)] = "one-sided"
    status[made == 0] = "empty"
    status[~np.isfinite(mean).all(axis=1)] = "failed"
    return tuple(status)
