"""Rewriting of jaxprs: operations that a compiler lacks, expressed by others."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

RewriteRule = Callable[[JaxprEqn], Callable | None]


def rewrite_jaxpr(jaxpr: Jaxpr, rule: RewriteRule) -> Jaxpr:
    """The same program, loops and branches included, with each operation replaced for which `rule` gives a function.

    Args:
        jaxpr: to rewrite. Take derivatives before: rules need not be differentiable.
        rule: from an operation to a function of its operands that returns as many results, or None to keep it.
    """
    return jaxpr.replace(eqns=[_rewrite_equation(equation, rule) for equation in jaxpr.eqns])


def equation_shapes(equation: JaxprEqn) -> tuple[list[jax.ShapeDtypeStruct], list[jax.ShapeDtypeStruct]]:
    """Shapes and dtypes of the operands and results of an operation."""
    shape_of: Any = lambda x: jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype)
    return [shape_of(x) for x in equation.invars], [shape_of(x) for x in equation.outvars]


def _rewrite_equation(equation: JaxprEqn, rule: RewriteRule) -> JaxprEqn:
    function = rule(equation)
    if function is None:
        return equation.replace(
            params={name: _rewrite_parameter(value, rule) for name, value in equation.params.items()}
        )
    like, _ = equation_shapes(equation)
    call = _trace_call(function, *((each.shape, each.dtype) for each in like))
    return equation.replace(primitive=call.primitive, params=call.params)


@functools.lru_cache(maxsize=256)
def _trace_call(function: Callable, *like: tuple) -> JaxprEqn:
    """A call of `function` on arrays of these shapes and dtypes; traced once, if `function` is the same object."""
    return jax.make_jaxpr(jax.jit(function))(*(jax.ShapeDtypeStruct(*each) for each in like)).jaxpr.eqns[0]


def _rewrite_parameter(value: Any, rule: RewriteRule) -> Any:
    """A parameter of an operation, rewritten if it contains programs."""
    match value:
        case ClosedJaxpr():
            return value.replace(jaxpr=rewrite_jaxpr(value.jaxpr, rule))
        case Jaxpr():
            return rewrite_jaxpr(value, rule)
        case tuple() if any(isinstance(each, ClosedJaxpr | Jaxpr) for each in value):
            return tuple(_rewrite_parameter(each, rule) for each in value)
        case _:
            return value
