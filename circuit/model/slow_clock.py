"""The slow clock: one subject-hour at a time, from synapses to mood.

`circuit_activity` reads the circuit in the order of the signal: synapses, habenula, RMTg, dopamine neurons,
accumbens. `compute_relaxations` says
where every slow state tends and how fast; `step_slow_clock` goes there for an hour.

Units: hours, Hz, uM, mV. Lanes (subjects) are the last axis.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...kernels import Plan, exponential_step, ornstein_uhlenbeck
from . import dopamine as da
from . import lateral_habenula as lhb
from . import motivation, plasticity
from .parameters import Parameters
from .plasticity import Relaxation
from .transfer_function import TransferFunction, evaluate_transfer
from .trapping_block import LOOKUP_COUNT, advance_block, interpolate_open_share, lookup_spacing, steady_block_and_rate

Lane = Float[Array, " subject"]
LaneOrScalar = Float[Array, "*#subject"]

SLOW_STEP = 1.0  # h, the slow clock's step
DEFAULT_PLAN = Plan(
    tile=64
)  # 8 KiB for each layer of the transfer function, so that a step stays in the first-level cache
QUICK_COMPILE_PLAN = Plan(backend="scan", block=12)  # compiles in a third of the time; derivatives may be batched


class SlowState(eqx.Module):
    """Where a subject is now, on the scale of hours to months.

    Attributes:
        release: presynaptic excitatory release, 1 in health.
        gain: postsynaptic excitatory gain, 1 in health.
        inhibition: inhibitory strength, 1 in health.
        kir_shift: mV. Hyperpolarisation of LHb neurons by Kir4.1, 0 in health.
        control: prefrontal control, 1 in health.
        aversion: fluctuation of everyday aversive input around its mean.
        block: share of NMDA channels that hold ketamine.
        adaptation: desensitisation of serotonin autoreceptors, 0 to 1.
        mood: 1 in health.
    """

    release: Lane
    gain: Lane
    inhibition: Lane
    kir_shift: Lane
    control: Lane
    aversion: Lane
    block: Lane
    adaptation: Lane
    mood: Lane


class SlowInputs(eqx.Module):
    """What happens to a subject in an hour; None where an arm never does it.

    Attributes:
        stress: severity, 1 the full chronic-stress protocol.
        expectation: what a placebo promises, in units of mood.
        ketamine: uM. Plasma concentration, means over equal parts of the hour along an axis of their own.
        dat: occupancy of dopamine transporters.
        sert: occupancy of serotonin transporters.
        session: share of the hour spent in a recalibration session.
        intensity: intensity of the session times that share.
        challenge: afferent drive that the session adds to the habenula, 0 at rest.
    """

    stress: Float[Array, "..."] | None = None
    expectation: Float[Array, "..."] | None = None
    ketamine: Float[Array, "..."] | None = None
    dat: Float[Array, "..."] | None = None
    sert: Float[Array, "..."] | None = None
    session: Float[Array, "..."] | None = None
    intensity: Float[Array, "..."] | None = None
    challenge: Float[Array, "..."] | None = None


class SlowActivity(eqx.Module):
    """The circuit's activity over an hour.

    Attributes:
        excitation: synaptic strength times afferent drive.
        habenula: Hz. LHb output S.
        rmtg: Hz. Rate of the RMTg.
        bursting: share of LHb neurons that burst.
        open_share: share of the time that an NMDA channel is open.
        number: share of dopamine neurons that are active.
        rate: Hz. Firing rate of the active ones.
        output: Hz. VTA output, number times rate.
        dopamine: uM. Accumbens dopamine.
    """

    excitation: Lane
    habenula: Lane
    rmtg: Lane
    bursting: Lane
    open_share: Lane
    number: Lane
    rate: Lane
    output: Lane
    dopamine: Lane


def healthy_state(subjects: int, p: Parameters) -> SlowState:
    """The state before any stress: synapses at 1, nothing blocked. `settle` by a few quiet weeks for the exact rest."""
    one, zero = jnp.ones(subjects), jnp.zeros(subjects)
    return SlowState(one, one, one, zero, one, zero, zero, zero, one)


def habenula_conditions(state: SlowState, excitation: Lane, p: Parameters) -> lhb.NeuronConditions:
    """The conditions that the slow state sets for the habenula's neurons."""
    return lhb.NeuronConditions(
        excitation=excitation,
        nmda=1 - state.block,
        t_channel=jnp.ones_like(excitation),
        kir_shift=state.kir_shift,
        current=jnp.zeros_like(excitation),
        inhibition=p.synapses.inhibition * state.inhibition,
    )


def compute_excitation(state: SlowState, inputs: SlowInputs, challenge: LaneOrScalar, p: Parameters) -> Lane:
    """Synaptic strength times afferent drive, with an extra drive `challenge`."""
    aversive = p.synapses.everyday + state.aversion + zero_if_none(inputs.stress)
    afferents = plasticity.afferent_drive(aversive, state.control, p.synapses) + challenge
    return p.synapses.strength * state.release * state.gain * afferents


def circuit_activity(
    state: SlowState, inputs: SlowInputs, challenge: LaneOrScalar, p: Parameters, transfer: TransferFunction
) -> SlowActivity:
    """The circuit from synapses to accumbens, with an extra afferent drive `challenge`."""
    excitation = compute_excitation(state, inputs, challenge, p)
    found = evaluate_transfer(transfer, habenula_conditions(state, excitation, p))
    rmtg = da.rmtg_rate(found.output, jnp.zeros_like(found.output), p.dopamine)
    number = da.active_fraction(rmtg, p.dopamine)
    concentration, rate = da.steady_state_dopamine(number, zero_if_none(inputs.dat), p.dopamine)
    return SlowActivity(
        excitation=excitation,
        habenula=found.output,
        rmtg=rmtg,
        bursting=found.bursting,
        open_share=plasticity.nmda_open_share(found.output, found.coincidence, p.synapses),
        number=number,
        rate=rate,
        output=number * rate,
        dopamine=concentration,
    )


def compute_relaxations(
    state: SlowState, inputs: SlowInputs, seen: SlowActivity, challenged: SlowActivity, p: Parameters
) -> dict[str, Relaxation]:
    """Where each slow state but aversion and block tends, by name, given the hour's activity."""
    stress, output = zero_if_none(inputs.stress), seen.output / p.motivation.reference_output
    intensity = zero_if_none(inputs.intensity)
    potentiation = plasticity.potentiation_drive(output, stress, p.plasticity)
    depression = plasticity.ltd_rate(challenged.habenula, intensity, stress, p.plasticity)
    occupied = zero_if_none(inputs.sert)
    serotonin = motivation.serotonergic_effect(occupied, state.adaptation)
    mood = motivation.mood_target(output, serotonin, stress, zero_if_none(inputs.expectation), p.motivation)
    return {
        "release": plasticity.release_relaxation(stress, p.plasticity),
        "gain": plasticity.gain_relaxation(potentiation, depression, p.plasticity),
        "inhibition": plasticity.inhibition_relaxation(stress, intensity, serotonin, p.plasticity),
        "kir_shift": plasticity.kir_shift_relaxation(potentiation, p.plasticity),
        "control": plasticity.control_relaxation(seen.dopamine, p.motivation.reference_dopamine, stress, p.plasticity),
        "adaptation": Relaxation(occupied, 1 / p.motivation.adaptation_time),
        "mood": Relaxation(mood, motivation.mood_rate(p.motivation)),
    }


def step_slow_clock(
    state: SlowState, inputs: SlowInputs, z: Lane, p: Parameters, transfer: TransferFunction, dt: float = SLOW_STEP
) -> tuple[SlowState, SlowActivity]:
    """Advance by `dt` (h) under the hour's mean inputs, with a standard normal `z` for everyday life.

    Second order in dt (Heun's method on exponential steps): prefrontal control answers dopamine within hours, so what the
    circuit does at the end of the hour counts as much as what it did at the beginning. Returns the mean activity.
    """
    everyday = p.synapses
    aversion = ornstein_uhlenbeck(state.aversion, z, everyday.everyday_time, everyday.everyday_spread, dt)
    rest, begin, challenged = session_activity(state, inputs, p, transfer)
    before = compute_relaxations(state, inputs, begin, challenged, p)
    ahead = SlowState(**_apply_relaxations(state, before, dt), aversion=aversion, block=state.block)
    block = _ketamine_block(ahead, inputs, rest, begin, p, transfer, dt)
    ahead = eqx.tree_at(lambda s: s.block, ahead, block)
    _, end, challenged = session_activity(ahead, inputs, p, transfer)
    after = compute_relaxations(ahead, inputs, end, challenged, p)
    mean = {name: _mean_relaxation(before[name], after[name]) for name in before}
    seen = jax.tree.map(lambda first, last: (first + last) / 2, begin, end)
    return SlowState(**_apply_relaxations(state, mean, dt), aversion=aversion, block=block), seen


def session_activity(
    state: SlowState, inputs: SlowInputs, p: Parameters, transfer: TransferFunction
) -> tuple[SlowActivity, SlowActivity, SlowActivity]:
    """The circuit at rest, its mean over an hour of which part is a session, and within the session."""
    rest = circuit_activity(state, inputs, zero_if_none(None), p, transfer)
    if inputs.session is None:
        return rest, rest, rest
    # Nearly all hours have none. What a branch keeps for derivatives is kept, as zeros, where it is not taken: keep nothing.
    within = jax.checkpoint(lambda: circuit_activity(state, inputs, zero_if_none(inputs.challenge), p, transfer))
    challenged = jax.lax.cond(jnp.sum(inputs.session) > 0, within, lambda: rest)
    mean = jax.tree.map(lambda quiet, live: quiet + inputs.session * (live - quiet), rest, challenged)
    return rest, mean, challenged


def _apply_relaxations(state: SlowState, tendencies: dict[str, Relaxation], dt: float) -> dict[str, Lane]:
    """Each state that relaxes, after `dt` of its tendency."""
    return {
        name: exponential_step(getattr(state, name), tendency.steady, tendency.rate, dt)
        for name, tendency in tendencies.items()
    }


def _mean_relaxation(first: Relaxation, last: Relaxation) -> Relaxation:
    """The relaxation whose gain and loss are the means of two."""
    rate = (first.rate + last.rate) / 2
    return Relaxation((first.rate * first.steady + last.rate * last.steady) / (2 * rate), rate)


def _ketamine_block(
    ahead: SlowState,
    inputs: SlowInputs,
    rest: SlowActivity,
    seen: SlowActivity,
    p: Parameters,
    transfer: TransferFunction,
    dt: float,
) -> Lane:
    """Trapped ketamine after the step; see `trapping_block`. `ahead` is the state after it, but for the block."""
    if inputs.ketamine is None:
        return exponential_step(ahead.block, *steady_block_and_rate(zero_if_none(None), seen.open_share, p.block), dt)

    apart = lookup_spacing(ahead.block, inputs.ketamine, p.block)
    blocks = (
        ahead.block[None] + jnp.arange(LOOKUP_COUNT, dtype=apart.dtype)[:, None] * apart[None]
    )  # looked at side by side
    there = habenula_conditions(ahead, compute_excitation(ahead, inputs, zero_if_none(None), p), p)
    every = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, blocks.shape), eqx.tree_at(lambda c: c.nmda, there, 1 - blocks)
    )
    found = evaluate_transfer(transfer, every)
    open_share = jax.vmap(lambda output, coincidence: plasticity.nmda_open_share(output, coincidence, p.synapses))
    looked = jnp.log(open_share(found.output, found.coincidence))
    share = interpolate_open_share(jnp.log(seen.open_share), jnp.log(rest.open_share), looked, apart)
    return advance_block(ahead.block, inputs.ketamine, share, dt, p.block)


def zero_if_none(value: LaneOrScalar | None) -> LaneOrScalar:
    """What an arm never does counts as 0."""
    return jnp.asarray(0.0) if value is None else value
