"""Sessions: what the habenula and dopamine say of what has been learnt, and what goes when its mechanism is taken out."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradient_check import check
from people import PLAIN, strained

from habenula.circuit.behaviour import effort, td_learning
from habenula.circuit.behaviour.conditioning import pavlovian
from habenula.circuit.model import dopamine
from habenula.circuit.simulation.conditions import depressed, draw, healthy
from habenula.circuit.simulation.moment import Event, moment
from habenula.circuit.simulation.session import Timing, default_timing, session
from habenula.kernels import Plan, has_hoisted_call

N, TRIALS = 16, 48
SURE, EVEN, NEVER, PUFF = range(4)  # the cues
TASK = pavlovian([1.0, 0.5, 0.0, 0.0], puff=[0.0, 0.0, 0.0, 0.5])
LATE = np.arange(TRIALS) >= TRIALS // 2
SHORT = Timing(80.0, 80.0, 80.0, 40.0, 40.0, 80.0)  # ms


def people(condition, gain: float = 1.0):
    """A cohort whose RMTg hears its habenula `gain` times as well; all run through one program."""
    cohort = draw(condition, N, seed=1, plan=PLAIN)
    where = lambda c: c.parameters.dopamine.rmtg_gain
    return eqx.tree_at(where, cohort, jnp.full(N, gain) * where(cohort))


def live(cohort, **changes):
    p = td_learning.default_learner()
    how = dataclasses.replace(p, **{name: jnp.asarray(value, p.prior.dtype) for name, value in changes.items()})
    return session(cohort, TASK, TRIALS, learner=how)


@pytest.fixture(scope="module")
def lived():
    """By condition, and with the habenula's output cut off the RMTg."""
    conditions = {"healthy": healthy(), "depressed": depressed()}
    intact = {name: live(people(condition)) for name, condition in conditions.items()}
    return intact | {f"{name}, lesioned": live(people(condition, 0.0)) for name, condition in conditions.items()}


def response(seen, window, quantity, which):
    """Mean over the trials in `which`, less the time before the cue: one number per subject."""
    change = np.asarray(getattr(seen, window)[quantity] - seen.before[quantity], float)
    return np.where(which, change, 0).sum(axis=1) / np.maximum(which.sum(axis=1), 1)


def surely(values):
    """Mean over subjects, and -1, 0 or 1: its sign where it is more than 4 standard errors from 0."""
    values = np.asarray(values, float)
    mean = values.mean()
    return mean, int(np.sign(mean)) * int(abs(mean) > 4 * values.std(ddof=1) / np.sqrt(len(values)))


def events_of(seen):
    """By name: window, which trials, and the sign of the learnt prediction error."""
    cue, reward, puff = (np.asarray(getattr(seen.trials, name)) for name in ("cue", "reward", "puff"))
    return {
        "reward cue": ("cue", LATE & (cue == SURE), 1),
        "no-reward cue": ("cue", LATE & (cue == NEVER), -1),
        "puff cue": ("cue", LATE & (cue == PUFF), -1),
        "omission": ("outcome", LATE & (cue == EVEN) & (reward == 0), -1),
        "reward": ("outcome", LATE & (cue == EVEN) & (reward > 0), 1),
        "puff": ("outcome", LATE & (puff > 0), -1),
    }


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["healthy", "depressed"])
def test_the_habenula_fires_on_worse_than_expected_and_dopamine_on_better(lived, condition):
    """Claim 1 (Matsumoto & Hikosaka 2007, 2009)."""
    seen = lived[condition]
    for name, (window, which, sign) in events_of(seen).items():
        assert surely(response(seen, window, "habenula", which))[1] == -sign, name
        assert surely(response(seen, window, "rate", which))[1] == sign, name


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["healthy", "depressed"])
def test_what_is_expected_does_not_move_them(lived, condition):
    """A sure reward, once learnt, moves dopamine less than a quarter of what it did at first."""
    seen = lived[condition]
    sure = np.asarray(seen.trials.cue) == SURE
    first = sure & (np.cumsum(sure, axis=1) == 1)
    at_first, later = (
        response(seen, "outcome", "rate", which).mean() for which in (first, sure & (np.arange(TRIALS) >= 40))
    )
    assert at_first > 0
    assert abs(later) < 0.25 * at_first


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["healthy", "depressed"])
def test_a_lesion_takes_the_errors_out_of_dopamine_and_leaves_the_puff(lived, condition):
    """The habenula says the same as before; dopamine neurons no longer hear it (Tian & Uchida 2015)."""
    seen, cut = lived[condition], lived[f"{condition}, lesioned"]
    np.testing.assert_allclose(cut.outcome["habenula"], seen.outcome["habenula"], rtol=1e-4, atol=1e-4)

    def dip(of, name):
        window, which, _ = events_of(of)[name]
        return (response(of, window, "rate", which) / np.asarray(of.before["rate"]).mean(axis=1)).mean()

    for name in ("reward cue", "no-reward cue", "omission", "reward"):
        assert abs(dip(cut, name)) < 0.01 * abs(dip(seen, name)), name
    assert 0.7 < dip(cut, "puff") / dip(seen, "puff") < 1.3


@pytest.mark.slow
def test_without_learning_cues_mean_nothing(lived):
    """Paired by subject and noise: the difference between the best and the worst cue is gone."""
    apart = lambda seen: (
        response(seen, "cue", "habenula", events_of(seen)["no-reward cue"][1])
        - response(seen, "cue", "habenula", events_of(seen)["reward cue"][1])
    )
    assert surely(apart(lived["healthy"]))[1] == 1
    assert surely(apart(live(people(healthy()), learning_rate=0.0)))[1] == 0


def first_sight(seen):
    """The first trial of each cue."""
    cue = np.asarray(seen.trials.cue)
    return np.any([(cue == k) & (np.cumsum(cue == k, axis=1) == 1) for k in range(4)], axis=0)


@pytest.mark.slow
def test_a_pessimistic_prior_vetoes_before_the_effort(lived):
    """Claim 2: at the first sight of a cue, before anything has come of any; gone with the prior, and with experience."""
    assert draw(depressed(), N, seed=1, plan=PLAIN).state.mood.mean() < 0.6  # where the prior comes from
    seen, hopeful = lived["depressed"], live(people(depressed()), prior_mood=0.0)
    both = seen, hopeful
    difference = lambda quantity, which: np.subtract(*(response(each, "cue", quantity, which) for each in both))
    sight = first_sight(seen)
    assert np.asarray(seen.learnt.cue_error)[:, 0].max() < 0
    fires, sign = surely(difference("habenula", sight))
    assert sign == 1
    assert surely(difference("rate", sight))[1] == -1
    rmtg = [dopamine.rmtg_rate(each.cue["habenula"], jnp.asarray(0.0), dopamine.dopamine_constants()) for each in both]
    veto = [np.asarray(effort.rmtg_bias_reduction(rate, effort.effort_constants()))[:, 0] for rate in rmtg]
    assert surely(np.subtract(*veto))[1] == 1  # before the first outcome there is
    assert abs(difference("habenula", np.broadcast_to(LATE, sight.shape)).mean()) < 0.1 * fires


@pytest.mark.slow
def test_the_prior_of_a_healthy_subject_is_its_mood_and_can_be_shifted(lived):
    plain, gloomy = lived["healthy"], live(people(healthy()), prior=-0.5)
    sight = first_sight(plain)
    assert np.abs(np.asarray(plain.learnt.cue_error)[:, 0]).max() < 0.1
    rise = response(gloomy, "cue", "habenula", sight) - response(plain, "cue", "habenula", sight)
    assert surely(rise)[1] == 1


@pytest.mark.slow
def test_histograms_are_the_windows(lived):
    """Their bins, over all trials of all kinds, make the mean over the session; the rest is rounding."""
    seen, when = lived["healthy"], default_timing()
    assert seen.histogram["rate"].shape == (N, 1, 4, 3, when.bins)
    np.testing.assert_array_equal(seen.count.sum(axis=(1, 2, 3)), np.full(N, TRIALS))
    assert seen.count[:, 0, SURE].tolist() == [[0, 12, 0]] * N
    t = np.asarray(seen.t)
    for name, begin in {"before": -when.window, "cue": 0.0, "outcome": when.delay}.items():
        inside = (t > begin) & (t < begin + when.window)
        for quantity in ("habenula", "rate"):
            bins = np.nan_to_num(np.asarray(seen.histogram[quantity])) * np.asarray(seen.count)[..., None]
            found = bins[..., inside].sum(axis=(1, 2, 3)).mean(axis=1) / TRIALS
            np.testing.assert_allclose(found, getattr(seen, name)[quantity].mean(axis=1), rtol=1e-3)
    assert np.isnan(np.asarray(seen.histogram["rate"])[:, 0, SURE, 0]).all()


@pytest.mark.slow
def test_the_first_trial_is_a_moment(lived):
    """The same clock: a moment with that trial's errors as events gives that trial's means."""
    cohort, seen, when = people(healthy()), lived["healthy"], default_timing()
    at_outcome, first = when.cue + when.delay, lambda value: np.asarray(value)[:, 0]
    events = (
        Event("reward", when.cue, when.holds, first(seen.learnt.cue_error), when.fades),
        Event("reward", at_outcome, when.holds, first(seen.learnt.outcome_error), when.fades),
        Event("aversive", at_outcome, when.holds, first(seen.trials.puff)),
    )
    same = moment(cohort, when.bins * 0.04, events=events, save_every=1, record=("habenula", "rate"))
    t = np.asarray(same.t)
    for name, begin in {"before": when.cue - when.window, "cue": when.cue, "outcome": at_outcome}.items():
        inside = (t > begin) & (t <= begin + when.window)
        for quantity in ("habenula", "rate"):
            mean = np.asarray(same[quantity])[:, inside].mean(axis=1)
            np.testing.assert_allclose(first(getattr(seen, name)[quantity]), mean, rtol=1e-3, atol=1e-4)


def brief(cohort, trials=4, **options):
    return session(cohort, pavlovian([1.0, 0.0]), trials, when=SHORT, neurons=8, settle=0.05, **options)


@pytest.mark.slow
def test_company_does_not_change_a_session():
    cohort = strained(20)
    whole, some = brief(cohort), brief(cohort[4:8])
    for quantity in ("habenula", "rate"):
        np.testing.assert_allclose(some.outcome[quantity], whole.outcome[quantity][4:8], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(some.trials.reward, whole.trials.reward[4:8])


@pytest.mark.nightly
def test_tiles_and_devices_do_not_change_a_session():
    cohort = strained(40)
    whole = brief(cohort)
    for plan in (Plan(tile=16), Plan(tile=16, devices=2)):
        other = brief(cohort, plan=plan)
        for quantity in ("habenula", "rate"):
            np.testing.assert_allclose(other.outcome[quantity], whole.outcome[quantity], rtol=1e-3, atol=1e-3)


def test_a_second_session_does_not_compile():
    cohort, other = (strained(4, seed) for seed in (1, 2))
    first, compiled = brief(cohort), []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    try:
        second = brief(other)
        jax.block_until_ready(second.count)
    finally:
        jax.monitoring.clear_event_listeners()
    assert not compiled
    assert not np.allclose(first.outcome["rate"], second.outcome["rate"])


@pytest.mark.slow
def test_parts_of_a_session_have_histograms_of_their_own_and_trials_are_told():
    cohort, heard = strained(4), []
    seen = brief(cohort, 8, parts=2, record=("dopamine",), progress=lambda done, total: heard.append((done, total)))
    jax.effects_barrier()
    assert sorted(heard) == [(i, 8) for i in range(1, 9)]
    assert seen.count.sum(axis=(2, 3)).tolist() == [[4, 4]] * 4
    rewarded = np.asarray(seen.trials.reward[:, :4]) > 0
    window = np.where(rewarded, seen.outcome["dopamine"][:, :4], 0).sum(axis=1) / rewarded.sum(axis=1)
    bins = np.asarray(seen.histogram["dopamine"])[:, 0, 0, 1, 4:6].mean(axis=1)
    np.testing.assert_allclose(bins, window, rtol=1e-4)


def test_the_loop_of_a_session_is_one_piece_of_machine_code():
    cohort = strained(4)
    seen = lambda state: brief(eqx.tree_at(lambda c: c.state, cohort, state)).outcome
    compiled = str(jax.jit(seen).lower(cohort.state).compile().as_text())
    assert len([line for line in compiled.splitlines() if has_hoisted_call(line)]) == 2


def test_bad_numbers_name_their_subject():
    cohort = strained(4)
    state = dataclasses.replace(cohort.state, gain=cohort.state.gain.at[2].set(jnp.nan))
    assert brief(eqx.tree_at(lambda c: c.state, cohort, state)).finite.tolist() == [True, True, False, True]


def gradient_of(backend):
    cohort, p = strained(2), td_learning.default_learner()
    task, shortest = pavlovian([1.0, 0.0], puff=[0.0, 1.0]), Timing(40.0, 80.0, 80.0, 40.0, 40.0, 40.0)
    plan = Plan(backend=backend, tile=16)

    def function(x):
        how = eqx.tree_at(lambda p: (p.learning_rate, p.prior, p.puff), p, x[0])
        where = lambda c: (c.parameters.dopamine.gaba_gain, c.state.mood)
        seen = session(
            eqx.tree_at(where, cohort, x[1]), task, 3, learner=how, neurons=4, settle=0.05, when=shortest, plan=plan
        )
        weight = np.random.default_rng(0).normal(size=(2, 3))
        return (weight * (seen.cue["rate"] + seen.outcome["habenula"])).sum()

    own = (p.learning_rate, p.prior - 0.3, p.puff), (cohort.parameters.dopamine.gaba_gain, cohort.state.mood * 0.5)
    check(function, own)


@pytest.mark.nightly
@pytest.mark.parametrize("backend", ["scan", "tiled"])
@pytest.mark.usefixtures("float64")
def test_gradients_through_what_is_learnt(backend):
    gradient_of(backend)


@pytest.mark.nightly
def test_dopamine_of_this_circuit_cannot_be_the_teacher():
    """Why errors teach (see `session`): in health a rise is a fraction of a dip; in depression it is many times as large."""

    def change(cohort, size):
        seen = moment(cohort, 1.0, events=(Event("reward", 600.0, 200.0, jnp.full(N, size), 400.0),), record=("rate",))
        t, rate = np.asarray(seen.t), np.asarray(seen["rate"])
        return rate[:, t > 600].mean() - rate[:, t <= 600].mean()

    well, ill = people(healthy()), people(depressed())
    assert 0 < change(well, 1.0) < -0.5 * change(well, -1.0)
    assert change(ill, 1.0) > 5 * change(well, 1.0)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (dict(trials=0), "trials=0 must be at least 1"),
        (dict(trials=10, parts=3), "divide into parts=3"),
        (dict(trials=4, record=("mood",)), r"cannot record \['mood'\]"),
        (dict(trials=4, record=()), "at least one of each"),
        (dict(trials=4, neurons=0), "0 neurons"),
        (dict(trials=4, settle=0.0), "settle=0.0"),
    ],
)
def test_errors_at_the_door(words, match):
    with pytest.raises(ValueError, match=match):
        session(strained(2), TASK, **words)


def test_more_errors_at_the_door():
    with pytest.raises(ValueError, match=r"a task of \[3\] subjects for 2"):
        session(strained(2), pavlovian(np.ones((2, 3))), 4)
    how = dataclasses.replace(td_learning.default_learner(), learning_rate=jnp.asarray(2.0))
    with pytest.raises(ValueError, match="learning_rate = 2 must lie between 0 and 1"):
        session(strained(2), TASK, 4, learner=how)
    times = dict(cue=80.0, delay=160.0, after=160.0, holds=40.0, fades=80.0, window=80.0)
    for change, match in (
        (dict(delay=90.0), r"delay=90 ms must be above 0 and whole bins"),
        (dict(window=120.0), r"window=120 ms does not fit into the shortest part of the trial, 80 ms"),
        (dict(fades=160.0), r"errors of 200 ms do not end before the next event, 160 ms on"),
    ):
        with pytest.raises(ValueError, match=match):
            Timing(**times | change)
