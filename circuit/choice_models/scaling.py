"""Levels of effort and reward as a fit counts them: the lowest is 1, the highest 4, in whatever unit a file has them.

Per cent of the greatest force, cents, presses: a fit has starts, priors and nodes for weights of the order of 1 per level,
and would lose weights of hundredths, and biases that are read far from any offer, in rounding.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..behaviour.choices import Choices
from ..behaviour.effort import EffortConstants

LOWEST_LEVEL, HIGHEST_LEVEL = 1.0, 4.0  # as a fit counts
LEVEL_NAMES = ("reward", "effort")


@dataclasses.dataclass(frozen=True)
class ScaledChoices:
    """Choices as a fit counts their levels.

    Attributes:
        choices: with these levels.
        constants: with the reference offer in them.
        reference: the same offer in the file's levels, by name.
        unit: by preference, what 1 of it as the fit counts is in the file's levels: logit, or logit per level.
        step: by name, how many of the file's levels go into one of the fit's.
    """

    choices: Choices
    constants: EffortConstants
    reference: dict[str, float]
    unit: dict[str, float]
    step: dict[str, float]


def rescale_choices(choices: Choices, p: EffortConstants) -> ScaledChoices:
    """From 1 to 4. The reference offer is that of `p` where it lies among the levels, and in their middle where not."""
    levels, reference, step = {}, {}, {}
    for name in LEVEL_NAMES:
        values, at = getattr(choices, name), float(getattr(p, f"reference_{name}"))
        made = values[choices.known]
        low, high = float(made.min()), float(made.max())
        width = (high - low) or HIGHEST_LEVEL - LOWEST_LEVEL
        inward = lambda value, low=low, width=width: (
            LOWEST_LEVEL + (HIGHEST_LEVEL - LOWEST_LEVEL) * (value - low) / width
        )
        levels[name] = np.where(choices.known, inward(values), 0.0)
        reference[name] = at if low <= at <= high else (low + high) / 2
        step[name] = width / (HIGHEST_LEVEL - LOWEST_LEVEL)
        where = {"reward": lambda p: p.reference_reward, "effort": lambda p: p.reference_effort}[name]
        p = eqx.tree_at(where, p, jnp.asarray(inward(reference[name])))
    unit = {"bias": 1.0} | {name: 1 / step[name] for name in LEVEL_NAMES}
    return ScaledChoices(dataclasses.replace(choices, **levels), p, reference, unit, step)
