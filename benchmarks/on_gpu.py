"""Both clocks on a GPU, as one kernel and as a plain loop: each run in a process of its own, under a limit of time.

Kernels of GPUs can hang or end a whole process. Then the others still have their rows.
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from paired import PLATFORMS, SHARING
from timing import Timing

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 150.0  # s, for one run with its compilation
TESTS_LIMIT = 240.0  # s, for the tests of kernels
BACKENDS = ("fused", "scan")
SAME = 0.02  # of the largest, by which means over a cohort may differ: near the saddle, last digits decide about some
DAYS = 84.0


class Case(NamedTuple):
    """Something to run.

    Attributes:
        subjects: how many, and of a quick run.
        unit: of its rate.
        neurons: of a subject; 0 in a course.
        steps: of a run.
        of: `of(cohort, plan) -> (call, reads)`, which returns means over subjects, to compare.
    """

    subjects: tuple[int, int]
    unit: str
    neurons: int
    steps: int
    of: Callable


def _course(cohort, plan):
    return _lived(cohort, (), plan), ()


def _treated(cohort, plan):
    import habenula as hb

    return _lived(cohort, hb.Ketamine(mg_per_kg=0.5, day=7.0), plan), ()


def _lived(cohort, arm, plan) -> Callable:
    import habenula as hb

    return lambda _: hb.course(cohort, arm, DAYS, save_every=24, record=("vta_output",), plan=plan)["vta_output"].mean(
        axis=0
    )


def _gradient(cohort, plan):
    """Of the mean output, by the intensities of six sessions: as many tangents as one kernel carries."""
    import equinox as eqx
    import jax

    import habenula as hb
    from habenula.kernels import entry_point

    arm = hb.Recalibration.weekly(6)
    output = lambda intensity: _lived(cohort, eqx.tree_at(lambda a: a.intensity, arm, intensity), plan)(None).mean()
    return entry_point(jax.grad(output)), arm.intensity


def _moment(cohort, plan):
    import habenula as hb

    return lambda _: hb.moment(cohort, 1.0, record=(), plan=plan).mean["habenula"].mean(), ()


HOURS, STEPS = "M subject-hours/s", "M neuron-steps/s"
CASES = {
    "gpu, course": Case((2**20, 2**13), HOURS, 0, round(24 * DAYS), _course),
    "gpu, course with ketamine": Case((2**17, 2**12), HOURS, 0, round(24 * DAYS), _treated),
    "gpu, gradient of a course": Case((2**14, 2**11), HOURS, 0, round(24 * DAYS), _gradient),
    "gpu, moment": Case((2**15, 2**10), STEPS, 32, 8000, _moment),
}


# Files with tests that need a GPU, from the root of the checkout.
GPU_TESTS = ("tests/kernels/test_pallas_kernel.py", "tests/benchmarks/test_benchmarks.py")


def tested() -> str | None:
    """Why the tests of kernels do not pass on the GPU, or None."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "gpu", *GPU_TESTS]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | SHARING, capture_output=True, text=True, timeout=TESTS_LIMIT
        )
    except subprocess.TimeoutExpired:
        return f"no end of the tests within {TESTS_LIMIT:.0f} s"
    return None if done.returncode == 0 else f"{(done.stdout + done.stderr)[-3000:]}"


def measured(
    quick: bool, rounds: int, tell: Callable[[str], None], backends: tuple[str, ...] = BACKENDS, cases: dict = CASES
) -> Iterator[dict]:
    """What is known of a row of each case and backend, with its `work` and `timing`; or a word on why there is none."""
    for name, case in cases.items():
        first = None
        for backend in backends:
            tell(f"{name}, {backend}")
            found = alone(_run, name, backend, quick, rounds)
            if isinstance(found, str):
                yield {"case": name, "engine": f"{backend}, {name}", "missing": False, "why": found}
                continue
            seconds, once, means = found
            first = first or (seconds, means)
            most = max(map(abs, first[1]))
            away = [abs(a - b) for a, b in zip(means, first[1], strict=True)]
            if not all(distance < SAME * most for distance in away):  # nor is it if one is no number
                why = f"means over the cohort differ from those of the first by {max(away):.3g}, of {most:.3g}"
                yield {"case": name, "engine": f"{backend}, {name}", "missing": False, "why": why}
                continue
            subjects = case.subjects[quick]
            told = {"case": name, "engine": f"habenula-{backend}", "unit": case.unit, "equal": True}
            told |= {"subjects": subjects, "neurons": case.neurons or "", "steps": case.steps}
            yield {
                "told": told,
                "work": subjects * case.steps * max(case.neurons, 1),
                "timing": Timing(seconds, once),
                "ratio": statistics.median(first[0]) / statistics.median(seconds),
            }


def alone(function: Callable, *arguments, limit: float = LIMIT):
    """What a function returns in a process of its own; or, as text, why it returns nothing."""
    spawned = multiprocessing.get_context("spawn")
    near, far = spawned.Pipe()
    process = spawned.Process(target=_serve, args=(far, function, arguments), daemon=True)
    process.start()
    far.close()
    try:
        if not near.poll(limit):
            return f"no end within {limit:.0f} s"
        return near.recv()
    except EOFError:
        process.join(timeout=2)
        return f"its process ended without a word, with code {process.exitcode}"
    finally:
        process.kill()
        process.join()


def _serve(pipe, function: Callable, arguments: tuple) -> None:
    try:
        pipe.send(function(*arguments))
    except Exception:
        pipe.send(traceback.format_exc(limit=-3))


def _run(name: str, backend: str, quick: bool, rounds: int, platform: str = PLATFORMS["gpu"]):
    """Seconds of each round, seconds once, and means to compare."""
    os.environ |= SHARING
    import jax

    jax.config.update("jax_platforms", platform)
    import numpy as np
    from timing import Run, paired

    import habenula as hb
    from habenula.kernels import Plan

    case = CASES[name]
    plan = Plan(backend, interpret=backend == "fused" and platform == "cpu")
    cohort = hb.draw(hb.depressed(), case.subjects[quick], seed=1, plan=Plan("scan"))
    call, reads = case.of(cohort, plan)
    (timing,) = paired([Run(call, reads)], rounds)
    means = np.asarray(call(reads), np.float64).ravel().tolist()
    return timing.seconds, timing.compile_seconds, means
