"""Hoisting: a whole loop compiled as a single call. The only file that relies on internals of XLA's CPU compiler."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Jaxpr, JaxprEqn, jaxpr_as_fun
from jaxtyping import PyTree

from ..jaxpr_rewrite import rewrite_jaxpr
from .matmul import matmul_by_columns

# What a hoisted call cannot contain: library calls, callbacks and collectives.
_UNHOISTABLE_PRIMITIVES = re.compile(
    "product$|dot_general|ragged_dot|conv_general|scatter|select_and_scatter|sort|top_k|approx_top_k|fft|cholesky|lu$|qr$|householder|svd|eig|schur"
    "|hessenberg|triangular_solve|tridiagonal|custom_linear_solve|psum|pmax|pmin|all_|reduce_scatter|ppermute|axis_index"
    "|debug_|pure_callback|io_callback|ffi_call"
)
_REDUCTION_PRIMITIVES = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod")
_MIN_LIBRARY_REDUCTION_SIZE = 4096  # numbers: from here on, XLA hands the reduction of floats to a library


def hoisted(function: Callable) -> Callable:
    """`function` compiled by XLA for CPU as one single-threaded call, loops included.

    By default XLA launches every operation of a loop's body by itself, at about 1 us each. It compiles small loops as one
    call; this marks a call as small whatever its size, by the attribute that XLA's own pass sets
    (`small_while_loop_hoisting_pass`).

    Each `matmul` becomes a loop, which differs by rounding from the library. A function with another operation that a hoisted
    call cannot contain (`is_hoistable`) is called without the mark: slower, with the same numbers. `has_hoisted_call` says
    which it was.
    """

    def call(*args):
        traced, like = jax.make_jaxpr(function, return_shape=True)(*args)
        if not is_hoistable(traced.jaxpr, products=True):
            return function(*args)
        written = traced.replace(jaxpr=lower_matmuls_to_loops(traced.jaxpr))
        compute = lambda *args: jax.tree.unflatten(
            jax.tree.structure(like), jaxpr_as_fun(written)(*jax.tree.leaves(args))
        )
        return _annotate_call(_keep_arguments_live(compute), args, habenula="hoisted")

    return call


def outlined(function: Callable) -> Callable:
    """`function` as a call that XLA for CPU compiles apart from the code around it; the numbers are the same.

    Within a hoisted function its loops are then not fused with their neighbours. A long loop body is one chain of dependent
    operations; several short loops over the same few KiB keep more of the processor's units busy. Derivatives are those of
    the plain function, compiled in place. The function must not close over what is differentiated.
    """
    compiled = _keep_arguments_live(function)
    call = jax.custom_jvp(lambda *args: _annotate_call(compiled, args))
    call.defjvp(lambda primals, tangents: jax.jvp(function, primals, tangents))
    return call


def _keep_arguments_live(function: Callable) -> Any:
    """`function`, compiled, that also returns one number of every argument.

    XLA aborts on a marked call with an unused argument, and divides a call with a single result among threads.
    """
    touches = lambda args: [leaf[(0,) * leaf.ndim] for leaf in jax.tree.leaves(args) if leaf.size]
    return jax.jit(lambda *args: (function(*args), touches(args)))


def _annotate_call(compiled: Callable, args: tuple, **marks: str) -> PyTree:
    """A call marked on every result, because an unused result is removed together with its mark.

    A barrier precedes the arguments: XLA aborts on constants as arguments of a marked call inside another loop.
    """
    args = lax.optimization_barrier(args)
    mark: Any = lambda x: set_xla_metadata(x, xla_cpu_small_call="true", inlineable="false", **marks)
    out, _ = lax.optimization_barrier(
        jax.tree.map(mark, compiled(*args))
    )  # or the extra numbers would be optimised away
    return out


def is_hoistable(jaxpr: Jaxpr, products: bool = False) -> bool:
    """Whether XLA can compile these operations, and those in their loops and branches, within one hoisted call.

    Not: matrix products (except each `matmul`, with `products`), sorts, scatters, decompositions, callbacks, collectives,
    and sums of 4096 floats or more.
    """
    inside = lambda equation: products and equation.primitive.name == "product"
    return not any(_is_unhoistable(equation) for equation in _iterate_equations(jaxpr) if not inside(equation))


def lower_matmuls_to_loops(jaxpr: Jaxpr) -> Jaxpr:
    """The same program with each `matmul` written as a loop over columns."""
    return rewrite_jaxpr(jaxpr, lambda each: _outlined_matmul_by_columns if each.primitive.name == "product" else None)


_outlined_matmul_by_columns = outlined(matmul_by_columns)  # one object, so that each shape is traced once


def has_hoisted_call(compiled: str) -> bool:
    """Whether the text of a compiled program contains a call that `hoisted` marked.

    The text is `jax.jit(f).lower(...).compile().as_text()`. Small loops that XLA marks, and `outlined` calls, do not count.
    """
    return any(" call(" in line and 'habenula="hoisted"' in line for line in compiled.splitlines())


def _is_unhoistable(equation: JaxprEqn) -> bool:
    name = equation.primitive.name
    if name in _REDUCTION_PRIMITIVES:
        operand: Any = equation.invars[0].aval
        return operand.size >= _MIN_LIBRARY_REDUCTION_SIZE and jnp.issubdtype(operand.dtype, jnp.inexact)
    return _UNHOISTABLE_PRIMITIVES.match(name) is not None


def _iterate_equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """All operations, those of inner programs included."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(value, "jaxpr", value)  # a closed one holds an open one
            if isinstance(inner, Jaxpr):
                yield from _iterate_equations(inner)
