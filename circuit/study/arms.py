"""The arms of the standard trial, and how arms are brought to one shape so that they share one compiled program.

Day 0 is the morning visit, 10:00: the hour at which treatment begins and at which people are seen. Tablets of
methylphenidate are taken at 08:00 and 12:00, so visits see the drug near its peak. Sessions of recalibration are in the
afternoon, at 15:00.
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp

from ..model.interventions import (
    PER_DOSE_FIELDS,
    SSRI,
    Arm,
    Bupropion,
    Intervention,
    Ketamine,
    Methylphenidate,
    Placebo,
    Recalibration,
    Stress,
)

AFTERNOON_HOUR = 5 / 24  # day, 15:00
MORNING, NOON = 22.0, 2.0  # h after 10:00
WEEK_10_STRESS = Stress(severity=1.0, start=63.0, days=7.0)  # week 10
WEEKLY_VISITS = Placebo(per_week=1.0, stop=42.0)  # as in trials of six weeks
INFUSION_DAYS = tuple(7.0 * week + day for week in range(4) for day in (0, 3))

ARM_DESCRIPTIONS = {
    "placebo": "nothing but weekly visits for six weeks",
    "ssri": "SSRI, 10 mg/day",
    "bupropion": "bupropion, 300 mg/day",
    "methylphenidate": "methylphenidate, 30 mg at 08:00 and 12:00",
    "ketamine_once": "ketamine 0.5 mg/kg, one infusion",
    "ketamine_repeated": "ketamine 0.5 mg/kg, twice a week for 4 weeks",
    "recalibration": "18 live sessions, three a week",
    "ketamine_recalibration": "both of the above, together",
    "recalibration_at_rest": "the same sessions without the challenge",
    "bupropion_double": "bupropion, 600 mg/day",
    "methylphenidate_double": "methylphenidate, twice the dose",
}


def standard_arms() -> dict[str, Arm]:
    """The arms of the trial by name, without the stress that all meet in week 10."""
    arms: dict[str, Arm] = {
        "placebo": (),
        "ssri": (SSRI(10.0),),
        "bupropion": (Bupropion(300.0),),
        "methylphenidate": (Methylphenidate([30.0, 30.0], [MORNING, NOON]),),
        "ketamine_once": (Ketamine(0.5, 0.0),),
        "ketamine_repeated": (Ketamine([0.5] * len(INFUSION_DAYS), INFUSION_DAYS),),
        "recalibration": (Recalibration.weekly(start=AFTERNOON_HOUR),),
        "ketamine_recalibration": (
            Ketamine([0.5] * len(INFUSION_DAYS), INFUSION_DAYS),
            Recalibration.weekly(start=AFTERNOON_HOUR),
        ),
        "recalibration_at_rest": (Recalibration.weekly(start=AFTERNOON_HOUR, challenge=0.0),),
        "bupropion_double": (Bupropion(600.0),),
        "methylphenidate_double": (Methylphenidate([60.0, 60.0], [MORNING, NOON]),),
    }
    return {name: (WEEKLY_VISITS, *arm) for name, arm in arms.items()}


def select_doses_within(arm: Arm, days: float) -> Arm:
    """An arm without the doses and sessions that lie past the end of a short course."""
    kept = []
    for intervention in arm:
        times = getattr(intervention, "day", getattr(intervention, "times", None))
        if times is None:
            kept.append(intervention)
            continue
        inside = times < days
        if inside.any():
            doses = {name: getattr(intervention, name) for name in _dose_fields(intervention)}
            doses = {name: jnp.broadcast_to(value, times.shape)[inside] for name, value in doses.items()}
            kept.append(dataclasses.replace(intervention, **doses))
    return tuple(kept)


def align_arms(arms: Mapping[str, Arm]) -> dict[str, Arm]:
    """The same arms in one shape: whatever one of them gives, the others give at strength 0.

    Arms of one shape run through one compiled program.
    """
    pattern: dict[tuple[type, int], Intervention] = {}
    for arm in arms.values():
        for key, intervention in _number_interventions(arm):
            longest = pattern.get(key, intervention)
            pattern[key] = max(longest, intervention, key=_dose_count)
    return {
        name: tuple(
            _pad_doses(dict(_number_interventions(arm)).get(key), template) for key, template in pattern.items()
        )
        for name, arm in arms.items()
    }


def _number_interventions(arm: Arm) -> list[tuple[tuple[type, int], Intervention]]:
    """Interventions keyed by their class and which of that class they are."""
    seen: dict[type, int] = {}
    numbered = []
    for intervention in arm:
        kind = type(intervention)
        seen[kind] = seen.get(kind, -1) + 1
        numbered.append(((kind, seen[kind]), intervention))
    return numbered


def _dose_fields(intervention: Intervention) -> list[str]:
    return [name for name in vars(intervention) if name in PER_DOSE_FIELDS]


def _dose_count(intervention: Intervention) -> int:
    return max((getattr(intervention, name).shape[0] for name in _dose_fields(intervention)), default=1)


def _pad_doses(given: Intervention | None, template: Intervention) -> Intervention:
    """`given` with as many doses as `template`, the further ones of strength 0; or `template` at strength 0."""
    strength = type(template).strength
    if given is None:
        return dataclasses.replace(template, **{strength: jnp.zeros_like(getattr(template, strength))})
    count, wanted = _dose_count(given), _dose_count(template)
    filled = {}
    for name in _dose_fields(given):
        value = jnp.broadcast_to(getattr(given, name), (count,))
        filled[name] = jnp.pad(value, (0, wanted - count), mode="constant" if name == strength else "edge")
    return dataclasses.replace(given, **filled)
