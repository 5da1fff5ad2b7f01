"""Conditioning: cues in rounds, outcomes as likely as they are said to be, lives that depend on nobody else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.circuit.behaviour.conditioning import pavlovian, reset_conditioning, schedule_trials, step_conditioning

NUMBERS = jnp.arange(300, dtype=jnp.uint32)


@pytest.fixture(scope="module")
def lived():
    """Three cues that change places in the middle."""
    return schedule_trials(
        pavlovian([0.9, 0.5, 0.1], magnitude=[1.0, 0.5, 0.25], puff=[0.0, 0.2, 0.8], flip=30), 60, NUMBERS, 3
    )


def test_every_round_shows_each_cue_once_and_rounds_differ(lived):
    rounds = np.asarray(lived.cue).reshape(len(NUMBERS), 20, 3)
    assert (np.sort(rounds, axis=2) == np.arange(3)).all()
    first = np.bincount(rounds[:, :, 0].ravel(), minlength=3) / rounds[:, :, 0].size
    assert (np.abs(first - 1 / 3) < 6 * np.sqrt(2 / 9 / rounds[:, :, 0].size)).all()


@pytest.mark.parametrize("cue", range(3))
@pytest.mark.parametrize("flipped", [False, True])
def test_outcomes_are_as_likely_and_as_large_as_the_cue_says(lived, cue, flipped):
    late = np.broadcast_to(np.arange(60) >= 30, lived.cue.shape)
    which = (np.asarray(lived.cue) == cue) & (late == flipped)
    pays_as = 2 - cue if flipped else cue
    probability, magnitude, puff = (
        (0.9, 0.5, 0.1)[pays_as],
        (1.0, 0.5, 0.25)[pays_as],
        (0.0, 0.2, 0.8)[pays_as],
    )
    reward, puffs = np.asarray(lived.reward)[which], np.asarray(lived.puff)[which]
    assert set(np.unique(reward)) == {0, np.float32(magnitude)}
    for share, expected in (((reward > 0).mean(), probability), (puffs.mean(), puff)):
        assert abs(share - expected) <= 6 * np.sqrt(expected * (1 - expected) / which.sum())


def test_the_pair_of_functions_by_hand():
    task = pavlovian([1.0, 0.0], puff=[0.0, 1.0], flip=1)
    state = reset_conditioning(task, jnp.array([0.3, -0.3, 2.0, 1.0, 0.5]))
    assert state.order.tolist() == [1, 0, 1, 0, 1]  # the last round begins as the first did
    certain = jnp.array([0.5, 0.5])
    seen = []
    for _ in range(5):
        cue = int(state.cue)
        state = step_conditioning(task, state, certain)
        seen.append((cue, float(state.reward), float(state.puff), float(state.open)))
    assert seen == [(1, 0, 1, 1), (0, 0, 1, 1), (1, 1, 0, 1), (0, 0, 1, 1), (1, 1, 0, 0)]


def test_a_life_depends_on_seed_and_number_alone(lived):
    task = pavlovian([0.9, 0.5, 0.1], magnitude=[1.0, 0.5, 0.25], puff=[0.0, 0.2, 0.8], flip=30)
    few = schedule_trials(task, 60, NUMBERS[7:12], 3)
    for name in ("cue", "reward", "puff"):
        np.testing.assert_array_equal(getattr(few, name), getattr(lived, name)[7:12])
    assert (schedule_trials(task, 60, NUMBERS[7:12], 4).cue != few.cue).any()


def test_subjects_may_have_tasks_of_their_own():
    own = pavlovian(np.array([[1.0, 0.0], [0.0, 1.0]]), flip=np.array([4, 100]))
    seen = schedule_trials(own, 8, NUMBERS[:2])
    turned = np.array(
        [[False] * 4 + [True] * 4, [True] * 8]
    )  # the second subject's cues begin in the other's later places
    np.testing.assert_array_equal(seen.reward, (np.asarray(seen.cue) == np.where(turned, 1, 0)).astype(float))
    alone = schedule_trials(pavlovian([1.0, 0.0], flip=4), 8, NUMBERS[:1])
    np.testing.assert_array_equal(seen.cue[:1], alone.cue)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (dict(probability=[1.2, 0.0]), r"probability = 1.2 must lie between 0 and 1"),
        (dict(probability=[0.5, float("nan")]), r"probability = nan must lie"),
        (dict(probability=[0.5, 0.5], puff=[0.0, -0.5]), r"puff = -0.5 must lie between 0 and 1"),
        (dict(probability=[0.5, 0.5], magnitude=float("inf")), r"magnitude = inf must lie between 0 and inf"),
        (dict(probability=[0.5, 0.5], magnitude=[1.0, 1.0, 1.0]), r"give one value for each cue"),
        (dict(probability=0.5), r"give one value for each cue"),
        (dict(probability=[0.5, 0.5], flip=-3), r"flip=-3 must be a trial"),
    ],
)
def test_errors_at_the_door(words, match):
    with pytest.raises(ValueError, match=match):
        pavlovian(**words)


def test_trials_and_subjects_must_agree():
    with pytest.raises(ValueError, match="trials=0"):
        schedule_trials(pavlovian([1.0, 0.0]), 0, NUMBERS)
    with pytest.raises(ValueError, match=r"a task of \[2\] subjects for 300"):
        schedule_trials(pavlovian(np.ones((2, 2))), 4, NUMBERS)


def test_it_can_be_conducted_inside_a_compiled_function():
    probability = jnp.array([0.7, 0.2])
    seen = jax.jit(lambda probability: schedule_trials(pavlovian(probability), 6, NUMBERS[:4], 1))(probability)
    np.testing.assert_array_equal(seen.reward, schedule_trials(pavlovian(probability), 6, NUMBERS[:4], 1).reward)
