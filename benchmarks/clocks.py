"""Speed of the two clocks and of their gradients."""

import statistics
import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from habenula import circuit as hb
from habenula.circuit.population import plan_for
from habenula.kernels import entry_point

ROUNDS = 5


def slow(quick: bool) -> list[dict]:
    """Courses, and the gradient of their mean output by the intensities of a regimen."""
    subjects, days = (128, 7.0) if quick else (512, 28.0)
    cohort, arm = hb.draw(hb.depressed(), subjects, seed=1), hb.Recalibration.weekly(int(3 * days // 7))
    lived = lambda intensity: hb.course(
        cohort, eqx.tree_at(lambda a: a.intensity, arm, intensity), days, save_every=24, record=("vta_output",)
    )["vta_output"]
    gradient = jax.jit(jax.value_and_grad(lambda intensity: jnp.mean(lived(intensity))))
    forward, backward = _paired(lambda: lived(arm.intensity), lambda: gradient(arm.intensity))
    steps = round(days * 24)
    return _rows("slow clock", "M subject-hours/s", forward, backward, subjects, 0, steps, subjects * steps)


def fast(quick: bool) -> list[dict]:
    """Moments of 32 neurons a subject, and the gradient of their mean output by all constants of its synapses."""
    subjects, seconds, neurons = (64, 1.5, 32) if quick else (128, 1.5, 32)
    steps = round((seconds + 1.0) * 4000)  # 10,000, with the second that is left out at the beginning
    cohort = hb.draw(hb.depressed(), subjects, seed=1)
    where = lambda cohort: cohort.parameters.synapses
    lived = lambda synapses: hb.moment(
        eqx.tree_at(where, cohort, synapses), seconds, neurons=neurons, plan=plan_for(neurons)
    ).mean["habenula"]
    gradient = entry_point(jax.value_and_grad(lambda synapses: jnp.mean(lived(synapses))))
    forward, backward = _paired(lambda: lived(where(cohort)), lambda: gradient(where(cohort)))
    work = subjects * neurons * steps
    return _rows("fast clock", "M neuron-steps/s", forward, backward, subjects, neurons, steps, work)


def _paired(*runs: Callable) -> list[tuple[float, list[float]]]:
    """For each: seconds spent once, and seconds of every round, in turns."""
    first, later = [], [[] for _ in runs]
    for run in runs:
        first.append(_seconds(run))
    for _ in range(ROUNDS):
        for times, run in zip(later, runs, strict=True):
            times.append(_seconds(run))
    return [(max(once - statistics.median(times), 0.0), times) for once, times in zip(first, later, strict=True)]


def _seconds(run: Callable) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - begin


def _rows(case: str, unit: str, forward, backward, subjects: int, neurons: int, steps: int, work: int) -> list[dict]:
    """The forward run and its gradient, whose ratio is a cost: how many forward runs it takes."""
    costs = [back / fore for back, fore in zip(backward[1], forward[1], strict=True)]
    sizes = {"subjects": subjects, "neurons": neurons or "", "steps": steps}
    named = ((case, forward, 1.0), (f"{case}, gradient", backward, statistics.median(costs)))
    return [
        {"case": name, "unit": unit, "seconds": times, "work": work, "ratio": ratio, "compile_seconds": once} | sizes
        for name, (once, times), ratio in named
    ]
