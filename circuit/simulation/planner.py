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
from .hardware import GRADIENT_COST, DeviceRates, Machine, detect_machine

BYTES_PER_NUMBER = 4  # bytes
VECTOR_LANES = 16  # in one instruction: fewer cost as much
NUMBERS_PER_SUBJECT = 40  # numbers that a subject is: traits, slow state, and its copies with lanes filled up
NUMBERS_PER_SUBJECT_HOUR = 9 + SAMPLES_PER_STEP  # numbers that happen to a subject in an hour, at most
NUMBERS_PER_NEURON = 6  # numbers that a neuron is, and its maximum
NUMBERS_PER_ACCUMULATED_NEURON = (
    12  # numbers that a neuron is: state, accumulators of its statistics, and their results
)
RECORD_COPIES = 2  # of records: tile by tile and joined, or joined and subject first
RESIDUALS_PER_STEP = 60  # numbers that the reverse pass holds of a subject-hour or a neuron-step within a block
MEMORY_SHARE = 0.5  # of free memory, which a run may take
MAX_CHUNK_BYTES = 2**30  # bytes that a piece of a large cohort may take; more gains nothing
PROCESS_BYTES = 360 * 2**20  # bytes of a process with JAX: 300 MiB where programs were kept, 450 where it compiled them


@dataclasses.dataclass(frozen=True)
class SimulationSize:
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
        chunk: subjects who run at once; fewer than all where all do not fit, see `streamed_course`.
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

        prediction = forecast(100_000, days=84.0)
        course(cohort, (), 84.0, plan=prediction.plan)

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
        run = SimulationSize(subjects, steps, 0, max(steps // save_every, 1), quantities, treated, gradient)
    else:
        assert seconds is not None
        steps = round(1000 * seconds / FAST_STEP)
        run = SimulationSize(
            subjects, steps + round(1000 / FAST_STEP), neurons, max(steps // save_every, 1), quantities, False, gradient
        )
    machine = detect_machine() if machine is None else machine
    if devices is not None:
        machine = dataclasses.replace(machine, devices={name: min(devices, n) for name, n in machine.devices.items()})
    return forecast_run(run, machine, memory, given)


def forecast_run(
    run: SimulationSize, machine: Machine, memory: int | None = None, given: Plan | None = None
) -> Forecast:
    """The forecast of a run on the platform that ends first; see `forecast`."""
    plans = {name: _choose_plan(run, machine, name) for name in machine.devices}
    if given is not None:
        plans = {jax.default_backend(): given.resolve()}
    times = {name: estimate_time(run, plans[name], machine.rates[name]) for name in plans}
    best = min(times, key=lambda name: times[name])
    chosen, rates = plans[best], machine.rates[best]
    room = int(MEMORY_SHARE * machine.memory[best])
    room = room if memory is None else min(room, memory)
    chunk = _subjects_that_fit(run, chosen, room)
    needs = {"program": PROCESS_BYTES} | estimate_memory(dataclasses.replace(run, subjects=chunk), chosen)
    why = (
        *_explain_platform(run, best, times, machine),
        *_explain_plan(run, chosen, best, machine),
        *_explain_chunks(run, chunk, room),
    )
    return Forecast(chosen, best, chunk, needs, times[best], rates.compiling, rates.measured, why)


def chunk_length(plan: Plan, days: float, quantities: int, save_every: int) -> int:
    """Subjects of a large cohort who are best let live at once: their records take up to a gibibyte."""
    steps = round(24 * days)
    run = SimulationSize(10**9, steps, 0, max(steps // save_every, 1), quantities, treated=True)
    return _subjects_that_fit(
        run, plan.resolve(), min(MAX_CHUNK_BYTES, int(MEMORY_SHARE * detect_machine().memory["cpu"]))
    )


def estimate_time(run: SimulationSize, plan: Plan, rates: DeviceRates) -> float:
    """Seconds of a run."""
    work = run.steps * max(run.neurons, 1)
    rate = rates.neurons if run.neurons else rates.treated if run.treated else rates.quiet
    tile, whole = plan.divide(run.subjects)
    passes = whole // (tile * plan.devices)
    launches = 0 if plan.backend == "tiled" else run.steps * passes  # in one piece of machine code nothing is launched
    once = rates.begin + launches * rates.launch + whole * work / (rate * plan.devices)
    return once * (GRADIENT_COST["moment" if run.neurons else "course"] if run.gradient else 1.0)


def estimate_memory(run: SimulationSize, plan: Plan) -> dict[str, int]:
    """Bytes that the arrays of a run take, by what they are."""
    tile, whole = plan.divide(run.subjects)
    cells, at_once = NUMBERS_PER_ACCUMULATED_NEURON * run.neurons, tile * plan.devices
    happens = 0 if run.neurons else run.steps * NUMBERS_PER_SUBJECT_HOUR
    noise = plan.block * max(run.neurons, 1)
    found = {
        "subjects": whole * (NUMBERS_PER_SUBJECT + RECORD_COPIES * cells),
        "records": whole * RECORD_COPIES * run.saves * run.quantities,
        "tiles": at_once * (happens + noise + run.saves * run.quantities + cells),
    }
    if run.gradient:
        blocks = -(-run.steps // plan.block)
        state = max(cells, NUMBERS_PER_SUBJECT)
        found["records"] *= 2  # and what their derivatives are
        each = NUMBERS_PER_NEURON * run.neurons + NUMBERS_PER_SUBJECT // 4
        held = each * (run.steps if stores_every_state(BYTES_PER_NUMBER * each * run.steps, tile, whole) else blocks)
        if BYTES_PER_NUMBER * held * tile <= MAX_RESIDUAL_BYTES_PER_TILE:
            found["kept of the run"] = RECORD_COPIES * whole * held
        found["reverse"] = at_once * (
            2 * state * round(blocks**0.5 + 1) + plan.block * RESIDUALS_PER_STEP * max(run.neurons, 1) + happens
        )
    return {name: BYTES_PER_NUMBER * count for name, count in found.items()}


def _choose_plan(run: SimulationSize, machine: Machine, platform: str) -> Plan:
    """Tiles that stay in cache, over as many devices as have something to do."""
    devices = min(machine.devices[platform], -(-run.subjects // VECTOR_LANES))
    if platform != "cpu":
        return Plan("scan", devices=devices)
    if run.neurons:
        return dataclasses.replace(make_population_plan(run.neurons, devices), backend="tiled")
    return dataclasses.replace(DEFAULT_PLAN, backend="tiled", devices=devices)


def _subjects_that_fit(run: SimulationSize, plan: Plan, room: int) -> int:
    """The most subjects, in whole tiles of every device, whose arrays fit into `room`; all if they do."""
    needs = lambda subjects: sum(estimate_memory(dataclasses.replace(run, subjects=subjects), plan).values())
    if needs(run.subjects) <= room:
        return run.subjects
    unit = plan.tile * plan.devices
    spent = needs(unit)
    each = needs(2 * unit) - spent
    return unit * max(1 + (room - spent) // each, 1)


def _explain_platform(run: SimulationSize, best: str, times: dict[str, float], machine: Machine) -> Iterator[str]:
    if len(times) == 1:
        yield f"{_platform_name(best)}, of which JAX sees {machine.devices[best]} devices, as cores or cards."
        return
    others = ", ".join(f"{format_duration(times[name])} on {_platform_name(name)}" for name in times if name != best)
    sentence = f"{_platform_name(best)}: {format_duration(times[best])}, against {others}"
    launch = max(machine.rates[name].launch for name in times)
    if best == "cpu" and run.steps * launch > times[best]:
        sentence += f", where each of {run.steps:,} steps costs {1e3 * launch:.2g} ms, however few the subjects"
    yield f"{sentence}."


def _explain_plan(run: SimulationSize, plan: Plan, best: str, machine: Machine) -> Iterator[str]:
    tile, whole = plan.divide(run.subjects)
    on = f"on {plan.devices} of {machine.devices[best]} devices"
    if plan.backend == "tiled":
        yield f"{whole // tile} tiles of {tile} subjects, each of which goes through all steps in cache, {on}."
    else:
        yield f"A plain loop over all subjects at once, {on}."
    if whole > 2 * run.subjects:
        yield f"Instructions are {VECTOR_LANES} subjects wide: {run.subjects} take as long as {whole}."


def _explain_chunks(run: SimulationSize, chunk: int, room: int) -> Iterator[str]:
    if chunk < run.subjects:
        yield (
            f"All at once would take more than {format_bytes(room)}: pieces of {chunk:,} subjects live one after the other, "
            "as hb.streamed_course lets them."
        )


def _platform_name(platform: str) -> str:
    return {"cpu": "CPU", "gpu": "GPU"}.get(platform, platform)


def format_duration(seconds: float) -> str:
    """In a unit that reads well.

    >>> format_duration(0.0021), format_duration(45.0), format_duration(5400.0)
    ('2.1 ms', '45 s', '1.5 h')
    """
    for unit, long in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= long:
            return f"{seconds / long:.2g} {unit}"
    return f"{1000 * seconds:.2g} ms"


def format_bytes(count: int) -> str:
    """Bytes in a unit that reads well.

    >>> format_bytes(3 * 2**20), format_bytes(5 * 2**30)
    ('3 MiB', '5 GiB')
    """
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"
