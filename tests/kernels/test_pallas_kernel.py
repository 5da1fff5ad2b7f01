"""The loop as one kernel: the same numbers when interpreted, and code for GPUs without a GPU."""

import importlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.circuit.model.interventions import Ketamine, Recalibration
from habenula.circuit.simulation.conditions import depressed, draw
from habenula.circuit.simulation.course import course
from habenula.circuit.simulation.moment import Event, moment
from habenula.kernels import Maximum, Mean, Plan, integrate

kernels = importlib.import_module("machine_code").kernels  # of programs for a GPU that is not there

FUSED = Plan("fused", interpret=True)
ARMS = {"untreated": (), "ketamine": (Ketamine(0.5, 0.25),), "recalibration": (Recalibration([0.5], 1.0),)}


def decay(state, shared, own, inputs, z, j):
    after = state + 0.1 * (shared["rest"] - state) + own["noise"] * z[0]
    return after, after


def run(plan, start=0, rest=2.0):
    x = jnp.linspace(0.0, 1.0, 16)
    return integrate(
        decay,
        x,
        steps=48,
        subjects=jnp.arange(16),
        shared={"rest": jnp.asarray(rest)},
        per_subject={"noise": 0.1 * x},
        channels=1,
        start=start,
        save_every=24,
        sample=lambda state, out: out,
        statistics={"mean": (Mean(), lambda state, out: out)},
        plan=plan,
    )


@pytest.mark.optimised
@pytest.mark.parametrize("start", [0, 1, 48])
def test_a_run_may_begin_at_any_step(start):
    plain, fused = (jax.jit(lambda plan=plan: run(plan, start=start))() for plan in (Plan("scan"), FUSED))
    jax.tree.map(np.testing.assert_array_equal, plain, fused)


@pytest.mark.slow
def test_a_moment_is_the_same():
    """To the last bit but one: how a population's mean is summed is the compiler's choice, and JAX 0.12 chooses otherwise."""
    ill, air_puff = draw(depressed(), 5, seed=1), Event("aversive", at=10.0, lasts=10.0)
    live = lambda plan: moment(ill, 0.032, events=(air_puff,), neurons=8, save_every=16, settle=0.016, plan=plan)
    plain, fused = live(Plan("scan")), live(FUSED)
    for name, value in plain.record.items():
        np.testing.assert_array_max_ulp(fused[name], value, maxulp=2)
    np.testing.assert_array_equal(plain.modes.bursting, fused.modes.bursting)


@pytest.mark.slow
def test_a_moment_becomes_two_kernels():
    ill = draw(depressed(), 128, seed=1)
    live = lambda state: (
        moment(eqx.tree_at(lambda c: c.state, ill, state), 0.5, neurons=32, settle=0.064, plan=Plan("fused")).record
    )
    assert len(kernels(live, ill.state)) == 2  # the quiet lead, and what is observed


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_a_course_is_the_same(arm):
    """But for rounding: how a product of matrices is summed differs, and the circuit feeds that back for 24 hours."""
    ill = draw(depressed(), 5, seed=1)
    plain, fused = (course(ill, ARMS[arm], 1.0, plan=plan) for plan in (Plan("scan"), FUSED))
    for name, value in plain.record.items():
        np.testing.assert_allclose(fused[name], value, rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_a_course_becomes_one_kernel(arm):
    ill = draw(depressed(), 128, seed=1)
    live = lambda state: course(eqx.tree_at(lambda c: c.state, ill, state), ARMS[arm], 2.0, plan=Plan("fused")).record
    assert len(kernels(live, ill.state)) == 1


def test_what_kernels_lack_is_put_in_their_words():
    """Products of every size, stacks and rows: the same numbers when interpreted, and code for a GPU."""
    shapes = (32, 8), (32, 32), (4, 32), (2, 4)
    weights = [jnp.cos(jnp.arange(float(rows * terms))).reshape(rows, terms) / terms for rows, terms in shapes]

    def step(state, shared, own, inputs, z, j):
        y = jnp.broadcast_to(state, (8, 2, state.size)) * jnp.arange(1, 3, dtype=state.dtype)[None, :, None]
        for weight in shared:
            y = jnp.tanh(jnp.tensordot(weight, y, 1))
        return jnp.stack([y[0, 1], y[1, 0], state, state]).sum(axis=0) / 4, None

    def live(x, plan):
        run = integrate(step, x, steps=8, subjects=jnp.arange(x.size), shared=weights, plan=plan)
        return run.state

    x = jnp.linspace(0.5, 1.0, 128)
    plain, fused = (jax.jit(lambda x, plan=plan: live(x, plan))(x) for plan in (Plan("scan"), FUSED))
    np.testing.assert_allclose(fused, plain, rtol=1e-5)
    assert len(kernels(lambda x: live(x, Plan("fused")), x)) == 1


@pytest.mark.slow
def test_the_gradient_is_that_of_the_plain_loop():
    def slope(plan):
        lost = lambda rest: jnp.sum(run(plan, rest=rest).statistics["mean"] ** 2)
        forward = jax.jit(lambda rest: jax.jvp(lost, (rest,), (jnp.ones(()),))[1])
        return jax.jit(jax.grad(lost))(jnp.array(2.0)), forward(jnp.array(2.0))

    np.testing.assert_allclose(slope(FUSED), slope(Plan("scan")), rtol=1e-6)


@pytest.mark.nightly
def test_the_gradient_of_a_moment_is_made_of_tangents_through_its_lead():
    """By numbers that all share and by traits: that of the plain loop. Tangents of both runs, and nothing goes backwards."""
    ill = draw(depressed(), 3, seed=1, plan=Plan("scan"))
    moved = lambda everyday, release: eqx.tree_at(
        lambda c: (c.parameters.synapses.everyday, c.state.release), ill, (everyday, release)
    )

    def mean(everyday, release, plan):
        seen = moment(moved(everyday, release), 0.016, neurons=8, save_every=16, settle=0.016, plan=plan)
        return jnp.sum(seen.mean["habenula"] * jnp.arange(1.0, 4.0)) + jnp.sum(seen["dopamine"] ** 2)

    at = ill.parameters.synapses.everyday, ill.state.release
    slopes = {plan: jax.jit(jax.grad(lambda *at, plan=plan: mean(*at, plan), (0, 1))) for plan in (Plan("scan"), FUSED)}
    plain, fused = (slope(*at) for slope in slopes.values())
    assert all(float(jnp.abs(x).min()) > 0 for x in jax.tree.leaves(plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3), fused, plain)
    assert str(jax.make_jaxpr(slopes[FUSED])(*at)).count("pallas_call[") >= 2 + 2 * 2  # two runs, and in two directions


def test_a_maximum_that_is_no_number_stays_so():
    """Compilers of kernels take the other of two numbers, where JAX says that there is none."""

    def live(x):
        largest = {"largest": (Maximum(), lambda state, out: jnp.clip(out, -9.0, 9.0))}
        step = lambda state, shared, own, inputs, z, j: (0.5 * state, 1 / state)
        run = integrate(step, x, steps=4, subjects=jnp.arange(x.size), statistics=largest, plan=Plan("fused"))
        return run.statistics["largest"]

    (kernel,) = kernels(live, jnp.zeros(128))
    assert "max.NaN.f32" in kernel.text
    assert "min.NaN.f32" in kernel.text
    assert "maxnum" not in kernel.text
    assert "minnum" not in kernel.text


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:.*Triton.*:DeprecationWarning")
def test_compiled_it_finds_what_the_plain_loop_does():
    """On paths so short that last digits, which differ between instructions, have not grown."""
    agree_with_the_plain_loop(Plan("fused"))


def agree_with_the_plain_loop(plan):
    ill = draw(depressed(), 128, seed=1, plan=Plan("scan"))
    short = lambda plan: moment(ill, 0.008, neurons=32, save_every=4, settle=0.008, plan=plan).record
    days = lambda plan: course(ill, ARMS["ketamine"], 1.0, plan=plan).record
    for live in (short, days):
        plain, fused = live(Plan("scan")), live(plan)
        for name, value in plain.items():
            scale = float(jnp.abs(value).max())
            np.testing.assert_allclose(fused[name], value, rtol=1e-3, atol=1e-4 * scale, err_msg=name)
    lost = lambda rest, plan: jnp.sum(run(plan, rest=rest).statistics["mean"] ** 2)
    slope = lambda plan: jax.jit(jax.grad(lambda rest: lost(rest, plan)))(jnp.array(2.0))
    np.testing.assert_allclose(slope(plan), slope(Plan("scan")), rtol=1e-4)


def test_without_a_gpu_it_is_refused():
    with pytest.raises(ValueError, match=r"backend='fused' is for GPUs, but JAX runs on 'cpu': take backend='auto'"):
        run(Plan("fused"))


def test_axes_that_kernels_cannot_have_are_named():
    weights = jnp.ones((3, 1))
    step = lambda state, shared, own, inputs, z, j: (state + 0.1 * (shared * state[None]).sum(axis=0), state)
    live = lambda x: integrate(
        step, x, steps=16, subjects=jnp.arange(128), shared=weights, channels=0, plan=Plan("fused")
    ).state  # fmt: skip
    with pytest.raises(ValueError, match=r"powers of two, but a step reads an array of shape \(3, 1\)"):
        kernels(live, jnp.ones(128))
