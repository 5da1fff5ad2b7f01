"""What our kernels take of a GPU beside one written by hand, from their machine code alone: no GPU is at hand, or needed.

Rows of a kernel: registers of a thread; bytes of it that did not fit; instructions that it issues in a step of one number (a
neuron's quarter of a millisecond, a subject's hour); and how many such steps an H100 could make at most, if its fullest unit
never waited. The last is an estimate, not a measurement: nothing was run.
"""

import importlib.util
from collections.abc import Callable, Iterator
from importlib import metadata

import machine_code
from machine_code import Resources
from rivals import cuda_kernel
from workload import Workload

BLOCK, CUDA_BLOCK = 16, 64  # steps between two ends of blocks: `Plan.block`, and in lhb.cu
SAVED = 4  # the same in courses, which record every four hours
FUSED = "habenula-fused"
DEVICE = "H100, compiled for and not run"
NEURON, HOUR = "neuron-step", "subject-hour"
UNITS = tuple(
    unit.format(what)
    for unit in ("registers", "bytes spilled", "instructions a {}", "M {}s/s at most, estimated")
    for what in (NEURON, HOUR)
)
DIRECTIONS = ("excitation", "nmda", "t_channel", "current", "inhibition")  # conditions that leave the state of rest


def compared(quick: bool) -> list[dict]:
    """Rows of all kernels, or a word on what is missing."""
    if why := machine_code.available():
        return [{"case": "resources", "engine": FUSED, "missing": True, "why": why}]
    workload, rows = Workload(), []
    by_hand = _by_hand(workload)
    for case, taken in (("lhb", _ours(workload)), *([] if quick else _others(workload))):
        theirs = by_hand if case == "lhb" else None
        rows += _rows(case, FUSED, HOUR if case.startswith("course") else NEURON, taken, theirs)
    if by_hand is not None:
        rows += _rows("lhb", "cuda", NEURON, by_hand, by_hand)
    rows.sort(key=lambda row: UNITS.index(row["unit"]))
    return (
        rows
        if by_hand
        else [*rows, {"case": "resources", "engine": "cuda", "missing": True, "why": "not installed: nvcc"}]
    )


def tangents(workload: Workload, count: int) -> tuple[Callable, tuple]:
    """The gradient of mean output by so many numbers, and its arguments: one kernel, which carries as many tangents."""
    import equinox as eqx
    import jax
    from rivals.habenula_fused import simulation

    from habenula.kernels import Plan

    simulate, arguments = simulation(workload, Plan("fused"))

    def gradient(p, cells, given, subjects):
        def output(chosen, noise):
            conditions = eqx.tree_at(lambda c: [getattr(c, name) for name in chosen], given, list(chosen.values()))
            constants = eqx.tree_at(lambda p: p.noise, p, noise)
            return simulate(constants, cells, conditions, subjects)["output_mean"].sum()

        chosen = {name: getattr(given, name) for name in DIRECTIONS[:count]}
        return jax.grad(output, (0, 1) if count > len(DIRECTIONS) else 0)(chosen, p.noise)

    return gradient, arguments


def taken(function: Callable, *arguments, block: int = BLOCK) -> Resources:
    """By the last kernel of a function."""
    return machine_code.resources(machine_code.compiled(machine_code.kernels(function, *arguments)[-1]), block)


def _ours(workload: Workload) -> Resources:
    from rivals.habenula_fused import simulation

    from habenula.kernels import Plan

    simulate, arguments = simulation(workload, Plan("fused"))
    return taken(simulate, *arguments)


def _others(workload: Workload) -> Iterator[tuple[str, Resources]]:
    import equinox as eqx

    import habenula as hb
    from habenula.kernels import Plan

    for count in (1, 3, 6):
        gradient, arguments = tangents(workload, count)
        yield f"lhb, {count} tangents", taken(gradient, *arguments)
    cohort, plan = hb.draw(hb.depressed(), 128, seed=1), Plan("fused")
    of = lambda state: eqx.tree_at(lambda c: c.state, cohort, state)
    yield "moment", taken(lambda state: hb.moment(of(state), 0.5, plan=plan).record, cohort.state)
    for case, arm in (("course", ()), ("course with ketamine", hb.Ketamine(mg_per_kg=0.5, day=1.0))):
        live = lambda state, arm=arm: hb.course(of(state), arm, days=2.0, save_every=SAVED, plan=plan).record
        yield case, taken(live, cohort.state, block=SAVED)


def _by_hand(workload: Workload) -> Resources | None:
    code = cuda_kernel.machine_code(workload.neurons)
    return None if code is None else machine_code.resources(code, CUDA_BLOCK)


def _rows(case: str, engine: str, what: str, found: Resources, reference: Resources | None) -> list[dict]:
    """Ratios are over the reference."""
    values = lambda each: (each.registers, each.spilled, each.step_instructions, each.most_steps / 1e6)
    over = values(reference) if reference else (0,) * 4
    rows = []
    for unit, value, base in zip(UNITS[what is HOUR :: 2], values(found), over, strict=True):
        told = {"case": f"resources, {case}", "engine": engine, "unit": unit, "rate": round(value, 1)}
        rows.append(
            told | {"ratio": round(value / base, 3) if base else "", "device": DEVICE, "versions": _versions(engine)}
        )
    return rows


def _versions(engine: str) -> str | None:
    """Of what made the machine code; None lets the row's own rule speak."""
    if engine != FUSED or importlib.util.find_spec("triton") is None:
        return None
    return ", ".join(f"{package} {metadata.version(package)}" for package in ("jax", "triton"))
