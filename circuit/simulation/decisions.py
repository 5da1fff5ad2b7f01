"""Effort choices of a cohort: preferences drawn from a population, modulated by each subject's circuit.

    choices = hb.simulation.simulate_choices(cohort, hb.behaviour.staircases(), preferences)

Preferences in health come from the population estimated on 479 people (Mehrhof & Nord 2024). Their modulation by the circuit
is `effort.modulate_preferences`.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ...kernels import channel_keys, normals_at_step
from ..behaviour import effort
from ..behaviour.choices import Choices
from ..behaviour.effort import EffortConstants, Preferences
from ..behaviour.effort_tasks import EffortTask, run_task
from ..data import constants
from .cohort import Cohort
from .course import observe_cohort
from .moment import Moment

PREFERENCES_STEP = 0xFFFFFFFD  # step of the noise of preferences, beyond the length of any task


def draw_preferences(subjects: int, seed: int = 0) -> Preferences:
    """Draw preferences of healthy people from the population of the package's table (`effort_population.*`).

    The three preferences are correlated. Those of a subject depend on its number and the seed only.

    Args:
        subjects: number of subjects.
        seed: of the draw.

    Returns:
        Preferences with one value per subject.

    Raises:
        ValueError: fewer than one subject.

    References:
        Mehrhof & Nord (2024): the choices on which the population was estimated.

    >>> import habenula as hb
    >>> hb.simulation.draw_preferences(3, seed=1).bias.shape
    (3,)
    """
    if subjects < 1:
        raise ValueError(f"{subjects=} must be at least 1.")
    mean, cholesky = population_moments()
    number = jnp.arange(subjects, dtype=jnp.uint32)
    z = normals_at_step(channel_keys(seed, len(mean)), number, jnp.uint32(PREFERENCES_STEP))
    by_name = jnp.asarray(mean, z.dtype)[:, None] + jnp.asarray(cholesky, z.dtype) @ z
    return Preferences(*by_name)


def select_preferences(preferences: Preferences, index: Any) -> Preferences:
    """Preferences of some subjects by integer, index array, mask or slice; scalars stay."""
    return jax.tree.map(lambda leaf: leaf[index] if leaf.ndim else leaf, preferences)


def population_moments() -> tuple[np.ndarray, np.ndarray]:
    """Population mean of bias, reward and effort weight, and lower Cholesky factor of their covariance."""
    p = constants.section_values("effort_population")
    names = ("bias", "reward", "effort")
    sd = np.array([p[f"{name}_spread"] for name in names])
    correlation = np.eye(len(names))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        correlation[i, j] = correlation[j, i] = p[f"{names[i]}_{names[j]}"]
    return np.array([p[name] for name in names]), np.linalg.cholesky(correlation * np.outer(sd, sd))


def modulate_by_circuit(
    cohort: Cohort, preferences: Preferences, constants: EffortConstants | None = None
) -> Preferences:
    """Preferences of a cohort under its present circuit: RMTg rate and dopamine, see `effort.modulate_preferences`.

    Raises:
        ValueError: preferences of another number of subjects.
    """
    if wrong := sorted({leaf.shape[0] for leaf in jax.tree.leaves(preferences) if leaf.ndim} - {len(cohort)}):
        raise ValueError(f"preferences of {wrong} subjects for a cohort of {len(cohort)}: give one value per subject.")
    rates = observe_cohort(cohort, ("rmtg", "dopamine"))
    return effort.modulate_preferences(preferences, rates["rmtg"], rates["dopamine"], _constants_or_default(constants))


def simulate_choices(
    cohort: Cohort,
    task: EffortTask,
    preferences: Preferences,
    *,
    seed: int = 0,
    constants: EffortConstants | None = None,
) -> Choices:
    """Simulate a cohort in an effort task, under the present state of its circuit.

    Args:
        cohort: the subjects.
        task: `behaviour.staircases()` or `behaviour.eefrt()`.
        preferences: in health; scalars, or one value per subject.
        seed: of offers and choices.
        constants: shared by all people; by default the package's.

    Returns:
        `Choices` of (subject, trial).

    Raises:
        ValueError: preferences of another number of subjects.
    """
    modulated = modulate_by_circuit(cohort, preferences, constants)
    rmtg = observe_cohort(cohort, ("rmtg",))["rmtg"]
    return run_task(task, modulated, subjects=len(cohort), rmtg=rmtg, seed=seed, constants=constants)


class Initiation(eqx.Module):
    """Predicted initiation of effort over time.

    Attributes:
        t: ms. End of each bin.
        acceptance: probability of accepting the offer.
        latency: s. Median decision time.
    """

    t: Float[Array, " bin"]
    acceptance: Float[Array, "subject bin"]
    latency: Float[Array, "subject bin"]


def predict_initiation(
    moment: Moment,
    preferences: Preferences,
    *,
    offer: Sequence[ArrayLike] = (4.0, 2.0),
    bins: int = 1,
    constants: EffortConstants | None = None,
) -> Initiation:
    """Predict acceptance and latency of an effort offer through a moment, from the RMTg and dopamine.

    Preferences are modulated by the mean RMTg rate and dopamine of each bin, without delay. The choice model is that of
    `behaviour.effort`, for offers that subjects already know (no novelty).

    Args:
        moment: with records of "rmtg" and "dopamine".
        preferences: in health; scalars, or one value per subject.
        offer: levels of effort and reward; by default high effort for a low reward.
        bins: number of equal time bins.
        constants: shared by all people; by default the package's.

    Returns:
        Acceptance probability and median latency by subject and bin.

    Raises:
        ValueError: preferences of another number of subjects, missing records, or records that do not divide into `bins`.
    """
    if lacking := {"rmtg", "dopamine"} - set(moment.record):
        raise ValueError(f"the moment has no record of {sorted(lacking)}: record both rmtg and dopamine.")
    subjects, saved = moment["rmtg"].shape
    if wrong := sorted({leaf.shape[0] for leaf in jax.tree.leaves(preferences) if leaf.ndim} - {subjects}):
        raise ValueError(f"preferences of {wrong} subjects for a moment of {subjects}: give one value per subject.")
    if bins < 1 or saved % bins:
        raise ValueError(f"{bins=}: {saved} records do not divide into so many bins.")
    length = saved // bins
    p = _constants_or_default(constants)
    rmtg, dopamine = (moment[name].reshape(subjects, bins, length).mean(axis=2) for name in ("rmtg", "dopamine"))
    by_subject = jax.tree.map(lambda leaf: leaf[:, None] if leaf.ndim else leaf, preferences)
    modulated = effort.modulate_preferences(by_subject, rmtg, dopamine, p)
    effort_level, reward_level = (jnp.asarray(value, by_subject.bias.dtype) for value in offer)
    logit = effort.subjective_value(effort_level, reward_level, modulated, p)
    latency = jnp.exp(effort.log_latency_mean(logit, rmtg, p))
    return Initiation(moment.t[length - 1 :: length], effort.acceptance_probability(logit, p.lapse), latency)


def _constants_or_default(constants: EffortConstants | None) -> EffortConstants:
    return effort.effort_constants() if constants is None else constants
