"""Programs with some operations written in others, for compilers that lack them: formulas stay as they are natural."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

Rule = Callable[[JaxprEqn], Callable | None]


def rewritten(jaxpr: Jaxpr, rule: Rule) -> Jaxpr:
    """The same program, loops and branches included, with each operation replaced for which `rule` gives a function.

    Args:
        jaxpr: to rewrite. Derivatives must have been taken: what is put in is not what a reverse pass would be made of.
        rule: from an operation to a function of its operands that returns as many results, or None to keep it.
    """
    return jaxpr.replace(eqns=[_rewritten(equation, rule) for equation in jaxpr.eqns])


def shapes(equation: JaxprEqn) -> tuple[list[jax.ShapeDtypeStruct], list[jax.ShapeDtypeStruct]]:
    """Of what an operation takes and of what it gives."""
    shape_of: Any = lambda x: jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype)
    return [shape_of(x) for x in equation.invars], [shape_of(x) for x in equation.outvars]


def _rewritten(equation: JaxprEqn, rule: Rule) -> JaxprEqn:
    function = rule(equation)
    if function is None:
        return equation.replace(params={name: _inner(value, rule) for name, value in equation.params.items()})
    like, _ = shapes(equation)
    call = jax.make_jaxpr(jax.jit(function))(*like).jaxpr.eqns[0]
    return equation.replace(primitive=call.primitive, params=call.params)


def _inner(value: Any, rule: Rule) -> Any:
    """A parameter of an operation, rewritten where it is a program, or several."""
    match value:
        case ClosedJaxpr():
            return value.replace(jaxpr=rewritten(value.jaxpr, rule))
        case Jaxpr():
            return rewritten(value, rule)
        case tuple() if any(isinstance(each, ClosedJaxpr | Jaxpr) for each in value):
            return tuple(_inner(each, rule) for each in value)
        case _:
            return value
