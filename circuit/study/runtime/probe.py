"""A short probe of this machine's speed, kept in the user's cache folder for the planner."""

import dataclasses
import time
from collections.abc import Callable

import jax

from ....kernels import Plan
from ...model.interventions import Ketamine, Recalibration
from ...model.lhb_population import make_population_plan
from ...simulation import hardware
from ...simulation.conditions import draw, healthy
from ...simulation.course import course
from ...simulation.moment import FAST_STEP, moment
from .files import write_json

DAYS, LONG, SECONDS, NEURONS = 14.0, 112.0, 1.0, 32
PROBE_SUBJECTS = 16  # subjects: one vector, so that what a step costs by itself can be seen
PROBE_ROUNDS = 3


def measure_rates() -> hardware.DeviceRates:
    """Measure the rates of JAX's own platform, and keep them. Takes about a minute, most of it to compile.

    Many subjects give the rate; few of them, for a short and a long time, what a step costs by itself, and what a run does.
    """
    name = jax.default_backend()
    devices = jax.device_count()
    many = (1024 if name == "cpu" else 65536) * devices
    plan = Plan(tile=128, devices=devices)
    drawn = lambda: draw(healthy(), many, plan=plan)  # weeks without treatment
    compiling, quiet = _time_run(lambda: drawn().state)
    cohort = drawn()
    few = cohort[:PROBE_SUBJECTS]
    alone = lambda days: course(few, (), days, record=(), save_every=24, plan=Plan(tile=PROBE_SUBJECTS)).cohort
    short, long = (_time_run(lambda days=days: alone(days))[1] for days in (DAYS, LONG))
    arm = (Ketamine([0.5, 0.5], [1.0, 4.0]), Recalibration([2.0, 6.0]))
    followed = _time_run(lambda: course(cohort, arm, DAYS, record=("vta_output",), save_every=24, plan=plan).record)[1]
    some, tiles = cohort[: max(64, many // 4)], make_population_plan(NEURONS, devices)
    fast = _time_run(lambda: moment(some, SECONDS, neurons=NEURONS, record=(), plan=tiles).mean)[1]

    step = max(long - short, 0.0) / (24 * (LONG - DAYS))
    begin = max(short - 24 * DAYS * step, 0.0)
    rate = lambda work, seconds: work / max(seconds - begin, seconds / 10) / devices
    hourly = rate(many * 24 * healthy().days, quiet)
    found = hardware.DeviceRates(
        quiet=hourly,
        treated=rate(many * 24 * DAYS, followed),
        neurons=rate(len(some) * NEURONS * (SECONDS + 1.0) * 1000 / FAST_STEP, fast),
        launch=max(step - PROBE_SUBJECTS / hourly, 0.0),
        begin=begin,
        compiling=compiling,
        measured=True,
    )
    _store_rates(hardware.hardware_key(name), found)
    return found


def _time_run(run: Callable) -> tuple[float, float]:
    """What the first run took more than later ones, and the fastest of those."""
    times = []
    for _ in range(PROBE_ROUNDS + 1):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begin)
    return max(times[0] - min(times[1:]), 0.0), min(times[1:])


def _store_rates(key: str, found: hardware.DeviceRates) -> None:
    """Add to the file; other devices' rates stay."""
    file = hardware.rates_file()
    every = {name: dataclasses.asdict(each) for name, each in (hardware.read_rates(file) | {key: found}).items()}
    write_json(file, {name: {k: v for k, v in each.items() if k != "measured"} for name, each in every.items()})
