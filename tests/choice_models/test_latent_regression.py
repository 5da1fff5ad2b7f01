"""Preferences and scores: slopes that shrinkage does not attenuate, with intervals that hold what they promise."""

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
    """Choices in the staircases of people whose bias goes with a score, the score, and the slopes that these people have."""
    random = np.random.default_rng(500 + seed)
    score = random.normal(size=subjects)
    x = (score - score.mean()) / score.std()
    true = MEAN[:, None] + SPREAD[:, None] * random.normal(size=(3, subjects)) + SLOPE[:, None] * x
    own = Preferences(*(jnp.asarray(each) for each in true))
    return effort_tasks.run_task(effort_tasks.staircases(), own, seed=seed), score, (true * x).mean(axis=1)


def slope_of_estimates(fit: ChoiceFit, score: np.ndarray) -> np.ndarray:
    """What least squares make of the shrunk estimates."""
    return np.array([np.polyfit((score - score.mean()) / score.std(), fit.shrunk[name].value, 1)[0] for name in NAMES])


def fitted(mean, covariance, population_mean, population) -> ChoiceFit:
    """A fit with these posteriors and this population; nothing else of it is read."""
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
    """Posteriors of people measured with normal errors, their scores, and what was measured."""
    random = np.random.default_rng(3)
    spread = lambda: (lambda root: root @ root.T + 0.1 * np.eye(3))(random.normal(size=(3, 3)))
    population, errors = spread(), spread()
    score, measured, mean = random.normal(size=subjects), random.normal(size=(subjects, 3)), random.normal(size=3)
    gain = population @ np.linalg.inv(population + errors)
    covariance = np.tile(population - gain @ population, (subjects, 1, 1))
    return fitted(mean + (measured - mean) @ gain.T, covariance, mean, population), score, measured, population + errors


def test_it_is_least_squares_on_what_was_measured_where_posteriors_are_normal():
    fit, score, measured, total = normal_people()
    found = regress_latent(fit, 50 + 7 * score)
    x = (score - score.mean()) / score.std()
    slopes = np.polyfit(x, measured, 1)[0]
    np.testing.assert_allclose([found[name].value for name in NAMES], slopes, rtol=1e-8)
    errors = np.sqrt((np.diag(total) - slopes**2) / (len(x) - 2))
    np.testing.assert_allclose([found[name].error for name in NAMES], errors, rtol=1e-8)
    assert found["bias"].low == pytest.approx(slopes[0] - 1.959964 * errors[0])


def test_who_has_no_score_or_no_estimate_is_left_out():
    fit, score, *_ = normal_people()
    for name in NAMES:
        fit.shrunk[name].value[4] = np.nan
    score[2] = np.nan
    found = regress_latent(fit, score)
    assert {each.subjects for each in found.values()} == {10}
    assert all(np.isfinite(each.value) and each.error > 0 for each in found.values())


@pytest.mark.parametrize(
    ("score", "says"),
    [
        (np.arange(5.0), r"scores of shape \(5,\) for 12 subjects"),
        (np.full(12, 3.0), "12 scores, of which a slope needs 3 that differ"),
        (np.where(np.arange(12) < 2, np.arange(12.0), np.nan), "2 scores, of which"),
    ],
)
def test_scores_at_the_door(score, says):
    with pytest.raises(ValueError, match=says):
        regress_latent(normal_people()[0], score)


def test_a_known_slope_is_recovered_where_that_of_the_estimates_is_attenuated():
    made, score, _ = people(0)
    fit = fit_choices(made)
    found, naive = regress_latent(fit, score), slope_of_estimates(fit, score)
    for i, name in enumerate(NAMES):
        assert abs(found[name].value - SLOPE[i]) < 3.5 * found[name].error
    # The same people and the same noise in both, so that their ratio errs far less than each of them.
    assert naive[0] / found["bias"].value == pytest.approx(fit.reliability["bias"], abs=0.08)
    assert fit.reliability["bias"] < 0.92


@pytest.mark.slow
def test_intervals_hold_the_slope():
    """Thirty studies of 300 people."""
    repeats, found, naive, true = 30, [], [], []
    for seed in range(repeats):
        made, score, own = people(seed)
        fit = fit_choices(made)
        slopes = regress_latent(fit, score)
        found.append([(slopes[name].value, slopes[name].error) for name in NAMES])
        naive.append(slope_of_estimates(fit, score))
        true.append(own)
    value, error = np.moveaxis(np.array(found), 2, 0)
    held = (np.abs(value - SLOPE) < 1.959964 * error).mean(axis=0)
    print("mean", value.mean(axis=0), "error", error.mean(axis=0), "s.d.", value.std(axis=0, ddof=1), "held", held)
    assert abs(held.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / held.size / repeats)
    for kind, slopes in (
        ("latent", value),
        ("of estimates", np.array(naive)),
    ):  # against the slopes of these very people
        apart = slopes - np.array(true)
        z = apart.mean(axis=0) / (apart.std(axis=0, ddof=1) / np.sqrt(repeats))
        print(kind, "apart", apart.mean(axis=0), "z", z)
        assert (np.abs(z) < 4).all() if kind == "latent" else z[0] < -4
