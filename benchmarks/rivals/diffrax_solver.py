"""Diffrax as its documentation has one solve a stochastic differential equation, with `vmap` over subjects.

A term of drift and one of noise, its own Euler solver, a `VirtualBrownianTree`, and the adjoint that it takes unless told
otherwise: the only Brownian path that it differentiates through. `diffrax_tuned` gives that up for speed.

The drift is what the scheme adds in a step, over the step: Euler's step is then the scheme's own, and the numbers are those
of the other engines. What is averaged grows by a drift too.
"""

import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
from workload import DT, Workload, constants

from .jax_step import equations, over_subjects


def available() -> str | None:
    """Why it cannot run here, or None."""
    return None if importlib.util.find_spec("diffrax") else "not installed: pip install diffrax"


def prepare(workload: Workload, cores: int = 1):
    """Subjects are divided over one CPU device for each core, JAX's own way to use several."""
    import diffrax

    end, tolerance = workload.steps * DT, DT / 2  # of no step but whole ones, which the tree then holds exactly
    path = lambda key: diffrax.VirtualBrownianTree(0.0, end, tolerance, (workload.neurons,), key)
    return prepare_with(workload, cores, path, diffrax.RecursiveCheckpointAdjoint())


def prepare_with(workload: Workload, cores: int, path: Callable, adjoint):
    """The same with a Brownian `path`, a function of a key, and an `adjoint` of one's own."""
    *laws, conditions = equations(workload)
    subject = _subject(*laws, float(constants(workload).neuron["noise"]), workload, path, adjoint)
    return over_subjects(subject, conditions, workload, cores)


def _subject(begin, advance, noise: float, workload: Workload, path: Callable, adjoint):
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
        _, (total, squares, level) = diffrax.diffeqsolve(
            diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, path(key))),
            diffrax.Euler(),
            0.0,
            workload.steps * DT,
            DT,
            (begin(c), (jnp.float32(0),) * 3),
            args=c,
            saveat=diffrax.SaveAt(t1=True),
            max_steps=workload.steps + 1,
            adjoint=adjoint,
        ).ys
        mean = total[0] / workload.steps
        return {
            "output_mean": mean,
            "output_variance": squares[0] / workload.steps - mean**2,
            "potential_mean": level[0] / workload.steps,
        }

    return subject
