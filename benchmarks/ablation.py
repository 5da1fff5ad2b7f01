"""Ablation of the time loop: the same program without one of its special cases, timed by turns with the complete one.

The ratio of a row is its rate over that of the complete program: 0.8 means that a run without the special case is 20 %
slower, 1 that the special case gains nothing. A special case that gained less than 5 % was removed: double buffering of
large states, and blocks known to start at an even step.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import linear_call
from timing import Timing

import habenula as hb
from habenula.circuit.model import lateral_habenula, transfer_function
from habenula.circuit.model.lhb_population import make_population_plan
from habenula.kernels import integration
from habenula.kernels.autodiff import custom_derivative
from habenula.kernels.jit import COMPILER_OPTIONS
from habenula.kernels.xla_cpu.matmul import matmul_by_library

NEURONS, SAMPLING_RATE = 32, 4000  # steps of the fast clock in a second


class Program(NamedTuple):
    """A program, how much work it does, and how the work is counted."""

    call: Callable
    argument: Any
    work: int
    unit: str
    sizes: dict


def ablation(quick: bool, rounds: int) -> list[dict]:
    """Rows of every special case, on the programs that it serves."""
    moment, course, short = _moment(64 if quick else 128), _course(128 if quick else 512, 84), _course(256, 14)
    served = {
        "moment": (moment, ("sum of rows",)),
        "moment, gradient": (_gradient(moment), ("sum of rows", "lazy linear map")),
        "course": (course, ("blocks of several saves", "matmul in columns")),
        "course, gradient": (
            _gradient(course),
            ("blocks of several saves", "matmul in columns", "lazy linear map"),
        ),
        "course of 14 days, gradient": (_gradient(short), ("every state stored",)),
    }
    return [row for case, (program, names) in served.items() for row in _compare(case, program, names, rounds)]


def _compare(case: str, program: Program, names: tuple[str, ...], rounds: int) -> list[dict]:
    """The complete program and those without one special case, run by turns."""
    contexts = [contextlib.nullcontext, *(WITHOUT[name] for name in names)]
    compiled, compile_seconds = zip(*(_compile(program, without) for without in contexts), strict=True)
    seconds: list[list[float]] = [[] for _ in compiled]
    for run in compiled:
        jax.block_until_ready(run(program.argument))
    for _ in range(rounds):
        for taken, run in zip(seconds, compiled, strict=True):
            begin = time.perf_counter()
            jax.block_until_ready(run(program.argument))
            taken.append(time.perf_counter() - begin)
    rows = []
    for name, taken, compiling in zip(("complete", *names), seconds, compile_seconds, strict=True):
        ratio = statistics.median(a / b for a, b in zip(seconds[0], taken, strict=True))
        label = f"ablation, {case}, {name}" if name == "complete" else f"ablation, {case}, without {name}"
        told = {"case": label, "unit": program.unit} | program.sizes
        rows.append({"told": told, "work": program.work, "timing": Timing(taken, compiling), "ratio": ratio})
    return rows


def _compile(program: Program, without: Callable) -> tuple[Callable, float]:
    """The program compiled without a special case, and how long that took (s)."""
    jax.clear_caches()
    begin = time.perf_counter()
    with without():
        lowered = jax.jit(lambda argument: program.call(argument)).lower(program.argument)
        compiled = lowered.compile(compiler_options=COMPILER_OPTIONS)
    return compiled, time.perf_counter() - begin


def _moment(subjects: int) -> Program:
    seconds = 1.5
    steps = round((seconds + 1.0) * SAMPLING_RATE)
    cohort = hb.draw(hb.depressed(), subjects, seed=1)
    where = lambda cohort: cohort.parameters.synapses
    plan = make_population_plan(NEURONS)
    run = lambda synapses: hb.moment(eqx.tree_at(where, cohort, synapses), seconds, neurons=NEURONS, plan=plan).mean[
        "habenula"
    ]
    sizes = {"subjects": subjects, "neurons": NEURONS, "steps": steps}
    return Program(run, where(cohort), subjects * NEURONS * steps, "M neuron-steps/s", sizes)


def _course(subjects: int, days: int) -> Program:
    cohort, arm = hb.draw(hb.depressed(), subjects, seed=1), hb.Recalibration.weekly(3 * days // 7)
    run = lambda intensity: hb.course(
        cohort, eqx.tree_at(lambda a: a.intensity, arm, intensity), float(days), record=("vta_output",)
    )["vta_output"]
    sizes = {"subjects": subjects, "steps": 24 * days}
    return Program(run, arm.intensity, subjects * 24 * days, "M subject-hours/s", sizes)


def _gradient(program: Program) -> Program:
    return program._replace(call=jax.grad(lambda argument: jnp.mean(program.call(argument))))


@contextlib.contextmanager
def _loop_with(**fields: Any) -> Iterator[None]:
    """`integrate` with other fields of its loop."""
    build = integration._build_run

    def build_changed(problem, *args):
        return build(problem._replace(loop=problem.loop._replace(**fields)), *args)

    with mock.patch.object(integration, "_build_run", build_changed):
        yield


def _linear_call(forth: Callable, back: Callable, at: Any, tangents: Any, like: Any) -> Any:
    del like
    return linear_call(forth, back, at, tangents)


WITHOUT: dict[str, Callable] = {
    "blocks of several saves": lambda: _loop_with(saves_per_block=1),
    "every state stored": lambda: _loop_with(store_every_state=False),
    "sum of rows": lambda: mock.patch.object(
        lateral_habenula, "broadcast_rows", lambda x, rows: jnp.broadcast_to(x[None], (rows, *x.shape))
    ),
    "matmul in columns": lambda: mock.patch.object(transfer_function, "matmul", matmul_by_library),
    "lazy linear map": lambda: mock.patch.object(custom_derivative, "apply_linear_map", _linear_call),
}
