"""Why a fit came no nearer to its target: bounds, a plateau, or too few steps.

The slopes of the miss alone, where a start came to rest, say which bounds the amounts press against: to ask for less of
everything, as a burden does, or for an earlier effect, as the shortfall does, is no reason to miss. Whether those bounds
would suffice is not left to a straight line: `corner` is where the amounts stand at them, `utmost` where all do, and one
more course of each tells what is reached there. If that is too little, the slopes there tell what wider bounds would be
worth: who is as well as can be, in whom output no longer rises with any dose, is not held back by bounds.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .constraints import constrain
from .descent import Free, Search
from .interventions import Arm
from .regimen import Leaf, values_of
from .spacing import SHARPNESS

MARGIN = 1e-3  # share of the width by which starts, and the corner, keep away from their bounds
EDGE = float(np.log(1 / MARGIN - 1))  # free number that stands there
AT_BOUND = 0.05  # share of the width
HARDLY = 0.25  # of the tolerance: difference in what is reached that does not count
WORTH = 0.5  # of the miss (squared): what wider bounds must win back, to first order, to be what is missing


class Pulls(NamedTuple):
    """How the square of the miss slopes in every fitted number of every start; (number, start, column).

    Attributes:
        share: where the number stands, as a share of its width.
        pull: slope by that share.
        room: from there downhill to the bound.
        further: how many widths the intervention itself would allow beyond that bound; as many again if it is at its own.
        amount: (number,), whether it is one.
    """

    share: np.ndarray
    pull: np.ndarray
    room: np.ndarray
    further: np.ndarray
    amount: np.ndarray


def corner(place: Search, leaves: tuple[Leaf, ...]) -> Free:
    """Free numbers with every amount at the bound that its slope at `place` points to; times stay."""
    moved = lambda u, g: jnp.where(g == 0, u, -jnp.sign(g) * jnp.asarray(EDGE, u.dtype))
    return tuple(
        moved(u, g) if leaf.is_amount else u for leaf, u, g in zip(leaves, place.best, place.slope, strict=True)
    )


def utmost(place: Search, leaves: tuple[Leaf, ...], when: float) -> Free:
    """Free numbers with every amount at its most where the target was not reached, at its least where it was passed.

    Doses that have come to nothing have no slope that would bring them elsewhere, so times are set alike: as early as can be
    where `when` is -1, as late where it is 1, as they are where it is 0.
    """
    amount = jnp.where(place.reached < 1, EDGE, -EDGE)
    return tuple(
        jnp.broadcast_to(amount.astype(u.dtype), u.shape) if leaf.is_amount else jnp.where(when == 0, u, when * EDGE)
        for leaf, u in zip(leaves, place.best, strict=True)
    )


def pulls(place: Search, leaves: tuple[Leaf, ...], arm: Arm) -> Pulls:
    """Slopes at a place that was looked at with neither burden nor shortfall."""
    held, plain = values_of(place.best, leaves, arm), constrain(place.best, tuple(leaf.interval for leaf in leaves))
    parts = []
    for i, leaf in enumerate(leaves):
        share = 1 / (1 + np.exp(-np.asarray(place.best[i], float)))
        pull = np.asarray(place.slope[i], float) / (share * (1 - share))
        if leaf.per_day is not None:  # by the amount of a day as it is held back, which its limit is a bound of
            kept = np.clip(np.asarray(held[i], float) / np.maximum(np.asarray(plain[i], float), 1e-12), 0.05, 1)
            pull, share = pull / kept ** (SHARPNESS + 1), np.where(kept < 1 - AT_BOUND, 1.0, share)
        low, high = type(arm[leaf.position]).bounds[leaf.field]
        further = [_further(bound - end, leaf.interval.width) for bound, end in _ends(leaf, low, high)]
        room = np.where(pull > 0, share, 1 - share)
        found = (share, pull, room, np.where(pull > 0, *further))
        parts.append([each.reshape(-1, *share.shape[-2:]) for each in found])
    amount = [np.full(len(of[0]), leaf.is_amount) for leaf, of in zip(leaves, parts, strict=True)]
    share, pull, room, further = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Pulls(share, pull, room, further, np.concatenate(amount))


def _ends(leaf: Leaf, low: float, high: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """The intervention's own bound and that of the fit, below and above, so that the way out is positive."""
    return (leaf.interval.low, low), (high, leaf.interval.high)


def _further(beyond: float, width: float) -> float:
    return beyond / width if 0 < beyond < np.inf else 1.0


def statuses(
    reached: np.ndarray, tolerance: float, here: Pulls, at_corner: np.ndarray | None = None, there: Pulls | None = None
) -> np.ndarray:
    """What stopped every start, (start, column): see `Restoration.status`.

    Args:
        reached: by each start, relative to the target.
        tolerance: miss within which that counts as reached.
        here: slopes where they rest.
        at_corner: what is reached where the amounts are at their bounds; None if nobody looked.
        there: slopes at that corner.
    """
    found = np.empty(reached.shape, object)
    for at in np.ndindex(reached.shape):
        one = lambda of, at=at: of._replace(**{name: getattr(of, name)[:, *at] for name in Pulls._fields[:-1]})
        most = None if at_corner is None or there is None else (float(at_corner[at]), one(there))
        found[at] = _status(float(reached[at]), tolerance, one(here), most)
    return found


def _status(reached: float, tolerance: float, here: Pulls, most: tuple[float, Pulls] | None) -> str:
    """What stopped one start; `most` is what is reached at the corner, and the slopes there."""
    miss = reached - 1
    if not np.isfinite(reached):
        return "failed"
    if abs(miss) < tolerance:
        return "reached"
    if most is not None:
        miss_there, there = most[0] - 1, most[1]
        if miss * miss_there < 0 or abs(miss_there) < tolerance:
            return "steps"  # there is enough to gain within the bounds: it has been seen
        if abs(miss_there) < abs(miss) + HARDLY * tolerance:  # the most there may be is not enough
            lacking = miss_there**2 - tolerance**2
            outward = (
                there.amount & (there.room < AT_BOUND) & ((there.pull < 0) | (miss > 0))
            )  # none is less than nothing
            return "bounds" if (abs(there.pull) * there.further)[outward].sum() > WORTH * lacking else "plateau"
    if (abs(here.pull) * here.room).sum() > miss**2 - tolerance**2:
        return "steps"  # so it seems to first order
    outward = np.square(here.pull[here.room < AT_BOUND]).sum()
    return "bounds" if outward > np.square(here.pull).sum() / 2 else "plateau"


def sentence(status: str, names: str, after: float, target: float, tolerance: float, steps: int) -> str:
    """The status of a fit of `names` in a sentence without its full stop. `after` and `target` in Hz."""
    where = f"VTA output comes to {after:.2f} Hz of the {target:.2f} asked for"
    return {
        "reached": f"{where}, within {tolerance:.0%}, after {steps} steps",
        "bounds": f"{where}, and the bounds of {names} forbid more: widen them, or add an intervention",
        "plateau": f"{where}, and hardly changes with {names}: start elsewhere, fit other leaves, or ask for less",
        "steps": f"{where} after {steps} steps, and could come nearer: allow more steps, or less burden",
        "failed": f"no start over {names} stayed finite: narrow the bounds",
    }[status]
