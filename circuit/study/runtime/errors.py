"""Commands that say what goes wrong in one line, with an exit code, and refuse impossible options before any work."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

FAILED, MISUSED, STOPPED = 1, 2, 130  # exit codes: a check that fails, an error, a user's Ctrl-C


class OneLineErrors(TyperGroup):
    """Commands whose errors are one line on standard error; with `--debug`, a traceback."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run, and turn what goes wrong into a line and an exit code. Without arguments, help."""
        args = list(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            code = super().main(args, *rest, standalone_mode=False, **extra)
        except (typer.Abort, KeyboardInterrupt):
            code = print_error("stopped", STOPPED)
        except Exception as error:
            describe = getattr(error, "format_message", None)
            if describe is None:  # an error of the program, and --debug: let it be seen
                raise
            code = print_error(describe(), MISUSED)
        if standalone_mode:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        """Call the command; errors of the library speak for themselves, unexpected ones say of what kind they are."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):  # the last: whoever read the output has seen enough
            raise
        except Exception as error:
            if ctx.meta.get("debug") or hasattr(error, "format_message"):
                raise
            expected = isinstance(error, ValueError | TypeError | OSError) and str(error)
            words = str(error) if expected else f"{type(error).__name__}: {error}; --debug shows where"
            raise typer.Exit(print_error(words, MISUSED)) from error


def check_range(option: str, value: int | float, low: int | float, high: int | float = math.inf) -> None:
    """Refuse what is not from `low` to `high`.

    Raises:
        ValueError: quoting the option and its value.
    """
    if not low <= value <= high:  # true for NaN too
        allowed = f"at least {low:g}" if high == math.inf else f"a number from {low:.10g} to {high:.10g}"
        raise ValueError(f"{option} {value} is impossible: give {allowed}.")


def parse_shares(option: str, text: str) -> tuple[float, ...]:
    """Probabilities in a comma list.

    Raises:
        ValueError: quoting the option and what is none.

    >>> parse_shares("--reward", "1, 0.5")
    (1.0, 0.5)
    """
    found = []
    for word in text.split(","):
        try:
            found.append(float(word))
        except ValueError:
            raise ValueError(
                f"{option} {text}: {word.strip()!r} is no number; give a comma list such as 1,0.5."
            ) from None
        check_range(option, found[-1], 0, 1)
    return tuple(found)


def check_output_file(path: Path | None) -> None:
    """Refuse a folder where a file of results is to go.

    Raises:
        ValueError: it is one.
    """
    if path and path.is_dir():
        raise ValueError(f"--json {path} is a folder: give the name of a file.")


def print_error(message: str, code: int) -> int:
    """Say what went wrong in one line on standard error, and hand on the exit code."""
    print(f"habenula: {' '.join(message.split())}", file=sys.stderr)
    return code
