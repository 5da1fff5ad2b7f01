"""Tables in fixed-width text, with headings over groups of columns: coloured in a terminal, and the same in a file."""

import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

GROUP_GAP = 2  # spaces between groups of columns and between columns of no group; one within a group
MIN_WRAPPED_WIDTH = 16  # a wrapped column gets no less, whatever the terminal says


class TableColumn(NamedTuple):
    """A column.

    Attributes:
        heading: over the column.
        group: over all neighbouring columns of the same group.
        left: texts stand to the left, numbers to the right.
        wraps: whether the column gives way where the line is too long; one at most.
    """

    heading: str
    group: str = ""
    left: bool = False
    wraps: bool = False


class TableCell(NamedTuple):
    """What stands in a cell, and its style in a terminal (rich's words)."""

    text: str
    style: str = ""


TableRow = Sequence[TableCell]


def table_width(columns: Sequence[TableColumn], rows: Sequence[TableRow]) -> int:
    """Characters that the table takes on a line of any length."""
    return _total_width(columns, _column_widths(columns, rows, None))


def render_table(columns: Sequence[TableColumn], rows: Sequence[TableRow], limit: int | None = None) -> list[Text]:
    """The table, heading first. A wrapping column is narrowed until lines hold at most `limit` characters."""
    widths = _column_widths(columns, rows, limit)
    rule = Text("-" * _total_width(columns, widths), style="dim")
    found = [_render_groups(columns, widths)] if any(column.group for column in columns) else []
    found += [_render_line([TableCell(column.heading, "bold") for column in columns], columns, widths), rule]
    for row in rows:
        found += _wrap_row(row, columns, widths)
    return found


def fold_text(text: str, limit: int, *, indent: str = "", style: str = "") -> list[Text]:
    """A sentence in lines of at most `limit` characters, all but the first of them indented."""
    return [Text(line, style) for line in textwrap.wrap(text, limit, subsequent_indent=indent)]


def print_lines(console: Console, texts: Sequence[Text | str]) -> None:
    """Print lines as they are: nothing is wrapped, and in a file nothing is coloured."""
    for text in texts:
        console.print(text, soft_wrap=True, markup=False, highlight=False)


def _column_widths(columns: Sequence[TableColumn], rows: Sequence[TableRow], limit: int | None) -> list[int]:
    widths = [
        max(len(text) for text in (column.heading, *(row[i].text for row in rows))) for i, column in enumerate(columns)
    ]
    for group, members in _group_spans(columns):
        widths[members[0]] += max(len(group) - _span_width(members, widths), 0)
    excess = 0 if limit is None else max(_total_width(columns, widths) - limit, 0)
    return [
        max(each - excess, MIN_WRAPPED_WIDTH) if column.wraps and excess else each
        for column, each in zip(columns, widths, strict=True)
    ]


def _gap_before(columns: Sequence[TableColumn], i: int) -> int:
    """Spaces before a column."""
    if not i:
        return 0
    return 1 if columns[i].group and columns[i].group == columns[i - 1].group else GROUP_GAP


def _total_width(columns: Sequence[TableColumn], widths: Sequence[int]) -> int:
    return sum(widths) + sum(_gap_before(columns, i) for i in range(len(columns)))


def _span_width(members: Sequence[int], widths: Sequence[int]) -> int:
    """Characters under the heading of a group."""
    return sum(widths[i] for i in members) + len(members) - 1


def _group_spans(columns: Sequence[TableColumn]) -> list[tuple[str, list[int]]]:
    """Neighbouring columns of one group, with their group's heading; a column of no group by itself."""
    spans = groupby(range(len(columns)), key=lambda i: (columns[i].group, None if columns[i].group else i))
    return [(group, list(members)) for (group, _), members in spans]


def _render_groups(columns: Sequence[TableColumn], widths: Sequence[int]) -> Text:
    spans = [(group, _span_width(members, widths)) for group, members in _group_spans(columns)]
    fill = lambda group, span: f" {group} ".center(span, "-") if len(group) + 4 <= span else group.center(span)
    return Text(
        (" " * GROUP_GAP).join(fill(group, span) if group else " " * span for group, span in spans).rstrip(), "bold"
    )


def _wrap_row(row: TableRow, columns: Sequence[TableColumn], widths: Sequence[int]) -> list[Text]:
    """A row, in as many lines as its wrapping column needs."""
    folded = [
        textwrap.wrap(cell.text, each) or [""] if column.wraps else [cell.text]
        for cell, column, each in zip(row, columns, widths, strict=True)
    ]
    height = max(len(parts) for parts in folded)
    filled = [parts + [""] * (height - len(parts)) for parts in folded]
    return [
        _render_line(
            [TableCell(parts[i], cell.style) for parts, cell in zip(filled, row, strict=True)], columns, widths
        )
        for i in range(height)
    ]


def _render_line(row: TableRow, columns: Sequence[TableColumn], widths: Sequence[int]) -> Text:
    line = Text()
    for i, (cell, column, each) in enumerate(zip(row, columns, widths, strict=True)):
        text = cell.text.ljust(each) if column.left else cell.text.rjust(each)
        line.append(" " * _gap_before(columns, i))
        line.append(text, cell.style)
    line.rstrip()
    return line
