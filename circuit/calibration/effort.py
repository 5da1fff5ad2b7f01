"""Fit effort choice: what people share and how they differ, from choices of 479 people; the veto, from anhedonia.

    python -m habenula.circuit.calibration.effort FOLDER

FOLDER holds `trials.csv.gz` and `subjects.csv` of half of the people of Mehrhof & Nord (2024), who made them public.
Latencies give the median, how much doubt adds, and their spread, within people. The veto is such that over a sample of
virtual people with as many depressed ones, the rest healthy or resilient, the bias falls by .20 logit per standard
deviation of anhedonia, which is the loss of drive. That slope is the one published figure that says how strong a veto is,
so that it is fitted to and checks nothing (role `calibrate`). It does not compare like with like, in two ways that nearly
make up for each other. Its logit: a logistic regression without first trials of their own gives these people's biases a
spread of 3.1, this form one of 7.1, so that the published slope is .065 standard deviations of the bias, and ours .028.
And its anhedonia: people in a depressive episode are 1.0 standard deviations more anhedonic than the rest, virtual ones
2.6, as virtual people have no other anhedonia than their circuit's. So a person in an episode would have .065 standard
deviations less of a bias, and a virtual one has .075. Nor is the slope's size known from these people: half of them tell
it from nothing in neither form. A veto twice as strong would make depressed people decline more offers than controls do,
which they do not (`effort.mdd.raw`).

The form was chosen by prediction: people of even and odd place in the file, each half by a fit to the other, summed log
marginal likelihood. Seven forms were compared with one in which levels feel like what they are and the first trials
differ (-7726.6). Without such first trials it lost 379 +- 44 (s.e. over people); without them but with free inner levels,
337 +- 47. With them, free inner levels of effort and reward gained 47 +- 18 (of effort alone 30 +- 14, of reward alone
7 +- 8), an interaction of effort and reward 1 +- 7, and both 48 +- 18. So inner levels are free and nothing interacts.
Acceptance at the first trials of staircases missed the observed by .028 at most, with what people share from the other
half and their own preferences from their choices. The forms occurred to us with these people's cells in view, so that
only other people can tell how far they reach.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..behaviour import choices, effort
from ..behaviour.choices import Choices
from ..choice_models.fit import fit_choices
from ..data import constants
from ..model.parameters import typical
from ..simulation import conditions
from ..simulation.course import observe_cohort
from ..simulation.fixed_points import fixed_points
from .downstream import replicate_subject
from .options import make_parser, require_files

SCRIPT = "habenula.circuit.calibration.effort"
SHARED_PARAMETER_NOTES = dict.fromkeys(("effort_2", "effort_3", "reward_2", "reward_3"), "felt level; ")
SHARED_PARAMETER_NOTES |= dict.fromkeys(("early_bias", "early_reward", "early_effort", "naive", "lapse"), "") | {
    "fade": "trials; "
}
ANHEDONIA_SLOPE = -0.20  # logit of bias per s.d. of anhedonia (Mehrhof & Nord 2024)
SAMPLE_SIZE = 512  # virtual people of each condition
MAX_LATENCY = 60.0  # s; a latency beyond it is an absence


def estimate_latency_parameters(people: Choices, accept: np.ndarray) -> tuple[float, float, float]:
    """Median latency (s) without doubt, what full doubt adds to its log, and the s.d. left, all within people."""
    assert people.latency is not None
    made = people.known & (people.latency < MAX_LATENCY)
    log, doubt = np.where(made, np.log(people.latency), 0), np.where(made, 4 * accept * (1 - accept), 0)
    count = made.sum(axis=1, keepdims=True)
    means = [each.sum(axis=1, keepdims=True) / count for each in (log, doubt)]
    log_apart, doubt_apart = (np.where(made, each - mean, 0) for each, mean in zip((log, doubt), means, strict=True))
    slope = (log_apart * doubt_apart).sum() / (doubt_apart**2).sum()
    left = np.sqrt(((log_apart - slope * doubt_apart) ** 2).sum() / (made.sum() - len(made)))
    return float(np.exp(np.median(means[0] - slope * means[1]))), float(slope), float(left)


def fit_veto(depressed: float, reference: float, subjects: int = SAMPLE_SIZE) -> float:
    """The veto (logit per e-fold of RMTg rate) under which bias falls by `ANHEDONIA_SLOPE`, given the share `depressed`."""
    unit, drive = [], []  # bias under a veto of 1
    for kind in (conditions.healthy, conditions.resilient, conditions.depressed):
        seen = observe_cohort(conditions.draw(kind(), subjects, seed=1), ("rmtg", "drive"))
        unit.append(-np.log(np.asarray(seen["rmtg"], float) / reference))
        drive.append(np.asarray(seen["drive"], float))
    return ANHEDONIA_SLOPE / effort.bias_slope_on_anhedonia(unit, drive, depressed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, print and write to the table.

    Raises:
        FileNotFoundError: the folder lacks the published choices.
    """
    parser = make_parser(SCRIPT, "Fit effort choice to public choices of 479 people.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="trials.csv.gz and subjects.csv")
    parser.add_argument("--subjects", type=int, default=SAMPLE_SIZE, help="virtual people of each condition")
    chosen = parser.parse_args(arguments)
    folder = chosen.folder
    require_files(folder, ("trials.csv.gz", "subjects.csv"), "choices and scores of Mehrhof & Nord 2024")
    people = choices.read_choices(folder / "trials.csv.gz")
    scores = choices.read_scores(folder / "subjects.csv", people.subject)
    fit = fit_choices(people)
    assert fit.converged
    median, doubt, spread = estimate_latency_parameters(people, fit.predicted)
    p = typical()
    healthy = fixed_points(p)[0].state
    reference = float(observe_cohort(replicate_subject(p, healthy, 1), ("rmtg",))["rmtg"][0])
    depressed = float(np.mean(scores["mdd_current"]))
    veto = fit_veto(depressed, reference, chosen.subjects)
    note = "479 people of Mehrhof & Nord 2024"
    names = ("bias", "reward", "effort")
    rows = [
        *(
            (f"effort.{name}", fit.population[name].mean, "1", f"{words}{note}")
            for name, words in SHARED_PARAMETER_NOTES.items()
        ),
        ("effort.veto", veto, "1", "logit per e-fold; slope of bias on anhedonia, Mehrhof & Nord 2024"),
        ("effort.reference_rmtg", reference, "Hz", "typical healthy set point"),
        ("effort.latency", median, "s", note),
        ("effort.doubt", doubt, "1", note),
        ("effort.latency_spread", spread, "1", note),
        ("effort_population.depressed", depressed, "1", f"share of those in a depressive episode; {note}"),
    ]
    for i, name in enumerate(names):
        rows.append((f"effort_population.{name}", fit.population[name].mean, "1", note))
        rows.append((f"effort_population.{name}_spread", fit.population[name].sd, "1", note))
        for j in range(i + 1, len(names)):
            correlation = float(fit.correlation[i, j])
            rows.append((f"effort_population.{name}_{names[j]}", correlation, "1", f"correlation; {note}"))
    for name, value, unit, words in rows:
        print(f"{name:36} {value:8.4f} {unit}")
        constants.update_constants([constants.Constant(name, value, unit, "fitted", SCRIPT, words)], chosen.table)


if __name__ == "__main__":
    main()
