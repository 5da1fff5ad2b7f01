"""Evidence from choices between effort and rest: what the circuit of each subject makes of people's preferences.

Preferences are those of the population that `calibration.effort` fitted to all choices of 479 people; their shares of
accepted first offers were not fitted one by one, and come out as they come out. Every subject lends its circuit to many
people, so that chance in their choices is smaller than in the publication.
"""

import numpy as np

from ..behaviour import choose, draw_preferences
from ..choices import Choices
from ..cohort import Cohort
from ..tasks import LEVELS, Task, eefrt, staircases
from .laboratory import Figures, Laboratory

PEOPLE = 128  # with the circuit of each subject


def offers(lab: Laboratory) -> Figures:
    """Rows `effort.base`, and `effort.mdd.raw` and `effort.mdd.d`: the same people, once healthy and once depressed."""
    well, ill = (_chosen(cohort, staircases(), lab.seed) for cohort in (lab.well, lab.ill))
    hard = [_share(_chosen(cohort, eefrt(), lab.seed)) for cohort in (lab.well, lab.ill)]
    spread = np.sqrt(np.mean([each.var(ddof=1) for each in hard]))
    levels = range(1, LEVELS + 1)
    return {f"effort.base.e{e}r{r}": first_offers(well, e, r) for e in levels for r in levels} | {
        "effort.mdd.raw": _share(ill).mean() - _share(well).mean(),
        "effort.mdd.d": (hard[0].mean() - hard[1].mean()) / spread,
    }


def first_offers(choices: Choices, effort: int, reward: int) -> float:
    """Share that is accepted where a staircase begins with this offer."""
    here = choices.first & (choices.effort == effort) & (choices.reward == reward)
    return float(choices.accepted[here].mean())


def _chosen(cohort: Cohort, task: Task, seed: int) -> Choices:
    """Of many people with each subject's circuit."""
    many = cohort[np.tile(np.arange(len(cohort)), PEOPLE)]
    return choose(many, task, draw_preferences(len(many), seed), seed=seed)


def _share(choices: Choices) -> np.ndarray:
    """Of its offers that each accepts."""
    return choices.accepted.sum(axis=1) / choices.known.sum(axis=1)
