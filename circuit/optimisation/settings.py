"""How a regimen is searched for (`Multistart`), and what is minimised (`RegimenLoss`)."""

import dataclasses
import math

from ...kernels import Plan
from ..model.slow_clock import QUICK_COMPILE_PLAN
from ..simulation.course import DEFAULT_PLAN

# Gradients through so many subject-hours are sooner made in tiles, which compile 2 to 7 s longer and save 1 to 3 us
# a subject-hour.
MIN_TILED_SUBJECT_HOURS = 4e6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Multistart:
    """Multi-start gradient descent: Adam from several starting regimens at once.

        >>> Multistart(starts=4, steps=25)
        Multistart(starts=4, steps=25, learning_rate=0.5, seed=0)

    Attributes:
        starts: starting regimens: the arm as given, moved into the bounds, and random regimens within them.
        steps: maximal number of gradient steps. The search stops earlier once no start can improve.
        learning_rate: of Adam; falls to 0 by a cosine. A step moves a leaf by up to a quarter of it times its width.
        seed: of the random starts.

    Raises:
        ValueError: fewer than one start or step, or a learning rate that is negative or not finite.
    """

    starts: int = 10
    steps: int = 200
    learning_rate: float = 0.5
    seed: int = 0

    def __post_init__(self):
        for name in ("starts", "steps"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        check_nonnegative("learning_rate", self.learning_rate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegimenLoss:
    """The loss of a regimen: squared relative miss, plus weighted shortfall and burden.

        loss = miss^2 + shortfall mean over days of max(0, 1 - output / target)^2 + burden mean share of amounts

        >>> RegimenLoss(over_cohort="worst tenth").burden
        0.0001

    Attributes:
        burden: weight of the doses, as shares of their bounds. Times are no burden.
        shortfall: weight of what output lacks of the target over the whole course.
        over_cohort: how subjects are aggregated: their "mean", the mean of the "worst tenth", or a quantile between 0
            and 1 (at 0.25, three subjects in four are to be above the target). None where each subject has a regimen
            of its own.

    Raises:
        ValueError: a weight that is negative or not finite.
    """

    burden: float = 0.0001
    shortfall: float = 0.02
    over_cohort: str | float | None = "mean"

    def __post_init__(self):
        check_nonnegative("shortfall", self.shortfall)
        check_nonnegative("burden", self.burden)


def check_nonnegative(name: str, value: float) -> None:
    """Refuse what is no finite number of at least 0.

    Raises:
        ValueError: names the argument and quotes the value.
    """
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}={value} must be 0 or a positive number.")


def choose_fit_plan(plan: Plan | None, subjects: int, days: float, search: Multistart) -> Plan:
    """The plan as given; by default tiles for long fits, and whatever compiles soonest for short ones.

    Args:
        plan: as given by the user, or None.
        subjects: simulated from each start, times the number of burden weights.
        days: length of the course.
        search: number of starts and steps.
    """
    subject_hours = subjects * search.starts * 24 * days * search.steps
    return plan or (DEFAULT_PLAN if subject_hours > MIN_TILED_SUBJECT_HOURS else QUICK_COMPILE_PLAN)
