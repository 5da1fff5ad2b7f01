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
from .results import ArmResult, ClaimResult, RestoredRegimen, TrialResult
from .text_table import TableCell, TableColumn, fold_text, print_lines, render_table, table_width

DEFAULT_WIDTH = 120  # characters in a line where there is no terminal to ask
RECORD_TOLERANCE = 0.1  # d: a record further from a column's day than this is not shown in its place
HOLDS_CELLS = {True: TableCell("yes", "green"), False: TableCell("NO", "bold red")}
VERDICT_STYLES = {"inside": "green", "outside": "bold red", "not modelled": "dim"}


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
EVALUATION_VISIT = VISITS[-2]  # the last visit before stress returns
OUTCOME_NAMES = ("drive", "liking", "mood")


def console_width(console: Console) -> int:
    """Characters in a line: the terminal's, or those of a file."""
    return console.width if console.is_terminal else DEFAULT_WIDTH


def trial_table(result: TrialResult, limit: int = DEFAULT_WIDTH) -> list[Text]:
    """The trial's one table: a line for each arm. Where lines are too short for it, it becomes two."""
    arms = [result.arms[name] for name in labels.sort_arms(list(result.arms))]
    names = (
        TableColumn("arm", left=True, wraps=True),
        [TableCell(labels.label_of(arm.name).text, "bold") for arm in arms],
    )
    course, outcomes = _course_columns(arms), _outcome_columns(arms)
    together = _assemble_columns([names, *course, *outcomes])
    notes = fold_text("Relative to the mean of the healthy cohort. Restored: VTA output at least 90 % of it.", limit)
    if table_width(*together) <= limit:
        return [*render_table(*together), *notes]
    return [
        *render_table(*_assemble_columns([names, *course]), limit),
        Text(),
        *render_table(*_assemble_columns([names, *outcomes]), limit),
        *notes,
    ]


def print_trial(console: Console, result: TrialResult) -> None:
    """Everything that a trial has to say."""
    limit = console_width(console)
    print_titled(console, "Trial", trial_table(result, limit))
    if result.claims:
        print_titled(console, "What it shows", claims_table(result.claims, limit))
    if result.restore:
        print_titled(console, "Regimens found by gradient", regimen_table(result.restore, limit))


def claims_table(found: Sequence[ClaimResult], limit: int = DEFAULT_WIDTH) -> list[Text]:
    """What the trial shows, as numbers beside what is claimed."""
    columns = (
        TableColumn("measured", left=True, wraps=True),
        TableColumn("value"),
        TableColumn("expected", left=True),
        TableColumn("holds"),
    )
    rows = [
        [
            TableCell(claim.sentence),
            TableCell(_format_number(claim.value)),
            TableCell(claim.expected),
            HOLDS_CELLS[claim.holds],
        ]
        for claim in found
    ]
    return render_table(columns, rows, limit)


def regimen_table(found: Mapping[str, RestoredRegimen], limit: int = DEFAULT_WIDTH) -> list[Text]:
    """Regimens found by gradient: a line for each, and below it what was fitted."""
    if not found:
        return []
    headings = ("before", "after", "target", "starts", "status")
    columns = (TableColumn("regimen", left=True), *(TableColumn(heading) for heading in headings))
    rows = []
    for each in found.values():
        style = "green" if each.status == "reached" else "bold red"
        reached = sum(abs(start - each.target) <= 0.02 * abs(each.target) for start in each.starts)
        numbers = [TableCell(f"{value:.3f}") for value in (each.before, each.after, each.target)]
        rows.append(
            [
                TableCell(_spell_out(each.name), "bold"),
                *numbers,
                TableCell(f"{reached} of {len(each.starts)}"),
                TableCell(each.status, style),
            ]
        )
    notes = []
    for each in found.values():
        notes += fold_text(f"{_spell_out(each.name)}: {each.reason}", limit, indent=" " * 4) if each.reason else []
        notes += [line for leaf, values in each.fitted.items() for line in _format_leaf(leaf, values, limit)]
    return [
        *render_table(columns, rows),
        Text("Mean VTA output, healthy = 1; starts: those that end within 2 % of the target.", "dim"),
        *notes,
    ]


def scoreboard_table(simulated: Mapping[str, float | None], role: str, limit: int = DEFAULT_WIDTH) -> list[Text]:
    """Published figures of one role beside simulated ones; the words give way first, and then go."""
    columns = [
        TableColumn("row", left=True),
        TableColumn("what", left=True, wraps=True),
        TableColumn("published"),
        TableColumn("interval"),
        TableColumn("simulated"),
        TableColumn("unit", left=True),
        TableColumn("verdict", left=True),
    ]
    rows = []
    for row in (row for row in evidence.load_evidence() if row.role == role):
        value = simulated.get(row.id)
        verdict = evidence.compare_with_evidence(row, value)
        what = f"{row.quantity}; {row.condition}" if row.condition else row.quantity
        rows.append(
            [
                TableCell(row.id),
                TableCell(what, "dim"),
                TableCell(_format_number(row.value)),
                TableCell(_format_interval(row.low, row.high)),
                TableCell(_format_number(value) if verdict != "not modelled" else "-"),
                TableCell("" if row.unit == "1" else row.unit),
                TableCell(verdict, VERDICT_STYLES[verdict]),
            ]
        )
    if limit < 100:  # too narrow for words beside numbers
        columns.pop(1)
        rows = [[row[0], *row[2:]] for row in rows]
    return render_table(columns, rows, limit)


def absence_table(reasons: Mapping[str, str], limit: int = DEFAULT_WIDTH) -> list[Text]:
    """Rows of evidence for which the model has no figure, and why; rows of one reason together."""
    rows = {why: [id for id, reason in reasons.items() if reason == why] for why in dict.fromkeys(reasons.values())}
    return [line for why, ids in rows.items() for line in fold_text(f"- {', '.join(ids)}: {why}.", limit, indent="  ")]


def contradiction_lines(limit: int = DEFAULT_WIDTH) -> list[Text]:
    """Where published findings disagree, and what the model takes."""
    return [
        line for sentence in evidence.KNOWN_CONTRADICTIONS for line in fold_text(f"- {sentence}", limit, indent="  ")
    ]


def moment_table(seen: Moment) -> list[Text]:
    """Firing modes and mean activity of the first subject of a moment."""
    modes, mean = _first_subject(vars(seen.modes)), _first_subject(seen.mean)
    rows = [
        ("LHb neurons", f"{modes['silent']:.0%} silent, {modes['tonic']:.0%} tonic, {modes['bursting']:.0%} bursting"),
        ("their rate", f"{modes['rate']:.2f} Hz"),
        ("their potential", f"{modes['potential']:.1f} mV"),
        ("LHb output", f"{mean['habenula']:.2f} Hz, in which a spike of a burst counts for more"),
        ("RMTg", f"{mean['rmtg']:.1f} Hz"),
        ("DA neurons", f"{mean['active']:.0%} active, at {mean['rate']:.2f} Hz"),
        ("NAc dopamine", f"{1000 * mean['dopamine']:.1f} nM"),
    ]
    return render_table(
        (TableColumn("", left=True), TableColumn("", left=True)),
        [[TableCell(what, "bold"), TableCell(is_)] for what, is_ in rows],
    )


def moment_to_json(seen: Moment) -> dict[str, object]:
    """The first subject's `modes`, `mean`, `t` (ms) and `record`, as plain numbers in the units of `Moment`."""
    record = {name: np.asarray(values)[0].astype(float).tolist() for name, values in seen.record.items()}
    return {
        "modes": _first_subject(vars(seen.modes)),
        "mean": _first_subject(seen.mean),
        "t": np.asarray(seen.t, float).tolist(),
        "record": record,
    }


def count_verdicts(simulated: Mapping[str, float | None], role: str) -> str:
    """How many rows of a role are inside, outside and not modelled, in words."""
    verdicts = [
        evidence.compare_with_evidence(row, simulated.get(row.id))
        for row in evidence.load_evidence()
        if row.role == role
    ]
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICT_STYLES)


def print_titled(console: Console, title: str, texts: Sequence[Text]) -> None:
    """Print a table under its title, with a line between it and what stands above."""
    print_lines(console, [Text(), Text(title, "bold underline" if console.is_terminal else ""), *texts])


def _first_subject(tree: Mapping[str, Array]) -> dict[str, float]:
    return {name: float(value[0]) for name, value in tree.items()}


def _course_columns(arms: Sequence[ArmResult]) -> list[tuple[TableColumn, list[TableCell]]]:
    """Columns of VTA output, for the visits of which there are records."""
    group = "VTA output, healthy = 1, with 95 % interval"
    seen = [visit for visit in VISITS if any(_visit_index(arm, visit) is not None for arm in arms)]
    return [
        (TableColumn(visit.heading, group), [_output_cell(arm, _visit_index(arm, visit)) for arm in arms])
        for visit in seen
    ]


def _outcome_columns(arms: Sequence[ArmResult]) -> list[tuple[TableColumn, list[TableCell]]]:
    """Columns of drive, liking and mood before stress returns, and of subjects restored before and after it."""
    judged = (
        EVALUATION_VISIT
        if any(_visit_index(arm, EVALUATION_VISIT) is not None for arm in arms)
        else Visit("the end", float(arms[0].day[-1]))
    )
    columns = []
    for name in OUTCOME_NAMES:
        cells = [_share_cell(arm.mean.get(name), _visit_index(arm, judged)) for arm in arms]
        columns.append((TableColumn(name, f"at {judged.heading}"), cells))
    for visit in dict.fromkeys((judged, VISITS[-1])):
        if any(_visit_index(arm, visit) is not None for arm in arms):
            cells = [_percent_cell(arm.restored, _visit_index(arm, visit)) for arm in arms]
            columns.append((TableColumn(visit.heading.replace("week", "wk"), "restored, %"), cells))
    return columns


def _assemble_columns(
    parts: Sequence[tuple[TableColumn, list[TableCell]]],
) -> tuple[list[TableColumn], list[list[TableCell]]]:
    columns, cells = zip(*parts, strict=True)
    return list(columns), [list(row) for row in zip(*cells, strict=True)]


def _visit_index(arm: ArmResult, visit: Visit) -> int | None:
    """Index of the arm's record of a visit, if it has one."""
    index = arm.at(visit.day)
    return index if abs(arm.day[index] - visit.day) <= RECORD_TOLERANCE else None


def _output_cell(arm: ArmResult, index: int | None) -> TableCell:
    """A mean with half the width of its interval."""
    if index is None:
        return TableCell("")
    half = (arm.vta_high[index] - arm.vta_low[index]) / 2
    if np.isnan(half):  # a single subject has no interval
        return TableCell(f"{arm.mean['vta_output'][index]:.2f}")
    error = f"{half:.2f}".removeprefix("0") if half < 1 else f"{half:.1f}"
    return TableCell(f"{arm.mean['vta_output'][index]:.2f}±{error}")


def _share_cell(values: np.ndarray | None, index: int | None) -> TableCell:
    return TableCell("" if values is None or index is None else f"{values[index]:.2f}")


def _percent_cell(values: np.ndarray, index: int | None) -> TableCell:
    return TableCell("" if index is None else f"{100 * values[index]:.0f}")


def _format_number(value: float | None) -> str:
    """Three figures, without the exponent where there is room."""
    if value is None or np.isnan(value):
        return "-"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _format_interval(low: float | None, high: float | None) -> str:
    if high is None:
        return f"{low:g} or more"
    return f"{high:g} or less" if low is None else f"{low:g} to {high:g}"


def _format_leaf(leaf: str, values: Sequence[float], limit: int) -> list[Text]:
    return fold_text(f"  {leaf} = {', '.join(f'{value:.3g}' for value in values)}", limit, indent=" " * 4)


def _spell_out(name: str) -> str:
    return labels.label_of(name).text
