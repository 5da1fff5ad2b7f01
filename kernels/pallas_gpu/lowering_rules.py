"""Lowering rules for operations that Pallas kernels lack: matrix products, stacks, slices; and PTX instructions for NVIDIA."""

import math
from collections.abc import Callable
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from ..jaxpr_rewrite import equation_shapes
from ..xla_cpu.exp2 import exp2

_MIN_MMA_LENGTH = 16  # rows, columns and terms of the smallest matrix product that Triton has
_MIN_MMA_MATRIX_SIZE = 128  # numbers of a matrix; for smaller ones padding costs more than a sum
_MATMUL_DIMENSION_NUMBERS = (((1,), (0,)), ((), ()))  # of `matmul`
# x + -0 is x, also for x = -0, so that compilers drop the sum. 0 + -0 is 0.
_ADDITIVE_IDENTITY = -0.0
_TF32_MASK = np.uint32(0xFFFFE000)  # the bits that TF32 keeps: sign, 8 of the exponent, 10 of the mantissa


def pallas_rule(equation: JaxprEqn) -> Callable | None:
    """Rewrite rule for operations that no Pallas kernel has: matrix products, stacks, row slices and rounding."""
    match equation.primitive.name:
        case "dot_general" | "product":
            return _matmul_rule(equation, _matmul_full_precision)
        case "stack":
            return partial(_stack_by_selection, axis=equation.params["axis"])
        case "slice":
            return _row_slice_rule(equation)
        case "spread":
            return lambda x: jnp.broadcast_to(x[None], (equation.params["rows"], *x.shape))
        case "total":
            return lambda x: x.sum(axis=0)
        case "round":
            return lambda x: jnp.floor(x + x.dtype.type(0.5))  # halves go up, whatever the equation asks of them
    return None


def ptx_rule(equation: JaxprEqn) -> Callable | None:
    """`pallas_rule` for NVIDIA GPUs: marks of `hoist.outlined` are removed, and PTX instructions used in single precision.

    Approximate quotients, roots and powers of two are right to one or two units in the last place, in a quarter of the
    instructions; numbers below 2^-126 become 0. Maxima and minima propagate NaN, as in JAX; Triton's own would drop it and
    hide a non-finite lane. Matrix products use tensor cores, three times each, which keeps single precision.
    """
    match equation.primitive.name:
        case "xla_metadata_value":
            return lambda x: x
        case "optimization_barrier":
            return lambda *values: values
        case "neg":  # of a constant, as in a derivative, Pallas has none
            return lambda x: x * x.dtype.type(-1)
    return _ptx_instruction_rule(equation) or pallas_rule(equation)


def _ptx_instruction_rule(equation: JaxprEqn) -> Callable | None:
    like = equation_shapes(equation)[1][0] if equation.outvars else None
    if like is None or like.dtype != jnp.float32 or not like.shape:
        return None
    match equation.primitive.name:
        case "div":
            return lambda a, b: _inline_ptx("div.approx.ftz.f32", a, jnp.broadcast_to(b, like.shape))
        case "integer_pow" if (power := equation.params["y"]) < 0:
            return lambda x: lax.integer_pow(_inline_ptx("rcp.approx.ftz.f32", x), -power)
        case "sqrt":
            return partial(_inline_ptx, "sqrt.approx.ftz.f32")
        case "max" | "min":
            return partial(_inline_ptx, f"{equation.primitive.name}.NaN.f32")
        case "clamp":
            return lambda low, x, high: _inline_ptx("min.NaN.f32", _inline_ptx("max.NaN.f32", low, x), high)
        case "tanh":
            return _tanh_by_exp2
        case "dot_general" | "product":
            return _matmul_rule(equation, _matmul_3xtf32)
        case "custom_jvp_call" if equation.params["call_jaxpr"].jaxpr.debug_info.func_name == exp2.__name__:
            return partial(_inline_ptx, "ex2.approx.ftz.f32")
    return None


def _inline_ptx(name: str, *operands: Array) -> Array:
    """A PTX instruction, elementwise."""
    from jax.experimental.pallas import triton  # imports a compiler that processors do not need

    numbers = jnp.broadcast_arrays(*operands)
    places = ", ".join(f"${i}" for i in range(len(numbers) + 1))
    constraints = ",".join(["=f", *["f"] * len(numbers)])
    like = jax.ShapeDtypeStruct(numbers[0].shape, numbers[0].dtype)
    text = f"{name} {places};"
    return triton.elementwise_inline_asm(
        text, args=numbers, constraints=constraints, pack=1, result_shape_dtypes=[like]
    )[0]


def _tanh_by_exp2(x: Array) -> Array:
    """Tanh by a power of two; near 0, where that loses digits, by its Taylor series."""
    power = _inline_ptx("ex2.approx.ftz.f32", x * np.float32(2 / math.log(2)))
    far = 1 - 2 * _inline_ptx("rcp.approx.ftz.f32", 1 + power)
    a, b, c = map(np.float32, (-1 / 3, 2 / 15, -17 / 315))
    square = x * x
    return jnp.where(jnp.abs(x) < np.float32(0.2), x + x * square * (a + square * (b + square * c)), far)


def _matmul_rule(equation: JaxprEqn, multiply: Callable[[Array, Array], Array]) -> Callable | None:
    """A matrix times an array of any rank: by `multiply`, which takes two matrices, or, if small, by sums over a new axis.

    A matrix with too few rows or terms for `multiply` is padded with zeros.
    """
    ((i,), (j,)), (batched, _) = equation.params.get("dimension_numbers", _MATMUL_DIMENSION_NUMBERS)
    (a, b), (out,) = equation_shapes(equation)
    if batched or a.ndim != 2:
        return None

    def multiplied(a, b):
        left, right = jnp.moveaxis(a, i, 1), jnp.moveaxis(b, j, 0).reshape(b.shape[j], -1)
        product = multiply(_pad_to_mma(_pad_to_mma(left, 0), 1), _pad_to_mma(right, 0))
        return _unpad(product, left.shape[0]).reshape(out.shape)

    def summed(a, b):
        left, right = jnp.moveaxis(a, i, 0), jnp.moveaxis(b, j, 0)
        left = jnp.expand_dims(left, range(2, out.ndim + 1))
        return (left * right[:, None]).sum(axis=0)

    fits = all(length >= _MIN_MMA_LENGTH or _MIN_MMA_LENGTH % length == 0 for length in a.shape)
    return multiplied if fits and a.size >= _MIN_MMA_MATRIX_SIZE and b.size // b.shape[j] >= _MIN_MMA_LENGTH else summed


def _pad_to_mma(x: Array, axis: int) -> Array:
    """Zeros inserted after each number along an axis, up to the length that a matrix product needs."""
    length = x.shape[axis]
    if length >= _MIN_MMA_LENGTH:
        return x
    places = list(x.shape)
    places.insert(axis + 1, _MIN_MMA_LENGTH // length)
    number = lax.broadcasted_iota(jnp.int32, places, axis + 1)
    spread = jnp.where(number == 0, jnp.expand_dims(x, axis + 1), jnp.zeros((), x.dtype))
    return spread.reshape(*x.shape[:axis], _MIN_MMA_LENGTH, *x.shape[axis + 1 :])


def _unpad(x: Array, rows: int) -> Array:
    """Without the rows that padded `rows` of them.

    By a sum over a new axis and not by `reshape`: Triton keeps the layout of numbers over threads through a reshape, and that
    of matrix products, where several threads share a lane, would spread to all that is computed from them.
    """
    if x.shape[0] == rows:
        return x
    row, kept = (lax.broadcasted_iota(jnp.int32, (x.shape[0], rows, 1), axis) for axis in (0, 1))
    return jnp.where(row == kept * (x.shape[0] // rows), x[:, None], jnp.asarray(_ADDITIVE_IDENTITY, x.dtype)).sum(
        axis=0
    )


def _matmul_full_precision(a: Array, b: Array) -> Array:
    """In full precision, for interpreted kernels."""
    return jnp.dot(a, b, precision=lax.Precision.HIGHEST)


def _matmul_3xtf32(a: Array, b: Array) -> Array:
    """Three products by tensor cores, which round each factor to 11 bits; their sum has single precision.

    Unlike the compiler's own version this does not treat infinities, which become NaN: two instructions less for each number.
    """
    bits = lambda x: lax.bitcast_convert_type(x, jnp.uint32)
    high = lambda x: lax.bitcast_convert_type(bits(x) & _TF32_MASK, jnp.float32)
    product = partial(jnp.dot, precision=lax.DotAlgorithmPreset.TF32_TF32_F32)
    (first, rest), (second, other) = ((high(x), x - high(x)) for x in (a, b))
    return product(rest, second) + product(first, other) + product(first, second)


def _stack_by_selection(*rows: Array, axis: int) -> Array:
    shape = jnp.expand_dims(rows[0], axis).shape
    number = lax.broadcasted_iota(jnp.int32, (*shape[:axis], len(rows), *shape[axis + 1 :]), axis)
    chosen = lambda stack, numbered: jnp.where(number == numbered[0], jnp.expand_dims(numbered[1], axis), stack)
    return reduce(chosen, enumerate(rows), jnp.zeros(number.shape, rows[0].dtype))


def _row_slice_rule(equation: JaxprEqn) -> Callable | None:
    """One row along one or several axes, as a sum in which all other rows are zero."""
    begin, end = equation.params["start_indices"], equation.params["limit_indices"]
    shape = equation_shapes(equation)[0][0].shape
    cut = [axis for axis, length in enumerate(shape) if end[axis] - begin[axis] < length]
    if any(end[axis] - begin[axis] != 1 for axis in cut):
        return None

    def taken(x):
        for axis in cut:
            number = lax.broadcasted_iota(jnp.int32, x.shape, axis)
            alone = jnp.where(number == begin[axis], x, jnp.asarray(_ADDITIVE_IDENTITY, x.dtype))
            x = alone.sum(axis=axis, keepdims=True, dtype=x.dtype)
        return x

    return taken
