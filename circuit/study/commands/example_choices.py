"""The example of `habenula fit`: choices of virtual people, half of them depressed, by the package's own simulator.

python -m habenula.circuit.study.commands.example_choices
"""

import numpy as np

from ...behaviour import choices
from ...behaviour.effort_tasks import staircases
from ...simulation import conditions, decisions
from .fit_choices import EXAMPLE_FILE

EXAMPLE_SUBJECTS = 48  # of each condition
EXAMPLE_SEED = 4


def main() -> None:
    """Simulate and write."""
    preferences = decisions.draw_preferences(2 * EXAMPLE_SUBJECTS, EXAMPLE_SEED)
    lives = []
    for i, condition in enumerate((conditions.healthy(), conditions.depressed())):
        cohort = conditions.draw(condition, EXAMPLE_SUBJECTS, EXAMPLE_SEED, first=i * EXAMPLE_SUBJECTS)
        own = decisions.select_preferences(preferences, slice(i * EXAMPLE_SUBJECTS, (i + 1) * EXAMPLE_SUBJECTS))
        lives.append(decisions.simulate_choices(cohort, staircases(), own, seed=EXAMPLE_SEED + i))
    names = [f"{kind}{i + 1:02}" for kind in ("healthy", "depressed") for i in range(EXAMPLE_SUBJECTS)]
    joined = {
        name: np.concatenate([getattr(life, name) for life in lives])
        for name in ("effort", "reward", "accepted", "known", "first", "latency", "staircase")
    }
    choices.write_choices(EXAMPLE_FILE, choices.Choices(tuple(names), **joined))
    print(f"{EXAMPLE_FILE}: {joined['known'].sum()} choices of {len(names)} subjects")


if __name__ == "__main__":
    main()
