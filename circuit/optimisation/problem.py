"""A regimen fit in numbers: `RegimenProblem`, checked and ready to be optimised."""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ...kernels import Plan
from ..fitting import regimen
from ..fitting.bijections import BOUND_MARGIN, unconstrain_tree
from ..fitting.dose_spacing import Limits
from ..fitting.regimen import RegimenLeaf, find_leaves
from ..model import interventions
from ..model.interventions import PER_DOSE_FIELDS, Arm, Intervention, as_arm
from ..simulation import validation
from ..simulation.batching import NeuronConstants, with_neuron, without_neuron
from ..simulation.cohort import Cohort
from ..simulation.conditions import as_healthy, healthy_output
from ..simulation.course import course
from .settings import Multistart, RegimenLoss, check_nonnegative, choose_fit_plan
from .target import SAVE_EVERY, Target, TargetArrays, check_cohort_criterion, relative_miss

FreeValues = tuple[Float[Array, "... start column"], ...]


class RegimenProblem(eqx.Module):
    """What `restore` and `pareto` minimise, in numbers. Arrays are leaves; static fields change the compiled program.

    A column is a subject where each has a regimen of its own; otherwise there is one column.

    Attributes:
        cohort: subjects, without the constants of their neuron.
        arm: as given; doses with fitted times are in their order.
        goal: what VTA output is to do.
        shortfall: weight of the shortfall in the loss.
        burden: weight of the burden in the loss of each start.
        starts: unconstrained values of the leaves to begin with.
        target_output: Hz, a mean over the days that are judged; (column,) or one.
        untreated: output of the cohort without the arm, relative to the target; (column,).
        leaves: to be fitted.
        widest: the same leaves with the intervention's own bounds, the widest that can be asked for. Limits hold.
        neuron: constants of the LHb neuron, see `batching`.
        days: length of the course.
        every: whether each day is to be at its level, see `Target`.
        over_cohort: see `target.aggregate_subjects`; None where every subject has a regimen of its own.
        plan: how to use the hardware.
    """

    cohort: Cohort
    arm: Arm
    goal: TargetArrays
    shortfall: Float[Array, ""]
    burden: Float[Array, "start 1"]
    starts: FreeValues
    target_output: Float[np.ndarray, " #column"]
    untreated: Float[np.ndarray, " subject"]
    leaves: tuple[RegimenLeaf, ...] = eqx.field(static=True)
    widest: tuple[RegimenLeaf, ...] = eqx.field(static=True)
    neuron: NeuronConstants = eqx.field(static=True)
    days: float = eqx.field(static=True)
    every: bool = eqx.field(static=True)
    over_cohort: str | float | None = eqx.field(static=True)
    plan: Plan = eqx.field(static=True)

    @property
    def personal(self) -> bool:
        """Whether every subject has a regimen of its own."""
        return self.over_cohort is None

    @property
    def subjects(self) -> Cohort:
        """The cohort as given, with the constants of its neuron."""
        return with_neuron(self.cohort, self.neuron)

    @property
    def tolerance(self) -> float:
        """Relative miss that counts as reached."""
        return float(self.goal.within)


def make_regimen_problem(
    cohort: Cohort,
    arm: Intervention | Arm,
    target: Target,
    *,
    over: Sequence[str],
    days: float,
    search: Multistart,
    loss: RegimenLoss,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    limits: Limits | Mapping[str, Limits] | None = None,
    weights: Sequence[float] | None = None,
    plan: Plan | None = None,
) -> RegimenProblem:
    """A checked `RegimenProblem`, with its starting regimens.

    Args:
        cohort: subjects as they are on day 0.
        arm: an intervention, or several.
        target: for VTA output.
        over: names of the leaves to fit, as in `restore`.
        days: length of the course.
        search: number of starts, and their seed.
        loss: weights, and how subjects are aggregated.
        bounds: by name as in `over`.
        limits: intervals, doses a week, amounts a day, as in `restore`.
        plan: how to use the hardware; chosen by the length of the work by default.
        weights: of the burden, for a front: each has `search.starts` starts, and coming within the tolerance counts no
            more than the loss says. `loss.burden` alone by default.

    Raises:
        TypeError, ValueError: as `restore`.
    """
    arm, burdens = as_arm(arm), (loss.burden,) if weights is None else tuple(weights)
    for burden in burdens:
        check_nonnegative("burden", burden)
    personal = loss.over_cohort is None
    validation.check_course(cohort, arm, days, 0.0, SAVE_EVERY)
    plan = choose_fit_plan(plan, len(cohort) * len(burdens), days, search)
    judged = target.judged(days)
    check_cohort_criterion("mean" if loss.over_cohort is None else loss.over_cohort, personal)
    leaves, widest = (_fitted_leaves(arm, over, each, limits, target, days) for each in (bounds or {}, {}))
    _check_shared_leaves(arm, leaves, personal)
    arm = regimen.sort_doses(arm, leaves)

    healthy = (
        _own_healthy_output(cohort, days, judged, plan) if personal and target.output is None else healthy_output()
    )
    within = target.within if weights is None else 0.0
    goal = TargetArrays(_as_array(target.wanted(days, healthy)), _as_array(judged * 1.0), _as_array(within))
    starts = _draw_starts(arm, leaves, search, len(cohort) if personal else 1)
    bare, neuron = without_neuron(cohort)
    return RegimenProblem(
        cohort=bare,
        arm=arm,
        goal=goal,
        shortfall=_as_array(loss.shortfall),
        burden=_as_array(np.repeat(burdens, search.starts)[:, None]),
        starts=tuple(jnp.concatenate([each] * len(burdens), axis=-2) for each in starts),
        target_output=np.asarray(goal.wanted)[:, judged].mean(axis=1),
        untreated=_untreated_output(cohort, days, goal, target.every, loss.over_cohort, plan),
        leaves=leaves,
        widest=widest,
        neuron=neuron,
        days=days,
        every=target.every,
        over_cohort=loss.over_cohort,
        plan=plan,
    )


def _fitted_leaves(
    arm: Arm,
    over: Sequence[str],
    bounds: Mapping[str, tuple[float, float]],
    limits: Limits | Mapping[str, Limits] | None,
    target: Target,
    days: float,
) -> tuple[RegimenLeaf, ...]:
    """The leaves called `over`; treatment ends with the course, or earlier where the target says so."""
    last = days if target.until is None else min(days, target.until)
    if last <= regimen.LATEST_TIME_MARGIN:
        raise ValueError(f"{target.until=} leaves no time to treat before the stress; let it begin later.")
    return find_leaves(arm, over, bounds, last, limits)


def _check_shared_leaves(arm: Arm, leaves: tuple[RegimenLeaf, ...], personal: bool) -> None:
    """Refuse to fit one regimen for all by leaves that have one value per subject."""
    per_subject = interventions.per_subject_mask(arm)
    for leaf in leaves:
        if not personal and leaf.of(per_subject):
            raise ValueError(f"{leaf.name} has one value per subject: fit it with personal=True, or give one for all.")


def _as_array(value) -> Array:
    return jnp.asarray(value, jnp.result_type(float))


def _daily_output(cohort: Cohort, days: float, plan: Plan) -> Float[np.ndarray, "subject saved"]:
    """VTA output (Hz) of an untreated cohort."""
    return np.asarray(course(cohort, (), days, save_every=SAVE_EVERY, record=("vta_output",), plan=plan)["vta_output"])


def _own_healthy_output(
    cohort: Cohort, days: float, judged: Bool[np.ndarray, " saved"], plan: Plan
) -> Float[np.ndarray, " subject"]:
    """VTA output (Hz) of each subject, had it never fallen ill; everyday fluctuations are the same."""
    output = _daily_output(as_healthy(cohort), days, plan)[:, judged].mean(axis=1)
    return np.where(np.isfinite(output), output, healthy_output())


def _untreated_output(
    cohort: Cohort, days: float, goal: TargetArrays, every: bool, over_cohort: str | float | None, plan: Plan
) -> Float[np.ndarray, " column"]:
    """Output without the arm, relative to the target, aggregated over subjects as the loss does."""
    relative = _as_array(_daily_output(cohort, days, plan)) / goal.wanted
    finite = jnp.isfinite(relative).all(axis=-1)
    relative = jnp.where(finite[:, None], relative, 1)[None]
    _, reached = relative_miss(relative, finite[None], goal, every, over_cohort)
    return np.asarray(reached)[0]


def _draw_starts(arm: Arm, leaves: tuple[RegimenLeaf, ...], search: Multistart, columns: int) -> FreeValues:
    """Free numbers of every leaf, (*dose, start, column): the arm as given, then uniform in bounds."""
    generator, values, random = np.random.default_rng(search.seed), [], search.starts - 1
    for leaf in leaves:
        given = np.asarray(leaf.of(arm))
        doses = given.shape[: leaf.field in PER_DOSE_FIELDS]
        given = np.broadcast_to(given.reshape(*doses, 1, -1), (*doses, 1, columns))
        drawn = generator.uniform(leaf.interval.low, leaf.interval.high, (*doses, random, 1))
        drawn = np.broadcast_to(drawn, (*doses, random, columns))  # a subject's fit is the same in any cohort
        values.append(jnp.asarray(np.concatenate([given, drawn], axis=-2), jnp.result_type(float)))
    return unconstrain_tree(tuple(values), tuple(leaf.interval for leaf in leaves), margin=BOUND_MARGIN)
