"""What VTA output is asked to do: how high, on which days, and for whom in a cohort.

    Target.mean(4.4)                              a mean over the last week, the plainest
    Target.trajectory((7, 14, 28), (3, 4, 4.4))   a level for each of several days
    Target.response(by=14, within=0.1)            within 10 % of health by day 14, and there to stay
    Target.after_stress(arm)                      what is left in the fortnight after a stress, treatment having ended before it

A cohort is judged by its mean, by a quantile of its subjects, or by its worst tenth (`aggregate_subjects`).
"""

import dataclasses
import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float

from ..fitting.regimen import SAVE_EVERY
from ..model.interventions import Arm, Intervention, Stress, as_arm

MEAN_TOLERANCE = 0.02  # relative miss within which a mean counts as reached
DAILY_TOLERANCE = (
    0.05  # and each of several days: means of a few dozen subjects' everyday lives differ by a few hundredths
)
DAYS_PER_WEEK, DAYS_PER_FORTNIGHT = 7.0, 14.0  # d
WORST_FRACTION = 0.1
COHORT_CRITERIA = ("mean", "worst tenth")


@dataclasses.dataclass(frozen=True)
class Target:
    """What is asked of VTA output; made by `mean`, `trajectory`, `response` or `after_stress`.

    Attributes:
        output: Hz, one level or one for each of `days`; healthy output if None.
        window: first day, not itself looked at, and last; the last of a course if None.
        days: those looked at, if they are named.
        every: whether each day is to be at its level, and not only their mean.
        within: relative miss that counts as reached; of the worst day, where each is asked for.
        until: day before which treatment that is fitted must end.

    Raises:
        ValueError: levels, days or a tolerance that cannot be meant.
    """

    output: float | tuple[float, ...] | None = None
    window: tuple[float, float] | None = None
    days: tuple[float, ...] | None = None
    every: bool = False
    within: float = MEAN_TOLERANCE
    until: float | None = None

    def __post_init__(self):
        levels = () if self.output is None else np.ravel(self.output)
        if wrong := [float(level) for level in levels if not 0 < level < math.inf]:
            raise ValueError(f"target={wrong[0]:g} must be a positive number of Hz.")
        if not 0 < self.within < 1:
            raise ValueError(f"within={self.within:g} must lie between 0 and 1: 0.1 is 10 % of the target.")
        if self.days is not None:
            if not len(self.days) or any(day < 1 or day != round(day) for day in self.days):
                raise ValueError(f"days={self.days} must be whole and at least 1: output is judged once a day.")
            if list(self.days) != sorted(set(self.days)):
                raise ValueError(f"days={self.days} must rise.")
            if isinstance(self.output, tuple) and len(self.output) != len(self.days):
                raise ValueError(
                    f"{len(self.output)} levels for {len(self.days)} days; give one for each, or one for all."
                )

    @classmethod
    def mean(
        cls, output: float | None = None, window: tuple[float, float] | None = None, within: float = MEAN_TOLERANCE
    ) -> "Target":
        """A mean over a window; the last week by default."""
        return cls(
            _optional_float(output), None if window is None else (float(window[0]), float(window[1])), within=within
        )

    @classmethod
    def trajectory(cls, days: Sequence, output: Sequence, within: float = DAILY_TOLERANCE) -> "Target":
        """A level (Hz) on each of several days."""
        return cls(tuple(map(float, output)), None, tuple(map(float, days)), every=True, within=within)

    @classmethod
    def response(
        cls, by: float | int, within: float = 0.1, output: float | None = None, stay: float | int = math.inf
    ) -> "Target":
        """Within a share of the level by a day, and on every day after it, for `stay` days or to the end of the course."""
        return cls(
            _optional_float(output), (float(by) - SAVE_EVERY / 24, float(by) + float(stay)), every=True, within=within
        )

    @classmethod
    def after_stress(
        cls,
        arm: Intervention | Arm,
        output: float | None = None,
        days: float | int = DAYS_PER_FORTNIGHT,
        within: float = MEAN_TOLERANCE,
    ) -> "Target":
        """Durability: a mean over some days after the last stress of `arm` has ended, fitted treatment ending before it.

        Raises:
            ValueError: an arm without stress.
        """
        stresses = [each for each in as_arm(arm) if isinstance(each, Stress)]
        if not stresses:
            raise ValueError("Target.after_stress needs an arm with a Stress in it: (Recalibration(...), Stress(...)).")
        ends = [float(np.max(np.asarray(each.start) + np.asarray(each.days))) for each in stresses]
        last = stresses[int(np.argmax(ends))]
        end = max(ends)
        return cls(
            _optional_float(output),
            (end, end + float(days)),
            within=within,
            until=float(np.min(np.asarray(last.start))),
        )

    def judged(self, days: float) -> Bool[np.ndarray, " saved"]:
        """Which daily records of a course are looked at.

        Raises:
            ValueError: days outside it, or none.
        """
        day = saved_days(days)
        if self.days is not None:
            if self.days[-1] > day[-1]:
                raise ValueError(f"days={self.days} reach beyond the course, which ends on day {days:g}.")
            return np.isin(day, self.days)
        first, last = (max(days - DAYS_PER_WEEK, 0.0), days) if self.window is None else self.window
        last = days if last == math.inf else last
        window, inside = (first, last), (day > first) & (day <= last)
        if not (0 <= first < last <= days and inside.any()):
            raise ValueError(
                f"{window=} must be a first and a last day within the course's {days:g}, a day or more apart."
            )
        return inside

    def wanted(
        self, days: float, healthy: Float[np.ndarray, "*subject"] | float
    ) -> Float[np.ndarray, "#subject saved"]:
        """Level on every day of a course (Hz): between days that are named on a straight line, before and after level."""
        day = saved_days(days)
        level = healthy if self.output is None else self.output
        if isinstance(self.output, tuple):
            assert self.days is not None
            return np.interp(day, self.days, np.asarray(level, float))[None]
        return np.broadcast_to(np.reshape(np.asarray(level, float), (-1, 1)), (np.size(level), len(day)))


class TargetArrays(eqx.Module):
    """The numbers of a target.

    Attributes:
        wanted: Hz, on every day of the course.
        weight: of every day in the judgement; 0 where nobody looks.
        within: relative miss that counts as reached.
    """

    wanted: Float[Array, "#subject saved"]
    weight: Float[Array, " saved"]
    within: Float[Array, ""]


def as_target(target: float | Target | None, window: tuple[float, float] | None) -> Target:
    """What is asked, of a level and a window or as it is.

    Raises:
        ValueError: a window beside a `Target`, which has its own.
    """
    if not isinstance(target, Target):
        return Target.mean(target, window)
    if window is not None:
        raise ValueError(f"{window=} beside a Target, which has its own days: Target.mean(output, window).")
    return target


def saved_days(days: float) -> Float[np.ndarray, " saved"]:
    """When a course is looked at."""
    return np.arange(1, round(days * 24) // SAVE_EVERY + 1) * SAVE_EVERY / 24


def relative_miss(
    relative: Float[Array, "start subject saved"],
    good: Bool[Array, "start subject"],
    goal: TargetArrays,
    every: bool,
    cohort: str | float | None,
) -> tuple[Float[Array, "start column"], Float[Array, "start column"]]:
    """Square of the relative miss, and what is reached relative to the target.

    Where each day is asked for, the mean square over days, and what is reached on the worst.

    Args:
        relative: output over what is wanted; finite.
        good: who counts.
        goal: days and their weights.
        every: see `Target`.
        cohort: see `aggregate_subjects`; None for a judgement on each subject.
    """
    weight = (goal.weight / goal.weight.sum())[None, None]
    if not every:
        relative, weight = (relative * weight).sum(axis=-1, keepdims=True), jnp.ones((1, 1, 1), weight.dtype)
    found = relative if cohort is None else aggregate_subjects(relative, good, cohort)
    miss = found - 1
    worst = jnp.argmax(jnp.where(weight > 0, jnp.abs(miss), 0), axis=-1, keepdims=True)
    reached = jnp.take_along_axis(found, worst, axis=-1)[..., 0]
    return (jnp.square(miss) * weight).sum(axis=-1), reached


def aggregate_subjects(
    value: Float[Array, "start subject part"], good: Bool[Array, "start subject"], cohort: str | float
) -> Float[Array, "start 1 part"]:
    """One number for a cohort, of those who count: a weighted sum of its subjects in order.

    `cohort` is "mean"; "worst tenth", the mean of the lowest tenth (at least of one subject), the conditional value at risk
    of what they lack (Rockafellar & Uryasev 2000); or a number q, the quantile below which a share q of the subjects lies,
    as a kernel estimate (Sheather & Marron 1990) with the bandwidth of Harrell & Davis (1982), sqrt(q (1 - q) / (n + 1)).
    Several subjects carry a weight, so that a gradient does not hang on one, and the number moves without jumps where
    two change places.
    """
    count = jnp.maximum(good.sum(axis=1, keepdims=True), 1).astype(value.dtype)
    if cohort == "mean":
        return jnp.where(good[..., None], value, 0).sum(axis=1, keepdims=True) / count[..., None]
    rank = jnp.arange(value.shape[1], dtype=value.dtype)[None]
    if cohort == "worst tenth":
        most = jnp.maximum(WORST_FRACTION * count, 1)
        weight = jnp.clip(most - rank, 0, 1) / most
    else:
        q = float(cohort)
        width = jnp.sqrt(q * (1 - q) / (count + 1))
        weight = norm.cdf(((rank + 1) / count - q) / width) - norm.cdf((rank / count - q) / width)
        weight = jnp.where(rank < count, weight, 0)
        weight = weight / weight.sum(axis=1, keepdims=True)
    ordered = jnp.sort(jnp.where(good[..., None], value, jnp.inf), axis=1)
    counted = jnp.where((rank < count)[..., None], ordered, 0)
    return (weight[..., None] * counted).sum(axis=1, keepdims=True)


def check_cohort_criterion(cohort: str | float, personal: bool) -> None:
    """Refuse what is no way to look at a cohort.

    Raises:
        ValueError: a name or a share that is none, or one for personal fits, which look at each subject.
    """
    share = isinstance(cohort, int | float) and not isinstance(cohort, bool) and 0 < cohort < 1
    if cohort not in COHORT_CRITERIA and not share:
        raise ValueError(f"over_cohort={cohort!r} must be 'mean', 'worst tenth', or a quantile between 0 and 1.")
    if personal and cohort != "mean":
        raise ValueError(
            f"over_cohort={cohort!r} is for one regimen that all share; personal fits look at each subject."
        )


def _optional_float(output: float | None) -> float | None:
    return None if output is None else float(output)
