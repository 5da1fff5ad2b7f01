"""Rows of results: what one says, where it is kept, and under which circumstances it was measured."""

import csv
import datetime
import functools
import os
import platform
import statistics
import subprocess
from importlib import metadata
from pathlib import Path

from timing import Timing

RESULTS = Path(__file__).with_name("results.csv")
FIELDS = (
    "case",
    "engine",
    "unit",
    "rate",
    "low",
    "high",
    "ratio",
    "equal",
    "compile_seconds",
    "transfer_seconds",
    "memory_mib",
    "subjects",
    "neurons",
    "steps",
    "devices",
    "load",
    "commit",
    "date",
    "device",
    "versions",
)
PACKAGES = {  # whose versions matter, by engine; jax where none is named
    "c": (),
    "c-tuned": (),
    "numba": ("numba", "llvmlite"),
    "diffrax": ("diffrax", "jax"),
    "diffrax-tuned": ("diffrax", "jax"),
    "brian2": ("brian2",),
    "numpy": ("numpy",),
    "cuda": (),
}
COMPILERS = {"c": "gcc", "c-tuned": "gcc", "brian2": "g++", "cuda": "nvcc"}


def row(told: dict, work: float, timing: Timing, ratio: float, load: float, device: str | None = None) -> dict:
    """One row: rates in millions a second, the median of all rounds, the lowest and the highest.

    Args:
        told: case, engine, unit, and what else is known of the fields.
        work: done in a round, in the unit's own measure.
        timing: of the rounds.
        ratio: see `run.EXAMPLES`.
        load: of the machine meanwhile, see `load`.
        device: what it ran on; the processor if not given.
    """
    rate = lambda each: round(work / each / 1e6, 3)
    seconds = timing.seconds
    measured = {"rate": rate(statistics.median(seconds)), "low": rate(max(seconds)), "high": rate(min(seconds))}
    apart = {
        "compile_seconds": round(timing.compile_seconds, 1),
        "transfer_seconds": _rounded(timing.transfer_seconds, 4),
    }
    rest = {"ratio": round(ratio, 3), "memory_mib": _rounded(timing.memory_mib, 1)}
    return placed(told | measured | apart | rest, load, device)


def placed(measured: dict, load: float, device: str | None = None) -> dict:
    """A row of what was `measured`, with what is not known left empty, and where and when it was."""
    unknown = dict.fromkeys(FIELDS, "") | {"devices": 1, "load": round(load, 1)}
    place = {"device": device or processor(), "versions": measured.get("versions") or versions(measured["engine"])}
    return unknown | measured | place | {"commit": commit(), "date": datetime.date.today().isoformat()}


def _rounded(value: float | None, digits: int) -> float | str:
    return "" if value is None else round(value, digits)


def append(rows: list[dict], path: Path = RESULTS) -> None:
    """Add rows to a file of earlier ones.

    Raises:
        ValueError: the file has other columns.
    """
    if path.exists():
        with path.open(newline="") as file:
            if (columns := tuple(next(csv.reader(file), ()))) != FIELDS:
                raise ValueError(f"{path} has columns {', '.join(columns)}: move it away, this version has others.")
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n", extrasaction="ignore")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def load() -> float:
    """Processes that ran or waited for a core in the last minute, on average.

    Those of the benchmark included: an otherwise idle machine shows the number of devices at most.
    """
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def cores() -> list[int]:
    """Numbers of the processor's cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


@functools.cache
def commit() -> str:
    """The commit, with a plus if the sources differ from it."""
    ask = lambda *words: (
        subprocess.run(["git", *words], capture_output=True, text=True, cwd=RESULTS.parent.parent).stdout
    )
    changed = ask("status", "--porcelain", "--", "circuit", "kernels", "benchmarks/*.py", "benchmarks/rivals")
    return ask("rev-parse", "--short", "HEAD").strip() + ("+" if changed.strip() else "")


@functools.cache
def processor() -> str:
    """The processor's name, and how many cores of it there are."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(named, platform.processor() or platform.machine())}, {os.cpu_count()} cores"


@functools.cache
def versions(engine: str) -> str:
    """What made its machine code, and in which version."""
    found = [f"{package} {metadata.version(package)}" for package in PACKAGES.get(engine, ("jax", "jaxlib"))]
    if engine in COMPILERS:
        told = subprocess.run([COMPILERS[engine], "--version"], capture_output=True, text=True).stdout.splitlines()
        release = next((line for line in told if "release" in line), told[0] if told else "")
        found.append(f"{COMPILERS[engine]} {release.split()[-1].lstrip('V')}" if release else COMPILERS[engine])
    return ", ".join(found)
