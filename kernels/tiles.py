"""How lanes reach the hardware: in tiles that stay in cache, each in one compiled call, over one or more devices."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PyTree

from .derivative import Function

AXIS = "subject"
VECTOR = 16  # lanes: tiles are whole vectors of the widest CPU, so that no lane is computed by another kind of instruction


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to use the hardware. Results are the same under every plan.

    Attributes:
        backend: "tiled" runs cache-sized tiles of lanes through all steps in one compiled call each: fastest on CPU. "scan" is the plain
            loop over all lanes: the reference, for accelerators, and for every transformation that JAX has. "auto" takes "tiled" on CPU.
        tile: lanes in a tile. Best where a tile's state and parameters fill a few tens of KiB.
        block: most steps in a block, for which noise is made, statistics are merged and the reverse pass is checkpointed at once.
        devices: over how many devices lanes are divided.
    """

    backend: Literal["auto", "tiled", "scan"] = "auto"
    tile: int = 256
    block: int = 32
    devices: int = 1

    def __post_init__(self):
        if self.backend not in ("auto", "tiled", "scan"):
            raise ValueError(f"backend={self.backend!r} is none of 'auto', 'tiled' and 'scan'.")
        for name in ("tile", "block", "devices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")

    def resolve(self) -> "Plan":
        """The same plan with a definite backend, after checking that the devices exist."""
        available = jax.device_count()
        if self.devices > available:
            raise ValueError(
                f"devices={self.devices}, but JAX sees {available}. For more CPU devices, "
                f"jax.config.update('jax_num_cpu_devices', {self.devices}) before JAX is first used."
            )
        if self.backend == "auto":
            return dataclasses.replace(self, backend="tiled" if jax.default_backend() == "cpu" else "scan")
        return self


def hoisted(function: Callable) -> Callable:
    """`function` compiled by XLA for CPU as one single-threaded piece of machine code, loops and all.

    By default every operation of a loop's body is launched by itself, at about 1 us. XLA compiles small loops whole; this marks a
    call as small, whatever its size, by the attribute that XLA's own pass sets (`small_while_loop_hoisting_pass.cc`). It has to be on
    every result, for a dead one may take its mark along. The function must not contain collectives, callbacks, scatters or sorts.
    Where the mark is not understood, the same numbers come out more slowly; `hoist_taken` tells.
    """
    compiled = jax.jit(function)
    mark = lambda x: set_xla_metadata(x, xla_cpu_small_call="true", inlineable="false")
    return lambda *args: jax.tree.map(mark, compiled(*args))


def hoist_taken(compiled: str) -> bool:
    """Whether a compiled program, as `jax.jit(f).lower(...).compile().as_text()`, kept a call that `hoisted` marked."""
    return "xla_cpu_small_call" in compiled


def padded(lanes: int, plan: Plan) -> tuple[int, int]:
    """The lanes of a tile, and all lanes with those repeated to fill the tiles of all devices."""
    up = lambda number, unit: -(-number // unit) * unit
    tile = up(-(-lanes // plan.devices), VECTOR)
    if plan.backend == "tiled":
        tile = min(tile, up(plan.tile, VECTOR))
    return tile, up(lanes, tile * plan.devices)


def pad(tree: PyTree, lanes: int) -> PyTree:
    """Repeat the last lane of every leaf until there are `lanes`."""

    def leaf(x):
        missing = lanes - x.shape[-1]
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)], mode="edge") if missing else x

    return jax.tree.map(leaf, tree)


def over_tiles(plan: Plan, tile: int, progress: Callable[[int, int], None] | None = None) -> Callable[[Function], Function]:
    """An execution of functions `(shared, laned) -> (laned, total)`: tile by tile, device by device.

    Args:
        tile: lanes in a tile; all lanes are a multiple of it and of the devices.
        progress: called with the numbers of tiles done and in all.
    """

    def execute(function: Function) -> Function:
        def on_device(shared, tiles):
            def one(numbered):
                number, laned = numbered
                out = function(shared, laned)
                if progress is not None:
                    _report(progress, number, len(numbers) * plan.devices, plan.devices, out)
                return out

            numbers = jnp.arange(jax.tree.leaves(tiles)[0].shape[0])
            laned, totals = lax.map(one, (numbers, tiles))
            totals = jax.tree.map(lambda x: x.sum(axis=0), totals)
            return laned, lax.psum(totals, AXIS) if plan.devices > 1 else totals

        def run(shared, laned):
            laned, total = sharded(on_device, plan)(shared, jax.tree.map(lambda x: _split(x, tile), laned))
            return jax.tree.map(_join, laned), total

        return run

    return execute


def sharded(function: Function, plan: Plan) -> Function:
    """`function` with the first axis of its laned leaves divided over the plan's devices."""
    if plan.devices == 1:
        return function
    mesh = Mesh(np.array(jax.devices()[: plan.devices]), (AXIS,))
    lanes, same = PartitionSpec(AXIS), PartitionSpec()
    return jax.shard_map(function, mesh=mesh, in_specs=(same, lanes), out_specs=(lanes, same), check_vma=False)


def _split(x: Array, tile: int) -> Array:
    """(..., lanes) to (tiles, ..., tile)."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], -1, tile), -2, 0)


def _join(x: Array) -> Array:
    """(tiles, ..., tile) to (..., lanes)."""
    x = jnp.moveaxis(x, 0, -2)
    return x.reshape(*x.shape[:-2], -1)


def _report(progress: Callable, number: Array, total: int, devices: int, out: PyTree) -> None:
    """Tell how many tiles are done; the first device speaks for all, which work in step."""
    device = lax.axis_index(AXIS) if devices > 1 else 0

    def tell(number, device, _):
        if device == 0:
            progress((int(number) + 1) * devices, total)

    done = jax.tree.leaves(out)[0].ravel()[0]  # only once there is a result
    jax.debug.callback(tell, number, device, done)
