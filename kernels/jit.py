"""Compilation at the entry points: wide vectors where the caller is plain Python, a nested call where it is a trace."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.core import Tracer

# Only an outermost jit may carry these. XLA may use 512-bit vectors where the processor has them, harmless elsewhere; and
# it looks closely at which states a loop need not copy, for a twentieth of the time of a moment.
COMPILER_OPTIONS = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_copy_insertion_use_region_analysis": True}


def entry_point(function: Callable) -> Callable:
    """Compile `function` once per shape and static argument, with the options that only an outermost `jit` may set.

    Called under another transformation (`jit`, `grad`, `vmap`), it is an ordinary nested `jit`. Arrays are traced,
    everything else is static, as in `equinox.filter_jit`.
    """
    options: Any = {"compiler_options": COMPILER_OPTIONS}  # handed on to jax.jit
    outermost, nested = eqx.filter_jit(function, **options), eqx.filter_jit(function)

    @functools.wraps(function)
    def call(*args, **keywords):
        traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((args, keywords)))
        return (nested if traced else outermost)(*args, **keywords)

    return call
