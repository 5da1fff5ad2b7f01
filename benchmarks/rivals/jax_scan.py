"""JAX as one writes it: `lax.scan` over steps of the equations, `jax.random.normal`, `vmap` over subjects."""

import jax
import jax.numpy as jnp
from workload import Workload

from .jax_step import equations, over_subjects


def available() -> str | None:
    """Always: JAX is what the package is written in."""
    return None


def prepare(workload: Workload, cores: int = 1):
    """Subjects are divided over one CPU device for each core, JAX's own way to use several."""
    begin, step, conditions = equations(workload)

    def subject(key, c):
        def advance(carry, i):
            state, mean, spread, level = carry
            z = jax.random.normal(jax.random.fold_in(key, i), (workload.neurons,))
            state, output = step(state, c, z)
            distance = output - mean
            mean = mean + distance / (i + 1).astype(mean.dtype)
            spread = spread + distance * (output - mean)
            return (state, mean, spread, level + jnp.mean(state[0])), None

        nothing = jnp.float32(0)
        _, mean, spread, level = jax.lax.scan(
            advance, (begin(c), nothing, nothing, nothing), jnp.arange(workload.steps)
        )[0]
        return {
            "output_mean": mean,
            "output_variance": spread / workload.steps,
            "potential_mean": level / workload.steps,
        }

    return over_subjects(subject, conditions, workload, cores)
