"""A moment: a cohort on the fast clock, from milliseconds to minutes."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer

from ...kernels import Integration, Maximum, Mean, MeasuredStatistic, Plan, entry_point, grad_by_forward_mode, integrate
from ..data.describe import are_arrays, describe, describe_html, missing_name, preformatted_html
from ..model import dopamine as da
from ..model import lateral_habenula as lhb
from ..model import parameters
from ..model.fast_clock import (
    EVENT_KINDS,
    FAST_STEP,
    FastInputs,
    FastState,
    momentary_conditions,
    reward_current,
    step_fast_clock,
)
from ..model.lhb_population import make_population_plan
from ..model.transfer_function import TransferFunction, evaluate_transfer
from .cohort import Cohort
from .course import load_transfer_function

RecordArray = Float[Array, "subject saved"]
MOMENT_QUANTITIES = ("habenula", "rmtg", "active", "rate", "vta_output", "dopamine")
MOMENT_NOISE_STREAM = 0x6D6F6D74  # tells the noise of moments from that of courses
MAX_SECONDS = 600.0  # s


class Event(eqx.Module):
    """Something that happens to subjects at a time: a step of `size` from `at` for `lasts`, which then fades.

    Attributes:
        kind: "current" (uA/cm2 into LHb neurons), "reward" (prediction error) or "aversive" (1 a strong air puff).
        at: ms.
        lasts: ms.
        size: one value, or one per subject.
        fades: ms, over which it goes back to 0 along a line; at once by default. LHb neurons that are let go from inhibition
            at once burst together.
    """

    kind: str = eqx.field(static=True)
    at: Float[Array, "*subject"]
    lasts: Float[Array, "*subject"]
    size: Float[Array, "*subject"]
    fades: Float[Array, "*subject"]

    def __init__(self, kind: str, at: Any, lasts: Any, size: Any = 1.0, fades: Any = 0.0):
        """Raises ValueError for an unknown kind."""
        if kind not in EVENT_KINDS:
            raise ValueError(f"event kind {kind!r} is none of {EVENT_KINDS}.")
        number = lambda value: jnp.asarray(value, jnp.result_type(float))
        self.kind, self.at, self.lasts, self.size, self.fades = kind, *map(number, (at, lasts, size, fades))

    def now(self, t: Float[Array, ""]) -> Float[Array, "*subject"]:
        """Its size at time `t` (ms), 0 before and after; edges are rounded over a step, for gradients in time."""
        edge = lambda since, over: jnp.clip((since + FAST_STEP / 2) / (over + FAST_STEP), 0, 1)
        return self.size * (edge(t - self.at, 0.0) - edge(t - self.at - self.lasts, self.fades))


class Moment(eqx.Module):
    """What a cohort did on the fast clock.

    Attributes:
        t: ms, time of each record.
        record: by name, (subject, saved): habenula S, rmtg, active (share), rate, vta_output (Hz), dopamine (uM).
        mean: by the same names, (subject,): average over every step.
        modes: firing modes of each subject's LHb neurons over the whole moment.
        finite: (subject,), False where numbers went bad.
    """

    t: Float[Array, " saved"]
    record: dict[str, RecordArray]
    mean: dict[str, Float[Array, " subject"]]
    modes: lhb.FiringModes
    finite: Array

    def __getitem__(self, name: str) -> RecordArray:
        if name not in self.record:
            raise missing_name(name, self.record)
        return self.record[name]

    def __repr__(self) -> str:
        """Subjects, length, means and firing modes, in at most 12 lines."""
        return describe(*self._summary()) if are_arrays(self.t, self.finite) else super().__repr__()

    def _repr_html_(self) -> str:
        return describe_html(*self._summary()) if are_arrays(self.t, self.finite) else preformatted_html(repr(self))

    def _summary(self) -> tuple[str, list[tuple[str, object]]]:
        """Title and rows of the summary."""
        modes = ", ".join(
            f"{name} {float(np.mean(getattr(self.modes, name))):.2f}" for name in ("silent", "tonic", "bursting")
        )
        rows: list[tuple[str, object]] = [
            (name, f"mean {float(np.nanmean(values)):.4g}") for name, values in self.mean.items()
        ]
        lost = int((~np.asarray(self.finite)).sum())
        rows += [("LHb neurons", modes), ("non-finite", f"{lost} subjects" if lost else "none")]
        return f"Moment of {len(self.finite)} subjects, {len(self.t)} records", rows


def moment(
    cohort: Cohort,
    seconds: float,
    *,
    events: Sequence[Event] = (),
    inputs: Callable[[Float[Array, ""]], dict[str, ArrayLike]] | None = None,
    neurons: int = 32,
    save_every: int = 4,
    record: Sequence[str] = MOMENT_QUANTITIES,
    settle: float = 1.0,
    plan: Plan | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Moment:
    """Simulate `cohort` on the fast clock for `seconds`, in its present slow state.

    The slow state stands still. The RMTg's average over the past half hour is the one of a course at this state: a second
    of a few dozen neurons could not tell it, least of all the second after a start from rest, when all burst together.

    Args:
        cohort: from `draw`, or the `cohort` of a course.
        seconds: s, observed.
        events: steps of current, reward or aversive input.
        inputs: further input as a pure function of time (ms) that returns any of "current", "reward" and "aversive".
        neurons: LHb neurons per subject.
        save_every: steps of 0.25 ms between records.
        record: names from `MOMENT_QUANTITIES`; () keeps means and firing modes alone, in memory that does not grow with time.
        settle: s before time 0, not recorded.
        plan: how to use the hardware.
        progress: called with the numbers of tiles of subjects that are done and in all.

    Raises:
        ValueError: no subjects, impossible lengths, unknown names in `record`, or records that do not divide the time.
    """
    if unknown := set(record) - set(MOMENT_QUANTITIES):
        raise ValueError(f"cannot record {sorted(unknown)}; choose from {sorted(MOMENT_QUANTITIES)}.")
    if not len(cohort) or neurons < 1:
        raise ValueError(f"{len(cohort)} subjects of {neurons} neurons; there must be at least one of each.")
    if not 0 < seconds <= MAX_SECONDS or settle <= 0:
        raise ValueError(f"{seconds=} must lie above 0 and up to {MAX_SECONDS:g}, {settle=} above 0.")
    steps = round(seconds * 1000 / FAST_STEP)
    if save_every < 1 or steps % save_every:
        raise ValueError(
            f"{seconds=} is {steps} steps of {FAST_STEP} ms, which do not divide into records every {save_every=}."
        )
    plan = make_population_plan(neurons) if plan is None else plan
    quiet = round(settle * 1000 / FAST_STEP / 32) * 32
    found = _run_moment(
        cohort,
        tuple(events),
        load_transfer_function(cohort.parameters),
        steps,
        quiet,
        neurons,
        save_every if record else steps,
        tuple(record),
        inputs,
        plan,
        progress,
    )
    seen = found.statistics
    modes = lhb.classify_modes(
        seen["cell_rate"], seen["cell_peak"], seen["cell_onset"] * 1000 / FAST_STEP, seen["cell_potential"]
    )
    saves = steps // save_every if record else 0
    return Moment(
        t=jnp.asarray(FAST_STEP * save_every * np.arange(1, saves + 1), jnp.result_type(float)),
        record={name: jnp.moveaxis(value, 0, -1) for name, value in found.samples.items()},
        mean={name: seen[name] for name in MOMENT_QUANTITIES},
        modes=modes,
        finite=found.nonfinite_at < 0,
    )


@entry_point
def _run_moment(cohort, events, transfer, steps, quiet, neurons, save_every, record, inputs, plan, progress):
    """The run itself: a quiet lead, then the moment. As kernels, they have one derivative."""
    cellwise = {
        "cell_rate": (Mean(), lambda _, out: out[1]),
        "cell_peak": (Maximum(), lambda _, out: out[1]),
        "cell_onset": (Mean(), lambda _, out: out[2]),
        "cell_potential": (Mean(), lambda state, _: state.neurons.potential),
    }

    def lived(shared, own):
        (cohort, events), transfer = eqx.combine(shared[0], own), shared[1]
        return advance_moment(
            cohort,
            settle_fast_state(cohort, transfer, neurons, quiet, plan),
            events,
            inputs,
            neurons=neurons,
            origin=quiet,
            start=quiet,
            steps=steps,
            save_every=save_every,
            sample=lambda _, out: {name: getattr(out[0], name) for name in record},
            statistics=mean_statistics(MOMENT_QUANTITIES) | cellwise,
            plan=plan,
            progress=progress,
        )

    own, shared = eqx.partition((cohort, events), lambda leaf: leaf.ndim > 0)
    run = grad_by_forward_mode(lived) if plan.backend == "fused" else lived
    return run((shared, transfer), own)


def settle_fast_state(cohort: Cohort, transfer: TransferFunction, neurons: int, quiet: int, plan: Plan) -> FastState:
    """The cohort after `quiet` steps from rest, in which nothing happens; its life begins at step `quiet`.

    Downstream begins settled under the habenular output that the transfer function expects.
    """
    p = cohort.parameters
    cells = lhb.heterogeneity_quadrature(p.neuron, neurons)
    stage = momentary_conditions(cohort.state, _inputs_at((), None, jnp.asarray(0.0)), p, 0.0)
    output = evaluate_transfer(transfer, stage).output
    rest = FastState(
        lhb.resting_neuron_state(p.neuron, cells, stage),
        da.resting_dopamine_state(output, jnp.zeros_like(output), p.dopamine),
    )
    return advance_moment(cohort, rest, (), None, neurons=neurons, origin=0, start=0, steps=quiet, plan=plan).state


def advance_moment(
    cohort: Cohort,
    state: FastState,
    events: Sequence[Event],
    inputs: Callable | None,
    *,
    neurons: int,
    origin: Integer[ArrayLike, ""],
    **options: Any,
) -> Integration:
    """Let `cohort` live on from `state` under events whose time 0 is step `origin`; `options` are those of `integrate`.

    A step puts out what is seen of it, the neurons' rates, and which of them begin a burst.
    """
    p = cohort.parameters
    cells = lhb.heterogeneity_quadrature(p.neuron, neurons)
    personal = jax.tree.map(lambda leaf: leaf.ndim > 0, tuple(events))
    event_own, event_shared = eqx.partition(tuple(events), personal)
    own = (parameters.per_subject_parameters(p), cohort.state, event_own)
    shared = (parameters.common_parameters(p), cells, event_shared, jnp.asarray(origin, jnp.int32))
    reward = reward_current()

    def advance(state, shared, own, _, z, j):
        p, slow = eqx.combine(shared[0], own[0]), own[1]
        t = (j - shared[3]).astype(jnp.result_type(float)) * FAST_STEP
        now = _inputs_at(eqx.combine(shared[2], own[2]), inputs, t)
        after, seen = step_fast_clock(state, slow, now, z, p, shared[1], reward)
        rates = after.neurons.rate
        onset = (rates > lhb.BURST_ONSET_RATE) & (state.neurons.rate <= lhb.BURST_ONSET_RATE)
        return after, (seen, rates, onset.astype(rates.dtype))

    return integrate(
        advance,
        state,
        shared=shared,
        per_subject=own,
        seed=cohort.seed ^ jnp.uint32(MOMENT_NOISE_STREAM),
        subjects=cohort.subject,
        channels=neurons,
        **options,
    )


def mean_statistics(names: Sequence[str]) -> dict[str, MeasuredStatistic]:
    """Statistics of `advance_moment`: the mean over its steps of each quantity."""
    return {name: (Mean(), lambda _, out, name=name: getattr(out[0], name)) for name in names}


def _inputs_at(events: Sequence[Event], inputs: Callable | None, t: Float[Array, ""]) -> FastInputs:
    """All that happens at time `t` (ms)."""
    now: dict[str, Any] = {kind: jnp.zeros_like(t) for kind in EVENT_KINDS}
    for event in events:
        now[event.kind] = now[event.kind] + event.now(t)
    if inputs is not None:
        for kind, value in inputs(t).items():
            now[kind] = now[kind] + value
    return FastInputs(**now)


# A synchronous volley: every LHb neuron fires once or twice.
VOLLEY_ONSET, VOLLEY_DURATION, VOLLEY_SIZE = 500.0, 5.0, 6.0  # ms, ms, uA/cm2
SILENT_SHARE = 0.1  # share of its baseline rate below which a cell counts as silent


def synchronous_volley() -> Event:
    """A current that drives every LHb neuron to one or two spikes."""
    return Event("current", at=VOLLEY_ONSET, lasts=VOLLEY_DURATION, size=VOLLEY_SIZE)


def pause_after_volley(seen: Moment, at: float = VOLLEY_ONSET) -> tuple[np.ndarray, np.ndarray]:
    """Length (ms) of the pause in dopamine firing after `at` (ms), and the share of the rate lost at its deepest.

    The pause lasts from the volley until the rate is back above a tenth of its baseline for the first time.
    """
    t, rate = np.asarray(seen.t), np.asarray(seen["rate"])
    baseline = rate[:, (t > at - 250) & (t <= at)].mean(axis=1, keepdims=True)
    after = t > at + VOLLEY_DURATION
    silent = rate[:, after] < SILENT_SHARE * baseline
    length = np.where(silent.all(axis=1), silent.shape[1], np.argmin(silent, axis=1)) * (t[1] - t[0])
    return length + VOLLEY_DURATION * (length > 0), 1 - rate[:, after].min(axis=1) / baseline[:, 0]
