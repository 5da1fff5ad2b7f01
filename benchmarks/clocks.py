"""Speed of the two clocks, and what their gradients cost: a 12-week course, a moment of 10,000 steps."""

import statistics

import equinox as eqx
import jax
import jax.numpy as jnp
from timing import Run, Timing, paired

import habenula as hb
from habenula.circuit.model.lhb_population import make_population_plan
from habenula.kernels import entry_point


def slow(quick: bool, rounds: int) -> list[dict]:
    """Courses of 12 weeks, and the gradient of their mean output by the intensities of a regimen."""
    subjects, days = 128 if quick else 512, 84.0
    cohort, arm = hb.draw(hb.depressed(), subjects, seed=1), hb.Recalibration.weekly(int(3 * days // 7))
    lived = lambda intensity: hb.course(
        cohort, eqx.tree_at(lambda a: a.intensity, arm, intensity), days, save_every=24, record=("vta_output",)
    )["vta_output"]
    gradient = entry_point(jax.value_and_grad(lambda intensity: jnp.mean(lived(intensity))))
    timings = paired([Run(lived, arm.intensity), Run(gradient, arm.intensity)], rounds)
    steps = round(days * 24)
    return _rows("slow clock", "M subject-hours/s", timings, subjects * steps, {"subjects": subjects, "steps": steps})


def fast(quick: bool, rounds: int) -> list[dict]:
    """Moments of 32 neurons a subject, and the gradient of their mean output by all constants of its synapses."""
    subjects, seconds, neurons = 64 if quick else 128, 1.5, 32
    steps = round((seconds + 1.0) * 4000)  # 10,000, with the second that is left out at the beginning
    cohort = hb.draw(hb.depressed(), subjects, seed=1)
    where = lambda cohort: cohort.parameters.synapses
    lived = lambda synapses: hb.moment(
        eqx.tree_at(where, cohort, synapses), seconds, neurons=neurons, plan=make_population_plan(neurons)
    ).mean["habenula"]
    gradient = entry_point(jax.value_and_grad(lambda synapses: jnp.mean(lived(synapses))))
    timings = paired([Run(lived, where(cohort)), Run(gradient, where(cohort))], rounds)
    sizes = {"subjects": subjects, "neurons": neurons, "steps": steps}
    return _rows("fast clock", "M neuron-steps/s", timings, subjects * neurons * steps, sizes)


def _rows(case: str, unit: str, timings: list[Timing], work: int, sizes: dict) -> list[dict]:
    """The forward run and its gradient, whose ratio is a cost: how many forward runs it takes."""
    forward, backward = timings
    cost = statistics.median(back / fore for back, fore in zip(backward.seconds, forward.seconds, strict=True))
    told = {"unit": unit} | sizes
    return [
        {"told": told | {"case": case}, "work": work, "timing": forward, "ratio": 1.0},
        {"told": told | {"case": f"{case}, gradient"}, "work": work, "timing": backward, "ratio": cost},
    ]
