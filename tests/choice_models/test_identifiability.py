"""Identifiability of preferences from offers and choices, before a fit."""

import dataclasses

import numpy as np
import pytest

from habenula.circuit.behaviour import effort
from habenula.circuit.behaviour.choices import Choices
from habenula.circuit.choice_models import identifiability

NAMES = identifiability.PREFERENCE_NAMES


def offered(levels, accepted=None, subjects: int = 6):
    """Every subject is offered `levels` (effort, reward), and accepts every second offer unless `accepted` is given."""
    efforts, rewards = np.broadcast_to(np.array(levels, float).T[:, None], (2, subjects, len(levels)))
    made = np.arange(len(levels)) % 2.0 if accepted is None else np.array(accepted, float)
    made = np.broadcast_to(made, (subjects, len(levels))).copy()
    none = np.zeros(made.shape, bool)
    return Choices(tuple(map(str, range(subjects))), efforts.copy(), rewards.copy(), made, ~none, none)


GRID = [(e, r) for e in (1, 2, 3, 4) for r in (1, 2, 3, 4)]


def assess(made):
    return identifiability.assess_identifiability(made, effort.effort_constants())


def test_a_full_grid_identifies_all_preferences_with_the_errors_of_its_design():
    results = assess(offered(GRID))
    assert all(
        results[name].identifiable and results[name].subjects == 6 and not results[name].reason for name in NAMES
    )
    # Centred levels of variance 1.25 are uncorrelated: information 16/4, and 16 x 1.25 / 4 for each weight.
    np.testing.assert_allclose([results[name].error for name in NAMES], [4**-0.5, 5**-0.5, 5**-0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("levels", "excluded", "reason"),
    [
        ([(e, 2) for e in (1, 2, 3, 4)], "reward", "reward is the same in every offer"),
        ([(3, r) for r in (1, 2, 3, 4)], "effort", "effort is the same in every offer"),
        ([(k, k) for k in (1, 2, 3, 4)], "effort", "effort is a linear function of reward over the offers"),
        ([(5 - k, k) for k in (1, 2, 3, 4)], "effort", "effort is a linear function of reward over the offers"),
    ],
)
def test_non_identifiable_preferences_are_named(levels, excluded, reason):
    results = assess(offered(levels))
    assert results[excluded].reason == reason
    assert np.isinf(results[excluded].error)
    assert [name for name in NAMES if not results[name].identifiable] == [excluded]
    assert all(np.isfinite(results[name].error) for name in NAMES if name != excluded)


def test_one_sided_subjects_rest_on_the_population():
    made = offered(GRID)
    made.accepted[:2], made.accepted[2] = 1, 0
    results = assess(made)
    for name in NAMES:
        assert results[name].subjects == 3
        assert (
            results[name].reason
            == "estimates of 3 subjects rest on the population: 2 accept everything, 1 decline everything"
        )


def test_subjects_with_too_few_different_offers_rest_on_the_population():
    made = offered(GRID)
    made.reward[0] = 2
    results = assess(made)
    assert results["reward"].subjects == 5
    assert (
        results["reward"].reason
        == "estimates of 1 subject rest on the population: 1 have offers that do not determine reward"
    )
    assert results["bias"].subjects == 6


def test_missed_trials_carry_no_information():
    made = offered(GRID + GRID)
    known = np.broadcast_to(np.arange(32) < 16, made.known.shape)
    padded = dataclasses.replace(made, known=known)
    for name in NAMES:
        assert assess(padded)[name].error == pytest.approx(assess(offered(GRID))[name].error)
        assert assess(made)[name].error == pytest.approx(assess(padded)[name].error / np.sqrt(2))


def test_the_information_is_that_of_the_likelihood_at_indifference():
    design = identifiability.design_matrix(offered(GRID, subjects=1), effort.effort_constants())
    information = identifiability.offer_fisher_information(design, np.ones((1, 16)))[0]
    np.testing.assert_allclose(information, design[0].T @ design[0] / 4, rtol=1e-12)
