"""Matrix product that a hoisted call can contain: a small matrix times arrays of lanes.

XLA for CPU leaves matrix products to a library, and a function that calls one cannot be hoisted. For a matrix of a few KiB
and a tile of lanes, a loop over its columns is also faster: partial sums of all rows stay in the first-level cache, and the
numbers of a column in registers. It compiles more slowly, so only hoisted calls use it.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

_COLUMNS_PER_ITERATION = 4  # more would not fit the registers


def matmul(matrix: Array, x: Array) -> Array:
    """Matrix product along the first axis of `x`, in full precision.

    Its derivatives are matrix products as well.

    Args:
        matrix: (out, in).
        x: (in, ...).

    Returns:
        (out, ...).

    Raises:
        ValueError: the matrix has not as many columns as `x` has rows.

    Example:
        >>> matmul(jnp.eye(2) * 3, jnp.array([1.0, 2.0])).tolist()
        [3.0, 6.0]
    """
    if matrix.ndim != 2 or x.ndim < 1 or matrix.shape[1] != x.shape[0]:
        raise ValueError(f"a matrix of shape {matrix.shape} cannot be multiplied by an array of shape {x.shape}.")
    return _matmul_primitive.bind(matrix, x)


def matmul_by_library(matrix: Array, x: Array) -> Array:
    """`matmul` by XLA's library, in full precision: by default GPUs round each factor to 10 bits."""
    return jnp.tensordot(matrix, x, 1, precision=lax.Precision.HIGHEST)


def matmul_by_columns(matrix: Array, x: Array) -> Array:
    """`matmul` as a loop over columns of the matrix, a few in each iteration. Equal to rounding."""
    rows, terms = matrix.shape
    columns_per_iteration = math.gcd(terms, _COLUMNS_PER_ITERATION)
    columns = matrix.reshape(rows, terms, *(1,) * (x.ndim - 1))

    def add_columns(iteration, total):
        first = iteration * columns_per_iteration
        weights = lax.dynamic_slice_in_dim(columns, first, columns_per_iteration, axis=1)
        values = lax.dynamic_slice_in_dim(x, first, columns_per_iteration, axis=0)
        for term in range(columns_per_iteration):
            total = total + weights[:, term] * values[term][None]
        return total

    return lax.fori_loop(0, terms // columns_per_iteration, add_columns, jnp.zeros((rows, *x.shape[1:]), x.dtype))


def _outer_product(cotangent: Array, matrix: Any, x: Array) -> Array:  # Any: in a transpose, the undefined argument
    return jnp.tensordot(cotangent, x, (tuple(range(1, x.ndim)),) * 2, precision=lax.Precision.HIGHEST)


_matmul_primitive = Primitive("product")
_matmul_primitive.def_impl(jax.jit(matmul_by_library))
_matmul_primitive.def_abstract_eval(lambda matrix, x: ShapedArray((matrix.shape[0], *x.shape[1:]), x.dtype))
ad.defbilinear(
    _matmul_primitive, _outer_product, lambda cotangent, matrix, x: _matmul_primitive.bind(matrix.T, cotangent)
)
mlir.register_lowering(_matmul_primitive, mlir.lower_fun(matmul_by_library, multiple_results=False))
batching.primitive_batchers[_matmul_primitive] = lambda xs, axes: (jax.vmap(matmul_by_library, in_axes=axes)(*xs), 0)
