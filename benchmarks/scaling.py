"""How speed changes with the size of the work: subjects, steps, neurons, devices, people with a regimen of their own.

The ratio of a row is its rate over that of the first: 1 where time grows in proportion.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from rows import cores
from timing import Run, Timing, once, paired
from workload import STATISTICS, Workload

OURS = "habenula"
WEEK = 168  # h
AGREE = 1e-4  # relative: tiles of another size sum neurons in another order


def subjects(quick: bool, rounds: int) -> list[dict]:
    """Courses of a week, from a hundred subjects up to a million, as far as memory reaches."""
    import habenula as hb

    rows, memory = [], []
    for count in (100, 1_000, 10_000) if quick else (100, 1_000, 10_000, 100_000, 1_000_000):
        if memory and (need := 10 * memory[-1] * 2**20) > (free := _free()):
            why = f"{count} subjects would take some {need / 2**30:.1f} GiB, of {free / 2**30:.1f} free"
            rows.append({"engine": OURS, "missing": True, "why": why})
            break
        cohort = hb.draw(hb.Condition("without a history", days=1), count, seed=1)
        lived = lambda cohort: hb.course(cohort, hb.Ketamine(), 7.0, save_every=24, record=("vta_output",)).record
        (timing,) = paired([Run(lived, cohort)], rounds)
        memory.append(timing.memory_mib or 0.0)
        told = {"case": f"subjects, {count}", "unit": "M subject-hours/s", "subjects": count, "steps": WEEK}
        rows.append({"told": told, "work": count * WEEK, "timing": timing})
    return _over_first(rows)


def million(quick: bool, rounds: int) -> list[dict]:
    """Courses of twelve weeks with daily records for a million subjects at once, on all cores: what they take of memory."""
    devices = len(cores())
    _start(devices)
    import habenula as hb
    from habenula.circuit.model.slow_clock import DEFAULT_PLAN

    count, weeks = 10_000 if quick else 1_000_000, 12
    if not quick and (free := _free()) < 4 * 2**30:
        why = f"a million subjects may take 4 GiB, of {free / 2**30:.1f} free"
        return [{"engine": OURS, "missing": True, "why": why}]
    plan = dataclasses.replace(DEFAULT_PLAN, devices=devices)
    cohort = hb.draw(hb.Condition("without a history", days=1), count, seed=1, plan=plan)
    lived = lambda cohort: (
        hb.course(cohort, hb.SSRI(), 7.0 * weeks, save_every=24, record=("vta_output",), plan=plan).record
    )
    told = {"case": f"million, {count} for {weeks} weeks", "unit": "M subject-hours/s", "devices": devices}
    told |= {"subjects": count, "steps": weeks * WEEK}
    return _over_first([{"told": told, "work": count * weeks * WEEK, "timing": once(Run(lived, cohort))}])


def steps(quick: bool, rounds: int) -> list[dict]:
    """Courses of weeks to a year, moments of seconds to a minute, by turns: time in proportion, and the same memory."""
    import habenula as hb

    cohort = hb.draw(hb.Condition("without a history", days=1), 1024, seed=1)
    few, each, record = cohort[:256], 4000, ("vta_output",)  # each: steps of a second of the fast clock
    weeks, seconds = ((1, 12), (1, 10)) if quick else ((1, 4, 12, 52), (1, 10, 60))
    course = lambda cohort, n: hb.course(cohort, hb.Ketamine(), 7.0 * n, save_every=n * WEEK, record=record).record
    moment = lambda cohort, n: hb.moment(cohort, n, save_every=each * n).mean

    rows = []
    for n, timing in zip(weeks, _by_turns(course, cohort, weeks, rounds), strict=True):
        told = {"case": f"steps of the slow clock, {n} weeks", "unit": "M subject-hours/s"}
        told |= {"subjects": len(cohort), "steps": n * WEEK}
        rows.append({"told": told, "work": len(cohort) * n * WEEK, "timing": timing})
    moments = []
    for n, timing in zip(seconds, _by_turns(moment, few, seconds, rounds), strict=True):
        count = (n + 1) * each  # with the second that is left out at the beginning
        told = {"case": f"steps of the fast clock, {n} s", "unit": "M neuron-steps/s"}
        told |= {"subjects": len(few), "neurons": 32, "steps": count}
        moments.append({"told": told, "work": len(few) * 32 * count, "timing": timing})
    return _over_first(rows) + _over_first(moments)


def _by_turns(lived: Callable, cohort: Any, sizes: tuple[int, ...], rounds: int) -> list[Timing]:
    return paired([Run(lambda cohort, n=n: lived(cohort, n), cohort) for n in sizes], rounds)


def neurons(quick: bool, rounds: int) -> list[dict]:
    """LHb populations of few neurons to many, as many neurons in all."""
    import jax
    from rivals import habenula_tiled

    rows = []
    for count in (8, 32, 128) if quick else (8, 32, 128, 512):
        size = Workload(subjects=16_384 // count, neurons=count, steps=400 if quick else 2000)
        run = habenula_tiled.prepare(size)
        (timing,) = paired([Run(lambda _, run=run: run(), jax.numpy.zeros(0))], rounds)
        told = {"case": f"neurons, {count}", "unit": "M neuron-steps/s"}
        rows.append({"told": told | _sizes(size), "work": size.neuron_steps, "timing": timing})
    return _over_first(rows)


def devices(quick: bool, rounds: int) -> list[dict]:
    """The same LHb populations over one CPU device, two, four, up to one for each core; by turns."""
    size, every = Workload(subjects=512, steps=1000) if quick else Workload(subjects=2048), len(cores())
    counts = sorted({2**i for i in range(every.bit_length()) if 2**i <= every} | {every})
    spawned = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        start = lambda count: ProcessPoolExecutor(1, spawned, _start, (count,))
        pools = {count: stack.enter_context(start(count)) for count in counts}
        first = {count: pool.submit(_prepare, size, count).result() for count, pool in pools.items()}
        seconds = {count: [] for count in counts}
        for _ in range(rounds):
            for count, pool in pools.items():
                seconds[count].append(pool.submit(_again).result())
    rows = []
    for count in counts:
        found, once = first[count]
        wrong = _difference(first[counts[0]][0], found)
        if wrong > AGREE:
            why = f"{count} devices differ from one by {wrong:.1e}, more than {AGREE:.0e}"
            rows.append({"engine": OURS, "missing": False, "why": why})
            continue
        timing = Timing(seconds[count], max(once - statistics.median(seconds[count]), 0.0))
        told = {"case": f"devices, {count}", "unit": "M neuron-steps/s", "devices": count, "equal": True}
        rows.append({"told": told | _sizes(size), "work": size.neuron_steps, "timing": timing})
    return _over_first(rows)


def personal(quick: bool, rounds: int) -> list[dict]:
    """Regimens of sessions for one subject up to a thousand, each with its own, sought in one call of the same steps.

    The target is out of everyone's reach, so that every call does the same work, the last looks of those who miss included.
    """
    import habenula as hb

    starts, steps, days, target, rows = 2, 8, 28.0, 50.0, []
    arm, seek = (
        hb.Recalibration.weekly(6),
        {"days": days, "search": hb.Multistart(starts=starts, steps=steps), "personal": True},
    )
    for count in (1, 10) if quick else (1, 10, 100, 1_000):
        cohort = hb.draw(hb.depressed(), count, seed=1)
        fitted = lambda cohort: hb.restore(cohort, arm, target, over="intensity", **seek).each
        (timing,) = paired([Run(fitted, cohort)], rounds)
        told = {"case": f"personal, {count}", "unit": "M subject-hours/s", "subjects": count, "steps": steps}
        rows.append({"told": told, "work": count * starts * steps * round(24 * days), "timing": timing})
    return _over_first(rows)


_run: Any = None  # what a process of `devices` repeats


def _start(count: int) -> None:
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)


def _prepare(size: Workload, count: int) -> tuple[dict, float]:
    """Results, and the s that compiling and the first run took."""
    global _run
    from rivals import habenula_tiled

    begin = time.perf_counter()
    _run = habenula_tiled.prepare(size, count)
    return _run(), time.perf_counter() - begin


def _again() -> float:
    begin = time.perf_counter()
    _run()
    return time.perf_counter() - begin


def _difference(ours: dict, theirs: dict) -> float:
    """The largest of any subject, relative to the largest value."""
    share = lambda name: np.max(np.abs(theirs[name] - ours[name])) / np.max(np.abs(ours[name]))
    return max(float(share(name)) for name in STATISTICS)


def _over_first(rows: list[dict]) -> list[dict]:
    """With `ratio`, the median over rounds of the rate over that of the first row."""
    rates = [[row["work"] / seconds for seconds in row["timing"].seconds] for row in rows if "timing" in row]
    ratios = iter([statistics.median(a / b for a, b in zip(each, rates[0], strict=True)) for each in rates])
    return [row | {"ratio": next(ratios)} if "timing" in row else row for row in rows]


def _sizes(size: Workload) -> dict[str, int]:
    return {"subjects": size.subjects, "neurons": size.neurons, "steps": size.steps}


def _free() -> float:
    """Bytes of memory that are free; without end where the system does not tell."""
    names = getattr(os, "sysconf_names", {})
    known = "SC_AVPHYS_PAGES" in names and "SC_PAGE_SIZE" in names
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else float("inf")
