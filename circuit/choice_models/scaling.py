"""Levels of effort and reward rescaled to 1 to 4, whatever their unit in the data.

Data come in per cent of maximal force, cents or button presses. The fit's starting values, priors and quadrature nodes
assume weights of the order of 1 per level. On raw units, weights of hundredths and biases far from any offer would be lost
in rounding.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..behaviour.choices import Choices
from ..behaviour.effort import EffortConstants

LOWEST_LEVEL, HIGHEST_LEVEL = 1.0, 4.0  # of the fit
LEVEL_NAMES = ("reward", "effort")


@dataclasses.dataclass(frozen=True)
class ScaledChoices:
    """Choices with levels from 1 to 4, and the way back to the units of the data.

    Attributes:
        original: the choices as given.
        choices: with rescaled levels.
        constants: with the rescaled reference offer.
        reference: the reference offer in the units of the data, by name.
        unit: by preference, what 1 in the fit is in the data: logit, or logit per level.
        step: by name, how many levels of the data make one of the fit.
    """

    original: Choices
    choices: Choices
    constants: EffortConstants
    reference: dict[str, float]
    unit: dict[str, float]
    step: dict[str, float]


def rescale_choices(choices: Choices, p: EffortConstants) -> ScaledChoices:
    """Rescale levels to 1 to 4. The reference offer is that of `p` if it lies among the levels, else their middle."""
    levels, reference, step = {}, {}, {}
    for name in LEVEL_NAMES:
        values, default = getattr(choices, name), float(getattr(p, f"reference_{name}"))
        offered = values[choices.known]
        low, high = float(offered.min()), float(offered.max())
        width = (high - low) or HIGHEST_LEVEL - LOWEST_LEVEL
        levels[name] = np.where(choices.known, _rescale(values, low, width), 0.0)
        reference[name] = default if low <= default <= high else (low + high) / 2
        step[name] = width / (HIGHEST_LEVEL - LOWEST_LEVEL)
        where = {"reward": lambda p: p.reference_reward, "effort": lambda p: p.reference_effort}[name]
        p = eqx.tree_at(where, p, jnp.asarray(_rescale(reference[name], low, width)))
    unit = {"bias": 1.0} | {name: 1 / step[name] for name in LEVEL_NAMES}
    return ScaledChoices(choices, dataclasses.replace(choices, **levels), p, reference, unit, step)


def _rescale(value: Any, low: float, width: float) -> Any:
    """From `low` to `low + width` to the levels of the fit."""
    return LOWEST_LEVEL + (HIGHEST_LEVEL - LOWEST_LEVEL) * (value - low) / width
