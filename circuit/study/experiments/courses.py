"""Evidence on days to months: cohorts live through stress and treatment, and are read as the publications read theirs.

The effect of a treatment is the difference that it makes to the same subjects under the same noise. Times are in days
unless a row asks for another unit.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ...model import motivation, plasticity
from ...model.interventions import compute_arm_inputs
from ...model.pharmacology import HOURS_PER_DAY
from ...model.slow_clock import SLOW_STEP, SlowInputs, SlowState, circuit_activity, habenula_conditions
from ...model.transfer_function import evaluate_transfer
from ...simulation.course import load_transfer_function
from ...simulation.fixed_points import activity_at
from .cohorts import COURSE_DAYS, ExperimentCohorts, Figures, treatment_arms

WEEK_LENGTH = 7.0
AFTER_STRESSOR, SPIRAL = 14.0, 60.0  # d after the stressor's end: where a course begins, and where the deficit is read
BLUNTING_THRESHOLD = 0.8  # liking below which a person reports blunting: a fifth of pleasure is lost
CHALLENGE_DRIVE = 0.5  # afferent drive under which long-term depression is induced, as in a session


def measure_dopamine_neurons(lab: ExperimentCohorts) -> Figures:
    """Rows `da.rate` and `vta.two`: how many dopamine neurons fire, and how fast, in a first week untreated."""
    well, ill = lab.courses["healthy"], lab.courses["untreated"]
    first = lambda lived, name: np.asarray(lived[name])[:, np.asarray(lived.day) <= WEEK_LENGTH].mean()
    return {
        "da.rate": first(well, "rate"),
        "vta.two.number": first(ill, "active") / first(well, "active"),
        "vta.two.rate": first(ill, "rate") / first(well, "rate"),
    }


def measure_untreated(lab: ExperimentCohorts) -> Figures:
    """Rows `spiral` and `lhb.help.r2`.

    The spiral is the deficit in VTA output 60 days after the stressor's end over that with which the course began. What
    input strength explains is the squared correlation, over people of all susceptibilities two weeks after stress, of
    synaptic strength with helplessness, taken to be the loss of drive.
    """
    well, ill = (np.asarray(lab.courses[name]["vta_output"]).mean(axis=0) for name in ("healthy", "untreated"))
    day = np.asarray(lab.courses["untreated"].day)
    deficit = lambda begin: 1 - ill[(day > begin) & (day <= begin + 1)].mean() / well.mean()
    p, state = lab.exposed.parameters, lab.exposed.state
    seen = activity_at(p, state)
    drive = motivation.motivational_drive(seen.output / p.motivation.reference_output, seen.dopamine, p.motivation)
    strength = p.synapses.strength * state.release * state.gain
    return {
        "spiral": deficit(SPIRAL - AFTER_STRESSOR) / deficit(0.0),
        "lhb.help.r2": np.corrcoef(np.asarray(strength), 1 - np.asarray(drive))[0, 1] ** 2,
    }


def measure_ketamine(lab: ExperimentCohorts) -> Figures:
    """Rows `ket.course`: the effect of one infusion on mood, as rating scales are about mood.

    Onset is where the effect reaches half of its peak, relapse where it has lost half of it again.
    """
    day, effect = _effect_over_placebo(lab, "ketamine", "mood")
    peak = int(np.argmax(effect))
    after = effect[peak:] - effect[peak] / 2
    return {
        "ket.course.onset": HOURS_PER_DAY * _crossing_day(day, effect, effect[peak] / 2),
        "ket.course.peak": HOURS_PER_DAY * day[peak],
        "ket.course.relapse": _crossing_day(day[peak:], -after, 0.0),
    }


def measure_ssri(lab: ExperimentCohorts) -> Figures:
    """Rows `measure_ssri`: the lag of mood behind occupancy, and who reports blunting.

    The lag is between the times at which each reaches half of its mean over the last week.
    """
    lived = lab.courses["ssri"]
    day, effect = _effect_over_placebo(lab, "ssri", "mood")
    hours = jnp.arange(COURSE_DAYS * HOURS_PER_DAY)
    sert = compute_arm_inputs(treatment_arms()["ssri"], hours, SLOW_STEP, lab.ill.parameters).sert
    occupied = np.asarray(sert, float).mean(axis=1)
    at = (np.arange(len(hours)) + 0.5) / HOURS_PER_DAY
    halfway = lambda day, curve: _crossing_day(day, curve, curve[day > COURSE_DAYS - WEEK_LENGTH].mean() / 2)
    last = np.asarray(lived.day) > COURSE_DAYS - WEEK_LENGTH
    return {
        "ssri.delay": halfway(day, effect) - halfway(at, occupied),
        "ssri.blunt": (np.asarray(lived["liking"])[:, last].mean(axis=1) < BLUNTING_THRESHOLD).mean(),
    }


def measure_stimulant(lab: ExperimentCohorts) -> Figures:
    """Rows `stim.partial`: gain in VTA output over all hours of the last week, on tablets that peak at occupancy 0.6.

    Spread and correlation are over people; the occupancy that is correlated is each person's mean over the week. Where
    output falls on average there is no gain that could saturate or spread, and those two rows have no figure.
    """
    day = np.asarray(lab.courses["untreated"].day)
    output = {
        name: np.asarray(lived["vta_output"])[:, day > COURSE_DAYS - WEEK_LENGTH].mean(axis=1)
        for name, lived in lab.courses.items()
    }
    gain = output["stimulant"] - output["untreated"]
    gained = gain.mean() if gain.mean() > 0 else np.nan
    doubled = output["stimulant_double"] - output["untreated"]
    hours = jnp.arange((COURSE_DAYS - WEEK_LENGTH) * HOURS_PER_DAY, COURSE_DAYS * HOURS_PER_DAY)
    occupied = np.asarray(
        compute_arm_inputs(treatment_arms()["stimulant"], hours, SLOW_STEP, lab.ill.parameters).dat
    ).mean(axis=0)
    return {
        "stim.partial.share": gain.mean() / (output["healthy"] - output["untreated"]).mean(),
        "stim.partial.saturation": doubled.mean() / gained - 1,
        "stim.partial.spread": gain.std(ddof=1) / gained,
        "stim.partial.correlation": np.corrcoef(occupied, gain)[0, 1],
    }


def measure_synapses(lab: ExperimentCohorts) -> Figures:
    """Rows `ltp.stress` and `ltd.sign`, asked of the rules of plasticity in healthy subjects.

    Long-term depression is that of a challenged habenula, under full stress over none. Its sign is the LHb rate once
    that of excitation alone, or of inhibition alone, has been held until it settles. GABA-B weakening is said to last
    until half of it is gone. No rule has a threshold of potentiation that a past stress could lower.
    """
    p, state = lab.well.parameters, lab.well.state
    transfer = load_transfer_function(p)
    quiet = activity_at(p, state)
    challenged = circuit_activity(state, SlowInputs(), jnp.asarray(CHALLENGE_DRIVE), p, transfer)
    none, full = jnp.asarray(0.0), jnp.asarray(1.0)
    depression = plasticity.ltd_rate(challenged.habenula, full, none, p.plasticity)
    stressed = plasticity.ltd_rate(challenged.habenula, full, full, p.plasticity)
    potentiation = plasticity.potentiation_drive(quiet.output / p.motivation.reference_output, none, p.plasticity)
    weaker = plasticity.gain_relaxation(potentiation, depression, p.plasticity).steady
    disinhibited = plasticity.inhibition_relaxation(none, full, none, p.plasticity).steady
    recovery = plasticity.inhibition_relaxation(none, none, none, p.plasticity).rate

    def rate(state: SlowState, excitation: jax.Array) -> float:
        return float(evaluate_transfer(transfer, habenula_conditions(state, excitation, p)).rate.mean())

    before = rate(state, quiet.excitation)
    shifted = dataclasses.replace(state, inhibition=jnp.broadcast_to(disinhibited, state.inhibition.shape))
    return {
        "ltp.stress.ltd": float((stressed / depression).mean()),
        "ltp.stress.gabab": float(np.log(2) / recovery.mean() / HOURS_PER_DAY),
        "ltd.sign.excitation": rate(state, quiet.excitation * weaker / state.gain) / before,
        "ltd.sign.inhibition": rate(shifted, quiet.excitation) / before,
    }


def _effect_over_placebo(lab: ExperimentCohorts, arm: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Days from 0, and the mean change of a quantity against no treatment."""
    treated, untreated = lab.courses[arm], lab.courses["untreated"]
    change = (np.asarray(treated[name]) - np.asarray(untreated[name])).mean(axis=0)
    return np.append(0.0, treated.day), np.append(0.0, change)


def _crossing_day(day: np.ndarray, curve: np.ndarray, level: float) -> float:
    """Day on which a curve first reaches a level, between records by a straight line; NaN if it never does."""
    above = curve >= level
    if not above.any():
        return float("nan")
    i = int(np.argmax(above))
    if i == 0:
        return float(day[0])
    return float(day[i - 1] + (day[i] - day[i - 1]) * (level - curve[i - 1]) / (curve[i] - curve[i - 1]))
