"""The scoreboard: for every published figure, what the model gives when it is run as the publication ran its animals.

Nothing is fitted here, and nothing is moved towards its interval. What the model has no part for stays without a figure,
and `ABSENCE_REASONS` says why.
"""

import math
from collections.abc import Callable, Mapping

from ...data import evidence
from . import choices, courses, drugs, moments, sessions, slices
from .cohorts import ExperimentCohorts, Figures

Experiment = Callable[[ExperimentCohorts], Figures]

# What the command line says of each; a new row is added to one of them, or in an experiment of its own.
EXPERIMENTS: dict[str, Experiment] = {
    "transporters": drugs.measure_transporters,
    "ketamine in plasma": drugs.measure_ketamine_in_plasma,
    "ketamine at the channel": drugs.measure_channel_block,
    "firing modes": slices.measure_modes,
    "conversion of modes": slices.measure_conversion,
    "moments": moments.measure_events,
    "conditioning": sessions.measure_conditioning,
    "dopamine neurons": courses.measure_dopamine_neurons,
    "without treatment": courses.measure_untreated,
    "one dose of ketamine": courses.measure_ketamine,
    "SSRI": courses.measure_ssri,
    "stimulant": courses.measure_stimulant,
    "synapses": courses.measure_synapses,
    "effort for reward": choices.measure_offers,
    "effort, habenula driven or silenced": choices.measure_stimulation,
    "effort under treatment": choices.measure_treatment,
}

# Rows without a figure, by the beginning of their names, and why they have none.
ABSENCE_REASONS = {
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


def simulate_scores(
    seed: int = 0, report: Callable[[str, int, int], None] | None = None, devices: int = 1
) -> dict[str, float | None]:
    """By row of the evidence and in its order: the simulated value in the row's unit, None where nothing is modelled.

    Args:
        seed: names subjects and noise.
        report: called as `report(experiment, done, total)` before each experiment and at the end.
        devices: over how many devices subjects are divided.
    """
    lab = ExperimentCohorts(seed, devices)
    report = report or (lambda experiment, done, total: None)
    values: dict[str, float | None] = dict.fromkeys(row.id for row in evidence.load_evidence())
    for done, (name, experiment) in enumerate(EXPERIMENTS.items()):
        report(name, done, len(EXPERIMENTS))
        values |= run_experiment(experiment, lab)
    report("done", len(EXPERIMENTS), len(EXPERIMENTS))
    return values


def explain_absences(simulated: Mapping[str, float | None]) -> dict[str, str]:
    """The reason (`ABSENCE_REASONS`) for every row without a simulated figure; the rest had no subject that gave one."""
    because = lambda id: [why for begins, why in ABSENCE_REASONS.items() if id.startswith(begins)]
    return {
        row.id: [*because(row.id), "the simulated subjects gave none"][0]
        for row in evidence.load_evidence()
        if evidence.compare_with_evidence(row, simulated.get(row.id)) == "not modelled"
    }


def run_experiment(experiment: Experiment, lab: ExperimentCohorts) -> dict[str, float | None]:
    """An experiment's figures as plain numbers; None where the subjects gave none, such as a half-time never reached.

    Raises:
        KeyError: an experiment returns what is no row of the evidence.
    """
    known = {row.id for row in evidence.load_evidence()}
    found = {id: float(value) for id, value in experiment(lab).items()}
    if unknown := set(found) - known:
        raise KeyError(f"no rows {sorted(unknown)} in {evidence.EVIDENCE_FILE.name}.")
    return {id: value if math.isfinite(value) else None for id, value in found.items()}
