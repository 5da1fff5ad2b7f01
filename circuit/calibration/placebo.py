"""Fit how much one visit lifts mood: what one visit more, among weekly ones, took off patients' scores.

    python -m habenula.circuit.calibration.placebo

In 41 placebo-controlled trials of antidepressants over six weeks (Posternak & Zimmerman 2007), people who came in week 3
too, and not in weeks 2 and 4 alone, had lost 0.86 points more of Hamilton's scale by week 4; those who came in week 5 too,
0.67 more by week 6. Two more visits took off twice as much as one; people on a drug gained as much. From points to mood
leads the link of `clinical_scores`, an assumption. No time course was fitted to: that of patients on placebo is left as a check
(tests/inference/test_clinical_scores.py), and tells little of how long a visit counts, which is assumed.
"""

from collections.abc import Sequence

import numpy as np

from ..data import constants
from ..inference import clinical_scores
from ..model.interventions import Placebo
from ..simulation.conditions import depressed, draw
from ..simulation.course import course
from .options import make_parser

SCRIPT = "habenula.circuit.calibration.placebo"
EXTRA_VISIT_EFFECT = {
    3: 0.86,
    5: 0.67,
}  # by week of one visit more: points of Hamilton's scale that it took off by the week after
SUBJECT_COUNT = 8  # a visit adds the same to everyone's mood


def simulate_extra_visit(week: int) -> float:
    """Points that one visit more, in a `week`, takes off the score by the week after, with the constants of the table."""
    cohort, scale = draw(depressed(), SUBJECT_COUNT, seed=1), clinical_scores.hamd17()
    mood = []
    for visits in (0.0, 1.0):
        more = Placebo(per_week=7 * visits, start=7 * week - 0.5, stop=7 * week + 0.5)
        lived = course(cohort, (Placebo(), more), 7.0 * (week + 1), save_every=24 * 7, record=("mood",))
        mood.append(np.asarray(lived["mood"], float)[:, -1].mean())
    return float(scale.per_mood) * (mood[1] - mood[0])


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, print and write to the table."""
    chosen = make_parser(SCRIPT, main.__doc__).parse_args(arguments)
    found = constants.constant_value("motivation.visit_lift") / float(
        np.mean([simulate_extra_visit(week) for week in EXTRA_VISIT_EFFECT])
    )  # for a point
    lift = found * float(np.mean(list(EXTRA_VISIT_EFFECT.values())))
    note = "Posternak & Zimmerman 2007; of mood, by the assumed link"
    constants.update_constants(
        [constants.Constant("motivation.visit_lift", lift, "1", "fitted", SCRIPT, note)], chosen.table
    )
    for week, points in EXTRA_VISIT_EFFECT.items():
        print(f"one visit more in week {week}: {simulate_extra_visit(week):.2f} points (published {points:.2f})")
    print(f"motivation.visit_lift {lift:.4f}")


if __name__ == "__main__":
    main()
