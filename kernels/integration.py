"""Entry point of the time loop: checks arguments, chooses a backend, and defines the derivative."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Int, Integer, PyTree

from .autodiff.custom_derivative import Executor, LanedFunction, ResidualPolicy, fused_derivative, tiled_derivative
from .autodiff.forward_mode import MAX_FORWARD_DIRECTIONS, loop_jvps
from .loop_spec import Layout, Loop, NoiseSource, Operands
from .noise import channel_keys
from .plan import Plan
from .scan_loop import largest_divisor, run_scan
from .statistics import MeasuredStatistic
from .tiling import map_over_tiles, pad_lanes
from .xla_cpu.hoist import hoisted

# Bytes of residuals that a reverse pass may keep for each tile. Beyond, the run is computed again.
MAX_RESIDUAL_BYTES_PER_TILE = 2**24
# Bytes for all tiles up to which the residuals are the states before every step. Beyond, those before every block.
MAX_RESIDUAL_BYTES = 2**30
_DEFAULT_PLAN = Plan()


class Integration(eqx.Module):
    """Result of `integrate`. Every leaf has lanes last.

    Attributes:
        state: after the last step.
        samples: what `sample` recorded, with a first axis of saves; None without `sample`.
        statistics: results by name.
        nonfinite_at: -1, or the step after which a lane was first non-finite, checked at the end of every block.
    """

    state: PyTree
    samples: PyTree
    statistics: dict[str, Array]
    nonfinite_at: Int[Array, " lanes"]


def integrate(
    step: Callable,
    state: PyTree,
    *,
    steps: int,
    subjects: Integer[Array, " lanes"],
    shared: PyTree = None,
    per_subject: PyTree = None,
    prepare: Callable | None = None,
    seed: ArrayLike = 0,
    channels: int = 0,
    start: Integer[ArrayLike, ""] = 0,
    save_every: int | None = None,
    sample: Callable | None = None,
    statistics: dict[str, MeasuredStatistic] | None = None,
    plan: Plan = _DEFAULT_PLAN,
    progress: Callable[[int, int], None] | None = None,
) -> Integration:
    """Advance many independent lanes by many steps of one pure function.

        state, output = step(state, shared, per_subject, inputs, z, j)

    Differentiable in forward and reverse mode, in the floating leaves of `state`, `shared` and `per_subject`. The functions
    must be pure and must not close over values that are differentiated: pass those as `shared` or `per_subject`. Call it
    under `jax.jit`; outside, every call compiles anew.

    Under the backends "tiled" and "fused", a derivative in several directions is `jax.lax.map` over them; `jax.vmap`
    over derivatives, `jax.jacfwd` and second derivatives need the backend "scan".

    Args:
        step: `state` and `per_subject` are trees with lanes last, `inputs` what `prepare` made for this step, `z` the
            (channels, lanes) standard normals or None without channels, `j` the int32 number of the step.
        state: initial state. Every leaf has lanes last.
        steps: number of steps.
        subjects: the number of each lane's subject, which names its noise path.
        shared: what is common to all lanes. No lane axis.
        per_subject: what differs between lanes. Every leaf has lanes last.
        prepare: `(shared, per_subject) -> inputs`, leaves with a first axis of `steps`, for what is better computed for all
            steps at once. It runs tile by tile and again in the reverse pass, so that memory never holds all steps of
            all lanes.
        seed: names the noise of the whole run; see `channel_keys`.
        channels: normals per lane and step.
        start: number of the first step. A run resumed at the step where another ended equals one run bit for bit.
        save_every: steps between two records; `steps` if not given. Blocks divide it: even numbers with divisors near
            16 are fast, primes are slow.
        sample: `(state, output) -> tree` with lanes last, recorded after the last of every `save_every` steps.
        statistics: by name, a statistic and what it measures at every step, `(state, output) -> array`, lanes last.
        plan: how to use the hardware.
        progress: called as `progress(tiles done, tiles in all)` while a forward run is under way.

    Raises:
        ValueError: lengths that do not divide, leaves without lanes, a step that changes the shape of the state,
            devices that do not exist.
    """
    save_every = steps if save_every is None else save_every
    if steps < 1 or save_every < 1 or steps % save_every:
        nearest = _nearest_multiple(steps, save_every)
        raise ValueError(f"{steps=} must be a positive multiple of {save_every=}; the nearest is {nearest}.")
    plan = plan.resolve()
    state, shared, per_subject = jax.tree.map(jnp.asarray, (state, shared, per_subject))
    lanes = subjects.shape[-1]
    _check_axis(state, "state", -1, lanes, "lanes of `subjects`")
    _check_axis(per_subject, "per_subject", -1, lanes, "lanes of `subjects`")

    tile, padded = plan.divide(lanes)
    bytes_per_lane = steps * _tree_bytes(eqx.filter(state, eqx.is_inexact_array)) // lanes
    loop = _divide_steps(Loop(step, sample, statistics or {}, steps // save_every, 1, save_every), plan)
    loop = loop._replace(
        single_call=plan.backend == "tiled" and plan.hoist,
        store_every_state=stores_every_state(bytes_per_lane, tile, padded),
    )
    common = (shared, channel_keys(seed, channels), jnp.asarray(start, jnp.int32))
    laned = pad_lanes((state, per_subject, subjects.astype(jnp.uint32)), padded)
    execute = partial(map_over_tiles, plan, tile)
    out = _build_run(_Problem(loop, prepare), plan, execute, progress, padded // tile)(common, laned)
    return Integration(*jax.tree.map(lambda x: x[..., :lanes], out))


def stores_every_state(bytes_per_lane: int, tile: int, lanes: int) -> bool:
    """Whether a reverse pass stores the state before every step: so many bytes for each lane of a tile and of all."""
    return bytes_per_lane * tile <= MAX_RESIDUAL_BYTES_PER_TILE and bytes_per_lane * lanes <= MAX_RESIDUAL_BYTES


class _Problem(NamedTuple):
    """What is computed, apart from how: a loop and what makes its inputs.

    The functions of (common, laned) are pure: `common` is (shared, keys, start), `laned` is (state, per_subject,
    subjects).
    """

    loop: Loop
    prepare: Callable | None

    def compute(self, run: Callable, common: tuple, laned: tuple, *residuals: PyTree) -> Any:
        """Run with the inputs of all steps, which `prepare` makes here: tile by tile, and again in the reverse pass."""
        inputs = None if self.prepare is None else self.prepare(common[0], laned[1])
        _check_axis(inputs, "inputs", 0, self.loop.steps, "steps")
        return run(common, (laned, inputs), *residuals)

    def run(self, run: Callable, loop: Loop, common: tuple, laned_and_inputs: tuple) -> Any:
        """Run `loop` by `run`, one of the loops with the signature of `run_scan`."""
        (shared, keys, start), ((state, per_subject, subjects), inputs) = common, laned_and_inputs
        operands = Operands(shared, per_subject, NoiseSource(keys, subjects, _noise_dtype(state)))
        out = run(loop, operands, state, inputs, start)
        _check_axis(out[1:], "(samples, statistics, nonfinite_at)", -1, subjects.size, "lanes of a tile")
        return out


def _build_run(
    problem: _Problem, plan: Plan, execute: Callable[..., Executor], progress: Callable | None, tiles: int
) -> Callable:
    """The run as a differentiable function of (common, laned) under a plan's backend."""
    plain = partial(problem.run, run_scan, problem.loop)
    match plan.backend:
        case "tiled":
            inner, residuals = _tile_derivative(problem, plain, plan.hoist, MAX_RESIDUAL_BYTES_PER_TILE * tiles)
            run = partial(problem.compute, inner)
            return tiled_derivative(run, execute(progress), derive=execute(), residuals=residuals)
        case "fused":
            from .pallas_gpu import kernel  # here, because the compiler of kernels takes a second to import

            run_kernel = partial(kernel.run_fused_kernel, interpret=plan.interpret)
            fused = partial(problem.compute, partial(problem.run, run_kernel, problem.loop))
            return fused_derivative(
                partial(problem.compute, plain),
                lambda _: _execute_once(execute(progress), fused),
                jvps=loop_jvps(problem.loop, problem.prepare, run_kernel, _noise_dtype),
                max_directions=MAX_FORWARD_DIRECTIONS,
                derive=execute(),
            )
        case _:
            once = _execute_once(execute(progress), partial(problem.compute, plain))
            return lambda common, laned: once(common, laned)[0]


def _execute_once(execute: Executor, function: Callable) -> LanedFunction:
    """`function(common, laned)` carried out; there is nothing to be summed over lanes."""
    return execute(lambda common, laned: (function(common, laned), ()))


def _tile_derivative(
    problem: _Problem, plain: Callable, hoist: bool, max_bytes: int
) -> tuple[Callable, ResidualPolicy]:
    """The run of one tile with its derivative, compiled as a single call under `hoist`; and what its reverse pass keeps."""
    for_derivative = problem.loop._replace(layout=Layout.REMAT)

    def resume(common: tuple, laned_and_residuals: tuple) -> Any:
        laned_and_inputs, residuals = laned_and_residuals
        run = partial(run_scan, residuals=residuals)
        return problem.run(run, for_derivative, common, laned_and_inputs)

    keep, resumed = partial(problem.run, run_scan, problem.loop._replace(keep_residuals=True)), resume
    inner = plain
    if hoist:
        differentiated = partial(problem.run, run_scan, for_derivative)
        inner = tiled_derivative(plain, hoisted, differentiated=differentiated)
        keep, resumed = hoisted(keep), tiled_derivative(resume, hoisted)
    residuals = ResidualPolicy(
        partial(problem.compute, keep),
        partial(problem.compute, lambda common, laned, residuals: resumed(common, (laned, residuals))),
        lambda residuals: _tree_bytes(residuals) <= max_bytes,
    )
    return inner, residuals


def _divide_steps(loop: Loop, plan: Plan) -> Loop:
    """A loop of one block for each save, divided into blocks of about `plan.block` steps."""
    save_every = loop.block
    block = _block_length(save_every, plan.block)
    blocks = save_every // block
    return loop._replace(
        blocks=blocks,
        block=block,
        saves_per_block=largest_divisor(loop.saves, plan.block // block) if blocks == 1 else 1,
    )


def _block_length(save_every: int, most: int) -> int:
    """Steps in a block: the largest even divisor of `save_every` up to `most`, else the largest divisor."""
    if save_every % 2 == 0 and most >= 2:
        return 2 * largest_divisor(save_every // 2, most // 2)
    return largest_divisor(save_every, most)


def _noise_dtype(state: PyTree) -> Any:
    """Double precision if a leaf of the state has it."""
    return jnp.float64 if any(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(state)) else jnp.float32


def _tree_bytes(tree: PyTree) -> int:
    """Bytes of all leaves."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _nearest_multiple(steps: int, save_every: int) -> int:
    """The multiple of `save_every` nearest to `steps`, at least one."""
    unit = max(save_every, 1)
    return max(round(steps / unit), 1) * unit


def _check_axis(tree: PyTree, name: str, axis: int, length: int, meaning: str) -> None:
    """Raise unless one axis of every leaf has this length."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if leaf.ndim == 0 or leaf.shape[axis] != length:
            where = "first" if axis == 0 else "last"
            leaf_name = name + jax.tree_util.keystr(path)
            raise ValueError(
                f"{leaf_name} has shape {leaf.shape}, but its {where} axis must be the {length} {meaning}."
            )
