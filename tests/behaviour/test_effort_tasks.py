"""The effort tasks: rules of the staircases against a replay, the EEfRT's clock, and lives that depend on nobody else."""

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
    both = []
    for e, r, accepted, number in zip(made.effort, made.reward, made.accepted, made.staircase.astype(int), strict=True):
        for staircase in range(16):
            at = np.flatnonzero(number == staircase)
            for now, after in itertools.pairwise(at):
                up = 1 if accepted[now] else -1
                options = [(e[now] + up, r[now]), (e[now], r[now] - up)]
                options = [each for each in options if min(each) >= 1 and max(each) <= 4]
                assert (e[after], r[after]) in (options or [(e[now], r[now])])
                if len(options) == 2:
                    both.append((e[after], r[after]) == options[0])
    assert abs(np.mean(both) - 0.5) < 6 * 0.5 / np.sqrt(len(both))


def test_choices_are_as_frequent_as_the_formula_says(made):
    p = effort.effort_constants()
    trial = jnp.broadcast_to(jnp.arange(64.0), made.effort.shape)
    offer = jnp.asarray(made.effort, jnp.float32), jnp.asarray(made.reward, jnp.float32)
    own, common = (effort.subjective_value(*offer, each, p) for each in (MIXED, effort.early_preferences(p)))
    logit = effort.acceptance_logit(own, common, effort.task_novelty(trial, p.fade), p.naive)
    expected = np.asarray(effort.acceptance_probability(logit, p.lapse), float)
    error = np.sqrt((expected * (1 - expected)).sum())
    assert abs((made.accepted - expected).sum()) < 5 * error


def test_a_life_depends_on_nobody_else(made):
    few = effort_tasks.run_task(effort_tasks.staircases(), MIXED, subjects=5, seed=3)
    np.testing.assert_array_equal(few.accepted, made.accepted[:5])
    np.testing.assert_array_equal(few.effort, made.effort[:5])
    other = effort_tasks.run_task(effort_tasks.staircases(), MIXED, subjects=5, seed=4)
    assert (other.effort != few.effort).any()


def test_the_eefrt_has_its_constants_and_its_clock():
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


def test_those_who_take_the_hard_task_have_fewer_trials_in_twenty_minutes():
    eager, idle = (Preferences(jnp.asarray(b), jnp.asarray(1.0), jnp.asarray(1.0)) for b in (20.0, -20.0))
    counts = [
        effort_tasks.run_task(effort_tasks.eefrt(), each, subjects=20).known.sum(axis=1) for each in (eager, idle)
    ]
    assert counts[0].max() < counts[1].min()
    assert counts[0].min() >= 1200 / (5 + 21 + 4)


@pytest.mark.parametrize("subjects", [None, 0])
def test_how_many_must_be_known(subjects):
    with pytest.raises(ValueError, match="numbers of subjects"):
        effort_tasks.run_task(effort_tasks.staircases(), MIXED, subjects=subjects)


def test_constants_of_the_task_can_be_others():
    """Where the greater reward takes no more presses and no more time, the effort is the least there is."""
    p = constants.section_values("eefrt")
    equal = effort_tasks.eefrt(hard_presses=p["easy_presses"], hard_seconds=p["easy_seconds"])
    same = effort.Preferences(*(jnp.asarray(value) for value in (3.0, 1.5, 3.0)))
    lives = [effort_tasks.run_task(task, same, subjects=20) for task in (equal, effort_tasks.eefrt())]
    assert np.unique(lives[0].effort[lives[0].known]) == [1.0]
    assert (lives[0].known.sum(axis=1) >= lives[1].known.sum(axis=1)).all()
    with pytest.raises(ValueError, match=r"no constants \['presses'\]; choose from"):
        effort_tasks.eefrt(presses=3.0)
