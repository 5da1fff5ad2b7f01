"""Evidence from conditioning: what the habenula says once subjects have learnt what cues mean, and when they learn anew.

Healthy subjects live one session in several groups: same subjects, same noise, other contingencies; in two groups with
the habenula's output, and nothing else, cut off the RMTg. Prediction errors are the subjects' own. Responses are means
over the 400 ms from an event on, habenular output S (Hz; it counts spikes, those in bursts for more) or the rate of
dopamine neurons (Hz), against the 400 ms before the cue; but for the reversal, in the second half of the session.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ...behaviour.conditioning import NO_REVERSAL, pavlovian
from ...model.lhb_population import make_population_plan
from ...simulation.session import Session, session
from .cohorts import ExperimentCohorts, Figures

SUBJECTS, NEURONS = 16, 32  # subjects of each group, and LHb neurons of each
TRIAL_COUNT = 48  # of four cues
FLIP_TRIAL = TRIAL_COUNT // 2
GRADED_PROBABILITIES = (1.0, 2 / 3, 1 / 3, 0.0)  # probability of reward or puff, or magnitude, of the four cues
CERTAIN, LIKELY, NEVER_PAID = 0, 1, 3  # numbers of cues


class SessionGroup(NamedTuple):
    """What the four cues mean to some of the subjects."""

    probability: tuple[float, ...]
    magnitude: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    puff: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    flip: int = NO_REVERSAL
    lesioned: bool = False


SESSION_GROUPS = {
    "probability": SessionGroup(GRADED_PROBABILITIES),
    "magnitude": SessionGroup((1.0, 1.0, 1.0, 1.0), GRADED_PROBABILITIES),
    "reversal": SessionGroup((1.0, 1.0, 0.0, 0.0), flip=FLIP_TRIAL),
    "puff": SessionGroup((0.0, 0.0, 0.0, 0.0), puff=GRADED_PROBABILITIES),
    "lesioned": SessionGroup(GRADED_PROBABILITIES, lesioned=True),
    "lesioned_puff": SessionGroup((0.0, 0.0, 0.0, 0.0), puff=GRADED_PROBABILITIES, lesioned=True),
}
GroupResponse = dict[str, np.ndarray]  # by group, (subject, trial)


def measure_conditioning(lab: ExperimentCohorts) -> Figures:
    """Rows `lhb.rpe` and `lesion`."""
    seen = _run_groups(lab)
    cue, reward, puff = (
        _split_by_session_group(value) for value in (seen.trials.cue, seen.trials.reward, seen.trials.puff)
    )
    before, at_cue, after = (
        {name: _split_by_session_group(value) for name, value in window.items()}
        for window in (seen.before, seen.cue, seen.outcome)
    )
    late = np.arange(TRIAL_COUNT) >= FLIP_TRIAL
    omitted = {name: late & (cue[name] == LIKELY) & (reward[name] == 0) for name in ("probability", "lesioned")}
    puffed = {name: late & (puff[name] > 0) for name in ("puff", "lesioned_puff")}
    over = lambda window, name, which: float(
        window["habenula"][name][which].mean() / before["habenula"][name][which].mean()
    )
    dip = lambda which: {
        name: 1 - after["rate"][name][each].mean() / before["rate"][name][each].mean() for name, each in which.items()
    }
    omission, aversive = dip(omitted), dip(puffed)
    change = {name: at_cue["habenula"][name] - before["habenula"][name] for name in SESSION_GROUPS}
    return {
        "lhb.rpe.no_reward_cue": over(at_cue, "probability", late & (cue["probability"] == NEVER_PAID)),
        "lhb.rpe.reward_cue": over(at_cue, "probability", late & (cue["probability"] == CERTAIN)),
        "lhb.rpe.omission": over(after, "probability", omitted["probability"]),
        "lhb.rpe.air_puff": over(after, "puff", puffed["puff"]),
        "lhb.rpe.reversal": _trials_to_reversal(change["reversal"], cue["reversal"]),
        "lhb.rpe.probability": _rank_correlation(change["probability"], cue["probability"], late),
        "lhb.rpe.magnitude": _rank_correlation(change["magnitude"], cue["magnitude"], late),
        "lesion.omission": omission["lesioned"] / omission["probability"],
        "lesion.aversive": aversive["lesioned_puff"] / aversive["puff"],
    }


def _trials_to_reversal(change: np.ndarray, cue: np.ndarray) -> float:
    """Trials with a cue whose meaning has changed, until cues that were good excite the LHb more than those that were bad.

    Means over subjects and over the two cues of a kind; not a number where they never do.
    """
    good, bad = (
        np.stack([_presentations_of(change, cue, k) for k in kind]).mean(axis=(0, 1)) for kind in ((0, 1), (2, 3))
    )
    turned = np.flatnonzero(good > bad)
    return float(turned[0]) if len(turned) else np.nan


def _presentations_of(change: np.ndarray, cue: np.ndarray, kind: int) -> np.ndarray:
    """Responses to one cue from the flip on, in the order in which it came, (subject, presentation)."""
    each = [own[FLIP_TRIAL:][shown[FLIP_TRIAL:] == kind] for own, shown in zip(change, cue, strict=True)]
    return np.stack([own[: min(map(len, each))] for own in each])


def _rank_correlation(change: np.ndarray, cue: np.ndarray, late: np.ndarray) -> float:
    """Spearman's correlation of a subject's mean response to each cue with what the cue stands for, mean over subjects."""
    response = np.stack([np.where(late & (cue == k), change, 0).sum(1) / (late & (cue == k)).sum(1) for k in range(4)])
    rank = lambda value: np.argsort(np.argsort(value, axis=0), axis=0)
    promised = rank(np.asarray(GRADED_PROBABILITIES))
    return float(np.mean([np.corrcoef(own, promised)[0, 1] for own in rank(response).T]))


def _run_groups(lab: ExperimentCohorts) -> Session:
    """The session that all groups live: lanes in the order of `SESSION_GROUPS`, in each the same subjects."""
    column = lambda name: np.repeat([getattr(group, name) for group in SESSION_GROUPS.values()], SUBJECTS, axis=0).T
    cohort = lab.well[np.tile(np.arange(SUBJECTS), len(SESSION_GROUPS))]
    gain = cohort.parameters.dopamine.rmtg_gain * jnp.asarray(1 - column("lesioned"), jnp.result_type(float))
    cohort = eqx.tree_at(lambda c: c.parameters.dopamine.rmtg_gain, cohort, gain)
    task = pavlovian(column("probability"), magnitude=column("magnitude"), puff=column("puff"), reversal=column("flip"))
    return session(cohort, task, TRIAL_COUNT, neurons=NEURONS, plan=make_population_plan(NEURONS, lab.devices))


def _split_by_session_group(value) -> GroupResponse:
    """By the name of a group, (subject, trial)."""
    value = np.asarray(value)
    return dict(zip(SESSION_GROUPS, value.reshape(len(SESSION_GROUPS), SUBJECTS, TRIAL_COUNT), strict=True))
