"""The tables that the command line prints: what a trial found, and how the model stands beside published figures."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array
from rich.console import Console
from rich.text import Text

from ...data import evidence
from ...simulation.moment import Moment
from . import labels
from .results import ArmResult, Claim, Restored, Trial
from .text_table import Cell, Column, folded, lines, show, width

PIPED = 120  # characters in a line where there is no terminal to ask
TOLERANCE = 0.1  # d: a record further from a column's day than this is not shown in its place
MARKS = {True: Cell("yes", "green"), False: Cell("NO", "bold red")}
VERDICTS = {"inside": "green", "outside": "bold red", "not modelled": "dim"}


class Visit(NamedTuple):
    """A time at which a trial is read."""

    heading: str
    day: float


VISITS = (
    Visit("week 0", 0.0),
    Visit("4 h", 4 / 24),
    Visit("day 1", 1.0),
    *(Visit(f"week {week}", 7.0 * week) for week in (1, 4, 9, 12)),
)
JUDGED = VISITS[-2]  # the last visit before stress returns
OUTCOMES = ("drive", "liking", "mood")


def room(console: Console) -> int:
    """Characters in a line: the terminal's, or those of a file."""
    return console.width if console.is_terminal else PIPED


def trial(result: Trial, limit: int = PIPED) -> list[Text]:
    """The trial's one table: a line for each arm. Where lines are too short for it, it becomes two."""
    arms = [result.arms[name] for name in labels.in_order(list(result.arms))]
    names = (Column("arm", left=True, wraps=True), [Cell(labels.of(arm.name).text, "bold") for arm in arms])
    course, outcomes = _course(arms), _outcomes(arms)
    together = _assembled([names, *course, *outcomes])
    notes = folded("Relative to the mean of the healthy cohort. Restored: VTA output at least 90 % of it.", limit)
    if width(*together) <= limit:
        return [*lines(*together), *notes]
    return [
        *lines(*_assembled([names, *course]), limit),
        Text(),
        *lines(*_assembled([names, *outcomes]), limit),
        *notes,
    ]


def print_trial(console: Console, result: Trial) -> None:
    """Everything that a trial has to say."""
    limit = room(console)
    titled(console, "Trial", trial(result, limit))
    if result.claims:
        titled(console, "What it shows", claims(result.claims, limit))
    if result.restore:
        titled(console, "Regimens found by gradient", restore(result.restore, limit))


def claims(found: Sequence[Claim], limit: int = PIPED) -> list[Text]:
    """What the trial shows, as numbers beside what is claimed."""
    columns = (
        Column("measured", left=True, wraps=True),
        Column("value"),
        Column("expected", left=True),
        Column("holds"),
    )
    rows = [
        [Cell(claim.sentence), Cell(_number(claim.value)), Cell(claim.expected), MARKS[claim.holds]] for claim in found
    ]
    return lines(columns, rows, limit)


def restore(found: Mapping[str, Restored], limit: int = PIPED) -> list[Text]:
    """Regimens found by gradient: a line for each, and below it what was fitted."""
    if not found:
        return []
    headings = ("before", "after", "target", "starts", "status")
    columns = (Column("regimen", left=True), *(Column(heading) for heading in headings))
    rows = []
    for each in found.values():
        style = "green" if each.status == "reached" else "bold red"
        reached = sum(abs(start - each.target) <= 0.02 * abs(each.target) for start in each.starts)
        numbers = [Cell(f"{value:.3f}") for value in (each.before, each.after, each.target)]
        rows.append(
            [
                Cell(_words(each.name), "bold"),
                *numbers,
                Cell(f"{reached} of {len(each.starts)}"),
                Cell(each.status, style),
            ]
        )
    notes = []
    for each in found.values():
        notes += folded(f"{_words(each.name)}: {each.reason}", limit, indent=" " * 4) if each.reason else []
        notes += [line for leaf, values in each.fitted.items() for line in _fitted(leaf, values, limit)]
    return [
        *lines(columns, rows),
        Text("Mean VTA output, healthy = 1; starts: those that end within 2 % of the target.", "dim"),
        *notes,
    ]


def scores(simulated: Mapping[str, float | None], role: str, limit: int = PIPED) -> list[Text]:
    """Published figures of one role beside simulated ones; the words give way first, and then go."""
    columns = [
        Column("row", left=True),
        Column("what", left=True, wraps=True),
        Column("published"),
        Column("interval"),
        Column("simulated"),
        Column("unit", left=True),
        Column("verdict", left=True),
    ]
    rows = []
    for row in (row for row in evidence.load_evidence() if row.role == role):
        value = simulated.get(row.id)
        verdict = evidence.compare_with_evidence(row, value)
        what = f"{row.quantity}; {row.condition}" if row.condition else row.quantity
        rows.append(
            [
                Cell(row.id),
                Cell(what, "dim"),
                Cell(_number(row.value)),
                Cell(_interval(row.low, row.high)),
                Cell(_number(value) if verdict != "not modelled" else "-"),
                Cell("" if row.unit == "1" else row.unit),
                Cell(verdict, VERDICTS[verdict]),
            ]
        )
    if limit < 100:  # too narrow for words beside numbers
        columns.pop(1)
        rows = [[row[0], *row[2:]] for row in rows]
    return lines(columns, rows, limit)


def absences(reasons: Mapping[str, str], limit: int = PIPED) -> list[Text]:
    """Rows of evidence for which the model has no figure, and why; rows of one reason together."""
    rows = {why: [id for id, reason in reasons.items() if reason == why] for why in dict.fromkeys(reasons.values())}
    return [line for why, ids in rows.items() for line in folded(f"- {', '.join(ids)}: {why}.", limit, indent="  ")]


def contradictions(limit: int = PIPED) -> list[Text]:
    """Where published findings disagree, and what the model takes."""
    return [line for sentence in evidence.KNOWN_CONTRADICTIONS for line in folded(f"- {sentence}", limit, indent="  ")]


def moment(seen: Moment) -> list[Text]:
    """Firing modes and mean activity of the first subject of a moment."""
    modes, mean = _first(vars(seen.modes)), _first(seen.mean)
    rows = [
        ("LHb neurons", f"{modes['silent']:.0%} silent, {modes['tonic']:.0%} tonic, {modes['bursting']:.0%} bursting"),
        ("their rate", f"{modes['rate']:.2f} Hz"),
        ("their potential", f"{modes['potential']:.1f} mV"),
        ("LHb output", f"{mean['habenula']:.2f} Hz, in which a spike of a burst counts for more"),
        ("RMTg", f"{mean['rmtg']:.1f} Hz"),
        ("DA neurons", f"{mean['active']:.0%} active, at {mean['rate']:.2f} Hz"),
        ("NAc dopamine", f"{1000 * mean['dopamine']:.1f} nM"),
    ]
    return lines(
        (Column("", left=True), Column("", left=True)), [[Cell(what, "bold"), Cell(is_)] for what, is_ in rows]
    )


def moment_data(seen: Moment) -> dict[str, object]:
    """The first subject's `modes`, `mean`, `t` (ms) and `record`, as plain numbers in the units of `Moment`."""
    record = {name: np.asarray(values)[0].astype(float).tolist() for name, values in seen.record.items()}
    return {
        "modes": _first(vars(seen.modes)),
        "mean": _first(seen.mean),
        "t": np.asarray(seen.t, float).tolist(),
        "record": record,
    }


def tally(simulated: Mapping[str, float | None], role: str) -> str:
    """How many rows of a role are inside, outside and not modelled, in words."""
    verdicts = [
        evidence.compare_with_evidence(row, simulated.get(row.id))
        for row in evidence.load_evidence()
        if row.role == role
    ]
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS)


def titled(console: Console, title: str, texts: Sequence[Text]) -> None:
    """Print a table under its title, with a line between it and what stands above."""
    show(console, [Text(), Text(title, "bold underline" if console.is_terminal else ""), *texts])


def _first(tree: Mapping[str, Array]) -> dict[str, float]:
    return {name: float(value[0]) for name, value in tree.items()}


def _course(arms: Sequence[ArmResult]) -> list[tuple[Column, list[Cell]]]:
    """Columns of VTA output, for the visits of which there are records."""
    group = "VTA output, healthy = 1, with 95 % interval"
    seen = [visit for visit in VISITS if any(_at(arm, visit) is not None for arm in arms)]
    return [(Column(visit.heading, group), [_output(arm, _at(arm, visit)) for arm in arms]) for visit in seen]


def _outcomes(arms: Sequence[ArmResult]) -> list[tuple[Column, list[Cell]]]:
    """Columns of drive, liking and mood before stress returns, and of subjects restored before and after it."""
    judged = JUDGED if any(_at(arm, JUDGED) is not None for arm in arms) else Visit("the end", float(arms[0].day[-1]))
    columns = []
    for name in OUTCOMES:
        cells = [_share(arm.mean.get(name), _at(arm, judged)) for arm in arms]
        columns.append((Column(name, f"at {judged.heading}"), cells))
    for visit in dict.fromkeys((judged, VISITS[-1])):
        if any(_at(arm, visit) is not None for arm in arms):
            cells = [_percent(arm.restored, _at(arm, visit)) for arm in arms]
            columns.append((Column(visit.heading.replace("week", "wk"), "restored, %"), cells))
    return columns


def _assembled(parts: Sequence[tuple[Column, list[Cell]]]) -> tuple[list[Column], list[list[Cell]]]:
    columns, cells = zip(*parts, strict=True)
    return list(columns), [list(row) for row in zip(*cells, strict=True)]


def _at(arm: ArmResult, visit: Visit) -> int | None:
    """Index of the arm's record of a visit, if it has one."""
    index = arm.at(visit.day)
    return index if abs(arm.day[index] - visit.day) <= TOLERANCE else None


def _output(arm: ArmResult, index: int | None) -> Cell:
    """A mean with half the width of its interval."""
    if index is None:
        return Cell("")
    half = (arm.vta_high[index] - arm.vta_low[index]) / 2
    if np.isnan(half):  # a single subject has no interval
        return Cell(f"{arm.mean['vta_output'][index]:.2f}")
    error = f"{half:.2f}".removeprefix("0") if half < 1 else f"{half:.1f}"
    return Cell(f"{arm.mean['vta_output'][index]:.2f}±{error}")


def _share(values: np.ndarray | None, index: int | None) -> Cell:
    return Cell("" if values is None or index is None else f"{values[index]:.2f}")


def _percent(values: np.ndarray, index: int | None) -> Cell:
    return Cell("" if index is None else f"{100 * values[index]:.0f}")


def _number(value: float | None) -> str:
    """Three figures, without the exponent where there is room."""
    if value is None or np.isnan(value):
        return "-"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _interval(low: float | None, high: float | None) -> str:
    if high is None:
        return f"{low:g} or more"
    return f"{high:g} or less" if low is None else f"{low:g} to {high:g}"


def _fitted(leaf: str, values: Sequence[float], limit: int) -> list[Text]:
    return folded(f"  {leaf} = {', '.join(f'{value:.3g}' for value in values)}", limit, indent=" " * 4)


def _words(name: str) -> str:
    return labels.of(name).text
