"""The likelihood of observations and its derivatives by the free parameters: predictions, score and Jacobian.

The starts of a fit are repeated along the batch axis (index = start x subjects + subject) and simulated as one course. Each
entry depends on its own parameters alone, so one forward derivative per parameter gives the Jacobian of all of them. What
subjects share is summed over them afterwards.

Everyday life fluctuates, and the fluctuations of a real subject's week are unknown. Subjects are therefore simulated under
the mean of everyday life, and the variance that fluctuations add to an observation (over `REPLICATE_COUNT` simulations at
the given values) is added to the variance of Gaussian noise. Temporal autocorrelation is ignored. In simulated data the
fluctuations may be declared known: subjects are then simulated with those that their seed and number name.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...kernels import Plan, entry_point
from ..model.interventions import Arm, Intervention, as_arm
from ..model.slow_clock import QUICK_COMPILE_PLAN
from ..simulation import validation
from ..simulation.batching import NeuronConstants, repeat_arm, repeat_cohort, with_neuron, without_neuron
from ..simulation.cohort import Cohort
from ..simulation.course import course
from . import free_parameters
from .free_parameters import FreeParameter, Prior
from .observations import Gaussian, Observed, align_observations, record_schedule

REPLICATE_COUNT = 16  # over which the variance by everyday life is taken
REPLICATE_SUBJECT_STRIDE = 0x10000  # between the numbers that name the noise of two replicates of a subject


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked, apart from its numbers; a new one is a new compilation.

    Attributes:
        unknowns: to be recovered.
        neuron: the constants of the LHb neuron, see `batching`.
        hours: length of the course.
        every: h between records.
        plan: how to use the hardware.
    """

    unknowns: tuple[FreeParameter, ...]
    neuron: NeuronConstants
    hours: int
    every: int
    plan: Plan


class Problem(eqx.Module):
    """The numbers of a task.

    Attributes:
        cohort: subjects, without their neuron.
        arm: what was done to them.
        data: observed, with a value and noise for every subject and day.
        belief: the prior.
    """

    cohort: Cohort
    arm: Arm
    data: tuple[Observed, ...]
    belief: Prior


@dataclasses.dataclass(frozen=True)
class Question:
    """A question to the data, checked: what `recover` and all about its uncertainty begin from. See `recovery_problem`.

    Attributes:
        cohort: as given.
        arm: as given.
        problem, task: its numbers, and the rest.
        everyday: "unknown" or "known".
    """

    cohort: Cohort
    arm: Arm
    problem: Problem
    task: Task
    everyday: str

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for every number that is recovered."""
        return tuple(label for each in self.task.unknowns for label in each.labels)

    @property
    def shared(self) -> np.ndarray:
        """Of every number, whether subjects share it."""
        return np.array([each.across == "shared" for each in self.task.unknowns for _ in each.labels])

    @property
    def pooled(self) -> np.ndarray:
        """Of every number, whether it comes from a population whose mean and spread are unknown."""
        return np.array([each.across == "population" for each in self.task.unknowns for _ in each.labels])


class Likelihood(NamedTuple):
    """The data's, at some free numbers. Axes: start, subject, observation (of all `Observed`, one after the other).

    Attributes:
        each: log-likelihood of every observation, 0 where it is missing.
        expected: what was expected.
        score: slope of `each` by what was expected.
        weight: Fisher information of an observation about what was expected; 0 where it is missing.
        jacobian: slope of what was expected by free numbers, with a first axis of these.
    """

    each: Float[Array, "start subject observation"]
    expected: Float[Array, "start subject observation"]
    score: Float[Array, "start subject observation"]
    weight: Float[Array, "start subject observation"]
    jacobian: Float[Array, "number start subject observation"]


def recovery_problem(
    cohort: Cohort,
    arm: Intervention | Arm,
    data: Observed | Sequence[Observed],
    over: Sequence[str] | Mapping[str, str],
    *,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    prior: Mapping[str, tuple[float, float]] | None = None,
    everyday: str = "unknown",
    plan: Plan = QUICK_COMPILE_PLAN,
) -> Question:
    """A question to the data, after every check; arguments as in `recover`.

    Raises:
        TypeError: what is no intervention, or not observed.
        ValueError: see `observations.align_observations`, `free_parameters.resolve_free_parameters`,
            `free_parameters.make_prior` and `validation.check_course`.
    """
    arm = as_arm(arm)
    if everyday not in ("unknown", "known"):
        raise ValueError(f"{everyday=} must be 'unknown' or, for simulated data, 'known'.")
    if plan.backend != "scan":
        raise ValueError(
            f"backend={plan.backend!r}, but a derivative in several directions at once needs backend='scan'."
        )
    data = align_observations(data, len(cohort))
    hours, every = record_schedule(data)
    validation.check_course(cohort, arm, hours / 24, 0.0, every)
    leaves = free_parameters.resolve_free_parameters(cohort, arm, over, bounds or {}, hours / 24)
    belief = free_parameters.make_prior(leaves, cohort, arm, prior or {})

    averaged = cohort
    if everyday == "unknown":
        data = add_everyday_variance(data, cohort, arm, hours, every)
        at = lambda c: (c.parameters.synapses.everyday_spread, c.state.aversion)
        averaged = eqx.tree_at(at, cohort, jax.tree.map(jnp.zeros_like, at(cohort)))
    bare, neuron = without_neuron(averaged)
    task = Task(leaves, neuron, hours, every, plan)
    return Question(cohort, arm, Problem(bare, arm, data, belief), task, everyday)


def add_everyday_variance(
    data: tuple[Observed, ...], cohort: Cohort, arm: Arm, hours: int, every: int
) -> tuple[Observed, ...]:
    """The data with the variance by everyday life added to that of Gaussian noise."""
    if not any(isinstance(each.noise, Gaussian) for each in data):
        return data
    replicates = repeat_cohort(cohort, REPLICATE_COUNT)
    which = np.repeat(np.arange(1, REPLICATE_COUNT + 1, dtype=np.uint32), len(cohort))
    replicates = eqx.tree_at(
        lambda c: c.subject, replicates, replicates.subject + jnp.asarray(which * np.uint32(REPLICATE_SUBJECT_STRIDE))
    )
    names = tuple(dict.fromkeys(each.quantity for each in data))
    course_of_replicates = course(
        replicates, repeat_arm(arm, REPLICATE_COUNT), hours / 24, save_every=every, record=names
    )
    found = []
    for each in data:
        if isinstance(each.noise, Gaussian):
            values = np.asarray(course_of_replicates[each.quantity], float)[:, each.among(every)]
            variance = values.reshape(REPLICATE_COUNT, len(cohort), -1).var(axis=0, ddof=1)
            variance = np.where(np.isfinite(variance), variance, 0)
            sd = np.sqrt(np.square(np.asarray(each.noise.sd, float)) + variance)
            each = Observed(each.quantity, each.day, Gaussian(sd), each.value)
        found.append(each)
    return tuple(found)


@entry_point
def compute_likelihood(free: Float[Array, "number start subject"], problem: Problem, task: Task) -> Likelihood:
    """The data's likelihood, and its slopes, at free numbers of every start and subject."""
    directions = jnp.eye(free.shape[0], dtype=free.dtype)
    forward = lambda d: jax.jvp(
        lambda x: expected_observations(x, problem, task), (free,), (jnp.broadcast_to(d[:, None, None], free.shape),)
    )
    seen, jacobian = jax.vmap(forward, out_axes=(None, 0))(directions)
    parts = [
        _observation_score_and_information(each, of)
        for each, of in zip(problem.data, _split_observations(seen, problem.data), strict=True)
    ]
    each, score, weight = (jnp.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return Likelihood(each, seen, score, weight, jacobian)


def log_likelihood(free: Float[Array, "number start subject"], problem: Problem, task: Task):
    """Of each start and subject: differentiable forwards and in reverse, in `free` and in `problem`."""
    seen = expected_observations(free, problem, task)
    each = [
        _observation_log_likelihood(each, of)
        for each, of in zip(problem.data, _split_observations(seen, problem.data), strict=True)
    ]
    return jnp.concatenate(each, axis=-1).sum(axis=-1)


def log_prior(free: Float[Array, "number start subject"], belief: Prior) -> Float[Array, "number start subject"]:
    """Of each number, without its normalisation."""
    return -jnp.square((free - belief.centre[:, None, :]) / belief.spread[:, None, None]) / 2


def expected_observations(
    free: Float[Array, "number start subject"], problem: Problem, task: Task
) -> Float[Array, "start subject observation"]:
    """What is expected to be observed at free numbers of every start and subject."""
    _, starts, subjects = free.shape
    cohort = with_neuron(repeat_cohort(problem.cohort, starts), task.neuron)
    arm = repeat_arm(problem.arm, starts)
    for unknown, of in zip(task.unknowns, parameter_slices(task.unknowns), strict=True):
        value = unknown.scale.constrain(free[of].reshape(-1, starts * subjects))
        cohort, arm = free_parameters.replace_parameter(cohort, arm, unknown, value if unknown.doses else value[0])
    names = tuple(dict.fromkeys(each.quantity for each in problem.data))
    seen = course(cohort, arm, task.hours / 24, save_every=task.every, record=names, plan=task.plan)
    return jnp.concatenate(
        [seen[each.quantity].reshape(starts, subjects, -1)[..., each.among(task.every)] for each in problem.data],
        axis=-1,
    )


def parameter_slices(leaves: tuple[FreeParameter, ...]) -> list[slice]:
    """Where the numbers of each leaf stand among all."""
    counts = [len(each.labels) for each in leaves]
    return [slice(sum(counts[:i]), sum(counts[: i + 1])) for i in range(len(counts))]


class PosteriorDensity(NamedTuple):
    """A posterior density to be sampled. Positions are dictionaries by name: (*dose,) or, per subject, (*dose, subject).

    Attributes:
        function: from a position, among free numbers, to its log-density, up to a constant; compiled, differentiable.
        initial: the centre of the prior.
        values: from a position to the same in natural units.
    """

    function: Callable[[dict[str, Array]], Float[Array, ""]]
    initial: dict[str, Array]
    values: Callable[[dict[str, Array]], dict[str, Array]]


def log_density(question: Question) -> PosteriorDensity:
    """The posterior's logarithm and a point to begin at, for samplers such as those of blackjax and NumPyro.

        density = log_density(ask(cohort, arm, data, over=("mg_per_kg",)))
        blackjax.nuts(density.function, step_size, inverse_mass)
        numpyro.infer.NUTS(potential_fn=lambda position: -density.function(position))

    Free numbers have no bounds and the prior is a density among them, so nothing is to be added for the bijection. What
    comes from a population has the prior's own mean and spread here. Several modes may exist, for the state is bistable.
    """
    problem, task = question.problem, question.task
    subjects = len(question.cohort)

    def stacked(position: dict[str, Array]) -> Float[Array, "number start subject"]:
        flat = [_broadcast_to_subjects(position[each.name], each, subjects) for each in task.unknowns]
        return jnp.concatenate(flat)[:, None, :]

    @jax.jit
    def density(position):
        free = stacked(position)
        prior = log_prior(free, problem.belief)[:, 0]
        once = jnp.where(question.shared, prior[:, 0], prior.sum(axis=-1))
        return log_likelihood(free, problem, task).sum() + once.sum()

    initial = {}
    for each, of in zip(task.unknowns, parameter_slices(task.unknowns), strict=True):
        centre = problem.belief.centre[of]
        centre = centre[:, 0] if each.across == "shared" else centre
        initial[each.name] = centre if each.doses else centre[0]
    values = lambda position: {each.name: each.scale.constrain(position[each.name]) for each in task.unknowns}
    return PosteriorDensity(density, initial, values)


def _broadcast_to_subjects(value: Array, unknown: FreeParameter, subjects: int) -> Float[Array, "dose subject"]:
    value = value if unknown.doses else value[None]
    value = value[:, None] if unknown.across == "shared" else value
    return jnp.broadcast_to(value, (value.shape[0], subjects))


def _split_observations(seen: Array, data: tuple[Observed, ...]) -> list[Array]:
    ends = np.cumsum([len(each.day) for each in data])
    return jnp.split(seen, ends[:-1], axis=-1)


def _observation_log_likelihood(
    each: Observed, seen: Float[Array, "start subject day"]
) -> Float[Array, "start subject day"]:
    assert each.value is not None
    known = ~jnp.isnan(each.value)
    value = jnp.where(known, each.value, 0)
    return jnp.where(known[None], jax.vmap(lambda of: each.noise.log_likelihood(value, of))(seen), 0)


def _observation_score_and_information(each: Observed, seen: Float[Array, "start subject day"]):
    """Log-likelihood, its slope by what was expected, and the information about that."""
    assert each.value is not None
    known = ~jnp.isnan(each.value)[None]
    score = jax.grad(lambda of: _observation_log_likelihood(each, of).sum())(seen)
    return _observation_log_likelihood(each, seen), score, jnp.where(known, jax.vmap(each.noise.information)(seen), 0)
