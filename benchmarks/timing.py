"""How long runs take, in turns; what is spent once, what on the way to the device and back, and how much memory a run adds."""

import contextlib
import ctypes
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Timing(NamedTuple):
    """Of one run, repeated.

    Attributes:
        seconds: s, of each round.
        compile_seconds: s, by which the first run took longer.
        transfer_seconds: s, to hand in what a run reads and to fetch what it returns.
        memory_mib: MiB, the peak of a run above what the process held before it; None where the system does not tell.
    """

    seconds: list[float]
    compile_seconds: float = 0.0
    transfer_seconds: float | None = None
    memory_mib: float | None = None


class Run(NamedTuple):
    """Something to time.

    Attributes:
        call: takes what is read, returns arrays.
        reads: a tree of arrays.
    """

    call: Callable[[Any], Any]
    reads: Any


def paired(runs: list[Run], rounds: int) -> list[Timing]:
    """Time several runs by turns, so that whatever else the machine does meets all of them."""
    import jax

    first, later, moved, memory = [], [[] for _ in runs], [], []
    for call, reads in runs:
        first.append(_seconds(lambda call=call, reads=reads: jax.block_until_ready(call(reads))))
        host = jax.device_get(reads)
        there = _seconds(lambda host=host: jax.block_until_ready(jax.device_put(host)))
        found = []
        memory.append(
            _memory(lambda call=call, reads=reads, found=found: found.append(jax.block_until_ready(call(reads))))
        )
        moved.append(there + _seconds(lambda found=found: jax.device_get(found)))
    for _ in range(rounds):
        for seconds, (call, reads) in zip(later, runs, strict=True):
            seconds.append(_seconds(lambda call=call, reads=reads: jax.block_until_ready(call(reads))))
    return [
        Timing(seconds, max(once - statistics.median(seconds), 0.0), way, peak)
        for seconds, once, way, peak in zip(later, first, moved, memory, strict=True)
    ]


def once(run: Run) -> Timing:
    """A single time, compilation included, of what takes minutes."""
    import jax

    taken = []
    memory = _memory(lambda: taken.append(_seconds(lambda: jax.block_until_ready(run.call(run.reads)))))
    return Timing(taken, memory_mib=memory)


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _memory(call: Callable[[], Any]) -> float | None:
    """MiB that the process held at most while this ran, above what it held before; what is returned included."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # what compiling freed would hide what the run takes
    try:
        _RESET.write_text("5")  # Linux: the peak begins again at what is held now
    except OSError:
        call()
        return None
    before = _held("VmHWM")
    call()
    return (_held("VmHWM") - before) / 1024


def _held(name: str) -> int:
    """KiB."""
    return next(int(line.split()[1]) for line in _STATUS.read_text().splitlines() if line.startswith(name))
