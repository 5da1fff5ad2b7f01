"""Hierarchical fit of effort choices: preferences of every subject and of their population, by empirical Bayes.

    fit = hb.fit_choices(hb.read_choices("choices.csv"))

The population and the parameters that people share (perceived inner levels, early preferences, lapses) maximise the
penalised marginal likelihood (`empirical_bayes`). Each subject then has two estimates: `raw`, from its own choices under a
weak prior, and `shrunk`, its posterior mean. Shrunk estimates lie closer to the population mean the less informative the
subject's choices are. `identifiability` tells before the fit which preferences the offers can determine.
"""

import dataclasses
import html
import textwrap
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..behaviour import effort
from ..behaviour.choices import Choices
from ..behaviour.effort import EffortConstants
from . import empirical_bayes, identifiability, marginal_likelihood, scaling
from .identifiability import Identifiability
from .marginal_likelihood import ChoiceDesign, ChoicePopulation, EStep
from .population_parameters import NORMAL_95, PopulationParameter, summarise_population
from .scaling import ScaledChoices

COARSE_NODES, FINE_NODES = 3, 7  # nodes per preference: until the population converges, and from then on
# Where nearly everything is accepted, 5 would make spreads 5 % too small; 7 come within 1 % of 15.
# Move of the population in a round, in units of its spread, that counts as none, by nodes per preference.
POPULATION_TOLERANCE = {COARSE_NODES: 2e-2, FINE_NODES: 4e-3}


@dataclasses.dataclass(frozen=True)
class SubjectEstimates:
    """Estimates of one preference, one value per subject.

    Attributes:
        value: the estimates.
        error: standard errors: from the curvature (raw), or posterior standard deviations (shrunk).

    >>> estimates = SubjectEstimates(value=np.array([1.0]), error=np.array([0.5]))
    >>> estimates.low.round(2).tolist(), estimates.high.round(2).tolist()
    ([0.02], [1.98])
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


class ChoiceFitSpec(NamedTuple):
    """What is fitted.

    Attributes:
        scaled: the choices, with levels in the units of the fit.
        identifiable: by preference, what the offers and choices can determine.
        preferences: names of those that are fitted.
        design: offers and choices as arrays.
    """

    scaled: ScaledChoices
    identifiable: dict[str, Identifiability]
    preferences: tuple[str, ...]
    design: ChoiceDesign


class PopulationSearch(NamedTuple):
    """Where the search for the population ended.

    Attributes:
        population: the last one.
        e_step: posteriors, score and information there.
        rounds: number of Newton steps.
        converged: whether the last step was below the tolerance.
    """

    population: ChoicePopulation
    e_step: EStep
    rounds: int
    converged: bool


@dataclasses.dataclass(frozen=True)
class ChoiceFit:
    """Fitted preferences of every subject and of their population.

    Attributes:
        subject: names.
        reference: levels of effort and reward of the offer at which the bias is defined.
        identifiable: by preference, what the offers and choices can determine; assessed before the fit.
        raw: by preference, each subject's own estimate under a weak prior.
        shrunk: by preference, each subject's posterior mean.
        covariance: posterior covariance of each subject, preferences in the order of `shrunk`.
        reliability: by preference, variance of the posterior means over the population variance; its square root is the
            largest correlation that estimates can have with the truth.
        population: by preference and shared parameter: `effort_2` and the like (perceived inner levels), `early_*`,
            `naive`, `fade`, `lapse`; see `effort.EffortConstants`.
        correlation: of preferences over the population.
        predicted: posterior predictive P(accept) of each offer.
        log_likelihood: of each subject's choices at its shrunk estimates.
        log_marginal: log marginal likelihood of all choices, preferences integrated out.
        status: of each subject: "fitted"; "one-sided" (always the same choice, estimates rest on the population);
            "empty" (no choices); "failed" (non-finite).
        rounds: Newton steps of the search for the population.
        converged: whether the last step was below the tolerance.
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

    def __repr__(self) -> str:
        """Number of subjects, convergence, and the population, in at most 12 lines."""
        ending = "converged" if self.converged else "NOT CONVERGED"
        statuses = ", ".join(f"{self.status.count(name)} {name}" for name in dict.fromkeys(self.status))
        lines = [f"ChoiceFit of {len(self.subject)} subjects ({statuses}), {ending} after {self.rounds} rounds"]
        lines.append(f"  {'population':10s} {'mean':>8s} {'95 % interval':>20s} {'sd':>8s} {'reliability':>12s}")
        for name, share in self.reliability.items():
            values = self.population[name]
            interval = f"{values.low:.3g} to {values.high:.3g}"
            lines.append(f"  {name:10s} {values.mean:8.3g} {interval:>20s} {values.sd:8.3g} {share:12.2f}")
        lines += [f"  {name}: {r.reason}" for name, r in self.identifiable.items() if not r.identifiable]
        shared = [
            f"{name} {self.population[name].mean:.3g}" for name in self.population if name not in self.reliability
        ]
        return "\n".join(
            [
                *lines,
                *textwrap.wrap(
                    f"shared: {', '.join(shared)}", 90, initial_indent="  ", subsequent_indent="  ", max_lines=3
                ),
            ]
        )

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"

    @classmethod
    def from_search(cls, spec: ChoiceFitSpec, search: PopulationSearch) -> "ChoiceFit":
        """Estimates, errors and predictions at the end of a search, by name and in the units of the data."""
        scaled, names, e_step = spec.scaled, spec.preferences, search.e_step
        log_likelihood, predicted = empirical_bayes.predict_choices(search.population, spec.design, e_step, FINE_NODES)
        raw, raw_error = empirical_bayes.weak_prior_estimates(search.population, spec.design)
        unit = np.array([scaled.unit[name] for name in names])
        mean = unit * np.asarray(e_step.mean, float)
        covariance = np.outer(unit, unit) * np.asarray(e_step.covariance, float)
        error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        cholesky = unit[:, None] * np.asarray(search.population.cholesky, float)
        total = cholesky @ cholesky.T
        sd = np.sqrt(np.diag(total))
        return cls(
            subject=scaled.original.subject,
            reference=scaled.reference,
            identifiable={
                name: dataclasses.replace(result, error=result.error * scaled.unit[name])
                for name, result in spec.identifiable.items()
            },
            raw={n: SubjectEstimates(unit[i] * raw[:, i], unit[i] * raw_error[:, i]) for i, n in enumerate(names)},
            shrunk={name: SubjectEstimates(mean[:, i], error[:, i]) for i, name in enumerate(names)},
            covariance=covariance,
            reliability={name: float(mean[:, i].var() / total[i, i]) for i, name in enumerate(names)},
            population=summarise_population(names, scaled, search.population, e_step),
            correlation=total / np.outer(sd, sd),
            predicted=np.asarray(predicted, float),
            log_likelihood=np.asarray(log_likelihood, float),
            log_marginal=float(np.asarray(e_step.log_marginal, float).sum()),
            status=_subject_statuses(scaled.original, mean),
            rounds=search.rounds,
            converged=search.converged,
        )


def fit_choices(
    choices: Choices,
    *,
    rounds: int = 100,
    constants: EffortConstants | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ChoiceFit:
    """Fit a hierarchical model of effort choices: preferences of all subjects and of their population.

    Offers may depend on earlier choices, as in a staircase: the likelihood is the same. Levels may be in any unit; weights
    are per level of the data. The bias is defined at the reference offer of `constants` if that lies among the levels, else
    in their middle.

    Args:
        choices: from `read_choices` or a simulation.
        rounds: largest number of Newton steps of the search for the population.
        constants: with the reference offer; by default the package's.
        progress: called as `progress(steps so far, rounds)`.

    Returns:
        A `ChoiceFit`. `fit.converged` tells whether `rounds` were enough.

    Raises:
        ValueError: fewer than two subjects, fewer than one round, no choices, or all choices the same.

    References:
        Naylor & Smith (1982), Louis (1982): see `marginal_likelihood` and `empirical_bayes`. Mehrhof & Nord (2024): the
        task and its 479 people.

    >>> from habenula.circuit.behaviour import Choices
    >>> offers, one = np.ones((1, 4)), np.ones((1, 4), bool)
    >>> fit_choices(Choices(("anna",), offers, offers, offers, one, one))
    Traceback (most recent call last):
    ValueError: 1 subject: a population has at least 2.
    """
    _check_choices(choices, rounds)
    spec = _make_spec(choices, effort.effort_constants() if constants is None else constants)
    return ChoiceFit.from_search(spec, _search_population(spec.design, rounds, progress))


def _make_spec(choices: Choices, constants: EffortConstants) -> ChoiceFitSpec:
    scaled = scaling.rescale_choices(choices, constants)
    identifiable = identifiability.assess_identifiability(scaled.choices, scaled.constants)
    names = tuple(name for name, result in identifiable.items() if result.identifiable)
    design = marginal_likelihood.make_choice_design(names, scaled.choices, scaled.constants)
    return ChoiceFitSpec(scaled, identifiable, names, design)


def _search_population(
    design: ChoiceDesign, rounds: int, progress: Callable[[int, int], None] | None
) -> PopulationSearch:
    """Newton steps on a coarse grid until the population converges, then on a fine one."""
    population, nodes = empirical_bayes.initialise_population(design)
    last, steps, converged = None, 0, False
    for nodes_per_axis in (COARSE_NODES, FINE_NODES):
        while True:
            e_step = empirical_bayes.penalised_e_step(population, design, nodes, nodes_per_axis)
            nodes = e_step.nodes
            last = last or empirical_bayes.initial_newton_step(e_step)
            moved, step, largest = empirical_bayes.take_newton_step(population, e_step, last)
            converged = bool(largest < POPULATION_TOLERANCE[nodes_per_axis])
            if converged or steps == rounds:
                break
            population, last, steps = moved, step, steps + 1
            if progress:
                progress(steps, rounds)
    if progress:
        progress(rounds, rounds)
    return PopulationSearch(population, e_step, steps, converged)


def _check_choices(choices: Choices, rounds: int) -> None:
    if len(choices) < 2:
        raise ValueError(f"{len(choices)} subject: a population has at least 2.")
    if rounds < 1:
        raise ValueError(f"{rounds=} must be at least 1.")
    made = choices.accepted[choices.known]
    if not made.size:
        raise ValueError("no choices: every trial is missed.")
    if np.ptp(made) == 0:
        raise ValueError(f"all {made.size} choices are {made[0]:.0f}: preferences are not identifiable.")


def _subject_statuses(choices: Choices, mean: np.ndarray) -> tuple[str, ...]:
    made = choices.known.sum(axis=1)
    accepted = (choices.accepted * choices.known).sum(axis=1)
    status = np.full(len(made), "fitted", object)
    status[(accepted == 0) | (accepted == made)] = "one-sided"
    status[made == 0] = "empty"
    status[~np.isfinite(mean).all(axis=1)] = "failed"
    return tuple(status)
