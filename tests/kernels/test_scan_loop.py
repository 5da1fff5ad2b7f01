"""The time loop: one result under every plan, right derivatives both ways, bounded memory, and loud errors."""

import functools
import itertools
import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from habenula.kernels import (
    Histogram,
    Maximum,
    Mean,
    Plan,
    Variance,
    channel_keys,
    has_hoisted_call,
    heun,
    integrate,
    normals_at_step,
)

STEPS, SAVE_EVERY, CHANNELS = 96, 24, 2
STATISTICS = {
    "mean": (Mean(), lambda state, out: state["v"]),
    "variance": (Variance(), lambda state, out: out),
    "maximum": (Maximum(), lambda state, out: out),
    "histogram": (Histogram((-1.0, 0.0, 1.0)), lambda state, out: state["w"]),
}
PLANS = {
    "tiles of 16": Plan("tiled", tile=16),
    "tiles of 64": Plan("tiled", tile=64),
    "tiles of 512": Plan("tiled", tile=512),
    "not hoisted": Plan("tiled", tile=16, hoist=False),
    "two devices": Plan("tiled", tile=16, devices=2),
    "scan on two devices": Plan("scan", devices=2),
    "fused": Plan("fused", interpret=True),
    "fused on two devices": Plan("fused", devices=2, interpret=True),
}


def step(state, shared, own, inputs, z, j):
    """Two noisy units v for each lane, coupled through their mean to a slow w, and an integer that counts steps."""
    drive = own["drive"] + inputs["wave"] * jnp.cos(0.1 * j.astype(inputs["wave"].dtype))
    v = state["v"] + 0.1 * (jnp.tanh(shared["gain"][:, None] * state["w"][None]) - state["v"] + drive[None]) + 0.2 * z
    w = state["w"] + 0.05 * (shared["offset"] + v.mean(0) - state["w"])
    return {"v": v, "w": w, "n": state["n"] + 1}, v[0] * w


def prepare(shared, own, steps=STEPS):
    t = jnp.arange(steps).astype(own["drive"].dtype)
    return {"wave": jnp.sin(shared["offset"] * t)[:, None] * own["drive"][None]}


def problem(lanes=37, first=0, dtype=jnp.float32):
    """State, shared, own."""
    x = (jnp.arange(first, first + lanes) / 40).astype(dtype)
    state = {"v": jnp.stack([x, 1 - x]), "w": x, "n": jnp.zeros(lanes, jnp.int32)}
    return state, {"gain": jnp.array([0.7, 1.3], dtype), "offset": jnp.array(0.3, dtype)}, {"drive": 0.5 * x - 0.2}


def runner(plan, first=0, steps=STEPS, save_every=SAVE_EVERY, statistics=STATISTICS, **options):
    """The run as a function of state, shared and own."""

    def run(state, shared, own):
        lanes = own["drive"].size
        subjects = jnp.arange(first, first + lanes)
        inputs = functools.partial(prepare, steps=steps)
        return integrate(
            step,
            state,
            steps=steps,
            subjects=subjects,
            shared=shared,
            per_subject=own,
            prepare=inputs,
            seed=5,
            channels=CHANNELS,
            save_every=save_every,
            sample=lambda state, out: (state["v"], out),
            statistics=statistics,
            plan=plan,
            **options,
        )

    return run


@functools.cache
def reference(lanes=37):
    return jax.jit(runner(Plan("scan")))(*problem(lanes))


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_scan_is_the_loop_one_would_write():
    """Step by step, with normals drawn one step at a time, and statistics taken afterwards by numpy."""
    (state, shared, own), keys, subjects = problem(), channel_keys(5, CHANNELS), jnp.arange(37, dtype=jnp.uint32)
    inputs = prepare(shared, own)

    def advance(state, j):
        now = jax.tree.map(lambda x: x[j], inputs)
        state, out = step(state, shared, own, now, normals_at_step(keys, subjects, j), j)
        return state, (state, out)

    state, (states, outs) = jax.jit(lambda state: lax.scan(advance, state, jnp.arange(STEPS)))(state)
    found, every = reference(), slice(SAVE_EVERY - 1, None, SAVE_EVERY)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, found.state, state)
    jax.tree.map(close, found.samples, (states["v"][every], outs[every]))
    close(found.statistics["mean"], states["v"].mean(0))
    close(found.statistics["variance"], outs.var(0))
    close(found.statistics["maximum"], outs.max(0))
    assert (found.statistics["histogram"].sum(0) <= STEPS).all()
    assert found.state["n"].tolist() == [STEPS] * 37
    assert found.nonfinite_at.tolist() == [-1] * 37


@pytest.mark.optimised
@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_gives_the_same_bits(plan):
    assert same(jax.jit(runner(PLANS[plan]))(*problem()), reference())


@pytest.mark.optimised
@pytest.mark.parametrize("block", [1, 3, 96])
def test_every_block_gives_the_same_path(block):
    found = jax.jit(runner(Plan("tiled", block=block)))(*problem())
    assert same((found.state, found.samples), (reference().state, reference().samples))


@pytest.mark.optimised
@pytest.mark.parametrize(("first", "lanes"), [(11, 1), (30, 7)])
def test_a_lane_does_not_know_its_batch(first, lanes):
    found = jax.jit(runner(Plan("tiled"), first))(*problem(lanes, first))
    assert same(found, jax.tree.map(lambda x: x[..., first : first + lanes], reference()))


def test_two_parts_equal_the_whole():
    """Cut at an odd step, so that a pair of normals is shared by the parts."""
    run = lambda plan, steps: (
        lambda start, state: integrate(
            lambda state, shared, own, inputs, z, j: (state + z[0] * jnp.cos(state + j.astype(jnp.float32)), None),
            state,
            steps=steps,
            subjects=jnp.arange(20),
            channels=1,
            save_every=1,
            sample=lambda state, out: state,
            start=start,
            plan=plan,
        )
    )
    state, plan = jnp.zeros(20), Plan("tiled", tile=16)
    whole = jax.jit(run(plan, 60))(0, state)
    before = jax.jit(run(plan, 25))(0, state)
    after = jax.jit(run(plan, 35))(25, before.state)
    assert same(after.state, whole.state)
    assert same(jnp.concatenate([before.samples, after.samples]), whole.samples)


def test_the_loop_is_compiled_whole():
    compiled = lambda run: str(jax.jit(run).lower(*problem()).compile().as_text())
    assert has_hoisted_call(compiled(runner(PLANS["tiles of 16"])))
    assert not has_hoisted_call(compiled(runner(PLANS["not hoisted"])))
    gradient = compiled(jax.grad(loss(PLANS["tiles of 16"]), (1, 2)))
    marked = [line for line in gradient.splitlines() if has_hoisted_call(line)]
    assert len(marked) == 2, "one call of the run, whose results the loss is curved in, and one of its derivative"


def test_a_matrix_product_is_run_in_pieces():
    """The compiler cannot take it into one call; the run then does without, and agrees with the reference."""
    weight = jnp.sin(jnp.arange(64.0)).reshape(8, 8)
    run = lambda plan: (
        lambda state: integrate(
            lambda state, shared, own, inputs, z, j: (jnp.tanh(shared @ state + z), None),
            state,
            steps=8,
            subjects=jnp.arange(32),
            shared=weight,
            channels=8,
            plan=plan,
        )
    )
    state, tiled = jnp.ones((8, 32)), jax.jit(run(Plan("tiled", tile=16)))
    np.testing.assert_allclose(tiled(state).state, jax.jit(run(Plan("scan")))(state).state, rtol=1e-5, atol=1e-5)
    assert not has_hoisted_call(str(tiled.lower(state).compile().as_text()))


def loss(plan):
    """Of everything smooth that a run returns."""
    keep = {name: STATISTICS[name] for name in ("mean", "variance")}

    def of(state, shared, own):
        found = runner(plan, statistics=keep)(state, shared, own)
        smooth = (found.state["v"], found.state["w"], found.samples, found.statistics)
        return sum(jnp.sin(leaf).mean() for leaf in jax.tree.leaves(smooth))

    return of


def floating(tree, function):
    """Apply to floating leaves; integers have no direction."""
    return jax.tree.map(lambda x: function(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


@pytest.mark.slow
def test_derivatives_forwards_in_reverse_and_by_differences(float64):
    arguments = problem(dtype=jnp.float64)
    random = np.random.default_rng(3)
    direction = floating(arguments, lambda x: jnp.asarray(random.normal(size=x.shape)))
    tangents = jax.tree.map(lambda x: x if x.dtype == jnp.float64 else np.zeros(x.shape, jax.dtypes.float0), direction)
    forwards = jax.jit(lambda *a: jax.jvp(loss(PLANS["tiles of 16"]), a, tangents))

    def moved(size):
        add = lambda x, dx: x + size * dx if x.dtype == jnp.float64 else x
        return float(forwards(*jax.tree.map(add, arguments, direction))[0])

    # Fourth order: the error of size^4 and the rounding over size are both some 1e-11.
    size = 1e-4
    differences = (8 * (moved(size) - moved(-size)) - moved(2 * size) + moved(-2 * size)) / (12 * size)
    gradient = jax.jit(jax.grad(loss(PLANS["tiles of 16"]), (0, 1, 2), allow_int=True))(*arguments)
    plain = jax.jit(jax.grad(loss(Plan("scan")), (0, 1, 2), allow_int=True))(*arguments)
    dot = lambda a, b: sum(float((x * y).sum()) for x, y in zip(a, b, strict=True) if y.dtype == jnp.float64)
    reverse = dot(jax.tree.leaves(gradient), jax.tree.leaves(direction))

    np.testing.assert_allclose(forwards(*arguments)[1], differences, rtol=1e-9)
    np.testing.assert_allclose(reverse, differences, rtol=1e-9)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(plain), strict=True):
        if a.dtype == jnp.float64:
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)


def test_only_what_is_asked_is_differentiated():
    """With one argument moving, the others may even be integers or absent."""
    run = lambda scale: integrate(
        lambda state, shared, own, inputs, z, j: (state + shared["scale"] ** shared["power"] * z[0], None),
        jnp.zeros(5),
        steps=6,
        subjects=jnp.arange(5),
        shared={"scale": scale, "power": 2, "name": None},
        channels=1,
        plan=Plan("tiled"),
    ).state.sum()
    value, slope = jax.value_and_grad(run)(jnp.float32(3.0))
    np.testing.assert_allclose(slope, 2 * value / 3, rtol=1e-5)
    np.testing.assert_allclose(jax.jvp(run, (jnp.float32(3.0),), (jnp.float32(1.0),))[1], slope, rtol=1e-5)


def decay(gain, plan):
    return integrate(
        lambda state, shared, own, inputs, z, j: (state - 0.1 * own * state**3, None),
        jnp.ones(3),
        steps=10,
        subjects=jnp.arange(3),
        per_subject=jnp.broadcast_to(gain, 3),
        plan=plan,
    ).state


def test_many_directions_are_mapped_over():
    tiled = lambda direction: jax.jvp(lambda gain: decay(gain, Plan("tiled")), (gain,), (direction,))[1]
    gain = jnp.array([0.5, 0.7, 1.0])
    columns = jax.jit(lambda directions: lax.map(tiled, directions))(jnp.eye(3))
    expected = jax.jit(jax.jacfwd(lambda gain: decay(gain, Plan("scan"))))(gain)
    np.testing.assert_allclose(columns.T, expected, rtol=1e-6)


def test_scan_can_be_batched_and_differentiated_twice():
    run = lambda gain: decay(gain, Plan("scan")).sum()
    gains, size = jnp.array([0.5, 1.0]), 0.01
    slope = jax.jit(jax.grad(run))
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(run)))(gains), [slope(gain) for gain in gains], rtol=1e-6)
    curvature = (slope(gains[0] + size) - slope(gains[0] - size)) / (2 * size)
    np.testing.assert_allclose(jax.jit(jax.hessian(run))(gains[0]), curvature, rtol=1e-3)


def memory_of_gradient(steps):
    """Bytes that a gradient takes beside arguments and results."""
    run = lambda gain: integrate(
        lambda state, shared, own, inputs, z, j: (state + shared * z[0] - state**3, None),
        jnp.zeros(16),
        steps=steps,
        subjects=jnp.arange(16),
        shared=gain,
        channels=1,
        plan=Plan("tiled", block=16),
    ).state.sum()
    analysis = jax.jit(jax.grad(run)).lower(0.1).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def test_memory_of_the_gradient_grows_slower_than_steps(monkeypatch):
    """Where nothing may be kept of the run; `sys.modules`, as the module's name is the function's."""
    monkeypatch.setattr(sys.modules[integrate.__module__], "MAX_RESIDUAL_BYTES_PER_TILE", 0)
    few, many = 16 * 32, 16 * 32 * 64
    assert memory_of_gradient(many) < 64**0.5 * memory_of_gradient(few)
    assert memory_of_gradient(few) < 0.6 * few * 16 * 4, "less than one number of each step: blocks are computed again"
    assert memory_of_gradient(many) < 0.05 * many * 16 * 4, "and far less where there are many: groups of blocks too"


def test_what_the_gradient_keeps_is_bounded(monkeypatch):
    """One number of a block, up to a limit, with which the run is not made once more."""
    steps, kept = 16 * 32 * 64, 32 * 64 * 16 * 4
    module = sys.modules[integrate.__module__]
    monkeypatch.setattr(module, "MAX_RESIDUAL_BYTES_PER_TILE", kept - 1)
    without = memory_of_gradient(steps)
    monkeypatch.setattr(module, "MAX_RESIDUAL_BYTES_PER_TILE", kept)
    assert without < kept / 2 < kept <= memory_of_gradient(steps) < 2 * kept
    monkeypatch.setattr(module, "MAX_RESIDUAL_BYTES_PER_TILE", 16 * kept)
    assert 16 * kept <= memory_of_gradient(steps) < 18 * kept, "of every step, so that no block is made once more"
    monkeypatch.setattr(module, "MAX_RESIDUAL_BYTES", 16 * kept - 1)
    assert memory_of_gradient(steps) < 2 * kept


@pytest.mark.slow
def test_what_is_kept_changes_no_gradient(monkeypatch, float64):
    """Of states, of samples within and between blocks, and of statistics, the linear and the others."""

    def loss(gain, plan):
        found = integrate(
            lambda state, shared, own, inputs, z, j: (state + shared * z[0] - 0.1 * state**3, state * shared),
            jnp.linspace(0.5, 1.5, 16),
            steps=96,
            subjects=jnp.arange(16),
            shared=gain,
            channels=1,
            save_every=4,
            sample=lambda state, output: state * output,
            statistics={
                "mean": (Mean(), lambda state, output: output),
                "variance": (Variance(), lambda state, output: state),
                "most": (Maximum(), lambda state, output: state),
            },
            plan=plan,
        )
        parts = (found.state, jnp.sin(found.samples), *(jnp.sqrt(1 + x) for x in found.statistics.values()))
        return sum(part.sum() for part in parts)

    gain = jnp.array(0.1)
    expected = jax.grad(lambda gain: loss(gain, Plan("scan", block=4)))(gain)
    for block in (4, 16):
        run = functools.partial(loss, plan=Plan("tiled", block=block))
        for kept in (0, 96 * 16 * 8 - 1, 2**24):  # nothing, what blocks began with, what steps began with
            monkeypatch.setattr(sys.modules[integrate.__module__], "MAX_RESIDUAL_BYTES_PER_TILE", kept)
            np.testing.assert_allclose(jax.jit(jax.grad(lambda gain, run=run: run(gain)))(gain), expected, rtol=1e-10)
        pushed = jax.jit(lambda gain, run=run: jax.jvp(run, (gain,), (jnp.ones_like(gain),))[1])(gain)
        np.testing.assert_allclose(pushed, expected, rtol=1e-10)


def test_a_second_call_does_not_trace():
    traced = itertools.count()

    def counting(state, shared, own, inputs, z, j):
        next(traced)
        return state + z[0], None

    run = jax.jit(
        lambda state, seed, start, subjects: integrate(
            counting, state, steps=4, subjects=subjects, seed=seed, start=start, channels=1, plan=Plan("tiled")
        )
    )
    first = run(jnp.zeros(3), jnp.uint32(1), 0, jnp.arange(3))
    seen = next(traced)
    second = run(jnp.ones(3), jnp.uint32(2), 8, jnp.arange(5, 8))
    assert next(traced) == seen + 1
    assert not np.allclose(first.state, second.state)


@pytest.mark.parametrize("plan", [Plan("tiled", block=16), Plan("scan", block=16)], ids=["tiled", "scan"])
def test_a_bad_lane_is_named_with_its_block(plan):
    """Lane 5 leaves at step 37, lane 7 at step 63: found when their blocks of 16 end. Outside jit, for once."""
    leave = jnp.full(20, 1000).at[5].set(37).at[7].set(63)
    found = integrate(
        lambda state, shared, own, inputs, z, j: ([state[0], jnp.where(own == j, jnp.inf, state[1])], None),
        [jnp.zeros(20), jnp.zeros((3, 20))],
        steps=64,
        subjects=jnp.arange(20),
        per_subject=leave,
        start=32,
        plan=plan,
    )
    assert found.nonfinite_at.tolist() == [{5: 48, 7: 64}.get(lane, -1) for lane in range(20)]


def test_against_diffrax(float64):
    """A pendulum with friction, by another library's fifth-order solver."""
    field = lambda x, friction: jnp.stack([x[1], -jnp.sin(x[0]) - friction * x[1]])
    friction, start, dt, steps = jnp.array([0.0, 0.1, 0.5]), jnp.array([[1.0, 2.0, 3.0], [0.0, 0.5, -1.0]]), 0.01, 500
    found = integrate(
        lambda state, shared, own, inputs, z, j: (heun(lambda x: field(x, own), state, shared), None),
        start,
        steps=steps,
        subjects=jnp.arange(3),
        shared=dt,
        per_subject=friction,
        save_every=100,
        sample=lambda state, out: state,
    )
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, x, friction: field(x, friction)),
        diffrax.Tsit5(),
        0.0,
        dt * steps,
        None,
        start,
        args=friction,
        saveat=diffrax.SaveAt(ts=jnp.arange(1.0, 6.0)),
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-10),
    )
    np.testing.assert_allclose(
        found.samples, np.asarray(solution.ys), atol=5 * dt**2
    )  # Heun's error, at most t dt^2 |x'''|
    assert abs(found.samples - solution.ys).max() > 1e-3 * dt**2  # and the two are different methods


def drift_away(state, shared, own, inputs, z, j):
    return jax.tree.map(lambda x: x.astype(jnp.float16), state), None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 100}, "steps=100 must be a positive multiple of save_every=24; the nearest is 96"),
        ({"steps": 0}, "steps=0"),
        ({"state": {"v": jnp.zeros((2, 36))}}, r"state\['v'\] has shape \(2, 36\).* the 37 lanes"),
        ({"per_subject": jnp.zeros(())}, r"per_subject has shape \(\)"),
        ({"prepare": lambda shared, own: jnp.zeros(95)}, r"inputs has shape \(95,\).* the 96 steps"),
        ({"sample": lambda state, out: state["v"].mean()}, r"shape \(4,\), but its last axis must be the 48 lanes"),
        ({"step": drift_away}, r"\['v'\] as float32\(2, 48\), .* but returned float16\(2, 48\)"),
        ({"step": lambda state, *_: ([state], None)}, "got a state .* but returned"),
    ],
)
def test_errors_at_the_door(change, message):
    arguments = {"step": lambda state, *_: (state, None), "state": {"v": jnp.zeros((2, 37))}, "steps": STEPS} | change
    with pytest.raises(ValueError, match=message):
        integrate(save_every=SAVE_EVERY, subjects=jnp.arange(37), **arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"backend": "fast"}, "backend='fast'"), ({"tile": 0}, "tile=0"), ({"block": -1}, "block=-1")],
)
def test_bad_plans(options, message):
    with pytest.raises(ValueError, match=message):
        Plan(**options)
