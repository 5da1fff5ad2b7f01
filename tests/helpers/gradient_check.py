"""Derivatives against central differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# Formulas are checked here, not machine code, half of whose making is optimisation.
SOON = {"xla_backend_optimization_level": 0}


def check(function, x, modes=("reverse", "forward"), h: float = 1e-5) -> None:
    """Compare derivatives of `function`, leaf by leaf along a random direction, with central differences.

    On the hour a window's second derivative jumps, so that differences err by h as well as h^2: both are extrapolated
    away.
    """
    generator = np.random.default_rng(0)
    jit = functools.partial(jax.jit, compiler_options=SOON)
    compiled, slope = jit(function), jit(jax.grad(function))(x) if "reverse" in modes else None
    pushed = jit(lambda x, d: jax.jvp(function, (x,), (d,))[1])
    leaves, structure = jax.tree.flatten(x)
    for i, leaf in enumerate(leaves):
        scale = np.maximum(np.abs(np.asarray(leaf)), 0.1)
        along = jnp.asarray(generator.normal(size=leaf.shape) * scale)
        alone = lambda new, old, i=i: jax.tree.unflatten(structure, [new if j == i else o for j, o in enumerate(old)])
        at = lambda by, leaf=leaf, along=along, alone=alone: compiled(alone(leaf + by * along, leaves))
        near = {k: (at(k * h) - at(-k * h)) / (2 * k * h) for k in (1, 2, 4)}
        expected = (8 * near[1] - 6 * near[2] + near[4]) / 3
        assert expected != 0
        if "reverse" in modes:
            np.testing.assert_allclose((jax.tree.leaves(slope)[i] * along).sum(), expected, rtol=1e-5)
        if "forward" in modes:
            zeros = [jnp.zeros_like(other) for other in leaves]
            np.testing.assert_allclose(pushed(x, alone(along, zeros)), expected, rtol=1e-5)
