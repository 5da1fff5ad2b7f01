"""Conditioning: order of cues, outcome frequencies, reversal, and independence of subjects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.circuit.behaviour.conditioning import pavlovian, reset_conditioning, schedule_trials, step_conditioning

NUMBERS = jnp.arange(300, dtype=jnp.uint32)


@pytest.fixture(scope="module")
def schedule():
    """Three cues with a reversal in the middle."""
    return schedule_trials(
        pavlovian([0.9, 0.5, 0.1], magnitude=[1.0, 0.5, 0.25], puff=[0.0, 0.2, 0.8], reversal=30), 60, NUMBERS, 3
    )


def test_every_round_shows_each_cue_once_and_rounds_differ(schedule):
    rounds = np.asarray(schedule.cue).reshape(len(NUMBERS), 20, 3)
    assert (np.sort(rounds, axis=2) == np.arange(3)).all()
    first = np.bincount(rounds[:, :, 0].ravel(), minlength=3) / rounds[:, :, 0].size
    assert (np.abs(first - 1 / 3) < 6 * np.sqrt(2 / 9 / rounds[:, :, 0].size)).all()


@pytest.mark.parametrize("cue", range(3))
@pytest.mark.parametrize("reversed_cues", [False, True])
def test_outcomes_have_the_frequency_and_size_of_the_task(schedule, cue, reversed_cues):
    late = np.broadcast_to(np.arange(60) >= 30, schedule.cue.shape)
    which = (np.asarray(schedule.cue) == cue) & (late == reversed_cues)
    paid_as = 2 - cue if reversed_cues else cue
    probability, magnitude, puff = (
        (0.9, 0.5, 0.1)[paid_as],
        (1.0, 0.5, 0.25)[paid_as],
        (0.0, 0.2, 0.8)[paid_as],
    )
    reward, puffs = np.asarray(schedule.reward)[which], np.asarray(schedule.puff)[which]
    assert set(np.unique(reward)) == {0, np.float32(magnitude)}
    for share, expected in (((reward > 0).mean(), probability), (puffs.mean(), puff)):
        assert abs(share - expected) <= 6 * np.sqrt(expected * (1 - expected) / which.sum())


def test_reset_and_step_by_hand():
    task = pavlovian([1.0, 0.0], puff=[0.0, 1.0], reversal=1)
    state = reset_conditioning(task, jnp.array([0.3, -0.3, 2.0, 1.0, 0.5]))
    assert state.order.tolist() == [1, 0, 1, 0, 1]  # the incomplete last round repeats the order of the first
    certain = jnp.array([0.5, 0.5])
    outcomes = []
    for _ in range(5):
        cue = int(state.cue)
        state = step_conditioning(task, state, certain)
        outcomes.append((cue, float(state.reward), float(state.puff), float(state.open)))
    assert outcomes == [(1, 0, 1, 1), (0, 0, 1, 1), (1, 1, 0, 1), (0, 0, 1, 1), (1, 1, 0, 0)]


def test_trials_depend_on_seed_and_subject_number_only(schedule):
    task = pavlovian([0.9, 0.5, 0.1], magnitude=[1.0, 0.5, 0.25], puff=[0.0, 0.2, 0.8], reversal=30)
    few = schedule_trials(task, 60, NUMBERS[7:12], 3)
    for name in ("cue", "reward", "puff"):
        np.testing.assert_array_equal(getattr(few, name), getattr(schedule, name)[7:12])
    assert (schedule_trials(task, 60, NUMBERS[7:12], 4).cue != few.cue).any()


def test_subjects_may_have_tasks_of_their_own():
    task = pavlovian(np.array([[1.0, 0.0], [0.0, 1.0]]), reversal=np.array([4, 100]))
    trials = schedule_trials(task, 8, NUMBERS[:2])
    # The second subject starts with the contingencies that the first has after the reversal.
    after_reversal = np.array([[False] * 4 + [True] * 4, [True] * 8])
    rewarded = np.asarray(trials.cue) == np.where(after_reversal, 1, 0)
    np.testing.assert_array_equal(trials.reward, rewarded.astype(float))
    alone = schedule_trials(pavlovian([1.0, 0.0], reversal=4), 8, NUMBERS[:1])
    np.testing.assert_array_equal(trials.cue[:1], alone.cue)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (dict(probability=[1.2, 0.0]), r"probability = 1.2 must lie between 0 and 1"),
        (dict(probability=[0.5, float("nan")]), r"probability = nan must lie"),
        (dict(probability=[0.5, 0.5], puff=[0.0, -0.5]), r"puff = -0.5 must lie between 0 and 1"),
        (dict(probability=[0.5, 0.5], magnitude=float("inf")), r"magnitude = inf must lie between 0 and inf"),
        (dict(probability=[0.5, 0.5], magnitude=[1.0, 1.0, 1.0]), r"give one value for each cue"),
        (dict(probability=0.5), r"give one value for each cue"),
        (dict(probability=[0.5, 0.5], reversal=-3), r"reversal=-3 must be a trial"),
    ],
)
def test_invalid_tasks_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        pavlovian(**arguments)


def test_trials_and_subjects_must_agree():
    with pytest.raises(ValueError, match="trials=0"):
        schedule_trials(pavlovian([1.0, 0.0]), 0, NUMBERS)
    with pytest.raises(ValueError, match=r"a task of \[2\] subjects for 300"):
        schedule_trials(pavlovian(np.ones((2, 2))), 4, NUMBERS)


def test_trials_can_be_drawn_under_jit():
    probability = jnp.array([0.7, 0.2])
    trials = jax.jit(lambda probability: schedule_trials(pavlovian(probability), 6, NUMBERS[:4], 1))(probability)
    np.testing.assert_array_equal(trials.reward, schedule_trials(pavlovian(probability), 6, NUMBERS[:4], 1).reward)
