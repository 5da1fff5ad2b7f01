"""The standard trial: a depressed cohort, treated in several arms, stressed again, and fitted.

Every subject is simulated under every arm with the same noise (common random numbers), so that arms differ in
treatment alone.
"""

import itertools
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import numpy as np

from ....kernels import Plan, Summary
from ...model.interventions import Arm, Ketamine, Recalibration, has_doses_or_sessions
from ...optimisation.restore import Restoration, restore
from ...optimisation.settings import Multistart
from ...simulation.cohort import Cohort
from ...simulation.conditions import Condition, depressed, draw, healthy
from ...simulation.course import Course, course, observe_cohort
from ...simulation.hardware import Machine
from ...simulation.planner import MAX_CHUNK_BYTES, Forecast, forecast
from ...simulation.streamed_course import divide_subjects
from ..arms import WEEK_10_STRESS, align_arms, select_doses_within, standard_arms
from ..reporting.claims import evaluate_claims
from ..reporting.results import RELATIVE_QUANTITIES, ArmResult, RestoredRegimen, TrialResult

StageCallback = Callable[[str, int, int], None]
QuantitySummaries = dict[str, Summary]  # by quantity, over subjects

HEALTHY_ARM = (
    "healthy"  # lives through the trial untreated and unstressed; its mean over the last week is the reference
)
RESTORED_SHARE = 0.9  # of the healthy mean: from here on a subject counts as restored
FIT_SUBJECTS, FIT_STARTS, FIT_STEPS, FIT_RATE, FIT_DAYS = 16, 3, 24, 0.5, 28.0
TRIAL_RECORD = (*RELATIVE_QUANTITIES, "burst", "block")
TRIAL_SAVE_EVERY = 4  # h


def run_trial(
    subjects: int = 1024,
    weeks: int = 12,
    arms: Sequence[str] | None = None,
    seed: int = 1,
    devices: int = 1,
    report: StageCallback | None = None,
) -> TrialResult:
    """Draw, treat, stress again, fit.

    Args:
        subjects: in the depressed cohort, each simulated under every arm; as many healthy ones give the reference.
        weeks: length of the trial. The stress of week 10 falls away in a shorter one.
        arms: names, see `arms.standard`; all by default. Placebo is always run, as the comparator.
        seed: names subjects and noise.
        devices: over how many devices subjects are divided.
        report: called as `report(stage, done, total)` while work goes on.

    Raises:
        ValueError: no subjects, no weeks, an unknown arm.
    """
    chosen = check_arms(subjects, weeks, arms)
    began, how = time.time(), next(iter(forecast_arms(chosen, subjects, weeks, devices).values()))
    report = report or (lambda stage, done, total: None)
    with how.device():
        results, target, some = _simulate_chunk(chosen, subjects, weeks, seed, how, report)
    fitted = _fit_regimens(some, target, min(FIT_DAYS, 7.0 * weeks), how, report)
    provenance = _run_provenance(subjects, weeks, seed, how) | {"seconds": round(time.time() - began, 1)}
    return TrialResult(results, evaluate_claims(results), fitted, provenance)


def _simulate_chunk(
    chosen: Mapping[str, Arm], subjects: int, weeks: int, seed: int, how: Forecast, report: StageCallback
) -> tuple[dict[str, ArmResult], float, Cohort]:
    """What the arms come to, the healthy VTA output, and some subjects to fit on: piece by piece, in the memory of one."""
    parts = divide_subjects(subjects, how.chunk, how.plan)
    live = partial(course, days=7.0 * weeks, save_every=TRIAL_SAVE_EVERY, record=TRIAL_RECORD, plan=how.plan)
    people = partial(_draw_cohorts, parts, seed, how.plan, report)
    treated = {name: arm for name, arm in chosen.items() if name != HEALTHY_ARM}
    well: QuantitySummaries = {}
    sums: dict[str, QuantitySummaries] = {name: {} for name in treated}
    first: list[Cohort] = []
    done, total = itertools.count(1), len(parts) * len(chosen)
    report("arms", 0, total)
    for part, cohort in people(healthy(), 0):
        well = _merge_sums(well, _summarise_last_week(live(cohort, chosen[HEALTHY_ARM]), len(part)))
        report("arms", next(done), total)
    reference = {name: float(each.mean.mean()) for name, each in well.items()}
    for part, cohort in people(depressed(), len(parts)):
        first = first or [cohort[: min(FIT_SUBJECTS, len(part))]]
        begin = observe_cohort(cohort, TRIAL_RECORD)
        for name, arm in treated.items():
            sums[name] = _merge_sums(sums[name], _summarise_course(begin, live(cohort, arm), len(part), reference))
            report("arms", next(done), total)
    return {name: _arm_result(name, weeks, each) for name, each in sums.items()}, reference["vta_output"], first[0]


def _draw_cohorts(
    parts: Sequence[range], seed: int, plan: Plan, report: StageCallback, condition: Condition, drawn: int
) -> Iterator[tuple[range, Cohort]]:
    """Subjects of a condition piece by piece, all of one size; those past the last place of all are not to be counted."""
    for number, part in enumerate(parts):
        report("cohort", drawn + number, 2 * len(parts))
        cohort = draw(condition, len(parts[0]), seed, first=part.start, plan=plan)
        report("cohort", drawn + number + 1, 2 * len(parts))
        yield part, cohort


def forecast_arms(
    chosen: Mapping[str, Arm], subjects: int, weeks: int, devices: int, machine: Machine | None = None
) -> dict[str, Forecast]:
    """What a course of each shape of arm will take, by one arm of that shape; the first says how all are run."""
    course_of = partial(
        forecast,
        subjects,
        days=7.0 * weeks,
        quantities=len(TRIAL_RECORD),
        save_every=TRIAL_SAVE_EVERY,
        memory=MAX_CHUNK_BYTES,
        devices=devices,
    )
    acting = [name for name, arm in chosen.items() if has_doses_or_sessions(arm)]
    first = course_of(arm=chosen[acting[0]] if acting else (), machine=machine)
    given = first.plan if first.platform == jax.default_backend() else None
    found = {acting[0]: first} if acting else {}
    return found | {HEALTHY_ARM: course_of(given=given, machine=machine)}


def check_arms(subjects: int, weeks: int, arms: Sequence[str] | None) -> dict[str, Arm]:
    """The arms that were asked for and the healthy cohort's empty one, in two shapes and so two programs.

    One has doses of ketamine and sessions, the other not: following ketamine within the hour costs several times as much.

    The stress of week 10 is part of all but the empty one, if the trial lasts so long.

    Raises:
        ValueError: no subjects, no weeks, an unknown arm.
    """
    if subjects < 1:
        raise ValueError(f"{subjects=} must be at least 1.")
    if not 1 <= weeks <= 104:
        raise ValueError(f"{weeks=} must lie between 1 and 104.")
    known = standard_arms()
    if unknown := [name for name in arms or () if name not in known]:
        raise ValueError(f"unknown arms {unknown}; choose from {', '.join(known)}.")
    names = list(known) if arms is None else list(dict.fromkeys(("placebo", *arms)))
    days = 7.0 * weeks
    again = (WEEK_10_STRESS,) if days > float(WEEK_10_STRESS.start) else ()
    given = {name: select_doses_within(known[name], days) + again for name in names}
    given = {HEALTHY_ARM: (), **given}
    acting = {name for name, arm in given.items() if has_doses_or_sessions(arm)}
    alike = align_arms({name: given[name] for name in given if name in acting})
    alike |= align_arms({name: given[name] for name in given if name not in acting})
    return {name: alike[name] for name in given}


def _summarise_last_week(quiet: Course, count: int) -> QuantitySummaries:
    """Each quantity over the last week of the first `count` subjects, untreated and unstressed."""
    last = np.asarray(quiet.day) > float(quiet.day[-1]) - 7
    finite = _finite_values([quiet[name] for name in TRIAL_RECORD], count)
    return {name: Summary.of(np.asarray(quiet[name])[:count, last][finite]) for name in TRIAL_RECORD}


def _summarise_course(
    begin: Mapping[str, Any], lived: Course, count: int, reference: Mapping[str, float]
) -> QuantitySummaries:
    """Each quantity of the first `count` subjects, with what was seen before treatment as day 0; and who is restored."""
    finite = _finite_values([begin[name] for name in TRIAL_RECORD] + [lived[name] for name in TRIAL_RECORD], count)

    def seen(name: str) -> np.ndarray:
        before, after = np.asarray(begin[name])[:, None], np.asarray(lived[name])
        whole = np.concatenate([before, after], axis=1)[:count][finite]
        return whole / np.float32(reference[name]) if name in RELATIVE_QUANTITIES else whole

    restored = {"restored": Summary.of(seen("vta_output") >= RESTORED_SHARE)}
    return restored | {name: Summary.of(seen(name)) for name in TRIAL_RECORD}


def _finite_values(values: Sequence[Any], count: int) -> np.ndarray:
    """Which of the first `count` subjects have finite numbers alone."""
    return np.all([np.isfinite(np.asarray(each)[:count]).reshape(count, -1).all(axis=1) for each in values], axis=0)


def _merge_sums(a: QuantitySummaries, b: QuantitySummaries) -> QuantitySummaries:
    """What is known of more and more subjects, of none in the beginning."""
    return {name: a[name].merge(each) if a else each for name, each in b.items()}


def _arm_result(name: str, weeks: int, sums: QuantitySummaries) -> ArmResult:
    """Means of an arm, and the interval of VTA output."""
    day = np.arange(0, weeks * 168 + 1, TRIAL_SAVE_EVERY) / 24
    output = sums["vta_output"]
    half = 1.96 * output.sd / max(output.count, 1) ** 0.5
    mean = {quantity: sums[quantity].mean for quantity in TRIAL_RECORD}
    return ArmResult(name, day, mean, output.mean - half, output.mean + half, sums["restored"].mean)


def regimens_to_fit(days: float) -> dict[str, tuple[Arm, tuple[str, ...], dict[str, tuple[float, float]]]]:
    """What is fitted: by name, the regimen to begin with, its leaves to fit, and bounds narrower than the drug's own."""
    sessions, infusions = min(18, 3 * int(days // 7)), min(8, 2 * int(days // 7))
    spread = lambda count: [(i + 0.5) * 0.7 * days / count for i in range(count)]
    return {
        "recalibration": (
            (Recalibration(spread(sessions), [1.0] * sessions),),
            ("intensity", "times"),
            {"times": (0.0, 0.75 * days), "intensity": (0.0, 3.0)},
        ),
        "ketamine": (
            (Ketamine([0.5] * infusions, spread(infusions)),),
            ("mg_per_kg", "day"),
            {"day": (0.0, 0.9 * days), "mg_per_kg": (0.0, 1.0)},
        ),
    }


def _fit_regimens(
    some: Cohort, target: float, days: float, how: Forecast, report: StageCallback
) -> dict[str, RestoredRegimen]:
    """Fit each regimen on some subjects, by gradient; side by side, as most of the time goes into compiling."""

    def one(name: str) -> RestoredRegimen:
        arm, over, bounds = regimens_to_fit(days)[name]
        watched = lambda done, total: report(f"fitting {name}", done, total)
        with how.device():  # here: threads do not inherit it
            fit = restore(
                some,
                arm,
                target,
                over=over,
                bounds=bounds,
                days=days,
                search=Multistart(starts=FIT_STARTS, steps=FIT_STEPS, learning_rate=FIT_RATE),
                progress=watched,
            )
        return _restored_regimen(name, fit, target)

    with ThreadPoolExecutor() as pool:
        return {found.name: found for found in pool.map(one, regimens_to_fit(days))}


def _restored_regimen(name: str, fit: Restoration, target: float) -> RestoredRegimen:
    return RestoredRegimen(
        name=name,
        target=1.0,
        before=float(np.mean(fit.before)) / target,
        after=float(np.mean(fit.after)) / target,
        fitted={leaf: np.asarray(value).ravel().tolist() for leaf, value in fit.fitted.items()},
        starts=(np.asarray(fit.starts) / target).tolist(),
        status=fit.status,
        reason=fit.reason,
    )


def _run_provenance(subjects: int, weeks: int, seed: int, how: Forecast) -> dict[str, object]:
    versions = {name: _package_version_of(name) for name in ("habenula", "jax", "jaxlib", "numpy", "optax", "equinox")}
    machine = {
        "python": platform.python_version(),
        "device": jax.devices(how.platform)[0].device_kind,
        "devices": how.plan.devices,
    }
    return {"subjects": subjects, "weeks": weeks, "seed": seed, **machine, **versions}


def _package_version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
