"""The scoreboard: for every published figure, what the model gives when it is run as the publication ran its animals.

Nothing is fitted here, and nothing is moved towards its interval. What the model has no part for stays without a
figure: choices of animals (`effort`, but for people's, and `lhb.help` but for its correlation), synchrony, for the neurons
of a population are not coupled, single GABA neurons, a threshold of potentiation, and the kinetics of ketamine in mice.
Nor are two rows on people asked that would only give back how the circuit was made to enter choices: the slope of the
bias on anhedonia was fitted to, and that the weights are moved less is the form (`calibration.effort`).
"""

import math
from collections.abc import Callable

from .. import evidence
from . import measure_choices, measure_courses, measure_drugs, measure_moments, measure_sessions, measure_slices
from .laboratory import Figures, Laboratory

Experiment = Callable[[Laboratory], Figures]

# What the command line says of each; a new row is added to one of them, or in an experiment of its own.
EXPERIMENTS: dict[str, Experiment] = {
    "transporters": measure_drugs.transporters,
    "ketamine in plasma": measure_drugs.ketamine_in_plasma,
    "ketamine at the channel": measure_drugs.ketamine_at_the_channel,
    "firing modes": measure_slices.modes,
    "conversion of modes": measure_slices.conversion,
    "moments": measure_moments.events,
    "conditioning": measure_sessions.conditioning,
    "dopamine neurons": measure_courses.dopamine_neurons,
    "without treatment": measure_courses.without_treatment,
    "one dose of ketamine": measure_courses.ketamine,
    "SSRI": measure_courses.ssri,
    "stimulant": measure_courses.stimulant,
    "synapses": measure_courses.synapses,
    "effort for reward": measure_choices.offers,
}


def score(
    seed: int = 0, report: Callable[[str, int, int], None] | None = None, devices: int = 1
) -> dict[str, float | None]:
    """By row of the evidence and in its order: the simulated value in the row's unit, None where nothing is modelled.

    Args:
        seed: names subjects and noise.
        report: called as `report(experiment, done, total)` before each experiment and at the end.
        devices: over how many devices subjects are divided.
    """
    lab = Laboratory(seed, devices)
    report = report or (lambda experiment, done, total: None)
    values: dict[str, float | None] = dict.fromkeys(row.id for row in evidence.rows())
    for done, (name, experiment) in enumerate(EXPERIMENTS.items()):
        report(name, done, len(EXPERIMENTS))
        values |= measured(experiment, lab)
    report("done", len(EXPERIMENTS), len(EXPERIMENTS))
    return values


def measured(experiment: Experiment, lab: Laboratory) -> dict[str, float | None]:
    """An experiment's figures as plain numbers; None where the subjects gave none, such as a half-time never reached.

    Raises:
        KeyError: an experiment returns what is no row of the evidence.
    """
    known = {row.id for row in evidence.rows()}
    found = {id: float(value) for id, value in experiment(lab).items()}
    if unknown := set(found) - known:
        raise KeyError(f"no rows {sorted(unknown)} in {evidence.FILE.name}.")
    return {id: value if math.isfinite(value) else None for id, value in found.items()}
