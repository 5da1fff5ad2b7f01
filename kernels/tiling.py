"""Tiling: lanes in cache-sized tiles, over one or more devices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PyTree

from .autodiff.custom_derivative import Executor, LanedFunction
from .plan import Plan

MESH_AXIS = "subject"


def pad_lanes(tree: PyTree, lanes: int) -> PyTree:
    """Repeat the last lane of every leaf until there are `lanes`."""

    def leaf(x):
        missing = lanes - x.shape[-1]
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)], mode="edge") if missing else x

    return jax.tree.map(leaf, tree)


def map_over_tiles(plan: Plan, tile: int, progress: Callable[[int, int], None] | None = None) -> Executor:
    """Executor of functions `(shared, laned) -> (laned, total)`, tile by tile on each device.

    Args:
        plan: over how many devices.
        tile: lanes in a tile; all lanes are a multiple of it and of the devices.
        progress: called with the numbers of tiles done and in all.
    """

    def execute(function: LanedFunction) -> LanedFunction:
        def on_device(shared, tiles):
            def one_tile(xs):
                number, laned = xs
                out = function(shared, laned)
                if progress is not None:
                    _report_progress(progress, number, len(numbers) * plan.devices, plan.devices, out)
                return out

            numbers = jnp.arange(jax.tree.leaves(tiles)[0].shape[0])
            laned, totals = lax.map(one_tile, (numbers, tiles))
            totals = jax.tree.map(lambda x: x.sum(axis=0), totals)
            return laned, lax.psum(totals, MESH_AXIS) if plan.devices > 1 else totals

        def run(shared, laned):
            laned, total = shard_over_devices(on_device, plan)(
                shared, jax.tree.map(lambda x: _split_tiles(x, tile), laned)
            )
            return jax.tree.map(_join_tiles, laned), total

        return run

    return execute


def shard_over_devices(function: LanedFunction, plan: Plan) -> LanedFunction:
    """`function` with the first axis of its laned leaves divided over the plan's devices."""
    if plan.devices == 1:
        return function
    mesh = Mesh(np.array(jax.local_devices()[: plan.devices]), (MESH_AXIS,))
    lanes, same = PartitionSpec(MESH_AXIS), PartitionSpec()
    return jax.shard_map(function, mesh=mesh, in_specs=(same, lanes), out_specs=(lanes, same), check_vma=False)


def _split_tiles(x: Array, tile: int) -> Array:
    """(..., lanes) to (tiles, ..., tile)."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], -1, tile), -2, 0)


def _join_tiles(x: Array) -> Array:
    """(tiles, ..., tile) to (..., lanes)."""
    x = jnp.moveaxis(x, 0, -2)
    return x.reshape(*x.shape[:-2], -1)


def _report_progress(progress: Callable, number: Array, total: int, devices: int, out: PyTree) -> None:
    """Report the tiles that are done; the first device reports for all, which advance together."""
    device = lax.axis_index(MESH_AXIS) if devices > 1 else 0

    def report(number, device, _):
        if device == 0:
            progress((int(number) + 1) * devices, total)

    done = jax.tree.leaves(out)[0].ravel()[0]  # only once there is a result
    jax.debug.callback(report, number, device, done)
