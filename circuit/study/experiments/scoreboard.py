"""The scoreboard: for every published figure, what the model gives when it is run as the publication ran its animals.

Nothing is fitted here, and nothing is moved towards its interval. What the model has no part for stays without a figure,
and `ABSENT` says why.
"""

import math
from collections.abc import Callable, Mapping

from ...data import evidence
from . import choices, courses, drugs, moments, sessions, slices
from .cohorts import Figures, Laboratory

Experiment = Callable[[Laboratory], Figures]

# What the command line says of each; a new row is added to one of them, or in an experiment of its own.
EXPERIMENTS: dict[str, Experiment] = {
    "transporters": drugs.transporters,
    "ketamine in plasma": drugs.ketamine_in_plasma,
    "ketamine at the channel": drugs.ketamine_at_the_channel,
    "firing modes": slices.modes,
    "conversion of modes": slices.conversion,
    "moments": moments.events,
    "conditioning": sessions.conditioning,
    "dopamine neurons": courses.dopamine_neurons,
    "without treatment": courses.without_treatment,
    "one dose of ketamine": courses.ketamine,
    "SSRI": courses.ssri,
    "stimulant": courses.stimulant,
    "synapses": courses.synapses,
    "effort for reward": choices.offers,
    "effort, habenula driven or silenced": choices.stimulation,
    "effort under treatment": choices.treatment,
}

# Rows without a figure, by the beginning of their names, and why they have none.
ABSENT = {
    "da.pause.gaba": "the GABA neurons of the RMTg and the VTA are one rate, not single neurons",
    "ket.halflife.mouse": "the kinetics of ketamine are those of people",
    "lhb.synch": "the neurons of a population are not coupled, so that nothing makes them fire together",
    "lhb.help.low": "no rule says from which loss of drive on an animal counts as helpless",
    "lhb.help.middle": "no rule says from which loss of drive on an animal counts as helpless",
    "lhb.help.high": "no rule says from which loss of drive on an animal counts as helpless",
    "effort.rmtg.liking": "liking follows serotonin alone, by assumption: a figure would only give that back",
    "ltp.stress.threshold": "potentiation has no threshold that a past stress could lower",
    "stim.partial": "no gain on average, which could saturate or spread",
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
    values: dict[str, float | None] = dict.fromkeys(row.id for row in evidence.load_evidence())
    for done, (name, experiment) in enumerate(EXPERIMENTS.items()):
        report(name, done, len(EXPERIMENTS))
        values |= measured(experiment, lab)
    report("done", len(EXPERIMENTS), len(EXPERIMENTS))
    return values


def absent(simulated: Mapping[str, float | None]) -> dict[str, str]:
    """By row that has no figure, why, as `ABSENT` has it; other rows have one unless the simulated subjects gave none."""
    because = lambda id: [why for begins, why in ABSENT.items() if id.startswith(begins)]
    return {
        row.id: [*because(row.id), "the simulated subjects gave none"][0]
        for row in evidence.load_evidence()
        if evidence.compare_with_evidence(row, simulated.get(row.id)) == "not modelled"
    }


def measured(experiment: Experiment, lab: Laboratory) -> dict[str, float | None]:
    """An experiment's figures as plain numbers; None where the subjects gave none, such as a half-time never reached.

    Raises:
        KeyError: an experiment returns what is no row of the evidence.
    """
    known = {row.id for row in evidence.load_evidence()}
    found = {id: float(value) for id, value in experiment(lab).items()}
    if unknown := set(found) - known:
        raise KeyError(f"no rows {sorted(unknown)} in {evidence.EVIDENCE_FILE.name}.")
    return {id: value if math.isfinite(value) else None for id, value in found.items()}
