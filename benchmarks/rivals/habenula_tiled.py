"""Ours: the package's own time loop, in cache-sized tiles, each one piece of machine code."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from workload import DT, Found, Workload, model

from habenula.circuit.model import lateral_habenula as lhb
from habenula.circuit.model.lhb_population import make_population_plan
from habenula.kernels import Mean, Plan, Variance, entry_point, integrate


def available() -> str | None:
    """Always, where the benchmark itself runs."""
    return None


def prepare(workload: Workload, cores: int = 1):
    """One CPU device for each core: XLA's own threads would slow the loop down."""
    plan = make_population_plan(workload.neurons, devices=cores)
    p, cells, given = model(workload)
    subjects = jnp.arange(workload.subjects, dtype=jnp.uint32)

    @entry_point
    def simulate(p, cells, given, subjects, seed):
        over_neurons = lambda state: jnp.mean(state.potential, axis=0)
        return simulated(p, cells, given, subjects, seed, workload, plan, over_neurons)

    def run() -> Found:
        found = simulate(p, cells, given, subjects, jnp.uint32(workload.seed))
        return jax.tree.map(np.asarray, found)

    return run


def simulated(p, cells, given, subjects, seed, workload: Workload, plan: Plan, potential: Callable):
    """Statistics of the run, by name; of V, the mean over steps of what `potential` takes of the neurons' state."""

    def step(state, shared, own, inputs, z, j):
        p, cells = shared
        after = lhb.step_neurons(state, own, z, p, cells, DT)
        return after, lhb.habenula_output(after.rate, p)

    return integrate(
        step,
        lhb.resting_neuron_state(p, cells, given),
        steps=workload.steps,
        subjects=subjects,
        shared=(p, cells),
        per_subject=given,
        seed=seed,
        channels=workload.neurons,
        statistics={
            "output_mean": (Mean(), lambda state, output: output),
            "output_variance": (Variance(), lambda state, output: output),
            "potential_mean": (Mean(), lambda state, output: potential(state)),
        },
        plan=plan,
    ).statistics
