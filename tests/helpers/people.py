"""Subjects for tests: a few with a strained habenula, made without living through anything; how others live soonest."""

import equinox as eqx
import jax.numpy as jnp

from habenula.circuit.model.parameters import typical
from habenula.circuit.model.slow_clock import QUICK_COMPILE_PLAN, healthy_state
from habenula.circuit.simulation.cohort import Cohort, with_traits

# For tests of what subjects do and not of how they are computed: the plain loop compiles in a third of the time.
PLAIN = QUICK_COMPILE_PLAN


def strained(subjects: int, seed: int = 3) -> Cohort:
    subject = jnp.arange(subjects, dtype=jnp.uint32)
    p = with_traits(typical(), subject, jnp.uint32(seed), {})
    state = healthy_state(subjects, p)
    state = eqx.tree_at(lambda s: (s.gain, s.kir_shift), state, (state.gain * 2.2, state.kir_shift - 5.0))
    return Cohort(subject, p, state, jnp.uint32(seed))
