"""The lateral habenula (LHb) neuron: currents, gates, bursts and firing modes.

Each subject has a population of neurons spread over resting potential and spike threshold. Spikes are averaged into an
envelope rate, so everything is differentiable; bursts are the relaxation cycle of the T-type calcium current and the NMDA
current, ended by the afterhyperpolarisation. Per neuron, with C = 1 uF/cm2:

    C dV/dt = gL (EL - V) + gT m(V)^2 h (120 - V) + gA w (0 - V) + gN w n B(V) (0 - V)
              + gI (-72 - V) + gK a (-90 - V) + noise + current
    m(V) = sigma((V - Vm)/km)                 T-channel activation, instantaneous
    dh/dt = (sigma((Vh - V)/kh) - h)/tau_h    T-channel availability, tau_h = th0 + th1 sigma(-(V + 60)/3)
    B(V) = 1/(1 + 0.28 exp(-0.062 V))         magnesium block (Jahr & Stevens 1990), 1 mM Mg
    r = 250 Hz sigma((V - Vr)/kr)             envelope of the spike rate
    da/dt = (r/100 Hz - a)/ta                 afterhyperpolarisation
    noise: Ornstein-Uhlenbeck, 5 ms

Units: ms, mV, mS/cm2, uA/cm2, Hz. Lanes (subjects) are the last axis. The constants are fitted to slice recordings by
`habenula.circuit.calibration.lateral_habenula`.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ...kernels import broadcast_rows, exp_ratio, exponential_euler, ornstein_uhlenbeck, outlined
from ..data import constants

CALCIUM_REVERSAL = 120.0  # mV
INHIBITORY_REVERSAL = -72.0  # mV, chloride and GIRK together
POTASSIUM_REVERSAL = -90.0  # mV
POTENTIAL_RANGE = (
    -150.0,
    40.0,
)  # mV. No membrane leaves them; all gates are shut or open there, exponentials still numbers
RATE_MAXIMUM = 250.0  # Hz, the fastest intraburst firing of the envelope
NOISE_TIME = 5.0  # ms, decay of synaptic noise
GLUTAMATE_RATE = 100.0  # Hz, unit of the rate in the coincidence of release and depolarisation

BURST_ONSET_RATE = 60.0  # Hz, an upward crossing of the envelope begins a burst
BURST_PEAK_RATE = 100.0  # Hz, a bursting neuron's envelope peaks above this
MIN_BURST_RATE = 1.0  # Hz, a bursting neuron bursts at least this often
MAX_SILENT_RATE = 0.3  # Hz, below this a neuron is silent


class Neuron(eqx.Module):
    """Constants of the LHb neuron, shared by all subjects (the transfer function is distilled for one set of them).

    Scalars; or, where many candidates are simulated at once, arrays of shape (1, lanes).

    Attributes:
        leak_conductance: mS/cm2. gL.
        leak_reversal: mV. Mean of EL over neurons.
        leak_reversal_spread: mV. Standard deviation of EL over neurons.
        spike_threshold: mV. Mean of Vr over neurons, the potential at half the maximal rate.
        spike_threshold_spread: mV. Standard deviation of Vr over neurons.
        spike_slope: mV. kr.
        t_conductance: mS/cm2. gT.
        t_activation_half: mV. Vm.
        t_activation_slope: mV. km.
        t_availability_half: mV. Vh.
        t_availability_slope: mV. kh.
        t_recovery_fast: ms. th0.
        t_recovery_slow: ms. th1, added below -60 mV.
        ampa_conductance: mS/cm2. gA at synaptic strength 1.
        nmda_conductance: mS/cm2. gN at synaptic strength 1.
        afterhyperpolarisation_conductance: mS/cm2. gK.
        afterhyperpolarisation_time: ms. ta.
        noise: uA/cm2. Stationary standard deviation of the synaptic noise.
        burst_facilitation: Hz. Rate at which a spike inside a burst counts twice at the RMTg.
    """

    leak_conductance: Float[Array, "*lane"]
    leak_reversal: Float[Array, "*lane"]
    leak_reversal_spread: Float[Array, "*lane"]
    spike_threshold: Float[Array, "*lane"]
    spike_threshold_spread: Float[Array, "*lane"]
    spike_slope: Float[Array, "*lane"]
    t_conductance: Float[Array, "*lane"]
    t_activation_half: Float[Array, "*lane"]
    t_activation_slope: Float[Array, "*lane"]
    t_availability_half: Float[Array, "*lane"]
    t_availability_slope: Float[Array, "*lane"]
    t_recovery_fast: Float[Array, "*lane"]
    t_recovery_slow: Float[Array, "*lane"]
    ampa_conductance: Float[Array, "*lane"]
    nmda_conductance: Float[Array, "*lane"]
    afterhyperpolarisation_conductance: Float[Array, "*lane"]
    afterhyperpolarisation_time: Float[Array, "*lane"]
    noise: Float[Array, "*lane"]
    burst_facilitation: Float[Array, "*lane"]


class NeuronHeterogeneity(eqx.Module):
    """What differs between the neurons of a population (the same in every subject): EL and Vr, mV."""

    leak_reversal: Float[Array, "neuron #lane"]
    spike_threshold: Float[Array, "neuron #lane"]


class NeuronConditions(eqx.Module):
    """What synapses, channels and drugs do to the neurons of each subject at one time.

    Attributes:
        excitation: synaptic strength w, 1 in the healthy slice; scales AMPA and NMDA conductance.
        nmda: share n of NMDA receptors that no drug blocks, 0 to 1.
        t_channel: share of T-type channels that no drug blocks, 0 to 1.
        kir_shift: mV added to EL; negative when Kir4.1 is over-expressed.
        current: uA/cm2. Drive from upstream of the synapses modelled here, or an electrode.
        inhibition: mS/cm2. GABAergic and GIRK conductance.
    """

    excitation: Float[Array, " subject"]
    nmda: Float[Array, " subject"]
    t_channel: Float[Array, " subject"]
    kir_shift: Float[Array, " subject"]
    current: Float[Array, " subject"]
    inhibition: Float[Array, " subject"]


class NeuronState(eqx.Module):
    """Where the neurons are now: V (mV), T-channel availability, afterhyperpolarisation, noise current (uA/cm2).

    `spike_rate_envelope` (Hz), the envelope of the spike rate at V, goes along: the next step needs what this one puts out.
    """

    potential: Float[Array, "neuron subject"]
    availability: Float[Array, "neuron subject"]
    afterhyperpolarisation: Float[Array, "neuron subject"]
    noise: Float[Array, "neuron subject"]
    rate: Float[Array, "neuron subject"]


def neuron_constants() -> Neuron:
    """The calibrated neuron, from the package's table of constants (sections `lateral_habenula.*`)."""
    return Neuron(**constants.section_arrays("lateral_habenula"))


def slice_conditions(subjects: int, **changes: ArrayLike) -> NeuronConditions:
    """The healthy slice (w = n = T = 1, no shift, current or inhibition) for `subjects` lanes, with named `changes`.

    Raises:
        ValueError: a name is not a field of `NeuronConditions`.
    """
    healthy = dict(excitation=1.0, nmda=1.0, t_channel=1.0, kir_shift=0.0, current=0.0, inhibition=0.0)
    if unknown := set(changes) - set(healthy):
        raise ValueError(f"unknown conditions {sorted(unknown)}; choose from {sorted(healthy)}.")
    values = {name: jnp.asarray(value, jnp.result_type(float)) for name, value in (healthy | changes).items()}
    return NeuronConditions(**{name: jnp.broadcast_to(value, (subjects,)) for name, value in values.items()})


def heterogeneity_quadrature(p: Neuron, neurons: int) -> NeuronHeterogeneity:
    """The population's quadrature: normal quantiles of a Hammersley set, so that shares of neurons are smooth in `p`."""
    index = np.arange(neurons)
    bits = max(neurons - 1, 1).bit_length()
    digits = (index[:, None] >> np.arange(bits)) & 1  # radical inverse in base 2 (van der Corput)
    radical = np.sum(digits / 2.0 ** (1 + np.arange(bits)), axis=1) + 0.5 / 2**bits
    quantile = lambda u: jax.scipy.special.ndtri(jnp.asarray(u, p.leak_reversal.dtype))[:, None]
    return NeuronHeterogeneity(
        p.leak_reversal + p.leak_reversal_spread * quantile((index + 0.5) / neurons),
        p.spike_threshold + p.spike_threshold_spread * quantile(radical),
    )


def resting_neuron_state(p: Neuron, population: NeuronHeterogeneity, given: NeuronConditions) -> NeuronState:
    """Neurons at their leak reversal with T-channels in equilibrium."""
    v = population.leak_reversal + given.kir_shift[None]
    availability = 1 / (1 + exp_ratio(v - p.t_availability_half, p.t_availability_slope))
    return NeuronState(v, availability, jnp.zeros_like(v), jnp.zeros_like(v), spike_rate_envelope(v, p, population))


def magnesium_unblock(v: Float[Array, "..."]) -> Float[Array, "..."]:
    """B(V) = 1/(1 + 0.28 exp(-0.062 V)), the share of NMDA channels free of magnesium at 1 mM (Jahr & Stevens 1990)."""
    return 1 / (1 + 0.28 * exp_ratio(v, -1 / 0.062))


def spike_rate_envelope(
    v: Float[Array, "neuron subject"], p: Neuron, population: NeuronHeterogeneity
) -> Float[Array, "neuron subject"]:
    """Envelope of the spike rate (Hz)."""
    return RATE_MAXIMUM / (1 + exp_ratio(population.spike_threshold - v, p.spike_slope))


def step_neurons(
    state: NeuronState,
    given: NeuronConditions,
    z: Float[Array, "neuron subject"],
    p: Neuron,
    population: NeuronHeterogeneity,
    dt: float,
) -> NeuronState:
    """Advance by `dt` (ms): exponential Euler for V, which is linear given the gates, kept in `POTENTIAL_RANGE`."""
    v, h, a = state.potential, state.availability, state.afterhyperpolarisation
    onward = outlined(functools.partial(_advance_potential, dt=dt))(
        state,
        outlined(_voltage_gates)(v, p),
        outlined(_voltage_independent_terms)(given, p),
        p,
        population.leak_reversal,
    )
    fast = 1 + exp_ratio(v + 60, 3)  # tau_h = th0 + th1/fast
    shut = 1 + exp_ratio(v - p.t_availability_half, p.t_availability_slope)  # h_inf = 1/shut
    return NeuronState(
        onward,
        h + dt * (1 - h * shut) * fast / (shut * (p.t_recovery_fast * fast + p.t_recovery_slow)),
        a + (state.rate * 0.01 - a) * (dt / p.afterhyperpolarisation_time),
        ornstein_uhlenbeck(state.noise, z, NOISE_TIME, p.noise, dt),
        spike_rate_envelope(onward, p, population),
    )


def _advance_potential(
    state: NeuronState,
    gates: tuple[Array, ...],
    still: tuple[Array, ...],
    p: Neuron,
    leak_reversal: Float[Array, "neuron #lane"],
    dt: float,
) -> Float[Array, "neuron subject"]:
    """V after `dt`, from `_voltage_gates` and what stands `_voltage_independent_terms`."""
    (activation, unblocked), v = gates, state.potential
    passive, pull, t_channel, receptors = (broadcast_rows(x, len(v)) for x in still)
    calcium = t_channel * activation**2 * state.availability
    potassium = p.afterhyperpolarisation_conductance * state.afterhyperpolarisation
    total = passive + calcium + receptors * unblocked + potassium
    drive = (
        p.leak_conductance * leak_reversal
        + pull
        + calcium * CALCIUM_REVERSAL
        + potassium * POTASSIUM_REVERSAL
        + state.noise
    )
    return jnp.clip(exponential_euler(v, drive - total * v, total, dt), *POTENTIAL_RANGE)


def _voltage_independent_terms(given: NeuronConditions, p: Neuron) -> tuple[Array, ...]:
    """What the potential of a neuron does not change, of each lane: conductance, current beside the leak's, gT and gN."""
    # Constants that differ between lanes are (1, lane), for all neurons of a lane; conditions are (lane,).
    per_lane = lambda constant: constant[0] if constant.ndim == 2 else constant
    leak, ampa, nmda, t_channel = map(
        per_lane, (p.leak_conductance, p.ampa_conductance, p.nmda_conductance, p.t_conductance)
    )
    passive = leak + ampa * given.excitation + given.inhibition
    pull = leak * given.kir_shift + INHIBITORY_REVERSAL * given.inhibition + given.current
    return passive, pull, t_channel * given.t_channel, nmda * given.excitation * given.nmda


def _voltage_gates(v: Float[Array, "neuron subject"], p: Neuron) -> tuple[Array, Array]:
    """Activation of the T-type channels, and `magnesium_unblock`."""
    return 1 / (1 + exp_ratio(p.t_activation_half - v, p.t_activation_slope)), magnesium_unblock(v)


def habenula_output(r: Float[Array, "neuron subject"], p: Neuron) -> Float[Array, " subject"]:
    """Drive of the RMTg (Hz): mean of r (1 + r/facilitation); bursts count for more than the same spikes spread out."""
    return jnp.mean(r * (1 + r * (1 / p.burst_facilitation)), axis=0)


def release_coincidence(
    v: Float[Array, "neuron subject"], r: Float[Array, "neuron subject"]
) -> Float[Array, " subject"]:
    """Mean over neurons of (r/100 Hz)^2 B(V): firing, and so release onto its like, while magnesium has left the pore.

    An NMDA channel opens when two glutamate molecules are bound (Clements & Westbrook 1991), hence the square.
    """
    return jnp.mean((r / GLUTAMATE_RATE) ** 2 * magnesium_unblock(v), axis=0)


class FiringModes(eqx.Module):
    """Firing modes of each subject's population.

    Attributes:
        silent, tonic, bursting: shares of neurons, adding to 1.
        rate: Hz, mean over neurons.
        potential: mV, mean over neurons.
        burst_potential: mV, mean over bursting neurons (NaN without any).
        burst_rate: Hz, bursts a second of a bursting neuron (NaN without any).
    """

    silent: Float[Array, " subject"]
    tonic: Float[Array, " subject"]
    bursting: Float[Array, " subject"]
    rate: Float[Array, " subject"]
    potential: Float[Array, " subject"]
    burst_potential: Float[Array, " subject"]
    burst_rate: Float[Array, " subject"]


def classify_modes(
    mean_rate: Float[Array, "neuron subject"],
    peak_rate: Float[Array, "neuron subject"],
    onset_rate: Float[Array, "neuron subject"],
    mean_potential: Float[Array, "neuron subject"],
) -> FiringModes:
    """Classify neurons from streamed statistics: mean and peak envelope (Hz), burst onsets (Hz), mean V (mV).

    Bursting: at least one onset (envelope above 60 Hz) a second and a peak above 100 Hz. Silent: under 0.3 Hz.
    """
    bursting = (onset_rate >= MIN_BURST_RATE) & (peak_rate > BURST_PEAK_RATE)
    silent = (mean_rate < MAX_SILENT_RATE) & ~bursting
    share = lambda which: jnp.mean(which.astype(mean_rate.dtype), axis=0)
    among = lambda value: jnp.sum(jnp.where(bursting, value, 0), axis=0) / jnp.sum(bursting, axis=0).astype(value.dtype)
    return FiringModes(
        silent=share(silent),
        tonic=share(~bursting & ~silent),
        bursting=share(bursting),
        rate=jnp.mean(mean_rate, axis=0),
        potential=jnp.mean(mean_potential, axis=0),
        burst_potential=among(mean_potential),
        burst_rate=among(onset_rate),
    )
