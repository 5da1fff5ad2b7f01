"""Effort choices of cohorts: drawn preferences, their modulation by a depressed circuit, initiation during stimulation."""

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
    """Healthy and depressed cohorts with the same subject numbers."""
    return tuple(
        conditions.draw(kind(), SUBJECTS, seed=2, plan=PLAIN) for kind in (conditions.healthy, conditions.depressed)
    )


def test_drawn_preferences_have_the_moments_of_the_population():
    mean, cholesky = decisions.population_moments()
    sample = np.stack([np.asarray(leaf, float) for leaf in jax.tree.leaves(decisions.draw_preferences(4000, seed=1))])
    covariance = cholesky @ cholesky.T
    assert (np.abs(sample.mean(axis=1) - mean) < 5 * np.sqrt(np.diag(covariance) / 4000)).all()
    variance = np.diag(covariance)
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / 4000)  # of the sample covariance of a normal
    assert (np.abs(np.cov(sample) - covariance) < 5 * error).all()


def test_preferences_depend_on_seed_and_subject_number_only():
    few, many, other = (decisions.draw_preferences(*arguments) for arguments in ((5, 1), (50, 1), (5, 2)))
    for name in NAMES:
        np.testing.assert_allclose(
            getattr(few, name), getattr(decisions.select_preferences(many, slice(5)), name), rtol=1e-6
        )
        assert (np.asarray(getattr(few, name)) != np.asarray(getattr(other, name))).all()


def test_selection_keeps_scalars():
    preferences = effort.Preferences(jnp.arange(4.0), jnp.asarray(2.0), jnp.arange(4.0) + 10)
    some = decisions.select_preferences(preferences, np.array([True, False, False, True]))
    np.testing.assert_array_equal(some.bias, [0, 3])
    np.testing.assert_array_equal(some.effort, [10, 13])
    assert float(some.reward) == 2


def test_depression_lowers_the_bias_through_the_rmtg(cohorts):
    same = effort.Preferences(*(jnp.asarray(value) for value in (3.0, 1.5, 1.5)))
    well, ill = (decisions.modulate_by_circuit(cohort, same) for cohort in cohorts)
    # Paired by number: the same person, with and without stress.
    change = np.asarray(ill.bias, float) - np.asarray(well.bias, float)
    assert change.mean() + 5 * change.std() / np.sqrt(SUBJECTS) < 0
    p = effort.effort_constants()
    output = [np.log(np.asarray(observe_cohort(cohort, ("rmtg",))["rmtg"], float)) for cohort in cohorts]
    np.testing.assert_allclose(change, -float(p.veto) * (output[1] - output[0]), rtol=1e-4, atol=1e-5)
    no_input = jnp.asarray(0.0)  # the RMTg fires spontaneously
    silent = eqx.tree_at(lambda c: c.parameters.dopamine.rmtg_gain, cohorts[1], no_input)
    rest = np.log(float(silent.parameters.dopamine.rmtg_baseline) / float(p.reference_rmtg))
    np.testing.assert_allclose(decisions.modulate_by_circuit(silent, same).bias, 3.0 - float(p.veto) * rest, rtol=1e-5)
    assert 0 < -rest < 0.25 * (output[1] - output[0]).mean(), (
        "a silent LHb raises the bias little above that with a healthy one"
    )
    without_veto = eqx.tree_at(lambda p: p.veto, p, jnp.asarray(0.0))
    np.testing.assert_array_equal(
        decisions.modulate_by_circuit(cohorts[1], same, without_veto).bias, np.full(SUBJECTS, 3.0)
    )


def test_depression_keeps_the_reward_weight_and_raises_the_effort_weight(cohorts):
    same = effort.Preferences(*(jnp.asarray(value) for value in (3.0, 1.5, 1.5)))
    well, ill = (decisions.modulate_by_circuit(cohort, same) for cohort in cohorts)
    for preferences in (well, ill):
        np.testing.assert_array_equal(preferences.reward, 1.5)
    change = np.asarray(ill.effort, float) - np.asarray(well.effort, float)
    assert change.mean() - 5 * change.std() / np.sqrt(SUBJECTS) > 0


def test_the_depressed_accept_fewer_offers(cohorts):
    """Near indifference and with a fourfold effect of the RMTg, so that few subjects suffice."""
    p = effort.effort_constants()
    strong = eqx.tree_at(lambda p: p.veto, p, 4 * p.veto)
    same = effort.Preferences(*(jnp.asarray(value) for value in (1.0, 0.5, 0.5)))
    results = [
        decisions.simulate_choices(cohort, effort_tasks.staircases(), same, seed=1, constants=strong)
        for cohort in cohorts
    ]
    share = [choices.accepted.mean(axis=1) for choices in results]
    error = np.sqrt(sum(values.var() / SUBJECTS for values in share))
    assert share[1].mean() + 4 * error < share[0].mean()
    latency = [np.log(choices.latency).mean(axis=1) for choices in results]
    assert latency[1].mean() > latency[0].mean()


@pytest.mark.slow
def test_liking_has_no_effect(cohorts):
    """SSRIs blunt liking; choices are the same, trial by trial, whatever the blunting."""
    well = cohorts[0]
    results, liking = [], []
    for blunting in (0.0, 0.8):
        cohort = eqx.tree_at(lambda c: c.parameters.motivation.blunting, well, jnp.full(SUBJECTS, blunting))
        after = course(cohort, interventions.SSRI(20.0), 14.0, record=("liking",), plan=PLAIN)
        liking.append(np.asarray(after["liking"], float)[:, -1].mean())
        results.append(
            decisions.simulate_choices(
                after.cohort, effort_tasks.staircases(), decisions.draw_preferences(SUBJECTS), seed=1
            )
        )
    assert liking[1] < liking[0] - 0.1
    np.testing.assert_array_equal(results[0].accepted, results[1].accepted)
    np.testing.assert_array_equal(results[0].latency, results[1].latency)


def test_invalid_numbers_of_subjects_are_refused(cohorts):
    with pytest.raises(ValueError, match="subjects=0 must be at least 1"):
        decisions.draw_preferences(0)
    with pytest.raises(ValueError, match=r"preferences of \[5\] subjects for a cohort of 64"):
        decisions.simulate_choices(cohorts[0], effort_tasks.staircases(), decisions.draw_preferences(5))


@pytest.fixture(scope="module")
def stimulated(cohorts):
    """By condition and current: a moment with the current from 2 to 4 s. All share one compiled program."""

    def simulate(cohort, size):
        current = Event("current", 2000.0, 2000.0, jnp.full(STIMULATED, size))
        return moment(cohort[:STIMULATED], 6.0, events=(current,), save_every=40)

    well, ill = cohorts
    return {
        (name, size): simulate(cohort, size)
        for name, cohort, size in (
            ("healthy", well, 0.0),
            ("healthy", well, 1.0),
            ("depressed", ill, 0.0),
            ("depressed", ill, -0.5),
        )
    }


def predict(moment, constants=None):
    """Acceptance and log latency, (subject, second), of people who are nearly indifferent to the offer in health."""
    preferences = effort.Preferences(*(jnp.asarray(value) for value in (3.0, 1.5, 1.5)))
    initiation = decisions.predict_initiation(moment, preferences, bins=6, constants=constants)
    return np.asarray(initiation.acceptance, float), np.log(np.asarray(initiation.latency, float))


def significantly_positive(values):
    return values.mean() > 4 * values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.slow
def test_stimulating_the_habenula_lowers_initiation_within_a_second(stimulated):
    """Claim 5, first half: within the first second, until the current ends, and through the RMTg."""
    quiet, driven = (predict(stimulated["healthy", size]) for size in (0.0, 1.0))
    assert significantly_positive(quiet[0][:, 2] - driven[0][:, 2])
    assert significantly_positive(driven[1][:, 2] - quiet[1][:, 2])
    during, after = ((quiet[0] - driven[0])[:, second].mean() for second in (2, 5))
    assert abs(after) < 0.1 * during
    p = effort.effort_constants()
    unmodulated = eqx.tree_at(lambda p: (p.veto, p.latency_veto, p.dearness), p, (jnp.asarray(0.0),) * 3)
    np.testing.assert_allclose(
        predict(stimulated["healthy", 1.0], unmodulated)[0],
        predict(stimulated["healthy", 0.0], unmodulated)[0],
        rtol=1e-5,
    )


@pytest.mark.slow
def test_silencing_the_habenula_restores_initiation_in_depression(stimulated):
    """Claim 5, second half: within seconds more than half of the deficit is gone."""
    well, ill, silenced = (
        predict(stimulated[key]) for key in (("healthy", 0.0), ("depressed", 0.0), ("depressed", -0.5))
    )
    assert significantly_positive(well[0][:, 3] - ill[0][:, 3])
    assert significantly_positive(silenced[0][:, 3] - ill[0][:, 3])
    assert significantly_positive(ill[1][:, 3] - silenced[1][:, 3])
    deficit, gain = (prediction[0][:, 3].mean() - ill[0][:, 3].mean() for prediction in (well, silenced))
    assert gain > 0.5 * deficit


@pytest.mark.slow
def test_initiation_by_hand(stimulated):
    """The last second of one subject, from the formulas."""
    result, p = stimulated["depressed", 0.0], effort.effort_constants()
    preferences = decisions.select_preferences(decisions.draw_preferences(SUBJECTS, seed=2), slice(STIMULATED))
    rmtg, dopamine = (np.asarray(result[name])[1, -100:].mean() for name in ("rmtg", "dopamine"))
    modulated = effort.modulate_preferences(
        decisions.select_preferences(preferences, 1), jnp.asarray(rmtg), jnp.asarray(dopamine), p
    )
    logit = effort.subjective_value(jnp.asarray(3.0), jnp.asarray(1.0), modulated, p)
    initiation = decisions.predict_initiation(result, preferences, offer=(3, 1), bins=6)
    assert initiation.acceptance.shape == (STIMULATED, 6)
    np.testing.assert_allclose(initiation.t, np.arange(1000.0, 6001.0, 1000.0), rtol=1e-5)
    assert float(initiation.acceptance[1, -1]) == pytest.approx(
        float(effort.acceptance_probability(logit, p.lapse)), rel=1e-3
    )
    expected = effort.log_latency_mean(logit, jnp.asarray(rmtg), p)
    assert float(jnp.log(initiation.latency[1, -1])) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.slow
def test_invalid_moments_and_preferences_are_refused(stimulated):
    result = stimulated["healthy", 0.0]
    preferences = decisions.draw_preferences(STIMULATED, seed=2)
    with pytest.raises(ValueError, match="preferences of"):
        decisions.predict_initiation(result, decisions.draw_preferences(3))
    with pytest.raises(ValueError, match="bins=7: 600 records do not divide"):
        decisions.predict_initiation(result, preferences, bins=7)
    without_dopamine = eqx.tree_at(lambda s: s.record, result, {"rmtg": result["rmtg"]})
    with pytest.raises(ValueError, match=r"no record of \['dopamine'\]"):
        decisions.predict_initiation(without_dopamine, preferences)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_gradients_of_initiation(stimulated):
    record = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), stimulated["depressed", 0.0].record)
    t = jnp.asarray(np.asarray(stimulated["depressed", 0.0].t), jnp.float64)
    p = effort.effort_constants()
    template = stimulated["depressed", 0.0]

    def function(x):
        scaled = {"rmtg": record["rmtg"][:3] * x[1], "dopamine": record["dopamine"][:3] * x[2]}
        result = eqx.tree_at(lambda s: (s.t, s.record), template, (t, scaled))
        initiation = decisions.predict_initiation(result, x[0], bins=6, constants=p)
        weight = np.random.default_rng(0).normal(size=(3, 6))
        return (weight * (initiation.acceptance + initiation.latency)).sum()

    preferences = effort.Preferences(
        *(jnp.array(values) for values in ([3.0, 2.0, 4.0], [1.0, 1.5, 2.0], [1.5, 2.0, 1.0]))
    )
    check(function, (preferences, jnp.array([[1.0], [0.9], [1.2]]), jnp.array([[1.0], [1.1], [0.8]])))
