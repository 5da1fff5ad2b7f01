"""Whether the planner is right: time and peak memory of runs against what it said of them, each in a process of its own."""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

FACTOR = 2.0  # by which a forecast may be wrong, either way
ROUNDS = 3
UNITS = {"time": "s, taken", "memory": "GiB, taken"}
# By name: options of the planner, small and whole.
RUNS = {
    "course": ({"subjects": 1024, "days": 28.0}, {"subjects": 8192, "days": 84.0}),
    "course with ketamine": ({"subjects": 512, "days": 28.0}, {"subjects": 4096, "days": 84.0}),
    "moment": ({"subjects": 64, "seconds": 1.0}, {"subjects": 512, "seconds": 4.0}),
}


def checked(quick: bool, runs: dict[str, tuple[dict, dict]] = RUNS, carry_out: Callable | None = None) -> list[dict]:
    """Two rows for each run, and a word on those that are off: rates are what was taken, `ratio` is that over the forecast."""
    carry_out, rows = carry_out or _alone, []
    for name, sizes in runs.items():
        options = sizes[0 if quick else 1]
        for what, forecast, taken, compiled in carry_out(name, options):
            ratio = taken / forecast
            right = 1 / FACTOR <= ratio <= FACTOR
            rates = {"rate": taken, "low": taken, "high": taken, "ratio": ratio, "compile_seconds": compiled}
            told = {"case": f"plan, {name}", "engine": "habenula", "unit": UNITS[what], "equal": right}
            sizes_of = {"subjects": options["subjects"], "neurons": "", "steps": ""}
            rows.append(told | sizes_of | {field: round(value, 3) for field, value in rates.items()})
            if not right:
                why = f"{what} {taken:.3g} {UNITS[what]}, but {forecast:.3g} forecast: {ratio:.2g} times as much"
                rows.append({"case": f"plan, {name}", "engine": f"the planner, {name}", "missing": False, "why": why})
    return rows


def _alone(name: str, options: dict) -> list[tuple[str, float, float, float]]:
    """`_run` in a process of its own, so that its memory is nobody else's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, name, options).result()


def _run(name: str, options: dict) -> list[tuple[str, float, float, float]]:
    """What was forecast and what was taken, in s and in GiB, and s spent on compiling."""
    _start()
    import jax

    import habenula as hb
    from habenula.circuit.simulation import hardware

    if not hardware.detect_machine().rates[jax.default_backend()].measured:
        _probed()
    arm = (hb.Ketamine(0.5, 7.0),) if "ketamine" in name else (hb.Placebo(),)
    slow = "days" in options
    forecast = hb.forecast(**options, arm=arm) if slow else hb.forecast(**options, quantities=6)
    cohort = hb.draw(hb.depressed(), options["subjects"], seed=1, plan=forecast.plan)
    run = lambda: (
        hb.course(cohort, arm, options["days"], plan=forecast.plan).record
        if slow
        else hb.moment(cohort, options["seconds"], plan=forecast.plan).record
    )
    times = []
    for _ in range(ROUNDS + 1):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begin)
    compiled = times[0] - min(times[1:])
    return [
        ("time", forecast.seconds, sorted(times[1:])[ROUNDS // 2], compiled),
        ("memory", forecast.total / 2**30, peak() / 2**30, compiled),
    ]


def _start() -> None:
    """JAX as the command line has it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # or XLA names features of the processor at every program
    from habenula.circuit.study.runtime import jax_setup

    jax_setup.start_jax()


def _probed() -> None:
    """Measure in yet another process, whose memory is not counted."""
    process = multiprocessing.get_context("spawn").Process(target=_probe)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the probe broke off with code {process.exitcode}.")


def _probe() -> None:
    _start()
    from habenula.circuit.study.runtime.probe import measure_rates

    measure_rates()


def peak() -> int:
    """Bytes that this process has held at the worst time."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    told = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
    if told is not None:
        return 1024 * told
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
