"""Estimates and standard errors of the population of preferences, in the units of the data.

Standard errors come from the observed information, which is the complete information less the missing one (Louis 1982).
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from . import marginal_likelihood
from .marginal_likelihood import ChoicePopulation, EStep
from .scaling import ScaledChoices

MIN_INFORMATION_SHARE = 1e-3  # share of the information along a direction below which it counts as none
MAX_UNINFORMED_SHARE = 1e-2  # share of a parameter, as a vector, that may lie along directions without information
NORMAL_95 = 1.959964  # two-sided 95 % quantile of the standard normal


@dataclasses.dataclass(frozen=True)
class PopulationParameter:
    """Population mean and spread of one preference, or the value of one shared parameter.

    Attributes:
        mean: over the population.
        sd: over people; 0 for shared parameters.
        low, high: 95 % confidence interval of the mean.
        sd_error: standard error of `sd`.
        reason: why the mean or the spread is not identifiable (its error is then infinite); empty otherwise.
    """

    mean: float
    sd: float
    low: float
    high: float
    sd_error: float = 0.0
    reason: str = ""


def summarise_population(
    names: tuple[str, ...], scaled: ScaledChoices, population: ChoicePopulation, e_step: EStep
) -> dict[str, PopulationParameter]:
    """Means and spreads of preferences, and shared parameters, with errors; the fade in trials, the lapse as a rate.

    Args:
        names: preferences, in the order of `population.mean`.
        scaled: the choices and their units.
        population: the fitted one.
        e_step: there.
    """
    origin_and_unit = _shared_units(names, scaled)
    mean_error, sd_error, shared_error = _parameter_errors(population, e_step, len(origin_and_unit))
    subjects = len(scaled.choices)
    sd = np.sqrt(np.square(np.asarray(population.cholesky, float)).sum(axis=1))
    summary = {}
    for i, name in enumerate(names):
        unit = scaled.unit[name]
        unknown = [word for word, error in (("mean", mean_error[i]), ("spread", sd_error[i])) if np.isinf(error)]
        reason = f"the choices of {subjects} people do not determine its {' and '.join(unknown)}" if unknown else ""
        half, mean = unit * NORMAL_95 * float(mean_error[i]), unit * float(population.mean[i])
        summary[name] = PopulationParameter(
            mean, unit * float(sd[i]), mean - half, mean + half, unit * float(sd_error[i]), reason
        )
    natural_scale = {"fade": np.exp, "lapse": lambda logit: 1 / (1 + np.exp(-logit))}
    shared = np.asarray(marginal_likelihood.shared_parameters(population), float)
    for name, value, error in zip(origin_and_unit, shared, shared_error, strict=True):
        ends = np.array([value, value - NORMAL_95 * error, value + NORMAL_95 * error])
        origin, unit = origin_and_unit[name]
        mean, low, high = natural_scale[name](ends) if name in natural_scale else origin + unit * ends
        reason = f"shared by all; the choices of {subjects} people do not determine it" if np.isinf(error) else ""
        summary[name] = PopulationParameter(float(mean), 0.0, float(low), float(high), reason=reason)
    return summary


def _shared_units(names: tuple[str, ...], scaled: ScaledChoices) -> dict[str, tuple[float, float]]:
    """Origin and unit, in those of the data, of each shared parameter, in the order of `shared_parameters`."""
    original = scaled.original
    early = {f"early_{name}": (0.0, scaled.unit[name]) for name in names}
    inner = {
        f"{name}_{level:g}": (float(level), scaled.step[name])
        for name in ("reward", "effort")
        if name in names
        for level in marginal_likelihood.inner_levels(getattr(original, name)[original.known])
    }
    return early | inner | dict.fromkeys(("naive", "fade", "lapse"), (0.0, 1.0))


def _parameter_errors(
    population: ChoicePopulation, e_step: EStep, shared: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standard errors of the means, of the spreads and of the shared parameters, in the units of the fit."""
    cholesky, size = np.asarray(population.cholesky, float), len(population.mean)
    sd, lower = np.sqrt(np.square(cholesky).sum(axis=1)), np.tril_indices(size)
    means = np.zeros((size, len(e_step.score)))
    means[:, :size] = cholesky
    spreads = np.zeros_like(means)
    # A factor L moved by `L A` moves the s.d. of preference i by the sum over j, k of L_ij L_ik A_kj, over the s.d.
    spreads[:, size : size + len(lower[0])] = cholesky[:, lower[1]] * cholesky[:, lower[0]] / sd[:, None]
    complete = np.asarray(e_step.complete_information, float)
    missing = np.asarray(e_step.missing_information, float)
    combinations = np.concatenate([means, spreads, np.eye(len(e_step.score))[-shared:]])
    errors = standard_errors(complete, missing, combinations)
    return errors[:size], errors[size : 2 * size], errors[2 * size :]


def standard_errors(
    complete: np.ndarray, missing: np.ndarray, combinations: Float[np.ndarray, "combination parameter"]
) -> Float[np.ndarray, " combination"]:
    """Standard errors of linear combinations of parameters from the observed information; infinite where there is none.

    Information is decomposed along directions in which the complete information is 1. Where nearly all of it is missing, as
    with fewer people than the population has parameters, a combination has no finite error.

    Args:
        complete: complete-data information.
        missing: missing information.
        combinations: coefficients, one row per combination.

    >>> standard_errors(np.diag([4.0, 9.0]), np.diag([0.0, 9.0]), np.eye(2)).tolist()
    [0.5, inf]
    """
    if not np.isfinite(complete + missing).all():
        return np.full(len(combinations), np.inf)
    cholesky = np.linalg.cholesky(complete)
    half = np.linalg.solve(cholesky, missing)
    share, vectors = np.linalg.eigh(np.linalg.solve(cholesky, half.T))
    squares = np.square(np.linalg.solve(cholesky, combinations.T).T @ vectors)  # (combination, direction)
    observed = 1 - share
    informed = observed > MIN_INFORMATION_SHARE
    errors = np.sqrt((squares[:, informed] / observed[informed]).sum(axis=1))
    uninformed = squares[:, ~informed].sum(axis=1)
    return np.where(uninformed > MAX_UNINFORMED_SHARE * squares.sum(axis=1), np.inf, errors)
