"""The equations of `lateral_habenula.step` for one subject, as one writes them in JAX: what `scan` and `diffrax` advance."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from workload import DT, Workload, constants


def equations(workload: Workload):
    """Functions `begin(c) -> state` and `step(state, c, z) -> (state, output)`, and the conditions `c` of all subjects.

    A state is (V, h, a, noise, rate), each (neurons,); `c` is a dictionary of numbers, `z` is (neurons,) standard normals.
    """
    numbers = constants(workload)
    p = {name: float(value) for name, value in numbers.neuron.items()}
    leak, threshold = jnp.asarray(numbers.leak_reversal), jnp.asarray(numbers.spike_threshold)
    sigmoid = jax.nn.sigmoid
    rate = lambda v: 250 * sigmoid((v - threshold) / p["spike_slope"])

    def begin(c):
        v = leak + c["kir_shift"]
        available = sigmoid((p["t_availability_half"] - v) / p["t_availability_slope"])
        return v, available, jnp.zeros_like(v), jnp.zeros_like(v), rate(v)

    def step(state, c, z):
        v, h, a, noise, r = state
        activation = sigmoid((v - p["t_activation_half"]) / p["t_activation_slope"])
        calcium = p["t_conductance"] * c["t_channel"] * activation**2 * h
        ampa = p["ampa_conductance"] * c["excitation"]
        nmda = p["nmda_conductance"] * c["excitation"] * c["nmda"] / (1 + 0.28 * jnp.exp(-0.062 * v))
        potassium = p["afterhyperpolarisation_conductance"] * a
        total = p["leak_conductance"] + calcium + ampa + nmda + c["inhibition"] + potassium
        pull = p["leak_conductance"] * (leak + c["kir_shift"]) + 120 * calcium - 72 * c["inhibition"] - 90 * potassium
        steady = (pull + noise + c["current"]) / total
        tau = p["t_recovery_fast"] + p["t_recovery_slow"] * sigmoid(-(v + 60) / 3)
        available = sigmoid((p["t_availability_half"] - v) / p["t_availability_slope"])
        v = steady + (v - steady) * jnp.exp(-total * DT)
        h = h + DT * (available - h) / tau
        a = a + DT * (r / 100 - a) / p["afterhyperpolarisation_time"]
        decay = jnp.exp(-DT / 5)
        noise = noise * decay + p["noise"] * jnp.sqrt(1 - decay**2) * z
        r = rate(v)
        return (v, h, a, noise, r), jnp.mean(r * (1 + r / p["burst_facilitation"]))

    return begin, step, {name: jnp.asarray(value) for name, value in numbers.conditions.items()}


def over_subjects(subject: Callable, conditions: dict, workload: Workload, cores: int) -> Callable:
    """The run of all by `subject`, a function of its key and conditions; over a CPU device for each core, if it divides."""
    keys = jax.random.split(jax.random.key(workload.seed), workload.subjects)
    if workload.subjects % cores == 0:
        mesh = Mesh(np.array(jax.devices()[:cores]), ("subject",))
        keys, conditions = jax.device_put((keys, conditions), NamedSharding(mesh, PartitionSpec("subject")))
    simulate = jax.jit(jax.vmap(subject))
    return lambda: jax.tree.map(np.asarray, simulate(keys, conditions))
