"""What more treatment is worth: the front of benefit against burden.

    front = pareto(cohort, Recalibration.weekly(), over=("intensity", "times"))

The burden is weighed in many ways at once, each with its own starts: all are lanes of one search.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Array

from ...kernels import Plan
from ..fitting import regimen
from ..fitting.dose_spacing import Limits
from ..fitting.failures import FitFailure
from ..fitting.regimen import leaf_values
from ..model.interventions import Arm, Intervention
from ..simulation.cohort import Cohort
from .gradient_step import AdamState, compute_burden
from .multistart import describe_failures, has_stopped_improving, run_gradient_descent
from .problem import RegimenProblem, make_regimen_problem
from .settings import Multistart, RegimenLoss
from .target import Target, as_target

DEFAULT_SEARCH, DEFAULT_LOSS = Multistart(starts=2, steps=80), RegimenLoss(shortfall=0.0)
BURDEN_WEIGHTS = tuple(float(weight) for weight in np.logspace(-4, 0, 9))
MIN_IMPROVEMENT = (
    1e-3  # of burden, and of the target: less than that more is no more, lest neighbours be taken for a gain
)


@dataclasses.dataclass(frozen=True)
class FrontPoint:
    """A regimen on the front.

    Attributes:
        weight: of the burden, under which it is best.
        burden: amounts as shares of their bounds, a mean over doses.
        output: Hz. VTA output under it, as `Restoration.after`.
        miss: from the target, relative to it.
        amounts: by name of a leaf, the sum of its doses.
        arm: with the fitted leaves.
        fitted: their values, by name.
    """

    weight: float
    burden: float
    output: float
    miss: float
    amounts: dict[str, float]
    arm: Arm
    fitted: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Front:
    """The regimens of which none is better than another in both respects.

    Attributes:
        points: from the least burden to the most.
        target: Hz.
        untreated: Hz. VTA output without the arm, at no burden.
        dominated: (weight, burden, output) of regimens that were found and are left out.
        failures: simulations that became non-finite during the search, see `Restoration`.
        steps: gradient steps made.
        reason: all that in a sentence.
    """

    points: tuple[FrontPoint, ...]
    target: float
    untreated: float
    dominated: tuple[tuple[float, float, float], ...]
    failures: tuple[FitFailure, ...]
    steps: int
    reason: str

    def least(self, within: float) -> FrontPoint | None:
        """The regimen of least burden whose output comes within a share of the target, if one does."""
        return next((point for point in self.points if point.miss < within), None)


def pareto(
    cohort: Cohort,
    arm: Intervention | Arm,
    target: float | Target | None = None,
    *,
    over: Sequence[str] = ("intensity", "times"),
    weights: Sequence[float] = BURDEN_WEIGHTS,
    days: float = 63.0,
    window: tuple[float, float] | None = None,
    search: Multistart = DEFAULT_SEARCH,
    loss: RegimenLoss = DEFAULT_LOSS,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    limits: Limits | Mapping[str, Limits] | None = None,
    plan: Plan | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Front:
    """Regimens that all share, from hardly any dose to the best that the bounds allow.

    For every weight w, the square of the relative miss plus w times the burden is minimised from several starts. A regimen
    found is left out if another comes as near to the target with less. What a sum of the two cannot find is a dent of the
    front (where the saddle lies between doses); starts near it may still end there.

    Args:
        cohort: subjects as they are on day 0.
        arm: an intervention, or several.
        target: as in `restore`.
        over: leaves to fit.
        weights: of the burden, each above 0.
        days: length of the course.
        window: first and last day over which output is judged, where `target` is no `Target`.
        search: starts for each weight, gradient steps, learning rate and seed.
        loss: weight of the shortfall (0 by default, so that the front shows nothing but burden and miss), and how
            subjects are aggregated; its burden is replaced by `weights`.
        bounds: by name as in `over`.
        limits: as in `restore`.
        plan: how to use the hardware; by default as `restore` chooses it.
        progress: called with the numbers of gradient steps made and at most.

    Raises:
        TypeError, ValueError: as `restore`; no weight, or one that is not positive.
    """
    weights = tuple(map(float, weights))
    if not weights or any(not 0 < weight < np.inf for weight in weights):
        raise ValueError(f"{weights=} must be positive numbers, at least one.")
    problem = make_regimen_problem(
        cohort,
        arm,
        as_target(target, window),
        over=over,
        days=days,
        search=search,
        loss=loss,
        bounds=bounds,
        limits=limits,
        weights=weights,
        plan=plan,
    )
    state, made, log = run_gradient_descent(problem, search, has_stopped_improving, progress)
    return _assemble_front(state, problem, np.repeat(weights, search.starts), tuple(log.failures), made)


def _assemble_front(
    search: AdamState, problem: RegimenProblem, weights: np.ndarray, failures: tuple[FitFailure, ...], made: int
) -> Front:
    """The front of what all starts have come to."""
    values = leaf_values(search.best, problem.leaves, problem.arm)
    burdens, reached = compute_burden(values, problem.leaves)[:, 0], search.reached[:, 0]
    found = [
        _make_point([of[..., lane, 0] for of in values], float(weights[lane]), *its, problem)
        for lane, its in enumerate(zip(burdens.tolist(), reached.tolist(), strict=True))
    ]
    on, off = _nondominated_lanes(
        np.array([point.burden for point in found]), np.array([point.miss for point in found])
    )
    points, level = tuple(found[lane] for lane in on), float(problem.target_output[0])
    left_out = tuple((found[lane].weight, found[lane].burden, found[lane].output) for lane in off)
    untreated = level * float(problem.untreated[0])
    reason = _describe_front(points, level, untreated, len(off), made) + describe_failures(failures) + "."
    return Front(points, level, untreated, left_out, failures, made, reason)


def _make_point(
    values: Sequence[Array], weight: float, burden: float, reached: float, problem: RegimenProblem
) -> FrontPoint:
    """The best regimen of one start."""
    leaves = problem.leaves
    arm = regimen.sort_doses(regimen.with_leaf_values(problem.arm, leaves, values), leaves)
    fitted = {leaf.name: np.asarray(leaf.of(arm)) for leaf in leaves}
    return FrontPoint(
        weight=weight,
        burden=burden,
        output=float(problem.target_output[0]) * reached,
        miss=abs(reached - 1),
        amounts={leaf.name: float(fitted[leaf.name].sum()) for leaf in leaves if leaf.is_amount},
        arm=arm,
        fitted=fitted,
    )


def _nondominated_lanes(burden: np.ndarray, miss: np.ndarray) -> tuple[list[int], list[int]]:
    """Lanes on the front, from the least burden on, and those that another dominates; lanes that failed are in neither."""
    on: list[int] = []
    off: list[int] = []
    for lane in np.lexsort((miss, burden)):
        if not np.isfinite(miss[lane]):
            continue
        (off if on and miss[lane] > miss[on[-1]] - MIN_IMPROVEMENT else on).append(int(lane))
    return on, off


def _describe_front(points: tuple[FrontPoint, ...], target: float, untreated: float, dominated: int, made: int) -> str:
    if not points:
        return f"no regimen stayed finite in {made} steps"
    first, last = points[0], points[-1]
    return (
        f"from {first.output:.2f} Hz at a burden of {first.burden:.1%} to {last.output:.2f} Hz at {last.burden:.1%}, of "
        f"{target:.2f} Hz asked for and {untreated:.2f} untreated: {len(points)} regimens, {dominated} more that others "
        f"dominate, after {made} steps"
    )
