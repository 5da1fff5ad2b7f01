"""Fit the LHb neuron to the slice recordings (rows lhb.* of the evidence that are marked calibrate).

    python -m habenula.circuit.calibration.lateral_habenula [--generations 60] [--devices 2] [--depression]

Differential evolution (Storn & Price 1997) over the membrane constants of the neuron and over what depression does to it
(Kir4.1 shift and synaptic strength, the two published routes: Cui 2018, Li 2011). Every candidate lives as four lanes with
one noise: healthy, depressed, depressed without NMDA current, depressed without T-current. Rows marked check are not used.

What depression does is then settled on a grid, over several noise paths, by the ratios to health that the rows state; the
neuron, and so the transfer function, stays as it is. `--depression` does this alone.
"""

import time
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ...kernels import Plan
from ..data import constants
from ..model import lateral_habenula as lhb
from ..model import lhb_population
from .options import make_parser

SCRIPT = "habenula.circuit.calibration.lateral_habenula"
CONSTANTS_SECTION = "lateral_habenula"

# name: (lower bound, upper bound, unit)
NEURON_BOUNDS = {
    "leak_conductance": (0.03, 0.07, "mS/cm2"),
    "leak_reversal": (-58.0, -51.0, "mV"),
    "leak_reversal_spread": (3.0, 7.0, "mV"),
    "spike_threshold": (-36.0, -27.0, "mV"),
    "spike_threshold_spread": (3.5, 7.0, "mV"),
    "spike_slope": (1.8, 4.0, "mV"),
    "t_conductance": (0.06, 0.16, "mS/cm2"),
    "t_activation_half": (-54.0, -47.0, "mV"),
    "t_activation_slope": (3.5, 6.0, "mV"),
    "t_availability_half": (-66.0, -57.0, "mV"),
    "t_availability_slope": (2.0, 5.0, "mV"),
    "t_recovery_fast": (8.0, 25.0, "ms"),
    "t_recovery_slow": (30.0, 130.0, "ms"),
    "ampa_conductance": (0.0005, 0.004, "mS/cm2"),
    "nmda_conductance": (0.02, 0.06, "mS/cm2"),
    "afterhyperpolarisation_conductance": (0.1, 0.5, "mS/cm2"),
    "afterhyperpolarisation_time": (20.0, 80.0, "ms"),
    "noise": (0.04, 0.2, "uA/cm2"),
}
DEPRESSION_BOUNDS = {"kir_shift": (-8.0, -3.0, "mV"), "excitation": (1.5, 2.2, "1")}
PARAMETER_NAMES = (*NEURON_BOUNDS, *DEPRESSION_BOUNDS)
HEALTHY_LANE, DEPRESSED_LANE, WITHOUT_NMDA_LANE, WITHOUT_T_LANE = range(4)

# What is asked of which lane: quantity, lane, interval, tolerance beyond it. The intervals lie within the evidence's, by
# about the error that a run of other length and seed makes.
FIRING_TARGETS = (
    ("silent", HEALTHY_LANE, 0.42, 0.48, 0.03),
    ("tonic", HEALTHY_LANE, 0.42, 0.48, 0.03),
    ("bursting", HEALTHY_LANE, 0.075, 0.09, 0.01),
    ("bursting", DEPRESSED_LANE, 0.18, 0.23, 0.03),
    ("rate", HEALTHY_LANE, 0.8, 1.1, 0.12),
    ("rate", DEPRESSED_LANE, 2.4, 3.6, 0.3),
    ("potential", HEALTHY_LANE, -49.0, -47.0, 0.7),
    ("burst_potential", HEALTHY_LANE, -62.0, -58.0, 1.0),
    ("burst_potential", DEPRESSED_LANE, -62.0, -58.5, 1.0),
    ("burst_rate", HEALTHY_LANE, 4.5, 8.0, 0.6),
    ("burst_rate", DEPRESSED_LANE, 5.5, 8.0, 0.6),
    ("bursting", WITHOUT_NMDA_LANE, 0.0, 0.006, 0.01),
    ("bursting", WITHOUT_T_LANE, 0.0, 0.006, 0.01),
)


def candidate_neurons(candidates: np.ndarray, copies: int = 1) -> lhb.Neuron:
    """The neurons of `candidates` (constants, candidates), each repeated for `copies` conditions, as (1, lanes) leaves."""
    tiled = jnp.asarray(np.tile(candidates, (1, copies)), jnp.float32)
    per_lane = {name: tiled[i][None] for i, name in enumerate(NEURON_BOUNDS)}
    facilitation = constants.constant_value(f"{CONSTANTS_SECTION}.burst_facilitation")
    return lhb.Neuron(**per_lane, burst_facilitation=jnp.full((1, tiled.shape[1]), facilitation, tiled.dtype))


def simulate_candidates(
    candidates: np.ndarray, neurons: int, seconds: float, plan: Plan, seed: int = 0
) -> dict[str, np.ndarray]:
    """Firing modes of each candidate in the four lanes: arrays (4, candidates)."""
    shift, strength = candidates[len(NEURON_BOUNDS)], candidates[len(NEURON_BOUNDS) + 1]
    zero, one = np.zeros_like(shift), np.ones_like(shift)
    given = lhb.slice_conditions(
        4 * len(one),
        excitation=np.concatenate([one, strength, strength, strength]),
        kir_shift=np.concatenate([zero, shift, shift, shift]),
        nmda=np.concatenate([one, one, zero, one]),
        t_channel=np.concatenate([one, one, one, zero]),
    )
    found = lhb_population.simulate_population(
        candidate_neurons(candidates, 4), given, neurons=neurons, seconds=seconds, settle=1.0, seed=seed, plan=plan
    )
    return {name: np.asarray(value).reshape(4, -1) for name, value in vars(found.modes).items()}


def firing_loss(found: dict[str, np.ndarray]) -> np.ndarray:
    """Squared distance from each interval in units of its tolerance, with a slight pull to its middle."""
    total = np.zeros(found["rate"].shape[1])
    for quantity, lane, low, high, tolerance in FIRING_TARGETS:
        middle = (low + high) / 2
        value = np.nan_to_num(found[quantity][lane], nan=middle + 10 * tolerance)  # no cell bursts
        beyond = np.maximum(0, np.maximum(low - value, value - high)) / tolerance
        total = total + beyond**2 + 0.02 * ((value - middle) / tolerance) ** 2
    return total


def fit_neuron(generations: int, plan: Plan, neurons: int = 256, seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """The best constants found; begins from those in the table."""
    from scipy.optimize import differential_evolution

    begin, began = _table_values(), time.time()

    def report(intermediate_result):
        best = intermediate_result
        print(f"generation {best.nit:3d}  loss {best.fun:.3f}  {time.time() - began:.0f} s", flush=True)

    return differential_evolution(
        lambda candidates: firing_loss(simulate_candidates(candidates, neurons, seconds, plan)),
        [(low, high) for low, high, _ in (NEURON_BOUNDS | DEPRESSION_BOUNDS).values()],
        x0=begin,
        vectorized=True,
        updating="deferred",
        popsize=3,
        maxiter=generations,
        mutation=(0.3, 0.8),
        recombination=0.8,
        polish=False,
        tol=0,
        rng=seed,
        callback=report,
    ).x


def _table_values() -> np.ndarray:
    """The constants in the table."""
    known = {constant.name: constant.value for constant in constants.load_constants()}
    return np.array(
        [known[f"{CONSTANTS_SECTION if name in NEURON_BOUNDS else 'depression'}.{name}"] for name in PARAMETER_NAMES]
    )


# Depressed over healthy, and the interval that is asked for.
RATIO_TARGETS = (("bursting", 2.2, 2.7, 0.1), ("rate", 2.1, 4.8, 0.1))
NOISE_PATHS = 6  # noise paths, whose mean settles the grid


def fit_depression(
    best: np.ndarray, plan: Plan, neurons: int = 256, seconds: float = 3.0, paths: int = NOISE_PATHS
) -> np.ndarray:
    """`best` with the Kir4.1 shift and the strength that meet the targets and the ratios, on a grid within their bounds."""
    shifts, strengths = (np.linspace(low, high, 9) for low, high, _ in DEPRESSION_BOUNDS.values())
    grid = np.array([(shift, strength) for shift in shifts for strength in strengths]).T
    candidates = np.concatenate([np.repeat(best[: len(NEURON_BOUNDS), None], grid.shape[1], axis=1), grid])
    modes = [simulate_candidates(candidates, neurons, seconds, plan, seed) for seed in range(paths)]
    found = {name: np.mean([path[name] for path in modes], axis=0) for name in modes[0]}
    total = firing_loss(found)
    for quantity, low, high, tolerance in RATIO_TARGETS:
        with np.errstate(divide="ignore", invalid="ignore"):  # no healthy neuron may burst in a short run
            value = np.nan_to_num(found[quantity][DEPRESSED_LANE] / found[quantity][HEALTHY_LANE], posinf=1e6)
        total = total + (np.maximum(0, np.maximum(low - value, value - high)) / tolerance) ** 2
    return candidates[:, np.argmin(total)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, print what the constants give on a longer run with other noise, and write them to the table."""
    parser = make_parser(SCRIPT, "Fit the LHb neuron to slice recordings.")
    parser.add_argument("--generations", type=int, default=60)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--depression", action="store_true", help="keep the neuron, fit what depression does to it")
    parser.add_argument("--neurons", type=int, default=256, help="of each candidate")
    parser.add_argument("--seconds", type=float, default=3.0, help="simulated of each candidate")
    parser.add_argument("--paths", type=int, default=NOISE_PATHS, help="noise paths, whose mean settles the grid")
    parser.add_argument("--check-seconds", type=float, default=10.0, help="of the longer run that is printed")
    chosen = parser.parse_args(arguments)
    plan, effort = Plan(tile=32, devices=chosen.devices), (chosen.neurons, chosen.seconds)
    best = _table_values() if chosen.depression else fit_neuron(chosen.generations, plan, *effort)
    best = fit_depression(best, plan, *effort, chosen.paths)
    best = np.array([float(f"{value:.5g}") for value in best])  # what the table will say
    found = simulate_candidates(best[:, None], 2 * chosen.neurons, chosen.check_seconds, Plan(tile=16), seed=1)
    for name, values in found.items():
        print(f"{name:16s}", "  ".join(f"{value:8.3f}" for value in values[:, 0]))
    units = {name: unit for name, (_, _, unit) in (NEURON_BOUNDS | DEPRESSION_BOUNDS).items()}
    section = lambda name: CONSTANTS_SECTION if name in NEURON_BOUNDS else "depression"
    rows = [
        constants.Constant(f"{section(name)}.{name}", float(value), units[name], "fitted", SCRIPT)
        for name, value in zip(PARAMETER_NAMES, best, strict=True)
    ]
    constants.update_constants(rows, chosen.table)


if __name__ == "__main__":
    main()
