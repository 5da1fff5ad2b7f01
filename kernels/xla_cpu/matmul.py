"""A small matrix times arrays of lanes: by a library, or as arithmetic that a compiled loop may hold.

XLA for CPU hands products of matrices to a library, launched by itself, and what holds one cannot be hoisted. For a matrix
of a few KiB and a tile of lanes, a loop over its columns is faster too: partial sums of all rows stay in the first-level
cache, and the columns' numbers in registers. It takes longer to compile, so only what is hoisted is written so.
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

_COLUMNS_PER_ITERATION = 4  # of the matrix in a turn of the loop; the numbers of more would not fit the registers


def matmul(matrix: Array, x: Array) -> Array:
    """The matrix times `x` along its first axis, in full precision; its derivatives are products too.

    Args:
        matrix: (out, in).
        x: (in, ...), a row for each column of the matrix.

    Returns:
        (out, ...).

    Raises:
        ValueError: the matrix has not as many columns as `x` has rows.
    """
    if matrix.ndim != 2 or x.ndim < 1 or matrix.shape[1] != x.shape[0]:
        raise ValueError(f"a matrix of shape {matrix.shape} cannot be multiplied by an array of shape {x.shape}.")
    return _matmul_primitive.bind(matrix, x)


def matmul_by_library(matrix: Array, x: Array) -> Array:
    """In full precision: GPUs would take 10 bits of each factor."""
    return jnp.tensordot(matrix, x, 1, precision=lax.Precision.HIGHEST)


def matmul_by_columns(matrix: Array, x: Array) -> Array:
    """The same to rounding: sums over the columns of the matrix, a few in each turn of a loop."""
    rows, terms = matrix.shape
    together = math.gcd(terms, _COLUMNS_PER_ITERATION)
    columns = matrix.reshape(rows, terms, *(1,) * (x.ndim - 1))

    def more(turn, total):
        weights = lax.dynamic_slice_in_dim(columns, turn * together, together, axis=1)
        values = lax.dynamic_slice_in_dim(x, turn * together, together, axis=0)
        for term in range(together):
            total = total + weights[:, term] * values[term][None]
        return total

    return lax.fori_loop(0, terms // together, more, jnp.zeros((rows, *x.shape[1:]), x.dtype))


def _outer_product(cotangent: Array, matrix: Any, x: Array) -> Array:  # Any: in a derivative, a place for what moves
    return jnp.tensordot(cotangent, x, (tuple(range(1, x.ndim)),) * 2, precision=lax.Precision.HIGHEST)


_matmul_primitive = Primitive("product")
_matmul_primitive.def_impl(jax.jit(matmul_by_library))
_matmul_primitive.def_abstract_eval(lambda matrix, x: ShapedArray((matrix.shape[0], *x.shape[1:]), x.dtype))
ad.defbilinear(
    _matmul_primitive, _outer_product, lambda cotangent, matrix, x: _matmul_primitive.bind(matrix.T, cotangent)
)
mlir.register_lowering(_matmul_primitive, mlir.lower_fun(matmul_by_library, multiple_results=False))
batching.primitive_batchers[_matmul_primitive] = lambda xs, axes: (jax.vmap(matmul_by_library, in_axes=axes)(*xs), 0)
