"""What a trial and the evidence scoreboard return: plain data, ready for tables, figures and files."""

import dataclasses

import numpy as np

# Recorded quantities that are shown relative to the mean of the healthy cohort.
RELATIVE_QUANTITIES = ("vta_output", "active", "rate", "dopamine", "drive", "liking", "mood")


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """One arm of a trial; means over subjects at each record.

    Attributes:
        name: as given to `--arms`.
        day: of each record, from 0 (before the first dose).
        mean: by quantity; relative to the healthy cohort but for `burst`, a share of neurons.
        vta_low, vta_high: 95 % interval of the mean VTA output over subjects.
        restored: share of subjects whose VTA output is at least 90 % of the healthy mean.
    """

    name: str
    day: np.ndarray
    mean: dict[str, np.ndarray]
    vta_low: np.ndarray
    vta_high: np.ndarray
    restored: np.ndarray

    def at(self, day: float) -> int:
        """Index of the record nearest to `day`."""
        return int(np.argmin(np.abs(self.day - day)))


@dataclasses.dataclass(frozen=True)
class ClaimResult:
    """Something that the trial shows, as a number.

    Attributes:
        name: short identifier.
        sentence: what is measured, in words that a clinician understands.
        value: the number.
        expected: what the claim says of it, in words, such as "over 0.5".
        holds: whether it does.
    """

    name: str
    sentence: str
    value: float
    expected: str
    holds: bool


@dataclasses.dataclass(frozen=True)
class RestoredRegimen:
    """A regimen found by gradient.

    Attributes:
        name: of the regimen.
        target: VTA output asked for, relative to health.
        before: cohort mean without the regimen, over the window that is judged.
        after: cohort mean under the fitted regimen.
        fitted: by leaf, its values.
        starts: cohort mean reached from each start.
        status: "reached", or why not.
        reason: in a sentence.
    """

    name: str
    target: float
    before: float
    after: float
    fitted: dict[str, list[float]]
    starts: list[float]
    status: str
    reason: str


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """A whole trial: `arms` and `restore` by name, `claims` in order, `provenance` (versions, seed, subjects, times)."""

    arms: dict[str, ArmResult]
    claims: list[ClaimResult]
    restore: dict[str, RestoredRegimen]
    provenance: dict[str, object]

    def to_json(self) -> dict:
        """Plain lists and numbers, in the documented keys; see the README."""
        numbers = lambda values: [round(float(value), 6) for value in values]
        arms = {
            name: {"day": numbers(arm.day)}
            | {quantity: numbers(values) for quantity, values in arm.mean.items()}
            | {"vta_low": numbers(arm.vta_low), "vta_high": numbers(arm.vta_high), "restored": numbers(arm.restored)}
            for name, arm in self.arms.items()
        }
        return {
            "arms": arms,
            "claims": [dataclasses.asdict(claim) for claim in self.claims],
            "restore": {
                name: {key: value for key, value in dataclasses.asdict(found).items() if key != "name"}
                for name, found in self.restore.items()
            },
            "provenance": self.provenance,
        }
