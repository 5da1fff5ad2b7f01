"""The circuit's constants: one table, `constants.csv`, with the unit, the status and the source of every number.

The model reads its numbers from here and holds none of its own; the scripts of `habenula.circuit.calibration` write
theirs back. A constant is `published` (taken over from its source), `fitted` (by the script named as its source) or
`assumed` (chosen, for the reason that its note gives). Names are dotted: a section is read at once.

>>> unit = {constant.name: constant.unit for constant in load_constants()}
>>> unit["ketamine_block.off_rate"]
'1/h'
"""

import csv
import functools
import math
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

CONSTANTS_FILE = Path(__file__).with_name("constants.csv")
CONSTANT_STATUSES = ("published", "fitted", "assumed")
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")


class Constant(NamedTuple):
    """One row of the table.

    Attributes:
        name: dotted, `section.constant`.
        value: in the row's unit.
        unit: as a reader writes it; `1` for a pure number.
        status: `published`, `fitted` or `assumed`.
        source: author and year, or the calibration script.
        note: what else a reader must know.
    """

    name: str
    value: float
    unit: str
    status: str
    source: str
    note: str = ""


@functools.cache
def load_constants() -> tuple[Constant, ...]:
    """Every constant, in the order of the file; read once.

    Raises:
        ValueError: a row is malformed; the message names the file and the line.
    """
    return read_constants(CONSTANTS_FILE)


def constant_value(name: str) -> float:
    """The number called `name`, in the unit that the table states.

    Raises:
        ValueError: there is no such constant; the message names the nearest.
    """
    known = {constant.name: constant.value for constant in load_constants()}
    if name not in known:
        raise _unknown_name_error(name)
    return known[name]


def section_values(prefix: str) -> dict[str, float]:
    """All constants directly below `prefix`, keyed by the last part of their names.

    >>> sorted(section_values("ssri.occupancy"))
    ['half', 'hill', 'maximum']

    Raises:
        ValueError: the section is empty; the message names the nearest.
    """
    below = {
        _short_name(constant.name): constant.value
        for constant in load_constants()
        if _section_name(constant.name) == prefix
    }
    if not below:
        raise _unknown_name_error(prefix)
    return below


def section_arrays(prefix: str) -> dict[str, Array]:
    """A section as JAX scalars of the default precision; raises as `section_values` does."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in section_values(prefix).items()}


def update_constants(rows: Iterable[Constant], path: Path = CONSTANTS_FILE) -> None:
    """Replace the rows of the same names in the file at `path`, in place; new names join the end of their section.

    The new file is complete before it takes the old one's name, so a reader never sees half a table.

    Raises:
        ValueError: a new row is malformed, or two have one name; the file is then untouched.
    """
    new = list(rows)
    if repeated := {row.name for row in new if [each.name for each in new].count(row.name) > 1}:
        raise ValueError(f"rows given twice: {sorted(repeated)}.")
    kept = list(read_constants(path)) if path.exists() else []
    for row in new:
        _check_constant(row)
        names = [each.name for each in kept]
        if row.name in names:
            kept[names.index(row.name)] = row
        else:
            siblings = [i for i, name in enumerate(names) if _section_name(name) == _section_name(row.name)]
            kept.insert(siblings[-1] + 1 if siblings else len(kept), row)
    complete = path.with_name(f".{path.name}.{os.getpid()}")
    with complete.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Constant._fields)
        writer.writerows(row._replace(value=f"{row.value:.6g}") for row in kept)
    os.replace(complete, path)
    load_constants.cache_clear()


def read_constants(path: Path) -> tuple[Constant, ...]:
    """The constants in the file at `path`, checked.

    Raises:
        ValueError: wrong columns, a name twice, an unknown status, or a value that is no finite number, with its line.
    """
    with path.open(newline="") as file:
        lines = csv.reader(file)
        if (header := next(lines, [])) != list(Constant._fields):
            raise ValueError(f"{path.name} has columns {header}, not {list(Constant._fields)}.")
        rows: dict[str, Constant] = {}
        for cells in lines:
            try:
                row = _parse_constant(cells)
                if row.name in rows:
                    raise ValueError(f"{row.name} stands here for the second time")
            except ValueError as error:
                raise ValueError(f"{path.name}, line {lines.line_num}: {error}.") from error
            rows[row.name] = row
    return tuple(rows.values())


def _parse_constant(cells: list[str]) -> Constant:
    if len(cells) != len(Constant._fields):
        raise ValueError(f"{len(cells)} cells instead of {len(Constant._fields)}")
    name, number, *rest = cells
    row = Constant(name, float(number), *rest)
    _check_constant(row)
    return row


def _check_constant(row: Constant) -> None:
    if not NAME_PATTERN.fullmatch(row.name):
        raise ValueError(f"{row.name!r} is not a dotted lower-case name")
    if not math.isfinite(row.value):
        raise ValueError(f"{row.name} is {row.value}")
    if row.status not in CONSTANT_STATUSES:
        raise ValueError(f"{row.name} has status {row.status!r}, not one of {CONSTANT_STATUSES}")
    if not (row.unit and row.source):
        raise ValueError(f"{row.name} needs a unit and a source")


def _section_name(name: str) -> str:
    return name.rpartition(".")[0]


def _short_name(name: str) -> str:
    return name.rpartition(".")[2]


def _unknown_name_error(asked: str) -> ValueError:
    names = [constant.name for constant in load_constants()]
    sections = sorted({_section_name(name) for name in names})
    nearest = get_close_matches(asked, names + sections) or sections
    return ValueError(f"no constant {asked!r} in {CONSTANTS_FILE.name}; nearest: {', '.join(nearest)}.")
