"""From the habenula to the accumbens: RMTg, dopamine (DA) neurons of the VTA, DA in the nucleus accumbens.

The RMTg (GABA) passes habenular output on and has an aversive input of its own, so that without a habenula the dip to
omitted reward goes and the dip to an air puff stays (Tian & Uchida 2015). The VTA has two outputs and never one gain:
*how many* DA neurons are active (population activity, Grace) follows the slow average of RMTg firing; *how fast* the
active ones fire answers to departures from that average within tens of milliseconds (GABA-A), and to D2 autoreceptors.

    M = M0 + gain * S + aversive_gain * aversive                       RMTg rate, Hz
    number = sigma((number_half - mean(M)) / number_slope)             share of DA neurons that are active
    rate = rate_maximum (1 - autoreceptor A/(A + autoreceptor_half)) - gaba_gain * (M - mean(M)), never below 0
    output = number * rate                                             VTA output, Hz
    dA/dt = release * output - uptake_maximum A/(uptake_half/(1 - occupancy) + A)

A reuptake blocker competes with DA for the transporter, so it scales the half-saturation and leaves the maximum. The two
clocks use the same formulas: the fast one integrates them, the slow one takes their steady state. RMTg is linear in S so
that a fluctuating S and its mean give the same mean.

Units: Hz, uM, s in rates; times in ms where they enter the fast clock.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..data import constants

RATE_SMOOTHING = 0.1  # Hz, rounds the corner where DA firing stops


class Dopamine(eqx.Module):
    """Constants downstream of the habenula. Each is a scalar, shared, or one value per subject.

    Attributes:
        rmtg_baseline: Hz. M0, RMTg rate without habenular output.
        rmtg_gain: Hz / Hz. RMTg rate per unit of habenular output S.
        rmtg_aversive: Hz. RMTg rate per unit of aversive input that does not pass through the habenula.
        rmtg_time: ms. How fast the RMTg follows its input.
        number_half: Hz. Sustained RMTg rate that silences half of the DA neurons.
        number_slope: Hz. Spread of DA neurons over that rate.
        number_time: min. Time constant of the slow average of RMTg firing.
        rate_maximum: Hz. DA rate without autoreceptor feedback.
        autoreceptor: share of the rate that saturated D2 autoreceptors remove.
        autoreceptor_half: uM. DA at which half of that is reached.
        gaba_gain: Hz / Hz. Fall of the DA rate per unit departure of the RMTg from its average.
        gaba_time: ms. Decay of the GABA-A current.
        release: uM. DA released per spike of the whole population.
        uptake_maximum: uM/s. Vmax of the DA transporter.
        uptake_half: uM. Km of the DA transporter.
    """

    rmtg_baseline: Float[Array, "*subject"]
    rmtg_gain: Float[Array, "*subject"]
    rmtg_aversive: Float[Array, "*subject"]
    rmtg_time: Float[Array, "*subject"]
    number_half: Float[Array, "*subject"]
    number_slope: Float[Array, "*subject"]
    number_time: Float[Array, "*subject"]
    rate_maximum: Float[Array, "*subject"]
    autoreceptor: Float[Array, "*subject"]
    autoreceptor_half: Float[Array, "*subject"]
    gaba_gain: Float[Array, "*subject"]
    gaba_time: Float[Array, "*subject"]
    release: Float[Array, "*subject"]
    uptake_maximum: Float[Array, "*subject"]
    uptake_half: Float[Array, "*subject"]


class DopamineState(eqx.Module):
    """Fast state downstream: RMTg rate and its slow average (Hz), GABA-A action (Hz of RMTg), accumbens DA (uM)."""

    rmtg: Float[Array, " subject"]
    rmtg_average: Float[Array, " subject"]
    gaba: Float[Array, " subject"]
    dopamine: Float[Array, " subject"]


def dopamine_constants() -> Dopamine:
    """The calibrated constants, from the package's table (section `dopamine.*`)."""
    return Dopamine(**constants.section_arrays("dopamine"))


def rmtg_rate(output: Float[Array, "*#s"], aversive: Float[Array, "*#s"], p: Dopamine) -> Float[Array, "*#s"]:
    """RMTg rate (Hz) for habenular output S (Hz) and a direct aversive input (a pure number, 1 = a strong air puff)."""
    return p.rmtg_baseline + p.rmtg_gain * output + p.rmtg_aversive * aversive


def active_fraction(rmtg_average: Float[Array, "*#s"], p: Dopamine) -> Float[Array, "*#s"]:
    """Share of DA neurons that fire, given the slow average of the RMTg rate (Hz)."""
    return jax.nn.sigmoid((p.number_half - rmtg_average) / p.number_slope)


def firing_rate(concentration: Float[Array, "*#s"], departure: Float[Array, "*#s"], p: Dopamine) -> Float[Array, "*#s"]:
    """Rate (Hz) of the active DA neurons under DA `concentration` (uM) and RMTg `departure` (Hz) from its average.

    The corner at zero is rounded over 0.1 Hz so that gradients exist; at 4 Hz this adds under 0.1 %.
    """
    feedback = 1 - p.autoreceptor * concentration / (concentration + p.autoreceptor_half)
    linear = p.rate_maximum * feedback - p.gaba_gain * departure
    return 0.5 * (linear + jnp.sqrt(linear**2 + RATE_SMOOTHING**2))


def dopamine_uptake(
    concentration: Float[Array, "*#s"], occupancy: Float[Array, "*#s"], p: Dopamine
) -> Float[Array, "*#s"]:
    """Reuptake (uM/s) with a share `occupancy` of the transporters taken by a competitive blocker."""
    return p.uptake_maximum * concentration / (p.uptake_half / (1 - occupancy) + concentration)


def steady_state_dopamine(
    number: Float[Array, "*#s"], occupancy: Float[Array, "*#s"], p: Dopamine
) -> tuple[Float[Array, "*#s"], Float[Array, "*#s"]]:
    """DA (uM) and rate (Hz) at which release and reuptake balance with the RMTg at its average.

    With c = release * number * rate_maximum, g = autoreceptor and h = autoreceptor_half, the balance
    c (1 - g A/(A + h)) = Vmax A/(Km' + A) is a quadratic in A with one positive root, taken in the form that does not
    cancel.
    """
    c = p.release * number * p.rate_maximum
    half = p.uptake_half / (1 - occupancy)
    kept = c * (1 - p.autoreceptor)
    a = p.uptake_maximum - kept
    b = (p.uptake_maximum - c) * p.autoreceptor_half - kept * half
    q = c * p.autoreceptor_half * half
    concentration = 2 * q / (b + jnp.sqrt(b**2 + 4 * a * q))
    return concentration, firing_rate(concentration, jnp.zeros_like(concentration), p)


def resting_dopamine_state(
    output: Float[Array, " subject"], occupancy: Float[Array, " subject"], p: Dopamine
) -> DopamineState:
    """The state in which everything downstream has settled under habenular `output` (Hz)."""
    rmtg = rmtg_rate(output, jnp.zeros_like(output), p)
    concentration, _ = steady_state_dopamine(active_fraction(rmtg, p), occupancy, p)
    return DopamineState(rmtg, rmtg, jnp.zeros_like(rmtg), concentration)


def step_dopamine(
    state: DopamineState,
    output: Float[Array, " subject"],
    aversive: Float[Array, " subject"],
    occupancy: Float[Array, " subject"],
    p: Dopamine,
    dt: float,
) -> tuple[DopamineState, Float[Array, " subject"], Float[Array, " subject"]]:
    """Advance by `dt` (ms). Returns the state, the number active (share) and the rate (Hz) of the active neurons."""
    target = rmtg_rate(output, aversive, p)
    rmtg = state.rmtg + dt / p.rmtg_time * (target - state.rmtg)
    average = state.rmtg_average + dt / (p.number_time * 60e3) * (state.rmtg - state.rmtg_average)
    gaba = state.gaba + dt / p.gaba_time * (state.rmtg - state.rmtg_average - state.gaba)
    number = active_fraction(state.rmtg_average, p)
    rate = firing_rate(state.dopamine, state.gaba, p)
    flux = p.release * number * rate - dopamine_uptake(state.dopamine, occupancy, p)
    return DopamineState(rmtg, average, gaba, state.dopamine + dt * 1e-3 * flux), number, rate
