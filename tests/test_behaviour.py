"""How cohorts behave: preferences of people, and what a depressed circuit makes of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.circuit import behaviour, conditions, effort, interventions, tasks
from habenula.circuit.simulate import course, observe

SUBJECTS = 64
NAMES = ("bias", "reward", "effort")


@pytest.fixture(scope="module")
def cohorts():
    """Healthy and depressed people of the same numbers."""
    return tuple(conditions.draw(kind(), SUBJECTS, seed=2) for kind in (conditions.healthy, conditions.depressed))


def test_preferences_are_those_of_the_population():
    mean, root = behaviour.population()
    own = np.stack([np.asarray(leaf, float) for leaf in jax.tree.leaves(behaviour.draw_preferences(4000, seed=1))])
    covariance = root @ root.T
    assert (np.abs(own.mean(axis=1) - mean) < 5 * np.sqrt(np.diag(covariance) / 4000)).all()
    variance = np.diag(covariance)
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / 4000)  # of a normal's sample covariance
    assert (np.abs(np.cov(own) - covariance) < 5 * error).all()


def test_preferences_depend_on_seed_and_number_alone():
    few, many, other = (behaviour.draw_preferences(*each) for each in ((5, 1), (50, 1), (5, 2)))
    for name in NAMES:
        np.testing.assert_allclose(getattr(few, name), getattr(behaviour.part(many, slice(5)), name), rtol=1e-6)
        assert (np.asarray(getattr(few, name)) != np.asarray(getattr(other, name))).all()


def test_part_takes_subjects_and_leaves_what_all_share():
    own = effort.Preferences(jnp.arange(4.0), jnp.asarray(2.0), jnp.arange(4.0) + 10)
    some = behaviour.part(own, np.array([True, False, False, True]))
    np.testing.assert_array_equal(some.bias, [0, 3])
    np.testing.assert_array_equal(some.effort, [10, 13])
    assert float(some.reward) == 2


def test_depression_lowers_the_bias_by_way_of_the_veto(cohorts):
    same = effort.Preferences(*(jnp.asarray(value) for value in (3.0, 1.5, 1.5)))
    well, ill = (behaviour.govern(cohort, same) for cohort in cohorts)
    apart = np.asarray(ill.bias, float) - np.asarray(
        well.bias, float
    )  # within numbers: the same person, stressed or not
    assert apart.mean() + 5 * apart.std() / np.sqrt(SUBJECTS) < 0
    p = effort.effort()
    output = [np.log(np.asarray(observe(cohort, ("habenula",))["habenula"], float)) for cohort in cohorts]
    np.testing.assert_allclose(apart, -float(p.veto) * (output[1] - output[0]), rtol=1e-4, atol=1e-5)
    spared = eqx.tree_at(lambda p: p.veto, p, jnp.asarray(0.0))
    np.testing.assert_array_equal(behaviour.govern(cohorts[1], same, spared).bias, np.full(SUBJECTS, 3.0))


def test_depression_leaves_the_reward_weight_and_makes_effort_dearer(cohorts):
    same = effort.Preferences(*(jnp.asarray(value) for value in (3.0, 1.5, 1.5)))
    well, ill = (behaviour.govern(cohort, same) for cohort in cohorts)
    for each in (well, ill):
        np.testing.assert_array_equal(each.reward, 1.5)
    apart = np.asarray(ill.effort, float) - np.asarray(well.effort, float)
    assert apart.mean() - 5 * apart.std() / np.sqrt(SUBJECTS) > 0


def test_the_depressed_accept_fewer_offers(cohorts):
    """Near indifference, where a bias shows in choices, and with the veto fourfold, so that so few people suffice."""
    p = effort.effort()
    strong = eqx.tree_at(lambda p: p.veto, p, 4 * p.veto)
    same = effort.Preferences(*(jnp.asarray(value) for value in (1.0, 0.5, 0.5)))
    lives = [behaviour.choose(cohort, tasks.staircases(), same, seed=1, constants=strong) for cohort in cohorts]
    share = [life.accepted.mean(axis=1) for life in lives]
    error = np.sqrt(sum(each.var() / SUBJECTS for each in share))
    assert share[1].mean() + 4 * error < share[0].mean()
    latency = [np.log(life.latency).mean(axis=1) for life in lives]
    assert latency[1].mean() > latency[0].mean()


def test_liking_has_no_effect(cohorts):
    """An SSRI blunts: people who blunt less or more choose alike, trial by trial."""
    well = cohorts[0]
    lives, liking = [], []
    for blunting in (0.0, 0.8):
        cohort = eqx.tree_at(lambda c: c.parameters.motivation.blunting, well, jnp.full(SUBJECTS, blunting))
        after = course(cohort, interventions.SSRI(20.0), 14.0, record=("liking",))
        liking.append(np.asarray(after["liking"], float)[:, -1].mean())
        lives.append(behaviour.choose(after.cohort, tasks.staircases(), behaviour.draw_preferences(SUBJECTS), seed=1))
    assert liking[1] < liking[0] - 0.1
    np.testing.assert_array_equal(lives[0].accepted, lives[1].accepted)
    np.testing.assert_array_equal(lives[0].latency, lives[1].latency)


def test_bad_numbers_are_refused(cohorts):
    with pytest.raises(ValueError, match="subjects=0 must be at least 1"):
        behaviour.draw_preferences(0)
    with pytest.raises(ValueError, match=r"preferences of \[5\] subjects for a cohort of 64"):
        behaviour.choose(cohorts[0], tasks.staircases(), behaviour.draw_preferences(5))
