"""How cohorts behave: preferences of people, and what a depressed circuit makes of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradient_check import check
from people import PLAIN

from habenula.circuit.behaviour import effort, effort_tasks
from habenula.circuit.model import interventions
from habenula.circuit.simulation import conditions, decisions
from habenula.circuit.simulation.course import course, observe_cohort
from habenula.circuit.simulation.moment import Event, moment

SUBJECTS = 64
STIMULATED = 32  # of them, in moments
NAMES = ("bias", "reward", "effort")


@pytest.fixture(scope="module")
def cohorts():
    """Healthy and depressed people of the same numbers."""
    return tuple(
        conditions.draw(kind(), SUBJECTS, seed=2, plan=PLAIN) for kind in (conditions.healthy, conditions.depressed)
    )


def test_preferences_are_those_of_the_population():
    mean, root = decisions.population_moments()
    own = np.stack([np.asarray(leaf, float) for leaf in jax.tree.leaves(decisions.draw_preferences(4000, seed=1))])
    covariance = root @ root.T
    assert (np.abs(own.mean(axis=1) - mean) < 5 * np.sqrt(np.diag(covariance) / 4000)).all()
    variance = np.diag(covariance)
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / 4000)  # of a normal's sample covariance
    assert (np.abs(np.cov(own) - covariance) < 5 * error).all()


def test_preferences_depend_on_seed_and_number_alone():
    few, many, other = (decisions.draw_preferences(*each) for each in ((5, 1), (50, 1), (5, 2)))
    for name in NAMES:
        np.testing.assert_allclose(
            getattr(few, name), getattr(decisions.select_preferences(many, slice(5)), name), rtol=1e-6
        )
        assert (np.asarray(getattr(few, name)) != np.asarray(getattr(other, name))).all()


def test_part_takes_subjects_and_leaves_what_all_share():
    own = effort.Preferences(jnp.arange(4.0), jnp.asarray(2.0), jnp.arange(4.0) + 10)
    some = decisions.select_preferences(own, np.array([True, False, False, True]))
    np.testing.assert_array_equal(some.bias, [0, 3])
    np.testing.assert_array_equal(some.effort, [10, 13])
    assert float(some.reward) == 2


def test_depression_lowers_the_bias_by_way_of_the_veto(cohorts):
    same = effort.Preferences(*(jnp.asarray(value) for value in (3.0, 1.5, 1.5)))
    well, ill = (decisions.modulate_by_circuit(cohort, same) for cohort in cohorts)
    apart = np.asarray(ill.bias, float) - np.asarray(
        well.bias, float
    )  # within numbers: the same person, stressed or not
    assert apart.mean() + 5 * apart.std() / np.sqrt(SUBJECTS) < 0
    p = effort.effort_constants()
    output = [np.log(np.asarray(observe_cohort(cohort, ("rmtg",))["rmtg"], float)) for cohort in cohorts]
    np.testing.assert_allclose(apart, -float(p.veto) * (output[1] - output[0]), rtol=1e-4, atol=1e-5)
    unheard = jnp.asarray(0.0)  # by the RMTg, which fires of itself
    silent = eqx.tree_at(lambda c: c.parameters.dopamine.rmtg_gain, cohorts[1], unheard)
    rest = np.log(float(silent.parameters.dopamine.rmtg_baseline) / float(p.reference_rmtg))
    np.testing.assert_allclose(decisions.modulate_by_circuit(silent, same).bias, 3.0 - float(p.veto) * rest, rtol=1e-5)
    assert 0 < -rest < 0.25 * (output[1] - output[0]).mean(), "a silent habenula frees little more than a healthy one"
    spared = eqx.tree_at(lambda p: p.veto, p, jnp.asarray(0.0))
    np.testing.assert_array_equal(decisions.modulate_by_circuit(cohorts[1], same, spared).bias, np.full(SUBJECTS, 3.0))


def test_depression_leaves_the_reward_weight_and_makes_effort_dearer(cohorts):
    same = effort.Preferences(*(jnp.asarray(value) for value in (3.0, 1.5, 1.5)))
    well, ill = (decisions.modulate_by_circuit(cohort, same) for cohort in cohorts)
    for each in (well, ill):
        np.testing.assert_array_equal(each.reward, 1.5)
    apart = np.asarray(ill.effort, float) - np.asarray(well.effort, float)
    assert apart.mean() - 5 * apart.std() / np.sqrt(SUBJECTS) > 0


def test_the_depressed_accept_fewer_offers(cohorts):
    """Near indifference, where a bias shows in choices, and with the veto fourfold, so that so few people suffice."""
    p = effort.effort_constants()
    strong = eqx.tree_at(lambda p: p.veto, p, 4 * p.veto)
    same = effort.Preferences(*(jnp.asarray(value) for value in (1.0, 0.5, 0.5)))
    lives = [
        decisions.simulate_choices(cohort, effort_tasks.staircases(), same, seed=1, constants=strong)
        for cohort in cohorts
    ]
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
        after = course(cohort, interventions.SSRI(20.0), 14.0, record=("liking",), plan=PLAIN)
        liking.append(np.asarray(after["liking"], float)[:, -1].mean())
        lives.append(
            decisions.simulate_choices(
                after.cohort, effort_tasks.staircases(), decisions.draw_preferences(SUBJECTS), seed=1
            )
        )
    assert liking[1] < liking[0] - 0.1
    np.testing.assert_array_equal(lives[0].accepted, lives[1].accepted)
    np.testing.assert_array_equal(lives[0].latency, lives[1].latency)


def test_bad_numbers_are_refused(cohorts):
    with pytest.raises(ValueError, match="subjects=0 must be at least 1"):
        decisions.draw_preferences(0)
    with pytest.raises(ValueError, match=r"preferences of \[5\] subjects for a cohort of 64"):
        decisions.simulate_choices(cohorts[0], effort_tasks.staircases(), decisions.draw_preferences(5))


@pytest.fixture(scope="module")
def stimulated(cohorts):
    """By condition and current: a moment with the current from 2 to 4 s. All run through one program."""

    def live(cohort, size):
        at = Event("current", 2000.0, 2000.0, jnp.full(STIMULATED, size))
        return moment(cohort[:STIMULATED], 6.0, events=(at,), save_every=40)

    well, ill = cohorts
    return {
        (name, size): live(who, size)
        for name, who, size in (
            ("healthy", well, 0.0),
            ("healthy", well, 1.0),
            ("depressed", ill, 0.0),
            ("depressed", ill, -0.5),
        )
    }


def started(seen, constants=None):
    """Acceptance and log latency, (subject, second), of people to whom the offer is nearly indifferent in health."""
    own = effort.Preferences(*(jnp.asarray(value) for value in (3.0, 1.5, 1.5)))
    found = decisions.predict_initiation(seen, own, stretches=6, constants=constants)
    return np.asarray(found.acceptance, float), np.log(np.asarray(found.latency, float))


def surely(values):
    return values.mean() > 4 * values.std(ddof=1) / np.sqrt(len(values))


def test_stimulating_the_habenula_gives_passivity_at_once(stimulated):
    """Claim 5, first half: within the first second, and over once the current is; the veto carries it."""
    quiet, driven = (started(stimulated["healthy", size]) for size in (0.0, 1.0))
    assert surely(quiet[0][:, 2] - driven[0][:, 2])
    assert surely(driven[1][:, 2] - quiet[1][:, 2])
    during, after = ((quiet[0] - driven[0])[:, second].mean() for second in (2, 5))
    assert abs(after) < 0.1 * during
    p = effort.effort_constants()
    spared = eqx.tree_at(lambda p: (p.veto, p.latency_veto, p.dearness), p, (jnp.asarray(0.0),) * 3)
    np.testing.assert_allclose(
        started(stimulated["healthy", 1.0], spared)[0], started(stimulated["healthy", 0.0], spared)[0], rtol=1e-5
    )


def test_silencing_it_reverses_the_passivity_of_the_depressed(stimulated):
    """Claim 5, second half: within seconds most of what depression took is back."""
    well, ill, freed = (started(stimulated[key]) for key in (("healthy", 0.0), ("depressed", 0.0), ("depressed", -0.5)))
    assert surely(well[0][:, 3] - ill[0][:, 3])
    assert surely(freed[0][:, 3] - ill[0][:, 3])
    assert surely(ill[1][:, 3] - freed[1][:, 3])
    lost, back = (each[0][:, 3].mean() - ill[0][:, 3].mean() for each in (well, freed))
    assert back > 0.5 * lost


def test_initiation_by_hand(stimulated):
    """The last second of one subject, from the formulas."""
    seen, p = stimulated["depressed", 0.0], effort.effort_constants()
    own = decisions.select_preferences(decisions.draw_preferences(SUBJECTS, seed=2), slice(STIMULATED))
    rmtg, dopamine = (np.asarray(seen[name])[1, -100:].mean() for name in ("rmtg", "dopamine"))
    mine = effort.modulate_preferences(
        decisions.select_preferences(own, 1), jnp.asarray(rmtg), jnp.asarray(dopamine), p
    )
    logit = effort.subjective_value(jnp.asarray(3.0), jnp.asarray(1.0), mine, p)
    found = decisions.predict_initiation(seen, own, offer=(3, 1), stretches=6)
    assert found.acceptance.shape == (STIMULATED, 6)
    np.testing.assert_allclose(found.t, np.arange(1000.0, 6001.0, 1000.0), rtol=1e-5)
    assert float(found.acceptance[1, -1]) == pytest.approx(
        float(effort.acceptance_probability(logit, p.lapse)), rel=1e-3
    )
    expected = effort.log_latency_mean(logit, jnp.asarray(rmtg), p)
    assert float(jnp.log(found.latency[1, -1])) == pytest.approx(float(expected), rel=1e-3)


def test_initiation_at_the_door(stimulated):
    seen = stimulated["healthy", 0.0]
    own = decisions.draw_preferences(STIMULATED, seed=2)
    with pytest.raises(ValueError, match="preferences of"):
        decisions.predict_initiation(seen, decisions.draw_preferences(3))
    with pytest.raises(ValueError, match="stretches=7: a moment of 600 records"):
        decisions.predict_initiation(seen, own, stretches=7)
    bare = eqx.tree_at(lambda s: s.record, seen, {"rmtg": seen["rmtg"]})
    with pytest.raises(ValueError, match=r"no record of \['dopamine'\]"):
        decisions.predict_initiation(bare, own)


@pytest.mark.usefixtures("float64")
def test_gradients_of_initiation(stimulated):
    seen = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), stimulated["depressed", 0.0].record)
    t = jnp.asarray(np.asarray(stimulated["depressed", 0.0].t), jnp.float64)
    p = effort.effort_constants()
    like = stimulated["depressed", 0.0]

    def function(x):
        record = {"rmtg": seen["rmtg"][:3] * x[1], "dopamine": seen["dopamine"][:3] * x[2]}
        again = eqx.tree_at(lambda s: (s.t, s.record), like, (t, record))
        found = decisions.predict_initiation(again, x[0], stretches=6, constants=p)
        weight = np.random.default_rng(0).normal(size=(3, 6))
        return (weight * (found.acceptance + found.latency)).sum()

    own = effort.Preferences(*(jnp.array(each) for each in ([3.0, 2.0, 4.0], [1.0, 1.5, 2.0], [1.5, 2.0, 1.0])))
    check(function, (own, jnp.array([[1.0], [0.9], [1.2]]), jnp.array([[1.0], [1.1], [0.8]])))
