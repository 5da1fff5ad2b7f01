"""A stand-in for `course` whose best regimens are known in closed form: output saturates with the sum of intensities."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from habenula.circuit.optimisation.target import saved_days

SLOPE, LACKING = 3.0, 0.5  # output over health is 1 - LACKING exp(-SLOPE mean share of amounts)
HEALTH = 4.0  # Hz


@dataclasses.dataclass
class Lived:
    """What a course returns, as far as fits look at it."""

    record: dict
    day: np.ndarray
    failures: tuple = ()

    def __getitem__(self, name):
        return self.record[name]


def share_of(arm, subjects):
    """Mean of intensities as shares of 4, of every lane."""
    intensity = arm[0].intensity if arm else jnp.zeros((1, subjects))
    intensity = intensity if intensity.ndim == 2 else intensity[:, None]
    return jnp.broadcast_to(intensity.mean(axis=0) / 4, (subjects,))


def lacking(subject):
    """What a subject lacks untreated, as a share of health: 0.5, 0.6, 0.7 ..."""
    return LACKING + 0.1 * subject


def course(cohort, arm, days, *, save_every, record, plan):
    """All days alike; subjects differ in what they lack."""
    share = share_of(arm, len(cohort))
    level = HEALTH * (1 - lacking(cohort.subject.astype(share.dtype)) * jnp.exp(-SLOPE * share))
    return Lived({"vta_output": jnp.broadcast_to(level[:, None], (len(cohort), round(days)))}, saved_days(days))


def course_of_equals(cohort, arm, days, *, save_every, record, plan):
    """The same, of subjects who lack as much as number 0."""
    alike = eqx.tree_at(lambda c: c.subject, cohort, jnp.zeros_like(cohort.subject))
    return course(alike, arm, days, save_every=save_every, record=record, plan=plan)


def early_course(cohort, arm, days, *, save_every, record, plan):
    """Doses on day 0 are worth all, on the last day of nine nothing."""
    share = share_of(arm, len(cohort))
    times = arm[0].times.mean(axis=0) if arm else jnp.zeros(())
    level = HEALTH * (1 - LACKING * jnp.exp(-SLOPE * share * (1 - jnp.broadcast_to(times, share.shape) / 9)))
    return Lived({"vta_output": jnp.broadcast_to(level[:, None], (len(cohort), round(days)))}, saved_days(days))


def blind_course(cohort, arm, days, *, save_every, record, plan):
    """Number 2 has no finite derivative by the doses."""
    share = share_of(arm, len(cohort))
    root = jnp.sqrt(jnp.where(cohort.subject == 2, share - share, 1.0))
    seen = course(cohort, arm, days, save_every=save_every, record=record, plan=plan)
    return Lived({"vta_output": seen["vta_output"] + root[:, None]}, saved_days(days))


def lost_course(cohort, arm, days, *, save_every, record, plan):
    """Number 1 is lost on the third day, whatever its doses."""
    return broken_course(cohort, arm, days, save_every=save_every, record=record, plan=plan, above=0.0)


def broken_course(cohort, arm, days, *, save_every, record, plan, above=0.25):
    """Number 1 is lost on the third day, once its doses are above a quarter of their bounds."""
    lost = (cohort.subject == 1) & (share_of(arm, len(cohort)) > above)
    late = jnp.asarray(saved_days(days) > 2)
    seen = course(cohort, arm, days, save_every=save_every, record=record, plan=plan)
    return Lived({"vta_output": jnp.where(lost[:, None] & late[None], jnp.nan, seen["vta_output"])}, saved_days(days))
