"""JAX as one writes it: `lax.scan` over steps of the package's own `step`, `jax.random.normal`, `vmap` over subjects."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from workload import DT, Workload, model

from habenula.circuit import lateral_habenula as lhb


def available() -> str | None:
    """Always: JAX is what the package is written in."""
    return None


def prepare(workload: Workload, cores: int = 1):
    """Subjects are divided over one CPU device for each core, JAX's own way to use several."""
    p, cells, given = model(workload)
    keys = jax.random.split(jax.random.key(workload.seed), workload.subjects)

    def subject(key, given):
        given = jax.tree.map(lambda x: x[None], given)  # `step` has lanes: here it is one

        def advance(carry, i):
            state, mean, spread, level = carry
            z = jax.random.normal(jax.random.fold_in(key, i), state.potential.shape)
            state = lhb.step(state, given, z, p, cells, DT)
            output = lhb.output(state.rate, p)[0]
            distance = output - mean
            mean = mean + distance / (i + 1).astype(mean.dtype)
            spread = spread + distance * (output - mean)
            return (state, mean, spread, level + jnp.mean(state.potential)), None

        begin = (lhb.rest(p, cells, given), jnp.float32(0), jnp.float32(0), jnp.float32(0))
        _, mean, spread, level = jax.lax.scan(advance, begin, jnp.arange(workload.steps))[0]
        return {
            "output_mean": mean,
            "output_variance": spread / workload.steps,
            "potential_mean": level / workload.steps,
        }

    if workload.subjects % cores == 0:
        mesh = Mesh(np.array(jax.devices()[:cores]), ("subject",))
        keys, given = jax.device_put((keys, given), NamedSharding(mesh, PartitionSpec("subject")))
    simulate = jax.jit(jax.vmap(subject))
    return lambda: jax.tree.map(np.asarray, simulate(keys, given))
