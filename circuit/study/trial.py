"""The standard trial: a depressed cohort, treated in several arms, stressed again, and fitted.

Every subject lives every arm, with the same noise (twin arms), so differences between arms are differences of treatment.
"""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import numpy as np

from ...kernels import Plan
from ..cohort import Cohort
from ..conditions import depressed, draw, healthy
from ..fit import Restoration, restore
from ..interventions import Arm, Ketamine, Recalibration
from ..simulate import Course, course, observe
from .arms import STRESS, align, standard, within
from .claims import claims
from .results import RELATIVE, ArmResult, Restored, Trial

Report = Callable[[str, int, int], None]

HEALTHY = "healthy"  # lives through the trial untreated and unstressed; its mean over the last week is the reference
RESTORED = 0.9  # of the healthy mean: from here on a subject counts as restored
FIT_SUBJECTS, FIT_STARTS, FIT_STEPS, FIT_RATE, FIT_DAYS = 16, 3, 24, 0.5, 28.0
RECORDED = (*RELATIVE, "burst", "block")
TILE = 128  # lanes; a tile's records and inputs stay in the second-level cache


def run(
    subjects: int = 1024,
    weeks: int = 12,
    arms: Sequence[str] | None = None,
    seed: int = 1,
    devices: int = 1,
    report: Report | None = None,
) -> Trial:
    """Draw, treat, stress again, fit.

    Args:
        subjects: in the depressed cohort, each of whom lives every arm; as many healthy ones give the reference.
        weeks: length of the trial. The stress of week 10 falls away in a shorter one.
        arms: names, see `arms.standard`; all by default. Placebo is always run, as the comparator.
        seed: names subjects and noise.
        devices: over how many devices subjects are divided.
        report: called as `report(stage, done, total)` while work goes on.

    Raises:
        ValueError: no subjects, no weeks, an unknown arm.
    """
    chosen = check(subjects, weeks, arms)
    began, plan = time.time(), Plan(tile=TILE, devices=devices)
    report = report or (lambda stage, done, total: None)
    report("cohort", 0, 2)
    well = draw(healthy(), subjects, seed, plan=plan)
    report("cohort", 1, 2)
    ill = draw(depressed(), subjects, seed, plan=plan)
    report("cohort", 2, 2)
    total, results = len(chosen) + 1, {}
    report("arms", 0, total)
    live = partial(course, days=7.0 * weeks, save_every=4, record=RECORDED, plan=plan)
    reference = _reference(live(well, chosen.pop(HEALTHY)))
    begin = observe(ill, RECORDED)
    for i, (name, arm) in enumerate(chosen.items()):
        report("arms", i + 1, total)
        results[name] = _result(name, begin, live(ill, arm), reference)
    report("arms", total, total)
    fitted = _fit(ill, float(reference["vta_output"]), min(FIT_DAYS, 7.0 * weeks), report)
    provenance = _provenance(subjects, weeks, seed, devices) | {"seconds": round(time.time() - began, 1)}
    return Trial(results, claims(results), fitted, provenance)


def check(subjects: int, weeks: int, arms: Sequence[str] | None) -> dict[str, Arm]:
    """The arms that were asked for and the healthy cohort's empty one, in two shapes and so two programs.

    One has doses of ketamine and sessions, the other not: following them within the hour costs several times as much.

    The stress of week 10 is part of all but the empty one, if the trial lasts so long.

    Raises:
        ValueError: no subjects, no weeks, an unknown arm.
    """
    if subjects < 1:
        raise ValueError(f"{subjects=} must be at least 1.")
    if not 1 <= weeks <= 104:
        raise ValueError(f"{weeks=} must lie between 1 and 104.")
    known = standard()
    if unknown := [name for name in arms or () if name not in known]:
        raise ValueError(f"unknown arms {unknown}; choose from {', '.join(known)}.")
    names = list(known) if arms is None else list(dict.fromkeys(("placebo", *arms)))
    days = 7.0 * weeks
    again = (STRESS,) if days > float(STRESS.start) else ()
    given = {name: within(known[name], days) + again for name in names}
    given = {HEALTHY: (), **given}
    acting = {name for name, arm in given.items() if any(isinstance(each, Ketamine | Recalibration) for each in arm)}
    alike = align({name: given[name] for name in given if name in acting})
    alike |= align({name: given[name] for name in given if name not in acting})
    return {name: alike[name] for name in given}


def _reference(quiet: Course) -> dict[str, np.ndarray]:
    """Mean of each quantity over the healthy cohort and its last week, untreated and unstressed."""
    last = np.asarray(quiet.day) > float(quiet.day[-1]) - 7
    return {name: np.asarray(quiet[name])[:, last].mean() for name in RECORDED}


def _result(name: str, begin: Mapping[str, Any], lived: Course, reference: dict[str, np.ndarray]) -> ArmResult:
    """Means of an arm, with what was seen before treatment as day 0; over the subjects whose numbers stayed finite."""
    scale = lambda quantity: reference[quantity] if quantity in RELATIVE else 1.0
    whole = lambda quantity: np.concatenate([begin[quantity][:, None], lived[quantity]], axis=1)
    values = {quantity: whole(quantity) / scale(quantity) for quantity in RECORDED}
    finite = np.all([np.isfinite(value).all(axis=1) for value in values.values()], axis=0)
    values = {quantity: value[finite] for quantity, value in values.items()}
    output = values["vta_output"]
    half = (
        1.96 * output.std(axis=0, ddof=1) / len(output) ** 0.5 if len(output) > 1 else np.full(output.shape[1], np.nan)
    )
    mean = {quantity: value.mean(axis=0) for quantity, value in values.items()}
    middle = mean["vta_output"]
    restored = (output >= RESTORED).mean(axis=0)
    day = np.concatenate([[0.0], lived.day])
    return ArmResult(name, day, mean, middle - half, middle + half, restored)


def regimens(days: float) -> dict[str, tuple[Arm, tuple[str, ...], dict[str, tuple[float, float]]]]:
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


def _fit(ill: Cohort, target: float, days: float, report: Report) -> dict[str, Restored]:
    """Fit each regimen on some of the subjects, by gradient; side by side, as most of the time goes into compiling."""
    some = ill[: min(FIT_SUBJECTS, len(ill))]

    def one(name: str) -> Restored:
        arm, over, bounds = regimens(days)[name]
        watched = lambda done, total: report(f"fitting {name}", done, total)
        fit = restore(
            some,
            arm,
            target,
            over=over,
            bounds=bounds,
            days=days,
            starts=FIT_STARTS,
            steps=FIT_STEPS,
            learning_rate=FIT_RATE,
            progress=watched,
        )
        return _restored(name, fit, target)

    with ThreadPoolExecutor() as pool:
        return {found.name: found for found in pool.map(one, regimens(days))}


def _restored(name: str, fit: Restoration, target: float) -> Restored:
    return Restored(
        name=name,
        target=1.0,
        before=float(np.mean(fit.before)) / target,
        after=float(np.mean(fit.after)) / target,
        fitted={leaf: np.asarray(value).ravel().tolist() for leaf, value in fit.fitted.items()},
        starts=(np.asarray(fit.starts) / target).tolist(),
        status=fit.status,
        reason=fit.reason,
    )


def _provenance(subjects: int, weeks: int, seed: int, devices: int) -> dict[str, object]:
    versions = {name: _version(name) for name in ("habenula", "jax", "jaxlib", "numpy", "optax", "equinox")}
    machine = {"python": platform.python_version(), "device": jax.devices()[0].device_kind, "devices": devices}
    return {"subjects": subjects, "weeks": weeks, "seed": seed, **machine, **versions}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
