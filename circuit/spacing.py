"""How close doses may come: an interval between them, so many in a week, so much in a day. Exact, by construction.

Nobody is given four sessions within an hour. A penalty would only discourage it; here the free numbers of an optimiser
are turned into times that cannot break the rule (a chain of intervals, each of which begins where the doses before it
allow) and amounts that cannot add up to too much.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .constraints import MARGIN

WEEK = 7.0  # d
DAY, FADE = 1.0, 0.25  # d: doses less than a day apart count together, and no more a quarter of a day beyond that
SHARPNESS = 8  # of the bend at which amounts in a day are held back
ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of the latest time, kept free so that rounding breaks no rule


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
class Spaced:
    """Times of `doses` doses from `low` to `high`, in order and apart. Static; stands where an `Interval` may.

    Given those before it, dose i may begin between

        first = max(time[i - 1] + interval, time[i - per_week] + 7)    and    last[i],

    the latest that leaves room for those after it (a greatest solution of difference constraints, so that first never
    passes it). time[i] = first + (last[i] - first) sigmoid(free[i]): a bijection between all free numbers and the inside
    of what is allowed, smooth but where the two demands on `first` change places.

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
        gap, week = (self._apart(days) for days in (self.interval, WEEK))
        found: list[float] = []
        for _ in range(self.doses):  # from the last dose backwards
            latest = found[-1] - gap if found else self.high
            if self.per_week and len(found) >= self.per_week:
                latest = min(latest, found[-self.per_week] - week)
            found.append(latest)
        return tuple(reversed(found))

    def constrain(self, free: Float[Array, "dose *rest"]) -> Float[Array, "dose *rest"]:
        """Times, rising from dose to dose."""
        times: list[Array] = []
        for u, last in zip(free, self.last, strict=True):
            first = self._first(times, u)
            times.append(jnp.clip(first + (last - first) * jax.nn.sigmoid(u), first, last))
        return jnp.stack(times)

    def unconstrain(self, x: Float[Array, "dose *rest"], margin: float = MARGIN) -> Float[Array, "dose *rest"]:
        """The inverse, of times in any order; those too near, or too late, count as near by, `margin` within a share."""
        times: list[Array] = []
        free: list[Array] = []
        for time, last in zip(jnp.sort(x, axis=0), self.last, strict=True):
            first = self._first(times, time)
            room = jnp.maximum(last - first, ROUNDING)  # none is left where those before are as late as can be
            share = jnp.clip((time - first) / room, margin, 1 - margin)
            times.append(first + (last - first) * share)
            free.append(jnp.log(share) - jnp.log1p(-share))
        return jnp.stack(free)

    def holds(self, times: Float[np.ndarray, "dose *rest"]) -> bool:
        """Whether given times are apart as asked, in any order; to rounding."""
        times, near = np.sort(np.asarray(times, float), axis=0), ROUNDING * max(self.high, WEEK)
        apart = bool((np.diff(times, axis=0) >= self.interval - near).all())
        often = self.per_week or len(times)
        return apart and bool((times[often:] - times[: len(times) - often] >= WEEK - near).all())

    def _first(self, times: list[Array], like: Array) -> Array:
        """Earliest beginning of the dose after `times`."""
        if not times:
            return jnp.full_like(like, self.low)
        first = times[-1] + self._apart(self.interval)
        if self.per_week and len(times) >= self.per_week:
            first = jnp.maximum(first, times[-self.per_week] + self._apart(WEEK))
        return first

    def _apart(self, days: float) -> float:
        return days + ROUNDING * self.high if days else 0.0


def within_a_day(
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
        beyond = jnp.clip((jnp.abs(times[:, None] - times[None]) - DAY) / FADE, 0, 1)
        near = 1 - beyond * beyond * (3 - 2 * beyond)
        total = (near * amounts[None]).sum(axis=1)
        total = total.max(axis=0, keepdims=True) if amounts.shape[0] == 1 else total
    return amounts * jnp.exp(-jnp.log1p((total / most) ** SHARPNESS) / SHARPNESS)
