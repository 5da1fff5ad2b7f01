"""What offers and choices can tell about preferences, before anything is fitted.

Two things hide a preference. The design: if no offer differs in reward, no choice tells its weight. The Fisher information
of the offers at indifference, where every choice says most, has then a direction without information; the preferences
along it are named. And the choices: who accepts everything shows a lower bound of the bias, and nothing of the weights.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from ..behaviour.choices import Choices
from ..behaviour.effort import EffortConstants

PREFERENCE_NAMES = ("bias", "reward", "effort")
MIN_RELATIVE_INFORMATION = 1e-6  # information along a direction, over the largest, below which there is none


@dataclasses.dataclass(frozen=True)
class Identifiability:
    """Whether a preference can be seen in the data.

    Attributes:
        identifiable: whether it is estimated.
        error: logit; the least standard error that a subject's median number of trials can give, at indifference.
        subjects: how many have offers and choices that show it without help of the population.
        reason: why not, or what limits it; empty where nothing does.
    """

    identifiable: bool
    error: float
    subjects: int
    reason: str = ""


def assess_identifiability(choices: Choices, p: EffortConstants) -> dict[str, Identifiability]:
    """A verdict on each preference, from the offers of all subjects, of each, and from who chose always the same."""
    design = design_matrix(choices, p)
    each = offer_fisher_information(design, choices.known)
    count = max(float(np.median(choices.known.sum(axis=1))), 1.0)
    typical = each.sum(axis=0) / max(choices.known.sum(), 1) * count
    pooled = unidentifiable_preferences(typical)
    made = np.maximum(choices.known.sum(axis=1), 1)
    share = (choices.accepted * choices.known).sum(axis=1) / made
    mixed = (share > 0) & (share < 1)
    kept = [i for i, name in enumerate(PREFERENCE_NAMES) if name not in pooled]
    error = np.full(len(PREFERENCE_NAMES), np.inf)
    error[kept] = np.sqrt(np.diag(np.linalg.inv(typical[np.ix_(kept, kept)])))
    own = (
        np.array([[name not in unidentifiable_preferences(matrix) for name in PREFERENCE_NAMES] for matrix in each])
        & mixed[:, None]
    )
    found = {}
    for i, name in enumerate(PREFERENCE_NAMES):
        reason = pooled.get(name, "")
        if not reason and (lacking := len(choices) - int(own[:, i].sum())):
            reason = _describe_limits(name, lacking, share, own[:, i], mixed)
        found[name] = Identifiability(name not in pooled, float(error[i]), int(own[:, i].sum()), reason)
    return found


def design_matrix(choices: Choices, p: EffortConstants) -> Float[np.ndarray, "subject trial preference"]:
    """Slopes of the logit in each of `PREFERENCE_NAMES`."""
    reward = choices.reward - float(p.reference_reward)
    effort = float(p.reference_effort) - choices.effort
    return np.stack([np.ones_like(reward), reward, effort], axis=-1)


def offer_fisher_information(
    design: Float[np.ndarray, "subject trial preference"], known: np.ndarray
) -> Float[np.ndarray, "subject preference preference"]:
    """Fisher information of each subject's offers at indifference, where a choice has variance 1/4."""
    return np.einsum("sti,stj,st->sij", design, design, known / 4)


def unidentifiable_preferences(matrix: Float[np.ndarray, "preference preference"]) -> dict[str, str]:
    """Preferences of which `matrix` holds nothing beyond those named before them, each with the reason."""
    found, kept = {}, []
    for i, name in enumerate(PREFERENCE_NAMES):
        own = matrix[i, i]
        left = own
        if kept and own > 0:
            across = matrix[np.ix_(kept, [i])][:, 0]
            left = own - across @ np.linalg.solve(matrix[np.ix_(kept, kept)], across)
        if own > 0 and left > MIN_RELATIVE_INFORMATION * max(own, matrix[0, 0]):
            kept.append(i)
        elif name == "bias":
            found[name] = "there are no choices"
        else:
            bare = own - matrix[0, i] ** 2 / matrix[0, 0] if matrix[0, 0] > 0 else 0.0  # its variance over offers
            varies = bare > MIN_RELATIVE_INFORMATION * max(own, matrix[0, 0])
            others = " and ".join(PREFERENCE_NAMES[j] for j in kept[1:])
            found[name] = (
                f"{name} follows from {others} in every offer" if varies else f"{name} is the same in every offer"
            )
    return found


def _describe_limits(name: str, lacking: int, share: np.ndarray, own: np.ndarray, mixed: np.ndarray) -> str:
    """Why `lacking` subjects do not show a preference themselves."""
    ways = {
        "accept everything": int((share == 1).sum()),
        "decline everything": int(((share == 0) & ~mixed).sum()),
        f"have offers that do not show {name}": int((mixed & ~own).sum()),
    }
    words = ", ".join(f"{count} {way}" for way, count in ways.items() if count)
    return f"{lacking} subjects lean on the population: {words}"
