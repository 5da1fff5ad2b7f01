"""Writes the tables of docs/speed.md from committed rows, benchmarks/results.csv: `python benchmarks/table.py`.

With `--figure docs/speed.svg` it also draws the figure. What stands between two marks of the page is replaced. Of runs of
the same case, engine and size on the same device, the last one stands.
"""

import argparse
import csv
import sys
from collections.abc import Iterable
from pathlib import Path

from figure import write_figure
from rows import RESULTS

PAGE = RESULTS.parent.parent / "docs/speed.md"
BEGIN = "<!-- benchmarks: begin (written by `python benchmarks/table.py`) -->"
END = "<!-- benchmarks: end -->"
NONE = "No rows yet: `python benchmarks/run.py` measures them on your machine."
SAME = ("case", "engine", "unit", "subjects", "neurons", "steps", "devices", "device")
COLUMNS = {
    "case": "case",
    "engine": "engine",
    "unit": "unit",
    "rate": "rate",
    "low": "low",
    "high": "high",
    "ratio": "ratio",
    "equal": "equal",
    "compile_seconds": "compiled, s",
    "memory_mib": "memory, MiB",
    "load": "load",
}


def read(path: Path = RESULTS) -> list[dict[str, str]]:
    """All rows that were ever committed, oldest first; none without the file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def render(rows: Iterable[dict[str, str]]) -> str:
    """The text between the marks: a table for every device and commit."""
    latest: dict[tuple, dict[str, str]] = {}
    for row in rows:
        key = tuple(row[field] for field in SAME)
        latest.pop(key, None)
        latest[key] = row
    parts: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in latest.values():
        parts.setdefault((row["device"], row["commit"], row["date"]), []).append(row)
    tables = [_table(where, of_part) for where, of_part in parts.items()]
    return "\n\n".join(tables) if tables else NONE


def replaced(page: str, text: str) -> str:
    """The page with `text` between its marks.

    Raises:
        ValueError: the marks are not there, once each and in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page must hold {BEGIN!r} and {END!r}, once each and in this order.")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}"


def _table(where: tuple[str, str, str], rows: list[dict[str, str]]) -> str:
    device, commit, date = where
    lines = [f"{device}; commit {commit}, {date}:", ""]
    words = ("case", "engine", "unit")
    lines += [f"| {' | '.join(COLUMNS.values())} |"]
    lines += [f"|{'|'.join('---' if name in words else '---:' for name in COLUMNS)}|"]
    lines += [f"| {' | '.join(_cell(name, row[name]) for name in COLUMNS)} |" for row in rows]
    return "\n".join(lines)


def _cell(name: str, value: str) -> str:
    if name == "equal":
        return {"True": "yes", "False": "no"}.get(value, value)
    return f"{float(value):.3g}" if value and name in ("rate", "low", "high", "ratio") and float(value) < 100 else value


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--figure", type=Path, help="where the figure goes, docs/speed.svg")
    figure = parser.parse_args().figure
    rows = read()
    PAGE.write_text(replaced(PAGE.read_text(), render(rows)))
    print(f"{PAGE}: {len(rows)} rows in {RESULTS.name}", file=sys.stderr)
    if figure is not None:
        write_figure(rows, figure)


if __name__ == "__main__":
    main()
