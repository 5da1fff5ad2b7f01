"""Broadcast over rows whose transpose, a sum over rows, is fast on CPU.

XLA for CPU fuses such a sum with the computation of its terms and then reads them one number at a time, with a stride of one
row. A sum that is compiled apart reads whole rows. Without this the gradient of a moment takes twice as long (row
"ablation, moment, gradient, without sum of rows" in benchmarks/results.csv).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from .hoist import outlined


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def broadcast_rows(x: Float[Array, "*shape"], rows: int) -> Float[Array, "{rows} *shape"]:
    """`x` repeated along a new first axis of length `rows`.

    Example:
        >>> broadcast_rows(jnp.array([1.0, 2.0]), 2).tolist()
        [[1.0, 2.0], [1.0, 2.0]]
    """
    return _repeat_rows(x, rows=rows)


@broadcast_rows.defjvp
def _(rows, primals, tangents):
    return broadcast_rows(*primals, rows), _broadcast_rows_primitive.bind(*tangents, rows=rows)


def _repeat_rows(x: Array, *, rows: int) -> Array:
    return jnp.broadcast_to(x[None], (rows, *x.shape))


def _sum_rows(x: Array) -> Array:
    return x.sum(axis=0)


# Both are linear, and each is the other's transpose.
_broadcast_rows_primitive, _sum_rows_primitive = Primitive("spread"), Primitive("total")
_broadcast_rows_primitive.def_impl(jax.jit(_repeat_rows, static_argnames="rows"))
_sum_rows_primitive.def_impl(jax.jit(_sum_rows))
_broadcast_rows_primitive.def_abstract_eval(lambda x, rows: ShapedArray((rows, *x.shape), x.dtype))
_sum_rows_primitive.def_abstract_eval(lambda x: ShapedArray(x.shape[1:], x.dtype))
ad.deflinear2(_broadcast_rows_primitive, lambda cotangent, x, rows: [_sum_rows_primitive.bind(cotangent)])
ad.deflinear2(
    _sum_rows_primitive, lambda cotangent, x: [_broadcast_rows_primitive.bind(cotangent, rows=x.aval.shape[0])]
)
mlir.register_lowering(_broadcast_rows_primitive, mlir.lower_fun(_repeat_rows, multiple_results=False))
mlir.register_lowering(_sum_rows_primitive, mlir.lower_fun(outlined(_sum_rows), multiple_results=False))


def _batching_rule(function: Any):
    """Batching by `jax.vmap` of the plain function."""
    return lambda xs, axes, **how: (jax.vmap(functools.partial(function, **how), in_axes=axes[0])(*xs), 0)


batching.primitive_batchers[_broadcast_rows_primitive] = _batching_rule(_repeat_rows)
batching.primitive_batchers[_sum_rows_primitive] = _batching_rule(_sum_rows)
