"""How a cohort behaves: its circuit, as it stands, under the preferences of people.

    choices = choose(cohort, staircases(), draw_preferences(len(cohort), seed=1))

What a person would choose in health is drawn from the population that 479 people gave; what the circuit makes of it is
`effort.modulate_preferences`, written once.
"""

from collections.abc import Sequence

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

PREFERENCES_STEP = 0xFFFFFFFD  # the step of the noise that names preferences; no task lasts so long


def draw_preferences(subjects: int, seed: int = 0) -> Preferences:
    """Preferences of healthy people (constants `effort_population.*`), correlated; a subject's depend on its number.

    Raises:
        ValueError: fewer than one subject.
    """
    if subjects < 1:
        raise ValueError(f"{subjects=} must be at least 1.")
    mean, root = population_moments()
    number = jnp.arange(subjects, dtype=jnp.uint32)
    z = normals_at_step(channel_keys(seed, len(mean)), number, jnp.uint32(PREFERENCES_STEP))
    own = jnp.asarray(mean, z.dtype)[:, None] + jnp.asarray(root, z.dtype) @ z
    return Preferences(*own)


def select_preferences(preferences: Preferences, which) -> Preferences:
    """The preferences of some subjects: an index array, a mask or a slice."""
    return jax.tree.map(lambda leaf: leaf[which] if leaf.ndim else leaf, preferences)


def population_moments() -> tuple[np.ndarray, np.ndarray]:
    """Mean of bias, reward and effort weight over people, and the lower Cholesky factor of their covariance."""
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
    """Preferences under the cohort's circuit as it stands: its habenular veto and its dopamine.

    Raises:
        ValueError: preferences of another number of subjects.
    """
    if wrong := sorted({leaf.shape[0] for leaf in jax.tree.leaves(preferences) if leaf.ndim} - {len(cohort)}):
        raise ValueError(f"preferences of {wrong} subjects for a cohort of {len(cohort)}: draw one for each.")
    seen = observe_cohort(cohort, ("rmtg", "dopamine"))
    return effort.modulate_preferences(preferences, seen["rmtg"], seen["dopamine"], _constants_or_default(constants))


def simulate_choices(
    cohort: Cohort,
    task: EffortTask,
    preferences: Preferences,
    *,
    seed: int = 0,
    constants: EffortConstants | None = None,
) -> Choices:
    """Let a cohort do a task under its circuit as it stands.

    Args:
        cohort: the subjects.
        task: from `tasks`.
        preferences: what they would have in health; scalars, or one value per subject.
        seed: names offers and choices.
        constants: what people share; the package's by default.

    Raises:
        ValueError: preferences of another number of subjects.
    """
    own = modulate_by_circuit(cohort, preferences, constants)
    rmtg = observe_cohort(cohort, ("rmtg",))["rmtg"]
    return run_task(task, own, subjects=len(cohort), rmtg=rmtg, seed=seed, constants=constants)


class Initiation(eqx.Module):
    """How ready subjects are to take up an effort, through a moment.

    Attributes:
        t: ms, end of each stretch.
        acceptance: probability of taking up the offer.
        latency: s. Median time to decide.
    """

    t: Float[Array, " stretch"]
    acceptance: Float[Array, "subject stretch"]
    latency: Float[Array, "subject stretch"]


def predict_initiation(
    seen: Moment,
    preferences: Preferences,
    *,
    offer: Sequence[ArrayLike] = (4.0, 2.0),
    stretches: int = 1,
    constants: EffortConstants | None = None,
) -> Initiation:
    """Would subjects take up an effort at each time of a moment, and how long would they take to begin?

    The veto is that of the RMTg's mean rate over the stretch, at once; so is what dopamine makes of effort. The form
    is that of choices (`effort_constants`), where people have met the offer before.

    Args:
        seen: with records of "rmtg" and "dopamine".
        preferences: what they would have in health; scalars, or one value per subject.
        offer: levels of effort and of reward, of which the first is hard and the second low by default.
        stretches: into how many equal ones the moment is divided.
        constants: what people share; the package's by default.

    Raises:
        ValueError: preferences of another number of subjects, records that lack, or that do not divide into the stretches.
    """
    if lacking := {"rmtg", "dopamine"} - set(seen.record):
        raise ValueError(f"the moment has no record of {sorted(lacking)}: record both rmtg and dopamine.")
    subjects, saved = seen["rmtg"].shape
    if wrong := sorted({leaf.shape[0] for leaf in jax.tree.leaves(preferences) if leaf.ndim} - {subjects}):
        raise ValueError(f"preferences of {wrong} subjects for a moment of {subjects}: draw one for each.")
    if stretches < 1 or saved % stretches:
        raise ValueError(f"{stretches=}: a moment of {saved} records does not divide into them.")
    length = saved // stretches
    p = _constants_or_default(constants)
    mean = lambda name: seen[name].reshape(subjects, stretches, length).mean(axis=2)
    own = jax.tree.map(lambda leaf: leaf[:, None] if leaf.ndim else leaf, preferences)
    governed = effort.modulate_preferences(own, mean("rmtg"), mean("dopamine"), p)
    hard, pays = (jnp.asarray(level, own.bias.dtype) for level in offer)
    logit = effort.subjective_value(hard, pays, governed, p)
    latency = jnp.exp(effort.log_latency_mean(logit, mean("rmtg"), p))
    return Initiation(seen.t[length - 1 :: length], effort.acceptance_probability(logit, p.lapse), latency)


def _constants_or_default(constants: EffortConstants | None) -> EffortConstants:
    return effort.effort_constants() if constants is None else constants
