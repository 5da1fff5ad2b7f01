"""Recover: hidden numbers of subjects, their state and their arm, from what was observed of them.

    recover(cohort, arm, data, over={"mg_per_kg": "shared", "plasticity.depression_rate": "subject"})

The estimate is the mode of the posterior among free numbers (`free_parameters` has scales and prior). Two set points make
plateaus, where the data of a subject far from the saddle say nothing, and several modes: starts are several, and what the
prior alone holds up is named in `seen`. `fisher_scoring` has the search, `likelihood`
how everyday life is treated.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from ...kernels import Plan
from ..model.interventions import Arm, Intervention
from ..model.slow_clock import QUICK_COMPILE_PLAN
from ..simulation.cohort import Cohort
from .fisher_information import posterior_covariance
from .fisher_scoring import evaluate_likelihood, run_fisher_scoring
from .likelihood import Question, recovery_problem
from .observations import Observed
from .result import Recovery, mean_by_name, summarise_recovery


def recover(
    cohort: Cohort,
    arm: Intervention | Arm,
    data: Observed | Sequence[Observed],
    over: Sequence[str] | Mapping[str, str],
    *,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    prior: Mapping[str, tuple[float, float]] | None = None,
    everyday: str = "unknown",
    starts: int = 4,
    steps: int = 40,
    learning_rate: float | Callable[[int], float] = 1.0,
    seed: int = 0,
    plan: Plan = QUICK_COMPILE_PLAN,
    progress: Callable[[int, int], None] | None = None,
) -> Recovery:
    """Find the values of some leaves that the observations speak for.

    Args:
        cohort: subjects as they are on day 0; what they hold in the leaves is the centre of the prior.
        arm: what was done to them; likewise.
        data: what was observed, row by row of the same subjects; NaN where missing.
        over: leaves by name (see `free_parameters`): a sequence of shared ones, or a mapping to "shared", "subject" or
            "population" (empirical Bayes: mean and spread over people are found with them).
        bounds: by name; needed for parameters that may be 0 or negative.
        prior: by name, median in the leaf's unit and standard deviation among free numbers. By default around what is
            given, with 0.5 for logarithms and 1.5 for what has two bounds, which is nearly uniform between them.
        everyday: "unknown" lets subjects live their mean everyday life, and adds its variance to Gaussian noise;
            "known" is for simulated data whose subjects' numbers and seed are the cohort's. See `likelihood`.
        starts: how many: the centre of the prior, and random places under it.
        steps: most scoring steps; fewer are made once every start rests.
        learning_rate: share of each step that is taken: a number, or an optax schedule.
        seed: of the random starts.
        plan: how to use the hardware; of the backend "scan".
        progress: called with the numbers of steps made and at most.

    Raises:
        TypeError, ValueError: see `likelihood.recovery_problem`; impossible counts.
    """
    if starts < 1 or steps < 1:
        raise ValueError(f"{starts=} and {steps=} must be at least 1.")
    if not callable(learning_rate) and not 0 < learning_rate <= 1:
        raise ValueError(f"{learning_rate=} must be above 0 and at most 1, or a schedule.")
    question = recovery_problem(cohort, arm, data, over, bounds=bounds, prior=prior, everyday=everyday, plan=plan)
    rate = learning_rate if callable(learning_rate) else lambda step, rate=learning_rate: rate
    began = draw_starting_points(question, starts, seed)
    return summarise_recovery(
        question, run_fisher_scoring(question, began, steps=steps, learning_rate=rate, progress=progress)
    )


def identifiable(question: Question, starts: int = 4, seed: int = 0) -> dict[str, float]:
    """Before any fit: by number, the share of the prior's variance that such data take away, a mean over places and subjects.

    Less than a tenth means that the data cannot see the number, whatever a fit will say of it. Places are the centre of
    the prior and random ones under it, for what can be seen depends on the side of the saddle that a subject is on.
    """
    seen, _ = evaluate_likelihood(question, draw_starting_points(question, starts, seed), 0)
    spread = np.asarray(question.problem.belief.spread, float)
    c = posterior_covariance(seen.information, 1 / np.square(spread), question.shared)
    return mean_by_name(question, 1 - np.diagonal(c, axis1=-2, axis2=-1)[~seen.bad] / np.square(spread))


def draw_starting_points(question: Question, starts: int, seed: int) -> Float[np.ndarray, "start subject number"]:
    """The centre of the prior, and random places under it, the same for all subjects: a fit is the same in any cohort."""
    belief = question.problem.belief
    drawn = np.random.default_rng(seed).normal(size=(starts, 1, len(question.labels)))
    drawn[0] = 0
    return np.asarray(belief.centre, float).T + np.asarray(belief.spread, float) * np.clip(drawn, -2, 2)
