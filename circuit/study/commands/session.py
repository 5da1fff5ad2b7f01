"""What `habenula session` does: the same people, in health and in depression, learn what cues predict.

Both live the same trials with the same noise. A response is the mean over the 400 ms from an event on less that over the
400 ms before the cue, in the second half of the session; of each subject a mean over trials, and of these a mean with its
95 % interval. Subjects who never met an event there do not count for it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from rich.text import Text

from ...behaviour.conditioning import pavlovian
from ...choice_models.fit import NORMAL_95
from ...model.lhb_population import make_population_plan
from ...simulation.conditions import depressed, draw, healthy
from ...simulation.session import Session, session
from ..reporting.text_table import TableCell, TableColumn, fold_text, render_table, table_width

NEURONS_PER_SUBJECT = 32
RECORDED_QUANTITIES = ("habenula", "rate")


class CueSchedule(NamedTuple):
    """What the cues predict.

    Attributes:
        reward, puff: probability, by cue.
        flip: trials after which the cues have changed places, if ever.
    """

    reward: tuple[float, ...]
    puff: tuple[float, ...]
    flip: int | None = None


class EventResponse(NamedTuple):
    """Mean over subjects, with its 95 % interval; not a number where there were too few."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "EventResponse":
        """Of one value per subject, NaN of those who do not count."""
        known = values[np.isfinite(values)]
        mean = float(known.mean()) if len(known) else np.nan
        half = NORMAL_95 * float(known.std(ddof=1)) / len(known) ** 0.5 if len(known) > 1 else np.nan
        return cls(mean, mean - half, mean + half)


class EventSummary(NamedTuple):
    """How subjects answered an event.

    Attributes:
        cue: its number, from 1; 0 for the time before any cue, where the quantities are not changes.
        event: "before", "cue", "reward", "puff", or "nothing" where something might have come.
        trials: of all subjects together.
        habenula, rate: change of LHb output, and of the firing of dopamine neurons, Hz.
        error: prediction error there, a full reward being 1.
    """

    cue: int
    event: str
    trials: int
    habenula: EventResponse
    rate: EventResponse
    error: EventResponse


class GroupSummary(NamedTuple):
    """One kind of subjects.

    Attributes:
        seen: by event.
        worth: of each cue, as learnt by the end.
        lost: numbers of subjects who were not finite, and are left out.
    """

    seen: tuple[EventSummary, ...]
    worth: tuple[EventResponse, ...]
    lost: tuple[int, ...]


class SessionReport(NamedTuple):
    """What the command shows."""

    subjects: int
    trials: int
    seed: int
    task: CueSchedule
    groups: dict[str, GroupSummary]


def check_schedule(task: CueSchedule, trials: int) -> None:
    """Refuse an experiment whose second half could not be told.

    Raises:
        ValueError: quoting what is wrong.
    """
    if len(task.reward) != len(task.puff):
        raise ValueError(
            f"--reward has {len(task.reward)} cues, --puff {len(task.puff)}: give a probability of each for every cue."
        )
    if trials < 2 * len(task.reward):
        raise ValueError(f"--trials {trials} show {len(task.reward)} cues less than twice: give more, or fewer cues.")
    if task.flip is not None and not 1 <= task.flip <= trials // 2:
        raise ValueError(f"--flip {task.flip} must lie in the first half of the session, from 1 to {trials // 2}.")


def run_session(
    subjects: int,
    trials: int,
    task: CueSchedule,
    seed: int = 1,
    devices: int = 1,
    report: Callable[[str, int, int], None] | None = None,
) -> SessionReport:
    """Draw, let learn, and ask.

    Args:
        subjects: of each kind.
        trials: of the session.
        task: what the cues predict.
        seed: names subjects, trials and noise.
        devices: over how many devices subjects are divided.
        report: called as `report(stage, done, total)`.

    Raises:
        ValueError: see `check_schedule`.
    """
    check_schedule(task, trials)
    say = report or (lambda stage, done, total: None)
    kinds = {"healthy": healthy(), "depressed": depressed()}
    what = pavlovian(list(task.reward), puff=list(task.puff), reversal=task.flip)
    groups = {}
    for name, condition in kinds.items():
        say("the life of subjects until now", len(groups), len(kinds))
        cohort = draw(condition, subjects, seed)
        say("the life of subjects until now", len(groups) + 1, len(kinds))
        told = partial(say, f"trials of the {name}")
        plan = make_population_plan(NEURONS_PER_SUBJECT, devices)
        found = session(
            cohort,
            what,
            trials,
            record=RECORDED_QUANTITIES,
            neurons=NEURONS_PER_SUBJECT,
            plan=plan,
            progress=told if report else None,
        )
        groups[name] = _summarise_group(found, task)
    return SessionReport(subjects, trials, seed, task, groups)


def _summarise_group(found: Session, task: CueSchedule) -> GroupSummary:
    """Responses and values of the subjects who stayed finite."""
    good = np.asarray(found.finite)
    arrays = lambda tree: {name: np.asarray(value, float)[good] for name, value in tree.items()}
    before, at_cue, after = (arrays(window) for window in (found.before, found.cue, found.outcome))
    cue, reward, puff = (np.asarray(each)[good] for each in (found.trials.cue, found.trials.reward, found.trials.puff))
    errors = {"cue": np.asarray(found.learnt.cue_error)[good], "outcome": np.asarray(found.learnt.outcome_error)[good]}
    late = np.broadcast_to(np.arange(cue.shape[1]) >= cue.shape[1] // 2, cue.shape)

    def seen(number: int, event: str, which: np.ndarray) -> EventSummary:
        window, error = (at_cue, errors["cue"]) if event == "cue" else (after, errors["outcome"])
        habenula, rate = (
            EventResponse.of(_response_over(window[name] - before[name], which)) for name in RECORDED_QUANTITIES
        )
        return EventSummary(
            number, event, int(which.sum()), habenula, rate, EventResponse.of(_response_over(error, which))
        )

    habenula, rate = (EventResponse.of(_response_over(before[name], late)) for name in RECORDED_QUANTITIES)
    rows = [EventSummary(0, "before", int(late.sum()), habenula, rate, EventResponse(np.nan, np.nan, np.nan))]
    rows += [seen(k + 1, "cue", late & (cue == k)) for k in range(len(task.reward))]
    for k in range(len(task.reward)):
        here, paid, hurt = late & (cue == k), reward > 0, puff > 0
        came = {"reward": here & paid & ~hurt, "puff": here & hurt, "nothing": here & ~paid & ~hurt}
        may_come = here.any() and (
            probability_after_flip(task.reward, task, k) > 0 or probability_after_flip(task.puff, task, k) > 0
        )
        rows += [seen(k + 1, name, which) for name, which in came.items() if which.any() and may_come]
    worth = tuple(EventResponse.of(each) for each in np.asarray(found.learnt.last.cues)[:, good])
    return GroupSummary(tuple(rows), worth, tuple(int(i) for i in np.flatnonzero(~good)))


def probability_after_flip(probability: Sequence[float], task: CueSchedule, cue: int) -> float:
    """Probability of what a cue, counted from 0, predicts in the second half of the session."""
    return probability[cue] if task.flip is None else probability[len(probability) - 1 - cue]


def _response_over(values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Each subject's mean over those trials; NaN without any."""
    count = which.sum(axis=1)
    return np.where(count > 0, np.where(which, values, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def session_to_json(found: SessionReport) -> dict[str, Any]:
    """The result as plain numbers; see the help of the command."""
    groups = {
        name: {
            "events": [
                {"cue": seen.cue or None, "event": seen.event, "trials": seen.trials}
                | {of: getattr(seen, of)._asdict() for of in ("habenula", "rate", "error")}
                for seen in group.seen
            ],
            "worth": [each._asdict() for each in group.worth],
            "lost": list(group.lost),
        }
        for name, group in found.groups.items()
    }
    return {name: getattr(found, name) for name in ("subjects", "trials", "seed")} | {
        "task": found.task._asdict(),
        "groups": groups,
    }


def session_table(found: SessionReport, limit: int) -> list[Text]:
    """A line for each event, the kinds side by side; where lines are too short for that, one below the other."""
    names = (
        [TableColumn("event", left=True, wraps=True)],
        [[TableCell(_event_label(seen, found.task), "bold")] for seen in _event_rows(found)],
    )
    parts = {name: _group_columns(name, found) for name in found.groups}
    together = _join_columns(names, *parts.values())
    if table_width(*together) <= limit:
        return [*render_table(*together), *session_notes(found, limit)]
    alone = [[*render_table(*_join_columns(names, part), limit), Text()] for part in parts.values()]
    return [line for each in alone for line in each] + session_notes(found, limit)


def _event_rows(found: SessionReport) -> list[EventSummary]:
    """All events that any kind of subjects met, in order; their trials are the same."""
    return list({(seen.cue, seen.event): seen for group in found.groups.values() for seen in group.seen}.values())


def _join_columns(
    *parts: tuple[list[TableColumn], list[list[TableCell]]],
) -> tuple[list[TableColumn], list[list[TableCell]]]:
    columns = [column for part, _ in parts for column in part]
    return columns, [[cell for row in rows for cell in row] for rows in zip(*(rows for _, rows in parts), strict=True)]


def _group_columns(name: str, found: SessionReport) -> tuple[list[TableColumn], list[list[TableCell]]]:
    """What one kind of subjects did at each event."""
    group, headings = found.groups[name], ("LHb, Hz", "dopamine, Hz", "error", "worth")
    of, rows = {(seen.cue, seen.event): seen for seen in group.seen}, []
    for key in ((seen.cue, seen.event) for seen in _event_rows(found)):
        if (seen := of.get(key)) is None:
            rows.append([TableCell("")] * len(headings))
            continue
        signed = seen.event != "before"
        worth = group.worth[seen.cue - 1].mean if seen.event == "cue" else np.nan
        cells = [_response_cell(each, signed) for each in (seen.habenula, seen.rate)]
        rows.append([*cells, _number_cell(seen.error.mean, "+.2f"), _number_cell(worth, ".2f")])
    return [TableColumn(heading, name) for heading in headings], rows


def _response_cell(answer: EventResponse, signed: bool) -> TableCell:
    """Mean and half its interval; bold where that leaves 0 out."""
    if not np.isfinite(answer.mean):
        return TableCell("-")
    half = "" if np.isnan(answer.high) else f"±{answer.high - answer.mean:.2f}"
    sure = signed and (answer.low > 0 or answer.high < 0)
    return TableCell(f"{answer.mean:{'+' if signed else ''}.2f}{half}", "bold" if sure else "")


def _number_cell(value: float, how: str) -> TableCell:
    return TableCell("" if np.isnan(value) else f"{round(value, 2) + 0.0:{how}}")  # never -0


def _event_label(seen: EventSummary, task: CueSchedule) -> str:
    """An event in words."""
    if seen.event == "before":
        return "before the cue"
    if seen.event != "cue":
        return f"  {seen.event} after cue {seen.cue}"
    now = (
        (name, probability_after_flip(of, task, seen.cue - 1))
        for name, of in (("reward", task.reward), ("puff", task.puff))
    )
    told = ", ".join(f"{name} {share:.0%}" for name, share in now if share > 0)
    return f"cue {seen.cue}: {told or 'nothing'}"


def session_notes(found: SessionReport, limit: int) -> list[Text]:
    """What the numbers are."""
    turned = f", after the cues had changed places at trial {found.task.flip}" if found.task.flip is not None else ""
    texts = [
        f"Second half of {found.trials} trials{turned}: mean of {found.subjects} subjects of each kind with its 95 % "
        "interval. Before the cue in Hz, then as change; LHb output counts spikes in bursts for more, "
        "dopamine is the rate of neurons that are active.",
        "error: reward prediction error; worth: of the cue, as learnt by the end; a full reward is 1.",
    ]
    for name, group in found.groups.items():
        if group.lost:
            numbers = ", ".join(str(i) for i in group.lost[:8])
            texts.append(f"{len(group.lost)} {name} subjects became non-finite and are left out: {numbers}.")
    return [line for text in texts for line in fold_text(text, limit, style="dim")]
