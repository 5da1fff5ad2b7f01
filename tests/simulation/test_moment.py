"""Moments: events, two routes of aversion, and the same noise in any company."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from people import PLAIN

from habenula.circuit.model.fast_clock import EVENT_KINDS
from habenula.circuit.simulation.conditions import depressed, draw, healthy
from habenula.circuit.simulation.course import observe_cohort
from habenula.circuit.simulation.moment import Event, moment
from habenula.kernels import Plan, has_hoisted_call


@pytest.fixture(scope="module")
def well():
    return draw(healthy(), 24, seed=1, plan=PLAIN)


def after(cohort, kind="reward", size=0.0):
    """A second in which one thing happens, after half of it; one program serves every kind."""
    sizes = {each: size if each == kind else 0.0 for each in EVENT_KINDS}
    return moment(cohort, 1.0, events=tuple(Event(each, 500.0, 200.0, size) for each, size in sizes.items()))


def window(seen, name, begin, end):
    inside = (np.asarray(seen.t) > begin) & (np.asarray(seen.t) <= end)
    return np.asarray(seen[name])[:, inside].mean(axis=1)


def response(seen, name, at, lasts):
    return (window(seen, name, at, at + lasts) - window(seen, name, at - 400, at)).mean()


@pytest.mark.slow
def test_omission_excites_the_habenula_and_dips_dopamine(well):
    bad, good = after(well, "reward", -1.0), after(well, "reward", 1.0)
    assert response(bad, "habenula", 500, 200) > 0 > response(good, "habenula", 500, 200)
    assert response(bad, "rate", 500, 200) < 0 < response(good, "rate", 500, 200)  # before the rebound


@pytest.mark.slow
def test_a_lesion_keeps_the_aversive_dip_and_loses_the_omission_dip(well):
    """Without habenular output to the RMTg (Tian & Uchida 2015)."""
    lesion = eqx.tree_at(lambda c: c.parameters.dopamine.rmtg_gain, well, jnp.asarray(0.0))
    dip = lambda cohort, *event: response(after(cohort, *event), "rate", 500, 250)
    assert dip(lesion, "aversive", 1.0) < -0.2
    assert abs(dip(lesion, "reward", -1.0)) < 0.1 * abs(dip(well, "reward", -1.0))


@pytest.fixture(scope="module")
def looked_at():
    """By name, a cohort, and what large populations of its neurons did in six seconds."""
    cohorts = {condition.name: draw(condition, 24, seed=1, plan=PLAIN) for condition in (healthy(), depressed())}
    return {name: (cohort, moment(cohort, 6.0, neurons=128, record=())) for name, cohort in cohorts.items()}


def test_depressed_subjects_burst_more(looked_at):
    well, ill = (looked_at[name][1] for name in ("healthy", "depressed"))
    assert ill.modes.bursting.mean() > 2 * well.modes.bursting.mean()
    assert ill.mean["active"].mean() < 0.8 * well.mean["active"].mean()


@pytest.mark.parametrize("name", ["healthy", "depressed"])
def test_the_two_clocks_agree_on_a_cohort(looked_at, name):
    """A moment of large populations against the transfer function; the chance left is about 3 % of a cohort's mean."""
    cohort, seen = looked_at[name]
    fast, slow = seen.mean, observe_cohort(cohort)
    for each, within in {"habenula": 0.12, "active": 0.02, "rate": 0.15, "vta_output": 0.15, "dopamine": 0.2}.items():
        assert float(fast[each].mean()) == pytest.approx(float(slow[each].mean()), rel=within), each


@pytest.mark.slow
def test_company_tiles_and_devices_do_not_change_a_moment(well):
    whole = moment(well, 0.5, plan=Plan(tile=16))
    for other in (moment(well, 0.5, plan=Plan(tile=32)), moment(well, 0.5, plan=Plan(tile=16, devices=2))):
        np.testing.assert_allclose(other["rate"], whole["rate"], rtol=1e-5, atol=1e-5)
    alone = moment(well[7], 0.5, plan=Plan(tile=16))
    np.testing.assert_allclose(alone["rate"][0], whole["rate"][7], rtol=1e-5, atol=1e-5)


def test_events_may_differ_between_subjects(well):
    pulse = lambda sizes: moment(well[:3], 0.5, events=(Event("current", 250.0, 5.0, sizes),), plan=PLAIN)
    seen, quiet = pulse([0.0, 6.0, 0.0]), pulse([0.0, 0.0, 0.0])
    np.testing.assert_allclose(seen["habenula"][0], quiet["habenula"][0], rtol=1e-5, atol=1e-5)
    assert window(seen, "habenula", 250, 260)[1] > 5 * window(quiet, "habenula", 250, 260)[1]


def test_an_event_may_fade():
    event = Event("reward", 100.0, 50.0, 2.0, fades=40.0)
    found = [float(event.now(jnp.asarray(t))) for t in (99.0, 101.0, 149.0, 160.0, 170.0, 180.0, 195.0)]
    np.testing.assert_allclose(found, [0, 2, 2, 1.5, 1, 0.5, 0], atol=0.01)


def test_neurons_that_are_let_go_gently_do_not_burst_together(well):
    """After an unexpected reward; let go at once, they pause dopamine neurons more than the reward excited them."""
    twice, fades = well[np.tile(np.arange(8), 2)], np.repeat([0.0, 400.0], 8)
    seen = moment(twice, 1.2, events=(Event("reward", 400.0, 200.0, 1.0, fades),), record=("rate",), plan=PLAIN)
    t, rate = np.asarray(seen.t), np.asarray(seen["rate"]).reshape(2, 8, -1).mean(axis=1)
    change = rate[:, t > 400] - rate[:, t <= 400].mean(axis=1, keepdims=True)
    rise, fall = change.max(axis=1), -change.min(axis=1)
    assert fall[0] > 5 * rise[0]
    assert fall[1] < 2 * rise[1]


@pytest.mark.slow
def test_inputs_may_be_a_function_of_time(well):
    live = functools.partial(moment, well[:3], 0.5, plan=PLAIN)
    step = live(events=(Event("current", 250.0, 100.0, 0.3),))
    same = live(inputs=lambda t: {"current": 0.3 * ((t >= 250.0) & (t < 350.0)).astype(t.dtype)})
    np.testing.assert_allclose(step["habenula"].mean(), same["habenula"].mean(), rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_gradient_in_the_size_and_time_of_an_event(float64, mode):
    few = draw(healthy(), 2, seed=1, plan=PLAIN)
    few = jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, few)

    def f(x):
        events = (Event("current", x[1], 20.0, x[0]), Event("current", 60.0, 10.0, 0.2, x[2]))
        return moment(few, 0.1, events=events, neurons=4, settle=0.05)["dopamine"].sum() * 1e3

    x, direction = jnp.array([0.3, 40.1, 15.0]), jnp.array([0.6, 0.8, 5.0])
    exact = jax.jvp(f, (x,), (direction,))[1] if mode == "forward" else jax.grad(f)(x) @ direction
    numeric = (f(x + 1e-6 * direction) - f(x - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(exact, numeric, rtol=1e-5)


def test_errors_at_the_door(well):
    with pytest.raises(ValueError, match="'currant' is none of"):
        Event("currant", 0.0, 1.0)
    with pytest.raises(ValueError, match="seconds=0"):
        moment(well, 0.0)
    with pytest.raises(ValueError, match="do not divide"):
        moment(well, 0.5, save_every=7)
    with pytest.raises(ValueError, match="0 neurons"):
        moment(well, 0.5, neurons=0)


def test_bad_numbers_name_their_subject(well):
    few = well[:4]
    state = dataclasses.replace(few.state, gain=few.state.gain.at[2].set(jnp.nan))
    seen = moment(eqx.tree_at(lambda c: c.state, few, state), 0.25, plan=PLAIN)
    assert seen.finite.tolist() == [True, True, False, True]


def test_every_loop_of_a_moment_is_one_piece_of_machine_code(well):
    """The quiet lead and the moment itself: on a JAX that breaks this, moments are right and several times as slow."""
    few = well[:4]
    seen = lambda state: moment(eqx.tree_at(lambda c: c.state, few, state), 0.1, neurons=4, settle=0.05).mean
    compiled = str(jax.jit(seen).lower(few.state).compile().as_text())
    assert len([line for line in compiled.splitlines() if has_hoisted_call(line)]) == 2


def test_a_second_moment_does_not_compile(well):
    look = lambda cohort, at: moment(cohort, 0.1, events=(Event("current", at, 20.0),), neurons=4, settle=0.05)
    first = look(well[:4], 20.0)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    try:
        second = look(well[4:8], 50.0)
    finally:
        jax.monitoring.clear_event_listeners()
    assert not compiled
    assert not np.allclose(first["habenula"], second["habenula"])


@pytest.mark.slow
def test_without_records_there_are_the_same_means(well):
    live = functools.partial(moment, well[:4], 0.5, plan=PLAIN)
    seen, bare = live(), live(record=())
    assert bare.record == {}
    assert bare.t.shape == (0,)
    for name, value in seen.mean.items():
        np.testing.assert_allclose(bare.mean[name], value, rtol=1e-3)
    some = live(record=("dopamine",))
    np.testing.assert_allclose(some["dopamine"], seen["dopamine"], rtol=1e-3)
    assert set(some.record) == {"dopamine"}
    with pytest.raises(ValueError, match=r"cannot record \['mood'\]; choose from"):
        live(record=("mood",))
