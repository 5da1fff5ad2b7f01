"""A linear map that is told both ways, forth and back, and traced only in the one that a program takes.

To trace a run's derivative is to write a long program. A gradient needs the map from cotangents to cotangents alone, a
derivative in some direction the other; half of what would be written is never looked at.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import PyTree

LinearMap = Callable[[PyTree, PyTree], PyTree]


def apply_linear_map(forth: LinearMap, back: LinearMap, at: PyTree, moves: PyTree, like: PyTree) -> PyTree:
    """`forth(at, moves)`, linear in `moves`; its transpose is `back(at, cotangents)`.

    Args:
        forth: returns a tree like `like`.
        back: returns a tree like `moves`.
        at: where the map was made.
        moves: what it is applied to. All its leaves are differentiated, if one of them is.
        like: shapes and dtypes of the result.
    """
    leaves, places = jax.tree.flatten(at)
    moved, structure = jax.tree.flatten(moves)
    results, form = jax.tree.flatten(like)

    def forwards(*given):
        return jax.tree.leaves(forth(places.unflatten(given[: len(leaves)]), structure.unflatten(given[len(leaves) :])))

    def backwards(given, cotangents):
        return jax.tree.leaves(back(places.unflatten(given), form.unflatten(cotangents)))

    shapes = tuple(ShapedArray(each.shape, each.dtype) for each in results)
    found = _linear_primitive.bind(
        *leaves, *moved, forwards=forwards, backwards=backwards, shapes=shapes, known=len(leaves)
    )
    return form.unflatten(found)


def _apply_forward(*given, forwards: Callable, backwards: Callable, shapes: tuple, known: int) -> list:
    return forwards(*given)


def _transpose_rule(cotangents, *given, forwards: Callable, backwards: Callable, shapes: tuple, known: int) -> list:
    given_back = backwards(given[:known], [ad.instantiate_zeros(each) for each in cotangents])
    return [None] * known + given_back


def _raise_unsupported(*_: Any, **__: Any):
    raise NotImplementedError(
        'a run under the backends "tiled" and "fused" has first derivatives, in one direction at a time: for `jax.jacfwd`, '
        'a `jax.vmap` of tangents, or second derivatives choose backend="scan", or take directions by `jax.lax.map`.'
    )


_linear_primitive = Primitive("linear")
_linear_primitive.multiple_results = True
_linear_primitive.def_impl(_apply_forward)
_linear_primitive.def_abstract_eval(lambda *given, shapes, **_: shapes)
ad.primitive_transposes[_linear_primitive] = _transpose_rule
ad.primitive_jvps[_linear_primitive] = _raise_unsupported
batching.primitive_batchers[_linear_primitive] = _raise_unsupported
mlir.register_lowering(_linear_primitive, mlir.lower_fun(_apply_forward, multiple_results=True))
