"""What compilers of kernels lack, in terms of what they have: products of matrices as sums, rows as choices among them."""

from collections.abc import Callable
from functools import partial, reduce

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from .rewriting import shapes

_PRODUCT = 16  # rows, columns and terms: from here on, compilers of kernels have products of matrices


def in_kernels(equation: JaxprEqn) -> Callable | None:
    """How a kernel computes an operation that its compiler does not know; for `rewritten`.

    Products of small matrices, stacks of rows, rows taken out of an array, and rounding.
    """
    match equation.primitive.name:
        case "dot_general":
            return _product(equation)
        case "stack":
            return partial(_stacked, axis=equation.params["axis"])
        case "slice":
            return _row(equation)
        case "spread":
            return lambda x: jnp.broadcast_to(x[None], (equation.params["rows"], *x.shape))
        case "total":
            return lambda x: x.sum(axis=0)
        case "round":
            return lambda x: jnp.floor(x + x.dtype.type(0.5))  # halves go up, whatever the equation asks of them
    return None


def without_marks(equation: JaxprEqn) -> Callable | None:
    """The same, and without the words to another compiler (`hoist.apart`)."""
    match equation.primitive.name:
        case "xla_metadata_value":
            return lambda x: x
        case "optimization_barrier":
            return lambda *values: values
    return in_kernels(equation)


def _product(equation: JaxprEqn) -> Callable | None:
    """Matrices times arrays of any rank, as products of matrices or, if small, as sums over an axis of their own."""
    ((i,), (j,)), (batched, _) = equation.params["dimension_numbers"]
    (a, b), (out,) = shapes(equation)
    if batched or a.ndim != 2:
        return None
    keep = {**equation.params, "dimension_numbers": (((i,), (0,)), ((), ()))}
    flat = lambda b: jnp.moveaxis(b, j, 0).reshape(b.shape[j], -1)
    if min(a.shape) >= _PRODUCT and b.size // b.shape[j] >= _PRODUCT:
        return None if b.ndim == 2 else lambda a, b: lax.dot_general_p.bind(a, flat(b), **keep).reshape(out.shape)

    def summed(a, b):
        left, right = jnp.moveaxis(a, i, 0), jnp.moveaxis(b, j, 0)
        left = jnp.expand_dims(left, range(2, out.ndim + 1))
        return (left * right[:, None]).sum(axis=0)

    return summed


def _stacked(*rows: Array, axis: int) -> Array:
    shape = jnp.expand_dims(rows[0], axis).shape
    number = lax.broadcasted_iota(jnp.int32, (*shape[:axis], len(rows), *shape[axis + 1 :]), axis)
    chosen = lambda stack, numbered: jnp.where(number == numbered[0], jnp.expand_dims(numbered[1], axis), stack)
    return reduce(chosen, enumerate(rows), jnp.zeros(number.shape, rows[0].dtype))


def _row(equation: JaxprEqn) -> Callable | None:
    """One row along an axis, or along several, as a sum with all others made zero."""
    begin, end = equation.params["start_indices"], equation.params["limit_indices"]
    shape = shapes(equation)[0][0].shape
    cut = [axis for axis, length in enumerate(shape) if end[axis] - begin[axis] < length]
    if any(end[axis] - begin[axis] != 1 for axis in cut):
        return None

    def taken(x):
        for axis in cut:
            number = lax.broadcasted_iota(jnp.int32, x.shape, axis)
            x = jnp.where(number == begin[axis], x, jnp.zeros_like(x)).sum(axis=axis, keepdims=True)
        return x

    return taken
