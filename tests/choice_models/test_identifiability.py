"""What offers and choices can tell, said before a fit."""

import dataclasses

import numpy as np
import pytest

from habenula.circuit.behaviour import effort
from habenula.circuit.behaviour.choices import Choices
from habenula.circuit.choice_models import identifiability

NAMES = identifiability.PREFERENCE_NAMES


def offered(levels, accepted=None, subjects: int = 6):
    """Every subject is offered `levels` (effort, reward), and accepts each other offer unless told otherwise."""
    efforts, rewards = np.broadcast_to(np.array(levels, float).T[:, None], (2, subjects, len(levels)))
    made = np.arange(len(levels)) % 2.0 if accepted is None else np.array(accepted, float)
    made = np.broadcast_to(made, (subjects, len(levels))).copy()
    none = np.zeros(made.shape, bool)
    return Choices(tuple(map(str, range(subjects))), efforts.copy(), rewards.copy(), made, ~none, none)


GRID = [(e, r) for e in (1, 2, 3, 4) for r in (1, 2, 3, 4)]


def judge(made):
    return identifiability.assess_identifiability(made, effort.effort_constants())


def test_a_full_grid_shows_everything_with_the_errors_of_its_design():
    found = judge(offered(GRID))
    assert all(found[name].identifiable and found[name].subjects == 6 and not found[name].reason for name in NAMES)
    # Centred levels of variance 1.25 are uncorrelated: information 16/4, and 16 x 1.25 / 4 for each weight.
    np.testing.assert_allclose([found[name].error for name in NAMES], [4**-0.5, 5**-0.5, 5**-0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("levels", "hidden", "reason"),
    [
        ([(e, 2) for e in (1, 2, 3, 4)], "reward", "reward is the same in every offer"),
        ([(3, r) for r in (1, 2, 3, 4)], "effort", "effort is the same in every offer"),
        ([(k, k) for k in (1, 2, 3, 4)], "effort", "effort follows from reward in every offer"),
        ([(5 - k, k) for k in (1, 2, 3, 4)], "effort", "effort follows from reward in every offer"),
    ],
)
def test_what_the_offers_hide_is_named(levels, hidden, reason):
    found = judge(offered(levels))
    assert found[hidden].reason == reason
    assert np.isinf(found[hidden].error)
    assert [name for name in NAMES if not found[name].identifiable] == [hidden]
    assert all(np.isfinite(found[name].error) for name in NAMES if name != hidden)


def test_who_always_chooses_the_same_leans_on_the_population():
    made = offered(GRID)
    made.accepted[:2], made.accepted[2] = 1, 0
    found = judge(made)
    for name in NAMES:
        assert found[name].subjects == 3
        assert found[name].reason == "3 subjects lean on the population: 2 accept everything, 1 decline everything"


def test_who_was_offered_too_little_leans_on_the_population():
    made = offered(GRID)
    made.reward[0] = 2
    found = judge(made)
    assert found["reward"].subjects == 5
    assert found["reward"].reason == "1 subjects lean on the population: 1 have offers that do not show reward"
    assert found["bias"].subjects == 6


def test_missed_trials_tell_nothing():
    made = offered(GRID + GRID)
    known = np.broadcast_to(np.arange(32) < 16, made.known.shape)
    padded = dataclasses.replace(made, known=known)
    for name in NAMES:
        assert judge(padded)[name].error == pytest.approx(judge(offered(GRID))[name].error)
        assert judge(made)[name].error == pytest.approx(judge(padded)[name].error / np.sqrt(2))


def test_the_information_is_that_of_the_likelihood_at_indifference():
    design = identifiability.design_matrix(offered(GRID, subjects=1), effort.effort_constants())
    found = identifiability.offer_fisher_information(design, np.ones((1, 16)))[0]
    np.testing.assert_allclose(found, design[0].T @ design[0] / 4, rtol=1e-12)
