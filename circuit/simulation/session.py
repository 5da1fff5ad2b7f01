"""A session: a cohort lives many conditioning trials on the fast clock, and learns.

    from the learnt values, the prediction errors of the trial -> into the habenula at the cue and at the outcome
    -> habenula, RMTg, dopamine, by the quarter of a millisecond -> the values after the trial

A trial is a stretch of the one fast clock (`moment.advance_moment`), from the state in which the trial before left
the circuit. At
the cue and at the outcome the habenula gets the negative of the error, which holds and then fades; an air puff is felt
besides, as aversive input, whether it was expected or not. The slow state stands still, for a session takes minutes. Errors
fade because neurons that a reward has silenced, let go at once, would burst together and pause dopamine as if the reward
had been taken away.

What teaches is the subject's own error, not the dopamine that the circuit makes of it. In this circuit dopamine rises by
disinhibition alone: an error of +1 raises the firing of healthy dopamine neurons by 0.2 Hz, for then their habenula is silent,
an error of -1 lowers it by 0.8 Hz, and in depression, where there is a gate to lift, +1 raises it by 2.4 Hz. Learning from
that would unlearn far faster than it learns in health, and not settle in depression; the excitation that dopamine neurons
get from elsewhere, which a lesion of the habenula leaves (Tian & Uchida 2015), is not modelled.

Memory grows with subjects times trials (three windows a trial) and with subjects times bins, never with steps: what is
kept of the course within a trial is an average over trials of a kind.
"""

import dataclasses
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ...kernels import Plan, entry_point
from ..behaviour.conditioning import PavlovianTask, Trials, schedule_trials
from ..behaviour.td_learning import (
    Learner,
    LearningHistory,
    check_learner,
    initial_values,
    prediction_errors,
    shift_prior_by_mood,
    update_values,
)
from ..data import constants
from ..model.fast_clock import FAST_STEP, FastState
from ..model.lhb_population import make_population_plan
from ..model.transfer_function import TransferFunction
from .cohort import Cohort
from .course import load_transfer_function
from .moment import MOMENT_QUANTITIES, Event, advance_moment, mean_statistics, settle_fast_state

BIN_WIDTH = 40.0  # ms, of the histograms; windows and times are whole bins
OUTCOME_NAMES = ("nothing", "reward", "puff")  # a puff counts as one whatever else comes
TrialMeans = dict[str, Float[Array, "subject trial"]]


@dataclasses.dataclass(frozen=True)
class Timing:
    """When things happen in a trial, ms; all whole bins of 40 ms.

    Attributes:
        cue: from the beginning of the trial to its cue.
        delay: from the cue to the outcome.
        after: from the outcome to the end.
        holds: for how long an air puff lasts, and a prediction error at full size.
        fades: over which the error then goes.
        window: over which responses are averaged.
    """

    cue: float
    delay: float
    after: float
    holds: float
    fades: float
    window: float

    def __post_init__(self):
        for name, value in vars(self).items():
            if value <= 0 or value % BIN_WIDTH:
                raise ValueError(f"{name}={value:g} ms must be above 0 and whole bins of {BIN_WIDTH:g} ms.")
        if self.window > (least := min(self.cue, self.delay, self.after)):
            raise ValueError(
                f"window={self.window:g} ms does not fit into the shortest part of the trial, {least:g} ms."
            )
        error = self.holds + self.fades
        if error > (least := min(self.delay, self.after)):
            raise ValueError(f"errors of {error:g} ms do not end before the next event, {least:g} ms on.")

    @property
    def bins(self) -> int:
        """Bins in a trial."""
        return round((self.cue + self.delay + self.after) / BIN_WIDTH)


class Session(eqx.Module):
    """What a cohort did in a session. Quantities are those of a moment, and their units.

    Attributes:
        t: ms from the cue, middle of each bin of the histograms.
        trials: cues and outcomes.
        learnt: expectations and prediction errors.
        before, cue, outcome: by quantity, mean over a window before the cue, after it, and after the outcome.
        histogram: by quantity, mean over the trials of a kind in each part of the session; NaN where there were none. A
            kind is a cue and what came of it, (subject, part, cue, outcome, bin), outcomes as in `OUTCOME_NAMES`.
        count: trials of each kind in each part.
        finite: False where numbers went bad.
    """

    t: Float[Array, " bin"]
    trials: Trials
    learnt: LearningHistory
    before: TrialMeans
    cue: TrialMeans
    outcome: TrialMeans
    histogram: dict[str, Float[Array, "subject part cue outcome bin"]]
    count: Int[Array, "subject part cue outcome"]
    finite: Bool[Array, " subject"]


def default_timing() -> Timing:
    """The times of the package's table (section `pavlovian.*`)."""
    return Timing(**constants.section_values("pavlovian"))


def session(
    cohort: Cohort,
    task: PavlovianTask,
    trials: int,
    *,
    learner: Learner | None = None,
    when: Timing | None = None,
    parts: int = 1,
    record: Sequence[str] = ("habenula", "rate"),
    neurons: int = 32,
    settle: float = 1.0,
    plan: Plan | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Session:
    """Let `cohort` live `trials` of `task` on the fast clock, in its present slow state, and learn from them.

    A subject's cues, outcomes and noise follow from the cohort's seed and the subject's number. Differentiable in every
    floating leaf of `cohort` and `learner`.

    Args:
        cohort: from `draw`, or the `cohort` of a course. Its mood moves the prior of what it expects.
        task: from `pavlovian`.
        trials: how many.
        learner: how they learn; the package's by default.
        when: times within a trial; the package's by default (`default_timing`).
        parts: into how many equal parts of the session the histograms are divided.
        record: names from `moment.QUANTITIES`.
        neurons: LHb neurons per subject.
        settle: s before the first trial.
        plan: how to use the hardware.
        progress: called with the numbers of trials done and in all.

    Raises:
        ValueError: no subjects, neurons or trials, parts that do not divide the trials, unknown names in `record`, a
            learner or a task of another number of subjects.
    """
    if unknown := set(record) - set(MOMENT_QUANTITIES):
        raise ValueError(f"cannot record {sorted(unknown)}; choose from {sorted(MOMENT_QUANTITIES)}.")
    if not record or not len(cohort) or neurons < 1 or settle <= 0:
        raise ValueError(
            f"{len(cohort)} subjects of {neurons} neurons, {settle=}, {record=}: there must be at least one of each."
        )
    if trials < 1 or parts < 1 or trials % parts:
        raise ValueError(f"{trials=} must be at least 1, and divide into {parts=}.")
    how = shift_prior_by_mood(check_learner(learner, len(cohort)), cohort.state.mood)
    shown = schedule_trials(task, trials, cohort.subject, cohort.seed)
    when = default_timing() if when is None else when
    plan = make_population_plan(neurons) if plan is None else plan
    quiet = round(settle * 1000 / FAST_STEP / 32) * 32
    cues, names = task.probability.shape[0], tuple(dict.fromkeys(record))
    found = _run_session(
        cohort,
        shown,
        how,
        load_transfer_function(cohort.parameters),
        cues,
        when,
        parts,
        names,
        neurons,
        quiet,
        plan,
        progress,
    )
    t = jnp.asarray(BIN_WIDTH * (np.arange(when.bins) + 0.5) - when.cue, jnp.result_type(float))
    return Session(t, shown, *found)


@entry_point
def _run_session(
    cohort: Cohort,
    shown: Trials,
    how: Learner,
    transfer: TransferFunction,
    cues: int,
    when: Timing,
    parts: int,
    record: tuple[str, ...],
    neurons: int,
    quiet: int,
    plan: Plan,
    progress: Callable | None,
):
    """The run itself: a quiet lead, then trial by trial, bin by bin. Within the scans lanes are last."""
    subjects, trials = shown.cue.shape
    per_bin = round(BIN_WIDTH / FAST_STEP)
    outcome_at = when.cue + when.delay
    windows = {"before": when.cue - when.window, "cue": when.cue, "outcome": outcome_at}

    def trial(carry, now):
        fast, values, bad, totals, count = carry
        number, cue, reward, puff = now
        errors = prediction_errors(values, cue, reward, puff, how)
        events = (
            Event("reward", when.cue, when.holds, errors.cue, when.fades),
            Event("reward", outcome_at, when.holds, errors.outcome, when.fades),
            Event("aversive", outcome_at, when.holds, puff),
        )
        origin = quiet + number * per_bin * when.bins

        def one_bin(carry, i):
            fast, bad = carry
            found = advance_moment(
                cohort,
                fast,
                events,
                None,
                neurons=neurons,
                origin=origin,
                start=origin + i * per_bin,
                steps=per_bin,
                statistics=mean_statistics(record),
                plan=plan,
            )
            return (found.state, bad | (found.nonfinite_at >= 0)), found.statistics

        (fast, bad), seen = jax.lax.scan(one_bin, (fast, bad), jnp.arange(when.bins, dtype=jnp.int32))
        kind = _trial_kind(cue, reward, puff, cues, number * parts // trials, parts, fast.dopamine.dopamine.dtype)
        totals = {name: totals[name] + kind[:, None] * seen[name][None] for name in record}
        window = {
            name: {
                q: seen[q][round(begin / BIN_WIDTH) : round((begin + when.window) / BIN_WIDTH)].mean(axis=0)
                for q in record
            }
            for name, begin in windows.items()
        }
        if progress is not None:
            _report_trial(progress, number, trials, fast)
        onward = (fast, update_values(values, cue, errors, how), bad, totals, count + kind)
        return onward, ((values.context, errors.value, errors.cue, errors.outcome), window)

    begin = settle_fast_state(cohort, transfer, neurons, quiet, plan)
    dtype = begin.dopamine.dopamine.dtype
    kinds = parts * cues * len(OUTCOME_NAMES)
    start = (
        begin,
        initial_values(subjects, cues, how),
        jnp.zeros(subjects, bool),
        {name: jnp.zeros((kinds, when.bins, subjects), dtype) for name in record},
        jnp.zeros((kinds, subjects), dtype),
    )
    each = (jnp.arange(trials, dtype=jnp.int32), *jax.tree.map(jnp.transpose, (shown.cue, shown.reward, shown.puff)))
    (_, values, bad, totals, count), (learnt, window) = jax.lax.scan(trial, start, each)
    shape = (parts, cues, len(OUTCOME_NAMES))
    histogram = {
        name: jnp.moveaxis(total / count[:, None], -1, 0).reshape(subjects, *shape, when.bins)
        for name, total in totals.items()
    }
    around = [{name: window[at][name].T for name in record} for at in windows]
    counted = jnp.moveaxis(count, -1, 0).reshape(subjects, *shape).astype(jnp.int32)
    return LearningHistory(*(value.T for value in learnt), last=values), *around, histogram, counted, ~bad


def _report_trial(progress: Callable, number: Int[Array, ""], trials: int, state: FastState) -> None:
    """Say how many trials are done, once there is a state after this one."""
    done = state.dopamine.dopamine[0]
    jax.debug.callback(lambda number, _: progress(int(number) + 1, trials), number, done)


def _trial_kind(cue, reward, puff, cues: int, part, parts: int, dtype) -> Float[Array, "kind subject"]:
    """1 for the kind of this trial: its part of the session, its cue, and what came of it."""
    outcome = jnp.where(puff > 0, 2, jnp.where(reward > 0, 1, 0))
    own = (part * cues + cue) * len(OUTCOME_NAMES) + outcome
    number = jnp.arange(parts * cues * len(OUTCOME_NAMES), dtype=own.dtype)
    return (number[:, None] == own[None]).astype(dtype)
