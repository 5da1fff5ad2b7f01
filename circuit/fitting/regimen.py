"""Which numbers of an arm are fitted, by name, within which bounds, and how close doses may come."""

import dataclasses
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..model.interventions import PER_DOSE_FIELDS, Arm, Intervention
from .bijections import Interval, constrain_tree
from .dose_spacing import SAME_DAY_WINDOW, Limits, SpacedTimes, limit_daily_amount

SAVE_EVERY = 24  # h: output is judged once a day, at the same time of day

LATEST_TIME_MARGIN = 1 / 24  # d before the end of a course, the latest time that may be fitted
TIME_FIELDS = frozenset({"times", "day", "start", "stop", "days", "hour"})  # leaves that are no burden to the patient
SCHEDULE_FIELDS = ("times", "day")  # of these, the days on which doses or sessions begin


@dataclasses.dataclass(frozen=True)
class RegimenLeaf:
    """A leaf to be fitted.

    Attributes:
        name: as asked for.
        position: of its intervention in the arm.
        field: of the intervention.
        interval: within which it is fitted; times of doses may be spaced.
        per_day: most that 24 h may add up to, where doses may come closer than a day.
    """

    name: str
    position: int
    field: str
    interval: Interval | SpacedTimes
    per_day: float | None = None

    @property
    def is_amount(self) -> bool:
        """Whether more of it is a burden: doses and intensities, not times."""
        return self.field not in TIME_FIELDS

    def of(self, arm):
        """What stands in its place in an arm, or in a tree of an arm's shape."""
        return getattr(arm[self.position], self.field)


def find_leaves(
    arm: Arm,
    over: Sequence[str],
    bounds: Mapping[str, tuple[float, float]],
    days: float,
    limits: Limits | Mapping[str, Limits] | None = None,
) -> tuple[RegimenLeaf, ...]:
    """The leaves called `over`, with their bounds: those of the intervention, cut to the course, or narrower ones.

    Args:
        arm: whose leaves.
        over: names.
        bounds: by name as in `over`.
        days: last day on which a dose may be given.
        limits: of all interventions with times of doses, or by the name of their class.

    Raises:
        ValueError: a name that fits no leaf or several, or twice; bounds that are impossible or of no fitted leaf; limits
            that leave no room, that are of no intervention, or that what is given and not fitted breaks.
    """
    choices = field_positions(arm)
    listed = ", ".join(choices)
    over = (over,) if isinstance(over, str) else tuple(over)
    if strange := set(bounds) - set(over):
        raise ValueError(f"bounds for {sorted(strange)}, which are not fitted: {over=}.")
    found = []
    for name in over:
        fits = [place for full, place in choices.items() if name in (full, full.rpartition(".")[2])]
        if len(fits) != 1:
            raise ValueError(f"over={name!r} is {'ambiguous' if fits else 'no leaf of the arm'}; choose from {listed}.")
        found.append(RegimenLeaf(name, *fits[0], resolve_interval(arm, name, *fits[0], bounds.get(name), days)))
    if not found or len({(leaf.position, leaf.field) for leaf in found}) < len(found):
        raise ValueError(f"{over=} must name at least one leaf, and none twice; choose from {listed}.")
    for position, limit in _limits_by_intervention(arm, limits).items():
        found = _apply_limit(found, arm, position, limit)
    return tuple(found)


def _limits_by_intervention(arm: Arm, limits: Limits | Mapping[str, Limits] | None) -> dict[int, Limits]:
    """By position in the arm, as asked."""
    names = intervention_labels(arm)
    clocked = [i for i, each in enumerate(arm) if schedule_field(each) is not None] or list(range(len(arm)))
    if isinstance(limits, Limits):
        if limits.per_day is not None and len(clocked) > 1:
            several = " and ".join(names[i] for i in clocked)
            raise ValueError(f"{limits.per_day=:g} is in the unit of one of {several}: limits={{name: Limits(...)}}.")
        asked = dict.fromkeys(clocked, limits)
    else:
        if strange := set(limits or {}) - set(names):
            raise ValueError(f"limits for {sorted(strange)}, which are not in the arm; choose from {', '.join(names)}.")
        asked = {names.index(name): limit for name, limit in (limits or {}).items()}
    for i, limit in asked.items():
        if schedule_field(arm[i]) is None and (limit.interval is not None or limit.per_week is not None):
            raise ValueError(f"{names[i]} has no times of doses to keep apart: {limit}; give per_day alone.")
    return {i: asked.get(i, Limits()) for i in range(len(arm))}


def _apply_limit(found: list[RegimenLeaf], arm: Arm, position: int, limit: Limits) -> list[RegimenLeaf]:
    """Leaves with the limits of the intervention at `position`; what is not fitted must keep to them already."""
    intervention, kind = arm[position], intervention_labels(arm)[position]
    clock, strength, doses = schedule_field(intervention), type(intervention).strength, count_doses(intervention)
    here = {leaf.field: i for i, leaf in enumerate(found) if leaf.position == position}
    least = getattr(type(intervention), "least_interval", 0.0) if limit.interval is None else limit.interval
    holds = lambda days, often: (
        clock is not None and SpacedTimes(-1e5, 1e5, doses, days, often).holds(_per_dose_values(intervention, clock))
    )
    if clock in here and doses > 1 and (least or limit.per_week):
        leaf = found[here[clock]]
        spaced = SpacedTimes(leaf.interval.low, leaf.interval.high, doses, least, limit.per_week)
        found[here[clock]] = dataclasses.replace(leaf, interval=spaced)
    elif clock is not None and clock not in here and not holds(limit.interval or 0.0, limit.per_week):
        raise ValueError(f"{kind}.{clock} breaks {limit}: move the doses, or fit {clock!r} too.")
    if limit.per_day is None:
        return found
    once_a_day = (
        doses == 1
        or (clock in here and least >= SAME_DAY_WINDOW)
        or (clock not in here and holds(SAME_DAY_WINDOW, None))
    )
    if strength not in here:
        if not once_a_day or float(np.max(np.asarray(getattr(intervention, strength)))) > limit.per_day:
            raise ValueError(f"per_day={limit.per_day:g} of {kind} can be kept to only where {strength!r} is fitted.")
        return found
    leaf = found[here[strength]]
    if not leaf.interval.low < limit.per_day:
        raise ValueError(f"per_day={limit.per_day:g} of {kind} must lie above its lower bound {leaf.interval.low:g}.")
    most = Interval(leaf.interval.low, min(leaf.interval.high, limit.per_day))
    bound = {"interval": most} if once_a_day else {"per_day": limit.per_day}
    found[here[strength]] = dataclasses.replace(leaf, **bound)
    return found


def sort_doses(arm: Arm, leaves: tuple[RegimenLeaf, ...]) -> Arm:
    """The arm with the doses of interventions whose times are spaced in the order of these times."""
    ordered = list(arm)
    for leaf in leaves:
        if isinstance(leaf.interval, SpacedTimes):
            intervention = arm[leaf.position]
            times = _per_dose_values(intervention, leaf.field)
            order = np.argsort(times, axis=0, kind="stable")
            moved = {leaf.field: np.take_along_axis(times, order, axis=0)}
            for name, value in vars(intervention).items():
                if name in PER_DOSE_FIELDS and name != leaf.field and len(value) > 1:
                    value = np.asarray(value)
                    rank = max(value.ndim, order.ndim)
                    value, by = (each.reshape(each.shape + (1,) * (rank - each.ndim)) for each in (value, order))
                    moved[name] = np.take_along_axis(*np.broadcast_arrays(value, by), axis=0)
            ordered[leaf.position] = dataclasses.replace(intervention, **moved)
    return tuple(ordered)


def leaf_values(
    free: tuple[Float[Array, "... start column"], ...], leaves: tuple[RegimenLeaf, ...], arm: Arm
) -> tuple[Float[Array, "... start column"], ...]:
    """What the free numbers of a fit stand for: within bounds, times apart, amounts of a day held back."""
    values = constrain_tree(free, tuple(leaf.interval for leaf in leaves))
    return tuple(
        value
        if leaf.per_day is None
        else limit_daily_amount(value, _dose_times(values, leaf, leaves, arm), leaf.per_day)
        for leaf, value in zip(leaves, values, strict=True)
    )


def project_times(
    free: tuple[Float[Array, "... start column"], ...], leaves: tuple[RegimenLeaf, ...]
) -> tuple[Float[Array, "... start column"], ...]:
    """Free numbers that stand for the same regimen, with times that no longer push each other."""
    return tuple(
        leaf.interval.apart(u) if isinstance(leaf.interval, SpacedTimes) else u
        for leaf, u in zip(leaves, free, strict=True)
    )


def _dose_times(
    values, amounts: RegimenLeaf, leaves: tuple[RegimenLeaf, ...], arm: Arm
) -> Float[Array, "dose #start #column"] | None:
    """Times of the doses that `amounts` are given at: fitted, as given, or none where they are taken every day."""
    intervention = arm[amounts.position]
    clock = schedule_field(intervention)
    if clock is None:
        return None
    for leaf, value in zip(leaves, values, strict=True):
        if (leaf.position, leaf.field) == (amounts.position, clock):
            return jnp.broadcast_to(value, (count_doses(intervention), *value.shape[1:]))
    given = getattr(intervention, clock)
    return given.reshape(len(given), 1, -1)


def with_leaf_values(arm: Arm, leaves: tuple[RegimenLeaf, ...], values: Sequence[Array]) -> Arm:
    """The arm with other values of `leaves`."""
    return eqx.tree_at(lambda arm: [leaf.of(arm) for leaf in leaves], arm, list(values))


def field_positions(arm: Arm) -> dict[str, tuple[int, str]]:
    """Position and field of every leaf by full name: class and field, with a number where a class comes twice."""
    return {
        f"{label}.{field}": (i, field)
        for i, label in enumerate(intervention_labels(arm))
        for field in type(arm[i]).bounds
    }


def intervention_labels(arm: Arm) -> tuple[str, ...]:
    """A name for each intervention: that of its class, with a number where it comes twice."""
    kinds = [type(intervention).__name__ for intervention in arm]
    return tuple(kind if kinds.count(kind) == 1 else f"{kind}[{kinds[:i].count(kind)}]" for i, kind in enumerate(kinds))


def schedule_field(intervention: Intervention) -> str | None:
    """The field that holds the days of its doses, if it has one."""
    return next((name for name in SCHEDULE_FIELDS if hasattr(intervention, name)), None)


def count_doses(intervention: Intervention) -> int:
    """How many doses it gives, or tablets a day."""
    return max((len(value) for name, value in vars(intervention).items() if name in PER_DOSE_FIELDS), default=1)


def _per_dose_values(intervention: Intervention, field: str) -> np.ndarray:
    """A leaf with a value for every dose."""
    value = np.asarray(getattr(intervention, field))
    return np.broadcast_to(value, (count_doses(intervention), *value.shape[1:]))


def resolve_interval(
    arm: Arm, name: str, position: int, field: str, asked: tuple[float, float] | None, days: float
) -> Interval:
    """Bounds of a leaf called `name`: its intervention's own, times cut to the course, or narrower ones `asked` for.

    Raises:
        ValueError: bounds that do not rise, or reach beyond the intervention's own.
    """
    low, high = type(arm[position]).bounds[field]
    if field in TIME_FIELDS and field != "hour":
        high = min(high, days - LATEST_TIME_MARGIN)
    if asked is None:
        return Interval(float(low), float(high))
    if not low <= asked[0] < asked[1] <= high:
        raise ValueError(f"bounds[{name!r}] = {tuple(asked)} must rise and lie between {low:g} and {high:g}.")
    return Interval(float(asked[0]), float(asked[1]))
