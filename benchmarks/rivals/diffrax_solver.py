"""Diffrax as one uses it: a term of drift and one of noise, its own Euler solver, `diffeqsolve`, `vmap` over subjects.

The drift is what the scheme adds in a step, over the step: Euler's step is then the scheme's own, and the numbers are those
of the other engines. What is averaged grows by a drift too.
"""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from workload import DT, Workload, constants

from .jax_step import equations


def available() -> str | None:
    """Why it cannot run here, or None."""
    return None if importlib.util.find_spec("diffrax") else "not installed: pip install diffrax"


def prepare(workload: Workload, cores: int = 1):
    """Subjects are divided over one CPU device for each core, JAX's own way to use several."""
    *laws, conditions = equations(workload)
    keys = jax.random.split(jax.random.key(workload.seed), workload.subjects)
    subject = _subject(*laws, float(constants(workload).neuron["noise"]), workload)

    if workload.subjects % cores == 0:
        mesh = Mesh(np.array(jax.devices()[:cores]), ("subject",))
        keys, conditions = jax.device_put((keys, conditions), NamedSharding(mesh, PartitionSpec("subject")))
    simulate = jax.jit(jax.vmap(subject))
    return lambda: jax.tree.map(np.asarray, simulate(keys, conditions))


def _subject(begin, advance, noise: float, workload: Workload):
    """One subject's run, as a function of its key and its conditions; `noise` is the current's standard deviation."""
    import diffrax
    import lineax

    still = jnp.zeros(workload.neurons, jnp.float32)
    loudness = noise * ((1 - jnp.exp(-2 * DT / 5)) / DT) ** 0.5

    def drift(t, y, c):
        neurons, _ = y
        after, output = advance(neurons, c, still)
        level = jnp.mean(after[0])
        return jax.tree.map(lambda new, old: (new - old) / DT, after, neurons), (
            output / DT,
            output**2 / DT,
            level / DT,
        )

    def diffusion(t, y, c):
        silent = jnp.zeros_like(still)
        to_current = lambda dw: ((silent, silent, silent, loudness * dw, silent), (jnp.float32(0),) * 3)
        return lineax.FunctionLinearOperator(to_current, jax.ShapeDtypeStruct(still.shape, still.dtype))

    def subject(key, c):
        path = diffrax.UnsafeBrownianPath((workload.neurons,), key)
        _, (total, squares, level) = diffrax.diffeqsolve(
            diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, path)),
            diffrax.Euler(),
            0.0,
            workload.steps * DT,
            DT,
            (begin(c), (jnp.float32(0),) * 3),
            args=c,
            saveat=diffrax.SaveAt(t1=True),
            max_steps=workload.steps + 1,
            adjoint=diffrax.ForwardMode(),
        ).ys
        mean = total[0] / workload.steps
        return {
            "output_mean": mean,
            "output_variance": squares[0] / workload.steps - mean**2,
            "potential_mean": level[0] / workload.steps,
        }

    return subject
