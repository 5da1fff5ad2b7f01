"""The work that all engines do, and what it means that two of them did the same.

A population of LHb neurons per subject, alone: the equations, the scheme and the step of `lateral_habenula.step`, from rest,
in single precision. Nothing is stored but three numbers a subject, streamed:

    output_mean, output_variance    over steps, of S = lateral_habenula.output(rates) (Hz, Hz2)
    potential_mean                  over steps and neurons, of V (mV)
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

DT = 0.25  # ms
STATISTICS = ("output_mean", "output_variance", "potential_mean")
CLOSE = {"output_mean": 0.03, "output_variance": 0.05, "potential_mean": 0.01}  # relative, of the mean over subjects
ERRORS = 4.0  # standard errors
EXACT = 1e-3  # relative, of every subject, without noise
ROUNDING = 1e-4  # relative: differences below are those of single precision, however small their standard error

Found = dict[str, np.ndarray]


@dataclass(frozen=True)
class Workload:
    """How much of it.

    Attributes:
        subjects: lanes, each under its own conditions.
        neurons: per subject.
        steps: of 0.25 ms.
        seed: names the noise; every engine has its own generator.
        noisy: without, all engines must find the same numbers to rounding.
    """

    subjects: int = 1024
    neurons: int = 32
    steps: int = 2000
    seed: int = 1
    noisy: bool = True

    @property
    def neuron_steps(self) -> int:
        """Steps of single neurons, the unit of work."""
        return self.subjects * self.neurons * self.steps


class Constants(NamedTuple):
    """The numbers of a workload, as float32 NumPy arrays.

    Attributes:
        neuron: fields of `lateral_habenula.Neuron` by name, in order.
        leak_reversal, spike_threshold: (neurons,) mV.
        conditions: fields of `lateral_habenula.Conditions` by name, in order, each (subjects,).
    """

    neuron: dict[str, np.float32]
    leak_reversal: np.ndarray
    spike_threshold: np.ndarray
    conditions: dict[str, np.ndarray]


def model(workload: Workload):
    """The same numbers as the package holds them: (Neuron, Cells, Conditions).

    Depressed subjects from mild to severe: most neurons of the severe ones burst.
    """
    import equinox as eqx
    import jax.numpy as jnp

    from habenula.circuit.model import lateral_habenula as lhb

    p = lhb.neuron_constants()
    if not workload.noisy:
        p = eqx.tree_at(lambda p: p.noise, p, jnp.zeros_like(p.noise))
    severity = np.linspace(0.0, 1.0, workload.subjects, dtype=np.float32)
    given = lhb.slice_conditions(workload.subjects, excitation=1.4 + 0.6 * severity, kir_shift=-4.0 * severity)
    return p, lhb.heterogeneity_quadrature(p, workload.neurons), given


def constants(workload: Workload) -> Constants:
    """The numbers for engines that are not JAX."""
    p, cells, given = model(workload)
    number = lambda tree: {name: np.array(value, np.float32) for name, value in vars(tree).items()}
    return Constants(
        {name: np.float32(value) for name, value in number(p).items()},
        number(cells)["leak_reversal"][:, 0],
        number(cells)["spike_threshold"][:, 0],
        number(given),
    )


class Verdict(NamedTuple):
    """Whether a rival did the same work.

    Attributes:
        equal: it did.
        worst: the largest distance found, in standard errors (or, without noise, relative).
        what: a sentence about it.
    """

    equal: bool
    worst: float
    what: str


def compare(ours: Found, theirs: Found) -> Verdict:
    """Noisy runs: means over subjects within 4 standard errors of their difference, and within a few per cent.

    Subject i has the same conditions in both, so that the error is that of the mean of differences, subject by subject.
    """
    worst, words, equal = 0.0, [], True
    for name in STATISTICS:
        difference = np.asarray(theirs[name], np.float64) - np.asarray(ours[name], np.float64)
        scale = abs(np.mean(ours[name], dtype=np.float64))
        error = np.std(difference, ddof=1) / np.sqrt(difference.size)
        z = abs(difference.mean()) / np.hypot(error, ROUNDING * scale / ERRORS)
        share = abs(difference.mean()) / scale
        good = bool(z < ERRORS and share < CLOSE[name])  # nothing compares with NaN
        equal, worst = equal and good, max(worst, float(z) if np.isfinite(z) else np.inf)
        words.append(f"{name} {share:.2%}, {z:.1f} standard errors{'' if good else ' (!)'}")
    return Verdict(equal, worst, "; ".join(words))


def compare_exact(ours: Found, theirs: Found) -> Verdict:
    """Runs without noise: every subject's numbers within 0.1 % of the largest. A wrong scheme or step shows here."""
    worst, words = 0.0, []
    for name in STATISTICS:
        difference = np.abs(np.asarray(theirs[name], np.float64) - np.asarray(ours[name], np.float64))
        share = float(np.max(difference) / np.max(np.abs(ours[name])))
        worst = max(worst, share if np.isfinite(share) else np.inf)
        words.append(f"{name} {share:.1e}")
    return Verdict(worst < EXACT, worst, "without noise: " + "; ".join(words))


def without_noise(workload: Workload) -> Workload:
    """A small run of the same kind that is the same in every engine."""
    return replace(workload, subjects=min(workload.subjects, 32), steps=min(workload.steps, 800), noisy=False)
