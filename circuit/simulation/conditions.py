"""Conditions: what a cohort has lived through before its course begins.

A condition is healthy constants, a shift of traits, and a history. `depressed()` is made by stress, never set by hand: more
susceptible people, four weeks of chronic stress, four weeks after it.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp

from ...kernels import Plan
from ..model.interventions import Arm, Stress
from ..model.parameters import Parameters, typical
from ..model.slow_clock import healthy_state
from .cohort import Cohort, with_traits
from .course import DEFAULT_PLAN, course

HISTORY_NOISE_STREAM = 0x68697374  # tells the noise of the history from that of the course


@dataclasses.dataclass(frozen=True)
class Condition:
    """How a cohort comes to be.

    Attributes:
        name: for tables.
        shifts: by trait (see `cohort.TRAITS`), how many spreads the mean lies above the typical subject; pairs.
        history: interventions lived through.
        days: length of the history.
    """

    name: str
    shifts: tuple[tuple[str, float], ...] = ()
    history: Arm = ()
    days: int = 28


def healthy() -> Condition:
    """Typical people after eight weeks without stress: a history of the shape of the others', so that they share a program."""
    return Condition("healthy", (), (Stress(severity=0.0),), 56)


def depressed(stress_days: float = 28.0, after: float = 28.0, susceptibility: float = 2.0) -> Condition:
    """Susceptible people (in spreads above the typical), after chronic stress, `after` days past its end."""
    shifts = (("plasticity.susceptibility", susceptibility),)
    return Condition("depressed", shifts, (Stress(days=stress_days),), round(stress_days + after))


def resilient(stress_days: float = 28.0, after: float = 28.0) -> Condition:
    """People as much less susceptible, after the same stress: other parameters, the same rules."""
    return dataclasses.replace(depressed(stress_days, after, susceptibility=-2.0), name="resilient")


def draw(
    condition: Condition,
    subjects: int = 1024,
    seed: int = 0,
    *,
    first: int = 0,
    around: Parameters | None = None,
    plan: Plan = DEFAULT_PLAN,
) -> Cohort:
    """`subjects` of a condition, each with correlated traits, at the end of its history.

    A subject is a function of (`seed`, its number, the condition) alone: the same in any cohort that holds it.

    Args:
        condition: `healthy()`, `depressed()`, `resilient()` or your own.
        subjects: how many.
        seed: names traits and noise.
        first: number of the first subject.
        around: the subject around whom the others are drawn; the package's by default.
        plan: how to use the hardware.

    Raises:
        ValueError: fewer than one subject; a shift of an unknown trait.
    """
    if subjects < 1:
        raise ValueError(f"{subjects=} must be at least 1.")
    centre = typical() if around is None else around
    number = jnp.arange(first, first + subjects, dtype=jnp.uint32)
    named = jnp.asarray(seed, jnp.uint32)
    p = with_traits(centre, number, named, dict(condition.shifts))
    begin = Cohort(number, p, healthy_state(subjects, p), named ^ jnp.uint32(HISTORY_NOISE_STREAM))
    lived = course(begin, condition.history, float(condition.days), save_every=24, record=(), plan=plan)
    return eqx.tree_at(lambda c: c.seed, lived.cohort, named)


def healthy_output(p: Parameters | None = None) -> float:
    """VTA output (Hz) of the typical healthy subject: the reference that is 1 in every relative figure."""
    return float((typical() if p is None else p).motivation.reference_output)


def as_healthy(cohort: Cohort) -> Cohort:
    """The same people before anything happened to them: their traits and their noise, in the healthy state."""
    return eqx.tree_at(lambda c: c.state, cohort, healthy_state(len(cohort), cohort.parameters))
