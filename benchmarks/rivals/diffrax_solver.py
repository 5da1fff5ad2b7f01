"""Diffrax: the equations and their scheme as a solver of its own, under `diffeqsolve`, `vmap` over subjects."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from workload import DT, Workload

from .jax_step import equations


def available() -> str | None:
    """Why it cannot run here, or None."""
    return None if importlib.util.find_spec("diffrax") else "not installed: pip install diffrax"


def prepare(workload: Workload, cores: int = 1):
    """Subjects are divided over one CPU device for each core, JAX's own way to use several."""
    *laws, conditions = equations(workload)
    keys = jax.random.split(jax.random.key(workload.seed), workload.subjects)
    subject = _subject(*laws, workload)

    if workload.subjects % cores == 0:
        mesh = Mesh(np.array(jax.devices()[:cores]), ("subject",))
        keys, conditions = jax.device_put((keys, conditions), NamedSharding(mesh, PartitionSpec("subject")))
    simulate = jax.jit(jax.vmap(subject))
    return lambda: jax.tree.map(np.asarray, simulate(keys, conditions))


def _subject(begin, advance, workload: Workload):
    """One subject's run, as a function of its key and its conditions."""
    import diffrax

    shape = (workload.neurons,)

    class Step(diffrax.AbstractItoSolver):
        """One step, and the statistics of where it led, which are part of the state."""

        term_structure = diffrax.AbstractTerm
        interpolation_cls = diffrax.LocalLinearInterpolation

        def order(self, terms):
            return 1

        def init(self, terms, t0, t1, y0, args):
            return None

        def func(self, terms, t0, y0, args):
            return None

        def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
            neurons, mean, spread, level = y0
            z = terms.contr(t0, t1) / DT**0.5
            neurons, output = advance(neurons, args, z)
            distance = output - mean
            mean = mean + distance * (DT / t1)
            y1 = neurons, mean, spread + distance * (output - mean), level + jnp.mean(neurons[0])
            return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def subject(key, c):
        path = diffrax.UnsafeBrownianPath(shape, key)
        nothing = jnp.float32(0)
        _, mean, spread, level = diffrax.diffeqsolve(
            diffrax.ControlTerm(lambda t, y, args: 1.0, path),
            Step(),
            0.0,
            workload.steps * DT,
            DT,
            (begin(c), nothing, nothing, nothing),
            args=c,
            saveat=diffrax.SaveAt(t1=True),
            max_steps=workload.steps + 1,
            adjoint=diffrax.ForwardMode(),
        ).ys
        return {
            "output_mean": mean[0],
            "output_variance": spread[0] / workload.steps,
            "potential_mean": level[0] / workload.steps,
        }

    return subject
