"""Evidence from slices: the model's LHb neurons under the patch electrode, one neuron per lane.

In a slice each neuron is recorded alone, so every lane holds a single neuron of the population, with its own leak
reversal and threshold. Units: ms, mV, Hz; currents in uA/cm2.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ....kernels import Plan
from ...data import constants
from ...model import lateral_habenula as lhb
from ...model import lhb_population
from .cohorts import ExperimentCohorts, Figures

NEURONS, PATHS = 256, 8  # neurons of a slice, and noise paths over which figures are averaged
RECORDING_SECONDS = 6.0  # s, of each recording
NEURON_TILE = 2048  # neurons
RESTING_RANGE = (-60.0, -40.0)  # mV, the published range of resting potentials
HYPERPOLARISED_BELOW = -55.0  # mV, below which T-channels recover
TONIC_RANGE = (-50.0, -40.0)  # mV, where neurons fire tonically
CURRENT_STEPS = np.linspace(
    -1.0, 0.55, 4 * PATHS
)  # uA/cm2, steps through the electrode; as many recordings as in `measure_modes`

SliceRecording = dict[str, np.ndarray]


def measure_modes(lab: ExperimentCohorts) -> Figures:
    """Rows `lhb.rmp` to `lhb.rate`: firing modes in four slices with one noise.

    The slices are healthy, depressed (the fitted Kir4.1 shift and synaptic strength), and depressed without NMDA or
    without T-type current. Every figure is a mean over neurons and noise paths, or a ratio of two; potential and rate
    of bursting, which hold in any slice, are means over the bursting neurons of the first two.
    """
    shift, strength = (
        constants.constant_value("depression.kir_shift"),
        constants.constant_value("depression.excitation"),
    )
    slices = (
        {},
        {"kir_shift": shift, "excitation": strength},
        {"kir_shift": shift, "excitation": strength, "nmda": 0.0},
        {"kir_shift": shift, "excitation": strength, "t_channel": 0.0},
    )
    seen = record_neurons(slices, PATHS, lab)
    silent, tonic, bursting, rate = (seen[name].mean(axis=1) for name in ("silent", "tonic", "bursting", "rate"))
    bursts = np.nan_to_num(seen["burst_rate"]).mean(axis=1)
    potential = seen["potential"][0]
    return {
        "lhb.rmp": potential.mean(),
        "lhb.rmp.range": ((potential >= RESTING_RANGE[0]) & (potential <= RESTING_RANGE[1])).mean(),
        "lhb.modes.silent": silent[0],
        "lhb.modes.tonic": tonic[0],
        "lhb.modes.burst": bursting[0],
        "lhb.modes.dep": bursting[1] / bursting[0],
        "lhb.burst.v": np.nanmean(seen["burst_potential"][:2]),
        "lhb.burst.nmda": bursts[2] / bursts[1],
        "lhb.burst.t": bursts[3] / bursts[1],
        "lhb.burst.hz": np.nanmean(seen["burst_rate"][:2]),
        "lhb.rate.control": rate[0],
        "lhb.rate.depressed": rate[1],
        "lhb.rate.ratio": rate[1] / rate[0],
    }


def measure_conversion(lab: ExperimentCohorts) -> Figures:
    """Rows `lhb.convert`: every healthy neuron is held at a series of potentials by steps of current.

    Counted are neurons that burst at any step which holds their mean potential below -55 mV, as a share of all; and
    those that burst at any step which holds it between -50 and -40 mV, as a share of those that can be held there.
    """
    seen = record_neurons([{"current": current} for current in CURRENT_STEPS], 1, lab)
    potential, bursting = seen["potential"], seen["bursting"] > 0
    low, tonic = potential < HYPERPOLARISED_BELOW, (potential >= TONIC_RANGE[0]) & (potential <= TONIC_RANGE[1])
    return {
        "lhb.convert.hyperpolarised": (bursting & low).any(axis=0).mean(),
        "lhb.convert.tonic": (bursting & tonic).any(axis=0).sum() / tonic.any(axis=0).sum(),
    }


def record_neurons(slices: Sequence[dict[str, float]], paths: int, lab: ExperimentCohorts) -> SliceRecording:
    """Firing modes of each neuron in each slice: arrays (slice, path and neuron); all slices see the same noise.

    Args:
        slices: what is changed in each, by names of fields of `lateral_habenula.Conditions`.
        paths: noise paths, each of which every neuron lives.
        lab: whose seed names the noise.
    """
    each = NEURONS * paths
    p = lhb.neuron_constants()
    cells = lhb.heterogeneity_quadrature(p, NEURONS)
    tiled = lambda value: jnp.tile(value[:, 0], len(slices) * paths)[None]
    which = lambda p: (p.leak_reversal, p.spike_threshold, p.leak_reversal_spread, p.spike_threshold_spread)
    none = jnp.zeros(())  # the spread over neurons is that over lanes
    alone = eqx.tree_at(which, p, (tiled(cells.leak_reversal), tiled(cells.spike_threshold), none, none))
    changed = {name for changes in slices for name in changes}
    healthy = {name: float(getattr(lhb.slice_conditions(1), name)[0]) for name in changed}
    given = {
        name: np.repeat([changes.get(name, healthy[name]) for changes in slices], each).astype(np.float32)
        for name in changed
    }
    found = lhb_population.simulate_population(
        alone,
        lhb.slice_conditions(len(slices) * each, **given),
        neurons=1,
        seconds=RECORDING_SECONDS,
        seed=lab.seed,
        subjects=jnp.tile(jnp.arange(each, dtype=jnp.uint32), len(slices)),
        plan=Plan(tile=NEURON_TILE, devices=lab.devices),
    )
    return {name: np.asarray(value).reshape(len(slices), each) for name, value in vars(found.modes).items()}
