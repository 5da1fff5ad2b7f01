"""A linear map that is given both ways, with its transpose, and traced only the way that a program takes.

Tracing the derivative of a run writes a long program. A gradient needs only the map of cotangents, a directional derivative
only that of tangents. `jax.custom_derivatives.linear_call` traces the forward map in either case, and a gradient then takes
two to three times as long to compile (row "ablation, moment, gradient, without lazy linear map" in benchmarks/results.csv).
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import PyTree

LinearMap = Callable[[PyTree, PyTree], PyTree]


def apply_linear_map(forward: LinearMap, backward: LinearMap, point: PyTree, tangents: PyTree, like: PyTree) -> PyTree:
    """`forward(point, tangents)`, linear in `tangents`; its transpose is `backward(point, cotangents)`.

    Args:
        forward: returns a tree like `like`.
        backward: returns a tree like `tangents`.
        point: where the map was made; not differentiated.
        tangents: what it is applied to. All leaves are differentiated if one is.
        like: shapes and dtypes of the result.
    """
    point_leaves, point_structure = jax.tree.flatten(point)
    tangent_leaves, tangent_structure = jax.tree.flatten(tangents)
    like_leaves, like_structure = jax.tree.flatten(like)
    count = len(point_leaves)

    def forward_leaves(*leaves):
        point = point_structure.unflatten(leaves[:count])
        return jax.tree.leaves(forward(point, tangent_structure.unflatten(leaves[count:])))

    def backward_leaves(leaves, cotangents):
        return jax.tree.leaves(backward(point_structure.unflatten(leaves), like_structure.unflatten(cotangents)))

    results = _linear_primitive.bind(
        *point_leaves,
        *tangent_leaves,
        forward=forward_leaves,
        backward=backward_leaves,
        shapes=tuple(ShapedArray(leaf.shape, leaf.dtype) for leaf in like_leaves),
        count=count,
    )
    return like_structure.unflatten(results)


def _apply_forward(*leaves, forward: Callable, backward: Callable, shapes: tuple, count: int) -> list:
    return forward(*leaves)


def _transpose_rule(cotangents, *leaves, forward: Callable, backward: Callable, shapes: tuple, count: int) -> list:
    tangents = backward(leaves[:count], [ad.instantiate_zeros(cotangent) for cotangent in cotangents])
    return [None] * count + tangents


def _raise_unsupported(*_: Any, **__: Any):
    raise NotImplementedError(
        'a run under the backends "tiled" and "fused" has first derivatives, in one direction at a time: for `jax.jacfwd`, '
        'a `jax.vmap` of tangents, or second derivatives choose backend="scan", or take directions by `jax.lax.map`.'
    )


_linear_primitive = Primitive("linear")
_linear_primitive.multiple_results = True
_linear_primitive.def_impl(_apply_forward)
_linear_primitive.def_abstract_eval(lambda *leaves, shapes, **_: shapes)
ad.primitive_transposes[_linear_primitive] = _transpose_rule
ad.primitive_jvps[_linear_primitive] = _raise_unsupported
batching.primitive_batchers[_linear_primitive] = _raise_unsupported
mlir.register_lowering(_linear_primitive, mlir.lower_fun(_apply_forward, multiple_results=True))
