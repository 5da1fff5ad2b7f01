"""TD learning: against a plain loop and its stationary distribution; the likelihood recovers parameters; gradients."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradient_check import check

from habenula.circuit.behaviour import td_learning
from habenula.circuit.behaviour.conditioning import Trials, pavlovian, schedule_trials

NUMBERS = jnp.arange(200, dtype=jnp.uint32)
FREE = ("learning_rate", "bias", "sensitivity")


@pytest.fixture(scope="module")
def trials():
    return schedule_trials(pavlovian([0.8, 0.3, 0.0], puff=[0.0, 0.0, 0.6]), 120, NUMBERS, 1)


def changed(**values):
    p = td_learning.default_learner()
    return dataclasses.replace(p, **{name: jnp.asarray(value, p.prior.dtype) for name, value in values.items()})


def test_values_and_errors_by_a_plain_loop(trials):
    p = changed(learning_rate=0.4, discount=0.9, prior=-0.2, puff=-0.7)
    history = td_learning.expected_values(trials, p)
    for subject in (0, 5):
        context, values = 0.0, [-0.2] * 3
        for i in range(120):
            cue, reward, puff = (float(getattr(trials, name)[subject, i]) for name in ("cue", "reward", "puff"))
            cue = int(cue)
            at_cue, at_outcome = 0.9 * values[cue] - context, reward - 0.7 * puff - values[cue]
            actual = [
                float(getattr(history, name)[subject, i])
                for name in ("context_value", "cue_value", "cue_error", "outcome_error")
            ]
            assert actual == pytest.approx([context, values[cue], at_cue, at_outcome], abs=1e-4)
            context, values[cue] = context + 0.4 * at_cue, values[cue] + 0.4 * at_outcome
        np.testing.assert_allclose(history.last.cues[:, subject], values, atol=1e-4)


def test_values_converge_to_expected_outcomes(trials):
    """In the long run the value of a cue scatters about its expected outcome w with variance rate/(2 - rate) var(outcome)."""
    rate = 0.1
    last = td_learning.expected_values(trials, changed(learning_rate=rate)).last.cues
    for value, expected, variance in zip(last, (0.8, 0.3, -0.6), (0.16, 0.21, 0.24), strict=True):
        initial = expected * (1 - rate) ** 40  # remainder of the start at 0 after 40 trials
        spread = np.sqrt(rate / (2 - rate) * variance)
        value = np.asarray(value, float)
        assert abs(value.mean() - expected + initial) < 6 * spread / np.sqrt(len(NUMBERS))
        assert value.std() == pytest.approx(spread, rel=6 / np.sqrt(2 * len(NUMBERS)))


def test_missing_trials_change_nothing(trials):
    gaps = np.zeros((len(NUMBERS), 5))
    longer = Trials(
        *(
            np.concatenate([gap, leaf], 1)
            for gap, leaf in zip((gaps - 1, gaps + 1, gaps + 1), (trials.cue, trials.reward, trials.puff), strict=True)
        )
    )
    padded, bare = td_learning.expected_values(longer), td_learning.expected_values(trials)
    for name in ("context_value", "cue_value", "cue_error", "outcome_error"):
        np.testing.assert_allclose(getattr(padded, name)[:, 5:], getattr(bare, name), atol=1e-6)
        np.testing.assert_array_equal(getattr(padded, name)[:, :5], gaps)
    responses = np.concatenate([gaps, np.asarray(td_learning.simulate_anticipation(trials))], 1)
    np.testing.assert_allclose(
        td_learning.anticipation_log_likelihood(responses, longer),
        td_learning.anticipation_log_likelihood(responses[:, 5:], trials),
        rtol=1e-5,
    )
    assert np.isnan(np.asarray(td_learning.simulate_anticipation(longer))[:, :5]).all()


def test_mood_moves_the_prior_once():
    p = changed(prior=0.1, prior_mood=0.5)
    low = td_learning.shift_prior_by_mood(p, jnp.array([1.0, 0.4]))
    np.testing.assert_allclose(low.prior, [0.1, -0.2], rtol=1e-6)
    np.testing.assert_array_equal(td_learning.shift_prior_by_mood(low, jnp.array([0.0, 0.0])).prior, low.prior)


def test_response_frequencies_and_bernoulli_likelihood(trials):
    p = changed(sensitivity=3.0, bias=-1.0)
    probability = np.asarray(td_learning.anticipation_probability(td_learning.expected_values(trials, p), p), float)
    responses = np.asarray(td_learning.simulate_anticipation(trials, p, seed=4), float)
    assert abs(responses.sum() - probability.sum()) < 6 * np.sqrt((probability * (1 - probability)).sum())
    responses[3, 10:20] = np.nan
    by_trial = np.where(responses == 1, np.log(probability), np.log1p(-probability))
    by_trial[np.isnan(responses)] = 0
    log_likelihood = td_learning.anticipation_log_likelihood(responses, trials, p)
    np.testing.assert_allclose(log_likelihood, by_trial.sum(axis=1), rtol=1e-4)


def test_maximum_likelihood_recovers_parameters(trials):
    """By Newton's method from another point: within 4 standard errors by the curvature."""
    truth = changed(learning_rate=0.35, bias=-0.5, sensitivity=2.5)
    responses = td_learning.simulate_anticipation(trials, truth, seed=2)

    def negative_log_likelihood(free):
        p = dataclasses.replace(truth, **dict(zip(FREE, free, strict=True)))
        return -td_learning.anticipation_log_likelihood(responses, trials, p, cues=3).sum()

    gradient, hessian = (jax.jit(derive(negative_log_likelihood)) for derive in (jax.grad, jax.hessian))
    free = jnp.array([0.2, 0.0, 1.5])
    for _ in range(12):
        step = jnp.linalg.solve(hessian(free), gradient(free))
        free = free - step * jnp.minimum(1, 0.3 / jnp.abs(step).max())
    error = np.sqrt(np.diag(np.linalg.inv(np.asarray(hessian(free), float))))
    true = np.array([float(getattr(truth, name)) for name in FREE])
    assert (np.abs(np.asarray(free) - true) < 4 * error).all()
    assert (error < (0.02, 0.05, 0.1)).all()
    assert (np.abs(np.array([0.2, 0.0, 1.5]) - true) > 6 * error).all()  # the start was elsewhere


@pytest.mark.usefixtures("float64")
def test_gradients_of_values_and_likelihood(trials):
    few = Trials(*(np.asarray(leaf)[:3, :20] for leaf in jax.tree.leaves(trials)))
    responses = np.asarray(td_learning.simulate_anticipation(few, seed=1))
    p = eqx.tree_at(
        lambda p: (p.prior, p.learning_rate),
        td_learning.default_learner(),
        (jnp.array([-0.3, 0.0, 0.2]), jnp.full(3, 0.4)),
    )
    mood = jnp.array([0.4, 1.0, 0.8])
    weight = np.random.default_rng(0).normal(size=(3, 20))

    def function(x):
        learner = td_learning.shift_prior_by_mood(x[0], x[1])
        history = td_learning.expected_values(few, learner, cues=3)
        return (
            td_learning.anticipation_log_likelihood(responses, few, learner, cues=3).sum()
            + (weight * (history.cue_error - history.outcome_error)).sum()
        )

    check(function, (p, mood))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (dict(learning_rate=1.5), r"Learner.learning_rate = 1.5 must lie between 0 and 1"),
        (dict(discount=-0.1), r"Learner.discount = -0.1 must lie"),
        (dict(prior=float("nan")), r"Learner.prior = nan must be a finite"),
        (dict(bias=[0.0, 1.0]), r"Learner.bias of shape \(2,\) for 200 subjects"),
    ],
)
def test_invalid_learners_are_refused(trials, change, match):
    with pytest.raises(ValueError, match=match):
        td_learning.expected_values(trials, changed(**change))


def test_invalid_trials_and_responses_are_refused(trials):
    with pytest.raises(ValueError, match="trials of shapes"):
        td_learning.expected_values(eqx.tree_at(lambda t: t.reward, trials, trials.reward[:, :3]))
    with pytest.raises(ValueError, match=r"reward of \(subject, trial\) \(4, 2\) is nan"):
        td_learning.expected_values(eqx.tree_at(lambda t: t.reward, trials, trials.reward.at[4, 2].set(jnp.nan)))
    with pytest.raises(ValueError, match="responses of shape"):
        td_learning.anticipation_log_likelihood(np.zeros((200, 3)), trials)
    with pytest.raises(ValueError, match=r"a response of 0.5"):
        td_learning.anticipation_log_likelihood(np.full(trials.cue.shape, 0.5), trials)
