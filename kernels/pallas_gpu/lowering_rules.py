"""What compilers of kernels lack, in terms of what they have: products of matrices as sums, rows as choices among them."""

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

_MIN_MMA_LENGTH = 16  # rows, columns and terms: from here on, compilers of kernels have products of matrices
_MIN_MMA_MATRIX_SIZE = (
    128  # numbers of a matrix: with fewer, threads need less for a product than for filling up to `_MIN_MMA_LENGTH`
)
_MATMUL_DIMENSION_NUMBERS = (((1,), (0,)), ((), ()))  # what `product` sums over, and that it has no batches
# What leaves every number as it is when added, -0 too, so that compilers drop such a sum; 0 would not.
_ADDITIVE_IDENTITY = -0.0
_TF32_MASK = np.uint32(0xFFFFE000)  # the bits of a number that TF32 keeps: sign, 8 of the exponent, 10 of the digits


def pallas_rule(equation: JaxprEqn) -> Callable | None:
    """How a kernel computes an operation that its compiler does not know; for `rewritten`.

    Products of small matrices, stacks of rows, rows taken out of an array, and rounding.
    """
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
    """The same, without the words to another compiler (`hoist.apart`), and in single precision by what GPUs of NVIDIA have.

    Their quotients, roots and powers of two are right to one or two units in the last place, and take one instruction or
    two. What is made of them otherwise takes four times as many, for the sake of divisors above 2^126 and of numbers below
    2^-126, here 0. The larger of two is no number if one of them is none, as elsewhere in JAX; compilers of kernels would
    take the other, and hide that a lane went bad. Products of matrices are left to the units that are made for them, three
    times over, which keeps single precision: computed by threads, they would fill all registers.
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
    """An instruction of NVIDIA's GPUs, number by number."""
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
    """By a power of two; near 0, where that has few digits, by Taylor's series."""
    power = _inline_ptx("ex2.approx.ftz.f32", x * np.float32(2 / math.log(2)))
    far = 1 - 2 * _inline_ptx("rcp.approx.ftz.f32", 1 + power)
    a, b, c = map(np.float32, (-1 / 3, 2 / 15, -17 / 315))
    square = x * x
    return jnp.where(jnp.abs(x) < np.float32(0.2), x + x * square * (a + square * (b + square * c)), far)


def _matmul_rule(equation: JaxprEqn, multiply: Callable[[Array, Array], Array]) -> Callable | None:
    """Matrices times arrays of any rank: by `multiply`, which takes two matrices, or, if small, by sums over a new axis.

    A matrix that has fewer rows or terms than products must have is filled up with zeros.
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
    """With so many zeros after each number along an axis that it has the length that products must have."""
    length = x.shape[axis]
    if length >= _MIN_MMA_LENGTH:
        return x
    places = list(x.shape)
    places.insert(axis + 1, _MIN_MMA_LENGTH // length)
    number = lax.broadcasted_iota(jnp.int32, places, axis + 1)
    spread = jnp.where(number == 0, jnp.expand_dims(x, axis + 1), jnp.zeros((), x.dtype))
    return spread.reshape(*x.shape[:axis], _MIN_MMA_LENGTH, *x.shape[axis + 1 :])


def _unpad(x: Array, rows: int) -> Array:
    """Without the rows that fill `rows` of them up.

    By a new axis, and not by another shape: Triton's compiler keeps up an order of numbers over threads through changes of
    shape, and that of products, where several threads hold each lane, would become that of all that is computed of them.
    """
    if x.shape[0] == rows:
        return x
    row, kept = (lax.broadcasted_iota(jnp.int32, (x.shape[0], rows, 1), axis) for axis in (0, 1))
    return jnp.where(row == kept * (x.shape[0] // rows), x[:, None], jnp.asarray(_ADDITIVE_IDENTITY, x.dtype)).sum(
        axis=0
    )


def _matmul_full_precision(a: Array, b: Array) -> Array:
    """As it is asked for where no GPU computes it."""
    return jnp.dot(a, b, precision=lax.Precision.HIGHEST)


def _matmul_3xtf32(a: Array, b: Array) -> Array:
    """By the units for matrices, which take the first 11 digits of each factor: three times, which keeps single precision.

    The compiler's own way of three products watches for infinities, at two instructions a number. Here they become not a
    number, as differences of them do elsewhere.
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
    """One row along an axis, or along several, as a sum with all others made zero."""
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
