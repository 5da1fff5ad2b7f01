"""Identifiability of preferences from offers and choices, assessed before the fit.

A preference can be non-identifiable for two reasons. The design: if all offers have the same reward, its weight does not
enter any choice. The Fisher information of the offers at indifference, where choices are most informative, is then singular,
and the preferences along its null directions are reported. The choices: a subject that accepts everything gives a lower
bound of the bias, and no information about the weights.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from ..behaviour.choices import Choices
from ..behaviour.effort import EffortConstants

PREFERENCE_NAMES = ("bias", "reward", "effort")
MIN_RELATIVE_INFORMATION = 1e-6  # information along a direction over the largest, below which it counts as none


@dataclasses.dataclass(frozen=True)
class Identifiability:
    """Whether the data determine a preference.

    Attributes:
        identifiable: whether it is estimated.
        error: logit, or logit per level. Smallest standard error that a subject's median number of trials can give, at
            indifference.
        subjects: number of subjects whose own offers and choices determine it.
        reason: why it is not identifiable, or in whom; empty if it is in everyone.
    """

    identifiable: bool
    error: float
    subjects: int
    reason: str = ""


def assess_identifiability(choices: Choices, p: EffortConstants) -> dict[str, Identifiability]:
    """Identifiability of each preference from the offers of all subjects, of each one, and from one-sided choices.

    Args:
        choices: offers and choices.
        p: constants, with the reference offer.

    Returns:
        By preference: whether it is identifiable, the smallest possible standard error, and a reason if it is not.

    >>> from habenula.circuit.behaviour.effort import effort_constants
    >>> effort, reward = np.meshgrid([1.0, 2.0, 3.0, 4.0], [2.0, 2.0])
    >>> made = np.ones((2, 4), bool)
    >>> choices = Choices(("anna", "ben"), effort, reward, effort % 2, made, ~made)
    >>> assess_identifiability(choices, effort_constants())["reward"].reason
    'reward is the same in every offer'
    """
    by_subject = offer_fisher_information(design_matrix(choices, p), choices.known)
    median_trials = max(float(np.median(choices.known.sum(axis=1))), 1.0)
    typical = by_subject.sum(axis=0) / max(choices.known.sum(), 1) * median_trials
    excluded = unidentifiable_preferences(typical)
    accepted = (choices.accepted * choices.known).sum(axis=1) / np.maximum(choices.known.sum(axis=1), 1)
    mixed = (accepted > 0) & (accepted < 1)
    kept = [i for i, name in enumerate(PREFERENCE_NAMES) if name not in excluded]
    error = np.full(len(PREFERENCE_NAMES), np.inf)
    error[kept] = np.sqrt(np.diag(np.linalg.inv(typical[np.ix_(kept, kept)])))
    unidentifiable = [unidentifiable_preferences(information) for information in by_subject]
    results = {}
    for i, name in enumerate(PREFERENCE_NAMES):
        determined = np.array([name not in reasons for reasons in unidentifiable]) & mixed
        reason = excluded.get(name, "") or _describe_limits(name, accepted, determined)
        results[name] = Identifiability(name not in excluded, float(error[i]), int(determined.sum()), reason)
    return results


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


def unidentifiable_preferences(information: Float[np.ndarray, "preference preference"]) -> dict[str, str]:
    """Preferences without information beyond that on the ones named before them, each with the reason.

    >>> unidentifiable_preferences(np.diag([16.0, 0.0, 20.0]))
    {'reward': 'reward is the same in every offer'}
    """
    reasons, kept = {}, []
    for i, name in enumerate(PREFERENCE_NAMES):
        alone = conditional = information[i, i]
        if kept and alone > 0:
            across = information[np.ix_(kept, [i])][:, 0]
            conditional = alone - across @ np.linalg.solve(information[np.ix_(kept, kept)], across)
        threshold = MIN_RELATIVE_INFORMATION * max(alone, information[0, 0])
        if alone > 0 and conditional > threshold:
            kept.append(i)
        elif name == "bias":
            reasons[name] = "there are no choices"
        else:
            variance = alone - information[0, i] ** 2 / information[0, 0] if information[0, 0] > 0 else 0.0
            others = " and ".join(PREFERENCE_NAMES[j] for j in kept[1:])
            reasons[name] = (
                f"{name} is a linear function of {others} over the offers"
                if variance > threshold
                else f"{name} is the same in every offer"
            )
    return reasons


def _describe_limits(
    name: str, accepted: Float[np.ndarray, " subject"], determined: Bool[np.ndarray, " subject"]
) -> str:
    """Why some subjects do not determine a preference themselves; empty if all do."""
    if determined.all():
        return ""
    mixed = (accepted > 0) & (accepted < 1)
    counts = {
        "accept everything": int((accepted == 1).sum()),
        "decline everything": int(((accepted == 0) & ~mixed).sum()),
        f"have offers that do not determine {name}": int((mixed & ~determined).sum()),
    }
    groups = ", ".join(f"{count} {group}" for group, count in counts.items() if count)
    lacking = int((~determined).sum())
    return f"estimates of {lacking} subject{'s' * (lacking != 1)} rest on the population: {groups}"
