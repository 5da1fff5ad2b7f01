"""One number a lane for all rows of a lane: a broadcast whose derivative is fast in reverse.

The transpose of a broadcast over rows is a sum over rows. XLA for CPU joins such a sum with whatever makes its terms, and
then reads them number by number, from one row to the next; half the time of a gradient went there. A sum that is compiled
apart reads whole rows.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from .hoist import apart


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def broadcast_rows(x: Float[Array, "*shape"], rows: int) -> Float[Array, "{rows} *shape"]:
    """`x` in each of so many rows, along a new first axis."""
    return _rows_of(x, rows=rows)


@broadcast_rows.defjvp
def _(rows, primals, tangents):
    return broadcast_rows(*primals, rows), _spread.bind(*tangents, rows=rows)


def _rows_of(x: Array, *, rows: int) -> Array:
    return jnp.broadcast_to(x[None], (rows, *x.shape))


def _sum_of(x: Array) -> Array:
    return x.sum(axis=0)


# Both are linear, and each is the other's transpose.
_spread, _total = Primitive("spread"), Primitive("total")
_spread.def_impl(jax.jit(_rows_of, static_argnames="rows"))
_total.def_impl(jax.jit(_sum_of))
_spread.def_abstract_eval(lambda x, rows: ShapedArray((rows, *x.shape), x.dtype))
_total.def_abstract_eval(lambda x: ShapedArray(x.shape[1:], x.dtype))
ad.deflinear2(_spread, lambda cotangent, x, rows: [_total.bind(cotangent)])
ad.deflinear2(_total, lambda cotangent, x: [_spread.bind(cotangent, rows=x.aval.shape[0])])
mlir.register_lowering(_spread, mlir.lower_fun(_rows_of, multiple_results=False))
mlir.register_lowering(_total, mlir.lower_fun(apart(_sum_of), multiple_results=False))


def _batched(function: Any):
    """The plain function of all of a batch, which stands along some axis."""
    return lambda xs, axes, **how: (jax.vmap(functools.partial(function, **how), in_axes=axes[0])(*xs), 0)


batching.primitive_batchers[_spread] = _batched(_rows_of)
batching.primitive_batchers[_total] = _batched(_sum_of)
