"""What kernels take of a GPU is counted right, and is little: from an offline compile, where there is a compiler."""

import importlib
import math
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from habenula.circuit.simulation.conditions import depressed, draw
from habenula.circuit.simulation.course import course
from habenula.kernels import Plan, integrate
from habenula.kernels.pallas_gpu import lowering_rules

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

machine_code = importlib.import_module("machine_code")
resources = importlib.import_module("resources")
run = importlib.import_module("run")
cuda = importlib.import_module("rivals.cuda_kernel")
fused = importlib.import_module("rivals.habenula_fused")
tiled = importlib.import_module("rivals.habenula_tiled")
workload = importlib.import_module("workload")

# Two loops: blocks, and in them steps, in which noise is made at every second one.
LISTING = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_2:
        /*0010*/                   MOV R2, RZ ;
.L_x_1:
        /*0020*/                   FFMA R3, R3, R4, R5 ;
        /*0030*/               @P0 BRA `(.L_x_0) ;
        /*0040*/                   IMAD.WIDE.U32 R6, R6, -0x2da92e6d, RZ ;
        /*0050*/                   MUFU.SQRT R7, R6 ;
.L_x_0:
        /*0060*/              @!P1 FMUL R3, R3, R7 ;
        /*0070*/               @P2 BRA `(.L_x_1) ;
        /*0080*/                   FADD R8, R8, R3 ;
        /*0090*/               @P3 BRA `(.L_x_2) ;
        /*00a0*/                   EXIT ;
"""


@pytest.fixture(scope="module")
def compiler():
    if why := machine_code.available():
        pytest.skip(why)


def test_a_step_is_the_loop_in_which_noise_is_made():
    counted = machine_code.a_step(LISTING, block=4)
    assert counted == {"FFMA": 1, "BRA": 2.25, "IMAD": 0.5, "MUFU": 0.5, "FMUL": 1, "MOV": 0.25, "FADD": 0.25}
    with pytest.raises(ValueError, match="there is no step to count"):
        machine_code.a_step(LISTING.replace(machine_code.GENERATOR, "1"), block=4)


def test_the_fullest_unit_sets_the_estimate():
    of = lambda **counted: machine_code.Resources(32, 0, 100, machine_code.Counter(counted)).most_steps
    threads = machine_code.SCHEDULERS * machine_code.CLOCK * machine_code.WARP
    assert of(FFMA=100) == pytest.approx(threads / 100)
    assert of(FFMA=90, MUFU=10) == pytest.approx(threads / 100)  # 10 x 8 cycles do not fill it
    assert of(FFMA=90, MUFU=20) == pytest.approx(threads / 160)
    assert of(FFMA=90, LDL=5, SHFL=25) == pytest.approx(threads / 120)


def test_a_small_kernel(compiler):
    """A relaxation with noise: its step is Philox and Box-Muller at every second one, and four operations."""
    live = lambda x: integrate(
        lambda state, shared, own, inputs, z, j: (0.9 * state + z[0] / (1 + state * state), None),
        x,
        steps=64,
        subjects=jnp.arange(128),
        channels=1,
        plan=Plan("fused"),
    ).state  # fmt: skip
    (kernel,) = machine_code.kernels(live, jnp.zeros(128))
    found = machine_code.resources(machine_code.compiled(kernel), block=16)
    assert kernel.warps == 1
    assert found.spilled == 0
    assert 16 <= found.registers <= 64
    assert found.a_step["MUFU"] == 1.5  # one reciprocal, and a root for two steps: a quotient is one instruction more
    assert 40 < found.step_instructions < 80
    assert found.step_instructions < found.instructions


def test_powers_of_two_and_quotients_are_instructions():
    """By the name of a function: should JAX or the package come to call it otherwise, only speed would tell."""
    simulate, arguments = fused.simulation(workload.Workload(subjects=4, steps=64), Plan("fused"))
    (kernel,) = machine_code.kernels(simulate, *arguments)
    assert kernel.text.count("ex2.approx.ftz.f32") == 5  # two gates, magnesium, recovery, the rate
    assert "div.approx.ftz.f32" in kernel.text
    assert "math.exp" not in kernel.text


def test_products_are_made_by_the_units_for_matrices():
    """A layer with fewer inputs than these units take, and one with fewer units: three products each, of 11 digits."""
    weights = jnp.ones((32, 8)), jnp.ones((4, 32))

    def step(state, shared, own, inputs, z, j):
        y = jnp.broadcast_to(state, (8, state.size))
        for weight in shared:
            y = jnp.tensordot(weight, y, 1, precision="highest")
        return y.sum(axis=0), None

    live = lambda x: integrate(
        step, x, steps=4, subjects=jnp.arange(128), shared=weights, plan=Plan("fused")
    ).state  # fmt: skip
    (kernel,) = machine_code.kernels(live, jnp.zeros(128))
    assert kernel.text.count("tt.dot") == kernel.text.count("inputPrecision = tf32 ") == 6


@pytest.mark.nightly
def test_a_course_stays_in_registers(compiler):
    """But for a few constants. Of its hours most is the network, whose products would fill them if threads made them."""
    cohort = draw(depressed(), 128, seed=1)
    of = lambda state: eqx.tree_at(lambda c: c.state, cohort, state)
    live = lambda state: course(of(state), days=2.0, plan=Plan("fused")).record
    found = resources.taken(live, cohort.state, block=resources.SAVED)
    assert found.spilled <= 512
    assert found.a_step["HMMA"] == 2 * 3 * (16 + 32 + 16)  # twice an hour, of 16 x 8 x 8 numbers each
    assert found.step_instructions < 5000


@pytest.mark.nightly
def test_our_kernel_takes_little_more_than_one_by_hand(compiler):
    """The aim is half the speed; by instructions it is nearer. Tangents stay in registers."""
    work = workload.Workload()
    simulate, arguments = fused.simulation(work, Plan("fused"))
    ours = resources.taken(simulate, *arguments)
    assert ours.spilled == 0
    if code := cuda.machine_code(work.neurons):
        by_hand = machine_code.resources(code, resources.CUDA_BLOCK)
        assert ours.step_instructions < 1.3 * by_hand.step_instructions
    gradient, arguments = resources.tangents(work, 6)
    assert resources.taken(gradient, *arguments).spilled == 0


def test_without_a_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(machine_code.importlib.util, "find_spec", lambda name: None)
    (row,) = run.taken(True, [])
    assert row["missing"] is True
    assert "pip install triton" in row["why"]


def test_the_kernel_that_is_timed_on_gpus_does_the_same_work():
    work = workload.Workload(subjects=16, neurons=8, steps=320)
    ours, theirs = tiled.prepare(work)(), fused.prepare(work, plan=Plan("fused", interpret=True))()
    for name in workload.STATISTICS:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-4)


def test_a_hyperbolic_tangent_of_instructions(monkeypatch):
    """With reciprocals and powers of two that are right, it is right to a share of 8e-7, near 0 as well."""
    exact = {"ex2.approx.ftz.f32": jnp.exp2, "rcp.approx.ftz.f32": lambda x: 1 / x}
    monkeypatch.setattr(lowering_rules, "_inline_ptx", lambda name, x: exact[name](x))
    x = np.concatenate([np.linspace(-9, 9, 4001), np.geomspace(1e-12, 1, 500), [-100.0, 100.0]]).astype(np.float32)
    true = np.tanh(x.astype(np.float64))
    error = np.abs(np.asarray(lowering_rules._tanh_by_exp2(jnp.asarray(x)), np.float64) - true) / np.maximum(
        np.abs(true), 1e-30
    )
    assert error.max() < 8e-7
    assert math.isnan(float(lowering_rules._tanh_by_exp2(jnp.float32(np.nan))))
