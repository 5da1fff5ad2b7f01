"""The door to the time loop: checks what is asked, chooses how to run it, and knows its derivative."""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Int, Integer, PyTree

from .autodiff.custom_derivative import ResidualPolicy, with_custom_derivative
from .autodiff.forward_mode import MAX_FORWARD_DIRECTIONS, loop_jvps
from .carry import Loop
from .noise import channel_keys
from .plan import Plan
from .scan_loop import NoiseSource, largest_divisor, run_scan
from .statistics import MeasuredStatistic
from .tiling import map_over_tiles, pad_lanes
from .xla_cpu.hoist import hoisted

# Bytes for each tile that a derivative may keep of a run; what would need more is computed again.
MAX_RESIDUAL_BYTES_PER_TILE = 2**24
# Bytes for all tiles, up to which that is the state before every step, if `MAX_RESIDUAL_BYTES_PER_TILE` holds it:
# else blocks'.
MAX_RESIDUAL_BYTES = 2**30
_DEFAULT_PLAN = Plan()


class Integration(eqx.Module):
    """What a run returns. Every leaf has lanes last.

    Attributes:
        state: after the last step.
        samples: what `sample` recorded, with a first axis of saves; None if nothing was asked.
        statistics: results by name.
        bad: -1, or the step after which a lane was first found non-finite, looked at once a block.
    """

    state: PyTree
    samples: PyTree
    statistics: dict[str, Array]
    bad: Int[Array, " lanes"]


def integrate(
    step: Callable,
    state: PyTree,
    *,
    steps: int,
    subjects: Integer[Array, " lanes"],
    shared: PyTree = None,
    own: PyTree = None,
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

        state, output = step(state, shared, own, inputs, z, j)

    Differentiable, forwards and in reverse, in the floating leaves of `state`, `shared` and `own`. The functions must
    be pure and must not hold values that are differentiated: hand those in as `shared` or `own`. Call it under
    `jax.jit`; outside, every call compiles anew.

    Under the backends "tiled" and "fused", a derivative in several directions is `jax.lax.map` over them; `jax.vmap`
    over derivatives, `jax.jacfwd` and second derivatives need the backend "scan".

    Args:
        step: `state` and `own` are trees with lanes last, `inputs` what `prepare` made for this step, `z` the
            (channels, lanes) standard normals or None without channels, `j` the int32 number of the step.
        state: where each lane begins. Every leaf has lanes last.
        steps: how many steps to make.
        subjects: the number of each lane's subject, which names its noise path.
        shared: what all lanes have in common. No lane axis.
        own: what each lane has for itself. Every leaf has lanes last.
        prepare: `(shared, own) -> inputs`, leaves with a first axis of `steps`, for what is better computed for all
            steps at once. It runs tile by tile and again in the reverse pass, so that memory never holds all steps of
            all lanes.
        seed: names the noise of the whole run; see `channel_keys`.
        channels: normals per lane and step.
        start: number of the first step. A run in two halves, the second started where the first ended, is equal to one.
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
    state, shared, own = jax.tree.map(jnp.asarray, (state, shared, own))
    lanes = subjects.shape[-1]
    _check_axis(state, "state", -1, lanes, "lanes of `subjects`")
    _check_axis(own, "own", -1, lanes, "lanes of `subjects`")

    block = _block_length(save_every, plan.block)
    even = block % 2 == 0 and isinstance(start, int) and start % 2 == 0
    saves, blocks = steps // save_every, save_every // block
    together = largest_divisor(saves, plan.block // block) if blocks == 1 else 1
    hoist = plan.backend == "tiled" and plan.hoist
    tile, whole = plan.divide(lanes)
    of_lane = steps * _tree_bytes(eqx.filter(state, eqx.is_inexact_array)) // lanes
    each = stores_every_state(of_lane, tile, whole)
    loop = Loop(step, sample, statistics or {}, saves, blocks, block, together, even, whole=hoist, each=each)
    common = (shared, channel_keys(seed, channels), jnp.asarray(start, jnp.int32))
    laned = pad_lanes((state, own, subjects.astype(jnp.uint32)), whole)
    out = _build_run(loop, prepare, plan, tile, whole // tile, progress)(common, laned)
    return Integration(*jax.tree.map(lambda x: x[..., :lanes], out))


def stores_every_state(of_lane: int, tile: int, whole: int) -> bool:
    """Whether a derivative keeps what every step begins with, so many bytes for each lane of a `tile` and of the `whole`."""
    return of_lane * tile <= MAX_RESIDUAL_BYTES_PER_TILE and of_lane * whole <= MAX_RESIDUAL_BYTES


def _build_run(
    loop: Loop, prepare: Callable | None, plan: Plan, tile: int, tiles: int, progress: Callable | None
) -> Callable:
    """The run as a function of (what is common, what has lanes), carried out as planned."""

    def compute(run, common, laned):
        (shared, keys, start), ((state, own, subjects), inputs) = common, laned
        out = run(loop, state, shared, own, inputs, NoiseSource(keys, subjects, _noise_dtype(state)), start)
        _check_axis(out[1:], "(samples, statistics, bad)", -1, subjects.size, "lanes of a tile")
        return out

    def whole(compute, common, laned, *held):
        inputs = None if prepare is None else prepare(common[0], laned[1])
        _check_axis(inputs, "inputs", 0, loop.steps, "steps")
        return compute(common, (laned, inputs), *held)

    def resume(common, laned_and_held):
        laned, held = laned_and_held
        return compute(partial(run_scan, forwards=False, kept=held), common, laned)

    plain, execute = partial(compute, run_scan), partial(map_over_tiles, plan, tile)
    once = lambda function: execute(progress)(lambda *args: (function(*args), ()))
    match plan.backend:
        case "tiled":
            backwards, resumed = partial(compute, partial(run_scan, forwards=False)), resume
            keep, inner = partial(compute, partial(run_scan, keep=True)), plain
            if plan.hoist:
                keep, inner = hoisted(keep), with_custom_derivative(plain, hoisted, derived=backwards)
                resumed = with_custom_derivative(resume, hoisted)
            kept = ResidualPolicy(
                partial(whole, keep),
                partial(whole, lambda common, laned, held: resumed(common, (laned, held))),
                lambda held: _tree_bytes(held) <= MAX_RESIDUAL_BYTES_PER_TILE * tiles,
            )
            return with_custom_derivative(partial(whole, inner), execute(progress), derive=execute(), kept=kept)
        case "fused":  # its derivatives are kernels too in few directions, in many those of the plain loop
            from .pallas_gpu import kernel  # here, because the compiler of kernels takes a second to import

            run_kernel = partial(kernel.run_fused_kernel, interpret=plan.interpret)
            return with_custom_derivative(
                partial(whole, plain),
                lambda _: once(partial(whole, partial(compute, run_kernel))),
                derive=execute(),
                pushes=loop_jvps(loop, prepare, run_kernel, _noise_dtype),
                few=MAX_FORWARD_DIRECTIONS,
            )
        case _:
            return lambda common, laned: once(partial(whole, plain))(common, laned)[0]


def _block_length(save_every: int, most: int) -> int:
    """The largest even divisor of `save_every` up to `most`, else the largest: no pair of normals is made twice."""
    if save_every % 2 == 0 and most >= 2:
        return 2 * largest_divisor(save_every // 2, most // 2)
    return largest_divisor(save_every, most)


def _noise_dtype(state: PyTree):
    """Double precision where the state has it."""
    return jnp.float64 if any(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(state)) else jnp.float32


def _tree_bytes(tree: PyTree) -> int:
    """What its arrays take."""
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
