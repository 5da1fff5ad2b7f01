"""Speed of the package on whatever runs this: against other engines on the same work, and clock by clock.

Prints a table and appends its rows to benchmarks/results.csv. Every engine is checked to do the same work as ours before it
is timed; if one does not, the exit status is 1. Compilation is timed apart.
"""

import argparse
import csv
import datetime
import functools
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path

import paired
import plan_check
from rich import box
from rich.console import Console
from rich.table import Table
from rivals import MODULES
from workload import Workload

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
    "subjects",
    "neurons",
    "steps",
    "commit",
    "date",
    "device",
    "versions",
)
ROUNDS = 5
EXAMPLES = """examples:
  python benchmarks/run.py                       everything, some ten minutes
  python benchmarks/run.py lhb --quick           our engine and every rival that is installed, a few minutes
  python benchmarks/run.py lhb --engines c scan  two rivals only
  python benchmarks/run.py slow fast --json out.json

columns: rate, and the lowest and highest of its rounds; ratio, the rate over ours (for a gradient, its cost in
forward runs); equal, whether the same work was done. Rivals: pip install -e ".[bench]", and gcc, g++ and nvcc.
"""
PACKAGES = {  # whose versions matter, by engine; jax where none is named
    "c": (),
    "numba": ("numba", "llvmlite"),
    "diffrax": ("diffrax", "jax"),
    "brian2": ("brian2",),
    "numpy": ("numpy",),
    "cuda": (),
}
COMPILERS = {"c": "gcc", "brian2": "g++", "cuda": "nvcc"}

console = Console()
aside = Console(stderr=True)


def main() -> None:
    """The command."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=form)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"any of {', '.join(CASES)}; all by default")
    parser.add_argument("--engines", nargs="+", choices=sorted(MODULES), metavar="engine", help="rivals in case lhb")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows there too")
    parser.add_argument("--no-append", action="store_true", help="leave results.csv as it is")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"unknown cases {sorted(unknown)}; choose from {', '.join(CASES)}")
    if (load := os.getloadavg()[0]) > 0.5:
        aside.print(
            f"The machine is busy (load {load:.1f}): rates will be low, and those of several cores lower still."
        )
    rows, missing, wrong = [], {}, {}
    for case in arguments.cases or CASES:
        for found in CASES[case](arguments.quick, arguments.engines):
            if "rate" in found:
                rows.append(found | {"commit": _commit(), "date": datetime.date.today().isoformat()})
            else:
                (missing if found["missing"] else wrong)[found["engine"]] = found["why"]
    _show(rows, missing)
    if not arguments.no_append:
        _append(rows)
    if arguments.json:
        text = {"rows": [{field: row[field] for field in FIELDS} for row in rows], "missing": missing, "wrong": wrong}
        arguments.json.write_text(json.dumps(text, indent=1))
    for engine, why in wrong.items():
        aside.print(f"{engine} did not do the same work: {why}", style="red", markup=False)
    sys.exit(1 if wrong else 0)


def lhb(quick: bool, engines: list[str] | None) -> list[dict]:
    """Ours against the rivals: on one core, then on all of them."""
    workload = Workload(subjects=256, steps=1000) if quick else Workload()
    wanted = {name: module for name, module in MODULES.items() if engines is None or name in (paired.OURS, *engines)}
    found = race("lhb one core", wanted, workload, cores()[-1:])  # the first core is where interrupts tend to go
    return found + (race("lhb all cores", wanted, workload, cores()) if len(cores()) > 1 else [])


def cores() -> list[int]:
    """Numbers of the processor's cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def race(case: str, modules: dict[str, str], workload: Workload, on: list[int], rounds: int = ROUNDS) -> list[dict]:
    """Rows of the engines that were timed; what was missing, or wrong, of the others."""
    with aside.status(case) as status:
        timed = paired.race(modules, workload, on, rounds, lambda text: status.update(f"{case}: {text}"))
    sizes = {"subjects": workload.subjects, "neurons": workload.neurons, "steps": workload.steps}
    ours = next(each.seconds for each in timed if each.engine == paired.OURS)
    rows = []
    for each in timed:
        if not each.seconds:
            rows.append({"case": case, "engine": each.engine, "missing": each.missing, "why": each.why})
            continue
        told = {"case": case, "engine": each.engine, "unit": "M neuron-steps/s", "equal": each.equal} | sizes
        ratio = statistics.median(a / b for a, b in zip(ours, each.seconds, strict=True))
        device = each.device or f"{_processor()}, {len(on)} of {os.cpu_count()} cores"
        rows.append(_row(told, workload.neuron_steps, each.seconds, ratio, each.compile_seconds, device))
    return rows


def clock(name: str, quick: bool, engines: list[str] | None) -> list[dict]:
    """A case of `clocks`, in a process of its own: JAX's settings there are nobody else's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool, aside.status(f"{name} clock"):
        found = pool.submit(_clock, name, quick).result()
    device, rows = f"{_processor()}, {os.cpu_count()} cores", []
    for each in found:
        told = {"engine": paired.OURS, "equal": ""} | {field: each[field] for field in FIELDS if field in each}
        rows.append(_row(told, each["work"], each["seconds"], each["ratio"], each["compile_seconds"], device))
    return rows


def _clock(name: str, quick: bool) -> list[dict]:
    import clocks

    return getattr(clocks, name)(quick)


def plan(quick: bool, engines: list[str] | None) -> list[dict]:
    """The planner's forecasts against what runs take."""
    device = f"{_processor()}, {os.cpu_count()} cores"
    return [row | {"device": device, "versions": _versions(paired.OURS)} for row in plan_check.checked(quick)]


CASES = {"lhb": lhb, "slow": functools.partial(clock, "slow"), "fast": functools.partial(clock, "fast"), "plan": plan}


def _row(told: dict, work: float, seconds: list[float], ratio: float, once: float, device: str) -> dict:
    """Rates in millions a second: the median, the lowest and the highest round."""
    rate = lambda each: round(work / each / 1e6, 3)
    rates = {"rate": rate(statistics.median(seconds)), "low": rate(max(seconds)), "high": rate(min(seconds))}
    rest = {"ratio": round(ratio, 3), "compile_seconds": round(once, 1), "device": device}
    return told | rates | rest | {"versions": _versions(told["engine"])}


def _show(rows: list[dict], missing: dict[str, str]) -> None:
    """One table for each case, so that a narrow terminal holds the columns."""
    several = lambda number: f"{number:.1f}" if number >= 10 else f"{number:.3g}"
    for case, of_case in itertools.groupby(rows, lambda row: (row["case"].partition(",")[0], row["unit"])):
        table = Table(title=", ".join(case), title_justify="left", box=box.SIMPLE)
        for heading in ("engine", "rate", "low", "high", "ratio", "equal", "compiled"):
            table.add_column(heading, justify="left" if heading in ("engine", "equal") else "right", no_wrap=True)
        for row in of_case:
            name = " ".join([row["engine"], *row["case"].split(",")[1:]])
            numbers = [several(row[field]) for field in ("rate", "low", "high", "ratio")]
            equal = {True: "yes", False: "no"}.get(row["equal"], "")
            table.add_row(name, *numbers, equal, f"{row['compile_seconds']:.1f} s")
        console.print(table)
    for engine, why in missing.items():
        console.print(f"{engine}: {why}", markup=False)


def _append(rows: list[dict]) -> None:
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n", extrasaction="ignore")
        if new:
            writer.writeheader()
        writer.writerows(rows)


@functools.cache
def _commit() -> str:
    """The commit, with a plus if the sources differ from it."""
    ask = lambda *words: (
        subprocess.run(["git", *words], capture_output=True, text=True, cwd=RESULTS.parent.parent).stdout
    )
    changed = ask("status", "--porcelain", "--", "circuit", "kernels", "benchmarks/*.py", "benchmarks/rivals")
    return ask("rev-parse", "--short", "HEAD").strip() + ("+" if changed.strip() else "")


@functools.cache
def _processor() -> str:
    """The processor's name."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


@functools.cache
def _versions(engine: str) -> str:
    """What made its machine code, and in which version."""
    found = [f"{package} {metadata.version(package)}" for package in PACKAGES.get(engine, ("jax", "jaxlib"))]
    if engine in COMPILERS:
        told = subprocess.run([COMPILERS[engine], "--version"], capture_output=True, text=True).stdout.splitlines()
        release = next((line for line in told if "release" in line), told[0] if told else "")
        found.append(f"{COMPILERS[engine]} {release.split()[-1].lstrip('V')}" if release else COMPILERS[engine])
    return ", ".join(found)


if __name__ == "__main__":
    main()
