"""The course of a cohort: weeks of treatment on the slow clock, by steps of one hour."""

import warnings
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from ...kernels import Plan, entry_point, integrate
from ..data.describe import are_arrays, describe, describe_html, missing_name, preformatted_html
from ..model import dopamine, lateral_habenula, lhb_population, motivation, parameters
from ..model.interventions import Arm, Intervention, as_arm, compute_arm_inputs, per_subject_mask
from ..model.parameters import Parameters
from ..model.slow_clock import (
    DEFAULT_PLAN,
    SLOW_STEP,
    SlowActivity,
    SlowInputs,
    SlowState,
    circuit_activity,
    step_slow_clock,
    zero_if_none,
)
from ..model.transfer_function import TransferFunction, read_transfer_function
from . import validation
from .cohort import Cohort

RecordArray = Float[Array, "subject saved"]

# What a course can record: name, and how it follows from the state after an hour, the hour's activity and its inputs.
COURSE_QUANTITIES: dict[str, Callable[[SlowState, SlowActivity, Array, Parameters], Array]] = {
    "vta_output": lambda state, seen, serotonin, p: seen.output,
    "active": lambda state, seen, serotonin, p: seen.number,
    "rate": lambda state, seen, serotonin, p: seen.rate,
    "dopamine": lambda state, seen, serotonin, p: seen.dopamine,
    "drive": lambda state, seen, serotonin, p: motivation.motivational_drive(
        seen.output / p.motivation.reference_output, seen.dopamine, p.motivation
    ),
    "liking": lambda state, seen, serotonin, p: motivation.liking(serotonin, p.motivation),
    "mood": lambda state, seen, serotonin, p: state.mood,
    "burst": lambda state, seen, serotonin, p: seen.bursting,
    "habenula": lambda state, seen, serotonin, p: seen.habenula,
    "rmtg": lambda state, seen, serotonin, p: seen.rmtg,
    "excitation": lambda state, seen, serotonin, p: seen.excitation,
    "open_share": lambda state, seen, serotonin, p: seen.open_share,
    "gain": lambda state, seen, serotonin, p: state.gain,
    "release": lambda state, seen, serotonin, p: state.release,
    "inhibition": lambda state, seen, serotonin, p: state.inhibition,
    "kir_shift": lambda state, seen, serotonin, p: state.kir_shift,
    "control": lambda state, seen, serotonin, p: state.control,
    "block": lambda state, seen, serotonin, p: state.block,
}
DEFAULT_RECORD = ("vta_output", "active", "rate", "dopamine", "drive", "liking", "mood", "burst", "habenula", "block")


class CourseFailure(eqx.Module):
    """Where a subject's numbers stopped being finite.

    Attributes:
        subject: its number in the cohort's `subject`.
        day: of the course, at the end of the first non-finite hour.
        quantity: the first slow state that became non-finite.
    """

    subject: int = eqx.field(static=True)
    day: float = eqx.field(static=True)
    quantity: str = eqx.field(static=True)


class Course(eqx.Module):
    """The recorded course of a cohort, and the cohort at its end.

    Attributes:
        day: when each record was made, at the end of an hour.
        record: by name (see `COURSE_QUANTITIES`), (subject, saved).
        cohort: the subjects as they are at the end.
        failures: subjects whose numbers stopped being finite; the others are unaffected.
        discrepancy: with `verify`, by quantity, what the fast clock gave less what the transfer function said.
    """

    day: Float[Array, " saved"]
    record: dict[str, RecordArray]
    cohort: Cohort
    failures: tuple[CourseFailure, ...] = ()
    discrepancy: dict[str, Float[Array, " sampled"]] | None = None

    def __getitem__(self, name: str) -> RecordArray:
        if name not in self.record:
            raise missing_name(name, self.record)
        return self.record[name]

    def __repr__(self) -> str:
        """Subjects, days, quantities and failures, in at most 12 lines."""
        if not self._has_arrays():  # a tree of shapes, specs or gradients that JAX prints in an error
            return super().__repr__()
        return describe(*self._summary())

    def _repr_html_(self) -> str:
        return describe_html(*self._summary()) if self._has_arrays() else preformatted_html(repr(self))

    def _has_arrays(self) -> bool:
        return are_arrays(self.day, self.cohort.subject if isinstance(self.cohort, Cohort) else None)

    def _summary(self) -> tuple[str, list[tuple[str, object]]]:
        """Title and rows of the summary."""
        title = f"Course of {len(self.cohort)} subjects"
        if self.day.size:
            title += f", day {float(self.day[0]):.4g} to {float(self.day[-1]):.4g}, {self.day.size} records"
        failures = [f"subject {f.subject} on day {f.day:.4g} ({f.quantity})" for f in self.failures[:3]]
        rows: list[tuple[str, object]] = [("quantities", ", ".join(self.record))]
        rows.append(("failures", f"{len(self.failures)}: {'; '.join(failures)}" if failures else "none"))
        return title, rows


def course(
    cohort: Cohort,
    arm: Arm | Intervention | Sequence = (),
    days: float = 84.0,
    *,
    start: float = 0.0,
    save_every: int = 4,
    record: Sequence[str] = DEFAULT_RECORD,
    verify: int = 0,
    plan: Plan = DEFAULT_PLAN,
    progress: Callable[[int, int], None] | None = None,
) -> Course:
    """Simulate `cohort` for `days` under the interventions of `arm`, by steps of one hour.

    Differentiable, forwards and in reverse, in every floating leaf of `cohort` and `arm`. Two arms given to one cohort see
    the same noise. A course may be resumed: `course(first.cohort, arm, days, start=...)` continues it bit for bit.

    Args:
        cohort: from `draw`, or the `cohort` of another course.
        arm: an intervention, or several; their times are in days of the course's clock.
        days: how long.
        start: day on the course's clock at which this part begins.
        save_every: h between records.
        record: names from `COURSE_QUANTITIES`.
        verify: subject-hours to simulate again on the fast clock, as an error bar of the transfer function.
        plan: how to use the hardware.
        progress: called with the numbers of tiles of subjects that are done and in all.

    Raises:
        TypeError, ValueError: see `validation.check_course`; unknown names in `record`.
    """
    arm = as_arm(arm)
    if unknown := set(record) - set(COURSE_QUANTITIES):
        raise ValueError(f"cannot record {sorted(unknown)}; choose from {sorted(COURSE_QUANTITIES)}.")
    validation.check_course(cohort, arm, days, start, save_every)
    p = cohort.parameters
    needed = tuple(dict.fromkeys((*record, *(_VERIFIED_QUANTITIES if verify else ()))))
    steps, first = round(days * 24), round(start * 24)
    found = _run_course(
        cohort, arm, load_transfer_function(p), jnp.int32(first), steps, save_every, needed, plan, progress
    )
    day = jnp.asarray((first + save_every * np.arange(1, steps // save_every + 1)) / 24, jnp.result_type(float))
    after = eqx.tree_at(lambda c: c.state, cohort, found.state)
    samples = {name: jnp.moveaxis(value, 0, -1) for name, value in found.samples.items()}
    failures = (
        () if isinstance(found.nonfinite_at, Tracer) else _find_failures(cohort, arm, found.nonfinite_at, first, plan)
    )
    result = Course(day, {name: samples[name] for name in record}, after, failures)
    if verify:
        result = eqx.tree_at(
            lambda c: c.discrepancy, result, _verify_on_fast_clock(cohort, samples, verify), is_leaf=lambda x: x is None
        )
    return result


def observe_cohort(cohort: Cohort, record: Sequence[str] = DEFAULT_RECORD) -> dict[str, Float[Array, " subject"]]:
    """What a cohort shows in its present state, before anything more is done to it; names as in `course`."""
    p, inputs = cohort.parameters, SlowInputs()
    seen = circuit_activity(cohort.state, inputs, jnp.asarray(0.0), p, load_transfer_function(p))
    return {name: COURSE_QUANTITIES[name](cohort.state, seen, jnp.zeros(len(cohort)), p) for name in record}


def load_transfer_function(p: Parameters) -> TransferFunction:
    """The transfer function of the neuron in `p`; under a derivative by the neuron's constants there is none."""
    return read_transfer_function(p.neuron)


@entry_point
def _run_course(cohort, arm, transfer, first, steps, save_every, record, plan, progress):
    """The run itself; see `course`. Records have lanes last."""
    p = cohort.parameters
    arm_own, arm_shared = eqx.partition(arm, per_subject_mask(arm))
    own = (parameters.per_subject_parameters(p), arm_own)
    shared = (parameters.common_parameters(p), arm_shared, transfer, first)

    def both(shared, own):
        return eqx.combine(shared[0], own[0]), eqx.combine(shared[1], own[1])

    def prepare(shared, own):
        p, arm = both(shared, own)
        times = (shared[3] + jnp.arange(steps, dtype=jnp.int32)).astype(jnp.result_type(float))
        return compute_arm_inputs(arm, times * SLOW_STEP, SLOW_STEP, p)

    def advance(state, shared, own, inputs, z, j):
        p, _ = both(shared, own)
        after, seen = step_slow_clock(state, inputs, z[0], p, shared[2])
        serotonin = motivation.serotonergic_effect(zero_if_none(inputs.sert), after.adaptation)
        return after, {name: COURSE_QUANTITIES[name](after, seen, serotonin, p) for name in record}

    return integrate(
        advance,
        cohort.state,
        steps=steps,
        start=first,
        shared=shared,
        per_subject=own,
        prepare=prepare,
        seed=cohort.seed,
        subjects=cohort.subject,
        channels=1,
        save_every=save_every,
        sample=lambda state, seen: seen,
        plan=plan,
        progress=progress,
    )


def _find_failures(
    cohort: Cohort, arm: Arm, bad: Int[Array, " subject"], first: int, plan: Plan
) -> tuple[CourseFailure, ...]:
    """Find the hour and the quantity at which each subject became non-finite, by simulating it again hour by hour."""
    found = []
    for index in np.flatnonzero(np.asarray(bad) >= 0):
        alone, its_arm = (
            cohort[int(index)],
            jax.tree.map(
                lambda leaf, own, i=int(index): leaf[..., i : i + 1] if own else leaf, arm, per_subject_mask(arm)
            ),
        )
        for hour in range(first, int(bad[index])):
            transfer = load_transfer_function(alone.parameters)
            after = _run_course(alone, its_arm, transfer, jnp.int32(hour), 1, 1, (), plan, None).state
            wrong = [name for name, leaf in vars(after).items() if not np.isfinite(leaf).all()]
            if wrong:
                found.append(CourseFailure(int(alone.subject[0]), (hour + 1) / 24, wrong[0]))
                break
            alone = eqx.tree_at(lambda c: c.state, alone, after)
    if found:
        worst = found[0]
        warnings.warn(
            f"{len(found)} of {len(cohort)} subjects became non-finite; subject {worst.subject} first, in {worst.quantity} "
            f"on day {worst.day:.3f}. Replay it alone with cohort[cohort.subject == {worst.subject}]; see Course.failures.",
            RuntimeWarning,
            stacklevel=3,
        )
    return tuple(found)


_VERIFIED_QUANTITIES = ("excitation", "block", "kir_shift", "inhibition", "habenula", "burst", "active")
VERIFY_SECONDS = 10.0  # s of fast clock for each sampled subject-hour


def _verify_on_fast_clock(
    cohort: Cohort, samples: dict[str, RecordArray], count: int
) -> dict[str, Float[Array, " sampled"]]:
    """Simulate `count` recorded subject-hours on the fast clock, chosen by the cohort's seed.

    Returns log output (simulated less predicted), burst share and the number of active dopamine neurons (likewise).
    """
    subjects, saved = samples["excitation"].shape
    chosen = np.random.default_rng(int(cohort.seed)).integers(subjects * saved, size=count)
    pick = {name: jnp.asarray(np.asarray(samples[name]).reshape(-1)[chosen]) for name in _VERIFIED_QUANTITIES}
    p = parameters.select_subjects(cohort.parameters, chosen // saved)
    conditions = lateral_habenula.slice_conditions(
        count,
        excitation=pick["excitation"],
        nmda=1 - pick["block"],
        kir_shift=pick["kir_shift"],
        inhibition=p.synapses.inhibition * pick["inhibition"],
    )
    fast = lhb_population.simulate_population(
        p.neuron, conditions, seconds=VERIFY_SECONDS, subjects=jnp.arange(count, dtype=jnp.uint32)
    )
    rmtg = dopamine.rmtg_rate(fast.output, jnp.zeros_like(fast.output), p.dopamine)
    return {
        "log_habenula": jnp.log(fast.output) - jnp.log(pick["habenula"]),
        "burst": fast.modes.bursting - pick["burst"],
        "active": dopamine.active_fraction(rmtg, p.dopamine) - pick["active"],
    }
