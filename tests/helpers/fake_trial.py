"""A trial with invented numbers, for tests of what is shown: tables, figures, files."""

import numpy as np

from habenula.circuit.study.reporting import labels
from habenula.circuit.study.reporting.results import ArmResult, ClaimResult, RestoredRegimen, TrialResult


def arm(name: str, weeks: int) -> ArmResult:
    """Records every 4 h; each arm rises from 0.54 to a level of its own."""
    day = np.arange(0, weeks * 7 * 24 + 1, 4) / 24
    level = 0.05 * list(labels.ARM_LABELS).index(name)
    output = 0.54 + level * (1 - np.exp(-day / 7))
    mean = {"vta_output": output, "active": 0.9 * output, "rate": np.ones_like(day), "dopamine": 1.1 * output}
    mean |= {"drive": 0.3 + 0.7 * output, "liking": 0.97 + 0 * day, "mood": 0.4 + 0.5 * output, "burst": 0.2 + 0 * day}
    half = 0.01 + 0.02 * (output - 0.54)
    return ArmResult(name, day, mean, output - half, output + half, np.clip(2 * (output - 0.6), 0, 1))


CLAIMS = [
    ClaimResult("ssri.output", "SSRI: VTA output over placebo, worst of all weeks", 1.04, "0.9 to 1.1", True),
    ClaimResult(
        "made.up", "a claim that does not hold, in a sentence so long that it has to be wrapped", 0.2, "over 0.5", False
    ),
]
RESTORE = {
    "recalibration": RestoredRegimen(
        "recalibration",
        1.0,
        0.55,
        0.99,
        {"intensity": [1.2] * 18},
        [0.99, 1.0, 0.7],
        "reached",
        "within 2 % of the target",
    ),
    "ketamine": RestoredRegimen(
        "ketamine", 1.0, 0.54, 0.86, {"mg_per_kg": [1.0] * 8}, [0.85, 0.86], "bounded", "at its bound"
    ),
}


def trial(weeks: int = 12, arms: list[str] | None = None, fitted: bool = True) -> TrialResult:
    """The whole of it."""
    found = {name: arm(name, weeks) for name in arms or labels.ARM_LABELS}
    return TrialResult(found, CLAIMS, RESTORE if fitted else {}, {"seed": 1, "subjects": 1024, "weeks": weeks})
