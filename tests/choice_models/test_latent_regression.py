"""Latent regression: slopes on a score without attenuation by shrinkage, and coverage of their intervals."""

import jax.numpy as jnp
import numpy as np
import pytest
from choosers import MEAN, NAMES, SPREAD

from habenula.circuit.behaviour import effort_tasks
from habenula.circuit.behaviour.effort import Preferences
from habenula.circuit.choice_models.fit import ChoiceFit, PopulationParameter, SubjectEstimates, fit_choices
from habenula.circuit.choice_models.latent_regression import regress_latent

SLOPE = np.array([0.8, 0.0, 0.0])  # of bias, reward and effort weight per standard deviation of the score
PEOPLE = 300


def people(seed: int, subjects: int = PEOPLE):
    """Staircase choices of people whose bias depends on a score, the score, and the slopes in this sample."""
    random = np.random.default_rng(500 + seed)
    score = random.normal(size=subjects)
    x = (score - score.mean()) / score.std()
    true = MEAN[:, None] + SPREAD[:, None] * random.normal(size=(3, subjects)) + SLOPE[:, None] * x
    preferences = Preferences(*(jnp.asarray(values) for values in true))
    return effort_tasks.run_task(effort_tasks.staircases(), preferences, seed=seed), score, (true * x).mean(axis=1)


def slope_of_estimates(fit: ChoiceFit, score: np.ndarray) -> np.ndarray:
    """Least-squares slopes of the shrunk estimates."""
    return np.array([np.polyfit((score - score.mean()) / score.std(), fit.shrunk[name].value, 1)[0] for name in NAMES])


def fitted(mean, covariance, population_mean, population) -> ChoiceFit:
    """A fit with these posteriors and this population; its other fields are not used."""
    sd, count = np.sqrt(np.diag(population)), len(mean)
    return ChoiceFit(
        subject=tuple(str(i) for i in range(count)),
        reference={},
        identifiable={},
        raw={},
        shrunk={name: SubjectEstimates(mean[:, i], np.sqrt(covariance[:, i, i])) for i, name in enumerate(NAMES)},
        covariance=covariance,
        reliability={},
        population={name: PopulationParameter(population_mean[i], sd[i], 0.0, 0.0) for i, name in enumerate(NAMES)},
        correlation=population / np.outer(sd, sd),
        predicted=np.zeros((count, 1)),
        log_likelihood=np.zeros(count),
        log_marginal=0.0,
        status=("fitted",) * count,
        rounds=1,
        converged=True,
    )


def normal_people(subjects: int = 12):
    """Posteriors of people measured with normal errors, their scores, the measurements, and their total covariance."""
    random = np.random.default_rng(3)
    spread = lambda: (lambda root: root @ root.T + 0.1 * np.eye(3))(random.normal(size=(3, 3)))
    population, errors = spread(), spread()
    score, measured, mean = random.normal(size=subjects), random.normal(size=(subjects, 3)), random.normal(size=3)
    gain = population @ np.linalg.inv(population + errors)
    covariance = np.tile(population - gain @ population, (subjects, 1, 1))
    return fitted(mean + (measured - mean) @ gain.T, covariance, mean, population), score, measured, population + errors


def test_equals_least_squares_on_measurements_if_posteriors_are_normal():
    fit, score, measured, total = normal_people()
    estimates = regress_latent(fit, 50 + 7 * score)
    x = (score - score.mean()) / score.std()
    slopes = np.polyfit(x, measured, 1)[0]
    np.testing.assert_allclose([estimates[name].value for name in NAMES], slopes, rtol=1e-8)
    errors = np.sqrt((np.diag(total) - slopes**2) / (len(x) - 2))
    np.testing.assert_allclose([estimates[name].error for name in NAMES], errors, rtol=1e-8)
    assert estimates["bias"].low == pytest.approx(slopes[0] - 1.959964 * errors[0])


def test_subjects_without_score_or_estimate_are_left_out():
    fit, score, *_ = normal_people()
    for name in NAMES:
        fit.shrunk[name].value[4] = np.nan
    score[2] = np.nan
    slopes = regress_latent(fit, score)
    assert {slope.subjects for slope in slopes.values()} == {10}
    assert all(np.isfinite(slope.value) and slope.error > 0 for slope in slopes.values())


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (np.arange(5.0), r"scores of shape \(5,\) for 12 subjects"),
        (np.full(12, 3.0), "12 scores: a slope needs at least 3, and not all the same"),
        (np.where(np.arange(12) < 2, np.arange(12.0), np.nan), "2 scores: a slope needs"),
    ],
)
def test_unusable_scores_are_refused(score, message):
    with pytest.raises(ValueError, match=message):
        regress_latent(normal_people()[0], score)


def test_recovers_a_known_slope_that_shrunk_estimates_attenuate():
    made, score, _ = people(0)
    fit = fit_choices(made)
    slopes, naive = regress_latent(fit, score), slope_of_estimates(fit, score)
    for i, name in enumerate(NAMES):
        assert abs(slopes[name].value - SLOPE[i]) < 3.5 * slopes[name].error
    # Same people and noise in both, so the ratio has a far smaller error than either slope.
    assert naive[0] / slopes["bias"].value == pytest.approx(fit.reliability["bias"], abs=0.08)
    assert fit.reliability["bias"] < 0.92


@pytest.mark.nightly
def test_coverage_of_slope_intervals():
    """Thirty studies of 300 people."""
    repeats, estimates, naive, true = 30, [], [], []
    for seed in range(repeats):
        made, score, sample_slope = people(seed)
        fit = fit_choices(made)
        slopes = regress_latent(fit, score)
        estimates.append([(slopes[name].value, slopes[name].error) for name in NAMES])
        naive.append(slope_of_estimates(fit, score))
        true.append(sample_slope)
    value, standard_error = np.moveaxis(np.array(estimates), 2, 0)
    covered = (np.abs(value - SLOPE) < 1.959964 * standard_error).mean(axis=0)
    print(
        "mean",
        value.mean(axis=0),
        "error",
        standard_error.mean(axis=0),
        "s.d.",
        value.std(axis=0, ddof=1),
        "coverage",
        covered,
    )
    assert abs(covered.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / covered.size / repeats)
    for kind, slopes in (
        ("latent", value),
        ("of estimates", np.array(naive)),
    ):  # against the slopes in the same sample
        error = slopes - np.array(true)
        z = error.mean(axis=0) / (error.std(axis=0, ddof=1) / np.sqrt(repeats))
        print(kind, "error", error.mean(axis=0), "z", z)
        assert (np.abs(z) < 4).all() if kind == "latent" else z[0] < -4
