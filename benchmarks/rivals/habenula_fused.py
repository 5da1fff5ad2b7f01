"""Ours on a GPU: the package's time loop as one kernel, a warp for each subject of 32 neurons."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from workload import Found, Workload, model

from habenula.kernels import Plan
from rivals import cuda_kernel
from rivals.habenula_tiled import simulated


def available() -> str | None:
    """Why it cannot run here, or None."""
    return (
        None if jax.default_backend() == "gpu" else 'no NVIDIA GPU, or JAX does not see it: pip install "jax[cuda13]"'
    )


def device() -> str | None:
    """The GPU's name."""
    return cuda_kernel.device()


def simulation(workload: Workload, plan: Plan) -> tuple[Callable, tuple]:
    """The run as a function, and its arguments: constants, cells, conditions, and the subjects' numbers.

    V is averaged neuron by neuron, as the CUDA kernel does it, and over neurons once in the end.
    """
    p, cells, given = model(workload)

    def simulate(p, cells, given, subjects):
        by_neuron = lambda state: state.potential
        found = simulated(p, cells, given, subjects, workload.seed, workload, plan, by_neuron)
        return found | {"potential_mean": found["potential_mean"].mean(axis=0)}

    return simulate, (p, cells, given, jnp.arange(workload.subjects, dtype=jnp.uint32))


def prepare(workload: Workload, cores: int = 1, plan: Plan | None = None):
    """One GPU does it all, whatever the cores."""
    simulate, arguments = simulation(workload, plan or Plan("fused"))
    run = functools.partial(jax.jit(simulate), *jax.device_put(arguments))

    def once() -> Found:
        return jax.tree.map(np.asarray, run())

    return once
