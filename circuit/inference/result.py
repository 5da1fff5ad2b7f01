"""What a recovery has come to: estimates with their errors, what the data see, and why a search stopped.

`recover` has the call, `fisher_scoring` the search.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..fitting.failures import FitFailure
from ..model.interventions import Arm
from ..simulation.cohort import Cohort
from . import free_parameters
from .fisher_information import marginal_information, posterior_covariance
from .fisher_scoring import GAIN_TOLERANCE, PATIENCE, NonfiniteLane, ScoringState, best_start, negative_log_posterior
from .likelihood import Question, parameter_slices

NORMAL_95 = 1.959964  # quantile of the standard normal between whose two signs 95 % lie
MIN_VARIANCE_REDUCTION = 0.1  # share of the prior's variance below which data that take it away have not seen a number
AT_BOUND_SHARE = 0.01  # share of the width
NEGLIGIBLE_GAIN = 0.1  # nats to be gained that do not count where rounding lets no step find them
MIN_SQUARED_WEIGHT = 0.05  # of a unit direction's square, below which a number is not named in it


@dataclasses.dataclass(frozen=True)
class ParameterDirection:
    """A direction among free numbers, by what the data say about it.

    Attributes:
        weights: by name, of a unit vector in units of the prior's spreads; small ones are left out.
        spread: posterior standard deviation over the prior's along it: 1 where the data say nothing.
    """

    weights: dict[str, float]
    spread: float

    def __str__(self) -> str:
        mix = " ".join(f"{weight:+.2f} {name}" for name, weight in self.weights.items())
        return f"{mix}: {1 - self.spread**2:.0%} of the prior's variance is gone"


@dataclasses.dataclass(frozen=True)
class PopulationEstimate:
    """What subjects' own numbers come from, found by empirical Bayes.

    Attributes:
        mean: median over people, in the leaf's unit; (*dose,).
        low, high: of its 95 % interval.
        spread: standard deviation over people among free numbers: of the logarithm where a leaf is positive.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    spread: np.ndarray


@dataclasses.dataclass(frozen=True)
class Recovery:
    """What was recovered, and how sure it is. Values by name are (*dose,) or, per subject, (*dose, subject).

    Attributes:
        cohort, arm: as given, with the estimates in their leaves.
        estimates: in the units of the leaves.
        errors: standard errors, by the slope of the bijection.
        low, high: 95 % intervals, by the bijection of the symmetric interval among free numbers.
        raw: of leaves from a population, the estimates under the broad prior alone: not shrunk towards the others.
        population: of the same leaves.
        seen: by number, the share of the variance of the prior, as given, that the data take away at the estimate; a
            mean over subjects.
        unseen: numbers of which that is less than a tenth: the estimate is the prior's.
        directions: among what is shared, and then among what is each subject's own; least seen first.
        log_likelihood: of each subject's data.
        losses: minus the log-posterior of each start, summed over subjects.
        statuses: of each subject, "converged", "bounds" (a number rests at a bound), "steps" (more was to be gained),
            "stuck" (no step helps, yet there is a slope: a kink, or the rounding of float32) or "failed" (not finite).
        status: the commonest of those who did not converge, or "converged".
        reason: the same in a sentence.
        failures: what was not finite on the way; a start whose first place is finite goes on from there.
        steps: that were made.
        question: what was asked; `uncertainty` goes on from it.
        free: estimates among free numbers, (subject, number).
        information: Fisher's, of the data, of every subject there.
        covariance: of all numbers that concern a subject.
        prior: its mean (subject, number) and spread (number,), populations as found.
    """

    cohort: Cohort
    arm: Arm
    estimates: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    low: dict[str, np.ndarray]
    high: dict[str, np.ndarray]
    raw: dict[str, np.ndarray]
    population: dict[str, PopulationEstimate]
    seen: dict[str, float]
    unseen: tuple[str, ...]
    directions: tuple[ParameterDirection, ...]
    log_likelihood: Float[np.ndarray, " subject"]
    losses: Float[np.ndarray, " start"]
    statuses: tuple[str, ...]
    status: str
    reason: str
    failures: tuple[FitFailure, ...]
    steps: int
    question: Question
    free: Float[np.ndarray, "subject number"]
    information: Float[np.ndarray, "subject number number"]
    covariance: Float[np.ndarray, "subject number number"]
    prior: tuple[Float[np.ndarray, "subject number"], Float[np.ndarray, " number"]]


def summarise_recovery(question: Question, found: ScoringState) -> Recovery:
    """What a search has come to."""
    shared, every = question.shared, np.arange(len(question.cohort))
    best = best_start(found, shared)
    free, bad = found.free[best, every], found.seen.bad[best, every]
    information = found.seen.information[best, every]
    precision = 1 / np.square(found.spread)
    c = posterior_covariance(information[None], precision, shared)[0]
    sd = np.sqrt(np.diagonal(c, axis1=1, axis2=2))
    values = lambda at: to_natural_units(question, at)
    estimates, low, high = values(free), values(free - NORMAL_95 * sd), values(free + NORMAL_95 * sd)
    near = 1e-3 * sd  # a symmetric difference of the bijection
    below = values(free - near)
    errors = {name: (above - below[name]) / 2e-3 for name, above in values(free + near).items()}
    broad = np.square(np.asarray(question.problem.belief.spread, float))
    before = np.diagonal(posterior_covariance(information[None], 1 / broad, shared)[0], axis1=1, axis2=2)
    seen = mean_by_name(question, 1 - before[~bad] / broad)
    loss = negative_log_posterior(found, found.seen, found.free, shared, np.ones_like(shared))
    statuses = _classify_subjects(question, found, best)
    failures = tuple(_make_failure(question, each) for each in found.bad.values())
    wrong = [status for status in statuses if status != "converged"]
    status = max(set(wrong), key=wrong.count) if wrong else "converged"
    unseen = tuple(name for name, share in seen.items() if not share >= MIN_VARIANCE_REDUCTION)
    cohort, arm = free_parameters.with_values(question.cohort, question.arm, _drop_nonfinite(estimates))
    return Recovery(
        cohort=cohort,
        arm=arm,
        estimates=estimates,
        errors=errors,
        low=low,
        high=high,
        raw=_broad_prior_estimates(question, found, best),
        population=_estimate_populations(question, found, information[~bad]),
        seen=seen,
        unseen=unseen,
        directions=_information_directions(question, information[~bad], np.sqrt(broad)),
        log_likelihood=np.where(bad, np.nan, found.seen.log_likelihood[best, every]),
        losses=loss.sum(axis=1),
        statuses=statuses,
        status=status,
        reason=_describe_recovery(status, statuses, unseen, found, failures),
        failures=failures,
        steps=found.steps,
        question=question,
        free=free,
        information=information,
        covariance=c,
        prior=(found.mean, found.spread),
    )


def to_natural_units(question: Question, free: Float[np.ndarray, "subject number"]) -> dict[str, np.ndarray]:
    """Values by name, in the units of the leaves."""
    found = {}
    for each, of in zip(question.task.unknowns, parameter_slices(question.task.unknowns), strict=True):
        value = np.asarray(each.scale.constrain(jnp.asarray(free[:, of].T, jnp.result_type(float))))
        value = value[:, 0] if each.across == "shared" else value
        found[each.name] = np.asarray(value if each.doses else value[0])
    return found


def _drop_nonfinite(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in values.items() if np.isfinite(value).all()}


def mean_by_name(question: Question, shares: Float[np.ndarray, "row number"]) -> dict[str, float]:
    """Means over rows, by number."""
    means = shares.mean(axis=0) if len(shares) else np.full(len(question.labels), np.nan)
    return dict(zip(question.labels, map(float, means), strict=True))


def _broad_prior_estimates(question: Question, found: ScoringState, best: np.ndarray) -> dict[str, np.ndarray]:
    """Estimates under the broad prior, from the normal likelihood of each subject: of leaves from a population."""
    every, own = np.arange(len(best)), np.flatnonzero(~question.shared)
    free, belief = found.free[best, every].copy(), question.problem.belief
    if not question.pooled.any():
        return {}
    precision = 1 / np.square(np.asarray(belief.spread, float)[own])
    centre = np.asarray(belief.centre, float).T[:, own]
    information = found.seen.information[best, every][:, own[:, None], own]
    slope = found.seen.slope[best, every][:, own] + (centre - free[:, own]) * precision
    free[:, own] += np.linalg.solve(information + np.diag(precision), slope[..., None])[..., 0]
    values = to_natural_units(question, free)
    return {each.name: values[each.name] for each in question.task.unknowns if each.across == "population"}


def _estimate_populations(question: Question, found: ScoringState, information) -> dict[str, PopulationEstimate]:
    """Mean, its interval and spread of every population; the mean's variance by that of each subject's own estimate."""
    result, own = {}, np.flatnonzero(~question.shared)
    broad = 1 / np.square(np.asarray(question.problem.belief.spread, float)[own] * 10)
    blind = np.linalg.inv(information[:, own[:, None], own] + np.diag(broad))
    variance = np.zeros(len(found.spread))
    spread_here = np.square(found.spread[own])
    variance[own] = 1 / (1 / (spread_here + np.diagonal(blind, axis1=1, axis2=2))).sum(axis=0)
    sd = np.sqrt(variance)
    for each, of in zip(question.task.unknowns, parameter_slices(question.task.unknowns), strict=True):
        if each.across != "population":
            continue
        place = lambda by, of=of, each=each: np.asarray(
            each.scale.constrain(jnp.asarray(found.mean[0, of] + by * sd[of], jnp.result_type(float)))
        )
        inner = lambda value, each=each: np.asarray(value if each.doses else value[0])
        mean, low, high = (inner(place(by)) for by in (0.0, -NORMAL_95, NORMAL_95))
        result[each.name] = PopulationEstimate(mean, low, high, inner(found.spread[of]))
    return result


def _information_directions(
    question: Question, information, spread: Float[np.ndarray, " number"]
) -> tuple[ParameterDirection, ...]:
    """Eigenvectors of the information in units of the prior: about what is shared, and the mean about subjects' own."""
    shared, labels, found = question.shared, np.array(question.labels), []
    parts = []
    if shared.any():
        parts.append(
            (np.flatnonzero(shared), marginal_information(information[None], 1 / np.square(spread), shared)[0])
        )
    if not shared.all() and len(information):
        own = np.flatnonzero(~shared)
        parts.append((own, information[:, own[:, None], own].mean(axis=0)))
    for which, matrix in parts:
        scaled = matrix * spread[which] * spread[which][:, None]
        for value, vector in zip(*np.linalg.eigh(scaled), strict=True):
            vector = vector * np.sign(vector[np.argmax(abs(vector))])
            weights = {
                str(labels[i]): float(w) for i, w in zip(which, vector, strict=True) if w * w > MIN_SQUARED_WEIGHT
            }
            found.append(ParameterDirection(weights, float(1 / np.sqrt(1 + max(value, 0)))))
    return tuple(found)


def _classify_subjects(question: Question, found: ScoringState, best: np.ndarray) -> tuple[str, ...]:
    """What stopped each subject's best start; what is shared stops all alike."""
    every = np.arange(len(best))
    unit = every if found.damping.shape[1] == len(best) else np.zeros_like(every)
    gain, resting = found.gain[best, unit], found.resting[best, unit]
    edge = np.log(1 / AT_BOUND_SHARE - 1)
    two_sided = [np.isfinite(each.scale.high - each.scale.low) for each in question.task.unknowns for _ in each.labels]
    at_bound = (np.array(two_sided) & (abs(found.free[best, every]) > edge)).any(axis=1)
    cases = [
        (found.seen.bad[best, every], "failed"),
        (at_bound, "bounds"),
        ((gain < GAIN_TOLERANCE) | ((gain < NEGLIGIBLE_GAIN) & (resting >= PATIENCE)), "converged"),
        (resting >= PATIENCE, "stuck"),
    ]
    return tuple(map(str, np.select([case for case, _ in cases], [name for _, name in cases], "steps")))


def _describe_recovery(status: str, statuses, unseen: tuple[str, ...], found: ScoringState, failures) -> str:
    said = {
        "converged": f"the search came to rest after {found.steps} steps, with hardly anything to be gained",
        "bounds": "a number rests at its bound: widen the bounds, or believe that it is none",
        "steps": f"more was to be gained after {found.steps} steps: allow more",
        "stuck": "no step helps although there is a slope: start elsewhere, or fit in float64",
        "failed": "no start stayed finite: narrow the prior or the bounds, and replay what failed",
    }[status]
    if status != "converged":
        said = f"{statuses.count('converged')} of {len(statuses)} subjects converged; of the others, {said}"
    if unseen:
        said += f"; the data do not see {', '.join(unseen)}, and the estimate is the prior's"
    if failures:
        said += f"; {len(failures)} lanes were not finite on the way, subject {failures[0].subject} first"
    return said + "."


def _make_failure(question: Question, bad: NonfiniteLane) -> FitFailure:
    """With the one line that lives that course again."""
    subject = int(question.cohort.subject[bad.index])
    alone = np.repeat(bad.free[None], 1, axis=0)
    values = {
        name: np.round(np.asarray(value, float), 9).tolist()
        for name, value in to_natural_units(question, alone).items()
    }
    line = (
        f"course(*put(cohort[cohort.subject == {subject}], arm, {values}), days={question.task.hours / 24!r}, "
        f"save_every={question.task.every})"
    )
    return FitFailure(subject, bad.start, bad.step, bad.direction, bad.term, line)
