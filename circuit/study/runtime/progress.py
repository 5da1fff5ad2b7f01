"""From `report(stage, done, total)`, which long work calls, to something to watch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ProgressCallback = Callable[[str, int, int], None]


@contextmanager
def show_progress(console: Console, quiet: bool = False) -> Iterator[ProgressCallback | None]:
    """Give the work inside something to report to.

    Args:
        console: standard error, so that what a command prints can be piped. A terminal gets a bar for each stage, a
            file a line for each.
        quiet: show nothing; the work then gets None and need not report at all.
    """
    if quiet:
        yield None
    elif console.is_terminal:
        with _make_bars(console) as bars:
            yield _report_to_bars(bars)
    else:
        yield _report_to_lines(console)


def _make_bars(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=32), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _report_to_bars(bars: Progress) -> ProgressCallback:
    tasks = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage)
        bars.update(tasks[stage], completed=done, total=total)

    return report


def _report_to_lines(console: Console) -> ProgressCallback:
    begun = set()

    def report(stage: str, done: int, total: int) -> None:
        if stage not in begun:
            begun.add(stage)
            console.print(f"{stage} ...", markup=False, highlight=False)

    return report
