"""What a run will take, before it is begun, and how it is best carried out.

Time is work over a measured rate, and what steps cost however few subjects there are. Memory is counted array by array.
Both are estimates: `benchmarks/plan_check.py` holds them against runs, within a factor of 2.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import jax

from ...kernels import MAX_RESIDUAL_BYTES_PER_TILE, Plan, stores_every_state
from ..model.fast_clock import FAST_STEP
from ..model.interventions import Arm, Intervention, Ketamine, as_arm
from ..model.lhb_population import make_population_plan
from ..model.slow_clock import DEFAULT_PLAN
from ..model.trapping_block import SAMPLES_PER_STEP
from .hardware import GRADIENT, Machine, Rates, here

NUMBER = 4  # bytes
LANES = 16  # in one instruction: fewer cost as much
TRAITS = 40  # numbers that a subject is: traits, slow state, and its copies with lanes filled up
HAPPENS = 9 + SAMPLES_PER_STEP  # numbers that happen to a subject in an hour, at most
STATE = 6  # numbers that a neuron is, and its maximum
CELL = 12  # numbers that a neuron is: state, accumulators of its statistics, and their results
COPIES = 2  # of records: tile by tile and joined, or joined and subject first
WITHIN = 60  # numbers that the reverse pass holds of a subject-hour or a neuron-step within a block
SHARE = 0.5  # of free memory, which a run may take
MOST = 2**30  # bytes that a piece of a large cohort may take; more gains nothing
PROGRAM = 360 * 2**20  # bytes of a process with JAX: 300 MiB where programs were kept, 450 where it compiled them


@dataclasses.dataclass(frozen=True)
class Run:
    """What is to be run, in numbers.

    Attributes:
        subjects: how many.
        steps: hours of a course, quarters of a millisecond of a moment.
        neurons: LHb neurons of a subject; 0 in a course.
        saves: records of each quantity.
        quantities: how many are recorded.
        treated: whether ketamine is followed within the hour.
        gradient: whether a gradient is taken through it.
    """

    subjects: int
    steps: int
    neurons: int = 0
    saves: int = 1
    quantities: int = 0
    treated: bool = False
    gradient: bool = False


@dataclasses.dataclass(frozen=True)
class Forecast:
    """How to carry out a run, and what it will take.

    Attributes:
        plan: how to use the hardware.
        platform: "cpu", or the accelerator.
        chunk: subjects who run at once; fewer than all where all do not fit, see `survey`.
        memory: bytes at the worst time, by what takes them.
        seconds: of the run itself.
        compiling: s more, at most, if it was never compiled.
        measured: whether rates were measured here, not assumed.
        why: in sentences.
    """

    plan: Plan
    platform: str
    chunk: int
    memory: dict[str, int]
    seconds: float
    compiling: float
    measured: bool
    why: tuple[str, ...]

    @property
    def total(self) -> int:
        """Bytes of the whole process at the worst time."""
        return sum(self.memory.values())

    def device(self) -> contextlib.AbstractContextManager:
        """Within it, JAX runs where this says: on the CPU of a machine that has a GPU, if that is faster."""
        if self.platform == jax.default_backend():
            return contextlib.nullcontext()
        return jax.default_device(jax.devices(self.platform)[0])


def forecast(
    subjects: int,
    *,
    days: float | None = None,
    seconds: float | None = None,
    neurons: int = 32,
    arm: Arm | Intervention | Sequence = (),
    quantities: int = 10,
    save_every: int = 4,
    gradient: bool = False,
    devices: int | None = None,
    memory: int | None = None,
    given: Plan | None = None,
    machine: Machine | None = None,
) -> Forecast:
    """Predict memory and time of a course of `days` or a moment of `seconds`, and say how best to run it.

        forecast = plan(100_000, days=84.0)
        course(cohort, (), 84.0, plan=forecast.plan)

    Args:
        subjects: how many.
        days: length of a course.
        seconds: length of a moment, with the second that goes before it.
        neurons: of a subject, in a moment.
        arm: of a course: with ketamine, an hour takes several times as long.
        quantities: how many are recorded; 0 for none.
        save_every: steps between records.
        gradient: whether a gradient is taken through it.
        devices: the most to use; all of them if not given.
        memory: bytes that its arrays may take; half of those that are free if not given.
        given: how to run it on JAX's own platform, if that is settled: the forecast is of this.
        machine: what to run on; this one if not given.

    Raises:
        ValueError: not exactly one of `days` and `seconds`, or numbers that are impossible.
    """
    if (days is None) == (seconds is None):
        raise ValueError(f"{days=} and {seconds=}: give the one or the other, for a course or for a moment.")
    length = days if seconds is None else seconds
    positive = {"subjects": subjects, "length": length, "neurons": neurons, "save_every": save_every}
    for name, value in (positive | {"devices": 1 if devices is None else devices}).items():
        if not value > 0:
            raise ValueError(f"{name}={value} must be above 0.")
    if quantities < 0:
        raise ValueError(f"{quantities=} must be at least 0.")
    if days is not None:
        steps = round(24 * days)
        treated = any(isinstance(each, Ketamine) for each in as_arm(arm))
        run = Run(subjects, steps, 0, max(steps // save_every, 1), quantities, treated, gradient)
    else:
        assert seconds is not None
        steps = round(1000 * seconds / FAST_STEP)
        run = Run(
            subjects, steps + round(1000 / FAST_STEP), neurons, max(steps // save_every, 1), quantities, False, gradient
        )
    machine = here() if machine is None else machine
    if devices is not None:
        machine = dataclasses.replace(machine, devices={name: min(devices, n) for name, n in machine.devices.items()})
    return forecast_run(run, machine, memory, given)


def forecast_run(run: Run, machine: Machine, memory: int | None = None, given: Plan | None = None) -> Forecast:
    """The forecast of a run on the platform that ends first; see `forecast`."""
    plans = {name: _plan(run, machine, name) for name in machine.devices}
    if given is not None:
        plans = {jax.default_backend(): given.resolve()}
    times = {name: time_of(run, plans[name], machine.rates[name]) for name in plans}
    best = min(times, key=lambda name: times[name])
    chosen, rates = plans[best], machine.rates[best]
    room = int(SHARE * machine.memory[best])
    room = room if memory is None else min(room, memory)
    chunk = _fitting(run, chosen, room)
    needs = {"program": PROGRAM} | memory_of(dataclasses.replace(run, subjects=chunk), chosen)
    why = (*_where(run, best, times, machine), *_how(run, chosen, best, machine), *_pieces(run, chunk, room))
    return Forecast(chosen, best, chunk, needs, times[best], rates.compiling, rates.measured, why)


def chunk_of(plan: Plan, days: float, quantities: int, save_every: int) -> int:
    """Subjects of a large cohort who are best let live at once: their records take up to a gibibyte."""
    steps = round(24 * days)
    run = Run(10**9, steps, 0, max(steps // save_every, 1), quantities, treated=True)
    return _fitting(run, plan.resolve(), min(MOST, int(SHARE * here().memory["cpu"])))


def time_of(run: Run, plan: Plan, rates: Rates) -> float:
    """Seconds of a run."""
    work = run.steps * max(run.neurons, 1)
    rate = rates.neurons if run.neurons else rates.treated if run.treated else rates.quiet
    tile, whole = plan.divide(run.subjects)
    passes = whole // (tile * plan.devices)
    launches = 0 if plan.backend == "tiled" else run.steps * passes  # in one piece of machine code nothing is launched
    once = rates.begin + launches * rates.launch + whole * work / (rate * plan.devices)
    return once * (GRADIENT["moment" if run.neurons else "course"] if run.gradient else 1.0)


def memory_of(run: Run, plan: Plan) -> dict[str, int]:
    """Bytes that the arrays of a run take, by what they are."""
    tile, whole = plan.divide(run.subjects)
    cells, at_once = CELL * run.neurons, tile * plan.devices
    happens = 0 if run.neurons else run.steps * HAPPENS
    noise = plan.block * max(run.neurons, 1)
    found = {
        "subjects": whole * (TRAITS + COPIES * cells),
        "records": whole * COPIES * run.saves * run.quantities,
        "tiles": at_once * (happens + noise + run.saves * run.quantities + cells),
    }
    if run.gradient:
        blocks = -(-run.steps // plan.block)
        state = max(cells, TRAITS)
        found["records"] *= 2  # and what their derivatives are
        each = STATE * run.neurons + TRAITS // 4
        held = each * (run.steps if stores_every_state(NUMBER * each * run.steps, tile, whole) else blocks)
        if NUMBER * held * tile <= MAX_RESIDUAL_BYTES_PER_TILE:
            found["kept of the run"] = COPIES * whole * held
        found["reverse"] = at_once * (
            2 * state * round(blocks**0.5 + 1) + plan.block * WITHIN * max(run.neurons, 1) + happens
        )
    return {name: NUMBER * count for name, count in found.items()}


def _plan(run: Run, machine: Machine, platform: str) -> Plan:
    """Tiles that stay in cache, over as many devices as have something to do."""
    devices = min(machine.devices[platform], -(-run.subjects // LANES))
    if platform != "cpu":
        return Plan("scan", devices=devices)
    if run.neurons:
        return dataclasses.replace(make_population_plan(run.neurons, devices), backend="tiled")
    return dataclasses.replace(DEFAULT_PLAN, backend="tiled", devices=devices)


def _fitting(run: Run, plan: Plan, room: int) -> int:
    """The most subjects, in whole tiles of every device, whose arrays fit into `room`; all if they do."""
    needs = lambda subjects: sum(memory_of(dataclasses.replace(run, subjects=subjects), plan).values())
    if needs(run.subjects) <= room:
        return run.subjects
    unit = plan.tile * plan.devices
    spent = needs(unit)
    each = needs(2 * unit) - spent
    return unit * max(1 + (room - spent) // each, 1)


def _where(run: Run, best: str, times: dict[str, float], machine: Machine) -> Iterator[str]:
    if len(times) == 1:
        yield f"{_called(best)}, of which JAX sees {machine.devices[best]} devices, as cores or cards."
        return
    others = ", ".join(f"{duration(times[name])} on {_called(name)}" for name in times if name != best)
    sentence = f"{_called(best)}: {duration(times[best])}, against {others}"
    launch = max(machine.rates[name].launch for name in times)
    if best == "cpu" and run.steps * launch > times[best]:
        sentence += f", where each of {run.steps:,} steps costs {1e3 * launch:.2g} ms, however few the subjects"
    yield f"{sentence}."


def _how(run: Run, plan: Plan, best: str, machine: Machine) -> Iterator[str]:
    tile, whole = plan.divide(run.subjects)
    on = f"on {plan.devices} of {machine.devices[best]} devices"
    if plan.backend == "tiled":
        yield f"{whole // tile} tiles of {tile} subjects, each of which goes through all steps in cache, {on}."
    else:
        yield f"A plain loop over all subjects at once, {on}."
    if whole > 2 * run.subjects:
        yield f"Instructions are {LANES} subjects wide: {run.subjects} take as long as {whole}."


def _pieces(run: Run, chunk: int, room: int) -> Iterator[str]:
    if chunk < run.subjects:
        yield (
            f"All at once would take more than {size(room)}: pieces of {chunk:,} subjects live one after the other, "
            "as hb.streamed_course lets them."
        )


def _called(platform: str) -> str:
    return {"cpu": "CPU", "gpu": "GPU"}.get(platform, platform)


def duration(seconds: float) -> str:
    """In a unit that reads well.

    >>> duration(0.0021), duration(45.0), duration(5400.0)
    ('2.1 ms', '45 s', '1.5 h')
    """
    for unit, long in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= long:
            return f"{seconds / long:.2g} {unit}"
    return f"{1000 * seconds:.2g} ms"


def size(count: int) -> str:
    """Bytes in a unit that reads well.

    >>> size(3 * 2**20), size(5 * 2**30)
    ('3 MiB', '5 GiB')
    """
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"
