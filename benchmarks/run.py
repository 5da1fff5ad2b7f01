"""Speed of the two clocks and of their gradient, on whatever runs this.

    python benchmarks/run.py [case ...] [--quick] [--json PATH]

Prints one table and appends one row per case to benchmarks/results.csv: commit, date, device, versions, median and spread.
Compilation is timed apart. A gradient's cost is given as a ratio to the forward run in the same process.
"""

import argparse
import csv
import datetime
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp

from habenula import circuit as hb
from habenula.circuit.population import plan_for

RESULTS = Path(__file__).with_name("results.csv")
FIELDS = (
    "case",
    "engine",
    "unit",
    "rate",
    "low",
    "high",
    "ratio",
    "compile_seconds",
    "subjects",
    "commit",
    "date",
    "device",
)
REPEATS = 5


def timed(run) -> tuple[float, list[float]]:
    """Seconds of the first call less the median of the later ones, and those."""
    begin = time.perf_counter()
    jax.block_until_ready(run())
    first, later = time.perf_counter() - begin, []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        later.append(time.perf_counter() - begin)
    return max(first - statistics.median(later), 0.0), later


def row(
    case: str, unit: str, work: float, compiled: float, seconds: list[float], subjects: int, ratio: float = 1.0
) -> dict:
    rate = lambda each: work / each / 1e6
    return {
        "case": case,
        "engine": "habenula",
        "unit": unit,
        "rate": round(rate(statistics.median(seconds)), 3),
        "low": round(rate(max(seconds)), 3),
        "high": round(rate(min(seconds)), 3),
        "ratio": round(ratio, 2),
        "compile_seconds": round(compiled, 1),
        "subjects": subjects,
    }


def slow_clock(quick: bool) -> list[dict]:
    """Courses, and the gradient of their mean output by the intensities of a regimen."""
    subjects, days = (128, 7.0) if quick else (512, 28.0)
    cohort, arm = hb.draw(hb.depressed(), subjects, seed=1), hb.Recalibration.weekly(int(3 * days // 7))
    lived = lambda intensity: hb.course(
        cohort, eqx.tree_at(lambda a: a.intensity, arm, intensity), days, save_every=24, record=("vta_output",)
    )["vta_output"]
    gradient = jax.jit(jax.value_and_grad(lambda intensity: jnp.mean(lived(intensity))))
    work = subjects * days * 24
    compiled, forward = timed(lambda: lived(arm.intensity))
    compiled_too, backward = timed(lambda: gradient(arm.intensity))
    ratio = statistics.median(backward) / statistics.median(forward)
    unit = "M subject-hours/s"
    return [
        row("slow clock", unit, work, compiled, forward, subjects),
        row("slow clock, gradient", unit, work, compiled_too, backward, subjects, ratio),
    ]


def fast_clock(quick: bool) -> list[dict]:
    """Moments of 32 neurons a subject."""
    subjects, seconds, neurons = (64, 0.5, 32) if quick else (256, 2.0, 32)
    cohort = hb.draw(hb.depressed(), subjects, seed=1)
    run = lambda: hb.moment(cohort, seconds, neurons=neurons, plan=plan_for(neurons)).record
    compiled, times = timed(run)
    work = subjects * neurons * (seconds + 1.0) * 4000  # with the second that is left out at the beginning
    return [row("fast clock", "M neuron-steps/s", work, compiled, times, subjects)]


CASES = {"slow": slow_clock, "fast": fast_clock}


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the two clocks and of their gradient.")
    parser.add_argument("cases", nargs="*", metavar="case", help=f"any of {', '.join(CASES)}; all by default")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        parser.error(f"unknown cases {sorted(unknown)}; choose from {', '.join(CASES)}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    device = f"{jax.devices()[0].device_kind}, {platform.processor() or platform.machine()}, jax {jax.__version__}"
    told = {"commit": commit, "date": datetime.date.today().isoformat(), "device": f"{device}, {os.cpu_count()} cores"}
    rows = [each | told for case in arguments.cases or CASES for each in CASES[case](arguments.quick)]
    for each in rows:
        print(
            f"{each['case']:22s} {each['rate']:10.2f} {each['unit']:18s} ({each['low']}-{each['high']})  ratio {each['ratio']}"
        )
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
