"""Choose the constants of the slow clock that nobody has measured, so that the circuit can do what people and animals do.

    python -m habenula.circuit.calibration.slow_clock [--evaluations 600] [--subjects 192] [--seed 0]

How fast synapses gain, how much prefrontal control is worth, how steeply channels shut: no experiment gives these numbers.
What is known is what they bring about together, `CALIBRATION_TARGETS`. A search (one parent and one child, with a
step that grows on
success; Rechenberg 1973) moves the constants from where the table has them until cohorts of virtual subjects meet the aims.

So what the trial shows of these aims is not a prediction: the mechanism was asked whether it can, and it can. What is tested
is that it does so by the mechanism said, by taking that away (tests/study/test_claims.py); one aim here is such a removal.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..data import constants
from ..model.interventions import SSRI, Bupropion, Intervention, Ketamine, Methylphenidate, Recalibration
from ..model.parameters import Parameters, typical
from ..simulation.cohort import Cohort, get_leaf
from ..simulation.conditions import depressed, draw, healthy, resilient
from ..simulation.course import course
from ..simulation.fixed_points import with_reference_levels
from .options import make_parser

SCRIPT = "habenula.circuit.calibration.slow_clock"
HOURS_PER_RECORD = 4  # between records
RECORDS_PER_DAY = 24 // HOURS_PER_RECORD  # records in a day

# Path in `Parameters`: bounds and unit.
CONSTANT_BOUNDS = {
    "plasticity.gain_maximum": (1.6, 4.5, "1"),
    "plasticity.gain_rate": (0.0006, 0.004, "1/h"),
    "plasticity.kir_maximum": (3.0, 12.0, "mV"),
    "plasticity.kir_rate": (0.001, 0.006, "1/h"),
    "plasticity.control_time": (2.0, 24.0, "h"),
    "plasticity.control_dopamine": (0.005, 0.04, "uM"),
    "plasticity.deficit_half": (0.1, 0.3, "1"),
    "plasticity.deficit_slope": (0.02, 0.1, "1"),
    "plasticity.stress_drive": (0.3, 1.2, "1"),
    "plasticity.depression_rate": (0.03, 0.3, "1/h"),
    "synapses.strength": (0.7, 1.05, "1"),
    "synapses.aversive_gain": (0.2, 1.5, "1"),
    "synapses.control": (0.4, 0.95, "1"),
    "synapses.everyday_spread": (0.01, 0.12, "1"),
    "synapses.glutamate_half": (1.5, 20.0, "Hz"),
    "synapses.glutamate_power": (2.0, 6.0, "1"),
    "dopamine.autoreceptor_half": (0.015, 0.06, "uM"),
}


class CalibrationTarget(NamedTuple):
    """A figure of `measure_figures`, the band that it should lie in, what counts as far outside, and why."""

    low: float
    high: float
    scale: float
    why: str


UNBOUNDED = float("inf")
CALIBRATION_TARGETS = {
    "well": CalibrationTarget(0.97, 1.03, 0.02, "health is where health was"),
    "ill": CalibrationTarget(
        0.45, 0.60, 0.05, "VTA population activity is about halved by chronic mild stress (Chang & Grace 2014)"
    ),
    "share_ill": CalibrationTarget(0.80, 1.0, 0.05, "most susceptible subjects cross over, to below 0.8"),
    "stays": CalibrationTarget(-0.05, 0.07, 0.03, "the state outlives the stressor (Li 2011)"),
    "resilient": CalibrationTarget(0.85, 1.0, 0.04, "others do not cross over"),
    "brief": CalibrationTarget(0.90, 1.0, 0.04, "five days of stress decay"),
    "ketamine_gain": CalibrationTarget(0.25, UNBOUNDED, 0.05, "within hours (Zarate 2006)"),
    "ketamine_kept": CalibrationTarget(0.75, UNBOUNDED, 0.10, "beyond 24 h in the habenula (Ma 2023)"),
    "ketamine_half": CalibrationTarget(6.0, 8.0, 1.5, "d; gradual loss over 5-8 days (Zarate 2006)"),
    "ketamine_late": CalibrationTarget(-UNBOUNDED, 0.35, 0.10, "share of the gain left on day 14"),
    "untrapped": CalibrationTarget(
        -UNBOUNDED, 0.20, 0.10, "share kept by a drug that is not trapped: trapping must carry it (Ma 2023)"
    ),
    "live": CalibrationTarget(0.25, UNBOUNDED, 0.05, "sessions work"),
    "live_reached": CalibrationTarget(0.80, UNBOUNDED, 0.05, "and nearly suffice"),
    "live_days": CalibrationTarget(18.0, UNBOUNDED, 4.0, "d to 90 % of their gain: weeks"),
    "at_rest": CalibrationTarget(
        -UNBOUNDED, 0.25, 0.05, "share of their gain at rest: the synapse must be active (Valentinova & Mameli 2016)"
    ),
    "ssri": CalibrationTarget(0.95, 1.07, 0.03, "VTA output under an SSRI over that without: it leaves the gate"),
    "stimulant": CalibrationTarget(-UNBOUNDED, 0.87, 0.03, "drive under methylphenidate: it restores only part"),
    "stimulant_more": CalibrationTarget(
        -UNBOUNDED, 0.46, 0.05, "what doubling adds, over the first gain in dopamine: it saturates"
    ),
    "bupropion": CalibrationTarget(0.01, 0.2, 0.02, "gain in drive under bupropion: some"),
}


def measure_figures(p: Parameters, subjects: int = 192, seed: int = 1) -> dict[str, float]:
    """The figures of `CALIBRATION_TARGETS`, from cohorts drawn around `p`. VTA output is relative to the healthy reference."""
    people = functools.partial(draw, subjects=subjects, seed=seed, around=p)
    ill, well = people(depressed()), people(healthy())
    untrapped = eqx.tree_at(lambda c: c.parameters.block.trapping, ill, jnp.asarray(0.0))

    def live(cohort: Cohort, arm: Intervention, days: int) -> np.ndarray:
        lived = course(cohort, arm, float(days), save_every=HOURS_PER_RECORD, record=("vta_output",))
        return np.asarray(lived["vta_output"]) / float(p.motivation.reference_output)

    dosed, nothing = Ketamine(0.5), Ketamine(0.0)  # of one shape, and so of one program
    before = live(ill, nothing, 21)
    gain = (live(ill, dosed, 21) - before).mean(axis=0)
    free = (live(untrapped, dosed, 21) - before).mean(axis=0)
    peak = gain[: 2 * RECORDS_PER_DAY].max()
    lost = np.flatnonzero((gain < peak / 2) & (np.arange(len(gain)) >= RECORDS_PER_DAY))
    sessions = functools.partial(Recalibration.weekly, start=5 / 24)
    arms = sessions(intensity=0.0), sessions(), sessions(challenge=0.0)
    untreated, active, resting = (live(ill, arm, 63).mean(axis=0) for arm in arms)
    recalibrated = active - untreated
    drugs = {
        name: course(ill, drug, 28.0, save_every=HOURS_PER_RECORD, record=("vta_output", "drive", "dopamine"))
        for name, drug in {
            "ssri": SSRI(10.0),
            "no ssri": SSRI(0.0),
            "bupropion": Bupropion(300.0),
            "no bupropion": Bupropion(0.0),
            "stimulant": Methylphenidate([30.0, 30.0], [22.0, 2.0]),
            "double": Methylphenidate([60.0, 60.0], [22.0, 2.0]),
            "no stimulant": Methylphenidate([0.0, 0.0], [22.0, 2.0]),
        }.items()
    }
    last = {name: {each: float(lived[each][:, -1].mean()) for each in lived.record} for name, lived in drugs.items()}
    dopamine = {name: last[name]["dopamine"] - last["no stimulant"]["dopamine"] for name in ("stimulant", "double")}
    first_day = lambda cohort: live(cohort, nothing, 21)[:, :RECORDS_PER_DAY].mean()
    figures = {
        "well": first_day(well),
        "ill": before[:, 0].mean(),
        "share_ill": (before[:, 0] < 0.8).mean(),
        "stays": before[:, -1].mean() - before[:, 0].mean(),
        "resilient": first_day(people(resilient())),
        "brief": first_day(people(depressed(5.0, 51.0))),
        "ketamine_gain": gain[0],
        "ketamine_kept": gain[RECORDS_PER_DAY - 1] / gain[0],
        "ketamine_half": (lost[0] + 1) / RECORDS_PER_DAY if len(lost) else 21.0,
        "ketamine_late": gain[14 * RECORDS_PER_DAY - 1] / peak,
        "untrapped": free[RECORDS_PER_DAY - 1] / gain[0],
        "live": recalibrated[-1],
        "live_reached": active[-1],
        "live_days": (np.argmax(recalibrated >= 0.9 * recalibrated.max()) + 1) / RECORDS_PER_DAY,
        "at_rest": (resting - untreated)[-1] / recalibrated[-1],
        "ssri": last["ssri"]["vta_output"] / last["no ssri"]["vta_output"],
        "stimulant": last["stimulant"]["drive"],
        "stimulant_more": dopamine["double"] / dopamine["stimulant"] - 1,
        "bupropion": last["bupropion"]["drive"] - last["no bupropion"]["drive"],
    }
    return {name: float(value) for name, value in figures.items()}


def distance_from_targets(found: dict[str, float]) -> dict[str, float]:
    """How far each figure lies outside its band, in units of its scale; infinite where it is not finite."""
    distance = {
        name: max(aim.low - found[name], found[name] - aim.high, 0.0) / aim.scale
        for name, aim in CALIBRATION_TARGETS.items()
    }
    return {name: value if np.isfinite(found[name]) else np.inf for name, value in distance.items()}


def with_constants(p: Parameters, values: Iterable[float]) -> Parameters:
    """`p` with the constants of `CONSTANT_BOUNDS` replaced, in their order, and the reference levels that follow."""
    for path, value in zip(CONSTANT_BOUNDS, values, strict=True):
        p = eqx.tree_at(functools.partial(get_leaf, path=path), p, jnp.asarray(float(value)))
    return with_reference_levels(p)


def run_evolution_strategy(p: Parameters, evaluations: int, subjects: int, seed: int) -> np.ndarray:
    """The best values found, in the order of `CONSTANT_BOUNDS`; each improvement is printed."""
    low, high, _ = (np.array(column) for column in zip(*CONSTANT_BOUNDS.values(), strict=True))
    width = np.log(high.astype(float) / low.astype(float))
    parent = np.clip([float(get_leaf(p, path)) for path in CONSTANT_BOUNDS], low, high)
    misfit = lambda values: distance_from_targets(measure_figures(with_constants(p, values), subjects))
    least, stride = misfit(parent), 0.1
    total = lambda found: sum(value**2 for value in found.values())
    random = np.random.default_rng(seed)
    for number in range(evaluations):
        moved = random.normal(size=len(parent)) * (random.random(len(parent)) < 0.4)
        child = np.clip(parent * np.exp(stride * width * moved), low, high)
        found = misfit(child)
        better = total(found) < total(least)
        stride = np.clip(stride * (1.3 if better else 0.97), 0.01, 0.2)
        if better:
            parent, least = child, found
            left = ", ".join(f"{name} {value:.2f}" for name, value in found.items() if value)
            print(f"{number:4d}  misfit {total(found):.3f}  {left}", flush=True)
        if total(least) == 0:
            break
    return np.array([float(f"{value:.4g}") for value in parent])  # as the table will say


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, print what the constants give in other subjects, and write them to the table."""
    parser = make_parser(SCRIPT, "Choose the unmeasured constants of the slow clock.")
    parser.add_argument("--evaluations", type=int, default=600)
    parser.add_argument("--subjects", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check-subjects", type=int, default=512, help="other subjects, on whom the result is printed")
    chosen = parser.parse_args(arguments)
    best = run_evolution_strategy(typical(), chosen.evaluations, chosen.subjects, chosen.seed)
    found = measure_figures(with_constants(typical(), best), subjects=chosen.check_subjects, seed=2)
    for name, (low, high, _, why) in CALIBRATION_TARGETS.items():
        print(f"{name:14s} {found[name]:7.3f}  [{low:6.2f}, {high:6.2f}]  {why}")
    rows = [
        constants.Constant(path, float(value), unit, "fitted", SCRIPT, "not measured; chosen for what it brings about")
        for (path, (_, _, unit)), value in zip(CONSTANT_BOUNDS.items(), best, strict=True)
    ]
    constants.update_constants(rows, chosen.table)


if __name__ == "__main__":
    main()
