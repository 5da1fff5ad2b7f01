"""The search of `recover`: many fits at once, by Fisher scoring with a trust region.

    step = (information + prior)^-1 slope,   the diagonal grown by a damping that rises where a step has not helped

The forward Jacobian that gives the slope gives the information too, and a solve by it walks stiff and sloppy directions
alike, where a gradient step would crawl along the latter: tens of steps do what takes Adam hundreds. A step that loses is
taken back, so that the steep slopes near a saddle throw nobody far. The damping belongs to a subject, or, where subjects
share a number, to a start.

The population (empirical Bayes) is fitted along the way: at every step the likelihood of each subject is a normal one, by
slope and information where its best start stands, and expectation-maximisation of the marginal likelihood of these runs to
rest. Mean and spread of each number are its own: correlations between numbers are left out.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .fisher_information import (
    ScoreAndInformation,
    posterior_covariance,
    score_and_information,
    solve_information_system,
)
from .likelihood import Question, compute_likelihood

MAX_STEP = 1.0  # largest change of a free number in a step
GAIN_TOLERANCE = 1e-3  # nats still to be gained, to second order, at which a fit rests
PATIENCE = 6  # steps that gained nothing, after which a start rests too
DAMPING_DOWN, DAMPING_UP, DAMPING_MAX = (
    0.25,
    5.0,
    1e7,
)  # factors of the damping after a gain and a loss, and the most there may be
EM_ITERATIONS = 30  # rounds of expectation-maximisation at every step
MIN_POPULATION_SPREAD = 1e-2  # of a population, among free numbers
POPULATION_WARMUP_STEPS = 3  # steps before a population is first believed


@dataclasses.dataclass(frozen=True)
class NonfiniteLane:
    """Numbers that stopped being finite: start, subject (by index), step, which way, what it was, the free numbers there."""

    start: int
    index: int
    step: int
    direction: str
    term: str
    free: Float[np.ndarray, " number"]


@dataclasses.dataclass
class ScoringState:
    """Where the starts are. Rows are (start, subject, number); what is shared is equal in all subjects.

    Attributes:
        free: the best place of every start, and of every subject of it where nothing is shared.
        seen: what the data say there.
        mean: of the prior, (subject, number); populations move it.
        spread: of the prior, (number,).
        damping: (start, unit); a unit is a subject, or all of them where something is shared.
        resting: steps since the last gain, likewise.
        bad: the first time each lane was not finite.
        gain: nats still to be gained where it ended, to second order, likewise.
        steps: that were made.
    """

    free: Float[np.ndarray, "start subject number"]
    seen: ScoreAndInformation
    mean: Float[np.ndarray, "subject number"]
    spread: Float[np.ndarray, " number"]
    damping: Float[np.ndarray, "start unit"]
    resting: np.ndarray
    bad: dict[tuple[int, int], NonfiniteLane]
    gain: Float[np.ndarray, "start unit"]
    steps: int = 0


def run_fisher_scoring(
    question: Question,
    free: Float[np.ndarray, "start subject number"],
    *,
    active: np.ndarray | None = None,
    mean: Float[np.ndarray, "subject number"] | None = None,
    spread: Float[np.ndarray, " number"] | None = None,
    steps: int,
    learning_rate: Callable[[int], float] = lambda step: 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> ScoringState:
    """Walk from `free` to where each start comes to rest, or `steps` are made.

    Args:
        question: from `ask`.
        free: where to begin.
        active: numbers that move; the others stay, and have no prior. All by default.
        mean: of the prior, if not the question's; populations then stay as they are.
        spread: likewise.
        steps: most.
        learning_rate: share of the scoring step that is taken, by step; an optax schedule is one.
        progress: called with the numbers of steps made and at most.
    """
    active = np.ones(free.shape[-1], bool) if active is None else active
    pooled = question.pooled & active if mean is None else np.zeros_like(active)
    belief = question.problem.belief
    mean = np.asarray(belief.centre, float).T.copy() if mean is None else mean
    spread = np.asarray(belief.spread, float).copy() if spread is None else spread
    seen, bad = evaluate_likelihood(question, free, 0)
    units = (len(free), 1 if (question.shared & active).any() else free.shape[1])
    found = ScoringState(
        free, seen, mean, spread, np.full(units, 1e-2), np.zeros(units, int), bad, np.full(units, np.inf)
    )
    broad = np.asarray(belief.spread, float)
    while found.steps < steps:
        step, found.gain = _scoring_step(found, question.shared, active)
        if ((found.gain < GAIN_TOLERANCE) | (found.resting >= PATIENCE)).all() and found.steps >= (
            POPULATION_WARMUP_STEPS + PATIENCE
        ) * pooled.any():
            break
        trial = found.free + learning_rate(found.steps) * step
        found.steps += 1
        seen, bad = evaluate_likelihood(question, trial, found.steps)
        _accept_or_reject(found, trial, seen, bad, question.shared, active)
        if pooled.any() and found.steps >= POPULATION_WARMUP_STEPS:
            _update_population(found, question.shared, pooled, broad)
        if progress is not None:
            progress(found.steps, steps)
    found.gain = _scoring_step(found, question.shared, active)[1]
    return found


def evaluate_likelihood(question: Question, free: Float[np.ndarray, "start subject number"], step: int):
    """What the data say there, and who is not finite, by (start, subject)."""
    lanes = jnp.asarray(np.moveaxis(free, -1, 0), jnp.result_type(float))
    seen = compute_likelihood(lanes, question.problem, question.task)
    found = score_and_information(seen)
    bad = {
        (int(s), int(i)): NonfiniteLane(
            int(s), int(i), step, *_nonfinite_term(question, seen, int(s), int(i)), free[s, i].copy()
        )
        for s, i in np.argwhere(found.bad)
    }
    return found, bad


def negative_log_posterior(
    found: ScoringState, seen: ScoreAndInformation, free, shared: np.ndarray, active: np.ndarray
) -> Float[np.ndarray, "start unit"]:
    """Minus the log-posterior of every unit: its likelihood, and the prior of what moves; what is bad counts for nothing."""
    z = np.square((free - found.mean) / found.spread) / 2
    each = z[..., ~shared & active].sum(axis=-1) - seen.log_likelihood
    if not (shared & active).any():
        return np.where(seen.bad, np.inf, each)
    total = np.where(seen.bad, 0, each).sum(axis=1) + z[:, 0, shared & active].sum(axis=-1)
    return np.where(seen.bad.all(axis=1), np.inf, total)[:, None]


def best_start(found: ScoringState, shared: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
    """The start of least loss, of every subject."""
    active = np.ones_like(shared) if active is None else active
    loss = negative_log_posterior(found, found.seen, found.free, shared, active)
    return np.broadcast_to(np.argmin(loss, axis=0), found.free.shape[1])


def _scoring_step(found: ScoringState, shared: np.ndarray, active: np.ndarray):
    """The next step of every row, no number by more than `MAX_STEP`, and what every unit may gain (nats)."""
    keep = np.flatnonzero(active)
    common, prior = shared[keep], 1 / np.square(found.spread[keep])
    pull = (found.mean - found.free)[..., keep] * prior
    pull[:, 1:, common] = 0  # the prior of what is shared counts once
    pull[..., ~common] = np.where(found.seen.bad[..., None], 0, pull[..., ~common])
    right = found.seen.slope[..., keep] + pull
    blocks = found.seen.information[..., keep[:, None], keep]
    damping = np.broadcast_to(found.damping, found.free.shape[:2])
    gain = (right * solve_information_system(blocks, prior, common, right, np.zeros_like(damping))).sum(axis=-1) / 2
    step = np.zeros_like(found.free)
    step[..., keep] = solve_information_system(blocks, prior, common, right, damping)
    for part in (shared & active, ~shared & active):
        size = abs(step[..., part]).max(axis=-1, initial=MAX_STEP)
        step[..., part] *= (MAX_STEP / size)[..., None]
    return step, gain.sum(axis=1, keepdims=True) if common.any() else gain


def _accept_or_reject(
    found: ScoringState, trial, seen: ScoreAndInformation, bad: dict, shared: np.ndarray, active: np.ndarray
) -> None:
    """Go where it is better, stay where it is not, and be more careful there."""
    here = negative_log_posterior(found, found.seen, found.free, shared, active)
    there = negative_log_posterior(found, seen, trial, shared, active)
    newly = seen.bad & ~found.seen.bad
    there = np.where(newly if there.shape == newly.shape else newly.any(axis=1, keepdims=True), np.inf, there)
    better = there < here
    gained = there < here - GAIN_TOLERANCE / 10
    rows = np.broadcast_to(better, found.free.shape[:2])
    choose = lambda new, old: np.where(rows.reshape(rows.shape + (1,) * (old.ndim - 2)), new, old)
    found.free = choose(trial, found.free)
    old = found.seen
    found.seen = ScoreAndInformation(
        *(choose(getattr(seen, f.name), getattr(old, f.name)) for f in dataclasses.fields(ScoreAndInformation))
    )
    found.damping = np.clip(found.damping * np.where(better, DAMPING_DOWN, DAMPING_UP), 1e-6, DAMPING_MAX)
    found.resting = np.where(gained, 0, found.resting + 1)
    for lane, what in bad.items():
        found.bad.setdefault(lane, what)


def _update_population(
    found: ScoringState, shared: np.ndarray, pooled: np.ndarray, broad: Float[np.ndarray, " number"]
) -> None:
    """Mean and spread of each population at the maximum of their marginal likelihood, subjects' being normal."""
    best, subjects = best_start(found, shared), np.arange(found.free.shape[1])
    own = np.flatnonzero(~shared)
    from_population = pooled[own]
    good = ~found.seen.bad[best, subjects]
    x, slope = (of[best, subjects][good][:, own] for of in (found.free, found.seen.slope))
    information = found.seen.information[best, subjects][good][:, own[:, None], own]
    mean, spread = found.mean[good][:, own], found.spread[own].copy()
    for _ in range(EM_ITERATIONS):
        precision = 1 / np.square(spread)
        c = posterior_covariance(information[None], precision, np.zeros(len(own), bool))[0]
        y = x + np.clip(np.einsum("ikl,il->ik", c, slope + (mean - x) * precision), -MAX_STEP, MAX_STEP)
        centre = y.mean(axis=0)
        mean = np.where(from_population, centre, mean)
        variance = (np.square(y - mean) + np.diagonal(c, axis1=1, axis2=2)).mean(axis=0)
        limit = np.maximum(broad[own] * 10, MIN_POPULATION_SPREAD)
        spread = np.where(from_population, np.clip(np.sqrt(variance), MIN_POPULATION_SPREAD, limit), spread)
    found.mean[:, own[from_population]] = mean[0, from_population]
    found.spread[own] = spread


def _nonfinite_term(question: Question, seen, start: int, subject: int) -> tuple[str, str]:
    """Whether forward or backward, and which term was not finite."""
    names = [(each.quantity, day) for each in question.problem.data for day in each.day]
    parts = (
        ("forward", "expected {} on day {:g}", seen.expected),
        ("forward", "likelihood of {} on day {:g}", seen.each),
        ("backward", "likelihood of {} on day {:g}", seen.score),
    )
    for direction, sentence, part in parts:
        wrong = ~np.isfinite(np.asarray(part[start, subject]))
        if wrong.any():
            return direction, sentence.format(*names[int(np.argmax(wrong))])
    wrong = ~np.isfinite(np.asarray(seen.jacobian[:, start, subject]))
    number, column = np.argwhere(wrong)[0]
    quantity, day = names[column]
    return "backward", f"{quantity} on day {day:g} by {question.labels[number]}"
