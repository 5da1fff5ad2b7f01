"""Which numbers of an arm are fitted, by name, and within which bounds."""

import dataclasses
from collections.abc import Mapping, Sequence

import equinox as eqx
from jaxtyping import Array

from .constraints import Interval
from .interventions import Arm

LAST = 1 / 24  # d before the end of a course, the latest time that may be fitted
TIMES = frozenset({"times", "day", "start", "stop", "days", "hour"})  # leaves that are no burden to the patient


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A leaf to be fitted.

    Attributes:
        name: as asked for.
        position: of its intervention in the arm.
        field: of the intervention.
        interval: within which it is fitted.
    """

    name: str
    position: int
    field: str
    interval: Interval

    @property
    def is_amount(self) -> bool:
        """Whether more of it is a burden: doses and intensities, not times."""
        return self.field not in TIMES

    def of(self, arm):
        """What stands in its place in an arm, or in a tree of an arm's shape."""
        return getattr(arm[self.position], self.field)


def find_leaves(
    arm: Arm, over: Sequence[str], bounds: Mapping[str, tuple[float, float]], days: float
) -> tuple[Leaf, ...]:
    """The leaves called `over`, with their bounds: those of the intervention, cut to the course, or narrower ones.

    Raises:
        ValueError: a name that fits no leaf or several, or twice; bounds that are impossible or of no fitted leaf.
    """
    choices = fields(arm)
    listed = ", ".join(choices)
    over = (over,) if isinstance(over, str) else tuple(over)
    if strange := set(bounds) - set(over):
        raise ValueError(f"bounds for {sorted(strange)}, which are not fitted: {over=}.")
    found = []
    for name in over:
        fits = [place for full, place in choices.items() if name in (full, full.rpartition(".")[2])]
        if len(fits) != 1:
            raise ValueError(f"over={name!r} is {'ambiguous' if fits else 'no leaf of the arm'}; choose from {listed}.")
        found.append(Leaf(name, *fits[0], interval_of(arm, name, *fits[0], bounds.get(name), days)))
    if not found or len({(leaf.position, leaf.field) for leaf in found}) < len(found):
        raise ValueError(f"{over=} must name at least one leaf, and none twice; choose from {listed}.")
    return tuple(found)


def replace(arm: Arm, leaves: tuple[Leaf, ...], values: Sequence[Array]) -> Arm:
    """The arm with other values of `leaves`."""
    return eqx.tree_at(lambda arm: [leaf.of(arm) for leaf in leaves], arm, list(values))


def fields(arm: Arm) -> dict[str, tuple[int, str]]:
    """Position and field of every leaf by full name: class and field, with a number where a class comes twice."""
    kinds = [type(intervention).__name__ for intervention in arm]
    label = lambda i: kinds[i] if kinds.count(kinds[i]) == 1 else f"{kinds[i]}[{kinds[:i].count(kinds[i])}]"
    return {f"{label(i)}.{field}": (i, field) for i in range(len(arm)) for field in type(arm[i]).bounds}


def interval_of(
    arm: Arm, name: str, position: int, field: str, asked: tuple[float, float] | None, days: float
) -> Interval:
    """Bounds of a leaf called `name`: its intervention's own, times cut to the course, or narrower ones `asked` for.

    Raises:
        ValueError: bounds that do not rise, or reach beyond the intervention's own.
    """
    low, high = type(arm[position]).bounds[field]
    if field in TIMES and field != "hour":
        high = min(high, days - LAST)
    if asked is None:
        return Interval(float(low), float(high))
    if not low <= asked[0] < asked[1] <= high:
        raise ValueError(f"bounds[{name!r}] = {tuple(asked)} must rise and lie between {low:g} and {high:g}.")
    return Interval(float(asked[0]), float(asked[1]))
