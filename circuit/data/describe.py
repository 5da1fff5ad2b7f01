"""Summaries of results for `print` and for notebooks, and the error for a name that a result does not have."""

import html
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import jax
import numpy as np
from jax.core import Tracer

MAX_LINES = 12
MAX_WIDTH = 100


def describe(title: str, rows: Sequence[tuple[str, object]]) -> str:
    """Title and aligned rows of label and value, in at most 12 lines of at most 100 characters.

    Args:
        title: what the object is, and its size.
        rows: label and value of each line.

    Example:
        >>> print(describe("Course of 8 subjects", [("days", 14), ("failures", "none")]))
        Course of 8 subjects
          days      14
          failures  none
    """
    width = max((len(label) for label, _ in rows), default=0)
    lines = [title, *(f"  {label:{width}s}  {value}" for label, value in rows)]
    if len(lines) > MAX_LINES:
        left_out = len(lines) - MAX_LINES + 1
        lines = [*lines[: MAX_LINES - 1], f"  ... and {left_out} more"]
    return "\n".join(_shorten(line) for line in lines)


def describe_html(title: str, rows: Sequence[tuple[str, object]]) -> str:
    """The summary of `describe` as an HTML table, every row of it; text is escaped.

    Args:
        title: what the object is, and its size.
        rows: label and value of each line.

    Example:
        >>> describe_html("A & B", [("days", 14)])
        '<table><caption>A &amp; B</caption><tr><th>days</th><td>14</td></tr></table>'
    """
    cells = "".join(
        f"<tr><th>{html.escape(label)}</th><td>{html.escape(str(value))}</td></tr>" for label, value in rows
    )
    return f"<table><caption>{html.escape(title)}</caption>{cells}</table>"


def preformatted_html(text: str) -> str:
    """Text as it is printed, escaped, for a result that has no table.

    Example:
        >>> preformatted_html("<lambda>")
        '<pre>&lt;lambda&gt;</pre>'
    """
    return f"<pre>{html.escape(text)}</pre>"


def are_arrays(*leaves: object) -> bool:
    """Whether all `leaves` are arrays of numbers along one axis, neither traced nor replaced by something else.

    Example:
        >>> are_arrays(np.zeros(3)), are_arrays(np.zeros(3), None)
        (True, False)
    """
    return all(isinstance(x, jax.Array | np.ndarray) and not isinstance(x, Tracer) and x.ndim == 1 for x in leaves)


def missing_name(name: str, names: Iterable[str]) -> KeyError:
    """Error for a `name` that is not among `names`; it quotes the nearest, in either case of letters.

    Example:
        >>> missing_name("VTA", ["vta_output", "mood"])
        KeyError("no quantity 'VTA'; did you mean vta_output?")
        >>> missing_name("x", ["mood", "rate"])
        KeyError("no quantity 'x'; there are mood, rate.")
    """
    by_lower_case = {known.lower(): known for known in names}
    lower = name.lower()
    within = [key for key in by_lower_case if lower in key] if len(lower) > 1 else []
    nearest = list(dict.fromkeys([*within, *get_close_matches(lower, by_lower_case, 3)]))[:3]
    if nearest:
        return KeyError(f"no quantity {name!r}; did you mean {' or '.join(by_lower_case[key] for key in nearest)}?")
    return KeyError(f"no quantity {name!r}; there are {', '.join(by_lower_case.values())}.")


def _shorten(line: str) -> str:
    """A line cut to `MAX_WIDTH` characters."""
    return line if len(line) <= MAX_WIDTH else line[: MAX_WIDTH - 3] + "..."
