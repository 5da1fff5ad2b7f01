"""Why a fit came no nearer to its target: bounds, a plateau, or too few steps.

The slopes where a start came to rest say which bounds the amounts press against. Whether they would suffice is not left
to a straight line: `utmost` is where the amounts stand at those bounds, and one more course tells what is reached there.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .descent import TOLERANCE, Search
from .regimen import Leaf

MARGIN = 1e-3  # share of the width by which starts, and the utmost, keep away from their bounds
AT_BOUND = 0.05  # share of the width
HARDLY = TOLERANCE / 4  # difference in what is reached, relative to the target, that does not count


def utmost(search: Search, leaves: tuple[Leaf, ...], burden: float) -> Search:
    """The best of every start, with every amount at the bound that its slope points to; nothing is judged yet there.

    The slope of the burden does not count: it asks for less of everything.
    """
    edge, free = np.log(1 / MARGIN - 1), []
    for leaf, u, (_, pull) in zip(leaves, search.best, _pulls(search, leaves, burden), strict=True):
        bound = jnp.asarray(-np.sign(pull) * edge, u.dtype)
        free.append(jnp.where(pull == 0, u, bound) if leaf.is_amount else u)
    return eqx.tree_at(lambda s: s.free, search, tuple(free))


def statuses(search: Search, at_utmost: np.ndarray, leaves: tuple[Leaf, ...], burden: float) -> np.ndarray:
    """What stopped every start, (start, column): see `Restoration.status`.

    Args:
        search: as it ended.
        at_utmost: what is reached where the amounts are at their bounds, relative to the target; not a number where
            nobody looked.
        leaves: that were fitted.
        burden: its weight in the loss; its slope does not count.
    """
    pulls = _pulls(search, leaves, burden)
    reached = np.asarray(search.reached)
    flat = [[part.reshape(-1, *reached.shape) for part in pair] for pair in pulls]
    share, pull = (np.concatenate(parts) for parts in zip(*flat, strict=True))
    amount = np.concatenate([np.full(len(of), leaf.is_amount) for leaf, (of, _) in zip(leaves, flat, strict=True)])
    found = np.empty(reached.shape, object)
    for at in np.ndindex(reached.shape):
        found[at] = _status(float(reached[at]), float(at_utmost[at]), share[:, *at], pull[:, *at], amount)
    return found


def _pulls(search: Search, leaves: tuple[Leaf, ...], burden: float):
    """Of every leaf, where it stands as a share of its width, and the slope of the loss by it, burden left out."""
    amounts, found = sum(leaf.is_amount for leaf in leaves), []
    for leaf, u, g in zip(leaves, search.best, search.slope, strict=True):
        share = 1 / (1 + np.exp(-np.asarray(u, float)))
        pull = np.asarray(g, float) / (share * (1 - share))
        doses = np.prod(share.shape[:-2])
        found.append((share, pull - burden / (amounts * doses) if leaf.is_amount else pull))
    return found


def _status(reached: float, at_utmost: float, share: np.ndarray, pull: np.ndarray, amount: np.ndarray) -> str:
    """What stopped one start, given where its leaves stand, how the loss slopes and which are amounts."""
    miss, miss_at_utmost = reached - 1, at_utmost - 1
    if not np.isfinite(reached):
        return "failed"
    if abs(miss) < TOLERANCE:
        return "reached"
    room = np.where(pull > 0, share, 1 - share)  # downhill, to the bound
    if miss * miss_at_utmost > 0 and abs(miss_at_utmost) < abs(miss) + HARDLY:  # the most there may be is not enough
        stands_there = (room[amount & (pull != 0)] < AT_BOUND).all()
        return "bounds" if stands_there or abs(reached - at_utmost) > HARDLY else "plateau"
    if miss * miss_at_utmost < 0 or (abs(pull) * room).sum() > miss**2 - TOLERANCE**2:
        return "steps"  # there is enough to gain within the bounds: it has been seen, or it seems so to first order
    outward = np.square(pull[room < AT_BOUND]).sum()
    return "bounds" if outward > np.square(pull).sum() / 2 else "plateau"


def sentence(status: str, names: str, after: float, target: float, steps: int) -> str:
    """The status of a fit of `names` in a sentence without its full stop. `after` and `target` in Hz."""
    where = f"VTA output comes to {after:.2f} Hz of the {target:.2f} asked for"
    return {
        "reached": f"{where}, within {TOLERANCE:.0%}, after {steps} steps",
        "bounds": f"{where}, and the bounds of {names} forbid more: widen them, or add an intervention",
        "plateau": f"{where}, and hardly changes with {names}: start elsewhere, fit other leaves, or ask for less",
        "steps": f"{where} after {steps} steps, and could come nearer: allow more steps, or less burden",
        "failed": f"no start over {names} stayed finite: narrow the bounds",
    }[status]
