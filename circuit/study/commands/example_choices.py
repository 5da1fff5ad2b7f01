"""The example of `habenula fit`: choices of virtual people, half of them depressed, by the package's own simulator.

python -m habenula.circuit.study.commands.example_choices
"""

import numpy as np

from ...behaviour import choices
from ...behaviour.effort_tasks import staircases
from ...simulation import conditions, decisions
from .fit_choices import EXAMPLE

SUBJECTS = 48  # of each condition
SEED = 4


def main() -> None:
    """Simulate and write."""
    preferences = decisions.draw_preferences(2 * SUBJECTS, SEED)
    lives = []
    for i, condition in enumerate((conditions.healthy(), conditions.depressed())):
        cohort = conditions.draw(condition, SUBJECTS, SEED, first=i * SUBJECTS)
        own = decisions.select_preferences(preferences, slice(i * SUBJECTS, (i + 1) * SUBJECTS))
        lives.append(decisions.simulate_choices(cohort, staircases(), own, seed=SEED + i))
    names = [f"{kind}{i + 1:02}" for kind in ("healthy", "depressed") for i in range(SUBJECTS)]
    joined = {
        name: np.concatenate([getattr(life, name) for life in lives])
        for name in ("effort", "reward", "accepted", "known", "first", "latency", "staircase")
    }
    choices.write_choices(EXAMPLE, choices.Choices(tuple(names), **joined))
    print(f"{EXAMPLE}: {joined['known'].sum()} choices of {len(names)} subjects")


if __name__ == "__main__":
    main()
