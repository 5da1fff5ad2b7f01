"""Options that all calibration scripts share."""

import argparse
from pathlib import Path

from ..data.constants import CONSTANTS_FILE


def make_parser(script: str, description: str | None) -> argparse.ArgumentParser:
    """A parser of a script's arguments, with the table that it rewrites."""
    parser = argparse.ArgumentParser(prog=f"python -m {script}", description=description)
    parser.add_argument(
        "--table", type=Path, default=CONSTANTS_FILE, metavar="PATH", help="table of constants to update in place"
    )
    return parser


def require_files(folder: Path, names: tuple[str, ...], source: str) -> None:
    """Raise FileNotFoundError, with the data set's source, where one of the files that a script needs is missing."""
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}: it must hold {source}.")
