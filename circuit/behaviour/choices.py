"""Effort choices of people: read from and written to long-format files, one line per trial.

Columns, in any order; others are ignored:

    subject (or subj)          any text
    trial                      a whole number, unique within a subject; it gives the order
    effort, reward             levels, numbers
    choice                     1 accepted, 0 declined; empty or NA: missed
    staircase (or trialType)   optional: any text. No earlier choice influences the first trial of a staircase
    rt                         optional: ms, above 0; empty or NA: unknown

A second file may hold one line per subject, with numbers such as questionnaire scores in all other columns. Files ending in
.gz are compressed. Errors name the file, the row and the column.
"""

import dataclasses
import gzip
import io
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
    """Offers and choices of subjects, (subject, trial), in the order of trials; padded to equal numbers of trials.

    Attributes:
        subject: names.
        effort, reward: levels offered.
        accepted: 1 or 0.
        known: True where a choice was made: neither missed nor padding.
        first: True at the first trial of a staircase; False everywhere if there are no staircases.
        latency: s. Decision time, NaN where unknown; None if not recorded.
        staircase: name of each trial's staircase, "" in padding; None if there are no staircases.

    >>> import numpy as np
    >>> import habenula as hb
    >>> offers, accepted = np.array([[1.0, 4.0]]), np.array([[1.0, 0.0]])
    >>> made, first = np.array([[True, True]]), np.array([[False, False]])
    >>> hb.behaviour.Choices(("anna",), offers, offers, accepted, made, first).trials
    2
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
        """Number of choices, over all subjects."""
        return int(self.known.sum())


def read_choices(path: str | Path, columns: Mapping[str, str] | None = None) -> Choices:
    r"""Read effort choices from a long-format file, one line per trial.

    Args:
        path: of a CSV file, or of a compressed one (.csv.gz), with the columns of this module.
        columns: names in the file of columns that are called otherwise, such as {"subject": "participant"}.

    Returns:
        Choices, subjects in the order of the file.

    Raises:
        OSError: there is no such file.
        ValueError: a missing, repeated or ambiguous column; a cell of the wrong kind; a repeated trial. The message names
            file, row (the header is row 1) and column.

    >>> import pathlib, tempfile
    >>> import habenula as hb
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "choices.csv")
    ...     text = "participant,trial,effort,reward,choice\nanna,1,2,3,1\nanna,2,4,1,0\n"
    ...     _ = path.write_text(text)
    ...     choices = hb.read_choices(path, {"subject": "participant"})
    >>> choices.subject, choices.accepted.tolist()
    (('anna',), [[1.0, 0.0]])
    """
    path = Path(path)
    subjects: dict[str, dict[int, tuple[int, dict[str, float | str]]]] = {}  # by name, then by trial: row and values
    aliases = _resolve_aliases(columns or {})
    header: list[str] = []
    index: dict[str, int] = {}
    for row, cells in long_format.read_rows(path):
        if not index:
            header, index = cells, _column_indices(cells, aliases, path.name)
            continue
        values = _parse_trial(cells, header, index, f"{path.name}, row {row}")
        name, number = str(values["subject"]), int(values["trial"])
        trials = subjects.setdefault(name, {})
        if number in trials:
            raise ValueError(
                f"{path.name}, row {row}, column {header[index['trial']]}: subject {name} has trial {number} in row "
                f"{trials[number][0]} too; give every trial of a subject its own number."
            )
        trials[number] = row, values
    if not subjects:
        raise ValueError(f"{path.name} has no trials: give a line with column names and one per trial.")
    return _stack_trials({name: [trials[number][1] for number in sorted(trials)] for name, trials in subjects.items()})


def read_scores(path: str | Path, subjects: Iterable[str]) -> dict[str, Float[np.ndarray, " subject"]]:
    """Read scores of subjects, by column, in the order of `subjects`; NaN where a cell is empty or NA.

    Args:
        path: of a file with one line per subject.
        subjects: names.

    Raises:
        OSError: there is no such file.
        ValueError: a missing or repeated subject, or a cell that is no number, with row and column.
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
            raise ValueError(f"{where}, column {columns[subject]}: subject {name} is repeated.")
        known[name] = [
            math.nan
            if i == subject or cell in MISSING_MARKERS
            else long_format.parse_number(cell, f"{where}, column {column}")
            for i, (column, cell) in enumerate(zip(columns, cells, strict=True))
        ]
    subjects = list(subjects)
    if missing := [name for name in subjects if name not in known]:
        raise ValueError(
            f"{path.name} has no row for subject {missing[0]}" + (f" and {len(missing) - 1} more." * (len(missing) > 1))
        )
    table = np.array([known[name] for name in subjects])
    return {column: table[:, i] for i, column in enumerate(columns) if i != subject}


def write_choices(path: str | Path, choices: Choices) -> None:
    """Write choices to a long-format file, compressed if `path` ends in .gz; `read_choices` gives them back.

    Args:
        path: of the file.
        choices: to write. Missed trials are left out.

    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> import habenula as hb
    >>> one, made = np.ones((1, 1)), np.ones((1, 1), bool)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "choices.csv")
    ...     hb.behaviour.write_choices(path, hb.behaviour.Choices(("anna",), one, one, one, made, ~made))
    ...     print(path.read_text().strip())
    subject,trial,effort,reward,choice
    anna,1,1,1,1
    """
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


def _open_compressed(raw: io.BufferedIOBase, path: Path) -> io.BufferedIOBase:
    """File for bytes; without a time stamp, so that the same choices give the same bytes."""
    return gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw


def _column_aliases(name: str) -> tuple[str, ...]:
    return COLUMN_ALIASES.get(name, (name,))


def _resolve_aliases(columns: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Accepted names of each column in the file."""
    if unknown := set(columns) - {*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS}:
        raise ValueError(
            f"columns of {sorted(unknown)}: choose from {', '.join((*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS))}."
        )
    return {
        name: (columns[name],) if name in columns else _column_aliases(name)
        for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
    }


def _column_indices(header: list[str], names: Mapping[str, tuple[str, ...]], file: str) -> dict[str, int]:
    """Index of each column that is required or present."""
    if missing := long_format.describe_missing_columns([names[name] for name in REQUIRED_COLUMNS], header, file):
        raise ValueError(missing)
    indices = {name: long_format.find_column(name, names[name], header, file, needed=False) for name in names}
    return {name: i for name, i in indices.items() if i >= 0}


def _parse_trial(cells: list[str], header: list[str], columns: Mapping[str, int], row: str) -> dict[str, float | str]:
    """Values of one line."""
    if len(cells) != len(header):
        raise ValueError(f"{row}: {len(cells)} cells, but {len(header)} columns.")
    cell = {name: cells[i] for name, i in columns.items()}
    where = {name: f"{row}, column {header[i]}" for name, i in columns.items()}
    if cell["subject"] in MISSING_MARKERS:
        raise ValueError(f"{where['subject']}: empty; every trial needs a subject.")
    values: dict[str, float | str] = {"subject": cell["subject"]}
    for name in ("trial", "effort", "reward"):
        values[name] = long_format.parse_number(cell[name], where[name])
    if values["trial"] != int(values["trial"]):
        raise ValueError(f"{where['trial']}: {cell['trial']!r} is no whole number.")
    values["choice"] = _parse_choice(cell["choice"], where["choice"])
    if "staircase" in cell:
        if cell["staircase"] in MISSING_MARKERS:
            raise ValueError(f"{where['staircase']}: empty; name the staircase of every trial, or drop the column.")
        values["staircase"] = cell["staircase"]
    if "rt" in cell:
        missing = cell["rt"] in MISSING_MARKERS
        values["rt"] = math.nan if missing else long_format.parse_number(cell["rt"], where["rt"]) / 1e3
        if values["rt"] <= 0:
            raise ValueError(f"{where['rt']}: {cell['rt']!r} must be above 0 (ms), or empty.")
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


def _stack_trials(subjects: Mapping[str, list[dict[str, float | str]]]) -> Choices:
    """Arrays of (subject, trial) from each subject's trials in order."""
    shape = len(subjects), max(len(trials) for trials in subjects.values())
    arrays = {name: np.zeros(shape) for name in ("effort", "reward", "choice")}
    latency, first, known = np.full(shape, math.nan), np.zeros(shape, bool), np.zeros(shape, bool)
    columns = next(iter(subjects.values()))[0]
    staircase = np.full(shape, "", object)
    for i, trials in enumerate(subjects.values()):
        started = set()
        for t, trial in enumerate(trials):
            for name, array in arrays.items():
                array[i, t] = trial[name]
            latency[i, t] = trial.get("rt", math.nan)
            known[i, t] = not math.isnan(arrays["choice"][i, t])
            if "staircase" in columns:
                staircase[i, t] = trial["staircase"]
                first[i, t] = known[i, t] and trial["staircase"] not in started
                started.add(trial["staircase"])
    return Choices(
        subject=tuple(subjects),
        effort=arrays["effort"],
        reward=arrays["reward"],
        accepted=np.where(known, arrays["choice"], 0.0),
        known=known,
        first=first,
        latency=latency if "rt" in columns else None,
        staircase=staircase if "staircase" in columns else None,
    )
