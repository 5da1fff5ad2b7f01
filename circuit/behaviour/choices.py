"""People's choices, read from a file in long format: a line for each trial.

Columns, in any order; others are ignored:

    subject (or subj)          who: any text
    trial                      a whole number, each once per subject; it gives the order
    effort, reward             levels, numbers
    choice                     1 accepted, 0 declined; empty or NA: missed
    staircase (or trialType)   optional: any text; the first trial of each is the one that no earlier choice has moved
    rt                         optional: ms, above 0; empty or NA: unknown

A second file may hold one line for each subject, with numbers such as a score in every other column. Files ending in .gz
are compressed. What is wrong or ambiguous is refused, with its row and column.
"""

import dataclasses
import gzip
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from ..data import long_format
from ..data.long_format import MISSING_MARKERS

COLUMN_ALIASES = {"subject": ("subject", "subj"), "staircase": ("staircase", "trialType")}
REQUIRED_COLUMNS = ("subject", "trial", "effort", "reward", "choice")
OPTIONAL_COLUMNS = ("staircase", "rt")


@dataclasses.dataclass(frozen=True)
class Choices:
    """What subjects were offered and what they chose, in the order of their trials; shorter lives are padded.

    Attributes:
        subject: name of each.
        effort, reward: levels offered.
        accepted: 1 or 0.
        known: which trials were made and not missed.
        first: which are the first of their staircase; none where there are no staircases.
        latency: s, NaN where unknown; None where the file has none.
        staircase: name of each trial's staircase, "" in padding; None where the file has none.
    """

    subject: tuple[str, ...]
    effort: Float[np.ndarray, "subject trial"]
    reward: Float[np.ndarray, "subject trial"]
    accepted: Float[np.ndarray, "subject trial"]
    known: Bool[np.ndarray, "subject trial"]
    first: Bool[np.ndarray, "subject trial"]
    latency: Float[np.ndarray, "subject trial"] | None = None
    staircase: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.subject)

    @property
    def trials(self) -> int:
        """Choices made, over all subjects."""
        return int(self.known.sum())


def read_choices(path: str | Path, columns: Mapping[str, str] | None = None) -> Choices:
    """Choices from a file in long format.

    Args:
        path: of the file.
        columns: names of columns in the file by what they hold, such as {"subject": "participant", "effort": "percent"}.

    Raises:
        OSError: there is no such file.
        ValueError: a column that is missing, twice there or ambiguous; a cell that is not what it must be; a trial that
            stands there twice. The message names file, row (the header is row 1) and column.
    """
    path = Path(path)
    lives: dict[str, dict[int, tuple[int, dict[str, float | str]]]] = {}
    names = _resolve_aliases(columns or {})
    header: list[str] = []
    where: dict[str, int] = {}
    for row, cells in long_format.read_rows(path):
        if not where:
            header, where = cells, _column_indices(cells, names, path.name)
            continue
        values = _parse_trial(cells, header, where, f"{path.name}, row {row}")
        name, number = str(values["subject"]), int(values["trial"])
        life = lives.setdefault(name, {})
        if number in life:
            raise ValueError(
                f"{path.name}, row {row}, column {header[where['trial']]}: subject {name} has trial {number} in row "
                f"{life[number][0]} too; number the trials of a subject through."
            )
        life[number] = row, values
    if not lives:
        raise ValueError(f"{path.name} holds no trials: give a line with column names and one for each trial.")
    return _stack_trials({name: [life[number][1] for number in sorted(life)] for name, life in lives.items()})


def read_scores(path: str | Path, subjects: Iterable[str]) -> dict[str, Float[np.ndarray, " subject"]]:
    """Numbers that belong to subjects, by column, in the order of `subjects`; NaN where a cell is empty or NA.

    Raises:
        OSError: there is no such file.
        ValueError: a subject that is missing or there twice, a cell that is no number, with row and column.
    """
    path, known, columns, subject = Path(path), {}, [], 0
    for row, cells in long_format.read_rows(path):
        if not columns:
            columns = cells
            subject = long_format.find_column("subject", _column_aliases("subject"), cells, path.name)
            continue
        name, where = cells[subject], f"{path.name}, row {row}"
        if len(cells) != len(columns):
            raise ValueError(f"{where}: {len(cells)} cells, but {len(columns)} columns.")
        if name in known:
            raise ValueError(f"{where}, column {columns[subject]}: subject {name} stands here for the second time.")
        known[name] = [
            math.nan
            if i == subject or cell in MISSING_MARKERS
            else long_format.parse_number(cell, f"{where}, column {column}")
            for i, (column, cell) in enumerate(zip(columns, cells, strict=True))
        ]
    subjects = list(subjects)
    if lost := [name for name in subjects if name not in known]:
        raise ValueError(
            f"{path.name} has no row for subject {lost[0]}" + (f" and {len(lost) - 1} more." * (len(lost) > 1))
        )
    table = np.array([known[name] for name in subjects])
    return {column: table[:, i] for i, column in enumerate(columns) if i != subject}


def write_choices(path: str | Path, choices: Choices) -> None:
    """Write choices in long format; what is read back is the same."""
    path = Path(path)
    columns = [*REQUIRED_COLUMNS, *(["staircase"] if choices.staircase is not None else [])]
    columns += ["rt"] if choices.latency is not None else []
    with path.open("wb") as raw, _open_compressed(raw, path) as binary:
        text = [",".join(columns)]
        for i, name in enumerate(choices.subject):
            for t in np.flatnonzero(choices.known[i]):
                cells = [name, str(t + 1), f"{choices.effort[i, t]:g}", f"{choices.reward[i, t]:g}"]
                cells.append(f"{choices.accepted[i, t]:.0f}")
                cells += [str(choices.staircase[i, t])] if choices.staircase is not None else []
                if choices.latency is not None:
                    cells.append("" if np.isnan(choices.latency[i, t]) else f"{1e3 * choices.latency[i, t]:.0f}")
                text.append(",".join(cells))
        binary.write(("\n".join(text) + "\n").encode())


def _open_compressed(raw, path: Path):
    """A file to write bytes to; without a time stamp, so that the same choices make the same bytes."""
    return gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw


def _column_aliases(name: str) -> tuple[str, ...]:
    return COLUMN_ALIASES.get(name, (name,))


def _resolve_aliases(columns: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """By what a column holds, what it may be called in the file."""
    if strange := set(columns) - {*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS}:
        raise ValueError(
            f"columns of {sorted(strange)}: choose from {', '.join((*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS))}."
        )
    return {
        name: (columns[name],) if name in columns else _column_aliases(name)
        for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
    }


def _column_indices(header: list[str], names: Mapping[str, tuple[str, ...]], file: str) -> dict[str, int]:
    """Where each column is that is needed, or there."""
    if lacking := long_format.describe_missing_columns([names[name] for name in REQUIRED_COLUMNS], header, file):
        raise ValueError(lacking)
    found = {name: long_format.find_column(name, names[name], header, file, needed=False) for name in names}
    return {name: i for name, i in found.items() if i >= 0}


def _parse_trial(cells: list[str], header: list[str], columns: Mapping[str, int], row: str) -> dict[str, float | str]:
    """One line, checked."""
    if len(cells) != len(header):
        raise ValueError(f"{row}: {len(cells)} cells, but {len(header)} columns.")
    of = {name: cells[i] for name, i in columns.items()}
    where = {name: f"{row}, column {header[i]}" for name, i in columns.items()}
    if of["subject"] in MISSING_MARKERS:
        raise ValueError(f"{where['subject']}: empty; every trial needs a subject.")
    values: dict[str, float | str] = {"subject": of["subject"]}
    for name in ("trial", "effort", "reward"):
        values[name] = long_format.parse_number(of[name], where[name])
    if values["trial"] != int(values["trial"]):
        raise ValueError(f"{where['trial']}: {of['trial']!r} is no whole number.")
    values["choice"] = _parse_choice(of["choice"], where["choice"])
    if "staircase" in of:
        if of["staircase"] in MISSING_MARKERS:
            raise ValueError(f"{where['staircase']}: empty; name the staircase of every trial, or drop the column.")
        values["staircase"] = of["staircase"]
    if "rt" in of:
        values["rt"] = (
            math.nan if of["rt"] in MISSING_MARKERS else long_format.parse_number(of["rt"], where["rt"]) / 1e3
        )
        if values["rt"] <= 0:
            raise ValueError(f"{where['rt']}: {of['rt']!r} must be above 0 (ms), or empty.")
    return values


def _parse_choice(cell: str, where: str) -> float:
    """1 or 0, or NaN where missed."""
    if cell in MISSING_MARKERS:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if value not in (0.0, 1.0):
        raise ValueError(f"{where}: {cell!r} must be 1 (accepted), 0 (declined) or empty (missed).")
    return value


def _stack_trials(lives: Mapping[str, list[dict[str, float | str]]]) -> Choices:
    """Arrays of (subject, trial) from each subject's trials in order."""
    shape = len(lives), max(len(life) for life in lives.values())
    arrays = {name: np.zeros(shape) for name in ("effort", "reward", "choice")}
    latency, first, known = np.full(shape, math.nan), np.zeros(shape, bool), np.zeros(shape, bool)
    one = next(iter(lives.values()))[0]
    staircase = np.full(shape, "", object)
    for i, life in enumerate(lives.values()):
        begun = set()
        for t, trial in enumerate(life):
            for name, array in arrays.items():
                array[i, t] = trial[name]
            latency[i, t] = trial.get("rt", math.nan)
            known[i, t] = not math.isnan(arrays["choice"][i, t])
            if "staircase" in one:
                staircase[i, t] = trial["staircase"]
                first[i, t] = known[i, t] and trial["staircase"] not in begun
                begun.add(trial["staircase"])
    return Choices(
        subject=tuple(lives),
        effort=arrays["effort"],
        reward=arrays["reward"],
        accepted=np.where(known, arrays["choice"], 0.0),
        known=known,
        first=first,
        latency=latency if "rt" in one else None,
        staircase=staircase if "staircase" in one else None,
    )
