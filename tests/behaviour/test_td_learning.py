"""Expectations follow the rule that is said, end where theory puts them, and can be fitted by their likelihood."""

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
    seen = td_learning.expected_values(trials, p)
    for subject in (0, 5):
        context, values = 0.0, [-0.2] * 3
        for i in range(120):
            cue, reward, puff = (float(getattr(trials, name)[subject, i]) for name in ("cue", "reward", "puff"))
            cue = int(cue)
            at_cue, at_outcome = 0.9 * values[cue] - context, reward - 0.7 * puff - values[cue]
            found = [float(getattr(seen, name)[subject, i]) for name in ("context", "value", "cue", "outcome")]
            assert found == pytest.approx([context, values[cue], at_cue, at_outcome], abs=1e-4)
            context, values[cue] = context + 0.4 * at_cue, values[cue] + 0.4 * at_outcome
        np.testing.assert_allclose(seen.last.cues[:, subject], values, atol=1e-4)


def test_values_come_to_what_the_cues_are_worth(trials):
    """In the long run the value of a cue scatters about its worth w with variance rate/(2 - rate) var(outcome)."""
    rate = 0.1
    last = td_learning.expected_values(trials, changed(learning_rate=rate)).last.cues
    for value, worth, variance in zip(last, (0.8, 0.3, -0.6), (0.16, 0.21, 0.24), strict=True):
        begun = worth * (1 - rate) ** 40  # what 40 trials have left of the beginning at 0
        spread = np.sqrt(rate / (2 - rate) * variance)
        value = np.asarray(value, float)
        assert abs(value.mean() - worth + begun) < 6 * spread / np.sqrt(len(NUMBERS))
        assert value.std() == pytest.approx(spread, rel=6 / np.sqrt(2 * len(NUMBERS)))


def test_trials_that_were_not_held_teach_nothing(trials):
    gaps = np.zeros((len(NUMBERS), 5))
    longer = Trials(
        *(
            np.concatenate([gap, leaf], 1)
            for gap, leaf in zip((gaps - 1, gaps + 1, gaps + 1), (trials.cue, trials.reward, trials.puff), strict=True)
        )
    )
    seen, bare = td_learning.expected_values(longer), td_learning.expected_values(trials)
    for name in ("context", "value", "cue", "outcome"):
        np.testing.assert_allclose(getattr(seen, name)[:, 5:], getattr(bare, name), atol=1e-6)
        np.testing.assert_array_equal(getattr(seen, name)[:, :5], gaps)
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


def test_responses_are_as_frequent_as_they_should_be_and_their_likelihood_is_bernoullis(trials):
    p = changed(sensitivity=3.0, bias=-1.0)
    chance = np.asarray(td_learning.anticipation_probability(td_learning.expected_values(trials, p), p), float)
    drawn = np.asarray(td_learning.simulate_anticipation(trials, p, seed=4), float)
    assert abs(drawn.sum() - chance.sum()) < 6 * np.sqrt((chance * (1 - chance)).sum())
    drawn[3, 10:20] = np.nan
    each = np.where(drawn == 1, np.log(chance), np.log1p(-chance))
    found = td_learning.anticipation_log_likelihood(drawn, trials, p)
    np.testing.assert_allclose(found, np.nansum(np.where(np.isnan(drawn), np.nan, each), axis=1), rtol=1e-4)


def test_the_likelihood_gives_hidden_numbers_back(trials):
    """By Newton's method from elsewhere: within 4 standard errors, by the curvature of the likelihood itself."""
    truth = changed(learning_rate=0.35, bias=-0.5, sensitivity=2.5)
    responses = td_learning.simulate_anticipation(trials, truth, seed=2)

    def lost(free):
        p = dataclasses.replace(truth, **dict(zip(FREE, free, strict=True)))
        return -td_learning.anticipation_log_likelihood(responses, trials, p, cues=3).sum()

    slope, curvature = jax.jit(jax.grad(lost)), jax.jit(jax.hessian(lost))
    free = jnp.array([0.2, 0.0, 1.5])
    for _ in range(12):
        step = jnp.linalg.solve(curvature(free), slope(free))
        free = free - step * jnp.minimum(1, 0.3 / jnp.abs(step).max())
    error = np.sqrt(np.diag(np.linalg.inv(np.asarray(curvature(free), float))))
    hidden = np.array([float(getattr(truth, name)) for name in FREE])
    assert (np.abs(np.asarray(free) - hidden) < 4 * error).all()
    assert (error < (0.02, 0.05, 0.1)).all()
    assert (np.abs(np.array([0.2, 0.0, 1.5]) - hidden) > 6 * error).all()  # where it began


@pytest.mark.usefixtures("float64")
def test_gradients_of_expectation_and_likelihood(trials):
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
        how = td_learning.shift_prior_by_mood(x[0], x[1])
        seen = td_learning.expected_values(few, how, cues=3)
        return (
            td_learning.anticipation_log_likelihood(responses, few, how, cues=3).sum()
            + (weight * (seen.cue - seen.outcome)).sum()
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
def test_learners_at_the_door(trials, change, match):
    with pytest.raises(ValueError, match=match):
        td_learning.expected_values(trials, changed(**change))


def test_trials_and_responses_at_the_door(trials):
    with pytest.raises(ValueError, match="trials of shapes"):
        td_learning.expected_values(eqx.tree_at(lambda t: t.reward, trials, trials.reward[:, :3]))
    with pytest.raises(ValueError, match=r"reward of \(subject, trial\) \(4, 2\) is nan"):
        td_learning.expected_values(eqx.tree_at(lambda t: t.reward, trials, trials.reward.at[4, 2].set(jnp.nan)))
    with pytest.raises(ValueError, match="responses of shape"):
        td_learning.anticipation_log_likelihood(np.zeros((200, 3)), trials)
    with pytest.raises(ValueError, match=r"a response of 0.5"):
        td_learning.anticipation_log_likelihood(np.full(trials.cue.shape, 0.5), trials)
