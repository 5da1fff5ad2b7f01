"""Fit people's choices: the preferences of every subject and of the population they come from, in one call.

    fit = fit_choices(read("choices.csv"))

Empirical Bayes: every subject's posterior on its own grid (`marginal`), and the population and what people share (what
each inner level feels like, what the first trials expect, lapses) by Newton's steps on the marginal likelihood
(`choice_search`). Each subject comes with two estimates: `raw` from its own choices, with hardly any prior, and `shrunk`,
its posterior mean, which leans towards the population the more, the less the subject's choices say. What the data cannot
see is said before (`identifiability`), and what too few people leave open of their population, with it (`Spread.reason`).
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ..behaviour import effort
from ..behaviour.choices import Choices
from ..behaviour.effort import EffortConstants
from . import empirical_bayes, identifiability, marginal_likelihood, scaling
from .identifiability import Identifiability
from .marginal_likelihood import ChoicePopulation, EStep
from .scaling import ScaledChoices

COARSE_NODES, FINE_NODES = 3, 7  # nodes along each preference: until the population stands still, and from then on
# Where nearly everything is accepted, 5 would make spreads 5 % too small; 7 come within 1 % of 15.
POPULATION_TOLERANCE = {
    COARSE_NODES: 2e-2,
    FINE_NODES: 4e-3,
}  # move of the population in a round, in units of its spread, that counts as none
MIN_INFORMATION_SHARE = 1e-3  # share of the information that is left along a direction, below which there is none
MAX_UNINFORMED_SHARE = 1e-2  # share of a number, as a vector, that may lie along such directions
NORMAL_95 = 1.959964


@dataclasses.dataclass(frozen=True)
class SubjectEstimates:
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
class PopulationParameter:
    """How one preference, or what people share, is spread over the population.

    Attributes:
        mean: of the population.
        sd: over people; 0 for what they share.
        low, high: 95 % interval of the mean.
        sd_error: standard error of `sd`.
        reason: why the mean or the spread is not told, whose errors are then infinite; empty where they are.
    """

    mean: float
    sd: float
    low: float
    high: float
    sd_error: float = 0.0
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class ChoiceFit:
    """Preferences of every subject and of their population.

    Attributes:
        subject: name of each.
        reference: levels of effort and reward of the offer at which the bias is read.
        identifiable: by preference, what the offers and choices can tell; known before the fit.
        raw: by preference, each subject's own estimate.
        shrunk: by preference, each subject's posterior mean.
        covariance: of each subject's posterior, preferences in the order of `shrunk`.
        reliability: by preference, share of the population's variance that the posterior means carry; its root is the
            greatest correlation that estimates can have with the truth.
        population: by preference, and what people share: `effort_2` and the like (what an inner level feels like),
            `early_*`, `naive`, `fade`, `lapse`; see `effort_constants`.
        correlation: of preferences over the population.
        predicted: P(accept) of each offer, a mean over the subject's posterior.
        log_likelihood: of each subject's choices at its shrunk estimates.
        log_marginal: of all choices, preferences integrated out.
        status: of each subject: "fitted"; "one-sided" (always the same choice: its estimates lean on the population);
            "empty" (no choice at all); "failed" (not finite).
        rounds: of the search for the population.
        converged: whether the population stood still at the end.
    """

    subject: tuple[str, ...]
    reference: dict[str, float]
    identifiable: dict[str, Identifiability]
    raw: dict[str, SubjectEstimates]
    shrunk: dict[str, SubjectEstimates]
    covariance: Float[np.ndarray, "subject preference preference"]
    reliability: dict[str, float]
    population: dict[str, PopulationParameter]
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
    rounds: int = 100,
    constants: EffortConstants | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ChoiceFit:
    """Estimate the preferences of all subjects and of their population from accepted and declined offers.

    Offers may depend on earlier choices, as in a staircase: given those, they carry nothing more about preferences. Levels
    may be in any unit, weights are per level of the file's. The bias is read at the reference offer of `constants` where
    that lies among the levels, and in their middle where not.

    Args:
        choices: from `choices.read` or a simulation.
        rounds: of the search for the population, at most.
        constants: the reference offer; the package's by default.
        progress: called with the numbers of rounds made and at most.

    Raises:
        ValueError: fewer than two subjects, fewer than one round, no choices, or every choice the same.
    """
    _check_choices(choices, rounds)
    counted = scaling.rescale_choices(choices, effort.effort_constants() if constants is None else constants)
    verdicts = identifiability.assess_identifiability(counted.choices, counted.constants)
    names = tuple(name for name, verdict in verdicts.items() if verdict.identifiable)
    offers = marginal_likelihood.make_choice_design(names, counted.choices, counted.constants)
    population, places = empirical_bayes.initialise_population(offers)
    stride, made, converged = None, 0, False
    for rule in (COARSE_NODES, FINE_NODES):
        while True:
            seen = empirical_bayes.penalised_e_step(population, offers, places, rule)
            places = seen.places
            after, onward, moved = empirical_bayes.take_newton_step(
                population, seen, stride or empirical_bayes.initial_newton_step(seen)
            )
            converged = bool(moved < POPULATION_TOLERANCE[rule])
            if converged or made == rounds:
                break
            population, stride, made = after, onward, made + 1
            if progress:
                progress(made, rounds)
    if progress:
        progress(rounds, rounds)
    told = empirical_bayes.predict_choices(population, offers, seen, FINE_NODES)
    raw = empirical_bayes.weak_prior_estimates(population, offers)
    return _assemble_fit(choices, counted, verdicts, names, raw, population, seen, told, made, converged)


def _check_choices(choices: Choices, rounds: int) -> None:
    if len(choices) < 2:
        raise ValueError(f"{len(choices)} subject: a population has at least 2.")
    if rounds < 1:
        raise ValueError(f"{rounds=} must be at least 1.")
    made = choices.accepted[choices.known]
    if not made.size:
        raise ValueError("no choice was made: every trial is missed.")
    if np.ptp(made) == 0:
        raise ValueError(f"all {made.size} choices are {made[0]:.0f}: there is no preference to be seen in them.")


def _assemble_fit(
    choices, counted: ScaledChoices, verdicts, names, raw, population, seen: EStep, told, made, converged
) -> ChoiceFit:
    """The result in plain NumPy, by name, per level of the file's."""
    unit = np.array([counted.unit[name] for name in names])
    mean, covariance = unit * np.asarray(seen.mean, float), np.outer(unit, unit) * np.asarray(seen.covariance, float)
    root = unit[:, None] * np.asarray(population.root, float)
    total = root @ root.T
    sd = np.sqrt(np.diag(total))
    error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return ChoiceFit(
        subject=choices.subject,
        reference=counted.reference,
        identifiable={
            name: dataclasses.replace(verdict, error=verdict.error * counted.unit[name])
            for name, verdict in verdicts.items()
        },
        raw={name: SubjectEstimates(unit[i] * raw[0][:, i], unit[i] * raw[1][:, i]) for i, name in enumerate(names)},
        shrunk={name: SubjectEstimates(mean[:, i], error[:, i]) for i, name in enumerate(names)},
        covariance=covariance,
        reliability={name: float(mean[:, i].var() / total[i, i]) for i, name in enumerate(names)},
        population=_population_parameters(choices, counted, names, population, seen),
        correlation=total / np.outer(sd, sd),
        predicted=np.asarray(told[1], float),
        log_likelihood=np.asarray(told[0], float),
        log_marginal=float(np.asarray(seen.log_marginal, float).sum()),
        status=_subject_statuses(choices, mean),
        rounds=made,
        converged=converged,
    )


def _population_parameters(
    choices, counted: ScaledChoices, names, population: ChoicePopulation, seen: EStep
) -> dict[str, PopulationParameter]:
    """Means and spreads of the population with their errors; the fade in trials, the lapse as a share."""
    inner = {  # by name: the level, and what 1 as the fit counts is in the file's
        f"{name}_{level:g}": (float(level), counted.step[name])
        for name in ("reward", "effort")
        if name in names
        for level in marginal_likelihood.inner_levels(getattr(choices, name)[choices.known])
    }
    early = {f"early_{name}": (0.0, counted.unit[name]) for name in names}
    common = early | inner | dict.fromkeys(("naive", "fade", "lapse"), (0.0, 1.0))
    root, size = np.asarray(population.root, float), len(names)
    sd, lower = np.sqrt(np.square(root).sum(axis=1)), np.tril_indices(size)
    means = np.zeros((size, len(seen.score)))
    means[:, :size] = root
    spreads = np.zeros_like(means)
    # A root moved by `root A` moves the s.d. of preference i by the sum over j, k of root_ij root_ik A_kj, over the s.d.
    spreads[:, size : size + len(lower[0])] = root[:, lower[1]] * root[:, lower[0]] / sd[:, None]
    complete, missing = np.asarray(seen.complete, float), np.asarray(seen.missing, float)
    errors = _standard_errors(
        complete, missing, np.concatenate([means, spreads, np.eye(len(seen.score))[-len(common) :]])
    )
    found = {}
    for name, at, own, error, sd_error in zip(names, population.mean, sd, errors, errors[size:], strict=False):
        lost = [word for word, of in (("mean", error), ("spread", sd_error)) if np.isinf(of)]
        reason = f"the choices of {len(choices)} people do not tell its {' and '.join(lost)}" if lost else ""
        unit = counted.unit[name]
        half, at = unit * NORMAL_95 * float(error), unit * float(at)
        found[name] = PopulationParameter(at, unit * float(own), at - half, at + half, unit * float(sd_error), reason)
    outward = {"fade": np.exp, "lapse": lambda logit: 1 / (1 + np.exp(-logit))}
    for name, at, error in zip(
        common, np.asarray(marginal_likelihood.shared_parameters(population), float), errors[2 * size :], strict=True
    ):
        numbers = np.array([at, at - NORMAL_95 * error, at + NORMAL_95 * error])
        begins, unit = common[name]
        mean, low, high = outward[name](numbers) if name in outward else begins + unit * numbers
        reason = f"shared by all; the choices of {len(choices)} people do not tell it" if np.isinf(error) else ""
        found[name] = PopulationParameter(float(mean), 0.0, float(low), float(high), reason=reason)
    return found


def _standard_errors(
    complete: np.ndarray, missing: np.ndarray, of: Float[np.ndarray, "wanted number"]
) -> Float[np.ndarray, " wanted"]:
    """Standard errors of combinations of the population's numbers; infinite where nothing tells them.

    Information is taken apart along directions in which, were preferences known, it would be 1. Along one in which nearly
    all of it is missing, as with fewer people than the population has numbers, there is no error to be given.
    """
    if not np.isfinite(complete + missing).all():
        return np.full(len(of), np.inf)
    root = np.linalg.cholesky(complete)
    half = np.linalg.solve(root, missing)
    share, turn = np.linalg.eigh(np.linalg.solve(root, half.T))
    squares = np.square(np.linalg.solve(root, of.T).T @ turn)  # (wanted, direction)
    left = 1 - share
    seen_there = left > MIN_INFORMATION_SHARE
    errors = np.sqrt((squares[:, seen_there] / left[seen_there]).sum(axis=1))
    return np.where(squares[:, ~seen_there].sum(axis=1) > MAX_UNINFORMED_SHARE * squares.sum(axis=1), np.inf, errors)


def _subject_statuses(choices: Choices, mean: np.ndarray) -> tuple[str, ...]:
    made = choices.known.sum(axis=1)
    accepted = (choices.accepted * choices.known).sum(axis=1)
    status = np.full(len(made), "fitted", object)
    status[(accepted == 0) | (accepted == made)] = "one-sided"
    status[made == 0] = "empty"
    status[~np.isfinite(mean).all(axis=1)] = "failed"
    return tuple(status)
