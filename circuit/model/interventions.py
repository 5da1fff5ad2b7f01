"""What can be done to a subject. Each is a small tree of numbers; an arm is a tuple of them; they combine freely.

Every number is a leaf and differentiable, times of doses included. A leaf may hold one value for all subjects, or, with one
more axis at the end, one value for each. Times are in days of the course; sessions and infusions have a duration, and
what they do to an hour is a smooth function of when they begin.

`compute_arm_inputs` turns an arm into what happens in each hour. Each class names its `bounds`, and its `strength`:
the field that
is 0 where nothing is given. Those with times of doses name their `least_interval` too: how near to each other a fit may
set them unless it is told otherwise. Arms given by hand need not keep to it.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from . import motivation, pharmacology
from .parameters import Parameters
from .pharmacokinetics import sum_over_doses
from .slow_clock import SlowInputs
from .trapping_block import SAMPLES_PER_STEP

Tree = TypeVar("Tree")

# Fields that hold one value per dose, session or tablet; all others hold one value. One axis more is one per subject.
PER_DOSE_FIELDS = frozenset({"mg_per_kg", "day", "minutes", "times", "intensity", "mg", "hour"})
HOURS_PER_WEEK = 168.0  # h
RAMP_DURATION = 0.25  # h, over which a session, or stress, begins and ends


def _as_array(value: Any) -> Array:  # Any: lists are numbers too, where a field takes one per dose
    return jnp.asarray(value, jnp.result_type(float))


def _as_vector(value: Any) -> Array:
    return jnp.atleast_1d(_as_array(value))


Bounds = dict[str, tuple[float, float]]


class Stress(eqx.Module):
    """Chronic stress: `severity` 1 is the full protocol (unpredictable mild stress, every day).

    Attributes:
        severity: 0 or more.
        start: day.
        days: how long it lasts.
    """

    severity: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=1.0)
    start: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=0.0)
    days: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=28.0)
    strength: ClassVar[str] = "severity"
    bounds: ClassVar[Bounds] = {"severity": (0.0, 3.0), "start": (0.0, jnp.inf), "days": (0.0, jnp.inf)}

    def inputs(self, times: Float[Array, " step"], dt: float, p: Parameters) -> dict[str, Array]:
        """Mean severity in each hour."""
        return {
            "stress": self.severity
            * smooth_window(_times_as_column(times, self.start), dt, 24 * self.start, 24 * self.days)
        }


class Placebo(eqx.Module):
    """Being seen, and expecting to get better: mood rises with every visit, and nothing acts on the gate.

    Attributes:
        per_week: visits a week, spread evenly. How much each adds, and for how long, are the subject's (`motivation`).
        start: day of the first.
        stop: day after which there are no more.
    """

    per_week: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=1.0)
    start: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=0.0)
    stop: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=365.0)
    strength: ClassVar[str] = "per_week"
    bounds: ClassVar[Bounds] = {"per_week": (0.0, 7.0), "start": (0.0, jnp.inf), "stop": (0.0, jnp.inf)}

    def inputs(self, times: Float[Array, " step"], dt: float, p: Parameters) -> dict[str, Array]:
        """Expectation in each hour."""
        given, constants = _add_step_axis(self), _add_step_axis(p.motivation)
        rank = max(leaf.ndim for leaf in jax.tree.leaves((self, p.motivation.visit_lift, p.motivation.visit_time)))
        since = times.reshape(-1, *[1] * rank) - 24 * given.start
        duration, per_hour = 24 * jnp.maximum(given.stop - given.start, 0), given.per_week / HOURS_PER_WEEK
        return {"expectation": motivation.placebo_expectancy(since, dt, duration, per_hour, constants)}


class Ketamine(eqx.Module):
    """Racemic ketamine by infusion.

    Attributes:
        mg_per_kg: dose of each infusion.
        day: when each begins.
        minutes: duration of each.
    """

    mg_per_kg: Float[Array, "dose *subject"] = eqx.field(converter=_as_vector, default=0.5)
    day: Float[Array, "dose *subject"] = eqx.field(converter=_as_vector, default=0.0)
    minutes: Float[Array, "dose *subject"] = eqx.field(converter=_as_vector, default=40.0)
    strength: ClassVar[str] = "mg_per_kg"
    least_interval: ClassVar[float] = 2.0  # d. Assumed: trials gave two or three infusions a week (Singh 2016)
    bounds: ClassVar[Bounds] = {"mg_per_kg": (0.0, 2.0), "day": (0.0, jnp.inf), "minutes": (2.0, 240.0)}

    def inputs(self, times: Float[Array, " step"], dt: float, p: Parameters) -> dict[str, Array]:
        """Plasma concentration (uM) in each part of each hour."""
        doses, starts, durations = _broadcast_doses(self.mg_per_kg, 24 * self.day, self.minutes / 60)
        parts = (times[:, None] + dt / SAMPLES_PER_STEP * jnp.arange(SAMPLES_PER_STEP, dtype=times.dtype)[None]).ravel()
        concentration = pharmacology.ketamine_concentration(
            jnp.append(parts, times[-1] + dt), doses, starts, durations, p.ketamine, clearance_factor=p.clearance
        )
        return {"ketamine": concentration.reshape(len(times), SAMPLES_PER_STEP, *concentration.shape[1:])}


class SSRI(eqx.Module):
    """A selective serotonin reuptake inhibitor, dosed like escitalopram.

    Attributes:
        mg_per_day: dose.
        start: day of the first dose.
        stop: day after the last dose.
    """

    mg_per_day: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=10.0)
    start: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=0.0)
    stop: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=365.0)
    strength: ClassVar[str] = "mg_per_day"
    bounds: ClassVar[Bounds] = {"mg_per_day": (0.0, 40.0), "start": (0.0, jnp.inf), "stop": (0.0, jnp.inf)}

    def inputs(self, times: Float[Array, " step"], dt: float, p: Parameters) -> dict[str, Array]:
        """Occupancy of serotonin transporters in each hour."""
        return {"sert": _daily_occupancy(self, times, dt, p.ssri, p)}


class Bupropion(eqx.Module):
    """Bupropion, extended release.

    Attributes:
        mg_per_day: dose.
        start: day of the first dose.
        stop: day after the last dose.
    """

    mg_per_day: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=300.0)
    start: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=0.0)
    stop: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=365.0)
    strength: ClassVar[str] = "mg_per_day"
    bounds: ClassVar[Bounds] = {"mg_per_day": (0.0, 900.0), "start": (0.0, jnp.inf), "stop": (0.0, jnp.inf)}

    def inputs(self, times: Float[Array, " step"], dt: float, p: Parameters) -> dict[str, Array]:
        """Occupancy of dopamine transporters in each hour."""
        return {"dat": _daily_occupancy(self, times, dt, p.bupropion, p)}


class Methylphenidate(eqx.Module):
    """Methylphenidate, immediate release: the same tablets every day.

    Attributes:
        mg: dose of each tablet of the day.
        hour: when each is taken, in hours after the course's time of day 0.
        start: day of the first tablets.
        stop: day after the last.
    """

    mg: Float[Array, "dose *subject"] = eqx.field(converter=_as_vector, default=30.0)
    hour: Float[Array, "dose *subject"] = eqx.field(converter=_as_vector, default=0.0)
    start: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=0.0)
    stop: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=365.0)
    strength: ClassVar[str] = "mg"
    bounds: ClassVar[Bounds] = {
        "mg": (0.0, 120.0),
        "hour": (0.0, 24.0),
        "start": (0.0, jnp.inf),
        "stop": (0.0, jnp.inf),
    }

    def inputs(self, times: Float[Array, " step"], dt: float, p: Parameters) -> dict[str, Array]:
        """Occupancy of dopamine transporters in each hour."""
        mg, hour, start, stop = _broadcast_doses(self.mg, self.hour, 24 * self.start[None], 24 * self.stop[None])
        concentration = pharmacology.tablet_concentration(
            times, dt, mg, hour, start, stop, p.methylphenidate, clearance_factor=p.clearance
        )
        return {"dat": pharmacology.transporter_occupancy(concentration, _add_step_axis(p.methylphenidate.occupancy))}


class Recalibration(eqx.Module):
    """Sessions that depress habenular synapses by activity-dependent LTD.

    Live, with a challenge that makes the gate fire; with `challenge` 0, the same session at rest.

    Attributes:
        times: day on which each session begins.
        intensity: of each session, 1 the standard.
        challenge: afferent drive that a session adds, as a share of the drive at peace.
        hours: duration of a session.
    """

    times: Float[Array, "session *subject"] = eqx.field(converter=_as_vector)
    intensity: Float[Array, "session *subject"] = eqx.field(converter=_as_vector, default=1.0)
    challenge: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=0.5)
    hours: Float[Array, "*subject"] = eqx.field(converter=_as_array, default=1.0)
    strength: ClassVar[str] = "intensity"
    least_interval: ClassVar[float] = 1.0  # d. Assumed: nobody comes twice a day
    bounds: ClassVar[Bounds] = {
        "times": (0.0, jnp.inf),
        "intensity": (0.0, 4.0),
        "challenge": (0.0, 1.0),
        "hours": (0.5, 3.0),
    }

    @classmethod
    def weekly(
        cls, sessions: int = 18, per_week: int = 3, start: float = 0.0, intensity: float = 1.0, challenge: float = 0.5
    ) -> "Recalibration":
        """`sessions` of equal intensity, spread over each week: three a week fall on days 0, 2 and 4 of it.

        Raises:
            ValueError: fewer than one session, or a week that holds none or more than seven.
        """
        if sessions < 1 or not 1 <= per_week <= 7:
            raise ValueError(f"{sessions=} must be at least 1 and {per_week=} between 1 and 7.")
        spacing = max(7 // per_week, 1)
        times = [start + 7 * (i // per_week) + spacing * (i % per_week) for i in range(sessions)]
        return cls(times, [intensity] * sessions, challenge)

    def inputs(self, times: Float[Array, " step"], dt: float, p: Parameters) -> dict[str, Array]:
        """Share of each hour in a session, that share weighted by intensity, and the challenge in it.

        A session of intensity 0 does not take place.
        """
        begins, intensity = _broadcast_doses(24 * self.times, self.intensity)
        held = lambda t, begin, by: jnp.where(by > 0, smooth_window(t, dt, begin, self.hours), 0.0)
        share = sum_over_doses(held, times, begins, intensity)
        weighted = sum_over_doses(
            lambda t, begin, by: by * smooth_window(t, dt, begin, self.hours), times, begins, intensity
        )
        share = jnp.minimum(share, 1.0)  # of sessions that overlap
        return {"session": share, "intensity": weighted, "challenge": jnp.broadcast_to(self.challenge, share.shape)}


Intervention = Stress | Placebo | Ketamine | SSRI | Bupropion | Methylphenidate | Recalibration
Arm = tuple[Intervention, ...]


def as_arm(given: Intervention | Sequence) -> tuple:
    """An arm, of one intervention or of several; what is no intervention passes, for `validation` to name it."""
    return (given,) if isinstance(given, Intervention) else tuple(given)


def has_doses_or_sessions(arm: Arm) -> bool:
    """Whether it has doses of ketamine or sessions, which are followed within the hour."""
    return any(isinstance(each, Ketamine | Recalibration) for each in arm)


def per_subject_mask(arm: Arm) -> Arm:
    """For each leaf of an arm, whether it holds one value per subject."""
    return jax.tree.map_with_path(lambda path, leaf: leaf.ndim > (path[-1].name in PER_DOSE_FIELDS), arm)


def compute_arm_inputs(arm: Arm, times: Float[Array, " step"], dt: float, p: Parameters) -> SlowInputs:
    """What an arm does to its subjects in each step of `dt` (h) that begins at `times` (h).

    Doses of one drug and severities add; blockers of one transporter compete; of two challenges in one hour the mean,
    weighted by the time spent in each, counts.
    """
    channels: dict[str, Array] = {}
    for intervention in arm:
        new = intervention.inputs(times, dt, p)
        if "session" in new and "session" in channels:
            weight = new["session"] / jnp.maximum(new["session"] + channels["session"], 1e-6)
            new["challenge"] = channels.pop("challenge") * (1 - weight) + new["challenge"] * weight
        for name, value in new.items():
            if name not in channels:
                channels[name] = value
            elif name in ("dat", "sert"):
                channels[name] = pharmacology.combine_occupancy(channels[name], value)
            else:
                channels[name] = channels[name] + value
    return SlowInputs(**channels)


def smooth_window(t: Float[Array, "*#s"], dt: float, start: Float[Array, "*#s"], duration: Float[Array, "*#s"]):
    """Mean over a step from `t` of a window that opens at `start` (h) and shuts `duration` (h) later.

    Each edge takes `RAMP_DURATION`.

    Continuous with its first derivative in start and duration, so that gradients hold for sessions on the hour.
    """
    since = t - start
    return _mean_ramp(since, dt) - _mean_ramp(since - duration, dt)


def _mean_ramp(since: Array, dt: float) -> Array:
    """Mean over [since, since + dt] of a ramp from 0 at 0 to 1 at RAMP; in small numbers, for float32's sake."""
    integral = lambda u: jnp.where(
        u < RAMP_DURATION, jnp.square(jnp.maximum(u, 0)) / (2 * RAMP_DURATION), u - RAMP_DURATION / 2
    )
    begin = jnp.clip(since, -dt, RAMP_DURATION)
    return (integral(begin + dt) - integral(begin)) / dt


def _times_as_column(times: Array, start: Array) -> Array:
    """Times as a column where `start` has one value per subject."""
    return times.reshape(-1, *[1] * start.ndim)


def _broadcast_doses(*leaves: Array) -> list[Array]:
    """Leaves per dose in one shape: shared leaves get the axis of subjects where another has it."""
    rank = max(leaf.ndim for leaf in leaves)
    return list(jnp.broadcast_arrays(*(leaf.reshape(leaf.shape + (1,) * (rank - leaf.ndim)) for leaf in leaves)))


def _daily_occupancy(drug, times: Array, dt: float, kinetics: pharmacology.DailyDrug, p: Parameters) -> Array:
    mg, start, stop = _broadcast_doses(drug.mg_per_day[None], 24 * drug.start[None], 24 * drug.stop[None])
    concentration = pharmacology.daily_concentration(times, dt, mg, start, stop, kinetics, clearance_factor=p.clearance)
    return pharmacology.transporter_occupancy(concentration, _add_step_axis(kinetics.occupancy))


def _add_step_axis(tree: Tree) -> Tree:
    """Numbers per subject as a row, beside (step, subject)."""
    return jax.tree.map(lambda leaf: leaf[None] if leaf.ndim else leaf, tree)
