"""Why a fit came no nearer to its target: bounds, a plateau, or too few steps.

The slopes of the miss alone, where a start came to rest, say which bounds the amounts press against: to ask for less of
everything, as a burden does, or for an earlier effect, as the shortfall does, is no reason to miss. Whether those bounds
would suffice is not left to a straight line: `active_bound_point` is where the amounts stand at them,
`extreme_point` where all do, and one
more course of each tells what is reached there. If that is too little, one more tells what wider bounds would be worth:
what stands at a bound moves to the intervention's own (`relax_bounds`). These are the widest that could be asked for; twice the
width of very narrow ones would show little and prove nothing. Who comes hardly nearer there is not held back by bounds.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ..fitting.bijections import BOUND_MARGIN, constrain_tree
from ..fitting.dose_spacing import DAILY_LIMIT_SHARPNESS
from ..fitting.regimen import RegimenLeaf, leaf_values
from ..model.interventions import Arm
from .gradient_step import AdamState
from .problem import FreeValues

FREE_VALUE_AT_MARGIN = float(np.log(1 / BOUND_MARGIN - 1))  # free number that stands there
AT_BOUND_SHARE = 0.05  # share of the width
NEGLIGIBLE_TOLERANCE_SHARE = 0.25  # of the tolerance: difference in what is reached that does not count
MIN_MISS_REDUCTION = 0.5  # of the miss: what wider bounds must win back to be what is missing


class BoundGradients(NamedTuple):
    """How the square of the miss slopes in every fitted number of every start; (number, start, column).

    Attributes:
        share: where the number stands, as a share of its width.
        pull: slope by that share.
        room: from there downhill to the bound.
    """

    share: np.ndarray
    pull: np.ndarray
    room: np.ndarray


def active_bound_point(place: AdamState, leaves: tuple[RegimenLeaf, ...]) -> FreeValues:
    """Free numbers with every amount at the bound that its slope at `place` points to; times stay."""
    moved = lambda u, g: jnp.where(g == 0, u, -jnp.sign(g) * jnp.asarray(FREE_VALUE_AT_MARGIN, u.dtype))
    return tuple(
        moved(u, g) if leaf.is_amount else u for leaf, u, g in zip(leaves, place.best, place.slope, strict=True)
    )


def extreme_point(place: AdamState, leaves: tuple[RegimenLeaf, ...], when: float) -> FreeValues:
    """Free numbers with every amount at its most where the target was not reached, at its least where it was passed.

    Doses that have come to nothing have no slope that would bring them elsewhere, so times are set alike: as early as can be
    where `when` is -1, as late where it is 1, as they are where it is 0.
    """
    amount = jnp.where(place.reached < 1, FREE_VALUE_AT_MARGIN, -FREE_VALUE_AT_MARGIN)
    return tuple(
        jnp.broadcast_to(amount.astype(u.dtype), u.shape)
        if leaf.is_amount
        else jnp.where(when == 0, u, when * FREE_VALUE_AT_MARGIN)
        for leaf, u in zip(leaves, place.best, strict=True)
    )


def relax_bounds(place: AdamState, leaves: tuple[RegimenLeaf, ...], widest: tuple[RegimenLeaf, ...]) -> FreeValues:
    """Free numbers of `widest`, the leaves with wider bounds, for the regimen at `place`.

    But what stands at a bound that is narrower moves to the wider one.
    """
    found, near = [], float(np.log(1 / AT_BOUND_SHARE - 1))
    for leaf, wide, u in zip(leaves, widest, place.best, strict=True):
        edge, same = (
            jnp.asarray(FREE_VALUE_AT_MARGIN, u.dtype),
            wide.interval.unconstrain(leaf.interval.constrain(u), BOUND_MARGIN),
        )
        if wide.interval.high > leaf.interval.high:
            same = jnp.where(u > near, edge, same)
        if wide.interval.low < leaf.interval.low:
            same = jnp.where(u < -near, -edge, same)
        found.append(same)
    return tuple(found)


def bound_gradients(place: AdamState, leaves: tuple[RegimenLeaf, ...], arm: Arm) -> BoundGradients:
    """Slopes at a place that was looked at with neither burden nor shortfall."""
    held, plain = (
        leaf_values(place.best, leaves, arm),
        constrain_tree(place.best, tuple(leaf.interval for leaf in leaves)),
    )
    parts = []
    for i, leaf in enumerate(leaves):
        share = 1 / (1 + np.exp(-np.asarray(place.best[i], float)))
        pull = np.asarray(place.slope[i], float) / (share * (1 - share))
        if leaf.per_day is not None:  # by the amount of a day as it is held back, which its limit is a bound of
            kept = np.clip(np.asarray(held[i], float) / np.maximum(np.asarray(plain[i], float), 1e-12), 0.05, 1)
            pull, share = pull / kept ** (DAILY_LIMIT_SHARPNESS + 1), np.where(kept < 1 - AT_BOUND_SHARE, 1.0, share)
        room = np.where(pull > 0, share, 1 - share)
        parts.append([each.reshape(-1, *share.shape[-2:]) for each in (share, pull, room)])
    return BoundGradients(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def classify_starts(
    reached: np.ndarray,
    tolerance: float,
    here: BoundGradients,
    most: np.ndarray | None = None,
    wider: np.ndarray | None = None,
) -> np.ndarray:
    """What stopped every start, (start, column): see `Restoration.status`.

    Args:
        reached: by each start, relative to the target.
        tolerance: miss within which that counts as reached.
        here: slopes where they rest.
        most: what is reached where the amounts are at their bounds; None if nobody looked.
        wider: what is reached at wider bounds; None if nobody looked.
    """
    found = np.empty(reached.shape, object)
    for at in np.ndindex(reached.shape):
        slopes = BoundGradients(*(of[:, *at] for of in here))
        found[at] = _classify_start(
            float(reached[at]), tolerance, slopes, _finite_or_none(most, at), _finite_or_none(wider, at)
        )
    return found


def _finite_or_none(reached: np.ndarray | None, at: tuple[int, ...]) -> float | None:
    return None if reached is None or not np.isfinite(reached[at]) else float(reached[at])


def _classify_start(
    reached: float, tolerance: float, here: BoundGradients, most: float | None, wider: float | None
) -> str:
    """What stopped one start; `most` and `wider` are what is reached within the bounds at most, and within wider ones."""
    miss = reached - 1
    if not np.isfinite(reached):
        return "failed"
    if abs(miss) < tolerance:
        return "reached"
    enough = lambda seen: seen is not None and (miss * (seen - 1) < 0 or abs(seen - 1) < tolerance)
    if enough(most):
        return "steps"  # there is enough to gain within the bounds: it has been seen
    too_little = most is not None and abs(most - 1) <= abs(miss) + NEGLIGIBLE_TOLERANCE_SHARE * tolerance
    if not too_little and (abs(here.pull) * here.room).sum() > miss**2 - tolerance**2:
        return "steps"  # so it seems to first order
    least = min(abs(miss), np.inf if most is None else abs(most - 1))
    helps = enough(wider) or (wider is not None and abs(wider - 1) < (1 - MIN_MISS_REDUCTION) * least)
    return "bounds" if helps else "plateau"


def describe_status(
    status: str, names: str, after: float, target: float, tolerance: float, steps: int, furthest: str | None = None
) -> str:
    """The status of a fit of `names` in a sentence without its full stop.

    `after` and `target` in Hz; `furthest` is what else was seen, see `describe_furthest_output`.
    """
    where = f"VTA output comes to {after:.2f} Hz of the {target:.2f} asked for"
    flat = f"{where}, and hardly changes with {names}: start elsewhere, fit other leaves, or ask for less"
    least = f"{where}, and hardly comes nearer: {furthest}; fit other leaves, add an intervention, or ask for less"
    return {
        "reached": f"{where}, within {tolerance:.0%}, after {steps} steps",
        "bounds": f"{where}, and the bounds of {names} forbid more: {furthest}; widen them, or add an intervention",
        "plateau": least if furthest else flat,
        "steps": f"{where} after {steps} steps, and could come nearer: allow more steps, or less burden",
        "failed": f"no start over {names} stayed finite: narrow the bounds",
    }[status]


def describe_furthest_output(output: float, leaves: tuple[RegimenLeaf, ...], widest: tuple[RegimenLeaf, ...]) -> str:
    """What was seen at the bounds of `widest`, in words; those are named that are wider than in `leaves`, or all."""
    wider = [wide for leaf, wide in zip(leaves, widest, strict=True) if wide.interval != leaf.interval]
    ends = [f"{leaf.name} from {leaf.interval.low:.4g} to {leaf.interval.high:.4g}" for leaf in wider or widest]
    return f"{output:.2f} Hz is the furthest that was seen with {' and '.join(ends)}"
