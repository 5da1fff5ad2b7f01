"""Files in long format: a line with column names, then a line for each observation.

Cells are separated by commas and stripped of blanks; files ending in .gz are compressed. What is wrong is refused with the
file, its row (the header is row 1) and its column.
"""

import csv
import gzip
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

MISSING_MARKERS = ("", "NA")


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not empty, with their numbers.

    Raises:
        OSError: there is no such file.
        ValueError: it is no text in columns.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        try:
            for cells in lines:
                if cells:
                    yield lines.line_num, [cell.strip() for cell in cells]
        except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, csv.Error) as error:
            raise ValueError(f"{path.name}, after row {lines.line_num}: no text in columns ({error}).") from error


def describe_missing_columns(needed: Sequence[Sequence[str]], header: Sequence[str], file: str) -> str:
    """Which of the `needed` columns, each by any of its names, are not there, all at once; empty if none is."""
    absent = [" or ".join(names) for names in needed if not set(names) & set(header)]
    if not absent:
        return ""
    split = len(header) == 1 and any(mark in header[0] for mark in ";\t")
    hint = "; cells must be separated by commas" if split else ""
    return (
        f"{file}, row 1: no column{'s' * (len(absent) > 1)} {', '.join(absent)}; there are {', '.join(header)}{hint}."
    )


def find_column(name: str, names: Sequence[str], header: Sequence[str], file: str, needed: bool = True) -> int:
    """Where the column called by one of `names` is; -1 if it is nowhere and not `needed`.

    Raises:
        ValueError: it is not there, or could be several.
    """
    found = [i for i, heading in enumerate(header) if heading in names]
    if len(found) > 1:
        raise ValueError(
            f"{file}, row 1: columns {' and '.join(header[i] for i in found)} could both be {name}; keep one."
        )
    if not found and needed:
        raise ValueError(f"{file}, row 1: no column {' or '.join(names)}; there are {', '.join(header)}.")
    return found[0] if found else -1


def parse_number(cell: str, where: str) -> float:
    """A finite number.

    Raises:
        ValueError: it is none; `where` it stands.
    """
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in cell:
        raise ValueError(f"{where}: {cell!r} is no finite number.")
    return value
