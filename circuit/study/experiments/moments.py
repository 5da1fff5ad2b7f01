"""Evidence from the fast clock: what events of milliseconds do to the habenula and to dopamine neurons.

Healthy subjects live one moment again and again, with another event each time, or none: same subjects, same noise, so
that a difference is the event's. Units: ms, Hz; currents in uA/cm2.
"""

from typing import Any, NamedTuple

import numpy as np

from ...model.lhb_population import make_population_plan
from ...simulation.moment import VOLLEY_DURATION, VOLLEY_ONSET, VOLLEY_SIZE, Event, Moment, moment, pause_after_volley
from ...simulation.session import default_timing
from .cohorts import ExperimentCohorts, Figures

SUBJECTS, NEURONS = 32, 32  # subjects, and LHb neurons of each
MOMENT_SECONDS = 0.95  # s; under one, so that one burst is more than one a second
EVENT_ONSET = VOLLEY_ONSET
PULSE, HYPERPOLARISE = 100.0, -1.0  # ms and uA/cm2 of a brief hyperpolarisation
TONIC_CURRENTS = tuple(0.05 * i for i in range(7))  # uA/cm2, lasting depolarisation
ONSET_SHARE = 0.1  # share of its largest change at which a response has begun

GroupCurves = dict[str, np.ndarray]


class MomentGroup(NamedTuple):
    """What happens to the subjects."""

    current: float = 0.0
    at: float = EVENT_ONSET
    lasts: float = PULSE
    reward: float = 0.0


# A cue tells whether a reward that is as likely as not will come: half a prediction error, of either sign. Errors that
# subjects learn to have are in `measure_sessions`; here the resolution is the millisecond.
MOMENT_GROUPS = {
    "quiet": MomentGroup(),
    "volley": MomentGroup(current=VOLLEY_SIZE, lasts=VOLLEY_DURATION),
    "no_reward_cue": MomentGroup(reward=-0.5),
    "reward_cue": MomentGroup(reward=0.5),
    "pulse": MomentGroup(current=HYPERPOLARISE),
    **{f"tonic {size:.2f}": MomentGroup(current=size, at=0.0, lasts=1e3) for size in TONIC_CURRENTS},
}


def measure_events(lab: ExperimentCohorts) -> Figures:
    """Rows `da.pause`, `lhb.order` and `lhb.rebound`: one moment of those who are well."""
    seen = _simulate_groups(lab)
    curves = {quantity: _split_by_group(seen[quantity]) for quantity in ("habenula", "rate")}
    t = np.asarray(seen.t)
    length, lost = (_split_by_group(value)["volley"] for value in pause_after_volley(seen, EVENT_ONSET))
    return {
        "da.pause.duration": length,
        "da.pause.share": lost,
        **_response_order(t, curves["habenula"], curves["rate"]),
        **_rebound_bursts(seen),
    }


def _response_order(t: np.ndarray, habenula: GroupCurves, rate: GroupCurves) -> Figures:
    """How long after the habenula's response that of the dopamine neurons begins (ms)."""
    lag = lambda name: (
        _response_onset(t, rate[name] - rate["quiet"]) - _response_onset(t, habenula[name] - habenula["quiet"])
    )
    return {"lhb.order.dip": lag("no_reward_cue"), "lhb.order.burst": lag("reward_cue")}


def _rebound_bursts(seen: Moment) -> Figures:
    """One cycle of a rhythm of one brief hyperpolarisation a second, against lasting depolarisation.

    Bursts per neuron and pulse, less those without it. VTA output over the cycle, over that without; the same with the
    depolarising current under which neurons fire as many spikes as with the pulse (interpolated between those that are
    simulated; none, where the pulse adds no spikes).
    """
    bursts, rate, output = (
        _split_by_group(value) for value in (_count_bursts(seen), seen.modes.rate, seen.mean["vta_output"])
    )
    tonic = [name for name in MOMENT_GROUPS if name.startswith("tonic")]
    matched = np.interp(rate["pulse"], [rate[name] for name in tonic], [output[name] for name in tonic])
    return {
        "lhb.rebound.bursts": bursts["pulse"] - bursts["quiet"],
        "lhb.rebound.output": output["pulse"] / output["quiet"],
        "lhb.rebound.tonic": matched / output["quiet"],
    }


def _simulate_groups(lab: ExperimentCohorts) -> Moment:
    """The moment that all groups live: lanes in the order of `MOMENT_GROUPS`, in each the same subjects."""
    column = lambda name: np.repeat([getattr(group, name) for group in MOMENT_GROUPS.values()], SUBJECTS).astype(
        np.float32
    )
    cohort = lab.well[np.tile(np.arange(SUBJECTS), len(MOMENT_GROUPS))]
    when = default_timing()
    happens = (
        Event("current", column("at"), column("lasts"), column("current")),
        Event("reward", EVENT_ONSET, when.holds, column("reward"), when.fades),
    )
    return moment(
        cohort, MOMENT_SECONDS, events=happens, neurons=NEURONS, plan=make_population_plan(NEURONS, lab.devices)
    )


def _split_by_group(value) -> dict[str, Any]:
    """Mean over the subjects of each group, by its name."""
    value = np.asarray(value)
    return dict(
        zip(MOMENT_GROUPS, value.reshape(len(MOMENT_GROUPS), SUBJECTS, *value.shape[1:]).mean(axis=1), strict=True)
    )


def _count_bursts(seen: Moment) -> np.ndarray:
    """Bursts per neuron of each subject."""
    return np.asarray(seen.modes.bursting) * np.nan_to_num(np.asarray(seen.modes.burst_rate)) * MOMENT_SECONDS


def _response_onset(t: np.ndarray, change: np.ndarray) -> float:
    """When a response first reaches a tenth of its largest size (ms)."""
    size = np.abs(np.where(t > EVENT_ONSET, change, 0))
    return float(t[np.argmax(size >= ONSET_SHARE * size.max())])
