"""Effort tasks: staircase rules, choice frequencies, the clock of the EEfRT, and independence of subjects."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.circuit.behaviour import effort, effort_tasks
from habenula.circuit.behaviour.effort import Preferences
from habenula.circuit.data import constants

MIXED = Preferences(jnp.asarray(1.0), jnp.asarray(1.2), jnp.asarray(1.2))


@pytest.fixture(scope="module")
def made():
    return effort_tasks.run_task(effort_tasks.staircases(), MIXED, subjects=60, seed=3)


def test_each_staircase_begins_at_its_cell_and_has_four_trials(made):
    assert made.known.all()
    assert made.first.sum(axis=1).tolist() == [16] * 60
    number = made.staircase.astype(int)
    assert (np.sort(number, axis=1) == np.repeat(np.arange(16), 4)).all()
    np.testing.assert_array_equal(made.effort[made.first], number[made.first] // 4 + 1)
    np.testing.assert_array_equal(made.reward[made.first], number[made.first] % 4 + 1)


def test_every_move_follows_the_rule(made):
    by_effort = []
    for e, r, accepted, number in zip(made.effort, made.reward, made.accepted, made.staircase.astype(int), strict=True):
        for staircase in range(16):
            trials = np.flatnonzero(number == staircase)
            for now, after in itertools.pairwise(trials):
                up = 1 if accepted[now] else -1
                options = [(e[now] + up, r[now]), (e[now], r[now] - up)]
                options = [offer for offer in options if min(offer) >= 1 and max(offer) <= 4]
                assert (e[after], r[after]) in (options or [(e[now], r[now])])
                if len(options) == 2:
                    by_effort.append((e[after], r[after]) == options[0])
    assert abs(np.mean(by_effort) - 0.5) < 6 * 0.5 / np.sqrt(len(by_effort))


def test_choice_frequencies_follow_the_formula(made):
    p = effort.effort_constants()
    trial = jnp.broadcast_to(jnp.arange(64.0), made.effort.shape)
    offer = jnp.asarray(made.effort, jnp.float32), jnp.asarray(made.reward, jnp.float32)
    value, early_value = (
        effort.subjective_value(*offer, weights, p) for weights in (MIXED, effort.early_preferences(p))
    )
    logit = effort.acceptance_logit(value, early_value, effort.task_novelty(trial, p.fade), p.naive)
    expected = np.asarray(effort.acceptance_probability(logit, p.lapse), float)
    error = np.sqrt((expected * (1 - expected)).sum())
    assert abs((made.accepted - expected).sum()) < 5 * error


def test_subjects_are_independent_of_the_batch(made):
    few = effort_tasks.run_task(effort_tasks.staircases(), MIXED, subjects=5, seed=3)
    np.testing.assert_array_equal(few.accepted, made.accepted[:5])
    np.testing.assert_array_equal(few.effort, made.effort[:5])
    other = effort_tasks.run_task(effort_tasks.staircases(), MIXED, subjects=5, seed=4)
    assert (other.effort != few.effort).any()


def test_constants_and_clock_of_the_eefrt():
    task = effort_tasks.eefrt()
    state = task.reset(jnp.linspace(-3.0, 3.0, task.trials))
    after = task.step(state, jnp.asarray(1.0), jnp.asarray(2.0), jnp.asarray(0.5))
    assert float(after.clock) == pytest.approx(2 + 21 + 4)
    after = task.step(state, jnp.asarray(0.0), jnp.asarray(60.0), jnp.asarray(0.5))
    assert float(after.clock) == pytest.approx(5 + 7 + 4)
    assert float(after.earned) == pytest.approx(float(state.probability) * 1.0)
    states = jax.vmap(task.reset)(jax.random.normal(jax.random.key(0), (3000, task.trials)))
    assert set(np.asarray(states.probability, float).round(2).tolist()) == {0.12, 0.5, 0.88}
    assert float(states.magnitude.min()) >= 1.24
    assert float(states.magnitude.max()) <= 4.30


def test_choosing_the_hard_task_leaves_fewer_trials_in_twenty_minutes():
    eager, idle = (Preferences(jnp.asarray(b), jnp.asarray(1.0), jnp.asarray(1.0)) for b in (20.0, -20.0))
    counts = [
        effort_tasks.run_task(effort_tasks.eefrt(), preferences, subjects=20).known.sum(axis=1)
        for preferences in (eager, idle)
    ]
    assert counts[0].max() < counts[1].min()
    assert counts[0].min() >= 1200 / (5 + 21 + 4)


@pytest.mark.parametrize("subjects", [None, 0])
def test_number_of_subjects_is_required(subjects):
    with pytest.raises(ValueError, match="numbers of subjects"):
        effort_tasks.run_task(effort_tasks.staircases(), MIXED, subjects=subjects)


def test_constants_of_the_task_can_be_replaced():
    """If the hard task needs no more presses and time, its effort is at the lowest level."""
    p = constants.section_values("eefrt")
    equal = effort_tasks.eefrt(hard_presses=p["easy_presses"], hard_seconds=p["easy_seconds"])
    same = effort.Preferences(*(jnp.asarray(value) for value in (3.0, 1.5, 3.0)))
    both = [effort_tasks.run_task(task, same, subjects=20) for task in (equal, effort_tasks.eefrt())]
    assert np.unique(both[0].effort[both[0].known]) == [1.0]
    assert (both[0].known.sum(axis=1) >= both[1].known.sum(axis=1)).all()
    with pytest.raises(ValueError, match=r"no constants \['presses'\]; choose from"):
        effort_tasks.eefrt(presses=3.0)
