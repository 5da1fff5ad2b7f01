"""Speed of the package on whatever runs this: against other engines on the same work, clock by clock, and by size.

Prints a table and appends its rows to benchmarks/results.csv. Every engine is checked to do the same work as ours before it
is timed; if one does not, the exit status is 1. Compilation is timed apart.
"""

import argparse
import functools
import importlib
import itertools
import json
import multiprocessing
import statistics
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import on_gpu
import paired
import plan_check
import resources
import rows as results
from rich import box
from rich.console import Console
from rich.table import Table
from rivals import MODULES, ON_GPU, cuda_kernel
from rows import FIELDS, cores
from timing import Timing
from workload import Workload

ROUNDS, FEWER = 5, 3  # the second for what takes long, or is asked to be quick
EXAMPLES = """cases:
  lhb       the LHb population, ours and every rival, on one core and on all
  slow      12-week courses, and their gradient
  fast      moments of 10,000 steps, and their gradient
  subjects  courses of a hundred to a million subjects
  million   courses of twelve weeks for a million subjects at once: what they take of memory; once, compilation included
  steps     courses of a week to a year, moments of a second to a minute
  neurons   LHb populations of 8 to 512 neurons
  devices   one CPU device to one for each core
  personal  regimens of their own for one subject to a thousand
  plan      what the planner forecasts against what runs take
  gpu       first the tests of kernels; then the LHb population: our kernel, CUDA by hand, and a plain scan; then both
            clocks, as one kernel and as a plain loop. What fails is named, and takes nothing else with it
  resources what our kernels take of a GPU beside CUDA by hand: registers, instructions; compiled only, no GPU is needed

examples:
  python benchmarks/run.py                       everything, half an hour or more
  python benchmarks/run.py lhb --quick           our engine and every rival that is installed, a few minutes
  python benchmarks/run.py lhb --engines c,scan  two rivals only; c is C as first written, c-tuned by long work
  python benchmarks/run.py slow fast --json out.json
  python benchmarks/table.py                     then writes the tables of docs/speed.md

columns: rate, and the lowest and highest of its rounds; ratio, in case lhb and gpu the rate over ours, for a gradient its
cost in forward runs, for sizes the rate over that of the first, for plans what was taken over the forecast, for resources
the number over CUDA's; equal, whether the same work was done; compiled, s spent once; memory, the peak that a run adds, MiB;
load, of the machine at the end of the case, the benchmark itself included. Rows hold more: s to hand in and fetch arrays,
sizes, commit, versions. Rivals: pip install -e ".[bench]", and gcc, g++ and nvcc.
"""

console = Console(width=None if sys.stdout.isatty() else 100)
aside = Console(stderr=True)


def main() -> None:
    """The command."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=form)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"any of {', '.join(CASES)}; all by default")
    parser.add_argument("--engines", default="", metavar="A,B", help=f"rivals in case lhb: {', '.join(MODULES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows there too")
    parser.add_argument("--no-append", action="store_true", help="leave results.csv as it is")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    arguments = parser.parse_args()
    aside.quiet = arguments.quiet
    engines = [name for name in arguments.engines.split(",") if name]
    for kind, given, known in (("cases", arguments.cases, CASES), ("engines", engines, MODULES)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown {kind} {sorted(unknown)}; choose from {', '.join(known)}")
    if arguments.json and arguments.json.is_dir():
        parser.error(f"--json {arguments.json} is a folder: give the name of a file")
    if (load := results.load()) > 0.5:
        aside.print(
            f"The machine is busy (load {load:.1f}): rates will be low, and those of several cores lower still."
        )
    rows, missing, wrong = [], {}, {}
    for case in arguments.cases or CASES:
        timed = []
        for each in CASES[case](arguments.quick, engines):
            if "rate" not in each:
                (missing if each["missing"] else wrong)[each["engine"]] = each["why"]
                continue
            timed.append(each)
            if not arguments.no_append:  # at once, so that who stops a long run has what was measured
                results.append([each])
        rows += timed
        _show(timed)
        if arguments.json:
            text = {
                "rows": [{field: row[field] for field in FIELDS} for row in rows],
                "missing": missing,
                "wrong": wrong,
            }
            arguments.json.write_text(json.dumps(text, indent=1))
    for engine, why in missing.items():
        console.print(f"{engine}: {why}", markup=False)
    for engine, why in wrong.items():
        Console(stderr=True).print(f"{engine} did not do the same work: {why}", style="red", markup=False)
    sys.exit(1 if wrong else 0)


def lhb(quick: bool, engines: list[str]) -> list[dict]:
    """Ours against the rivals: on one core, then on all of them."""
    workload = Workload(subjects=256, steps=1000) if quick else Workload()
    wanted = {name: module for name, module in MODULES.items() if not engines or name in (paired.OURS, *engines)}
    found = race("lhb one core", wanted, workload, cores()[-1:])  # the first core is where interrupts tend to go
    return found + (race("lhb all cores", wanted, workload, cores()) if len(cores()) > 1 else [])


def gpu(quick: bool, engines: list[str]) -> Iterator[dict]:
    """Tests of kernels on the first GPU; ours against the rivals, with ten thousand neurons and with a million; both clocks."""
    if not cuda_kernel.device():
        yield {"case": "gpu", "engine": "gpu", "missing": True, "why": "no NVIDIA GPU"}
        return
    with aside.status("gpu: tests of kernels"):
        if why := on_gpu.tested():
            yield {"case": "gpu", "engine": "tests of kernels", "missing": False, "why": why}
    wanted = {name: module for name, module in ON_GPU.items() if not engines or name in (paired.OURS, *engines)}
    sizes = {"1e4 neurons": 320} if quick else {"1e4 neurons": 320, "1e6 neurons": 32_768}
    for name, subjects in sizes.items():
        workload, case = Workload(subjects=subjects, steps=1000 if quick else 10_000), f"gpu, {name}"
        try:
            found = race(case, wanted, workload, cores()[-1:], platform="gpu")
        except Exception:  # the next may do better, and the time on a GPU is short
            found = [{"case": case, "engine": case, "missing": False, "why": traceback.format_exc(limit=-3)}]
        for each in found:
            yield each if "rate" in each else each | {"engine": f"{each['engine']}, {name}"}
    with aside.status("gpu") as status:
        for each in on_gpu.measured(quick, FEWER, status.update):
            if "why" in each:
                yield each
            else:
                yield results.row(
                    each["told"], each["work"], each["timing"], each["ratio"], results.load(), cuda_kernel.device()
                )


def race(
    case: str,
    modules: dict[str, str],
    workload: Workload,
    on: list[int],
    rounds: int = ROUNDS,
    platform: str = "cpu",
) -> list[dict]:
    """Rows of the engines that were timed; what was missing, or wrong, of the others."""
    with aside.status(case) as status:
        tell = lambda text: status.update(f"{case}: {text}")
        timed = paired.race(modules, workload, on, rounds, tell, platform)
    load, running = results.load(), [each for each in timed if each.seconds]
    base = next((each.seconds for each in running if each.engine == paired.OURS), running[0].seconds if running else [])
    sizes = {"subjects": workload.subjects, "neurons": workload.neurons, "steps": workload.steps, "devices": len(on)}
    rows = []
    for each in timed:
        if not each.seconds:
            rows.append({"case": case, "engine": each.engine, "missing": each.missing, "why": each.why})
            continue
        told = {"case": case, "engine": each.engine, "unit": "M neuron-steps/s", "equal": each.equal} | sizes
        ratio = statistics.median(a / b for a, b in zip(base, each.seconds, strict=True))
        timing = Timing(each.seconds, each.compile_seconds)
        rows.append(results.row(told, workload.neuron_steps, timing, ratio, load, each.device))
    return rows


def alone(module: str, name: str, rounds: int, quick: bool, engines: list[str]) -> list[dict]:
    """A case of ours alone, in a process of its own: JAX's settings there are nobody else's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool, aside.status(name):
        found = pool.submit(_alone, module, name, quick, min(rounds, FEWER) if quick else rounds).result()
    load = results.load()
    return [
        each
        if "why" in each
        else results.row({"engine": paired.OURS} | each["told"], each["work"], each["timing"], each["ratio"], load)
        for each in found
    ]


def _alone(module: str, name: str, quick: bool, rounds: int) -> list[dict]:
    return getattr(importlib.import_module(module), name)(quick, rounds)


def plan(quick: bool, engines: list[str]) -> list[dict]:
    """The planner's forecasts against what runs take."""
    with aside.status("plan"):
        found = plan_check.checked(quick)
    load = results.load()
    return [each if "why" in each else results.placed(each, load) for each in found]


def taken(quick: bool, engines: list[str]) -> list[dict]:
    """What kernels take of a GPU, compiled and not run."""
    with aside.status("resources: compiling kernels"):
        found = resources.compared(quick)
    load = results.load()
    return [each if "why" in each else results.placed(each, load, each["device"]) for each in found]


CASES: dict[str, Callable[[bool, list[str]], Iterable[dict]]] = {
    "lhb": lhb,
    "slow": functools.partial(alone, "clocks", "slow", ROUNDS),
    "fast": functools.partial(alone, "clocks", "fast", ROUNDS),
    "subjects": functools.partial(alone, "scaling", "subjects", FEWER),
    "million": functools.partial(alone, "scaling", "million", 1),
    "steps": functools.partial(alone, "scaling", "steps", ROUNDS),
    "neurons": functools.partial(alone, "scaling", "neurons", ROUNDS),
    "devices": functools.partial(alone, "scaling", "devices", ROUNDS),
    "personal": functools.partial(alone, "scaling", "personal", FEWER),
    "ablation": functools.partial(alone, "ablation", "ablation", ROUNDS),
    "plan": plan,
    "gpu": gpu,
    "resources": taken,
}


def _show(rows: list[dict]) -> None:
    """One table for each case, so that a narrow terminal holds the columns."""
    digits = {"compile_seconds": 1, "memory_mib": 1, "load": 1}
    columns = {"rate": "rate", "low": "low", "high": "high", "ratio": "ratio", "equal": "equal"}
    columns |= {"compile_seconds": "compiled", "memory_mib": "memory", "load": "load"}
    for case, of_case in itertools.groupby(rows, lambda row: (row["case"].partition(",")[0], row["unit"])):
        shown, table = list(of_case), Table(title=", ".join(case), title_justify="left", box=box.SIMPLE)
        told = [field for field in columns if any(row[field] != "" for row in shown)]
        table.add_column("engine", no_wrap=True)
        for field in told:
            table.add_column(columns[field], justify="right", no_wrap=True)
        for row in shown:
            name = " ".join([row["engine"], *row["case"].split(",")[1:]])
            table.add_row(name, *(_cell(row[field], digits.get(field)) for field in told))
        console.print(table)


def _cell(value: float | bool | str, digits: int | None) -> str:
    """Three digits, or so many after the point; a truth as a word; nothing where nothing is known."""
    if isinstance(value, bool | str):
        return {True: "yes", False: "no"}.get(value, "")
    return f"{value:.{digits}f}" if digits else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


if __name__ == "__main__":
    main()
