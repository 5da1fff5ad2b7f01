"""Diffrax at its fastest: noise by `UnsafeBrownianPath`, for fixed steps and no gradient in reverse. See `diffrax_solver`."""

from workload import Workload

from . import diffrax_solver
from .diffrax_solver import available as available


def prepare(workload: Workload, cores: int = 1):
    """Subjects are divided over one CPU device for each core, JAX's own way to use several."""
    import diffrax

    path = lambda key: diffrax.UnsafeBrownianPath((workload.neurons,), key)
    return diffrax_solver.prepare_with(workload, cores, path, diffrax.ForwardMode())
