"""LHb populations under constant conditions: what the calibration, the transfer function and its verification measure."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt

from ...kernels import Maximum, Mean, Plan, entry_point, integrate
from . import lateral_habenula as lhb

FAST_STEP = 0.25  # ms, the fast clock's step


class LHbActivity(eqx.Module):
    """Mean activity of each lane's population over the time that was observed.

    Attributes:
        modes: firing modes, see `lateral_habenula.Modes`.
        output: Hz. Drive of the RMTg, S.
        coincidence: pure number, see `lateral_habenula.coincidence`.
    """

    modes: lhb.FiringModes
    output: Float[Array, " subject"]
    coincidence: Float[Array, " subject"]


def simulate_population(
    p: lhb.Neuron,
    given: lhb.NeuronConditions,
    *,
    neurons: int = 128,
    seconds: float = 6.0,
    settle: float = 1.0,
    seed: int = 0,
    subjects: UInt[Array, " subject"] | None = None,
    plan: Plan | None = None,
) -> LHbActivity:
    """Simulate every lane from rest for `settle` seconds, then observe it for `seconds`.

    Args:
        p: constants of the neuron, scalars or (1, lanes).
        given: conditions of each lane.
        neurons: neurons per lane.
        seconds: s, observed.
        settle: s, left out at the beginning.
        seed: names the noise.
        subjects: noise path of each lane; all lanes share path 0 if not given, so that they differ in conditions alone.
        plan: how to use the hardware.

    Raises:
        ValueError: no neurons, or no time to observe.
    """
    if neurons < 1 or seconds <= 0 or settle < 0:
        raise ValueError(f"{neurons=}, {seconds=} and {settle=} must be at least 1, above 0 and at least 0.")
    lanes = given.excitation.shape[-1]
    subjects = jnp.zeros(lanes, jnp.uint32) if subjects is None else subjects
    return _simulate_population(
        p,
        given,
        subjects,
        neurons,
        _step_count(settle),
        _step_count(seconds),
        jnp.uint32(seed),
        plan or make_population_plan(neurons),
    )


def make_population_plan(neurons: int, devices: int = 1) -> Plan:
    """Tiles of about 2,048 neurons, which stay in the second-level cache; and long blocks, which derivatives keep fewer of."""
    return Plan(tile=max(2048 // neurons, 16), block=128, devices=devices)


def _step_count(seconds: float) -> int:
    return round(seconds * 1000 / FAST_STEP / 32) * 32  # whole blocks of noise


@entry_point
def _simulate_population(p, given, subjects, neurons, settle, steps, seed, plan):
    per_lane, common = eqx.partition(p, lambda leaf: leaf.ndim > 0)
    cells = lhb.heterogeneity_quadrature(p, neurons)
    own_cells, common_cells = eqx.partition(
        cells, lambda leaf: leaf.shape[-1] == subjects.shape[-1] and leaf.shape[-1] > 1
    )
    own, shared = (given, per_lane, own_cells), (common, common_cells)

    def step(state, shared, own, inputs, z, j):
        given, p, cells = own[0], eqx.combine(own[1], shared[0]), eqx.combine(own[2], shared[1])
        after = lhb.step_neurons(state, given, z, p, cells, FAST_STEP)
        r = after.rate
        onset = (r > lhb.BURST_ONSET_RATE) & (state.rate <= lhb.BURST_ONSET_RATE)
        return after, (r, onset.astype(r.dtype), lhb.habenula_output(r, p), lhb.release_coincidence(after.potential, r))

    run = lambda state, steps, start, statistics: integrate(
        step,
        state,
        steps=steps,
        start=start,
        per_subject=own,
        shared=shared,
        seed=seed,
        subjects=subjects,
        channels=neurons,
        statistics=statistics,
        plan=plan,
    )
    state = (
        run(lhb.resting_neuron_state(p, cells, given), settle, 0, None).state
        if settle
        else lhb.resting_neuron_state(p, cells, given)
    )
    observed = run(
        state,
        steps,
        settle,
        {
            "rate": (Mean(), lambda state, out: out[0]),
            "peak": (Maximum(), lambda state, out: out[0]),
            "onset": (Mean(), lambda state, out: out[1]),
            "potential": (Mean(), lambda state, out: state.potential),
            "output": (Mean(), lambda state, out: out[2]),
            "coincidence": (Mean(), lambda state, out: out[3]),
        },
    ).statistics
    modes = lhb.classify_modes(
        observed["rate"], observed["peak"], observed["onset"] * 1000 / FAST_STEP, observed["potential"]
    )
    return LHbActivity(modes, observed["output"], observed["coincidence"])
