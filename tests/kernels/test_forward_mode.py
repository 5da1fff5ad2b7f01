"""Kernels that carry tangents: the derivatives of the plain loop, in few directions; and the plain loop itself, in many."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.circuit.model import lateral_habenula as lhb
from habenula.circuit.model.interventions import Ketamine
from habenula.circuit.simulation.conditions import depressed, draw
from habenula.circuit.simulation.course import course
from habenula.kernels import Histogram, Maximum, Mean, Plan, Variance, grad_by_forward_mode, integrate

lowered = importlib.import_module("machine_code").kernels  # of programs for a GPU that is not there

FUSED, SCAN, LANES, STEPS = Plan("fused", interpret=True), Plan("scan"), 8, 24


def step(state, shared, own, inputs, z, j):
    """A noisy v pulled to a place of its own, with a gain for all; and an integer that counts where v is large."""
    v, n = state
    gain, offsets = shared
    pull = jnp.tanh(gain * own["place"] - v) + jax.lax.stop_gradient(offsets[0]) * v
    after = v + 0.2 * (pull + offsets.sum() + inputs["wave"]) + own["noise"] * z[0]
    return (after, n + (after > 0).astype(jnp.int32) + own["lane"] % 2), after * after


def prepare(shared, own):
    """Of its first lanes' own place and of an offset; the clock moves with nothing."""
    t = jnp.arange(STEPS).astype(own["place"].dtype)
    return {"wave": 0.1 * jnp.sin(shared[1][1] * t)[:, None] * own["place"][None], "clock": t}


def smooth(plan):
    """A number of everything floating that a run returns."""

    def of(state, shared, own):
        run = integrate(
            step,
            (state, jnp.zeros(LANES, jnp.int32)),
            steps=STEPS,
            subjects=jnp.arange(LANES),
            shared=shared,
            per_subject=own | {"lane": jnp.arange(LANES, dtype=jnp.int32)},
            prepare=prepare,
            channels=1,
            seed=3,
            save_every=8,
            sample=lambda state, out: (state[0], state[1], out),
            statistics={
                "mean": (Mean(), lambda state, out: out),
                "variance": (Variance(), lambda state, out: state[0]),
                "maximum": (Maximum(), lambda state, out: out),
                "histogram": (Histogram((-1.0, 0.0, 1.0)), lambda state, out: out),
            },
            plan=plan,
        )
        floating = [x for x in jax.tree.leaves((run.state, run.samples, run.statistics)) if x.dtype != jnp.int32]
        return sum(jnp.sin(x).mean() for x in floating)

    return of


def problem(offsets=2):
    """State, what is shared (1 + `offsets` numbers), what lanes have of their own (2 rows)."""
    x = jnp.linspace(-1.0, 1.0, LANES)
    return (
        0.5 * x,
        (jnp.asarray(0.8), 0.1 * jnp.arange(1.0, 1.0 + offsets)),
        {"place": x + 0.3, "noise": 0.1 + 0.05 * x},
    )


def kernels(function, *arguments):
    return str(jax.make_jaxpr(function)(*arguments)).count("pallas_call[")


@pytest.mark.slow
def test_derivatives_are_those_of_the_plain_loop_and_of_differences(float64):
    arguments, random = problem(), np.random.default_rng(2)
    direction = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)), arguments)
    still = jnp.array([0.0, 1.0])  # differences see the way of the first offset through `stop_gradient`
    direction = (direction[0], (direction[1][0], still * direction[1][1]), direction[2])
    forwards = jax.jit(lambda *a: jax.jvp(smooth(FUSED), a, direction)[1])(*arguments)
    reverse = jax.jit(jax.grad(smooth(FUSED), (0, 1, 2)))(*arguments)
    plain, value = jax.jit(jax.grad(smooth(SCAN), (0, 1, 2)))(*arguments), jax.jit(smooth(SCAN))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), reverse, plain)
    moved = lambda size: float(value(*jax.tree.map(lambda x, dx: x + size * dx, arguments, direction)))
    differences = (8 * (moved(1e-4) - moved(-1e-4)) - moved(2e-4) + moved(-2e-4)) / 12e-4
    along = sum(
        float((x * dx).sum()) for x, dx in zip(jax.tree.leaves(reverse), jax.tree.leaves(direction), strict=True)
    )
    assert forwards == pytest.approx(differences, rel=1e-5)
    assert along == pytest.approx(differences, rel=1e-5)
    assert differences != pytest.approx(0, abs=1e-3)


@pytest.mark.slow
def test_runs_that_follow_each_other_have_one_derivative(float64):
    """The second begins with 16 numbers a lane, more than there are tangents; all of them move with three."""
    pull = lambda state, shared, own: jnp.sin(shared * state) - state + own[0][None]
    walk = lambda state, shared, own, inputs, z, j: (
        state + 0.1 * pull(state, shared, own) + (own[1] * z[0])[None],
        state,
    )
    measured = {"mean": (Mean(), lambda state, out: out.sum(axis=0))}

    def lived(shared, own, plan):
        options = {"subjects": jnp.arange(LANES), "shared": shared, "per_subject": own, "channels": 1, "plan": plan}
        begin = jnp.linspace(0.0, 1.0, 16)[:, None] * own[0][None]
        state = integrate(walk, begin, steps=8, **options).state
        return integrate(walk, state, steps=8, start=8, statistics=measured, **options).statistics["mean"]

    def slopes(plan, together):
        live = functools.partial(lived, plan=plan)
        run = grad_by_forward_mode(live) if together else live
        lost = lambda shared, own: (run(shared, own) ** 2 * jnp.arange(1.0, 1.0 + LANES)).sum()
        return jax.grad(lost, (0, 1))

    at = jnp.asarray(1.3), jnp.stack([jnp.linspace(-1.0, 1.0, LANES), 0.1 * jnp.ones(LANES)])
    fused, plain = (jax.jit(slopes(*options))(*at) for options in ((FUSED, True), (SCAN, False)))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), fused, plain)
    assert kernels(slopes(FUSED, True), *at) > kernels(slopes(FUSED, False), *at) >= 2


@pytest.mark.slow
def test_two_devices_find_what_one_does():
    plan = Plan("fused", devices=2, interpret=True)
    found, one = (jax.jit(jax.grad(smooth(each), (1, 2)))(*problem()) for each in (plan, FUSED))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), found, one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "offsets", "count"),
    [
        ((2,), 2, 1),  # two rows of own: one kernel
        ((0, 1, 2), 2, 1),  # one row of the state, three shared numbers, two rows of own
        ((1, 2), 4, 2),  # seven: two kernels
        ((1, 2), 9, 2),  # twelve
        ((1, 2), 10, 0),  # thirteen: the plain loop
    ],
)
def test_few_directions_are_kernels_and_many_the_plain_loop(by, offsets, count):
    """Beside the run itself."""

    def pulled(*arguments):
        moving = lambda *some: smooth(FUSED)(*(dict(zip(by, some, strict=True)).get(i, arguments[i]) for i in range(3)))
        return jax.vjp(moving, *(arguments[i] for i in by))[1](jnp.ones(()))

    whole = kernels(pulled, *problem(offsets))
    assert whole == 1 + count


@pytest.fixture(scope="module")
def conditions():
    p = lhb.neuron_constants()
    return p, lhb.heterogeneity_quadrature(p, 8), lhb.slice_conditions(LANES, excitation=jnp.linspace(1.0, 2.0, LANES))


def output(given, p, cells, plan):
    """Mean drive of the RMTg over 16 ms, of neurons from rest in the healthy slice."""

    def advance(state, shared, own, inputs, z, j):
        after = lhb.step_neurons(state, own, z, *shared, 0.25)
        return after, lhb.habenula_output(after.rate, shared[0])

    run = integrate(
        advance,
        jax.lax.stop_gradient(lhb.resting_neuron_state(p, cells, given)),
        steps=64,
        subjects=jnp.arange(LANES),
        shared=(p, cells),
        per_subject=given,
        channels=8,
        statistics={"mean": (Mean(), lambda state, out: out)},
        plan=plan,
    )
    return run.statistics["mean"]


@pytest.mark.slow
def test_the_habenula_whose_step_has_calls_and_powers_of_its_own(conditions):
    """`apart` and `power_of_two` have rules for derivatives, which hold in kernels as well."""
    p, cells, given = conditions
    slopes = lambda plan: jax.jit(jax.grad(lambda given: output(given, p, cells, plan).sum()))(given)
    fused, plain = slopes(FUSED), slopes(SCAN)
    assert float(jnp.abs(plain.excitation).max()) > 0.1
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6), fused, plain)


@pytest.mark.slow
def test_tangents_become_code_for_gpus(conditions):
    p, cells, given = conditions
    loss = lambda given: output(given, p, cells, Plan("fused")).sum()
    forwards = lambda given: jax.jvp(loss, (given,), (given,))[1]
    for derivative in (jax.grad(loss), forwards):
        assert len(lowered(derivative, given)) == 1


@pytest.mark.slow
def test_the_gradient_of_a_course_is_one_kernel():
    ill = draw(depressed(), 32, seed=1)
    mood = lambda dose: course(ill, Ketamine(dose, 0.25), 1.0, record=("mood",), plan=Plan("fused"))["mood"].sum()
    assert len(lowered(jax.grad(mood), jnp.asarray(0.5))) == 1
