"""How close doses may come: an interval between them, so many in a week, so much in a day. Exact, by construction.

Nobody is given four sessions within an hour. A penalty would only discourage it; here the free numbers of an optimiser
are turned into times that cannot break the rule (doses that would come too soon are put off) and amounts that cannot add
up to too much.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .bijections import DEFAULT_MARGIN, Interval

DAYS_PER_WEEK = 7.0  # d
SAME_DAY_WINDOW, SAME_DAY_FADE = (
    1.0,
    0.25,
)  # d: doses less than a day apart count together, and no more a quarter of a day beyond that
DAILY_LIMIT_SHARPNESS = 8  # of the bend at which amounts in a day are held back
SPACING_SLACK = 1e-3  # d: how much further apart wishes are set, so that a step moves each of them
ROUNDING_TOLERANCE = 4 * float(
    np.finfo(np.float32).eps
)  # of the latest time, kept free so that rounding breaks no rule


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a regimen that is fitted must keep to. Static.

    Attributes:
        interval: least time between the beginnings of two doses, d; by default the intervention's own, its
            `least_interval`.
        per_week: most doses that begin within any 7 days.
        per_day: most that any 24 h may add up to, in the unit of the dose.

    Raises:
        ValueError: a number that limits nothing, or everything.
    """

    interval: float | None = None
    per_week: int | None = None
    per_day: float | None = None

    def __post_init__(self):
        if self.interval is not None and not 0 <= self.interval < math.inf:
            raise ValueError(f"interval={self.interval} must be 0 or a positive number of days.")
        if self.per_week is not None and not (self.per_week >= 1 and self.per_week == int(self.per_week)):
            raise ValueError(f"per_week={self.per_week} must be a whole number, at least 1.")
        if self.per_day is not None and not 0 < self.per_day < math.inf:
            raise ValueError(f"per_day={self.per_day} must be a positive amount.")


@dataclasses.dataclass(frozen=True)
class SpacedTimes:
    """Times of `doses` doses from `low` to `high`, apart. Static; stands where an `Interval` may.

    A free number stands for a wish, x = low + (high - low) sigmoid(free), for each dose its own. In the order of the
    wishes, a dose is given at

        time[i] = min(max(x[i], time[i - 1] + interval, time[i - per_week] + 7), last[i]),

    last being the latest that leaves room for those after it, the greatest solution of these difference constraints: so
    all of them hold, whatever the wishes. Wishes that hold already are given as they are, and a search that returns to
    such wishes after each step (`apart`) is one of projected gradients, in which a dose pushes those in its way.

    Raises:
        ValueError: there is no room.
    """

    low: float
    high: float
    doses: int
    interval: float
    per_week: int | None = None

    def __post_init__(self):
        if not self.low < self.last[0]:
            often = f", at most {self.per_week} a week," if self.per_week else ""
            raise ValueError(
                f"{self.doses} doses at least {self.interval:g} d apart{often} take {self.high - self.last[0]:g} d, "
                f"but there are {self.high - self.low:g}, from day {self.low:g} to {self.high:g}: "
                "give fewer, allow more time, or relax limits=Limits(interval=..., per_week=...)."
            )

    @property
    def width(self) -> float:
        """From the earliest to the latest."""
        return self.high - self.low

    @property
    def last(self) -> tuple[float, ...]:
        """Latest beginning of each dose."""
        gap, week = (self._apart(days) for days in (self.interval, DAYS_PER_WEEK))
        found: list[float] = []
        for _ in range(self.doses):  # from the last dose backwards
            latest = found[-1] - gap if found else self.high
            if self.per_week and len(found) >= self.per_week:
                latest = min(latest, found[-self.per_week] - week)
            found.append(latest)
        return tuple(reversed(found))

    def constrain(self, free: Float[Array, "dose *rest"]) -> Float[Array, "dose *rest"]:
        """Times of the doses, not in order."""
        return self._put_off(self._wish.constrain(free), 0.0)

    def unconstrain(self, x: Float[Array, "dose *rest"], margin: float = DEFAULT_MARGIN) -> Float[Array, "dose *rest"]:
        """Wishes that are given as they are, or nearly: of times that are apart, these, else of times put off."""
        return self._wish.unconstrain(self._put_off(x, SPACING_SLACK), margin)

    def apart(self, free: Float[Array, "dose *rest"]) -> Float[Array, "dose *rest"]:
        """Wishes of what `free` is given as: where those in each other's way move freely again."""
        return self.unconstrain(self._wish.constrain(free))

    @property
    def _wish(self) -> Interval:
        return Interval(self.low, self.high)

    def _put_off(self, x: Float[Array, "dose *rest"], slack: float) -> Float[Array, "dose *rest"]:
        """Each no earlier than those before it allow, and no later than those after it; `slack` further apart, if they can."""
        order = jnp.argsort(x, axis=0)
        gap, week = (self._apart(days) + slack for days in (self.interval, DAYS_PER_WEEK))
        times: list[Array] = []
        for wish, last in zip(jnp.take_along_axis(x, order, axis=0), self.last, strict=True):
            time = jnp.maximum(wish, self.low)
            if times:
                time = jnp.maximum(time, times[-1] + gap)
            if self.per_week and len(times) >= self.per_week:
                time = jnp.maximum(time, times[-self.per_week] + week)
            times.append(jnp.minimum(time, last))
        return jnp.take_along_axis(jnp.stack(times), jnp.argsort(order, axis=0), axis=0)

    def holds(self, times: Float[np.ndarray, "dose *rest"]) -> bool:
        """Whether given times are apart as asked, in any order; to rounding."""
        times, near = np.sort(np.asarray(times, float), axis=0), ROUNDING_TOLERANCE * max(self.high, DAYS_PER_WEEK)
        apart = bool((np.diff(times, axis=0) >= self.interval - near).all())
        often = self.per_week or len(times)
        return apart and bool((times[often:] - times[: len(times) - often] >= DAYS_PER_WEEK - near).all())

    def _apart(self, days: float) -> float:
        return days + ROUNDING_TOLERANCE * self.high if days else 0.0


def limit_daily_amount(
    amounts: Float[Array, "#dose *rest"], times: Float[Array, "dose *rest"] | None, most: float
) -> Float[Array, "#dose *rest"]:
    """Amounts, held back so that no 24 h add up to more than `most`.

    Each is shrunk by (1 + r^8)^(-1/8), r = total / most, where its total counts all doses less than a day before or after
    (with a smooth edge beyond): every 24 h lie within the total of each of their doses, so that what they come to is at
    most `most`. Smooth in amounts and times, and rising in a dose given alone.

    Args:
        amounts: of each dose, or one for all.
        times: d; None where all are taken on every day.
        most: in the unit of the amounts.
    """
    if times is None:
        total = amounts.sum(axis=0, keepdims=True)
    else:
        beyond = jnp.clip((jnp.abs(times[:, None] - times[None]) - SAME_DAY_WINDOW) / SAME_DAY_FADE, 0, 1)
        near = 1 - beyond * beyond * (3 - 2 * beyond)
        total = (near * amounts[None]).sum(axis=1)
        total = total.max(axis=0, keepdims=True) if amounts.shape[0] == 1 else total
    return amounts * jnp.exp(-jnp.log1p((total / most) ** DAILY_LIMIT_SHARPNESS) / DAILY_LIMIT_SHARPNESS)
