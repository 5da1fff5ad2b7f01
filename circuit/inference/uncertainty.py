"""What a recovery does not know: profiles of its likelihood, and the measurement that would show most.

    profile(found, "mg_per_kg")                                                  # where the interval bends
    design(found, "mg_per_kg", [Observed("dopamine", (1, 7), Gaussian(0.002))])    # which visit would tell

The first rungs of the ladder, standard errors, intervals and directions that the data hardly see, are in `Recovery`; the
last, a sample of the posterior, begins with `likelihood.log_density`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .fisher_information import posterior_covariance
from .fisher_scoring import negative_log_posterior, run_fisher_scoring
from .likelihood import Question, add_everyday_variance, compute_likelihood, parameter_slices
from .observations import Observed, align_observations, record_schedule
from .result import Recovery

PROFILE_DROP_95 = (
    1.920729  # nats below the maximum at which a profile leaves the 95 % interval: half of chi-square, 1 degree
)


@dataclasses.dataclass(frozen=True)
class Profile:
    """The likelihood along one number, all others fitted anew at every point of it.

    What is shared has one column, what is a subject's own one for each.

    Attributes:
        name: of the number.
        values: in the unit of the leaf, rising; (point, column).
        drop: nats below the largest likelihood of the profile; (point, column).
        low, high: where the drop passes 1.92, by straight lines between points; infinite where it does not.
    """

    name: str
    values: Float[np.ndarray, "point column"]
    drop: Float[np.ndarray, "point column"]
    low: Float[np.ndarray, " column"]
    high: Float[np.ndarray, " column"]


class DesignGain(NamedTuple):
    """What one more measurement of every subject would do.

    Attributes:
        quantity, day: what and when.
        shrinks: share by which it is expected to shrink the standard error; a mean over subjects.
    """

    quantity: str
    day: float
    shrinks: float


def profile(
    found: Recovery,
    name: str,
    points: int = 15,
    width: float = 3.0,
    steps: int = 20,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """The profile likelihood of a number; all points are lanes of one run.

    The prior counts for the other numbers and not for this one. Two valleys in it are two modes: the state is bistable.

    Args:
        found: from `recover`.
        name: of a number, as in `found.seen`.
        points: on the grid.
        width: standard errors from the estimate to either end of it.
        steps: most, of the fits of the others.
        progress: called with the numbers of steps made and at most.

    Raises:
        ValueError: a name that was not recovered, fewer than 3 points.
    """
    question, at = found.question, _parameter_index(found.question, name)
    if points < 3 or not width > 0:
        raise ValueError(f"{points=} must be at least 3 and {width=} positive.")
    c = found.covariance
    away = np.linspace(-width, width, points)[:, None] * np.sqrt(c[:, at, at])
    # Where the others would go if the likelihood were normal: they begin near their best.
    along = c[:, at] / c[:, at, at][:, None]
    free = found.free + away[..., None] * along
    shared = question.shared
    free[..., shared] = free[:, :1, shared]
    active = np.arange(len(question.labels)) != at
    mean, spread = found.prior
    ended = run_fisher_scoring(question, free, active=active, mean=mean, spread=spread, steps=steps, progress=progress)
    loss = negative_log_posterior(ended, ended.seen, ended.free, shared, active)
    if shared[at]:
        loss, free = loss.sum(axis=1, keepdims=True), free[:, :1]
    elif loss.shape[1] != free.shape[1]:
        raise ValueError(f"{name} is each subject's own, but others are shared: a profile would mix subjects.")
    drop = loss - loss.min(axis=0)
    values = _natural_column(question, at, free[..., at])
    ends = [_drop_crossings(values[:, i], drop[:, i]) for i in range(drop.shape[1])]
    return Profile(name, values, drop, np.array([low for low, _ in ends]), np.array([high for _, high in ends]))


def design(found: Recovery, name: str, planned: Sequence[Observed]) -> tuple[DesignGain, ...]:
    """Which of the measurements `planned` would shrink the standard error of a number most; best first.

    Each quantity and day counts alone, added to the data that are there, by the Fisher information expected at the
    estimate. To ask before there are data, recover from such as are NaN throughout.

    Args:
        found: from `recover`.
        name: of a number, as in `found.seen`.
        planned: what could be measured of every subject, when, and with which noise; values are not looked at.

    Raises:
        TypeError, ValueError: see `observations.aligned`; a name that was not recovered.
    """
    question, at = found.question, _parameter_index(found.question, name)
    subjects = len(question.cohort)
    zeros = [np.zeros((subjects, len(each.day))) if isinstance(each, Observed) else None for each in planned]
    data = align_observations(
        [_replace_value(each, value) for each, value in zip(planned, zeros, strict=True)], subjects
    )
    last, every = record_schedule(data)
    hours = -(-max(last, question.task.hours) // every) * every  # doses given later are part of the course too
    if question.everyday == "unknown":
        data = add_everyday_variance(data, question.cohort, question.arm, hours, every)
    problem = eqx.tree_at(lambda p: p.data, question.problem, data)
    task = dataclasses.replace(question.task, hours=hours, every=every)
    seen = compute_likelihood(jnp.asarray(found.free.T[:, None], jnp.result_type(float)), problem, task)
    jacobian, weight = np.asarray(seen.jacobian, float)[:, 0], np.asarray(seen.weight, float)[0]

    prior, shared = 1 / np.square(found.prior[1]), question.shared
    spread = lambda blocks: np.sqrt(posterior_covariance(blocks, prior, shared)[..., at, at])
    more = np.einsum("kio,io,lio->oikl", jacobian, weight, jacobian)  # (candidate, subject, number, number)
    shrinks = 1 - (spread(found.information + more) / spread(found.information[None])).mean(axis=1)
    names = [(each.quantity, day) for each in data for day in each.day]
    gains = [DesignGain(*candidate, float(share)) for candidate, share in zip(names, shrinks, strict=True)]
    return tuple(sorted(gains, key=lambda gain: -gain.shrinks))


def _replace_value(each, value):
    return Observed(each.quantity, each.day, each.noise, value) if isinstance(each, Observed) else each


def _parameter_index(question: Question, name: str) -> int:
    if name not in question.labels:
        raise ValueError(f"{name!r} was not recovered; choose from {', '.join(question.labels)}.")
    return question.labels.index(name)


def _natural_column(
    question: Question, at: int, free: Float[np.ndarray, "point column"]
) -> Float[np.ndarray, "point column"]:
    leaves = question.task.unknowns
    scale = next(
        each.scale for each, of in zip(leaves, parameter_slices(leaves), strict=True) if of.start <= at < of.stop
    )
    return np.asarray(scale.constrain(jnp.asarray(free, jnp.result_type(float))))


def _drop_crossings(values: np.ndarray, drop: np.ndarray) -> tuple[float, float]:
    """The outermost places, left and right of the best, where the drop passes `PROFILE_DROP_95`."""
    inside = np.flatnonzero(drop < PROFILE_DROP_95)
    low, high = -np.inf, np.inf
    if inside.size and (i := inside[0]) > 0:
        low = float(np.interp(-PROFILE_DROP_95, [-drop[i - 1], -drop[i]], [values[i - 1], values[i]]))
    if inside.size and (i := inside[-1]) < len(drop) - 1:
        high = float(np.interp(PROFILE_DROP_95, [drop[i], drop[i + 1]], [values[i], values[i + 1]]))
    return low, high
